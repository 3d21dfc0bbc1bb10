//! What stands behind an instance: its keys, WeChat, the clock, Redis.

use super::{Finding, TIMEOUT};
use crate::clock::{self, Timestamp};
use crate::config::settings::Settings;
use crate::redis::Redis;
use crate::session::keys::KeySet;
use crate::telemetry::RedisMetrics;
use crate::wechat::{self, Class, Client, Code, Credentials};
use std::time::UNIX_EPOCH;
use tokio::time::timeout;

/// Clocks this far apart still understand each other's tokens: the leeway of a token's times.
const LEEWAY: u64 = 30;

/// Looks at all of them.
pub(super) async fn inspect(settings: &Settings) -> Vec<Finding> {
    let mut findings = vec![configuration(settings)];
    findings
        .extend(settings.warnings.iter().map(|warning| Finding::warn("configuration", warning.clone(), "as it says")));
    findings.push(keys(settings));
    findings.extend(wechat(settings).await);
    findings.extend(applications(settings).await);
    findings.extend(redis(settings).await);
    findings
}

fn configuration(settings: &Settings) -> Finding {
    let apps: Vec<String> =
        settings.apps.iter().map(|app| format!("{} at {}", app.name, app.origin.as_str())).collect();
    Finding::ok("configuration", apps.join(", "))
}

fn keys(settings: &Settings) -> Finding {
    match KeySet::load(&settings.keys) {
        Ok(keys) => match keys.signing(clock::now()) {
            Some(key) => {
                let count = keys.keys().len();
                Finding::ok("keys", format!("{count} {}, {} signs", if count == 1 { "key" } else { "keys" }, key.kid()))
            }
            None => Finding::fail("keys", "no key signs now", "make one: wechat-authz keygen DIR"),
        },
        Err(errors) => {
            let all: Vec<String> = errors.iter().map(ToString::to_string).collect();
            Finding::fail("keys", all.join("; "), "make one: wechat-authz keygen DIR")
        }
    }
}

/// Whether WeChat is there, and its clock beside ours.
async fn wechat(settings: &Settings) -> Vec<Finding> {
    let (about, api) = ("WeChat", settings.wechat.api.clone());
    let host = api.host_str().unwrap_or_default().to_owned();
    let answer = match wechat::http(&settings.wechat) {
        Ok(client) => client.get(api.clone()).timeout(TIMEOUT).send().await.map_err(reqwest::Error::without_url),
        Err(error) => Err(error),
    };
    match answer {
        Ok(answer) => {
            let date = answer.headers().get(http::header::DATE).and_then(|date| date.to_str().ok());
            let theirs = date.and_then(|date| httpdate::parse_http_date(date).ok());
            let theirs = theirs.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
            let reached = Finding::ok(about, format!("{host} answers"));
            std::iter::once(reached).chain(theirs.map(|time| clocks("WeChat's", Timestamp(time.as_secs())))).collect()
        }
        Err(error) => vec![Finding::fail(
            about,
            format!("{host} does not answer: {}", innermost(&error)),
            "let this machine reach it: DNS, port 443 outwards, and no proxy that breaks TLS open",
        )],
    }
}

/// The last cause of an error, which says most.
pub(super) fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(cause) = error.source() {
        error = cause;
    }
    error.to_string()
}

fn clocks(whose: &str, theirs: Timestamp) -> Finding {
    let ours = clock::now();
    let apart = ours.0.abs_diff(theirs.0);
    let way = if ours.0 > theirs.0 { "ahead of" } else { "behind" };
    if apart <= LEEWAY {
        Finding::ok("clock", format!("within {LEEWAY} s of {whose}"))
    } else {
        Finding::fail(
            "clock",
            format!("{apart} s {way} {whose}"),
            "run NTP: instances refuse each other's tokens beyond 30 s",
        )
    }
}

