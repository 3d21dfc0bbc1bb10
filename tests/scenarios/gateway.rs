//! Requests that the gateway allows or denies, and forged input that it must not trust (docs/en/ext-authz.md).
//!
//! Each scenario runs twice, behind `envoy/strict.yaml` and behind `envoy/fast.yaml`: see `scenarios!`.

use harness::IDENTITY;
use harness::SESSION;
use harness::client::{self, Answer, Browser, HTML, compose, raw, try_h2};
use harness::stack::{Plan, Stack};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Header lines.
pub type Lines = &'static [(&'static str, &'static str)];

/// `/public` is open, `/maybe` accepts requests with and without a session, `/staff` needs another subject; all other
/// paths need a session.
const POLICY: &str = "policy:\n\
    - { path_prefix: /public, access: public }\n\
    - { path_prefix: /maybe, access: optional }\n\
    - { path_prefix: /staff, access: required, subjects: [\"wx:union:somebody-else\"] }\n";

async fn with_rules(plan: fn() -> Plan) -> (Stack, Browser) {
    let stack = Stack::planned(Plan { more: POLICY.to_owned(), ..plan() }).await;
    let mut browser = Browser::wechat();
    stack.log_in(&mut browser, "/").await;
    (stack, browser)
}

/// Sends one request through Envoy.
pub async fn ask(stack: &Stack, method: &str, target: &str, lines: &[(&str, &str)]) -> Answer {
    let bytes = compose(method, target, &stack.edge.to_string(), lines);
    raw(stack.edge, &bytes).await.unwrap_or_else(|| panic!("no answer: {method} {target} {lines:?}"))
}

/// Sends the same over HTTP/2.
pub async fn ask_h2(stack: &Stack, method: &str, target: &str, lines: &[(&str, &str)]) -> Answer {
    let answer = try_h2(stack.edge, &stack.edge.to_string(), method, target, lines).await;
    answer.unwrap_or_else(|| panic!("no answer: {method} {target} {lines:?}"))
}

/// Sends one check as Envoy sends it.
async fn check(stack: &Stack, target: &str, lines: &[(&str, &str)]) -> Answer {
    let bytes = compose("GET", target, &stack.edge.to_string(), lines);
    raw(stack.check.parse().unwrap(), &bytes).await.unwrap_or_else(|| panic!("no answer: {target} {lines:?}"))
}

/// A browser whose requests need a check: with `fast.yaml` one without a session.
fn to_be_asked_about(stack: &Stack, browser: &Browser) -> Browser {
    if stack.is_fast() { Browser::wechat() } else { browser.clone() }
}

/// The status of a request from another address of this machine.
async fn status_from(source: &str, address: SocketAddr, bytes: &[u8]) -> u16 {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(format!("{source}:0").parse().unwrap()).unwrap();
    let mut stream = socket.connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut head = [0; 12];
    stream.read_exact(&mut head).await.unwrap();
    String::from_utf8_lossy(&head[9..]).parse().unwrap()
}

pub fn session_cookie(browser: &Browser) -> String {
    format!("{SESSION}={}", browser.cookie(SESSION).unwrap())
}

pub fn reason(answer: &Answer) -> String {
    answer.json()["data"]["reason"].as_str().unwrap_or_default().to_owned()
}

/// The client kinds (docs/en/ext-authz.md, Special requests), each with its typical headers.
pub const CLIENTS: &[(&str, &str, Lines)] = &[
    ("page", "GET", &[("accept", HTML)]),
    ("page", "GET", &[("sec-fetch-mode", "navigate"), ("accept", HTML)]),
    // WeChat on Android sends this header on page loads.
    ("page", "GET", &[("accept", HTML), ("x-requested-with", "com.tencent.mm")]),
    ("head", "HEAD", &[("accept", HTML)]),
    (
        "form",
        "POST",
        &[("accept", HTML), ("content-type", "application/x-www-form-urlencoded"), ("content-length", "0")],
    ),
    ("data", "GET", &[("accept", "application/json")]),
    ("data", "GET", &[]),
    ("data", "GET", &[("accept", HTML), ("x-requested-with", "XMLHttpRequest")]),
    ("data", "GET", &[("accept", HTML), ("sec-fetch-mode", "cors")]),
    ("data", "PUT", &[("content-type", "application/json"), ("content-length", "0")]),
    ("websocket", "GET", HANDSHAKE),
    ("grpc", "POST", &[("content-type", "application/grpc"), ("te", "trailers"), ("content-length", "0")]),
    ("preflight", "OPTIONS", &[("origin", "https://a.example"), ("access-control-request-method", "PUT")]),
];

pub const HANDSHAKE: Lines = &[
    ("connection", "Upgrade"),
    ("upgrade", "websocket"),
    ("sec-websocket-version", "13"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
];

/// Asserts the form of a denial for a client kind, independent of the reason.
fn assert_form(client: &str, status: u16, answer: &Answer, why: &str) {
    let said = format!("{why}, {client}: {answer:?}");
    if client == "grpc" {
        assert_eq!(answer.status, 200, "{said}");
        let number = match status {
            401 => "16",
            403 => "7",
            _ => "14",
        };
        assert_eq!(answer.header("grpc-status"), number, "{said}");
        assert!(answer.header("grpc-message").contains(why), "{said}");
        return;
    }
    assert_eq!(answer.status, status, "{said}");
    assert_eq!(answer.header("cache-control"), "no-store", "{said}");
    assert_eq!(answer.header("retry-after").is_empty(), status != 429, "{said}");
    assert!(IDENTITY.iter().all(|name| answer.header(name).is_empty()), "{said}");
    let machine = matches!(client, "data" | "websocket" | "preflight");
    if machine {
        assert_eq!(answer.header("content-type"), "application/json", "{said}");
        let body = answer.json();
        assert_eq!(body["code"], status, "{said}");
        assert!(body["message"].as_str().is_some_and(|message| !message.is_empty()), "{said}");
        assert_eq!(reason(answer), why, "{said}");
        assert_eq!(answer.header("www-authenticate"), if status == 401 { "Bearer" } else { "" }, "{said}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{said}");
    } else if status != 302 {
        // Envoy removes the content type from a response without a body.
        let kind = if client == "head" { "" } else { "text/html; charset=utf-8" };
        assert_eq!(answer.header("content-type"), kind, "{said}");
        assert!(answer.header("content-security-policy").contains("default-src 'none'"), "{said}");
        assert_eq!(answer.body.is_empty(), client == "head", "{said}");
    }
}

/// Generates a module that runs each of these scenarios behind one of the shipped configurations.
macro_rules! behind {
    ($configuration:ident, $($scenario:ident)*) => {
        mod $configuration {
            use harness::stack::Plan;
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $scenario() {
                super::$scenario(Plan::$configuration).await;
            })*
        }
    };
}

macro_rules! scenarios {
    ($($scenario:ident)*) => {
        behind!(strict, $($scenario)*);
        behind!(fast, $($scenario)*);
    };
}

scenarios! {
    each_client_without_a_session_gets_a_denial_it_understands
    a_forbidden_subject_gets_403_and_no_login
    only_clients_without_a_session_get_429
    who_is_logged_in_passes_whatever_the_client
    a_bearer_token_is_a_session_and_a_foreign_one_passes_on
    each_identity_header_arrives_once_and_only_from_us
    a_claimed_identity_opens_nothing
    no_header_tells_the_application_another_request
    headers_of_the_application_arrive_as_they_were_sent
    a_hundred_header_lines_pass_and_too_many_are_431
    streams_and_websockets_end_at_the_bound_and_not_before
    a_header_that_is_kept_arrives_and_no_other_with_it
    behind_a_load_balancer_its_own_word_counts
    the_proxy_protocol_names_the_client_and_is_required
    no_other_header_changes_what_is_decided_about_a_request
    no_spelling_of_a_path_gets_past_the_rules
    a_host_that_is_not_ours_is_served_nothing
    a_port_in_the_host_never_leads_to_another_application
    the_scheme_is_that_of_the_connection_whatever_a_client_says
    the_session_cookie_is_found_and_removed
    a_session_of_one_application_is_nothing_at_another
    every_way_to_reach_the_check_decides_the_same
    each_of_our_pages_answers_its_methods_and_nothing_else
    without_us_nothing_passes_and_each_client_gets_its_form
    while_we_hang_nothing_passes_and_afterwards_everything_does
    the_check_itself_believes_no_other_header_either
    logins_count_for_the_clients_real_address
    an_http_2_client_is_served_as_any_other
    cors_lets_scripts_of_a_named_origin_read_a_denial
}

