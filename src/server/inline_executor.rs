//! Where HTTP/2 requests run: beside their connection while they need not wait.
//!
//! hyper hands each request to an executor. As tasks of a runtime with several threads they take turns with
//! their connection: each answer is written by a system call of its own. Here all requests that one look at the
//! connection found are asked once, and what they answer is written together. Only what has to wait becomes a task.

use futures_util::future::{BoxFuture, FutureExt as _};
use std::cell::RefCell;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

/// The executor. Who looks at a connection that has it does so by [`look`].
#[derive(Clone, Copy, Debug)]
pub(super) struct InlineExecutor;

thread_local! {
    /// What the look under way on this thread has found.
    static FOUND: RefCell<Vec<BoxFuture<'static, ()>>> = const { RefCell::new(Vec::new()) };
}

impl<F> hyper::rt::Executor<F> for InlineExecutor
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, request: F) {
        FOUND.with_borrow_mut(|found| found.push(request.map(drop).boxed()));
    }
}

/// Whether the look under way has found requests. Until they are answered no more are read: their heads would pile up.
pub(super) fn has_found() -> bool {
    FOUND.with_borrow(|found| !found.is_empty())
}

/// Rounds of a look. Usually there are two: one that finds requests and one that writes their answers.
const ROUNDS: usize = 4;

/// Polls `connection`, and answers what it found. Other connections have their turn before one that keeps on asking.
pub(super) fn poll_connection<C: Future>(mut connection: Pin<&mut C>, context: &mut Context<'_>) -> Poll<C::Output> {
    for _ in 0..ROUNDS {
        let polled = connection.as_mut().poll(context);
        let mut found = FOUND.take();
        if found.is_empty() {
            return polled;
        }
        for mut request in found.drain(..) {
            // This waker is never woken: a task asks again, and says who is to be.
            if request.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
                tokio::spawn(request);
            }
        }
        // Its room is used again.
        FOUND.with_borrow_mut(|next| {
            if next.is_empty() {
                *next = found
            }
        });
        if polled.is_ready() {
            return polled;
        }
    }
    context.waker().wake_by_ref();
    Poll::Pending
}
