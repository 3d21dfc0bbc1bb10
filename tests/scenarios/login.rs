//! Login: every login method, every failed login, and errors of WeChat (docs/en/wechat.md).

use harness::client::{self, Answer, Browser, DESKTOP, WECHAT};
use harness::stack::{PATIENT, Plan, Stack, UNLIMITED};
use harness::{OA, SESSION, WEB, free_port};
use std::time::{Duration, Instant};
use wechat_simulator::{Denial, Effect, Endpoint, Fault, Options, Times};

/// Consent without a page: the simulated user consents at once.
fn at_once(options: &mut Options) {
    options.apps[0].instant_consent = true;
}

/// A login with consent and profile, for tests of what follows.
fn with_profile() -> Plan {
    let (wechat, more) = (PATIENT.into(), UNLIMITED.into());
    Plan { scope: "snsapi_userinfo", simulator: at_once, wechat, more, ..Plan::default() }
}

/// A login inside WeChat only for followers of the account.
fn for_followers() -> Plan {
    let (wechat, more) = (PATIENT.into(), UNLIMITED.into());
    Plan { scope: "snsapi_base, require_subscription: true", wechat, more, ..Plan::default() }
}

/// Opens `path`, clicks the page's button and follows the redirects.
async fn pressing(stack: &Stack, browser: &mut Browser, path: &str) -> Answer {
    let asked = browser.follow(&stack.url(path)).await.pop().unwrap();
    assert_eq!(asked.status, 200, "{asked:?}");
    browser.follow(&asked.button()).await.pop().unwrap()
}

/// Whether the browser has no session cookie and the request did not reach the application.
fn is_nobody(browser: &Browser, answer: &Answer) -> bool {
    browser.cookie(SESSION).is_none() && answer.location().is_empty()
}

/// The incident id that a page shows and the log contains.
fn incident(page: &Answer) -> String {
    format!("\"reference\":\"{}\"", page.shown())
}

