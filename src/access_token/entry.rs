//! What one instance holds of one value.

use super::AccessTokenError;
use super::quota::Quota;
use crate::secret::Secret;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::watch;
use tokio::time::Instant;

/// A value and its times.
#[derive(Clone, Debug)]
pub(super) struct CachedToken {
    pub value: Secret,
    pub expires_at: Instant,
    /// From when on a new one is sought.
    pub refresh_at: Instant,
}

/// How a search ends.
pub(super) type Outcome = Result<CachedToken, AccessTokenError>;

/// One application's value of one kind.
#[derive(Default)]
pub(super) struct Entry(Mutex<State>);

impl Entry {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock()
    }
}

#[derive(Default)]
pub(super) struct State {
    pub held: Option<CachedToken>,
    /// The one search under way, which all wait for.
    pub flight: Option<watch::Receiver<Option<Outcome>>>,
    /// Until when nobody is asked, and why.
    pub rest: Option<(Instant, String)>,
    pub tally: Quota,
}

impl State {
    /// The value, where it lives and is not `dead`.
    pub(super) fn alive(&self, dead: Option<&Secret>, now: Instant) -> Option<&CachedToken> {
        self.held.as_ref().filter(|held| held.expires_at > now && !is(&held.value, dead))
    }

    pub(super) fn resting(&self, now: Instant) -> Option<AccessTokenError> {
        let (until, why) = self.rest.as_ref().filter(|(until, _)| *until > now)?;
        Some(AccessTokenError::Resting { why: why.clone(), retry_after: *until - now })
    }
}

/// Whether `value` is the one that WeChat would not take.
pub(super) fn is(value: &Secret, dead: Option<&Secret>) -> bool {
    dead.is_some_and(|dead| dead.matches(value.expose()))
}
