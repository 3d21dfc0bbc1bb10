//! Logs: one JSON object per line on standard output, whatever strings come in.
//!
//! The writer has a thread of its own and drops lines when nobody reads them, which is counted: a blocked output never
//! blocks a check. The libraries below us stay at `warn` whatever the level, because at `debug` they print headers and
//! addresses, and WeChat's addresses hold secrets.

use crate::clock;
use std::fmt;

use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer, Registry, reload};

/// Lines that may wait for a slow reader.
const MOST_WAITING: usize = 10_000;

/// The logs, as long as this is held. Dropping it writes out what waits.
pub struct Logs {
    level: Level,
    _guard: WorkerGuard,
}

/// Changes what is logged, and knows what was dropped.
#[derive(Clone)]
pub struct Level {
    filter: reload::Handle<EnvFilter, Registry>,
    dropped: ErrorCounter,
}

/// The logs could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum LogFault {
    /// There is a subscriber already.
    #[error("another log was opened first")]
    Twice,
}

/// Opens the logs at `level`: `error`, `warn`, `info`, `debug` or `trace`.
///
/// # Errors
/// [`LogFault`].
pub fn logs(level: &str) -> Result<Logs, LogFault> {
    let (writer, guard) =
        NonBlockingBuilder::default().buffered_lines_limit(MOST_WAITING).lossy(true).finish(std::io::stdout());
    let dropped = writer.error_counter();
    let (filter, handle) = reload::Layer::new(filter(level));
    let opened = tracing_subscriber::registry().with(layer(writer).with_filter(filter)).try_init();
    opened.map_err(|_| LogFault::Twice)?;
    Ok(Logs { level: Level { filter: handle, dropped }, _guard: guard })
}

impl Logs {
    /// What changes the level.
    #[must_use]
    pub fn level(&self) -> Level {
        self.level.clone()
    }
}

impl Level {
    /// Logs at `level` from now on.
    pub fn set(&self, level: &str) {
        // Fails only where the subscriber is gone, and then nothing is logged any more.
        let _ = self.filter.reload(filter(level));
    }

    /// Lines dropped because nobody read them.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        u64::try_from(self.dropped.dropped_lines()).unwrap_or(u64::MAX)
    }
}

fn filter(level: &str) -> EnvFilter {
    // Everything else is at most `warn`; an explicit list would miss the next library.
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
        let (year, month, day, hour, minute, second) = clock::now().to_civil();
        write!(writer, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
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
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged(level: &str, log: impl FnOnce()) -> Vec<serde_json::Value> {
        let memory = Memory::default();
        let writer = memory.clone();
        let subscriber = tracing_subscriber::registry().with(layer(move || writer.clone()).with_filter(filter(level)));
        tracing::subscriber::with_default(subscriber, log);
        let text = String::from_utf8(memory.0.lock().unwrap().clone()).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn hostile_strings_stay_inside_one_line_of_json() {
        let hostile = "a\"b\\c\nd\r\u{1}\u{2028}{\"event\":\"login\"}";
        let lines = logged("info", || tracing::info!(field = hostile, "message {hostile}"));
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0]["field"], hostile);
        assert_eq!(lines[0]["level"], "INFO");
        assert!(lines[0]["timestamp"].as_str().unwrap().ends_with('Z'));
    }

    #[test]
    fn libraries_stay_quiet_whatever_the_level() {
        let lines = logged("trace", || {
            tracing::debug!(target: "hyper::client", "GET /sns/oauth2/access_token?secret=x");
            tracing::trace!(target: "reqwest", "headers");
            tracing::trace!(target: "h2", "frame");
            tracing::info!(target: "audit", event = "login", "logged in");
            tracing::trace!("ours");
        });
        assert_eq!(lines.len(), 2);
    }
}
