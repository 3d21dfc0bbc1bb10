//! A fresh token for an old one: `sns/oauth2/refresh_token` (docs/en/wechat.md, Refresh). Needs no AppSecret; may be
//! repeated.

use super::application::Application;
use super::client::{Call, Client};
use super::exchange::Exchanged;
use super::fault::Fault;
use super::{Endpoint, Settings};
use crate::secret::Secret;

impl Client {
    /// Prolongs a token. WeChat promises neither unionid nor the snapshot flag here: keep those of the exchange.
    ///
    /// # Errors
    /// [`Fault`]; [`super::Class::RestartLogin`] where the person must log in again.
    pub async fn refresh(&self, app: &Application, refresh_token: &Secret) -> Result<Exchanged, Fault> {
        let Settings { exchange_timeout, .. } = self.settings();
        let query =
            [("appid", app.appid.as_str()), ("grant_type", "refresh_token"), ("refresh_token", refresh_token.expose())];
        let (appid, endpoint) = (&app.appid, Endpoint::RefreshToken);
        self.ask(Call { appid, endpoint, query: &query, json: None, time: *exchange_timeout }, Exchanged::read).await
    }
}
