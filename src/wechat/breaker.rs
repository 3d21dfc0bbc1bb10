//! A circuit breaker. After repeated failures it refuses calls for a while, then admits one probe at a time.
//!
//! ```text
//! closed ──(consecutive failures)──▶ open ──(time passes)──▶ half-open: one probe
//!    ▲                                ▲                          │
//!    └──────────(success)─────────────┼──────────────────────────┤
//!                                     └─────────(failure)────────┘
//! ```
//!
//! A call that ends without a result about the remote side, for example because it is dropped, returns its permit. A
//! result that arrives after the state has changed is ignored.

use parking_lot::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// When the breaker opens, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Consecutive failures that open the breaker; at least one.
    pub failures: u32,
    /// How long the breaker stays open before a probe.
    pub open: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { failures: 5, open: Duration::from_secs(10) }
    }
}

/// The state of a breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Calls pass.
    Closed,
    /// One call passes at a time.
    HalfOpen,
    /// Calls are refused.
    Open,
}

impl State {
    /// The name in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::HalfOpen => "half_open",
            Self::Open => "open",
        }
    }
}

/// The retry delay for calls that are refused during a probe.
const PROBE_RETRY_AFTER: Duration = Duration::from_secs(1);

/// The longest open time. It keeps `Instant` from overflowing.
const MAX_OPEN: Duration = Duration::from_secs(86_400);

/// A circuit breaker.
#[derive(Debug)]
pub struct Breaker {
    settings: Settings,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    phase: Phase,
    /// Counts the changes of phase, so that late results are recognized.
    generation: u64,
}

#[derive(Debug)]
enum Phase {
    Closed { failed: u32 },
    Open { until: Instant },
    HalfOpen { probing: bool },
}

/// The permission for one call. The caller reports its result.
#[derive(Debug)]
#[must_use = "a dropped permit reports no result"]
pub struct Permit<'a> {
    breaker: &'a Breaker,
    generation: u64,
    decided: bool,
}

impl Breaker {
    /// A closed breaker.
    pub fn new(settings: Settings) -> Self {
        Self { settings, inner: Mutex::new(Inner { phase: Phase::Closed { failed: 0 }, generation: 0 }) }
    }

    /// Asks for permission to call at `now`.
    ///
    /// # Errors
    /// The time to wait, if the breaker is open or another call probes.
    pub fn acquire(&self, now: Instant) -> Result<Permit<'_>, Duration> {
        let mut inner = self.lock();
        self.refusal(&inner, now).map_or(Ok(()), Err)?;
        match &mut inner.phase {
            Phase::Closed { .. } => {}
            Phase::Open { .. } => inner.change(Phase::HalfOpen { probing: true }),
            Phase::HalfOpen { probing } => *probing = true,
        }
        Ok(Permit { breaker: self, generation: inner.generation, decided: false })
    }

    /// The time to wait if a call at `now` would be refused. Takes no permit.
    pub fn would_refuse(&self, now: Instant) -> Option<Duration> {
        self.refusal(&self.lock(), now)
    }

    fn refusal(&self, inner: &Inner, now: Instant) -> Option<Duration> {
        match inner.phase {
            Phase::Open { until } if now < until => Some(until.saturating_duration_since(now)),
            Phase::HalfOpen { probing: true } => Some(self.settings.open.min(PROBE_RETRY_AFTER)),
            Phase::Closed { .. } | Phase::Open { .. } | Phase::HalfOpen { .. } => None,
        }
    }

    /// The state at `now`.
    pub fn state(&self, now: Instant) -> State {
        match self.lock().phase {
            Phase::Closed { .. } => State::Closed,
            Phase::Open { until } if now < until => State::Open,
            Phase::Open { .. } | Phase::HalfOpen { .. } => State::HalfOpen,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock()
    }
}

impl Inner {
    fn change(&mut self, phase: Phase) {
        self.phase = phase;
        self.generation += 1;
    }
}

