//! The sealed attempt: it binds the `state` at WeChat to one browser (docs/en/wechat.md, No PKCE).
//!
//! An input is a `state` and below it the values of `Cookie` lines; names in braces stand for sealed values.

use crate::template::expand;
use crate::world::{NOW, world};
use http::header::{self, HeaderMap, HeaderValue};
use wechat_authz::testing::cookie;
use wechat_authz::testing::login::attempt;
use wechat_authz::testing::login::loop_guard::RecentOutcomes;
use wechat_authz::testing::login_method::LoginMethod;

/// An attempt opens only with its own `state`, its own cookie, unchanged, and at its own application.
pub fn holds(data: &[u8]) {
    let world = world();
    let text = expand(data, |name| world.value(name));
    let mut lines = text.split(|byte| *byte == b'\n');
    let Ok(state) = std::str::from_utf8(lines.next().unwrap_or_default()) else { return };
    let headers: HeaderMap =
        lines.filter_map(|line| HeaderValue::from_bytes(line).ok()).map(|line| (header::COOKIE, line)).collect();
    let [shop, blog] = &world.apps;
    let keys = &world.sessions.keys;
    for (app, own_state, own_sealed, way) in [
        (shop, "state", "sealed", LoginMethod::Website),
        (blog, "blog_state", "blog_sealed", LoginMethod::OfficialAccount),
    ] {
        let name = format!("{}{}", cookie::FLOW_PREFIX, state.get(..8).unwrap_or_default());
        let unchanged = state == world.text(own_state)
            && cookie::find(&headers, &name) == cookie::Found::One(world.text(own_sealed));
        let opened = attempt::open(app, state, &headers, keys, NOW);
        assert_eq!(opened.is_ok(), unchanged, "{state:?} at {}", app.name);
        if let Ok(opened) = opened {
            assert_eq!((opened.state(), opened.method(), opened.restarts()), (state, way, 1));
            assert_eq!(opened.return_to(), Some(&*format!("{}/a?b=c", app.origin.as_str())));
            let late = NOW + attempt::LIFETIME + std::time::Duration::from_secs(1);
            assert!(attempt::open(app, state, &headers, keys, late).is_err(), "an attempt that does not expire");
        }
        assert_eq!(
            RecentOutcomes::read(app, &headers, keys, NOW),
            RecentOutcomes::default(),
            "attempts that we did not seal"
        );
        begins(app, &headers);
    }
}

/// For any cookies, a login starts, and it deletes only attempts of this browser under our cookie names.
fn begins(app: &wechat_authz::testing::login::settings::App, headers: &HeaderMap) {
    let keys = &world().sessions.keys;
    let to = app.origin.absolute("/");
    let begun = attempt::begin(app, LoginMethod::Website, to, 0, headers, keys, NOW).expect("a login starts");
    assert!(attempt::is_state(&begun.state) && begun.cookies.len() <= 2 * attempt::MAX + 1);
    for line in &begun.cookies {
        let line = line.to_str().unwrap();
        let (name, rest) = line.split_once('=').unwrap();
        let digits = name.strip_prefix(cookie::FLOW_PREFIX).unwrap();
        assert!(digits.len() == 8 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()), "{name}");
        assert_eq!(rest.matches(';').count(), 5, "unexpected attributes: {line}");
    }
}
