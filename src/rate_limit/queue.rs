//! Login starts that wait for a token of their address.

use parking_lot::{Mutex, MutexGuard};
use std::collections::HashMap;
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

/// How long a login start waits for a token. Users of the same address finish their logins meanwhile, and each login
/// returns its tokens.
pub(super) const MAX_WAIT: Duration = Duration::from_secs(8);

/// Login starts that wait at a time: half of the waiting requests that the pages listener allows.
pub(super) const MAX_WAITING: usize = 64;

/// If starts of an address have waited for [`MAX_WAIT`] and no login finished, further ones do not wait for this long.
const VAIN_WAIT_PAUSE: Duration = Duration::from_secs(60);

/// Addresses with waiting or recently refused starts. While there are as many, starts of other addresses do not wait.
const MAX_ADDRESSES: usize = 10_000;

/// The login starts that wait.
pub(super) struct Queue {
    pub(super) slots: Semaphore,
    /// For each address, since when its starts have waited without a finished login.
    waiting_since: Mutex<HashMap<u64, Instant>>,
}

impl Queue {
    /// A queue in which `slots` starts can wait.
    pub(super) fn new(slots: usize) -> Self {
        Self { slots: Semaphore::new(slots), waiting_since: Mutex::default() }
    }

    /// A slot, if one is free and starts of this address may wait.
    pub(super) fn enter(&self, key: u64, now: Instant) -> Option<SemaphorePermit<'_>> {
        let slot = self.slots.try_acquire().ok()?;
        let mut waiting_since = self.waiting_since();
        let is_over = |since: &Instant| now.saturating_duration_since(*since) >= MAX_WAIT + VAIN_WAIT_PAUSE;
        if waiting_since.get(&key).is_some_and(is_over) {
            waiting_since.remove(&key);
        }
        if waiting_since.len() >= MAX_ADDRESSES && !waiting_since.contains_key(&key) {
            return None;
        }
        let since = *waiting_since.entry(key).or_insert(now);
        (now.saturating_duration_since(since) < MAX_WAIT).then_some(slot)
    }

    /// Whether starts of this address have waited for [`MAX_WAIT`] and no login has finished.
    pub(super) fn waits_in_vain(&self, key: u64, now: Instant) -> bool {
        self.waiting_since().get(&key).is_some_and(|since| now.saturating_duration_since(*since) >= MAX_WAIT)
    }

    /// A login of this address has finished.
    pub(super) fn login_finished(&self, key: u64) {
        self.waiting_since().remove(&key);
    }

    /// Removes addresses whose pause is over.
    pub(super) fn sweep(&self, now: Instant) {
        let pause = MAX_WAIT + VAIN_WAIT_PAUSE;
        self.waiting_since().retain(|_, since| now.saturating_duration_since(*since) < pause);
    }

    fn waiting_since(&self) -> MutexGuard<'_, HashMap<u64, Instant>> {
        self.waiting_since.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::super::RETRY_INTERVAL;
    use super::*;

    #[test]
    fn starts_wait_only_where_logins_finish() {
        let queue = Queue::new(2);
        let now = Instant::now();
        let may_wait = |at: Instant| queue.enter(1, at).is_some();
        assert!(may_wait(now) && may_wait(now + MAX_WAIT - RETRY_INTERVAL));
        // Several starts in turn wait no longer than one.
        assert!(queue.waits_in_vain(1, now + MAX_WAIT) && !may_wait(now + MAX_WAIT));
        assert!(
            !may_wait(now + VAIN_WAIT_PAUSE) && may_wait(now + MAX_WAIT + VAIN_WAIT_PAUSE),
            "and again after a minute"
        );
        queue.login_finished(1);
        assert!(may_wait(now + MAX_WAIT + VAIN_WAIT_PAUSE + MAX_WAIT), "a login has finished");
    }

    #[test]
    fn waiting_starts_and_their_addresses_are_bounded() {
        let queue = Queue::new(1);
        let now = Instant::now();
        let slot = queue.enter(1, now).unwrap();
        assert!(queue.enter(2, now).is_none(), "one slot");
        drop(slot);
        (0..2 * MAX_ADDRESSES as u64).for_each(|key| drop(queue.enter(key, now)));
        assert_eq!(queue.waiting_since().len(), MAX_ADDRESSES);
        assert!(queue.enter(u64::MAX, now).is_none(), "with a full table, no start waits");
        queue.sweep(now + MAX_WAIT + VAIN_WAIT_PAUSE);
        assert_eq!(queue.waiting_since().len(), 0);
    }
}
