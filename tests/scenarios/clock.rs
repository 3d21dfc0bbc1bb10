//! Sessions over time: renewal, idle limit, expiry and changes of the clock. The test controls the program's wall
//! clock; durations come from the real monotonic clock.

use harness::SESSION;
use harness::client::{self, Browser};
use harness::stack::{Plan, Stack};

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;

async fn logged_in(more: &str) -> (Stack, Browser) {
    let stack = Stack::planned(Plan { clock: true, more: more.to_owned(), ..Plan::default() }).await;
    let mut browser = Browser::wechat();
    stack.log_in(&mut browser, "/").await;
    (stack, browser)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_allow_renews_a_session_near_its_tokens_end() {
    let (stack, mut browser) = logged_in("").await;
    let first = browser.cookie(SESSION).unwrap();
    for (offset, renewed, why) in [
        (9 * MINUTE, false, "two thirds of a token's fifteen minutes are not over"),
        (11 * MINUTE, true, "in its last third"),
    ] {
        stack.set_clock(offset);
        let answer = browser.clone().fetch(&stack.url("/api/orders")).await;
        assert_eq!(answer.status, 200, "{why}");
        let ours = answer.set_cookies().filter(|line| line.starts_with(SESSION)).count();
        assert_eq!(ours, usize::from(renewed), "{why}: {answer:?}");
        assert!(
            answer.set_cookies().any(|line| line.starts_with("app=")),
            "the application must receive its own cookie"
        );
    }
    // After the token has expired a data request still succeeds, and the next token belongs to the same session.
    stack.set_clock(16 * MINUTE);
    let session = |answer: &client::Answer| answer.seen("x-wechat-session");
    let past = browser.fetch(&stack.url("/api/orders")).await;
    stack.remember(&browser);
    let second = browser.cookie(SESSION).unwrap();
    assert_ne!(first, second);
    let next = browser.fetch(&stack.url("/api/orders")).await;
    assert_eq!(
        next.set_cookies().filter(|line| line.starts_with(SESSION)).count(),
        0,
        "one renewal must be sufficient"
    );
    assert!(session(&past).is_some() && session(&past) == session(&next));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_redirect_renews_a_page_when_set_cookie_is_dropped() {
    let (stack, mut browser) = logged_in("gateway: { delivers_set_cookie: false }\n").await;
    stack.set_clock(16 * MINUTE);
    stack.is_renewed_by_one_redirect(&mut browser).await;
    assert_eq!(browser.get(&stack.url("/")).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_that_keeps_no_renewed_cookie_is_not_sent_round() {
    let (stack, browser) = logged_in("gateway: { delivers_set_cookie: false }\n").await;
    stack.set_clock(16 * MINUTE);
    assert_eq!(browser.clone().get(&stack.url("/")).await.status, 302);
    assert_eq!(
        browser.clone().get(&stack.url("/")).await.status,
        200,
        "the second request must pass without a renewal"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_session_ends_and_a_used_one_lives_its_lifetime() {
    let (stack, mut used) = logged_in("").await;
    let idle = used.clone();
    for hour in (20..=160).step_by(20) {
        stack.set_clock(hour * HOUR);
        assert_eq!(used.fetch(&stack.url("/api")).await.status, 200, "hour {hour}");
        stack.remember(&used);
    }
    let reason = |answer: client::Answer| answer.json()["data"]["reason"].as_str().unwrap().to_owned();
    let refused = idle.clone().fetch(&stack.url("/api")).await;
    assert_eq!((refused.status, reason(refused)), (401, "session_idle".to_owned()));
    stack.set_clock(7 * 24 * HOUR + MINUTE);
    let over = used.fetch(&stack.url("/api")).await;
    assert_eq!(
        (over.status, reason(over)),
        (401, "session_expired".to_owned()),
        "the session must end after seven days"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_jumping_clock_neither_revives_nor_loses_a_session() {
    let (stack, mut browser) = logged_in("").await;
    let token = browser.cookie(SESSION).unwrap();
    for (offset, status) in
        [(0, 200), (-10 * HOUR, 401), (0, 200), (10 * 365 * 24 * HOUR, 401), (-1_700_000_000, 401), (0, 200)]
    {
        stack.set_clock(offset);
        let answer = browser.fetch(&stack.url("/api")).await;
        assert_eq!(answer.status, status, "{offset}: {answer:?}");
    }
    assert_eq!(browser.cookie(SESSION), Some(token), "the session must stay valid");
    let revoke = r#"{"app":"shop"}"#;
    let admin = format!("http://{}/sessions/revoke", stack.admin);
    let bearer = format!("Bearer {}", harness::ADMIN_TOKEN);
    let revoked = Browser::desktop().ask("POST", &admin, &[("authorization", &bearer)], revoke).await;
    assert_eq!(revoked.status, 200);
    for offset in [0, -60, 60, 23 * HOUR] {
        stack.set_clock(offset);
        assert_eq!(
            browser.fetch(&stack.url("/api")).await.status,
            401,
            "the session must stay revoked at every clock offset: {offset}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_took_too_long_starts_over() {
    let stack = Stack::planned(Plan { clock: true, ..Plan::default() }).await;
    let mut browser = Browser::wechat();
    let login = browser.get(&stack.url("/_wechat/login?return_to=%2Fa")).await;
    let mut callback = browser.get(login.location().split('#').next().unwrap()).await;
    callback = browser.get(callback.location()).await;
    stack.set_clock(11 * MINUTE);
    let page = browser.get(callback.location()).await;
    assert_eq!(page.status, 400, "{page:?}");
    assert!(page.body.contains("/_wechat/login?go=1") && stack.exchanges().is_empty());
}
