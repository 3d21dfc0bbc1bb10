//! Callbacks from WeChat: repeated, late, malformed, forged, or in the wrong browser (docs/en/wechat.md, Repeated
//! callbacks). Also logout and return addresses.

use harness::client::{Answer, Browser, Cookie, HTML, WECHAT, compose, raw};
use harness::stack::{PATIENT, Plan, Stack, UNLIMITED};
use harness::{OA, SESSION, WEB};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt as _;
use wechat_simulator::{Effect, Endpoint, Fault, Mangling, Times};

const FLOW: &str = "__Host-wechat_flow";

async fn unlimited() -> Stack {
    Stack::planned(Plan { wechat: PATIENT.into(), more: UNLIMITED.into(), ..Plan::default() }).await
}

/// The number of sessions that have started.
async fn sessions(stack: &Stack) -> f64 {
    stack.metric("wechat_authz_sessions_issued_total{app=\"shop\"}").await
}

/// The value of a query parameter.
fn parameter(address: &str, name: &str) -> String {
    let url = url::Url::parse(address).unwrap();
    url.query_pairs().find(|(key, _)| key == name).unwrap_or_else(|| panic!("no {name} in {address}")).1.into_owned()
}

/// The callback URL with this code and state.
fn callback(stack: &Stack, code: &str, state: &str) -> String {
    stack.url(&format!("/_wechat/callback?code={code}&state={state}"))
}

/// Whether the response is a page without a redirect that sets no cookies and only removes some.
fn stops(answer: &Answer, status: u16) -> bool {
    let sets = answer.set_cookies().any(|line| line.starts_with(SESSION));
    answer.status == status && answer.location().is_empty() && !sets && answer.header("cache-control") == "no-store"
}

/// The session token that a response sets.
fn given_session(answer: &Answer) -> String {
    let line = answer.set_cookies().find(|line| line.starts_with(SESSION)).unwrap_or_else(|| panic!("{answer:?}"));
    line.split(';').next().unwrap().to_owned()
}

