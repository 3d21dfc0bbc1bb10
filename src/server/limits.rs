//! The limits of a listener and its connections.

use super::inline_executor::InlineExecutor;
use http::StatusCode;
use hyper_util::rt::TokioTimer;
use hyper_util::server::conn::auto;
use std::time::Duration;

// All memory that connections may use. It has to fit into the Helm chart's memory limit (256 MiB), beside 110 MiB for the
// process with 100,000 sessions and 34 MiB for the rate limits' tables of addresses.

/// Connections: check, pages, and each of ops and admin. Envoy opens at most 1,024 for checks (`envoy/strict.yaml`).
const CONNECTIONS: [usize; 3] = [1_024, 512, 32];
/// Connections with a head of 8 KiB and more, in the same order. Envoy sends a head at once, so it needs memory only for a
/// moment.
const LARGE_HEADS: [usize; 3] = [64, 24, 2];
/// KiB of requests that wait for Redis or WeChat, and of responses that clients have not read, in the same order.
const WAITING_KIB: [usize; 3] = [12 * 1_024, 8 * 1_024, 1_024];

/// A connection: a read buffer of 24 KiB, a write buffer of 8 KiB, its task, and its streams over HTTP/2.
const CONNECTION_KIB: usize = 40;
/// A large head adds 72 KiB until it is complete, then the same in hyper's buffer, which doubles. Over HTTP/2, 72 KiB as
/// the protocol counts can be two thousand empty headers, which use three times as much.
const LARGE_HEAD_KIB: usize = 256;
/// The largest waiting request: a head of 72 KiB in [`MAX_FIELDS`] headers.
pub(super) const MAX_WAITING_KIB: u32 = 128;

/// Headers of an HTTP/2 request, in which each cookie may be a header. Browsers store up to 180 cookies per site.
pub(super) const MAX_FIELDS: usize = 400;

/// The sum in KiB.
const TOTAL_KIB: usize = sum(CONNECTIONS) * CONNECTION_KIB + sum(LARGE_HEADS) * LARGE_HEAD_KIB + sum(WAITING_KIB);

const _: () = assert!(TOTAL_KIB / 1_024 <= 256 - 110 - 34);

const fn sum([check, pages, small]: [usize; 3]) -> usize {
    check + pages + 2 * small
}

/// The limits of one listener and of each of its connections.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ListenerLimits {
    /// Open connections. A further one takes the slot of an idle one, or waits.
    pub connections: usize,
    /// Connections with a head of 8 KiB and more. Further ones are not read until a permit is free.
    pub large_heads: usize,
    /// KiB of waiting requests and unread responses. Beyond them, a response is [`Self::busy_status`] without a body.
    pub waiting_kib: usize,
    /// Whether each request is measured. If not, a waiting one counts as the largest: few checks wait.
    pub measures_requests: bool,
    /// The status of a response beyond the memory limit.
    pub busy_status: StatusCode,
    /// The maximum time from accept to the first complete head. hyper has no time limit while it detects the protocol.
    pub first_request: Duration,
    /// The time limit for idle connections and slow heads; at most twice this long. Above the `idle_timeout` of Envoy's
    /// cluster (30 s), so that Envoy closes first (docs/en/ext-authz.md, Connections).
    pub idle: Duration,
    /// Header lines of an HTTP/1 request. For HTTP/2, where each cookie may be a header, see [`MAX_FIELDS`].
    pub header_lines: HeaderLines,
    /// Bytes of a request head. Envoy accepts 60 KiB from clients and adds headers.
    pub head_bytes: usize,
    /// Concurrent streams of an HTTP/2 connection. For more, Envoy opens another connection.
    pub streams: u32,
    /// Whether head and body are written as two buffers. Most responses to checks have no body, and one buffer costs the
    /// system less.
    pub vectored_writes: bool,
    /// Whether responses have a `Date`. A gateway does not forward that of a check.
    pub date_header: bool,
}

