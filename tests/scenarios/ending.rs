//! The end of a session: the logout page reports success only if the session has ended, and only a user action ends it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use harness::SESSION;
use harness::client::{Answer, Browser, HTML};
use harness::redis::Redis;
use harness::stack::{Plan, Stack, UNLIMITED};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// The number of forged tokens so far. Each must be new, because a repeated one is cached and does not count against
/// the limit.
static FORGED: AtomicUsize = AtomicUsize::new(0);

const HOUR: i64 = 3_600;

async fn stack(plan: Plan) -> Stack {
    let more = format!("{UNLIMITED}{}", plan.more);
    Stack::planned(Plan { more, ..plan }).await
}

async fn logged_in(stack: &Stack) -> Browser {
    let mut browser = Browser::wechat();
    stack.log_in(&mut browser, "/").await;
    browser
}

/// Logs out as a page of the application does.
async fn log_out(stack: &Stack, browser: &mut Browser, lines: &[(&str, &str)]) -> Answer {
    let lines = [&[("sec-fetch-site", "same-origin")], lines].concat();
    browser.ask("POST", &stack.url("/_wechat/logout"), &lines, "").await
}

/// `browser` with an invalid signature that is different for each number.
fn forged(browser: &Browser, number: usize) -> Browser {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let digits: String = (0..4).map(|place| char::from(ALPHABET[(number >> (6 * place)) & 63])).collect();
    let mut browser = browser.clone();
    let cookie = browser.jar.iter_mut().find(|cookie| cookie.name == SESSION).unwrap();
    let (signed, _) = cookie.value.rsplit_once('.').unwrap();
    // 64 bytes in canonical base64url.
    cookie.value = format!("{signed}.{}{digits}A", "q7Zk5m3vX".repeat(9));
    browser
}

