//! Where a door listens.

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

/// Why a text is no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Not an IP address and port.
    #[error("is not an IP address and port")]
    NotAnAddress,
    /// A relative socket path: it would depend on where the process was started.
    #[error("is not an absolute path")]
    NotAbsolute,
    /// Longer than the operating system's limit for sockets.
    #[error("is longer than the 100 bytes a socket's path may have")]
    TooLong,
}

impl std::str::FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        match text.strip_prefix("unix:") {
            // The limit is 107; the temporary name beside it needs a little.
            Some(path) if path.len() > 100 => Err(AddressError::TooLong),
            Some(path) if !path.starts_with('/') || path.ends_with('/') => Err(AddressError::NotAbsolute),
            Some(path) => Ok(Self::Unix(path.into())),
            None => text.parse().map(Self::Tcp).map_err(|_| AddressError::NotAnAddress),
        }
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
