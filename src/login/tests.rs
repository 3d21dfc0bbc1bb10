//! Attempts: each callback belongs to one browser.

use super::attempt::{self, LIFETIME, MAX, MAX_BYTES, SetAside};
use super::settings::App;
use super::*;
use crate::cookie;
use crate::origin::Origin;
use crate::session::keys::KeyRing;
use crate::testing::fixtures::{self, NOW, shop};
use http::header;
use std::time::Duration;

/// The browser after these `Set-Cookie` lines.
fn browser(mut jar: Vec<(String, String)>, set: &[HeaderValue]) -> Vec<(String, String)> {
    for line in set {
        let line = line.to_str().unwrap();
        let (name, value) = line.split(';').next().unwrap().split_once('=').unwrap();
        jar.retain(|(other, _)| other != name);
        if !line.contains("Max-Age=0") {
            jar.push((name.to_owned(), value.to_owned()));
        }
    }
    jar
}

fn headers(jar: &[(String, String)]) -> HeaderMap {
    let line: Vec<String> = jar.iter().map(|(name, value)| format!("{name}={value}")).collect();
    HeaderMap::from_iter([(header::COOKIE, HeaderValue::from_str(&line.join("; ")).unwrap())])
}

fn begin(app: &App, jar: &[(String, String)], keys: &KeyRing, now: Timestamp) -> attempt::NewAttempt {
    attempt::begin(app, LoginMethod::Website, "https://shop.example.com/a".into(), 0, &headers(jar), keys, now).unwrap()
}

#[test]
fn an_attempt_opens_for_its_state_in_its_browser_until_it_expires() {
    let (app, keys) = (shop(), fixtures::key_ring());
    let started = begin(&app, &[], &keys, NOW);
    let jar = browser(Vec::new(), &started.cookies);
    let opened = attempt::open(&app, &started.state, &headers(&jar), &keys, NOW + LIFETIME).unwrap();
    assert_eq!(
        (opened.state(), opened.method(), opened.return_to()),
        (&*started.state, LoginMethod::Website, Some("https://shop.example.com/a"))
    );
    let other_app = App { name: "blog".parse().unwrap(), ..shop() };
    let other_host = App { origin: Origin::parse("https://blog.example.com").unwrap(), ..shop() };
    let other_state = random_like(&started.state);
    let twice = [&jar[..], &[(jar[0].0.clone(), "another".to_owned())]].concat();
    for (error, app, state, jar, keys, now) in [
        (AttemptError::Unknown, &app, &started.state, &Vec::new(), &keys, NOW),
        (AttemptError::Unknown, &app, &other_state, &jar, &keys, NOW),
        (AttemptError::Unknown, &app, &started.state.to_uppercase(), &jar, &keys, NOW),
        (AttemptError::Conflict, &app, &started.state, &twice, &keys, NOW),
        (AttemptError::Foreign, &other_app, &started.state, &jar, &keys, NOW),
        (AttemptError::Foreign, &other_host, &started.state, &jar, &keys, NOW),
        (AttemptError::Foreign, &app, &started.state, &jar, &fixtures::key_ring(), NOW),
        (AttemptError::Expired, &app, &started.state, &jar, &keys, NOW + LIFETIME + Duration::from_secs(1)),
    ] {
        assert_eq!(attempt::open(app, state, &headers(jar), keys, now).unwrap_err(), error);
    }
}

/// Another state whose cookie has the same name.
fn random_like(state: &str) -> String {
    format!("{}{}", &state[..8], &crate::random::state()[..24])
}

#[test]
fn a_cookie_of_another_purpose_or_with_a_changed_bit_does_not_open() {
    let (app, keys) = (shop(), fixtures::key_ring());
    let started = begin(&app, &[], &keys, NOW);
    let jar = browser(Vec::new(), &started.cookies);
    let (name, value) = jar[0].clone();
    let attempts = RecentOutcomes::default().failed(NOW).cookie(&app, &keys, NOW).unwrap();
    let other_purpose = browser(Vec::new(), &[attempts])[0].1.clone();
    let mut changed = value.clone().into_bytes();
    changed[20] = if changed[20] == b'A' { b'B' } else { b'A' };
    for value in [other_purpose, String::from_utf8(changed).unwrap(), String::new(), "junk".into(), "A".repeat(5_000)] {
        let jar = vec![(name.clone(), value)];
        assert!(attempt::open(&app, &started.state, &headers(&jar), &keys, NOW).is_err());
    }
}

#[test]
fn a_browser_has_sixteen_attempts_and_loses_the_oldest() {
    let (app, keys) = (shop(), fixtures::key_ring());
    let mut jar = Vec::new();
    let mut states = Vec::new();
    for second in 0..MAX as u64 + 3 {
        let now = NOW + Duration::from_secs(second);
        let started = begin(&app, &jar, &keys, now);
        jar = browser(jar, &started.cookies);
        states.push(started.state);
        assert!(jar.len() <= MAX);
    }
    let now = NOW + Duration::from_secs(60);
    for (number, state) in states.iter().enumerate() {
        assert_eq!(attempt::open(&app, state, &headers(&jar), &keys, now).is_ok(), number >= 3, "{number}");
    }
}

