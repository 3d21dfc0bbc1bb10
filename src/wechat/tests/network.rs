//! A network that refuses, resets, hangs, is slow, or sends wrong data (docs/en/wechat.md, Retries).

use super::stub::{status, with_head};
use super::*;
use crate::wechat::{Class, Endpoint, WechatError};
use std::time::Instant;

const EXCHANGE: Endpoint = Endpoint::AccessToken;

/// The results of an exchange and a profile call against the same stub, and the number of requests of each.
async fn both(acts: &[Act]) -> [(&'static str, Class, usize); 2] {
    let (stub, client, _) = stage(acts.to_vec()).await;
    let exchange = client.exchange(&app(), &code()).await.unwrap_err();
    let asked = stub.calls();
    let (stub, client, _) = stage(acts.to_vec()).await;
    let userinfo = client.userinfo(&app(), &exchanged()).await.unwrap_err();
    [(exchange.label(), exchange.class(), asked), (userinfo.label(), userinfo.class(), stub.calls())]
}

#[tokio::test]
async fn a_refused_connection_sends_nothing() {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let api = Url::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    drop(listener);
    let (client, heard) = client(&settings(&api));
    let error = client.exchange(&app(), &code()).await.unwrap_err();
    assert_eq!(error, WechatError::Unsent { endpoint: EXCHANGE, why: "refused" });
    assert_eq!(error.class(), Class::RetryNow);
    assert_eq!(*heard.lock().unwrap(), [("access_token", "unsent"); 2], "one immediate retry");
    client.userinfo(&app(), &exchanged()).await.unwrap_err();
    assert_eq!(heard.lock().unwrap().len(), 2 + 3);
}

#[tokio::test]
async fn a_name_that_does_not_resolve_sends_nothing() {
    // `.invalid` never resolves (RFC 6761).
    let (client, heard) = client(&settings(&Url::parse("https://wechat.invalid").unwrap()));
    let error = client.exchange(&app(), &code()).await.unwrap_err();
    assert_eq!(error, WechatError::Unsent { endpoint: EXCHANGE, why: "name not resolved" });
    assert_eq!(heard.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn a_failed_tls_handshake_sends_nothing_and_is_retried() {
    let stub = Stub::start([Act::Slam]).await;
    let mut api = stub.url.clone();
    api.set_scheme("https").unwrap();
    let (client, _) = client(&settings(&api));
    let error = client.exchange(&app(), &code()).await.unwrap_err();
    assert_eq!((error, stub.calls()), (WechatError::Unsent { endpoint: EXCHANGE, why: "cut off" }, 2));
}

#[tokio::test]
async fn a_closed_idle_connection_is_replaced() {
    let kept = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{TOKEN}", TOKEN.len());
    let (stub, client, heard) = stage([Act::Say(kept.into_bytes())]).await;
    for _ in 0..3 {
        client.exchange(&app(), &code()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!((stub.calls(), heard.lock().unwrap().len()), (3, 3));
}

#[tokio::test]
async fn an_exchange_is_not_retried_after_it_was_sent() {
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 300\r\n\r\n";
    let half = format!("{head}{}", &TOKEN[..50]).into_bytes();
    let repeated = [("broken", Class::RestartLogin, 1), ("broken", Class::BackOff, 3)];
    for act in [
        Act::Reset,
        Act::Say(Vec::new()),
        Act::Say(b"HTTP/1.1 200".to_vec()),
        Act::Say(half.clone()),
        Act::SayAndReset(half),
        Act::Say(b"220 smtp.example.com ESMTP\r\n".to_vec()),
        Act::Say(format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffff\r\n{TOKEN}").into_bytes()),
    ] {
        assert_eq!(both(std::slice::from_ref(&act)).await, repeated, "{act:?}");
    }
}

#[tokio::test]
async fn an_exchange_is_not_retried_after_an_unusable_body() {
    let unusable = [("unusable", Class::RestartLogin, 1), ("unusable", Class::BackOff, 3)];
    let cut = &TOKEN[..50];
    for act in [
        says(""),
        says(cut),
        says("<html>login to the hotel's network</html>"),
        says("[]"),
        says("{}"),
        says(r#"{"errcode":"busy"}"#),
        says(format!("{TOKEN}{TOKEN}")),
        // Shorter than the body.
        Act::Say(format!("HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{TOKEN}").into_bytes()),
        // Compressed, although the client did not request it.
        with_head("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n", b"\x1f\x8b\x08\x00\x00\x00\x00\x00"),
        with_head("HTTP/1.1 204 No Content\r\n", ""),
    ] {
        assert_eq!(both(std::slice::from_ref(&act)).await, unusable, "{act:?}");
    }
}

#[tokio::test]
async fn an_exchange_is_retried_once_after_a_server_error() {
    for code in [500, 502, 503, 504] {
        let expected = [("status_5xx", Class::BackOff, 2), ("status_5xx", Class::BackOff, 3)];
        assert_eq!(both(&[status(code)]).await, expected, "{code}");
    }
    let expected = [("status_429", Class::BackOff, 2), ("status_429", Class::BackOff, 3)];
    assert_eq!(both(&[status(429)]).await, expected);
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = Stub::start([says(TOKEN)]).await;
    for code in [301, 302, 303, 307, 308] {
        let act = with_head(&format!("HTTP/1.1 {code} Moved\r\nLocation: {}\r\n", elsewhere.url), "");
        let expected = [("status_other", Class::Configuration, 1), ("status_other", Class::Configuration, 1)];
        assert_eq!(both(&[act]).await, expected, "{code}");
    }
    assert_eq!(elsewhere.calls(), 0);
}

#[tokio::test]
async fn a_body_of_ten_megabytes_is_not_read() {
    let huge = format!("{{\"x\":\"{}\"}}", "x".repeat(10 << 20));
    let too_large = [("too_large", Class::RestartLogin, 1), ("too_large", Class::BackOff, 1)];
    assert_eq!(both(&[says(&huge)]).await, too_large);
    let unannounced = format!("HTTP/1.1 200 OK\r\n\r\n{huge}").into_bytes();
    assert_eq!(both(&[Act::Say(unannounced)]).await, too_large);
}

#[tokio::test]
async fn a_body_at_the_limit_is_read() {
    let padded = |length: usize| format!("{TOKEN}{}", " ".repeat(length - TOKEN.len()));
    let (_stub, client, _) = stage([says(padded(64 * 1024))]).await;
    client.exchange(&app(), &code()).await.unwrap();
    let (_stub, client, _) = stage([says(padded(64 * 1024 + 1))]).await;
    assert_eq!(client.exchange(&app(), &code()).await.unwrap_err(), WechatError::TooLarge { endpoint: EXCHANGE });
}

#[tokio::test]
async fn a_call_ends_in_time_if_wechat_hangs_or_drips() {
    for act in [
        Act::Hang,
        Act::Drip(b"HTTP/1.1 200 OK\r\nX-Slow:".to_vec()),
        Act::Drip(b"HTTP/1.1 200 OK\r\nContent-Length: 300\r\n\r\n{".to_vec()),
    ] {
        let stub = Stub::start([act.clone()]).await;
        let short = Duration::from_millis(300);
        let (client, _) = client(&Settings { exchange_timeout: short, userinfo_timeout: short, ..settings(&stub.url) });
        for endpoint in [EXCHANGE, Endpoint::Userinfo] {
            let before = Instant::now();
            let error = match endpoint {
                Endpoint::AccessToken => client.exchange(&app(), &code()).await.unwrap_err(),
                _ => client.userinfo(&app(), &exchanged()).await.unwrap_err(),
            };
            assert_eq!(error, WechatError::TimedOut { endpoint }, "{act:?}");
            assert!(before.elapsed() < Duration::from_secs(2), "{act:?}");
        }
        assert_eq!(stub.calls(), 2, "{act:?}");
    }
}

#[tokio::test]
async fn retries_share_the_timeout_of_the_call() {
    let stub = Stub::start([status(503), Act::Hang]).await;
    let (client, _) = client(&Settings { exchange_timeout: Duration::from_millis(300), ..settings(&stub.url) });
    let before = Instant::now();
    assert_eq!(client.exchange(&app(), &code()).await.unwrap_err(), WechatError::TimedOut { endpoint: EXCHANGE });
    assert!(before.elapsed() < Duration::from_secs(2));
    assert_eq!(stub.calls(), 2);
}
