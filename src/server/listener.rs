//! A listener with its limits.

use super::address::Address;
use super::bind_error::BindError;
use super::connection::{self, ListenerContext};
use super::drain::Drain;
use super::limits::ListenerLimits;
use super::response::Response;
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

/// The pause after a failed accept, which usually means too many open files.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);

/// While all slots are taken, the pause before the next connection is asked to free one.
const SLOT_INTERVAL: Duration = Duration::from_millis(2);

/// In a drain, connections in the system's queue are accepted until none arrives for this long.
const BACKLOG_WAIT: Duration = Duration::from_millis(10);

/// In a drain, the maximum time for accepting connections from the system's queue.
const MAX_BACKLOG_DRAIN: Duration = Duration::from_millis(500);

/// A bound listener that does not accept connections yet.
pub(crate) struct Listener {
    socket: Socket,
    local: Address,
    limits: ListenerLimits,
}

enum Socket {
    Tcp(TcpListener),
    Unix {
        listener: UnixListener,
        /// Removes the file when the listener is dropped.
        _file: SocketFile,
    },
}

type Stream = Either<TcpStream, UnixStream>;

impl Listener {
    /// Binds `address`.
    pub(crate) async fn bind(address: &Address, limits: ListenerLimits) -> Result<Self, BindError> {
        let bind_error = |error: io::Error| match error.kind() {
            io::ErrorKind::AddrInUse => BindError::AddressInUse(address.clone()),
            _ => BindError::Refused(address.clone(), error),
        };
        let (socket, local) = match address {
            Address::Tcp(tcp) => {
                let listener = TcpListener::bind(tcp).await.map_err(bind_error)?;
                let local = Address::Tcp(listener.local_addr().map_err(bind_error)?);
                (Socket::Tcp(listener), local)
            }
            Address::Unix(path) => {
                let (listener, file) = unix::listen(address, path).await?;
                (Socket::Unix { listener, _file: file }, address.clone())
            }
        };
        Ok(Self { socket, local, limits })
    }

    /// The bound address, with the actual port if the configured one is 0.
    pub(crate) fn local_address(&self) -> &Address {
        &self.local
    }

    /// Serves until the drain ends. `open` counts connections; `on_accept_error` is called for each failed accept;
    /// `on_panic` makes the response if a handler panics.
    pub(crate) async fn serve<H, F>(
        self,
        handler: H,
        drain: Drain,
        open: Gauge,
        on_accept_error: impl Fn(&io::Error) + Send,
        on_panic: impl Fn() -> Response + Send + Sync + 'static,
    ) where
        H: Fn(Request<Incoming>, IpAddr) -> F + Send + Sync + 'static,
        F: Future<Output = Response> + Unpin + Send + 'static,
    {
        let limits = self.limits;
        let slots = Arc::new(Semaphore::new(limits.connections));
        let context = Arc::new(ListenerContext {
            limits,
            protocols: limits.protocols(),
            handler,
            drain: drain.clone(),
            on_panic: Box::new(on_panic),
            memory: Arc::new(Semaphore::new(limits.waiting_kib)),
            large_heads: Arc::new(Semaphore::new(limits.large_heads)),
            slot_needed: Arc::default(),
        });
        let spawn = |(stream, peer): (Stream, IpAddr), slot: OwnedSemaphorePermit| {
            let (context, open) = (Arc::clone(&context), ConnectionGuard::new(&open));
            drain.connections.spawn(async move {
                connection::serve(stream, peer, context).await;
                drop((open, slot));
            });
        };
        // The drain has not finished while this listener accepts, even if no connection is open.
        let _serving = drain.connections.token();
        loop {
            let accepted = tokio::select! {
                accepted = self.socket.accept() => accepted,
                () = drain.closing.cancelled() => break,
            };
            let accepted = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    on_accept_error(&error);
                    tokio::time::sleep(ACCEPT_BACKOFF).await;
                    continue;
                }
            };
            // Until this connection has a slot, further ones wait in the system's queue.
            let slot = match Arc::clone(&slots).try_acquire_owned() {
                Ok(slot) => slot,
                Err(_) => {
                    context.slot_needed.notify_one();
                    // Clients that reconnect immediately must not keep the processor busy.
                    tokio::time::sleep(SLOT_INTERVAL).await;
                    tokio::select! {
                        slot = Arc::clone(&slots).acquire_owned() => match slot {
                            Ok(slot) => slot,
                            Err(_) => return,
                        },
                        () = drain.closing.cancelled() => break,
                    }
                }
            };
            spawn(accepted, slot);
        }
        // The system has completed the handshake of the queued connections: closing the listener would reset them.
        let accept_backlog = async {
            while let Ok(slot) = Arc::clone(&slots).try_acquire_owned()
                && let Ok(Ok(accepted)) = tokio::time::timeout(BACKLOG_WAIT, self.socket.accept()).await
            {
                spawn(accepted, slot);
            }
        };
        let _ = tokio::time::timeout(MAX_BACKLOG_DRAIN, accept_backlog).await;
    }
}

/// Counts a connection in the gauge until it is dropped.
struct ConnectionGuard(Gauge);

impl ConnectionGuard {
    fn new(gauge: &Gauge) -> Self {
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
                // Small responses must not wait for the acknowledgement of earlier ones.
                let _ = stream.set_nodelay(true);
                Ok((Either::Left(stream), peer.ip()))
            }
            Self::Unix { listener, .. } => {
                let (stream, _) = listener.accept().await?;
                Ok((Either::Right(stream), IpAddr::V4(Ipv4Addr::LOCALHOST)))
            }
        }
    }
}
