//! `wechat-authz doctor`: its findings for a correct deployment, and its message for each error.

use harness::client;
use harness::redis::Redis;
use harness::stack::{PATIENT, Plan, Stack, UNLIMITED};
use harness::{OA, faketime, free_port, program};
use serde_json::Value;
use std::io::{Read as _, Write as _};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

struct Told {
    code: Option<i32>,
    findings: Vec<Value>,
}

impl Told {
    /// All findings that are not `ok`: subject, verdict and text.
    fn unwell(&self) -> Vec<(String, String, String)> {
        let text = |finding: &Value, name: &str| finding[name].as_str().unwrap().to_owned();
        let unwell = self.findings.iter().filter(|finding| finding["verdict"] != "ok");
        // Other users can read the stack's secret files. Doctor warns about it; the tests ignore this warning.
        let unwell = unwell.filter(|finding| finding["about"] != "configuration");
        unwell.map(|one| (text(one, "about"), text(one, "verdict"), text(one, "found"))).collect()
    }

    /// The only finding that is not `ok`.
    fn only(&self) -> (String, String) {
        let mut unwell = self.unwell();
        assert_eq!(unwell.len(), 1, "{unwell:?}");
        let (about, verdict, found) = unwell.remove(0);
        assert_eq!((verdict.as_str(), self.code), ("fail", Some(1)), "{about}: {found}");
        let cure = self.findings.iter().find(|finding| finding["about"] == about.as_str()).unwrap()["cure"].as_str();
        assert!(!cure.unwrap().is_empty(), "{about}: {found}");
        (about, found)
    }
}

fn examined(stack: &Stack, configuration: &str, url: Option<&str>) -> Told {
    examined_by(Command::new(program()), stack, configuration, url)
}

fn examined_by(mut command: Command, stack: &Stack, configuration: &str, url: Option<&str>) -> Told {
    let file = stack.directory.path().join("doctor.yaml");
    std::fs::write(&file, configuration).unwrap();
    command.args(["doctor", "--json", "--config"]).arg(&file);
    if let Some(url) = url {
        command.args(["--url", url]);
    }
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    for secret in [harness::OA_SECRET, harness::WEB_SECRET, harness::ADMIN_TOKEN] {
        assert!(!said.contains(secret), "{said}");
    }
    let told: Value = serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    Told { code: output.status.code(), findings: told["findings"].as_array().unwrap().clone() }
}

