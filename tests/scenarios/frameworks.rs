//! Real Express 4 and 5 and a real Flask (under Werkzeug's server and under gunicorn) behind the real program: no
//! spelling of a request gives a client a protected resource that it may not access, and ordinary requests arrive
//! unchanged. `tests/frameworks/get` installs them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use harness::client::{Answer, Browser, compose, raw, try_h2};
use harness::process::{Process, until_listening};
use harness::stack::{Plan, Stack};
use harness::{SESSION, free_port, root};
use std::net::SocketAddr;
use std::process::Command;

/// All paths without a rule are public, so that a spelling that matches no rule reaches the application.
const POLICY: &str = "policy:\n\
    - { path_pattern: /reports/*/secret, access: required, subjects: [\"wx:union:somebody-else\"] }\n\
    - { path_prefix: /admin, access: required, subjects: [\"wx:union:somebody-else\"] }\n\
    - { path_prefix: /orders, access: required }\n\
    - { path_prefix: /api, methods: [POST, PUT, PATCH, DELETE], access: required }\n\
    - { path_pattern: /**, access: public }\n";

/// The resources that no client may get, and the one that needs a session.
const FORBIDDEN: [&str; 3] = ["admin", "admin_below", "secret"];
const PERSONAL: [&str; 4] = ["orders", "orders_below", "item-changed", "item_changed"];

/// A request: method, target, header lines.
type Request = (String, String, Vec<(String, String)>);

/// One of the applications.
struct Server {
    name: &'static str,
    address: SocketAddr,
    process: Process,
}

/// Starts the four applications, each on its own port.
async fn servers() -> [Server; 4] {
    let installed = root().join("target/frameworks");
    assert!(installed.join("ready").is_file(), "the frameworks are missing: run tests/frameworks/get");
    let source = root().join("tests/frameworks");
    let start = |name: &'static str| {
        let port = free_port().to_string();
        let python = installed.join("python/bin");
        let mut command = match name {
            "express4" | "express5" => {
                let mut node = Command::new("node");
                node.arg(source.join("app.js")).arg(installed.join(name)).arg(&port);
                node
            }
            "werkzeug" => {
                let mut flask = Command::new(python.join("python"));
                flask.arg("-B").arg(source.join("app.py")).arg(&port);
                flask
            }
            _ => {
                let mut gunicorn = Command::new(python.join("python"));
                gunicorn.args(["-B", "-m", "gunicorn", "--threads", "4", "--log-level", "error", "--chdir"]);
                gunicorn.arg(&source).args(["--bind", &format!("127.0.0.1:{port}"), "app:app"]);
                gunicorn
            }
        };
        let address = format!("127.0.0.1:{port}").parse().unwrap();
        Server { name, address, process: Process::silent(&mut command) }
    };
    let mut servers = ["express4", "express5", "werkzeug", "gunicorn"].map(start);
    for server in &mut servers {
        until_listening(server.address.port(), &mut server.process).await;
    }
    servers
}

/// Changes Envoy's configuration: a cluster for each application, selected by `x-app`.
fn routed(servers: &[Server]) -> Vec<(String, String)> {
    let (route, cluster) = ("              - match: { prefix: / }\n", "  - name: wechat_pages\n    type: STATIC\n");
    let mut routes = String::new();
    let mut clusters = String::new();
    for Server { name, address, .. } in servers {
        routes.push_str(&format!(
            "              - match: {{ prefix: /, headers: [ {{ name: x-app, string_match: {{ exact: {name} }} }} ] }}\n\
             \x20               route: {{ cluster: {name} }}\n"
        ));
        clusters.push_str(&format!(
            "  - name: {name}\n    type: STATIC\n    load_assignment:\n      cluster_name: {name}\n      endpoints:\n\
             \x20     - lb_endpoints: [ {{ endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {} }} \
             }} }} }} ]\n",
            address.port()
        ));
    }
    vec![(route.to_owned(), routes + route), (cluster.to_owned(), clusters + cluster)]
}

