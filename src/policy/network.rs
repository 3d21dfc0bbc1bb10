//! Networks of clients.

use ipnet::IpNet;
use std::fmt;
use std::net::IpAddr;

/// A network, such as `10.0.0.0/8`, or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network(pub IpNet);

/// The text is not a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// It is neither `ADDRESS/LENGTH` nor an address.
    #[error("is not a network or an address")]
    NotANetwork,
    /// It is an address inside the network instead of the first one.
    #[error("has bits beyond its prefix: write {0}")]
    HostBits(IpNet),
}

impl std::str::FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self(address.to_canonical().into()));
        }
        let network: IpNet = text.parse().map_err(|_| NetworkError::NotANetwork)?;
        if network != network.trunc() {
            return Err(NetworkError::HostBits(network.trunc()));
        }
        Ok(Self(network))
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
