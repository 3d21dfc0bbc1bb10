//! Envoy with `fast.yaml`: all scenarios of `gateway`, and the differences: which requests need a check, how long an
//! ended session still passes, and which keys are valid.

use crate::gateway::{CLIENTS, HANDSHAKE, ask, reason, session_cookie};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use harness::client::{self, Answer, Browser, HTML, compose, raw};
use harness::stack::{Plan, Stack, UNLIMITED};
use harness::{IDENTITY, SESSION, program};
use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use wechat_authz::testing::session::keys::{KeySet, KeySettings};
use wechat_authz::testing::session::{Claims, jws, token};
use wechat_simulator::App;

/// The decoded part of a token: 0 is the header, 1 the claims.
fn part(token: &str, number: usize) -> serde_json::Value {
    let part = token.split('.').nth(number).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

fn kid(browser: &Browser) -> String {
    part(&browser.cookie(SESSION).unwrap(), 0)["kid"].as_str().unwrap().to_owned()
}

/// The same token with a distant expiry, signed with our key as an attacker who has stolen it.
fn undying(stack: &Stack, token: &str) -> String {
    let claims: Claims = serde_json::from_value(part(token, 1)).unwrap();
    let claims = Claims { exp: claims.iat + 7_200, ..claims };
    token::issue(&claims, &keys(stack).keys()[0]).unwrap().0
}

fn keys(stack: &Stack) -> KeySet {
    let directory = stack.directory.path().join("keys");
    KeySet::load(&KeySettings { directory, sign_after: Duration::ZERO }).unwrap_or_else(|_| panic!("keys"))
}

/// Claims signed with our key as a token of this type; without a type if `typ` is empty.
fn signed(stack: &Stack, typ: &str, claims: &serde_json::Value) -> String {
    let file = std::fs::read_dir(stack.directory.path().join("keys")).unwrap().next().unwrap().unwrap().path();
    let key = jsonwebtoken::EncodingKey::from_ec_pem(&std::fs::read(file).unwrap()).unwrap();
    let mut header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::ES256);
    header.typ = (!typ.is_empty()).then(|| typ.to_owned());
    header.kid = Some(keys(stack).keys()[0].kid().to_owned());
    jsonwebtoken::encode(&header, claims, &key).unwrap()
}

#[allow(clippy::disallowed_methods)] // Envoy uses the real clock
fn seconds() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

/// Returns the response and the number of checks for it.
async fn asking(stack: &Stack, method: &str, target: &str, lines: &[(&str, &str)]) -> (Answer, u64) {
    let before = stack.asked().await;
    let answer = ask(stack, method, target, lines).await;
    (answer, stack.asked().await - before)
}

