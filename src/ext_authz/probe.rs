//! The probe of `doctor`: what a running gateway sends to the check, and afterwards to the application.
//!
//! A probe is a sealed text in the query, made with the signing keys and valid for a minute, so only an operator with the
//! keys can make one. It makes the check report what it received, fail, or allow the request to the page `probe`, which
//! stands for the application and reports what it received. No probe reaches the application of a gateway that fails
//! closed.

use super::answer::IDENTITY;
use super::authorize::Authorizer;
use super::envoy;
use super::request::CheckRequest;
use crate::clock::Timestamp;
use crate::decision::{Decision, Identity, Reason};
use crate::identity::{IdentityFields, IdentityHeaders};
use crate::response::Response;
use crate::session::keys::KeyRing;
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use http_body_util::Full;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The query parameter; it comes first.
const PARAMETER: &str = "wechat-authz-probe=";

/// The page that stands in for the application.
pub(crate) const PAGE: &str = "probe";

/// How long a probe is valid.
const LIFETIME: Duration = Duration::from_secs(60);

/// The context of the seal.
const CONTEXT: &str = "doctor probe";

/// Characters of the sealed text.
const MAX_SEALED: usize = 256;

/// The subject of a probe. No login creates it.
pub(crate) const SUBJECT: &str = "probe:doctor";

/// What a probe makes the check do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Action {
    /// Deny, and report what the check received.
    Report,
    /// Fail like a broken check.
    Fail,
    /// Allow the request to the page `probe`, as if [`SUBJECT`] were logged in.
    Allow,
}

#[derive(Serialize, Deserialize)]
struct Probe {
    action: Action,
    made: u64,
}

/// What one side received. No values of headers, except the probe's own identity headers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Report {
    /// `check` or `application`.
    pub received_by: String,
    /// The names of the cookies.
    pub cookies: Vec<String>,
    /// Whether the configured source names the client's address.
    pub client_address: bool,
    /// Whether the request has `Authorization`.
    pub authorization: bool,
    /// The identity headers.
    pub identity: Vec<(String, String)>,
}

/// The query of a probe; `None` if no key can seal it.
pub(crate) fn query(action: Action, keys: &KeyRing, now: Timestamp) -> Option<String> {
    let plain = serde_json::to_vec(&Probe { action, made: now.0 }).ok()?;
    Some(format!("{PARAMETER}{}", keys.seal(CONTEXT, &plain, now)?))
}

/// The action of the probe in this query, if it is valid.
pub(crate) fn action(query: Option<&str>, keys: &KeyRing, now: Timestamp) -> Option<Action> {
    let sealed = query?.strip_prefix(PARAMETER)?;
    let probe: Probe = serde_json::from_slice(&keys.open(CONTEXT, sealed, MAX_SEALED)?).ok()?;
    let made = Timestamp(probe.made);
    let valid = now.since(made) <= LIFETIME && made.since(now) <= LIFETIME;
    valid.then_some(probe.action)
}

/// The identity of [`SUBJECT`]. Every header has a value, so that a missing one is detected.
pub(crate) fn identity() -> IdentityHeaders {
    IdentityHeaders::new(&IdentityFields {
        subject: SUBJECT,
        openid: "probe",
        unionid: "probe",
        appid: "probe",
        flow: "probe",
        session: "probe",
        nickname: "probe",
        avatar: "https://example.com/probe",
    })
}

