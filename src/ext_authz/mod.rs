//! One check of a gateway: [`envoy::read`] → [`Authorizer::decide`] → [`envoy::write`]. No I/O.
//!
//! One mode per listener, never chosen by path or header: otherwise a raw `/../other` of a client could select a mode that
//! trusts headers which clients can write (docs/en/ext-authz.md, One gateway per listener). A check never calls WeChat and
//! never waits.

pub mod answer;
mod audit;
pub mod authorize;
pub mod envoy;
pub(crate) mod fast;
pub(crate) mod in_band;
pub(crate) mod probe;
pub mod request;

use crate::clock::Timestamp;
use crate::decision::Decision;
use crate::response::Response;
use crate::telemetry::traces::Span;
use crate::telemetry::{Metrics, Traces};
use authorize::Authorizer;
use http::Method;
use http::request::Parts;
use std::net::IpAddr;
use std::time::Instant;

/// The outcome of a check.
#[derive(Debug)]
#[must_use]
pub enum CheckOutcome {
    /// The response to the gateway.
    Response(Response),
    /// The client asks for one of the pages, which the caller answers in-band (see [`in_band`]).
    Page,
}

/// Answers one check: the whole hot path, and the only place that counts, logs and traces it.
pub fn check(
    request: &Parts,
    peer: IpAddr,
    authorizer: &Authorizer,
    metrics: &Metrics,
    traces: &Traces,
    now: Timestamp,
) -> CheckOutcome {
    let started = Instant::now();
    let _context = audit::PanicContext(&request.headers);
    let span = traces.request(&request.headers, || "check".into());
    let check = envoy::read(request, peer);
    let decision = authorizer.decide(&check, now);
    if !matches!(decision, Decision::Allow { .. }) {
        if let Some(response) = probe::respond(request, &check, authorizer, now) {
            return CheckOutcome::Response(response);
        }
        audit::log_denial(&check, &decision, authorizer, &span, metrics, now);
    }
    let outcome = match decision {
        Decision::Page { .. } => CheckOutcome::Page,
        _ => CheckOutcome::Response(envoy::write(&decision, check)),
    };
    metrics.checks.record(&decision, started.elapsed());
    if span.is_traced() {
        annotate_span(&span, &request.method, &decision, &outcome);
    }
    outcome
}

/// Sets the span's attributes. No location: it may contain the client's address.
#[cold]
fn annotate_span(span: &Span, method: &Method, decision: &Decision, outcome: &CheckOutcome) {
    // A page has its own span.
    if let CheckOutcome::Response(response) = outcome {
        span.set_response(method, response.status());
    }
    span.set_attribute("wechat_authz.decision", decision.as_str());
    span.set_attribute("wechat_authz.reason", decision.reason().as_str());
}