async fn each_client_without_a_session_gets_a_denial_it_understands(plan: fn() -> Plan) {
    let stack = Stack::planned(plan()).await;
    let login = stack.url("/_wechat/login");
    for (client, method, lines) in CLIENTS {
        let answer = ask(&stack, method, "/orders?page=2", lines).await;
        let (status, why) = match *client {
            "page" | "head" => (302, ""),
            "preflight" => (403, "preflight_denied"),
            _ => (401, "no_session"),
        };
        assert_form(client, status, &answer, why);
        let back = format!("{login}?return_to=%2Forders%3Fpage%3D2");
        match *client {
            "page" | "head" => assert_eq!(answer.location(), back),
            "form" => assert!(answer.body.contains(&back.replace('&', "&amp;")), "{answer:?}"),
            "data" | "websocket" => assert_eq!(answer.json()["data"]["login_url"], login.as_str()),
            "preflight" => assert!(answer.json()["data"]["login_url"].is_null()),
            _ => {}
        }
    }
    assert_eq!(stack.upstream.count(), 0, "no request may reach the application");
}

async fn a_forbidden_subject_gets_403_and_no_login(plan: fn() -> Plan) {
    let (stack, browser) = with_rules(plan).await;
    let before = stack.upstream.count();
    for (client, method, lines) in CLIENTS.iter().filter(|(client, ..)| *client != "preflight") {
        let cookie = session_cookie(&browser);
        let lines = [*lines, &[("cookie", cookie.as_str())]].concat();
        let answer = ask(&stack, method, "/staff/list", &lines).await;
        assert_form(client, 403, &answer, "subject_not_allowed");
        assert_eq!(answer.location(), "");
    }
    assert_eq!(stack.upstream.count(), before);
}

async fn only_clients_without_a_session_get_429(plan: fn() -> Plan) {
    let more = "limits: { checks_per_client: { per_minute: 1, burst: 1 } }\n";
    let stack = Stack::planned(Plan { more: more.to_owned(), ..plan() }).await;
    let mut browser = Browser::wechat();
    stack.log_in(&mut browser, "/").await;
    for (client, method, lines) in CLIENTS {
        let answer = ask(&stack, method, "/", lines).await;
        assert_form(client, 429, &answer, "too_many_checks");
        let wait = answer.header("retry-after").parse::<u64>();
        assert!(*client == "grpc" || wait.is_ok_and(|seconds| (1..=80).contains(&seconds)), "{answer:?}");
    }
    // A client gets no new limit by claiming another address.
    for name in
        ["x-auth-client-ip", "x-forwarded-for", "x-real-ip", "forwarded", "x-envoy-external-address", "true-client-ip"]
    {
        let answer = ask(&stack, "GET", "/", &[(name, "198.51.100.7")]).await;
        assert_eq!(answer.status, 429, "{name}: {answer:?}");
    }
    // A client at another address has its own limit.
    let asked = compose("GET", "/", &stack.edge.to_string(), &[]);
    assert_eq!(status_from("127.0.0.9", stack.edge, &asked).await, 401);
    assert_eq!(status_from("127.0.0.9", stack.edge, &asked).await, 429);
    for _ in 0..50 {
        assert_eq!(
            browser.fetch(&stack.url("/api")).await.status,
            200,
            "a logged-in client at the same address must pass"
        );
    }
    assert!(stack.logged().contains("\"client\":\"127.0.0.9\""));
    assert!(!stack.logged().contains("198.51.100.7"), "an address that a client claims must not be logged");
}

async fn who_is_logged_in_passes_whatever_the_client(plan: fn() -> Plan) {
    let (stack, browser) = with_rules(plan).await;
    let cookie = session_cookie(&browser);
    for (client, method, lines) in CLIENTS.iter().filter(|(client, ..)| *client != "preflight") {
        let before = stack.upstream.count();
        let lines = [*lines, &[("cookie", cookie.as_str())]].concat();
        let answer = ask(&stack, method, "/orders?page=2", &lines).await;
        assert_eq!(answer.status, if *client == "websocket" { 101 } else { 200 }, "{client} {answer:?}");
        assert_eq!(answer.header("grpc-status"), "");
        assert_eq!(stack.upstream.count(), before + 1);
        assert_eq!(stack.upstream.requests.lock().unwrap().last().unwrap(), &format!("{method} /orders?page=2"));
    }
    for target in ["/public/a", "/maybe"] {
        let preflight = CLIENTS.last().unwrap();
        assert_eq!(ask(&stack, preflight.1, target, preflight.2).await.status, 200, "{target}");
    }
}

async fn a_bearer_token_is_a_session_and_a_foreign_one_passes_on(plan: fn() -> Plan) {
    let (stack, browser) = with_rules(plan).await;
    let token = browser.cookie(SESSION).unwrap();
    let ours = format!("Bearer {token}");
    let cookie = session_cookie(&browser);
    for (target, lines, status, seen) in [
        ("/api", vec![("authorization", ours.as_str())], 200, None),
        ("/api", vec![("authorization", ours.as_str()), ("cookie", "a=1")], 200, None),
        ("/maybe", vec![("authorization", ours.as_str())], 200, None),
        // The application's own header: together with our cookie, or on a public path.
        ("/api", vec![("authorization", "Bearer own"), ("cookie", cookie.as_str())], 200, Some("Bearer own")),
        ("/api", vec![("authorization", "Basic YTpi"), ("cookie", cookie.as_str())], 200, Some("Basic YTpi")),
        ("/public", vec![("authorization", ours.as_str())], 200, None),
        ("/api", vec![("authorization", ours.as_str()), ("cookie", cookie.as_str())], 200, None),
        ("/public", vec![("authorization", "Bearer own")], 200, Some("Bearer own")),
        ("/maybe", vec![("authorization", "Bearer own")], 200, Some("Bearer own")),
        ("/api", vec![("authorization", "Bearer own")], 401, None),
        ("/api", vec![("authorization", "Basic YTpi")], 401, None),
        ("/api", vec![("authorization", ours.as_str()), ("authorization", "Bearer own")], 401, None),
    ] {
        let answer = ask(&stack, "GET", target, &lines).await;
        assert_eq!(answer.status, status, "{target} {answer:?}");
        if status == 200 {
            assert_eq!(answer.seen("authorization").as_deref(), seen, "{target}: {answer:?}");
            assert!(!answer.body.contains(&token), "the application must not receive the session token: {answer:?}");
            let known = answer.seen("x-wechat-openid").is_some_and(|openid| !openid.is_empty());
            assert_eq!(known, lines.iter().any(|(_, value)| value.contains(&token)) && target != "/public");
        }
    }
    let refused = ask(&stack, "GET", "/api", &[("authorization", "Bearer own"), ("accept", HTML)]).await;
    assert_form("data", 401, &refused, "token_malformed");
}

/// Header names that an application could mistake for our identity headers (docs/en/ext-authz.md, Identity headers).
fn spoofed_names() -> Vec<String> {
    let mut names: Vec<String> = IDENTITY.iter().map(|name| (*name).to_owned()).collect();
    names.extend(IDENTITY.iter().map(|name| name.to_uppercase()));
    names.extend(IDENTITY.iter().map(|name| name.replace('-', ".")));
    // All other characters that a header name may contain.
    for character in "_!#$%&'*+.^`|~".chars() {
        names.push(format!("x{character}wechat{character}openid"));
        names.push(format!("x-wechat{character}openid"));
        names.push(format!("x{character}wechat-openid"));
    }
    names.extend(
        [
            "x-wechat",
            "x-wechat-new",
            "x-wechat-roles",
            "x-wechat-assertion",
            "x-wechat-openid-2",
            "X-WeChat-OpenId",
            "x-auth-client-ip",
            "X-Auth-Client-IP",
            "x_wechat-new",
            "X_Auth_Client_IP",
            "x_envoy_auth_failure_mode_allowed",
            "x-envoy-auth-headers-to-remove",
            "x-envoy-auth-partial-body",
            "x-envoy-auth-failure-mode-allowed",
        ]
        .map(str::to_owned),
    );
    names
}

/// The headers at the application whose names some server treats as ours.
fn identity_seen(answer: &Answer) -> Vec<(String, String)> {
    let json = answer.json();
    let headers = json["headers"].as_array().unwrap().iter();
    let pairs = headers.map(|pair| (pair[0].as_str().unwrap().to_owned(), pair[1].as_str().unwrap().to_owned()));
    let folded = |name: &str| name.to_lowercase().replace(|character: char| !character.is_ascii_alphanumeric(), "-");
    let mut ours: Vec<(String, String)> = pairs
        .filter(|(name, _)| {
            ["x-wechat", "x-auth-client-ip", "x-envoy-auth"].iter().any(|ours| folded(name).starts_with(ours))
        })
        .collect();
    ours.sort();
    ours
}

