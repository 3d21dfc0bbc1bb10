//! The forms in which the pages answer.

pub(crate) use crate::ext_authz::answer::{Answer, envelope, jittered, page};
use crate::html;
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use http_body_util::Full;
use std::time::Duration;

/// Onwards, by a fresh GET, with cookies. Never cached, and nothing of this address goes along.
pub(super) fn redirect(status: StatusCode, location: &str, cookies: impl IntoIterator<Item = HeaderValue>) -> Answer {
    let mut answer = Answer::default();
    *answer.status_mut() = status;
    html::security_headers(answer.headers_mut());
    // Locations start with a configured origin and hold visible ASCII.
    let location = HeaderValue::from_str(location).unwrap_or_else(|_| HeaderValue::from_static("/"));
    answer.headers_mut().insert(header::LOCATION, location);
    with_cookies(answer, cookies)
}

/// Nothing but the headers of every page: for a HEAD whose GET would change something.
pub(super) fn empty() -> Answer {
    let mut answer = Answer::default();
    html::security_headers(answer.headers_mut());
    answer
}

/// `answer` with these `Set-Cookie` lines.
pub(super) fn with_cookies(mut answer: Answer, cookies: impl IntoIterator<Item = HeaderValue>) -> Answer {
    for cookie in cookies {
        answer.headers_mut().append(header::SET_COOKIE, cookie);
    }
    answer
}

/// JSON about this person, for this person's scripts.
pub(super) fn json(status: StatusCode, body: &serde_json::Value) -> Answer {
    let mut answer = Answer::new(Full::new(Bytes::from(body.to_string())));
    *answer.status_mut() = status;
    html::security_headers(answer.headers_mut());
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

/// 429 for a script: whether it has a session is not known now.
pub(super) fn too_many(retry_after: Duration) -> Answer {
    later(StatusCode::TOO_MANY_REQUESTS, "too many requests, try again later", retry_after)
}

/// For a script that may get another answer after `retry_after`.
pub(super) fn later(status: StatusCode, message: &str, retry_after: Duration) -> Answer {
    let mut answer = json(status, &envelope(status, message, serde_json::Value::Null));
    answer.headers_mut().insert(header::RETRY_AFTER, jittered(retry_after));
    answer
}

/// 403 for a script, or for what a page loads.
pub(super) fn forbidden(message: &str) -> Answer {
    json(StatusCode::FORBIDDEN, &envelope(StatusCode::FORBIDDEN, message, serde_json::Value::Null))
}

/// For a browser that fetches a page before its user opens it: nothing was done, and the answer is of no use. Browsers
/// ask again when the page is opened.
pub(super) fn not_in_advance() -> Answer {
    let mut answer = Answer::default();
    *answer.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    html::security_headers(answer.headers_mut());
    answer
}

/// JSON for anybody, which caches may keep.
pub(super) fn public_json(body: &serde_json::Value, cache_control: &'static str) -> Answer {
    let mut answer = json(StatusCode::OK, body);
    answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static(cache_control));
    answer.headers_mut().remove(header::VARY);
    answer
}

/// A line of text.
pub(super) fn text(body: &str) -> Answer {
    let mut answer = Answer::new(Full::new(Bytes::copy_from_slice(body.as_bytes())));
    html::security_headers(answer.headers_mut());
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    answer
}

/// 405 with the methods there are.
pub(super) fn method_not_allowed(allow: &'static str) -> Answer {
    let mut answer = Answer::default();
    *answer.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    html::security_headers(answer.headers_mut());
    answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allow));
    answer
}
