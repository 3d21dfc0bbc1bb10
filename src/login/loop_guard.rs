//! Stops redirect loops.
//!
//! There are two kinds. Either every login fails, because WeChat refuses each code. Or every login succeeds and the next
//! check still finds no session, because cookies are blocked, instances have different keys or their clocks differ. A
//! sealed cookie counts both.

use crate::clock::Timestamp;
use crate::cookie;
use crate::login::settings::App;
use crate::session::keys::KeyRing;
use http::{HeaderMap, HeaderValue};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Failed logins within [`WINDOW`] that stop the loop.
const MAX_FAILURES: usize = 3;

/// Successful logins within [`WINDOW`] that stop the loop.
const MAX_SUCCESSES: usize = 6;

/// How long a login counts.
const WINDOW: Duration = Duration::from_secs(60);

/// The longest sealed cookie that is opened. Ours are shorter.
const MAX_SEALED: usize = 512;

/// When this browser's recent logins failed and succeeded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecentOutcomes {
    failed: Vec<u64>,
    succeeded: Vec<u64>,
}

impl RecentOutcomes {
    /// Reads the cookie. Empty if it is absent or does not open.
    pub fn read(app: &App, headers: &HeaderMap, keys: &KeyRing, now: Timestamp) -> Self {
        let cookie::Found::One(sealed) = cookie::find(headers, cookie::ATTEMPTS) else { return Self::default() };
        let opened = keys.open(&context(app), sealed, MAX_SEALED);
        let mut outcomes: Self = opened.and_then(|plain| serde_json::from_slice(&plain).ok()).unwrap_or_default();
        let recent = |at: &u64| now.since(Timestamp(*at)) < WINDOW;
        outcomes.failed.retain(recent);
        outcomes.succeeded.retain(recent);
        outcomes
    }

    /// Whether to stop the loop.
    pub fn are_too_many(&self) -> bool {
        self.failed.len() >= MAX_FAILURES || self.succeeded.len() >= MAX_SUCCESSES
    }

    /// Adds a failed login.
    pub fn failed(mut self, now: Timestamp) -> Self {
        self.failed.push(now.0);
        self
    }

    /// Adds a successful login. Earlier failures no longer count.
    pub fn succeeded(mut self, now: Timestamp) -> Self {
        self.failed.clear();
        self.succeeded.push(now.0);
        self
    }

    /// The cookie.
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
    fn three_failures_are_too_many_and_a_success_resets_them() {
        let now = Timestamp(1_000);
        let twice = RecentOutcomes::default().failed(now).failed(now);
        assert!(!twice.are_too_many());
        assert!(twice.clone().failed(now).are_too_many());
        assert!(!twice.succeeded(now).failed(now).are_too_many());
    }

    #[test]
    fn six_successful_logins_are_a_loop() {
        let now = Timestamp(1_000);
        let five = (0..5).fold(RecentOutcomes::default(), |outcomes, _| outcomes.succeeded(now));
        assert!(!five.are_too_many());
        assert!(five.succeeded(now).are_too_many());
    }
}
