//! The login settings of one application.

use crate::app_name::AppName;
use crate::login_method::LoginMethod;
use crate::origin::Origin;
use crate::session;
use crate::wechat::{Credentials, Scope};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An application.
#[derive(Clone, Debug)]
pub struct App {
    /// The name: audience of the tokens, label of the metrics.
    pub name: AppName,
    /// The name on the pages.
    pub title: String,
    /// The origin.
    pub origin: Origin,
    /// Session settings.
    pub session: session::Settings,
    /// How the subject is derived.
    pub subject: SubjectRule,
    /// The Official Account, for browsers inside WeChat.
    pub official_account: Option<OfficialAccount>,
    /// The website application, for all other browsers.
    pub website: Option<Credentials>,
    /// Other origins that return addresses may have.
    pub return_to: Vec<Origin>,
    /// Whether paths may contain encoded slashes.
    pub allow_encoded_slashes: bool,
}

/// The settings of an Official Account.
#[derive(Clone, Debug)]
pub struct OfficialAccount {
    /// AppID and AppSecret.
    pub application: Credentials,
    /// The scope: silent, or with consent and profile.
    pub scope: Scope,
    /// Whether a page with a button is shown first. Without a user gesture WeChat may open a snapshot page
    /// (docs/en/wechat.md, Snapshot pages).
    pub ask_first: bool,
    /// Whether `jssdk` signs configurations.
    pub jssdk: bool,
    /// Whether only followers may log in.
    pub require_subscription: bool,
    /// The name on the pages.
    pub name: Option<String>,
    /// The https URL of its QR code's image.
    pub follow_qr: Option<String>,
}

/// How the subject is derived. There is no fallback between the rules: it would give one user two subjects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SubjectRule {
    /// From the AppID and the openid.
    #[default]
    Openid,
    /// From the unionid. A login without one fails.
    Unionid,
}

impl App {
    /// The credentials for a login method.
    pub fn application(&self, method: LoginMethod) -> Option<&Credentials> {
        match method {
            LoginMethod::OfficialAccount => self.official_account.as_ref().map(|account| &account.application),
            LoginMethod::Website => self.website.as_ref(),
        }
    }

    /// Whether only followers of the Official Account may log in with it.
    pub fn requires_subscription(&self) -> bool {
        self.official_account.as_ref().is_some_and(|account| account.require_subscription)
    }

    /// The scope that a login method requests.
    pub fn scope(&self, method: LoginMethod) -> Scope {
        match (method, &self.official_account) {
            (LoginMethod::OfficialAccount, Some(account)) => account.scope,
            (LoginMethod::OfficialAccount, None) => Scope::Base,
            (LoginMethod::Website, _) => Scope::Login,
        }
    }
}
