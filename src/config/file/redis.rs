//! The settings under `redis`.

use crate::config::duration::Period;
use crate::config::text::{FilePath, SecretFile, Word};
use crate::redis::settings::{Address, Url};
use crate::sessions::events::{self, SubjectForm};
use crate::sessions::revocation_sync;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The Redis of all instances. Exactly one of `url`, `sentinel` and `cluster` has its address.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Redis {
    /// One server, as `redis://HOST:PORT/DATABASE`; `rediss://` for TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<Url>,
    /// A master that Sentinels name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sentinel: Option<Sentinel>,
    /// Some nodes of a Redis Cluster, as `HOST:PORT`; they name the others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub cluster: Option<Vec<Address>>,
    /// Whether to use TLS; default false, and true with a `rediss://` URL.
    #[serde(default)]
    pub tls: bool,
    /// The ACL user; default the server's default user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<Word>,
    /// The file that holds the password; default none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_file: Option<SecretFile>,
    /// The file of the certificates to trust, as PEM; default those of the system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<FilePath>,
    /// The file of the client certificate, as PEM; default none. It requires TLS and `client_key_file`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_certificate_file: Option<FilePath>,
    /// The file that holds the private key of the client certificate, as PEM; default none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_key_file: Option<SecretFile>,
    /// The prefix of every key; default `wechat-authz`. Two installations on one Redis need different ones.
    #[serde(default = "default_prefix")]
    pub prefix: Word,
    /// The time limit of one call; default 300ms.
    #[serde(default = "default_timeout")]
    #[schemars(extend("x-least" = "10ms", "x-most" = "500ms"))]
    pub timeout: Period,
    /// How often the list of revocations is fetched, in addition to the messages about them: a missed message goes
    /// unnoticed at most this long; default 30s.
    #[serde(default = "default_reconcile")]
    #[schemars(extend("x-least" = "1s", "x-most" = "10m"))]
    pub reconcile: Period,
    /// How long tokens are renewed without Redis, as revocations may be missed then; default 24h. A short time fails
    /// closed: after it, every session ends with its token.
    #[serde(default = "default_stale_after")]
    #[schemars(extend("x-least" = "1s", "x-most" = "90d"))]
    pub revocations_stale_after: Period,
    /// Whether WeChat's tokens of users are kept in Redis, sealed, so that every instance can refresh a profile;
    /// default false: only the instance of the login can, until it ends.
    #[serde(default)]
    pub keep_wechat_tokens: bool,
    /// The stream of events for other systems: logins, logouts, revocations and changed profiles.
    #[serde(default)]
    pub events: Events,
}

/// The stream of events.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Events {
    /// About how many events the stream keeps; the oldest are removed first, read or not. Default 200000, about 42 MB in
    /// Redis.
    #[schemars(range(min = 100, max = 10_000_000))]
    pub max: u64,
    /// How events name the subject: `plain`, as the application sees it, or `digest`, as keys in Redis do; default plain.
    pub subject: SubjectForm,
}

impl Default for Events {
    fn default() -> Self {
        let events::Settings { max, subject } = events::Settings::default();
        Self { max, subject }
    }
}

/// A master that Sentinels name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sentinel {
    /// The master's name among the Sentinels.
    pub master: Word,
    /// The Sentinels, as `HOST:PORT`.
    #[schemars(length(min = 1))]
    pub addresses: Vec<Address>,
    /// The number of the database; default 0.
    #[serde(default)]
    #[schemars(range(min = 0, max = 999))]
    pub database: i64,
    /// The Sentinels' ACL user; default their default user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<Word>,
    /// The file that holds the Sentinels' own password; default none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_file: Option<SecretFile>,
}

fn default_prefix() -> Word {
    Word::product_name()
}

fn default_timeout() -> Period {
    Period::milliseconds(300)
}

fn default_reconcile() -> Period {
    revocation_sync::Settings::default().reconcile.into()
}

fn default_stale_after() -> Period {
    revocation_sync::Settings::default().stale_after.into()
}
