use super::layout::{SCRIPT, STYLE, leading_to};
use super::*;
use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::path::Path;

const LOGIN: &str = "/_wechat/login?rd=%2Fcart%3Fa%3D1%26b%3D2";
const HERE: &str = "https://shop.example.com/orders?page=2";

/// Every page with its name and its status.
fn all<'a>(app: &'a str, url: &'a str, incident: &'a str) -> Vec<(&'static str, Page<'a>, u16)> {
    let retry_after = Duration::from_secs(42);
    vec![
        ("ask-first", Page::AskFirst { app, continue_url: url }, 200),
        ("logged-out", Page::LoggedOut { login_url: url }, 200),
        ("logout-confirm", Page::LogoutConfirm { post_url: url }, 200),
        (
            "not-logged-out",
            Page::NotLoggedOut { post_url: url, retry_after, status: StatusCode::SERVICE_UNAVAILABLE },
            503,
        ),
        ("denied", Page::Denied { login_url: url }, 403),
        ("snapshot", Page::Snapshot { login_url: url }, 403),
        ("not-subscribed", Page::NotSubscribed { login_url: url, account: None, code: None }, 403),
        ("not-subscribed-to", Page::NotSubscribed { login_url: url, account: Some(app), code: None }, 403),
        ("expired", Page::Expired { login_url: url }, 400),
        ("already-logged-in", Page::AlreadyLoggedIn { continue_url: url }, 200),
        ("incomplete", Page::Incomplete { login_url: url }, 400),
        ("lost", Page::Lost { login_url: url }, 414),
        ("lost-logged-in", Page::LostLoggedIn { home_url: "/" }, 200),
        ("too-many-attempts", Page::TooManyAttempts { login_url: url, in_wechat: false }, 429),
        ("too-many-attempts-in-wechat", Page::TooManyAttempts { login_url: url, in_wechat: true }, 429),
        ("too-many-requests", Page::TooManyRequests { retry_after }, 429),
        ("wechat-unreachable", Page::WechatUnreachable { login_url: url, incident }, 503),
        ("misconfigured", Page::Misconfigured { incident, retry_url: url }, 500),
        ("user-refused", Page::UserRefused { incident, retry_url: url }, 403),
        ("no-unionid", Page::NoUnionid { incident, retry_url: url }, 403),
        ("needs-wechat", Page::NeedsWechat { url, code: None, code_url: None }, 403),
        ("needs-wechat-or-code", Page::NeedsWechat { url, code: None, code_url: Some(url) }, 403),
        ("needs-browser", Page::NeedsBrowser { url, code: None }, 403),
        ("needs-computer", Page::NeedsComputer { url, code: None, code_url: url }, 403),
        ("form-not-sent", Page::FormNotSent { login_url: url }, 401),
        ("not-allowed", Page::NotAllowed, 403),
        ("bad-request", Page::BadRequest, 400),
        ("unknown-host", Page::UnknownHost, 400),
        ("not-found", Page::NotFound { home_url: url }, 404),
    ]
}

/// Every page in both languages, as text.
fn rendered(app: &str, url: &str, incident: &str) -> Vec<(String, Rendered, String)> {
    let pages = all(app, url, incident).into_iter().flat_map(|page| Language::ALL.map(|language| (page, language)));
    pages
        .map(|((name, page, _), language)| {
            let rendered = render(&page, language);
            let text = String::from_utf8(rendered.body.to_vec()).unwrap();
            (format!("{name}.{}", language.tag()), rendered, text)
        })
        .collect()
}

/// The text between the first `from` and the next `to`.
fn between<'a>(text: &'a str, from: &str, to: &str) -> &'a str {
    text.split_once(from).and_then(|(_, rest)| rest.split_once(to)).map(|(inside, _)| inside).unwrap()
}

