//! The settings of every module, made from a valid configuration.

mod resolve;

pub use resolve::resolve;

use super::file;
use crate::app_name::AppName;
use crate::client_address::ClientAddress;
use crate::login::settings::App;
use crate::policy::Policy;
use crate::routes::DomainProof;
use crate::secret::Secret;
use crate::server::Address;
use crate::session::keys::KeySettings;
use crate::{rate_limit, redis, sessions, wechat};
use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// The settings of the process.
#[derive(Debug)]
pub struct Settings {
    /// The listeners' addresses. They do not change while the process runs.
    pub listen: Listen,
    /// The path of the pages.
    pub prefix: String,
    /// The signing keys.
    pub keys: KeySettings,
    /// The directory of the revocations. It does not change while the process runs.
    pub state_directory: Option<PathBuf>,
    /// The shared Redis. It does not change while the process runs.
    pub redis: Option<Redis>,
    /// How often files are checked for changes.
    pub reload_interval: Duration,
    /// The source of the client address.
    pub client_address: ClientAddress,
    /// Whether a `Set-Cookie` on an allow reaches the browser.
    pub delivers_set_cookie: bool,
    /// Whether the check listener also serves the pages.
    pub pages_in_band: bool,
    /// WeChat's hosts and the limits of calls to them.
    pub wechat: wechat::Settings,
    /// How old a profile may be before it is fetched again.
    pub profile_max_age: Duration,
    /// The applications.
    pub apps: Vec<Arc<App>>,
    /// Domain proofs by authority.
    pub domain_proofs: HashMap<String, Vec<DomainProof>>,
    /// The rules.
    pub policy: Policy,
    /// The limits.
    pub limits: rate_limit::Settings,
    /// The bearer token of the admin listener.
    pub admin_token: Option<Secret>,
    /// The lowest level that is logged.
    pub log_level: &'static str,
    /// How the process ends.
    pub drain: Drain,
    /// A digest of the file, the secrets and the certificates.
    pub fingerprint: [u8; 32],
    /// What works but should be changed.
    pub warnings: Vec<String>,
}

impl Settings {
    /// The names of the applications.
    pub fn app_names(&self) -> BTreeSet<AppName> {
        self.apps.iter().map(|app| app.name.clone()).collect()
    }
}

/// The shared Redis.
#[derive(Clone, Debug)]
pub struct Redis {
    /// The connection.
    pub store: redis::Settings,
    /// The synchronisation of revocations.
    pub sharing: sessions::revocation_sync::Settings,
    /// The registry of sessions.
    pub registry: sessions::registry::Settings,
    /// The settings as written, to notice a change.
    written: file::Redis,
}

impl PartialEq for Redis {
    fn eq(&self, other: &Self) -> bool {
        self.written == other.written
    }
}

/// The listeners' addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// The check listener.
    pub check: Address,
    /// The pages listener.
    pub pages: Address,
    /// The ops listener.
    pub ops: Address,
    /// The admin listener, if configured.
    pub admin: Option<Address>,
}

/// The end after SIGTERM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drain {
    /// How long the process serves as before, but not ready.
    pub delay: Duration,
    /// How long requests in flight may take.
    pub deadline: Duration,
}
