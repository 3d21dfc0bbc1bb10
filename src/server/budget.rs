//! What a door's connections may cost.

use super::at_once::AtOnce;
use hyper_util::rt::TokioTimer;
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
    /// Header lines of an HTTP/1 request. HTTP/2 may send each cookie as a field of its own, so there only the bytes are
    /// bounded.
    pub header_lines: HeaderLines,
    /// Bytes of a request head. Envoy passes on 60 KiB at most, and adds some.
    pub head_bytes: usize,
    /// Requests at once on an HTTP/2 connection; Envoy's checks share one.
    pub streams: u32,
    /// Whether a head and its body are handed to the system as two pieces. Of what a check is answered nearly all is a head,
    /// and one piece costs the system less.
    pub vectored: bool,
    /// Whether answers say when they were made. A gateway does not pass a check's on: it says itself when it answered.
    pub date: bool,
}

/// How many header lines a request may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderLines {
    /// hyper's own limit, 100: room on the stack. For any other it allocates and fills eight kilobytes for each request. A
    /// check has the few headers that the gateway is told to send, each in one line.
    Hundred,
    /// So many.
    AtMost(usize),
}

impl Budget {
    /// For the gateway's checks.
    #[must_use]
    pub const fn check() -> Self {
        Self { header_lines: HeaderLines::Hundred, vectored: false, date: false, ..Self::of(8_192) }
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
            // Envoy passes on 100 of a browser's at most, and adds some.
            header_lines: HeaderLines::AtMost(128),
            head_bytes: 72 * 1024,
            streams: 1_024,
            vectored: true,
            date: true,
        }
    }

    /// The protocol settings of this budget, made once per door.
    pub(super) fn protocols(&self) -> auto::Builder<AtOnce> {
        let mut builder = auto::Builder::new(AtOnce);
        builder
            .http1()
            .timer(TokioTimer::new())
            // It sets a timer and takes it back, under the runtime's lock, for each request. Who looks after the
            // connection ends it in the same cases (`idle`), by one timer per connection.
            .header_read_timeout(None)
            .max_buf_size(self.head_bytes)
            .writev(self.vectored)
            .auto_date_header(self.date)
            .keep_alive(true);
        if let HeaderLines::AtMost(lines) = self.header_lines {
            builder.http1().max_headers(lines);
        }
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_header_list_size(u32::try_from(self.head_bytes).unwrap_or(u32::MAX))
            // No pings: for them a clock is read for each frame. A peer that is gone without a word is noticed by who looks
            // after the connection, as over HTTP/1 (`idle`).
            .max_concurrent_streams(self.streams)
            .auto_date_header(self.date);
        builder
    }
}
