//! One connection: protocol, time-outs, and its part in the drain.

use super::drain::Drain;
use bytes::Bytes;
use http::{HeaderValue, Request, Response, Version, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use std::convert::Infallible;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};

/// What a door's connections may cost.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// Connections at once; further ones wait to be accepted.
    pub connections: usize,
    /// From the connection to its first whole request head. The protocol is guessed from the first bytes, and a client
    /// that sends none would be held for ever.
    pub first_request: Duration,
    /// A keep-alive connection may rest this long. Longer than Envoy's `idle_timeout` for us (30 s), so that Envoy is
    /// the one to close (contract §4).
    pub idle: Duration,
    /// Header lines. Envoy passes on 100 at most, and adds some.
    pub header_lines: usize,
    /// Bytes of a request head. Envoy passes on 60 KiB at most, and adds some.
    pub head_bytes: usize,
    /// Requests at once on an HTTP/2 connection; Envoy's checks share one.
    pub streams: u32,
}

impl Budget {
    /// For the gateway's checks.
    #[must_use]
    pub const fn check() -> Self {
        Self::of(8_192)
    }

    /// For the browser's pages.
    #[must_use]
    pub const fn pages() -> Self {
        Self::of(2_048)
    }

    /// For probes and operators.
    #[must_use]
    pub const fn small() -> Self {
        Self::of(64)
    }

    const fn of(connections: usize) -> Self {
        Self {
            connections,
            first_request: Duration::from_secs(10),
            idle: Duration::from_secs(75),
            header_lines: 128,
            head_bytes: 72 * 1024,
            streams: 1_024,
        }
    }

    /// The protocol settings of this budget, made once per door.
    pub(super) fn protocols(&self) -> auto::Builder<TokioExecutor> {
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(self.idle)
            .max_headers(self.header_lines)
            .max_buf_size(self.head_bytes)
            .keep_alive(true);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_header_list_size(u32::try_from(self.head_bytes).unwrap_or(u32::MAX))
            .max_concurrent_streams(self.streams)
            // A peer that is gone without a word is noticed.
            .keep_alive_interval(Duration::from_secs(30))
            .keep_alive_timeout(Duration::from_secs(10));
        builder
    }
}

/// A whole answer.
pub type Answer = Response<Full<Bytes>>;

/// What one door's connections share.
pub(super) struct Shared<H> {
    pub budget: Budget,
    pub protocols: auto::Builder<TokioExecutor>,
    pub handler: H,
    pub drain: Drain,
    /// What a request gets whose handler panicked.
    pub panicked: Box<dyn Fn() -> Answer + Send + Sync>,
}

/// Serves one connection to its end.
pub(super) async fn serve<S, H, F>(stream: S, peer: IpAddr, shared: Arc<Shared<H>>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Fn(Request<Incoming>, IpAddr) -> F + Send + Sync + 'static,
    F: Future<Output = Answer> + Send + 'static,
{
    let asked = Arc::new(AtomicBool::new(false));
    let service = {
        let (shared, asked) = (Arc::clone(&shared), Arc::clone(&asked));
        service_fn(move |request: Request<Incoming>| {
            asked.store(true, Ordering::Relaxed);
            let shared = Arc::clone(&shared);
            async move { Ok::<_, Infallible>(answer(request, peer, &shared).await) }
        })
    };
    let connection = shared.protocols.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let first = tokio::time::sleep(shared.budget.first_request);
    tokio::pin!(first);
    let mut closing = false;
    let mut patient = true;
    loop {
        tokio::select! {
            // How it ended is the peer's business: resets and half requests are everyday.
            _ = connection.as_mut() => return,
            () = first.as_mut(), if patient => {
                patient = false;
                if !asked.load(Ordering::Relaxed) {
                    return;
                }
            }
            () = shared.drain.closing.cancelled(), if !closing => {
                closing = true;
                if !asked.load(Ordering::Relaxed) {
                    return;
                }
                connection.as_mut().graceful_shutdown();
            }
            () = shared.drain.cut.cancelled() => return,
        }
    }
}

/// One request, whatever its handler does.
async fn answer<H, F>(request: Request<Incoming>, peer: IpAddr, shared: &Shared<H>) -> Answer
where
    H: Fn(Request<Incoming>, IpAddr) -> F,
    F: Future<Output = Answer>,
{
    let version = request.version();
    let handled = async { (shared.handler)(request, peer).await };
    tokio::pin!(handled);
    let caught =
        std::future::poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| handled.as_mut().poll(context))) {
            Ok(Poll::Ready(answer)) => Poll::Ready(Some(answer)),
            Ok(Poll::Pending) => Poll::Pending,
            Err(_) => Poll::Ready(None),
        });
    let mut answer = caught.await.unwrap_or_else(|| (shared.panicked)());
    if shared.drain.announced.is_cancelled() && version < Version::HTTP_2 {
        answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    answer
}
