//! What the log says about checks: denials, and panics.

use super::authorize::Authorizer;
use super::request::CheckRequest;
use crate::clock::Timestamp;
use crate::decision::{Decision, Reason};
use crate::origin::bounded;
use crate::telemetry::traces::Span;
use crate::telemetry::{Metrics, RequestIds};
use http::HeaderMap;

/// Logs a denial. A missing login is common, so it is logged at debug level only. Other denials are logged up to a
/// limit per second; the metrics count all of them.
pub(super) fn log_denial(
    check: &CheckRequest,
    decision: &Decision,
    authorizer: &Authorizer,
    span: &Span,
    metrics: &Metrics,
    now: Timestamp,
) {
    let reason = decision.reason().as_str();
    match decision {
        Decision::Allow { .. } | Decision::Page { .. } => {}
        Decision::Login { .. } | Decision::Renew { .. } => {
            if tracing::enabled!(tracing::Level::DEBUG) {
                let ids = RequestIds::of(check.headers);
                let (request_id, trace_id) = (ids.request_id, ids.trace_id(span));
                tracing::debug!(reason, request_id, trace_id = &*trace_id, "check requires a login");
            }
        }
        Decision::Deny { .. } | Decision::Limited { .. } => {
            let Some(suppressed) = metrics.deny_lines.admit(now) else { return };
            let ids = RequestIds::of(check.headers);
            let (request_id, trace_id) = (ids.request_id, ids.trace_id(span));
            let client = authorizer.client_address.address(check.headers, check.peer).to_string();
            // The operator needs the host to configure it.
            let host = (decision.reason() == Reason::UnknownHost).then(|| bounded(check.host));
            tracing::info!(
                target: "audit", event = "deny", reason, host, client, request_id, trace_id = &*trace_id, suppressed,
                "check denied"
            );
        }
    }
}

/// Logs the request ids of a check that panics: the panic's own log line does not have them.
pub(super) struct PanicContext<'a>(pub(super) &'a HeaderMap);

impl Drop for PanicContext<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let RequestIds { request_id, trace_id } = RequestIds::of(self.0);
            tracing::error!(request_id, trace_id, "check handler panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
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

    #[test]
    fn only_a_panicking_check_logs_its_request() {
        let memory = Memory::default();
        let writer = memory.clone();
        let subscriber = tracing_subscriber::fmt().json().with_writer(move || writer.clone()).finish();
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        let mut headers = HeaderMap::new();
        headers.insert("x-request-id", HeaderValue::from_static("d74144f0"));
        headers.insert("traceparent", HeaderValue::from_str(&format!("00-{trace}-00f067aa0ba902b7-00")).unwrap());
        tracing::subscriber::with_default(subscriber, || {
            drop(PanicContext(&headers));
            let broken = std::panic::catch_unwind(|| {
                let _context = PanicContext(&headers);
                std::panic::resume_unwind(Box::new("broken"));
            });
            assert!(broken.is_err());
        });
        let text = String::from_utf8(memory.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.contains(trace) && text.contains("d74144f0"), "{text}");
    }
}
