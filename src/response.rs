//! HTTP responses: JSON, pages, redirects. The pages, denied checks and the admin API build theirs here.

use crate::html::{self, Language, Page};
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use http_body_util::Full;
use serde_json::{Value, json};
use std::time::Duration;

/// A response with its whole body.
pub type Response = http::Response<Full<Bytes>>;

/// An empty response with `status` and the security headers.
pub(crate) fn empty(status: StatusCode) -> Response {
    let mut response = Response::default();
    *response.status_mut() = status;
    html::security_headers(response.headers_mut());
    response
}

/// A redirect that sets `cookies`. Caches do not store it, and the browser sends no `Referer`.
pub(crate) fn redirect(status: StatusCode, location: &str, cookies: impl IntoIterator<Item = HeaderValue>) -> Response {
    let mut response = empty(status);
    // A location starts with a configured origin and contains visible ASCII only.
    let location = HeaderValue::from_str(location).unwrap_or_else(|_| HeaderValue::from_static("/"));
    response.headers_mut().insert(header::LOCATION, location);
    with_cookies(response, cookies)
}

/// `response` with these `Set-Cookie` headers.
pub(crate) fn with_cookies(mut response: Response, cookies: impl IntoIterator<Item = HeaderValue>) -> Response {
    for cookie in cookies {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    response
}

/// An HTML page with its own status.
pub(crate) fn page(page: &Page, language: Language) -> Response {
    let rendered = html::render(page, language);
    let mut response = Response::new(Full::new(rendered.body));
    *response.status_mut() = rendered.status;
    *response.headers_mut() = rendered.headers;
    response
}

/// The JSON body of every response to a program: the status, a message, and the data or null.
pub(crate) fn envelope(status: StatusCode, message: &str, data: Value) -> Value {
    json!({ "code": status.as_u16(), "message": message, "data": data })
}

/// JSON in the common envelope, for scripts.
pub(crate) fn json(status: StatusCode, message: &str, data: Value) -> Response {
    raw_json(status, &envelope(status, message, data))
}

/// An error for scripts: JSON without data.
pub(crate) fn json_error(status: StatusCode, message: &str) -> Response {
    json(status, message, Value::Null)
}

/// JSON without the envelope, for clients that expect a standard format. Caches may store it.
pub(crate) fn public_json(body: &Value, cache_control: &'static str) -> Response {
    let mut response = raw_json(StatusCode::OK, body);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static(cache_control));
    response.headers_mut().remove(header::VARY);
    response
}

fn raw_json(status: StatusCode, body: &Value) -> Response {
    with_body(status, "application/json", body.to_string())
}

/// Plain text.
pub(crate) fn text(body: &str) -> Response {
    with_body(StatusCode::OK, "text/plain; charset=utf-8", body.to_owned())
}

fn with_body(status: StatusCode, content_type: &'static str, body: String) -> Response {
    let mut response = empty(status);
    *response.body_mut() = Full::from(body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// 405 with the allowed methods.
pub(crate) fn method_not_allowed(allow: &'static str) -> Response {
    let mut response = empty(StatusCode::METHOD_NOT_ALLOWED);
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allow));
    response
}

/// `response` with a `Retry-After` header, with jitter.
pub(crate) fn retry_after(mut response: Response, delay: Duration) -> Response {
    response.headers_mut().insert(header::RETRY_AFTER, jittered(delay));
    response
}

/// Seconds for `Retry-After`, with jitter, so that the waiting clients do not all return at once.
pub(crate) fn jittered(delay: Duration) -> HeaderValue {
    let seconds = delay.as_secs().clamp(1, 3_600);
    HeaderValue::from(seconds + fastrand::u64(0..=seconds / 4 + 1))
}

/// 429 for a script.
pub(crate) fn rate_limited(delay: Duration) -> Response {
    retry_after(json_error(StatusCode::TOO_MANY_REQUESTS, "too many requests, try again later"), delay)
}