async fn each_identity_header_arrives_once_and_only_from_us(plan: fn() -> Plan) {
    let (stack, browser) = with_rules(plan).await;
    let cookie = session_cookie(&browser);
    let names = spoofed_names();
    for target in ["/orders", "/public/a", "/maybe"] {
        for logged_in in [true, false] {
            if !logged_in && target == "/orders" {
                continue;
            }
            let lines: &[(&str, &str)] = if logged_in { &[("cookie", &cookie)] } else { &[] };
            let honest = identity_seen(&ask(&stack, "GET", target, lines).await);
            let mut wanted: Vec<&str> = IDENTITY.to_vec();
            wanted.sort_unstable();
            assert_eq!(
                honest.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
                wanted,
                "{target} {logged_in}"
            );
            let known = logged_in && target != "/public/a";
            let openid = if known { stack.simulator.openid(harness::OA, "小明") } else { String::new() };
            assert!(honest.contains(&("x-wechat-openid".into(), openid)), "{honest:?}");
            assert!(known || honest.iter().all(|(_, value)| value.is_empty()), "{honest:?}");
            for some in names.chunks(30) {
                let claims = some.iter().map(|name| (name.as_str(), "admin"));
                let lines: Vec<(&str, &str)> = lines.iter().copied().chain(claims).collect();
                let answer = ask(&stack, "GET", target, &lines).await;
                assert_eq!(answer.status, 200, "{target} {logged_in}: {answer:?}");
                assert_eq!(identity_seen(&answer), honest, "{target} {logged_in}");
            }
            // Proxies drop the headers that `Connection` names. Our headers must stay even if the client names them.
            for connection in ["x-wechat-openid, close", "X-WeChat-Subject, x-wechat-openid, close"] {
                let answer = ask(&stack, "GET", target, &[lines, &[("connection", connection)]].concat()).await;
                assert_eq!(identity_seen(&answer), honest, "{target} {logged_in} {connection}");
            }
            // A client can drop its own cookie this way; the request then has no session.
            let answer = ask(&stack, "GET", target, &[lines, &[("connection", "cookie, close")]].concat()).await;
            assert_eq!(answer.status, if target == "/orders" { 401 } else { 200 }, "{target} {logged_in}: {answer:?}");
            assert!(answer.status == 401 || identity_seen(&answer).iter().all(|(_, value)| value.is_empty()));
        }
    }
}

async fn a_claimed_identity_opens_nothing(plan: fn() -> Plan) {
    let (stack, browser) = with_rules(plan).await;
    let cookie = session_cookie(&browser);
    let before = stack.upstream.count();
    let names = spoofed_names();
    for some in names.chunks(30) {
        let claims: Vec<(&str, &str)> = some.iter().map(|name| (name.as_str(), "wx:union:somebody-else")).collect();
        assert_eq!(ask(&stack, "GET", "/orders", &claims).await.status, 401);
        assert_eq!(ask(&stack, "GET", "/staff", &claims).await.status, 401);
        let claims = [&claims[..], &[("cookie", &cookie)]].concat();
        assert_eq!(ask(&stack, "GET", "/staff", &claims).await.status, 403);
    }
    assert_eq!(stack.upstream.count(), before);
}

/// Headers that claim another client, host, path, method, scheme or length than the checked one.
const FORGED: &[&str] = &[
    "forwarded",
    "forwarded-for",
    "x-forwarded",
    "x-forwarded-host",
    "x-forwarded-server",
    "x-forwarded-port",
    "x-forwarded-path",
    "x-forwarded-prefix",
    "x-forwarded-uri",
    "x-forwarded-url",
    "x-forwarded-method",
    "x-forwarded-scheme",
    "x-forwarded-protocol",
    "x-forwarded-ssl",
    "x-forwarded-user",
    "x-forwarded-email",
    "x-forwarded-proto-version",
    "x-forwarded-for-original",
    "x-original-url",
    "x-original-uri",
    "x-original-host",
    "x-original-method",
    "x-original-proto",
    "x-original-forwarded-for",
    "x-rewrite-url",
    "x-rewrite-uri",
    "x-request-uri",
    "x-host",
    "x-http-host",
    "x-http-host-override",
    "x-real-host",
    "x-proxy-host",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-method",
    "x-scheme",
    "x-url-scheme",
    "front-end-https",
    "x-real-ip",
    "x-client-ip",
    "client-ip",
    "x-cluster-client-ip",
    "true-client-ip",
    "cf-connecting-ip",
    "cf-connecting-ipv6",
    "fastly-client-ip",
    "ali-cdn-real-ip",
    "x-originating-ip",
    "x-remote-addr",
    "x-azure-clientip",
    "x-envoy-external-address",
    "x-envoy-original-path",
    "script-name",
    "x-script-name",
    "path-info",
    "request-uri",
    "request-method",
    "query-string",
    "server-name",
    "proxy",
    "x-accel-mapping",
    "x-sendfile-type",
    "x-middleware-subrequest",
    "x-invoke-path",
    "remote-user",
    "x-remote-user",
    "x-webauth-user",
    "x-auth-request-user",
];

/// Headers of applications and their clients, some of them similar to the ones above.
const OWN: &[&str] = &[
    "ot-baggage-sentry-trace_id",
    "access_token",
    "x_api_key",
    "x-auth-token",
    "x-auth-user",
    "x-api-key",
    "x-csrf_token",
    "x-requested-with",
    "x-request-start",
    "x-original-filename",
    "x-real-name",
    "x-user-agent",
    "x-client-version",
    "x-content-type-options",
    "x-host-group",
    "x-proxy-cache-tag",
    "x-wx-openid",
    "x-wechatpay-nonce",
    "xwechat",
    "x-authorization",
    "content-language",
    "if-none-match",
    "range",
    "via",
    "idempotency-key",
    "sec-fetch-site",
    "x-amz-content-sha256",
    "baggage",
    "grpc-timeout",
];

async fn no_header_tells_the_application_another_request(plan: fn() -> Plan) {
    let (stack, browser) = with_rules(plan).await;
    let cookie = session_cookie(&browser);
    let folded = |name: &str| name.to_lowercase().replace(|character: char| !character.is_ascii_alphanumeric(), "-");
    let aliases = "-_.!~+".chars().flat_map(|separator| {
        let written = move |name: &&str| name.replace('-', &separator.to_string());
        FORGED.iter().map(written).chain(
            // In their standard spelling these belong to HTTP and to Envoy.
            ["content-length", "content-type", "transfer-encoding", "x-forwarded-for", "x-forwarded-proto"]
                .iter()
                .map(written)
                .filter(move |_| separator != '-'),
        )
    });
    let mut aliases: Vec<String> = aliases.collect();
    aliases.extend(FORGED.iter().map(|name| name.to_uppercase()));
    aliases.extend(FORGED.iter().map(|name| name.replacen('-', "_", 1)));
    for lines in [&[][..], &[("cookie", cookie.as_str())]] {
        let target = if lines.is_empty() { "/public/a" } else { "/orders" };
        for some in aliases.chunks(60) {
            let forged = some.iter().map(|name| (name.as_str(), "0"));
            let lines: Vec<(&str, &str)> = lines.iter().copied().chain(forged).collect();
            for answer in [ask(&stack, "GET", target, &lines).await, ask_h2(&stack, "GET", target, &lines).await] {
                assert_eq!(answer.status, 200, "{target}: {answer:?}");
                let seen = answer.json()["headers"].as_array().unwrap().clone();
                for pair in seen {
                    let (name, value) = (pair[0].as_str().unwrap(), pair[1].as_str().unwrap());
                    // Headers that Envoy sets.
                    let set = match name {
                        "x-forwarded-for" | "x-envoy-external-address" => Some("127.0.0.1"),
                        "x-forwarded-proto" => Some("http"),
                        _ => None,
                    };
                    assert!(
                        set == Some(value) || !some.iter().any(|alias| folded(alias) == folded(name)),
                        "{target}: the application received {name}: {value}"
                    );
                }
            }
        }
        // Envoy drops the client's own address chain: the application receives the address that was checked.
        for claim in ["198.51.100.7", "127.0.0.1, 10.0.0.1", "unknown", ""] {
            let claimed = [lines, &[("x-forwarded-for", claim), ("x-forwarded-proto", "https")]].concat();
            let answer = ask(&stack, "GET", target, &claimed).await;
            assert_eq!(answer.seen("x-forwarded-for").as_deref(), Some("127.0.0.1"), "{claim}");
            assert_eq!(answer.seen("x-forwarded-proto").as_deref(), Some("http"), "{claim}");
        }
    }
}

async fn headers_of_the_application_arrive_as_they_were_sent(plan: fn() -> Plan) {
    let (stack, browser) = with_rules(plan).await;
    let cookie = session_cookie(&browser);
    for lines in [&[][..], &[("cookie", cookie.as_str())]] {
        let target = if lines.is_empty() { "/public/a" } else { "/orders" };
        let own = OWN.iter().map(|name| (*name, "1-2 ; \"3\""));
        let lines: Vec<(&str, &str)> = lines.iter().copied().chain(own).collect();
        for answer in [ask(&stack, "GET", target, &lines).await, ask_h2(&stack, "GET", target, &lines).await] {
            assert_eq!(answer.status, 200, "{target}: {answer:?}");
            for name in OWN {
                assert_eq!(answer.seen(name).as_deref(), Some("1-2 ; \"3\""), "{target} {name}");
            }
        }
    }
}

