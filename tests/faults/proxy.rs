//! A proxy between the instances and Redis that can reset, stall, delay, or corrupt the connection.

use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// The current behaviour of the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// Forwards everything.
    Pass,
    /// Resets every connection, also new ones.
    Cut,
    /// Accepts everything and answers nothing.
    Swallow,
    /// Delays answers by this time.
    Slow(Duration),
    /// Replaces answers.
    Rubbish,
}

/// The proxy.
pub struct Proxy {
    pub port: u16,
    wire: watch::Sender<Wire>,
    task: tokio::task::JoinHandle<()>,
}

impl Proxy {
    /// A proxy to `to`.
    pub async fn start(to: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (wire, seen) = watch::channel(Wire::Pass);
        let task = tokio::spawn(async move {
            loop {
                let Ok((near, _)) = listener.accept().await else { continue };
                tokio::spawn(carry(near, to, seen.clone()));
            }
        });
        Self { port, wire, task }
    }

    pub fn set(&self, wire: Wire) {
        self.wire.send_replace(wire);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn carry(near: TcpStream, to: u16, mut wire: watch::Receiver<Wire>) {
    let cut = |stream: &TcpStream| {
        // Closes with a reset instead of an orderly end.
        let _ = stream.set_zero_linger();
    };
    if *wire.borrow() == Wire::Cut {
        cut(&near);
        return;
    }
    let Ok(far) = TcpStream::connect(("127.0.0.1", to)).await else { return };
    let (near, far) = (Arc::new(near), Arc::new(far));
    let mut from_near = vec![0; 64 * 1024];
    let mut from_far = vec![0; 64 * 1024];
    let (mut near_read, mut far_read) = (NearFar(Arc::clone(&near)), NearFar(Arc::clone(&far)));
    loop {
        tokio::select! {
            changed = wire.changed() => {
                if changed.is_err() || *wire.borrow() == Wire::Cut {
                    cut(&near);
                    return;
                }
            }
            read = near_read.read(&mut from_near) => {
                let Ok(count @ 1..) = read else { return };
                let now = *wire.borrow();
                if now == Wire::Swallow { continue }
                if now == Wire::Rubbish {
                    if near_read.write(b"\xff\x00?no redis\r\n").await.is_err() { return }
                    continue;
                }
                if far_read.write(&from_near[..count]).await.is_err() { return }
            }
            read = far_read.read(&mut from_far) => {
                let Ok(count @ 1..) = read else { return };
                let now = *wire.borrow();
                if now == Wire::Swallow { continue }
                if let Wire::Slow(by) = now { tokio::time::sleep(by).await; }
                if near_read.write(&from_far[..count]).await.is_err() { return }
            }
        }
    }
}

/// Both directions of one stream in one task.
struct NearFar(Arc<TcpStream>);

impl NearFar {
    async fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        loop {
            self.0.readable().await?;
            match self.0.try_read(into) {
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                read => return read,
            }
        }
    }

    async fn write(&mut self, mut bytes: &[u8]) -> std::io::Result<()> {
        while !bytes.is_empty() {
            self.0.writable().await?;
            match self.0.try_write(bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
