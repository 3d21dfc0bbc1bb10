//! What can happen to a connection besides its own I/O.

use super::drain::Drain;
use futures_util::future::{BoxFuture, FutureExt as _};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// How long a connection keeps its slot while new connections wait, from its start or its last use.
const MIN_SLOT_TIME: Duration = Duration::from_millis(200);

/// An event for one connection.
pub(super) enum Event {
    /// The listeners close.
    Drain,
    /// The timer set by [`Events::set_timer`] has expired.
    Timer,
    /// A new connection needs a slot.
    SlotNeeded,
    /// The drain's deadline has passed.
    Cut,
}

/// The future events of one connection. Each is polled only after its own wake-up: polling all of them whenever the
/// connection reads would take their locks on each request.
pub(super) struct Events {
    pending: FuturesUnordered<BoxFuture<'static, (Event, u64)>>,
    /// The number of the current timer; earlier ones are ignored.
    timer: u64,
}

impl Events {
    /// The events of `drain`.
    pub(super) fn new(drain: &Drain) -> Self {
        let (closing, cut) = (drain.closing.clone().cancelled_owned(), drain.cut.clone().cancelled_owned());
        let pending = FuturesUnordered::new();
        pending.push(closing.map(|()| (Event::Drain, 0)).boxed());
        pending.push(cut.map(|()| (Event::Cut, 0)).boxed());
        Self { pending, timer: 0 }
    }

    /// Waits for [`Event::SlotNeeded`], after [`MIN_SLOT_TIME`].
    pub(super) fn await_slot_needed(&mut self, slot_needed: &Arc<Notify>) {
        let slot_needed = Arc::clone(slot_needed);
        let event = async move {
            tokio::time::sleep(MIN_SLOT_TIME).await;
            slot_needed.notified().await;
            (Event::SlotNeeded, 0)
        };
        self.pending.push(event.boxed());
    }

    /// Sets the timer, in place of the current one.
    pub(super) fn set_timer(&mut self, time: Duration) {
        self.timer += 1;
        let number = self.timer;
        self.pending.push(tokio::time::sleep(time).map(move |()| (Event::Timer, number)).boxed());
    }

    /// The next event.
    pub(super) async fn next(&mut self) -> Event {
        loop {
            match self.pending.next().await {
                Some((Event::Timer, number)) if number != self.timer => {}
                Some((event, _)) => return event,
                // `Cut` stays pending until it has been returned.
                None => return Event::Cut,
            }
        }
    }
}