/// Spellings of `path` that some server interprets as `path`, including `path` itself.
fn spellings(path: &str) -> Vec<String> {
    let mut bases = vec![path.to_owned(), path.to_uppercase()];
    // Upper and lower case, percent-encoded.
    bases.push(path.replace('a', "%41").replace('e', "%45"));
    let mut all = Vec::new();
    for base in bases {
        for tail in [
            "",
            "/",
            "//",
            "/.",
            "/./",
            "/..;/",
            ";",
            ";x=1",
            ";x=1/",
            "/;x",
            "/;x/",
            ".json",
            ".html",
            ".json/",
            ".",
            "..",
            "?x=1",
            "?",
            "%3F",
            "%3Fx=1",
            "%23",
            "%23x",
            "%253F",
            "#x",
            "%2F",
            "%5C",
            "\\",
            "%2F.",
            "/%2e",
            "/x/..",
            "/x/%2e%2e",
            "/x/..%2f",
            "%00",
            "%00.html",
            "%0a",
            "%20",
            "%09",
            "%c0%af",
            "%c0%af.",
            "%e0%80%af",
            "%EF%BC%8F",
            "%",
            "%zz",
            "%2500",
            "%3B",
            "%3Bx=1",
            "%253Bx",
        ] {
            all.push(format!("{base}{tail}"));
        }
        for head in [
            "/",
            "//",
            "/.",
            "/./.",
            "/x/..",
            "/x/%2e%2e",
            "/x/.%2e",
            "/%2e",
            "/;",
            "/;x=1",
            "/.;x",
            "/..",
            "/..;",
            "/x/..;",
            "/x/..;a=b",
            "/x/..%2f",
            "/x%2f..",
            "/x%2F..%2F",
            "/x/%252e%252e",
            "/x/..%252f",
            "/x/..\\",
            "/x\\..",
            "\\",
            "/\\",
            "/%5c",
            "/%2f",
            "%2f",
            "/%c0%ae%c0%ae",
            "/x/%c0%ae%c0%ae",
            "/x/%e0%80%ae%e0%80%ae",
            "//x",
            "//127.0.0.1",
            "http://127.0.0.1",
            "/public/..",
            "/public/..;",
            "/public%2f..",
            "/public/%2e%2e%2f",
            "/%00",
            "/x%00/..",
            "/%09",
            "",
        ] {
            let rest = if head.is_empty() { &base[1..] } else { &base };
            all.push(format!("{head}{rest}"));
        }
        for slash in [
            "//",
            "///",
            "/./",
            "/x/../",
            "/x/%2e%2e/",
            "/;/",
            "/;x/",
            ";/",
            ";x=1/",
            "%2f",
            "%2F",
            "%5c",
            "\\",
            "%252f",
            "%255c",
            "%25252f",
            "%c0%af",
            "%c1%9c",
            "%e0%80%af",
            "%25c0%25af",
            "%EF%BC%8F",
            "/%2f",
            "%2f/",
        ] {
            all.push(format!("/{}", base[1..].replace('/', slash)));
            all.push(base.replacen('/', slash, 1));
        }
        // One letter at a time in forms that decode to it, immediately or after a second decoding.
        for (at, letter) in path.char_indices().filter(|(_, letter)| letter.is_ascii_alphabetic()) {
            if base.len() != path.len() {
                break;
            }
            let byte = u32::from(letter);
            for form in [
                format!("%{byte:02x}"),
                format!("%25{byte:02x}"),
                format!("%2525{byte:02x}"),
                format!("%{:02x}%{:02x}", 0xc0 | (byte >> 6), 0x80 | (byte & 0x3f)),
                format!("%25{:02x}%25{:02x}", 0xc0 | (byte >> 6), 0x80 | (byte & 0x3f)),
                format!("%e0%{:02x}%{:02x}", 0x80 | (byte >> 6), 0x80 | (byte & 0x3f)),
                format!("%u{byte:04x}"),
                letter.to_ascii_uppercase().to_string(),
            ] {
                all.push(format!("{}{form}{}", &base[..at], &base[at + 1..]));
            }
        }
    }
    all.sort();
    all.dedup();
    all
}

fn plain(method: &str, target: impl Into<String>) -> Request {
    (method.to_owned(), target.into(), Vec::new())
}

