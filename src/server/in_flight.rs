//! Whether a connection is of use to its client: what was asked, and what is still being answered.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts requests rather than reading a clock for each: who looks now and then sees whether anything happened between.
#[derive(Default)]
pub(super) struct InFlight {
    asked: AtomicU64,
    done: AtomicU64,
}

impl InFlight {
    /// A request begins.
    pub(super) fn start(&self) {
        self.asked.fetch_add(1, Ordering::Relaxed);
    }

    /// A request is over: answered, or given up by its client.
    pub(super) fn finish(&self) {
        self.done.fetch_add(1, Ordering::Relaxed);
    }

    /// Requests so far.
    pub(super) fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    /// Whether no request is under way.
    pub(super) fn is_idle(&self) -> bool {
        self.done.load(Ordering::Relaxed) == self.asked()
    }
}
