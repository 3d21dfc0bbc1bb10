//! A fresh token for an old one: `sns/oauth2/refresh_token` (docs/en/wechat.md, Refresh). Needs no AppSecret; may be
//! repeated.

use crate::wechat::credentials::Credentials;
use crate::wechat::client::{ApiCall, Client};
use crate::wechat::error::WechatError;
use super::exchange::ExchangeResponse;
use crate::wechat::{Endpoint, Settings};
use crate::secret::Secret;

impl Client {
    /// Prolongs a token. WeChat promises neither unionid nor the snapshot flag here: keep those of the exchange.
    ///
    /// # Errors
    /// [`WechatError`]; [`crate::wechat::Class::RestartLogin`] where the person must log in again.
    pub async fn refresh(&self, app: &Credentials, refresh_token: &Secret) -> Result<ExchangeResponse, WechatError> {
        let Settings { exchange_timeout, .. } = self.settings();
        let query =
            [("appid", app.appid.as_str()), ("grant_type", "refresh_token"), ("refresh_token", refresh_token.expose())];
        let (appid, endpoint) = (&app.appid, Endpoint::RefreshToken);
        self.ask(
            ApiCall { appid, endpoint, query: &query, json: None, time: *exchange_timeout },
            ExchangeResponse::read,
        )
        .await
    }
}