/// All requests that the test sends to each application.
fn attacks() -> Vec<Request> {
    let mut requests = Vec::new();
    for path in ["/admin", "/admin/users", "/reports/7/secret", "/orders/7"] {
        requests.extend(spellings(path).into_iter().map(|target| plain("GET", target)));
        for method in ["get", "Get", "HEAD", "head", "POST", "post", "OPTIONS", "PROPFIND", "X"] {
            requests.push(plain(method, path));
        }
    }
    for path in ["/api/items", "/API/items/", "/api/items;x", "/api//items", "/api/items.json"] {
        for method in ["DELETE", "delete", "Delete", "dELETE", "POST", "post", "Post", "PUT", "put", "PATCH", "patch"] {
            requests.push(plain(method, path));
        }
    }
    let lines = |requests: &mut Vec<Request>, method: &str, target: &str, name: &str, value: &str| {
        for separator in ["-", "_", ".", "~"] {
            let name = name.replace('-', separator);
            requests.push((method.to_owned(), target.to_owned(), vec![(name, value.to_owned())]));
        }
    };
    for name in
        ["x-http-method-override", "x-http-method", "x-method-override", "x-forwarded-method", "x-original-method"]
    {
        for (method, value) in
            [("GET", "DELETE"), ("GET", "delete"), ("GET", "POST"), ("HEAD", "PUT"), ("OPTIONS", "PUT")]
        {
            lines(&mut requests, method, "/api/items", name, value);
        }
    }
    for name in [
        "x-original-url",
        "x-original-uri",
        "x-rewrite-url",
        "x-forwarded-uri",
        "x-forwarded-path",
        "x-forwarded-url",
        "path-info",
        "x-path-info",
        "request-uri",
        "x-request-uri",
        "x-invoke-path",
        "raw-uri",
    ] {
        lines(&mut requests, "GET", "/public/a", name, "/admin");
        lines(&mut requests, "GET", "/", name, "/reports/7/secret");
    }
    for name in ["script-name", "x-script-name", "x-forwarded-prefix", "x-forwarded-script-name"] {
        lines(&mut requests, "GET", "/public/admin", name, "/public");
        lines(&mut requests, "GET", "/x/reports/7/secret", name, "/x");
        lines(&mut requests, "GET", "/admin", name, "/admin");
    }
    requests
}

/// The protected content in a response that this client may not get.
fn leak(answer: &Answer, logged_in: bool) -> Option<String> {
    let resource = answer.header("x-resource");
    let leaked = FORBIDDEN.contains(&resource) || !logged_in && PERSONAL.contains(&resource);
    leaked.then(|| resource.to_owned())
}

/// The exact bytes of a request, including targets that no normal client sends.
fn bytes((method, target, lines): &Request, host: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let lines: Vec<(&str, &str)> =
        lines.iter().map(|(name, value)| (name.as_str(), value.as_str())).chain(more.iter().copied()).collect();
    compose(method, target, host, &lines)
}

async fn logged_in(stack: &Stack) -> String {
    let mut browser = Browser::wechat();
    let answers = browser.follow(&stack.url("/orders")).await;
    assert_eq!(answers.last().unwrap().status, 200, "{answers:?}");
    stack.remember(&browser);
    format!("{SESSION}={}", browser.cookie(SESSION).unwrap())
}

async fn started() -> (Stack, [Server; 4]) {
    let servers = servers().await;
    let stack = Stack::planned(Plan { more: POLICY.to_owned(), envoy: routed(&servers), ..Plan::default() }).await;
    (stack, servers)
}

