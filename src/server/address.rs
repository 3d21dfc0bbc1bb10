//! The address of a listener.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

/// An address and port, or a Unix socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// `127.0.0.1:9100`.
    Tcp(SocketAddr),
    /// `unix:/run/wechat-authz/check.sock`.
    Unix(PathBuf),
}

/// An IP address and port, without Unix sockets: browsers and probes cannot use one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpAddress(pub SocketAddr);

/// The text is not an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// `127.0.0.1`.
    #[error("has no port")]
    NoPort,
    /// `127.0.0.1:http`, `127.0.0.1:65536`.
    #[error("has a port that is not a number from 0 to 65535")]
    InvalidPort,
    /// `:9100`.
    #[error("has no IP address (0.0.0.0 means all interfaces, 127.0.0.1 this machine)")]
    NoHost,
    /// `::1:9100`.
    #[error("has an IPv6 address without brackets, as in [::1]:9100")]
    NoBrackets,
    /// `localhost:9100`.
    #[error("has a name instead of an IP address")]
    NotAnIp,
    /// `unix:/run/x.sock` for a [`TcpAddress`].
    #[error("is a Unix socket, where browsers and probes need a port")]
    Socket,
    /// A relative socket path: it would depend on the working directory.
    #[error("has a socket path that is not absolute")]
    NotAbsolute,
    /// Longer than the operating system's limit for sockets.
    #[error("has a socket path of more than 100 bytes")]
    TooLong,
}

impl std::str::FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        match text.strip_prefix("unix:") {
            // The system's limit is 107; the temporary name is longer.
            Some(path) if path.len() > 100 => Err(AddressError::TooLong),
            Some(path) if !path.starts_with('/') || path.ends_with('/') => Err(AddressError::NotAbsolute),
            Some(path) => Ok(Self::Unix(path.into())),
            None => parse_tcp(text).map(Self::Tcp),
        }
    }
}

impl std::str::FromStr for TcpAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if text.starts_with("unix:") { Err(AddressError::Socket) } else { parse_tcp(text).map(Self) }
    }
}

fn parse_tcp(text: &str) -> Result<SocketAddr, AddressError> {
    text.parse().map_err(|_| match text.rsplit_once(':') {
        None => AddressError::NoPort,
        Some((_, port)) if port.parse::<u16>().is_err() => AddressError::InvalidPort,
        Some(("", _)) => AddressError::NoHost,
        Some((host, _)) if host.contains(':') => AddressError::NoBrackets,
        Some(_) => AddressError::NotAnIp,
    })
}

impl From<TcpAddress> for Address {
    fn from(address: TcpAddress) -> Self {
        Self::Tcp(address.0)
    }
}

impl fmt::Display for TcpAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}
