//! Requests, answers, and retries.

use super::stub::{says, status, with_head};
use super::*;
use crate::wechat::breaker::State;
use crate::wechat::{Class, Endpoint, Rid, WechatError};

const RID: &str = "6741a0c2-11aa22bb-33cc44dd";

#[tokio::test]
async fn an_exchange_sends_these_parameters_once() {
    let (stub, client, heard) = stage([says(TOKEN)]).await;
    let exchanged = client.exchange(&app(), &code()).await.unwrap();
    assert_eq!(exchanged.openid.as_str(), "oAbCd");
    assert_eq!(
        stub.requests(),
        ["GET /sns/oauth2/access_token?appid=wx0123456789abcdef&secret=0123456789abcdef0123456789abcdef\
          &code=071AbcDefGhiJklMno2pQrStUv1AbcDe&grant_type=authorization_code HTTP/1.1"]
    );
    assert_eq!(*heard.lock().unwrap(), [("access_token", "ok")]);
}

#[tokio::test]
async fn a_profile_call_sends_these_parameters() {
    let (stub, client, _) = stage([says(PERSON)]).await;
    let profiled = client.userinfo(&app(), &exchanged()).await.unwrap();
    assert_eq!(profiled.profile.nickname, "小明");
    assert_eq!(profiled.profile.avatar, "https://thirdwx.qlogo.cn/1/132");
    assert_eq!(profiled.unionid.unwrap().as_str(), "oUnIo");
    assert_eq!(stub.requests(), ["GET /sns/userinfo?access_token=37_Abc&openid=oAbCd&lang=zh_CN HTTP/1.1"]);
}

#[tokio::test]
async fn a_refresh_sends_no_secret() {
    let (stub, client, heard) = stage([says(TOKEN)]).await;
    let token = Secret::parse("37_Xyz", 1).unwrap();
    client.refresh(&app(), &token).await.unwrap();
    assert_eq!(
        stub.requests(),
        [
            "GET /sns/oauth2/refresh_token?appid=wx0123456789abcdef&grant_type=refresh_token&refresh_token=37_Xyz HTTP/1.1"
        ]
    );
    assert_eq!(*heard.lock().unwrap(), [("refresh_token", "ok")]);
}

