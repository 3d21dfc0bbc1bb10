//! An answer's body, which counts as held until its client has read it.

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body as _, Frame, SizeHint};
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A whole body, and the memory it is counted with.
pub(super) struct Body {
    bytes: Full<Bytes>,
    _held: Option<OwnedSemaphorePermit>,
}

impl Body {
    /// Counts it with its request, or by itself; none if there is no memory left for it.
    pub(super) fn new(bytes: Full<Bytes>, held: Option<OwnedSemaphorePermit>, memory: &Arc<Semaphore>) -> Option<Self> {
        if bytes.is_end_stream() {
            return Some(Self::empty());
        }
        // Its task and stream count as well.
        let kib = bytes.size_hint().lower() / 1_024 + 4;
        let alone = || Arc::clone(memory).try_acquire_many_owned(u32::try_from(kib).ok()?).ok();
        Some(Self { bytes, _held: Some(held.or_else(alone)?) })
    }

    /// Nothing.
    pub(super) fn empty() -> Self {
        Self { bytes: Full::default(), _held: None }
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Pin::new(&mut self.get_mut().bytes).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.bytes.size_hint()
    }
}
