//! A door: a listener with its budget.

use super::address::Address;
use super::connection::{self, Answer, Budget, Shared};
use super::drain::Drain;
use http::Request;
use hyper::body::Incoming;
use prometheus_client::metrics::gauge::Gauge;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio_util::either::Either;

/// A door could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum BindFault {
    /// The operating system refused.
    #[error("cannot listen on {0}: {1}")]
    Refused(Address, io::Error),
    /// Another process answers there.
    #[error("cannot listen on {0}: another process does")]
    Taken(Address),
    /// Something that is no socket lies there.
    #[error("cannot listen on {0}: there is a file that is no socket")]
    NotASocket(Address),
}

/// After a failed accept (too many open files) it pays to wait for some to close.
const AFTER_FAILURE: Duration = Duration::from_millis(50);

/// Bound, and not yet serving: connections wait.
pub struct Door {
    listener: Listener,
    local: Address,
    budget: Budget,
}

enum Listener {
    Tcp(TcpListener),
    /// The file goes when the listener does.
    Unix(UnixListener, #[allow(dead_code)] SocketFile),
}

type Stream = Either<TcpStream, UnixStream>;

impl Door {
    /// Listens at `address`.
    ///
    /// # Errors
    /// [`BindFault`] names the address.
    pub async fn bind(address: &Address, budget: Budget) -> Result<Self, BindFault> {
        let refused = |error| BindFault::Refused(address.clone(), error);
        let (listener, local) = match address {
            Address::Tcp(at) => {
                let listener = TcpListener::bind(at).await.map_err(refused)?;
                let local = Address::Tcp(listener.local_addr().map_err(refused)?);
                (Listener::Tcp(listener), local)
            }
            Address::Unix(path) => {
                make_way(address, path).await?;
                let (listener, file) = listen_at(path).map_err(refused)?;
                (Listener::Unix(listener, file), address.clone())
            }
        };
        Ok(Self { listener, local, budget })
    }

    /// Where it listens, the port that the system chose included.
    #[must_use]
    pub fn local_address(&self) -> &Address {
        &self.local
    }

    /// The port and address, for a door on TCP.
    #[must_use]
    pub fn socket_address(&self) -> Option<SocketAddr> {
        match self.local {
            Address::Tcp(address) => Some(address),
            Address::Unix(_) => None,
        }
    }

    /// Serves until the drain is over. `open` counts connections, `failed` is told of each that could not be accepted,
    /// `panicked` answers for a handler that did.
    pub async fn serve<H, F>(
        self,
        handler: H,
        drain: Drain,
        open: Gauge,
        failed: impl Fn(&io::Error) + Send,
        panicked: impl Fn() -> Answer + Send + Sync + 'static,
    ) where
        H: Fn(Request<Incoming>, IpAddr) -> F + Send + Sync + 'static,
        F: Future<Output = Answer> + Send + 'static,
    {
        let budget = self.budget;
        let places = Arc::new(Semaphore::new(budget.connections));
        let shared = Arc::new(Shared {
            budget,
            protocols: budget.protocols(),
            handler,
            drain: drain.clone(),
            panicked: Box::new(panicked),
        });
        loop {
            // The place comes before the connection: who does not fit waits in the system's queue.
            let place = tokio::select! {
                place = Arc::clone(&places).acquire_owned() => place,
                () = drain.closing.cancelled() => return,
            };
            let Ok(place) = place else { return };
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = drain.closing.cancelled() => return,
            };
            match accepted {
                Ok((stream, peer)) => {
                    let (shared, open) = (Arc::clone(&shared), open.clone());
                    drain.connections.spawn(async move {
                        open.inc();
                        connection::serve(stream, peer, shared).await;
                        open.dec();
                        drop(place);
                    });
                }
                Err(error) => {
                    failed(&error);
                    tokio::time::sleep(AFTER_FAILURE).await;
                }
            }
        }
    }
}

impl Listener {
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

/// Removes the socket of a process that is gone, and nothing else.
async fn make_way(address: &Address, path: &Path) -> Result<(), BindFault> {
    match std::fs::symlink_metadata(path) {
        Err(_) => Ok(()),
        Ok(found) if !found.file_type().is_socket() => Err(BindFault::NotASocket(address.clone())),
        Ok(_) if UnixStream::connect(path).await.is_ok() => Err(BindFault::Taken(address.clone())),
        Ok(_) => std::fs::remove_file(path).map_err(|error| BindFault::Refused(address.clone(), error)),
    }
}

/// Listens at `path`, which appears only once nobody else may connect to it.
fn listen_at(path: &Path) -> io::Result<(UnixListener, SocketFile)> {
    let fresh = path.with_extension("new");
    let _ = std::fs::remove_file(&fresh);
    let listener = UnixListener::bind(&fresh)?;
    std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(&fresh, path)?;
    let inode = std::fs::symlink_metadata(path)?.ino();
    Ok((listener, SocketFile { path: path.to_owned(), inode }))
}

/// Removes the socket in the end, unless another process has put its own there.
struct SocketFile {
    path: PathBuf,
    inode: u64,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if std::fs::symlink_metadata(&self.path).is_ok_and(|found| found.ino() == self.inode) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
