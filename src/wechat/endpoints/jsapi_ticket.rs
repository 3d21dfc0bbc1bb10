//! The JS-SDK ticket (`cgi-bin/ticket/getticket`) and the signature of a page.
//!
//! The signature is SHA-1 in hex over `jsapi_ticket=…&noncestr=…&timestamp=…&url=…`, each value unencoded, the URL
//! without its fragment. WeChat prescribes SHA-1; the ticket is a secret, so a collision gains nothing.

use super::stable_token::TokenResponse;
use crate::clock::Timestamp;
use crate::random;
use crate::secret::Secret;
use crate::wechat::client::{ApiCall, Client};
use crate::wechat::credentials::Credentials;
use crate::wechat::error::WechatError;
use crate::wechat::{Endpoint, Settings};
use aws_lc_rs::digest;

impl Client {
    /// Gets the JS-SDK ticket.
    pub(crate) async fn jsapi_ticket(&self, app: &Credentials, token: &Secret) -> Result<TokenResponse, WechatError> {
        let Settings { exchange_timeout, .. } = self.settings();
        let query = [("access_token", token.expose()), ("type", "jsapi")];
        let (appid, endpoint) = (&app.appid, Endpoint::JsapiTicket);
        let call = ApiCall { appid, endpoint, query: &query, json: None, timeout: *exchange_timeout };
        self.call(call, |answer| TokenResponse::read(answer, "ticket")).await
    }
}

/// The signature that a page passes to `wx.config`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct JsapiSignature {
    /// Seconds since 1970.
    pub timestamp: u64,
    /// A random text.
    pub nonce: String,
    /// 40 hex digits.
    pub signature: String,
}

/// Signs `url`, which has no fragment, at `now`.
pub(crate) fn sign(ticket: &Secret, url: &str, now: Timestamp) -> JsapiSignature {
    let nonce = random::state();
    let signature = signature(ticket, &nonce, now.0, url);
    JsapiSignature { timestamp: now.0, nonce, signature }
}

fn signature(ticket: &Secret, nonce: &str, timestamp: u64, url: &str) -> String {
    let text = format!("jsapi_ticket={}&noncestr={nonce}&timestamp={timestamp}&url={url}", ticket.expose());
    random::hex(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes()).as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_wechat_is_reproduced() {
        let ticket = "sM4AOVdWfPE4DxkXGEs8VMCPGGVi4C3VM0P37wVUCFvkVAy_90u5h9nbSlYy3-Sl-HhTdfl2fzFy1AOcHKP7qg";
        let ticket = Secret::parse(ticket, 1).unwrap();
        assert_eq!(
            signature(&ticket, "Wm3WZYTPz0wzccnW", 1_414_587_457, "http://mp.weixin.qq.com?params=value"),
            "0f9de62fce790f9a083d5c99e95740ceb90c27ed"
        );
    }

    #[test]
    fn each_signature_has_its_own_nonce() {
        let ticket = Secret::parse("ticket", 1).unwrap();
        let sign = || sign(&ticket, "https://shop.example.com/", Timestamp(1_800_000_000));
        assert_ne!(sign(), sign());
    }
}