/// Whether WeChat knows each application: a code that never was one is refused as such only where AppID and AppSecret are
/// right.
async fn applications(settings: &Settings) -> Vec<Finding> {
    let client = match Client::new(&settings.wechat, |_, _, _| ()) {
        Ok(client) => client,
        Err(error) => return vec![Finding::fail("WeChat", error.to_string(), "correct wechat.api and wechat.open")],
    };
    let mut findings = Vec::new();
    for app in &settings.apps {
        let account = app.official_account.as_ref().map(|account| (&account.application, "official_account"));
        let website = app.website.as_ref().map(|website| (website, "website"));
        for (application, kind) in account.into_iter().chain(website) {
            findings.push(check_application(&client, application, format!("{} {kind}", app.name)).await);
        }
        if let Some(account) = app.official_account.as_ref().filter(|own| own.jssdk || own.require_subscription) {
            findings.push(trusted(&client, &account.application, format!("{} access_token", app.name)).await);
        }
    }
    findings
}

async fn check_application(client: &Client, application: &Credentials, about: String) -> Finding {
    let appid = application.appid.as_str();
    let Ok(code) = Code::parse("doctor") else { return Finding::fail(about, "no code", "report this") };
    match client.exchange(application, &code).await {
        Err(error) => match error.class() {
            Class::RestartLogin if error.label() == "40029" => {
                Finding::ok(about, format!("WeChat knows AppID {appid} and its AppSecret"))
            }
            Class::Configuration => Finding::fail(
                about,
                format!("{appid}: {error}"),
                "compare AppID and AppSecret with 设置与开发 → 基本配置 (or open.weixin.qq.com for a website)",
            ),
            _ => Finding::warn(
                about,
                format!("{appid}: {error}"),
                "try again later: WeChat did not say whether it knows it",
            ),
        },
        Ok(_) => {
            Finding::warn(about, format!("{appid}: what answers takes any code"), "see that wechat.api is WeChat's")
        }
    }
}

/// Whether WeChat gives out the account's own token, without which there is no JS-SDK and no look at followers.
async fn trusted(client: &Client, application: &Credentials, about: String) -> Finding {
    let appid = application.appid.as_str();
    match client.check_token_access(application).await {
        Ok(()) => Finding::ok(about, format!("WeChat gives {appid}'s token to this machine")),
        Err(error) if error.label() == "40164" => Finding::fail(
            about,
            format!("{appid}: {error}"),
            "put the addresses from which wechat-authz calls WeChat on the account's IP 白名单 (设置与开发 → 基本配置): \
             jssdk and require_subscription fail without it",
        ),
        Err(error) if error.class() == Class::Configuration => Finding::fail(
            about,
            format!("{appid}: {error}"),
            "see 设置与开发 → 基本配置 and 接口权限: jssdk and require_subscription need the account's access_token",
        ),
        Err(error) => Finding::warn(about, format!("{appid}: {error}"), "try again later: WeChat did not answer"),
    }
}

async fn redis(settings: &Settings) -> Vec<Finding> {
    let Some(redis) = &settings.redis else {
        return vec![Finding::ok("Redis", "not configured: this instance stands alone")];
    };
    let store = Redis::new(redis.store.clone(), RedisMetrics::default());
    let keeper = store.clone();
    let keeping = tokio::spawn(async move { keeper.run().await });
    let tried = timeout(TIMEOUT, store.first_attempt()).await;
    let mut command = redis::cmd("TIME");
    command.arg(&[] as &[&str]);
    let told = store.ask::<(u64, u64)>("doctor", &command).await;
    keeping.abort();
    match told {
        Ok((seconds, _)) => vec![Finding::ok("Redis", "answers"), clocks("Redis's", Timestamp(seconds))],
        Err(away) => {
            let found = if tried.is_err() { "no connection in time".to_owned() } else { away.to_string() };
            let cure = "see that it runs and lets this machine in: address, TLS, user, password_file; the log of `serve` says more";
            vec![Finding::fail("Redis", found, cure)]
        }
    }
}