/// The same for a browser's script; the browser keeps the cookies of the response.
async fn fetching(stack: &Stack, browser: &mut Browser) -> (u16, u64) {
    let before = stack.asked().await;
    let answer = browser.fetch(&stack.url("/api")).await;
    stack.remember(browser);
    (answer.status, stack.asked().await - before)
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let begun = seconds();
    while !holds().await {
        assert!(seconds() - begun < 30.0, "never {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_valid_token_in_plain_form_passes_without_a_check() {
    let stack = Stack::planned(Plan::fast()).await;
    let mut browser = Browser::wechat();
    stack.log_in(&mut browser, "/").await;
    let token = browser.cookie(SESSION).unwrap();
    let cookie = session_cookie(&browser);
    let bearer = format!("Bearer {token}");
    for (client, method, lines) in CLIENTS.iter().filter(|(client, ..)| *client != "preflight") {
        let lines = [*lines, &[("cookie", cookie.as_str())]].concat();
        let (answer, asked) = asking(&stack, method, "/orders?page=%2e%2e;a", &lines).await;
        assert_eq!(answer.status, if *client == "websocket" { 101 } else { 200 }, "{client} {answer:?}");
        assert_eq!((asked, answer.header("grpc-status")), (0, ""), "{client}");
    }
    for target in ["/", "/a/", "/~u/a,b=c@d+e:f!$&'()*/x.y", "/x/../y", "/%61"] {
        assert_eq!(asking(&stack, "GET", target, &[("cookie", &cookie)]).await.1, 0, "{target}");
    }
    let (head, rest) = token.rsplit_once('.').unwrap();
    let forged = format!("{SESSION}={head}.{}{}", if rest.starts_with('A') { 'B' } else { 'A' }, &rest[1..]);
    let unsigned = format!(
        "{SESSION}={}.{}.",
        URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"wechat-session+jwt"}"#),
        token.split('.').nth(1).unwrap()
    );
    let undying = format!("{SESSION}={}", undying(&stack, &token));
    let two = format!("{cookie}; {SESSION}=other");
    let planted = format!("lang=zh,{SESSION}=planted; {cookie}");
    for (why, target, lines, status) in [
        ("no session", "/orders", vec![], 401),
        ("forged", "/orders", vec![("cookie", forged.as_str())], 401),
        ("unsigned", "/orders", vec![("cookie", unsigned.as_str())], 401),
        ("our key, and an hour too long", "/orders", vec![("cookie", undying.as_str())], 401),
        ("another name", "/orders", vec![("cookie", &cookie[2..])], 401),
        ("two sessions", "/orders", vec![("cookie", two.as_str())], 401),
        ("one of two planted", "/orders", vec![("cookie", planted.as_str()), ("user-agent", client::WECHAT)], 200),
        ("a bearer token", "/orders", vec![("authorization", bearer.as_str())], 200),
        ("a bearer token of ours too", "/orders", vec![("cookie", &cookie), ("authorization", &bearer)], 200),
        ("in the query", "/orders?access_token=TOKEN", vec![], 401),
        ("a preflight", "/orders", vec![("cookie", &cookie), ("origin", "https://a.example")], 200),
        ("encoded", "/a%20b", vec![("cookie", &cookie)], 200),
        ("parameters", "/a;b=c", vec![("cookie", &cookie)], 200),
        ("two readings", "/a%252fb", vec![("cookie", &cookie)], 403),
        ("hidden", "/.well-known/a", vec![("cookie", &cookie)], 200),
        ("always asked", "/admin", vec![("cookie", &cookie)], 200),
        ("always asked, below", "/admin/a?b", vec![("cookie", &cookie)], 200),
        ("no page of ours", "/_wechatever", vec![], 401),
    ] {
        let method = if why == "a preflight" { "OPTIONS" } else { "GET" };
        let mut lines = lines;
        if why == "a preflight" {
            lines.push(("access-control-request-method", "PUT"));
        }
        let (answer, asked) = asking(&stack, method, &target.replace("TOKEN", &token), &lines).await;
        let status = if why == "a preflight" { answer.status } else { status };
        assert_eq!((answer.status, asked), (status, 1), "{why}: {answer:?}");
        assert!(status != 200 || !answer.body.contains(&token), "{why}: the application sees a token: {answer:?}");
    }
    // At another host the session is invalid, and the host is rejected.
    let before = stack.asked().await;
    let elsewhere = compose("GET", "/orders", "evil.example", &[("cookie", &cookie)]);
    assert_eq!(raw(stack.edge, &elsewhere).await.unwrap().status, 403);
    assert_eq!(stack.asked().await, before + 1);
    // Input that no browser sends: several Cookie lines, other separators, similar names, and more session cookies than
    // usual.
    let crowd = format!("{cookie}{}; last=1", "; __Host-wechat_flow_00=1".repeat(40));
    let [prefixed, valued, other, spaced, joined, trailing, tight, doubled] = [
        format!("x__Host-wechat_flow_00=1; {cookie}"),
        format!("a=__Host-wechat_session=1; {cookie}"),
        format!("__Host-wechat_sessions=1; {cookie}"),
        format!("a=1;  {cookie}"),
        format!("a=1,{cookie}"),
        format!("{cookie},a=1"),
        format!("{cookie};a=1"),
        format!("a=1; {cookie}; {cookie}"),
    ];
    for (lines, status, seen) in [
        (vec!["a=1", cookie.as_str()], 200, Some("a=1")),
        (vec![cookie.as_str(), "b=2"], 200, Some("b=2")),
        (vec!["", cookie.as_str()], 200, None),
        (vec![cookie.as_str(), "__Host-wechat_session=other"], 401, None),
        (vec!["__Host-wechat_session=other", cookie.as_str()], 401, None),
        (vec![crowd.as_str()], 200, Some("last=1")),
        (vec![prefixed.as_str()], 200, Some("x__Host-wechat_flow_00=1")),
        (vec![valued.as_str()], 200, Some("a=__Host-wechat_session=1")),
        (vec![other.as_str()], 200, Some("__Host-wechat_sessions=1")),
        (vec![spaced.as_str()], 200, Some("a=1")),
        (vec![joined.as_str()], 200, Some("a=1")),
        (vec![trailing.as_str()], 200, Some("a=1")),
        (vec![tight.as_str()], 200, Some("a=1")),
        (vec![doubled.as_str()], 200, Some("a=1")),
    ] {
        let lines: Vec<(&str, &str)> = lines.into_iter().map(|line| ("cookie", line)).collect();
        let (answer, asked) = asking(&stack, "GET", "/orders", &lines).await;
        assert_eq!((answer.status, asked), (status, 1), "{lines:?}: {answer:?}");
        assert!(status != 200 || answer.seen("cookie").as_deref() == seen, "{lines:?}: {answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_for_another_purpose_is_checked_and_rejected() {
    let stack = Stack::planned(Plan::fast()).await;
    let mut browser = Browser::wechat();
    stack.log_in(&mut browser, "/").await;
    let token = browser.cookie(SESSION).unwrap();
    for (why, typ, member, value) in [
        ("as it is", jws::TYPE, "aud", "shop"),
        ("another kind", "JWT", "aud", "shop"),
        ("no kind", "", "aud", "shop"),
        ("for another application", jws::TYPE, "aud", "blog"),
        ("for several", jws::TYPE, "aud", "[\"shop\",\"blog\"]"),
        ("of another origin", jws::TYPE, "iss", "https://shop.example.com"),
    ] {
        let mut claims = part(&token, 1);
        claims[member] = serde_json::from_str(value).unwrap_or_else(|_| value.into());
        let signed = format!("{SESSION}={}", signed(&stack, typ, &claims));
        let (answer, asked) = asking(&stack, "GET", "/orders", &[("cookie", &signed)]).await;
        let ours = why == "as it is";
        // Envoy accepts an audience that is one of several. We do not issue such a token.
        let expected = if ours || why == "for several" { (200, 0) } else { (401, 1) };
        assert_eq!((answer.status, asked), expected, "{why}: {answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_without_its_long_nickname_is_checked() {
    let stack = Stack::planned(Plan::fast()).await;
    let mut browser = Browser::wechat();
    stack.log_in(&mut browser, "/").await;
    let mut claims: Claims = serde_json::from_value(part(&browser.cookie(SESSION).unwrap(), 1)).unwrap();
    claims.avatar = format!("https://thirdwx.qlogo.cn/{}", "a".repeat(130));
    for (nickname, plain) in [("小明", false), (&*"名".repeat(16), true)] {
        nickname.clone_into(&mut claims.nickname);
        let token = token::issue(&claims, &keys(&stack).keys()[0]).unwrap().0;
        assert_eq!(part(&token, 1).get("name").is_some(), plain);
        let cookie = format!("a=1; {SESSION}={token}");
        let (answer, asked) =
            asking(&stack, "GET", "/orders", &[("cookie", &cookie), ("x-wechat-name", "admin")]).await;
        assert_eq!((answer.status, asked), (200, u64::from(plain)), "{answer:?}");
        let encoded = percent_encoding::utf8_percent_encode(nickname, percent_encoding::NON_ALPHANUMERIC).to_string();
        assert_eq!(answer.seen("x-wechat-nickname"), Some(encoded));
        assert_eq!(answer.seen("x-wechat-avatar").as_ref(), Some(&claims.avatar));
        assert_eq!((answer.seen("cookie").as_deref(), answer.seen("x-wechat-name")), (Some("a=1"), None));
    }
}

/// The headers of a request at the application, sorted by name, without those that Envoy generates for each request.
fn seen(answer: &Answer) -> (serde_json::Value, Vec<(String, String)>) {
    let json = answer.json();
    let pairs = json["headers"].as_array().unwrap().iter();
    let mut pairs: Vec<(String, String)> =
        pairs.map(|pair| (pair[0].as_str().unwrap().to_owned(), pair[1].as_str().unwrap().to_owned())).collect();
    pairs.retain(|(name, _)| name != "x-request-id");
    pairs.sort();
    (json["target"].clone(), pairs)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_application_sees_the_same_bytes_as_behind_strict() {
    let mut stack = Stack::planned(Plan { scope: "snsapi_userinfo", more: UNLIMITED.into(), ..Plan::fast() }).await;
    let strict = stack.another_envoy(false).await;
    let through = |edge: SocketAddr, lines: Vec<(String, String)>| {
        let lines: Vec<(&str, &str)> = lines.iter().map(|(name, line)| (name.as_str(), line.as_str())).collect();
        let bytes = compose("GET", "/me?a=b", &stack.edge.to_string(), &lines);
        async move { raw(edge, &bytes).await.unwrap() }
    };
    for (user, named) in [("小明", true), ("emoji", true), ("odd", true), ("faceless", false)] {
        let mut browser = Browser::wechat();
        stack.hand_to(&mut browser, user);
        let asked = browser.follow(&stack.url("/me")).await.pop().unwrap();
        let home = browser.follow(&asked.button()).await.pop().unwrap();
        let reply = format!(
            "{}/connect/oauth2/authorize_reply?allow=1&snsapi_userinfo=on&uuid={}",
            stack.simulator.base_url(),
            home.uuid()
        );
        browser.follow(&reply).await;
        stack.remember(&browser);
        let ours = session_cookie(&browser);
        for line in [
            ours.clone(),
            format!("a=1; {ours}; b=2"),
            format!("a=1; {ours}"),
            format!("{ours}; b=2"),
            format!("Hm_lvt_0=1795433100,1795433200; {ours}; Hm_lpvt_0=1795433300; c=\"2, 3\"; d={{x,y}}; e==; flag"),
            format!("__Host-wechat_flow_00=x; __Host-wechat_attempts=y; a=1; {ours}; __Host-wechat_flow_ff=z"),
            format!("a=1; {ours}; __Host-wechat_attempts=y; __Host-wechat_flow_00=x"),
            format!("__host-wechat_session=2; {ours}; __Host-wechatever=3; _ga=GA1.1; __utma=1; __Secure-a=4"),
        ] {
            for more in [vec![], vec![("authorization", "Bearer own")], vec![("x-wechat-unionid", "admin")]] {
                let lines = [vec![("cookie", line.as_str())], more].concat();
                let lines: Vec<(String, String)> =
                    lines.into_iter().map(|(name, line)| (name.to_owned(), line.to_owned())).collect();
                let before = stack.asked().await;
                let fast = through(stack.edge, lines.clone()).await;
                assert_eq!(stack.asked().await, before, "{user}: {fast:?}");
                let strict = through(strict, lines).await;
                assert_eq!(stack.asked().await, before + 1, "{user}: {strict:?}");
                assert_eq!(seen(&fast), seen(&strict), "{user}: {line}");
                let nickname = fast.seen("x-wechat-nickname").unwrap();
                assert_eq!((nickname.starts_with('%'), nickname.is_empty()), (named, !named), "{user}");
                assert!(IDENTITY.iter().all(|name| fast.seen(name).is_some()), "{fast:?}");
                let known = fast.headers.iter().any(|(name, _)| name.starts_with("x-wechat-"));
                assert!(!known && fast.set_cookies().count() == 1, "answers say nothing of it: {fast:?}");
            }
        }
    }
}

/// A stack for [`leaving`], which issues tokens with the given remaining lifetime in seconds: wechat-authz's clock is
/// behind during the login.
async fn short_of_time() -> Stack {
    Stack::planned(Plan { clock: true, more: UNLIMITED.into(), ..Plan::fast() }).await
}

async fn leaving(stack: &Stack, user: &str, seconds: i64) -> Browser {
    stack.set_clock(seconds - 900);
    let mut browser = Browser::wechat();
    stack.hand_to(&mut browser, user);
    stack.log_in(&mut browser, "/").await;
    stack.set_clock(0);
    browser
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_token_passes_until_its_end_and_no_longer() {
    let stack = short_of_time().await;
    let mut revoked = leaving(&stack, "小明", 8).await;
    let mut left = leaving(&stack, "小红", 8).await;
    let copy = left.clone();
    let end = part(&copy.cookie(SESSION).unwrap(), 1)["exp"].as_u64().unwrap() as f64;
    let session = revoked.fetch(&stack.url("/api")).await.seen("x-wechat-session").unwrap();
    let bearer = format!("Bearer {}", harness::ADMIN_TOKEN);
    let admin = format!("http://{}/sessions/revoke", stack.admin);
    let body = format!("{{\"session\":\"{session}\"}}");
    let done = Browser::desktop().ask("POST", &admin, &[("authorization", &bearer)], &body).await;
    assert_eq!(done.status, 200, "{done:?}");
    let out = left.ask("POST", &stack.url("/_wechat/logout"), &[("sec-fetch-site", "same-origin")], "").await;
    assert_eq!((out.status, left.cookie(SESSION)), (200, None), "{out:?}");
    assert_eq!(left.get(&stack.url("/")).await.status, 302, "the browser must be logged out at once");
    // A path that is always checked rejects the session at once.
    assert_eq!(revoked.clone().fetch(&stack.url("/admin")).await.status, 401);
    let (mut passed, mut refused) = (0, 0);
    while seconds() < end + 5.0 {
        for browser in [&revoked, &copy] {
            let begun = seconds();
            let answer = browser.clone().fetch(&stack.url("/api")).await;
            match answer.status {
                200 => {
                    assert!(begun < end + 2.0, "{} s past its end", begun - end);
                    passed += 1;
                }
                _ => {
                    assert!(seconds() > end, "{answer:?}");
                    assert_eq!((answer.status, reason(&answer)), (401, "session_revoked".to_owned()));
                    refused += 1;
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(passed > 20 && refused > 20, "{passed} {refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ended_token_is_renewed_for_every_client() {
    let stack = short_of_time().await;
    let mut browser = leaving(&stack, "小明", 3).await;
    let old = session_cookie(&browser);
    let end = part(&browser.cookie(SESSION).unwrap(), 1)["exp"].as_u64().unwrap() as f64;
    // In its last third strict.yaml would renew the token; fast.yaml does not send a check.
    let (answer, asked) = asking(&stack, "GET", "/api", &[("cookie", &old)]).await;
    assert_eq!((answer.status, asked, answer.set_cookies().count()), (200, 0, 1), "{answer:?}");
    tokio::time::sleep(Duration::from_secs_f64((end + 2.2 - seconds()).max(0.0))).await;
    for (client, method, lines) in CLIENTS.iter().filter(|(client, ..)| *client != "preflight") {
        let lines = [*lines, &[("cookie", old.as_str())]].concat();
        let (answer, asked) = asking(&stack, method, "/orders", &lines).await;
        assert_eq!(answer.status, if *client == "websocket" { 101 } else { 200 }, "{client} {answer:?}");
        assert_eq!((asked, answer.header("grpc-status")), (1, ""), "{client}");
        assert!(answer.set_cookies().any(|line| line.starts_with(SESSION)), "{client} {answer:?}");
        assert_eq!(answer.header("cache-control"), "no-store", "{client}");
    }
    assert_eq!(fetching(&stack, &mut browser).await, (200, 1));
    assert_ne!(session_cookie(&browser), old);
    for _ in 0..3 {
        assert_eq!(fetching(&stack, &mut browser).await, (200, 0), "the next token must be accepted like the first");
    }
    let handshake = [HANDSHAKE, &[("cookie", old.as_str()), ("accept", HTML)]].concat();
    assert_eq!(
        asking(&stack, "GET", "/ws", &handshake).await.0.status,
        101,
        "a tab with the old token must still be accepted"
    );
}

/// Envoy fetches the keys every second instead of every 55 seconds.
fn often() -> Vec<(String, String)> {
    vec![("cache_duration: 60s".into(), "cache_duration: 6s".into())]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_key_is_known_before_it_signs_and_a_removed_one_ends() {
    let stack = Stack::planned(Plan { envoy: often(), more: UNLIMITED.into(), ..Plan::fast() }).await;
    let configured = std::fs::read_to_string(stack.config()).unwrap();
    let soon = configured.replace("directory: keys }", "directory: keys, sign_after: 5s }");
    std::fs::write(stack.config(), soon).unwrap();
    stack.signal("HUP");
    let mut first = Browser::wechat();
    stack.log_in(&mut first, "/").await;
    let old = kid(&first);
    // A token that Envoy has not yet received.
    let mut unseen = Browser::wechat();
    stack.hand_to(&mut unseen, "小红");
    let home = stack.url("/unseen");
    // The return address ends in `#`, so that the browser drops WeChat's fragment.
    unseen.follow_until(&home, |next| next.trim_end_matches('#') == home).await;
    assert!(unseen.cookie(SESSION).is_some());
    stack.remember(&unseen);
    let keys = stack.directory.path().join("keys");
    let file = std::fs::read_dir(&keys).unwrap().next().unwrap().unwrap().path();
    tokio::time::sleep(Duration::from_millis(1_100)).await; // a key's name is its creation time in seconds
    assert!(Command::new(program()).arg("keygen").arg(&keys).output().unwrap().status.success());
    // Envoy accepts every login at once, from before the new key exists until it has signed a token.
    let mut second = Browser::wechat();
    let mut logins = 0;
    until("does the new key sign", async || {
        second = Browser::wechat();
        stack.log_in(&mut second, "/").await;
        logins += 1;
        assert_eq!(fetching(&stack, &mut second).await, (200, 0), "login {logins}");
        assert_eq!(fetching(&stack, &mut first).await, (200, 0), "the first session must stay valid");
        kid(&second) != old
    })
    .await;
    assert!(logins > 3, "the new key must not sign at once");
    std::fs::remove_file(file).unwrap();
    until("is the old key gone", async || {
        let keys = Browser::desktop().fetch(&stack.url("/_wechat/jwks.json")).await.json();
        keys["keys"].as_array().unwrap().len() == 1
    })
    .await;
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    assert_eq!(fetching(&stack, &mut unseen).await, (401, 1), "tokens of the removed key must be rejected");
    assert_eq!(
        fetching(&stack, &mut first).await,
        (200, 0),
        "a token that Envoy has verified must pass until it expires"
    );
    assert_eq!(fetching(&stack, &mut second).await, (200, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_keys_envoy_checks_and_without_us_it_fails_closed() {
    let mut stack = Stack::planned(Plan { envoy: often(), ..Plan::fast() }).await;
    let mut browser = Browser::wechat();
    stack.log_in(&mut browser, "/").await;
    let cookie = session_cookie(&browser);
    let before = stack.upstream.count();
    stack.kill_authz();
    // Longer than the cached keys are valid.
    tokio::time::sleep(Duration::from_secs(8)).await;
    for target in ["/orders", "/ws"] {
        assert_eq!(
            ask(&stack, "GET", target, &[("cookie", &cookie)]).await.status,
            200,
            "a valid session must still pass"
        );
    }
    assert_eq!(ask(&stack, "GET", "/orders", &[]).await.status, 503);
    assert_eq!(ask(&stack, "GET", "/admin", &[("cookie", &cookie)]).await.status, 503);
    // An Envoy that starts now has no keys.
    let fresh = stack.another_envoy(true).await;
    let with_session = compose("GET", "/orders", &stack.edge.to_string(), &[("cookie", &cookie)]);
    assert_eq!(raw(fresh, &with_session).await.unwrap().status, 503, "Envoy must deny without keys");
    assert_eq!(stack.upstream.count(), before + 2);
    stack.restart_authz().await;
    until("does the new Envoy know it unasked", async || {
        let before = stack.asked().await;
        assert_eq!(raw(fresh, &with_session).await.unwrap().status, 200);
        stack.asked().await == before
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_keys_every_request_is_checked() {
    let wrong = vec![("/_wechat/jwks.json\"".to_owned(), "/_wechat/nothing.json\"".to_owned())];
    let stack = Stack::planned(Plan { envoy: wrong, ..Plan::fast() }).await;
    let mut browser = Browser::wechat();
    stack.log_in(&mut browser, "/").await;
    for _ in 0..3 {
        assert_eq!(fetching(&stack, &mut browser).await, (200, 1));
    }
    assert_eq!(fetching(&stack, &mut Browser::wechat()).await, (401, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_application_accepts_its_own_sessions_only() {
    const BLOG: &str = "wx00000000000000c3";
    let app = format!(
        "- name: blog\n  origin: http://blog.localhost:EDGE_PORT\n  official_account: {{ appid: {BLOG}, secret_file: ./oa.secret }}\n"
    );
    let simulator = |options: &mut wechat_simulator::Options| {
        options.apps.push(App::official_account(BLOG, harness::OA_SECRET, "blog.localhost").with_any_port());
    };
    let stack = Stack::planned(Plan { app, simulator, ..Plan::fast() }).await;
    let blog = |path: &str| format!("http://blog.localhost:{}{path}", stack.edge.port());
    let mut browser = Browser::wechat();
    stack.log_in(&mut browser, "/").await;
    let shops = session_cookie(&browser);
    let home = browser.follow(&blog("/")).await.pop().unwrap();
    assert_eq!(home.seen("x-wechat-appid").as_deref(), Some(BLOG));
    stack.remember(&browser);
    let host = format!("blog.localhost:{}", stack.edge.port());
    let blogs = browser.jar.iter().find(|cookie| cookie.name == SESSION && cookie.host == host).unwrap();
    let blogs = format!("{SESSION}={}", blogs.value);
    for (at, cookie, status, asked) in [
        (stack.url("/a"), &shops, 200, 0),
        (blog("/a"), &blogs, 200, 0),
        (stack.url("/a"), &blogs, 401, 1),
        (blog("/a"), &shops, 401, 1),
    ] {
        let before = stack.asked().await;
        let answer = Browser::desktop().ask("GET", &at, &[("cookie", cookie)], "").await;
        assert_eq!((answer.status, stack.asked().await - before), (status, asked), "{at} {answer:?}");
        if status == 401 {
            assert_eq!(reason(&answer), "token_foreign");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restricted_path_is_asked_about_however_it_is_spelled() {
    const POLICY: &str = "policy:\n\
        - { path_prefix: /staff, access: required, subjects: [\"wx:union:somebody-else\"] }\n\
        - { path_pattern: \"/reports/*/secret\", access: required, subjects: [\"wx:union:somebody-else\"] }\n\
        - { path_prefix: /api, methods: [POST, DELETE], access: required, subjects: [\"wx:union:somebody-else\"] }\n\
        - { path_prefix: /static, access: public }\n\
        - { path_prefix: /wiki, access: optional }\n";
    let stack = Stack::planned(Plan { more: format!("{UNLIMITED}{POLICY}"), ..Plan::fast() }).await;
    let mut browser = Browser::wechat();
    stack.log_in(&mut browser, "/").await;
    let cookie = session_cookie(&browser);
    for (method, target, asked) in [
        ("GET", "/staff", 1),
        ("GET", "/Staff", 1),
        ("GET", "/STAFF/a?b", 1),
        ("GET", "/staff/", 1),
        ("GET", "/staff.json", 1),
        ("GET", "/staff;a=b", 1),
        ("GET", "/%73taff", 1),
        ("GET", "/%2573taff", 1),
        ("GET", "/a/../staff", 1),
        ("GET", "/reports/7/secret", 1),
        ("GET", "/reports/7/secret/", 1),
        ("GET", "/reports/7/secret/.", 1),
        ("GET", "/reports/7/Secret.json", 1),
        ("GET", "/reports/7/secret?a=/", 1),
        ("DELETE", "/api", 1),
        ("POST", "/Api/a", 1),
        ("PROPFIND", "/orders", 1),
        ("GET", "/static/a.css", 1),
        ("GET", "/api", 0),
        ("GET", "/wiki/a", 0),
        ("GET", "/reports/7/secrets", 0),
        ("GET", "/staffroom", 0),
    ] {
        let (answer, found) = asking(&stack, method, target, &[("cookie", &cookie)]).await;
        assert_eq!(found, asked, "{method} {target}: {answer:?}");
    }
}

/// The number of tokens that Envoy had not verified before: each may cost one signature verification.
async fn unseen_by_envoy(stack: &Stack) -> u64 {
    let stats = Browser::desktop().fetch(&format!("http://{}/stats?filter=jwt_cache_miss", stack.envoy_admin)).await;
    stats.body.lines().filter_map(|line| line.rsplit_once(": ")?.1.parse::<u64>().ok()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn other_spellings_of_a_valid_token_cost_envoy_no_signature() {
    let stack = Stack::planned(Plan { more: UNLIMITED.into(), ..Plan::fast() }).await;
    let mut browser = Browser::wechat();
    stack.log_in(&mut browser, "/").await;
    let token = browser.cookie(SESSION).unwrap();
    let plain = format!("{SESSION}={token}");
    assert_eq!(asking(&stack, "GET", "/orders", &[("cookie", &plain)]).await.1, 0);
    let host = stack.edge.to_string();
    let before = unseen_by_envoy(&stack).await;
    assert!(before > 0, "the statistic must exist");
    let last = token.chars().last().unwrap();
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let next = alphabet.as_bytes()[alphabet.find(last).unwrap() + 1] as char;
    let (body, (head, rest)) = (&token[..token.len() - 1], token.split_once('.').unwrap());
    for line in [
        format!("{SESSION}=\"{token}\""),
        format!("{SESSION}= {token}"),
        format!("{SESSION}={token} ; a=1"),
        format!("{SESSION} ={token}"),
        format!("a=1;{plain}"),
        format!("a=1;  {plain}"),
        format!("{SESSION}={token}="),
        format!("{SESSION}={token}=="),
        format!("{SESSION}={token}A"),
        format!("{SESSION}={body}{next}"),
        format!("{SESSION}={body}\t{last}"),
        format!("{SESSION}={head}=.{rest}"),
        format!("{SESSION}={head} .{rest}"),
        format!("{SESSION}=\"{token}\"; {plain}"),
        format!("{SESSION}=\"{token}\",a; {plain}"),
        format!("{plain}; {SESSION}={token}=="),
        format!("{plain}; {plain}"),
        format!("a=1,{SESSION}=\"{token}\"; {plain}"),
        format!("{SESSION}=.; {plain}"),
    ] {
        for _ in 0..2 {
            let (answer, asked) = asking(&stack, "GET", "/orders", &[("cookie", &line)]).await;
            assert_eq!(asked, 1, "{line}: {answer:?}");
        }
        // The same cookies with a byte that is not UTF-8.
        let beside =
            String::from_utf8(compose("GET", "/orders", &host, &[("cookie", &format!("a=~; {line}"))])).unwrap();
        let bytes: Vec<u8> = beside.bytes().map(|byte| if byte == b'~' { 0xff } else { byte }).collect();
        raw(stack.edge, &bytes).await.unwrap();
        // The same cookies in several lines.
        let lines: Vec<(&str, &str)> = line.split("; ").map(|one| ("cookie", one)).collect();
        asking(&stack, "GET", "/orders", &lines).await;
        assert_eq!(unseen_by_envoy(&stack).await, before, "{line}");
    }
}
