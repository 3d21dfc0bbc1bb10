//! WeChat's answers: a broken or hostile server may send any bytes (docs/en/wechat.md, API answers).
//!
//! An input is the body of a 200 response.

use crate::world::{NOW, world};
use url::Url;
use wechat_authz::testing::profile::Profile;
use wechat_authz::testing::session::{Grant, token};
use wechat_authz::testing::wechat::{ExchangeResponse, UserInfo, WechatError, answers};

/// Accepted values have a maximum length and a fixed alphabet; the error for a rejected body quotes nothing of it. A
/// session made of accepted values has a small token, and its headers equal the values.
pub fn holds(data: &[u8]) {
    let exchanged = told(answers::exchanged(data));
    let profiled = told(answers::profiled(data));
    if let Some((token, lives)) = told(answers::token(data)) {
        assert!((1..=2_048).contains(&token.expose().len()) && !lives.is_zero());
        assert!(token.expose().bytes().all(|byte| byte.is_ascii_graphic() && byte != b'&'));
    }
    if let Some((openid, _)) = told(answers::subscription(data)) {
        assert!(is_id(openid.as_str()));
    }
    if let Some(exchanged) = &exchanged {
        bounded(exchanged);
    }
    if let Some((openid, profiled)) = &profiled {
        assert!(is_id(openid.as_str()));
        clean(&profiled.profile);
        if let Some(exchanged) = exchanged.filter(|exchanged| !exchanged.snapshot) {
            becomes_a_session(&exchanged, profiled);
        }
    }
}

/// Returns the value, or panics if the error quotes the body.
fn told<T>(read: Result<T, WechatError>) -> Option<T> {
    match read {
        Ok(read) => Some(read),
        Err(fault @ (WechatError::Unusable { .. } | WechatError::Errcode { .. })) => {
            let text = fault.to_string();
            assert!(text.is_ascii() && text.len() < 120 && !text.contains(['\n', '{', '"']), "{text}");
            let _ = (fault.class(), fault.label());
            None
        }
        Err(other) => panic!("a body must not cause {other:?}"),
    }
}

fn bounded(exchanged: &ExchangeResponse) {
    assert!(is_id(exchanged.openid.as_str()));
    assert!(exchanged.unionid.as_ref().is_none_or(|unionid| is_id(unionid.as_str())));
    assert!((1..=4_096).contains(&exchanged.access_token.expose().len()));
    assert!(exchanged.refresh_token.as_ref().is_none_or(|token| (1..=4_096).contains(&token.expose().len())));
    assert!(exchanged.granted.len() <= 16 && exchanged.granted.iter().all(|scope| scope.len() <= 64));
}

fn is_id(text: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (1..=64).contains(&text.len()) && text.bytes().all(word)
}

fn clean(profile: &Profile) {
    assert!(profile.nickname.chars().count() <= 64 && !profile.nickname.chars().any(char::is_control));
    if !profile.avatar.is_empty() {
        let avatar = Url::parse(&profile.avatar).unwrap();
        assert!(avatar.scheme() == "https" && avatar.has_host() && profile.avatar.len() <= 512);
        assert!(avatar.username().is_empty() && avatar.password().is_none());
        assert!(profile.avatar.bytes().all(|byte| byte.is_ascii_graphic()), "{}", profile.avatar);
    }
}

fn becomes_a_session(exchanged: &ExchangeResponse, profiled: &UserInfo) {
    let world = world();
    let settings = &world.shop().session;
    let openid = exchanged.openid.as_str();
    let grant = Grant {
        subject: format!("wx:wx0123456789abcdef:{openid}").parse().unwrap(),
        openid: openid.to_owned(),
        unionid: exchanged.unionid.as_ref().map(|unionid| unionid.as_str().to_owned()).unwrap_or_default(),
        profile: profiled.profile.clone(),
        ..crate::world::grant()
    };
    let issued = world.sessions.begin(grant, settings, NOW).unwrap();
    assert!(issued.token.len() <= token::MAX_ISSUED_BYTES, "a token of {} bytes", issued.token.len());
    let live = world.sessions.verify(&issued.token, settings, NOW, || Ok(())).unwrap();
    let identity = live.identity();
    let said = identity.fields();
    assert_eq!(said.openid, openid);
    assert_eq!(said.subject, format!("wx:wx0123456789abcdef:{openid}"));
    assert_eq!(identity.values().nth(1).unwrap(), openid);
    let nickname = said.nickname;
    let decoded: String = url::form_urlencoded::parse(format!("n={nickname}").as_bytes())
        .next()
        .map(|(_, value)| value.into_owned())
        .unwrap_or_default();
    assert!(nickname.is_empty() || decoded == profiled.profile.nickname, "{nickname:?} for {:?}", profiled.profile);
    let avatar = said.avatar;
    assert!(avatar.is_empty() || avatar == profiled.profile.avatar);
}
