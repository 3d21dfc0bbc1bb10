//! Limits of the calls for tokens, and the back-off after a failure.
//!
//! WeChat allows 500,000 calls for a token a day, 20 of them forced and those 30 s apart (docs/en/wechat.md, Access token
//! of the account). Other programs may use the same AppID, so our limits are far below; a normal day needs a dozen calls.

use crate::clock::Timestamp;
use crate::wechat::errcode::Class;
use crate::wechat::error::WechatError;
use std::time::Duration;

/// Calls a day. Each call may retry twice.
pub(super) const MAX_CALLS: u64 = 10_000;

/// Forced calls a day: half of WeChat's limit.
pub(super) const MAX_FORCED: u64 = 10;

/// The shortest time between two forced calls: twice WeChat's minimum.
pub(super) const MIN_FORCED_INTERVAL: Duration = Duration::from_secs(60);

/// The back-off after a daily quota, ours or WeChat's, is used up.
pub(super) const QUOTA_BACKOFF: Duration = Duration::from_secs(600);

/// The first back-off, doubled with each consecutive failure, and the longest.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(60));

/// Failures further apart are not consecutive.
pub(super) const FAILURE_WINDOW: Duration = Duration::from_secs(600);

/// A kind of call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CallKind {
    /// Gets the current token.
    Usual,
    /// Gets a new token, which invalidates the current one.
    Forced,
}

impl CallKind {
    /// The name in metrics and Redis.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Usual => "usual",
            Self::Forced => "forced",
        }
    }

    /// The calls a day, and the shortest time between two.
    pub(super) const fn limits(self) -> (u64, Duration) {
        match self {
            Self::Usual => (MAX_CALLS, Duration::ZERO),
            Self::Forced => (MAX_FORCED, MIN_FORCED_INTERVAL),
        }
    }
}

/// The number of the day, which begins at midnight in Beijing.
pub(super) fn day(now: Timestamp) -> u64 {
    (now + Duration::from_secs(8 * 3_600)).0 / 86_400
}

/// The first and the longest back-off after this error.
pub(super) fn backoff_range(error: &WechatError) -> (Duration, Duration) {
    match error {
        WechatError::BreakerOpen { retry_after, .. } => (*retry_after, *retry_after),
        WechatError::Errcode { code: 45009, .. } => (QUOTA_BACKOFF, QUOTA_BACKOFF),
        WechatError::Errcode { code: 45011, .. } => (BACKOFF.1, BACKOFF.1),
        // Short enough that a corrected configuration works soon.
        _ if error.class() == Class::Configuration => (Duration::from_secs(15), BACKOFF.1),
        _ => BACKOFF,
    }
}

/// The counts of one instance, used while Redis is unavailable.
#[derive(Debug, Default)]
pub(super) struct Quota {
    day: u64,
    usual: u64,
    forced: u64,
    last_forced: Option<Timestamp>,
    failures: u32,
}

impl Quota {
    /// Counts a call and returns today's count; `None` if the call is not allowed.
    pub(super) fn consume(&mut self, call: CallKind, now: Timestamp) -> Option<u64> {
        if self.day != day(now) {
            (self.day, self.usual, self.forced) = (day(now), 0, 0);
        }
        let (max, interval) = call.limits();
        let count = match call {
            CallKind::Usual => &mut self.usual,
            CallKind::Forced => &mut self.forced,
        };
        let too_soon =
            call == CallKind::Forced && self.last_forced.is_some_and(|last| now < last + interval && now >= last);
        if *count >= max || too_soon {
            return None;
        }
        *count += 1;
        if call == CallKind::Forced {
            self.last_forced = Some(now);
        }
        Some(*count)
    }

    /// Counts a failure and returns the back-off.
    pub(super) fn failed(&mut self, error: &WechatError) -> Duration {
        let (first, max) = backoff_range(error);
        let backoff = first.saturating_mul(1 << self.failures.min(16)).min(max);
        self.failures = self.failures.saturating_add(1);
        backoff
    }

    /// Ends the back-off after a success.
    pub(super) fn reset_failures(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wechat::Endpoint;

    #[test]
    fn the_daily_limit_starts_again_each_day() {
        let (mut quota, now) = (Quota::default(), Timestamp(1_800_000_000));
        for count in 1..=MAX_CALLS {
            assert_eq!(quota.consume(CallKind::Usual, now), Some(count));
        }
        assert_eq!(quota.consume(CallKind::Usual, now), None);
        assert_eq!(quota.consume(CallKind::Usual, now + Duration::from_secs(86_400)), Some(1));
    }

    #[test]
    fn forced_calls_are_limited_by_count_and_interval() {
        let (mut quota, mut now) = (Quota::default(), Timestamp(1_800_000_000));
        for count in 1..=MAX_FORCED {
            assert_eq!(quota.consume(CallKind::Forced, now), Some(count));
            assert_eq!(quota.consume(CallKind::Forced, now + Duration::from_secs(59)), None);
            now = now + MIN_FORCED_INTERVAL;
        }
        assert_eq!(quota.consume(CallKind::Forced, now), None);
        assert!(quota.consume(CallKind::Usual, now).is_some());
    }

    #[test]
    fn a_day_begins_at_midnight_in_beijing() {
        let midnight = Timestamp::parse("2026-11-23T16:00:00Z", crate::clock::RFC_3339).unwrap();
        assert_eq!(day(midnight), day(midnight - Duration::from_secs(1)) + 1);
    }

    #[test]
    fn the_backoff_grows_until_a_success() {
        let endpoint = Endpoint::StableToken;
        let mut quota = Quota::default();
        let away = WechatError::TimedOut { endpoint };
        let backoffs: Vec<_> = (0..8).map(|_| quota.failed(&away).as_secs()).collect();
        assert_eq!(backoffs, [2, 4, 8, 16, 32, 60, 60, 60]);
        quota.reset_failures();
        assert_eq!(quota.failed(&away).as_secs(), 2);
        for (code, backoff) in [(45009, 600), (45011, 60), (40164, 15), (40125, 15), (-1, 2)] {
            assert_eq!(
                Quota::default().failed(&WechatError::Errcode { endpoint, code, rid: None }).as_secs(),
                backoff,
                "{code}"
            );
        }
    }
}
