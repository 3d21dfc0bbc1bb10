//! Whether a connection is of use to its client: what was asked, and what is still being answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts requests rather than reading a clock for each: who looks now and then sees whether anything happened between.
#[derive(Default)]
pub(super) struct Pulse {
    asked: AtomicU64,
    done: AtomicU64,
}

/// A request under way, until it is dropped: answered, or given up by its client.
pub(super) struct Beat(Arc<Pulse>);

impl Pulse {
    /// A request begins.
    pub fn beat(self: &Arc<Self>) -> Beat {
        self.asked.fetch_add(1, Ordering::Relaxed);
        Beat(Arc::clone(self))
    }

    /// Requests so far.
    pub fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    /// Whether no request is under way.
    pub fn rests(&self) -> bool {
        self.done.load(Ordering::Relaxed) == self.asked()
    }
}

impl Drop for Beat {
    fn drop(&mut self) {
        self.0.done.fetch_add(1, Ordering::Relaxed);
    }
}
