//! Return addresses that do not fit into the attempt's cookie, by `state`: in memory, and sealed in Redis. They are read only
//! after the attempt's cookie has matched. If an address is lost, the login still succeeds.

use super::attempt::{LIFETIME, SetAside};
use crate::redis::Redis;
use crate::seal::Sealer;
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

/// The most bytes of all addresses in memory. Beyond, the oldest are removed.
const MAX_BYTES: usize = 8 * 1_024 * 1_024;

/// The size of an entry besides its address: the state, twice, and the tables.
const ENTRY_BYTES: usize = 256;

/// The longest sealed address in Redis.
const MAX_SEALED: usize = 16_384;

/// Return addresses in memory and in Redis.
pub(crate) struct ReturnAddresses {
    memory: Arc<Addresses>,
    store: Redis,
    sealer: Arc<dyn Sealer>,
}

impl ReturnAddresses {
    /// `sealer` seals the addresses in `store`.
    pub(crate) fn new(memory: Arc<Addresses>, store: Redis, sealer: Arc<dyn Sealer>) -> Self {
        Self { memory, store, sealer }
    }

    /// Stores an address until the attempt expires. Without Redis, only this instance knows it.
    pub(crate) async fn store(&self, entry: &SetAside) {
        self.memory.insert(entry, Instant::now());
        let key = self.store.keys().return_to(&entry.state);
        let Some(sealed) = self.sealer.seal(key.as_str(), entry.return_to.as_bytes()) else { return };
        let lifetime = u64::try_from(LIFETIME.as_millis()).unwrap_or(u64::MAX);
        let mut command = redis::cmd("SET");
        command.arg(&key).arg(sealed).arg("PX").arg(lifetime);
        let _ = self.store.query::<()>("store_return_to", &command).await;
    }

    /// The address of `state`.
    pub(crate) async fn find(&self, state: &str) -> Option<String> {
        if let Some(return_to) = self.memory.find(state, Instant::now()) {
            return Some(return_to);
        }
        let key = self.store.keys().return_to(state);
        let sealed = self.store.get("read_return_to", &key, MAX_SEALED).await.ok()??;
        String::from_utf8(self.sealer.open(key.as_str(), &sealed, MAX_SEALED)?).ok()
    }
}

/// Return addresses in memory.
#[derive(Default)]
pub(crate) struct Addresses {
    entries: Mutex<Entries>,
}

#[derive(Default)]
struct Entries {
    by_state: HashMap<String, String>,
    /// The oldest first.
    order: VecDeque<(Instant, String)>,
    bytes: usize,
}

impl Addresses {
    fn insert(&self, entry: &SetAside, now: Instant) {
        let mut entries = self.entries.lock();
        entries.evict(now);
        if entries.by_state.contains_key(&entry.state) {
            return;
        }
        entries.bytes += entry.return_to.len() + ENTRY_BYTES;
        entries.by_state.insert(entry.state.clone(), entry.return_to.clone());
        entries.order.push_back((now, entry.state.clone()));
        entries.evict(now);
    }

    fn find(&self, state: &str, now: Instant) -> Option<String> {
        let mut entries = self.entries.lock();
        entries.evict(now);
        entries.by_state.get(state).cloned()
    }
}

impl Entries {
    /// Removes expired addresses, and the oldest if there are too many bytes.
    fn evict(&mut self, now: Instant) {
        while let Some((at, _)) = self.order.front() {
            if self.bytes <= MAX_BYTES && now.saturating_duration_since(*at) <= LIFETIME {
                return;
            }
            if let Some((_, state)) = self.order.pop_front()
                && let Some(address) = self.by_state.remove(&state)
            {
                self.bytes = self.bytes.saturating_sub(address.len() + ENTRY_BYTES);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn addresses_are_bounded_by_bytes_and_age() {
        let (addresses, now) = (Addresses::default(), Instant::now());
        let entry = |number: usize| SetAside { state: number.to_string(), return_to: "a".repeat(8_192) };
        for number in 0..2_000 {
            addresses.insert(&entry(number), now);
        }
        assert!(addresses.entries.lock().bytes <= MAX_BYTES);
        assert_eq!(addresses.find("0", now), None, "the oldest went");
        assert_eq!(addresses.find("1999", now), Some("a".repeat(8_192)));
        assert_eq!(addresses.find("1999", now + LIFETIME + Duration::from_secs(1)), None);
        assert_eq!(addresses.entries.lock().bytes, 0);
    }
}
