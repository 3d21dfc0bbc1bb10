//! What the configuration means: every module's own settings, made from the shape once it is right.
//!
//! Here stand the rules that tie settings to each other. After this step no invalid value exists.

use super::diagnostic::shown;
use super::{Diagnostics, Resolver, raw};
use crate::app_name::AppName;
use crate::client_address::ClientAddress;
use crate::decision::Requirement;
use crate::login::settings::{App, OfficialAccount, SubjectRule};
use crate::origin::{Origin, authority, is_loopback};
use crate::policy::{self, HostMatch, PathMatch, Policy, Rule};
use crate::rate_limit::{self, Rate};
use crate::redis;
use crate::routes::DomainProof;
use crate::secret::{Secret, SecretError};
use crate::server::Address;
use crate::session;
use crate::session::keys::KeySettings;
use crate::wechat::{self, AppId, Credentials, Scope, breaker};
use aws_lc_rs::digest;
use rustix::fs::{Access, access};
use std::collections::{BTreeSet, HashMap};
use std::io::ErrorKind;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use url::{Host, Url};

/// An AppSecret has 32 hex digits; fewer than this is not one.
const MIN_APP_SECRET: usize = 16;

/// A token that guards revocations.
const MIN_ADMIN_TOKEN: usize = 32;

/// Everything the program runs by.
#[derive(Debug)]
pub struct Settings {
    /// Where to listen. Fixed while running.
    pub listen: Listen,
    /// Where the pages are.
    pub prefix: String,
    /// The signing keys.
    pub keys: KeySettings,
    /// Where revocations are kept.
    pub state_directory: Option<PathBuf>,
    /// What all instances share. Fixed while running.
    pub redis: Option<Redis>,
    /// How often to look for changes.
    pub reload_interval: Duration,
    /// Where the client's address comes from.
    pub client_address: ClientAddress,
    /// Whether a `Set-Cookie` on an allow reaches the browser.
    pub delivers_set_cookie: bool,
    /// Whether the check door answers the pages, too.
    pub pages_in_band: bool,
    /// WeChat's hosts and bounds.
    pub wechat: wechat::Settings,
    /// How old a profile may be before it is asked for again.
    pub profile_max_age: Duration,
    /// The applications.
    pub apps: Vec<Arc<App>>,
    /// Domain proofs by authority.
    pub domain_proofs: HashMap<String, Vec<DomainProof>>,
    /// The rules.
    pub policy: Policy,
    /// The budgets.
    pub limits: rate_limit::Settings,
    /// The admin door's token.
    pub admin_token: Option<Secret>,
    /// The least level that is logged.
    pub log_level: &'static str,
    /// How the process ends.
    pub drain: Drain,
    /// Changes when the file or any secret does.
    pub fingerprint: [u8; 32],
    /// What works but should not stay so.
    pub warnings: Vec<String>,
}

impl Settings {
    /// What the applications are called.
    pub fn app_names(&self) -> BTreeSet<AppName> {
        self.apps.iter().map(|app| app.name.clone()).collect()
    }
}

/// What all instances share.
#[derive(Clone, Debug)]
pub struct Redis {
    /// Where it is.
    pub store: redis::Settings,
    /// How revocations are kept in step.
    pub sharing: crate::sessions::revocation_sync::Settings,
    /// What is kept there of people, and how.
    pub registry: crate::sessions::registry::Settings,
    /// As it was written, to see whether it has changed.
    written: raw::Redis,
}

impl PartialEq for Redis {
    fn eq(&self, other: &Self) -> bool {
        self.written == other.written
    }
}

/// The doors' addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// The gateway's checks.
    pub check: Address,
    /// The browser's pages.
    pub pages: Address,
    /// Health and metrics.
    pub ops: Address,
    /// Revocation; no such door where absent.
    pub admin: Option<Address>,
}

/// The end after SIGTERM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drain {
    /// How long to go on as before, not ready.
    pub delay: Duration,
    /// How long requests in flight may take.
    pub deadline: Duration,
}

/// Makes sense of a configuration of the right shape.
///
/// # Errors
/// All errors, of shape and of meaning.
pub fn resolve(loaded: super::Loaded) -> Result<Settings, Diagnostics> {
    let fingerprint = loaded.digest();
    let (raw, meaning) = loaded.into_parts();
    let mut reader = Reader { meaning, fingerprint: digest::Context::new(&digest::SHA256) };
    reader.fingerprint.update(&fingerprint);
    let mut settings = reader.settings(&raw);
    if let Some(settings) = &mut settings {
        settings.warnings = reader.meaning.warnings().iter().map(ToString::to_string).collect();
        settings.fingerprint.copy_from_slice(reader.fingerprint.finish().as_ref());
    }
    reader.meaning.finish(settings)
}

const REDIS_URL: &str = "write the server's URL without a password, such as redis://redis.example.com:6379/0";

/// None where there is none, and gives up where it is wrong.
#[allow(clippy::option_option)] // exactly that is the question
fn flat<T>(read: Option<Option<T>>) -> Option<Option<T>> {
    match read {
        Some(read) => read.map(Some),
        None => Some(None),
    }
}

struct Reader {
    meaning: Resolver,
    fingerprint: digest::Context,
}

