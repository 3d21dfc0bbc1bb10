//! One check, from question to answer.

use super::Envoy;
use super::answer::Answer;
use super::probe::{self, Wish};
use crate::check::{Check, Decision, Identity, Reason};
use crate::clock::Timestamp;
use crate::ext_authz::authorize::Authorizer;
use crate::html::Language;
use crate::origin::bounded;
use crate::telemetry::traces::Span;
use crate::telemetry::{Metrics, RequestIds, Traces};
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode};
use std::net::IpAddr;
use std::time::Instant;

/// How a check ended.
#[derive(Debug)]
#[must_use]
pub enum CheckOutcome {
    /// With this answer.
    Answer(Answer),
    /// With nothing yet: a page of ours is asked for in-band, and no gateway knows the pages. Whoever does answers, by
    /// [`in_band`](super::in_band).
    Page,
}

/// Answers one check at `now`: the whole hot path on one screen, and the one place where its outcome is counted, logged
/// and traced.
pub fn check(
    request: &Parts,
    peer: IpAddr,
    envoy: &Envoy,
    decider: &Authorizer,
    metrics: &Metrics,
    traces: &Traces,
    now: Timestamp,
) -> CheckOutcome {
    let started = Instant::now();
    let _asked = PanicContext(&request.headers);
    let span = traces.request(&request.headers, || "check".into());
    let check = envoy.read(request, peer);
    let decision = decider.decide(&check, now);
    if !matches!(decision, Decision::Allow { .. })
        && let Some(wish) = probe::wish(request.uri.query(), &decider.sessions.keys, now)
    {
        return CheckOutcome::Answer(probed(wish, request, envoy, check, decider));
    }
    let checked = match &decision {
        Decision::Allow { .. } => CheckOutcome::Answer(envoy.write(&decision, check, Language::Chinese)),
        Decision::Page { .. } => CheckOutcome::Page,
        _ => {
            log_denial(&request.headers, &span, &check, &decision, metrics, now);
            CheckOutcome::Answer(envoy.write(&decision, check, Language::negotiate(&request.headers)))
        }
    };
    metrics.check(&decision, started.elapsed());
    if span.is_traced() {
        annotate_span(&span, &request.method, &decision, &checked);
    }
    checked
}

/// Does what the doctor's probe wishes. It is neither counted nor logged as a check: alerts would count it.
#[cold]
fn probed(wish: Wish, request: &Parts, envoy: &Envoy, check: Check, decider: &Authorizer) -> Answer {
    // An allow leads to our own page alone, and in-band no route leads there.
    let page = request.uri.path().strip_prefix(decider.prefix.as_str()).and_then(|rest| rest.strip_prefix('/'));
    let page = page == Some(probe::PAGE) && !decider.pages_in_band;
    match wish {
        Wish::Fail => probe::failure(),
        Wish::Allow if page => {
            let identity = Identity::Known(probe::identity());
            let allow = Decision::Allow { identity, renewed: None, reason: Reason::SessionValid };
            envoy.write(&allow, check, Language::English)
        }
        Wish::Report | Wish::Allow => {
            let report = probe::report("check", request, &envoy.client_address);
            probe::answer(&report, StatusCode::FORBIDDEN)
        }
    }
}

/// What a span says of a check: never where it leads, which is the gateway's to say.
#[cold]
fn annotate_span(span: &Span, method: &Method, decision: &Decision, checked: &CheckOutcome) {
    // A page has a span of its own.
    if let CheckOutcome::Answer(answer) = checked {
        span.set_response(method, answer.status());
    }
    span.set_attribute("wechat_authz.decision", decision.as_str());
    span.set_attribute("wechat_authz.reason", decision.reason().as_str());
}

/// Tells which check made its handler panic: the line with the place knows no request.
struct PanicContext<'a>(&'a HeaderMap);

impl Drop for PanicContext<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let RequestIds { request_id, trace_id } = RequestIds::of(self.0);
            tracing::error!(request_id, trace_id, "this check made its handler panic");
        }
    }
}

/// A denial in the log. Who merely has to log in is everyday; who is refused or limited may be of interest, but a flood
/// of them is not: each is counted, and only so many a second are written.
fn log_denial(headers: &HeaderMap, span: &Span, check: &Check, decision: &Decision, metrics: &Metrics, now: Timestamp) {
    let reason = decision.reason().as_str();
    match decision {
        Decision::Allow { .. } | Decision::Page { .. } => {}
        Decision::Login { .. } | Decision::Renew { .. } => {
            if tracing::enabled!(tracing::Level::DEBUG) {
                let ids = RequestIds::of(headers);
                let (request_id, trace_id) = (ids.request_id, ids.trace_id(span));
                tracing::debug!(reason, request_id, trace_id = &*trace_id, "a check asks for a login");
            }
        }
        Decision::Refuse { .. } | Decision::Limited { .. } => {
            let Some(left_out) = metrics.deny_lines.admit(now) else { return };
            let ids = RequestIds::of(headers);
            let (request_id, trace_id, client) =
                (ids.request_id, ids.trace_id(span), check.client.address().to_string());
            // Which host it was says what to configure.
            let host = (decision.reason() == Reason::UnknownHost).then(|| bounded(check.host));
            tracing::info!(
                target: "audit", event = "deny", reason, host, client, request_id, trace_id = &*trace_id, left_out,
                "a check was refused"
            );
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
    fn a_check_that_panics_says_which_it_was_and_others_say_nothing() {
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
                let _asked = PanicContext(&headers);
                std::panic::resume_unwind(Box::new("broken"));
            });
            assert!(broken.is_err());
        });
        let text = String::from_utf8(memory.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.contains(trace) && text.contains("d74144f0"), "{text}");
    }
}
