//! A configuration of the right shape → the settings of every module.
//!
//! Only the files that it names can still be wrong here. All of them are read before the first error returns, so that
//! their errors are reported together.

use super::{Drain, Listen, Redis, Settings};
use crate::config::file::{self, Config};
use crate::config::files::Files;
use crate::config::report::{Report, Reported};
use crate::config::text::SecretFile;
use crate::config::{Diagnostics, Loaded, rules};
use crate::login::settings::{App, OfficialAccount};
use crate::policy::Policy;
use crate::session::keys::KeySettings;
use crate::sessions::{events, registry, revocation_sync};
use crate::wechat::{self, AppId, Credentials, Scope, breaker};
use crate::{rate_limit, redis, session};
use std::sync::Arc;

/// The shortest AppSecret; WeChat's have 32 hex digits.
const MIN_APP_SECRET: usize = 16;

/// The shortest bearer token of the admin listener.
const MIN_ADMIN_TOKEN: usize = 32;

/// Makes the settings of a configuration.
///
/// # Errors
/// All contradictions between settings, and all errors of the files that they name.
pub fn resolve(loaded: Loaded) -> Result<Settings, Diagnostics> {
    let Loaded { config, places, digest } = loaded;
    let file = Arc::clone(places.file());
    let mut report = Report::new(places);
    rules::check(&config, &mut report);
    let mut files = Files::new(&file, digest, report);
    let settings = settings(config, &mut files);
    let (report, fingerprint) = files.finish();
    let (settings, warnings) = report.finish(settings)?;
    Ok(Settings { fingerprint, warnings: warnings.iter().map(ToString::to_string).collect(), ..settings })
}

fn settings(config: Config, files: &mut Files) -> Result<Settings, Reported> {
    let admin_token = config
        .admin
        .as_ref()
        .map(|admin| files.token("admin.token_file", &admin.token_file, MIN_ADMIN_TOKEN))
        .transpose();
    let profile_max_age = config.wechat.profile_max_age.into();
    let domain_proofs = config.apps.iter().map(|app| (app.origin.authority().to_owned(), app.domain_proofs.clone()));
    let domain_proofs = domain_proofs.collect();
    let wechat = wechat(config.wechat, files);
    let redis = config.redis.map(|redis| self::redis(redis, files)).transpose();
    let apps: Vec<_> =
        config.apps.into_iter().enumerate().map(|(n, one)| app(&format!("apps[{n}]"), one, files)).collect();
    let state_directory = config.state_directory.map(|directory| files.state_directory(&directory)).transpose();
    Ok(Settings {
        listen: Listen {
            check: config.listen.check,
            pages: config.listen.pages.into(),
            ops: config.listen.ops.into(),
            admin: config.admin.map(|admin| admin.listen),
        },
        prefix: config.prefix.into(),
        keys: KeySettings {
            directory: files.resolve(&config.keys.directory),
            sign_after: config.keys.sign_after.into(),
        },
        state_directory: state_directory?,
        redis: redis?,
        reload_interval: config.reload_interval.into(),
        client_address: config.gateway.client_address,
        delivers_set_cookie: config.gateway.delivers_set_cookie,
        pages_in_band: config.gateway.pages_in_band,
        wechat: wechat?,
        profile_max_age,
        apps: apps.into_iter().collect::<Result<_, _>>()?,
        domain_proofs,
        policy: Policy::new(config.policy.iter().map(file::Rule::resolve).collect()),
        limits: rate_limit::Settings {
            logins_per_client: config.limits.logins_per_client,
            logins_per_second: config.limits.logins_per_second,
            new_tokens_per_client: config.limits.new_tokens_per_client,
            checks_per_client: config.limits.checks_per_client,
        },
        admin_token: admin_token?,
        log_level: config.log.level.as_str(),
        drain: Drain { delay: config.drain.delay.into(), deadline: config.drain.deadline.into() },
        fingerprint: [0; 32],
        warnings: Vec::new(),
    })
}

