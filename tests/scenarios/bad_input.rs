//! Invalid input gets a 4xx response. It causes no panic, no hang, no 5xx from a check and no lost session, and it
//! never gives access (docs/en/threat-model.md, Access without a session).

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use harness::SESSION;
use harness::client::{Browser, Cookie, HTML, compose, raw};
use harness::stack::{Plan, Stack};
use http_body_util::Full;
use hyper::body::Bytes;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A stack with a logged-in user, whose session must survive each test.
struct Target {
    stack: Stack,
    browser: Browser,
    token: String,
    pid: u32,
}

impl Target {
    async fn start(more: &str) -> Self {
        let policy = "policy:\n- { path_prefix: /public, access: public }\n";
        Self::planned(Plan { more: format!("{policy}{more}"), ..Plan::default() }).await
    }

    async fn planned(plan: Plan) -> Self {
        let stack = Stack::planned(plan).await;
        let mut browser = Browser::wechat();
        stack.log_in(&mut browser, "/").await;
        let token = browser.cookie(SESSION).unwrap();
        let pid = stack.authz_pid();
        Self { stack, browser, token, pid }
    }

    fn check(&self) -> SocketAddr {
        self.stack.check.parse().unwrap()
    }

    fn host(&self) -> String {
        self.stack.edge.to_string()
    }

    /// Asserts that the process has not restarted, accepts the user's session and rejects other clients.
    async fn assert_unharmed(&self) {
        let started = self.stack.logged().matches("\"message\":\"serving\"").count();
        assert_eq!((self.stack.authz_pid(), started), (self.pid, 1), "the process must not have restarted");
        let metrics = self.stack.metrics().await;
        let panics =
            metrics.lines().filter(|line| line.starts_with("wechat_authz_panics_total{") && !line.ends_with(" 0"));
        assert_eq!(panics.collect::<Vec<_>>(), [""; 0]);
        let mut browser = self.browser.clone();
        assert_eq!(browser.fetch(&self.stack.url("/orders")).await.status, 200, "the session must stay valid");
        assert_eq!(Browser::desktop().fetch(&self.stack.url("/orders")).await.status, 401);
    }
}

/// The statuses that a check may return. It returns 200 only if the request has a live session or its path is public.
#[track_caller]
fn assert_answers(what: &str, statuses: &[u16], may_pass: bool) {
    for status in statuses {
        let fine = match status {
            200 => may_pass,
            302 | 400 | 401 | 403 | 414 | 429 | 431 => true,
            _ => false,
        };
        assert!(fine, "{what}: {status} among {statuses:?}");
    }
}

/// Sends bytes and returns the statuses of all responses until the server closes the connection or is idle. The result
/// is empty if the server closes the connection without a response.
async fn provoke(address: SocketAddr, bytes: &[u8]) -> Vec<u16> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let _ = stream.write_all(bytes).await;
    let mut read = Vec::new();
    let mut chunk = [0; 16 * 1024];
    let mut patience = Duration::from_secs(2);
    while let Ok(Ok(count @ 1..)) = tokio::time::timeout(patience, stream.read(&mut chunk)).await {
        read.extend_from_slice(&chunk[..count]);
        patience = Duration::from_millis(200);
    }
    let text = String::from_utf8_lossy(&read).into_owned();
    let heads = text.split("HTTP/1.").skip(1);
    heads.filter_map(|head| head.get(2..5)?.parse().ok()).filter(|status| *status != 100).collect()
}

/// A request from lines of bytes.
fn bytes(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

// ---- tokens

fn encode(part: &Value) -> String {
    URL_SAFE_NO_PAD.encode(part.to_string())
}

/// The program's own signing key. The tests use it as an attacker who has stolen it.
fn signing_key(stack: &Stack) -> EcdsaKeyPair {
    let mut files = std::fs::read_dir(stack.directory.path().join("keys")).unwrap().map(|entry| entry.unwrap().path());
    let pem = files.find(|path| path.extension().is_some_and(|extension| extension == "pem")).unwrap();
    let pem = std::fs::read_to_string(pem).unwrap();
    let body: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &STANDARD.decode(body).unwrap()).unwrap()
}

#[allow(clippy::disallowed_methods)] // the library requires its own random number generator
fn sign(key: &EcdsaKeyPair, header: &str, payload: &str) -> String {
    let signed = format!("{header}.{payload}");
    let signature = key.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn part(token: &str, index: usize) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').nth(index).unwrap()).unwrap()).unwrap()
}

/// `value` with one member replaced.
fn with(value: &Value, name: &str, member: Value) -> Value {
    let mut value = value.clone();
    value[name] = member;
    value
}

fn without(value: &Value, name: &str) -> Value {
    let mut value = value.clone();
    value.as_object_mut().unwrap().remove(name).unwrap();
    value
}

