//! Logs: one JSON object per line on standard output, whatever strings they contain.
//!
//! The writer has its own thread. If standard output is blocked, it drops and counts lines, so that a check is never
//! blocked. Libraries log at `warn` at any level, because at `debug` they print headers and URLs, and the URLs of calls to
//! WeChat contain secrets.

use crate::clock;
use std::fmt;
use std::io;
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer, Registry, reload};

/// The maximum of lines that wait for a slow reader.
const MAX_WAITING: usize = 10_000;

/// The open log. Dropping it writes the waiting lines.
pub(crate) struct Logs {
    level: Level,
    _guard: WorkerGuard,
}

/// Changes the log level and counts dropped lines.
#[derive(Clone)]
pub(crate) struct Level {
    filter: reload::Handle<EnvFilter, Registry>,
    dropped: ErrorCounter,
}

/// The log could not be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogError {
    /// The process already has a subscriber.
    #[error("the process already has a log")]
    Twice,
}

/// Opens the log at `level`: `error`, `warn`, `info`, `debug` or `trace`.
pub(crate) fn logs(level: &str) -> Result<Logs, LogError> {
    let (subscriber, logs) = open(level, io::stdout(), MAX_WAITING);
    subscriber.try_init().map_err(|_| LogError::Twice)?;
    Ok(logs)
}

/// Logs to `sink`, with at most `waiting` lines in the queue.
fn open<W: io::Write + Send + 'static>(
    level: &str,
    sink: W,
    waiting: usize,
) -> (impl tracing::Subscriber + Send + Sync, Logs) {
    let (writer, guard) = NonBlockingBuilder::default().buffered_lines_limit(waiting).lossy(true).finish(sink);
    let dropped = writer.error_counter();
    let (filter, handle) = reload::Layer::new(filter(level));
    let subscriber = tracing_subscriber::registry().with(layer(writer).with_filter(filter));
    (subscriber, Logs { level: Level { filter: handle, dropped }, _guard: guard })
}

impl Logs {
    /// A handle that changes the level.
    pub(crate) fn level(&self) -> Level {
        self.level.clone()
    }
}

impl Level {
    /// Logs at `level` from now on.
    pub(crate) fn set(&self, level: &str) {
        // Fails only after the subscriber was dropped.
        let _ = self.filter.reload(filter(level));
    }

    /// The number of lines dropped because standard output was blocked.
    pub(crate) fn dropped(&self) -> u64 {
        u64::try_from(self.dropped.dropped_lines()).unwrap_or(u64::MAX)
    }
}

fn filter(level: &str) -> EnvFilter {
    // `warn` for all other targets: a list of libraries would miss the next one.
    EnvFilter::new(format!("warn,wechat_authz={level},audit=info"))
}

fn layer<S, W>(writer: W) -> impl Layer<S>
where
    S: tracing::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
    W: for<'a> tracing_subscriber::fmt::MakeWriter<'a> + Send + Sync + 'static,
{
    tracing_subscriber::fmt::layer()
        .json()
        .flatten_event(true)
        .with_current_span(true)
        .with_span_list(false)
        .with_timer(UtcSeconds)
        .with_writer(writer)
}

/// RFC 3339 in UTC, to the second.
struct UtcSeconds;

impl FormatTime for UtcSeconds {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        writer.write_str(&clock::now().format(clock::RFC_3339))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Memory {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }

