//! An app registered at WeChat, and the options for WeChat's treatment of it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The kind of app; each kind has its own login page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AppKind {
    /// 服务号: web authorization inside WeChat.
    OfficialAccount,
    /// 网站应用: QR login in any browser.
    Website,
}

/// The answer to an authorize link whose parameters are not in WeChat's documented order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// An error page for all users.
    #[default]
    Strict,
    /// A blank page in desktop WeChat only, as users reported.
    Desktop,
    Lenient,
}

/// What the app receives when a user refuses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Denial {
    /// Nothing: the page closes. The current behaviour.
    #[default]
    Nothing,
    /// A callback with `state` and no `code`, as older documents describe.
    StateOnly,
}

/// An app. [`App::official_account`] and [`App::website`] create one; every field may be changed afterwards.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct App {
    pub appid: String,
    pub secret: String,
    pub kind: AppKind,
    /// Allowed hosts of a callback, compared exactly, without scheme or port.
    pub domains: Vec<String>,
    /// Scopes granted to the app; empty means the usual ones of its kind.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// WeChat allows ports 80 and 443 and no IP address; `true` also allows `http://127.0.0.1:8080`, for local work.
    #[serde(default)]
    pub any_port: bool,
    /// The Open Platform account of the app: apps with the same account get the same unionid. `None`: no unionid.
    #[serde(default)]
    pub open_platform: Option<String>,
    #[serde(default)]
    pub order: Order,
    /// Reject a `state` outside `[a-zA-Z0-9]`, as documented but not enforced in practice.
    #[serde(default = "yes")]
    pub strict_state: bool,
    /// Answer the first visit with a redirect to the same link and `connect_redirect=1`, as WeChat does.
    #[serde(default = "yes")]
    pub first_hop: bool,
    #[serde(default)]
    pub denial: Denial,
    /// Skip the consent page and apply the user's usual choice at once, for fast tests.
    #[serde(default)]
    pub instant_consent: bool,
    /// Skip the consent page for 30 days after a consent.
    #[serde(default = "yes")]
    pub remember_consent: bool,
    /// A sandbox account: only followers may log in, and an IP address may be a domain.
    #[serde(default)]
    pub test_account: bool,
    #[serde(default)]
    pub banned: bool,
    /// The AppSecret is frozen in the console: 40243.
    #[serde(default)]
    pub secret_frozen: bool,
    /// Five minutes; for websites some documents say ten.
    #[serde(default = "five_minutes", rename = "code_life_s", with = "crate::seconds")]
    pub code_life: Duration,
    /// 40029 in practice, 42003 in the list.
    #[serde(default = "invalid_code")]
    pub errcode_for_expired_code: i64,
    /// 40125 mostly, 40001 sometimes.
    #[serde(default = "invalid_appsecret")]
    pub errcode_for_wrong_secret: i64,
    /// Exchanges per minute before 45011; WeChat's own number is 50 000.
    #[serde(default)]
    pub exchanges_per_minute: Option<u32>,
    /// Whether the IP allow-list contains the caller's address; if not, the app gets no central token: 40164.
    #[serde(default = "yes")]
    pub caller_allowed: bool,
    /// Calls for a central token per day before 45009; WeChat's own number is 500 000.
    #[serde(default)]
    pub central_calls_per_day: Option<u32>,
}

impl App {
    #[must_use]
    pub fn official_account(appid: &str, secret: &str, domain: &str) -> Self {
        Self::new(AppKind::OfficialAccount, appid, secret, domain)
    }

    #[must_use]
    pub fn website(appid: &str, secret: &str, domain: &str) -> Self {
        Self::new(AppKind::Website, appid, secret, domain)
    }

    fn new(kind: AppKind, appid: &str, secret: &str, domain: &str) -> Self {
        Self {
            appid: appid.into(),
            secret: secret.into(),
            kind,
            domains: vec![domain.into()],
            scopes: Vec::new(),
            any_port: false,
            open_platform: None,
            order: Order::Strict,
            strict_state: true,
            first_hop: true,
            denial: Denial::Nothing,
            instant_consent: false,
            remember_consent: true,
            test_account: false,
            banned: false,
            secret_frozen: false,
            code_life: five_minutes(),
            errcode_for_expired_code: invalid_code(),
            errcode_for_wrong_secret: invalid_appsecret(),
            exchanges_per_minute: None,
            caller_allowed: true,
            central_calls_per_day: None,
        }
    }

    /// Allows callbacks to any port of the domain and to IP addresses.
    #[must_use]
    pub fn with_any_port(mut self) -> Self {
        self.any_port = true;
        self
    }

    /// Binds the app to the Open Platform account `name`, so that users have a unionid.
    #[must_use]
    pub fn in_open_platform(mut self, name: &str) -> Self {
        self.open_platform = Some(name.into());
        self
    }

    /// Whether the app has this scope.
    #[must_use]
    pub fn may_ask_for(&self, scope: &str) -> bool {
        if !self.scopes.is_empty() {
            return self.scopes.iter().any(|granted| granted == scope);
        }
        match self.kind {
            AppKind::OfficialAccount => matches!(scope, "snsapi_base" | "snsapi_userinfo"),
            AppKind::Website => scope == "snsapi_login",
        }
    }
}

fn yes() -> bool {
    true
}

fn five_minutes() -> Duration {
    Duration::from_secs(300)
}

fn invalid_code() -> i64 {
    40029
}

fn invalid_appsecret() -> i64 {
    40125
}
