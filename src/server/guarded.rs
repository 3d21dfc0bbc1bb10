//! The bytes of one connection on their way to hyper: one message at a time, and no more than memory allows.
//!
//! - hyper reads a head when it is complete, and never one that two readers could divide differently: in its place comes
//!   one that hyper answers with 400 before it closes the connection.
//! - A client that does not read its answers is not read from: otherwise answers pile up.
//! - A head of 8 KiB and more, or an HTTP/2 header block in several frames, needs a share of the listener's reserve and
//!   has to be complete in time.

use super::framing::{Found, Framing};
use super::inline_executor;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Sleep;
use tokio_util::io::poll_read_buf;
use tokio_util::sync::PollSemaphore;

/// An incomplete head of this size needs a share of the listener's reserve.
const LARGE_BYTES: usize = 8 * 1024;

/// The memory for an incomplete head grows by this.
const STEP_BYTES: usize = 4 * 1024;

/// Stands for an ambiguous head: no reading of HTTP/1 allows a NUL.
const INVALID: &[u8] = b"\0\r\n\r\n";

/// A connection whose input is guarded.
pub(super) struct Guarded<S> {
    stream: S,
    framing: Framing,
    /// Bytes that hyper must not read yet: an incomplete head, or messages that came together with an earlier one.
    held: Vec<u8>,
    /// Whether the framing has not read the held bytes: each of those messages has a turn of its own.
    is_next: bool,
    has_turn: bool,
    /// How many of the held bytes hyper may read now.
    passing: usize,
    /// No more than those is read: the head is ambiguous or too long.
    is_last: bool,
    /// The most bytes of a head.
    max_head: usize,
    /// The reader, while the client has not taken what was written.
    blocked: Option<Waker>,
    large: Large,
}

/// The share of the reserve that a large head takes.
pub(super) struct Large {
    reserve: PollSemaphore,
    time: Duration,
    share: Option<OwnedSemaphorePermit>,
    deadline: Option<Pin<Box<Sleep>>>,
    /// Set while the connection has a share, for those who answer its requests.
    taken: Arc<AtomicBool>,
}

impl Large {
    pub(super) fn new(reserve: PollSemaphore, time: Duration, taken: Arc<AtomicBool>) -> Self {
        Self { reserve, time, share: None, deadline: None, taken }
    }

    /// Waits for a share, and fails when the head does not come whole in time.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let time = self.time;
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep(time)));
        if deadline.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        if self.share.is_none() {
            self.share = ready!(self.reserve.poll_acquire(context));
            self.taken.store(true, Ordering::Relaxed);
        }
        Poll::Ready(Ok(()))
    }

    fn end(&mut self, http2: bool) {
        self.deadline = None;
        // hyper's buffer for HTTP/1 stays as large as it became, until the connection ends.
        if http2 && self.share.take().is_some() {
            self.taken.store(false, Ordering::Relaxed);
        }
    }
}

impl<S> Guarded<S> {
    pub(super) fn new(stream: S, max_head: usize, large: Large) -> Self {
        Self {
            stream,
            framing: Framing::new(),
            held: Vec::new(),
            is_next: false,
            has_turn: false,
            passing: 0,
            is_last: false,
            max_head,
            blocked: None,
            large,
        }
    }

    fn is_large(&self) -> bool {
        self.framing.has_unfinished_block() || (self.held.len() >= LARGE_BYTES && !self.is_next)
    }

    /// Passes held bytes on.
    fn pass(&mut self, buf: &mut ReadBuf<'_>) {
        let count = self.passing.min(buf.remaining());
        buf.put_slice(self.held.get(..count).unwrap_or_default());
        self.held.drain(..count);
        self.passing -= count;
        if self.held.is_empty() {
            self.held = Vec::new();
        }
        self.is_next = self.passing == 0;
    }

    /// Ends the wait for a large head.
    fn is_complete(&mut self) {
        if self.large.deadline.is_some() && !self.framing.has_unfinished_block() {
            self.large.end(self.framing.is_http2());
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Some(blocked) = &mut this.blocked {
            blocked.clone_from(context.waker());
            return Poll::Pending;
        }
        if this.framing.is_http2() && inline_executor::has_found() {
            // The look at the connection goes round again when they are answered, so no waker is kept.
            return Poll::Pending;
        }
        while this.passing == 0 && !this.is_last {
            if this.is_large() {
                // Also while nothing comes: the deadline ends the wait.
                ready!(this.large.poll(context))?;
            }
            let found = if this.held.is_empty() {
                let before = buf.filled().len();
                ready!(Pin::new(&mut this.stream).poll_read(context, buf))?;
                let read = buf.filled().get(before..).unwrap_or_default();
                let found = this.framing.advance(read);
                if read.is_empty() || found == Found::Message(read.len()) {
                    this.is_complete();
                    return Poll::Ready(Ok(()));
                }
                this.held.extend_from_slice(read);
                buf.set_filled(before);
                found
            } else {
                if !this.is_next {
                    if this.held.len() == this.held.capacity() {
                        this.held.reserve_exact(STEP_BYTES);
                    }
                    if ready!(poll_read_buf(Pin::new(&mut this.stream), context, &mut this.held))? == 0 {
                        return Poll::Ready(Ok(()));
                    }
                } else if !this.has_turn {
                    this.has_turn = true;
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
                this.framing.advance(&this.held)
            };
            (this.is_next, this.has_turn) = (false, false);
            match found {
                Found::Message(length) => {
                    this.passing = length;
                    this.is_complete();
                }
                // hyper answers it with 431.
                Found::Partial if this.held.len() >= this.max_head => {
                    (this.passing, this.is_last) = (this.held.len(), true);
                }
                Found::Partial => {}
                Found::Ambiguous => {
                    this.held = INVALID.to_vec();
                    (this.passing, this.is_last) = (INVALID.len(), true);
                }
            }
        }
        this.pass(buf);
        Poll::Ready(Ok(()))
    }
}

impl<S> Guarded<S> {
    /// Keeps in mind whether the client takes what is written.
    fn written<T>(&mut self, poll: Poll<T>) -> Poll<T> {
        if poll.is_pending() {
            self.blocked.get_or_insert_with(|| Waker::noop().clone());
        } else if let Some(reader) = self.blocked.take() {
            reader.wake();
        }
        poll
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let poll = Pin::new(&mut this.stream).poll_write(context, bytes);
        this.written(poll)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let poll = Pin::new(&mut this.stream).poll_write_vectored(context, pieces);
        this.written(poll)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}
