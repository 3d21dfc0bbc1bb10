//! Where Redis is and how long it is waited for.

use crate::secret::Secret;
use std::time::Duration;

/// The ways in which Redis is run.
#[derive(Clone, Debug)]
pub enum Form {
    /// One server.
    One {
        /// Where.
        address: Address,
        /// The number of the database.
        database: i64,
    },
    /// A master that Sentinels name.
    Sentinel {
        /// The master's name among the Sentinels.
        master: String,
        /// The Sentinels.
        addresses: Vec<Address>,
        /// The number of the database.
        database: i64,
        /// The Sentinels' own password, where they have one.
        password: Option<Secret>,
    },
    /// A Redis Cluster.
    Cluster {
        /// Some of its nodes; the rest is learned from them.
        addresses: Vec<Address>,
    },
}

/// A server's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// A name or a number.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// The Redis of this instance.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where it is.
    pub form: Form,
    /// The ACL user; none for the default one.
    pub user: Option<String>,
    /// The password.
    pub password: Option<Secret>,
    /// Whether to speak TLS.
    pub tls: bool,
    /// Roots to trust instead of the system's, as PEM.
    pub roots: Option<Vec<u8>>,
    /// What every key begins with.
    pub prefix: String,
    /// The longest one call may take.
    pub timeout: Duration,
}
