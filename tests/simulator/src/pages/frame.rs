//! The frame around every page, and the escaping of untrusted text.

use crate::request::percent_encoded;
use crate::user::User;
use crate::world::World;

const STYLE: &str = "
:root{--green:#07a35a;--ink:#1d2129;--soft:#6b7280;--line:#e5e7eb;--paper:#f5f6f7}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.55 system-ui,'PingFang SC','Microsoft YaHei',sans-serif}
header{background:repeating-linear-gradient(-45deg,#ffd84d 0 14px,#ffcf26 14px 28px);padding:.45rem 1rem;font-size:.85rem;text-align:center}
header a{color:inherit}
main{max-width:30rem;margin:1.5rem auto;padding:0 1rem}
main.wide{max-width:62rem}
.card{background:#fff;border:1px solid var(--line);border-radius:12px;padding:1.25rem;margin-bottom:1rem}
h1{font-size:1.3rem;margin:.2rem 0 .6rem}h2{font-size:1rem;margin:0 0 .6rem}
.en,.soft{color:var(--soft);font-size:.85rem}
.centre{text-align:center}
button,.button{display:inline-block;font:inherit;border:1px solid var(--line);background:#fff;color:var(--ink);border-radius:8px;padding:.5rem 1rem;cursor:pointer;text-decoration:none}
button.yes,.button.yes{background:var(--green);border-color:var(--green);color:#fff}
button:focus-visible,a:focus-visible,select:focus-visible{outline:3px solid #9bd8ff}
select{font:inherit;padding:.35rem;border-radius:8px;border:1px solid var(--line);width:100%}label{min-width:0;max-width:100%}
.row{display:flex;gap:.6rem;flex-wrap:wrap;align-items:center}.row.centre{justify-content:center}
.face{width:4rem;height:4rem;border-radius:12px;background:#dfe3e8}
table{border-collapse:collapse;width:100%;font-size:.85rem}td,th{text-align:left;padding:.3rem .5rem;border-top:1px solid var(--line);vertical-align:top;overflow-wrap:anywhere}
code{font-size:.9em;overflow-wrap:anywhere}
.bad{color:#b42318}.scroll{overflow-x:auto}
.people{display:grid;grid-template-columns:repeat(auto-fill,minmax(13rem,1fr));gap:.5rem}
.people button{width:100%;height:100%;text-align:left}.people button.now{border:2px solid var(--green)}
";

/// A complete page; `body` is already HTML.
pub fn page(title: &str, class: &str, body: &str) -> String {
    let title = escape(title);
    format!(
        "<!DOCTYPE html><html lang=\"zh-CN\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"><meta name=\"referrer\" content=\"same-origin\">\
         <title>{title} · 模拟器 simulator</title><style>{STYLE}</style></head><body>\
         <header>这是<b>微信模拟器</b>，不是微信，切勿输入真实信息 · <b>WeChat simulator</b>, not WeChat · <a href=\"/\">控制台 console</a></header>\
         <main class=\"{class}\">{body}</main></body></html>"
    )
}

/// Text for HTML, also within attributes.
pub fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            plain => safe.push(plain),
        }
    }
    safe
}

/// Picture and nickname.
pub fn face(user: &User) -> String {
    let nickname = if user.nickname.is_empty() { "（无昵称 no nickname）" } else { &user.nickname };
    let picture = crate::identity::avatar(&user.name);
    format!(
        "<p class=\"centre\"><img class=\"face\" src=\"/mmopen/vi_32/{picture}/132\" alt=\"\"><br><b>{}</b></p>",
        escape(nickname)
    )
}

/// A small form that selects another user in this browser. `back` is a path of the simulator.
pub fn somebody_else(world: &World, now: &User, back: &str) -> String {
    let people: String = world
        .users
        .iter()
        .map(|user| {
            let selected = if user.name == now.name { " selected" } else { "" };
            format!("<option value=\"{0}\"{selected}>{0} · {1}</option>", escape(&user.name), escape(&user.about))
        })
        .collect();
    format!(
        "<form class=\"card row\" method=\"post\" action=\"/_sim/browser?back={}\"><label class=\"soft\">谁拿着手机 Who is on the phone \
         <select name=\"user\">{people}</select></label><button>换人 change</button></form>",
        percent_encoded(back)
    )
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_others_wrote_stays_text() {
        assert_eq!(super::escape("<b a=\"'\">&"), "&lt;b a=&quot;&#39;&quot;&gt;&amp;");
    }
}
