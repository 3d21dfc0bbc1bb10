//! Each fault once, as it looks from a socket.

use std::io;
use std::time::{Duration, Instant};

use serde_json::json;
use wechat_simulator::{Effect, Endpoint, Fault, Simulator, Times};

use super::support::*;

/// The exchange of a fresh code while `effect` happens, and that code.
async fn exchanged(simulator: &Simulator, effect: Effect) -> (io::Result<Reply>, String) {
    let code = code(simulator).await;
    simulator.inject(Fault::at(Endpoint::AccessToken, effect));
    (send(simulator, "GET", &exchange(&code), PHONE, "").await, code)
}

async fn is_spent(simulator: &Simulator, code: &str) -> bool {
    get(simulator, &exchange(code)).await.errcode() == 40163
}

/// A profile while `effect` happens.
async fn profile(simulator: &Simulator, effect: Effect) -> Reply {
    let tokens = tokens(simulator).await;
    simulator.inject(Fault::at(Endpoint::UserInfo, effect));
    let (token, openid) = (tokens["access_token"].as_str().unwrap(), tokens["openid"].as_str().unwrap());
    get(simulator, &format!("/sns/userinfo?access_token={token}&openid={openid}")).await
}

#[tokio::test]
async fn an_errcode_twice_then_fine() {
    let simulator = simulator().await;
    let code = code(&simulator).await;
    simulator.inject(Fault::at(Endpoint::AccessToken, Effect::Errcode(-1)).times(2));
    let mut errcodes = Vec::new();
    for _ in 0..3 {
        errcodes.push(get(&simulator, &exchange(&code)).await.errcode());
    }
    assert_eq!(errcodes, [-1, -1, 0]);
}

#[tokio::test]
async fn a_quota_lasts_until_the_next_minute() {
    let simulator = simulator().await;
    let code = code(&simulator).await;
    simulator.inject(Fault::at(Endpoint::AccessToken, Effect::Errcode(45011)).times(Times::UNTIL_NEXT_MINUTE));
    assert_eq!(get(&simulator, &exchange(&code)).await.errcode(), 45011);
    simulator.advance(Duration::from_secs(60));
    assert_eq!(get(&simulator, &exchange(&code)).await.errcode(), 0);
}

#[tokio::test]
async fn connections_end_before_or_after_the_code_is_spent() {
    let simulator = simulator().await;
    let reset = io::ErrorKind::ConnectionReset;
    let eof = io::ErrorKind::UnexpectedEof;
    for (effect, kind, spent) in
        [(Effect::Close, eof, false), (Effect::ResetBefore, reset, false), (Effect::ResetAfter, reset, true)]
    {
        let (reply, code) = exchanged(&simulator, effect.clone()).await;
        assert_eq!(reply.unwrap_err().kind(), kind, "{effect:?}");
        assert_eq!(is_spent(&simulator, &code).await, spent, "{effect:?}");
    }
}

#[tokio::test]
async fn a_body_may_be_shorter_or_longer_than_promised() {
    let simulator = simulator().await;
    for effect in [Effect::CloseMidBody, Effect::LengthTooLong] {
        let (reply, code) = exchanged(&simulator, effect.clone()).await;
        let reply = reply.unwrap();
        let promised: usize = reply.header("content-length").unwrap().parse().unwrap();
        assert!(reply.body.len() < promised && !reply.body.is_empty(), "{effect:?}");
        assert!(is_spent(&simulator, &code).await);
    }
    let (reply, _) = exchanged(&simulator, Effect::LengthTooShort).await;
    assert!(!reply.unwrap().text().ends_with('}'));
}

#[tokio::test]
async fn gateways_fail_without_spending_the_code() {
    let simulator = simulator().await;
    for status in [500, 502, 503, 429] {
        let (reply, code) = exchanged(&simulator, Effect::Status(status)).await;
        let reply = reply.unwrap();
        assert_eq!((reply.status, reply.header("content-type")), (status, Some("text/html")));
        assert!(!is_spent(&simulator, &code).await);
    }
}