impl Permit<'_> {
    /// Reports that the remote side works.
    pub fn succeeded(mut self) {
        self.decided = true;
        let mut inner = self.breaker.lock();
        if inner.generation != self.generation {
            return;
        }
        match &mut inner.phase {
            Phase::Closed { failed } => *failed = 0,
            Phase::HalfOpen { .. } => inner.change(Phase::Closed { failed: 0 }),
            Phase::Open { .. } => {}
        }
    }

    /// Reports that the remote side failed at `now`.
    pub fn failed(mut self, now: Instant) {
        self.decided = true;
        let Settings { failures, open } = self.breaker.settings;
        let mut inner = self.breaker.lock();
        if inner.generation != self.generation {
            return;
        }
        let opened = || Phase::Open { until: now + open.min(MAX_OPEN) };
        match &mut inner.phase {
            Phase::Closed { failed } if *failed + 1 < failures => *failed += 1,
            Phase::Closed { .. } | Phase::HalfOpen { .. } => inner.change(opened()),
            Phase::Open { .. } => {}
        }
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if self.decided {
            return;
        }
        let mut inner = self.breaker.lock();
        if inner.generation == self.generation
            && let Phase::HalfOpen { probing } = &mut inner.phase
        {
            *probing = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPEN: Duration = Duration::from_secs(10);

    fn breaker(failures: u32) -> (Breaker, Instant) {
        (Breaker::new(Settings { failures, open: OPEN }), Instant::now())
    }

    fn open(failures: u32) -> (Breaker, Instant) {
        let (breaker, now) = breaker(failures);
        for _ in 0..failures {
            breaker.acquire(now).unwrap().failed(now);
        }
        assert_eq!(breaker.state(now), State::Open);
        (breaker, now)
    }

    #[test]
    fn consecutive_failures_open_the_breaker() {
        for (story, state) in [
            ("", State::Closed),
            ("ff", State::Closed),
            ("fff", State::Open),
            ("ffsff", State::Closed),
            ("ffsfff", State::Open),
            ("ffdf", State::Open),
        ] {
            let (breaker, now) = breaker(3);
            for step in story.chars() {
                let permit = breaker.acquire(now).unwrap();
                match step {
                    'f' => permit.failed(now),
                    's' => permit.succeeded(),
                    _ => drop(permit),
                }
            }
            assert_eq!(breaker.state(now), state, "{story}");
        }
    }

    #[test]
    fn an_open_breaker_refuses_with_the_time_to_wait() {
        let (breaker, now) = open(2);
        assert_eq!(breaker.acquire(now).unwrap_err(), OPEN);
        assert_eq!(breaker.would_refuse(now), Some(OPEN));
        assert_eq!(breaker.acquire(now + Duration::from_secs(7)).unwrap_err(), Duration::from_secs(3));
    }

    #[test]
    fn one_probe_passes_after_the_open_time() {
        let (breaker, now) = open(2);
        let later = now + OPEN;
        assert_eq!((breaker.state(later), breaker.would_refuse(later)), (State::HalfOpen, None));
        let probe = breaker.acquire(later).unwrap();
        for _ in 0..100 {
            assert_eq!(breaker.acquire(later).unwrap_err(), PROBE_RETRY_AFTER);
        }
        probe.succeeded();
        assert_eq!(breaker.state(later), State::Closed);
        breaker.acquire(later).unwrap().failed(later);
        assert_eq!(breaker.state(later), State::Closed, "the old failures are forgotten");
    }

    #[test]
    fn a_failed_probe_opens_the_breaker_again() {
        let (breaker, now) = open(5);
        let later = now + OPEN;
        breaker.acquire(later).unwrap().failed(later);
        assert_eq!(breaker.acquire(later + OPEN - Duration::from_millis(1)).unwrap_err(), Duration::from_millis(1));
        assert_eq!(breaker.state(later + OPEN), State::HalfOpen);
    }

    #[test]
    fn a_dropped_probe_returns_its_permit() {
        let (breaker, now) = open(1);
        let later = now + OPEN;
        for _ in 0..3 {
            drop(breaker.acquire(later).unwrap());
            assert_eq!(breaker.state(later), State::HalfOpen);
        }
        breaker.acquire(later).unwrap().succeeded();
        assert_eq!(breaker.state(later), State::Closed);
    }

    #[test]
    fn a_late_result_is_ignored() {
        let (breaker, now) = breaker(1);
        let (slow, slower, slowest) =
            (breaker.acquire(now).unwrap(), breaker.acquire(now).unwrap(), breaker.acquire(now).unwrap());
        breaker.acquire(now).unwrap().failed(now);
        slow.succeeded();
        assert_eq!(breaker.state(now), State::Open);
        let probe = breaker.acquire(now + OPEN).unwrap();
        drop(slower);
        assert!(breaker.acquire(now + OPEN).is_err(), "the probe's generation is still taken");
        probe.succeeded();
        slowest.failed(now + OPEN);
        assert_eq!(breaker.state(now + OPEN), State::Closed);
    }

    #[test]
    fn extreme_settings_are_harmless() {
        let (none, now) = breaker(0);
        none.acquire(now).unwrap().failed(now);
        assert_eq!(none.state(now), State::Open, "zero failures are read as one");
        let endless = Breaker::new(Settings { failures: 1, open: Duration::MAX });
        endless.acquire(now).unwrap().failed(now);
        assert_eq!(endless.acquire(now).unwrap_err(), MAX_OPEN);
    }
}
