//! The shape of the configuration file: every setting there is, with its documentation, its default and its range.
//!
//! This is the only definition. The JSON schema is made from it, the file is checked against the schema, and the
//! defaults are those below. Values are texts and numbers here; what they mean is for the next step.

use super::duration::Period;
use super::text::{FilePath, ImageUrl, MethodName, Prefix, SecretFile, Title, Word};
use crate::app_name::AppName;
use crate::client_address::ClientAddress;
use crate::origin::Origin;
use crate::policy::{HostMatch, Network, PathPattern, PathPrefix};
use crate::redis::settings::{Address as RedisAddress, Url as RedisUrl};
use crate::routes::DomainProof;
use crate::server::{Address, TcpAddress};
use crate::wechat::AppId;
use crate::wechat::settings::ProxyUrl;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The configuration of wechat-authz.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where to listen. Cannot change while running.
    #[serde(default)]
    pub listen: Listen,
    /// The path under which the login pages live, on every application's host; default `/_wechat`.
    #[serde(default = "default_prefix")]
    #[schemars(with = "Prefix")]
    pub prefix: String,
    /// The keys that sign session tokens.
    pub keys: Keys,
    /// A directory in which revocations survive a restart. Without it they are held in memory only.
    #[serde(default)]
    #[schemars(with = "Option<FilePath>")]
    pub state_directory: Option<String>,
    /// Redis, by which many instances act as one. Absent: each stands alone. Cannot change while running.
    #[serde(default)]
    pub redis: Option<Redis>,
    /// How often this file, the secrets and the keys are looked at for changes; default 5s.
    #[serde(default = "default_reload_interval")]
    #[schemars(extend("x-least" = "1s", "x-most" = "1h"))]
    pub reload_interval: Period,
    /// What the gateway in front does.
    #[serde(default)]
    pub gateway: Gateway,
    /// How to reach WeChat.
    #[serde(default)]
    pub wechat: Wechat,
    /// The applications, told apart by their host; at least one.
    #[schemars(length(min = 1))]
    pub apps: Vec<App>,
    /// Who may see what: the first rule that matches decides, and without one a session is required.
    #[serde(default)]
    pub policy: Vec<Rule>,
    /// Budgets against abuse.
    #[serde(default)]
    pub limits: Limits,
    /// The revocation API. Absent: there is none.
    #[serde(default)]
    pub admin: Option<Admin>,
    /// What is logged.
    #[serde(default)]
    pub log: Log,
    /// How the process ends after SIGTERM.
    #[serde(default)]
    pub drain: Drain,
}

fn default_prefix() -> String {
    "/_wechat".to_owned()
}

fn default_reload_interval() -> Period {
    Period::seconds(5)
}

/// The doors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Listen {
    /// Where the gateway asks about each request: an address and port, or `unix:` and a path (made with mode 0600);
    /// default `127.0.0.1:9100`.
    #[schemars(with = "Address")]
    pub check: String,
    /// Where the gateway sends the browser's requests under the prefix; default `127.0.0.1:9101`.
    #[schemars(with = "TcpAddress")]
    pub pages: String,
    /// Health, readiness and metrics, read-only; default `127.0.0.1:9102`.
    #[schemars(with = "TcpAddress")]
    pub ops: String,
}

impl Default for Listen {
    fn default() -> Self {
        Self { check: "127.0.0.1:9100".into(), pages: "127.0.0.1:9101".into(), ops: "127.0.0.1:9102".into() }
    }
}

/// The signing keys.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Keys {
    /// The directory of PEM files that `wechat-authz keygen` writes.
    #[schemars(with = "FilePath")]
    pub directory: String,
    /// How long a new key is published before it signs, so that everybody knows it by then; default 10m.
    #[serde(default = "default_sign_after")]
    #[schemars(extend("x-least" = "0s", "x-most" = "24h"))]
    pub sign_after: Period,
}

fn default_sign_after() -> Period {
    Period::seconds(10 * 60)
}

