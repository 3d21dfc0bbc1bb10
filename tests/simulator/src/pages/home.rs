//! The console: the current user, the journal, the open QR codes, and the next faults.

use super::frame::{escape, page};
use crate::app::AppKind;
use crate::home::MOODS;
use crate::qr::Phase;
use crate::world::World;

const RECENT: usize = 40;
const OPEN_CODES: usize = 8;

/// Updates the lists every two seconds and does not touch the forms.
const SCRIPT: &str = "
setInterval(async()=>{try{const t=await(await fetch('/')).text(),p=new DOMParser().parseFromString(t,'text/html');
for(const id of['codes','requests','faults'])document.getElementById(id).innerHTML=p.getElementById(id).innerHTML}catch{}},2000);
";

pub fn home(world: &World) -> String {
    let body = format!(
        "<h1>微信模拟器控制台 <span class=\"en\">WeChat simulator console</span></h1>\
         <section class=\"card\"><h2>谁拿着手机 <span class=\"en\">Who is on the phone</span></h2>{}</section>\
         <section class=\"card\" id=\"codes\"><h2>待扫二维码 <span class=\"en\">QR codes that wait</span></h2>{}</section>\
         <section class=\"card\"><h2>时钟与故障 <span class=\"en\">Clock and faults</span></h2>{}</section>\
         <section class=\"card\" id=\"requests\"><h2>最近请求 <span class=\"en\">Recent requests</span></h2>{}</section>\
         <section class=\"card\"><h2>应用 <span class=\"en\">Apps</span></h2>{}</section><script>{SCRIPT}</script>",
        people(world),
        codes(world),
        moods(world),
        requests(world),
        apps(world),
    );
    page("控制台 console", "wide", &body)
}

fn people(world: &World) -> String {
    let buttons: String = world
        .users
        .iter()
        .map(|user| {
            let now = if user.name == world.on_the_phone { " class=\"now\" aria-current=\"true\"" } else { "" };
            let (name, about) = (escape(&user.name), escape(&user.about));
            format!("<button name=\"user\" value=\"{name}\"{now}><b>{name}</b><br><span class=\"soft\">{about}</span></button>")
        })
        .collect();
    format!("<form class=\"people\" method=\"post\" action=\"/_sim/console\">{buttons}</form>")
}

fn codes(world: &World) -> String {
    let open = world.qr_codes.newest().filter(|(_, qr)| matches!(qr.phase, Phase::Waiting | Phase::Scanned { .. }));
    let rows: String = open
        .take(OPEN_CODES)
        .map(|(uuid, qr)| {
            let (uuid, appid, born) = (escape(uuid), escape(&qr.login.appid), qr.born.time_of_day());
            format!("<tr><td>{born}</td><td><code>{appid}</code></td><td>{}</td><td><a class=\"button yes\" href=\"/connect/confirm?uuid={uuid}\">扫码 Scan</a></td></tr>", qr.phase.name())
        })
        .collect();
    if rows.is_empty() {
        return "<p class=\"soft\">没有 · none</p>".into();
    }
    format!("<table>{rows}</table>")
}

fn moods(world: &World) -> String {
    let ahead = world.clock.offset().as_secs();
    let buttons: String = MOODS
        .iter()
        .map(|mood| {
            format!(
                "<button name=\"mood\" value=\"{}\">{} <span class=\"en\">{}</span></button>",
                mood.name, mood.chinese, mood.english
            )
        })
        .collect();
    let waiting: String = world
        .faults
        .iter()
        .take(RECENT)
        .map(|fault| format!("<li><code>{}</code></li>", escape(&serde_json::to_string(fault).unwrap_or_default())))
        .collect();
    format!(
        "<form method=\"post\" action=\"/_sim/console\"><p class=\"row\">时钟快 {ahead} 秒 · clock {ahead} s ahead\
         <button name=\"advance_s\" value=\"300\">+5 min</button><button name=\"advance_s\" value=\"7200\">+2 h</button>\
         <button name=\"advance_s\" value=\"2592000\">+30 d</button></p><p class=\"row\">{buttons}</p></form><ul id=\"faults\">{waiting}</ul>"
    )
}

fn requests(world: &World) -> String {
    let rows: String = world
        .journal
        .entries()
        .rev()
        .take(RECENT)
        .map(|entry| {
            let class = if entry.decision.starts_with("refused") || entry.decision.contains("[fault") {
                " class=\"bad\""
            } else {
                ""
            };
            let path: String = entry.path.chars().take(80).collect();
            // The path of a QR image ends in its uuid, which would let any reader confirm it.
            let path = if path.starts_with("/connect/qrcode/") { "/connect/qrcode/…".into() } else { path };
            format!(
                "<tr><td>{}</td><td>{} <code>{}</code></td><td{class}>{}</td></tr>",
                entry.time.time_of_day(),
                escape(&entry.method),
                escape(&path),
                escape(&entry.decision)
            )
        })
        .collect();
    if rows.is_empty() {
        return "<p class=\"soft\">还没有 · none yet</p>".into();
    }
    format!(
        "<div class=\"scroll\"><table><tr><th>UTC</th><th>请求 request</th><th>结果 decision</th></tr>{rows}</table></div>"
    )
}

fn apps(world: &World) -> String {
    let rows: String = world
        .apps
        .iter()
        .map(|app| {
            let kind = match app.kind {
                AppKind::OfficialAccount => "公众号 official account",
                AppKind::Website => "网站应用 website",
            };
            let ports = if app.any_port { "任意端口 any port" } else { "80/443" };
            format!(
                "<tr><td><code>{}</code></td><td>{kind}</td><td>{}</td><td>{ports}</td></tr>",
                escape(&app.appid),
                escape(&app.domains.join(", "))
            )
        })
        .collect();
    format!("<div class=\"scroll\"><table>{rows}</table></div>")
}
