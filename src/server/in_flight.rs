//! Which requests of a connection are in flight.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts requests, so that no request has to read a clock: if the count has not changed between two timers, the
/// connection was not used.
#[derive(Default)]
pub(super) struct InFlight {
    started: AtomicU64,
    finished: AtomicU64,
}

impl InFlight {
    /// Counts a request that starts.
    pub(super) fn start(&self) {
        self.started.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a request that ends: answered, or canceled by the client.
    pub(super) fn finish(&self) {
        self.finished.fetch_add(1, Ordering::Relaxed);
    }

    /// The number of requests since the connection was accepted.
    pub(super) fn started(&self) -> u64 {
        self.started.load(Ordering::Relaxed)
    }

    /// Whether no request is in flight.
    pub(super) fn is_idle(&self) -> bool {
        self.finished.load(Ordering::Relaxed) == self.started()
    }
}
