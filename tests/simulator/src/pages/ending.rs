//! The last page of a login.

use super::frame::{escape, page};
use crate::refusal::Refusal;

/// 抱歉，出错了: WeChat's number and words, and the simulator's reason.
pub fn refusal(refusal: &Refusal) -> String {
    let number = refusal
        .number
        .map(|number| format!("<p class=\"soft\">错误码 error code: <b>{number}</b></p>"))
        .unwrap_or_default();
    let body = format!(
        "<div class=\"card centre\"><h1 class=\"bad\">抱歉，出错了<br><span class=\"en\">Sorry, this login ends here</span></h1>\
         <p>{}</p>{number}</div><div class=\"card\"><h2>为什么 Why</h2><p>{}</p>\
         <p class=\"soft\">WeChat 在此也不会回调 · WeChat does not call back here either: the app never learns of it.</p></div>",
        escape(refusal.text),
        escape(&refusal.why),
    );
    page("抱歉，出错了", "", &body)
}

pub fn refused_by_person() -> String {
    ending("已拒绝授权", "Refused", "应用不会收到任何回调。", "The app hears nothing: WeChat closes the page here.")
}

pub fn ignored() -> String {
    ending("未作回应", "No answer", "此人从不回应，登录会过期。", "This person never answers; the login will expire.")
}

fn ending(title: &str, english: &str, text: &str, english_text: &str) -> String {
    let body = format!(
        "<div class=\"card centre\"><h1>{title}<br><span class=\"en\">{english}</span></h1><p>{text}<br>\
         <span class=\"en\">{english_text}</span></p></div>"
    );
    page(title, "", &body)
}