async fn a_hundred_header_lines_pass_and_too_many_are_431(plan: fn() -> Plan) {
    let (stack, browser) = with_rules(plan).await;
    let cookie = session_cookie(&browser);
    let names: Vec<String> = (0..140).map(|number| format!("x-line-{number}")).collect();
    for lines in [&[][..], &[("cookie", cookie.as_str())]] {
        let target = if lines.is_empty() { "/public/a" } else { "/orders" };
        for count in (70..140).step_by(5).chain(96..130) {
            let before = stack.upstream.count();
            // `host` and `connection` count as two of the lines.
            let more = names.iter().map(|name| (name.as_str(), "v")).take(count - 2 - lines.len());
            let lines: Vec<(&str, &str)> = lines.iter().copied().chain(more).collect();
            let answer = ask(&stack, "GET", target, &lines).await;
            let reached = stack.upstream.count() - before;
            assert!(
                (answer.status, reached) == (200, 1) || count > 100 && (answer.status, reached) == (431, 0),
                "{target}, {count} lines: {reached} {answer:?}"
            );
            assert!(count <= 128 || answer.status == 431, "{target}, {count} lines: {answer:?}");
            if reached == 1 {
                assert!(lines.iter().all(|(name, _)| *name == "cookie" || answer.seen(name).is_some()), "{answer:?}");
                assert_eq!(identity_seen(&answer).len(), 8, "{answer:?}");
            }
        }
        for count in [100, 200] {
            let more = (0..count).map(|number| format!("x-line-{number}")).collect::<Vec<_>>();
            let more = more.iter().map(|name| (name.as_str(), "v")).take(count - lines.len());
            let lines: Vec<(&str, &str)> = lines.iter().copied().chain(more).collect();
            let before = stack.upstream.count();
            // Envoy responds with 431 or resets the stream.
            let answer = try_h2(stack.edge, &stack.edge.to_string(), "GET", target, &lines).await;
            let status = answer.map(|answer| answer.status);
            let expected = if count == 100 { (Some(200), 1) } else { (status.and(Some(431)), 0) };
            assert_eq!((status, stack.upstream.count() - before), expected, "{target}, {count} lines over HTTP/2");
        }
    }
}

/// An application that sends an event every 100 ms without end, as a response or over an upgraded connection.
async fn endless_application() -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = vec![0; 16 * 1024];
                let count = stream.read(&mut head).await.unwrap_or_default();
                let head = String::from_utf8_lossy(&head[..count]).to_lowercase();
                let start = if head.contains("upgrade: websocket") {
                    "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
                } else {
                    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
                };
                let mut sent = stream.write_all(start.as_bytes()).await;
                while sent.is_ok() {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    sent = stream.write_all(b"data: tick\n\n").await;
                }
            });
        }
    });
    address
}

async fn streams_and_websockets_end_at_the_bound_and_not_before(plan: fn() -> Plan) {
    let app = endless_application().await.to_string();
    let render = ["--app", &app, "--max-stream-duration", "3s"].map(str::to_owned).to_vec();
    let more = "policy: [ { path_prefix: /open, access: public } ]\n".to_owned();
    let stack = Stack::planned(Plan { render, more, ..plan() }).await;
    let last = async |lines: Lines| {
        let mut stream = tokio::net::TcpStream::connect(stack.edge).await.unwrap();
        let bytes = compose("GET", "/open/events", &stack.edge.to_string(), lines);
        let begun = Instant::now();
        stream.write_all(&bytes).await.unwrap();
        let mut read = Vec::new();
        let _ = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut read))
            .await
            .expect("the stream must end");
        let read = String::from_utf8_lossy(&read).into_owned();
        (begun.elapsed(), read.matches("data: tick").count(), read)
    };
    for (status, lines) in [("200", &[][..]), ("101", HANDSHAKE)] {
        let (lived, events, read) = last(lines).await;
        assert!(read.starts_with(&format!("HTTP/1.1 {status}")), "{read}");
        assert!(events > 5, "{events} events in {lived:?}: {read}");
        assert!((2.9..8.0).contains(&lived.as_secs_f64()), "{status}: {lived:?}");
    }
    // The shipped limit is an hour, and there is no time-out for a response in progress.
    for file in ["strict.yaml", "fast.yaml"] {
        let shipped = std::fs::read_to_string(harness::root().join("envoy").join(file)).unwrap();
        let route = "route: { cluster: app, timeout: 0s, max_stream_duration: { max_stream_duration: 3600s } }";
        assert!(shipped.contains(route), "{file}");
    }
}

async fn a_header_that_is_kept_arrives_and_no_other_with_it(plan: fn() -> Plan) {
    let kept = ["--keep-header", "x-forwarded-prefix", "--keep-header", "x-http-method-override"];
    let render = kept.map(str::to_owned).to_vec();
    let more = "policy: [ { path_prefix: /open, access: public } ]\n".to_owned();
    let stack = Stack::planned(Plan { render, more, ..plan() }).await;
    let lines = [("x-forwarded-prefix", "/shop"), ("x-http-method-override", "PUT"), ("x-forwarded-host", "evil")];
    let answer = ask(&stack, "GET", "/open/a", &lines).await;
    assert_eq!(answer.seen("x-forwarded-prefix").as_deref(), Some("/shop"), "{answer:?}");
    assert_eq!(answer.seen("x-http-method-override").as_deref(), Some("PUT"), "{answer:?}");
    assert_eq!(answer.seen("x-forwarded-host"), None, "{answer:?}");
    for alias in ["x_forwarded_prefix", "x.forwarded-prefix", "kept-header-0", "kept-header-1"] {
        let answer = ask(&stack, "GET", "/open/a", &[(alias, "/evil")]).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert!(!answer.body.contains("evil"), "{alias}: {answer:?}");
    }
}

async fn behind_a_load_balancer_its_own_word_counts(plan: fn() -> Plan) {
    let envoy = vec![("xff_num_trusted_hops: 0".to_owned(), "xff_num_trusted_hops: 1".to_owned())];
    let more = "policy: [ { path_prefix: /open, access: public } ]\n".to_owned();
    let stack = Stack::planned(Plan { envoy, more, ..plan() }).await;
    // The client has written the first address; the load balancer has added the last one and the scheme.
    for chain in ["203.0.113.9", "198.51.100.7, 203.0.113.9", "127.0.0.1,10.0.0.1, 203.0.113.9"] {
        let lines = [("x-forwarded-for", chain), ("x-forwarded-proto", "https"), ("x_forwarded_for", "198.51.100.8")];
        let answer = ask(&stack, "GET", "/open/a", &lines).await;
        assert_eq!(answer.seen("x-forwarded-for").as_deref(), Some("203.0.113.9"), "{chain}: {answer:?}");
        assert_eq!(answer.seen("x-forwarded-proto").as_deref(), Some("https"), "{chain}: {answer:?}");
        assert!(!answer.body.contains("198.51.100"), "{chain}: {answer:?}");
        // The check receives the same address: a denial logs it.
        let strange = compose("GET", "/open/a", "elsewhere.example", &lines);
        assert_eq!(raw(stack.edge, &strange).await.unwrap().status, 403);
        stack.until_log_holds("\"client\":\"203.0.113.9\"").await;
    }
    assert!(!stack.logged().contains("198.51.100"));
}

async fn the_proxy_protocol_names_the_client_and_is_required(plan: fn() -> Plan) {
    let render = vec!["--proxy-protocol".to_owned(), "--app-h2c".to_owned()];
    let more = "policy: [ { path_prefix: /open, access: public } ]\n".to_owned();
    let stack = Stack::planned(Plan { render, more, ..plan() }).await;
    let request = compose("GET", "/open/a", &stack.edge.to_string(), &[("x-forwarded-for", "198.51.100.7")]);
    assert!(raw(stack.edge, &request).await.is_none(), "a connection without the PROXY line must be closed");
    assert_eq!(stack.upstream.count(), 0);
    let line = b"PROXY TCP4 203.0.113.9 127.0.0.1 40000 8080\r\n";
    let answer = raw(stack.edge, &[&line[..], &request].concat()).await.unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.seen("x-forwarded-for").as_deref(), Some("203.0.113.9"), "{answer:?}");
    assert_eq!(answer.json()["version"], "HTTP/2.0", "{answer:?}");
    assert_eq!(identity_seen(&answer).len(), 8, "{answer:?}");
}

