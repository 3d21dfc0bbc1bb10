//! Return addresses that a flow's cookie has no room for, by `state`: in this instance's memory, and in Redis where there is
//! one. Nothing is read here before the flow's cookie has matched, so only the browser that started a flow learns where it
//! goes. An address that is gone costs its way back and no login.

use super::attempt::{LIFETIME, SetAside};
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::time::Instant;

/// All addresses together; beyond, the oldest goes.
const MAX_BYTES: usize = 8 * 1_024 * 1_024;

/// What an entry takes besides its address: two states and their tables.
const ENTRY_BYTES: usize = 256;

/// The addresses of this instance.
#[derive(Default)]
pub(crate) struct Addresses {
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    by_state: HashMap<String, String>,
    /// In the order of their arrival.
    order: VecDeque<(Instant, String)>,
    bytes: usize,
}

impl Addresses {
    /// Keeps an address as long as its flow may last.
    pub(crate) fn keep(&self, entry: &SetAside, now: Instant) {
        let mut kept = self.kept.lock();
        kept.forget(now);
        if kept.by_state.contains_key(&entry.state) {
            return;
        }
        kept.bytes += entry.return_to.len() + ENTRY_BYTES;
        kept.by_state.insert(entry.state.clone(), entry.return_to.clone());
        kept.order.push_back((now, entry.state.clone()));
        kept.forget(now);
    }

    /// The address of the flow of `state`.
    pub(crate) fn find(&self, state: &str, now: Instant) -> Option<String> {
        let mut kept = self.kept.lock();
        kept.forget(now);
        kept.by_state.get(state).cloned()
    }
}

impl Kept {
    /// Drops what is too old, and the oldest of too much.
    fn forget(&mut self, now: Instant) {
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
            addresses.keep(&entry(number), now);
        }
        assert!(addresses.kept.lock().bytes <= MAX_BYTES);
        assert_eq!(addresses.find("0", now), None, "the oldest went");
        assert_eq!(addresses.find("1999", now), Some("a".repeat(8_192)));
        assert_eq!(addresses.find("1999", now + LIFETIME + Duration::from_secs(1)), None);
        assert_eq!(addresses.kept.lock().bytes, 0);
    }
}
