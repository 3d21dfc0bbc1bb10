//! Every setting of the configuration file, with its type, documentation, default and range.
//!
//! This is the only definition. The JSON schema and the table of `docs/en/settings.md` are made from it. A setting has the
//! type of the module that uses it. If that module has a default of its own, the one here is taken from there.

mod app;
mod redis;
mod rule;
mod wechat;

pub(crate) use app::{App, OfficialAccount};
pub(crate) use redis::Redis;
pub(crate) use rule::{Access, Rule};
pub(crate) use wechat::Wechat;

use super::duration::Period;
use super::text::{FilePath, Prefix, SecretFile};
use crate::client_address::ClientAddress;
use crate::rate_limit::Rate;
use crate::server::{Address, TcpAddress};
use http::HeaderName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;

/// The configuration of wechat-authz.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// The listeners. They cannot change while the process runs.
    #[serde(default)]
    pub listen: Listen,
    /// The path of the login pages, on every application's host; default `/_wechat`.
    #[serde(default)]
    pub prefix: Prefix,
    /// The keys that sign session tokens.
    pub keys: Keys,
    /// The directory that keeps revocations over a restart; default none: they are kept in memory only.
    #[serde(default)]
    pub state_directory: Option<FilePath>,
    /// The Redis through which several instances act as one; default none. It cannot change while the process runs.
    #[serde(default)]
    pub redis: Option<Redis>,
    /// How often this file, the secrets and the keys are checked for changes; default 5s.
    #[serde(default = "default_reload_interval")]
    #[schemars(extend("x-least" = "1s", "x-most" = "1h"))]
    pub reload_interval: Period,
    /// What the gateway in front does.
    #[serde(default)]
    pub gateway: Gateway,
    /// The calls to WeChat.
    #[serde(default)]
    pub wechat: Wechat,
    /// The applications, each with a host of its own; at least one.
    #[schemars(length(min = 1))]
    pub apps: Vec<App>,
    /// What requests must show. The first rule that matches applies; without one, a session is required.
    #[serde(default)]
    pub policy: Vec<Rule>,
    /// The limits against abuse.
    #[serde(default)]
    pub limits: Limits,
    /// The admin listener: sessions and revocation; default none.
    #[serde(default)]
    pub admin: Option<Admin>,
    /// The log.
    #[serde(default)]
    pub log: Log,
    /// How the process ends after SIGTERM.
    #[serde(default)]
    pub drain: Drain,
}

fn default_reload_interval() -> Period {
    Period::seconds(5)
}

/// The listeners.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Listen {
    /// The check listener, which the gateway asks about each request: an address and port, or `unix:` and a path (made
    /// with mode 0600); default `127.0.0.1:9100`.
    pub check: Address,
    /// The pages listener, to which the gateway routes requests under the prefix; default `127.0.0.1:9101`.
    pub pages: TcpAddress,
    /// The ops listener: health, readiness and metrics, read-only; default `127.0.0.1:9102`.
    pub ops: TcpAddress,
}

impl Default for Listen {
    fn default() -> Self {
        Self { check: loopback(9100).into(), pages: loopback(9101), ops: loopback(9102) }
    }
}

fn loopback(port: u16) -> TcpAddress {
    TcpAddress(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
}

/// The signing keys.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Keys {
    /// The directory of PEM files that `wechat-authz keygen` writes.
    pub directory: FilePath,
    /// How long a new key is published before it signs, so that all verifiers have it by then; default 10m.
    #[serde(default = "default_sign_after")]
    #[schemars(extend("x-least" = "0s", "x-most" = "24h"))]
    pub sign_after: Period,
}

fn default_sign_after() -> Period {
    Period::seconds(10 * 60)
}

/// The gateway in front.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Gateway {
    /// The one source of the client address: `header:NAME`, a header that the gateway itself must set; `peer`, the
    /// connection's; or `x-forwarded-for:N`, the N-th from the right, at most 16. Default `header:x-auth-client-ip`.
    pub client_address: ClientAddress,
    /// Whether a `Set-Cookie` on our 200 reaches the browser; default true. With false, sessions are renewed by a
    /// redirect.
    pub delivers_set_cookie: bool,
    /// Whether the check listener also serves the pages, for a gateway that cannot route the prefix to `listen.pages`;
    /// default false. No page is then answered with 200, and the gateway must wait 15 seconds for a check, as a call to
    /// WeChat may take that long.
    pub pages_in_band: bool,
}

impl Default for Gateway {
    fn default() -> Self {
        Self {
            client_address: ClientAddress::Header(HeaderName::from_static("x-auth-client-ip")),
            delivers_set_cookie: true,
            pages_in_band: false,
        }
    }
}

/// The limits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Limits {
    /// Unfinished logins and forged callbacks of one client address; default 10 a minute and a burst of 50. A login that
    /// succeeds does not count, so that users who share an address do not use the limit up.
    pub logins_per_client: Rate,
    /// Login starts and forged callbacks of all clients, per second; default 1000.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub logins_per_second: NonZeroU32,
    /// Checks from one client address; default null, no limit.
    pub checks_per_client: Option<Rate>,
    /// New tokens from one client address, each of which costs one verification of a signature; default 600 a minute and
    /// a burst of 200. All addresses together may show 1000 a second for each core, or the limit of one address if that
    /// is more.
    pub new_tokens_per_client: Rate,
}

impl Default for Limits {
    fn default() -> Self {
        const ONE: NonZeroU32 = NonZeroU32::MIN;
        let rate = |per_minute: u32, burst: u32| Rate {
            per_minute: ONE.saturating_add(per_minute - 1),
            burst: ONE.saturating_add(burst - 1),
        };
        Self {
            logins_per_client: rate(10, 50),
            logins_per_second: ONE.saturating_add(999),
            checks_per_client: None,
            new_tokens_per_client: rate(600, 200),
        }
    }
}

/// The admin listener.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Admin {
    /// Its address; default `127.0.0.1:9103`. It cannot change while the process runs.
    #[serde(default = "default_admin_listen")]
    pub listen: Address,
    /// The file that holds the bearer token, at least 32 characters.
    pub token_file: SecretFile,
}

fn default_admin_listen() -> Address {
    loopback(9103).into()
}

/// The log.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Log {
    /// The lowest level that is written; default info.
    pub level: Level,
}

/// The level of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    /// Failures.
    Error,
    /// Failures to come, and rejections that should not occur.
    Warn,
    /// What an operator needs.
    #[default]
    Info,
    /// What a developer needs.
    Debug,
    /// Everything.
    Trace,
}

impl Level {
    /// The level as the log filter reads it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// The end after SIGTERM.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Drain {
    /// How long the process serves as before, but not ready, until the gateway notices; default 0s.
    #[schemars(extend("x-least" = "0s", "x-most" = "5m"))]
    pub delay: Period,
    /// How long requests in flight may take to finish; default 10s.
    #[schemars(extend("x-least" = "1s", "x-most" = "10m"))]
    pub deadline: Period,
}

impl Default for Drain {
    fn default() -> Self {
        Self { delay: Period::seconds(0), deadline: Period::seconds(10) }
    }
}
