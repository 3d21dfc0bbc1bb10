//! What a door's connections may cost.

use super::inline_executor::InlineExecutor;
use http::StatusCode;
use hyper_util::rt::TokioTimer;
use hyper_util::server::conn::auto;
use std::time::Duration;

// Everything that connections may hold at once, in one place: it has to fit into the memory limit that the Helm chart sets
// (256 MiB), beside 110 MiB for the process with 100,000 sessions and 34 MiB for the limits' tables of addresses.

/// Connections at once: check, pages, and ops and admin each. Envoy opens at most 1,024 for checks (`envoy/strict.yaml`).
const CONNECTIONS: [usize; 3] = [1_024, 512, 32];
/// Connections at once with a head of 8 KiB and more, in the same order. Envoy's arrive whole and leave at once.
const LARGE_HEADS: [usize; 3] = [64, 24, 2];
/// KiB at once of requests that wait for Redis or WeChat, and of answers that their clients have not read.
const HELD_KIB: [usize; 3] = [12 * 1_024, 8 * 1_024, 1_024];

/// A connection: a buffer of 24 KiB for what comes and one of 8 KiB for what goes, its task, and over HTTP/2 its streams.
const CONNECTION_KIB: usize = 40;
/// What a large head adds: 72 KiB of bytes until it is complete, then the same in hyper's buffer, which doubles. Over
/// HTTP/2, 72 KiB by the protocol's own count can be two thousand empty headers, which take three times as much.
const LARGE_HEAD_KIB: usize = 256;
/// The largest request that waits: a head of 72 KiB in [`MAX_FIELDS`] headers.
pub(super) const MAX_HELD_KIB: u32 = 128;

/// Headers of an HTTP/2 request, where each cookie may be one of its own. Browsers keep 180 cookies for a site.
pub(super) const MAX_FIELDS: usize = 400;

/// The sum, in KiB.
const ALL_KIB: usize = in_all(CONNECTIONS) * CONNECTION_KIB + in_all(LARGE_HEADS) * LARGE_HEAD_KIB + in_all(HELD_KIB);

const _: () = assert!(ALL_KIB / 1_024 <= 256 - 110 - 34);

const fn in_all([check, pages, small]: [usize; 3]) -> usize {
    check + pages + 2 * small
}

/// The limits of one door and each of its connections.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ListenerLimits {
    /// Connections at once. A further one takes the place of one that rests, or waits.
    pub connections: usize,
    /// Connections at once whose head has 8 KiB and more; further ones wait to be read.
    pub large_heads: usize,
    /// KiB at once of requests that wait and of answers that are not read; what exceeds them is refused without a body.
    pub held_kib: usize,
    /// Whether each request is measured; otherwise one that waits counts as the largest. Of the checks few wait.
    pub measured: bool,
    /// What those are answered.
    pub busy: StatusCode,
    /// From the connection to its first whole request head. The protocol is guessed from the first bytes, and a client
    /// that sends none would be held for ever.
    pub first_request: Duration,
    /// A keep-alive connection may rest this long, or send a head so slowly, at most twice as long. Longer than Envoy's
    /// `idle_timeout` for us (30 s), so that Envoy is the one to close (docs/en/ext-authz.md, Connections).
    pub idle: Duration,
    /// Header lines of an HTTP/1 request. HTTP/2 may send each cookie as a field of its own, so there only the bytes are
    /// bounded.
    pub header_lines: HeaderLines,
    /// Bytes of a request head. Envoy passes on 60 KiB at most, and adds some.
    pub head_bytes: usize,
    /// Requests at once on an HTTP/2 connection; Envoy opens another for more.
    pub streams: u32,
    /// Whether a head and its body are handed to the system as two pieces. Of what a check is answered nearly all is a head,
    /// and one piece costs the system less.
    pub vectored: bool,
    /// Whether answers say when they were made. A gateway does not pass a check's on: it says itself when it answered.
    pub date: bool,
}

/// Bytes of a request's body that its client may send before they are read.
const STREAM_WINDOW: u32 = 16 * 1024;
/// And of all bodies of a connection: the least that the protocol knows.
const CONNECTION_WINDOW: u32 = 65_535;
/// Bytes of an answer's body that wait in HTTP/2's own buffer.
const SEND_BUFFER: usize = 16 * 1024;
/// A connection that makes us reset more streams than this at once is closed.
const MAX_RESETS: usize = 128;

/// How many header lines a request may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeaderLines {
    /// hyper's own limit, 100: room on the stack. For any other it allocates and fills eight kilobytes for each request. A
    /// check has the few headers that the gateway is told to send, each in one line.
    Hundred,
    /// So many.
    AtMost(usize),
}

impl ListenerLimits {
    /// For the gateway's checks.
    pub(crate) const fn check() -> Self {
        let ([connections, ..], [large_heads, ..], [held_kib, ..]) = (CONNECTIONS, LARGE_HEADS, HELD_KIB);
        // Envoy throws a 5xx away.
        let busy = StatusCode::TOO_MANY_REQUESTS;
        Self {
            header_lines: HeaderLines::Hundred,
            vectored: false,
            date: false,
            busy,
            measured: false,
            ..Self::of(connections, large_heads, held_kib, 32)
        }
    }

    /// For the browser's pages.
    pub(crate) const fn pages() -> Self {
        let ([_, connections, _], [_, large_heads, _], [_, held_kib, _]) = (CONNECTIONS, LARGE_HEADS, HELD_KIB);
        Self::of(connections, large_heads, held_kib, 16)
    }

    /// For probes and operators.
    pub(crate) const fn small() -> Self {
        let ([.., connections], [.., large_heads], [.., held_kib]) = (CONNECTIONS, LARGE_HEADS, HELD_KIB);
        Self::of(connections, large_heads, held_kib, 8)
    }

    /// At most so many connections: what the open files that the system grants have room for.
    pub(crate) fn at_most(self, connections: usize) -> Self {
        Self { connections: self.connections.min(connections.max(16)), ..self }
    }

    const fn of(connections: usize, large_heads: usize, held_kib: usize, streams: u32) -> Self {
        Self {
            connections,
            large_heads,
            held_kib,
            measured: true,
            busy: StatusCode::SERVICE_UNAVAILABLE,
            first_request: Duration::from_secs(10),
            idle: Duration::from_secs(75),
            // Envoy passes on 100 of a browser's at most, and adds some.
            header_lines: HeaderLines::AtMost(128),
            head_bytes: 72 * 1024,
            streams,
            vectored: true,
            date: true,
        }
    }

    /// The protocol settings of this budget, made once per door.
    pub(super) fn protocols(&self) -> auto::Builder<InlineExecutor> {
        let mut builder = auto::Builder::new(InlineExecutor);
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
            // No request has a large body, and no answer is buffered for long.
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(SEND_BUFFER)
            .max_local_error_reset_streams(MAX_RESETS)
            .auto_date_header(self.date);
        builder
    }
}