async fn stack(envoy: &[(&str, &str)]) -> Stack {
    let envoy = envoy.iter().map(|(from, to)| ((*from).to_owned(), (*to).to_owned())).collect();
    Stack::planned(Plan { envoy, wechat: PATIENT.into(), more: UNLIMITED.into(), ..Plan::default() }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sound_deployment_has_no_finding_and_stays_unchanged() {
    let redis = Redis::start().await;
    let more = format!("{UNLIMITED}{}", redis.configuration());
    let stack = Stack::planned(Plan { wechat: PATIENT.into(), more, ..Plan::default() }).await;
    let keys = redis.keys().await.len();
    let told = examined(&stack, &stack.configured(), Some(&stack.url("/orders")));
    assert_eq!((told.code, told.unwell()), (Some(0), Vec::new()));
    let about: Vec<&str> = told.findings.iter().map(|finding| finding["about"].as_str().unwrap()).collect();
    for part in [
        "keys",
        "WeChat",
        "clock",
        "shop official_account",
        "shop website",
        "Redis",
        "gateway: pages",
        "gateway: data",
        "gateway: prefix",
        "gateway: login",
        "gateway: callback",
        "gateway: cookies",
        "gateway: check",
        "gateway: identity",
        "gateway: failure",
    ] {
        assert!(about.contains(&part), "{part}: {about:?}");
    }
    assert_eq!(redis.keys().await.len(), keys, "doctor must not write");
    assert_eq!(stack.upstream.count(), 0, "the application must receive a request");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stands_behind_is_looked_at_part_by_part() {
    let stack = stack(&[]).await;
    let good = stack.configured();
    let changed = |from: &str, to: &str| {
        assert!(good.contains(from), "{good}");
        good.replace(from, to)
    };
    // A wrong AppSecret.
    std::fs::write(stack.directory.path().join("oa.secret"), "0123456789abcdef0123456789abcdef").unwrap();
    let (about, found) = examined(&stack, &good, None).only();
    assert!(about == "shop official_account" && found.contains(OA) && found.contains("40125"), "{about}: {found}");
    std::fs::write(stack.directory.path().join("oa.secret"), harness::OA_SECRET).unwrap();
    // An unreachable Redis.
    let redis = format!("{good}redis:\n  url: redis://127.0.0.1:{}/0\n", free_port());
    let (about, found) = examined(&stack, &redis, None).only();
    assert!(about == "Redis" && !found.is_empty(), "{about}: {found}");
    // WeChat is unreachable: doctor cannot check the applications and does not blame them.
    let api = good.lines().find(|line| line.trim_start().starts_with("api:")).unwrap().to_owned();
    let told = examined(&stack, &changed(&api, &format!("  api: http://127.0.0.1:{}", free_port())), None);
    let unwell = told.unwell();
    assert_eq!(told.code, Some(1));
    assert!(unwell[0].0 == "WeChat" && unwell[0].1 == "fail" && unwell[0].2.contains("127.0.0.1"), "{unwell:?}");
    assert!(
        unwell[1..].iter().all(|(_, verdict, found)| verdict == "warn" && found.contains("cannot connect")),
        "{unwell:?}"
    );
    // A wrong clock.
    let mut command = Command::new(program());
    command.env("LD_PRELOAD", faketime()).env("FAKETIME", "+300s");
    let told = examined_by(command, &stack, &good, None);
    let (about, found) = told.only();
    assert!(about == "clock" && found.contains("ahead of WeChat's"), "{about}: {found}");
    // An invalid configuration.
    let file = stack.directory.path().join("doctor.yaml");
    std::fs::write(&file, "apps: []").unwrap();
    let output = Command::new(program()).args(["doctor", "--config"]).arg(&file).output().unwrap();
    assert_eq!(output.status.code(), Some(78), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_live_gateway_loses_is_named_with_its_cure() {
    const CHECK: &str = "              - match: { prefix: / }\n";
    const OPEN: &str = "              - match: { prefix: / }\n                typed_per_filter_config: *unchecked\n";
    const OWN_LOGIN: &str = "              - match: { prefix: / }\n                redirect: { path_redirect: \"/login?next=/\", response_code: FOUND }\n                typed_per_filter_config: *unchecked\n              - match: { prefix: / }\n";
    const OTHER_STATUS: &str = "            mappers:\n            - filter: { status_code_filter: { comparison: { op: EQ, value: { default_value: 302, runtime_key: none } } } }\n              status_code: 307\n";
    const PASSED_ON: &str = "patterns: [ { prefix: x-wechat- }, { exact: cookie } ]";
    const PREFIX: &str = "              - match: { path_separated_prefix: /_wechat }\n";
    for (from, to, about, words) in [
        // The gateway allows every request.
        (CHECK, OPEN, "gateway: pages", "an unknown browser gets 200"),
        // The application has its own login, and the gateway does not check its requests.
        (CHECK, OWN_LOGIN, "gateway: pages", "/login, which is not our login"),
        // The gateway redirects to the correct address with another status.
        (
            "            mappers:\n",
            OTHER_STATUS,
            "gateway: pages",
            "an unknown browser gets 307 Temporary Redirect instead of 302",
        ),
        // The pages are unreachable.
        (
            PREFIX,
            "              - match: { path_separated_prefix: /_elsewhere }\n",
            "gateway: prefix",
            "jwks.json gets",
        ),
        ("                    - exact: cache-control\n", "", "gateway: pages", "Cache-Control is lost"),
        ("                    - exact: content-type\n", "", "gateway: data", "lost its Content-Type"),
        (
            "                request_headers_to_add: &client_address\n",
            "                response_headers_to_remove: [ set-cookie ]\n                request_headers_to_add: &client_address\n",
            "gateway: login",
            "the attempt's cookie is lost",
        ),
        (
            "                request_headers_to_add: &client_address\n",
            "                response_headers_to_remove: [ content-security-policy ]\n                request_headers_to_add: &client_address\n",
            "gateway: callback",
            "Content-Security-Policy is lost",
        ),
        (
            "          request_headers_timeout: 10s\n",
            "          request_headers_timeout: 10s\n          max_request_headers_kb: 4\n",
            "gateway: cookies",
            "7 KiB of cookies get",
        ),
        // Headers that the check must receive.
        ("                - exact: cookie\n", "", "gateway: check", "receives no Cookie"),
        ("- { key: x-auth-client-ip, value:", "- { key: x-other, value:", "gateway: check", "no client address"),
        // Headers that the application must receive.
        (
            PASSED_ON,
            "patterns: [ { exact: cookie } ]",
            "gateway: identity",
            "does not receive x-wechat-subject, x-wechat-openid",
        ),
        (
            PASSED_ON,
            "patterns: [ { exact: x-wechat-subject }, { exact: cookie } ]",
            "gateway: identity",
            "does not receive x-wechat-openid, ",
        ),
        (PASSED_ON, "patterns: [ { prefix: x-wechat- } ]", "gateway: identity", "receives the session's cookie"),
        (
            "regex: \"x-wechat-[a-z]+|cookie|authorization\"",
            "regex: \"cookie\"",
            "gateway: identity",
            "does not receive x-wechat-subject",
        ),
        // The gateway must deny requests if the check fails.
        ("failure_mode_allow: false", "failure_mode_allow: true", "gateway: failure", "passes while the check fails"),
    ] {
        let stack = stack(&[(from, to)]).await;
        let told = examined(&stack, &stack.configured(), Some(&stack.url("/")));
        let unwell = told.unwell();
        let found = unwell.iter().find(|(which, _, found)| which == about && found.contains(words));
        let (_, verdict, _) = found.unwrap_or_else(|| panic!("{about}, {words}: {unwell:?}"));
        let fails = about != "gateway: cookies";
        assert_eq!((verdict == "fail", told.code), (fails, Some(i32::from(fails))), "{about}: {unwell:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_a_foreign_and_a_lossy_gateway_are_distinguished() {
    let mut stack = stack(&[]).await;
    let good = stack.configured();
    // A host of no configured application.
    let (about, found) = examined(&stack, &good, Some("https://elsewhere.example.com/")).only();
    assert!(about == "gateway" && found.contains("no application lives at https://elsewhere.example.com"), "{found}");
    // No server listens at the port.
    let port = free_port().to_string();
    let moved = good.replace(&stack.edge.port().to_string(), &port);
    let (about, found) = examined(&stack, &moved, Some(&format!("http://127.0.0.1:{port}/"))).only();
    assert!(about == "gateway" && found.contains("does not answer"), "{found}");
    // The instance behind Envoy is down, and Envoy reports it.
    stack.kill_authz();
    let told = examined(&stack, &good, Some(&stack.url("/")));
    let unwell = told.unwell();
    assert!(unwell.iter().any(|(about, _, found)| about == "gateway: pages" && found.contains("503")), "{unwell:?}");
    assert_eq!(told.code, Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_probe_page_an_open_gateway_is_found_all_the_same() {
    const PROBE: &str =
        "              - match: { path: /_wechat/probe }\n                route: { cluster: wechat_pages }\n";
    for (more, about, words) in [
        (("failure_mode_allow: false", "failure_mode_allow: true"), "gateway: failure", "passes while the check fails"),
        (("                - exact: cookie\n", ""), "gateway: check", "receives no Cookie"),
    ] {
        let stack = stack(&[(PROBE, ""), more]).await;
        let told = examined(&stack, &stack.configured(), Some(&stack.url("/orders")));
        let unwell = told.unwell();
        let has = |about: &str, verdict: &str, words: &str| {
            unwell.iter().any(|(which, what, found)| which == about && what == verdict && found.contains(words))
        };
        assert!(has(about, "fail", words) && has("gateway: identity", "warn", "is not checked"), "{unwell:?}");
        assert_eq!(told.code, Some(1), "{unwell:?}");
    }
    let stack = stack(&[(PROBE, "")]).await;
    let told = examined(&stack, &stack.configured(), Some(&stack.url("/orders")));
    assert_eq!((told.code, told.unwell().len(), stack.upstream.count()), (Some(0), 1, 0), "{:?}", told.unwell());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_that_our_keys_did_not_make_is_nothing_to_anybody() {
    let stack = stack(&[]).await;
    let forged = "A".repeat(120);
    for (path, status) in [
        (format!("/orders?wechat-authz-probe={forged}"), 401),
        (format!("/_wechat/probe?wechat-authz-probe={forged}"), 403),
        ("/_wechat/probe".to_owned(), 403),
    ] {
        let answer = client::Browser::desktop().fetch(&stack.url(&path)).await;
        assert_eq!(answer.status, status, "{path}: {answer:?}");
        assert!(!answer.body.contains("received_by"), "{path}: {answer:?}");
    }
    assert_eq!(stack.upstream.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_of_another_configuration_in_a_fast_gateway_are_found() {
    let handwritten = ("x-wechat-authz-policy", "x-other");
    let policy = "policy:\n- { path_prefix: /staff, access: required, subjects: [\"wx:union:o1\"] }\n";
    let plan = |envoy: &[(&str, &str)]| Plan {
        fast: true,
        envoy: envoy.iter().map(|(from, to)| ((*from).to_owned(), (*to).to_owned())).collect(),
        wechat: PATIENT.into(),
        more: format!("{UNLIMITED}{policy}"),
        ..Plan::default()
    };
    let stack = Stack::planned(plan(&[])).await;
    let good = stack.configured();
    let told = examined(&stack, &good, Some(&stack.url("/orders")));
    assert_eq!((told.code, told.unwell(), stack.upstream.count()), (Some(0), Vec::new(), 0));
    assert!(told.findings.iter().any(|finding| finding["about"] == "gateway: rules"));
    for (from, to) in [("/staff", "/team"), ("access: required, subjects: [\"wx:union:o1\"]", "access: required")] {
        assert!(good.contains(from));
        let (about, found) = examined(&stack, &good.replace(from, to), Some(&stack.url("/orders"))).only();
        assert!(about == "gateway: rules" && found.contains("of another configuration"), "{about}: {found}");
    }
    let stack = Stack::planned(plan(&[handwritten])).await;
    let (about, found) = examined(&stack, &stack.configured(), Some(&stack.url("/orders"))).only();
    assert!(about == "gateway: rules" && found.contains("rules of its own"), "{about}: {found}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ip_allow_list_without_this_machine_is_found() {
    let simulator = |options: &mut wechat_simulator::Options| options.apps[0].caller_allowed = false;
    let stack =
        Stack::planned(Plan { simulator, wechat: PATIENT.into(), more: UNLIMITED.into(), ..Plan::default() }).await;
    let good = stack.configured();
    assert_eq!(examined(&stack, &good, None).code, Some(0), "without jssdk the access token is not needed");
    for setting in ["jssdk: true", "require_subscription: true"] {
        let needing = good.replacen("scope: snsapi_base }", &format!("scope: snsapi_base, {setting} }}"), 1);
        assert_ne!(needing, good);
        let (about, found) = examined(&stack, &needing, None).only();
        assert!(about == "shop access_token" && found.contains("40164") && found.contains(OA), "{about}: {found}");
    }
}

/// A proxy that accepts `CONNECT` to any host, only with these credentials, and a TLS server behind it that forwards
/// requests to the simulator. It counts the tunnels.
fn proxy(simulator: std::net::SocketAddr, identity: (Vec<u8>, Vec<u8>)) -> (u16, std::sync::Arc<AtomicUsize>) {
    let tunnels = std::sync::Arc::<AtomicUsize>::default();
    let (certificate, key) = identity;
    let key = rustls::pki_types::PrivateKeyDer::try_from(key).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let tls = tls.with_no_client_auth().with_single_cert(vec![certificate.into()], key).unwrap();
    let tls = std::sync::Arc::new(tls);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let counted = std::sync::Arc::clone(&tunnels);
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let (tls, counted) = (std::sync::Arc::clone(&tls), std::sync::Arc::clone(&counted));
            std::thread::spawn(move || tunnel(client?, tls, simulator, &counted));
        }
    });
    (port, tunnels)
}

fn tunnel(
    mut client: std::net::TcpStream,
    tls: std::sync::Arc<rustls::ServerConfig>,
    simulator: std::net::SocketAddr,
    counted: &AtomicUsize,
) -> std::io::Result<()> {
    let asked = head(&mut client)?;
    // `alice:a:b` in base64.
    if !asked.to_ascii_lowercase().contains("proxy-authorization: basic ") || !asked.contains("YWxpY2U6YTpi") {
        return client.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n");
    }
    assert!(asked.starts_with("CONNECT api.weixin.test:443 HTTP/1.1"), "{asked}");
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
    counted.fetch_add(1, Ordering::Relaxed);
    let connection = rustls::ServerConnection::new(tls).map_err(std::io::Error::other)?;
    let mut inside = rustls::StreamOwned::new(connection, client);
    let asked = head(&mut inside)?;
    let length = asked.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    inside.read_exact(&mut body)?;
    let mut server = std::net::TcpStream::connect(simulator)?;
    server.write_all(asked.replacen("\r\n", "\r\nconnection: close\r\n", 1).as_bytes())?;
    server.write_all(&body)?;
    let mut answer = Vec::new();
    server.read_to_end(&mut answer)?;
    inside.write_all(&answer)?;
    inside.conn.send_close_notify();
    inside.flush()
}

/// Reads the head of an HTTP/1 message up to the empty line.
fn head(stream: &mut impl std::io::Read) -> std::io::Result<String> {
    let (mut read, mut byte) = (Vec::new(), [0]);
    while !read.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        read.push(byte[0]);
    }
    Ok(String::from_utf8(read).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn wechat_is_reached_through_the_configured_proxy_alone() {
    // The proxy of the environment, which is unreachable.
    let nobody = "http://127.0.0.1:9".to_owned();
    let environment = vec![("HTTPS_PROXY", nobody.clone()), ("ALL_PROXY", nobody.clone())];
    let mut stack = Stack::planned(Plan { wechat: PATIENT.into(), environment, ..Plan::default() }).await;
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["api.weixin.test".into()]).unwrap().self_signed(&key).unwrap();
    let simulator = stack.simulator.base_url();
    let address = simulator.strip_prefix("http://").unwrap().parse().unwrap();
    let (port, tunnels) = proxy(address, (certificate.der().to_vec(), key.serialize_der()));
    std::fs::write(stack.directory.path().join("ca.pem"), certificate.pem()).unwrap();
    std::fs::write(stack.directory.path().join("proxy.secret"), "alice:a:b\n").unwrap();
    let api = format!("  api: {simulator}\n");
    let through = format!(
        "  api: https://api.weixin.test\n  proxy: http://127.0.0.1:{port}\n  ca_file: ./ca.pem\n\
         \x20 proxy_credentials_file: ./proxy.secret\n"
    );
    stack.reconfigured(&api, &through).await;
    let mut browser = client::Browser::wechat();
    stack.log_in(&mut browser, "/").await;
    let logged_in = tunnels.load(Ordering::Relaxed);
    assert!(logged_in > 0);

    let configuration = stack.configured().replace(&api, &through);
    let mut doctor = Command::new(program());
    doctor.envs([("HTTPS_PROXY", &nobody), ("ALL_PROXY", &nobody), ("HTTP_PROXY", &nobody)]);
    let told = examined_by(doctor, &stack, &configuration, Some(&stack.url("/orders")));
    assert!(tunnels.load(Ordering::Relaxed) > logged_in);
    assert!(told.findings.iter().any(|one| one["about"] == "WeChat" && one["verdict"] == "ok"), "{:?}", told.findings);
    assert_eq!(
        told.unwell().iter().filter(|one| one.1 == "fail").collect::<Vec<_>>(),
        Vec::<&(String, String, String)>::new()
    );

    // With other credentials or other root certificates the connection fails.
    let other = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["api.weixin.test".into()]).unwrap();
    let other = params.self_signed(&other).unwrap().pem();
    for (credentials, roots) in [("alice:a", certificate.pem()), ("alice:a:b", other)] {
        std::fs::write(stack.directory.path().join("proxy.secret"), credentials).unwrap();
        std::fs::write(stack.directory.path().join("ca.pem"), roots).unwrap();
        let told = examined(&stack, &configuration, None);
        assert!(told.unwell().iter().any(|one| one.0 == "WeChat" && one.1 == "fail"), "{:?}", told.findings);
    }
}
