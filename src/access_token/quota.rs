//! How often WeChat may be asked, and how long not after a failure.
//!
//! WeChat allows 500,000 calls for a token a day, 20 of them forced and those 30 s apart (docs/en/wechat.md, Access token
//! of the account). Other programs may use the same AppID, so we stay far below: a quiet day needs a dozen.

use crate::clock::Timestamp;
use crate::wechat::errcode::Class;
use crate::wechat::error::WechatError;
use std::time::Duration;

/// Calls a day; each may be repeated twice within itself.
pub(super) const MAX_CALLS: u64 = 10_000;

/// Forced calls a day: half of what WeChat allows.
pub(super) const MAX_FORCED: u64 = 10;

/// Between two forced calls: twice what WeChat asks for.
pub(super) const BETWEEN_FORCED: Duration = Duration::from_secs(60);

/// After the day's quota, ours or WeChat's, is used up.
pub(super) const QUOTA_BACKOFF: Duration = Duration::from_secs(600);

/// Doubled with each failure in a row, up to a minute.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(60));

/// Failures further apart are not in a row.
pub(super) const IN_A_ROW: Duration = Duration::from_secs(600);

/// A way of asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CallKind {
    /// For what is in force.
    Usual,
    /// For another token, at the cost of the one in force.
    Forced,
}

impl CallKind {
    /// The word for it in metrics and Redis.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Usual => "usual",
            Self::Forced => "forced",
        }
    }

    /// Of this, so many a day, and so far apart.
    pub(super) const fn bounds(self) -> (u64, Duration) {
        match self {
            Self::Usual => (MAX_CALLS, Duration::ZERO),
            Self::Forced => (MAX_FORCED, BETWEEN_FORCED),
        }
    }
}

/// The number of a day that begins at midnight in Beijing.
pub(super) fn day(now: Timestamp) -> u64 {
    (now + Duration::from_secs(8 * 3_600)).0 / 86_400
}

/// The rest after a error, the first time and at most.
pub(super) fn backoff_range(error: &WechatError) -> (Duration, Duration) {
    match error {
        WechatError::BreakerOpen { retry_after, .. } => (*retry_after, *retry_after),
        WechatError::Errcode { code: 45009, .. } => (QUOTA_BACKOFF, QUOTA_BACKOFF),
        WechatError::Errcode { code: 45011, .. } => (BACKOFF.1, BACKOFF.1),
        // Long enough not to be a storm, short enough for who has just set it right.
        _ if error.class() == Class::Configuration => (Duration::from_secs(15), BACKOFF.1),
        _ => BACKOFF,
    }
}

/// The first rest after a error.
pub(super) fn first_backoff(error: &WechatError) -> Duration {
    backoff_range(error).0
}

/// What one instance knows by itself.
#[derive(Debug, Default)]
pub(super) struct Quota {
    day: u64,
    usual: u64,
    forced: u64,
    last_forced: Option<Timestamp>,
    failures: u32,
}

impl Quota {
    /// Counts a call: how many there were today with it; none where it must not be made.
    pub(super) fn consume(&mut self, call: CallKind, now: Timestamp) -> Option<u64> {
        if self.day != day(now) {
            (self.day, self.usual, self.forced) = (day(now), 0, 0);
        }
        let (most, apart) = call.bounds();
        let count = match call {
            CallKind::Usual => &mut self.usual,
            CallKind::Forced => &mut self.forced,
        };
        let too_soon =
            call == CallKind::Forced && self.last_forced.is_some_and(|last| now < last + apart && now >= last);
        if *count >= most || too_soon {
            return None;
        }
        *count += 1;
        if call == CallKind::Forced {
            self.last_forced = Some(now);
        }
        Some(*count)
    }

    /// The pause after another failure.
    pub(super) fn failed(&mut self, error: &WechatError) -> Duration {
        let (first, most) = backoff_range(error);
        let pause = first.saturating_mul(1 << self.failures.min(16)).min(most);
        self.failures = self.failures.saturating_add(1);
        pause
    }

    /// It went well.
    pub(super) fn reset_failures(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wechat::Endpoint;

    #[test]
    fn a_day_has_so_many_calls_and_the_next_one_as_many_again() {
        let (mut tally, now) = (Quota::default(), Timestamp(1_800_000_000));
        for count in 1..=MAX_CALLS {
            assert_eq!(tally.consume(CallKind::Usual, now), Some(count));
        }
        assert_eq!(tally.consume(CallKind::Usual, now), None);
        assert_eq!(tally.consume(CallKind::Usual, now + Duration::from_secs(86_400)), Some(1));
    }

    #[test]
    fn forced_calls_are_few_and_far_between() {
        let (mut tally, mut now) = (Quota::default(), Timestamp(1_800_000_000));
        for count in 1..=MAX_FORCED {
            assert_eq!(tally.consume(CallKind::Forced, now), Some(count));
            assert_eq!(tally.consume(CallKind::Forced, now + Duration::from_secs(59)), None);
            now = now + BETWEEN_FORCED;
        }
        assert_eq!(tally.consume(CallKind::Forced, now), None);
        assert!(tally.consume(CallKind::Usual, now).is_some());
    }

    #[test]
    fn a_day_begins_at_midnight_in_beijing() {
        let midnight = Timestamp::parse("2026-11-23T16:00:00Z", crate::clock::RFC_3339).unwrap();
        assert_eq!(day(midnight), day(midnight - Duration::from_secs(1)) + 1);
    }

    #[test]
    fn pauses_grow_and_end_with_success() {
        let endpoint = Endpoint::StableToken;
        let mut tally = Quota::default();
        let away = WechatError::TimedOut { endpoint };
        let pauses: Vec<_> = (0..8).map(|_| tally.failed(&away).as_secs()).collect();
        assert_eq!(pauses, [2, 4, 8, 16, 32, 60, 60, 60]);
        tally.reset_failures();
        assert_eq!(tally.failed(&away).as_secs(), 2);
        for (code, pause) in [(45009, 600), (45011, 60), (40164, 15), (40125, 15), (-1, 2)] {
            assert_eq!(
                Quota::default().failed(&WechatError::Errcode { endpoint, code, rid: None }).as_secs(),
                pause,
                "{code}"
            );
        }
    }
}
