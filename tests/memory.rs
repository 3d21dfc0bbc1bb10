//! Memory per session, as the operating system counts it: this test is its own process, so nothing else allocates.

#![allow(clippy::unwrap_used)] // a test says what it means by failing

use wechat_authz::testing::fixtures::{self, NOW};
use wechat_authz::testing::login_method::LoginMethod;
use wechat_authz::testing::profile::Profile;
use wechat_authz::testing::session::Grant;

/// Maximum bytes per session: 100,000 sessions and 16 MiB for everything else are 110 MiB.
const MAX_BYTES: usize = 985;

fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<usize>().unwrap() * 1_024
}

#[test]
fn a_hundred_thousand_sessions_fit_into_110_mib() {
    let sessions = fixtures::sessions(fixtures::key_ring(), NOW);
    let settings = fixtures::shop().session;
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
    // Allocates the one-time parts first.
    (0..100).for_each(enter);
    let (before, count) = (resident_bytes(), 20_000);
    (100..100 + count).for_each(enter);
    let each = resident_bytes().saturating_sub(before) / count;
    println!("{each} bytes for each session");
    assert_eq!(sessions.cached_count(), 100 + count);
    assert!(each <= MAX_BYTES, "{each} bytes for each session");
}