#[test]
fn old_and_broken_attempt_cookies_never_block_a_login() {
    let (app, keys) = (shop(), fixtures::key_ring());
    let jar: Vec<(String, String)> =
        (0..5).map(|number| (format!("{}{number:08x}", cookie::FLOW_PREFIX), "broken".into())).collect();
    let started = begin(&app, &jar, &keys, NOW);
    let jar = browser(jar, &started.cookies);
    assert_eq!(jar.len(), 1, "the broken ones are deleted");
    assert!(attempt::open(&app, &started.state, &headers(&jar), &keys, NOW).is_ok());
}

#[test]
fn an_address_is_in_the_cookie_or_set_aside() {
    let (app, keys) = (shop(), fixtures::key_ring());
    for (path, inline) in [
        ("a".repeat(2_047), true),
        ("a".repeat(2_048), false),
        ("a".repeat(8_000), false),
        // Text that grows when JSON encodes it.
        ("\"".repeat(2_000), false),
    ] {
        let return_to = format!("https://shop.example.com/{path}");
        let started =
            attempt::begin(&app, LoginMethod::Website, return_to.clone(), 0, &HeaderMap::new(), &keys, NOW).unwrap();
        let line = started.cookies.last().unwrap();
        assert!(started.cookies.len() == 1 && line.len() < 4_096, "{}", line.len());
        let jar = browser(Vec::new(), &started.cookies);
        let opened = attempt::open(&app, &started.state, &headers(&jar), &keys, NOW).unwrap();
        let aside = SetAside { state: started.state.clone(), return_to: return_to.clone() };
        if inline {
            assert_eq!((opened.return_to(), started.set_aside), (Some(&*return_to), vec![]));
        } else {
            assert_eq!((opened.return_to(), started.set_aside), (None, vec![aside]));
        }
    }
    let elsewhere = "https://static.example.com/a".to_owned();
    let started =
        attempt::begin(&app, LoginMethod::Website, elsewhere.clone(), 0, &HeaderMap::new(), &keys, NOW).unwrap();
    let jar = browser(Vec::new(), &started.cookies);
    assert_eq!(attempt::open(&app, &started.state, &headers(&jar), &keys, NOW).unwrap().return_to(), Some(&*elsewhere));
}

#[test]
fn cookies_of_all_tabs_are_bounded_and_each_tab_keeps_its_address() {
    let (app, keys) = (shop(), fixtures::key_ring());
    for length in [1, 60, 300, 1_000, 1_900, 2_047, 5_000] {
        let mut jar = Vec::new();
        let mut tabs = Vec::new();
        let mut aside = Vec::new();
        for tab in 0..MAX {
            let now = NOW + Duration::from_secs(tab as u64);
            let to = format!("https://shop.example.com/{tab}/{}", "a".repeat(length));
            let started =
                attempt::begin(&app, LoginMethod::OfficialAccount, to.clone(), 0, &headers(&jar), &keys, now).unwrap();
            jar = browser(jar, &started.cookies);
            aside.extend(started.set_aside);
            tabs.push((started.state, to));
            let sent = headers(&jar).get(header::COOKIE).unwrap().len();
            assert!(sent <= MAX_BYTES, "{sent} bytes of {} attempts with {length} each", jar.len());
        }
        let now = NOW + Duration::from_secs(60);
        for (state, to) in &tabs {
            let opened = attempt::open(&app, state, &headers(&jar), &keys, now).unwrap();
            let kept = aside.iter().find(|entry| entry.state == *state).map(|entry| &*entry.return_to);
            assert_eq!(opened.return_to().or(kept), Some(&**to), "{length}");
        }
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

    /// An attempt stores any return address. With one changed byte it does not open.
    #[test]
    fn a_changed_attempt_does_not_open(path in "/[!-~]{0,200}", at in 0usize..400, to in "[A-Za-z0-9_-]") {
        let (app, keys) = (shop(), fixtures::key_ring());
        let return_to = format!("https://shop.example.com{path}");
        let started = attempt::begin(&app, LoginMethod::Website, return_to.clone(), 0, &HeaderMap::new(), &keys, NOW).unwrap();
        let jar = browser(Vec::new(), &started.cookies);
        let opened = attempt::open(&app, &started.state, &headers(&jar), &keys, NOW).unwrap();
        proptest::prop_assert_eq!(opened.return_to(), Some(return_to.as_str()));
        let (name, value) = jar[0].clone();
        let mut changed = value.clone();
        let at = at % changed.len();
        changed.replace_range(at..=at, &to);
        if changed != value {
            let jar = [(name, changed)];
            proptest::prop_assert!(attempt::open(&app, &started.state, &headers(&jar), &keys, NOW).is_err());
        }
    }
}
