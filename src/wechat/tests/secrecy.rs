//! Errors and log lines of every level contain no secret that only WeChat and we know.

use super::stub::{status, with_head};
use super::*;
use crate::wechat::{Endpoint, UnionId, WechatError};
use std::error::Error as _;

const CANARIES: [&str; 8] =
    ["CanarySecret", "CanaryCode", "CanaryToken", "CanaryFresh", "CanaryOpenid", "CanaryUnionid", "://", "127.0.0.1"];

fn texts(error: &WechatError) -> String {
    let mut texts = format!("{error} {error:?} {}", error.label());
    let mut next = error.source();
    while let Some(cause) = next {
        texts.push_str(&format!("{cause} {cause:?}"));
        next = cause.source();
    }
    texts
}

/// Everything that this thread logs while the guard lives.
fn logged() -> (Arc<Mutex<Vec<u8>>>, tracing::subscriber::DefaultGuard) {
    #[derive(Clone)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);
    impl std::io::Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let lines = Arc::new(Mutex::new(Vec::new()));
    let buffer = Buffer(Arc::clone(&lines));
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_span_events(tracing_subscriber::fmt::format::FmtSpan::FULL)
        .with_ansi(false)
        .with_writer(move || buffer.clone());
    (lines, tracing::subscriber::set_default(subscriber.finish()))
}

#[tokio::test]
async fn neither_errors_nor_logs_contain_a_secret() {
    let (lines, _guard) = logged();
    tracing::trace!("logs are listened to");
    let app = Credentials {
        appid: AppId::parse("wx0123456789abcdef").unwrap(),
        secret: Secret::parse("CanarySecret0123456789", 16).unwrap(),
    };
    let code = Code::parse("CanaryCode").unwrap();
    let known = ExchangeResponse {
        openid: OpenId::parse("CanaryOpenid").unwrap(),
        unionid: Some(UnionId::parse("CanaryUnionid").unwrap()),
        access_token: Secret::parse("CanaryToken", 1).unwrap(),
        ..exchanged()
    };
    let fresh = Secret::parse("CanaryFresh", 1).unwrap();
    let echo = "CanarySecret0123456789 CanaryCode CanaryToken CanaryOpenid CanaryUnionid";
    let closed = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let nowhere = Url::parse(&format!("http://{}", closed.local_addr().unwrap())).unwrap();
    drop(closed);
    let mut errors = Vec::new();
    for act in [
        Act::Reset,
        Act::Slam,
        Act::Hang,
        status(500),
        with_head(&format!("HTTP/1.1 302 Found\r\nLocation: http://x.example/?secret={echo}\r\n"), echo),
        with_head(&format!("HTTP/1.1 200 {echo}\r\n{echo}\r\n"), echo),
        says(echo),
        says("x".repeat(1 << 20)),
        says(format!(r#"{{"errcode":40029,"errmsg":"{echo}, rid: {echo}"}}"#)),
        says(format!(r#"{{"errcode":"{echo}"}}"#)),
        says(format!(r#"{{"openid":"{echo}"}}"#)),
        says(r#"{"openid":"CanaryOpenid2","unionid":"CanaryUnionid","access_token":7}"#),
    ] {
        let stub = Stub::start([act]).await;
        let short = Duration::from_millis(300);
        let (client, _) = client(&Settings { exchange_timeout: short, userinfo_timeout: short, ..settings(&stub.url) });
        errors.push(client.exchange(&app, &code).await.unwrap_err());
        errors.push(client.userinfo(&app, &known).await.unwrap_err());
        errors.push(client.refresh(&app, &fresh).await.unwrap_err());
        errors.push(client.stable_token(&app, Endpoint::StableToken).await.unwrap_err());
        errors.push(client.jsapi_ticket(&app, &fresh).await.unwrap_err());
        errors.push(client.subscription(&app, &fresh, &known.openid).await.unwrap_err());
    }
    let (client, _) = client(&settings(&nowhere));
    errors.push(client.exchange(&app, &code).await.unwrap_err());
    for error in errors {
        let texts = texts(&error);
        for canary in CANARIES {
            assert!(!texts.to_lowercase().contains(&canary.to_lowercase()), "{canary} in {texts}");
        }
    }
    let lines = String::from_utf8(lines.lock().unwrap().clone()).unwrap();
    assert!(lines.contains("logs are listened to"), "{lines}");
    for canary in CANARIES.iter().filter(|canary| canary.starts_with("Canary")) {
        assert!(!lines.contains(canary), "{canary} in {lines}");
    }
    let printed = format!("{app:?} {code:?} {known:?}");
    assert!(!printed.contains("Canary"), "{printed}");
}
