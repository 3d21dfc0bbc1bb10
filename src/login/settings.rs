//! One application as the login knows it.

use crate::app_name::AppName;
use crate::login_method::LoginMethod;
use crate::origin::Origin;
use crate::session;
use crate::wechat::{Credentials, Scope};

/// An application people log in to.
#[derive(Clone, Debug)]
pub struct App {
    /// Its name: the tokens' audience, the metrics' label.
    pub name: AppName,
    /// What the pages call it.
    pub title: String,
    /// Where it lives.
    pub origin: Origin,
    /// Its sessions.
    pub session: session::Settings,
    /// What makes two logins the same person.
    pub subject: SubjectRule,
    /// Its Official Account, for browsers inside WeChat.
    pub official_account: Option<OfficialAccount>,
    /// Its website application, for all other browsers.
    pub website: Option<Credentials>,
    /// Other origins a login may return to.
    pub return_to: Vec<Origin>,
    /// Whether its paths may hold encoded slashes.
    pub allow_encoded_slashes: bool,
}

/// An Official Account and how it asks.
#[derive(Clone, Debug)]
pub struct OfficialAccount {
    /// AppID and AppSecret.
    pub application: Credentials,
    /// Silent, or with consent and profile.
    pub scope: Scope,
    /// Whether a page with a button comes before the consent: without a person's gesture WeChat may open a snapshot
    /// page instead (docs/en/wechat.md, Snapshot pages).
    pub ask_first: bool,
    /// Whether pages get JS-SDK configurations.
    pub jssdk: bool,
    /// Whether only who follows it may log in with it.
    pub require_subscription: bool,
    /// What people know it by.
    pub name: Option<String>,
    /// The https address of the image of its QR code.
    pub follow_qr: Option<String>,
}

/// What makes two logins the same person. There is no fall-back from one to the other: it would split accounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubjectRule {
    /// The openid under the AppID of the login.
    Openid,
    /// The unionid; a login without one fails.
    Unionid,
}

impl App {
    /// The application registered at WeChat for `flow`.
    pub fn application(&self, flow: LoginMethod) -> Option<&Credentials> {
        match flow {
            LoginMethod::OfficialAccount => self.official_account.as_ref().map(|account| &account.application),
            LoginMethod::Website => self.website.as_ref(),
        }
    }

    /// Whether only who follows the Official Account may log in with it.
    pub fn requires_subscription(&self) -> bool {
        self.official_account.as_ref().is_some_and(|account| account.require_subscription)
    }

    /// The scope asked for in `flow`.
    pub fn scope(&self, flow: LoginMethod) -> Scope {
        match (flow, &self.official_account) {
            (LoginMethod::OfficialAccount, Some(account)) => account.scope,
            (LoginMethod::OfficialAccount, None) => Scope::Base,
            (LoginMethod::Website, _) => Scope::Login,
        }
    }
}
