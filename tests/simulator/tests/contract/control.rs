//! `/_sim/*` and the console: the handle's powers over HTTP, for this machine only.

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use wechat_simulator::{App, Options, Simulator};

use super::support::*;

#[tokio::test]
async fn everything_the_handle_does_is_done_over_http() {
    let simulator = simulator().await;
    assert_eq!(post(&simulator, "/_sim/users/use", r#"{"name":"小红"}"#).await.status, 200);
    assert_eq!(post(&simulator, "/_sim/users", r#"{"name":"小红","nickname":"红"}"#).await.status, 200);
    let users = get(&simulator, "/_sim/users").await.json();
    assert_eq!(users["on_the_phone"], "小红");
    let red = users["users"].as_array().unwrap().iter().find(|user| user["name"] == "小红").unwrap().clone();
    assert_eq!((&red["nickname"], &red["has_unionid"]), (&"红".into(), &true.into()));
    assert_eq!(
        post(&simulator, "/_sim/apps", &json!({"appid": OA, "denial": "state_only"}).to_string()).await.status,
        200
    );
    let apps = get(&simulator, "/_sim/apps").await;
    assert!(apps.text().contains("state_only") && !apps.text().contains(OA_SECRET));
    assert_eq!(
        post(&simulator, "/_sim/faults", r#"{"endpoint":"access_token","effect":{"errcode":-1}}"#).await.status,
        200
    );
    assert_eq!(simulator.waiting_faults().len(), 1);
    send(&simulator, "DELETE", "/_sim/faults", PHONE, "").await.unwrap();
    assert!(simulator.waiting_faults().is_empty());
    let clock = post(&simulator, "/_sim/clock", r#"{"advance_s":300}"#).await.json();
    assert_eq!(clock["ahead_s"], 300.0);
    let code = code(&simulator).await;
    assert!(get(&simulator, "/_sim/issued-secrets").await.text().contains(&code));
    let journal = get(&simulator, "/_sim/journal").await.json();
    assert_eq!(journal["entries"].as_array().unwrap().len(), 1);
    let ids = get(&simulator, &format!("/_sim/ids?appid={OA}&user=emoji")).await.json();
    assert_eq!(ids["openid"], simulator.openid(OA, "emoji"));
    post(&simulator, "/_sim/reset", "").await;
    assert!(simulator.journal().is_empty() && simulator.issued_secrets().is_empty());
    assert_eq!(get(&simulator, "/_sim/users").await.json()["on_the_phone"], "小明");
}

#[tokio::test]
async fn nonsense_is_refused_with_a_reason() {
    let simulator = simulator().await;
    for (target, body, status) in [
        ("/_sim/faults", "{", 400),
        ("/_sim/faults", r#"{"endpoint":"access_token","effect":"unheard_of"}"#, 400),
        ("/_sim/users", r#"{"name":"小红","nicknme":"x"}"#, 400),
        ("/_sim/users/use", r#"{"name":"nobody"}"#, 404),
        ("/_sim/clock", r#"{"advance_s":-1}"#, 400),
        ("/_sim/nothing", "", 404),
        ("/_sim/qr/unknown/confirm", "", 409),
    ] {
        let reply = post(&simulator, target, body).await;
        assert_eq!(reply.status, status, "{target} {body}");
        assert!(reply.json()["error"].is_string());
    }
}

#[tokio::test]
async fn pages_of_other_origins_and_other_hosts_steer_nothing() {
    let simulator = simulator().await;
    let foreign = format!("{PHONE}\r\nOrigin: https://evil.example.com\r\nSec-Fetch-Site: cross-site");
    assert_eq!(send(&simulator, "POST", "/_sim/reset", &foreign, "").await.unwrap().status, 403);
    let mut stream = tokio::net::TcpStream::connect(simulator.address()).await.unwrap();
    stream
        .write_all(b"GET /_sim/journal HTTP/1.1\r\nHost: rebound.example.com\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 403"));
}

#[tokio::test]
async fn the_console_shows_decisions_and_no_secrets() {
    let simulator = simulator().await;
    let tokens = tokens(&simulator).await;
    get(&simulator, &qrconnect()).await;
    let page = get(&simulator, "/").await.text();
    assert!(page.contains("exchanged: 小明 (snsapi_userinfo)") && page.contains("模拟器"));
    assert!(simulator.issued_secrets().iter().all(|secret| !page.contains(secret)));
    assert!(!page.contains(OA_SECRET) && !page.contains(tokens["openid"].as_str().unwrap()));
    let press = post(&simulator, "/_sim/console", "user=emoji&mood=busy").await;
    assert_eq!((press.status, press.header("location")), (303, Some("/")));
    assert_eq!(simulator.waiting_faults().len(), 1);
}

#[tokio::test]
async fn another_user_is_chosen_by_cookie_in_this_browser() {
    let simulator = simulator().await;
    let chosen =
        post(&simulator, "/_sim/browser?back=%2Fconnect%2Fconfirm%3Fuuid%3Dx", "user=%E5%B0%8F%E7%BA%A2").await;
    assert_eq!(chosen.header("location"), Some("/connect/confirm?uuid=x"));
    assert!(chosen.header("set-cookie").unwrap().starts_with("sim_user=%E5%B0%8F%E7%BA%A2;"));
    for back in ["https%3A%2F%2Fevil.example.com", "%2F%2Fevil.example.com", "%2F%5Cevil.example.com"] {
        let chosen = post(&simulator, &format!("/_sim/browser?back={back}"), "user=emoji").await;
        assert_eq!(chosen.header("location"), Some("/"));
    }
}

#[tokio::test]
async fn a_domain_is_verified_by_its_file() {
    let simulator = simulator().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let connect = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let length = stream.read(&mut request).await.unwrap();
            let asked = String::from_utf8_lossy(&request[..length]).into_owned();
            let answer =
                if asked.starts_with("GET /MP_verify_abcDEF0123456789.txt HTTP/1.1\r\nHost: app.example.com\r\n") {
                    "HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\nabcDEF0123456789"
                } else {
                    "HTTP/1.1 302 Found\r\nLocation: /login\r\n\r\n"
                };
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    let check = async |file: &str, content: &str| {
        let body =
            json!({"domain": "app.example.com", "file": file, "content": content, "connect": connect.to_string()});
        post(&simulator, "/_sim/domain-check", &body.to_string()).await.json()
    };
    assert_eq!(check("MP_verify_abcDEF0123456789.txt", "abcDEF0123456789").await, json!({"passed": true}));
    assert_eq!(check("MP_verify_abcDEF0123456789.txt", "another").await["passed"], false);
    let behind_login = check("MP_verify_0000000000000000.txt", "0000000000000000").await;
    assert!(behind_login["why"].as_str().unwrap().contains("302"));
}

#[tokio::test]
async fn it_listens_on_loopback_unless_told_otherwise() {
    let everywhere = Options { listen: "0.0.0.0:0".parse().unwrap(), ..Options::default() };
    assert_eq!(Simulator::start(everywhere).await.unwrap_err().kind(), std::io::ErrorKind::InvalidInput);
    let twice = vec![App::website("wxa", "s", "a"), App::website("wxa", "s", "b")];
    assert!(Simulator::start(Options { apps: twice, ..Options::default() }).await.is_err());
}

#[tokio::test]
async fn dropping_the_handle_closes_the_port() {
    let simulator = simulator().await;
    let address = simulator.address();
    drop(simulator);
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}