/// The response to a request that carries a valid probe. A probe is neither counted nor logged, so that it raises no
/// alert.
pub(super) fn respond(
    request: &Parts,
    check: &CheckRequest,
    authorizer: &Authorizer,
    now: Timestamp,
) -> Option<Response> {
    let action = action(request.uri.query(), &authorizer.sessions.keys, now)?;
    // An allow reaches only the page `probe`, and only if the gateway has a route to the pages.
    let path = request.uri.path().strip_prefix(authorizer.prefix.as_str()).and_then(|rest| rest.strip_prefix('/'));
    let is_page = path == Some(PAGE) && !authorizer.pages_in_band;
    Some(match action {
        Action::Fail => failure(),
        Action::Allow if is_page => {
            let identity = Identity::Known(identity());
            let allow = Decision::Allow { identity, renewed: None, reason: Reason::SessionValid };
            envoy::write(&allow, check.clone())
        }
        Action::Report | Action::Allow => {
            let address = authorizer.client_address.named_address(check.headers, check.peer);
            answer(&report("check", request, address.is_some()), StatusCode::FORBIDDEN)
        }
    })
}

/// Reports a request.
pub(crate) fn report(received_by: &str, request: &Parts, client_address: bool) -> Report {
    let headers = &request.headers;
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let cookies = headers.get_all(header::COOKIE).iter().flat_map(|line| {
        let line = text(line);
        let names = line.split(';').filter_map(|cookie| Some(cookie.split_once('=')?.0.trim().to_owned()));
        names.collect::<Vec<_>>()
    });
    let identity = IDENTITY.iter().flat_map(|name| {
        headers.get_all(name).iter().map(|value| (name.as_str().to_owned(), text(value))).collect::<Vec<_>>()
    });
    Report {
        received_by: received_by.to_owned(),
        cookies: cookies.collect(),
        client_address,
        authorization: headers.contains_key(header::AUTHORIZATION),
        identity: identity.collect(),
    }
}

/// The report as a response. A check denies with it, because Envoy sends only the body of a denial to the client.
pub(crate) fn answer(report: &Report, status: StatusCode) -> Response {
    let body = serde_json::to_vec(report).unwrap_or_default();
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    *answer.status_mut() = status;
    no_store(answer.headers_mut());
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

/// The response of a broken check.
pub(crate) fn failure() -> Response {
    let mut answer = Response::default();
    *answer.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    no_store(answer.headers_mut());
    answer
}

fn no_store(headers: &mut HeaderMap) {
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::fixtures::key_ring;

    #[test]
    fn only_a_fresh_probe_of_our_keys_is_one() {
        let (ours, other, now) = (key_ring(), key_ring(), Timestamp(1_800_000_000));
        for wanted in [Action::Report, Action::Fail, Action::Allow] {
            let query = query(wanted, &ours, now).unwrap();
            assert!(query.len() < MAX_SEALED);
            for (query, keys, at, found) in [
                (Some(query.as_str()), &ours, now, Some(wanted)),
                (Some(&query), &ours, now + LIFETIME, Some(wanted)),
                (Some(&query), &ours, now + LIFETIME + Duration::from_secs(1), None),
                (Some(&query), &ours, Timestamp(now.0 - 61), None),
                (Some(&query), &other, now, None),
                (Some(&query[1..]), &ours, now, None),
                (Some(&format!("a=b&{query}")), &ours, now, None),
                (Some(&format!("{query}A")), &ours, now, None),
                (Some(PARAMETER), &ours, now, None),
                (Some(""), &ours, now, None),
                (None, &ours, now, None),
            ] {
                assert_eq!(action(query, keys, at), found, "{query:?}");
            }
        }
    }

    #[test]
    fn a_report_names_cookies_and_no_values_of_them() {
        let request = http::Request::builder()
            .header("cookie", "a=secret; b=secret")
            .header("cookie", "c=secret")
            .header("authorization", "Bearer secret")
            .header("x-wechat-subject", SUBJECT)
            .body(())
            .unwrap();
        let report = report("check", &request.into_parts().0, false);
        assert_eq!(report.cookies, ["a", "b", "c"]);
        assert_eq!(report.identity, [("x-wechat-subject".to_owned(), SUBJECT.to_owned())]);
        assert!(report.authorization && !report.client_address);
        assert!(!serde_json::to_string(&report).unwrap().contains("secret"));
    }
}