impl Reader {
    /// Reads everything before it gives up on anything, so that all errors are reported together.
    fn settings(&mut self, raw: &raw::Config) -> Option<Settings> {
        let listen = self.listen(raw);
        let admin_token =
            raw.admin.as_ref().map(|admin| self.token("admin.token_file", &admin.token_file, MIN_ADMIN_TOKEN));
        let client_address = self.parse("gateway.client_address", &raw.gateway.client_address, CLIENT_ADDRESS);
        let wechat = self.wechat(&raw.wechat);
        let redis = raw.redis.as_ref().map(|redis| self.redis(redis));
        let apps = self.apps(raw);
        let domain_proofs = self.domain_proofs(raw);
        let policy = self.policy(raw);
        if raw.gateway.pages_in_band {
            self.lost_in_band(raw);
        }
        let limits = self.limits(&raw.limits);
        let state_directory = raw.state_directory.as_ref().map(|directory| self.state_directory(directory));
        Some(Settings {
            listen: listen?,
            prefix: raw.prefix.clone(),
            keys: KeySettings {
                directory: self.meaning.resolve(&raw.keys.directory),
                sign_after: raw.keys.sign_after.into(),
            },
            state_directory: flat(state_directory)?,
            redis: match redis {
                Some(redis) => Some(redis?),
                None => None,
            },
            reload_interval: raw.reload_interval.into(),
            profile_max_age: raw.wechat.profile_max_age.into(),
            client_address: client_address?,
            delivers_set_cookie: raw.gateway.delivers_set_cookie,
            pages_in_band: raw.gateway.pages_in_band,
            wechat: wechat?,
            apps: apps?,
            domain_proofs: domain_proofs?,
            policy: policy?,
            limits: limits?,
            admin_token: match admin_token {
                Some(token) => Some(token?),
                None => None,
            },
            log_level: match raw.log.level {
                raw::Level::Error => "error",
                raw::Level::Warn => "warn",
                raw::Level::Info => "info",
                raw::Level::Debug => "debug",
                raw::Level::Trace => "trace",
            },
            drain: Drain { delay: raw.drain.delay.into(), deadline: raw.drain.deadline.into() },
            fingerprint: [0; 32],
            warnings: Vec::new(),
        })
    }

    fn parse<T>(&mut self, path: &str, text: &str, wanted: &str) -> Option<T>
    where
        T: std::str::FromStr,
        T::Err: std::fmt::Display,
    {
        self.meaning.parse(path, text, text.parse(), wanted)
    }

    /// A password: any text of at least `least` characters.
    fn secret(&mut self, path: &str, file: &str, least: usize) -> Option<Secret> {
        self.read_secret(path, file, |text| Secret::parse(text, least))
    }

    /// An AppSecret or a bearer token.
    fn token(&mut self, path: &str, file: &str, least: usize) -> Option<Secret> {
        self.read_secret(path, file, |text| Secret::parse_token(text, least))
    }

    fn read_secret(
        &mut self,
        path: &str,
        file: &str,
        parse: impl FnOnce(&str) -> Result<Secret, SecretError>,
    ) -> Option<Secret> {
        let secret = self.meaning.secret(path, file, parse)?;
        self.fingerprint.update(path.as_bytes());
        self.fingerprint.update(secret.expose().as_bytes());
        Some(secret)
    }

    /// Certificates as PEM.
    fn certificates(&mut self, path: &str, file: &str) -> Option<Vec<u8>> {
        let pem = self.meaning.certificates(path, file)?;
        self.fingerprint.update(path.as_bytes());
        self.fingerprint.update(&pem);
        Some(pem)
    }

    /// A private key as PEM.
    fn private_key(&mut self, path: &str, file: &str) -> Option<Secret> {
        let key = self.secret(path, file, 1)?;
        if !key.expose().contains("PRIVATE KEY-----") {
            self.meaning.add(path, "found a file without a private key", "name a file that holds a private key as PEM");
        }
        Some(key)
    }

    /// A directory that this process can write to. `serve` makes none: in a wrong place it would lose its revocations.
    fn state_directory(&mut self, directory: &str) -> Option<PathBuf> {
        let whole = self.meaning.resolve(directory);
        let found = match std::fs::metadata(&whole) {
            Ok(about) if !about.is_dir() => "found a file",
            Ok(_) if access(&whole, Access::WRITE_OK | Access::EXEC_OK).is_err() => {
                "found a directory to which this user may not write"
            }
            Ok(_) => return Some(whole),
            Err(error) if error.kind() == ErrorKind::NotFound => "found no such directory",
            Err(_) => "found a directory that this user may not read",
        };
        let wanted = format!("make it for the user that runs `serve`: install -d -m 700 -o USER {}", shown(directory));
        self.meaning.add("state_directory", found, wanted);
        None
    }

