//! Runs HTTP/2 requests inside the poll of their connection while they do not wait.
//!
//! hyper passes each request of an HTTP/2 connection to an executor. As tasks of a multi-threaded runtime, requests and
//! connection run in turns, and each response is written by a system call of its own. Here, all requests of one poll run
//! once, and their responses are written together. Only a request that has to wait becomes a task.

use futures_util::future::{BoxFuture, FutureExt as _};
use std::cell::RefCell;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

/// The executor. Its connections must be polled by [`poll_connection`].
#[derive(Clone, Copy, Debug)]
pub(super) struct InlineExecutor;

thread_local! {
    /// The requests that the current poll of a connection has started.
    static STARTED: RefCell<Vec<BoxFuture<'static, ()>>> = const { RefCell::new(Vec::new()) };
}

impl<F> hyper::rt::Executor<F> for InlineExecutor
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, request: F) {
        STARTED.with_borrow_mut(|started| started.push(request.map(drop).boxed()));
    }
}

/// Whether the current poll has started requests. Until they have run, no more bytes are read: their headers would use
/// memory without a limit.
pub(super) fn has_started_requests() -> bool {
    STARTED.with_borrow(|started| !started.is_empty())
}

/// Rounds of one poll. Two are usual: one starts requests, one writes their responses.
const MAX_ROUNDS: usize = 4;

/// Polls `connection` and runs the requests that it starts. After [`MAX_ROUNDS`], other connections have their turn.
pub(super) fn poll_connection<C: Future>(mut connection: Pin<&mut C>, context: &mut Context<'_>) -> Poll<C::Output> {
    for _ in 0..MAX_ROUNDS {
        let polled = connection.as_mut().poll(context);
        let mut started = STARTED.take();
        if started.is_empty() {
            return polled;
        }
        for mut request in started.drain(..) {
            // A task polls a waiting request again, with its own waker.
            if request.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
                tokio::spawn(request);
            }
        }
        // Keeps the allocation.
        STARTED.with_borrow_mut(|next| {
            if next.is_empty() {
                *next = started
            }
        });
        if polled.is_ready() {
            return polled;
        }
    }
    context.waker().wake_by_ref();
    Poll::Pending
}
