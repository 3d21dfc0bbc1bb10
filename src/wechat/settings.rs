//! Where WeChat is and how long we wait for it.

use super::breaker;
use crate::origin::is_loopback;
use crate::secret::Secret;
use std::time::Duration;
use url::Url;

/// WeChat's hosts (docs/en/wechat.md, Hosts) and our bounds on calls to them (docs/en/wechat.md, Time limits).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where browsers are sent: `https://open.weixin.qq.com`.
    pub open: Url,
    /// Where we ask: `https://api.weixin.qq.com`, or its stand-in `api2`.
    pub api: Url,
    /// For TCP and TLS together.
    pub connect_timeout: Duration,
    /// For a whole exchange or refresh, retries included. WeChat's browser asks for the callback again after 5–7 s.
    pub exchange_timeout: Duration,
    /// For a whole profile call, retries included: the login goes on without it.
    pub userinfo_timeout: Duration,
    /// When to stop asking.
    pub breaker: breaker::Settings,
    /// Calls under way at once, at least one.
    pub max_calls: usize,
    /// The proxy that calls go through.
    pub proxy: Option<Proxy>,
    /// Roots to trust instead of the system's, as PEM.
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

/// Why a text is not a proxy's URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ProxyError {
    /// Another scheme, or no URL.
    #[error("is not a URL that starts with http:// or https://")]
    Scheme,
    /// A user or a password.
    #[error("holds a user or a password, which belong in proxy_credentials_file")]
    Credentials,
    /// A path, query or fragment.
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
    /// The longest a login can keep WeChat busy: the exchange, the profile, and a moment of our own.
    pub fn longest_login(&self, asks_subscription: bool) -> Duration {
        let subscription = if asks_subscription { self.subscription_patience() } else { Duration::ZERO };
        self.exchange_timeout + subscription + self.userinfo_timeout + Duration::from_secs(1)
    }

    /// How long a login waits to hear whether the person follows the account: for the account's own token, and the call.
    pub fn subscription_patience(&self) -> Duration {
        self.exchange_timeout
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            open: known("https://open.weixin.qq.com/"),
            api: known("https://api.weixin.qq.com/"),
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

#[allow(clippy::expect_used)] // the two constants above, held by a test
fn known(url: &str) -> Url {
    Url::parse(url).expect("a constant URL")
}

/// Why an address of WeChat's is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Secrets would travel in the clear.
    #[error("must use https; http is accepted for 127.0.0.1, [::1], localhost and *.localhost alone")]
    NotHttps,
    /// User, query or fragment.
    #[error("must be scheme, host, port and path only")]
    MoreThanBase,
}

/// Whether `address` may be a base of WeChat's: https, or this machine (a simulator), and nothing after the path.
pub(crate) fn check(address: &Url) -> Result<(), AddressError> {
    let here = address.host().is_some_and(|host| is_loopback(&host));
    match address.scheme() {
        "https" => {}
        "http" if here => {}
        _ => return Err(AddressError::NotHttps),
    }
    let bare = address.query().is_none() && address.fragment().is_none();
    if !bare || !address.username().is_empty() || address.password().is_some() {
        return Err(AddressError::MoreThanBase);
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
        assert_eq!((check(&settings.open), check(&settings.api)), (Ok(()), Ok(())));
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
    fn an_address_is_https_or_on_this_machine_and_bare() {
        for (address, verdict) in [
            ("https://api2.weixin.qq.com", Ok(())),
            ("https://proxy.example.com:8443/wechat/", Ok(())),
            ("http://127.0.0.1:9000", Ok(())),
            ("http://[::1]:9000", Ok(())),
            ("http://wechat.localhost:9000", Ok(())),
            ("http://api.weixin.qq.com", Err(AddressError::NotHttps)),
            ("http://10.0.0.1", Err(AddressError::NotHttps)),
            ("ftp://127.0.0.1", Err(AddressError::NotHttps)),
            ("https://me@api.weixin.qq.com", Err(AddressError::MoreThanBase)),
            ("https://api.weixin.qq.com/?a", Err(AddressError::MoreThanBase)),
            ("https://api.weixin.qq.com/#a", Err(AddressError::MoreThanBase)),
        ] {
            assert_eq!(check(&Url::parse(address).unwrap()), verdict, "{address}");
        }
    }
}
