//! The body of a response. It counts against the memory limit until the client has read it.

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body as _, Frame, SizeHint};
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A whole body with its share of the memory limit.
pub(super) struct Body {
    bytes: Full<Bytes>,
    _memory: Option<OwnedSemaphorePermit>,
}

impl Body {
    /// A body with the permit of its request, or with its own; `None` if the memory limit is reached.
    pub(super) fn new(
        bytes: Full<Bytes>,
        request: Option<OwnedSemaphorePermit>,
        limit: &Arc<Semaphore>,
    ) -> Option<Self> {
        if bytes.is_end_stream() {
            return Some(Self::empty());
        }
        // Includes the task and the stream.
        let kib = bytes.size_hint().lower() / 1_024 + 4;
        let own = || Arc::clone(limit).try_acquire_many_owned(u32::try_from(kib).ok()?).ok();
        Some(Self { bytes, _memory: Some(request.or_else(own)?) })
    }

    /// An empty body.
    pub(super) fn empty() -> Self {
        Self { bytes: Full::default(), _memory: None }
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
