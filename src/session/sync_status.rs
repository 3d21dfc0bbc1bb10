//! How recently this instance has read the revocations of the others.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// When this instance last had all revocations of the others, and for how long that is recent enough.
#[derive(Debug)]
pub struct SyncStatus {
    created: Instant,
    /// When it last had all revocations, in milliseconds since `created` plus one; 0 for never.
    synced: AtomicU64,
    /// The greatest age in milliseconds; 0 if no other instance revokes anything.
    max_staleness: AtomicU64,
}

impl Default for SyncStatus {
    fn default() -> Self {
        Self { created: Instant::now(), synced: AtomicU64::new(0), max_staleness: AtomicU64::new(0) }
    }
}

impl SyncStatus {
    /// Declares that other instances revoke too, and sets the greatest age.
    pub fn set_max_staleness(&self, max_staleness: Duration) {
        self.max_staleness.store(milliseconds(max_staleness).max(1), Ordering::Release);
    }

    /// Records that this instance has all revocations of the others.
    pub fn mark_synced(&self) {
        self.synced.store(milliseconds(self.created.elapsed()).saturating_add(1), Ordering::Release);
    }

    /// The time since this instance had all revocations, or since its start if it never had. Zero if no other instance
    /// revokes anything.
    pub fn age(&self) -> Duration {
        if self.max_staleness.load(Ordering::Acquire) == 0 {
            return Duration::ZERO;
        }
        let synced = Duration::from_millis(self.synced.load(Ordering::Acquire).saturating_sub(1));
        self.created.elapsed().saturating_sub(synced)
    }

    /// Whether a token may be renewed after its expiry: this instance has had all revocations, and recently enough.
    pub fn is_fresh(&self) -> bool {
        let max = self.max_staleness.load(Ordering::Acquire);
        max == 0 || (self.synced.load(Ordering::Acquire) > 0 && self.age() <= Duration::from_millis(max))
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
