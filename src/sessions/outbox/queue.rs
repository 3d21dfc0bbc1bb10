//! A bounded queue of items for Redis.

use super::BATCH_SIZE;
use crate::redis::CallError;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

/// The most items of a queue.
pub(super) const MAX_WAITING: usize = 10_000;

/// The most bytes of a queue, about: an hour of logins of a large site.
const MAX_BYTES: usize = 8 * 1024 * 1024;

/// An item that Redis refuses for this long is dropped.
const GIVE_UP_AFTER: Duration = Duration::from_secs(3_600);

/// A bounded queue. Only [`super::Outbox::write_batch`] reads its front.
pub(super) struct BoundedQueue<T> {
    pub kind: &'static str,
    waiting: Mutex<Waiting<T>>,
    /// Whether the log says that it is full.
    pub full_logged: AtomicBool,
}

struct Waiting<T> {
    items: VecDeque<(Instant, usize, T)>,
    bytes: usize,
}

impl<T: Clone> BoundedQueue<T> {
    pub(super) fn new(kind: &'static str) -> Self {
        let waiting = Mutex::new(Waiting { items: VecDeque::new(), bytes: 0 });
        Self { kind, waiting, full_logged: AtomicBool::new(false) }
    }

    /// Appends an item. Returns whether there was room.
    pub(super) fn push(&self, item: T, bytes: usize) -> bool {
        let mut waiting = self.waiting.lock();
        let fits = waiting.items.len() < MAX_WAITING && waiting.bytes + bytes <= MAX_BYTES;
        if fits {
            waiting.bytes += bytes;
            waiting.items.push_back((Instant::now(), bytes, item));
        }
        fits
    }

    pub(super) fn front(&self) -> Vec<T> {
        let waiting = self.waiting.lock();
        waiting.items.iter().take(BATCH_SIZE).map(|(_, _, item)| item.clone()).collect()
    }

    /// Applies the results of writing the front. Written items leave the queue. Refused items move to the end until they have
    /// waited too long. The others stay. Returns how many were dropped.
    pub(super) fn pop(&self, outcomes: &[Result<(), CallError>], now: Instant) -> usize {
        let mut waiting = self.waiting.lock();
        let taken = outcomes.len().min(waiting.items.len());
        let front: Vec<_> = waiting.items.drain(..taken).collect();
        let (mut stay, mut refused, mut given_up) = (Vec::new(), Vec::new(), 0);
        for (item, outcome) in front.into_iter().zip(outcomes) {
            match outcome {
                Ok(()) => waiting.bytes -= item.1,
                Err(CallError::Refused) if now.saturating_duration_since(item.0) > GIVE_UP_AFTER => {
                    waiting.bytes -= item.1;
                    given_up += 1;
                }
                Err(CallError::Refused) => refused.push(item),
                Err(_) => stay.push(item),
            }
        }
        waiting.items.extend(refused);
        stay.into_iter().rev().for_each(|item| waiting.items.push_front(item));
        given_up
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.lock().items.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_is_bounded_in_number_and_bytes() {
        let queue = BoundedQueue::new("events");
        assert!((0..MAX_WAITING).all(|number| queue.push(number, 1)));
        assert!(!queue.push(0, 1));
        let queue = BoundedQueue::new("events");
        assert!(queue.push(0, MAX_BYTES) && !queue.push(1, 1));
        queue.pop(&[Ok(())], Instant::now());
        assert!(queue.push(1, MAX_BYTES), "a written item frees its bytes");
    }

    #[test]
    fn failed_items_keep_their_order_and_refused_ones_go_last() {
        let queue = BoundedQueue::new("records");
        (1..=6).for_each(|number| assert!(queue.push(number, 1)));
        let outcomes =
            [Ok(()), Err(CallError::Refused), Err(CallError::TimedOut), Err(CallError::Refused), Err(CallError::Down)];
        queue.pop(&outcomes, Instant::now());
        assert_eq!(queue.front(), [3, 5, 6, 2, 4]);
    }

    #[test]
    fn an_item_that_redis_refuses_for_an_hour_is_dropped() {
        let queue = BoundedQueue::new("records");
        assert!(queue.push(1, 7));
        let (now, later) = (Instant::now(), Instant::now() + 2 * GIVE_UP_AFTER);
        assert_eq!(queue.pop(&[Err(CallError::Refused)], now), 0);
        assert_eq!(queue.pop(&[Err(CallError::Down)], later), 0, "not while redis is away");
        assert_eq!(queue.pop(&[Err(CallError::Refused)], later), 1);
        assert_eq!((queue.len(), queue.waiting.lock().bytes), (0, 0));
    }
}
