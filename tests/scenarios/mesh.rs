//! Scenarios behind the configurations that Istio and Envoy Gateway generate from the chart's objects
//! (docs/en/ext-authz.md, Istio): header lists, time-outs and removed headers are those that the chart renders.

use crate::derived::{ENVOY_GATEWAY, ISTIO, ISTIO_IN_BAND, behind, inside_the_mesh};
use harness::client::{Answer, Browser, DESKTOP, HTML, compose, raw};
use harness::stack::{Plan, Stack};
use harness::{IDENTITY, SESSION};
use std::time::{Duration, Instant};

const MINUTE: i64 = 60;
const BOTH: [&str; 2] = [ISTIO, ENVOY_GATEWAY];

async fn logged_in(scenario: &'static str, plan: Plan) -> (Stack, Browser) {
    let stack = Stack::planned(behind(scenario, plan)).await;
    let mut browser = Browser::wechat();
    stack.log_in(&mut browser, "/orders").await;
    (stack, browser)
}

fn cookie(browser: &Browser) -> String {
    format!("{SESSION}={}", browser.cookie(SESSION).unwrap())
}

async fn ask(stack: &Stack, target: &str, lines: &[(&str, &str)]) -> Answer {
    raw(stack.edge, &compose("GET", target, &stack.edge.to_string(), lines)).await.unwrap()
}