#[tokio::test]
async fn bodies_are_spoilt_and_the_code_is_spent() {
    let simulator = simulator().await;
    for (effect, looks_so) in [
        (Effect::EmptyBody, (|text: &str| text.is_empty()) as fn(&str) -> bool),
        (Effect::Html, |text| text.starts_with("<!DOCTYPE html>")),
        (Effect::TruncatedJson, |text| text.starts_with('{') && !text.contains('}')),
        (Effect::TrailingGarbage, |text| text.starts_with('{') && text.ends_with("garbage")),
        (Effect::ByteOrderMark, |text| text.starts_with("\u{feff}{")),
        (Effect::NumbersAsStrings, |text| text.contains(r#""expires_in":"7200""#)),
        (Effect::Null(vec!["scope".into()]), |text| text.contains(r#""scope":null"#)),
        (Effect::Missing(vec!["openid".into()]), |text| !text.contains("openid")),
        (Effect::UnknownKeys, |text| text.starts_with(r#"{"x_unknown":{"#) && text.contains("x_last")),
        (Effect::HugeBody, |text| text.len() > 10 * 1024 * 1024),
        (Effect::ErrcodeAfter(-1), |text| text.starts_with(r#"{"errcode":-1,"#)),
    ] {
        let (reply, code) = exchanged(&simulator, effect.clone()).await;
        let reply = reply.unwrap();
        assert_eq!(reply.status, 200);
        let text = reply.text();
        assert!(looks_so(&text), "{effect:?}: {}", text.chars().take(300).collect::<String>());
        assert!(is_spent(&simulator, &code).await, "{effect:?}");
    }
}

#[tokio::test]
async fn fields_are_replaced() {
    let simulator = simulator().await;
    let fields = json!({"openid": "osomebodyelse", "more": 1}).as_object().unwrap().clone();
    let (reply, _) = exchanged(&simulator, Effect::Replace(fields)).await;
    let tokens = reply.unwrap().json();
    assert_eq!((&tokens["openid"], &tokens["more"]), (&"osomebodyelse".into(), &1.into()));
}

#[tokio::test]
async fn nicknames_hold_what_no_parser_likes() {
    let simulator = simulator().await;
    let invalid = profile(&simulator, Effect::InvalidUtf8).await;
    assert!(std::str::from_utf8(&invalid.body).is_err());
    for (effect, mark) in [(Effect::RawControl, "\"\u{1}\u{2}"), (Effect::LoneSurrogate, r#""\ud83d小明"#)] {
        let reply = profile(&simulator, effect).await;
        assert!(reply.text().contains(mark));
        assert!(serde_json::from_slice::<serde_json::Value>(&reply.body).is_err());
    }
}

#[tokio::test]
async fn headers_vary() {
    let simulator = simulator().await;
    let encoding = "application/json; encoding=utf-8";
    let (reply, _) = exchanged(&simulator, Effect::ContentType(encoding.into())).await;
    assert_eq!(reply.unwrap().header("content-type"), Some(encoding));
    let (reply, _) = exchanged(&simulator, Effect::Chunked).await;
    let reply = reply.unwrap();
    assert_eq!((reply.header("transfer-encoding"), reply.header("content-length")), (Some("chunked"), None));
    let (reply, _) = exchanged(&simulator, Effect::Gzip).await;
    let reply = reply.unwrap();
    assert_eq!(reply.header("content-encoding"), Some("gzip"));
    assert!(reply.body.starts_with(&[0x1f, 0x8b, 8]));
}

#[tokio::test]
async fn answers_come_late_or_drop_by_drop() {
    let simulator = simulator().await;
    let time = Duration::from_millis(120);
    for effect in [Effect::DelayBefore(time), Effect::DelayAfter(time), Effect::Drip { pieces: 4, over: time }] {
        let started = Instant::now();
        let (reply, _) = exchanged(&simulator, effect.clone()).await;
        assert_eq!(reply.unwrap().errcode(), 0);
        assert!(started.elapsed() >= time, "{effect:?}");
    }
}

#[tokio::test]
async fn a_client_that_gives_up_has_spent_its_code() {
    let simulator = simulator().await;
    let code = code(&simulator).await;
    simulator.inject(Fault::at(Endpoint::AccessToken, Effect::DelayBefore(Duration::from_millis(400))));
    let target = exchange(&code);
    let hasty = tokio::time::timeout(Duration::from_millis(200), get(&simulator, &target)).await;
    assert!(hasty.is_err());
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert!(is_spent(&simulator, &code).await);
}

#[tokio::test]
async fn a_fault_on_a_page_is_a_number_on_the_page() {
    let simulator = simulator().await;
    simulator.inject(Fault::at(Endpoint::Authorize, Effect::Errcode(10009)));
    assert!(get(&simulator, &authorize("snsapi_base")).await.text().contains("10009"));
    assert!(get(&simulator, &authorize("snsapi_base")).await.parameter("code").is_some());
}

#[tokio::test]
async fn the_journal_names_the_fault() {
    let simulator = simulator().await;
    let (_, code) = exchanged(&simulator, Effect::ResetAfter).await;
    let entry = simulator.journal().pop().unwrap();
    assert_eq!(entry.decision, "exchanged: 小明 (snsapi_base) [fault: \"reset_after\"]");
    assert!(entry.query.contains(&("code".into(), code)));
}