/// Headers in which some gateways or frameworks pass on a method, path, host, address or instruction.
const FORGEABLE: Lines = &[
    ("x-forwarded-uri", "/public/a"),
    ("x-forwarded-path", "/public/a"),
    ("x-forwarded-prefix", "/public"),
    ("x-forwarded-method", "OPTIONS"),
    ("x-forwarded-host", "evil.example"),
    ("x-forwarded-port", "1"),
    ("x-forwarded-proto", "https"),
    ("x-forwarded-scheme", "https"),
    ("x-forwarded-ssl", "on"),
    ("x-forwarded-server", "evil.example"),
    ("x-forwarded-for", "127.0.0.1, 10.0.0.1"),
    ("x-forwarded-user", "admin"),
    ("x-forwarded-client-cert", "Hash=0;Subject=admin"),
    ("x-original-url", "/public/a"),
    ("x-original-uri", "/public/a"),
    ("x-original-method", "OPTIONS"),
    ("x-original-host", "evil.example"),
    ("x-original-forwarded-for", "127.0.0.1"),
    ("x-rewrite-url", "/public/a"),
    ("x-http-method-override", "OPTIONS"),
    ("x-http-method", "OPTIONS"),
    ("x-method-override", "OPTIONS"),
    ("forwarded", "for=127.0.0.1;host=evil.example;proto=https"),
    ("x-real-ip", "127.0.0.1"),
    ("true-client-ip", "127.0.0.1"),
    ("cf-connecting-ip", "127.0.0.1"),
    ("x-client-ip", "127.0.0.1"),
    ("x-host", "evil.example"),
    ("x-auth-client-ip", "127.0.0.2"),
    ("x-envoy-original-path", "/public/a"),
    ("x-envoy-original-host", "evil.example"),
    ("x-envoy-external-address", "127.0.0.1"),
    ("x-envoy-internal", "true"),
    ("x-envoy-upstream-rq-timeout-ms", "1"),
    ("x-envoy-upstream-rq-per-try-timeout-ms", "1"),
    ("x-envoy-upstream-alt-stat-name", "a"),
    ("x-envoy-retry-on", "5xx"),
    ("x-envoy-retriable-status-codes", "401"),
    ("x-envoy-max-retries", "10"),
    ("x-envoy-decorator-operation", "a"),
    ("x-envoy-expected-rq-timeout-ms", "1"),
    ("x-envoy-force-trace", "true"),
    ("x-envoy-auth-failure-mode-allowed", "true"),
    ("x-request-id", "00000000-0000-0000-0000-000000000000"),
    ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ("proxy-authorization", "Bearer admin"),
    ("x-access-token", "admin"),
    ("user-agent", "Envoy/HC"),
    ("referer", "/public/a"),
    ("via", "1.1 envoy"),
];

async fn no_other_header_changes_what_is_decided_about_a_request(plan: fn() -> Plan) {
    let (stack, browser) = with_rules(plan).await;
    let cookie = session_cookie(&browser);
    // The decision and the parts of it that the application received.
    let outcome = |answer: Answer| {
        let reached = (answer.status == 200).then(|| {
            let json = answer.json();
            (json["method"].clone(), json["target"].clone(), identity_seen(&answer), answer.seen("host"))
        });
        let told = if reached.is_some() { String::new() } else { answer.body.clone() };
        (answer.status, answer.location().to_owned(), told, reached)
    };
    for (method, target) in
        [("GET", "/orders?a=b"), ("POST", "/orders"), ("GET", "/staff/a"), ("GET", "/public/a"), ("GET", "/maybe")]
    {
        for lines in [&[("accept", HTML)][..], &[], &[("accept", "application/json"), ("cookie", &cookie)]] {
            let lines = [lines, if method == "POST" { &[("content-length", "0")] } else { &[] }].concat();
            let plain = outcome(ask(&stack, method, target, &lines).await);
            for forged in FORGEABLE {
                let told = outcome(ask(&stack, method, target, &[&lines[..], &[*forged]].concat()).await);
                assert_eq!(told, plain, "{method} {target} {lines:?} with {forged:?}");
            }
            let told = outcome(ask(&stack, method, target, &[&lines[..], FORGEABLE].concat()).await);
            assert_eq!(told, plain, "{method} {target} {lines:?} with all of them");
        }
    }
}

/// All paths of docs/en/ext-authz.md, Paths, and similar ones: the status without a session, and whether the request
/// reaches the application.
const PATHS: &[(&str, u16)] = &[
    // Public paths that stay public.
    ("/public", 200),
    ("/public/", 200),
    ("/public/a", 200),
    ("/public/a;p=1", 200),
    ("/public/a?next=/../admin", 200),
    ("/public/a?next=%2e%2e%2fadmin&x=//", 200),
    ("/public/a%20b", 200),
    ("/%70ublic/a", 200),
    ("/public//a", 200),
    ("/orders/../public/a", 200),
    // Paths that leave the public prefix.
    ("/public/../admin", 401),
    ("/public/%2e%2e/admin", 401),
    ("/public/.%2e/admin", 401),
    ("/public/%2E./admin", 401),
    ("/public/..\\admin", 401),
    ("/public/./../admin", 401),
    ("/public/..", 401),
    ("/public/..;/admin", 401),
    ("/public/..;a=b/admin", 401),
    ("/public/..%2fadmin", 403),
    ("/public/..%5cadmin", 403),
    ("/public%2f..%2fadmin", 403),
    ("/public/%2e%2e%2fadmin", 403),
    ("/public/%252e%252e/admin", 403),
    ("/public/%252e%252e%252fadmin", 403),
    ("/public/..%252fadmin", 403),
    ("/public/..%00/admin", 400),
    ("/public/%c0%ae%c0%ae/admin", 403),
    ("/public/%zz/admin", 403),
    ("/public;x/../admin", 401),
    ("/public;x/admin", 401),
    // Paths that resemble the public prefix.
    ("/publicadmin", 401),
    ("/public.admin", 401),
    ("/Public/a", 401),
    ("/public%20/a", 401),
    ("/_wechatever", 401),
    ("/_wechat;x/callback", 403),
    ("/%5fwechat/%2e%2e/admin", 401),
    // Protected paths in all spellings.
    ("/admin", 401),
    ("//admin", 401),
    ("/%61dmin", 401),
    ("/admin;v=1", 401),
    ("/admin;/a", 401),
    ("/admin%3fx", 401),
    ("/admin%23x", 401),
    ("/admin%253fx", 403),
    ("/admin%253bx", 403),
    ("/;/admin", 401),
    ("/a%2Fb", 403),
    ("/a%5Cb", 403),
    ("/a\\b", 401),
    ("/a%00b", 400),
    ("/a#frag", 400),
    ("/a?x#f", 400),
    ("*", 400),
    ("/a b", 400),
    ("/中", 400),
    ("/a;p=1/b", 401),
    ("/a%zz", 403),
    ("/a?%zz=%2e%2e%2f", 401),
    ("http://127.0.0.1/admin", 403),
    ("http://evil.example/public/a", 403),
    ("admin", 400),
    ("?a", 400),
    ("", 400),
];

