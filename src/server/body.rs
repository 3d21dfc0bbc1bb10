//! An answer's body, which has a place until its client has read it.

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body as _, Frame, SizeHint};
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A whole body and its place.
pub(super) struct Body {
    bytes: Full<Bytes>,
    _place: Option<OwnedSemaphorePermit>,
}

impl Body {
    /// With its request's place, or one of its own. Without a place it is left out: status and headers remain.
    pub fn new(bytes: Full<Bytes>, place: Option<OwnedSemaphorePermit>, places: &Arc<Semaphore>) -> Self {
        if bytes.is_end_stream() {
            return Self { bytes, _place: None };
        }
        match place.or_else(|| Arc::clone(places).try_acquire_owned().ok()) {
            Some(place) => Self { bytes, _place: Some(place) },
            None => Self { bytes: Full::default(), _place: None },
        }
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
