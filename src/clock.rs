//! Time: the one place that reads the wall clock.
//!
//! Everything that judges by time takes a [`Timestamp`]; only the edge of the program asks [`now`].

use std::time::Duration;

/// A moment, in whole seconds since 1970-01-01 UTC, as JWT's NumericDate counts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// This moment and `by` more; stays at the end of time rather than overflow.
    pub fn add(self, by: Duration) -> Self {
        Self(self.0.saturating_add(by.as_secs()))
    }

    /// This moment less `by`; stays at 1970 rather than underflow.
    pub fn sub(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(by.as_secs()))
    }

    /// How long after `earlier` this is; zero where it is not later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_secs(self.0.saturating_sub(earlier.0))
    }
}

impl Timestamp {
    /// Year, month, day, hour, minute, second in UTC.
    pub fn to_civil(self) -> (u64, u64, u64, u64, u64, u64) {
        let (days, second) = (self.0 / 86_400, self.0 % 86_400);
        // Days from 0000-03-01 in eras of 400 years: a year that starts in March has its leap day last.
        let shifted = days + 719_468;
        let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
        let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
        let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
        let year = year_of_era + era * 400 + u64::from(month <= 2);
        (year, month, day, second / 3_600, second / 60 % 60, second % 60)
    }

    /// The moment of a UTC date and time from 1970 on; none where there is no such date.
    pub fn from_civil(year: u64, month: u64, day: u64, hour: u64, minute: u64, second: u64) -> Option<Self> {
        if !(1970..=9_999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
            return None;
        }
        if hour > 23 || minute > 59 || second > 59 {
            return None;
        }
        let shifted_year = if month <= 2 { year - 1 } else { year };
        let (era, year_of_era) = (shifted_year / 400, shifted_year % 400);
        let shifted_month = if month > 2 { month - 3 } else { month + 9 };
        let day_of_year = (153 * shifted_month + 2) / 5 + day - 1;
        let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        let days = era * 146_097 + day_of_era - 719_468;
        let moment = Self(days * 86_400 + hour * 3_600 + minute * 60 + second);
        // 31 April would have come out as 1 May.
        (moment.to_civil() == (year, month, day, hour, minute, second)).then_some(moment)
    }
}

/// The wall clock, now. A clock set before 1970 reads as 1970.
pub fn now() -> Timestamp {
    #[allow(clippy::disallowed_methods)] // the one reading of the wall clock
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Timestamp(since_epoch.map_or(0, |elapsed| elapsed.as_secs()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_dates_are_known_moments() {
        for (moment, civil) in [
            (0, (1970, 1, 1, 0, 0, 0)),
            (951_782_400, (2000, 2, 29, 0, 0, 0)),
            (1_795_433_100, (2026, 11, 23, 11, 25, 0)),
            (4_107_542_399, (2100, 2, 28, 23, 59, 59)),
        ] {
            assert_eq!(Timestamp(moment).to_civil(), civil);
            let (year, month, day, hour, minute, second) = civil;
            assert_eq!(Timestamp::from_civil(year, month, day, hour, minute, second), Some(Timestamp(moment)));
        }
        assert_eq!(Timestamp::from_civil(2026, 2, 29, 0, 0, 0), None);
        assert_eq!(Timestamp::from_civil(2026, 4, 31, 0, 0, 0), None);
    }

    #[test]
    fn arithmetic_stops_at_the_ends_of_time() {
        assert_eq!(Timestamp(u64::MAX).add(Duration::from_secs(1)), Timestamp(u64::MAX));
        assert_eq!(Timestamp(0).sub(Duration::from_secs(1)), Timestamp(0));
        assert_eq!(Timestamp(5).since(Timestamp(9)), Duration::ZERO);
    }

    proptest! {
        #[test]
        fn there_and_back(moment in 0u64..200_000_000_000) {
            let (year, month, day, hour, minute, second) = Timestamp(moment).to_civil();
            prop_assert_eq!(Timestamp::from_civil(year, month, day, hour, minute, second), Some(Timestamp(moment)));
        }
    }
}
