//! The settings of one application.

use crate::app_name::AppName;
use crate::config::duration::Period;
use crate::config::text::{ImageUrl, SecretFile, Title};
use crate::login::settings::SubjectRule;
use crate::origin::Origin;
use crate::routes::DomainProof;
use crate::wechat::{AppId, Scope};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One application.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct App {
    /// Its unique name: the audience of its tokens, and its label in logs and metrics.
    pub name: AppName,
    /// The application's name on the pages; default `name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<Title>,
    /// Its unique address in browsers: https, host and port. http is for this machine.
    pub origin: Origin,
    /// Which of WeChat's ids names a user: `openid` (one AppID) or `unionid` (all of one Open Platform account, which
    /// every user must then have); default openid. A change makes every user a new one.
    #[serde(default)]
    pub subject: SubjectRule,
    /// Login inside WeChat by an Official Account (公众号). This or `website` is needed.
    #[serde(default)]
    pub official_account: Option<OfficialAccount>,
    /// Login in other browsers by QR code (网站应用). This or `official_account` is needed.
    #[serde(default)]
    pub website: Option<Website>,
    /// How long sessions live.
    #[serde(default)]
    pub session: Session,
    /// Whether paths may contain `%2F`, `%5C` and double encoding, which are denied otherwise; default false. A rule can
    /// allow them for its own paths.
    #[serde(default)]
    pub allow_encoded_slashes: bool,
    /// Other origins to which a login may return, each exactly; default none.
    #[serde(default)]
    pub return_to: Vec<Origin>,
    /// The files that prove to WeChat that the domain is yours, served at the site's root: `MP_verify_….txt` and
    /// `WW_verify_….txt` by name, others such as `6ynZPDvfTF.txt` as `NAME.txt=CONTENT`. Default none.
    #[serde(default)]
    pub domain_proofs: Vec<DomainProof>,
}

/// An Official Account.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct OfficialAccount {
    /// Its AppID.
    pub appid: AppId,
    /// The file that holds its AppSecret.
    pub secret_file: SecretFile,
    /// `snsapi_base`, silent and without a profile, or `snsapi_userinfo`, with consent and a profile; default
    /// snsapi_base.
    #[serde(default = "default_scope")]
    pub scope: Scope,
    /// Whether a page with a button precedes the consent of snsapi_userinfo; default true. Without a tap on a button,
    /// WeChat may show a snapshot page, on which nobody can log in.
    #[serde(default = "default_ask_first")]
    pub ask_first: bool,
    /// Whether pages of this application get a signed JS-SDK configuration at `/_wechat/jssdk?url=`; default false. It
    /// requires this machine's address on the account's IP allow-list.
    #[serde(default)]
    pub jssdk: bool,
    /// Whether only followers of this Official Account may log in with it; default false. Each login asks WeChat with the
    /// account's access token, which requires this machine's address on the account's IP allow-list.
    #[serde(default)]
    pub require_subscription: bool,
    /// The account's name on the page that asks users to follow it; default none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Title>,
    /// The https address of an image of the account's QR code, shown on the same page; default none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub follow_qr: Option<ImageUrl>,
}

fn default_scope() -> Scope {
    Scope::Base
}

fn default_ask_first() -> bool {
    true
}

/// A website application.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Website {
    /// Its AppID.
    pub appid: AppId,
    /// The file that holds its AppSecret.
    pub secret_file: SecretFile,
}

/// The times of a session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Session {
    /// How long one token lasts before it is renewed in the background: the longest a stolen copy works where only its
    /// signature is checked; default 15m.
    #[schemars(extend("x-least" = "1m", "x-most" = "1h"))]
    pub token_lifetime: Period,
    /// How long a session lasts at most, however it is used; default 7d.
    #[schemars(extend("x-least" = "1m", "x-most" = "90d"))]
    pub lifetime: Period,
    /// How long a session may stay unused; default 24h.
    #[schemars(extend("x-least" = "1m", "x-most" = "90d"))]
    pub idle: Period,
}

impl Default for Session {
    fn default() -> Self {
        Self {
            token_lifetime: Period::seconds(15 * 60),
            lifetime: Period::seconds(7 * 24 * 3_600),
            idle: Period::seconds(24 * 3_600),
        }
    }
}
