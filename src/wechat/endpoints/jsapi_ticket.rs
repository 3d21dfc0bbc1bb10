//! The JS-SDK ticket, and what a page is signed with: `cgi-bin/ticket/getticket`.
//!
//! The signature is SHA-1 in hex over `jsapi_ticket=…&noncestr=…&timestamp=…&url=…`, each value as it is, the address
//! without its fragment. SHA-1 is WeChat's choice; the ticket is a secret, and nobody gains by a collision.

use crate::wechat::credentials::Credentials;
use crate::wechat::client::{ApiCall, Client};
use crate::wechat::error::WechatError;
use super::stable_token::TokenResponse;
use crate::wechat::{Endpoint, Settings};
use crate::clock::Timestamp;
use crate::random;
use crate::secret::Secret;
use aws_lc_rs::digest;

impl Client {
    pub(crate) async fn jsapi_ticket(&self, app: &Credentials, token: &Secret) -> Result<TokenResponse, WechatError> {
        let Settings { exchange_timeout, .. } = self.settings();
        let query = [("access_token", token.expose()), ("type", "jsapi")];
        let (appid, endpoint) = (&app.appid, Endpoint::JsapiTicket);
        let call = ApiCall { appid, endpoint, query: &query, json: None, time: *exchange_timeout };
        self.ask(call, |answer| TokenResponse::read(answer, "ticket")).await
    }
}

/// What a page hands to `wx.config`, beside its AppID and its list of functions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct JsapiSignature {
    /// Seconds since 1970.
    pub timestamp: u64,
    /// Chance.
    pub nonce: String,
    /// 40 hex digits.
    pub signature: String,
}

/// Signs `url`, which holds no fragment, for a page opened at `now`.
pub(crate) fn sign(ticket: &Secret, url: &str, now: Timestamp) -> JsapiSignature {
    let nonce = random::state();
    let signature = signature(ticket, &nonce, now.0, url);
    JsapiSignature { timestamp: now.0, nonce, signature }
}

fn signature(ticket: &Secret, nonce: &str, timestamp: u64, url: &str) -> String {
    let signed = format!("jsapi_ticket={}&noncestr={nonce}&timestamp={timestamp}&url={url}", ticket.expose());
    random::hex(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, signed.as_bytes()).as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wechats_own_example_comes_out() {
        let ticket = "sM4AOVdWfPE4DxkXGEs8VMCPGGVi4C3VM0P37wVUCFvkVAy_90u5h9nbSlYy3-Sl-HhTdfl2fzFy1AOcHKP7qg";
        let ticket = Secret::parse(ticket, 1).unwrap();
        assert_eq!(
            signature(&ticket, "Wm3WZYTPz0wzccnW", 1_414_587_457, "http://mp.weixin.qq.com?params=value"),
            "0f9de62fce790f9a083d5c99e95740ceb90c27ed"
        );
    }

    #[test]
    fn no_two_pages_are_signed_alike() {
        let ticket = Secret::parse("ticket", 1).unwrap();
        let sign = || sign(&ticket, "https://shop.example.com/", Timestamp(1_800_000_000));
        assert_ne!(sign(), sign());
    }
}