    fn listen(&mut self, raw: &raw::Config) -> Option<Listen> {
        let check = self.parse("listen.check", &raw.listen.check, LISTENER);
        let pages = self.parse("listen.pages", &raw.listen.pages, LISTENER);
        let ops = self.parse("listen.ops", &raw.listen.ops, LISTENER);
        let admin = raw.admin.as_ref().map(|admin| self.parse::<Address>("admin.listen", &admin.listen, LISTENER));
        let mut taken: Vec<(&str, &str)> = Vec::new();
        let admin_listen = raw.admin.as_ref().map(|admin| ("admin.listen", admin.listen.as_str()));
        let doors = [
            ("listen.check", raw.listen.check.as_str()),
            ("listen.pages", raw.listen.pages.as_str()),
            ("listen.ops", raw.listen.ops.as_str()),
        ];
        for (path, address) in doors.into_iter().chain(admin_listen) {
            let twice = taken.iter().find(|(_, other)| *other == address && !address.ends_with(":0"));
            if let Some((other, _)) = twice {
                self.meaning.add(
                    path,
                    format!("found the same address as {other}"),
                    "give each door an address of its own",
                );
            }
            taken.push((path, address));
        }
        let admin = match admin {
            Some(admin) => Some(admin?),
            None => None,
        };
        if let Some(Address::Tcp(address)) = &admin
            && !address.ip().is_loopback()
        {
            let wanted = "listen on 127.0.0.1, [::1] or a socket: other machines must not reach this listener";
            self.meaning.add("admin.listen", format!("found {address}, which others can reach"), wanted);
        }
        Some(Listen { check: check?, pages: pages?, ops: ops?, admin })
    }

    fn wechat(&mut self, raw: &raw::Wechat) -> Option<wechat::Settings> {
        let open = self.base("wechat.open", &raw.open);
        let api = self.base("wechat.api", &raw.api);
        let roots = raw.ca_file.as_ref().map(|file| self.certificates("wechat.ca_file", file));
        let proxy = raw.proxy.as_ref().map(|text| {
            let wanted = "write the proxy's URL, such as http://proxy.example.com:3128";
            self.meaning.parse("wechat.proxy", "the URL", text.parse::<wechat::settings::ProxyUrl>(), wanted)
        });
        let credentials = raw.proxy_credentials_file.as_ref().map(|file| {
            let at = "wechat.proxy_credentials_file";
            let secret = self.secret(at, file, 1)?;
            if raw.proxy.is_none() {
                self.meaning.add(at, "found credentials without a proxy", "write wechat.proxy as well");
            }
            if !secret.expose().contains(':') {
                self.meaning.add(at, "found a file without a colon", "write USER:PASSWORD into the file");
            }
            Some(secret)
        });
        let (proxy, credentials) = (flat(proxy)?, flat(credentials)?);
        Some(wechat::Settings {
            proxy: proxy.map(|url| wechat::settings::Proxy { url: url.0, credentials }),
            roots: flat(roots)?,
            open: open?,
            api: api?,
            connect_timeout: raw.connect_timeout.into(),
            exchange_timeout: raw.exchange_timeout.into(),
            userinfo_timeout: raw.userinfo_timeout.into(),
            breaker: breaker::Settings { failures: raw.breaker.failures, open: raw.breaker.open.into() },
            ..wechat::Settings::default()
        })
    }

    fn redis(&mut self, raw: &raw::Redis) -> Option<Redis> {
        let named =
            [("url", raw.url.is_some()), ("sentinel", raw.sentinel.is_some()), ("cluster", raw.cluster.is_some())];
        let named: Vec<&str> = named.into_iter().filter(|(_, named)| *named).map(|(name, _)| name).collect();
        if named.len() != 1 {
            let found = if named.is_empty() { "no address".to_owned() } else { named.join(" and ") };
            self.meaning.add("redis", format!("found {found}"), "write exactly one of url, sentinel and cluster");
        }
        let password = raw.password_file.as_ref().map(|file| self.secret("redis.password_file", file, 1));
        let roots = raw.ca_file.as_ref().map(|file| self.certificates("redis.ca_file", file));
        let certificate =
            raw.client_certificate_file.as_ref().map(|file| self.certificates("redis.client_certificate_file", file));
        let key = raw.client_key_file.as_ref().map(|file| self.private_key("redis.client_key_file", file));
        let mut tls = raw.tls;
        let form = if let Some(url) = &raw.url {
            let url: redis::settings::Url = self.meaning.parse("redis.url", "the URL", url.parse(), REDIS_URL)?;
            tls |= url.tls;
            redis::Form::One { address: url.address, database: url.database }
        } else if let Some(sentinel) = &raw.sentinel {
            let password =
                sentinel.password_file.as_ref().map(|file| self.secret("redis.sentinel.password_file", file, 1));
            redis::Form::Sentinel {
                master: sentinel.master.clone(),
                addresses: self.addresses("redis.sentinel.addresses", &sentinel.addresses)?,
                database: sentinel.database,
                user: sentinel.user.clone(),
                password: flat(password)?,
            }
        } else {
            redis::Form::Cluster { addresses: self.addresses("redis.cluster", raw.cluster.as_deref()?)? }
        };
        let client = match (flat(certificate)?, flat(key)?) {
            (None, None) => None,
            (Some(chain), Some(key)) => {
                if !tls {
                    let found = "found a client certificate without TLS";
                    self.meaning.add("redis.client_certificate_file", found, "write tls: true, or a rediss:// URL");
                }
                Some(redis::settings::ClientCertificate { chain, key })
            }
            (Some(_), None) => {
                let wanted = "write client_key_file as well";
                self.meaning.add("redis.client_certificate_file", "found a certificate without its key", wanted);
                None
            }
            (None, Some(_)) => {
                let wanted = "write client_certificate_file as well";
                self.meaning.add("redis.client_key_file", "found a key without its certificate", wanted);
                None
            }
        };
        Some(Redis {
            store: redis::Settings {
                client,
                form,
                user: raw.user.clone(),
                password: flat(password)?,
                tls,
                roots: flat(roots)?,
                prefix: raw.prefix.clone(),
                timeout: raw.timeout.into(),
            },
            sharing: crate::sessions::revocation_sync::Settings {
                reconcile: raw.reconcile.into(),
                stale_after: raw.revocations_stale_after.into(),
            },
            registry: crate::sessions::registry::Settings {
                keep_wechat_tokens: raw.keep_wechat_tokens,
                events: crate::sessions::events::Settings {
                    max: raw.events.max,
                    subject: match raw.events.subject {
                        raw::SubjectForm::Plain => crate::sessions::events::SubjectForm::Plain,
                        raw::SubjectForm::Digest => crate::sessions::events::SubjectForm::Digest,
                    },
                },
            },
            written: raw.clone(),
        })
    }

