//! The settings of Redis.

use crate::secret::Secret;
use std::time::Duration;

/// How Redis is deployed.
#[derive(Clone, Debug)]
pub enum Form {
    /// One server.
    One {
        /// Its address.
        address: Address,
        /// The number of the database.
        database: i64,
    },
    /// A master and its Sentinels.
    Sentinel {
        /// The name of the master.
        master: String,
        /// The Sentinels.
        addresses: Vec<Address>,
        /// The number of the database.
        database: i64,
        /// The ACL user of the Sentinels; none for the default user.
        user: Option<String>,
        /// The password of the Sentinels, if they have one.
        password: Option<Secret>,
    },
    /// A Redis Cluster.
    Cluster {
        /// Some of its nodes, which know the others.
        addresses: Vec<Address>,
    },
}

impl std::fmt::Display for Form {
    /// The addresses of the configuration, for the log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let addresses = match self {
            Self::One { address, .. } => std::slice::from_ref(address),
            Self::Sentinel { addresses, .. } | Self::Cluster { addresses } => addresses,
        };
        let text: Vec<_> = addresses.iter().map(Address::to_string).collect();
        f.write_str(&text.join(", "))
    }
}

/// The address of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// A name or an IP address.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

/// One server, as `redis://HOST:PORT/DATABASE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// Whether the scheme is `rediss`.
    pub tls: bool,
    /// The server.
    pub address: Address,
    /// The number of the database.
    pub database: i64,
}

impl std::fmt::Display for Url {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}://{}/{}", if self.tls { "rediss" } else { "redis" }, self.address, self.database)
    }
}

/// A certificate and its private key, both as PEM.
#[derive(Clone, Debug)]
pub struct ClientCertificate {
    /// The certificate and its intermediate certificates.
    pub chain: Vec<u8>,
    /// The key.
    pub key: Secret,
}

/// The settings of Redis.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The deployment.
    pub form: Form,
    /// The ACL user; none for the default user.
    pub user: Option<String>,
    /// The password.
    pub password: Option<Secret>,
    /// Whether to use TLS.
    pub tls: bool,
    /// The trusted root certificates, as PEM; none for those of the system.
    pub roots: Option<Vec<u8>>,
    /// The client certificate.
    pub client: Option<ClientCertificate>,
    /// The prefix of all keys.
    pub prefix: String,
    /// The timeout of a call.
    pub timeout: Duration,
}

/// Why a text is not an address of Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Not `redis://` or `rediss://`.
    #[error("does not start with redis:// or rediss://")]
    Scheme,
    /// A user or a password.
    #[error("holds a user or a password, which belong in user and password_file")]
    Login,
    /// No host, or an invalid one.
    #[error("has no host")]
    Host,
    /// No port from 1 to 65535.
    #[error("has no port from 1 to 65535")]
    Port,
    /// More after the port than the number of a database.
    #[error("has more after the port than the number of a database")]
    Rest,
}

impl std::str::FromStr for Address {
    type Err = AddressError;

    /// Reads `host:port`; an IPv6 address stands in brackets.
    fn from_str(text: &str) -> Result<Self, AddressError> {
        if text.contains('@') {
            return Err(AddressError::Login);
        }
        let (host, port) = text.rsplit_once(':').ok_or(AddressError::Port)?;
        let digits = port.bytes().all(|byte| byte.is_ascii_digit());
        let port = port.parse().ok().filter(|port| digits && *port > 0).ok_or(AddressError::Port)?;
        let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let fits = match bare {
            Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
            None => !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b)),
        };
        if fits { Ok(Self { host: bare.unwrap_or(host).to_owned(), port }) } else { Err(AddressError::Host) }
    }
}

impl std::str::FromStr for Url {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (scheme, rest) = text.split_once("://").ok_or(AddressError::Scheme)?;
        let tls = match scheme {
            "redis" => false,
            "rediss" => true,
            _ => return Err(AddressError::Scheme),
        };
        let (address, database) = rest.split_once('/').unwrap_or((rest, ""));
        let address = address.parse()?;
        let database = match database {
            "" => 0,
            digits if digits.len() < 4 && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                digits.parse().map_err(|_| AddressError::Rest)?
            }
            _ => return Err(AddressError::Rest),
        };
        Ok(Self { tls, address, database })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_names_every_configured_address() {
        let address = |host: &str| Address { host: host.to_owned(), port: 6379 };
        assert_eq!(Form::One { address: address("a"), database: 0 }.to_string(), "a:6379");
        assert_eq!(Form::Cluster { addresses: vec![address("a"), address("b")] }.to_string(), "a:6379, b:6379");
    }

    #[test]
    fn an_address_is_a_host_and_a_port_and_never_a_password() {
        let url: Url = "rediss://redis.example.com:6380/2".parse().unwrap();
        assert_eq!((url.tls, url.address.host.as_str(), url.address.port), (true, "redis.example.com", 6380));
        assert_eq!((url.database, url.to_string().as_str()), (2, "rediss://redis.example.com:6380/2"));
        let address: Address = "[::1]:6379".parse().unwrap();
        assert_eq!((address.host.as_str(), address.to_string().as_str()), ("::1", "[::1]:6379"));
        for (text, error) in [
            ("redis.example.com:6379", AddressError::Scheme),
            ("http://redis.example.com:6379", AddressError::Scheme),
            ("redis://:secret@redis.example.com:6379", AddressError::Login),
            ("redis://redis.example.com", AddressError::Port),
            ("redis://redis.example.com:0", AddressError::Port),
            ("redis://:6379", AddressError::Host),
            ("redis://a b:6379", AddressError::Host),
            ("redis://[::g]:6379", AddressError::Host),
            ("redis://a:6379/x", AddressError::Rest),
            ("redis://a:6379/0?x=1", AddressError::Rest),
        ] {
            assert_eq!(text.parse::<Url>().unwrap_err(), error, "{text}");
        }
    }
}