/// The number of rejected requests so far, by reason.
#[derive(Default)]
struct Rejections(BTreeMap<&'static str, usize>);

impl Rejections {
    /// Asserts that the metric has counted one more rejection for `reason`, and that an audit line names the page and
    /// the client.
    async fn expect_one_more(&mut self, stack: &Stack, reason: &'static str, page: &str) {
        let count = self.0.entry(reason).or_default();
        *count += 1;
        let app = if reason == "unknown_host" { "" } else { "shop" };
        let series = format!("wechat_authz_page_requests_rejected_total{{app=\"{app}\",reason=\"{reason}\"}}");
        assert_eq!(stack.metric(&series).await, *count as f64, "{series}");
        let begun = Instant::now();
        loop {
            let lines = rejected_lines(stack);
            let lines: Vec<_> = lines.iter().filter(|line| line["reason"] == reason).collect();
            if lines.len() == *count {
                let last = lines.last().unwrap();
                assert_eq!((&last["page"], &last["app"]), (&page.into(), &app.into()), "{last}");
                assert!(last["client"].as_str().unwrap().starts_with("127.0.0."), "{last}");
                break;
            }
            assert!(lines.len() < *count && begun.elapsed() < Duration::from_secs(10), "{reason}: {lines:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// The audit lines of rejected requests.
fn rejected_lines(stack: &Stack) -> Vec<serde_json::Value> {
    let lines = stack.logged();
    let lines = lines.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    lines.filter(|line| line["target"] == "audit" && line["event"] == "reject").collect()
}

/// Whether a response redirects the browser to WeChat.
fn leads_to_wechat(stack: &Stack, answer: &Answer) -> bool {
    let there = format!("{}/connect/", stack.simulator.base_url());
    answer.location().starts_with(&there) && answer.location().ends_with("#wechat_redirect")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_aborted_callback_and_its_repetition_spend_one_code() {
    let stack = Stack::start().await;
    let mut browser = Browser::wechat();
    let back = stack.to_callback(&mut browser, "/a").await;
    stack.simulator.inject(Fault::at(Endpoint::AccessToken, Effect::DelayAfter(Duration::from_millis(700))));
    let cookies: Vec<String> = browser.jar.iter().map(|cookie| format!("{}={}", cookie.name, cookie.value)).collect();
    let lines = [("user-agent", WECHAT), ("accept", HTML), ("cookie", &cookies.join("; "))];
    let target = back.strip_prefix(&stack.origin).unwrap();
    let mut first = tokio::net::TcpStream::connect(stack.edge).await.unwrap();
    first.write_all(&compose("GET", target, &stack.edge.to_string(), &lines)).await.unwrap();
    stack.until_exchanged(1).await;
    drop(first);
    let home = browser.follow(&back).await.pop().unwrap();
    stack.remember(&browser);
    assert_eq!(home.seen("x-wechat-openid"), Some(stack.simulator.openid(OA, "小明")));
    assert_eq!((stack.exchanges().len(), sessions(&stack).await), (1, 1.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exchange_goes_on_when_nobody_waits_for_it_any_more() {
    let stack = Stack::start().await;
    let mut browser = Browser::wechat();
    let back = stack.to_callback(&mut browser, "/a").await;
    stack.simulator.inject(Fault::at(Endpoint::AccessToken, Effect::DelayAfter(Duration::from_millis(300))));
    let mut leaving = browser.clone();
    let address = back.clone();
    let gone = tokio::spawn(async move { leaving.get(&address).await });
    stack.until_exchanged(1).await;
    gone.abort();
    let begun = Instant::now();
    while sessions(&stack).await < 1.0 {
        assert!(begun.elapsed() < Duration::from_secs(5), "the exchange must complete");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let answer = browser.get(&back).await;
    stack.remember(&browser);
    assert_eq!((answer.status, answer.destination()), (303, &*stack.url("/a")));
    assert_eq!((stack.exchanges().len(), sessions(&stack).await), (1, 1.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn repetitions_of_a_callback_share_one_slow_exchange() {
    let stack = Stack::start().await;
    let mut browser = Browser::wechat();
    let back = stack.to_callback(&mut browser, "/a").await;
    stack.simulator.inject(Fault::at(Endpoint::AccessToken, Effect::DelayAfter(Duration::from_secs(2))));
    let from = |last: u8| Browser { from: [127, 0, 0, last].into(), ..browser.clone() };
    let (mut first, mut again, mut elsewhere, mut late) = (from(1), from(1), from(2), from(3));
    let (first, again, elsewhere) = tokio::join!(first.get(&back), again.get(&back), elsewhere.get(&back));
    // After the attempt ends, a client with the attempt's cookie still gets the same response.
    let late = late.get(&back).await;
    for answer in [&first, &again, &elsewhere, &late] {
        assert_eq!((answer.status, answer.destination()), (303, &*stack.url("/a")));
        assert_eq!(given_session(answer), given_session(&first));
    }
    assert_eq!((stack.exchanges().len(), sessions(&stack).await), (1, 1.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_codes_for_one_state_make_one_session() {
    for first_is_bad in [false, true] {
        let stack = Stack::start().await;
        let mut browser = Browser::wechat();
        let link = browser.get(&stack.url("/_wechat/login?return_to=/a")).await.location().to_owned();
        let ours = stack.url("/_wechat/callback?");
        let mut addresses = Vec::new();
        for _ in 0..2 {
            let last = browser.follow_until(&link, |next| next.starts_with(&ours)).await.pop().unwrap();
            addresses.push(last.location().to_owned());
        }
        assert_ne!(addresses[0], addresses[1]);
        stack.simulator.inject(Fault::at(Endpoint::AccessToken, Effect::DelayBefore(Duration::from_millis(400))));
        if first_is_bad {
            stack.simulator.inject(Fault::at(Endpoint::AccessToken, Effect::Errcode(40029)));
        }
        let (mut one, first_address) = (browser.clone(), addresses[0].clone());
        let first = tokio::spawn(async move { one.get(&first_address).await });
        stack.until_exchanged(1).await;
        let second = browser.get(&addresses[1]).await;
        let first = first.await.unwrap();
        assert_eq!((second.status, second.destination()), (303, &*stack.url("/a")));
        if first_is_bad {
            assert!(leads_to_wechat(&stack, &first), "{first:?}");
        } else {
            assert_eq!(given_session(&first), given_session(&second));
        }
        assert_eq!((stack.exchanges().len(), sessions(&stack).await), (if first_is_bad { 2 } else { 1 }, 1.0));
        assert!(browser.get(&stack.url("/a")).await.seen("x-wechat-openid").is_some());
        stack.remember(&browser);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spent_code_with_another_state_restarts_the_login_twice() {
    let stack = Stack::start().await;
    let mut browser = Browser::wechat();
    let back = stack.to_callback(&mut browser, "/a").await;
    let code = parameter(&back, "code");
    // Two tabs have two states, and WeChat sends the same code with both.
    let other = parameter(browser.get(&stack.url("/_wechat/login?return_to=/b")).await.location(), "state");
    assert_eq!(browser.get(&back).await.status, 303);
    let answers = browser.follow(&callback(&stack, &code, &other)).await;
    assert!(leads_to_wechat(&stack, &answers[0]));
    assert_eq!(answers.last().unwrap().json()["target"], "/b");
    stack.remember(&browser);
    // If WeChat always sends that code, the browser is redirected to WeChat twice and then gets a page.
    let mut state = parameter(browser.get(&stack.url("/_wechat/login?go=1&return_to=/c")).await.location(), "state");
    for _ in 0..2 {
        let restarted = browser.get(&callback(&stack, &code, &state)).await;
        assert!(restarted.status == 303 && leads_to_wechat(&stack, &restarted), "{restarted:?}");
        state = parameter(restarted.location(), "state");
    }
    let page = browser.get(&callback(&stack, &code, &state)).await;
    assert!(stops(&page, 429) && !page.header("retry-after").is_empty(), "{page:?}");
    assert_eq!(stack.exchanges().len(), 1 + 2 + 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_callback_fetched_by_others_spends_and_reveals_nothing() {
    let stack = Stack::start().await;
    let mut somebody = Browser::wechat();
    stack.hand_to(&mut somebody, "小红");
    stack.log_in(&mut somebody, "/").await;
    let spent = stack.exchanges().len();
    let mut browser = Browser::wechat();
    let back = stack.to_callback(&mut browser, "/secret-place").await;
    let crawler = || Browser { from: [127, 0, 0, 9].into(), ..Browser::new("Mozilla/5.0 (Linux) MicroMessenger/6.2") };
    for after in [false, true] {
        let page = crawler().get(&back).await;
        assert!(stops(&page, 400) && page.set_cookies().next().is_none(), "{page:?}");
        assert!(!page.body.contains("secret-place"));
        let head = crawler().ask("HEAD", &back, &[], "").await;
        assert!(head.status == 200 && head.set_cookies().next().is_none(), "{head:?}");
        // A logged-in user keeps the session, and the page does not reveal the target of the other attempt.
        let (jar, page) = (somebody.jar.clone(), somebody.get(&back).await);
        assert!(stops(&page, 200) && !page.body.contains("secret-place") && somebody.jar == jar, "{page:?}");
        assert_eq!(stack.exchanges().len(), spent + usize::from(after));
        if !after {
            assert_eq!(browser.get(&back).await.destination(), stack.url("/secret-place"));
            stack.remember(&browser);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_callbacks_make_one_exchange_and_one_session() {
    let stack = Arc::new(unlimited().await);
    let mut browser = Browser::wechat();
    let back = stack.to_callback(&mut browser, "/a").await;
    stack.simulator.inject(Fault::at(Endpoint::AccessToken, Effect::DelayAfter(Duration::from_secs(1))));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let (mut browser, back) = (browser.clone(), back.clone());
        tasks.spawn(async move { browser.get(&back).await });
    }
    let answers = tasks.join_all().await;
    let (good, bad): (Vec<_>, Vec<_>) =
        answers.iter().partition(|answer| answer.status == 303 && answer.destination() == stack.url("/a"));
    assert!(bad.is_empty(), "{} of {} failed, the first: {:?}", bad.len(), answers.len(), bad.first());
    let given: std::collections::HashSet<String> = good.into_iter().map(given_session).collect();
    assert_eq!((answers.len(), given.len()), (100, 1));
    assert_eq!((stack.exchanges().len(), sessions(&stack).await), (1, 1.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_envoy_gives_up_no_callback() {
    let stack = Arc::new(unlimited().await);
    let mut browser = Browser::wechat();
    let back = stack.to_callback(&mut browser, "/a").await;
    stack.simulator.inject(Fault::at(Endpoint::AccessToken, Effect::DelayAfter(Duration::from_secs(1))));
    let starving = Arc::clone(&stack);
    let starved = tokio::spawn(async move {
        for _ in 0..4 {
            starving.signal_envoy("STOP");
            tokio::time::sleep(Duration::from_millis(400)).await;
            starving.signal_envoy("CONT");
            tokio::time::sleep(Duration::from_millis(4)).await;
        }
    });
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let (mut browser, back) = (browser.clone(), back.clone());
        tasks.spawn(async move { browser.get(&back).await });
    }
    let answers = tasks.join_all().await;
    starved.await.unwrap();
    let bad: Vec<&Answer> = answers.iter().filter(|answer| answer.status != 303).collect();
    assert!(bad.is_empty(), "{} of {} were abandoned, the first: {:?}", bad.len(), answers.len(), bad.first());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_callback_continues_or_shows_a_page() {
    let stack = Stack::start().await;
    let mut browser = Browser::wechat();
    let back = stack.to_callback(&mut browser, "/a?b=c").await;
    assert_eq!(browser.get(&back).await.status, 303);
    stack.remember(&browser);
    let again = browser.get(&back).await;
    assert_eq!((again.status, again.destination()), (303, &*stack.url("/a?b=c")));
    assert!(again.set_cookies().next().is_none() && again.header("cache-control") == "no-store");
    browser.jar.retain(|cookie| cookie.name != SESSION);
    let page = browser.get(&back).await;
    assert!(stops(&page, 400) && page.button().contains("/_wechat/login?go=1"), "{page:?}");
    assert_eq!(stack.exchanges().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_callback_is_a_page_and_wechat_hears_nothing() {
    let stack = unlimited().await;
    let mut browser = Browser::wechat();
    let back = stack.to_callback(&mut browser, "/a").await;
    let (code, state) = (parameter(&back, "code"), parameter(&back, "state"));
    let mut other = Browser::wechat();
    let foreign = stack.to_callback(&mut other, "/b").await;
    let (foreign_code, foreign_state) = (parameter(&foreign, "code"), parameter(&foreign, "state"));
    let renamed = {
        // The name of this attempt's cookie with the sealed value of another attempt.
        let mut browser = browser.clone();
        let sealed = other.jar.iter().find(|cookie| cookie.name.starts_with(FLOW)).unwrap().value.clone();
        browser.jar.iter_mut().filter(|cookie| cookie.name.starts_with(FLOW)).for_each(|c| c.value.clone_from(&sealed));
        browser
    };
    let sender = |browser: &Browser| browser.clone();
    let mut rejections = Rejections::default();
    for (why, mut from, query, reason) in [
        ("no cookie", Browser::wechat(), format!("code={code}&state={state}"), "state_unknown"),
        ("no cookie and no code", Browser::wechat(), format!("state={state}"), "state_unknown"),
        ("another browser's cookies", sender(&other), format!("code={code}&state={state}"), "state_unknown"),
        ("another flow's seal", renamed, format!("code={code}&state={state}"), "state_unknown"),
        (
            "another browser's callback",
            sender(&browser),
            format!("code={foreign_code}&state={foreign_state}"),
            "state_unknown",
        ),
        ("another browser's state", sender(&browser), format!("code={code}&state={foreign_state}"), "state_unknown"),
        ("no state", sender(&browser), format!("code={code}"), "state_malformed"),
        ("an empty state", sender(&browser), format!("code={code}&state="), "state_malformed"),
        ("two states", sender(&browser), format!("code={code}&state={state}&state={foreign_state}"), "parameter_twice"),
        (
            "two states, the right one last",
            sender(&browser),
            format!("code={code}&state={foreign_state}&state={state}"),
            "parameter_twice",
        ),
        ("two codes", sender(&browser), format!("code={code}&code={foreign_code}&state={state}"), "parameter_twice"),
        (
            "a state in capitals",
            sender(&browser),
            format!("code={code}&state={}", state.to_uppercase()),
            "state_malformed",
        ),
        ("a longer state", sender(&browser), format!("code={code}&state={state}x"), "state_malformed"),
        ("a space after the state", sender(&browser), format!("code={code}&state={state}+"), "state_malformed"),
        ("a shorter state", sender(&browser), format!("code={code}&state={}", &state[..31]), "state_malformed"),
        (
            "the cookie's part of the state",
            sender(&browser),
            format!("code={code}&state={}", &state[..8]),
            "state_malformed",
        ),
        (
            "the same start of the state",
            sender(&browser),
            format!("code={code}&state={}{}", &state[..8], &foreign_state[8..]),
            "state_unknown",
        ),
        ("STATE", sender(&browser), format!("code={code}&STATE={state}"), "state_malformed"),
        ("a code that is none", sender(&browser), format!("code={code}%00&state={state}"), "code_malformed"),
        ("a code too long", sender(&browser), format!("code={}&state={state}", "a".repeat(513)), "code_malformed"),
        (
            "a query too long",
            sender(&browser),
            format!("code={code}&state={state}&x={}", "a".repeat(9_000)),
            "query_too_long",
        ),
        ("no query", sender(&browser), String::new(), "state_malformed"),
    ] {
        let page = from.get(&stack.url(&format!("/_wechat/callback?{query}"))).await;
        assert!(stops(&page, 400), "{why}: {page:?}");
        assert!(from.cookie(SESSION).is_none() && !page.body.contains(&code), "{why}");
        assert_eq!(stack.exchanges().len(), 0, "{why}");
        rejections.expect_one_more(&stack, reason, "callback").await;
    }
    // The rejected requests have used up neither code nor attempt.
    for (mut browser, back, target) in [(browser, back, "/a"), (other, foreign, "/b")] {
        assert_eq!(browser.follow(&back).await.pop().unwrap().json()["target"], target);
        stack.remember(&browser);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_other_rejection_of_a_page_leaves_a_trace() {
    let stack = Stack::planned(Plan { clock: true, more: UNLIMITED.into(), ..Plan::default() }).await;
    let mut rejections = Rejections::default();
    // A logout request from another site.
    let mut browser = Browser::wechat();
    stack.log_in(&mut browser, "/a").await;
    for (method, site) in [("POST", "cross-site"), ("POST", "same-site"), ("GET", "cross-site")] {
        let answer = browser.ask(method, &stack.url("/_wechat/logout"), &[("sec-fetch-site", site)], "").await;
        assert_ne!(answer.status, 303, "{answer:?}");
        rejections.expect_one_more(&stack, "cross_site", "logout").await;
    }
    // A forged callback in a logged-in browser.
    let forged = callback(&stack, "071Abc", "9f2c7b3e51d84a60b7c1e2d3f4a5b6c7");
    browser.get(&forged).await;
    rejections.expect_one_more(&stack, "state_unknown", "callback").await;
    stack.remember(&browser);
    // Two cookies for one attempt, a cookie of another application, and a cookie that is older than its attempt.
    let mut browser = Browser::wechat();
    let back = stack.to_callback(&mut browser, "/a").await;
    let attempt = browser.jar.iter().find(|cookie| cookie.name.starts_with(FLOW)).unwrap().clone();
    let mut twice = browser.clone();
    twice.jar.push(Cookie { value: "another".into(), ..attempt.clone() });
    twice.get(&back).await;
    rejections.expect_one_more(&stack, "attempt_conflict", "callback").await;
    let mut foreign = browser.clone();
    foreign.jar.retain(|cookie| cookie.name != attempt.name);
    foreign.jar.push(Cookie { value: attempt.value.chars().rev().collect(), ..attempt });
    foreign.get(&back).await;
    rejections.expect_one_more(&stack, "attempt_foreign", "callback").await;
    stack.set_clock(11 * 60);
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    let page = browser.get(&back).await;
    assert!(stops(&page, 400), "{page:?}");
    rejections.expect_one_more(&stack, "attempt_expired", "callback").await;
    // An unknown host, as a misconfigured gateway sends it.
    let asked = compose("GET", "/_wechat/login", "elsewhere.example", &[("user-agent", WECHAT)]);
    assert_eq!(raw(stack.pages, &asked).await.unwrap().status, 400);
    rejections.expect_one_more(&stack, "unknown_host", "login").await;
    assert_eq!(stack.exchanges().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_forged_callbacks_does_not_flood_the_log() {
    const FLOOD: usize = 1_000;
    let stack = unlimited().await;
    let forged = callback(&stack, "071Abc", "9f2c7b3e51d84a60b7c1e2d3f4a5b6c7");
    let begun = Instant::now();
    let senders = (0..20).map(|_| {
        let forged = forged.clone();
        tokio::spawn(async move {
            for _ in 0..FLOOD / 20 {
                assert_eq!(Browser::wechat().get(&forged).await.status, 400);
            }
        })
    });
    for sender in senders.collect::<Vec<_>>() {
        sender.await.unwrap();
    }
    let seconds = begun.elapsed().as_secs() as usize + 2;
    let series = "wechat_authz_page_requests_rejected_total{app=\"shop\",reason=\"state_unknown\"}";
    assert_eq!(stack.metric(series).await, FLOOD as f64);
    tokio::time::sleep(Duration::from_millis(500)).await;
    let lines = rejected_lines(&stack).len();
    assert!(lines >= 100 && lines <= 100 * seconds && lines < FLOOD, "{lines} lines in {seconds} s");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_mangled_callback_ends_in_a_page_or_a_login() {
    let stack = unlimited().await;
    for (mangling, ends, exchanges) in [
        (Mangling::NoCode, 403, 0),
        (Mangling::NoState, 400, 0),
        (Mangling::StateChanged, 400, 0),
        (Mangling::StateAppended("lang=zh".into()), 400, 0),
        (Mangling::TwoCodes, 400, 0),
        (Mangling::CodeTwice, 200, 1),
        (Mangling::StateTwice, 200, 1),
        (Mangling::Extras, 200, 1),
        // A code of another application: WeChat rejects it, and one more redirect completes the login.
        (Mangling::ForeignCode, 200, 2),
    ] {
        stack.simulator.clear_journal();
        stack.simulator.inject(Fault::at(Endpoint::Callback, Effect::Mangle(mangling.clone())));
        let mut browser = Browser::wechat();
        let end = browser.follow(&stack.url("/a")).await.pop().unwrap();
        assert_eq!((end.status, stack.exchanges().len()), (ends, exchanges), "{mangling:?}: {end:?}");
        assert_eq!(browser.cookie(SESSION).is_some(), ends == 200, "{mangling:?}");
        stack.remember(&browser);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attackers_callback_does_not_log_the_victim_in() {
    let stack = Stack::start().await;
    let mut attacker = Browser::wechat();
    stack.hand_to(&mut attacker, "小红");
    let bait = stack.to_callback(&mut attacker, "/a").await;
    // Three victims: one without a login, one with an attempt in progress and one who is logged in.
    let mut nobody = Browser::wechat();
    let mut busy = Browser::wechat();
    let own = stack.to_callback(&mut busy, "/mine").await;
    let mut known = Browser::wechat();
    stack.log_in(&mut known, "/").await;
    let mixed = callback(&stack, &parameter(&bait, "code"), &parameter(&own, "state"));
    assert!(stops(&nobody.get(&bait).await, 400) && nobody.jar.is_empty());
    assert!(stops(&busy.get(&bait).await, 400) && busy.cookie(SESSION).is_none());
    assert!(stops(&known.get(&bait).await, 200));
    assert_eq!(stack.exchanges().len(), 1, "the attacker's code must stay unused");
    let openid = Some(stack.simulator.openid(OA, "小明"));
    assert_eq!(known.get(&stack.url("/")).await.seen("x-wechat-openid"), openid);
    assert_eq!(busy.follow(&own).await.pop().unwrap().seen("x-wechat-openid"), openid);
    stack.remember(&busy);
    // The attacker's code with the victim's state, which only an attacker who can read the victim's URL could send. The
    // completed attempt still returns the victim's own session.
    let again = busy.get(&mixed).await;
    assert_eq!((again.status, again.destination()), (303, &*stack.url("/mine")));
    assert_eq!(busy.get(&stack.url("/")).await.seen("x-wechat-openid"), openid);
    assert_eq!(stack.exchanges().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_of_one_login_method_is_rejected_by_the_other() {
    let stack = unlimited().await;
    for from_website in [true, false] {
        stack.simulator.clear_journal();
        let mut browser = Browser::desktop();
        let page = browser.follow(&stack.url("/")).await.pop().unwrap();
        let confirmed =
            stack.phone("小红", &page.uuid(), "confirm").await.json()["location"].as_str().unwrap().to_owned();
        browser.user_agent = WECHAT.to_owned();
        let inside = stack.to_callback(&mut browser, "/").await;
        let (code_of, state_of, appid) =
            if from_website { (&confirmed, &inside, OA) } else { (&inside, &confirmed, WEB) };
        let answer = browser.get(&callback(&stack, &parameter(code_of, "code"), &parameter(state_of, "state"))).await;
        assert!(leads_to_wechat(&stack, &answer) && browser.cookie(SESSION).is_none(), "{answer:?}");
        let asked = stack.exchanges();
        let asked_for: Vec<&str> =
            asked[0].query.iter().filter(|(name, _)| name == "appid").map(|(_, value)| value.as_str()).collect();
        assert_eq!((asked.len(), asked_for), (1, vec![appid]), "the exchange must use the application of the state");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exchange_that_breaks_late_restarts_the_login_silently() {
    let stack = Stack::start().await;
    stack.simulator.inject(Fault::at(Endpoint::AccessToken, Effect::ResetAfter));
    let mut browser = Browser::wechat();
    let answers = browser.follow(&stack.url("/a?b")).await;
    stack.remember(&browser);
    assert!(answers.iter().all(|answer| answer.status < 400), "no page may appear in between");
    assert_eq!(answers.last().unwrap().json()["target"], "/a?b");
    let codes: Vec<String> = stack
        .exchanges()
        .iter()
        .map(|entry| entry.query.iter().find(|(name, _)| name == "code").unwrap().1.clone())
        .collect();
    assert!(codes.len() == 2 && codes[0] != codes[1], "each code may be exchanged only once");
    assert_eq!(sessions(&stack).await, 1.0);
}

/// Runs a login while WeChat answers the code exchange with this effect, first once and then always.
async fn ends_well_or_on_a_page(stack: &Stack, effect: &Effect, exchanges: usize) {
    stack.simulator.clear_journal();
    stack.simulator.inject(Fault::at(Endpoint::AccessToken, effect.clone()));
    let mut browser = Browser::wechat();
    let answers = browser.follow(&stack.url("/a")).await;
    stack.remember(&browser);
    assert!(answers.iter().all(|answer| answer.status < 400), "{effect:?}: {answers:?}");
    let openid = answers.last().unwrap().seen("x-wechat-openid");
    assert_eq!(openid, Some(stack.simulator.openid(OA, "小明")), "{effect:?}");
    assert_eq!(stack.exchanges().len(), exchanges, "{effect:?}");
    // If the error persists, the browser gets a page after three codes.
    if exchanges > 1 {
        stack.simulator.clear_journal();
        stack.simulator.inject(Fault::at(Endpoint::AccessToken, effect.clone()).times(Times::FOREVER));
        let mut browser = Browser::wechat();
        let begun = Instant::now();
        let page = browser.follow(&stack.url("/a")).await.pop().unwrap();
        let ends = if *effect == Effect::ErrcodeAfter(-1) { 503 } else { 429 };
        assert!(stops(&page, ends) && browser.cookie(SESSION).is_none(), "{effect:?}: {page:?}");
        assert!(stack.exchanges().len() <= 3, "{effect:?}: {}", stack.exchanges().len());
        assert!(begun.elapsed() < Duration::from_secs(8), "{effect:?} took {:?}", begun.elapsed());
        stack.simulator.clear_faults();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_wechat_answers_to_a_code_ends_in_a_login_or_a_page() {
    let stack = unlimited().await;
    let fields = |value: serde_json::Value| Effect::Replace(value.as_object().unwrap().clone());
    let names = |name: &str| vec![name.to_owned()];
    for (effect, exchanges) in [
        // Unusual but readable.
        (Effect::ByteOrderMark, 1),
        (Effect::NumbersAsStrings, 1),
        (Effect::UnknownKeys, 1),
        (Effect::Null(names("unionid")), 1),
        (Effect::ContentType("text/html".into()), 1),
        (Effect::Chunked, 1),
        (Effect::Drip { pieces: 10, over: Duration::from_millis(200) }, 1),
        // Unusable: the browser silently fetches a new code.
        (Effect::TruncatedJson, 2),
        (Effect::Html, 2),
        (Effect::EmptyBody, 2),
        (Effect::TrailingGarbage, 2),
        (Effect::Null(names("openid")), 2),
        (Effect::Missing(names("openid")), 2),
        (fields(serde_json::json!({ "openid": "" })), 2),
        (fields(serde_json::json!({ "openid": "o/../../admin" })), 2),
        (fields(serde_json::json!({ "openid": 7 })), 2),
        (fields(serde_json::json!({ "unionid": ["u"] })), 2),
        (fields(serde_json::json!({ "errcode": "none" })), 2),
        (Effect::HugeBody, 2),
        (Effect::Gzip, 2),
        (Effect::LengthTooLong, 2),
        (Effect::LengthTooShort, 2),
        (Effect::CloseMidBody, 2),
        (Effect::Close, 2),
        (Effect::ResetBefore, 2),
        (Effect::ResetAfter, 2),
        (Effect::Errcode(40029), 2),
        (Effect::Errcode(40163), 2),
        (Effect::Errcode(42003), 2),
        // WeChat uses up the code and answers "busy". The repeated exchange returns 40163.
        (Effect::ErrcodeAfter(-1), 3),
    ] {
        ends_well_or_on_a_page(&stack, &effect, exchanges).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_comes_too_late_is_none() {
    let wechat = format!("{PATIENT}  exchange_timeout: 500ms\n");
    let stack = Stack::planned(Plan { wechat, more: UNLIMITED.into(), ..Plan::default() }).await;
    let long = Duration::from_secs(30);
    for effect in [Effect::DelayBefore(long), Effect::DelayAfter(long), Effect::Drip { pieces: 10, over: long }] {
        ends_well_or_on_a_page(&stack, &effect, 2).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hanging_wechat_costs_seconds_and_no_connection() {
    let stack = Stack::start().await;
    let mut browser = Browser::wechat();
    let back = stack.to_callback(&mut browser, "/a").await;
    stack.simulator.inject(Fault::at(Endpoint::AccessToken, Effect::DelayBefore(Duration::from_secs(60))));
    let begun = Instant::now();
    let answer = browser.get(&back).await;
    assert!(answer.status == 303 && leads_to_wechat(&stack, &answer), "{answer:?}");
    assert!((4.5..8.0).contains(&begun.elapsed().as_secs_f64()), "{:?}", begun.elapsed());
    let home = browser.follow(answer.location()).await.pop().unwrap();
    stack.remember(&browser);
    assert_eq!(home.json()["target"], "/a");
}

#[tokio::test(flavor = "multi_thread")]
async fn codes_that_expire_on_the_way_start_over_twice_and_then_stop() {
    let stack = Stack::start().await;
    let expire = || stack.simulator.advance(Duration::from_secs(301));
    // A single error is invisible to the user.
    let mut browser = Browser::wechat();
    let back = stack.to_callback(&mut browser, "/a").await;
    expire();
    let home = browser.follow(&back).await.pop().unwrap();
    stack.remember(&browser);
    assert_eq!((home.json()["target"].as_str(), stack.exchanges().len()), (Some("/a"), 2));
    // If the error persists: three codes, then a page, and no redirects until the user clicks the button.
    let mut browser = Browser::wechat();
    let mut back = stack.to_callback(&mut browser, "/a").await;
    let ours = stack.url("/_wechat/callback?");
    for _ in 0..2 {
        expire();
        let hops = browser.follow_until(&back, |next| next.starts_with(&ours)).await;
        back = hops.last().unwrap().location().to_owned();
        assert!(back.starts_with(&ours), "{hops:?}");
    }
    expire();
    let page = browser.get(&back).await;
    assert!(stops(&page, 429), "{page:?}");
    assert_eq!(stack.exchanges().len(), 2 + 3);
    let mut rejections = Rejections::default();
    rejections.expect_one_more(&stack, "loop_stopped", "callback").await;
    let visited = browser.follow(&stack.url("/a")).await.pop().unwrap();
    rejections.expect_one_more(&stack, "loop_stopped", "login").await;
    assert!(stops(&visited, 429) && visited.body.contains("Cookie"), "{visited:?}");
    assert_eq!(stack.exchanges().len(), 2 + 3);
    let home = browser.follow(&page.button()).await.pop().unwrap();
    stack.remember(&browser);
    assert_eq!(home.seen("x-wechat-openid"), Some(stack.simulator.openid(OA, "小明")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_that_drops_the_session_stops_on_a_page() {
    let stack = Stack::start().await;
    let mut browser = Browser::wechat();
    let mut logins = 0;
    let page = loop {
        assert!(logins < 20, "the redirects do not end");
        let last = browser
            .follow_until(&stack.url("/a"), |next| next.trim_end_matches('#') == stack.url("/a"))
            .await
            .pop()
            .unwrap();
        stack.remember(&browser);
        // This browser does not store the session cookie.
        browser.jar.retain(|cookie| cookie.name != SESSION);
        match last.status {
            303 => logins += 1,
            _ => break last,
        }
    };
    assert!(stops(&page, 429) && page.body.contains("Cookie"), "{page:?}");
    assert_eq!((logins, stack.exchanges().len(), stack.upstream.count()), (6, 6, 0));
    Rejections::default().expect_one_more(&stack, "loop_stopped", "login").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_login_ends_the_first_session_even_if_it_comes_twice() {
    let stack = Stack::start().await;
    let mut browser = Browser::wechat();
    stack.log_in(&mut browser, "/").await;
    let mut former = browser.clone();
    stack.hand_to(&mut browser, "小红");
    let back = stack.to_callback(&mut browser, "/_wechat/login?go=1&return_to=/").await;
    assert_eq!(former.get(&stack.url("/")).await.status, 200, "only a successful login may end the previous session");
    let (mut twice, mut again) = (browser.clone(), browser.clone());
    let (first, second) = tokio::join!(twice.get(&back), again.get(&back));
    assert_eq!(given_session(&first), given_session(&second));
    assert_ne!(given_session(&first), format!("{SESSION}={}", former.cookie(SESSION).unwrap()));
    stack.remember(&twice);
    let home = twice.get(&stack.url("/")).await;
    assert_eq!(home.seen("x-wechat-openid"), Some(stack.simulator.openid(OA, "小红")));
    assert_eq!(former.get(&stack.url("/")).await.status, 302);
    assert_eq!(former.fetch(&stack.url("/")).await.status, 401);
    assert_eq!(former.fetch(&stack.url("/_wechat/session")).await.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_confirmed_logout_ends_the_session_everywhere() {
    let stack = unlimited().await;
    let (own, own_page) = (stack.origin.clone(), stack.url("/page"));
    for (method, lines, ends) in [
        ("POST", vec![("sec-fetch-site", "same-origin")], true),
        ("POST", vec![("origin", &*own)], true),
        ("POST", vec![], true),
        ("POST", vec![("sec-fetch-site", "cross-site")], false),
        ("POST", vec![("sec-fetch-site", "same-site")], false),
        ("POST", vec![("origin", "https://evil.example")], false),
        ("POST", vec![("origin", "null")], false),
        ("GET", vec![("sec-fetch-site", "same-origin")], true),
        // A typed address, or a link in another program.
        ("GET", vec![("sec-fetch-site", "none")], false),
        ("GET", vec![("referer", &*own_page)], true),
        ("GET", vec![("sec-fetch-site", "cross-site")], false),
        ("GET", vec![("sec-fetch-site", "same-site")], false),
        ("GET", vec![("referer", "https://evil.example/")], false),
        ("GET", vec![], false),
    ] {
        let why = format!("{method} {lines:?}");
        let mut browser = Browser::wechat();
        stack.log_in(&mut browser, "/").await;
        let mut stolen = browser.clone();
        let mut lines = lines;
        lines.push(("accept", HTML));
        let page = browser.ask(method, &stack.url("/_wechat/logout?return_to=/"), &lines, "").await;
        assert!(
            page.status == 200 && page.location().is_empty() && page.header("refresh").is_empty(),
            "{why}: {page:?}"
        );
        assert_eq!(browser.cookie(SESSION).is_none(), ends, "{why}");
        assert_eq!(page.body.contains("<form method=\"post\""), !ends, "{why}: confirmation page");
        let (as_page, as_data) = if ends { (302, 401) } else { (200, 200) };
        assert_eq!(stolen.get(&stack.url("/")).await.status, as_page, "{why}: the old cookie");
        assert_eq!(stolen.fetch(&stack.url("/")).await.status, as_data, "{why}: the old cookie");
        assert_eq!(stolen.fetch(&stack.url("/_wechat/session")).await.status, as_data, "{why}: the old cookie");
        let renewed = stolen.get(&stack.url("/_wechat/renew")).await;
        assert_eq!(renewed.set_cookies().next().is_none(), ends, "{why}: renewal with the old cookie");
    }
    // A logout without a session succeeds.
    let mut nobody = Browser::wechat();
    let page = nobody.ask("POST", &stack.url("/_wechat/logout"), &[("accept", HTML)], "").await;
    assert!(page.status == 200 && page.location().is_empty());
}

/// Known patterns of open redirects (docs/en/threat-model.md, Return addresses) and the expected target of each.
const TARGETS: [(&str, &str); 67] = [
    ("/", "/"),
    ("/a/b?c=d&e=%2F", "/a/b?c=d&e=%2F"),
    ("/%E4%B8%AD", "/%E4%B8%AD"),
    ("/a?next=//evil.example", "/a?next=//evil.example"),
    ("/a?code=1&x=2&state=3&from=timeline&isappinstalled=0&nsukey=a&wxsigntext=b", "/a?code=1&x=2&state=3"),
    ("/list?state=open&from=2026-01-01&code=600519&x=1", "/list?state=open&from=2026-01-01&code=600519&x=1"),
    ("/商品", "/%E5%95%86%E5%93%81"),
    ("/a#/orders/42", "/a#/orders/42"),
    ("/_wechatx", "/_wechatx"),
    ("", "/"),
    ("evil.example", "/"),
    ("//evil.example", "/"),
    ("///evil.example", "/"),
    ("////evil.example", "/"),
    ("/\\evil.example", "/"),
    ("\\\\evil.example", "/"),
    ("\\/evil.example", "/"),
    ("/%2fevil.example", "/"),
    ("/%5cevil.example", "/"),
    ("/%09/evil.example", "/"),
    ("/\t/evil.example", "/"),
    ("/%0d%0aLocation:%20https://evil.example", "/"),
    ("/\r\nLocation: https://evil.example", "/"),
    ("/%00", "/"),
    ("/.//evil.example", "/"),
    ("/..//evil.example", "/"),
    ("/%2e%2e//evil.example", "/"),
    ("/a/..//evil.example", "/"),
    ("/a/..%2f%2fevil.example", "/"),
    ("/%252f%252fevil.example", "/"),
    ("/%255cevil.example", "/"),
    ("/%252e%252e//evil.example", "/"),
    ("/ /evil.example", "/"),
    ("http:evil.example", "/"),
    ("https:evil.example", "/"),
    ("https:/evil.example", "/"),
    ("https:///evil.example", "/"),
    ("https://evil.example/", "/"),
    ("HTTPS://evil.example/", "/"),
    ("//us@evil.example", "/"),
    ("https://127.0.0.1@evil.example/", "/"),
    ("https://127.0.0.1.evil.example/", "/"),
    ("https://evil.example#127.0.0.1", "/"),
    ("https://2130706433/", "/"),
    ("https://[::ffff:7f00:1]/", "/"),
    ("//２１６.５８.２１４.２２７", "/"),
    ("//evil。example", "/"),
    ("/\u{200b}/evil.example", "/%E2%80%8B/evil.example"),
    ("\u{feff}//evil.example", "/"),
    ("javascript:alert(1)", "/"),
    ("java\tscript:alert(1)", "/"),
    ("JAVASCRIPT:alert(1)", "/"),
    (" javascript:alert(1)", "/"),
    ("data:text/html,x", "/"),
    ("vbscript:x", "/"),
    ("/%c0%af/evil.example#", "/%c0%af/evil.example"),
    ("/a#//evil.example", "/a#//evil.example"),
    ("/_wechat", "/"),
    ("/_wechat/logout", "/"),
    ("/_wechat/callback?code=a&state=b", "/"),
    ("/_wechat/login?return_to=//evil.example", "/"),
    ("/%5fwechat/logout", "/"),
    ("/_WECHAT/logout", "/"),
    ("/a/../_wechat/logout", "/"),
    ("/%255fwechat/logout", "/"),
    ("/./_wechat/logout", "/"),
    ("/_wechat;x/logout", "/"),
];

#[tokio::test(flavor = "multi_thread")]
async fn return_to_never_leaves_the_application() {
    let stack = unlimited().await;
    let mut known = Browser::wechat();
    stack.log_in(&mut known, "/").await;
    for (wanted, path) in TARGETS {
        let query: String = url::form_urlencoded::byte_serialize(wanted.as_bytes()).collect();
        let mut browser = Browser::wechat();
        let back = stack.to_callback(&mut browser, &format!("/_wechat/login?return_to={query}")).await;
        let answer = browser.get(&back).await;
        stack.remember(&browser);
        assert_eq!((answer.status, answer.destination()), (303, &*stack.url(path)), "{wanted:?}");
        assert!(answer.location().contains('#'), "{wanted:?}: a browser would keep #wechat_redirect");
        assert_eq!(answer.header("cache-control"), "no-store");
        assert_eq!(answer.header("referrer-policy"), "no-referrer");
        let renewed = known.get(&stack.url(&format!("/_wechat/renew?return_to={query}"))).await;
        let goes_home = path == "/";
        assert!(renewed.status == 303 && (renewed.location() == stack.url("/")) == goes_home, "renewal, {wanted:?}");
        assert!(renewed.location().starts_with(&stack.url("/")), "renewal, {wanted:?}");
        // Host headers from the client have no effect on the target.
        let mut asked = Browser::wechat();
        asked.headers.push(("x-forwarded-host".into(), "evil.example".into()));
        asked.headers.push(("x-forwarded-proto".into(), "https".into()));
        asked.headers.push(("forwarded".into(), "host=evil.example".into()));
        let sent = asked.get(&stack.url(&format!("/_wechat/login?go=1&return_to={query}"))).await;
        assert!(leads_to_wechat(&stack, &sent) && !sent.location().contains("evil.example"), "{sent:?}");
        assert_eq!(parameter(sent.location(), "redirect_uri"), stack.url("/_wechat/callback"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_failure_the_button_leads_where_the_person_was_going() {
    let stack = Stack::start().await;
    let mut browser = Browser::wechat();
    let login = browser.get(&stack.url("/_wechat/login?return_to=%2Forders%3Fpage%3D2")).await;
    let state = login.location().split("state=").nth(1).unwrap().split('#').next().unwrap();
    let denied = browser.get(&stack.url(&format!("/_wechat/callback?state={state}"))).await;
    assert_eq!(denied.status, 403, "{denied:?}");
    assert!(denied.body.contains("return_to=%2Forders%3Fpage%3D2"), "{}", denied.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_way_back_is_the_way_that_was_asked_for() {
    let stack = unlimited().await;
    for path in [
        "/list?state=open&from=2026-01-01&code=600519&x=1",
        "/list?x=1&code=600519&state=open",
        "/?redirect=https%3A%2F%2Fshop.example.com%2F",
        "/a?b&&c=&d==e;f",
        &format!("/long?{}", "q=%E5%95%86&".repeat(180)),
        &format!("/longer?{}", "a".repeat(7_000)),
    ] {
        let mut browser = Browser::wechat();
        let home = stack.log_in(&mut browser, path).await;
        assert_eq!(home.json()["target"], *path);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_beyond_the_bound_gets_a_page_that_says_so() {
    let stack = unlimited().await;
    let long = format!("/{}", "a".repeat(9_000));
    let mut browser = Browser::wechat();
    let page = browser.follow(&stack.url(&long)).await.pop().unwrap();
    assert!(stops(&page, 414) && page.body.contains("太长"), "{page:?}");
    let direct = Browser::wechat().get(&stack.url(&format!("/_wechat/login?return_to={long}"))).await;
    assert!(stops(&direct, 414), "{direct:?}");
    // The page's button logs the user in, and the link works afterwards.
    let home = browser.follow(&page.button()).await.pop().unwrap();
    assert_eq!(home.json()["target"], "/");
    stack.remember(&browser);
    assert_eq!(browser.get(&stack.url(&long)).await.json()["target"], *long);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_tabs_with_long_addresses_fit_into_4_kib_and_all_arrive() {
    let stack = unlimited().await;
    for length in [40, 1_900] {
        let mut browser = Browser::wechat();
        let mut tabs = Vec::new();
        for tab in 0..12 {
            let path = format!("/{tab}?{}", "a".repeat(length));
            tabs.push((stack.to_callback(&mut browser, &path).await, path));
            let bytes: usize = browser.jar.iter().map(|cookie| cookie.name.len() + cookie.value.len() + 3).sum();
            assert!(bytes <= 4_096, "{bytes} bytes of cookies for {} tabs", tabs.len());
        }
        for (back, path) in tabs {
            let home = browser.follow(&back).await.pop().unwrap();
            stack.remember(&browser);
            assert_eq!(home.json()["target"], *path);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_with_a_live_session_goes_straight_back() {
    let stack = unlimited().await;
    let mut browser = Browser::wechat();
    stack.log_in(&mut browser, "/").await;
    let login = stack.url("/_wechat/login?return_to=%2Flist%3Ffrom%3Dtimeline");
    let back = browser.get(&login).await;
    assert_eq!((back.status, back.location()), (303, &*stack.url("/list?from=timeline")));
    assert_eq!(stack.exchanges().len(), 1, "WeChat must receive no request");
    let evil = browser.get(&stack.url("/_wechat/login?return_to=//evil.example")).await;
    assert_eq!((evil.status, evil.location()), (303, &*stack.url("/")));
    // A user who clicks the button starts a new login.
    let again = browser.get(&stack.url("/_wechat/login?go=1&return_to=%2F")).await;
    assert!(leads_to_wechat(&stack, &again), "{again:?}");
    // If the check rejects a session that this page accepts, the redirects still end.
    let mut rounds = 0;
    let page = loop {
        let answer = browser.get(&login).await;
        rounds += 1;
        assert!(rounds < 20, "the redirects do not end");
        if answer.status != 303 {
            break answer;
        }
    };
    assert!(stops(&page, 429), "{page:?}");
    assert!(leads_to_wechat(&stack, &browser.get(&page.button()).await), "its button must start a new login");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_callback_that_fails_is_a_dead_end() {
    let stack = unlimited().await;
    let mut browser = Browser::wechat();
    let back = stack.to_callback(&mut browser, "/a").await;
    let (code, state) = (parameter(&back, "code"), parameter(&back, "state"));
    for query in [
        format!("code={code}"),
        format!("code={code}&state="),
        format!("code={code}&state={state}x"),
        format!("code={code}&state={}", state.to_uppercase()),
        format!("code={code}&state={}{}", &state[..8], "0".repeat(24)),
        format!("code={code}&code=b&state={state}"),
        String::new(),
    ] {
        let mut browser = Browser::wechat();
        let page = browser.get(&stack.url(&format!("/_wechat/callback?{query}"))).await;
        assert!(stops(&page, 400), "{query}: {page:?}");
        let home = browser.follow(&page.button()).await.pop().unwrap();
        assert_eq!(home.json()["target"], "/", "{query}");
        stack.remember(&browser);
    }
}
