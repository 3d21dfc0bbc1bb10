//! The in-memory state of one token.

use super::AccessTokenError;
use super::quota::Quota;
use crate::secret::Secret;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::watch;
use tokio::time::Instant;

/// A token or ticket with its times.
#[derive(Clone, Debug)]
pub(super) struct CachedToken {
    pub value: Secret,
    pub expires_at: Instant,
    /// When to start a refresh.
    pub refresh_at: Instant,
}

/// The result of a refresh.
pub(super) type Outcome = Result<CachedToken, AccessTokenError>;

/// The token of one AppID and kind.
#[derive(Default)]
pub(super) struct Entry(Mutex<State>);

impl Entry {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock()
    }
}

#[derive(Default)]
pub(super) struct State {
    pub token: Option<CachedToken>,
    /// The running refresh, which all callers share.
    pub refresh: Option<watch::Receiver<Option<Outcome>>>,
    /// The end of the back-off, and its reason.
    pub backoff: Option<(Instant, String)>,
    pub quota: Quota,
}

impl State {
    /// The token, if it has not expired and is not `rejected`.
    pub(super) fn usable(&self, rejected: Option<&Secret>, now: Instant) -> Option<&CachedToken> {
        self.token.as_ref().filter(|token| token.expires_at > now && !is_rejected(&token.value, rejected))
    }

    pub(super) fn backoff(&self, now: Instant) -> Option<AccessTokenError> {
        let (until, reason) = self.backoff.as_ref().filter(|(until, _)| *until > now)?;
        Some(AccessTokenError::BackingOff { reason: reason.clone(), retry_after: *until - now })
    }
}

/// Whether `value` is the one that WeChat rejected.
pub(super) fn is_rejected(value: &Secret, rejected: Option<&Secret>) -> bool {
    rejected.is_some_and(|rejected| rejected.matches(value.expose()))
}