/// What all instances share. Exactly one of `url`, `sentinel` and `cluster` says where it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Redis {
    /// One server, as `redis://HOST:PORT/DATABASE`; `rediss://` for TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<RedisUrl>")]
    pub url: Option<String>,
    /// A master that Sentinels name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sentinel: Option<Sentinel>,
    /// Some nodes of a Redis Cluster, as `HOST:PORT`; the others are learned from them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Vec<RedisAddress>>", length(min = 1))]
    pub cluster: Option<Vec<String>>,
    /// Whether to speak TLS; default false, and true with a `rediss://` URL.
    #[serde(default)]
    pub tls: bool,
    /// The ACL user; default the server's default user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Word>")]
    pub user: Option<String>,
    /// The file that holds the password; default none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<SecretFile>")]
    pub password_file: Option<String>,
    /// The certificates to trust, as PEM; default those of the system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<FilePath>")]
    pub ca_file: Option<String>,
    /// The client certificate to present, as PEM; default none. Requires TLS and `client_key_file`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<FilePath>")]
    pub client_certificate_file: Option<String>,
    /// The file that holds the private key of the client certificate, as PEM; default none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<SecretFile>")]
    pub client_key_file: Option<String>,
    /// What every key begins with; default `wechat-authz`. Two installations on one Redis need different ones.
    #[serde(default = "default_redis_prefix")]
    #[schemars(with = "Word")]
    pub prefix: String,
    /// The longest one call may take; default 300ms.
    #[serde(default = "default_redis_timeout")]
    #[schemars(extend("x-least" = "10ms", "x-most" = "500ms"))]
    pub timeout: Period,
    /// How often revocations are fetched besides being heard of: how long a missed message may go unnoticed; default
    /// 30s.
    #[serde(default = "default_redis_reconcile")]
    #[schemars(extend("x-least" = "1s", "x-most" = "10m"))]
    pub reconcile: Period,
    /// How old the picture of revocations may grow while Redis is away before tokens are no longer renewed past their
    /// end; default 24h. Short fails closed: a revoked session ends with its token, and so does one that rested.
    #[serde(default = "default_redis_stale_after")]
    #[schemars(extend("x-least" = "1s", "x-most" = "90d"))]
    pub revocations_stale_after: Period,
    /// Whether WeChat's own tokens of people are kept in Redis, sealed, so that every instance can ask for a newer
    /// profile; default false: only the instance that logged a person in can, until it ends.
    #[serde(default)]
    pub keep_wechat_tokens: bool,
    /// The stream of events: logins, logouts, revocations and changed profiles, for your other systems.
    #[serde(default)]
    pub events: Events,
}

/// The stream of events.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Events {
    /// About how many events the stream keeps; the oldest are removed first, read or not. Default 200000, about 42 MB in
    /// Redis.
    #[schemars(range(min = 100, max = 10_000_000))]
    pub max: u64,
    /// How they name who it was: `plain`, as the application does, or `digest`, as keys in Redis do; default plain.
    pub subject: SubjectForm,
}

impl Default for Events {
    fn default() -> Self {
        Self { max: crate::sessions::events::MAX_EVENTS, subject: SubjectForm::default() }
    }
}

/// How events name who it was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SubjectForm {
    /// As the application does.
    #[default]
    Plain,
    /// By the first 128 bits of its SHA-256, in hex.
    Digest,
}

/// A master that Sentinels name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sentinel {
    /// The master's name among the Sentinels.
    #[schemars(with = "Word")]
    pub master: String,
    /// The Sentinels, as `HOST:PORT`.
    #[schemars(with = "Vec<RedisAddress>", length(min = 1))]
    pub addresses: Vec<String>,
    /// The number of the database; default 0.
    #[serde(default)]
    #[schemars(range(min = 0, max = 999))]
    pub database: i64,
    /// The Sentinels' ACL user; default their default user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Word>")]
    pub user: Option<String>,
    /// The file that holds the Sentinels' own password; default none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<SecretFile>")]
    pub password_file: Option<String>,
}

fn default_redis_prefix() -> String {
    "wechat-authz".to_owned()
}

fn default_redis_timeout() -> Period {
    Period::milliseconds(300)
}

