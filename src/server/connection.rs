//! One connection: who holds it, what it answers, and its part in the drain.

use super::at_once::{self, AtOnce};
use super::budget::Budget;
use super::drain::Drain;
use super::pulse::Pulse;
use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt as _};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use http::{HeaderValue, Method, Request, Response, Version, header};
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
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};

/// A whole answer.
pub type Answer = Response<Full<Bytes>>;

/// What one door's connections share.
pub(super) struct Shared<H> {
    pub budget: Budget,
    pub protocols: auto::Builder<AtOnce>,
    pub handler: H,
    pub drain: Drain,
    /// What a request gets whose handler panicked.
    pub panicked: Box<dyn Fn() -> Answer + Send + Sync>,
}

/// What one connection's requests share.
struct Served<H> {
    shared: Arc<Shared<H>>,
    pulse: Pulse,
}

/// A connection made just before the doors close has this long to send what it was made for.
const LAST_WORD: Duration = Duration::from_millis(500);

/// Serves one connection to its end.
///
/// hyper bounds the bytes of a head. Here is bounded the time: of a client that never asks, or asks by halves, of a
/// connection that rests, and of a client that does not read what it asked for.
pub(super) async fn serve<S, H, F>(stream: S, peer: IpAddr, shared: Arc<Shared<H>>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Fn(Request<Incoming>, IpAddr) -> F + Send + Sync + 'static,
    F: Future<Output = Answer> + Unpin + Send + 'static,
{
    let served = Arc::new(Served { shared: Arc::clone(&shared), pulse: Pulse::default() });
    let service = {
        let served = Arc::clone(&served);
        service_fn(move |request: Request<Incoming>| {
            served.pulse.begins();
            let (version, head) = (request.version(), request.method() == Method::HEAD);
            // At once, not when hyper first asks for the answer: a check's request is gone by then, and with it what keeps
            // hyper from reading the next one into the same memory.
            let handled = catch_unwind(AssertUnwindSafe(|| (served.shared.handler)(request, peer))).ok();
            Answering { handled, version, head, served: Arc::clone(&served) }
        })
    };
    let connection = shared.protocols.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let mut calls = Calls::of(&shared.drain);
    calls.look_after(shared.budget.first_request);
    let (mut closing, mut told, mut seen) = (false, false, 0);
    loop {
        let call = tokio::select! {
            biased;
            // How it ended is the peer's business: resets and half requests are everyday.
            _ = poll_fn(|context| at_once::look(connection.as_mut(), context)) => return,
            call = calls.next() => call,
        };
        match call {
            Call::Closing => {
                closing = true;
                if served.pulse.asked() == 0 {
                    calls.look_after(LAST_WORD.min(shared.budget.first_request));
                } else {
                    told = true;
                    connection.as_mut().graceful_shutdown();
                }
            }
            Call::Look => {
                let asked = served.pulse.asked();
                let resting = asked == seen && served.pulse.rests();
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
            Call::Cut => return,
        }
    }
}

/// What a connection hears from outside.
enum Call {
    /// The doors close.
    Closing,
    /// It is time to look whether the connection is of use.
    Look,
    /// It is over.
    Cut,
}

/// The calls to come. Each is asked only when it has something to say: to ask them all whenever the connection has read
/// something would take their locks for each request.
struct Calls {
    to_come: FuturesUnordered<BoxFuture<'static, (Call, u64)>>,
    /// Only the last look counts.
    look: u64,
}

impl Calls {
    fn of(drain: &Drain) -> Self {
        let (closing, cut) = (drain.closing.clone().cancelled_owned(), drain.cut.clone().cancelled_owned());
        let to_come = FuturesUnordered::new();
        to_come.push(closing.map(|()| (Call::Closing, 0)).boxed());
        to_come.push(cut.map(|()| (Call::Cut, 0)).boxed());
        Self { to_come, look: 0 }
    }

    /// The next look is after this, and none before.
    fn look_after(&mut self, time: Duration) {
        self.look += 1;
        let number = self.look;
        self.to_come.push(tokio::time::sleep(time).map(move |()| (Call::Look, number)).boxed());
    }

    async fn next(&mut self) -> Call {
        loop {
            match self.to_come.next().await {
                Some((Call::Look, number)) if number != self.look => {}
                Some((call, _)) => return call,
                // The cut is always among them, until it has come.
                None => return Call::Cut,
            }
        }
    }
}

/// One request, whatever its handler does.
struct Answering<H, F> {
    /// None where the handler panicked.
    handled: Option<F>,
    version: Version,
    head: bool,
    served: Arc<Served<H>>,
}

impl<H, F> Drop for Answering<H, F> {
    fn drop(&mut self) {
        self.served.pulse.is_over();
    }
}

impl<H, F: Future<Output = Answer> + Unpin> Future for Answering<H, F> {
    type Output = Result<Answer, Infallible>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let answer =
            self.handled.as_mut().map(|handled| catch_unwind(AssertUnwindSafe(|| Pin::new(handled).poll(context))));
        let mut answer = match answer {
            Some(Ok(Poll::Pending)) => return Poll::Pending,
            Some(Ok(Poll::Ready(answer))) => answer,
            Some(Err(_)) | None => (self.served.shared.panicked)(),
        };
        if self.head {
            answer = without_body(answer);
        }
        if self.served.shared.drain.announced.load(Ordering::Relaxed) && self.version < Version::HTTP_2 {
            answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        Poll::Ready(Ok(answer))
    }
}

/// The answer to a HEAD. hyper leaves the body out over HTTP/1 but sends it over HTTP/2, and a client that keeps to
/// RFC 9113 resets the stream for it. Some gateways ask by HEAD whatever the client asked (contract §7.5).
fn without_body(answer: Answer) -> Answer {
    let (mut parts, body) = answer.into_parts();
    if let Some(length) = body.size_hint().exact().filter(|length| *length > 0) {
        parts.headers.entry(header::CONTENT_LENGTH).or_insert_with(|| HeaderValue::from(length));
    }
    Response::from_parts(parts, Full::default())
}
