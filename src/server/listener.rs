//! A door: a listener with its budget.

use super::address::Address;
use super::connection::{self, ListenerContext, Response};
use super::drain::Drain;
use super::limits::ListenerLimits;
use super::unix::{self, SocketFile};
use http::Request;
use hyper::body::Incoming;
use prometheus_client::metrics::gauge::Gauge;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::either::Either;

/// A door could not be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BindError {
    /// The operating system refused.
    #[error("cannot listen on {0}: {1}")]
    Refused(Address, io::Error),
    /// Another process answers there.
    #[error("cannot listen on {0}: another process does; end it, or configure another address")]
    Taken(Address),
    /// Something that is no socket lies there.
    #[error("cannot listen on {0}: there is a file that is no socket")]
    NotASocket(Address),
}

/// After a failed accept (too many open files) it pays to wait for some to close.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);

/// While all places are taken, so long passes between one connection that makes way and the next.
const BETWEEN_EXCHANGES: Duration = Duration::from_millis(2);

/// When the door closes, those who wait to be accepted are taken until none has come for this long.
const BACKLOG_WAIT: Duration = Duration::from_millis(10);

/// And no longer than this in all, however many come.
const BACKLOG_DRAIN: Duration = Duration::from_millis(500);

/// Bound, and not yet serving: connections wait.
pub(crate) struct Listener {
    listener: Socket,
    local: Address,
    budget: ListenerLimits,
}

enum Socket {
    Tcp(TcpListener),
    /// The file goes when the listener does.
    Unix(UnixListener, #[allow(dead_code)] SocketFile),
}

type Stream = Either<TcpStream, UnixStream>;

impl Listener {
    /// Listens at `address`.
    pub(crate) async fn bind(address: &Address, budget: ListenerLimits) -> Result<Self, BindError> {
        let refused = |error: io::Error| match error.kind() {
            io::ErrorKind::AddrInUse => BindError::Taken(address.clone()),
            _ => BindError::Refused(address.clone(), error),
        };
        let (listener, local) = match address {
            Address::Tcp(at) => {
                let listener = TcpListener::bind(at).await.map_err(refused)?;
                let local = Address::Tcp(listener.local_addr().map_err(refused)?);
                (Socket::Tcp(listener), local)
            }
            Address::Unix(path) => {
                let (listener, file) = unix::listen(address, path).await?;
                (Socket::Unix(listener, file), address.clone())
            }
        };
        Ok(Self { listener, local, budget })
    }

    /// Where it listens, the port that the system chose included.
    pub(crate) fn local_address(&self) -> &Address {
        &self.local
    }

    /// Serves until the drain is over. `open` counts connections, `failed` is told of each that could not be accepted,
    /// `panicked` answers for a handler that did.
    pub(crate) async fn serve<H, F>(
        self,
        handler: H,
        drain: Drain,
        open: Gauge,
        failed: impl Fn(&io::Error) + Send,
        panicked: impl Fn() -> Response + Send + Sync + 'static,
    ) where
        H: Fn(Request<Incoming>, IpAddr) -> F + Send + Sync + 'static,
        F: Future<Output = Response> + Unpin + Send + 'static,
    {
        let budget = self.budget;
        let places = Arc::new(Semaphore::new(budget.connections));
        let shared = Arc::new(ListenerContext {
            budget,
            protocols: budget.protocols(),
            handler,
            drain: drain.clone(),
            panicked: Box::new(panicked),
            memory: Arc::new(Semaphore::new(budget.held_kib)),
            large_heads: Arc::new(Semaphore::new(budget.large_heads)),
            crowded: Arc::default(),
        });
        let welcome = |(stream, peer): (Stream, IpAddr), place: OwnedSemaphorePermit| {
            let (shared, open) = (Arc::clone(&shared), ConnectionGuard::count(&open));
            drain.connections.spawn(async move {
                connection::serve(stream, peer, shared).await;
                drop((open, place));
            });
        };
        // Until the door is closed the drain has not finished, even if no connection is open.
        let _serving = drain.connections.token();
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = drain.closing.cancelled() => break,
            };
            let accepted = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    failed(&error);
                    tokio::time::sleep(ACCEPT_BACKOFF).await;
                    continue;
                }
            };
            // Further ones wait in the system's queue until this one has a place.
            let place = match Arc::clone(&places).try_acquire_owned() {
                Ok(place) => place,
                Err(_) => {
                    shared.crowded.notify_one();
                    // Clients that are sent away and come back at once must not keep the processor busy.
                    tokio::time::sleep(BETWEEN_EXCHANGES).await;
                    tokio::select! {
                        place = Arc::clone(&places).acquire_owned() => match place {
                            Ok(place) => place,
                            Err(_) => return,
                        },
                        () = drain.closing.cancelled() => break,
                    }
                }
            };
            welcome(accepted, place);
        }
        // The system has promised these an answer: closing the listener would reset them.
        let last_comers = async {
            while let Ok(place) = Arc::clone(&places).try_acquire_owned()
                && let Ok(Ok(accepted)) = tokio::time::timeout(BACKLOG_WAIT, self.listener.accept()).await
            {
                welcome(accepted, place);
            }
        };
        let _ = tokio::time::timeout(BACKLOG_DRAIN, last_comers).await;
    }
}

/// A connection in the gauge, however it ends.
struct ConnectionGuard(Gauge);

impl ConnectionGuard {
    fn count(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Socket {
    async fn accept(&self) -> io::Result<(Stream, IpAddr)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                // A small answer must not wait for the acknowledgement of the one before.
                let _ = stream.set_nodelay(true);
                Ok((Either::Left(stream), peer.ip()))
            }
            Self::Unix(listener, _) => {
                let (stream, _) = listener.accept().await?;
                Ok((Either::Right(stream), IpAddr::V4(Ipv4Addr::LOCALHOST)))
            }
        }
    }
}
