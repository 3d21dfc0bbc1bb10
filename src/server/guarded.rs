//! Passes the bytes of one connection to hyper, one message at a time and within the memory limit.
//!
//! - hyper gets a head only when it is complete. An ambiguous head is replaced by one that hyper answers with 400 before
//!   it closes the connection.
//! - While the client does not read its responses, nothing is read from it: otherwise responses would pile up.
//! - A head of 8 KiB and more, or an HTTP/2 header block in several frames, needs a permit of the listener and has to be
//!   complete in time.

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

/// An incomplete head of this size needs a permit of the listener.
const LARGE_BYTES: usize = 8 * 1024;

/// The buffer of an incomplete head grows by this.
const STEP_BYTES: usize = 4 * 1024;

/// Replaces an ambiguous head: HTTP/1 never allows a NUL.
const INVALID: &[u8] = b"\0\r\n\r\n";

/// A connection whose input is guarded.
pub(super) struct Guarded<S> {
    stream: S,
    framing: Framing,
    /// Bytes that hyper must not read yet: an incomplete head, or messages that came together with an earlier one.
    buffer: Vec<u8>,
    /// Whether the buffer starts with a message that the framing has not read. Before it, the task yields once.
    is_next: bool,
    has_yielded: bool,
    /// How many bytes of the buffer hyper may read now.
    passing: usize,
    /// Whether nothing more is read after them: the head is ambiguous or too long.
    is_last: bool,
    /// The maximum bytes of a head.
    max_head: usize,
    /// The reader's waker, while the client does not read what was written.
    blocked: Option<Waker>,
    large: Large,
}

/// The permit of a large head.
pub(super) struct Large {
    permits: PollSemaphore,
    time: Duration,
    permit: Option<OwnedSemaphorePermit>,
    deadline: Option<Pin<Box<Sleep>>>,
    /// Whether the connection has a permit, for its responses.
    has_permit: Arc<AtomicBool>,
}

impl Large {
    pub(super) fn new(permits: PollSemaphore, time: Duration, has_permit: Arc<AtomicBool>) -> Self {
        Self { permits, time, permit: None, deadline: None, has_permit }
    }

    /// Waits for a permit; fails if the head is not complete in time.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let time = self.time;
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep(time)));
        if deadline.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        if self.permit.is_none() {
            self.permit = ready!(self.permits.poll_acquire(context));
            self.has_permit.store(true, Ordering::Relaxed);
        }
        Poll::Ready(Ok(()))
    }

    fn finish(&mut self, is_http2: bool) {
        self.deadline = None;
        // hyper's HTTP/1 buffer keeps its size until the connection ends.
        if is_http2 && self.permit.take().is_some() {
            self.has_permit.store(false, Ordering::Relaxed);
        }
    }
}

impl<S> Guarded<S> {
    pub(super) fn new(stream: S, max_head: usize, large: Large) -> Self {
        Self {
            stream,
            framing: Framing::new(),
            buffer: Vec::new(),
            is_next: false,
            has_yielded: false,
            passing: 0,
            is_last: false,
            max_head,
            blocked: None,
            large,
        }
    }

    fn is_large(&self) -> bool {
        self.framing.has_unfinished_block() || (self.buffer.len() >= LARGE_BYTES && !self.is_next)
    }

    /// Passes buffered bytes on.
    fn pass(&mut self, buf: &mut ReadBuf<'_>) {
        let count = self.passing.min(buf.remaining());
        buf.put_slice(self.buffer.get(..count).unwrap_or_default());
        self.buffer.drain(..count);
        self.passing -= count;
        if self.buffer.is_empty() {
            self.buffer = Vec::new();
        }
        self.is_next = self.passing == 0;
    }

    /// Stops the deadline once no large head is incomplete.
    fn finish_large_head(&mut self) {
        if self.large.deadline.is_some() && !self.framing.has_unfinished_block() {
            self.large.finish(self.framing.is_http2());
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
        if this.framing.is_http2() && inline_executor::has_started_requests() {
            // `poll_connection` polls again after the requests have run, so no waker is needed.
            return Poll::Pending;
        }
        while this.passing == 0 && !this.is_last {
            if this.is_large() {
                // Also without new bytes: the deadline must expire.
                ready!(this.large.poll(context))?;
            }
            let found = if this.buffer.is_empty() {
                let before = buf.filled().len();
                ready!(Pin::new(&mut this.stream).poll_read(context, buf))?;
                let read = buf.filled().get(before..).unwrap_or_default();
                let found = this.framing.advance(read);
                if read.is_empty() || found == Found::Message(read.len()) {
                    this.finish_large_head();
                    return Poll::Ready(Ok(()));
                }
                this.buffer.extend_from_slice(read);
                buf.set_filled(before);
                found
            } else {
                if !this.is_next {
                    if this.buffer.len() == this.buffer.capacity() {
                        this.buffer.reserve_exact(STEP_BYTES);
                    }
                    if ready!(poll_read_buf(Pin::new(&mut this.stream), context, &mut this.buffer))? == 0 {
                        return Poll::Ready(Ok(()));
                    }
                } else if !this.has_yielded {
                    this.has_yielded = true;
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
                this.framing.advance(&this.buffer)
            };
            (this.is_next, this.has_yielded) = (false, false);
            match found {
                Found::Message(length) => {
                    this.passing = length;
                    this.finish_large_head();
                }
                // hyper answers it with 431.
                Found::Partial if this.buffer.len() >= this.max_head => {
                    (this.passing, this.is_last) = (this.buffer.len(), true);
                }
                Found::Partial => {}
                Found::Ambiguous => {
                    this.buffer = INVALID.to_vec();
                    (this.passing, this.is_last) = (INVALID.len(), true);
                }
            }
        }
        this.pass(buf);
        Poll::Ready(Ok(()))
    }
}

impl<S> Guarded<S> {
    /// Records whether the client reads what is written.
    fn track_write<T>(&mut self, poll: Poll<T>) -> Poll<T> {
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
        this.track_write(poll)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let poll = Pin::new(&mut this.stream).poll_write_vectored(context, pieces);
        this.track_write(poll)
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