/// All kinds of invalid tokens (docs/en/threat-model.md, Tokens): description, token and the expected reason.
async fn wrong_tokens(target: &Target) -> Vec<(String, String, &'static str)> {
    let key = signing_key(&target.stack);
    let token = target.token.as_str();
    let (header, claims) = (part(token, 0), part(token, 1));
    let [header_text, claims_text, signature] = token.split('.').collect::<Vec<_>>()[..] else { panic!() };
    let now = claims["iat"].as_u64().unwrap();
    let mut wrong: Vec<(String, String, &'static str)> = Vec::new();

    // Invalid encodings.
    let last = signature.chars().last().unwrap();
    let other = if last == 'B' { 'C' } else { 'B' };
    let loose = format!("{}{other}", &token[..token.len() - 1]);
    for (what, text) in [
        ("one letter", "a".into()),
        ("dots", "...".into()),
        ("no segments", "..".into()),
        ("two segments", format!("{header_text}.{claims_text}")),
        ("no signature", format!("{header_text}.{claims_text}.")),
        ("four segments", format!("{token}.{signature}")),
        ("five segments", format!("{token}.a.b")),
        ("a dot before", format!(".{token}")),
        ("a dot after", format!("{token}.")),
        ("padding", format!("{token}=")),
        ("half a signature", token[..token.len() - 43].into()),
        ("a character short", token[..token.len() - 1].into()),
        ("a character more", format!("{token}A")),
        ("a loose end", loose),
        ("upper case", token.to_uppercase()),
        ("quoted", format!("\"{token}\"")),
        ("percent", format!("%20{token}")),
        ("plain base64", token.replacen('e', "+", 1)),
        ("twice", format!("{token}{token}")),
        ("4,097 letters", "a".repeat(4_097)),
        ("30,000 letters", "a".repeat(30_000)),
        ("30,000 dots", ".".repeat(30_000)),
        ("a long claim", sign(&key, header_text, &encode(&with(&claims, "nickname", json!("n".repeat(4_000)))))),
    ] {
        wrong.push((what.into(), text, "token_malformed"));
    }

    // Invalid headers, each with a valid signature.
    let public = Browser::desktop().fetch(&target.stack.url("/_wechat/jwks.json")).await.json()["keys"][0].clone();
    for (what, changed, reason) in [
        ("alg none", with(&header, "alg", json!("none")), "token_malformed"),
        ("alg None", with(&header, "alg", json!("None")), "token_malformed"),
        ("alg HS256", with(&header, "alg", json!("HS256")), "token_malformed"),
        ("alg RS256", with(&header, "alg", json!("RS256")), "token_malformed"),
        ("alg ES384", with(&header, "alg", json!("ES384")), "token_malformed"),
        ("alg es256", with(&header, "alg", json!("es256")), "token_malformed"),
        ("alg in an array", with(&header, "alg", json!(["ES256"])), "token_malformed"),
        ("no alg", without(&header, "alg"), "token_malformed"),
        ("typ JWT", with(&header, "typ", json!("JWT")), "token_foreign"),
        ("typ of an access token", with(&header, "typ", json!("at+jwt")), "token_foreign"),
        ("typ in capitals", with(&header, "typ", json!("WECHAT-SESSION+JWT")), "token_foreign"),
        ("no typ", without(&header, "typ"), "token_malformed"),
        ("no kid", without(&header, "kid"), "token_malformed"),
        ("an unknown kid", with(&header, "kid", json!("20200101T000000Z")), "token_unknown_key"),
        ("an empty kid", with(&header, "kid", json!("")), "token_unknown_key"),
        ("a kid that is a path", with(&header, "kid", json!("../../../../dev/null")), "token_unknown_key"),
        ("a kid that is an address", with(&header, "kid", json!("http://127.0.0.1:1/key")), "token_unknown_key"),
        ("a kid with a line break", with(&header, "kid", json!("a\r\nx: y\u{0}")), "token_malformed"),
        ("a kid that is a number", with(&header, "kid", json!(1)), "token_malformed"),
        ("crit", with(&header, "crit", json!(["exp"])), "token_malformed"),
        ("b64", with(&header, "b64", json!(false)), "token_malformed"),
        ("zip", with(&header, "zip", json!("DEF")), "token_malformed"),
        ("jku", with(&header, "jku", json!("http://127.0.0.1:1/jwks.json")), "token_malformed"),
        ("jwk", with(&header, "jwk", public.clone()), "token_malformed"),
        ("x5u", with(&header, "x5u", json!("http://127.0.0.1:1/x")), "token_malformed"),
        ("x5c", with(&header, "x5c", json!(["AA"])), "token_malformed"),
        ("another member", with(&header, "x", json!(1)), "token_malformed"),
        ("an array", json!([header]), "token_malformed"),
        ("null", Value::Null, "token_malformed"),
    ] {
        wrong.push((format!("header: {what}"), sign(&key, &encode(&changed), claims_text), reason));
    }
    let doubled = header.to_string().replacen('{', "{\"alg\":\"ES256\",", 1);
    wrong.push((
        "header: alg twice".into(),
        sign(&key, &URL_SAFE_NO_PAD.encode(doubled), claims_text),
        "token_malformed",
    ));

    // Invalid claims, each signed with the real key.
    for (what, changed, reason) in [
        ("another app", with(&claims, "aud", json!("blog")), "token_foreign"),
        ("two apps", with(&claims, "aud", json!(["shop", "blog"])), "token_malformed"),
        ("the app in an array", with(&claims, "aud", json!(["shop"])), "token_malformed"),
        ("no app", without(&claims, "aud"), "token_malformed"),
        ("another issuer", with(&claims, "iss", json!("https://evil.example")), "token_foreign"),
        ("the issuer in an array", with(&claims, "iss", json!([claims["iss"]])), "token_malformed"),
        ("no issuer", without(&claims, "iss"), "token_malformed"),
        ("no subject", without(&claims, "sub"), "token_malformed"),
        ("an empty subject", with(&claims, "sub", json!("")), "token_malformed"),
        ("a numeric subject", with(&claims, "sub", json!(1)), "token_malformed"),
        ("an empty session", with(&claims, "sid", json!("")), "token_malformed"),
        ("no session", without(&claims, "sid"), "token_malformed"),
        ("no end", without(&claims, "exp"), "token_malformed"),
        ("no end of the session", without(&claims, "session_exp"), "token_malformed"),
        ("no beginning", without(&claims, "iat"), "token_malformed"),
        ("an end that is text", with(&claims, "exp", json!(claims["exp"].to_string())), "token_malformed"),
        ("a negative end", with(&claims, "exp", json!(-1)), "token_malformed"),
        ("a fractional end", with(&claims, "exp", json!(now as f64 + 60.5)), "token_malformed"),
        ("the end of time", with(&claims, "exp", json!(u64::MAX)), "token_malformed"),
        ("a session without end", with(&claims, "session_exp", json!(u64::MAX)), "token_malformed"),
        ("a longer session than any", with(&claims, "session_exp", json!(now + 91 * 86_400)), "token_malformed"),
        ("a longer token than any", with(&claims, "exp", json!(now + 3_601)), "token_malformed"),
        ("an end before its beginning", with(&claims, "exp", json!(now - 1)), "token_malformed"),
        ("from the future", with(&claims, "iat", json!(now + 600)), "token_malformed"),
        ("no login", without(&claims, "auth_time"), "token_malformed"),
        ("an unknown flow", with(&claims, "flow", json!("admin")), "token_malformed"),
        ("an array", json!([claims]), "token_malformed"),
        ("text", json!("text"), "token_malformed"),
    ] {
        wrong.push((format!("claims: {what}"), sign(&key, header_text, &encode(&changed)), reason));
    }
    let mut over = claims.clone();
    for (name, back) in [("auth_time", 7_200), ("iat", 7_200), ("exp", 6_600), ("session_exp", 3_600)] {
        over[name] = json!(now - back);
    }
    wrong.push(("claims: a session that is over".into(), sign(&key, header_text, &encode(&over)), "session_expired"));
    for (what, text) in [
        ("a subject twice", claims.to_string().replacen('{', "{\"sub\":\"admin\",", 1).into_bytes()),
        ("deep nesting", format!("{}{}", "[".repeat(1_000), "]".repeat(1_000)).into_bytes()),
        (
            "a huge number",
            claims.to_string().replacen(&format!("\"exp\":{}", claims["exp"]), "\"exp\":1e400", 1).into_bytes(),
        ),
        ("not UTF-8", b"{\"sub\":\"\xff\"}".to_vec()),
        ("half an object", claims.to_string().as_bytes()[..40].to_vec()),
        ("two objects", format!("{claims}{claims}").into_bytes()),
        ("nothing", Vec::new()),
    ] {
        wrong.push((
            format!("claims: {what}"),
            sign(&key, header_text, &URL_SAFE_NO_PAD.encode(text)),
            "token_malformed",
        ));
    }

    // Invalid signatures.
    let stranger = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    wrong.push(("another key under our name".into(), sign(&stranger, header_text, claims_text), "token_forged"));
    let admin = encode(&with(&claims, "sub", json!("wx:union:admin")));
    wrong.push((
        "another subject, same signature".into(),
        format!("{header_text}.{admin}.{signature}"),
        "token_forged",
    ));
    wrong.push((
        "zeroes".into(),
        format!("{header_text}.{claims_text}.{}", URL_SAFE_NO_PAD.encode([0; 64])),
        "token_forged",
    ));
    wrong.push((
        "ones".into(),
        format!("{header_text}.{claims_text}.{}", URL_SAFE_NO_PAD.encode([255; 64])),
        "token_forged",
    ));
    let none = encode(&with(&header, "alg", json!("none")));
    wrong.push(("alg none, no signature".into(), format!("{none}.{admin}."), "token_malformed"));
    // A MAC whose key is public.
    let symmetric = encode(&with(&header, "alg", json!("HS256")));
    for secret in [public.to_string().into_bytes(), public["x"].as_str().unwrap().into(), Vec::new()] {
        let signed = format!("{symmetric}.{admin}");
        let mac =
            aws_lc_rs::hmac::sign(&aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &secret), signed.as_bytes());
        wrong.push((
            "a MAC by the public key".into(),
            format!("{signed}.{}", URL_SAFE_NO_PAD.encode(mac)),
            "token_malformed",
        ));
    }
    wrong
}

