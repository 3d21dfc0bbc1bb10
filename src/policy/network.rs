//! The networks that clients are in.

use ipnet::IpNet;
use std::net::IpAddr;

/// Why a text is no network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// Neither `ADDRESS/LENGTH` nor an address.
    #[error("is not a network or an address")]
    NotANetwork,
    /// An address inside the network instead of its first.
    #[error("has bits beyond its prefix: write {0}")]
    HostBits(IpNet),
}

/// Reads a network, such as `10.0.0.0/8`, or one address.
pub fn network(text: &str) -> Result<IpNet, NetworkError> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(address.to_canonical().into());
    }
    let network: IpNet = text.parse().map_err(|_| NetworkError::NotANetwork)?;
    if network != network.trunc() {
        return Err(NetworkError::HostBits(network.trunc()));
    }
    Ok(network)
}