fn default_redis_reconcile() -> Period {
    Period::seconds(30)
}

fn default_redis_stale_after() -> Period {
    Period::seconds(24 * 3_600)
}

/// The gateway in front.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Gateway {
    /// The one source of the client's address: `header:NAME`, which the gateway must set itself; `peer`, the
    /// connection's; or `x-forwarded-for:N`, the N-th from the right. Default `header:x-auth-client-ip`.
    #[schemars(with = "ClientAddress")]
    pub client_address: String,
    /// Whether a `Set-Cookie` on our 200 reaches the browser; default true. With false, sessions are renewed by a
    /// redirect.
    pub delivers_set_cookie: bool,
    /// Whether the check listener answers the pages, too, for a gateway that cannot route the prefix to `listen.pages`;
    /// default false. No such answer is a 200, and the gateway must wait for a check as long as WeChat may take: 15
    /// seconds.
    pub pages_in_band: bool,
}

impl Default for Gateway {
    fn default() -> Self {
        Self { client_address: "header:x-auth-client-ip".into(), delivers_set_cookie: true, pages_in_band: false }
    }
}

/// The calls to WeChat.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Wechat {
    /// Where browsers log in; default `https://open.weixin.qq.com`. http is for a simulator on this machine.
    #[schemars(with = "Origin")]
    pub open: String,
    /// Where codes are exchanged; default `https://api.weixin.qq.com`. http is for a simulator on this machine.
    #[schemars(with = "Origin")]
    pub api: String,
    /// The proxy for calls to WeChat, as `http://HOST:PORT` or `https://HOST:PORT`; default none. Proxy variables of the
    /// environment are ignored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<ProxyUrl>")]
    pub proxy: Option<String>,
    /// The file that holds the proxy's `USER:PASSWORD`; default none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<SecretFile>")]
    pub proxy_credentials_file: Option<String>,
    /// The certificates to trust in calls to WeChat and to an https proxy, as PEM; default those of the system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<FilePath>")]
    pub ca_file: Option<String>,
    /// Longest wait for a connection; default 2s.
    #[schemars(extend("x-least" = "100ms", "x-most" = "30s"))]
    pub connect_timeout: Period,
    /// Longest wait for the exchange of a code, on which a person waits; default 5s.
    #[schemars(extend("x-least" = "100ms", "x-most" = "30s"))]
    pub exchange_timeout: Period,
    /// Longest wait for nickname and avatar, without which a login succeeds too; default 2s.
    #[schemars(extend("x-least" = "100ms", "x-most" = "30s"))]
    pub userinfo_timeout: Period,
    /// How old nickname and avatar may be before they are asked for again in the background, where a login asked for
    /// them; default 24h.
    #[schemars(extend("x-least" = "1m", "x-most" = "30d"))]
    pub profile_max_age: Period,
    /// When to stop calling a WeChat that fails.
    pub breaker: Breaker,
}

impl Default for Wechat {
    fn default() -> Self {
        Self {
            open: "https://open.weixin.qq.com".into(),
            api: "https://api.weixin.qq.com".into(),
            proxy: None,
            proxy_credentials_file: None,
            ca_file: None,
            connect_timeout: Period::seconds(2),
            exchange_timeout: Period::seconds(5),
            userinfo_timeout: Period::seconds(2),
            profile_max_age: Period::seconds(24 * 3_600),
            breaker: Breaker::default(),
        }
    }
}

/// The circuit breaker, one for each application and endpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Breaker {
    /// Failures in a row that open it; default 5.
    #[schemars(range(min = 1, max = 1_000))]
    pub failures: u32,
    /// How long it stays open before one call probes again; default 10s.
    #[schemars(extend("x-least" = "1s", "x-most" = "10m"))]
    pub open: Period,
}

impl Default for Breaker {
    fn default() -> Self {
        Self { failures: 5, open: Period::seconds(10) }
    }
}

