//! Web origins: scheme, host and port of an application.
//!
//! Every absolute URL in a response starts with a configured origin, never with the `Host` header of a request.

use std::fmt;
use url::{Host, Url};

/// Scheme, host and port of an application, canonical: lower case, no default port, no trailing dot.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Origin {
    text: String,
    scheme_len: usize,
}

/// The maximum length of a return address.
pub const MAX_RETURN_BYTES: usize = 8_192;

/// The query parameter of a page that replaces a return address that is too long.
pub const LOST: &str = "lost=1";

/// Why a text is not a valid origin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OriginError {
    /// Not a URL.
    #[error("is not an absolute URL such as https://app.example.com")]
    NotAUrl,
    /// Neither https, nor http on this machine.
    #[error("must use https; http is accepted for 127.0.0.1, [::1], localhost and *.localhost alone")]
    NotHttps,
    /// A host that no client sends: with a wildcard, an empty label, a trailing dot or port 0.
    #[error("must name one host, without a wildcard, an empty label or a dot at the end")]
    NotAHost,
    /// More than scheme, host and port.
    #[error("must be scheme, host and port only: no path, query, fragment or user")]
    MoreThanOrigin,
}

impl Origin {
    /// Parses `https://host[:port]`. A single trailing slash is accepted.
    pub fn parse(text: &str) -> Result<Self, OriginError> {
        let url = Url::parse(text).map_err(|_| OriginError::NotAUrl)?;
        let host = url.host().ok_or(OriginError::NotAUrl)?;
        match url.scheme() {
            "https" => {}
            "http" if is_loopback(&host) => {}
            "http" => return Err(OriginError::NotHttps),
            _ => return Err(OriginError::NotAUrl),
        }
        let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
        if !bare || !url.username().is_empty() || url.password().is_some() || text.contains('\\') {
            return Err(OriginError::MoreThanOrigin);
        }
        if matches!(host, Host::Domain(name) if !is_host_name(name)) || url.port() == Some(0) {
            return Err(OriginError::NotAHost);
        }
        let scheme_len = url.scheme().len();
        Ok(Self { text: url.origin().ascii_serialization(), scheme_len })
    }

    /// `https://app.example.com`, without a trailing slash.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The `Host` header of requests to this origin, in the form that [`authority`] returns.
    pub fn authority(&self) -> &str {
        self.text.get(self.scheme_len + 3..).unwrap_or_default()
    }

    /// The origin as a URL.
    #[allow(clippy::expect_used)] // `parse` makes it from a URL
    pub(crate) fn to_url(&self) -> Url {
        Url::parse(&self.text).expect("an origin is a URL")
    }

    /// The absolute URL of a page, with the return address as its last parameter. [`LOST`] replaces a return address that is
    /// too long. `path` may have a query.
    pub fn page(&self, path: &str, return_to: Option<&str>) -> String {
        let mut url = self.absolute(path);
        let Some(target) = return_to else { return url };
        url.push(if path.contains('?') { '&' } else { '?' });
        if target.len() > MAX_RETURN_BYTES {
            url.push_str(LOST);
        } else {
            url.push_str("return_to=");
            url.extend(url::form_urlencoded::byte_serialize(target.as_bytes()));
        }
        url
    }

    /// The absolute URL of `path`, which starts with one slash.
    pub fn absolute(&self, path: &str) -> String {
        debug_assert!(path.starts_with('/'));
        format!("{}{path}", self.text)
    }
}

impl std::str::FromStr for Origin {
    type Err = OriginError;

    fn from_str(text: &str) -> Result<Self, OriginError> {
        Self::parse(text)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Whether clients and certificates accept each label.
fn is_host_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(allowed)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(is_label)
}

/// Whether the host is this machine, where browsers treat plain http as secure.
pub fn is_loopback<S: AsRef<str>>(host: &Host<S>) -> bool {
    match host {
        Host::Domain(name) => {
            let name = name.as_ref();
            name == "localhost" || name.ends_with(".localhost")
        }
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.is_loopback(),
    }
}

/// Converts a client's `Host` (or `:authority`) to lower case, as the key of an application. A port that the origin
/// does not have, even 443 or 80, makes it another host, because a gateway may route it elsewhere.
pub fn authority(host: &str) -> std::borrow::Cow<'_, str> {
    if host.bytes().any(|byte| byte.is_ascii_uppercase()) { host.to_ascii_lowercase().into() } else { host.into() }
}

