//! What a door's connections may cost.

use hyper_util::rt::{TokioExecutor, TokioTimer};
use hyper_util::server::conn::auto;
use std::time::Duration;

/// The limits of one door and each of its connections.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// Connections at once; further ones wait to be accepted.
    pub connections: usize,
    /// From the connection to its first whole request head. The protocol is guessed from the first bytes, and a client
    /// that sends none would be held for ever.
    pub first_request: Duration,
    /// A keep-alive connection may rest this long, or send a head so slowly, at most twice as long. Longer than Envoy's
    /// `idle_timeout` for us (30 s), so that Envoy is the one to close (contract §4).
    pub idle: Duration,
    /// Header lines of an HTTP/1 request. Envoy passes on 100 at most, and adds some. HTTP/2 may send each cookie as a
    /// field of its own, so there only the bytes are bounded.
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

    /// At most so many connections: what the open files that the system grants have room for.
    #[must_use]
    pub fn at_most(self, connections: usize) -> Self {
        Self { connections: self.connections.min(connections.max(16)), ..self }
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
            // It sets a timer and takes it back, under the runtime's lock, for each request. Who looks after the
            // connection ends it in the same cases (`idle`), by one timer per connection.
            .header_read_timeout(None)
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
