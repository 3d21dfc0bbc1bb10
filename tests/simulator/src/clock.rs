//! The simulator's time: the wall clock, which tests can move forward.
//!
//! Codes, tokens and QR codes age by this clock only. No other file reads the wall clock.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A moment in milliseconds since 1970-01-01 UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Moment(pub u64);

impl Moment {
    #[must_use]
    pub fn plus(self, by: Duration) -> Self {
        Self(self.0.saturating_add(millis(by)))
    }

    /// The time since `earlier`; zero if `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    #[must_use]
    pub fn unix_seconds(self) -> u64 {
        self.0 / 1000
    }

    /// The start of the next minute, when a minute quota is full again.
    #[must_use]
    pub fn next_minute(self) -> Self {
        Self((self.0 / 60_000 + 1).saturating_mul(60_000))
    }

    /// `hh:mm:ss` in UTC, for display.
    #[must_use]
    pub fn time_of_day(self) -> String {
        let second = self.unix_seconds() % 86_400;
        format!("{:02}:{:02}:{:02}", second / 3_600, second / 60 % 60, second % 60)
    }
}

/// The wall clock and the simulator's offset from it.
#[derive(Debug, Default)]
pub struct Clock {
    offset: Duration,
}

impl Clock {
    #[must_use]
    pub fn now(&self) -> Moment {
        #[allow(clippy::disallowed_methods)] // the one reading of the wall clock
        let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Moment(millis(since_epoch.unwrap_or_default())).plus(self.offset)
    }

    /// Forward only: a clock that goes back would make expired codes valid again, which WeChat never does.
    pub fn advance(&mut self, by: Duration) {
        self.offset = self.offset.saturating_add(by);
    }

    #[must_use]
    pub fn offset(&self) -> Duration {
        self.offset
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_quota_is_full_again_at_the_next_whole_minute() {
        assert_eq!(Moment(60_000).next_minute(), Moment(120_000));
        assert_eq!(Moment(119_999).next_minute(), Moment(120_000));
    }

    #[test]
    fn advancing_moves_now() {
        let mut clock = Clock::default();
        let before = clock.now();
        clock.advance(Duration::from_secs(300));
        assert!(clock.now().since(before) >= Duration::from_secs(300));
    }
}