#[tokio::test(flavor = "multi_thread")]
async fn each_wrong_token_is_rejected_with_its_reason() {
    let target = Target::start("").await;
    let key = signing_key(&target.stack);
    let [header, claims, _] = target.token.split('.').collect::<Vec<_>>()[..] else { panic!() };
    // The control: the same code produces a valid token if every part is correct.
    let good = sign(&key, header, claims);
    assert_ne!(good, target.token);
    let mut canaries = Browser::desktop();
    let mut faults = Vec::new();
    let mut tokens = wrong_tokens(&target).await;
    assert!(tokens.len() > 90, "{}", tokens.len());
    tokens.push(("nothing wrong".into(), good, ""));
    for (what, token, reason) in &tokens {
        let cookie = format!("{SESSION}={token}");
        let bearer = format!("Bearer {token}");
        for (address, line) in [
            (target.stack.edge, ("cookie", &cookie)),
            (target.stack.edge, ("authorization", &bearer)),
            (target.check(), ("cookie", &cookie)),
            (target.check(), ("authorization", &bearer)),
        ] {
            let asked = compose("GET", "/orders", &target.host(), &[(line.0, line.1)]);
            let answer = raw(address, &asked).await.unwrap_or_else(|| panic!("no answer: {what}"));
            assert_answers(what, &[answer.status], reason.is_empty());
            let told = if answer.status == 401 { answer.json()["data"]["reason"].clone() } else { json!("") };
            if told != *reason || (reason.is_empty() && answer.status != 200) {
                faults.push(format!("{what} as {}: {} {told} instead of {reason}", line.0, answer.status));
            }
        }
        let (name, path, host) = (what.clone(), "/".to_owned(), String::new());
        canaries.jar.push(Cookie { name, value: token.clone(), path, host });
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    // On a public path an invalid token has no effect.
    let public = compose("GET", "/public/a", &target.host(), &[("cookie", &format!("{SESSION}={}", tokens[40].1))]);
    assert_eq!(raw(target.stack.edge, &public).await.unwrap().status, 200);
    // The pages accept the same tokens as the check.
    for (what, token, reason) in tokens.iter().step_by(7).filter(|(.., reason)| !reason.is_empty()) {
        let cookie = format!("{SESSION}={token}");
        let asked = compose("GET", "/_wechat/session", &target.host(), &[("cookie", &cookie)]);
        assert_eq!(raw(target.stack.edge, &asked).await.unwrap().status, 401, "{what} {reason}");
    }
    canaries.jar.retain(|cookie| !cookie.value.contains("aaaa") && !cookie.value.contains("...."));
    target.stack.remember(&canaries);
    target.assert_unharmed().await;
}

// ---- cookies and headers

#[tokio::test(flavor = "multi_thread")]
async fn cookies_beyond_reason_neither_hurt_nor_hide_the_session() {
    let target = Target::start("").await;
    let ours = format!("{SESSION}={}", target.token);
    let many = "a=1; ".repeat(10_000);
    let own = |count: usize| (0..count).map(|index| format!("{SESSION}={index}; ")).collect::<String>();
    let long = format!("a={}", "x".repeat(58 * 1024));
    // The expected status if the request has a session; `None` if any status except 200 is correct.
    let cases: Vec<(&str, Vec<u8>, Option<u16>)> = vec![
        ("10,000 cookies", many.clone().into_bytes(), Some(401)),
        ("10,000 cookies and ours", format!("{many}{ours}").into_bytes(), Some(200)),
        ("ours and 10,000 cookies", format!("{ours}; {many}").into_bytes(), Some(200)),
        ("1,000 sessions", own(1_000).into_bytes(), Some(401)),
        ("1,000 sessions and ours", format!("{}{ours}", own(1_000)).into_bytes(), Some(401)),
        ("58 KiB", long.clone().into_bytes(), Some(401)),
        ("58 KiB and ours", format!("{long}; {ours}").into_bytes(), Some(200)),
        ("58 KiB as a session", format!("{SESSION}={}", "x".repeat(58 * 1024)).into_bytes(), Some(401)),
        ("not UTF-8 beside ours", bytes(&[b"a=\xff\xfe\x80; ", ours.as_bytes(), b"; b=\xc3\x28"]), Some(200)),
        ("not UTF-8 as a session", bytes(&[SESSION.as_bytes(), b"=\xff\xfe"]), Some(401)),
        ("not UTF-8 as another session", bytes(&[ours.as_bytes(), b"; ", SESSION.as_bytes(), b"=\xff"]), Some(401)),
        ("not UTF-8 in its name", bytes(&[b"\xff", ours.as_bytes()]), Some(401)),
        ("separators", b";,;,;;;,,,; = ;==;=,".repeat(500), Some(401)),
        ("separators and ours", bytes(&[&b";,;,;;;,,,; = ;==;=,".repeat(500), ours.as_bytes()]), Some(200)),
        ("no names", format!("=; =a; ={ours}").into_bytes(), Some(401)),
        ("tabs", format!("\t{ours}\t;\ta=1").into_bytes(), Some(200)),
        ("quotes", format!("a=\"{ours}\"; b=\"").into_bytes(), Some(401)),
        ("quotes and a separator", format!("a=\"; {ours}; b=\"").into_bytes(), Some(200)),
        (
            "other prefixes",
            format!("__Secure-wechat_session={0}; __host-wechat_session={0}", target.token).into_bytes(),
            Some(401),
        ),
        ("nothing", Vec::new(), Some(401)),
    ];
    let host = target.host();
    for (what, cookie, status) in &cases {
        let head = format!("GET /orders HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncookie: ");
        let asked = bytes(&[head.as_bytes(), cookie, b"\r\n\r\n"]);
        for (door, address) in [("the check", target.check()), ("Envoy", target.stack.edge)] {
            let statuses = provoke(address, &asked).await;
            assert_answers(what, &statuses, *status == Some(200));
            assert_eq!(statuses.first(), status.as_ref(), "{what} at {door}");
        }
    }
    target.assert_unharmed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_beyond_reason_are_refused_at_both_doors() {
    let target = Target::start("").await;
    let host = target.host();
    let ours = format!("cookie: {SESSION}={}\r\n", target.token);
    let head = |lines: &[u8]| {
        let start = format!("GET /orders HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n");
        bytes(&[start.as_bytes(), lines, b"\r\n"])
    };
    let path = |length: usize| {
        format!("GET /{} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n", "a".repeat(length)).into_bytes()
    };
    let numbered = |count: usize| (0..count).map(|index| format!("x-{index}: 1\r\n")).collect::<String>();
    for (what, asked, at_check, at_envoy) in [
        ("1,000 lines", head(numbered(1_000).as_bytes()), 431, 431),
        ("1,000 lines of one name", head(&b"x: 1\r\n".repeat(1_000)), 431, 431),
        ("1,000 Cookie lines", head(&b"cookie: a=1\r\n".repeat(1_000)), 431, 431),
        ("100,000 lines with a session", head(format!("{ours}{}", "a: b\r\n".repeat(100_000)).as_bytes()), 431, 431),
        ("a line of 200 KiB", head(format!("x: {}\r\n", "a".repeat(200 * 1024)).as_bytes()), 431, 431),
        ("a name of 200 KiB", head(format!("{}: a\r\n", "a".repeat(200 * 1024)).as_bytes()), 431, 431),
        ("a path of 50 KiB", path(50 * 1024), 401, 401),
        ("a path of 200 KiB", path(200 * 1024), 431, 431),
        ("bytes above ASCII", head(b"accept: \xff\xfe\x80\r\nuser-agent: \xe4\xb8\xad\xff\r\nx: \xff\r\n"), 401, 401),
        (
            "a language of all kinds",
            head(format!("accept-language: {}\r\n", "zh;q=9,,;q=,".repeat(2_000)).as_bytes()),
            401,
            401,
        ),
        ("accept of all kinds", head(format!("accept: {}\r\n", "text/html;;;q=,".repeat(2_000)).as_bytes()), 302, 302),
        ("ids of all kinds", head(b"x-request-id: \"}{\\\xff\r\ntraceparent: 00-\xff-zz-1\r\n"), 401, 401),
        ("two bearers", head(b"authorization: Bearer a\r\nauthorization: Bearer b\r\n"), 401, 401),
        ("a scheme alone", head(b"authorization: Bearer\r\n"), 401, 401),
        ("a bearer of bytes", head(b"authorization: Bearer \xff\xfe\r\n"), 401, 401),
        ("a bearer of blanks", head(format!("authorization: Bearer{}x\r\n", " ".repeat(50_000)).as_bytes()), 401, 401),
    ] {
        for (address, status) in [(target.check(), at_check), (target.stack.edge, at_envoy)] {
            let statuses = provoke(address, &asked).await;
            assert_answers(what, &statuses, false);
            assert_eq!(statuses, [status], "{what} at {address}");
        }
    }
    target.assert_unharmed().await;
}

// ---- framing

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_are_none_get_nothing_from_the_check() {
    let target = Target::start("").await;
    let host = target.host();
    let ours = format!("cookie: {SESSION}={}\r\n", target.token);
    let rest = format!("host: {host}\r\nconnection: close\r\n\r\n");
    let line = |line: &str| format!("{line}\r\n{rest}").into_bytes();
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("no target", line("GET")),
        ("no version", line("GET /")),
        ("version 0.9", b"GET /\r\n".to_vec()),
        ("version 3", line("GET / HTTP/3.0")),
        ("version 1.2", line("GET / HTTP/1.2")),
        ("lower-case version", line("GET / http/1.1")),
        ("two blanks", line("GET  /  HTTP/1.1")),
        ("four words", line("GET / / HTTP/1.1")),
        ("no method", line(" / HTTP/1.1")),
        ("a method of brackets", line("<GET> / HTTP/1.1")),
        ("a method of 10 KiB", line(&format!("{} / HTTP/1.1", "A".repeat(10_240)))),
        ("an empty target", line("GET  HTTP/1.1")),
        ("no slash", line("GET public HTTP/1.1")),
        ("an asterisk", line("OPTIONS * HTTP/1.1")),
        ("an asterisk to get", line("GET * HTTP/1.1")),
        ("a fragment", line("GET /orders#/public/ HTTP/1.1")),
        ("a NUL", line("GET /orders\u{0}/public HTTP/1.1")),
        ("a control character", line("GET /\u{7}orders HTTP/1.1")),
        ("raw UTF-8", line("GET /中 HTTP/1.1")),
        ("not UTF-8", bytes(&[b"GET /\xff\xfe HTTP/1.1\r\n", rest.as_bytes()])),
        ("another host's target", line("GET http://evil.example/public/a HTTP/1.1")),
        ("a target with a user", line(&format!("GET http://admin@{host}/orders HTTP/1.1"))),
        ("a target of another kind", line("GET file:///public/a HTTP/1.1")),
        ("a target without a host", line("GET http:///public/a HTTP/1.1")),
        ("no host", b"GET /public/a HTTP/1.1\r\nconnection: close\r\n\r\n".to_vec()),
        ("two hosts", format!("GET /public/a HTTP/1.1\r\nhost: {host}\r\n{rest}").into_bytes()),
        ("an empty host", b"GET /public/a HTTP/1.1\r\nhost:\r\nconnection: close\r\n\r\n".to_vec()),
        ("a host of bytes", b"GET /public/a HTTP/1.1\r\nhost: \xff\xfe\r\nconnection: close\r\n\r\n".to_vec()),
        ("CONNECT", line(&format!("CONNECT {host} HTTP/1.1"))),
        ("CONNECT with a session", format!("CONNECT {host} HTTP/1.1\r\n{ours}{rest}").into_bytes()),
        ("CONNECT elsewhere", format!("CONNECT evil.example:443 HTTP/1.1\r\n{ours}{rest}").into_bytes()),
        ("CONNECT to a public path", line("CONNECT /public/a HTTP/1.1")),
        ("a folded line", format!("GET /orders HTTP/1.1\r\nx: 1\r\n folded\r\n{rest}").into_bytes()),
        ("a blank before the colon", format!("GET /orders HTTP/1.1\r\nx : 1\r\n{rest}").into_bytes()),
        ("no colon", format!("GET /orders HTTP/1.1\r\nnothing\r\n{rest}").into_bytes()),
        ("no name", format!("GET /orders HTTP/1.1\r\n: 1\r\n{rest}").into_bytes()),
        ("a NUL in a value", format!("GET /orders HTTP/1.1\r\nx: a\u{0}b\r\n{rest}").into_bytes()),
        ("bare returns", format!("GET /orders HTTP/1.1\rx: 1\r{rest}").into_bytes()),
        (
            "two lengths",
            format!("POST /orders HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n{rest}a").into_bytes(),
        ),
        ("a negative length", format!("POST /orders HTTP/1.1\r\ncontent-length: -1\r\n{rest}").into_bytes()),
        (
            "an endless length",
            format!("POST /orders HTTP/1.1\r\ncontent-length: 99999999999999999999999\r\n{rest}").into_bytes(),
        ),
        ("another coding", format!("POST /orders HTTP/1.1\r\ntransfer-encoding: gzip\r\n{rest}").into_bytes()),
        ("a TLS greeting", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".repeat(4)),
        ("a PROXY line", format!("PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\nGET /orders HTTP/1.1\r\n{rest}").into_bytes()),
        ("an HTTP/2 greeting and junk", bytes(&[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &[0xff; 400]])),
        ("half an HTTP/2 greeting", b"PRI * HTTP/2.0\r\n\r\nSM\r\n".to_vec()),
        ("blank lines", b"\r\n".repeat(2_000)),
        ("zeroes", vec![0; 200_000]),
        ("a megabyte of letters", vec![b'a'; 1_000_000]),
    ];
    for (what, asked) in &cases {
        let statuses = provoke(target.check(), asked).await;
        assert_answers(what, &statuses, false);
        assert!(statuses.len() <= 1, "{what}: {statuses:?}");
    }
    // The same through Envoy, which rejects the requests itself. The application receives none of them.
    let before = target.stack.upstream.count();
    for (what, asked) in cases.iter().filter(|(what, _)| *what != "blank lines") {
        let statuses = provoke(target.stack.edge, asked).await;
        let fine = statuses.iter().all(|status| matches!(status, 400 | 401 | 403 | 404 | 408 | 426 | 431 | 501));
        assert!(fine, "{what}: {statuses:?}");
    }
    assert_eq!(target.stack.upstream.count(), before);
    target.assert_unharmed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_is_neither_waited_for_nor_taken_for_a_request() {
    let target = Target::start("").await;
    let host = target.host();
    let inner = format!("GET /public/a HTTP/1.1\r\nhost: {host}\r\n\r\n");
    let post =
        |lines: &str, body: &str| format!("POST /orders HTTP/1.1\r\nhost: {host}\r\n{lines}\r\n{body}").into_bytes();
    let length = inner.len();
    let cases = [
        ("a length and no body", post("content-length: 10\r\n", "")),
        ("a length and half a body", post("content-length: 10\r\n", "12345")),
        ("a length and its body", post("content-length: 10\r\n", "1234567890")),
        ("a request as a body", post(&format!("content-length: {length}\r\n"), &inner)),
        ("chunks", post("transfer-encoding: chunked\r\n", "5\r\n12345\r\n0\r\n\r\n")),
        ("a request in chunks", post("transfer-encoding: chunked\r\n", &format!("{length:x}\r\n{inner}\r\n0\r\n\r\n"))),
        ("half a chunk", post("transfer-encoding: chunked\r\n", "ff\r\n12")),
        ("chunks that are none", post("transfer-encoding: chunked\r\n", "zz\r\n\r\n")),
        ("an endless chunk", post("transfer-encoding: chunked\r\n", "ffffffffffffffffff\r\n")),
        ("expectations", post("content-length: 10\r\nexpect: 100-continue\r\n", "")),
        ("a megabyte", post("content-length: 1000000\r\n", &"a".repeat(1_000_000))),
    ];
    for (what, asked) in &cases {
        let begun = Instant::now();
        let mut stream = TcpStream::connect(target.check()).await.unwrap();
        let _ = stream.write_all(asked).await;
        let mut chunk = [0; 1024];
        let read = tokio::time::timeout(Duration::from_secs(5), stream.read(&mut chunk)).await;
        let count =
            read.unwrap_or_else(|_| panic!("{what}: the server must not wait for the body")).unwrap_or_default();
        assert!(count == 0 || chunk.starts_with(b"HTTP/1.1 401") || chunk.starts_with(b"HTTP/1.1 100"), "{what}");
        assert!(begun.elapsed() < Duration::from_secs(4), "{what}: {:?}", begun.elapsed());
        assert_answers(what, &provoke(target.check(), asked).await, false);
    }
    // Content-Length together with Transfer-Encoding: servers disagree about the end of such a body.
    for lines in [
        format!("content-length: {length}\r\ntransfer-encoding: chunked\r\n"),
        format!("transfer-encoding: chunked\r\ncontent-length: {length}\r\n"),
        "transfer-encoding: chunked, identity\r\n".into(),
        "transfer-encoding: identity, chunked\r\n".into(),
        "transfer-encoding: xchunked\r\n".into(),
        format!("content-length: {length}\r\ncontent-length: 0\r\n"),
        format!("content-length: {length}, 0\r\n"),
        format!("content-length: +{length}\r\n"),
    ] {
        let before = target.stack.upstream.count();
        let session = format!("cookie: {SESSION}={}\r\n", target.token);
        let asked = post(&format!("{session}{lines}"), &format!("0\r\n\r\n{inner}"));
        let statuses = provoke(target.stack.edge, &asked).await;
        assert_eq!(
            statuses.first(),
            Some(&if lines.contains("xchunked") || lines.contains("identity") { 501 } else { 400 }),
            "{lines}"
        );
        assert_eq!(target.stack.upstream.count(), before, "{lines}");
        assert!(provoke(target.check(), &asked).await.iter().all(|status| matches!(status, 200 | 400)), "{lines}");
    }
    target.assert_unharmed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_in_one_piece_are_decided_one_by_one() {
    let target = Target::start("").await;
    let host = target.host();
    let session = format!("cookie: {SESSION}={}\r\n", target.token);
    let one = |path: &str, lines: &str| format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n{lines}\r\n");
    let mixed = [
        one("/orders", &session),
        one("/orders", ""),
        one("/public/a", ""),
        one("/orders", &session),
        one("/orders", ""),
    ];
    let wanted = [200, 401, 200, 200, 401];
    for address in [target.check(), target.stack.edge] {
        let statuses = provoke(address, mixed.concat().as_bytes()).await;
        assert_eq!(statuses, wanted, "a session must apply to its own request only");
    }
    let many = provoke(target.check(), one("/orders", "").repeat(500).as_bytes()).await;
    assert_eq!(many, [401; 500]);
    // HTTP/1.0: the check answers and allows only requests with a configured host.
    for (what, asked, status) in [
        ("1.0", format!("GET /orders HTTP/1.0\r\nhost: {host}\r\n\r\n"), 401),
        ("1.0 with a session", format!("GET /orders HTTP/1.0\r\nhost: {host}\r\n{session}\r\n"), 200),
        ("1.0 without a host", format!("GET /orders HTTP/1.0\r\n{session}\r\n"), 403),
    ] {
        for address in [target.check(), target.stack.edge] {
            assert_eq!(provoke(address, asked.as_bytes()).await, [status], "{what} at {address}");
        }
    }
    target.assert_unharmed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn over_http_2_a_tunnel_is_refused_and_a_check_is_a_check() {
    let target = Target::start("").await;
    let stream = TcpStream::connect(target.check()).await.unwrap();
    let io = hyper_util::rt::TokioIo::new(stream);
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(hyper_util::rt::TokioExecutor::new(), io).await.unwrap();
    let connection = tokio::spawn(connection);
    let host = target.host();
    let session = format!("{SESSION}={}", target.token);
    let cookies: [&[&str]; 2] = [&[], &[&session]];
    for (method, uri, statuses) in [
        ("CONNECT", host.clone(), [403, 403]),
        ("CONNECT", "evil.example:443".into(), [403, 403]),
        ("GET", format!("http://{host}/orders"), [401, 200]),
        ("GET", format!("http://{host}/public/a"), [200, 200]),
        ("GET", format!("http://{host}/public/%2e%2e/orders"), [403, 403]),
        ("GET", "http://evil.example/public/a".into(), [403, 403]),
        ("OPTIONS", format!("http://{host}/orders"), [401, 200]),
    ] {
        for (lines, status) in cookies.iter().zip(statuses) {
            let mut request = http::Request::builder().method(method).uri(&uri);
            for line in *lines {
                // Browsers send each cookie in a header field of its own.
                request = request.header("cookie", "a=1").header("cookie", *line);
            }
            let answer = sender.send_request(request.body(Full::<Bytes>::default()).unwrap()).await.unwrap();
            assert_eq!(answer.status(), status, "{method} {uri} {}", lines.len());
        }
    }
    // A `Host` header that differs from the authority makes the request ambiguous.
    let liar = http::Request::builder().uri("http://evil.example/public/a").header("host", &host);
    let answer = sender.send_request(liar.body(Full::<Bytes>::default()).unwrap()).await.unwrap();
    assert_eq!(answer.status(), 400);
    connection.abort();
    target.assert_unharmed().await;
}

// ---- time

#[tokio::test(flavor = "multi_thread")]
async fn slow_senders_slow_nobody_else() {
    let target = Target::start("").await;
    let host = target.host();
    let mut slow = Vec::new();
    for index in 0..300 {
        let address = if index % 2 == 0 { target.check() } else { target.stack.edge };
        let text = match index % 3 {
            0 => format!("GET /orders HTTP/1.1\r\nhost: {host}\r\nx: {}", "a".repeat(400)),
            1 => format!("POST /orders HTTP/1.1\r\nhost: {host}\r\ncontent-length: 400\r\n\r\n{}", "a".repeat(300)),
            _ => String::new(),
        };
        slow.push(tokio::spawn(async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            for byte in text.bytes() {
                if stream.write_all(&[byte]).await.is_err() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(25)).await;
            }
            tokio::time::sleep(Duration::from_secs(60)).await;
            drop(stream);
        }));
    }
    // Waits until all connections reach the check, except those that Envoy holds back and those with an incomplete
    // body.
    let begun = Instant::now();
    while target.stack.metric("wechat_authz_connections{listener=\"check\"").await < 95.0 {
        assert!(begun.elapsed() < Duration::from_secs(8), "{}", target.stack.metrics().await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut slowest = Duration::ZERO;
    for _ in 0..200 {
        let begun = Instant::now();
        assert_eq!(target.browser.clone().fetch(&target.stack.url("/orders")).await.status, 200);
        slowest = slowest.max(begun.elapsed());
    }
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    slow.iter().for_each(tokio::task::JoinHandle::abort);
    target.assert_unharmed().await;
}

// ---- chance and mass

/// Parts of requests: valid, almost valid and invalid ones.
const PIECES: [&[&str]; 5] = [
    &["GET", "POST", "HEAD", "PUT", "OPTIONS", "CONNECT", "PURGE", "get", "QUERY", "A", "*", ""],
    &[
        "/",
        "/public",
        "/public/",
        "public",
        "orders",
        "/..",
        "/.",
        "..;",
        "%2e",
        "%2f",
        "%5c",
        "%00",
        "%25",
        "%",
        "\\",
        ";",
        ";a=b",
        "//",
        "?",
        "?next=/public/",
        "#",
        "_wechat",
        "/_wechat/callback",
        "中",
        "\u{1}",
        " ",
        "a",
        ":",
        "@",
        "http://",
        "~",
        "%e4%b8",
        "&",
    ],
    &[
        "cookie",
        "authorization",
        "accept",
        "content-type",
        "x-forwarded-uri",
        "x-original-url",
        "x-wechat-subject",
        "x-auth-client-ip",
        "sec-websocket-key",
        "origin",
        "access-control-request-method",
        "connection",
        "upgrade",
        "content-length",
        "transfer-encoding",
        "expect",
        "host",
        "x-envoy-internal",
        "x_wechat_openid",
        "te",
        "forwarded",
        "x-http-method-override",
    ],
    &[
        "__Host-wechat_session=",
        "__Host-wechat_session=a.b.c",
        "Bearer ",
        "Bearer a.b.c",
        "text/html",
        "application/grpc",
        "/public/a",
        "admin",
        "127.0.0.1",
        "close",
        "chunked",
        "0",
        "5",
        "100-continue",
        "websocket",
        "\u{ff}",
        ",",
        ";",
        "=",
        "\"",
        "eyJhbGciOiJub25lIn0.e30.",
    ],
    &["HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/2.0", "http/1.1", ""],
];

fn random_request(random: &mut fastrand::Rng, host: &str, half: &str) -> Vec<u8> {
    let mut pick = |kind: usize| PIECES[kind][random.usize(..PIECES[kind].len())];
    let method = pick(0);
    let mut text = format!("{method} ");
    let pieces = random.usize(0..6);
    if random.u8(..) > 20 {
        text.push('/');
    }
    for _ in 0..pieces {
        text.push_str(PIECES[1][random.usize(..PIECES[1].len())]);
    }
    text.push_str(&format!(" {}\r\n", PIECES[4][random.usize(..PIECES[4].len())]));
    if random.u8(..) > 10 {
        text.push_str(&format!("host: {host}\r\n"));
    }
    for _ in 0..random.usize(0..6) {
        let name = PIECES[2][random.usize(..PIECES[2].len())];
        text.push_str(&format!("{name}: "));
        for _ in 0..random.usize(0..4) {
            // Parts of a real token in wrong places. The host is omitted because it is not secret and Envoy logs it.
            match random.u8(..30) {
                _ if name == "host" => text.push_str("evil.example"),
                0 => text.push_str(half),
                1 => text.push_str(&half.chars().rev().collect::<String>()),
                _ => text.push_str(PIECES[3][random.usize(..PIECES[3].len())]),
            }
        }
        text.push_str("\r\n");
    }
    text.push_str("connection: close\r\n\r\n");
    let mut bytes = text.into_bytes();
    if random.u8(..) < 40 {
        let at = random.usize(..bytes.len());
        bytes[at] = random.u8(..);
    }
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn no_random_request_is_let_in() {
    const SEED: u64 = 20_261_123;
    let target = Target::planned(Plan::default()).await;
    let (check, edge, host) = (target.check(), target.stack.edge, target.host());
    let before = target.stack.upstream.count();
    let until = Instant::now() + Duration::from_secs(8);
    let half = target.token[..target.token.len() - 20].to_owned();
    let workers = (0..4_u64).map(|worker| {
        let (host, half) = (host.clone(), half.clone());
        tokio::spawn(async move {
            let mut random = fastrand::Rng::with_seed(SEED + worker);
            let mut answered = 0_u32;
            while Instant::now() < until {
                let request = random_request(&mut random, &host, &half);
                let address = if worker == 3 { edge } else { check };
                let mut stream = TcpStream::connect(address).await.unwrap();
                let _ = stream.write_all(&request).await;
                let mut head = [0; 12];
                // The server may wait for an announced body or for the end of a line.
                let read = tokio::time::timeout(Duration::from_millis(300), stream.read_exact(&mut head)).await;
                let Ok(Ok(_)) = read else { continue };
                let status = String::from_utf8_lossy(&head[9..]).parse::<u16>().unwrap();
                let what = String::from_utf8_lossy(&request).into_owned();
                if worker == 3 {
                    // Envoy answers some of the requests itself.
                    let fine = matches!(
                        status,
                        100 | 302 | 400 | 401 | 403 | 404 | 405 | 408 | 411 | 413 | 426 | 429 | 431 | 501
                    );
                    let pages = what.contains("_wechat") && matches!(status, 303 | 404 | 405);
                    let grpc = status == 200 && what.contains("application/grpc");
                    assert!(fine || pages || grpc, "seed {SEED}, Envoy: {status} for\n{what}");
                } else if status != 100 {
                    assert_answers(&format!("seed {SEED}\n{what}"), &[status], false);
                }
                answered += 1;
            }
            answered
        })
    });
    let mut answered = 0;
    for worker in workers.collect::<Vec<_>>() {
        answered += worker.await.unwrap();
    }
    assert!(answered > 500, "only {answered} requests got a response");
    assert_eq!(target.stack.upstream.count(), before, "a request reached the application");
    target.assert_unharmed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_forged_tokens_does_not_affect_sessions() {
    let target = Target::start("limits: { new_tokens_per_client: { per_minute: 60, burst: 100 } }\n").await;
    let [header, claims, _] = target.token.split('.').collect::<Vec<_>>()[..] else { panic!() };
    let (claims, header, host, edge) =
        (part(&format!("{header}.{claims}."), 1), header.to_owned(), target.host(), target.stack.edge);
    let until = Instant::now() + Duration::from_secs(3);
    let floods = (0..6_u64).map(|flood| {
        let (claims, header, host) = (claims.clone(), header.clone(), host.clone());
        tokio::spawn(async move {
            let mut random = fastrand::Rng::with_seed(flood);
            let (mut refused, mut limited) = (0_u32, 0_u32);
            while Instant::now() < until {
                // Valid except for the signature, so that each token could cost one verification.
                let claims =
                    encode(&with(&claims, "sid", json!(URL_SAFE_NO_PAD.encode(random.u128(..).to_be_bytes()))));
                let signature: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(64).collect();
                let token = format!("{header}.{claims}.{}", URL_SAFE_NO_PAD.encode(signature));
                let cookie = format!("{SESSION}={token}");
                let answer = raw(edge, &compose("GET", "/orders", &host, &[("cookie", &cookie)])).await.unwrap();
                match answer.status {
                    401 => refused += 1,
                    429 => {
                        limited += 1;
                        assert!(!answer.header("retry-after").is_empty());
                    }
                    other => panic!("status {other} for a forged token"),
                }
            }
            (refused, limited)
        })
    });
    let floods: Vec<_> = floods.collect();
    let mut slowest = Duration::ZERO;
    let mut asked = 0;
    while Instant::now() < until {
        let begun = Instant::now();
        let answer = target.browser.clone().fetch(&target.stack.url("/orders")).await;
        assert_eq!(answer.status, 200, "the same address, logged in: {answer:?}");
        slowest = slowest.max(begun.elapsed());
        asked += 1;
    }
    let mut sums = (0, 0);
    for flood in floods {
        let (refused, limited) = flood.await.unwrap();
        sums = (sums.0 + refused, sums.1 + limited);
    }
    assert!(sums.0 <= 110 && sums.1 > 100, "{sums:?}: the limit is 100 plus one per second");
    assert!(asked > 20 && slowest < Duration::from_secs(1), "{asked} checks, the slowest took {slowest:?}");
    // Only a few tokens reach the signature verification.
    let verified = target.stack.metric("wechat_authz_token_signature_verifications_total").await;
    assert!(verified <= 111.0, "{verified}");
    target.assert_unharmed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_logs_in_beside_a_flood_of_forged_tokens_comes_in() {
    let more = "limits: { new_tokens_per_client: { per_minute: 1, burst: 3 } }\n".to_owned();
    let target = Target::planned(Plan { more, clock: true, ..Plan::default() }).await;
    let stranger = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let [header, claims, _] = target.token.split('.').collect::<Vec<_>>()[..] else { panic!() };
    let mut limited = false;
    for _ in 0..5 {
        let bearer = format!("Bearer {}", sign(&stranger, header, claims));
        let asked = compose("GET", "/orders", &target.host(), &[("authorization", &bearer), ("accept", HTML)]);
        limited |= raw(target.stack.edge, &asked).await.unwrap().status == 429;
    }
    assert!(limited, "the limit must be used up");
    // Another phone at the same address: its token is new in the token cache because this instance has issued it.
    let mut neighbour = Browser::wechat();
    target.stack.log_in(&mut neighbour, "/orders").await;
    // The user who was logged in before receives the next token in time and can use it.
    target.stack.set_clock(11 * 60);
    let mut browser = target.browser.clone();
    assert_eq!(browser.fetch(&target.stack.url("/orders")).await.status, 200);
    target.stack.remember(&browser);
    assert_ne!(browser.cookie(SESSION).unwrap(), target.token);
    assert_eq!(browser.fetch(&target.stack.url("/orders")).await.status, 200, "the next token must be accepted");
    target.assert_unharmed().await;
}
