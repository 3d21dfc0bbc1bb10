//! Time. This is the only file that reads the wall clock.
//!
//! Code that depends on the time takes a [`Timestamp`]; only the outermost callers call [`now`].

use serde::{Deserialize, Serialize};
use std::ops::{Add, Sub};
use std::time::Duration;
use time::format_description::StaticFormatDescription;
use time::macros::format_description;
use time::{PrimitiveDateTime, UtcDateTime};

/// `2026-11-23T11:25:00Z` (RFC 3339).
pub const RFC_3339: StaticFormatDescription =
    format_description!(version = 2, "[year]-[month]-[day]T[hour]:[minute]:[second]Z");

/// A time in whole seconds since 1970-01-01 UTC, like a JWT's NumericDate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// The time elapsed since `earlier`; zero if `earlier` is later than this.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_secs(self.0.saturating_sub(earlier.0))
    }

    /// The UTC date and time. A time after the year 9999 is shown as the end of that year.
    pub fn format(self, format: StaticFormatDescription) -> String {
        let utc = i64::try_from(self.0).ok().and_then(|seconds| UtcDateTime::from_unix_timestamp(seconds).ok());
        utc.unwrap_or(UtcDateTime::MAX).format(format).unwrap_or_default()
    }

    /// Reads a UTC date and time from 1970 on.
    pub fn parse(text: &str, format: StaticFormatDescription) -> Option<Self> {
        let seconds = PrimitiveDateTime::parse(text, format).ok()?.as_utc().unix_timestamp();
        u64::try_from(seconds).ok().map(Self)
    }
}

/// Saturates.
impl Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration.as_secs()))
    }
}

/// Saturates at 1970.
impl Sub<Duration> for Timestamp {
    type Output = Self;

    fn sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(duration.as_secs()))
    }
}

/// The current time by the wall clock. A clock set before 1970 reads as 1970.
pub fn now() -> Timestamp {
    #[allow(clippy::disallowed_methods)] // the only reading of the wall clock
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Timestamp(since_epoch.map_or(0, |elapsed| elapsed.as_secs()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_dates_are_known_moments() {
        for (moment, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_795_433_100, "2026-11-23T11:25:00Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
        ] {
            assert_eq!(Timestamp(moment).format(RFC_3339), text);
            assert_eq!(Timestamp::parse(text, RFC_3339), Some(Timestamp(moment)));
        }
        for text in ["2026-02-29T00:00:00Z", "2026-04-31T00:00:00Z", "1969-12-31T23:59:59Z", "2026-11-23T24:00:00Z"] {
            assert_eq!(Timestamp::parse(text, RFC_3339), None, "{text}");
        }
        assert_eq!(Timestamp(u64::MAX).format(RFC_3339), "9999-12-31T23:59:59Z");
    }

    #[test]
    fn arithmetic_stops_at_the_ends_of_time() {
        assert_eq!(Timestamp(u64::MAX) + Duration::from_secs(1), Timestamp(u64::MAX));
        assert_eq!(Timestamp(0) - Duration::from_secs(1), Timestamp(0));
        assert_eq!(Timestamp(5).since(Timestamp(9)), Duration::ZERO);
    }

    proptest! {
        #[test]
        fn a_time_reads_back_as_it_was_written(moment in 0u64..200_000_000_000) {
            let text = Timestamp(moment).format(RFC_3339);
            prop_assert_eq!(Timestamp::parse(&text, RFC_3339), Some(Timestamp(moment)));
        }
    }
}