fn wechat(config: file::Wechat, files: &mut Files) -> Result<wechat::Settings, Reported> {
    let roots = config.ca_file.map(|file| files.certificates("wechat.ca_file", &file)).transpose();
    let credentials = config
        .proxy_credentials_file
        .map(|file| files.proxy_credentials("wechat.proxy_credentials_file", &file))
        .transpose();
    let (roots, credentials) = (roots?, credentials?);
    Ok(wechat::Settings {
        open: config.open.to_url(),
        api: config.api.to_url(),
        connect_timeout: config.connect_timeout.into(),
        exchange_timeout: config.exchange_timeout.into(),
        userinfo_timeout: config.userinfo_timeout.into(),
        breaker: breaker::Settings { failures: config.breaker.failures, open: config.breaker.open.into() },
        proxy: config.proxy.map(|url| wechat::settings::Proxy { url: url.0, credentials }),
        roots,
        ..wechat::Settings::default()
    })
}

fn redis(config: file::Redis, files: &mut Files) -> Result<Redis, Reported> {
    let written = config.clone();
    let password = config.password_file.map(|file| files.password("redis.password_file", &file)).transpose();
    let roots = config.ca_file.map(|file| files.certificates("redis.ca_file", &file)).transpose();
    let chain = config
        .client_certificate_file
        .map(|file| files.certificates("redis.client_certificate_file", &file))
        .transpose();
    let key = config.client_key_file.map(|file| files.private_key("redis.client_key_file", &file)).transpose();
    let tls = config.tls || config.url.as_ref().is_some_and(|url| url.tls);
    let form = match (config.url, config.sentinel, config.cluster) {
        (Some(url), ..) => redis::Form::One { address: url.address, database: url.database },
        (None, Some(sentinel), _) => {
            let password =
                sentinel.password_file.map(|file| files.password("redis.sentinel.password_file", &file)).transpose();
            redis::Form::Sentinel {
                master: sentinel.master.into(),
                addresses: sentinel.addresses,
                database: sentinel.database,
                user: sentinel.user.map(String::from),
                password: password?,
            }
        }
        // Without any address, a rule has reported it.
        (None, None, cluster) => redis::Form::Cluster { addresses: cluster.unwrap_or_default() },
    };
    let client = chain?.zip(key?).map(|(chain, key)| redis::settings::ClientCertificate { chain, key });
    Ok(Redis {
        store: redis::Settings {
            client,
            form,
            user: config.user.map(String::from),
            password: password?,
            tls,
            roots: roots?,
            prefix: config.prefix.into(),
            timeout: config.timeout.into(),
        },
        sharing: revocation_sync::Settings {
            reconcile: config.reconcile.into(),
            stale_after: config.revocations_stale_after.into(),
        },
        registry: registry::Settings {
            keep_wechat_tokens: config.keep_wechat_tokens,
            events: events::Settings { max: config.events.max, subject: config.events.subject },
        },
        written,
    })
}

fn app(at: &str, config: file::App, files: &mut Files) -> Result<Arc<App>, Reported> {
    let official_account =
        config.official_account.map(|one| official_account(&format!("{at}.official_account"), one, files)).transpose();
    let website = config
        .website
        .map(|website| credentials(&format!("{at}.website"), website.appid, &website.secret_file, files))
        .transpose();
    let session = session::Settings {
        issuer: config.origin.as_str().to_owned(),
        audience: config.name.clone(),
        token_lifetime: config.session.token_lifetime.into(),
        lifetime: config.session.lifetime.into(),
        idle: config.session.idle.min(config.session.lifetime).into(),
    };
    Ok(Arc::new(App {
        title: config.title.map_or_else(|| config.name.as_str().to_owned(), String::from),
        name: config.name,
        origin: config.origin,
        session,
        subject: config.subject,
        official_account: official_account?,
        website: website?,
        return_to: config.return_to,
        allow_encoded_slashes: config.allow_encoded_slashes,
    }))
}

fn official_account(at: &str, config: file::OfficialAccount, files: &mut Files) -> Result<OfficialAccount, Reported> {
    Ok(OfficialAccount {
        application: credentials(at, config.appid, &config.secret_file, files)?,
        scope: config.scope,
        // A silent login has no consent to precede.
        ask_first: config.ask_first && config.scope == Scope::Userinfo,
        jssdk: config.jssdk,
        require_subscription: config.require_subscription,
        name: config.name.map(String::from),
        follow_qr: config.follow_qr.map(String::from),
    })
}

fn credentials(at: &str, appid: AppId, secret_file: &SecretFile, files: &mut Files) -> Result<Credentials, Reported> {
    Ok(Credentials { appid, secret: files.token(&format!("{at}.secret_file"), secret_file, MIN_APP_SECRET)? })
}