    fn addresses(&mut self, at: &str, texts: &[String]) -> Option<Vec<redis::settings::Address>> {
        let mut addresses = Vec::new();
        for (index, text) in texts.iter().enumerate() {
            let wanted = "write a host and port such as redis-0.example.com:6379";
            addresses.push(self.meaning.parse(&format!("{at}[{index}]"), "the address", text.parse(), wanted)?);
        }
        Some(addresses)
    }

    fn base(&mut self, path: &str, text: &str) -> Option<Url> {
        let origin = self.meaning.parse(path, text, Origin::parse(text), ORIGIN)?;
        self.meaning.parse(path, text, Url::parse(origin.as_str()), ORIGIN)
    }

    fn apps(&mut self, raw: &raw::Config) -> Option<Vec<Arc<App>>> {
        let mut apps: Vec<Option<Arc<App>>> = Vec::new();
        for (index, app) in raw.apps.iter().enumerate() {
            let at = format!("apps[{index}]");
            let earlier = || raw.apps.iter().take(index);
            if earlier().any(|other| other.name == app.name) {
                self.meaning.add(
                    &format!("{at}.name"),
                    "found the name of an earlier application",
                    "give each application a name of its own",
                );
            }
            let same_place = |other: &raw::App| {
                Origin::parse(&other.origin).ok().is_some_and(|other| {
                    Origin::parse(&app.origin).is_ok_and(|origin| origin.authority() == other.authority())
                })
            };
            if earlier().any(same_place) {
                self.meaning.add(
                    &format!("{at}.origin"),
                    "found the host of an earlier application",
                    "give each application a host of its own; for several paths of one host, write policy rules",
                );
            }
            apps.push(self.app(&at, app).map(Arc::new));
        }
        apps.into_iter().collect()
    }

    fn app(&mut self, at: &str, raw: &raw::App) -> Option<App> {
        let origin = self.meaning.parse(&format!("{at}.origin"), &raw.origin, Origin::parse(&raw.origin), ORIGIN);
        if let Some(found) = origin.as_ref().and_then(wechat_does_not_return) {
            let wanted = "use a domain name and https without a port";
            self.meaning.warn(&format!("{at}.origin"), found, wanted);
        }
        let official_account = raw.official_account.as_ref().map(|account| {
            let at = format!("{at}.official_account");
            let application = self.application(&at, &account.appid, &account.secret_file);
            let scope = match account.scope {
                raw::Scope::SnsapiBase => Scope::Base,
                raw::Scope::SnsapiUserinfo => Scope::Userinfo,
            };
            let ask_first = account.ask_first && scope == Scope::Userinfo;
            let raw::OfficialAccount { jssdk, require_subscription, .. } = *account;
            application.map(|application| OfficialAccount {
                application,
                scope,
                ask_first,
                jssdk,
                require_subscription,
                name: account.name.clone(),
                follow_qr: account.follow_qr.clone(),
            })
        });
        let website = raw
            .website
            .as_ref()
            .map(|website| self.application(&format!("{at}.website"), &website.appid, &website.secret_file));
        if let (Some(account), Some(website)) = (&raw.official_account, &raw.website)
            && account.appid == website.appid
        {
            let wanted = "an Official Account and a website application have different AppIDs: take this one from open.weixin.qq.com";
            self.meaning.add(&format!("{at}.website.appid"), "found the AppID of the Official Account", wanted);
        }
        if raw.subject == raw::Subject::UnionId
            && raw.official_account.as_ref().is_some_and(|account| account.scope == raw::Scope::SnsapiBase)
        {
            let found = "found snsapi_base with subject: unionid; WeChat promises no unionid then, and a login without one fails";
            self.meaning.warn(&format!("{at}.official_account.scope"), found, "write scope: snsapi_userinfo");
        }
        if raw.official_account.is_none() && raw.website.is_none() {
            self.meaning.add(at, "found no way to log in", "add official_account, website, or both");
        }
        let return_to: Vec<Option<Origin>> = raw
            .return_to
            .iter()
            .enumerate()
            .map(|(index, text)| {
                self.meaning.parse(&format!("{at}.return_to[{index}]"), text, Origin::parse(text), ORIGIN)
            })
            .collect();
        let wanted = "write a name of 1 to 32 lower-case letters, digits and hyphens";
        let name: Option<AppName> = self.parse(&format!("{at}.name"), &raw.name, wanted);
        let session = self.session(at, raw, name.clone(), origin.as_ref());
        Some(App {
            name: name?,
            title: raw.title.clone().unwrap_or_else(|| raw.name.clone()),
            origin: origin?,
            session: session?,
            subject: match raw.subject {
                raw::Subject::OpenId => SubjectRule::Openid,
                raw::Subject::UnionId => SubjectRule::Unionid,
            },
            official_account: match official_account {
                Some(account) => Some(account?),
                None => None,
            },
            website: match website {
                Some(website) => Some(website?),
                None => None,
            },
            return_to: return_to.into_iter().collect::<Option<_>>()?,
            allow_encoded_slashes: raw.allow_encoded_slashes,
        })
    }