#[test]
fn a_whole_page_looks_like_this() {
    let rendered = render(&Page::WechatUnreachable { login_url: LOGIN, incident: "0badcafe" }, Language::Chinese);
    let text = String::from_utf8(rendered.body.to_vec()).unwrap();
    let head = text.split_once("<style>").unwrap().0;
    assert!(head.starts_with("<!doctype html>\n<html lang=\"zh-CN\">\n<head>\n<meta charset=\"utf-8\">"), "{head}");
    assert_eq!(
        between(&text, "</svg>\n", "<script>"),
        "<h1>暂时连不上微信</h1>\n\
         <p class=\"cause\">微信服务器没有正常响应，与你的操作无关。</p>\n\
         <p>请在一两分钟后重新登录。</p>\n\
         <a class=\"button\" href=\"/_wechat/login?rd=%2Fcart%3Fa%3D1%26b%3D2\">重新登录</a>\n\
         <dl><dt>编号</dt><dd>0badcafe</dd></dl>\n\
         </main>\n"
    );
    assert!(text.ends_with(&format!("</main>\n<script>{SCRIPT}</script>\n</body>\n</html>\n")), "{text}");
}

#[test]
fn each_page_has_its_status() {
    for (name, page, status) in all("Shop", LOGIN, "0badcafe") {
        assert_eq!(render(&page, Language::English).status, status, "{name}");
    }
}

#[test]
fn each_page_has_a_heading_a_cause_a_next_step_and_no_dead_end() {
    for (name, _, text) in rendered("Shop", LOGIN, "0badcafe") {
        let count = |what: &str| text.matches(what).count();
        assert_eq!((count("<h1>"), count("<title>"), count("</p>")), (1, 1, 2), "{name}");
        let second = ["needs-wechat-or-code", "needs-computer"].iter().any(|page| name.starts_with(page));
        // At an unknown host, the page has no link.
        let buttons = if name.starts_with("unknown-host") { 0 } else { 1 + usize::from(second) };
        assert_eq!(count("class=\"button"), buttons, "{name}");
        assert!(!text.contains("></p>"), "{name}");
        assert!(["{app}", "{account}", "{wait}"].iter().all(|word| !text.contains(word)), "{name}");
    }
}

#[test]
fn each_page_is_small_and_whole_in_itself() {
    let long = format!("/_wechat/login?rd={}", "%2F".repeat(700));
    for (name, rendered, text) in rendered(&"长".repeat(100), &long, "0badcafe") {
        assert!(rendered.body.len() < 10 * 1024, "{name}: {}", rendered.body.len());
        assert_eq!(text.matches("<script").count(), 1, "{name}");
        for absent in ["<img", "<link", "<iframe", "@import", "url(", "src=", " style=", "http://"] {
            assert!(!text.contains(absent), "{name}: {absent}");
        }
    }
}

#[test]
fn the_language_is_said_and_kept() {
    for (name, rendered, text) in rendered("Shop", LOGIN, "0badcafe") {
        let words = text.split_once("<h1>").unwrap().1;
        let chinese = words.chars().any(|c| matches!(c, '一'..='鿿'));
        let said = rendered.headers.get(header::CONTENT_LANGUAGE).unwrap();
        if name.ends_with(".zh-CN") {
            assert!(chinese && text.contains("<html lang=\"zh-CN\">") && said == "zh-CN", "{name}");
        } else {
            // The snapshot page names WeChat's own button, whose text is always Chinese.
            assert!(!chinese || name.starts_with("snapshot"), "{name}");
            assert!(text.contains("<html lang=\"en\">") && said == "en", "{name}");
        }
    }
}

#[test]
fn what_others_wrote_is_text_and_never_markup() {
    let hostile = "\"><script>alert(1)</script><img src=x onerror='a()'>&{{ style }}";
    for (name, _, text) in rendered(hostile, &format!("/a{hostile}"), hostile) {
        let body = text.split_once("</style>").unwrap().1.replace(&format!("<script>{SCRIPT}</script>"), "");
        assert!(!body.contains("<script") && !body.contains("<img") && !body.contains("'a()'"), "{name}");
        assert!(!text.split_once("<style>").unwrap().0.contains("<script"), "{name}");
    }
    let named = render(&Page::AskFirst { app: "A&B <i>", continue_url: "/" }, Language::English);
    let text = String::from_utf8(named.body.to_vec()).unwrap();
    assert_eq!(between(&text, "<h1>", "</h1>"), "Log in to A&#38;B &#60;i&#62;");
}

