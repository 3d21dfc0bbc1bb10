//! Gets the account's access token: `cgi-bin/stable_token` (docs/en/wechat.md, Access token of the account). Only the
//! module `access_token` calls this: other calls would use up the quota of all instances.

use crate::secret::Secret;
use crate::wechat::client::{ApiCall, Client};
use crate::wechat::credentials::Credentials;
use crate::wechat::decode::{Answer, Unreadable};
use crate::wechat::error::WechatError;
use crate::wechat::{Endpoint, Settings};
use std::time::Duration;

/// The longest token or ticket. WeChat says 512.
pub(crate) const MAX_LENGTH: usize = 2_048;

/// A token or ticket with its lifetime.
#[derive(Clone, Debug)]
pub(crate) struct TokenResponse {
    pub value: Secret,
    pub ttl: Duration,
}

impl TokenResponse {
    /// Decodes the value under `key` and its lifetime, which must be positive.
    pub(crate) fn read(answer: &Answer, key: &'static str) -> Result<Self, Unreadable> {
        let value = |text: &str| Secret::parse(text, 1).ok().filter(|_| is_token(text)).ok_or(());
        let lifetime = answer.integer("expires_in").and_then(|seconds| u64::try_from(seconds).ok());
        let lifetime = lifetime.filter(|seconds| *seconds > 0).ok_or(Unreadable("expires_in"))?;
        Ok(Self { value: answer.required(key, value)?, ttl: Duration::from_secs(lifetime) })
    }
}

/// Whether `text` can be part of a URL and of a signed text.
pub(crate) fn is_token(text: &str) -> bool {
    text.len() <= MAX_LENGTH && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'&')
}

impl Client {
    /// Gets the current token, or with `Endpoint::ForcedToken` a new one.
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
        let call = ApiCall {
            appid: &app.appid,
            endpoint,
            query: &[],
            json: Some(json.to_string()),
            timeout: *exchange_timeout,
        };
        self.call(call, |answer| TokenResponse::read(answer, "access_token")).await
    }

    /// Checks that WeChat gives this machine the current token, which is dropped.
    ///
    /// # Errors
    /// WeChat's error, such as 40164 if the IP allow-list lacks this machine's address.
    pub async fn check_token_access(&self, app: &Credentials) -> Result<(), WechatError> {
        self.stable_token(app, Endpoint::StableToken).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_needs_a_value_and_a_lifetime() {
        let read = |body: &str| TokenResponse::read(&Answer::read(body.as_bytes()).unwrap(), "access_token");
        let response = read(r#"{"access_token":"37_Abc-def","expires_in":"7200"}"#).unwrap();
        assert_eq!((response.value.expose(), response.ttl), ("37_Abc-def", Duration::from_secs(7200)));
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
