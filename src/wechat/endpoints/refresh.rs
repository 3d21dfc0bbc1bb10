//! Refreshes the user's token: `sns/oauth2/refresh_token` (docs/en/wechat.md, Refresh). Needs no AppSecret, and is
//! repeatable.

use super::exchange::ExchangeResponse;
use crate::secret::Secret;
use crate::wechat::client::{ApiCall, Client};
use crate::wechat::credentials::Credentials;
use crate::wechat::error::WechatError;
use crate::wechat::{Endpoint, Settings};

impl Client {
    /// Refreshes a token. The answer need not have the unionid and the snapshot flag: keep those of the exchange.
    ///
    /// # Errors
    /// [`WechatError`]; [`crate::wechat::Class::RestartLogin`] if the user must log in again.
    pub async fn refresh(&self, app: &Credentials, refresh_token: &Secret) -> Result<ExchangeResponse, WechatError> {
        let Settings { exchange_timeout, .. } = self.settings();
        let query =
            [("appid", app.appid.as_str()), ("grant_type", "refresh_token"), ("refresh_token", refresh_token.expose())];
        let (appid, endpoint) = (&app.appid, Endpoint::RefreshToken);
        self.call(
            ApiCall { appid, endpoint, query: &query, json: None, timeout: *exchange_timeout },
            ExchangeResponse::read,
        )
        .await
    }
}