/// One application.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct App {
    /// Its name: the audience of its tokens, and its label in logs and metrics. No two have the same.
    #[schemars(with = "AppName")]
    pub name: String,
    /// The application's name on the pages; default `name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Title>")]
    pub title: Option<String>,
    /// Where browsers find it: https, host and port. No two have the same. http is for this machine.
    #[schemars(with = "Origin")]
    pub origin: String,
    /// Which of WeChat's ids names a user: `openid` (one AppID) or `unionid` (all of one Open Platform account, which
    /// every user must then have); default openid. Changing it makes everybody a new user.
    #[serde(default)]
    pub subject: Subject,
    /// Login inside WeChat by an Official Account (公众号). This or `website` is needed.
    #[serde(default)]
    pub official_account: Option<OfficialAccount>,
    /// Login in other browsers by QR code (网站应用). This or `official_account` is needed.
    #[serde(default)]
    pub website: Option<Website>,
    /// How long sessions live.
    #[serde(default)]
    pub session: Session,
    /// Whether paths may contain `%2F`, `%5C` and double encoding, which are denied otherwise; default false. A rule can
    /// allow them for its own paths.
    #[serde(default)]
    pub allow_encoded_slashes: bool,
    /// Other origins a login may return to, each exactly; default none.
    #[serde(default)]
    #[schemars(with = "Vec<Origin>")]
    pub return_to: Vec<String>,
    /// The files that prove to WeChat that the domain is yours, served at the site's root: `MP_verify_….txt` and
    /// `WW_verify_….txt` by name, others such as `6ynZPDvfTF.txt` as `NAME.txt=CONTENT`. Default none.
    #[serde(default)]
    #[schemars(with = "Vec<DomainProof>")]
    pub domain_proofs: Vec<String>,
}

/// Which of WeChat's ids names a user.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Subject {
    /// The id inside one AppID.
    #[default]
    OpenId,
    /// The id across one Open Platform account; a login without one is refused.
    UnionId,
}

/// An Official Account.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OfficialAccount {
    /// Its AppID.
    #[schemars(with = "AppId")]
    pub appid: String,
    /// The file that holds its AppSecret.
    #[schemars(with = "SecretFile")]
    pub secret_file: String,
    /// `snsapi_base`, silent and without a profile, or `snsapi_userinfo`, with consent and a profile; default
    /// snsapi_base.
    #[serde(default)]
    pub scope: Scope,
    /// Whether a page with a button comes before the consent of snsapi_userinfo; default true. Without the press of a
    /// button WeChat may show a snapshot page, where nobody can log in.
    #[serde(default = "default_ask_first")]
    pub ask_first: bool,
    /// Whether pages of this application get a signed JS-SDK configuration at `/_wechat/jssdk?url=`; default false. Needs
    /// this machine's address on the account's IP allow-list.
    #[serde(default)]
    pub jssdk: bool,
    /// Whether only who follows this Official Account may log in with it; default false. Asked at each login, with the
    /// account's own access_token: needs this machine's address on the account's IP allow-list.
    #[serde(default)]
    pub require_subscription: bool,
    /// The account's name on the page that asks users to follow it; default none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Title>")]
    pub name: Option<String>,
    /// The https address of an image of the account's QR code, shown on the same page; default none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<ImageUrl>")]
    pub follow_qr: Option<String>,
}

fn default_ask_first() -> bool {
    true
}

/// What a login asks WeChat for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// The openid only, without asking.
    #[default]
    SnsapiBase,
    /// Nickname and avatar too, with consent.
    SnsapiUserinfo,
}

/// A website application.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Website {
    /// Its AppID.
    #[schemars(with = "AppId")]
    pub appid: String,
    /// The file that holds its AppSecret.
    #[schemars(with = "SecretFile")]
    pub secret_file: String,
}

/// A session's clocks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Session {
    /// How long one token lasts before it is renewed unseen: the longest a stolen copy works where only its signature
    /// is checked; default 15m.
    #[schemars(extend("x-least" = "1m", "x-most" = "1h"))]
    pub token_lifetime: Period,
    /// How long until a person logs in again, whatever they do; default 7d.
    #[schemars(extend("x-least" = "1m", "x-most" = "90d"))]
    pub lifetime: Period,
    /// How long a session may rest unused; default 24h.
    #[schemars(extend("x-least" = "1m", "x-most" = "90d"))]
    pub idle: Period,
}