#[tokio::test]
async fn a_stable_token_call_posts_the_secret_in_the_body() {
    let (stub, client, heard) = stage([says(r#"{"access_token":"37_Own","expires_in":7200}"#)]).await;
    for endpoint in [Endpoint::StableToken, Endpoint::ForcedToken] {
        let given = client.stable_token(&app(), endpoint).await.unwrap();
        assert_eq!((given.value.expose(), given.ttl), ("37_Own", Duration::from_secs(7200)));
    }
    assert_eq!(stub.requests(), ["POST /cgi-bin/stable_token HTTP/1.1"; 2]);
    let body = |force: bool| {
        serde_json::json!({
            "grant_type": "client_credential", "appid": "wx0123456789abcdef",
            "secret": "0123456789abcdef0123456789abcdef", "force_refresh": force,
        })
    };
    let posted: Vec<serde_json::Value> = stub.posted().iter().map(|body| serde_json::from_str(body).unwrap()).collect();
    assert_eq!(posted, [body(false), body(true)]);
    assert_eq!(*heard.lock().unwrap(), [("stable_token", "ok"), ("forced_token", "ok")]);
}

#[tokio::test]
async fn ticket_and_subscription_calls_send_these_parameters() {
    let token = Secret::parse("37_Own", 1).unwrap();
    let (stub, client, _) = stage([says(r#"{"errcode":0,"errmsg":"ok","ticket":"Ticket-1","expires_in":7200}"#)]).await;
    assert_eq!(client.jsapi_ticket(&app(), &token).await.unwrap().value.expose(), "Ticket-1");
    assert_eq!(stub.requests(), ["GET /cgi-bin/ticket/getticket?access_token=37_Own&type=jsapi HTTP/1.1"]);
    let (stub, client, _) = stage([says(r#"{"subscribe":1,"openid":"oAbCd"}"#)]).await;
    let openid = OpenId::parse("oAbCd").unwrap();
    assert!(client.subscription(&app(), &token, &openid).await.unwrap());
    assert_eq!(stub.requests(), ["GET /cgi-bin/user/info?access_token=37_Own&openid=oAbCd&lang=zh_CN HTTP/1.1"]);
    let other = OpenId::parse("oOther").unwrap();
    assert!(matches!(client.subscription(&app(), &token, &other).await, Err(WechatError::Mismatch { .. })));
}

#[tokio::test]
async fn a_token_call_is_retried_and_a_dead_token_is_reported() {
    let token = Secret::parse("37_Own", 1).unwrap();
    for (endpoint, act, asked) in [
        (Endpoint::StableToken, refusal(-1), 3),
        (Endpoint::StableToken, status(502), 3),
        (Endpoint::StableToken, refusal(40164), 1),
        (Endpoint::StableToken, refusal(45009), 1),
        (Endpoint::ForcedToken, refusal(-1), 2),
        (Endpoint::ForcedToken, Act::Reset, 1),
    ] {
        let (stub, client, _) = stage([act.clone()]).await;
        client.stable_token(&app(), endpoint).await.unwrap_err();
        assert_eq!(stub.calls(), asked, "{endpoint:?} {act:?}");
    }
    for errcode in [40001, 40014, 42001] {
        let (stub, client, _) = stage([refusal(errcode)]).await;
        assert_eq!(client.jsapi_ticket(&app(), &token).await.unwrap_err().class(), Class::RenewToken);
        assert_eq!(stub.calls(), 1, "{errcode}");
    }
}

#[tokio::test]
async fn a_base_path_is_kept() {
    let stub = Stub::start([says(TOKEN)]).await;
    let (client, _) = client(&settings(&stub.url.join("relay/").unwrap()));
    client.exchange(&app(), &code()).await.unwrap();
    assert!(stub.requests()[0].starts_with("GET /relay/sns/oauth2/access_token?"));
}

#[tokio::test]
async fn whatever_the_header_says_the_body_is_utf_8_json() {
    for head in [
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.1 200 OK\r\nContent-Type: application/json; encoding=utf-8\r\n",
        "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=iso-8859-1\r\n",
        "HTTP/1.1 200 OK\r\nContent-Type: nonsense\r\nContent-Encoding: gzip\r\n",
    ] {
        let (_stub, client, _) = stage([with_head(head, PERSON)]).await;
        assert_eq!(client.userinfo(&app(), &exchanged()).await.unwrap().profile.nickname, "小明", "{head}");
    }
}

#[tokio::test]
async fn an_exchange_is_not_retried_after_an_errcode() {
    for (errcode, class) in [
        (40029, Class::RestartLogin),
        (40163, Class::RestartLogin),
        (40125, Class::Configuration),
        (40013, Class::Configuration),
        (45011, Class::BackOff),
        (50002, Class::Fatal),
        (99999, Class::BackOff),
    ] {
        let (stub, client, _) = stage([refusal(errcode)]).await;
        let error = client.exchange(&app(), &code()).await.unwrap_err();
        let expected = WechatError::Errcode { endpoint: Endpoint::AccessToken, code: errcode, rid: Rid::parse(RID) };
        assert_eq!((&error, error.class(), stub.calls()), (&expected, class, 1), "{errcode}");
    }
}

#[tokio::test]
async fn an_exchange_is_retried_once_if_wechat_is_busy() {
    let (stub, client, heard) = stage([refusal(-1), says(TOKEN)]).await;
    client.exchange(&app(), &code()).await.unwrap();
    assert_eq!(stub.calls(), 2);
    assert_eq!(*heard.lock().unwrap(), [("access_token", "-1"), ("access_token", "ok")]);

    let (stub, client, _) = stage([refusal(-1), refusal(-1), says(TOKEN)]).await;
    let error = client.exchange(&app(), &code()).await.unwrap_err();
    assert_eq!((error.label(), error.class(), stub.calls()), ("-1", Class::BackOff, 2));
}

#[tokio::test]
async fn a_code_spent_by_the_first_request_restarts_the_login() {
    for first in [refusal(-1), status(502), status(429)] {
        let (stub, client, _) = stage([first, refusal(40163)]).await;
        let error = client.exchange(&app(), &code()).await.unwrap_err();
        assert_eq!((error.label(), error.class(), stub.calls()), ("40163", Class::RestartLogin, 2));
    }
}

#[tokio::test]
async fn a_profile_call_is_retried_twice_if_wechat_is_busy() {
    let (stub, client, _) = stage([refusal(-1), refusal(-1), says(PERSON)]).await;
    client.userinfo(&app(), &exchanged()).await.unwrap();
    assert_eq!(stub.calls(), 3);

    let (stub, client, _) = stage([refusal(-1)]).await;
    let error = client.userinfo(&app(), &exchanged()).await.unwrap_err();
    assert_eq!((error.label(), stub.calls()), ("-1", 3));
}

#[tokio::test]
async fn a_profile_of_another_user_is_refused() {
    let other_openid = PERSON.replace("oAbCd", "oOther");
    let other_unionid = PERSON.replace("oUnIo", "oOther");
    for body in [other_openid, other_unionid] {
        let (stub, client, _) = stage([says(body)]).await;
        let known = ExchangeResponse { unionid: Some(crate::wechat::UnionId::parse("oUnIo").unwrap()), ..exchanged() };
        let error = client.userinfo(&app(), &known).await.unwrap_err();
        assert_eq!((error, stub.calls()), (WechatError::Mismatch { endpoint: Endpoint::Userinfo }, 1));
    }
}

#[tokio::test]
async fn an_open_breaker_refuses_calls_of_its_application_only() {
    let stub = Stub::start([status(500)]).await;
    let breaker = breaker::Settings { failures: 2, open: Duration::from_secs(60) };
    let (client, heard) = client(&Settings { breaker, ..settings(&stub.url) });
    let error = client.exchange(&app(), &code()).await.unwrap_err();
    assert_eq!((error.label(), stub.calls()), ("status_5xx", 2));
    let error = client.exchange(&app(), &code()).await.unwrap_err();
    assert!(matches!(error, WechatError::BreakerOpen { .. }), "{error}");
    assert_eq!((error.class(), stub.calls()), (Class::BackOff, 2));
    assert_eq!(heard.lock().unwrap().last(), Some(&("access_token", "breaker_open")));
    assert_eq!(client.breakers(), [(app().appid, Endpoint::AccessToken, State::Open)]);

    let other = app_called("wxfedcba9876543210");
    assert_eq!(client.exchange(&other, &code()).await.unwrap_err().label(), "status_5xx");
    assert_eq!(client.userinfo(&app(), &exchanged()).await.unwrap_err().label(), "status_5xx");
}

#[tokio::test]
async fn a_retry_refused_by_the_breaker_returns_the_first_error() {
    let stub = Stub::start([status(500)]).await;
    let breaker = breaker::Settings { failures: 1, open: Duration::from_secs(60) };
    let (client, heard) = client(&Settings { breaker, ..settings(&stub.url) });
    let error = client.userinfo(&app(), &exchanged()).await.unwrap_err();
    assert_eq!((error.label(), stub.calls()), ("status_5xx", 1));
    assert_eq!(*heard.lock().unwrap(), [("userinfo", "status_5xx")]);
}

#[tokio::test]
async fn users_and_operators_do_not_open_the_breaker() {
    let acts = [40029, 40163, 40125, 45011, 40029, 40029].map(refusal);
    let stub = Stub::start(acts).await;
    let breaker = breaker::Settings { failures: 1, open: Duration::from_secs(60) };
    let (client, _) = client(&Settings { breaker, ..settings(&stub.url) });
    for _ in 0..6 {
        assert!(matches!(client.exchange(&app(), &code()).await, Err(WechatError::Errcode { .. })));
    }
    assert_eq!(stub.calls(), 6);
}

#[tokio::test]
async fn a_dropped_probe_does_not_wedge_the_breaker() {
    let stub = Stub::start([status(500), Act::Hang, says(TOKEN)]).await;
    let open = Duration::from_millis(200);
    let breaker = breaker::Settings { failures: 1, open };
    let (client, _) = client(&Settings { breaker, ..settings(&stub.url) });
    let (app, code) = (app(), code());
    client.exchange(&app, &code).await.unwrap_err();
    tokio::time::sleep(open * 2).await;
    let probe = tokio::time::timeout(open, client.exchange(&app, &code)).await;
    assert!(probe.is_err() && stub.calls() == 2, "the probe hung and its caller was dropped");
    client.exchange(&app, &code).await.unwrap();
    assert_eq!(client.breakers(), [(app.appid, Endpoint::AccessToken, State::Closed)]);
}

#[tokio::test]
async fn excess_concurrent_calls_are_refused_soon() {
    let stub = Stub::start([Act::Hang]).await;
    let (client, heard) =
        client(&Settings { max_calls: 1, exchange_timeout: Duration::from_millis(500), ..settings(&stub.url) });
    let (client, app, code) = (Arc::new(client), app(), code());
    let first = tokio::spawn({
        let (client, app, code) = (Arc::clone(&client), app.clone(), code.clone());
        async move { client.exchange(&app, &code).await }
    });
    while stub.calls() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let error = client.exchange(&app, &code).await.unwrap_err();
    assert_eq!(error, WechatError::TooManyCalls { endpoint: Endpoint::AccessToken });
    assert_eq!(*heard.lock().unwrap(), [("access_token", "too_many_calls")]);
    assert_eq!(first.await.unwrap().unwrap_err().label(), "timed_out");
    assert_eq!(stub.calls(), 1);
}