/// The number of log lines at this level.
fn lines_at(stack: &Stack, level: &str) -> usize {
    stack.logged().lines().filter(|line| line.contains(&format!("\"level\":\"{level}\""))).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_in_wechat_is_logged_in_silently() {
    let stack = Stack::start().await;
    let mut browser = Browser::wechat();
    let home = stack.log_in(&mut browser, "/orders?page=2").await;
    let openid = stack.simulator.openid(OA, "小明");
    assert_eq!(home.json()["target"], "/orders?page=2");
    assert_eq!(home.seen("x-wechat-subject"), Some(format!("wx:{OA}:{openid}")));
    assert_eq!(home.seen("x-wechat-openid"), Some(openid));
    assert_eq!(home.seen("x-wechat-appid").as_deref(), Some(OA));
    assert_eq!(home.seen("x-wechat-flow").as_deref(), Some("official_account"));
    assert_eq!(home.seen("x-wechat-nickname").as_deref(), Some(""));
    assert_eq!(home.seen("cookie"), None, "the application must not receive our cookies");
    assert_eq!(stack.exchanges().len(), 1);
    assert!(browser.cookie("__Host-wechat_session").unwrap().len() < 1_000);
    assert!(browser.names("__Host-wechat_flow").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_on_a_desktop_is_logged_in_by_scanning() {
    let stack = Stack::planned(Plan::default()).await;
    let mut browser = Browser::desktop();
    let page = browser.follow(&stack.url("/")).await.pop().unwrap();
    let uuid = page.body.split("data-uuid=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let sim = stack.simulator.base_url();
    for step in ["scan", "confirm"] {
        let answer = Browser::desktop().ask("POST", &format!("{sim}/_sim/qr/{uuid}/{step}"), &[], "").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        if step == "confirm" {
            let home = browser.follow(answer.json()["location"].as_str().unwrap()).await.pop().unwrap();
            assert_eq!(home.seen("x-wechat-flow").as_deref(), Some("website"));
            assert_eq!(home.seen("x-wechat-openid"), Some(stack.simulator.openid(WEB, "小明")));
            assert_eq!(home.seen("x-wechat-nickname").as_deref(), Some("%E5%B0%8F%E6%98%8E"));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_cookie_is_this_hosts_alone_and_out_of_scripts_reach() {
    let stack = Stack::start().await;
    let mut browser = Browser::wechat();
    let started = browser.get(&stack.url("/_wechat/login")).await;
    let ours = stack.url("/_wechat/callback?");
    let back = browser.follow_until(started.location(), |next| next.starts_with(&ours)).await.pop().unwrap();
    let entered = browser.get(back.location()).await;
    stack.remember(&browser);
    for answer in [&started, &entered] {
        let lines: Vec<&str> = answer.set_cookies().collect();
        assert!(!lines.is_empty() && answer.header("cache-control") == "no-store");
        for line in lines {
            let (pair, attributes) = line.split_once("; ").unwrap();
            let mut attributes: Vec<&str> = attributes.split("; ").collect();
            attributes.sort_unstable();
            let life = attributes.iter().position(|one| one.starts_with("Max-Age=")).map(|at| attributes.remove(at));
            assert_eq!(attributes, ["HttpOnly", "Path=/", "SameSite=Lax", "Secure"], "{line}");
            assert!(pair.starts_with("__Host-wechat_") && life.is_some(), "{line}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_tabs_at_once_end_each_at_its_own_page() {
    let stack = Stack::start().await;
    let mut browser = Browser::wechat();
    let mut backs = Vec::new();
    for path in ["/a", "/b", "/c"] {
        backs.push((stack.to_callback(&mut browser, path).await, path));
    }
    backs.reverse();
    for (back, path) in backs {
        let home = browser.follow(&back).await.pop().unwrap();
        stack.remember(&browser);
        assert_eq!(
            (home.json()["target"].as_str(), home.seen("x-wechat-openid")),
            (Some(path), Some(stack.simulator.openid(OA, "小明")))
        );
    }
    assert_eq!(stack.exchanges().len(), 3);
    assert!(browser.names("__Host-wechat_flow").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_long_poll_of_the_qr_page_reports_the_phone() {
    let stack = Stack::start().await;
    let mut browser = Browser::desktop();
    let page = browser.follow(&stack.url("/a")).await.pop().unwrap();
    let sim = stack.simulator.base_url();
    let poll = format!("{sim}/connect/l/qrconnect?uuid={}", page.uuid());
    let confirm = format!("{sim}/connect/confirm?uuid={}", page.uuid());
    let mut phone = Browser::wechat();
    stack.hand_to(&mut phone, "emoji");
    phone.get(&confirm).await;
    let scanned = browser.get(&poll).await;
    assert!(scanned.body.contains("window.wx_errcode=404;"), "{scanned:?}");
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let pressed = phone.ask("POST", &confirm, &form, "action=confirm");
    let last = format!("{poll}&last=404");
    let (confirmed, _) = tokio::join!(browser.get(&last), pressed);
    assert!(confirmed.body.contains("window.wx_errcode=405;"), "{confirmed:?}");
    let location = confirmed.body.split("window.sim_location=\"").nth(1).unwrap().split('"').next().unwrap();
    let home = browser.follow(location).await.pop().unwrap();
    stack.remember(&browser);
    assert_eq!(home.seen("x-wechat-openid"), Some(stack.simulator.openid(WEB, "emoji")));
    assert_eq!(home.json()["target"], "/a");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_way_to_wechat_is_written_exactly_as_wechat_wants_it() {
    let stack = Stack::start().await;
    let callback: String = url::form_urlencoded::byte_serialize(stack.url("/_wechat/callback").as_bytes()).collect();
    let long = format!("/_wechat/login?return_to=/{}", "a".repeat(2_000));
    for (user_agent, page, appid, scope) in
        [(WECHAT, "oauth2/authorize", OA, "snsapi_base"), (DESKTOP, "qrconnect", WEB, "snsapi_login")]
    {
        for path in ["/_wechat/login?return_to=/a%3Fb", &long] {
            let sent = Browser::new(user_agent).get(&stack.url(path)).await;
            let before = format!(
                "{}/connect/{page}?appid={appid}&redirect_uri={callback}&response_type=code&scope={scope}&state=",
                stack.simulator.base_url()
            );
            let state = sent.location().strip_prefix(&before).unwrap_or_else(|| panic!("{sent:?}"));
            let state = state.strip_suffix("#wechat_redirect").unwrap();
            assert!(state.len() == 32 && state.bytes().all(|byte| b"0123456789abcdef".contains(&byte)), "{state}");
            assert_eq!((sent.status, sent.header("cache-control")), (302, "no-store"));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_wechat_refuses_ends_on_wechats_own_page() {
    let stack = Stack::start().await;
    let sent = Browser::wechat().get(&stack.url("/_wechat/login")).await.location().to_owned();
    let (before, state) = sent.split_once("&state=").unwrap();
    let too_long = format!("{before}&state={}#wechat_redirect", "a".repeat(129));
    let other_order = sent.replace("response_type=code&scope=snsapi_base", "scope=snsapi_base&response_type=code");
    assert!(other_order != sent && state.len() < 128);
    for (link, said) in [(other_order, "该链接无法访问"), (too_long, "state参数过长")] {
        let page = Browser::wechat().follow(&link).await.pop().unwrap();
        assert!(page.status == 200 && page.body.contains(said), "{page:?}");
    }
    for appid in [OA, WEB] {
        stack.simulator.change_app(appid, |app| app.domains = vec!["elsewhere.example.com".into()]);
    }
    for (mut browser, said) in [(Browser::wechat(), "10003"), (Browser::desktop(), "redirect_uri 参数错误")] {
        let page = browser.follow(&stack.url("/")).await.pop().unwrap();
        assert!(page.status == 200 && page.body.contains(said) && is_nobody(&browser, &page), "{page:?}");
    }
    assert_eq!(stack.exchanges().len(), 0);
    assert_eq!(stack.upstream.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consented_profile_arrives_whole_and_percent_encoded() {
    let stack = Stack::planned(Plan { scope: "snsapi_userinfo", more: UNLIMITED.into(), ..Plan::default() }).await;
    for (user, nickname, has_avatar) in [
        ("小明", "小明", true),
        ("emoji", "小明😀👨‍👩‍👧", true),
        // Line feed and U+0001 are removed from a name.
        ("odd", "引\"号\\斜<b>线换行控制", true),
        ("private-use", "私有\u{e312}区", true),
        ("faceless", "", false),
        ("follower", "老粉丝", true),
    ] {
        let mut browser = Browser::wechat();
        stack.hand_to(&mut browser, user);
        let asked = browser.follow(&stack.url("/me")).await.pop().unwrap();
        assert!(
            asked.status == 200 && browser.names("__Host-wechat_flow").is_empty(),
            "our own page must come first: {asked:?}"
        );
        let mut home = browser.follow(&asked.button()).await.pop().unwrap();
        if user != "follower" {
            // WeChat's consent page: the user consents.
            let reply = format!(
                "{}/connect/oauth2/authorize_reply?allow=1&snsapi_userinfo=on&uuid={}",
                stack.simulator.base_url(),
                home.uuid()
            );
            home = browser.follow(&reply).await.pop().unwrap();
        }
        stack.remember(&browser);
        let seen = home.seen("x-wechat-nickname").unwrap();
        assert!(seen.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"%-_.~!*'()".contains(&byte)), "{seen}");
        let decoded = percent_encoding::percent_decode_str(&seen).decode_utf8().unwrap().into_owned();
        assert_eq!((decoded.as_str(), home.json()["target"].as_str()), (nickname, Some("/me")), "{user}");
        assert_eq!(home.seen("x-wechat-avatar").unwrap().starts_with("https://"), has_avatar, "{user}");
        assert_eq!(home.seen("x-wechat-openid"), Some(stack.simulator.openid(OA, user)));
        assert_eq!(home.seen("x-wechat-unionid"), stack.simulator.unionid(OA, user));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_says_no_gets_a_page_and_is_not_sent_round() {
    let stack = Stack::planned(with_profile()).await;
    // Today WeChat sends no callback.
    let mut silent = Browser::wechat();
    stack.hand_to(&mut silent, "denier");
    let left = pressing(&stack, &mut silent, "/").await;
    assert!(left.status == 200 && is_nobody(&silent, &left) && left.body.contains("拒绝"), "{left:?}");
    for appid in [OA, WEB] {
        stack.simulator.change_app(appid, |app| app.denial = Denial::StateOnly);
    }
    // According to older documents, WeChat sends a callback with only the state.
    let mut inside = Browser::wechat();
    stack.hand_to(&mut inside, "denier");
    let denied = pressing(&stack, &mut inside, "/").await;
    let mut outside = Browser::desktop();
    let page = outside.follow(&stack.url("/")).await.pop().unwrap();
    let cancelled = stack.phone("denier", &page.uuid(), "cancel").await;
    let cancelled = outside.get(cancelled.json()["location"].as_str().unwrap()).await;
    for (mut browser, page) in [(inside, denied), (outside, cancelled)] {
        assert!(page.status == 403 && is_nobody(&browser, &page), "{page:?}");
        assert!(page.body.contains("登录没有完成") || page.body.contains("Login was not completed"), "{page:?}");
        assert!(browser.names("__Host-wechat_flow").is_empty(), "the attempt must have ended");
        assert!(page.button().contains("/_wechat/login?go=1"));
        // A user who changes their mind clicks the button.
        stack.hand_to(&mut browser, "小红");
        assert_eq!(browser.get(&page.button()).await.status, 302);
    }
    assert_eq!(stack.exchanges().len(), 0);
    let failed = "wechat_authz_logins_failed_total{app=\"shop\",method=\"official_account\",class=\"denied\"";
    assert_eq!(stack.metric(failed).await, 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_or_expired_qr_code_is_replaced_by_a_new_one() {
    let stack = Stack::start().await;
    let mut browser = Browser::desktop();
    for verb in ["cancel", "expire"] {
        let page = browser.follow(&stack.url("/")).await.pop().unwrap();
        let ended = stack.phone("小明", &page.uuid(), verb).await;
        assert_eq!((ended.status, ended.json()["location"].clone()), (200, serde_json::Value::Null), "{verb}");
        assert_eq!(stack.phone("小明", &page.uuid(), "confirm").await.status, 409, "{verb}");
        assert!(browser.cookie(SESSION).is_none());
    }
    let page = browser.follow(&stack.url("/")).await.pop().unwrap();
    stack.simulator.advance(Duration::from_secs(301));
    assert_eq!(stack.phone("小明", &page.uuid(), "confirm").await.status, 409, "after five minutes");
    assert_eq!(stack.exchanges().len(), 0);
    let page = browser.follow(&stack.url("/a")).await.pop().unwrap();
    let confirmed = stack.phone("小红", &page.uuid(), "confirm").await;
    let home = browser.follow(confirmed.json()["location"].as_str().unwrap()).await.pop().unwrap();
    stack.remember(&browser);
    assert_eq!(home.seen("x-wechat-openid"), Some(stack.simulator.openid(WEB, "小红")));
    assert_eq!(home.json()["target"], "/a");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_visitor_is_nobody_until_they_open_the_full_page() {
    let stack = Stack::planned(with_profile()).await;
    let mut browser = Browser::wechat();
    stack.hand_to(&mut browser, "snapshot");
    let page = pressing(&stack, &mut browser, "/").await;
    assert!(page.status == 403 && page.body.contains("使用完整服务") && is_nobody(&browser, &page), "{page:?}");
    assert_eq!(stack.exchanges().len(), 1);
    assert!(
        stack.simulator.journal().iter().all(|entry| entry.path != "/sns/userinfo"),
        "the profile must not be requested"
    );
    assert_eq!(stack.upstream.count(), 0);
    for id in [wechat_simulator::snapshot_openid(OA, "snapshot"), wechat_simulator::snapshot_unionid("one", "snapshot")]
    {
        assert!(!stack.logged().contains(&id));
    }
    stack.simulator.change_user("snapshot", |user| user.snapshot = wechat_simulator::Snapshot::Never);
    let home = browser.follow(&page.button()).await.pop().unwrap();
    stack.remember(&browser);
    assert_eq!(home.seen("x-wechat-openid"), Some(stack.simulator.openid(OA, "snapshot")));
}

#[tokio::test(flavor = "multi_thread")]
async fn require_subscription_admits_followers_only() {
    let stack = Stack::planned(for_followers()).await;
    let mut browser = Browser::wechat();
    stack.hand_to(&mut browser, "小明");
    let page = browser.follow(&stack.url("/a")).await.pop().unwrap();
    assert!(page.status == 403 && page.body.contains("请先关注公众号") && is_nobody(&browser, &page), "{page:?}");
    let refused = "wechat_authz_logins_failed_total{app=\"shop\",method=\"official_account\",class=\"not_subscribed\"";
    assert_eq!(stack.metric(&format!("{refused},errcode=\"not_subscribed\"}}")).await, 1.0);
    // The user follows the account and clicks the page's button.
    stack.simulator.change_user("小明", |user| user.follows = vec![OA.to_owned()]);
    let home = browser.follow(&page.button()).await.pop().unwrap();
    assert_eq!(home.seen("x-wechat-openid"), Some(stack.simulator.openid(OA, "小明")));
    assert_eq!(home.json()["target"], "/a");
    // Another application without this requirement does not request the followers.
    let asked = || stack.simulator.journal().iter().filter(|entry| entry.path == "/cgi-bin/user/info").count();
    assert_eq!(asked(), 2);
    let mut desktop = Browser::desktop();
    let page = desktop.follow(&stack.url("/a")).await.pop().unwrap();
    let confirmed = stack.phone("小红", &page.uuid(), "confirm").await;
    let home = desktop.follow(confirmed.json()["location"].as_str().unwrap()).await.pop().unwrap();
    assert_eq!(home.seen("x-wechat-openid"), Some(stack.simulator.openid(WEB, "小红")));
    assert_eq!(asked(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_subscription_stops_the_login_until_it_is_known() {
    let stack = Stack::planned(for_followers()).await;
    for effect in [Effect::Errcode(-1), Effect::Errcode(45009)] {
        let mut browser = Browser::wechat();
        stack.hand_to(&mut browser, "follower");
        stack.simulator.inject(for_ever(Endpoint::Follower, effect));
        let page = browser.follow(&stack.url("/")).await.pop().unwrap();
        assert!(page.status == 503 && is_nobody(&browser, &page), "{page:?}");
        stack.until_log_holds(&incident(&page)).await;
        stack.simulator.clear_faults();
    }
    let mut browser = Browser::wechat();
    stack.hand_to(&mut browser, "follower");
    let home = browser.follow(&stack.url("/")).await.pop().unwrap();
    assert_eq!(home.seen("x-wechat-openid"), Some(stack.simulator.openid(OA, "follower")));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_browser_gets_the_login_that_works_in_it() {
    const WECOM: &str =
        "Mozilla/5.0 (Windows NT 10.0; WOW64) Chrome/108.0 Safari/537.36 wxwork/4.1.22 MicroMessenger/7.0.1";
    const IPHONE: &str =
        "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) Version/18.0 Mobile/15E148 Safari/604.1";
    const MINI: &str = "Mozilla/5.0 (iPhone) MicroMessenger/8.0.40 miniProgram/wx0123456789abcdef";
    const MAC: &str =
        "Mozilla/5.0 (Macintosh) MicroMessenger/6.8.0(0x16080000) MacWechat/3.3(0x13030013) WindowsWechat";
    const ACCOUNT: &str = "/connect/oauth2/authorize";
    const CODE: &str = "/connect/qrconnect";
    let mut stack = Stack::start().await;
    let website = format!("  website: {{ appid: {WEB}, secret_file: ./web.secret }}\n");
    let account = format!("  official_account: {{ appid: {OA}, secret_file: ./oa.secret, scope: snsapi_base }}\n");
    let (in_wechat, in_browser, on_computer) = ("请在微信里打开", "请用浏览器打开", "请在电脑上打开");
    for (without, rows) in [
        (
            "",
            [
                (WECHAT, ACCOUNT),
                (MAC, ACCOUNT),
                (MINI, ACCOUNT),
                (WECOM, CODE),
                (DESKTOP, CODE),
                ("", CODE),
                (IPHONE, in_wechat),
            ],
        ),
        (
            &website,
            [
                (WECHAT, ACCOUNT),
                (MAC, ACCOUNT),
                (MINI, ACCOUNT),
                (WECOM, in_wechat),
                (DESKTOP, in_wechat),
                ("", in_wechat),
                (IPHONE, in_wechat),
            ],
        ),
        (
            &account,
            [
                (WECHAT, in_browser),
                (MAC, in_browser),
                (MINI, in_browser),
                (WECOM, CODE),
                (DESKTOP, CODE),
                ("", CODE),
                (IPHONE, on_computer),
            ],
        ),
    ] {
        if !without.is_empty() {
            stack.reconfigured(without, "").await;
        }
        for (user_agent, leads_to) in rows {
            let mut browser = Browser::new(user_agent);
            browser.headers.push(("accept-language".into(), "zh-CN".into()));
            let answer = browser.get(&stack.url("/_wechat/login?return_to=%2Forders%3Fpage%3D2")).await;
            if leads_to.starts_with('/') {
                let there = format!("{}{leads_to}?", stack.simulator.base_url());
                assert!(answer.status == 302 && answer.location().starts_with(&there), "{user_agent}: {answer:?}");
            } else {
                assert!(answer.status == 403 && answer.body.contains(leads_to), "{user_agent}: {answer:?}");
                assert_eq!(answer.shown(), stack.url("/orders?page=2"), "the page must contain the complete URL");
                assert!(answer.body.contains("<svg class=\"code\""), "the page must contain the QR code");
                if user_agent == IPHONE && without != website {
                    let code = browser.get(&answer.button()).await;
                    assert!(code.location().contains(CODE), "the QR code must come second: {code:?}");
                    browser.jar.clear();
                }
                assert!(is_nobody(&browser, &answer) && browser.jar.is_empty());
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_unionid_is_one_subject_for_both_login_methods() {
    let stack = Stack::planned(Plan { app: "  subject: unionid\n".into(), ..with_profile() }).await;
    let subject = format!("wx:union:{}", stack.simulator.unionid(OA, "小明").unwrap());
    let mut inside = Browser::wechat();
    let home = pressing(&stack, &mut inside, "/").await;
    let mut outside = Browser::desktop();
    let page = outside.follow(&stack.url("/")).await.pop().unwrap();
    let confirmed = stack.phone("小明", &page.uuid(), "confirm").await;
    let other_home = outside.follow(confirmed.json()["location"].as_str().unwrap()).await.pop().unwrap();
    stack.remember(&inside);
    stack.remember(&outside);
    assert_eq!(
        (home.seen("x-wechat-subject"), home.seen("x-wechat-openid")),
        (Some(subject.clone()), Some(stack.simulator.openid(OA, "小明")))
    );
    assert_eq!(
        (other_home.seen("x-wechat-subject"), other_home.seen("x-wechat-openid")),
        (Some(subject), Some(stack.simulator.openid(WEB, "小明")))
    );
    let reached = stack.upstream.count();
    let mut without = Browser::wechat();
    stack.hand_to(&mut without, "no-unionid");
    let page = pressing(&stack, &mut without, "/").await;
    assert!(page.status == 403 && page.body.contains("无法确认你的账号") && is_nobody(&without, &page), "{page:?}");
    stack.until_log_holds(&incident(&page)).await;
    assert_eq!(stack.upstream.count(), reached);
    assert!(!stack.logged().contains(&stack.simulator.openid(OA, "no-unionid")));
}

#[tokio::test(flavor = "multi_thread")]
async fn whom_wechat_restricts_gets_a_page_with_an_incident() {
    let stack = Stack::start().await;
    for user in ["punished", "blocked"] {
        let mut browser = Browser::wechat();
        stack.hand_to(&mut browser, user);
        let page = browser.follow(&stack.url("/")).await.pop().unwrap();
        assert!(page.status == 403 && is_nobody(&browser, &page), "{user}: {page:?}");
        stack.until_log_holds(&incident(&page)).await;
    }
    assert_eq!((stack.exchanges().len(), lines_at(&stack, "ERROR")), (2, 0), "expected one exchange each and no error");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_domain_proof_is_served_at_the_root() {
    let file = "MP_verify_abcDEF0123456789.txt";
    let stack = Stack::planned(Plan { app: format!("  domain_proofs: [{file}]\n"), ..Plan::default() }).await;
    let proof = Browser::desktop().get(&stack.url(&format!("/{file}"))).await;
    assert_eq!((proof.status, proof.body.as_str()), (200, "abcDEF0123456789"));
    assert!(proof.header("content-type").starts_with("text/plain"));
    let check = serde_json::json!({ "domain": stack.edge.to_string(), "file": file }).to_string();
    let check_url = format!("{}/_sim/domain-check", stack.simulator.base_url());
    let checked = Browser::desktop().ask("POST", &check_url, &[("content-type", "application/json")], &check).await;
    assert_eq!(checked.json(), serde_json::json!({ "passed": true }));
    for (other, status) in [
        ("/MP_verify_abcDEF0123456780.txt", 404),
        ("/MP_verify_ABCDEF0123456789.txt", 404),
        ("/x/MP_verify_abcDEF0123456789.txt", 302),
    ] {
        let answer = Browser::desktop().get(&stack.url(other)).await;
        assert!(answer.status == status && !answer.body.contains("abcDEF"), "{other}: {answer:?}");
    }
    assert_eq!(stack.upstream.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn thirty_people_at_once_are_never_mixed() {
    let stack = std::sync::Arc::new(Stack::planned(Plan { more: UNLIMITED.into(), ..Plan::default() }).await);
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..30 {
        let name = format!("guest{number}");
        stack.simulator.add_user(wechat_simulator::User::plain(&name, &name));
        let stack = std::sync::Arc::clone(&stack);
        tasks.spawn(async move {
            let mut browser = Browser::wechat();
            stack.hand_to(&mut browser, &name);
            let openid = stack.simulator.openid(OA, &name);
            let home = stack.log_in(&mut browser, &format!("/{name}")).await;
            assert_eq!(
                (home.seen("x-wechat-openid"), home.json()["target"].as_str()),
                (Some(openid.clone()), Some(&*format!("/{name}")))
            );
            for _ in 0..5 {
                let again = browser.fetch(&stack.url("/api")).await;
                assert_eq!(again.seen("x-wechat-openid"), Some(openid.clone()), "{name}");
            }
            let token = browser.cookie(SESSION).unwrap();
            assert!(!stack.logged().contains(&openid));
            (openid, token)
        });
    }
    let people = tasks.join_all().await;
    let distinct = |values: Vec<&String>| values.into_iter().collect::<std::collections::HashSet<_>>().len();
    assert_eq!(distinct(people.iter().map(|(openid, _)| openid).collect()), 30);
    assert_eq!(distinct(people.iter().map(|(_, token)| token).collect()), 30);
    assert_eq!(stack.exchanges().len(), 30);
}

/// A permanent fault of the code exchange or of the profile request.
fn for_ever(endpoint: Endpoint, effect: Effect) -> Fault {
    Fault::at(endpoint, effect).times(Times::FOREVER)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_without_its_profile_succeeds() {
    let stack = Stack::planned(with_profile()).await;
    // 小红 has logged in before, 小明 has not.
    let mut known = Browser::wechat();
    stack.hand_to(&mut known, "小红");
    let (nickname, avatar) = {
        let home = pressing(&stack, &mut known, "/").await;
        (home.seen("x-wechat-nickname").unwrap(), home.seen("x-wechat-avatar").unwrap())
    };
    assert_eq!(nickname, "%E5%B0%8F%E7%BA%A2");
    let replaced = serde_json::json!({ "openid": "oSomebodyElse000000000000000" }).as_object().unwrap().clone();
    let troubles = [
        Effect::Status(500),
        Effect::Status(404),
        Effect::Errcode(48001),
        Effect::Errcode(-1),
        Effect::Errcode(40003),
        Effect::Html,
        Effect::EmptyBody,
        Effect::TruncatedJson,
        Effect::LoneSurrogate,
        Effect::HugeBody,
        Effect::Missing(vec!["openid".into()]),
        Effect::Replace(replaced),
        Effect::Close,
        Effect::ResetAfter,
        Effect::LengthTooLong,
        Effect::DelayBefore(Duration::from_secs(30)),
    ];
    for (number, trouble) in troubles.into_iter().enumerate() {
        stack.simulator.clear_faults();
        stack.simulator.inject(for_ever(Endpoint::UserInfo, trouble.clone()));
        for (user, expected) in [("小红", (&*nickname, &*avatar)), ("小明", ("", ""))] {
            let mut browser = Browser::wechat();
            stack.hand_to(&mut browser, user);
            let begun = Instant::now();
            let home = pressing(&stack, &mut browser, "/").await;
            stack.remember(&browser);
            assert_eq!(home.seen("x-wechat-openid"), Some(stack.simulator.openid(OA, user)), "{trouble:?}");
            let seen = (home.seen("x-wechat-nickname").unwrap(), home.seen("x-wechat-avatar").unwrap());
            assert_eq!((&*seen.0, &*seen.1), expected, "{trouble:?}");
            assert!(begun.elapsed() < Duration::from_secs(8), "{trouble:?} took {:?}", begun.elapsed());
        }
        let degraded = stack.metric("wechat_authz_profiles_unavailable_total{app=\"shop\"}").await;
        assert_eq!(degraded, 2.0 * (number as f64 + 1.0), "{trouble:?} must be counted");
    }
    assert_eq!(lines_at(&stack, "ERROR"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_profile_in_an_odd_form_is_read_all_the_same() {
    let stack = Stack::planned(with_profile()).await;
    for (oddity, nickname) in [
        (Effect::InvalidUtf8, None),
        (Effect::RawControl, None),
        (Effect::ByteOrderMark, Some("%E5%B0%8F%E6%98%8E")),
        (Effect::UnknownKeys, Some("%E5%B0%8F%E6%98%8E")),
        (Effect::Null(vec!["unionid".into(), "headimgurl".into(), "privilege".into()]), Some("%E5%B0%8F%E6%98%8E")),
        (Effect::ContentType("application/json; encoding=utf-8".into()), Some("%E5%B0%8F%E6%98%8E")),
        (Effect::Chunked, Some("%E5%B0%8F%E6%98%8E")),
        (Effect::Drip { pieces: 20, over: Duration::from_millis(500) }, Some("%E5%B0%8F%E6%98%8E")),
    ] {
        stack.simulator.inject(Fault::at(Endpoint::UserInfo, oddity.clone()));
        let mut browser = Browser::wechat();
        let home = pressing(&stack, &mut browser, "/").await;
        stack.remember(&browser);
        let seen = home.seen("x-wechat-nickname").unwrap();
        assert!(
            seen.contains("%E5%B0%8F%E6%98%8E") && nickname.is_none_or(|nickname| seen == nickname),
            "{oddity:?}: {seen}"
        );
        let decoded = percent_encoding::percent_decode_str(&seen).decode_utf8().unwrap();
        assert!(!decoded.chars().any(char::is_control), "{oddity:?}: {decoded:?}");
    }
    assert_eq!(stack.metric("wechat_authz_profiles_unavailable_total").await, 0.0);
    assert!(stack.simulator.waiting_faults().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_absent_or_busy_wechat_shows_a_page_whose_button_works() {
    let stack = Stack::planned(Plan { wechat: PATIENT.into(), more: UNLIMITED.into(), ..Plan::default() }).await;
    // Errors of the quota cause one request; temporary errors cause a second one.
    for (trouble, asked) in [
        (Effect::Errcode(45011), 1),
        (Effect::Errcode(45009), 1),
        (Effect::Status(500), 2),
        (Effect::Status(429), 2),
        (Effect::Errcode(-1), 2),
    ] {
        stack.simulator.clear_journal();
        stack.simulator.inject(for_ever(Endpoint::AccessToken, trouble.clone()));
        let mut browser = Browser::wechat();
        let page = browser.follow(&stack.url("/")).await.pop().unwrap();
        assert!(page.status == 503 && is_nobody(&browser, &page), "{trouble:?}: {page:?}");
        let wait: u64 = page.header("retry-after").parse().unwrap();
        assert!((30..=60).contains(&wait));
        stack.until_log_holds(&incident(&page)).await;
        assert_eq!(stack.exchanges().len(), asked, "{trouble:?}");
        stack.simulator.clear_faults();
        let home = browser.follow(&page.button()).await.pop().unwrap();
        stack.remember(&browser);
        assert_eq!(home.seen("x-wechat-openid"), Some(stack.simulator.openid(OA, "小明")), "{trouble:?}");
    }
    assert_eq!(lines_at(&stack, "ERROR"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_wechat_shows_a_page_and_ends_no_session() {
    let mut stack = Stack::start().await;
    let mut early = Browser::wechat();
    stack.log_in(&mut early, "/").await;
    let (there, nowhere) = (stack.simulator.base_url(), format!("http://127.0.0.1:{}", free_port()));
    stack.reconfigured(&format!("api: {there}"), &format!("api: {nowhere}")).await;
    let mut browser = Browser::wechat();
    let page = browser.follow(&stack.url("/")).await.pop().unwrap();
    assert!(page.status == 503 && is_nobody(&browser, &page), "{page:?}");
    stack.until_log_holds(&incident(&page)).await;
    assert_eq!(stack.exchanges().len(), 1, "only the request of the first login");
    assert!(early.get(&stack.url("/")).await.seen("x-wechat-openid").is_some());
    stack.kill_authz();
    stack.restart_authz().await;
    let home = browser.follow(&page.button()).await.pop().unwrap();
    stack.remember(&browser);
    assert_eq!(home.seen("x-wechat-openid"), Some(stack.simulator.openid(OA, "小明")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_wechat_is_asked_once_more_and_nobody_notices() {
    let stack = Stack::start().await;
    stack.simulator.inject(Fault::at(Endpoint::AccessToken, Effect::Errcode(-1)));
    let mut browser = Browser::wechat();
    let answers = browser.follow(&stack.url("/")).await;
    stack.remember(&browser);
    assert_eq!(answers.last().unwrap().seen("x-wechat-openid"), Some(stack.simulator.openid(OA, "小明")));
    assert!(answers.iter().all(|answer| answer.status < 400));
    let started = stack.metric("wechat_authz_logins_started_total{app=\"shop\",method=\"official_account\"}").await;
    assert_eq!((stack.exchanges().len(), started), (2, 1.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn after_five_failures_wechat_is_left_in_peace_until_it_is_back() {
    let breaker = "  breaker: { failures: 5, open: 4s }\n";
    let stack = Stack::planned(Plan { wechat: breaker.into(), more: UNLIMITED.into(), ..Plan::default() }).await;
    let state = format!("wechat_authz_wechat_breaker_state{{appid=\"{OA}\",endpoint=\"access_token\"}}");
    let mut early = Browser::wechat();
    stack.log_in(&mut early, "/").await;
    let before = stack.exchanges().len();
    stack.simulator.inject(for_ever(Endpoint::AccessToken, Effect::Status(502)).for_app(OA));
    for _ in 0..3 {
        assert_eq!(Browser::wechat().follow(&stack.url("/")).await.pop().unwrap().status, 503);
    }
    assert_eq!(stack.exchanges().len(), before + 5, "the sixth request must not happen");
    assert_eq!(stack.metric(&state).await, 2.0, "open");
    // The breaker is open: the response is immediate, and WeChat receives no request.
    let mut late = Browser::wechat();
    let callback = stack.to_callback(&mut late, "/").await;
    let begun = Instant::now();
    let page = late.get(&callback).await;
    assert!(page.status == 503 && begun.elapsed() < Duration::from_secs(1), "{page:?} after {:?}", begun.elapsed());
    assert_eq!(stack.exchanges().len(), before + 5);
    stack.until_log_holds(&incident(&page)).await;
    let refused = "wechat_authz_logins_failed_total{app=\"shop\",method=\"official_account\",class=\"unreachable\",errcode=\"breaker_open\"}";
    assert_eq!(stack.metric(refused).await, 1.0);
    // Sessions and the other login method are not affected.
    assert!(early.get(&stack.url("/")).await.seen("x-wechat-openid").is_some());
    let mut outside = Browser::desktop();
    let shown = outside.follow(&stack.url("/")).await.pop().unwrap();
    let confirmed = stack.phone("小明", &shown.uuid(), "confirm").await;
    let home = outside.follow(confirmed.json()["location"].as_str().unwrap()).await.pop().unwrap();
    stack.remember(&outside);
    assert_eq!(home.seen("x-wechat-openid"), Some(stack.simulator.openid(WEB, "小明")));
    stack.simulator.clear_faults();
    // WeChat recovers: the first login after the pause succeeds.
    let begun = Instant::now();
    while stack.metric(&state).await == 2.0 {
        assert!(begun.elapsed() < Duration::from_secs(10), "the breaker must stay open");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    stack.log_in(&mut Browser::wechat(), "/").await;
    assert_eq!(stack.metric(&state).await, 0.0, "the breaker must be closed");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_wrong_setting_costs_one_page_one_line_and_one_call() {
    let stack = Stack::planned(Plan { wechat: PATIENT.into(), more: UNLIMITED.into(), ..Plan::default() }).await;
    let mut logins = 0;
    let mut fails = async |why: &str| {
        let mut browser = Browser::wechat();
        let page = browser.follow(&stack.url("/")).await.pop().unwrap();
        logins += 1;
        assert!(page.status == 500 && is_nobody(&browser, &page), "{why}: {page:?}");
        assert!(page.button().contains("/_wechat/login?go=1"), "the page must offer a next step");
        stack.until_log_holds(&incident(&page)).await;
        assert_eq!((stack.exchanges().len(), lines_at(&stack, "ERROR")), (logins, logins), "{why}");
        // The log fields that the runbook names.
        let log = stack.logged();
        let line = log.lines().rfind(|line| line.contains(r#""level":"ERROR""#)).unwrap();
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let field = |name: &str| line[name].as_str().or(line["fields"][name].as_str()).unwrap_or_default().to_owned();
        assert_eq!((field("appid").as_str(), field("rid").len()), (OA, 26), "{line}");
    };
    for code in [40013, 41004, 48004, 40001] {
        stack.simulator.inject(Fault::at(Endpoint::AccessToken, Effect::Errcode(code)));
        fails(&code.to_string()).await;
    }
    stack.simulator.change_app(OA, |app| app.secret_frozen = true);
    fails("frozen").await;
    stack.simulator.change_app(OA, |app| {
        app.secret_frozen = false;
        app.secret = "another-secret".into();
    });
    for number in 0..8 {
        fails(&format!("wrong secret, login {number}")).await;
    }
    let series = "wechat_authz_logins_failed_total{app=\"shop\",method=\"official_account\",class=\"configuration\",errcode=\"40125\"}";
    assert_eq!(stack.metric(series).await, 8.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn aimless_starts_are_stopped_and_lock_out_nobody_else() {
    let stack = Stack::start().await;
    let mut colleague = Browser::wechat();
    stack.log_in(&mut colleague, "/").await;
    let mut halfway = Browser::wechat();
    let back = stack.to_callback(&mut halfway, "/a").await;
    let begun = Instant::now();
    let (mut admitted, mut refused) = (0, Vec::new());
    for number in 0..300 {
        let answer = Browser::wechat().get(&stack.url("/_wechat/login")).await;
        match answer.status {
            302 => admitted += 1,
            429 => refused.push(answer),
            other => panic!("{other} for start {number}"),
        }
    }
    // Fifty at once, one of which is in progress, and ten a minute.
    let refilled = usize::try_from(begun.elapsed().as_secs() / 6 + 1).unwrap();
    assert!((49..=49 + refilled).contains(&admitted), "{admitted} in {:?}", begun.elapsed());
    let first = &refused[0];
    assert_eq!((first.location(), first.set_cookies().next()), ("", None));
    assert!(first.header("retry-after").parse::<u64>().unwrap() >= 1);
    assert!(first.header("content-type").starts_with("text/html") && first.body.contains("class=\"button"));
    assert!(stack.metric("wechat_authz_requests_limited_total{limit=\"logins_per_client\"}").await >= 200.0);
    // A forged callback counts like a start, whether it is readable or not.
    for query in ["code=a&state=00000000000000000000000000000000", "code=a", ""] {
        let mut statuses = Vec::new();
        for _ in 0..20 {
            statuses.push(Browser::wechat().get(&stack.url(&format!("/_wechat/callback?{query}"))).await.status);
        }
        assert!(statuses.contains(&429) && statuses.iter().all(|status| [400, 429].contains(status)), "{statuses:?}");
    }
    assert_eq!(stack.exchanges().len(), 1, "no forged callback may cause an exchange");
    // A login in progress completes, sessions stay valid, and other addresses are not limited.
    assert_eq!(halfway.follow(&back).await.pop().unwrap().json()["target"], "/a");
    stack.remember(&halfway);
    for _ in 0..100 {
        assert_eq!(colleague.get(&stack.url("/")).await.status, 200);
    }
    assert_eq!(colleague.fetch(&stack.url("/_wechat/session")).await.status, 200);
    let mut elsewhere = Browser::wechat();
    elsewhere.from = "127.0.0.2".parse().unwrap();
    stack.log_in(&mut elsewhere, "/").await;
}

/// Three hundred browsers at one address start `step` apart with this login method; all logins succeed.
async fn all_arrive(stack: Stack, step: Duration, way: fn(usize) -> Way) -> Stack {
    let stack = std::sync::Arc::new(stack);
    let mut people = tokio::task::JoinSet::new();
    for number in 0..300 {
        let stack = std::sync::Arc::clone(&stack);
        people.spawn(async move {
            tokio::time::sleep(step * u32::try_from(number).unwrap()).await;
            let (name, path) = (format!("guest{number}"), format!("/{number}"));
            stack.simulator.add_user(wechat_simulator::User::plain(&name, &name));
            let (browser, home) = way(number).log_in(&stack, &name, &path).await;
            assert_eq!((home.status, home.location()), (200, ""), "user {number}: {home:?}");
            assert_eq!(home.json()["target"], path);
            stack.remember(&browser);
        });
    }
    people.join_all().await;
    assert_eq!(stack.metric("wechat_authz_requests_limited_total{limit=\"logins_per_client\"}").await, 0.0);
    std::sync::Arc::into_inner(stack).unwrap()
}

/// The way in which a user logs in.
enum Way {
    Silent,
    Consent,
    Code,
}

impl Way {
    async fn log_in(self, stack: &Stack, name: &str, path: &str) -> (Browser, Answer) {
        let thinks = || tokio::time::sleep(Duration::from_secs(2));
        match self {
            Self::Silent => {
                let mut browser = Browser::wechat();
                stack.hand_to(&mut browser, name);
                let home = browser.follow(&stack.url(path)).await.pop().unwrap();
                (browser, home)
            }
            Self::Consent => {
                let mut browser = Browser::wechat();
                stack.hand_to(&mut browser, name);
                let asked = pressing(stack, &mut browser, path).await;
                thinks().await;
                let reply = format!(
                    "{}/connect/oauth2/authorize_reply?allow=1&snsapi_userinfo=on&uuid={}",
                    stack.simulator.base_url(),
                    asked.uuid()
                );
                let home = browser.follow(&reply).await.pop().unwrap();
                (browser, home)
            }
            Self::Code => {
                let mut browser = Browser::desktop();
                let page = browser.follow(&stack.url(path)).await.pop().unwrap();
                thinks().await;
                let confirmed = stack.phone(name, &page.uuid(), "confirm").await;
                let home = browser.follow(confirmed.json()["location"].as_str().unwrap()).await.pop().unwrap();
                (browser, home)
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_hundred_people_of_one_address_all_log_in_silently() {
    // With the default limits, ten logins a second.
    let stack = all_arrive(Stack::start().await, Duration::from_millis(100), |_| Way::Silent).await;
    // Completed logins do not raise the limit.
    let mut statuses = Vec::new();
    for _ in 0..120 {
        statuses.push(Browser::wechat().get(&stack.url("/_wechat/login")).await.status);
    }
    let admitted = statuses.iter().filter(|status| **status == 302).count();
    assert!((40..=70).contains(&admitted), "{admitted} starts without a completed login");
}

#[tokio::test(flavor = "multi_thread")]
async fn three_hundred_users_of_one_address_all_log_in() {
    let stack = Stack::planned(Plan { scope: "snsapi_userinfo", ..Plan::default() }).await;
    let way = |number| if number % 2 == 0 { Way::Consent } else { Way::Code };
    all_arrive(stack, Duration::from_millis(190), way).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unfinished_logins_of_a_neighbour_stop_no_login() {
    let stack = std::sync::Arc::new(Stack::start().await);
    let neighbour = std::sync::Arc::clone(&stack);
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let stopped = std::sync::Arc::clone(&stop);
    let aimless = tokio::spawn(async move {
        let mut statuses = Vec::new();
        while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
            statuses.push(Browser::wechat().get(&neighbour.url("/_wechat/login")).await.status);
            tokio::time::sleep(Duration::from_millis(150)).await;
        }
        statuses
    });
    for number in 0..60 {
        let mut browser = Browser::wechat();
        stack.log_in(&mut browser, &format!("/{number}")).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let statuses = aimless.await.unwrap();
    assert!(statuses.iter().all(|status| [302, 429].contains(status)), "{statuses:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_host_is_called_so_on_the_page_and_named_in_the_log() {
    let stack = Stack::start().await;
    for (address, status, event) in [(stack.pages, 400, "reject"), (stack.check.parse().unwrap(), 403, "deny")] {
        let host = format!("{event}.example.com");
        let asked = client::compose("GET", "/_wechat/login", &host, &[("accept", client::HTML)]);
        let page = client::raw(address, &asked).await.unwrap();
        assert_eq!(page.status, status, "{page:?}");
        assert!(page.body.contains("没有对应的网站") && !page.body.contains("不完整"), "{page:?}");
        stack.until_log_holds(&format!("\"host\":\"{host}\"")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pages_name_the_application_and_the_account_as_people_do() {
    let image = "https://static.example.com/follow.png";
    let scope = "snsapi_userinfo, require_subscription: true, name: 小明的号, follow_qr: \"https://static.example.com/follow.png\"";
    let app = "  title: 小明的店\n".to_owned();
    let (wechat, more) = (PATIENT.into(), UNLIMITED.into());
    let stack = Stack::planned(Plan { scope, app, simulator: at_once, wechat, more, ..Plan::default() }).await;
    let mut browser = Browser::wechat();
    let asked = browser.follow(&stack.url("/")).await.pop().unwrap();
    assert!(asked.body.contains("登录“小明的店”") && !asked.body.contains("“shop”"), "{asked:?}");
    let page = browser.follow(&asked.button()).await.pop().unwrap();
    assert!(page.status == 403 && page.body.contains("小明的号"), "{page:?}");
    assert!(page.body.contains(&format!("src=\"{image}\"")), "{page:?}");
    assert!(page.header("content-security-policy").ends_with("; img-src https://static.example.com"), "{page:?}");
}