async fn no_spelling_of_a_path_gets_past_the_rules(plan: fn() -> Plan) {
    let more = "policy:\n- { path_prefix: /public, access: public }\n\
        - { path_prefix: /admin, access: required, subjects: [\"wx:union:somebody-else\"] }\n";
    let stack = Stack::planned(Plan { more: more.to_owned(), ..plan() }).await;
    let mut faults = Vec::new();
    for (target, status) in PATHS {
        let before = stack.upstream.count();
        let answer = ask(&stack, "GET", target, &[]).await;
        let reached = stack.upstream.count() - before;
        if answer.status != *status || reached != usize::from(*status == 200) {
            faults
                .push(format!("{target:?}: {} instead of {status}, {reached} reached; {}", answer.status, answer.body));
        }
        if answer.status == 200 {
            let seen = answer.json()["target"].as_str().unwrap().to_owned();
            assert!(
                seen == "/public" || seen.starts_with("/public/") || seen.starts_with("/public?"),
                "{target}: {seen}"
            );
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    // With a session, a path for another subject stays closed in every spelling.
    let mut browser = Browser::wechat();
    stack.log_in(&mut browser, "/orders").await;
    let cookie = session_cookie(&browser);
    for (target, _) in PATHS.iter().filter(|(target, _)| target.contains("admin")) {
        let before = stack.upstream.count();
        let answer = ask(&stack, "GET", target, &[("cookie", &cookie)]).await;
        let elsewhere =
            ["/publicadmin", "/public.admin", "/public;x/admin"].contains(target) || target.contains("?next=");
        if elsewhere {
            assert_eq!(answer.status, 200, "{target}");
        } else {
            assert!(matches!(answer.status, 400 | 403), "{target}: {answer:?}");
            assert_eq!(stack.upstream.count(), before, "{target}");
        }
    }
}

async fn a_host_that_is_not_ours_is_served_nothing(plan: fn() -> Plan) {
    let (stack, browser) = with_rules(plan).await;
    let cookie = session_cookie(&browser);
    let before = stack.upstream.count();
    let port = stack.edge.port();
    for host in [
        "evil.example",
        "127.0.0.1",
        "localhost",
        &format!("evil@127.0.0.1:{port}"),
        &format!("127.0.0.1:{port}.evil"),
        "127.0.0.1:1",
        "[::1]",
    ] {
        for target in ["/", "/public/a", "/maybe", "/_wechat/session"] {
            let bytes = compose("GET", target, host, &[("cookie", &cookie)]);
            let answer = raw(stack.edge, &bytes).await.unwrap();
            assert!(matches!(answer.status, 400 | 403), "{host}{target}: {answer:?}");
            assert_eq!(answer.location(), "");
        }
    }
    assert_eq!(stack.upstream.count(), before);
    let shouting = compose("GET", "/orders", &format!("127.0.0.1:{port}").to_uppercase(), &[("cookie", &cookie)]);
    assert_eq!(raw(stack.edge, &shouting).await.unwrap().status, 200);
    // The host name with the final dot of the DNS root: the application receives the name without it.
    let rooted = compose("GET", "/orders", &format!("127.0.0.1.:{port}"), &[("cookie", &cookie)]);
    let answer = raw(stack.edge, &rooted).await.unwrap();
    assert_eq!((answer.status, answer.seen("host")), (200, Some(format!("127.0.0.1:{port}"))), "{answer:?}");
    // Over HTTP/2 a `host` line besides the authority does not change the host.
    let beside = [("host", "evil.example"), ("cookie", cookie.as_str())];
    if let Some(answer) = try_h2(stack.edge, &format!("127.0.0.1:{port}"), "GET", "/orders", &beside).await {
        assert!(answer.status == 400 || answer.seen("host") == Some(format!("127.0.0.1:{port}")), "{answer:?}");
    }
}

async fn a_port_in_the_host_never_leads_to_another_application(plan: fn() -> Plan) {
    const BLOG: &str = "blog.example.com";
    let blog = harness::upstream::Upstream::start().await;
    let app = format!(
        "- name: blog\n  origin: https://{BLOG}\n\
         \x20 official_account: {{ appid: wx00000000000000c3, secret_file: ./oa.secret }}\n"
    );
    let more = format!(
        "policy:\n- {{ host: {BLOG}, path_pattern: /**, access: public }}\n\
         - {{ path_prefix: /shared, access: public }}\n"
    );
    let (hosts, clusters) = ("            virtual_hosts:\n", "  - name: wechat_pages\n    type: STATIC\n");
    let virtual_host = format!(
        "{hosts}            - name: blog\n              domains: [ {BLOG} ]\n              routes:\n\
         \x20             - {{ match: {{ prefix: / }}, route: {{ cluster: blog }} }}\n"
    );
    let cluster = format!(
        "  - name: blog\n    type: STATIC\n    load_assignment:\n      cluster_name: blog\n      endpoints:\n\
         \x20     - lb_endpoints: [ {{ endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, \
         port_value: {} }} }} }} }} ]\n{clusters}",
        blog.address.port()
    );
    let envoy = vec![(hosts.to_owned(), virtual_host), (clusters.to_owned(), cluster)];
    let stack = Stack::planned(Plan { app, more, envoy, ..plan() }).await;
    let own = stack.edge.to_string();
    for (host, served_by) in [
        (BLOG.to_owned(), "blog"),
        (BLOG.to_uppercase(), "blog"),
        (format!("{BLOG}."), "blog"),
        (own.clone(), "shop"),
        (format!("127.0.0.1.:{}", stack.edge.port()), "shop"),
        (format!("{BLOG}:80"), "nobody"),
        (format!("{BLOG}:443"), "nobody"),
        (format!("{BLOG}.:80"), "nobody"),
        (format!("{BLOG}:{}", stack.edge.port()), "nobody"),
        (format!("{BLOG}:0443"), "nobody"),
        (format!("{BLOG}:"), "nobody"),
        (format!("{BLOG}.."), "nobody"),
        ("127.0.0.1:80".to_owned(), "nobody"),
        ("127.0.0.1".to_owned(), "nobody"),
        (format!("shop@{BLOG}"), "nobody"),
    ] {
        for target in ["/shared", "/orders"] {
            let before = (stack.upstream.count(), blog.count());
            let h1 = raw(stack.edge, &compose("GET", target, &host, &[])).await;
            let parses = format!("http://{host}{target}").parse::<http::Uri>().is_ok();
            let h2 = if parses { try_h2(stack.edge, &host, "GET", target, &[]).await } else { None };
            let (shop, blog) = (stack.upstream.count() - before.0, blog.count() - before.1);
            let sent = 1 + usize::from(parses);
            let expected = match served_by {
                "blog" => (0, sent),
                "shop" if target == "/shared" => (sent, 0),
                _ => (0, 0),
            };
            assert_eq!((shop, blog), expected, "{host}{target}: {h1:?} {h2:?}");
        }
    }
}

async fn the_scheme_is_that_of_the_connection_whatever_a_client_says(plan: fn() -> Plan) {
    let more = "policy: [ { path_prefix: /open, access: public } ]\n".to_owned();
    let stack = Stack::planned(Plan { render: vec!["--app-h2c".to_owned()], more, ..plan() }).await;
    let answer = try_h2(stack.edge, &format!("https://{}", stack.edge), "GET", "/open/a", &[]).await.unwrap();
    assert_eq!(answer.seen("x-forwarded-proto").as_deref(), Some("http"), "{answer:?}");
    assert_eq!(answer.json()["target"], format!("http://{}/open/a", stack.edge), "{answer:?}");
}

async fn the_session_cookie_is_found_and_removed(plan: fn() -> Plan) {
    let (stack, browser) = with_rules(plan).await;
    let token = browser.cookie(SESSION).unwrap();
    let ours = format!("{SESSION}={token}");
    let two = format!("a=1; {ours}; b=\"2, 3\"; c=; d={{x,y}}; e==; flag");
    let flow = format!("__Host-wechat_flow_00=x; a=1; __Host-wechat_attempts=y; {ours}");
    let lower = format!("__host-wechat_session={token}");
    for (lines, status, seen) in [
        (vec![ours.as_str()], 200, None),
        (vec![two.as_str()], 200, Some("a=1; b=\"2, 3\"; c=; d={x,y}; e==; flag")),
        (vec!["a=1", ours.as_str(), "b=2"], 200, Some("a=1; b=2")),
        (vec![ours.as_str(), "b=2"], 200, Some("b=2")),
        (vec![flow.as_str()], 200, Some("a=1")),
        (vec![ours.as_str(), ours.as_str()], 200, None),
        (vec![lower.as_str()], 401, None),
        (vec!["a=1"], 401, None),
        (vec![ours.as_str(), "__Host-wechat_session=other"], 401, None),
        (vec!["__Host-wechat_session=other", ours.as_str()], 401, None),
        (vec![ours.as_str(), "__Host-wechat_session="], 401, None),
    ] {
        let lines: Vec<(&str, &str)> = lines.iter().map(|line| ("cookie", *line)).collect();
        let answer = ask(&stack, "GET", "/orders", &lines).await;
        assert_eq!(answer.status, status, "{lines:?}: {answer:?}");
        if status == 200 {
            assert_eq!(answer.seen("cookie").as_deref(), seen, "{lines:?}");
        } else if lines.len() > 1 {
            assert_eq!(reason(&answer), "conflicting_credentials", "{lines:?}");
        }
        // On a public path the application also does not receive our cookies.
        let public = ask(&stack, "GET", "/public/a", &lines).await;
        assert_eq!(public.status, 200);
        assert!(!public.seen("cookie").unwrap_or_default().contains("__Host-wechat"), "{public:?}");
    }
    // The ways in which some gateways join several lines (docs/en/ext-authz.md, Cookies of a check), sent directly to
    // the check.
    for (line, rest) in [
        (format!("a=1,{ours},b=2"), "a=1,b=2"),
        (format!("a=1; {ours},b=2"), "a=1; b=2"),
        (format!(",{ours}"), ""),
        (ours.clone(), ""),
        (format!("a=1,{ours}; b=2"), "a=1; b=2"),
    ] {
        let answer = check(&stack, "/orders", &[("cookie", &line)]).await;
        assert_eq!((answer.status, answer.header("cookie")), (200, rest), "{answer:?}");
        let removed = answer.header("x-envoy-auth-headers-to-remove");
        assert_eq!(removed, if rest.is_empty() { "cookie" } else { "" });
        assert!(
            IDENTITY.iter().all(|name| answer.headers.iter().filter(|(other, _)| other == name).count() == 1),
            "{answer:?}"
        );
    }
    // In a browser's cookie, a comma is part of a value, which a page on a sibling subdomain may have set.
    let planted = format!("lang=zh,{ours}");
    for lines in [vec![("user-agent", client::WECHAT)], vec![("sec-fetch-mode", "cors")]] {
        let answer = check(&stack, "/orders", &[&lines[..], &[("cookie", &planted)]].concat()).await;
        assert_eq!(answer.status, 401, "{answer:?}");
        let beside = format!("lang=zh,{SESSION}=planted; {ours}");
        let answer = check(&stack, "/orders", &[&lines[..], &[("cookie", &beside)]].concat()).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    let conflict = check(&stack, "/orders", &[("cookie", &format!("{ours},{SESSION}=other"))]).await;
    assert_eq!((conflict.status, reason(&conflict)), (401, "conflicting_credentials".to_owned()));
}

async fn a_session_of_one_application_is_nothing_at_another(plan: fn() -> Plan) {
    const BLOG: &str = "wx00000000000000c3";
    let app = format!(
        "- name: blog\n  origin: https://blog.example.com\n\
         \x20 official_account: {{ appid: {BLOG}, secret_file: ./oa.secret, scope: snsapi_base }}\n"
    );
    let stack = Stack::planned(Plan {
        app,
        simulator: |options| {
            let app =
                wechat_simulator::App::official_account("wx00000000000000c3", harness::OA_SECRET, "blog.example.com");
            options.apps.push(app.with_any_port());
        },
        ..plan()
    })
    .await;
    let mut shop = Browser::wechat();
    stack.log_in(&mut shop, "/").await;
    // The login at the blog, request by request: the test machine cannot resolve its name.
    let blog = "blog.example.com";
    let visit = |target: String, cookies: String| {
        let lines = [("user-agent", client::WECHAT), ("accept", HTML), ("cookie", cookies.as_str())];
        let bytes = compose("GET", &target, blog, &lines);
        let edge = stack.edge;
        async move { raw(edge, &bytes).await.unwrap() }
    };
    let login = visit("/_wechat/login?return_to=%2F".into(), "a=1".into()).await;
    assert_eq!(login.status, 302, "{login:?}");
    let flow = login.set_cookies().map(|line| line.split(';').next().unwrap()).collect::<Vec<_>>().join("; ");
    let mut phone = Browser::wechat();
    let mut location = login.location().split('#').next().unwrap().to_owned();
    while !location.starts_with("https://blog.example.com/") {
        let answer = phone.get(&location).await;
        assert!((300..400).contains(&answer.status), "{answer:?}");
        location = url::Url::parse(&location).unwrap().join(answer.location()).unwrap().to_string();
    }
    let callback = visit(location.trim_start_matches("https://blog.example.com").to_owned(), flow).await;
    assert_eq!(callback.status, 303, "{callback:?}");
    let there = callback.set_cookies().find(|line| line.starts_with(SESSION)).unwrap().split(';').next().unwrap();
    let here = session_cookie(&shop);
    let own = stack.edge.to_string();
    for (host, cookie, status) in
        [(blog, there, 200), (own.as_str(), here.as_str(), 200), (own.as_str(), there, 401), (blog, &here, 401)]
    {
        for (name, value) in
            [("cookie", cookie.to_owned()), ("authorization", cookie.replacen(&format!("{SESSION}="), "Bearer ", 1))]
        {
            // Twice: a cached token of one application must not be valid at the other.
            for _ in 0..2 {
                let answer = raw(stack.edge, &compose("GET", "/", host, &[(name, &value)])).await.unwrap();
                assert_eq!(answer.status, status, "{host} {name}: {answer:?}");
                if status == 401 {
                    assert_eq!(reason(&answer), "token_foreign");
                }
            }
        }
    }
}

async fn every_way_to_reach_the_check_decides_the_same(plan: fn() -> Plan) {
    for (h2c, unix) in [(true, false), (false, true), (true, true)] {
        let stack = Stack::planned(Plan { h2c, unix, more: POLICY.to_owned(), ..plan() }).await;
        let way = format!("h2c {h2c}, unix {unix}");
        let mut browser = Browser::wechat();
        let home = stack.log_in(&mut browser, "/orders?a=b").await;
        assert_eq!(home.json()["target"], "/orders?a=b", "{way}");
        let ours = session_cookie(&browser);
        for (client, method, lines) in CLIENTS {
            let status = match *client {
                "page" | "head" => 302,
                "grpc" => 200,
                "preflight" => 403,
                _ => 401,
            };
            assert_eq!(ask(&stack, method, "/orders", lines).await.status, status, "{way} {client}");
        }
        for (target, lines, status, cookie_seen) in [
            ("/orders", vec![("cookie", ours.as_str())], 200, None),
            ("/orders", vec![("cookie", "a=1"), ("cookie", ours.as_str()), ("cookie", "b=2")], 200, Some("a=1; b=2")),
            ("/orders", vec![("cookie", ours.as_str()), ("cookie", "__Host-wechat_session=x")], 401, None),
            ("/staff", vec![("cookie", ours.as_str())], 403, None),
            ("/public/a", vec![], 200, None),
            ("/maybe", vec![("x-wechat-openid", "admin")], 200, None),
            ("/public/%252e%252e/staff", vec![], 403, None),
        ] {
            let answer = ask(&stack, "GET", target, &lines).await;
            assert_eq!(answer.status, status, "{way} {target}: {answer:?}");
            if status == 200 {
                assert_eq!(answer.seen("cookie").as_deref(), cookie_seen, "{way} {target}");
                assert_eq!(identity_seen(&answer).len(), 8, "{way} {target}: {answer:?}");
            }
        }
    }
}

async fn each_of_our_pages_answers_its_methods_and_nothing_else(plan: fn() -> Plan) {
    let (stack, mut browser) = with_rules(plan).await;
    let token = browser.cookie(SESSION).unwrap();
    let page = |name: &str| stack.url(&format!("/_wechat/{name}"));

    let who = browser.fetch(&page("session")).await;
    assert_eq!(
        (who.status, who.header("content-type"), who.header("cache-control")),
        (200, "application/json", "no-store")
    );
    let openid = stack.simulator.openid(harness::OA, "小明");
    assert_eq!(who.json()["data"]["subject"], format!("wx:{}:{openid}", harness::OA));
    assert_eq!(
        (&who.json()["data"]["app"], &who.json()["data"]["method"]),
        (&"shop".into(), &"official_account".into())
    );
    let (short, long) = (&who.json()["data"]["token_expires_at"], &who.json()["data"]["session_expires_at"]);
    assert!(short.as_u64().unwrap() < long.as_u64().unwrap());
    assert!(!who.body.contains(&token));
    let nobody = Browser::desktop().fetch(&page("session")).await;
    assert_eq!((nobody.status, reason(&nobody)), (401, "no_session".to_owned()));
    assert_eq!(nobody.json()["data"]["login_url"], page("login"));

    // Renewal: a page gets a redirect with a new cookie, a script and a bearer client get a response.
    let back = browser.get(&page("renew?return_to=%2Forders%3Fa")).await;
    assert_eq!(
        (back.status, back.location(), back.header("cache-control")),
        (303, stack.url("/orders?a").as_str(), "no-store")
    );
    assert!(back.set_cookies().any(|line| line.starts_with(SESSION) && line.contains("HttpOnly")), "{back:?}");
    stack.remember(&browser);
    assert_eq!(browser.fetch(&stack.url("/orders")).await.status, 200, "the next token must be accepted");
    let told = browser.fetch(&page("renew")).await;
    assert_eq!((told.status, told.set_cookies().count()), (200, 1));
    assert!(told.json()["data"]["token"].is_null(), "a script must never receive the cookie's value");
    let bearer = format!("Bearer {token}");
    let next = Browser::desktop().ask("POST", &page("renew"), &[("authorization", &bearer)], "").await;
    assert_eq!((next.status, next.set_cookies().count()), (200, 0), "{next:?}");
    let next_token = format!("Bearer {}", next.json()["data"]["token"].as_str().unwrap());
    assert_eq!(ask(&stack, "GET", "/orders", &[("authorization", &next_token)]).await.status, 200);
    assert_eq!(Browser::desktop().fetch(&page("renew")).await.status, 401);
    let stranger = Browser::desktop().get(&page("renew?return_to=%2Fa")).await;
    assert_eq!((stranger.status, stranger.location()), (303, page("login?return_to=%2Fa").as_str()));

    let jwks = Browser::desktop().fetch(&page("jwks.json")).await;
    assert_eq!((jwks.status, jwks.header("cache-control")), (200, "public, max-age=300"));
    let jwks = jwks.json();
    let keys = jwks["keys"].as_array().unwrap();
    assert_eq!(keys.len(), 1);
    let mut members: Vec<&String> = keys[0].as_object().unwrap().keys().collect();
    members.sort();
    assert_eq!(members, ["alg", "crv", "kid", "kty", "use", "x", "y"], "the private key must not be published");

    for (method, name, status, allow) in [
        ("POST", "login", 405, "GET, HEAD"),
        ("POST", "callback", 405, "GET, HEAD"),
        ("HEAD", "callback", 200, ""),
        ("HEAD", "logout", 200, ""),
        ("HEAD", "renew", 200, ""),
        ("PUT", "logout", 405, "GET, HEAD, POST"),
        ("DELETE", "renew", 405, "GET, HEAD, POST"),
        ("POST", "session", 405, "GET, HEAD"),
        ("POST", "jwks.json", 405, "GET, HEAD"),
        ("HEAD", "session", 200, ""),
        ("GET", "", 404, ""),
        ("GET", "nothing", 404, ""),
        ("GET", "session/", 404, ""),
        ("GET", "LOGIN", 404, ""),
        ("GET", "jwks.json.bak", 404, ""),
    ] {
        let lines = [("cookie", session_cookie(&browser)), ("content-length", "0".to_owned())];
        let lines: Vec<(&str, &str)> = lines.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let answer = ask(&stack, method, &format!("/_wechat/{name}"), &lines).await;
        assert_eq!((answer.status, answer.header("allow")), (status, allow), "{method} {name}: {answer:?}");
        assert_eq!(answer.header("cache-control"), "no-store", "{method} {name}");
        assert!(IDENTITY.iter().all(|name| answer.header(name).is_empty()));
    }
}

async fn without_us_nothing_passes_and_each_client_gets_its_form(plan: fn() -> Plan) {
    let (mut stack, mut browser) = with_rules(plan).await;
    let before = stack.upstream.count();
    let mut visitor = to_be_asked_about(&stack, &browser);
    stack.kill_authz();
    for target in ["/", "/public/a", "/maybe", "/_wechat/login", "/_wechat/session"] {
        let page = visitor.get(&stack.url(target)).await;
        let data = visitor.fetch(&stack.url(target)).await;
        for (answer, kind) in [(&page, "text/html; charset=utf-8"), (&data, "application/json")] {
            assert_eq!((answer.status, answer.header("content-type")), (503, kind), "{target}: {answer:?}");
            assert_eq!((answer.header("retry-after"), answer.header("cache-control")), ("2", "no-store"), "{target}");
        }
        assert!(page.body.contains("登录服务暂时不可用"), "{page:?}");
        assert_eq!((reason(&data).as_str(), &data.json()["code"]), ("unavailable", &503.into()));
    }
    let handshake = ask(&stack, "GET", "/ws", HANDSHAKE).await;
    assert_eq!(handshake.status, 503, "{handshake:?}");
    assert_eq!(stack.upstream.count(), before, "the gateway must deny");
    stack.restart_authz().await;
    assert_eq!(browser.get(&stack.url("/orders")).await.status, 200, "the session must survive a restart");
}

async fn while_we_hang_nothing_passes_and_afterwards_everything_does(plan: fn() -> Plan) {
    let (stack, mut browser) = with_rules(plan).await;
    let before = stack.upstream.count();
    stack.stop_authz().await;
    let begun = Instant::now();
    let (page, public) =
        tokio::join!(async { to_be_asked_about(&stack, &browser).get(&stack.url("/orders")).await }, async {
            Browser::desktop().fetch(&stack.url("/public/a")).await
        });
    let waited = begun.elapsed();
    stack.signal("CONT");
    for answer in [&page, &public] {
        assert_eq!((answer.status, answer.header("retry-after")), (503, "2"), "{answer:?}");
    }
    assert!(waited < Duration::from_secs(5), "the check's time-out is 0.5 s, waited {waited:?}");
    assert_eq!(stack.upstream.count(), before);
    assert_eq!(browser.get(&stack.url("/orders")).await.status, 200);
}

async fn the_check_itself_believes_no_other_header_either(plan: fn() -> Plan) {
    let (stack, browser) = with_rules(plan).await;
    let cookie = session_cookie(&browser);
    let told = |answer: Answer| {
        let headers = answer.headers.into_iter().filter(|(name, _)| name != "date").collect::<Vec<_>>();
        (answer.status, headers, answer.body)
    };
    // The only header that the gateway sets contains the client address; it affects only limits.
    let claims: Vec<(&str, &str)> = FORGEABLE.iter().copied().chain(IDENTITY.map(|name| (name, "admin"))).collect();
    for target in ["/orders?a=b", "/staff/a", "/public/a", "/maybe", "/public/..%2fstaff"] {
        for lines in [&[("accept", HTML)][..], &[], &[("cookie", &cookie)]] {
            let plain = told(check(&stack, target, lines).await);
            for claim in &claims {
                let other = told(check(&stack, target, &[lines, &[*claim]].concat()).await);
                assert_eq!(other, plain, "{target} {lines:?} with {claim:?}");
            }
            assert_eq!(
                told(check(&stack, target, &[lines, &claims[..]].concat()).await),
                plain,
                "{target} with all of them"
            );
        }
    }
}

async fn logins_count_for_the_clients_real_address(plan: fn() -> Plan) {
    let more = "limits: { logins_per_client: { per_minute: 1, burst: 4 } }\n";
    let stack = Stack::planned(Plan { more: more.to_owned(), ..plan() }).await;
    let mut browser = Browser::wechat();
    stack.log_in(&mut browser, "/").await;
    let start = async |name: &str, address: &str| {
        let lines = [("user-agent", client::WECHAT), ("accept", HTML), (name, address)];
        ask(&stack, "GET", "/_wechat/login", &lines).await.status
    };
    // A completed login does not count against the limit; four incomplete ones use it up.
    for _ in 0..4 {
        assert_eq!(start("x-a", "1").await, 302);
    }
    for name in [
        "x-auth-client-ip",
        "X-Auth-Client-Ip",
        "x-forwarded-for",
        "x-real-ip",
        "forwarded",
        "x-envoy-external-address",
    ] {
        for address in ["198.51.100.7", "::ffff:198.51.100.8", "2001:db8::1", "198.51.100.9, 127.0.0.1", "unknown", ""]
        {
            assert_eq!(start(name, address).await, 429, "{name}: {address}");
        }
    }
    assert_eq!(browser.get(&stack.url("/orders")).await.status, 200, "a logged-in client must pass");
}

async fn an_http_2_client_is_served_as_any_other(plan: fn() -> Plan) {
    let (stack, browser) = with_rules(plan).await;
    let cookie = session_cookie(&browser);
    let host = stack.edge.to_string();
    for (target, lines, status, seen) in [
        // Browsers send each cookie in a header field of its own.
        ("/orders", vec![("cookie", "a=1"), ("cookie", cookie.as_str()), ("cookie", "b=2")], 200, Some("a=1; b=2")),
        ("/orders", vec![("cookie", cookie.as_str()), ("cookie", "__Host-wechat_session=x")], 401, None),
        ("/orders", vec![("x-wechat-openid", "admin"), ("x-wechat-new", "admin")], 401, None),
        (
            "/maybe",
            vec![("x-wechat-openid", "admin"), ("x_wechat_openid", "admin"), ("x.wechat.openid", "admin")],
            200,
            None,
        ),
        ("/public/%2e%2e/staff", vec![("cookie", cookie.as_str())], 403, None),
        ("/public/..%2fstaff", vec![("cookie", cookie.as_str())], 403, None),
    ] {
        let answer = ask_h2(&stack, "GET", target, &lines).await;
        assert_eq!(answer.status, status, "{target} {lines:?}");
        if status == 200 {
            assert_eq!(answer.seen("cookie").as_deref(), seen, "{target}");
            assert_eq!(identity_seen(&answer).len(), 8, "{answer:?}");
            assert!(!answer.body.contains("admin"), "{answer:?}");
        }
    }
    let before = stack.upstream.count();
    let tunnel = try_h2(stack.edge, &host, "CONNECT", "", &[]).await;
    assert!(tunnel.is_none_or(|answer| matches!(answer.status, 400 | 403 | 404)));
    assert_eq!(stack.upstream.count(), before);
}

async fn cors_lets_scripts_of_a_named_origin_read_a_denial(plan: fn() -> Plan) {
    let shipped = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/envoy/strict.yaml")).unwrap();
    let start = shipped.find("              # typed_per_filter_config:").unwrap();
    let end = start + shipped[start..].find("              routes:").unwrap();
    let commented = shipped[start..end].to_owned();
    let in_force = commented.replace("              # ", "              ");
    let stack = Stack::planned(Plan { envoy: vec![(commented, in_force)], ..plan() }).await;
    for (origin, allowed) in [("https://www.example.com", "https://www.example.com"), ("https://evil.example", "")] {
        let preflight = [("origin", origin), ("access-control-request-method", "PUT")];
        let answer = ask(&stack, "OPTIONS", "/api", &preflight).await;
        assert_eq!(answer.status, if allowed.is_empty() { 403 } else { 200 }, "{answer:?}");
        assert_eq!(answer.header("access-control-allow-origin"), allowed, "{answer:?}");
        let denied = ask(&stack, "GET", "/api", &[("origin", origin), ("accept", "application/json")]).await;
        assert_form("data", 401, &denied, "no_session");
        assert_eq!(denied.header("access-control-allow-origin"), allowed, "{denied:?}");
    }
    assert_eq!(stack.upstream.count(), 0);
}