impl Default for Session {
    fn default() -> Self {
        Self {
            token_lifetime: Period::seconds(15 * 60),
            lifetime: Period::seconds(7 * 24 * 3_600),
            idle: Period::seconds(24 * 3_600),
        }
    }
}

/// One rule of the policy. Parts that are left out match everything.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// The application's host, with its port if the origin has one; default all applications. `*` is any host, even one
    /// that no application has, for health checks by address; it requires `access: public` and a path, and opens only what
    /// no rule of an application restricts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<HostMatch>")]
    pub host: Option<String>,
    /// A path and all below it, by whole segments. Not together with `path_pattern`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<PathPrefix>")]
    pub path_prefix: Option<String>,
    /// A path by segments: `*` matches one segment; `**`, at the end, any number; `*.js`, at the end and also after `**`, a
    /// segment with that extension. Not together with `path_prefix`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<PathPattern>")]
    pub path_pattern: Option<String>,
    /// The methods, in capitals; GET stands for HEAD too. Default all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Vec<MethodName>>", length(min = 1))]
    pub methods: Option<Vec<String>>,
    /// The networks that the client's address is in, such as `10.0.0.0/8`; default all. The address is the one that
    /// `gateway.client_address` names; where it names none, the strictest of what these rules may mean is required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Vec<Network>>", length(min = 1))]
    pub clients: Option<Vec<String>>,
    /// Whether the path may contain `%2F`, `%5C` and double encoding, which are denied otherwise; default false.
    #[serde(default)]
    pub allow_encoded_slashes: bool,
    /// What is required then.
    pub access: Access,
    /// The only users who may pass, as `wx:union:<unionid>` or `wx:<appid>:<openid>`; with `access: required`. Default
    /// all who are logged in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Vec<crate::subject::Subject>>", length(min = 1))]
    pub subjects: Option<Vec<String>>,
}

/// What a rule requires.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    /// Nothing: everybody passes, and nobody is named.
    Public,
    /// Nothing, but who is logged in is named.
    Optional,
    /// A session.
    Required,
}

/// Budgets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Unfinished logins and forged callbacks of one client address; default 10 a minute and a burst of 50. A login that
    /// succeeds returns its token, so that users who share an address do not use it up.
    pub logins_per_client: Rate,
    /// Login starts and forged callbacks of all clients, per second; default 1000.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub logins_per_second: u32,
    /// Checks from one address; default null, no limit.
    pub checks_per_client: Option<Rate>,
    /// Tokens not seen before from one address, each of which costs a signature's check; default 600 a minute and a
    /// burst of 200. All addresses together may show 1000 a second for each core, or as many as one may if that is more.
    pub new_tokens_per_client: Rate,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            logins_per_client: Rate { per_minute: 10, burst: 50 },
            logins_per_second: 1_000,
            checks_per_client: None,
            new_tokens_per_client: Rate { per_minute: 600, burst: 200 },
        }
    }
}

/// A budget that refills evenly.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// How many a minute in the long run.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub per_minute: u32,
    /// How many at once after a rest.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub burst: u32,
}

/// The admin door.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Admin {
    /// Where to listen; default `127.0.0.1:9103`. Cannot change while running.
    #[serde(default = "default_admin_listen")]
    #[schemars(with = "Address")]
    pub listen: String,
    /// The file that holds the bearer token, at least 32 characters.
    #[schemars(with = "SecretFile")]
    pub token_file: String,
}

fn default_admin_listen() -> String {
    "127.0.0.1:9103".to_owned()
}

/// The log.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// The least weight that is written; default info.
    pub level: Level,
}

/// A log line's weight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Something failed.
    Error,
    /// Something will fail, or was refused that should not occur.
    Warn,
    /// What an operator wants to know.
    #[default]
    Info,
    /// What a developer wants to know.
    Debug,
    /// Everything.
    Trace,
}

/// The end after SIGTERM.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Drain {
    /// How long to go on as before, not ready, until the gateway has noticed; default 0s.
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
