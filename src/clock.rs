//! Time: the one place that reads the wall clock.
//!
//! Everything that judges by time takes a [`Timestamp`]; only the edge of the program asks [`now`].

use std::time::Duration;

/// A moment, in whole seconds since 1970-01-01 UTC, as JWT's NumericDate counts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// This moment and `by` more; stays at the end of time rather than overflow.
    #[must_use]
    pub fn plus(self, by: Duration) -> Self {
        Self(self.0.saturating_add(by.as_secs()))
    }

    /// This moment less `by`; stays at 1970 rather than underflow.
    #[must_use]
    pub fn minus(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(by.as_secs()))
    }

    /// How long after `earlier` this is; zero where it is not later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_secs(self.0.saturating_sub(earlier.0))
    }
}

/// The wall clock, now. A clock set before 1970 reads as 1970.
#[must_use]
pub fn now() -> Timestamp {
    #[allow(clippy::disallowed_methods)] // the one reading of the wall clock
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Timestamp(since_epoch.map_or(0, |elapsed| elapsed.as_secs()))
}
