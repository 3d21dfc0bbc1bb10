//! One connection: who holds it, what it answers, and its part in the drain.

use super::body::Body;
use super::drain::Drain;
use super::guarded::{Guarded, Large};
use super::in_flight::InFlight;
use super::inline_executor::{self, InlineExecutor};
use super::limits::{ListenerLimits, MAX_FIELDS, MAX_HELD_KIB};
use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt as _};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use http::{HeaderValue, Method, Request, StatusCode, Version, header};
use http_body_util::Full;
use hyper::body::{Body as _, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto;
use std::convert::Infallible;
use std::future::poll_fn;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::PollSemaphore;

/// A whole answer.
pub(super) type Response = http::Response<Full<Bytes>>;

/// What one door's connections share.
pub(super) struct ListenerContext<H> {
    pub budget: ListenerLimits,
    pub protocols: auto::Builder<InlineExecutor>,
    pub handler: H,
    pub drain: Drain,
    /// What a request gets whose handler panicked.
    pub panicked: Box<dyn Fn() -> Response + Send + Sync>,
    /// In KiB, for requests that wait and bodies that are not read.
    pub memory: Arc<Semaphore>,
    /// For large heads.
    pub large_heads: Arc<Semaphore>,
    /// Wakes the connection that has waited longest for it: a new one needs its place.
    pub crowded: Arc<Notify>,
}

/// What one connection's requests share.
struct ConnectionContext<H> {
    shared: Arc<ListenerContext<H>>,
    pulse: InFlight,
    /// Whether the connection has a share of the reserve for large heads.
    large: Arc<AtomicBool>,
}

/// A connection made just before the doors close has this long to send what it was made for.
const FIRST_REQUEST_GRACE: Duration = Duration::from_millis(500);

/// A connection keeps its place for so long, and for as long again whenever it was of use.
const SPARED: Duration = Duration::from_millis(200);

/// A connection that rests and makes way for a new one has this long to say goodbye.
const MAKE_WAY: Duration = Duration::from_millis(100);

/// Serves one connection to its end.
///
/// hyper bounds the bytes of a head. Here is bounded the time: of a client that never asks, or asks by halves, of a
/// connection that rests, and of a client that does not read what it asked for.
pub(super) async fn serve<S, H, F>(stream: S, peer: IpAddr, shared: Arc<ListenerContext<H>>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Fn(Request<Incoming>, IpAddr) -> F + Send + Sync + 'static,
    F: Future<Output = Response> + Unpin + Send + 'static,
{
    let large = Arc::<AtomicBool>::default();
    let reserve = PollSemaphore::new(Arc::clone(&shared.large_heads));
    let large_head = Large::new(reserve, shared.budget.first_request, Arc::clone(&large));
    let stream = Guarded::new(stream, shared.budget.head_bytes, large_head);
    let served = Arc::new(ConnectionContext { shared: Arc::clone(&shared), pulse: InFlight::default(), large });
    let service = {
        let served = Arc::clone(&served);
        service_fn(move |request: Request<Incoming>| {
            served.pulse.start();
            let (version, head) = (request.version(), request.method() == Method::HEAD);
            let is_http1 = version < Version::HTTP_2;
            let chunked = is_http1
                && !request.body().is_end_stream()
                && request.headers().contains_key(header::TRANSFER_ENCODING);
            let kib = if served.shared.budget.measured { size_kib(&request) } else { MAX_HELD_KIB };
            let handled = match refused(&request) {
                Some(status) => Handled::Refused(status),
                // At once, not when hyper first asks for the answer: a check's request is gone by then, and with it what
                // keeps hyper from reading the next one into the same memory.
                None => catch_unwind(AssertUnwindSafe(|| (served.shared.handler)(request, peer)))
                    .map_or(Handled::Panicked, Handled::By),
            };
            ResponseFuture { handled, version, head, close: chunked, kib, held: None, served: Arc::clone(&served) }
        })
    };
    let connection = shared.protocols.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let mut calls = ConnectionEvents::of(&shared.drain);
    calls.listen(&shared.crowded);
    calls.look_after(shared.budget.first_request);
    let (mut closing, mut told, mut seen, mut spared) = (false, false, 0, 0);
    loop {
        let call = tokio::select! {
            biased;
            // How it ended is the peer's business: resets and half requests are everyday.
            _ = poll_fn(|context| inline_executor::poll_connection(connection.as_mut(), context)) => return,
            call = calls.next() => call,
        };
        match call {
            ConnectionEvent::Closing => {
                closing = true;
                if served.pulse.asked() == 0 {
                    calls.look_after(FIRST_REQUEST_GRACE.min(shared.budget.first_request));
                } else {
                    told = true;
                    connection.as_mut().graceful_shutdown();
                }
            }
            ConnectionEvent::Look => {
                let asked = served.pulse.asked();
                let resting = asked == seen && served.pulse.is_idle();
                // Nothing was ever asked, or what was answered is still not read.
                if asked == 0 || (told && resting) {
                    return;
                }
                if !told && (closing || resting) {
                    told = true;
                    connection.as_mut().graceful_shutdown();
                }
                seen = asked;
                calls.look_after(shared.budget.idle);
            }
            ConnectionEvent::Crowded => {
                let asked = served.pulse.asked();
                if asked != spared || !served.pulse.is_idle() {
                    // Of use since it was last spared: the next one makes way.
                    spared = asked;
                    calls.listen(&shared.crowded);
                    shared.crowded.notify_one();
                } else if asked == 0 || told {
                    return;
                } else {
                    told = true;
                    connection.as_mut().graceful_shutdown();
                    calls.look_after(MAKE_WAY);
                }
            }
            ConnectionEvent::Cut => return,
        }
    }
}

/// What a connection hears from outside.
enum ConnectionEvent {
    /// The doors close.
    Closing,
    /// It is time to look whether the connection is of use.
    Look,
    /// A new connection needs a place.
    Crowded,
    /// It is over.
    Cut,
}

/// The calls to come. Each is asked only when it has something to say: to ask them all whenever the connection has read
/// something would take their locks for each request.
struct ConnectionEvents {
    to_come: FuturesUnordered<BoxFuture<'static, (ConnectionEvent, u64)>>,
    /// Only the last look counts.
    look: u64,
}

impl ConnectionEvents {
    fn of(drain: &Drain) -> Self {
        let (closing, cut) = (drain.closing.clone().cancelled_owned(), drain.cut.clone().cancelled_owned());
        let to_come = FuturesUnordered::new();
        to_come.push(closing.map(|()| (ConnectionEvent::Closing, 0)).boxed());
        to_come.push(cut.map(|()| (ConnectionEvent::Cut, 0)).boxed());
        Self { to_come, look: 0 }
    }

    /// Stands in line to make way, after a while: a new connection has not asked yet, and one just spared is of use.
    fn listen(&mut self, crowded: &Arc<Notify>) {
        let crowded = Arc::clone(crowded);
        let call = async move {
            tokio::time::sleep(SPARED).await;
            crowded.notified().await;
            (ConnectionEvent::Crowded, 0)
        };
        self.to_come.push(call.boxed());
    }

    /// The next look is after this, and none before.
    fn look_after(&mut self, time: Duration) {
        self.look += 1;
        let number = self.look;
        self.to_come.push(tokio::time::sleep(time).map(move |()| (ConnectionEvent::Look, number)).boxed());
    }

    async fn next(&mut self) -> ConnectionEvent {
        loop {
            match self.to_come.next().await {
                Some((ConnectionEvent::Look, number)) if number != self.look => {}
                Some((call, _)) => return call,
                // The cut is always among them, until it has come.
                None => return ConnectionEvent::Cut,
            }
        }
    }
}

/// Why a request has no meaning, or more than one: `Host` has to be there once and say what the target says
/// (RFC 9112 §3.2).
fn refused<B>(request: &Request<B>) -> Option<StatusCode> {
    let headers = request.headers();
    if headers.len() > MAX_FIELDS {
        return Some(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    }
    let mut hosts = headers.get_all(header::HOST).iter();
    let (host, second) = (hosts.next(), hosts.next());
    let missing = host.is_none() && request.version() == Version::HTTP_11;
    let other = host
        .zip(request.uri().authority())
        .is_some_and(|(host, target)| !host.as_bytes().eq_ignore_ascii_case(target.as_str().as_bytes()));
    (second.is_some() || missing || other).then_some(StatusCode::BAD_REQUEST)
}

/// What a request occupies, in KiB: its bytes, and what a map of headers takes for each of them.
fn size_kib<B>(request: &Request<B>) -> u32 {
    let headers = request.headers();
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 128).sum();
    u32::try_from((target + bytes) / 1_024 + 2).unwrap_or(MAX_HELD_KIB).min(MAX_HELD_KIB)
}

/// What became of a request.
enum Handled<F> {
    By(F),
    /// It did not reach the handler.
    Refused(StatusCode),
    Panicked,
}

/// One request, whatever its handler does.
struct ResponseFuture<H, F> {
    handled: Handled<F>,
    version: Version,
    head: bool,
    /// The connection must not be used again: where its next request begins is not certain.
    close: bool,
    /// What it takes while it waits.
    kib: u32,
    held: Option<OwnedSemaphorePermit>,
    served: Arc<ConnectionContext<H>>,
}

impl<H, F> Drop for ResponseFuture<H, F> {
    fn drop(&mut self) {
        self.served.pulse.finish();
    }
}

impl<H, F: Future<Output = Response> + Unpin> Future for ResponseFuture<H, F> {
    type Output = Result<http::Response<Body>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let shared = &this.served.shared;
        let mut answer = match &mut this.handled {
            Handled::By(handled) => match catch_unwind(AssertUnwindSafe(|| Pin::new(handled).poll(context))) {
                Ok(Poll::Ready(answer)) => answer,
                Ok(Poll::Pending) => {
                    if this.held.is_none() {
                        this.held = Arc::clone(&shared.memory).try_acquire_many_owned(this.kib).ok();
                    }
                    if this.held.is_some() {
                        return Poll::Pending;
                    }
                    bare(shared.budget.busy)
                }
                Err(_) => (shared.panicked)(),
            },
            Handled::Refused(status) => {
                this.close = true;
                bare(*status)
            }
            Handled::Panicked => (shared.panicked)(),
        };
        if this.head {
            answer = without_body(answer);
        }
        let closes = this.close || shared.drain.announced.load(Ordering::Relaxed) || this.frees_its_share();
        if closes && this.version < Version::HTTP_2 {
            answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        let (mut parts, body) = answer.into_parts();
        let body = Body::new(body, this.held.take(), &shared.memory).unwrap_or_else(|| {
            // A refusal is one without its body, too; anything else would be half an answer.
            if parts.status.is_success() {
                parts.status = shared.budget.busy;
            }
            parts.headers.remove(header::CONTENT_LENGTH);
            Body::empty()
        });
        Poll::Ready(Ok(http::Response::from_parts(parts, body)))
    }
}

impl<H, F> ResponseFuture<H, F> {
    /// Whether the connection has a share of the reserve for large heads that others will need: a connection that rests
    /// keeps its share.
    fn frees_its_share(&self) -> bool {
        let shared = &self.served.shared;
        self.served.large.load(Ordering::Relaxed)
            && shared.large_heads.available_permits() < shared.budget.large_heads / 2
    }
}

/// A status and nothing else.
fn bare(status: StatusCode) -> Response {
    let mut answer = Response::default();
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if status != StatusCode::BAD_REQUEST {
        answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    answer
}

/// The answer to a HEAD. hyper leaves the body out over HTTP/1 but sends it over HTTP/2, and a client that keeps to
/// RFC 9113 resets the stream for it. Some gateways ask by HEAD whatever the client asked (docs/en/ext-authz.md,
/// Special requests).
fn without_body(answer: Response) -> Response {
    let (mut parts, body) = answer.into_parts();
    if let Some(length) = body.size_hint().exact().filter(|length| *length > 0) {
        parts.headers.entry(header::CONTENT_LENGTH).or_insert_with(|| HeaderValue::from(length));
    }
    Response::from_parts(parts, Full::default())
}