        fn lines(&self) -> Vec<serde_json::Value> {
            self.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
        }
    }

    fn logged(level: &str, log: impl FnOnce(&Level)) -> Vec<serde_json::Value> {
        let memory = Memory::default();
        let (subscriber, logs) = open(level, memory.clone(), MAX_WAITING);
        tracing::subscriber::with_default(subscriber, || log(&logs.level()));
        // Writes the waiting lines.
        drop(logs);
        memory.lines()
    }

    #[test]
    fn hostile_strings_stay_inside_one_line_of_json() {
        for hostile in [
            "a\"b\\c\nd\r\u{1}\u{2028}{\"event\":\"login\"}",
            "\n{\"level\":\"INFO\",\"event\":\"login\"}\n",
            "\u{1b}[2J\u{7f}\u{85}\u{0}",
            "\u{202e}\u{feff}\u{10ffff}",
            "\\u000a\\\"}",
        ] {
            let lines = logged("info", |_| {
                tracing::info!(field = hostile, debug = ?hostile, display = %hostile, "message {hostile}");
            });
            assert_eq!(lines.len(), 1, "{hostile:?}");
            assert_eq!(lines[0]["field"], hostile);
            assert_eq!(lines[0]["display"], hostile);
            assert_eq!(lines[0]["message"], format!("message {hostile}"));
            assert_eq!(lines[0]["level"], "INFO");
        }
    }

    #[test]
    fn timestamps_are_rfc_3339_in_utc() {
        let lines = logged("info", |_| tracing::info!("now"));
        let time = lines[0]["timestamp"].as_str().unwrap();
        let shape: String = time.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
        assert_eq!(shape, "0000-00-00T00:00:00Z", "{time}");
        let moment = clock::Timestamp::parse(time, clock::RFC_3339).unwrap();
        assert!(clock::now().since(moment).as_secs() < 60 && moment <= clock::now(), "{time}");
    }

    #[test]
    fn libraries_log_nothing_below_warn() {
        let lines = logged("trace", |_| {
            tracing::debug!(target: "hyper::client", "GET /sns/oauth2/access_token?secret=x");
            tracing::trace!(target: "reqwest", "headers");
            tracing::trace!(target: "h2", "frame");
            tracing::info!(target: "audit", event = "login", "logged in");
            tracing::trace!("ours");
        });
        assert_eq!(lines.len(), 2);
    }

    /// A request over HTTP/2 in memory.
    async fn exchange() {
        use http_body_util::Full;
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        let (ours, theirs) = (hyper_util::rt::TokioIo::new(ours), hyper_util::rt::TokioIo::new(theirs));
        let executor = hyper_util::rt::TokioExecutor::new();
        let answer = |_| async { Ok::<_, std::convert::Infallible>(http::Response::new(String::new())) };
        let server = hyper::server::conn::http2::Builder::new(executor.clone());
        let serving = tokio::spawn(server.serve_connection(theirs, hyper::service::service_fn(answer)));
        let (mut sender, connection) = hyper::client::conn::http2::handshake(executor, ours).await.unwrap();
        let connection = tokio::spawn(connection);
        let request = http::Request::get("http://a.example/?secret=canary").header("cookie", "canary");
        let request = request.body(Full::<bytes::Bytes>::default()).unwrap();
        assert_eq!(sender.send_request(request).await.unwrap().status(), 200);
        drop(sender);
        connection.await.unwrap().unwrap();
        serving.await.unwrap().unwrap();
    }

    #[test]
    fn requests_of_libraries_are_not_logged_at_trace() {
        let runtime = || tokio::runtime::Builder::new_current_thread().build().unwrap();
        // The libraries' lines without our filter.
        let unfiltered = Memory::default();
        let writer = unfiltered.clone();
        let everything =
            tracing_subscriber::registry().with(layer(move || writer.clone()).with_filter(EnvFilter::new("trace")));
        tracing::subscriber::with_default(everything, || runtime().block_on(exchange()));
        assert!(
            unfiltered.text().contains("\"target\":\"h2::"),
            "the libraries log nothing, so this test proves nothing"
        );
        let lines = logged("trace", |_| runtime().block_on(exchange()));
        assert!(lines.is_empty(), "{lines:?}");
    }

    #[test]
    fn the_level_can_change_at_run_time() {
        let lines = logged("info", |level| {
            tracing::debug!("before");
            level.set("debug");
            tracing::debug!(target: "wechat_authz::login", "between");
            tracing::debug!(target: "h2", "still quiet");
            level.set("error");
            tracing::warn!("after");
            tracing::info!(target: "audit", event = "deny", "an audit has no level");
        });
        let messages: Vec<_> = lines.iter().map(|line| line["message"].as_str().unwrap()).collect();
        assert_eq!(messages, ["between", "an audit has no level"]);
    }

    /// An output that is blocked until the sender is dropped.
    struct Blocked(std::sync::mpsc::Receiver<()>, Memory);

    impl Write for Blocked {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // Returns an error when the sender is dropped.
            let _ = self.0.recv();
            self.1.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_blocked_output_drops_and_counts_lines() {
        let (release, blocked) = std::sync::mpsc::channel();
        let memory = Memory::default();
        let (subscriber, logs) = open("info", Blocked(blocked, memory.clone()), 10);
        let started = std::time::Instant::now();
        tracing::subscriber::with_default(subscriber, || (0..1_000).for_each(|line| tracing::info!(line, "a check")));
        assert!(started.elapsed().as_secs() < 5, "{:?}", started.elapsed());
        let dropped = logs.level().dropped();
        assert!((980..1_000).contains(&dropped), "{dropped}");
        drop(release);
        drop(logs);
        let lines = memory.lines();
        assert_eq!(u64::try_from(lines.len()).unwrap() + dropped, 1_000, "each line is written or counted");
    }
}