    fn application(&mut self, at: &str, appid: &str, secret_file: &str) -> Option<Credentials> {
        let wanted = "write the AppID from WeChat's console, such as wx0123456789abcdef";
        let appid = self.meaning.parse(&format!("{at}.appid"), appid, AppId::parse(appid), wanted);
        let secret = self.token(&format!("{at}.secret_file"), secret_file, MIN_APP_SECRET);
        Some(Credentials { appid: appid?, secret: secret? })
    }

    fn session(
        &mut self,
        at: &str,
        raw: &raw::App,
        name: Option<AppName>,
        origin: Option<&Origin>,
    ) -> Option<session::Settings> {
        let session = &raw.session;
        let [token, idle, lifetime]: [Duration; 3] =
            [session.token_lifetime.into(), session.idle.into(), session.lifetime.into()];
        if token > lifetime {
            let found = format!("found {}, longer than the session's {}", session.token_lifetime, session.lifetime);
            self.meaning.add(&format!("{at}.session.token_lifetime"), found, "let it be shorter than session.lifetime");
        }
        if idle < token {
            let found = format!("found {}, shorter than a token's {}", session.idle, session.token_lifetime);
            self.meaning.add(
                &format!("{at}.session.idle"),
                found,
                "let it be longer than session.token_lifetime, or nobody stays logged in",
            );
        }
        Some(session::Settings {
            issuer: origin?.as_str().to_owned(),
            audience: name?,
            token_lifetime: token,
            lifetime,
            idle: idle.min(lifetime),
        })
    }

    fn domain_proofs(&mut self, raw: &raw::Config) -> Option<HashMap<String, Vec<DomainProof>>> {
        let mut all = HashMap::new();
        for (index, app) in raw.apps.iter().enumerate() {
            let mut proofs = Vec::new();
            for (number, name) in app.domain_proofs.iter().enumerate() {
                let path = format!("apps[{index}].domain_proofs[{number}]");
                let wanted = "write the file's name, such as MP_verify_AbCdEfGh12345678.txt";
                proofs.push(self.meaning.parse(&path, name, DomainProof::parse(name), wanted)?);
            }
            if let Ok(origin) = Origin::parse(&app.origin) {
                all.insert(origin.authority().to_owned(), proofs);
            }
        }
        Some(all)
    }

    /// What needs a 200 cannot be had from a check, which means by it that the request may pass.
    fn lost_in_band(&mut self, raw: &raw::Config) {
        const FOUND: &str = "which is answered 200, and no page is with gateway.pages_in_band";
        for (index, app) in raw.apps.iter().enumerate() {
            let at = format!("apps[{index}]");
            if let Some(name) = app.domain_proofs.first() {
                let wanted =
                    "remove it, let the application serve the file, and write a rule with access: public for it";
                self.meaning.add(&format!("{at}.domain_proofs"), format!("found {name}, {FOUND}"), wanted);
            }
            if app.official_account.as_ref().is_some_and(|account| account.jssdk) {
                let wanted = "write jssdk: false, or have the gateway route the prefix to listen.pages";
                self.meaning.add(&format!("{at}.official_account.jssdk"), format!("found true, {FOUND}"), wanted);
            }
        }
    }

    fn policy(&mut self, raw: &raw::Config) -> Option<Policy> {
        let hosts: Vec<String> = raw
            .apps
            .iter()
            .filter_map(|app| Origin::parse(&app.origin).ok())
            .map(|origin| origin.authority().to_owned())
            .collect();
        let mut rules = Vec::new();
        for (index, rule) in raw.policy.iter().enumerate() {
            rules.push(self.rule(&format!("policy[{index}]"), rule, &hosts, &raw.prefix));
        }
        let policy = Policy::new(rules.into_iter().collect::<Option<_>>()?);
        for (number, warning) in policy.warnings() {
            self.warn_of_rule(&format!("policy[{number}]"), warning);
        }
        Some(policy)
    }

    fn warn_of_rule(&mut self, at: &str, warning: policy::Warning) {
        use policy::Warning::{LastSlash, OnlyConnect, Respelled, Shadowed};
        let (found, wanted) = match warning {
            Shadowed { by } => (
                format!("found a rule that never decides, because policy[{by}] matches first"),
                format!("move it before policy[{by}], or remove it"),
            ),
            Respelled { of } => (
                format!("found the path of policy[{of}] in another spelling, with another requirement"),
                "write one rule: many servers treat both alike, so a request must meet the stricter requirement".to_owned(),
            ),
            LastSlash => (
                "found a last slash; the same path without it requires more".to_owned(),
                "write the path without the slash, or path_prefix: many servers treat both alike, so a request must meet the \
                 stricter requirement"
                    .to_owned(),
            ),
            OnlyConnect => ("found no method but CONNECT".to_owned(), "remove it: CONNECT is always refused".to_owned()),
        };
        self.meaning.warn(at, found, wanted);
    }

