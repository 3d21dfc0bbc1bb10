//! Settings of the calls to WeChat.

use super::breaker;
use crate::origin::is_loopback;
use crate::secret::Secret;
use std::time::Duration;
use url::Url;

/// WeChat's hosts (docs/en/wechat.md, Hosts) and the limits of calls (docs/en/wechat.md, Time limits).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The base URL for browsers: `https://open.weixin.qq.com`.
    pub open: Url,
    /// The base URL of the API: `https://api.weixin.qq.com`, or its fallback `api2`.
    pub api: Url,
    /// For TCP and TLS.
    pub connect_timeout: Duration,
    /// For an exchange or refresh, retries included. WeChat's browser repeats the callback after 5–7 s.
    pub exchange_timeout: Duration,
    /// For a profile call, retries included. The login continues without a profile.
    pub userinfo_timeout: Duration,
    /// The circuit breaker.
    pub breaker: breaker::Settings,
    /// Concurrent calls; at least one.
    pub max_calls: usize,
    /// The outgoing proxy.
    pub proxy: Option<Proxy>,
    /// Trusted roots as PEM, instead of the system's.
    pub roots: Option<Vec<u8>>,
}

/// An outgoing proxy.
#[derive(Clone, Debug)]
pub struct Proxy {
    /// Scheme, host and port.
    pub url: Url,
    /// `USER:PASSWORD`.
    pub credentials: Option<Secret>,
}

impl PartialEq for Proxy {
    fn eq(&self, other: &Self) -> bool {
        let credentials = match (&self.credentials, &other.credentials) {
            (Some(ours), Some(theirs)) => ours.matches(theirs.expose()),
            (None, None) => true,
            _ => false,
        };
        self.url == other.url && credentials
    }
}

impl Eq for Proxy {}

/// Why a text is not the URL of a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ProxyError {
    /// Not a URL, or another scheme.
    #[error("is not a URL that starts with http:// or https://")]
    Scheme,
    /// Contains a user or a password.
    #[error("holds a user or a password, which belong in proxy_credentials_file")]
    Credentials,
    /// Contains a path, query or fragment.
    #[error("holds more than scheme, host and port")]
    Rest,
}

/// A proxy's URL without credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProxyUrl(pub Url);

impl std::str::FromStr for ProxyUrl {
    type Err = ProxyError;

    fn from_str(text: &str) -> Result<Self, ProxyError> {
        let url = Url::parse(text).map_err(|_| ProxyError::Scheme)?;
        if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
            return Err(ProxyError::Scheme);
        }
        if text.contains('@') {
            return Err(ProxyError::Credentials);
        }
        if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
            return Err(ProxyError::Rest);
        }
        Ok(Self(url))
    }
}

impl std::fmt::Display for ProxyUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl Settings {
    /// The longest duration of a login: the exchange, the subscription, the profile, and a second of our own.
    pub fn longest_login(&self, asks_subscription: bool) -> Duration {
        let subscription = if asks_subscription { self.subscription_timeout() } else { Duration::ZERO };
        self.exchange_timeout + subscription + self.userinfo_timeout + Duration::from_secs(1)
    }

    /// How long a login waits for the account's access token and the subscription.
    pub fn subscription_timeout(&self) -> Duration {
        self.exchange_timeout
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            open: constant("https://open.weixin.qq.com/"),
            api: constant("https://api.weixin.qq.com/"),
            connect_timeout: Duration::from_secs(2),
            exchange_timeout: Duration::from_secs(5),
            userinfo_timeout: Duration::from_secs(2),
            breaker: breaker::Settings::default(),
            max_calls: 100,
            proxy: None,
            roots: None,
        }
    }
}

#[allow(clippy::expect_used)] // the two constants above, which a test reads
fn constant(url: &str) -> Url {
    Url::parse(url).expect("a constant URL")
}

/// Why a base URL is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Secrets would be sent in plain text.
    #[error("must use https; http is accepted for 127.0.0.1, [::1], localhost and *.localhost alone")]
    NotHttps,
    /// Contains a user, query or fragment.
    #[error("must be scheme, host, port and path only")]
    NotBase,
}

/// Accepts https, and http to a loopback address (a simulator), with nothing after the path.
pub(crate) fn check_base_url(address: &Url) -> Result<(), AddressError> {
    let here = address.host().is_some_and(|host| is_loopback(&host));
    match address.scheme() {
        "https" => {}
        "http" if here => {}
        _ => return Err(AddressError::NotHttps),
    }
    let bare = address.query().is_none() && address.fragment().is_none();
    if !bare || !address.username().is_empty() || address.password().is_some() {
        return Err(AddressError::NotBase);
    }
    Ok(())
}

/// `path` below `base`, whether or not `base` ends with a slash.
pub(crate) fn join_path(base: &Url, path: &str) -> String {
    format!("{}{path}", base.as_str().trim_end_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_wechats_own_hosts() {
        let settings = Settings::default();
        assert_eq!(join_path(&settings.open, "/a"), "https://open.weixin.qq.com/a");
        assert_eq!(join_path(&settings.api, "/a"), "https://api.weixin.qq.com/a");
        assert_eq!((check_base_url(&settings.open), check_base_url(&settings.api)), (Ok(()), Ok(())));
    }

    #[test]
    fn a_proxy_is_a_url_without_credentials() {
        for (text, read) in [
            ("http://proxy.example.com:3128", Ok(())),
            ("https://proxy.example.com/", Ok(())),
            ("http://[::1]:3128", Ok(())),
            ("proxy.example.com:3128", Err(ProxyError::Scheme)),
            ("socks5://proxy.example.com:1080", Err(ProxyError::Scheme)),
            ("http://", Err(ProxyError::Scheme)),
            ("http://me:hunter2@proxy.example.com", Err(ProxyError::Credentials)),
            ("http://@proxy.example.com", Err(ProxyError::Credentials)),
            ("http://proxy.example.com/path", Err(ProxyError::Rest)),
            ("http://proxy.example.com/?a", Err(ProxyError::Rest)),
            ("http://proxy.example.com#a", Err(ProxyError::Rest)),
        ] {
            assert_eq!(text.parse::<ProxyUrl>().map(drop), read, "{text}");
        }
    }

    #[test]
    fn a_base_url_is_https_or_loopback() {
        for (address, verdict) in [
            ("https://api2.weixin.qq.com", Ok(())),
            ("https://proxy.example.com:8443/wechat/", Ok(())),
            ("http://127.0.0.1:9000", Ok(())),
            ("http://[::1]:9000", Ok(())),
            ("http://wechat.localhost:9000", Ok(())),
            ("http://api.weixin.qq.com", Err(AddressError::NotHttps)),
            ("http://10.0.0.1", Err(AddressError::NotHttps)),
            ("ftp://127.0.0.1", Err(AddressError::NotHttps)),
            ("https://me@api.weixin.qq.com", Err(AddressError::NotBase)),
            ("https://api.weixin.qq.com/?a", Err(AddressError::NotBase)),
            ("https://api.weixin.qq.com/#a", Err(AddressError::NotBase)),
        ] {
            assert_eq!(check_base_url(&Url::parse(address).unwrap()), verdict, "{address}");
        }
    }
}
