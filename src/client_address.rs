//! The client address: one configured source, for checks and pages.

use http::{HeaderMap, HeaderName};
use std::net::IpAddr;

/// The source of the client address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientAddress {
    /// A header that only the gateway can set (docs/en/ext-authz.md, Client address).
    Header(HeaderName),
    /// The other end of the connection.
    Peer,
    /// The n-th entry of `X-Forwarded-For` from the right, counted from 1: the peer of the n-th trusted proxy.
    ForwardedFor(usize),
}

/// Why a text is not a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientAddressError {
    /// Another word.
    #[error("is neither header:NAME, peer nor x-forwarded-for:N")]
    UnknownSource,
    /// `header:` without the name of a header.
    #[error("has no valid header name after header:")]
    NotAHeader,
    /// A list, of which clients write the left part.
    #[error("names a header that clients can extend")]
    ClientHeader,
    /// `x-forwarded-for:0`.
    #[error("has a position that is not a number from 1 to 16")]
    Position,
}

/// The longest name of a header.
const MAX_NAME: usize = 64;

const fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}

impl std::str::FromStr for ClientAddress {
    type Err = ClientAddressError;

    fn from_str(text: &str) -> Result<Self, ClientAddressError> {
        if text == "peer" {
            return Ok(Self::Peer);
        }
        match text.split_once(':') {
            // HTTP allows more characters in a name; no gateway sets such a header, and the schema allows none.
            Some(("header", name)) if name.len() <= MAX_NAME && name.bytes().all(is_name_byte) => match name.parse() {
                Ok(name) if name == "x-forwarded-for" => Err(ClientAddressError::ClientHeader),
                Ok(name) => Ok(Self::Header(name)),
                Err(_) => Err(ClientAddressError::NotAHeader),
            },
            Some(("header", _)) => Err(ClientAddressError::NotAHeader),
            Some(("x-forwarded-for", position)) => match position.parse() {
                Ok(hops @ 1..=16) if !position.starts_with(['0', '+']) => Ok(Self::ForwardedFor(hops)),
                _ => Err(ClientAddressError::Position),
            },
            _ => Err(ClientAddressError::UnknownSource),
        }
    }
}

impl ClientAddress {
    /// The client's address; the peer's if the source names none.
    pub fn address(&self, headers: &HeaderMap, peer: IpAddr) -> IpAddr {
        self.named_address(headers, peer).unwrap_or(peer)
    }

    /// The client's address; `None` if the source is absent, occurs twice or is not an address.
    pub fn named_address(&self, headers: &HeaderMap, peer: IpAddr) -> Option<IpAddr> {
        match self {
            Self::Peer => Some(peer),
            Self::Header(name) => {
                let mut values = headers.get_all(name).iter();
                match (values.next(), values.next()) {
                    (Some(value), None) => value.to_str().ok().and_then(parse),
                    _ => None,
                }
            }
            Self::ForwardedFor(hops) => headers
                .get_all("x-forwarded-for")
                .iter()
                .rev()
                .flat_map(|line| line.to_str().unwrap_or_default().rsplit(','))
                .nth(hops - 1)
                .and_then(parse),
        }
    }
}

impl std::fmt::Display for ClientAddress {
    /// The configured text.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Peer => f.write_str("peer"),
            Self::ForwardedFor(hops) => write!(f, "x-forwarded-for:{hops}"),
        }
    }
}

fn parse(text: &str) -> Option<IpAddr> {
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        lines.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn only_the_configured_source_counts() {
        let spoofed = headers(&[
            ("x-forwarded-for", "1.1.1.1, 2.2.2.2"),
            ("x-real-ip", "7.7.7.7"),
            ("x-envoy-external-address", "9.9.9.9"),
            ("forwarded", "for=8.8.8.8"),
            ("x-auth-client-ip", "203.0.113.9"),
        ]);
        let peer: IpAddr = [10, 0, 0, 1].into();
        for (source, address) in [
            ("header:x-auth-client-ip", "203.0.113.9"),
            ("peer", "10.0.0.1"),
            ("x-forwarded-for:1", "2.2.2.2"),
            ("x-forwarded-for:2", "1.1.1.1"),
            ("x-forwarded-for:3", "10.0.0.1"),
        ] {
            assert_eq!(
                source.parse::<ClientAddress>().unwrap().address(&spoofed, peer).to_string(),
                address,
                "{source}"
            );
        }
    }

    #[test]
    fn an_unreadable_address_becomes_the_peer() {
        let peer: IpAddr = [10, 0, 0, 1].into();
        let source: ClientAddress = "header:x-auth-client-ip".parse().unwrap();
        for lines in [
            &[][..],
            &[("x-auth-client-ip", "unknown")],
            &[("x-auth-client-ip", "")],
            &[("x-auth-client-ip", "1.2.3.4:80")],
            &[("x-auth-client-ip", "1.2.3.4"), ("x-auth-client-ip", "5.6.7.8")],
            &[("x-auth-client-ip", "1.2.3.4, 5.6.7.8")],
        ] {
            assert_eq!(source.address(&headers(lines), peer), peer, "{lines:?}");
        }
        let two_lines = headers(&[("x-forwarded-for", "1.1.1.1"), ("x-forwarded-for", "2.2.2.2, 3.3.3.3")]);
        assert_eq!(ClientAddress::ForwardedFor(3).address(&two_lines, peer).to_string(), "1.1.1.1");
    }

    #[test]
    fn a_source_that_clients_can_write_is_refused() {
        use ClientAddressError::{ClientHeader, NotAHeader, Position, UnknownSource};
        for (text, error) in [
            ("", UnknownSource),
            ("header", UnknownSource),
            ("header:", NotAHeader),
            ("header:X-Forwarded-For", ClientHeader),
            ("header:a b", NotAHeader),
            ("x-forwarded-for:0", Position),
            ("x-forwarded-for:17", Position),
            ("x-forwarded-for:-1", Position),
            ("x-forwarded-for:+1", Position),
            ("x-forwarded-for", UnknownSource),
            ("auto", UnknownSource),
            ("cookie:a", UnknownSource),
        ] {
            assert_eq!(text.parse::<ClientAddress>(), Err(error), "{text}");
        }
    }
}