/// Bytes of a request's body that a client may send before they are read.
const STREAM_WINDOW: u32 = 16 * 1024;
/// The same for all bodies of a connection: the protocol's minimum.
const CONNECTION_WINDOW: u32 = 65_535;
/// Bytes of a response's body in hyper's HTTP/2 buffer.
const SEND_BUFFER: usize = 16 * 1024;
/// A connection that causes more pending stream resets than this is closed.
const MAX_RESETS: usize = 128;

/// The maximum number of header lines of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeaderLines {
    /// hyper's default, 100, for which it uses the stack. For any other number it allocates eight kilobytes per request. A
    /// check has few headers: those that the gateway is configured to send.
    Default,
    /// This number.
    Custom(usize),
}

impl ListenerLimits {
    /// For the gateway's checks.
    pub(crate) const fn check() -> Self {
        let ([connections, ..], [large_heads, ..], [waiting_kib, ..]) = (CONNECTIONS, LARGE_HEADS, WAITING_KIB);
        // Envoy discards a 5xx.
        let busy_status = StatusCode::TOO_MANY_REQUESTS;
        Self {
            header_lines: HeaderLines::Default,
            vectored_writes: false,
            date_header: false,
            busy_status,
            measures_requests: false,
            ..Self::of(connections, large_heads, waiting_kib, 32)
        }
    }

    /// For the browser's pages.
    pub(crate) const fn pages() -> Self {
        let ([_, connections, _], [_, large_heads, _], [_, waiting_kib, _]) = (CONNECTIONS, LARGE_HEADS, WAITING_KIB);
        Self::of(connections, large_heads, waiting_kib, 16)
    }

    /// For probes and operators.
    pub(crate) const fn small() -> Self {
        let ([.., connections], [.., large_heads], [.., waiting_kib]) = (CONNECTIONS, LARGE_HEADS, WAITING_KIB);
        Self::of(connections, large_heads, waiting_kib, 8)
    }

    /// Lowers the number of connections, for a process that may open few files.
    pub(crate) fn at_most(self, connections: usize) -> Self {
        Self { connections: self.connections.min(connections.max(16)), ..self }
    }

    const fn of(connections: usize, large_heads: usize, waiting_kib: usize, streams: u32) -> Self {
        Self {
            connections,
            large_heads,
            waiting_kib,
            measures_requests: true,
            busy_status: StatusCode::SERVICE_UNAVAILABLE,
            first_request: Duration::from_secs(10),
            idle: Duration::from_secs(75),
            // Envoy accepts 100 from clients and adds some.
            header_lines: HeaderLines::Custom(128),
            head_bytes: 72 * 1024,
            streams,
            vectored_writes: true,
            date_header: true,
        }
    }

    /// The protocol settings of these limits, made once per listener.
    pub(super) fn protocols(&self) -> auto::Builder<InlineExecutor> {
        let mut builder = auto::Builder::new(InlineExecutor);
        builder
            .http1()
            .timer(TokioTimer::new())
            // It sets and cancels a timer under the runtime's lock for each request. `connection::serve` closes the
            // connection in the same cases (`idle`), with one timer per connection.
            .header_read_timeout(None)
            .max_buf_size(self.head_bytes)
            .writev(self.vectored_writes)
            .auto_date_header(self.date_header)
            .keep_alive(true);
        if let HeaderLines::Custom(lines) = self.header_lines {
            builder.http1().max_headers(lines);
        }
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_header_list_size(u32::try_from(self.head_bytes).unwrap_or(u32::MAX))
            // No pings: with them, hyper reads a clock for each frame. `connection::serve` closes the connection of a peer
            // that has disappeared, as over HTTP/1 (`idle`).
            .max_concurrent_streams(self.streams)
            // No request has a large body, and no response is buffered for long.
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(SEND_BUFFER)
            .max_local_error_reset_streams(MAX_RESETS)
            .auto_date_header(self.date_header);
        builder
    }
}
