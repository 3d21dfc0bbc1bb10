//! The application's own token: `cgi-bin/stable_token` (docs/en/wechat.md, Access token of the account). For
//! [`super::central`] alone: a call past it wastes the quota of all instances.

use super::application::Application;
use super::client::{Call, Client};
use super::decode::{Answer, Unreadable};
use super::fault::Fault;
use super::{Endpoint, Settings};
use crate::secret::Secret;
use std::time::Duration;

/// The longest token or ticket there is; WeChat says 512.
pub(super) const LONGEST: usize = 2_048;

/// What WeChat gives for a time.
#[derive(Clone, Debug)]
pub(super) struct Given {
    pub value: Secret,
    pub lives: Duration,
}

impl Given {
    /// Reads the value under `key` and how long it lives. One without a life is none: it could never be kept.
    pub(super) fn read(answer: &Answer, key: &'static str) -> Result<Self, Unreadable> {
        let value = |text: &str| Secret::parse(text, 1).ok().filter(|_| is_token(text)).ok_or(());
        let lives = answer.integer("expires_in").and_then(|seconds| u64::try_from(seconds).ok());
        let lives = lives.filter(|seconds| *seconds > 0).ok_or(Unreadable("expires_in"))?;
        Ok(Self { value: answer.required(key, value)?, lives: Duration::from_secs(lives) })
    }
}

/// Whether `text` can stand in an address and in what is signed.
pub(super) fn is_token(text: &str) -> bool {
    text.len() <= LONGEST && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'&')
}

impl Client {
    /// Asks for the token: the one in force, or with `Endpoint::ForcedToken` another.
    pub(super) async fn stable_token(&self, app: &Application, endpoint: Endpoint) -> Result<Given, Fault> {
        let Settings { exchange_timeout, .. } = self.settings();
        let json = serde_json::json!({
            "grant_type": "client_credential",
            "appid": app.appid.as_str(),
            "secret": app.secret.expose(),
            "force_refresh": endpoint == Endpoint::ForcedToken,
        });
        let call =
            Call { appid: &app.appid, endpoint, query: &[], json: Some(json.to_string()), time: *exchange_timeout };
        self.ask(call, |answer| Given::read(answer, "access_token")).await
    }

    /// Whether WeChat gives this machine the application's own token: the one in force, which is dropped here.
    ///
    /// # Errors
    /// WeChat's refusal, such as 40164 where the IP allow-list lacks this machine's address.
    pub async fn is_trusted(&self, app: &Application) -> Result<(), Fault> {
        self.stable_token(app, Endpoint::StableToken).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_has_a_value_and_a_life_or_is_none() {
        let read = |body: &str| Given::read(&Answer::read(body.as_bytes()).unwrap(), "access_token");
        let given = read(r#"{"access_token":"37_Abc-def","expires_in":"7200"}"#).unwrap();
        assert_eq!((given.value.expose(), given.lives), ("37_Abc-def", Duration::from_secs(7200)));
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
