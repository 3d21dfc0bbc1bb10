//! The application's own token: `cgi-bin/stable_token` (docs/en/wechat.md, Access token of the account). For
//! [`super::central`] alone: a call past it wastes the quota of all instances.

use crate::wechat::credentials::Credentials;
use crate::wechat::client::{ApiCall, Client};
use crate::wechat::decode::{Answer, Unreadable};
use crate::wechat::error::WechatError;
use crate::wechat::{Endpoint, Settings};
use crate::secret::Secret;
use std::time::Duration;

/// The longest token or ticket there is; WeChat says 512.
pub(crate) const MAX_LENGTH: usize = 2_048;

/// What WeChat gives for a time.
#[derive(Clone, Debug)]
pub(crate) struct TokenResponse {
    pub value: Secret,
    pub ttl: Duration,
}

impl TokenResponse {
    /// Reads the value under `key` and how long it lives. One without a life is none: it could never be kept.
    pub(crate) fn read(answer: &Answer, key: &'static str) -> Result<Self, Unreadable> {
        let value = |text: &str| Secret::parse(text, 1).ok().filter(|_| is_token(text)).ok_or(());
        let lives = answer.integer("expires_in").and_then(|seconds| u64::try_from(seconds).ok());
        let lives = lives.filter(|seconds| *seconds > 0).ok_or(Unreadable("expires_in"))?;
        Ok(Self { value: answer.required(key, value)?, ttl: Duration::from_secs(lives) })
    }
}

/// Whether `text` can stand in an address and in what is signed.
pub(crate) fn is_token(text: &str) -> bool {
    text.len() <= MAX_LENGTH && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'&')
}

impl Client {
    /// Asks for the token: the one in force, or with `Endpoint::ForcedToken` another.
    pub(crate) async fn stable_token(
        &self,
        app: &Credentials,
        endpoint: Endpoint,
    ) -> Result<TokenResponse, WechatError> {
        let Settings { exchange_timeout, .. } = self.settings();
        let json = serde_json::json!({
            "grant_type": "client_credential",
            "appid": app.appid.as_str(),
            "secret": app.secret.expose(),
            "force_refresh": endpoint == Endpoint::ForcedToken,
        });
        let call =
            ApiCall { appid: &app.appid, endpoint, query: &[], json: Some(json.to_string()), time: *exchange_timeout };
        self.ask(call, |answer| TokenResponse::read(answer, "access_token")).await
    }

    /// Whether WeChat gives this machine the application's own token: the one in force, which is dropped here.
    ///
    /// # Errors
    /// WeChat's refusal, such as 40164 where the IP allow-list lacks this machine's address.
    pub async fn is_trusted(&self, app: &Credentials) -> Result<(), WechatError> {
        self.stable_token(app, Endpoint::StableToken).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_has_a_value_and_a_life_or_is_none() {
        let read = |body: &str| TokenResponse::read(&Answer::read(body.as_bytes()).unwrap(), "access_token");
        let given = read(r#"{"access_token":"37_Abc-def","expires_in":"7200"}"#).unwrap();
        assert_eq!((given.value.expose(), given.ttl), ("37_Abc-def", Duration::from_secs(7200)));
        for (body, wrong) in [
            (r#"{"access_token":"37_Abc"}"#, "expires_in"),
            (r#"{"access_token":"37_Abc","expires_in":0}"#, "expires_in"),
            (r#"{"access_token":"37_Abc","expires_in":-1}"#, "expires_in"),
            (r#"{"expires_in":7200}"#, "access_token"),
            (r#"{"access_token":"a b","expires_in":7200}"#, "access_token"),
            (r#"{"access_token":"a&b","expires_in":7200}"#, "access_token"),
            (r#"{"access_token":7,"expires_in":7200}"#, "access_token"),
        ] {
            assert_eq!(read(body).unwrap_err(), Unreadable(wrong), "{body}");
        }
    }
}
