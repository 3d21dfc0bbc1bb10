//! The pages in a real browser: Debian's Chromium, headless, controlled over WebDriver.

use harness::OA;
use harness::client::{Browser, DESKTOP, WECHAT};
use harness::process::{Process, until_listening};
use harness::stack::{Plan, Stack};
use serde_json::{Value, json};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A browser with its own profile. Dropping it kills its processes by id.
struct Chrome {
    driver: Option<Process>,
    base: String,
    profile: tempfile::TempDir,
}

impl Chrome {
    async fn start(user_agent: &str, language: &str) -> Self {
        let port = harness::free_port();
        let profile = tempfile::tempdir().unwrap();
        let mut driver = Process::silent(Command::new("chromedriver").arg(format!("--port={port}")));
        until_listening(port, &mut driver).await;
        let mut chrome = Self { driver: Some(driver), base: format!("http://127.0.0.1:{port}"), profile };
        let arguments = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
            "--window-size=420,860",
            &format!("--user-agent={user_agent}"),
            &format!("--accept-lang={language}"),
            &format!("--user-data-dir={}", chrome.profile.path().display()),
        ];
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "browserName": "chrome",
            "pageLoadStrategy": "none",
            "goog:chromeOptions": { "args": arguments },
            "goog:loggingPrefs": { "browser": "ALL" },
        } } });
        let made = chrome.call("POST", "/session", &wanted).await;
        let session = made["sessionId"].as_str().unwrap_or_else(|| panic!("{made}")).to_owned();
        chrome.base = format!("{}/session/{session}", chrome.base);
        chrome
    }

    async fn call(&self, method: &str, path: &str, body: &Value) -> Value {
        let body = if method == "POST" { body.to_string() } else { String::new() };
        let lines = [("content-type", "application/json")];
        let answer = Browser::desktop().ask(method, &format!("{}{path}", self.base), &lines, &body).await;
        answer.json()["value"].clone()
    }

    async fn open(&self, url: &str) {
        self.call("POST", "/url", &json!({ "url": url })).await;
    }

    async fn run(&self, script: &str) -> Value {
        self.call("POST", "/execute/sync", &json!({ "script": script, "args": [] })).await
    }

    /// The visible text of the page.
    async fn text(&self) -> String {
        self.run("return document.body ? document.body.innerText : ''").await.as_str().unwrap_or_default().to_owned()
    }

    /// The URL without an empty fragment. Asserts that it does not contain WeChat's fragment.
    async fn url(&self) -> String {
        let url = self.call("GET", "/url", &Value::Null).await.as_str().unwrap_or_default().to_owned();
        url.strip_suffix('#').unwrap_or(&url).to_owned()
    }

    /// Waits until the page contains `words` and returns its text.
    async fn until(&self, words: &str) -> String {
        let begun = Instant::now();
        loop {
            let text = self.text().await;
            if text.contains(words) {
                return text;
            }
            let url = self.url().await;
            assert!(begun.elapsed() < Duration::from_secs(20), "no {words:?} at {url}:\n{text}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Clicks the element that the selector matches.
    async fn press(&self, selector: &str) {
        let found = self.call("POST", "/element", &json!({ "using": "css selector", "value": selector })).await;
        let element = found.as_object().and_then(|one| one.values().next()).and_then(Value::as_str);
        let element = element.unwrap_or_else(|| panic!("no {selector}: {found}"));
        self.call("POST", &format!("/element/{element}/click"), &json!({})).await;
    }

    /// Opens a second tab and returns the window handles of both.
    async fn second_tab(&self) -> [String; 2] {
        let first = self.call("GET", "/window", &Value::Null).await.as_str().unwrap().to_owned();
        let second = self.call("POST", "/window/new", &json!({ "type": "tab" })).await;
        [first, second["handle"].as_str().unwrap().to_owned()]
    }

    async fn look_at(&self, tab: &str) {
        self.call("POST", "/window", &json!({ "handle": tab })).await;
    }

    /// The browser's console messages: policy violations, rejected cookies, failed scripts.
    async fn complaints(&self) -> Vec<String> {
        let log = self.call("POST", "/se/log", &json!({ "type": "browser" })).await;
        let lines = log.as_array().cloned().unwrap_or_default();
        let serious = lines.iter().filter(|line| line["level"] == "SEVERE" && !line.to_string().contains("favicon"));
        serious.map(|line| line["message"].to_string()).collect()
    }
}

impl Chrome {
    /// The ids of this browser's processes: those whose command line contains its profile directory.
    fn processes(&self) -> Vec<String> {
        let profile = self.profile.path().display().to_string();
        let all = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
        let ids = all.filter_map(|entry| entry.file_name().into_string().ok());
        let ours = |id: &String| {
            let line = std::fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(&profile)
        };
        ids.filter(|id| id.parse::<u32>().is_ok()).filter(ours).collect()
    }
}

impl Drop for Chrome {
    fn drop(&mut self) {
        self.driver = None;
        // The browser continues to run after its driver exits, even if the driver is killed.
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(5) {
            let processes = self.processes();
            if processes.is_empty() {
                return;
            }
            let _ = Command::new("kill").arg("-KILL").args(&processes).stderr(Stdio::null()).status();
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_in_wechat_logs_in_goes_back_and_logs_out() {
    let stack = Stack::start().await;
    let chrome = Chrome::start(WECHAT, "zh-CN").await;
    let openid = stack.simulator.openid(OA, "小明");

    chrome.open(&stack.url("/welcome")).await;
    chrome.until(&openid).await;
    assert_eq!(chrome.url().await, stack.url("/welcome"), "the URL must contain no code and no state");
    assert_eq!(chrome.run("return document.cookie").await, "app=1", "scripts must see only the application's cookie");

    chrome.open(&stack.url("/orders")).await;
    chrome.until("\"/orders\"").await;
    chrome.call("POST", "/back", &json!({})).await;
    chrome.until("\"/welcome\"").await;
    assert_eq!(stack.exchanges().len(), 1, "navigating back must not start a login");

    // A typed or scanned address opens a confirmation page; its button ends the session.
    chrome.open(&stack.url("/_wechat/logout")).await;
    chrome.until("退出").await;
    assert_eq!(chrome.run("return document.documentElement.lang").await, "zh-CN");
    chrome.press("form button").await;
    chrome.until("已退出").await;
    assert_eq!(chrome.url().await, stack.url("/_wechat/logout"), "the page must stay and start no login");
    assert!(chrome.complaints().await.is_empty(), "{:?}", chrome.complaints().await);
    chrome.open(&stack.url("/_wechat/session")).await;
    chrome.until("log in first").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_page_loads_by_itself_logs_nobody_out() {
    let stack = Stack::start().await;
    let chrome = Chrome::start(WECHAT, "zh-CN").await;
    chrome.open(&stack.url("/welcome")).await;
    chrome.until("\"/welcome\"").await;
    // Scripts that load the address in every way that needs no user action.
    chrome
        .run(
            "const add = (tag, more) => Object.assign(document.body.appendChild(document.createElement(tag)), more);
            const out = '/_wechat/logout';
            add('img', { src: out });
            add('script', { src: out });
            add('iframe', { src: out });
            add('embed', { src: out });
            add('object', { data: out });
            add('link', { rel: 'stylesheet', href: out });
            add('link', { rel: 'prefetch', href: out });
            add('link', { rel: 'preload', as: 'image', href: out });
            add('video', { src: out });
            for (const eagerness of ['prefetch', 'prerender'])
                add('script', { type: 'speculationrules',
                    textContent: JSON.stringify({ [eagerness]: [{ urls: [out], eagerness: 'immediate' }] }) });
            fetch(out).catch(() => 0);
            return true",
        )
        .await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    chrome.open(&stack.url("/still-here")).await;
    chrome.until("\"/still-here\"").await;
    assert_eq!(stack.exchanges().len(), 1, "no script may cause a logout and a silent login");
    // A link on the application's page ends the session, and so does navigation by a script.
    chrome.run("location.href = '/_wechat/logout'; return true").await;
    chrome.until("已退出").await;
    chrome.open(&stack.url("/again")).await;
    chrome.until("\"/again\"").await;
    assert_eq!(stack.exchanges().len(), 2);
    let sent = "return fetch('/_wechat/logout', { method: 'POST' }).then((answer) => answer.json())";
    assert_eq!(chrome.run(sent).await["message"], "logged out");
    chrome.open(&stack.url("/_wechat/session")).await;
    chrome.until("log in first").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_tabs_opened_at_once_both_arrive() {
    let stack = Stack::start().await;
    let chrome = Chrome::start(WECHAT, "zh-CN").await;
    let tabs = chrome.second_tab().await;
    for (tab, path) in tabs.iter().zip(["/first", "/second"]) {
        chrome.look_at(tab).await;
        chrome.open(&stack.url(path)).await;
    }
    for (tab, path) in tabs.iter().zip(["/first", "/second"]) {
        chrome.look_at(tab).await;
        chrome.until(&format!("\"{path}\"")).await;
        assert_eq!(chrome.url().await, stack.url(path));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn consent_comes_after_a_button_and_both_languages_are_spoken() {
    for (language, button, tag) in [("zh-CN", "微信登录", "zh-CN"), ("en-US", "Log in with WeChat", "en")] {
        let stack = Stack::planned(Plan { scope: "snsapi_userinfo", ..Plan::default() }).await;
        let chrome = Chrome::start(WECHAT, language).await;
        chrome.open(&stack.url("/welcome")).await;
        chrome.until(button).await;
        assert_eq!(chrome.run("return document.documentElement.lang").await, tag);
        assert_ne!(
            chrome.run("return getComputedStyle(document.querySelector('.button')).backgroundColor").await,
            "rgba(0, 0, 0, 0)",
            "the policy must allow the stylesheet"
        );
        chrome.press("a.button").await;
        let uuid = loop {
            let uuid = chrome.run("return document.querySelector('[data-uuid]')?.dataset.uuid ?? ''").await;
            match uuid.as_str().filter(|uuid| !uuid.is_empty()) {
                Some(uuid) => break uuid.to_owned(),
                None => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        };
        let sim = stack.simulator.base_url();
        chrome.open(&format!("{sim}/connect/oauth2/authorize_reply?uuid={uuid}&allow=1")).await;
        let text = chrome.until("x-wechat-nickname").await;
        assert!(text.contains("%E5%B0%8F%E6%98%8E"), "{text}");
        assert!(chrome.complaints().await.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_on_a_desktop_scans_and_the_page_moves_on_by_itself() {
    let stack = Stack::start().await;
    let chrome = Chrome::start(DESKTOP, "en-US").await;
    chrome.open(&stack.url("/welcome?tab=2")).await;
    chrome.until("Scan").await;
    assert_eq!(
        chrome.run("return document.querySelector('img').naturalWidth > 0").await,
        true,
        "the QR code must be visible"
    );
    let uuid = chrome.run("return document.querySelector('[data-uuid]').dataset.uuid").await;
    for step in ["scan", "confirm"] {
        let control = format!("{}/_sim/qr/{}/{step}", stack.simulator.base_url(), uuid.as_str().unwrap());
        assert_eq!(Browser::desktop().ask("POST", &control, &[], "").await.status, 200);
    }
    chrome.until("\"/welcome?tab=2\"").await;
    assert_eq!(chrome.url().await, stack.url("/welcome?tab=2"));
    // After a logout the application requires a new login, and no silent login happens.
    chrome.open(&stack.url("/_wechat/logout")).await;
    chrome.until("Log out").await;
    chrome.press("form button").await;
    chrome.until("logged out").await;
    chrome.open(&stack.url("/welcome")).await;
    chrome.until("Scan").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fragment_is_kept_where_a_page_of_ours_stands_in_between() {
    let stack = Stack::planned(Plan { scope: "snsapi_userinfo", ..Plan::default() }).await;
    stack.simulator.change_app(OA, |app| app.instant_consent = true);
    let chrome = Chrome::start(WECHAT, "zh-CN").await;
    chrome.open(&stack.url("/welcome?a=b#/orders/42?c=章")).await;
    chrome.until("微信登录").await;
    chrome.press("a.button").await;
    chrome.until("\"/welcome?a=b\"").await;
    assert_eq!(chrome.url().await, stack.url("/welcome?a=b#/orders/42?c=%E7%AB%A0"));
    assert!(chrome.complaints().await.is_empty(), "{:?}", chrome.complaints().await);
    // A fragment inside `return_to` needs no intermediate page. A URL without a fragment ends without one.
    for (path, end) in [("/a%23/b", "/a#/b"), ("/a", "/a")] {
        chrome.call("DELETE", "/cookie", &Value::Null).await;
        chrome.open(&stack.url(&format!("/_wechat/login?go=1&return_to={path}"))).await;
        chrome.until("\"/a\"").await;
        assert_eq!(chrome.url().await, stack.url(end));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_phone_outside_wechat_gets_the_whole_address_to_open_there() {
    const IPHONE: &str = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) \
         Version/18.0 Mobile/15E148 Safari/604.1";
    let stack = Stack::start().await;
    let chrome = Chrome::start(IPHONE, "zh-CN").await;
    chrome.open(&stack.url("/welcome?a=b#/orders/42")).await;
    let text = chrome.until("#/orders/42").await;
    assert!(text.contains(&stack.url("/welcome?a=b#/orders/42")), "{text}");
    assert_eq!(chrome.run("return document.querySelectorAll('svg.code').length").await, 1);
    chrome.press("#copy").await;
    chrome.until("已复制").await;
    let complaints = chrome.complaints().await;
    assert!(
        complaints.iter().all(|line| line.contains("status of 403")),
        "only the page's own status may appear: {complaints:?}"
    );
    // WeChat's QR code appears on the phone itself only if the user selects it.
    chrome.press("a.quiet").await;
    chrome.until("Scan").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_in_a_window_of_its_own_keeps_its_opener() {
    let more = "policy:\n- { path_prefix: /public, access: public }\n".to_owned();
    let stack = Stack::planned(Plan { more, ..Plan::default() }).await;
    let chrome = Chrome::start(DESKTOP, "en-US").await;
    chrome.open(&stack.url("/public")).await;
    chrome.until("\"/public\"").await;
    let first = chrome.call("GET", "/window", &Value::Null).await.as_str().unwrap().to_owned();
    // With redirects only, and with one of our pages in between.
    for start in ["/_wechat/login?return_to=%2Fdone", "/_wechat/callback?code=a"] {
        chrome.run(&format!("window.login = window.open({start:?}, '_blank', 'width=500,height=600')")).await;
        let handles = chrome.call("GET", "/window/handles", &Value::Null).await;
        let window = handles.as_array().unwrap().iter().filter_map(Value::as_str).find(|one| *one != first).unwrap();
        chrome.look_at(window).await;
        if start.contains("callback") {
            chrome.until("Log in again").await;
            chrome.press("a.button").await;
        }
        chrome.until("Scan").await;
        let uuid = chrome.run("return document.querySelector('[data-uuid]').dataset.uuid").await;
        for step in ["scan", "confirm"] {
            let control = format!("{}/_sim/qr/{}/{step}", stack.simulator.base_url(), uuid.as_str().unwrap());
            assert_eq!(Browser::desktop().ask("POST", &control, &[], "").await.status, 200);
        }
        let end = if start.contains("callback") { "/" } else { "/done" };
        chrome.until(&format!("\"target\":\"{end}\"")).await;
        assert_eq!(chrome.run("return window.opener !== null").await, true, "{start}");
        chrome.look_at(&first).await;
        assert_eq!(
            chrome.run("return [window.login.closed, window.login.location.pathname]").await,
            json!([false, end])
        );
        chrome.run("window.login.close()").await;
        chrome.call("DELETE", "/cookie", &Value::Null).await;
    }
}
