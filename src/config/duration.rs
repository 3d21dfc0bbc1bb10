//! Durations as users write them: one whole number and its unit, such as `500ms`, `15m`, `24h`, `7d`.
//!
//! A number without a unit is refused: 15 could mean seconds or minutes.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// The pattern in the JSON schema: exactly what [`Period`] parses.
pub(crate) const PATTERN: &str = "^[0-9]{1,9}(ms|s|m|h|d)$";

const UNITS: [(&str, u64); 5] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// A duration in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Period(Duration);

/// Why a text is not a duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PeriodError {
    /// `15`.
    #[error("has no unit")]
    NoUnit,
    /// `15min`.
    #[error("has an unknown unit (the units are ms, s, m, h and d)")]
    UnknownUnit,
    /// `1.5h`.
    #[error("is not a whole number")]
    NotWhole,
    /// `1h30m`, `15 m`, `-1s`, `soon`.
    #[error("is not one whole number and its unit")]
    NotAPeriod,
    /// More than nine digits.
    #[error("has more than nine digits")]
    TooLong,
}

impl Period {
    /// A duration of `count` milliseconds.
    pub(crate) const fn milliseconds(count: u64) -> Self {
        Self(Duration::from_millis(count))
    }

    /// A duration of `count` seconds.
    pub(crate) const fn seconds(count: u64) -> Self {
        Self(Duration::from_secs(count))
    }
}

impl FromStr for Period {
    type Err = PeriodError;

    fn from_str(text: &str) -> Result<Self, PeriodError> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at_checked(digits).unwrap_or_default();
        if number.is_empty() {
            return Err(PeriodError::NotAPeriod);
        }
        if unit.is_empty() {
            return Err(PeriodError::NoUnit);
        }
        if unit.starts_with('.') {
            return Err(PeriodError::NotWhole);
        }
        if !unit.bytes().all(|byte| byte.is_ascii_alphabetic()) {
            return Err(PeriodError::NotAPeriod);
        }
        let (_, milliseconds) = UNITS.iter().find(|(name, _)| *name == unit).ok_or(PeriodError::UnknownUnit)?;
        if digits > 9 {
            return Err(PeriodError::TooLong);
        }
        let count: u64 = number.parse().map_err(|_| PeriodError::TooLong)?;
        Ok(Self::milliseconds(count.saturating_mul(*milliseconds)))
    }
}

impl From<Duration> for Period {
    fn from(duration: Duration) -> Self {
        Self(duration)
    }
}

impl From<Period> for Duration {
    fn from(period: Period) -> Self {
        period.0
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        // A single day reads better as hours.
        let fits = |(_, unit): &&(&str, u64)| all.is_multiple_of(*unit) && all >= *unit && all != 86_400_000;
        let hours = (all == 86_400_000).then_some(("h", 3_600_000));
        let (name, unit) = hours.or_else(|| UNITS.iter().rev().find(fits).copied()).unwrap_or(("s", 1_000));
        write!(f, "{}{name}", all / unit)
    }
}

impl Serialize for Period {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Period {
    fn schema_name() -> Cow<'static, str> {
        "Period".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": PATTERN, "x-form": "period" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_number_and_its_unit_is_a_period() {
        for (text, milliseconds, reads) in [
            ("500ms", 500, "500ms"),
            ("0s", 0, "0s"),
            ("5s", 5_000, "5s"),
            ("90s", 90_000, "90s"),
            ("15m", 900_000, "15m"),
            ("60m", 3_600_000, "1h"),
            ("24h", 86_400_000, "24h"),
            ("1d", 86_400_000, "24h"),
            ("7d", 604_800_000, "7d"),
        ] {
            let period = text.parse::<Period>().unwrap();
            assert_eq!(Duration::from(period), Duration::from_millis(milliseconds), "{text}");
            assert_eq!(period.to_string(), reads);
        }
    }

    #[test]
    fn anything_else_is_refused_with_its_reason() {
        for (text, error) in [
            ("15", PeriodError::NoUnit),
            ("15min", PeriodError::UnknownUnit),
            ("15M", PeriodError::UnknownUnit),
            ("1.5h", PeriodError::NotWhole),
            ("1h30m", PeriodError::NotAPeriod),
            ("15 m", PeriodError::NotAPeriod),
            ("-1s", PeriodError::NotAPeriod),
            ("soon", PeriodError::NotAPeriod),
            ("", PeriodError::NotAPeriod),
            ("1000000000d", PeriodError::TooLong),
            ("١s", PeriodError::NotAPeriod),
        ] {
            assert_eq!(text.parse::<Period>().unwrap_err(), error, "{text}");
        }
    }

    proptest! {
        #[test]
        fn the_schemas_pattern_is_what_is_read(text in "[0-9]{1,9}(ms|s|m|h|d)") {
            let period = text.parse::<Period>().unwrap();
            prop_assert_eq!(period.to_string().parse::<Period>(), Ok(period));
        }

        #[test]
        fn no_text_panics(text in ".{0,40}") {
            let _ = text.parse::<Period>();
        }
    }
}
