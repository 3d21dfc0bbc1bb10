//! One connection: its requests, its time limits, and its part in the drain.

use super::drain::Drain;
use super::events::{Event, Events};
use super::guarded::{Guarded, Large};
use super::in_flight::InFlight;
use super::inline_executor::{self, InlineExecutor};
use super::limits::{ListenerLimits, MAX_FIELDS, MAX_WAITING_KIB};
use super::response::{Handled, Response, ResponseFuture};
use futures_util::future::poll_fn;
use http::{Method, Request, StatusCode, Version, header};
use hyper::body::{Body as _, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::PollSemaphore;

/// What the connections of one listener share.
pub(super) struct ListenerContext<H> {
    pub limits: ListenerLimits,
    pub protocols: auto::Builder<InlineExecutor>,
    pub handler: H,
    pub drain: Drain,
    /// Makes the response if a handler panics.
    pub on_panic: Box<dyn Fn() -> Response + Send + Sync>,
    /// KiB for waiting requests and unread bodies.
    pub memory: Arc<Semaphore>,
    /// Permits for connections with a large head.
    pub large_heads: Arc<Semaphore>,
    /// Wakes the connection that has waited longest on it: a new connection needs its slot.
    pub slot_needed: Arc<Notify>,
}

/// What the requests of one connection share.
pub(super) struct ConnectionContext<H> {
    pub listener: Arc<ListenerContext<H>>,
    pub in_flight: InFlight,
    /// Whether the connection has a permit for a large head.
    pub has_large_head: Arc<AtomicBool>,
}

/// How long a connection without a request stays open after the listeners close: its first request may be on its way.
const FIRST_REQUEST_GRACE: Duration = Duration::from_millis(500);

/// How long an idle connection that has to free its slot may take to shut down.
const SLOT_GRACE: Duration = Duration::from_millis(100);

/// Serves one connection until it closes.
///
/// hyper limits the size of a head. This function limits time: no request, slow headers, idle keep-alive, unread
/// responses.
pub(super) async fn serve<S, H, F>(stream: S, peer: IpAddr, listener: Arc<ListenerContext<H>>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Fn(Request<Incoming>, IpAddr) -> F + Send + Sync + 'static,
    F: Future<Output = Response> + Unpin + Send + 'static,
{
    let has_large_head = Arc::<AtomicBool>::default();
    let permits = PollSemaphore::new(Arc::clone(&listener.large_heads));
    let large_head = Large::new(permits, listener.limits.first_request, Arc::clone(&has_large_head));
    let stream = Guarded::new(stream, listener.limits.head_bytes, large_head);
    let context =
        Arc::new(ConnectionContext { listener: Arc::clone(&listener), in_flight: InFlight::default(), has_large_head });
    let service = {
        let context = Arc::clone(&context);
        service_fn(move |request: Request<Incoming>| {
            context.in_flight.start();
            let (version, is_head) = (request.version(), request.method() == Method::HEAD);
            let is_http1 = version < Version::HTTP_2;
            let is_chunked = is_http1
                && !request.body().is_end_stream()
                && request.headers().contains_key(header::TRANSFER_ENCODING);
            let kib = if context.listener.limits.measures_requests { size_kib(&request) } else { MAX_WAITING_KIB };
            let handled = match rejection(&request) {
                Some(status) => Handled::Rejected(status),
                // Runs here, not at the first poll of the response: a check drops its request here, so that hyper can
                // read the next one into the same memory.
                None => catch_unwind(AssertUnwindSafe(|| (context.listener.handler)(request, peer)))
                    .map_or(Handled::Panicked, Handled::By),
            };
            ResponseFuture {
                handled,
                version,
                is_head,
                closes: is_chunked,
                kib,
                memory: None,
                context: Arc::clone(&context),
            }
        })
    };
    let connection = listener.protocols.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let mut events = Events::new(&listener.drain);
    events.await_slot_needed(&listener.slot_needed);
    events.set_timer(listener.limits.first_request);
    let (mut is_draining, mut is_shutting_down) = (false, false);
    // The number of requests at the last timer, and at the last demand for the slot.
    let (mut at_timer, mut at_demand) = (0, 0);
    loop {
        let event = tokio::select! {
            biased;
            // Resets and incomplete requests are common, so the result is not logged.
            _ = poll_fn(|context| inline_executor::poll_connection(connection.as_mut(), context)) => return,
            event = events.next() => event,
        };
        let started = context.in_flight.started();
        match event {
            Event::Drain => {
                is_draining = true;
                if started == 0 {
                    events.set_timer(FIRST_REQUEST_GRACE.min(listener.limits.first_request));
                } else {
                    is_shutting_down = true;
                    connection.as_mut().graceful_shutdown();
                }
            }
            Event::Timer => {
                let is_unused = started == at_timer && context.in_flight.is_idle();
                // No request at all, or the client does not read the last responses.
                if started == 0 || (is_shutting_down && is_unused) {
                    return;
                }
                if !is_shutting_down && (is_draining || is_unused) {
                    is_shutting_down = true;
                    connection.as_mut().graceful_shutdown();
                }
                at_timer = started;
                events.set_timer(listener.limits.idle);
            }
            Event::SlotNeeded => {
                if started != at_demand || !context.in_flight.is_idle() {
                    // Used since the last demand: another connection has to free its slot.
                    at_demand = started;
                    events.await_slot_needed(&listener.slot_needed);
                    listener.slot_needed.notify_one();
                } else if started == 0 || is_shutting_down {
                    return;
                } else {
                    is_shutting_down = true;
                    connection.as_mut().graceful_shutdown();
                    events.set_timer(SLOT_GRACE);
                }
            }
            Event::Cut => return,
        }
    }
}

/// The status for a request that is invalid or ambiguous: `Host` must occur once and equal the target's authority
/// (RFC 9112 §3.2).
fn rejection<B>(request: &Request<B>) -> Option<StatusCode> {
    let headers = request.headers();
    if headers.len() > MAX_FIELDS {
        return Some(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    }
    let mut hosts = headers.get_all(header::HOST).iter();
    let (host, second) = (hosts.next(), hosts.next());
    let is_missing = host.is_none() && request.version() == Version::HTTP_11;
    let differs = host
        .zip(request.uri().authority())
        .is_some_and(|(host, target)| !host.as_bytes().eq_ignore_ascii_case(target.as_str().as_bytes()));
    (second.is_some() || is_missing || differs).then_some(StatusCode::BAD_REQUEST)
}

/// The memory of a request in KiB: its bytes, and the header map's overhead per header.
fn size_kib<B>(request: &Request<B>) -> u32 {
    let headers = request.headers();
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 128).sum();
    u32::try_from((target + bytes) / 1_024 + 2).unwrap_or(MAX_WAITING_KIB).min(MAX_WAITING_KIB)
}
