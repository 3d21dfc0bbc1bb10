//! Limits the log lines that clients can cause: a flood must not fill the log or hide other lines.

use crate::clock::Timestamp;
use parking_lot::Mutex;

/// The maximum of lines of one kind per second.
const MAX_LINES: u32 = 100;

/// Limits the lines of one kind.
#[derive(Debug, Default)]
pub struct LogLimiter(Mutex<Second>);

#[derive(Debug, Default)]
struct Second {
    at: Option<Timestamp>,
    written: u32,
    suppressed: u64,
}

impl LogLimiter {
    /// The number of lines suppressed since the last one if a line may be written at `now`.
    pub fn admit(&self, now: Timestamp) -> Option<u64> {
        let mut second = self.0.lock();
        if second.at != Some(now) {
            (second.at, second.written) = (Some(now), 0);
        }
        if second.written >= MAX_LINES {
            second.suppressed = second.suppressed.saturating_add(1);
            return None;
        }
        second.written += 1;
        Some(std::mem::take(&mut second.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn excess_lines_are_suppressed_and_counted_in_the_next_line() {
        let (bound, now) = (LogLimiter::default(), Timestamp(1_800_000_000));
        let written = (0..5_000).filter(|_| bound.admit(now).is_some()).count();
        assert_eq!(written, MAX_LINES as usize);
        let next = Timestamp(now.0 + 1);
        assert_eq!(bound.admit(next), Some(5_000 - u64::from(MAX_LINES)));
        assert_eq!(bound.admit(next), Some(0), "the count is reported once");
        assert_eq!(bound.admit(now), Some(0), "a clock that is set back suppresses nothing");
    }
}
