//! Checks what an instance depends on: keys, WeChat, the clock, Redis.

use super::{Finding, TIMEOUT};
use crate::clock::{self, Timestamp};
use crate::config::settings::Settings;
use crate::redis::Redis;
use crate::session::keys::KeySet;
use crate::session::token;
use crate::telemetry::RedisMetrics;
use crate::wechat::{self, Class, Client, Code, Credentials};
use std::time::UNIX_EPOCH;
use tokio::time::timeout;

/// Checks all of them.
pub(super) async fn inspect(settings: &Settings) -> Vec<Finding> {
    let mut findings = vec![configuration(settings)];
    findings.extend(
        settings.warnings.iter().map(|warning| Finding::warn("configuration", warning.clone(), "follow the warning")),
    );
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
            None => Finding::fail("keys", "no key signs now", "create one: wechat-authz keygen DIR"),
        },
        Err(errors) => {
            let all: Vec<String> = errors.iter().map(ToString::to_string).collect();
            Finding::fail("keys", all.join("; "), "create one: wechat-authz keygen DIR")
        }
    }
}

/// Whether WeChat answers, and whether its clock agrees with ours.
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
            std::iter::once(reached)
                .chain(theirs.map(|time| compare_clocks("WeChat's", Timestamp(time.as_secs()))))
                .collect()
        }
        Err(error) => vec![Finding::fail(
            about,
            format!("{host} does not answer: {}", innermost(&error)),
            "allow this machine to reach it: DNS, outgoing port 443, and no proxy that intercepts TLS",
        )],
    }
}

/// The root cause of an error, which is the most specific.
pub(super) fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(cause) = error.source() {
        error = cause;
    }
    error.to_string()
}

fn compare_clocks(whose: &str, theirs: Timestamp) -> Finding {
    const LEEWAY: u64 = token::LEEWAY.as_secs();
    let ours = clock::now();
    let seconds = ours.0.abs_diff(theirs.0);
    let direction = if ours.0 > theirs.0 { "ahead of" } else { "behind" };
    if seconds <= LEEWAY {
        Finding::ok("clock", format!("within {LEEWAY} s of {whose}"))
    } else {
        Finding::fail(
            "clock",
            format!("{seconds} s {direction} {whose}"),
            "run NTP: instances reject each other's tokens if the clocks differ by more than 30 s",
        )
    }
}

/// Whether AppID and AppSecret of each application are right: only then does WeChat report an invalid code as such.
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
            findings
                .push(check_access_token(&client, &account.application, format!("{} access_token", app.name)).await);
        }
    }
    findings
}

async fn check_application(client: &Client, application: &Credentials, about: String) -> Finding {
    let appid = application.appid.as_str();
    let Ok(code) = Code::parse("doctor") else { return Finding::fail(about, "no code", "report this as a bug") };
    match client.exchange(application, &code).await {
        Err(error) => match error.class() {
            Class::RestartLogin if error.label() == "40029" => {
                Finding::ok(about, format!("WeChat accepts AppID {appid} and its AppSecret"))
            }
            Class::Configuration => Finding::fail(
                about,
                format!("{appid}: {error}"),
                "compare AppID and AppSecret with 设置与开发 → 基本配置 (or open.weixin.qq.com for a website)",
            ),
            _ => Finding::warn(
                about,
                format!("{appid}: {error}"),
                "try again later: WeChat did not say whether they are right",
            ),
        },
        Ok(_) => {
            Finding::warn(about, format!("{appid}: an invalid code was accepted"), "check that wechat.api is WeChat's")
        }
    }
}

/// Whether WeChat gives this machine the account's access token, which jssdk and require_subscription need.
async fn check_access_token(client: &Client, application: &Credentials, about: String) -> Finding {
    let appid = application.appid.as_str();
    match client.check_token_access(application).await {
        Ok(()) => Finding::ok(about, format!("WeChat gives this machine the access token of {appid}")),
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
        return vec![Finding::ok("Redis", "not configured: instances share nothing")];
    };
    let store = Redis::new(redis.store.clone(), RedisMetrics::default());
    let connection = store.clone();
    let connection = tokio::spawn(async move { connection.run().await });
    let attempt = timeout(TIMEOUT, store.first_attempt()).await;
    let mut command = redis::cmd("TIME");
    command.arg(&[] as &[&str]);
    let time = store.query::<(u64, u64)>("doctor", &command).await;
    connection.abort();
    match time {
        Ok((seconds, _)) => vec![Finding::ok("Redis", "answers"), compare_clocks("Redis's", Timestamp(seconds))],
        Err(error) => {
            let found = if attempt.is_err() { "no connection in time".to_owned() } else { error.to_string() };
            let cure = "check that it runs and accepts this machine: address, TLS, user, password_file; see the log of `serve`";
            vec![Finding::fail("Redis", found, cure)]
        }
    }
}
