//! `/_wechat/jssdk`: signed JS-SDK configurations, through Envoy, only for pages of our applications.

use harness::client::{self, Answer, Browser};
use harness::instance::Instance;
use harness::redis::Redis;
use harness::stack::{PATIENT, Plan, Stack, UNLIMITED};
use harness::{OA, OA_SECRET};
use std::io::Write as _;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use wechat_simulator::{App, Effect, Endpoint, Fault, Times};

const TOKEN: &str = "/cgi-bin/stable_token";
const TICKET: &str = "/cgi-bin/ticket/getticket";
const ON: &str = "snsapi_base, jssdk: true";

async fn on() -> Stack {
    Stack::planned(Plan { scope: ON, more: UNLIMITED.into(), ..Plan::default() }).await
}

fn asking(origin: &str, page: &str) -> String {
    let query: String = url::form_urlencoded::Serializer::new(String::new()).append_pair("url", page).finish();
    format!("{origin}/_wechat/jssdk?{query}")
}

async fn ask(stack: &Stack, page: &str) -> Answer {
    Browser::wechat().fetch(&asking(&stack.origin, page)).await
}

fn calls(stack: &Stack, path: &str) -> usize {
    stack.simulator.journal().iter().filter(|entry| entry.path == path).count()
}

/// SHA-1 by a program other than the one under test.
fn sha1(text: &str) -> String {
    let mut child = Command::new("sha1sum").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let said = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
    said.split(' ').next().unwrap().to_owned()
}

/// The data in the JSON envelope of a response.
fn data(answer: &Answer) -> serde_json::Value {
    let body = answer.json();
    let members: Vec<&String> = body.as_object().unwrap().keys().collect();
    assert_eq!(members, ["code", "data", "message"], "{answer:?}");
    assert_eq!(body["code"], answer.status, "{answer:?}");
    body["data"].clone()
}