    fn rule(&mut self, at: &str, raw: &raw::Rule, hosts: &[String], prefix: &str) -> Option<Rule> {
        let host = match raw.host.as_deref() {
            None => HostMatch::Applications,
            Some("*") => HostMatch::Any,
            Some(host) => HostMatch::One(authority(host).into_owned()),
        };
        if let HostMatch::One(host) = &host
            && !hosts.contains(host)
        {
            let wanted = format!("write the host of an application: {}", hosts.join(", "));
            self.meaning.add(
                &format!("{at}.host"),
                format!("found `{host}`, which is the host of no application"),
                wanted,
            );
        }
        let path = match (&raw.path_prefix, &raw.path_pattern) {
            (Some(_), Some(_)) => {
                self.meaning.add(at, "found both path_prefix and path_pattern", "write one of them");
                None
            }
            (Some(text), None) => self.meaning.parse(
                &format!("{at}.path_prefix"),
                text,
                PathMatch::prefix(text),
                "write a path such as /static",
            ),
            (None, Some(text)) => {
                let wanted = "write a path such as /users/*/avatar, /files/** or /*.js";
                self.meaning.parse(&format!("{at}.path_pattern"), text, PathMatch::pattern(text), wanted)
            }
            (None, None) => Some(PathMatch::Any),
        };
        if let Some(path) = &path
            && PathMatch::Prefix(prefix.to_owned()).folded().covers(&path.folded())
        {
            let key = if raw.path_prefix.is_some() { "path_prefix" } else { "path_pattern" };
            let wanted = "remove this rule: the policy does not apply to the pages";
            self.meaning.add(
                &format!("{at}.{key}"),
                format!("found `{path}`, which is below the pages' prefix"),
                wanted,
            );
        }
        let mut methods = Vec::new();
        for (number, text) in raw.methods.iter().flatten().enumerate() {
            methods.push(self.parse(&format!("{at}.methods[{number}]"), text, "write a method such as GET")?);
        }
        if raw.subjects.is_some() && raw.access != raw::Access::Required {
            let wanted = "write access: required, or remove subjects, which has no effect with other access";
            self.meaning.add(&format!("{at}.subjects"), "found subjects without access: required", wanted);
        }
        let mut clients = Vec::new();
        for (number, text) in raw.clients.iter().flatten().enumerate() {
            let wanted = "write a network or an address, such as 10.0.0.0/8";
            clients.push(self.parse::<policy::Network>(&format!("{at}.clients[{number}]"), text, wanted)?.0);
        }
        if host == HostMatch::Any && (raw.access != raw::Access::Public || path == Some(PathMatch::Any)) {
            let wanted = "write access: public and a path, or name the host of an application";
            self.meaning.add(&format!("{at}.host"), "found `*` without access: public and a path", wanted);
        }
        if raw.access != raw::Access::Required
            && host == HostMatch::Applications
            && path == Some(PathMatch::Any)
            && raw.methods.is_none()
            && raw.clients.is_none()
        {
            let wanted = "write a path, host or methods; to open everything, write path_pattern: /**";
            self.meaning.add(&format!("{at}.access"), "found a rule that opens everything", wanted);
        }
        let mut subjects = Vec::new();
        for (number, text) in raw.subjects.iter().flatten().enumerate() {
            let wanted = "write wx:union:<unionid> or wx:<appid>:<openid>";
            subjects.push(self.parse(&format!("{at}.subjects[{number}]"), text, wanted)?);
        }
        let requirement = match (raw.access, &raw.subjects) {
            (raw::Access::Public, _) => Requirement::Public,
            (raw::Access::Optional, _) => Requirement::Optional,
            (raw::Access::Required, None) => Requirement::Required,
            (raw::Access::Required, Some(_)) => Requirement::Subjects(subjects.into()),
        };
        Some(Rule {
            host,
            path: path?,
            methods: raw.methods.is_some().then_some(methods),
            clients: raw.clients.is_some().then_some(clients),
            allow_encoded_slashes: raw.allow_encoded_slashes,
            requirement,
        })
    }

    fn limits(&mut self, raw: &raw::Limits) -> Option<rate_limit::Settings> {
        let rate = |rate: &raw::Rate| {
            Some(Rate { per_minute: NonZeroU32::new(rate.per_minute)?, burst: NonZeroU32::new(rate.burst)? })
        };
        Some(rate_limit::Settings {
            logins_per_client: rate(&raw.logins_per_client)?,
            logins_per_second: NonZeroU32::new(raw.logins_per_second)?,
            new_tokens_per_client: rate(&raw.new_tokens_per_client)?,
            checks_per_client: match &raw.checks_per_client {
                Some(checks) => Some(rate(checks)?),
                None => None,
            },
        })
    }
}

const LISTENER: &str =
    "write an address and port such as 127.0.0.1:9100, or a socket such as unix:/run/wechat-authz/check.sock";
const CLIENT_ADDRESS: &str = "write header:NAME, peer, or x-forwarded-for:N";
const ORIGIN: &str = "write an origin such as https://shop.example.com";

