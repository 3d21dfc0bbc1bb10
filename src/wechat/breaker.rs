//! A circuit breaker: stops asking somebody who does not answer, and lets one call at a time find out whether they do.
//!
//! ```text
//! closed ──(so many failures in a row)──▶ open ──(after a while)──▶ half-open: one probe
//!    ▲                                     ▲                          │
//!    └────────────(it went well)───────────┼──────────────────────────┤
//!                                          └──────(it failed)─────────┘
//! ```
//!
//! A call that ends without a verdict, because it was dropped or says nothing of the other side, gives its turn back. A
//! verdict that comes after the breaker has changed its mind counts for nothing.

use parking_lot::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// When to stop asking, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Failures in a row that open it, at least one.
    pub failures: u32,
    /// How long it stays open before a probe.
    pub open: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { failures: 5, open: Duration::from_secs(10) }
    }
}

/// What a breaker does with a call now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Lets it through.
    Closed,
    /// Lets one through at a time.
    HalfOpen,
    /// Refuses it.
    Open,
}

impl State {
    /// The word for it in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::HalfOpen => "half_open",
            Self::Open => "open",
        }
    }
}

/// What those wait who come while a probe is under way: its end is near but unknown.
const WHILE_PROBING: Duration = Duration::from_secs(1);

/// Open at most for so long, whatever the settings say: later moments need not exist.
const MAX_OPEN: Duration = Duration::from_secs(86_400);

/// One breaker.
#[derive(Debug)]
pub struct Breaker {
    settings: Settings,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    phase: Phase,
    /// Counts the changes of phase, so that a late verdict is known as such.
    turn: u64,
}

#[derive(Debug)]
enum Phase {
    Closed { failed: u32 },
    Open { until: Instant },
    HalfOpen { probing: bool },
}

/// Leave to make one call, to be returned with its verdict.
#[derive(Debug)]
#[must_use = "a permit that is dropped gives no verdict"]
pub struct Permit<'a> {
    breaker: &'a Breaker,
    turn: u64,
    decided: bool,
}

impl Breaker {
    /// A closed breaker.
    pub fn new(settings: Settings) -> Self {
        Self { settings, inner: Mutex::new(Inner { phase: Phase::Closed { failed: 0 }, turn: 0 }) }
    }

    /// Leave to call at `now`.
    ///
    /// # Errors
    /// While it is open, or while somebody else probes: how long to wait.
    pub fn acquire(&self, now: Instant) -> Result<Permit<'_>, Duration> {
        let mut inner = self.lock();
        self.refusal(&inner, now).map_or(Ok(()), Err)?;
        match &mut inner.phase {
            Phase::Closed { .. } => {}
            Phase::Open { .. } => inner.change(Phase::HalfOpen { probing: true }),
            Phase::HalfOpen { probing } => *probing = true,
        }
        Ok(Permit { breaker: self, turn: inner.turn, decided: false })
    }

    /// Whether a call at `now` would be refused, and for how long; takes no turn.
    pub fn would_refuse(&self, now: Instant) -> Option<Duration> {
        self.refusal(&self.lock(), now)
    }

    fn refusal(&self, inner: &Inner, now: Instant) -> Option<Duration> {
        match inner.phase {
            Phase::Open { until } if now < until => Some(until.saturating_duration_since(now)),
            Phase::HalfOpen { probing: true } => Some(self.settings.open.min(WHILE_PROBING)),
            Phase::Closed { .. } | Phase::Open { .. } | Phase::HalfOpen { .. } => None,
        }
    }

    /// What it would do with a call at `now`.
    pub fn state(&self, now: Instant) -> State {
        match self.lock().phase {
            Phase::Closed { .. } => State::Closed,
            Phase::Open { until } if now < until => State::Open,
            Phase::Open { .. } | Phase::HalfOpen { .. } => State::HalfOpen,
        }
    }

    /// A panic while it was locked cannot have left it half-changed: each change is one assignment.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock()
    }
}

impl Inner {
    fn change(&mut self, phase: Phase) {
        self.phase = phase;
        self.turn += 1;
    }
}

impl Permit<'_> {
    /// The call showed that the other side works.
    pub fn succeeded(mut self) {
        self.decided = true;
        let mut inner = self.breaker.lock();
        if inner.turn != self.turn {
            return;
        }
        match &mut inner.phase {
            Phase::Closed { failed } => *failed = 0,
            Phase::HalfOpen { .. } => inner.change(Phase::Closed { failed: 0 }),
            Phase::Open { .. } => {}
        }
    }

    /// The call showed at `now` that it does not.
    pub fn failed(mut self, now: Instant) {
        self.decided = true;
        let Settings { failures, open } = self.breaker.settings;
        let mut inner = self.breaker.lock();
        if inner.turn != self.turn {
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
        if inner.turn == self.turn
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
    fn so_many_failures_in_a_row_open_it() {
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
    fn while_open_it_refuses_and_says_for_how_long() {
        let (breaker, now) = open(2);
        assert_eq!(breaker.acquire(now).unwrap_err(), OPEN);
        assert_eq!(breaker.would_refuse(now), Some(OPEN));
        assert_eq!(breaker.acquire(now + Duration::from_secs(7)).unwrap_err(), Duration::from_secs(3));
    }

    #[test]
    fn after_a_while_exactly_one_probe_passes() {
        let (breaker, now) = open(2);
        let later = now + OPEN;
        assert_eq!((breaker.state(later), breaker.would_refuse(later)), (State::HalfOpen, None));
        let probe = breaker.acquire(later).unwrap();
        for _ in 0..100 {
            assert_eq!(breaker.acquire(later).unwrap_err(), WHILE_PROBING);
        }
        probe.succeeded();
        assert_eq!(breaker.state(later), State::Closed);
        breaker.acquire(later).unwrap().failed(later);
        assert_eq!(breaker.state(later), State::Closed, "the old failures are forgotten");
    }

    #[test]
    fn a_failed_probe_opens_it_again_for_as_long() {
        let (breaker, now) = open(5);
        let later = now + OPEN;
        breaker.acquire(later).unwrap().failed(later);
        assert_eq!(breaker.acquire(later + OPEN - Duration::from_millis(1)).unwrap_err(), Duration::from_millis(1));
        assert_eq!(breaker.state(later + OPEN), State::HalfOpen);
    }

    #[test]
    fn a_dropped_probe_gives_its_turn_back() {
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
    fn a_verdict_from_before_the_change_counts_for_nothing() {
        let (breaker, now) = breaker(1);
        let (slow, slower, slowest) =
            (breaker.acquire(now).unwrap(), breaker.acquire(now).unwrap(), breaker.acquire(now).unwrap());
        breaker.acquire(now).unwrap().failed(now);
        slow.succeeded();
        assert_eq!(breaker.state(now), State::Open);
        let probe = breaker.acquire(now + OPEN).unwrap();
        drop(slower);
        assert!(breaker.acquire(now + OPEN).is_err(), "the probe's turn is still taken");
        probe.succeeded();
        slowest.failed(now + OPEN);
        assert_eq!(breaker.state(now + OPEN), State::Closed);
    }

    #[test]
    fn odd_settings_do_no_harm() {
        let (none, now) = breaker(0);
        none.acquire(now).unwrap().failed(now);
        assert_eq!(none.state(now), State::Open, "zero failures are read as one");
        let endless = Breaker::new(Settings { failures: 1, open: Duration::MAX });
        endless.acquire(now).unwrap().failed(now);
        assert_eq!(endless.acquire(now).unwrap_err(), MAX_OPEN);
    }
}
