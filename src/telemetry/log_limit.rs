//! So many lines a second of what strangers can cause: a flood must not fill the log, nor crowd out what is rare.

use crate::clock::Timestamp;
use parking_lot::Mutex;

/// Lines of one kind in a second at most.
const MAX_LINES: u32 = 100;

/// Bounds the lines of one kind.
#[derive(Debug, Default)]
pub struct LogLimiter(Mutex<Second>);

#[derive(Debug, Default)]
struct Second {
    at: Option<Timestamp>,
    written: u32,
    left_out: u64,
}

impl LogLimiter {
    /// Whether a line may be written at `now`; if so, how many were left out since the last one.
    pub fn admit(&self, now: Timestamp) -> Option<u64> {
        let mut second = self.0.lock();
        if second.at != Some(now) {
            (second.at, second.written) = (Some(now), 0);
        }
        if second.written >= MAX_LINES {
            second.left_out = second.left_out.saturating_add(1);
            return None;
        }
        second.written += 1;
        Some(std::mem::take(&mut second.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_has_so_many_lines_and_the_next_one_says_how_many_were_left_out() {
        let (bound, now) = (LogLimiter::default(), Timestamp(1_800_000_000));
        let written = (0..5_000).filter(|_| bound.admit(now).is_some()).count();
        assert_eq!(written, MAX_LINES as usize);
        let next = Timestamp(now.0 + 1);
        assert_eq!(bound.admit(next), Some(5_000 - u64::from(MAX_LINES)));
        assert_eq!(bound.admit(next), Some(0), "it is said once");
        assert_eq!(bound.admit(now), Some(0), "a clock that is set back does not silence it");
    }
}