fn open() -> Plan {
    Plan { more: "policy:\n- { path_prefix: /public, access: public }\n".into(), ..Plan::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_application_sees_the_identity_and_not_the_session() {
    for scenario in BOTH {
        let app = "  domain_proofs: [ MP_verify_AbCdEfGh12345678.txt, 6ynZPDvfTF.txt=0a1b2c ]\n".into();
        let stack = Stack::planned(behind(scenario, Plan { app, ..Plan::default() })).await;
        let mut browser = Browser::wechat();
        let answers = stack.log_in_by_each_hop(&mut browser, "/orders?a=b").await;
        let home = answers.last().unwrap();
        assert_eq!(home.seen("cookie"), None, "{scenario}: the application must not receive our cookies");
        // A client without a session gets the complete denial in the form for its client kind.
        let refused = Browser::desktop().fetch(&stack.url("/api")).await;
        assert_eq!((refused.status, refused.header("content-type")), (401, "application/json"), "{scenario}");
        assert_eq!(refused.json()["data"]["login_url"], stack.url("/_wechat/login"), "{scenario}");
        assert_eq!(answers[0].header("cache-control"), "no-store", "{scenario}");
        // WeChat fetches the domain's proof files without a login.
        for (file, content) in [("/MP_verify_AbCdEfGh12345678.txt", "AbCdEfGh12345678"), ("/6ynZPDvfTF.txt", "0a1b2c")]
        {
            let proof = ask(&stack, file, &[]).await;
            assert_eq!((proof.status, proof.body.as_str()), (200, content), "{scenario}: {proof:?}");
        }
        // The logout.
        let out = [("sec-fetch-site", "same-origin"), ("accept", HTML)];
        assert_eq!(browser.ask("POST", &stack.url("/_wechat/logout"), &out, "").await.status, 200, "{scenario}");
        assert_eq!(browser.fetch(&stack.url("/api")).await.status, 401, "{scenario}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_client_without_a_session_gets_its_whole_denial() {
    /// The request's method and headers, and the expected status and content type.
    type Client = (&'static str, &'static [(&'static str, &'static str)], u16, &'static str);
    const JSON: &str = "application/json";
    const CLIENTS: [Client; 10] = [
        ("GET", &[("accept", HTML)], 302, ""),
        ("GET", &[("sec-fetch-mode", "navigate")], 302, ""),
        ("GET", &[("accept", JSON)], 401, JSON),
        ("GET", &[("accept", HTML), ("x-requested-with", "XMLHttpRequest")], 401, JSON),
        ("GET", &[("accept", HTML), ("sec-fetch-mode", "cors")], 401, JSON),
        ("GET", &[("accept", HTML), ("authorization", "Bearer x")], 401, JSON),
        ("GET", &[("accept", HTML), ("sec-websocket-version", "13")], 401, JSON),
        ("GET", &[("accept", HTML), ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")], 401, JSON),
        ("OPTIONS", &[("origin", "https://a.example"), ("access-control-request-method", "PUT")], 403, JSON),
        (
            "POST",
            &[("accept", HTML), ("accept-language", "en"), ("content-length", "0")],
            401,
            "text/html; charset=utf-8",
        ),
    ];
    for scenario in BOTH {
        let stack = Stack::planned(behind(scenario, Plan::default())).await;
        let host = stack.edge.to_string();
        for (method, lines, status, kind) in CLIENTS {
            let answer = raw(stack.edge, &compose(method, "/orders", &host, lines)).await.unwrap();
            let said = format!("{scenario} {method} {lines:?}: {answer:?}");
            assert_eq!((answer.status, answer.header("content-type")), (status, kind), "{said}");
            assert_eq!(answer.header("cache-control"), "no-store", "{said}");
            if kind.starts_with("text/html") {
                assert_eq!(
                    (answer.header("content-language"), answer.header("vary")),
                    ("en", "Accept-Language, Cookie"),
                    "{said}"
                );
                assert!(answer.header("content-security-policy").contains("default-src 'none'"), "{said}");
                assert_eq!(answer.header("referrer-policy"), "no-referrer", "{said}");
                assert_eq!(answer.header("x-content-type-options"), "nosniff", "{said}");
            }
        }
        // A gRPC call gets one line of text, and a WebSocket handshake gets a status.
        let call = [("content-type", "application/grpc"), ("te", "trailers"), ("content-length", "0")];
        let answer = raw(stack.edge, &compose("POST", "/orders", &host, &call)).await.unwrap();
        assert_eq!((answer.status, answer.header("grpc-status")), (200, "16"), "{scenario}: {answer:?}");
        assert!(answer.header("grpc-message").starts_with("log in first"), "{scenario}: {answer:?}");
        assert_eq!(stack.upstream.count(), 0, "{scenario}");
    }
    // A rate-limited client gets a `Retry-After` header.
    for scenario in BOTH {
        let few = "limits: { checks_per_client: { per_minute: 1, burst: 1 } }\n";
        let stack = Stack::planned(behind(scenario, Plan { more: few.into(), ..Plan::default() })).await;
        assert_eq!(ask(&stack, "/orders", &[]).await.status, 401, "{scenario}");
        let limited = ask(&stack, "/orders", &[]).await;
        assert!(limited.status == 429 && !limited.header("retry-after").is_empty(), "{scenario}: {limited:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bearer_token_is_a_session_and_is_removed() {
    for scenario in BOTH {
        let (stack, browser) = logged_in(scenario, Plan::default()).await;
        let bearer = format!("Bearer {}", browser.cookie(SESSION).unwrap());
        let answer = ask(&stack, "/orders", &[("authorization", &bearer)]).await;
        assert_eq!((answer.status, answer.seen("authorization")), (200, None), "{scenario}: {answer:?}");
        assert!(answer.seen("x-wechat-subject").is_some_and(|subject| !subject.is_empty()), "{scenario}");
        let own = ask(&stack, "/orders", &[("authorization", "Basic YTpi"), ("cookie", &cookie(&browser))]).await;
        assert_eq!((own.status, own.seen("authorization").as_deref()), (200, Some("Basic YTpi")), "{scenario}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denial_is_logged_with_its_request_trace_and_source() {
    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const CLAIMED: &str = "203.0.113.9";
    let parent = format!("00-{TRACE}-00f067aa0ba902b7-01");
    for scenario in [ISTIO, ENVOY_GATEWAY, ISTIO_IN_BAND] {
        let mut stack = Stack::planned(behind(scenario, open())).await;
        let public = ask(&stack, "/public", &[("x-forwarded-for", CLAIMED)]).await;
        let told = public.seen("x-forwarded-for").unwrap();
        let last = told.rsplit(',').next().unwrap().trim().to_owned();
        // A sidecar trusts the address from the gateway in front of it; an edge trusts no address from outside.
        assert_eq!(last == CLAIMED, scenario == ISTIO_IN_BAND, "{scenario}: {told}");
        let strange =
            compose("GET", "/", "elsewhere.example", &[("x-forwarded-for", CLAIMED), ("traceparent", &parent)]);
        assert_eq!(raw(stack.edge, &strange).await.unwrap().status, 403, "{scenario}");
        let line = stack.until_logged("check denied", 0).await;
        assert_eq!((&line["trace_id"], &line["client"]), (&TRACE.into(), &last.clone().into()), "{scenario}: {line}");
        assert!(line["request_id"].as_str().is_some_and(|id| id.len() == 36), "{scenario}: {line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_client_names_itself_whatever_it_sends() {
    const ALIASES: [&str; 9] = [
        "x_wechat_openid",
        "X-Wechat_Openid",
        "x.wechat.openid",
        "x-wechat_subject",
        "x.wechat.subject",
        "x~wechat~session",
        "X.Wechat-Unionid",
        "x-wechat-role",
        "x_wechat.avatar",
    ];
    /// Headers of applications that resemble ours.
    const OTHERS: [&str; 3] = ["ot-baggage-sentry-trace_id", "access_token", "x-wechatpay-signature"];
    /// Headers that the proxies of a mesh exchange.
    const MESH: [&str; 2] = ["x-envoy-peer-metadata", "x-envoy-attempt-count"];
    for scenario in BOTH {
        let (stack, browser) = logged_in(scenario, open()).await;
        let subject = format!("wx:{}:{}", harness::OA, stack.simulator.openid(harness::OA, "小明"));
        let cookie = cookie(&browser);
        let claims = IDENTITY.map(|name| (name, "admin"));
        for (target, lines, known) in [
            ("/orders", vec![("cookie", cookie.as_str())], true),
            ("/public", vec![("cookie", cookie.as_str())], false),
            ("/public", vec![], false),
        ] {
            let answer = ask(&stack, target, &[&claims[..], &lines].concat()).await;
            assert_eq!(answer.status, 200, "{scenario} {target}: {answer:?}");
            for name in IDENTITY {
                let seen = answer.seen(name).unwrap_or_default();
                assert!(!seen.contains("admin"), "{scenario} {target}: {name}: {seen}");
            }
            let named = answer.seen("x-wechat-subject").unwrap_or_default();
            assert_eq!(named, if known { subject.as_str() } else { "" }, "{scenario} {target}");
        }
        // Names that many servers treat as ours are removed; other headers stay.
        for alias in ALIASES {
            let answer = ask(&stack, "/public", &[(alias, "admin")]).await;
            assert_eq!((answer.status, answer.seen(alias)), (200, None), "{scenario}: {alias}: {answer:?}");
        }
        for other in OTHERS {
            let answer = ask(&stack, "/public", &[(other, "a")]).await;
            assert_eq!(answer.seen(other).as_deref(), Some("a"), "{scenario}: {other}: {answer:?}");
        }
    }
    let (stack, _) = logged_in(ISTIO_IN_BAND, open()).await;
    for name in MESH {
        let answer = ask(&stack, "/public", &[(name, "a")]).await;
        assert_eq!(answer.seen(name).as_deref(), Some("a"), "{name}: {answer:?}");
    }
    // On an unchecked route, the gateway removes forged identity headers before it selects the route.
    let (stack, _) = logged_in(ENVOY_GATEWAY, Plan::default()).await;
    let answer = ask(&stack, "/unchecked", &IDENTITY.map(|name| (name, "admin"))).await;
    assert_eq!((answer.status, IDENTITY.map(|name| answer.seen(name))), (200, IDENTITY.map(|_| None)), "{answer:?}");
    let answer = ask(&stack, "/unchecked", &ALIASES.map(|name| (name, "admin"))).await;
    assert_eq!((answer.status, ALIASES.map(|name| answer.seen(name))), (200, ALIASES.map(|_| None)), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_session_is_found_in_joined_cookies_and_a_planted_one_not() {
    for scenario in BOTH {
        let (stack, browser) = logged_in(scenario, Plan::default()).await;
        let ours = cookie(&browser);
        for (lines, seen) in [
            (vec!["a=1", ours.as_str(), "b=2"], "a=1,b=2"),
            (vec![ours.as_str(), "b=2"], "b=2"),
            (vec!["a=1; c=3", ours.as_str()], "a=1; c=3"),
        ] {
            let lines: Vec<(&str, &str)> = lines.iter().map(|line| ("cookie", *line)).collect();
            let answer = ask(&stack, "/orders", &lines).await;
            assert_eq!(answer.status, 200, "{scenario} {lines:?}: {answer:?}");
            assert_eq!(answer.seen("cookie").as_deref(), Some(seen), "{scenario} {lines:?}");
        }
        // A browser sends one line, in which a comma is part of a value that a page on a sibling subdomain may have
        // set.
        let planted = format!("lang=zh,{ours}");
        for told in [("user-agent", DESKTOP), ("sec-fetch-mode", "cors")] {
            let answer = ask(&stack, "/orders", &[told, ("cookie", &planted)]).await;
            assert_eq!(answer.status, 401, "{scenario} {told:?}: {answer:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn istio_delivers_the_next_token_beside_other_cookies() {
    let (stack, mut browser) = logged_in(ISTIO, Plan { clock: true, ..Plan::default() }).await;
    let first = browser.cookie(SESSION);
    stack.set_clock(11 * MINUTE);
    let answer = browser.fetch(&stack.url("/api")).await;
    stack.remember(&browser);
    assert_eq!(answer.status, 200, "{answer:?}");
    let names: Vec<&str> = answer.set_cookies().map(|line| line.split('=').next().unwrap()).collect();
    assert!(names.len() == 2 && names.contains(&SESSION) && names.contains(&"app"), "{answer:?}");
    assert!(answer.header("cache-control").contains("no-store"), "{answer:?}");
    assert_ne!(browser.cookie(SESSION), first);
    stack.set_clock(20 * MINUTE);
    assert_eq!(
        browser.fetch(&stack.url("/api")).await.status,
        200,
        "a request after the first token's expiry must pass"
    );
    stack.remember(&browser);
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_envoy_gateway_one_redirect_renews_a_page() {
    let (stack, mut browser) = logged_in(ENVOY_GATEWAY, Plan { clock: true, ..Plan::default() }).await;
    stack.set_clock(16 * MINUTE);
    stack.is_renewed_by_one_redirect(&mut browser).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hanging_check_denies_with_each_gateways_status() {
    for (scenario, status) in [(ISTIO, 503), (ENVOY_GATEWAY, 403)] {
        let (stack, mut browser) = logged_in(scenario, open()).await;
        let before = stack.upstream.count();
        stack.stop_authz().await;
        let begun = Instant::now();
        let orders = browser.get(&stack.url("/orders")).await;
        let public = Browser::desktop().fetch(&stack.url("/public")).await;
        let waited = begun.elapsed();
        stack.signal("CONT");
        assert_eq!((orders.status, public.status), (status, status), "{scenario}: {orders:?}");
        assert!(
            (0.9..5.0).contains(&waited.as_secs_f64()),
            "{scenario}: the time-out is 0.5 s each, waited {waited:?}"
        );
        assert_eq!(stack.upstream.count(), before, "{scenario}");
        assert_eq!(
            browser.get(&stack.url("/orders")).await.status,
            200,
            "{scenario}: requests must pass again afterwards"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_program_nothing_passes() {
    for (scenario, status) in [(ISTIO, 503), (ENVOY_GATEWAY, 403)] {
        let (mut stack, mut browser) = logged_in(scenario, open()).await;
        let before = stack.upstream.count();
        stack.kill_authz();
        let begun = Instant::now();
        assert_eq!(browser.get(&stack.url("/orders")).await.status, status, "{scenario}");
        assert!(begun.elapsed() < Duration::from_secs(2), "{scenario}: must fail at once");
        assert_eq!(stack.upstream.count(), before, "{scenario}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_spelling_of_a_path_passes_the_check_through_the_pages() {
    for scenario in BOTH {
        let (stack, _) = logged_in(scenario, open()).await;
        let before = stack.upstream.count();
        for target in [
            "/_wechat/../orders",
            "/_wechat/%2e%2e/orders",
            "/_wechat/..%2forders",
            "/_wechat%2f..%2forders",
            "/_wechat/..;/orders",
            "/_wechat//../orders",
            "/_wechat/%252e%252e/orders",
            "/public/../orders",
            "/public/..%2forders",
            "//orders",
            "/%6frders",
            "/MP_verify_AbCdEfGh12345678.txt/../orders",
        ] {
            let answer = ask(&stack, target, &[("accept", HTML)]).await;
            assert!(answer.status >= 300, "{scenario} {target}: {answer:?}");
        }
        assert_eq!(stack.upstream.count(), before, "{scenario}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_reach_the_check_and_the_application_unchanged() {
    let more = "policy:\n- { path_prefix: /public, access: public }\n\
        - { path_prefix: /packages, access: public, allow_encoded_slashes: true }\n";
    for scenario in BOTH {
        let stack = Stack::planned(behind(scenario, Plan { more: more.into(), ..Plan::default() })).await;
        for target in [
            "/public/img/https://example.com/a.png",
            "/public//a///b/",
            "/public/C%23%20notes.pdf",
            "/public/%C9%CC%C6%B7",
            "/packages/@scope%2Fname",
            "/packages/group%2fproject//file%5Cname",
            "/packages/100%2525",
        ] {
            let answer = ask(&stack, target, &[]).await;
            assert_eq!(answer.status, 200, "{scenario} {target}: {answer:?}");
            assert_eq!(answer.json()["target"], target, "{scenario}");
        }
        let before = stack.upstream.count();
        for target in ["/public/a%2Fb", "/public/a%5Cb", "/public/a%252Fb", "/packages/..%2Forders"] {
            assert_eq!(ask(&stack, target, &[]).await.status, 403, "{scenario} {target}");
        }
        assert_eq!(stack.upstream.count(), before, "{scenario}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_below_the_prefix_reaches_the_application_unchecked() {
    // Another pod of the mesh calls the application's pod directly, where no route leads to the pages.
    let stack = Stack::planned(inside_the_mesh(open())).await;
    for below in [
        "",
        "/",
        "/x",
        "/login/",
        "/login/x",
        "/LOGIN",
        "/login;x",
        "/login%2f",
        "/session%00",
        "/jwks.json.",
        "//login",
    ] {
        let answer = ask(&stack, &format!("/_wechat{below}"), &[]).await;
        assert!(answer.status >= 400, "{below}: {answer:?}");
    }
    for up in ["..", "%2e%2e", ".%2e", "..;", "..;x=1", "login/..", "login%2f..", "callback/%2e%2e", "x/../.."] {
        for slash in ["/", "%2f", "%2F", "//", "\\", "%5c", "%252f"] {
            let target = format!("/_wechat/{up}{slash}admin");
            let answer = ask(&stack, &target, &[]).await;
            assert!(answer.status >= 302, "{target}: {answer:?}");
        }
    }
    for target in ["/_wechat%2f..%2fadmin", "/_wechat%2flogin", "/MP_verify_AbCdEfGh12345678.txt%2f..%2fadmin"] {
        assert!(ask(&stack, target, &[]).await.status >= 400, "{target}");
    }
    assert_eq!(stack.upstream.count(), 0);
    // Without a route, the paths of the pages belong to the application, which serves nothing there.
    assert_eq!(ask(&stack, "/_wechat/login", &[]).await.status, 200);
    assert_eq!(stack.upstream.count(), 1);
}