#[test]
fn a_button_leads_by_http_or_nowhere_strange() {
    for kept in ["", "/", "/_wechat/login?rd=%2F", HERE, "http://127.0.0.1:8080/a"] {
        assert_eq!(leading_to(kept), kept);
    }
    for refused in [
        "javascript:alert(1)",
        "data:text/html,x",
        "weixin://",
        "//evil.example.com",
        "/\\evil.example.com",
        "/\t/evil.example.com",
        "\n//evil.example.com",
        " //evil.example.com",
        "login",
        "https:/\\evil",
    ] {
        assert_eq!(leading_to(refused), "/", "{refused:?}");
    }
}

#[test]
fn the_policy_names_the_stylesheet_and_the_script_in_the_page() {
    assert!(!STYLE.contains('\r') && !STYLE.contains("</") && !SCRIPT.contains('\r') && !SCRIPT.contains("</"));
    for (name, rendered, text) in rendered("Shop", LOGIN, "0badcafe") {
        let hash = |text: &str| STANDARD.encode(digest::digest(&digest::SHA256, text.as_bytes()));
        let (style, script) = (between(&text, "<style>", "</style>"), between(&text, "<script>", "</script>"));
        let policy = rendered.headers.get(header::CONTENT_SECURITY_POLICY).unwrap().to_str().unwrap();
        assert_eq!(
            policy,
            format!(
                "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; form-action 'self'; \
                 frame-ancestors 'none'; base-uri 'none'",
                hash(style),
                hash(script)
            ),
            "{name}"
        );
        assert_eq!(text.matches("<style").count(), 1, "{name}");
    }
}

#[test]
fn the_other_headers_are_the_same_everywhere() {
    for (name, rendered, _) in rendered("Shop", LOGIN, "0badcafe") {
        let header = |name| rendered.headers.get(name).unwrap().to_str().unwrap();
        assert_eq!(header("content-type"), "text/html; charset=utf-8", "{name}");
        assert_eq!(header("x-content-type-options"), "nosniff", "{name}");
        // A login in its own window keeps its opener.
        let opener = rendered.headers.get("cross-origin-opener-policy").map(|value| value.to_str().unwrap());
        let is_logout = ["logged-out", "logout-confirm", "not-logged-out"].iter().any(|page| name.starts_with(page));
        assert_eq!(opener, is_logout.then_some("same-origin"), "{name}");
        assert_eq!(header("cache-control"), "no-store", "{name}");
        assert_eq!(header("vary"), "Accept-Language, Cookie", "{name}");
        // A page with a form: its POST must carry an `Origin` that can be compared.
        let form = name.starts_with("logout-confirm") || name.starts_with("not-logged-out");
        let policy = if form { "same-origin" } else { "no-referrer" };
        assert_eq!(header("referrer-policy"), policy, "{name}");
    }
}

#[test]
fn pages_that_pass_by_themselves_say_when() {
    let after = |page: Page<'_>| {
        let rendered = render(&page, Language::English);
        rendered.headers.get(header::RETRY_AFTER).map(|value| value.to_str().unwrap().parse::<u64>().unwrap())
    };
    for (time, seconds) in [(0, 1), (1, 1), (1000, 1), (1001, 2), (42_000, 42), (u64::MAX, 86_400)] {
        let retry_after = Duration::from_millis(time);
        assert_eq!(after(Page::TooManyRequests { retry_after }), Some(seconds), "{time} ms");
    }
    assert!((30..=60).contains(&after(Page::WechatUnreachable { login_url: LOGIN, incident: "1" }).unwrap()));
    assert!((60..=75).contains(&after(Page::TooManyAttempts { login_url: LOGIN, in_wechat: true }).unwrap()));
    assert_eq!(after(Page::Misconfigured { incident: "1", retry_url: "/" }), None);
}

