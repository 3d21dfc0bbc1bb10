//! What one instance holds of one value.

use super::CentralFault;
use super::tally::Tally;
use crate::secret::Secret;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;
use tokio::time::Instant;

/// A value and its times.
#[derive(Clone, Debug)]
pub struct Held {
    pub value: Secret,
    pub ends: Instant,
    /// From when on a new one is sought.
    pub seek: Instant,
}

/// How a search ends.
pub type Outcome = Result<Held, CentralFault>;

/// One application's value of one kind.
#[derive(Default)]
pub struct Slot(Mutex<State>);

impl Slot {
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Default)]
pub struct State {
    pub held: Option<Held>,
    /// The one search under way, which all wait for.
    pub flight: Option<watch::Receiver<Option<Outcome>>>,
    /// Until when nobody is asked, and why.
    pub rest: Option<(Instant, String)>,
    pub tally: Tally,
}

impl State {
    /// The value, where it lives and is not `dead`.
    pub fn alive(&self, dead: Option<&Secret>, now: Instant) -> Option<&Held> {
        self.held.as_ref().filter(|held| held.ends > now && !is(&held.value, dead))
    }

    pub fn resting(&self, now: Instant) -> Option<CentralFault> {
        let (until, why) = self.rest.as_ref().filter(|(until, _)| *until > now)?;
        Some(CentralFault::Resting { why: why.clone(), retry_after: *until - now })
    }
}

/// Whether `value` is the one that WeChat would not take.
pub fn is(value: &Secret, dead: Option<&Secret>) -> bool {
    dead.is_some_and(|dead| dead.matches(value.expose()))
}
