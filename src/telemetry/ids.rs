//! The ids of requests and users in log lines.

use super::traces::{Span, TraceParent};
use crate::random;
use aws_lc_rs::digest;
use http::HeaderMap;
use std::borrow::Cow;

/// The form of a subject or session id in logs: the first 16 hex digits of its SHA-256. The same id gives the same digits,
/// which do not reveal it.
pub(crate) fn redact(id: &str) -> String {
    let hash = digest::digest(&digest::SHA256, id.as_bytes());
    random::hex(hash.as_ref().get(..8).unwrap_or_default())
}

/// The ids that a gateway gave a request; empty if absent or not printable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RequestIds<'a> {
    /// `x-request-id`.
    pub request_id: &'a str,
    /// The trace id of `traceparent` (W3C Trace Context).
    pub trace_id: &'a str,
}

/// Envoy's ids are UUIDs of 36 characters.
const MAX_REQUEST_ID: usize = 64;

impl<'a> RequestIds<'a> {
    /// Reads the ids. Ignores values of another form: a client could use them to write into the log.
    pub(crate) fn of(headers: &'a HeaderMap) -> Self {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let request_id = text("x-request-id");
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        let trace_id = TraceParent::of(headers).map_or("", |parent| parent.trace_id);
        let is_id = request_id.len() <= MAX_REQUEST_ID && request_id.bytes().all(plain);
        Self { request_id: if is_id { request_id } else { "" }, trace_id }
    }

    /// The trace of the request: the gateway's, or the one that `span` starts.
    pub(crate) fn trace_id(&self, span: &Span) -> Cow<'a, str> {
        span.trace_id().map_or(Cow::Borrowed(self.trace_id), Cow::Owned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn redacted_ids_differ_and_do_not_contain_the_id() {
        assert_eq!(redact("wx:wx01:oAlice").len(), 16);
        assert_ne!(redact("wx:wx01:oAlice"), redact("wx:wx01:oBob"));
        assert!(!redact("oAlice").contains("Alice"));
    }

    #[test]
    fn ids_of_another_form_are_ignored() {
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        for (request_id, traceparent, ids) in [
            ("d74144f0-1f", &format!("00-{trace}-00f067aa0ba902b7-01")[..], ("d74144f0-1f", trace)),
            ("a b", "00-x-y-01", ("", "")),
            ("a\"b", &format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)), ("", "")),
            (&"a".repeat(65), trace, ("", "")),
            (&"a".repeat(64), &format!("cc-{trace}-00f067aa0ba902b7-01-more"), (&"a".repeat(64), trace)),
            ("{\"level\":1}", &format!("00-{trace}-00f067aa0ba902b7-\"1"), ("", "")),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("x-request-id", HeaderValue::from_str(request_id).unwrap());
            headers.insert("traceparent", HeaderValue::from_str(traceparent).unwrap());
            let RequestIds { request_id, trace_id } = RequestIds::of(&headers);
            assert_eq!((request_id, trace_id), ids);
        }
        assert_eq!(RequestIds::of(&HeaderMap::new()), RequestIds { request_id: "", trace_id: "" });
    }
}