/// Shortens a client's `Host` for a log line. A host name has at most 253 bytes.
pub fn bounded(host: &str) -> &str {
    host.get(..host.len().min(260)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_logged_host_is_bounded() {
        let (long, wide) = ("a".repeat(300), "商".repeat(100));
        for (host, bytes) in [("shop.example.com", 16), (&long, 260), ("", 0), (&wide, 0)] {
            assert_eq!(bounded(host).len(), bytes);
        }
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        for (written, means, host) in [
            ("https://Shop.Example.com", "https://shop.example.com", "shop.example.com"),
            ("https://shop.example.com:443/", "https://shop.example.com", "shop.example.com"),
            ("https://shop.example.com:8443", "https://shop.example.com:8443", "shop.example.com:8443"),
            ("https://shop.example.com:80", "https://shop.example.com:80", "shop.example.com:80"),
            ("http://127.0.0.1:80", "http://127.0.0.1", "127.0.0.1"),
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080", "127.0.0.1:8080"),
            ("http://a.localhost:8080", "http://a.localhost:8080", "a.localhost:8080"),
        ] {
            let origin = Origin::parse(written).unwrap();
            assert_eq!((origin.as_str(), origin.authority()), (means, host));
        }
    }

    #[test]
    fn a_page_knows_the_way_back_or_says_that_it_is_too_long() {
        let origin = Origin::parse("https://shop.example.com").unwrap();
        assert_eq!(
            origin.page("/_wechat/login", Some("/a?b=c")),
            "https://shop.example.com/_wechat/login?return_to=%2Fa%3Fb%3Dc"
        );
        assert_eq!(
            origin.page("/_wechat/login?go=1", Some("/")),
            "https://shop.example.com/_wechat/login?go=1&return_to=%2F"
        );
        assert_eq!(origin.page("/_wechat/login", None), "https://shop.example.com/_wechat/login");
        let long = "/".repeat(MAX_RETURN_BYTES + 1);
        assert_eq!(origin.page("/_wechat/login", Some(&long)), "https://shop.example.com/_wechat/login?lost=1");
        assert_eq!(
            origin.page("/_wechat/login?go=1", Some(&long)),
            "https://shop.example.com/_wechat/login?go=1&lost=1"
        );
    }

    #[test]
    fn anything_else_is_refused() {
        for (written, error) in [
            ("shop.example.com", OriginError::NotAUrl),
            ("ftp://shop.example.com", OriginError::NotAUrl),
            ("http://shop.example.com", OriginError::NotHttps),
            ("http://127.0.0.1.example.com", OriginError::NotHttps),
            ("https://shop.example.com/a", OriginError::MoreThanOrigin),
            ("https://me@shop.example.com", OriginError::MoreThanOrigin),
            ("https://shop.example.com?x", OriginError::MoreThanOrigin),
            ("https://shop.example.com.", OriginError::NotAHost),
            ("https://*.example.com", OriginError::NotAHost),
            ("https://shop.*", OriginError::NotAHost),
            ("https://a..example.com", OriginError::NotAHost),
            ("https://-a.example.com", OriginError::NotAHost),
            ("https://{tenant}.example.com", OriginError::NotAHost),
            ("https://shop.example.com:0", OriginError::NotAHost),
        ] {
            assert_eq!(Origin::parse(written).unwrap_err(), error, "{written}");
        }
    }

    #[test]
    fn a_host_header_is_compared_without_regard_to_case_only() {
        for (host, key) in
            [("Shop.Example.com", "shop.example.com"), ("a:443", "a:443"), ("A:80", "a:80"), ("a.", "a.")]
        {
            assert_eq!(authority(host), key);
        }
    }
}
