//! How often this browser's logins ended lately: what stops a loop.
//!
//! Two loops are possible. Failures: WeChat refuses the code again and again. Successes: the login ends well, yet the
//! next check does not know the session (cookies blocked, keys not shared between instances, clocks apart), and a silent
//! login would start over for ever. Both are counted in a sealed cookie and end on a page.

use crate::clock::Timestamp;
use crate::cookie;
use crate::login::settings::App;
use crate::session::keys::KeyRing;
use http::{HeaderMap, HeaderValue};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Failures within [`WINDOW`] after which redirecting stops.
const MAX_FAILURES: usize = 3;

/// Logins that ended well within [`WINDOW`] after which another one is suspicious.
const MAX_SUCCESSES: usize = 6;

/// How long an end counts.
const WINDOW: Duration = Duration::from_secs(60);

/// Longer than any of ours.
const MAX_SEALED: usize = 512;

/// The ends of this browser's last logins.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecentOutcomes {
    failed: Vec<u64>,
    succeeded: Vec<u64>,
}

impl RecentOutcomes {
    /// Reads them from the browser's cookie; none where it says nothing of ours.
    pub fn read(app: &App, headers: &HeaderMap, keys: &KeyRing, now: Timestamp) -> Self {
        let cookie::Found::One(sealed) = cookie::find(headers, cookie::ATTEMPTS) else { return Self::default() };
        let opened = keys.open(&context(app), sealed, MAX_SEALED);
        let mut attempts: Self = opened.and_then(|plain| serde_json::from_slice(&plain).ok()).unwrap_or_default();
        let recent = |at: &u64| now.since(Timestamp(*at)) < WINDOW;
        attempts.failed.retain(recent);
        attempts.succeeded.retain(recent);
        attempts
    }

    /// Whether to stop redirecting.
    pub fn are_too_many(&self) -> bool {
        self.failed.len() >= MAX_FAILURES || self.succeeded.len() >= MAX_SUCCESSES
    }

    /// One more that failed.
    pub fn failed(mut self, now: Timestamp) -> Self {
        self.failed.push(now.0);
        self
    }

    /// One more that ended well. Earlier failures no longer count.
    pub fn succeeded(mut self, now: Timestamp) -> Self {
        self.failed.clear();
        self.succeeded.push(now.0);
        self
    }

    /// A fresh start: a person pressed a button, so nothing loops.
    pub fn forgiven() -> Self {
        Self::default()
    }

    /// The cookie that remembers them.
    pub fn cookie(&self, app: &App, keys: &KeyRing, now: Timestamp) -> Option<HeaderValue> {
        let plain = serde_json::to_vec(self).ok()?;
        Some(cookie::set(cookie::ATTEMPTS, &keys.seal(&context(app), &plain, now)?, "/", WINDOW))
    }
}

fn context(app: &App) -> String {
    format!("attempts v1 {} {}", app.origin.as_str(), app.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_failures_are_too_many_and_a_success_forgives_them() {
        let now = Timestamp(1_000);
        let twice = RecentOutcomes::default().failed(now).failed(now);
        assert!(!twice.are_too_many());
        assert!(twice.clone().failed(now).are_too_many());
        assert!(!twice.succeeded(now).failed(now).are_too_many());
    }

    #[test]
    fn logins_that_end_well_again_and_again_are_a_loop() {
        let now = Timestamp(1_000);
        let five = (0..5).fold(RecentOutcomes::default(), |attempts, _| attempts.succeeded(now));
        assert!(!five.are_too_many());
        assert!(five.succeeded(now).are_too_many());
    }
}
