//! Calls over a real network with faults. The most important result is the number of requests to WeChat.

mod calls;
mod certificate;
mod network;
mod secrecy;
mod stub;

use super::breaker;
use super::{AppId, Client, Code, Credentials, ExchangeResponse, OpenId, Settings};
use crate::secret::Secret;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use stub::{Act, Stub, says};
use url::Url;

/// A user's data in the answers.
const TOKEN: &str = r#"{"access_token":"37_Abc","expires_in":7200,"refresh_token":"37_Xyz","openid":"oAbCd","scope":"snsapi_userinfo","unionid":"oUnIo"}"#;
const PERSON: &str =
    r#"{"openid":"oAbCd","nickname":"小明","headimgurl":"https:\/\/thirdwx.qlogo.cn\/1\/132","unionid":"oUnIo"}"#;

pub(super) fn install_provider() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

fn app() -> Credentials {
    app_called("wx0123456789abcdef")
}

fn app_called(appid: &str) -> Credentials {
    let secret = Secret::parse("0123456789abcdef0123456789abcdef", 16).unwrap();
    Credentials { appid: AppId::parse(appid).unwrap(), secret }
}

fn code() -> Code {
    Code::parse("071AbcDefGhiJklMno2pQrStUv1AbcDe").unwrap()
}

fn exchanged() -> ExchangeResponse {
    ExchangeResponse {
        openid: OpenId::parse("oAbCd").unwrap(),
        unionid: None,
        granted: vec!["snsapi_userinfo".to_owned()],
        snapshot: false,
        access_token: Secret::parse("37_Abc", 1).unwrap(),
        refresh_token: None,
        expires_in: Duration::from_secs(7200),
    }
}

fn settings(api: &Url) -> Settings {
    Settings {
        api: api.clone(),
        connect_timeout: Duration::from_millis(1_000),
        exchange_timeout: Duration::from_millis(2_000),
        userinfo_timeout: Duration::from_millis(2_000),
        breaker: breaker::Settings { failures: 100, open: Duration::from_secs(60) },
        ..Settings::default()
    }
}

type Heard = Arc<Mutex<Vec<(&'static str, &'static str)>>>;

fn client(settings: &Settings) -> (Client, Heard) {
    install_provider();
    let heard = Heard::default();
    let note = Arc::clone(&heard);
    let client = Client::new(settings, move |endpoint, outcome, _| note.lock().unwrap().push((endpoint, outcome)));
    (client.unwrap().hurried(), heard)
}

/// A stub with this behaviour, and a client that calls it.
async fn stage(acts: impl IntoIterator<Item = Act>) -> (Stub, Client, Heard) {
    let stub = Stub::start(acts).await;
    let (client, heard) = client(&settings(&stub.url));
    (stub, client, heard)
}

fn refusal(errcode: i64) -> Act {
    says(format!(r#"{{"errcode":{errcode},"errmsg":"no, rid: 6741a0c2-11aa22bb-33cc44dd"}}"#))
}