/// Sends all requests through `edge`, over HTTP/1.1 and HTTP/2.
async fn through(edge: SocketAddr, stack: &Stack, servers: &[Server]) {
    let cookie = logged_in(stack).await;
    let host = stack.edge.to_string();
    let requests = attacks();
    let mut leaks = Vec::new();
    let mut reached = 0;
    for server in servers {
        for cookie in [None, Some(cookie.as_str())] {
            let mut more = vec![("x-app", server.name)];
            more.extend(cookie.map(|cookie| ("cookie", cookie)));
            // Eight requests concurrently.
            for some in requests.chunks(8) {
                let answers = some.iter().map(|request| {
                    let (host, more) = (&host, &more);
                    async move {
                        let h1 = raw(edge, &bytes(request, host, more)).await;
                        let lines = request.2.iter().map(|(name, value)| (name.as_str(), value.as_str()));
                        let lines: Vec<(&str, &str)> = lines.chain(more.iter().copied()).collect();
                        let sendable = format!("http://{host}{}", request.1).parse::<http::Uri>().is_ok();
                        let h2 = if sendable && request.1.starts_with('/') {
                            try_h2(edge, host, &request.0, &request.1, &lines).await
                        } else {
                            None
                        };
                        (request, [("HTTP/1.1", h1), ("HTTP/2", h2)])
                    }
                });
                for (request, answers) in futures_util::future::join_all(answers).await {
                    for (protocol, answer) in answers {
                        let Some(answer) = answer else { continue };
                        reached += usize::from(!answer.header("x-resource").is_empty());
                        if let Some(resource) = leak(&answer, cookie.is_some()) {
                            leaks.push(format!(
                                "{} served {resource} over {protocol}, logged in: {}: {} {} {:?}",
                                server.name,
                                cookie.is_some(),
                                request.0,
                                request.1,
                                request.2
                            ));
                        }
                    }
                }
            }
        }
    }
    assert!(leaks.is_empty(), "{} leaks:\n{}", leaks.len(), leaks.join("\n"));
    assert!(reached > 100, "only {reached} requests reached an application: too few for a result");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_spelling_opens_a_protected_resource_behind_strict() {
    let (stack, servers) = started().await;
    through(stack.edge, &stack, &servers).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_spelling_opens_a_protected_resource_behind_fast() {
    let (mut stack, servers) = started().await;
    let edge = stack.another_envoy(true).await;
    through(edge, &stack, &servers).await;
}

/// A gateway that changes nothing: it forwards each allowed request unmodified to the application.
#[tokio::test(flavor = "multi_thread")]
async fn no_spelling_opens_a_protected_resource_at_the_check_itself() {
    let (stack, servers) = started().await;
    let cookie = logged_in(&stack).await;
    let (host, check) = (stack.edge.to_string(), stack.check.parse().unwrap());
    let mut leaks = Vec::new();
    let mut allowed = 0;
    // Gateways remove headers before the check; requests with headers are tested behind Envoy.
    for request in attacks().iter().filter(|(_, _, lines)| lines.is_empty()) {
        for cookie in [None, Some(cookie.as_str())] {
            let more: Vec<(&str, &str)> = cookie.map(|cookie| ("cookie", cookie)).into_iter().collect();
            let request_bytes = bytes(request, &host, &more);
            if raw(check, &request_bytes).await.is_none_or(|answer| answer.status != 200) {
                continue;
            }
            allowed += 1;
            for server in &servers {
                let Some(answer) = raw(server.address, &request_bytes).await else { continue };
                if let Some(resource) = leak(&answer, cookie.is_some()) {
                    leaks.push(format!(
                        "{} served {resource}, logged in: {}: {} {}",
                        server.name,
                        cookie.is_some(),
                        request.0,
                        request.1
                    ));
                }
            }
        }
    }
    assert!(leaks.is_empty(), "{} leaks:\n{}", leaks.len(), leaks.join("\n"));
    assert!(allowed > 20, "only {allowed} checks were allowed: too few for a result");
}

/// Requests with only one interpretation.
const ORDINARY: &[&str] = &[
    "/",
    "/a",
    "/a/",
    "/a/b.c",
    "/files/C%23%20notes.pdf",
    "/q/what%3F.txt",
    "/img/https://example.com/a.png",
    "/a//b",
    "/%E5%95%86%E5%93%81/1",
    "/%C9%CC%C6%B7",
    "/%C0%B4.txt",
    "/v1.2.3/x..y/...z",
    "/~user/",
    "/a+b/c@d:e,f",
    "/a;v=1/b;w",
    "/(a)'b'!$*",
    "/.well-known/x",
    "/x?next=/../admin&u=%2e%2e%2f//&z=%zz",
    "/caf%E9",
    "/100%25",
    "/%E2%82%AC%20%26",
    "/a%3Bb",
    "/@scope/name",
    "/a=b&c",
    "/reports/7",
    "/reports/7/secrets",
    "/administrator",
    "/admins",
];

#[tokio::test(flavor = "multi_thread")]
async fn ordinary_requests_arrive_byte_for_byte() {
    let (stack, servers) = started().await;
    let host = stack.edge.to_string();
    let mut wrong = Vec::new();
    for server in &servers {
        for target in ORDINARY {
            let lines =
                [("x-app", server.name), ("x-forwarded-host", "evil.example"), ("x-forwarded-for", "198.51.100.7")];
            for answer in [
                raw(stack.edge, &compose("GET", target, &host, &lines)).await,
                try_h2(stack.edge, &host, "GET", target, &lines).await,
            ] {
                let answer = answer.unwrap_or_else(|| panic!("{target}: no answer"));
                let seen = STANDARD.decode(answer.header("x-target")).unwrap_or_default();
                if seen != target.as_bytes() {
                    wrong.push(format!(
                        "{} {target}: {} {:?}",
                        server.name,
                        answer.status,
                        String::from_utf8_lossy(&seen)
                    ));
                }
                // The application must also not see another host or address.
                let about = (answer.header("x-host").replace("%3A", ":"), answer.header("x-client").to_owned());
                let ours = if server.name.starts_with("express") { "127.0.0.1" } else { host.as_str() };
                assert_eq!(about, (ours.to_owned(), "127.0.0.1".to_owned()), "{} {target}", server.name);
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
