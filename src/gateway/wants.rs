//! Which kind of answer a client can use. A hint about form, never about trust: every kind needs the same session.

use crate::check::Wants;
use crate::cookie::SEC_FETCH_MODE;
use http::{HeaderMap, HeaderName, Method, header};

const X_REQUESTED_WITH: HeaderName = HeaderName::from_static("x-requested-with");

/// Reads it from the request's headers (protocol §8.2, contract §1.7).
#[must_use]
pub fn classify(method: &Method, headers: &HeaderMap) -> Wants {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if text(header::CONTENT_TYPE).starts_with("application/grpc") {
        return Wants::Grpc;
    }
    if method == Method::OPTIONS
        && headers.contains_key(header::ORIGIN)
        && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
    {
        return Wants::Preflight;
    }
    // The gateway takes `upgrade` away before it asks; these remain.
    if headers.contains_key(header::SEC_WEBSOCKET_VERSION) || headers.contains_key(header::SEC_WEBSOCKET_KEY) {
        return Wants::WebSocket;
    }
    // Basic credentials are a browser's; a bearer token is a program's.
    if text(header::AUTHORIZATION).get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("bearer ")) {
        return Wants::Data;
    }
    let navigates = match text(SEC_FETCH_MODE) {
        "navigate" => true,
        // Android WeChat says `com.tencent.mm` here on page loads, so only this one value counts.
        "" if text(X_REQUESTED_WITH).eq_ignore_ascii_case("XMLHttpRequest") => false,
        "" => text(header::ACCEPT).split(',').any(|range| {
            let kind = range.split(';').next().unwrap_or_default().trim();
            kind.eq_ignore_ascii_case("text/html") || kind.eq_ignore_ascii_case("application/xhtml+xml")
        }),
        "websocket" => return Wants::WebSocket,
        _ => false,
    };
    match (navigates, method) {
        (true, &Method::GET | &Method::HEAD) => Wants::Page,
        (true, _) => Wants::Form,
        (false, _) => Wants::Data,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    const HTML: (&str, &str) = ("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8");
    const ORIGIN: (&str, &str) = ("origin", "https://a.example");

    #[test]
    fn each_client_is_known_by_what_it_sends() {
        for (method, lines, wants) in [
            (Method::GET, &[HTML][..], Wants::Page),
            (Method::HEAD, &[HTML], Wants::Page),
            (Method::POST, &[HTML], Wants::Form),
            (Method::GET, &[("sec-fetch-mode", "navigate")], Wants::Page),
            (Method::POST, &[("sec-fetch-mode", "navigate")], Wants::Form),
            (Method::GET, &[HTML, ("sec-fetch-mode", "cors")], Wants::Data),
            (Method::GET, &[HTML, ("sec-fetch-mode", "no-cors")], Wants::Data),
            (Method::GET, &[HTML, ("x-requested-with", "XMLHttpRequest")], Wants::Data),
            (Method::GET, &[HTML, ("x-requested-with", "com.tencent.mm")], Wants::Page),
            (Method::GET, &[HTML, ("authorization", "Bearer x")], Wants::Data),
            (Method::GET, &[HTML, ("authorization", "Basic x")], Wants::Page),
            (Method::GET, &[("accept", "*/*")], Wants::Data),
            (Method::GET, &[("accept", "application/json")], Wants::Data),
            (Method::GET, &[], Wants::Data),
            (Method::POST, &[("content-type", "application/grpc+proto")], Wants::Grpc),
            (Method::POST, &[("content-type", "application/json")], Wants::Data),
            (Method::GET, &[("sec-websocket-version", "13"), ORIGIN], Wants::WebSocket),
            (Method::GET, &[("sec-fetch-mode", "websocket")], Wants::WebSocket),
            (Method::OPTIONS, &[ORIGIN, ("access-control-request-method", "PUT")], Wants::Preflight),
            (Method::OPTIONS, &[ORIGIN], Wants::Data),
            (Method::GET, &[ORIGIN, ("access-control-request-method", "PUT")], Wants::Data),
        ] {
            let headers: HeaderMap = lines
                .iter()
                .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
                .collect();
            assert_eq!(classify(&method, &headers), wants, "{method} {lines:?}");
        }
    }
}