/// The ticket with which this configuration for `page` was signed; WeChat performs the same verification on the phone.
fn verified(stack: &Stack, answer: &Answer, page: &str) -> String {
    assert_eq!(answer.status, 200, "{answer:?}");
    let told = data(answer);
    let (nonce, timestamp) = (told["nonceStr"].as_str().unwrap(), told["timestamp"].as_u64().unwrap());
    let signed = |ticket: &String| {
        let text = format!("jsapi_ticket={ticket}&noncestr={nonce}&timestamp={timestamp}&url={page}");
        told["signature"] == sha1(&text)
    };
    let mut tickets: Vec<String> = stack.simulator.issued_secrets().into_iter().filter(signed).collect();
    assert_eq!(tickets.len(), 1, "no ticket of WeChat's signs {page}: {answer:?}");
    tickets.remove(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_ours_gets_a_configuration_that_wechat_accepts() {
    let stack = on().await;
    let page = format!("{}/a/b?x=1&y=%E5%B0%8F%2F&z=a+b", stack.origin);
    let answer = ask(&stack, &format!("{page}#part")).await;
    let ticket = verified(&stack, &answer, &page);
    let told = data(&answer);
    let fields: Vec<&String> = told.as_object().unwrap().keys().collect();
    assert_eq!(fields, ["appId", "nonceStr", "signature", "timestamp", "url"]);
    assert_eq!((&told["appId"], &told["url"]), (&OA.into(), &page.as_str().into()));
    assert_eq!(answer.header("content-type"), "application/json");
    assert!(answer.header("cache-control").contains("no-store"), "{answer:?}");
    assert_eq!(answer.header("access-control-allow-origin"), "");

    // Any number of requests causes one call to WeChat; each configuration is different.
    for nth in 0..30 {
        let page = format!("{}/{nth}", stack.origin);
        let next = ask(&stack, &page).await;
        assert_eq!(verified(&stack, &next, &page), ticket);
        assert_ne!(data(&next)["nonceStr"], told["nonceStr"]);
    }
    let head = Browser::wechat().ask("HEAD", &asking(&stack.origin, &page), &[], "").await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    assert_eq!((calls(&stack, TOKEN), calls(&stack, TICKET)), (1, 1));
    assert_eq!(stack.upstream.count(), 0);
    let today =
        format!("wechat_authz_access_token_calls_today{{appid=\"{OA}\",token=\"jsapi_ticket\",mode=\"usual\"}}");
    assert_eq!(stack.metric(&today).await, 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_other_address_is_signed_however_it_is_spelt() {
    let stack = on().await;
    let (host, port) = ("127.0.0.1", stack.edge.port());
    let own = &stack.origin;
    let long = format!("{own}/{}", "a".repeat(8_192));
    let series = "wechat_authz_page_requests_rejected_total{app=\"shop\",reason=\"url_foreign\"}";
    let mut foreign = 0.0;
    for page in [
        "",
        "/",
        "/a",
        &format!("//{host}:{port}/"),
        &format!("https://{host}:{port}/"),
        &format!("http://{host}/"),
        &format!("http://{host}:{}/", port - 1),
        &format!("http://localhost:{port}/"),
        &format!("http://{host}:{port}0/"),
        &format!("http://{host}.:{port}/"),
        &format!("http://2130706433:{port}/"),
        &format!("http://0x7f.1:{port}/"),
        &format!("http://[::ffff:{host}]:{port}/"),
        &format!("http://{host}:{port}.evil.example/"),
        &format!("http://{host}:{port}@evil.example/"),
        &format!("http://me@{host}:{port}/"),
        &format!("http://evil.example/{own}/"),
        &format!("http://evil.example#{own}/"),
        &format!("http://evil.example\\@{host}:{port}/"),
        &format!("http:{host}:{port}/"),
        &format!("http:///{host}:{port}/"),
        &format!("HTTP://{host}:{port}/"),
        &format!("{own}\\@evil.example/"),
        &format!("{own}/\\evil.example"),
        &format!("{own}/a\tb"),
        &format!("{own}/\r\nset-cookie: a=b"),
        &format!("{own}/小"),
        &format!(" {own}/"),
        &format!("\u{feff}{own}/"),
        "http://１２７.0.0.1/",
        "javascript:alert(1)",
        "data:text/html,<script>",
        &format!("blob:{own}/"),
        &long,
    ] {
        let answer = ask(&stack, page).await;
        assert_eq!((answer.status, data(&answer)), (400, serde_json::Value::Null), "{page:?}: {answer:?}");
        foreign += 1.0;
        assert_eq!(stack.metric(series).await, foreign, "{page:?}");
    }
    let twice = asking(own, &format!("{own}/")) + "&url=http://evil.example/";
    for url in [format!("{own}/_wechat/jssdk"), format!("{own}/_wechat/jssdk?url"), twice] {
        assert_eq!(Browser::wechat().fetch(&url).await.status, 400, "{url}");
    }

    // Requests from another site's page are rejected for every URL.
    let good = asking(own, &format!("{own}/"));
    for line in [("sec-fetch-site", "cross-site"), ("sec-fetch-site", "same-site"), ("origin", "https://evil.example")]
    {
        let answer = Browser::wechat().ask("GET", &good, &[line], "").await;
        assert_eq!(answer.status, 403, "{line:?}: {answer:?}");
    }
    assert_eq!(
        stack.metric("wechat_authz_page_requests_rejected_total{app=\"shop\",reason=\"cross_site\"}").await,
        3.0
    );
    assert_eq!(Browser::wechat().ask("POST", &good, &[], "").await.status, 405);
    assert_eq!(calls(&stack, TOKEN), 0, "WeChat must receive no request");
}

#[tokio::test(flavor = "multi_thread")]
async fn jssdk_is_off_by_default_and_each_host_signs_for_itself() {
    const BLOG: &str = "wx00000000000000c3";
    let app = format!(
        "- name: blog\n  origin: http://blog.localhost:EDGE_PORT\n  official_account: {{ appid: {BLOG}, secret_file: \
         ./oa.secret, jssdk: true }}\n"
    );
    let simulator = |options: &mut wechat_simulator::Options| {
        options.apps.push(App::official_account(BLOG, OA_SECRET, "blog.localhost").with_any_port());
    };
    let stack = Stack::planned(Plan { app, simulator, ..Plan::default() }).await;
    let blog = format!("http://blog.localhost:{}", stack.edge.port());
    let off = ask(&stack, &stack.url("/")).await;
    assert_eq!((off.status, data(&off)), (404, serde_json::Value::Null), "{off:?}");
    assert_eq!(calls(&stack, TOKEN), 0);
    let own = Browser::wechat().fetch(&asking(&blog, &format!("{blog}/"))).await;
    verified(&stack, &own, &format!("{blog}/"));
    assert_eq!(data(&own)["appId"], BLOG);
    // Another application has another host.
    for (at, page) in [(&blog, &stack.origin), (&stack.origin, &blog)] {
        let crossed = Browser::wechat().fetch(&asking(at, &format!("{page}/"))).await;
        assert!(matches!(crossed.status, 400 | 404), "{crossed:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_absent_wechat_leaves_the_cached_ticket_or_a_retry_after() {
    let mut stack =
        Stack::planned(Plan { scope: ON, more: UNLIMITED.into(), wechat: PATIENT.into(), ..Plan::default() }).await;
    stack.simulator.inject(Fault::at(Endpoint::StableToken, Effect::Status(502)).times(Times::FOREVER));
    let page = stack.url("/");
    for _ in 0..20 {
        let answer = ask(&stack, &page).await;
        assert_eq!((answer.status, data(&answer)), (503, serde_json::Value::Null), "{answer:?}");
        assert!((1..=20).contains(&answer.header("retry-after").parse::<u64>().unwrap()), "{answer:?}");
    }
    assert!(calls(&stack, TOKEN) <= 6, "{} calls for twenty pages", calls(&stack, TOKEN));
    stack.simulator.clear_faults();
    let began = Instant::now();
    while ask(&stack, &page).await.status != 200 {
        assert!(began.elapsed() < Duration::from_secs(15), "a request must succeed after WeChat recovers");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    // With a cached ticket, requests still succeed.
    stack.simulator.inject(Fault::at(Endpoint::Any, Effect::Close).times(Times::FOREVER));
    for _ in 0..20 {
        verified(&stack, &ask(&stack, &page).await, &page);
    }
    stack.simulator.clear_faults();

    // The log contains the operator's error once, and the response does not reveal it to the browser.
    stack.kill_authz();
    stack.simulator.change_app(OA, |app| app.caller_allowed = false);
    let offset = stack.logged().len();
    stack.restart_authz().await;
    for _ in 0..5 {
        let answer = ask(&stack, &page).await;
        assert_eq!(answer.status, 503);
        assert!(!answer.body.contains("40164"), "{answer:?}");
    }
    assert_eq!(
        stack
            .metric(
                "wechat_authz_access_tokens_failed_total{token=\"access_token\",class=\"configuration\",errcode=\"40164\"}"
            )
            .await,
        1.0
    );
    let line = stack.until_logged("cannot refresh the token: the operator must act", offset).await;
    assert!(line["error"].as_str().unwrap().contains("40164"), "{line}");
    assert_eq!(stack.logged()[offset..].matches("cannot refresh the token").count(), 1, "must be logged once");
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_that_ask_often_take_nobodys_login_away() {
    // Three logins at once from one address, and then one per minute.
    let more = "limits: { logins_per_client: { per_minute: 1, burst: 3 } }\n";
    let stack = Stack::planned(Plan { scope: ON, more: more.into(), ..Plan::default() }).await;
    let page = stack.url("/");
    stack.simulator.change_app(OA, |app| app.caller_allowed = false);
    // One of them pays for the call to WeChat; the other responses come from the cache, with or without a ticket.
    for _ in 0..50 {
        assert_eq!(ask(&stack, &page).await.status, 503);
    }
    stack.log_in(&mut Browser::wechat(), "/").await;
    assert_eq!(calls(&stack, TOKEN), 1);
}

/// Starts another instance of the same deployment; returns it and the address of its pages.
async fn another(stack: &Stack, number: usize) -> (Instance, SocketAddr) {
    let mut another = Instance::new(stack.directory.path(), &format!("-{number}"));
    std::fs::write(&another.config, stack.configuration(&["127.0.0.1:0"; 4])).unwrap();
    another.start();
    let serving = another.until_logged("serving", 0).await;
    (another, serving["pages"].as_str().unwrap().parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_that_share_a_redis_share_one_ticket() {
    let redis = Redis::start().await;
    let more = format!("{UNLIMITED}{}", redis.configuration());
    let mut stack = Stack::planned(Plan { scope: ON, more, ..Plan::default() }).await;
    let mut others = Vec::new();
    for number in 1..=5 {
        others.push(another(&stack, number).await);
    }
    stack.until_log_holds("connected to redis").await;
    stack
        .simulator
        .inject(Fault::at(Endpoint::Any, Effect::DelayAfter(Duration::from_millis(400))).times(Times::FOREVER));
    let page = stack.url("/");
    let line = asking("", &page);
    let host = stack.origin.trim_start_matches("http://").to_owned();
    let request = format!("GET {line} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    let doors = std::iter::once(stack.pages).chain(others.iter().map(|(_, pages)| *pages));
    let asked: Vec<_> = doors
        .map(|door| {
            let request = request.clone();
            tokio::spawn(async move { client::raw(door, request.as_bytes()).await.unwrap() })
        })
        .collect();
    let mut tickets = Vec::new();
    for asked in asked {
        tickets.push(verified(&stack, &asked.await.unwrap(), &page));
    }
    assert!(tickets.iter().all(|ticket| *ticket == tickets[0]));
    assert_eq!(
        (calls(&stack, TOKEN), calls(&stack, TICKET)),
        (1, 1),
        "six processes, one call each for token and ticket"
    );

    // A restarted instance makes no call to WeChat; without Redis the instances continue.
    stack.kill_authz();
    stack.restart_authz().await;
    assert_eq!(verified(&stack, &ask(&stack, &page).await, &page), tickets[0]);
    assert_eq!(calls(&stack, TOKEN), 1);
    drop(redis);
    verified(&stack, &ask(&stack, &page).await, &page);
}