#[test]
fn an_incident_and_an_address_can_be_passed_on() {
    for (_, _, text) in rendered("Shop", HERE, "0badcafe").iter().filter(|(name, ..)| name.starts_with("needs-")) {
        assert_eq!(between(text, "<dd id=\"address\">", "</dd>"), HERE);
    }
    for page in ["wechat-unreachable.en", "misconfigured.en", "user-refused.en", "no-unionid.en"] {
        let pages = rendered("Shop", HERE, "0badcafe");
        let (_, _, text) = pages.iter().find(|(name, ..)| name == page).unwrap();
        assert_eq!(between(text, "<dl>", "</dl>"), "<dt>Reference</dt><dd>0badcafe</dd>", "{page}");
    }
}

#[test]
fn an_address_is_drawn_as_a_code_beside_its_text() {
    let code = Code::draw(HERE).unwrap();
    let page = Page::NeedsWechat { url: HERE, code: Some(&code), code_url: Some(LOGIN) };
    let text = String::from_utf8(render(&page, Language::English).body.to_vec()).unwrap();
    let drawing = between(&text, "<svg class=\"code\"", "</svg>");
    assert!(drawing.contains(&code.path) && drawing.contains("aria-label=\"Address\""), "{drawing}");
    assert_eq!(between(&text, "<a class=\"button quiet\" href=\"", "\""), LOGIN, "the login by code comes second");
}

#[test]
fn the_account_to_follow_is_named_and_shown() {
    let image = "https://static.example.com:8443/follow.png?a=1&b=2";
    let page = Page::NotSubscribed { login_url: LOGIN, account: Some("小明的店"), code: Some(image) };
    for language in Language::ALL {
        let rendered = render(&page, language);
        let text = String::from_utf8(rendered.body.to_vec()).unwrap();
        assert_eq!(between(&text, "<img class=\"code\" src=\"", "\""), image.replace('&', "&#38;"));
        assert!(between(&text, "<h1>", "</h1>").contains("小明的店"));
        let policy = rendered.headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(policy.ends_with("; img-src https://static.example.com:8443"), "{policy}");
    }
}

#[test]
fn a_page_speaks_of_a_code_below_where_there_is_one() {
    let drawn = Code::draw(HERE).unwrap();
    let (account, image) = (Some("小明的店"), Some("https://static.example.com/follow.png"));
    for code in [None, Some(&drawn)] {
        let image = code.and(image);
        for page in [
            Page::NeedsWechat { url: HERE, code, code_url: None },
            Page::NeedsBrowser { url: HERE, code },
            Page::NeedsComputer { url: HERE, code, code_url: LOGIN },
            Page::NotSubscribed { login_url: LOGIN, account, code: image },
            Page::NotSubscribed { login_url: LOGIN, account: None, code: image },
        ] {
            let text = String::from_utf8(render(&page, Language::Chinese).body.to_vec()).unwrap();
            assert_eq!(text.contains("下面的二维码"), code.is_some(), "{page:?}");
        }
    }
}

#[test]
fn nothing_in_wechat_speaks_of_private_browsing() {
    for (name, _, text) in rendered("Shop", HERE, "0badcafe") {
        let speaks = text.contains("无痕") || text.contains("private browsing");
        assert_eq!(speaks, name.starts_with("too-many-attempts."), "{name}");
    }
}

/// For review: `WECHAT_AUTHZ_PAGES_DIR=/some/where cargo test --lib html` writes every page to that directory.
#[test]
fn the_pages_can_be_written_out_to_look_at() {
    let Some(directory) = std::env::var_os("WECHAT_AUTHZ_PAGES_DIR") else { return };
    for (name, _, text) in rendered("小明的店", HERE, "7f3a09c2") {
        std::fs::write(Path::new(&directory).join(format!("{name}.html")), text).unwrap();
    }
    let code = Code::draw(HERE);
    for (name, page) in [
        ("with-code", Page::NeedsWechat { url: HERE, code: code.as_ref(), code_url: Some(LOGIN) }),
        ("computer-with-code", Page::NeedsComputer { url: HERE, code: code.as_ref(), code_url: LOGIN }),
        ("browser-with-code", Page::NeedsBrowser { url: HERE, code: code.as_ref() }),
    ] {
        for language in Language::ALL {
            let file = Path::new(&directory).join(format!("{name}.{}.html", language.tag()));
            std::fs::write(file, render(&page, language).body).unwrap();
        }
    }
}
