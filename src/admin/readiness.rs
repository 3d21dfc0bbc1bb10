//! Readiness. It depends on nothing outside the process: the keys are loaded and the listeners accept connections, until
//! the drain starts.

use std::sync::atomic::{AtomicBool, Ordering};

/// Whether the gateway may send requests to this instance.
#[derive(Default)]
pub(crate) struct Readiness {
    started: AtomicBool,
    draining: AtomicBool,
}

impl Readiness {
    /// The instance can answer checks.
    pub(crate) fn mark_started(&self) {
        self.started.store(true, Ordering::Release);
    }

    /// The instance drains. This is final.
    pub(crate) fn mark_draining(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Whether the instance has started and does not drain.
    pub(crate) fn is_ready(&self) -> bool {
        self.started.load(Ordering::Acquire) && !self.draining.load(Ordering::Acquire)
    }
}
