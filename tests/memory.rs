//! What a session costs in memory, by the operating system's count: a process of its own, in which nothing else happens.

#![allow(clippy::unwrap_used)] // a test says what it means by failing

use std::time::Duration;
use wechat_authz::testing::clock::Timestamp;
use wechat_authz::testing::login_method::LoginMethod;
use wechat_authz::testing::profile::Profile;
use wechat_authz::testing::session::keys::{self, KeyRing, KeySet, KeySettings};
use wechat_authz::testing::session::revocations::Revocations;
use wechat_authz::testing::session::{Grant, Sessions, Settings};
use wechat_authz::testing::telemetry::Metrics;

const NOW: Timestamp = Timestamp(1_800_000_000);

/// The bound of one session: 100,000 of them and 16 MiB of everything else are 110 MiB.
const MAX_BYTES: usize = 985;

fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<usize>().unwrap() * 1_024
}

#[test]
fn a_hundred_thousand_sessions_fit_into_110_mib() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("20260101T000000Z.pem"), keys::generate().unwrap()).unwrap();
    let load = KeySettings { directory: directory.path().to_owned(), sign_after: Duration::ZERO };
    let keys = KeyRing::new(KeySet::load(&load).map_err(|faults| format!("{faults:?}")).unwrap());
    let week = Duration::from_secs(7 * 86_400);
    let sessions = Sessions::new(keys, Revocations::new(week, None, NOW), Metrics::default().lookups.clone());
    let settings = Settings {
        issuer: "https://shop.example.com".into(),
        audience: "shop".parse().unwrap(),
        token_lifetime: Duration::from_secs(900),
        lifetime: week,
        idle: Duration::from_secs(86_400),
    };
    let enter = |number: usize| {
        let grant = Grant {
            subject: format!("wx:wx0123456789abcdef:oAlice{number:022}").parse().unwrap(),
            flow: LoginMethod::OfficialAccount,
            appid: "wx0123456789abcdef".into(),
            openid: format!("oAlice{number:022}"),
            unionid: format!("uAlice{number:022}"),
            profile: Profile {
                nickname: "小明和小红".into(),
                avatar: format!("https://thirdwx.qlogo.cn/mmopen/vi_32/{}/132", "A".repeat(90)),
            },
        };
        sessions.begin(grant, &settings, NOW).unwrap();
    };
    // What is allocated once.
    (0..100).for_each(enter);
    let (before, count) = (resident_bytes(), 20_000);
    (100..100 + count).for_each(enter);
    let each = resident_bytes().saturating_sub(before) / count;
    println!("{each} bytes for each session");
    assert_eq!(sessions.cached_count(), 100 + count);
    assert!(each <= MAX_BYTES, "{each} bytes for each session");
}