/// Why WeChat does not send a browser back to `origin`: it accepts domain names on the ports 80 and 443. A simulator on
/// this machine accepts more.
fn wechat_does_not_return(origin: &Origin) -> Option<&'static str> {
    let url = Url::parse(origin.as_str()).ok()?;
    let host = url.host()?;
    if is_loopback(&host) {
        return None;
    }
    match (host, url.port_or_known_default()) {
        (Host::Ipv4(_) | Host::Ipv6(_), _) => Some("found an IP address, to which WeChat does not return"),
        (_, Some(80 | 443)) => None,
        _ => Some("found a port to which WeChat does not return"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "\
keys: { directory: keys }
admin: { listen: 127.0.0.1:9103, token_file: ./admin.token }
apps:
- name: shop
  origin: https://shop.example.com
  official_account: { appid: wx0123456789abcdef, secret_file: ./oa.secret }
  website: { appid: wxfedcba9876543210, secret_file: ./web.secret }
  session: { token_lifetime: 15m, lifetime: 7d, idle: 24h }
- name: blog
  origin: https://blog.example.com
  website: { appid: wxfedcba9876543210, secret_file: ./web.secret }
policy:
- { host: shop.example.com, path_prefix: /static, access: public }
- { path_pattern: /users/*, methods: [GET], access: required, subjects: [\"wx:union:o1\"] }
";

    fn understood(text: &str) -> Result<Settings, String> {
        let directory = tempfile::tempdir().unwrap();
        for (name, secret) in [
            ("oa.secret", "0a1b2c3d4e5f60718293a4b5c6d7e8f9"),
            ("web.secret", "9f8e7d6c5b4a39281706f5e4d3c2b1a0"),
            ("admin.token", "a-token-of-more-than-thirty-two-characters"),
            ("proxy.secret", "alice:proxy-password"),
            ("pair.pem", "-----BEGIN CERTIFICATE-----\n-----BEGIN PRIVATE KEY-----"),
        ] {
            std::fs::write(directory.path().join(name), secret).unwrap();
        }
        let file = directory.path().join("c.yaml");
        std::fs::write(&file, text).unwrap();
        super::super::load(&file, std::iter::empty()).and_then(resolve).map_err(|errors| errors.to_string())
    }

    #[test]
    fn a_good_configuration_means_what_it_says() {
        let settings = understood(GOOD).unwrap();
        assert_eq!(settings.apps.len(), 2);
        let shop = &settings.apps[0];
        assert_eq!(
            (shop.session.issuer.as_str(), shop.session.audience.as_str()),
            ("https://shop.example.com", "shop")
        );
        assert!(shop.official_account.is_some() && shop.website.is_some());
        assert!(!shop.official_account.as_ref().unwrap().ask_first, "a silent login asks nothing first");
        assert!(settings.admin_token.is_some() && settings.keys.directory.is_absolute());
    }

    #[test]
    fn contradicting_settings_are_errors_with_their_keys() {
        for (from, to, key, says) in [
            ("name: blog", "name: shop", "apps[1].name", "the name of an earlier application"),
            ("https://blog.example.com", "https://SHOP.example.com:443", "apps[1].origin", "the host of an earlier"),
            (
                "appid: wx0123456789abcdef",
                "appid: wxfedcba9876543210",
                "apps[0].website.appid",
                "of the Official Account",
            ),
            (
                "token_lifetime: 15m, lifetime: 7d",
                "token_lifetime: 1h, lifetime: 30m",
                "session.token_lifetime",
                "longer than",
            ),
            ("idle: 24h", "idle: 5m", "apps[0].session.idle", "shorter than a token's"),
            ("127.0.0.1:9103", "127.0.0.1:9100", "admin.listen", "the same address as listen.check"),
            ("127.0.0.1:9103", "0.0.0.0:9103", "admin.listen", "which others can reach"),
            (
                "host: shop.example.com",
                "host: shop.example.org",
                "policy[0].host",
                "which is the host of no application",
            ),
            ("path_prefix: /static", "path_prefix: /_wechat/login", "policy[0].path_prefix", "below the pages' prefix"),
            (
                "path_prefix: /static",
                "path_prefix: /a, path_pattern: /b",
                "policy[0]",
                "both path_prefix and path_pattern",
            ),
            (
                "{ host: shop.example.com, path_prefix: /static, access: public }",
                "{ access: public }",
                "policy[0].access",
                "opens everything",
            ),
            (
                "access: required, subjects",
                "access: optional, subjects",
                "policy[1].subjects",
                "without access: required",
            ),
            ("./web.secret }\npolicy", "./none.secret }\npolicy", "apps[1].website.secret_file", "no such file"),
        ] {
            assert!(GOOD.contains(from), "{from}");
            let errors = understood(&GOOD.replace(from, to)).err().unwrap_or_default();
            assert!(errors.contains(key) && errors.contains(says), "{to}: {errors:?}");
            assert!(!errors.contains("0a1b2c3d4e5f"), "{errors}");
        }
    }

    #[test]
    fn an_application_without_a_way_to_log_in_is_a_error() {
        let text =
            GOOD.replace("  website: { appid: wxfedcba9876543210, secret_file: ./web.secret }\npolicy", "policy");
        let errors = understood(&text).err().unwrap_or_default();
        assert!(errors.contains("apps[1]: found no way to log in"), "{errors}");
    }

    #[test]
    fn what_only_a_200_could_say_is_an_error_with_pages_in_band() {
        let in_band = format!("gateway: {{ pages_in_band: true }}\n{GOOD}");
        assert!(understood(&in_band).unwrap().pages_in_band && !understood(GOOD).unwrap().pages_in_band);
        for (from, to, key) in [
            (
                "- name: blog\n",
                "- name: blog\n  domain_proofs: [ MP_verify_AbCdEfGh12345678.txt ]\n",
                "apps[1].domain_proofs: found MP_verify_AbCdEfGh12345678.txt, which is answered 200",
            ),
            (
                "oa.secret }",
                "oa.secret, jssdk: true }",
                "apps[0].official_account.jssdk: found true, which is answered",
            ),
        ] {
            assert!(understood(&GOOD.replace(from, to)).is_ok(), "{to}");
            let errors = understood(&in_band.replace(from, to)).err().unwrap_or_default();
            assert!(errors.contains(key) && errors.lines().count() == 1, "{errors:?}");
        }
    }

    #[test]
    fn what_works_but_will_disappoint_is_a_warning() {
        let settings = understood(&GOOD.replace("name: shop\n", "name: shop\n  subject: unionid\n")).unwrap();
        assert!(
            settings.warnings.iter().any(|warning| warning.contains("promises no unionid")),
            "{:?}",
            settings.warnings
        );
    }

    #[test]
    fn credentials_and_certificates_come_with_what_they_are_for() {
        let redis = "redis: { url: rediss://127.0.0.1:6379, client_certificate_file: ./pair.pem, client_key_file: ./pair.pem }\n";
        let wechat =
            "wechat: { proxy: http://127.0.0.1:3128, proxy_credentials_file: ./proxy.secret, ca_file: ./pair.pem }\n";
        let settings = understood(&format!("{redis}{wechat}{GOOD}")).unwrap();
        assert!(settings.redis.unwrap().store.client.is_some());
        let proxy = settings.wechat.proxy.unwrap();
        assert_eq!(proxy.credentials.as_ref().unwrap().expose(), "alice:proxy-password");
        assert!(settings.wechat.roots.is_some() && !format!("{proxy:?}").contains("proxy-password"));
        for (from, to, says) in [
            ("rediss:", "redis:", "redis.client_certificate_file: found a client certificate without TLS"),
            (", client_key_file: ./pair.pem", "", "redis.client_certificate_file: found a certificate without its key"),
            ("client_certificate_file: ./pair.pem, ", "", "redis.client_key_file: found a key without its certificate"),
            (
                "key_file: ./pair.pem",
                "key_file: ./oa.secret",
                "redis.client_key_file: found a file without a private key",
            ),
            ("certificate_file: ./pair.pem", "certificate_file: ./oa.secret", "found a file without a certificate"),
            ("proxy: http://127.0.0.1:3128, ", "", "wechat.proxy_credentials_file: found credentials without a proxy"),
            ("./proxy.secret", "./oa.secret", "wechat.proxy_credentials_file: found a file without a colon"),
            (
                "http://127.0.0.1:3128",
                "http://me:hunter2@127.0.0.1:3128",
                "wechat.proxy: found a text of 32 characters (not shown)",
            ),
            ("ca_file: ./pair.pem", "ca_file: ./none.pem", "wechat.ca_file: found no such file"),
        ] {
            let text = format!("{redis}{wechat}{GOOD}");
            assert!(text.contains(from), "{from}");
            let errors = understood(&text.replace(from, to)).err().unwrap_or_default();
            assert!(errors.contains(says) && !errors.contains("hunter2"), "{to}: {errors:?}");
        }
    }

    #[test]
    fn an_origin_to_which_wechat_does_not_return_is_a_warning() {
        for (origin, warned) in [
            ("https://blog.example.com", None),
            ("http://127.0.0.1:8080", None),
            ("http://shop.localhost:8080", None),
            ("https://shop.example.com:8443", Some("found a port to which WeChat does not return")),
            ("https://203.0.113.9", Some("found an IP address, to which WeChat does not return")),
            ("https://[2001:db8::1]:8443", Some("found an IP address, to which WeChat does not return")),
        ] {
            let settings = understood(&GOOD.replace("https://blog.example.com\n", &format!("{origin}\n"))).unwrap();
            let found = settings.warnings.iter().find(|warning| warning.contains("WeChat does not return"));
            assert_eq!(found.is_some(), warned.is_some(), "{origin}: {found:?}");
            assert!(found.is_none_or(|found| found.contains("apps[1].origin") && found.contains(warned.unwrap())));
        }
    }

    #[test]
    fn a_changed_secret_is_a_changed_configuration() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("c.yaml");
        let text = "keys: { directory: keys }\napps:\n- name: shop\n  origin: https://shop.example.com\n  \
                    website: { appid: wxfedcba9876543210, secret_file: ./web.secret }\n";
        std::fs::write(&file, text).unwrap();
        let fingerprint = |secret: &str| {
            std::fs::write(directory.path().join("web.secret"), secret).unwrap();
            super::super::load(&file, std::iter::empty()).and_then(resolve).unwrap().fingerprint
        };
        let first = fingerprint("9f8e7d6c5b4a39281706f5e4d3c2b1a0");
        assert_eq!(first, fingerprint("9f8e7d6c5b4a39281706f5e4d3c2b1a0"));
        assert_ne!(first, fingerprint("8f8e7d6c5b4a39281706f5e4d3c2b1a0"));
    }
}
