//! The response to one request, within the memory limit, whatever the handler does.

use super::body::Body;
use super::connection::ConnectionContext;
use bytes::Bytes;
use http::{HeaderValue, StatusCode, Version, header};
use http_body_util::Full;
use hyper::body::Body as _;
use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use tokio::sync::OwnedSemaphorePermit;

/// A response with its whole body.
pub(super) type Response = http::Response<Full<Bytes>>;

/// How a request is handled.
pub(super) enum Handled<F> {
    /// By the handler.
    By(F),
    /// Rejected before the handler.
    Rejected(StatusCode),
    /// The handler panicked.
    Panicked,
}

/// The response of one request.
pub(super) struct ResponseFuture<H, F> {
    pub handled: Handled<F>,
    pub version: Version,
    /// Whether the method is HEAD.
    pub is_head: bool,
    /// Whether the connection must close afterwards, because the start of its next request is uncertain.
    pub closes: bool,
    /// The KiB that the request takes while it waits.
    pub kib: u32,
    pub memory: Option<OwnedSemaphorePermit>,
    pub context: Arc<ConnectionContext<H>>,
}

impl<H, F> Drop for ResponseFuture<H, F> {
    fn drop(&mut self) {
        self.context.in_flight.finish();
    }
}

impl<H, F: Future<Output = Response> + Unpin> Future for ResponseFuture<H, F> {
    type Output = Result<http::Response<Body>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let listener = &this.context.listener;
        let mut response = match &mut this.handled {
            Handled::By(handler) => match catch_unwind(AssertUnwindSafe(|| Pin::new(handler).poll(context))) {
                Ok(Poll::Ready(response)) => response,
                Ok(Poll::Pending) => {
                    if this.memory.is_none() {
                        this.memory = Arc::clone(&listener.memory).try_acquire_many_owned(this.kib).ok();
                    }
                    if this.memory.is_some() {
                        return Poll::Pending;
                    }
                    status_only(listener.limits.busy_status)
                }
                Err(_) => (listener.on_panic)(),
            },
            Handled::Rejected(status) => {
                this.closes = true;
                status_only(*status)
            }
            Handled::Panicked => (listener.on_panic)(),
        };
        if this.is_head {
            response = without_body(response);
        }
        let closes = this.closes || listener.drain.announced.load(Ordering::Relaxed) || this.frees_large_head();
        if closes && this.version < Version::HTTP_2 {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        let (mut parts, body) = response.into_parts();
        let body = Body::new(body, this.memory.take(), &listener.memory).unwrap_or_else(|| {
            // A denial is complete without its body; a success is not.
            if parts.status.is_success() {
                parts.status = listener.limits.busy_status;
            }
            parts.headers.remove(header::CONTENT_LENGTH);
            Body::empty()
        });
        Poll::Ready(Ok(http::Response::from_parts(parts, body)))
    }
}

impl<H, F> ResponseFuture<H, F> {
    /// Whether the connection has to close to free its permit for a large head. An idle connection keeps its permit, so
    /// this starts when half of them are taken.
    fn frees_large_head(&self) -> bool {
        let listener = &self.context.listener;
        self.context.has_large_head.load(Ordering::Relaxed)
            && listener.large_heads.available_permits() < listener.limits.large_heads / 2
    }
}

/// A response without a body.
fn status_only(status: StatusCode) -> Response {
    let mut response = Response::default();
    *response.status_mut() = status;
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if status != StatusCode::BAD_REQUEST {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

/// The response to a HEAD. hyper omits the body over HTTP/1 but sends it over HTTP/2, for which a strict client resets the
/// stream (RFC 9113). Some gateways check by HEAD whatever the client's method is (docs/en/ext-authz.md, Special
/// requests).
fn without_body(response: Response) -> Response {
    let (mut parts, body) = response.into_parts();
    if let Some(length) = body.size_hint().exact().filter(|length| *length > 0) {
        parts.headers.entry(header::CONTENT_LENGTH).or_insert_with(|| HeaderValue::from(length));
    }
    Response::from_parts(parts, Full::default())
}
