//! The two pages of a QR login: on the computer and on the phone.

use super::frame::{escape, face, page, somebody_else};
use crate::callback::Login;
use crate::qr::Phase;
use crate::user::User;
use crate::world::World;

/// The long poll of the page, with WeChat's numbers. It reads only the `data-*` attributes of `#login`.
const SCRIPT: &str = "
const box=document.getElementById('login'),say=document.getElementById('say'),d=box.dataset;
const words={408:['请用微信扫描二维码','Scan with the simulated phone'],404:['扫描成功，请在手机上确认','Scanned: confirm on the phone'],
405:['登录成功','Confirmed'],403:['你已取消此次登录','Cancelled on the phone'],402:['二维码已过期，请刷新','Expired: reload for a new one'],500:['系统错误','Error']};
function tell(n){const w=words[n]||words[500];say.textContent=w[0]+' · '+w[1]}
function follow(code,place){
  if(!place){const u=d.redirectUri,i=u.indexOf('#'),a=i<0?u:u.slice(0,i),f=i<0?'':u.slice(i);
    place=a+(a.includes('?')?'&':'?')+'code='+code+(d.state?'&state='+encodeURIComponent(d.state):'')+f}
  (d.selfRedirect==='true'?self:top).location.href=place}
function poll(last){
  const s=document.createElement('script');window.wx_errcode=undefined;window.wx_code='';window.sim_location=undefined;
  s.src='/connect/l/qrconnect?uuid='+d.uuid+(last?'&last='+last:'')+'&_='+Date.now();
  s.onerror=()=>{s.remove();setTimeout(()=>poll(last),2000)};
  s.onload=()=>{s.remove();const n=window.wx_errcode;
    if(n===405){tell(n);follow(window.wx_code,window.sim_location)}
    else if(n===403){tell(n);if(window.sim_location)follow('',window.sim_location)}
    else if(n===402){tell(n);document.getElementById('code').style.opacity=.15}
    else if(n===404){tell(n);setTimeout(()=>poll(404),100)}
    else if(n===408){setTimeout(()=>poll(last),100)}
    else{tell(500);setTimeout(()=>poll(last),2000)}};
  document.body.appendChild(s)}
poll('');
";

/// 微信登录: the QR code in the browser of a computer.
pub fn qrconnect(uuid: &str, login: &Login, in_frame: bool) -> String {
    let body = format!(
        "<div class=\"card centre\" id=\"login\" data-uuid=\"{uuid}\" data-redirect-uri=\"{}\" data-state=\"{}\" data-self-redirect=\"{in_frame}\">\
         <h1>微信登录<br><span class=\"en\">WeChat login</span></h1>\
         <p><img id=\"code\" src=\"/connect/qrcode/{uuid}\" width=\"240\" height=\"240\" alt=\"二维码 QR code\"></p>\
         <p id=\"say\" role=\"status\">请用微信扫描二维码 · Scan with the simulated phone</p>\
         <p><a class=\"button yes\" href=\"/connect/confirm?uuid={uuid}\" target=\"_blank\" rel=\"noopener\">用模拟手机扫码<br>\
         Scan with the simulated phone</a></p></div><script>{SCRIPT}</script>",
        escape(&login.redirect_uri),
        escape(&login.state),
    );
    page("微信登录 WeChat login", "", &body)
}

/// The phone's page: the result of the scan, and the available actions.
pub fn confirm(world: &World, uuid: &str, phase: &Phase, user: &User) -> String {
    let (title, english) = match phase {
        Phase::Waiting | Phase::Scanned { .. } => ("确认登录？", "Confirm the login?"),
        Phase::Confirmed { .. } => ("已确认，请看电脑", "Confirmed: look at the computer"),
        Phase::Cancelled { .. } => ("已取消", "Cancelled"),
        Phase::Expired => ("二维码已过期", "The QR code expired"),
    };
    let form = format!(
        "<form class=\"row centre\" method=\"post\" action=\"/connect/confirm\"><input type=\"hidden\" name=\"uuid\" value=\"{0}\">\
         <button name=\"action\" value=\"cancel\">取消 Cancel</button>\
         <button class=\"yes\" name=\"action\" value=\"confirm\">确认登录 Confirm</button></form>",
        escape(uuid)
    );
    let is_open = matches!(phase, Phase::Waiting | Phase::Scanned { .. });
    let body = format!(
        "<div class=\"card centre\"><p class=\"soft\">📱 模拟手机 simulated phone</p><h1>{title}<br><span class=\"en\">{english}</span></h1>{}{}</div>{}",
        face(user),
        if is_open { form } else { String::new() },
        if is_open { somebody_else(world, user, &format!("/connect/confirm?uuid={uuid}")) } else { String::new() },
    );
    page(title, "", &body)
}
