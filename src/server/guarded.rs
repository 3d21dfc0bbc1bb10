//! The bytes of one connection on their way to hyper: one message at a time, and no more than memory allows.
//!
//! - A head that two readers could divide differently never reaches hyper whole: it becomes one that hyper answers with
//!   400 and closes.
//! - A client that does not read its answers is not read from: otherwise answers pile up.
//! - A head of 8 KiB and more, or an HTTP/2 header block in several frames, needs a share of the listener's reserve and
//!   has to come whole in time.

use super::at_once;
use super::framing::{Found, Framing};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Sleep;
use tokio_util::sync::PollSemaphore;

/// Follows a head up to its ambiguous line: no reading of HTTP/1 allows a NUL there.
const INVALID: &[u8] = b"\0\r\n\r\n";

/// A connection whose input is guarded.
pub(super) struct Guarded<S> {
    stream: S,
    framing: Framing,
    /// Bytes of later messages that came together with an earlier one. Each of those has a turn of its own.
    rest: Vec<u8>,
    has_turn: bool,
    /// What is left of [`INVALID`] to be read, after an ambiguous line. Then the input ends.
    invalid: Option<&'static [u8]>,
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
    pub fn new(reserve: PollSemaphore, time: Duration, taken: Arc<AtomicBool>) -> Self {
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
    pub fn new(stream: S, large: Large) -> Self {
        Self { stream, framing: Framing::new(), rest: Vec::new(), has_turn: false, invalid: None, blocked: None, large }
    }

    /// Looks at what was read after the first `before` bytes of `buf`, and takes out what is not to be read now.
    fn judge(&mut self, buf: &mut ReadBuf<'_>, before: usize) {
        let read = buf.filled().get(before..).unwrap_or_default();
        match self.framing.advance(read) {
            Found::All => {}
            Found::End(end) => {
                let rest = read.get(end..).unwrap_or_default();
                if !rest.is_empty() {
                    // Mostly empty: who sends several requests together has its later ones read later.
                    self.rest.splice(..0, rest.iter().copied());
                    buf.set_filled(before + end);
                }
            }
            Found::Malformed(at) => {
                buf.set_filled(before + at);
                self.rest = Vec::new();
                self.invalid = Some(INVALID);
            }
        }
        if self.large.deadline.is_some() && !self.framing.is_large() {
            self.large.end(self.framing.is_http2());
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        if let Some(blocked) = &mut this.blocked {
            blocked.clone_from(context.waker());
            return Poll::Pending;
        }
        if this.framing.is_http2() && at_once::has_found() {
            // The look at the connection goes round again when they are answered, so no waker is kept.
            return Poll::Pending;
        }
        if this.invalid.is_none() {
            if this.framing.is_large() {
                // Also while nothing comes: the deadline ends the wait.
                ready!(this.large.poll(context))?;
            }
            if !this.rest.is_empty() && !this.framing.is_large() && !this.has_turn {
                this.has_turn = true;
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            this.has_turn = false;
            if this.rest.is_empty() {
                ready!(Pin::new(&mut this.stream).poll_read(context, buf))?;
            } else {
                let count = this.rest.len().min(buf.remaining());
                buf.put_slice(this.rest.get(..count).unwrap_or_default());
                this.rest.drain(..count);
                if this.rest.is_empty() {
                    this.rest = Vec::new();
                }
            }
            this.judge(buf, before);
        }
        if let Some(invalid) = &mut this.invalid
            && buf.filled().len() == before
        {
            let (now, later) = invalid.split_at(invalid.len().min(buf.remaining()));
            buf.put_slice(now);
            *invalid = later;
        }
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