/// Sends `count` new forged tokens to `path`, a few concurrently.
async fn flood(stack: &Stack, browser: &Browser, count: usize, method: &'static str, path: &str) -> Vec<u16> {
    let mut statuses = Vec::new();
    for first in (0..count).step_by(20) {
        let asking = (first..count.min(first + 20)).map(|_| {
            let number = FORGED.fetch_add(1, Ordering::Relaxed);
            let (mut browser, url) = (forged(browser, number), stack.url(path));
            tokio::spawn(async move {
                let lines = [("accept", "application/json"), ("sec-fetch-site", "same-origin")];
                browser.ask(method, &url, &lines, "").await.status
            })
        });
        for one in asking.collect::<Vec<_>>() {
            statuses.push(one.await.unwrap());
        }
    }
    statuses
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_logouts_keeps_nobody_logged_in_unawares() {
    let stack = stack(Plan::default()).await;
    let (browser, neighbour) = (logged_in(&stack).await, logged_in(&stack).await);
    // Cached tokens do not count against the limit; the restarted process has an empty cache.
    let mut stack = stack;
    stack.kill_authz();
    stack.restart_authz().await;
    let statuses = flood(&stack, &browser, 260, "POST", "/_wechat/logout").await;
    assert!(statuses.contains(&429), "{statuses:?}");

    let mut elsewhere = Browser { from: [127, 0, 0, 7].into(), ..neighbour };
    let mut copy = elsewhere.clone();
    let page = log_out(&stack, &mut elsewhere, &[("accept", HTML)]).await;
    assert_eq!((page.status, elsewhere.cookie(SESSION)), (200, None), "another address must have its own limit");
    assert_eq!(copy.fetch(&stack.url("/")).await.status, 401);

    for (lines, words) in [
        (&[("accept", HTML), ("accept-language", "zh-CN")][..], "还没有退出登录"),
        (&[("accept", HTML), ("accept-language", "en")], "You are not logged out yet"),
        (&[("accept", "application/json")], "the session may not have ended"),
    ] {
        flood(&stack, &browser, 40, "POST", "/_wechat/logout").await;
        let mut here = browser.clone();
        let told = log_out(&stack, &mut here, lines).await;
        assert_eq!(told.status, 429, "{told:?}");
        assert!(told.body.contains(words), "{told:?}");
        assert!(told.header("retry-after").parse::<u64>().unwrap() >= 1);
        assert_eq!(here.cookie(SESSION), browser.cookie(SESSION), "the cookie must stay");
        if words.starts_with('{') {
            assert_eq!(told.json()["code"], 429);
        }
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (mut here, mut copy) = (browser.clone(), browser);
    let told = log_out(&stack, &mut here, &[("accept", "application/json")]).await;
    assert_eq!((told.status, &told.json()["message"]), (200, &"logged out".into()));
    assert_eq!(here.cookie(SESSION), None);
    assert_eq!(copy.fetch(&stack.url("/")).await.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn logouts_under_made_up_keys_do_not_flood_the_log() {
    const FLOOD: usize = 600;
    let stack = stack(Plan::default()).await;
    let browser = logged_in(&stack).await;
    let began = std::time::Instant::now();
    let senders = (0..20).map(|sender| {
        let (mut browser, url) = (browser.clone(), stack.url("/_wechat/logout"));
        let header = format!(r#"{{"alg":"ES256","typ":"wechat-session+jwt","kid":"made up {sender}"}}"#);
        let cookie = browser.jar.iter_mut().find(|cookie| cookie.name == SESSION).unwrap();
        let (_, rest) = cookie.value.split_once('.').unwrap();
        cookie.value = format!("{}.{rest}", URL_SAFE_NO_PAD.encode(header));
        tokio::spawn(async move {
            for _ in 0..FLOOD / 20 {
                let lines = [("accept", "application/json"), ("sec-fetch-site", "same-origin")];
                let answer = browser.ask("POST", &url, &lines, "").await;
                assert_eq!(answer.status, 503, "503 because another instance may have the key: {answer:?}");
            }
        })
    });
    for sender in senders.collect::<Vec<_>>() {
        sender.await.unwrap();
    }
    let seconds = began.elapsed().as_secs() as usize + 2;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let lines = stack.logged().matches("the key of the token is unknown").count();
    assert!(lines >= 1 && lines <= 100 * seconds && lines < FLOOD, "{lines} lines in {seconds} s");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_ends_the_former_session_however_noisy_a_neighbour_is() {
    let mut stack = stack(Plan::default()).await;
    let mut browser = logged_in(&stack).await;
    let mut former = browser.clone();
    stack.kill_authz();
    stack.restart_authz().await;
    for path in ["/_wechat/session", "/_wechat/logout"] {
        let method = if path.ends_with("logout") { "POST" } else { "GET" };
        let statuses = flood(&stack, &browser, 240, method, path).await;
        assert!(statuses.contains(&429), "the limit of the address must be reached: {statuses:?}");
    }
    let answers = browser.follow(&stack.url("/_wechat/login?return_to=%2F&go=1")).await;
    assert_eq!(answers.last().unwrap().status, 200, "{answers:?}");
    assert_ne!(browser.cookie(SESSION), former.cookie(SESSION));
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(former.fetch(&stack.url("/")).await.status, 401, "the previous session must have ended");
    assert_eq!(browser.fetch(&stack.url("/")).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_logout_under_a_wrong_clock_ends_the_session_for_good() {
    let stack = stack(Plan { clock: true, ..Plan::default() }).await;
    for offset in [-40, -2 * HOUR, -1_700_000_000, 25 * HOUR, 7 * 24 * HOUR + 60] {
        stack.set_clock(0);
        let mut browser = logged_in(&stack).await;
        let mut copy = browser.clone();
        stack.set_clock(offset);
        let told = log_out(&stack, &mut browser, &[("accept", "application/json")]).await;
        assert_eq!((told.status, browser.cookie(SESSION)), (200, None), "{offset}");
        stack.set_clock(0);
        assert_eq!(copy.fetch(&stack.url("/")).await.status, 401, "{offset}: the old cookie must be rejected");
    }
    // A bearer token is also a session.
    let mut browser = logged_in(&stack).await;
    let bearer = format!("Bearer {}", browser.cookie(SESSION).unwrap());
    stack.remember(&browser);
    stack.set_clock(-HOUR);
    let mut program = Browser::desktop();
    let lines = [("authorization", bearer.as_str()), ("accept", "*/*")];
    let told = program.ask("POST", &stack.url("/_wechat/logout"), &lines, "").await;
    assert_eq!((told.status, &told.json()["code"]), (200, &200.into()));
    stack.set_clock(0);
    assert_eq!(browser.fetch(&stack.url("/")).await.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_logout_past_the_tokens_end_holds_though_redis_is_away() {
    let mut redis = Redis::start().await;
    let more = redis.configuration() + "  revocations_stale_after: 1s\n  reconcile: 1s\n";
    let stack = stack(Plan { clock: true, more, ..Plan::default() }).await;
    let mut browser = logged_in(&stack).await;
    let mut copy = browser.clone();
    redis.kill();
    stack.set_clock(HOUR);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(copy.fetch(&stack.url("/")).await.status, 401, "revocations of other instances must be unknown");
    assert_eq!(log_out(&stack, &mut browser, &[]).await.status, 200);
    redis.run().await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(copy.fetch(&stack.url("/")).await.status, 401, "the old cookie must be rejected");
    assert_eq!(
        logged_in(&stack).await.fetch(&stack.url("/")).await.status,
        200,
        "a new login must be accepted with Redis"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_of_a_key_that_is_not_here_yet_stays_logged_in() {
    let stack = stack(Plan::default()).await;
    let browser = logged_in(&stack).await;
    // As after a key rotation: this instance does not have the key that signed the token.
    let keys = stack.directory.path().join("keys");
    let old = std::fs::read_dir(&keys).unwrap().next().unwrap().unwrap().path();
    let aside = stack.directory.path().join("aside.pem");
    std::fs::rename(&old, &aside).unwrap();
    assert!(Command::new(harness::program()).arg("keygen").arg(&keys).status().unwrap().success());
    let mut here = browser.clone();
    let started = std::time::Instant::now();
    while here.fetch(&stack.url("/")).await.status == 200 {
        assert!(started.elapsed() < Duration::from_secs(20), "the instance still uses the removed key");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let page = log_out(&stack, &mut here, &[("accept", HTML)]).await;
    assert_eq!((page.status, page.header("retry-after").is_empty()), (503, false), "{page:?}");
    assert_eq!(here.cookie(SESSION), browser.cookie(SESSION), "the cookie must stay");
    std::fs::rename(&aside, &old).unwrap();
    let started = std::time::Instant::now();
    while log_out(&stack, &mut here, &[("accept", HTML)]).await.status != 200 {
        assert!(started.elapsed() < Duration::from_secs(20), "the instance did not load the restored key");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(browser.clone().fetch(&stack.url("/")).await.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_token_that_a_program_shows_is_ended() {
    let stack = stack(Plan::default()).await;
    let (mut one, mut two) = (logged_in(&stack).await, logged_in(&stack).await);
    let [first, second] = [&one, &two].map(|browser| browser.cookie(SESSION).unwrap());
    let cookies = format!("{SESSION}={first}; {SESSION}={second}");
    let told = Browser::desktop().ask("POST", &stack.url("/_wechat/logout"), &[("cookie", &cookies)], "").await;
    assert_eq!(told.status, 200);
    for browser in [&mut one, &mut two] {
        assert_eq!(browser.fetch(&stack.url("/")).await.status, 401);
        stack.remember(browser);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_write_into_redis_costs_a_bounded_memory() {
    /// The table of revocations is limited to 50 MiB; a page of the list and allocator overhead come on top.
    const BOUND: u64 = 80;
    let redis = Redis::start().await;
    let more = redis.configuration() + "  reconcile: 1s\n";
    let stack = stack(Plan { more, ..Plan::default() }).await;
    let mut browser = logged_in(&stack).await;
    let idle = stack.authz().memory("VmHWM").unwrap();
    let client = ::redis::Client::open(format!("redis://127.0.0.1:{}/", redis.port)).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let list = "wechat-authz:1:{revoked}:list";
    let now = wechat_authz::testing::clock::now().0;
    let times = format!(r#""at":{now},"until":{}"#, now + 86_400);
    let id = |number: u32| format!("{number:A>21}A");
    let long = "s".repeat(4_000);
    for (count, text) in [
        // Invalid records that are also too long.
        (20_000, &(|number| format!(r#"{{"v":1,"session":"{number}{long}",{times}}}"#)) as &dyn Fn(u32) -> String),
        (20_000, &|number| format!(r#"{{"v":1,"app":"{number}{}",{times}}}"#, &long[..300])),
        // Entries of maximum size, first for one subject, then for many subjects.
        (20_000, &|number| {
            let of = "0".repeat(32);
            format!(r#"{{"v":1,"session":"{}",{times},"of":"{of}","issued":{number}}}"#, id(number))
        }),
        (190_000, &|number| {
            format!(r#"{{"v":1,"session":"{}",{times},"of":"{number:032x}","issued":{number}}}"#, id(number))
        }),
    ] {
        for first in (1..=count).step_by(2_000) {
            let mut fill = ::redis::pipe();
            (first..first + 2_000).for_each(|number| {
                fill.zadd(list, text(number), now * 1_000 + u64::from(first)).ignore();
            });
            fill.query_async::<()>(&mut connection).await.unwrap();
        }
    }
    // Records of another type: very long values under our keys.
    let huge = vec![b'x'; 32 << 20];
    for key in ["wechat-authz:1:{revoked}:mark"] {
        let _: () = ::redis::cmd("SET").arg(key).arg(&huge).query_async(&mut connection).await.unwrap();
    }
    let started = std::time::Instant::now();
    while stack.metric("wechat_authz_revocations_active").await < 190_000.0 {
        assert!(
            started.elapsed() < Duration::from_secs(120),
            "{}",
            stack.metric("wechat_authz_revocations_active").await
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    let highest = stack.authz().memory("VmHWM").unwrap();
    println!("idle {idle} MiB, highest {highest} MiB");
    assert!(highest <= idle + BOUND, "idle {idle} MiB, highest {highest} MiB");
    assert_eq!(browser.fetch(&stack.url("/")).await.status, 200, "the session must stay valid");
}

/// The headers in which a browser describes a request: `Sec-Fetch-Mode`, `-Dest`, `-Site` and others.
type Said = &'static [(&'static str, &'static str)];

#[tokio::test(flavor = "multi_thread")]
async fn only_a_page_that_the_user_opens_changes_state_by_get() {
    const MODE: &str = "sec-fetch-mode";
    const DEST: &str = "sec-fetch-dest";
    const SITE: (&str, &str) = ("sec-fetch-site", "same-origin");
    const IMAGE: (&str, &str) = ("accept", "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8");
    const PAGE: (&str, &str) = ("accept", HTML);
    let stack = stack(Plan::default()).await;
    let referrer: &'static str = stack.url("/page").leak();
    let referrer: &'static (&str, &str) = Box::leak(Box::new(("referer", referrer)));
    let sub_resources: [Said; 14] = [
        &[SITE, (MODE, "no-cors"), (DEST, "image"), IMAGE],
        &[SITE, (MODE, "no-cors"), (DEST, "script")],
        &[SITE, (MODE, "no-cors"), (DEST, "style")],
        &[SITE, (MODE, "cors"), (DEST, "font")],
        &[SITE, (MODE, "cors"), (DEST, "empty")],
        &[SITE, (MODE, "same-origin"), (DEST, "empty")],
        &[SITE, (MODE, "websocket"), (DEST, "empty")],
        &[SITE, (MODE, "no-cors"), (DEST, "document"), PAGE],
        &[SITE, (MODE, "navigate"), (DEST, "document"), PAGE, ("sec-purpose", "prefetch")],
        &[SITE, (MODE, "navigate"), (DEST, "document"), PAGE, ("sec-purpose", "prefetch;prerender")],
        &[SITE, (MODE, "navigate"), (DEST, "document"), PAGE, ("purpose", "prefetch")],
        &[SITE, (MODE, "navigate"), PAGE, ("x-purpose", "preview")],
        &[SITE, (MODE, "navigate"), PAGE, ("x-moz", "prefetch")],
        &[SITE, (MODE, "navigate"), (MODE, "cors"), PAGE],
    ];
    let frames: [Said; 4] = [
        &[SITE, (MODE, "navigate"), (DEST, "iframe"), PAGE],
        &[SITE, (MODE, "navigate"), (DEST, "frame"), PAGE],
        &[SITE, (MODE, "navigate"), (DEST, "embed"), PAGE],
        &[SITE, (MODE, "navigate"), (DEST, "object"), PAGE],
    ];
    let browser = logged_in(&stack).await;
    let token = browser.cookie(SESSION);
    for said in sub_resources.iter().chain(&frames) {
        let mut here = browser.clone();
        here.ask("GET", &stack.url("/_wechat/logout"), said, "").await;
        assert_eq!(here.cookie(SESSION), token, "{said:?}");
        assert_eq!(here.fetch(&stack.url("/")).await.status, 200, "{said:?}");
    }
    // An old browser distinguishes images from pages only by `Accept`.
    for accept in [IMAGE.1, "*/*", "text/css,*/*;q=0.1"] {
        let mut here = browser.clone();
        here.ask("GET", &stack.url("/_wechat/logout"), &[*referrer, ("accept", accept)], "").await;
        assert_eq!(here.fetch(&stack.url("/")).await.status, 200, "{accept}");
    }
    for said in sub_resources {
        let mut here = browser.clone();
        for path in
            ["/_wechat/renew?return_to=%2F", "/_wechat/login?return_to=%2F&go=1", "/_wechat/callback?code=c&state=s"]
        {
            let answer = here.ask("GET", &stack.url(path), said, "").await;
            assert!([403, 503].contains(&answer.status), "{path} {said:?}: {answer:?}");
            assert!(answer.set_cookies().next().is_none(), "{path} {said:?}");
        }
    }
    // From another site, only requests that lead to the application renew the token.
    let link: Said = &[("sec-fetch-site", "cross-site"), (MODE, "navigate"), (DEST, "document"), PAGE];
    for (method, said, status) in [
        ("GET", link, 303),
        ("GET", &[SITE, (MODE, "navigate"), (DEST, "iframe"), PAGE], 303),
        ("GET", &[PAGE], 303),
        ("GET", &[("sec-fetch-site", "cross-site"), PAGE], 403),
        ("GET", &[("sec-fetch-site", "same-site"), PAGE], 403),
        ("GET", &[("sec-fetch-site", "cross-site"), (MODE, "no-cors"), (DEST, "image"), IMAGE], 403),
        ("POST", link, 403),
        ("POST", &[("origin", "https://evil.example"), PAGE], 403),
        ("POST", &[SITE, (MODE, "cors"), (DEST, "empty")], 200),
        ("POST", &[], 200),
    ] as [(&str, Said, u16); 10]
    {
        let answer = browser.clone().ask(method, &stack.url("/_wechat/renew?return_to=%2F"), said, "").await;
        assert_eq!(answer.status, status, "{method} {said:?}: {answer:?}");
    }
    // Navigation by the user and requests by a script of the application end the session.
    let opened: [(&str, Said); 5] = [
        ("GET", &[SITE, (MODE, "navigate"), (DEST, "document"), PAGE]),
        ("GET", &[SITE, (MODE, "navigate"), PAGE]),
        ("POST", &[SITE, (MODE, "cors"), (DEST, "empty")]),
        ("POST", &[SITE, (MODE, "navigate"), (DEST, "document"), PAGE]),
        ("POST", &[SITE, (MODE, "navigate"), (DEST, "iframe"), PAGE]),
    ];
    for (method, said) in opened {
        let mut here = logged_in(&stack).await;
        let mut copy = here.clone();
        let answer = here.ask(method, &stack.url("/_wechat/logout"), said, "").await;
        assert_eq!((answer.status, here.cookie(SESSION)), (200, None), "{method} {said:?}");
        assert_eq!(copy.fetch(&stack.url("/")).await.status, 401, "{method} {said:?}");
    }
    let mut here = browser.clone();
    assert_eq!(here.ask("GET", &stack.url("/_wechat/logout"), &[*referrer, PAGE], "").await.status, 200);
    assert_eq!(here.cookie(SESSION), None, "an old browser must be able to log out");
}
