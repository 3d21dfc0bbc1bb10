//! One check, from question to answer.

use super::Envoy;
use super::answer::Answer;
use crate::check::{Check, Decision};
use crate::clock::Timestamp;
use crate::decide::Decider;
use crate::html::Language;
use crate::telemetry::{Metrics, RequestIds};
use http::request::Parts;
use std::net::IpAddr;
use std::time::Instant;

/// Answers one check at `now`: the whole hot path on one screen, and the one place where its outcome is counted and
/// logged.
#[must_use]
pub fn check(
    request: &Parts,
    peer: IpAddr,
    envoy: &Envoy,
    decider: &Decider,
    metrics: &Metrics,
    now: Timestamp,
) -> Answer {
    let started = Instant::now();
    let check = envoy.read(request, peer);
    let decision = decider.decide(&check, now);
    let answer = match &decision {
        Decision::Allow { .. } => envoy.write(&decision, &check, Language::Chinese),
        _ => {
            note(request, &check, &decision, metrics, now);
            envoy.write(&decision, &check, Language::negotiate(&request.headers))
        }
    };
    metrics.check(&decision, started.elapsed());
    answer
}

/// A denial in the log. Who merely has to log in is everyday; who is refused or limited may be of interest, but a flood
/// of them is not: each is counted, and only so many a second are written.
fn note(request: &Parts, check: &Check, decision: &Decision, metrics: &Metrics, now: Timestamp) {
    let reason = decision.reason().as_str();
    match decision {
        Decision::Allow { .. } => {}
        Decision::Login { .. } | Decision::Renew { .. } => {
            if tracing::enabled!(tracing::Level::DEBUG) {
                let RequestIds { request_id, trace_id } = RequestIds::of(&request.headers);
                tracing::debug!(reason, request_id, trace_id, "a check asks for a login");
            }
        }
        Decision::Refuse { .. } | Decision::Limited { .. } => {
            let Some(left_out) = metrics.deny_lines.admit(now) else { return };
            let RequestIds { request_id, trace_id } = RequestIds::of(&request.headers);
            let client = check.client.to_string();
            tracing::info!(
                target: "audit", event = "deny", reason, client, request_id, trace_id, left_out, "a check was refused"
            );
        }
    }
}
