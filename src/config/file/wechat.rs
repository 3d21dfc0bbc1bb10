//! The settings under `wechat`.

use crate::config::duration::Period;
use crate::config::text::{FilePath, SecretFile};
use crate::origin::Origin;
use crate::wechat::settings::ProxyUrl;
use crate::wechat::{Settings, breaker};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;

/// The calls to WeChat.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Wechat {
    /// Where browsers log in; default `https://open.weixin.qq.com`. http is for a simulator on this machine.
    pub open: Origin,
    /// Where codes are exchanged; default `https://api.weixin.qq.com`. http is for a simulator on this machine.
    pub api: Origin,
    /// The proxy for calls to WeChat, as `http://HOST:PORT` or `https://HOST:PORT`; default none. Proxy variables of the
    /// environment are ignored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy: Option<ProxyUrl>,
    /// The file that holds the proxy's `USER:PASSWORD`; default none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy_credentials_file: Option<SecretFile>,
    /// The file of the certificates to trust in calls to WeChat and to an https proxy, as PEM; default those of the
    /// system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<FilePath>,
    /// The time limit of connecting; default 2s.
    #[schemars(extend("x-least" = "100ms", "x-most" = "30s"))]
    pub connect_timeout: Period,
    /// The time limit of exchanging a code, for which the user waits; default 5s.
    #[schemars(extend("x-least" = "100ms", "x-most" = "30s"))]
    pub exchange_timeout: Period,
    /// The time limit of fetching nickname and avatar, without which a login also succeeds; default 2s.
    #[schemars(extend("x-least" = "100ms", "x-most" = "30s"))]
    pub userinfo_timeout: Period,
    /// How old nickname and avatar may be before they are fetched again in the background, if the login fetched them;
    /// default 24h.
    #[schemars(extend("x-least" = "1m", "x-most" = "30d"))]
    pub profile_max_age: Period,
    /// When calls to WeChat stop because they fail.
    pub breaker: Breaker,
}

impl Default for Wechat {
    fn default() -> Self {
        let settings = Settings::default();
        Self {
            open: origin(&settings.open),
            api: origin(&settings.api),
            proxy: None,
            proxy_credentials_file: None,
            ca_file: None,
            connect_timeout: settings.connect_timeout.into(),
            exchange_timeout: settings.exchange_timeout.into(),
            userinfo_timeout: settings.userinfo_timeout.into(),
            profile_max_age: Period::seconds(24 * 3_600),
            breaker: Breaker::default(),
        }
    }
}

#[allow(clippy::expect_used)] // WeChat's own hosts; every test of a configuration reads them
fn origin(url: &Url) -> Origin {
    url.as_str().parse().expect("a constant origin")
}

/// The circuit breaker, one for each AppID and endpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Breaker {
    /// After how many failures in a row it opens; default 5.
    #[schemars(range(min = 1, max = 1_000))]
    pub failures: u32,
    /// How long it stays open before one call tests WeChat again; default 10s.
    #[schemars(extend("x-least" = "1s", "x-most" = "10m"))]
    pub open: Period,
}

impl Default for Breaker {
    fn default() -> Self {
        let breaker::Settings { failures, open } = breaker::Settings::default();
        Self { failures, open: open.into() }
    }
}
