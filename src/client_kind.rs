//! Which kind of answer a client can use. A hint about form, never about trust: every kind needs the same session.

use crate::check::ResponseFormat;
use crate::cookie::SEC_FETCH_MODE;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};

const X_REQUESTED_WITH: HeaderName = HeaderName::from_static("x-requested-with");

/// Reads it from the request's headers. Bytes, because one that is not ASCII says nothing of
/// the rest.
pub(crate) fn classify(method: &Method, headers: &HeaderMap) -> ResponseFormat {
    let text = |name: HeaderName| headers.get(name).map(HeaderValue::as_bytes).unwrap_or_default();
    if text(header::CONTENT_TYPE).starts_with(b"application/grpc") {
        return ResponseFormat::Grpc;
    }
    if method == Method::OPTIONS
        && headers.contains_key(header::ORIGIN)
        && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
    {
        return ResponseFormat::Preflight;
    }
    // The gateway takes `upgrade` away before it asks; these remain.
    if headers.contains_key(header::SEC_WEBSOCKET_VERSION) || headers.contains_key(header::SEC_WEBSOCKET_KEY) {
        return ResponseFormat::WebSocket;
    }
    // Basic credentials are a browser's; a bearer token is a program's.
    if text(header::AUTHORIZATION).get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"bearer ")) {
        return ResponseFormat::Data;
    }
    let navigates = match text(SEC_FETCH_MODE) {
        b"navigate" => true,
        // Android WeChat says `com.tencent.mm` here on page loads, so only this one value counts.
        b"" if text(X_REQUESTED_WITH).eq_ignore_ascii_case(b"XMLHttpRequest") => false,
        b"" => prefers_html(headers),
        b"websocket" => return ResponseFormat::WebSocket,
        _ => false,
    };
    match (navigates, method) {
        (true, &Method::GET | &Method::HEAD) => ResponseFormat::Page,
        (true, _) => ResponseFormat::Form,
        (false, _) => ResponseFormat::Data,
    }
}

/// Whether `Accept` is a browser's on its way to a page: nothing is wanted more than HTML, and nothing as much that only a
/// program reads. Programs list `text/html` beside everything else; browsers list XHTML with it.
fn prefers_html(headers: &HeaderMap) -> bool {
    let (mut html, mut other, mut is_xhtml, mut data) = (0, 0, false, 0);
    let lines = headers.get_all(header::ACCEPT).iter().map(HeaderValue::as_bytes);
    for range in lines.flat_map(|line| line.split(|byte| *byte == b',')) {
        let mut parts = range.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
        let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
        let weight =
            parts.find_map(|part| part.strip_prefix(b"q=").or_else(|| part.strip_prefix(b"Q="))).map_or(1_000, weight);
        let highest = match kind.as_slice() {
            b"" | b"*/*" | b"*" => continue,
            b"text/html" => &mut html,
            b"application/xhtml+xml" => {
                is_xhtml |= weight > 0;
                &mut html
            }
            kind if kind.ends_with(b"json") || kind == b"text/event-stream" => &mut data,
            _ => &mut other,
        };
        *highest = weight.max(*highest);
    }
    html > data && (html > other || is_xhtml && html == other)
}

/// Thousandths of a quality value, such as `0.8`; what is none is ignored, as if it were not there.
fn weight(text: &[u8]) -> u16 {
    let value = std::str::from_utf8(text).ok().and_then(|text| text.parse::<f32>().ok());
    let value = value.filter(|value| (0.0..=1.0).contains(value)).unwrap_or(1.0);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // Between 0 and 1000.
    {
        (value * 1_000.0).round() as u16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HTML: (&str, &str) = ("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8");
    const ORIGIN: (&str, &str) = ("origin", "https://a.example");

    #[test]
    fn a_list_of_types_is_a_page_for_browsers_only() {
        for (accept, wants) in [
            // Chrome, Firefox, Safari, WeChat, Internet Explorer, Android 4.
            (
                "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8",
                ResponseFormat::Page,
            ),
            ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", ResponseFormat::Page),
            (
                "text/html,application/xhtml+xml,application/xml;q=0.9,image/wxpic,image/tpg,image/webp,*/*;q=0.8",
                ResponseFormat::Page,
            ),
            ("text/html, application/xhtml+xml, image/jxr, */*", ResponseFormat::Page),
            (
                "application/xml,application/xhtml+xml,text/html;q=0.9,text/plain;q=0.8,image/png,*/*;q=0.5",
                ResponseFormat::Page,
            ),
            ("text/html", ResponseFormat::Page),
            ("TEXT/HTML; charset=utf-8, application/json; q=0.5", ResponseFormat::Page),
            // axios, Java, Angular, RestTemplate, feed readers, fetchers of everything.
            ("application/json, text/plain, */*", ResponseFormat::Data),
            ("application/json, text/plain, text/html, */*", ResponseFormat::Data),
            ("text/html, application/json", ResponseFormat::Data),
            ("text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2", ResponseFormat::Data),
            ("text/plain, application/vnd.api+json, text/html", ResponseFormat::Data),
            ("application/rss+xml, application/xml;q=0.9, text/html;q=0.8", ResponseFormat::Data),
            ("*/*, text/html;q=0", ResponseFormat::Data),
            ("text/event-stream, text/html", ResponseFormat::Data),
            ("text/html;q=nan, text/html;q=7", ResponseFormat::Page),
            ("*/*", ResponseFormat::Data),
            ("", ResponseFormat::Data),
        ] {
            let headers = HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static(accept))]);
            assert_eq!(classify(&Method::GET, &headers), wants, "{accept}");
        }
        let raw = HeaderValue::from_bytes(b"text/html,application/xhtml+xml,\xe4\xb8\xad/x;q=0.1").unwrap();
        assert_eq!(classify(&Method::GET, &HeaderMap::from_iter([(header::ACCEPT, raw)])), ResponseFormat::Page);
    }

    #[test]
    fn each_client_is_known_by_what_it_sends() {
        for (method, lines, wants) in [
            (Method::GET, &[HTML][..], ResponseFormat::Page),
            (Method::HEAD, &[HTML], ResponseFormat::Page),
            (Method::POST, &[HTML], ResponseFormat::Form),
            (Method::GET, &[("sec-fetch-mode", "navigate")], ResponseFormat::Page),
            (Method::POST, &[("sec-fetch-mode", "navigate")], ResponseFormat::Form),
            (Method::GET, &[HTML, ("sec-fetch-mode", "cors")], ResponseFormat::Data),
            (Method::GET, &[HTML, ("sec-fetch-mode", "no-cors")], ResponseFormat::Data),
            (Method::GET, &[HTML, ("x-requested-with", "XMLHttpRequest")], ResponseFormat::Data),
            (Method::GET, &[HTML, ("x-requested-with", "com.tencent.mm")], ResponseFormat::Page),
            (Method::GET, &[HTML, ("authorization", "Bearer x")], ResponseFormat::Data),
            (Method::GET, &[HTML, ("authorization", "Basic x")], ResponseFormat::Page),
            (Method::GET, &[("accept", "*/*")], ResponseFormat::Data),
            (Method::GET, &[("accept", "application/json")], ResponseFormat::Data),
            (Method::GET, &[], ResponseFormat::Data),
            (Method::POST, &[("content-type", "application/grpc+proto")], ResponseFormat::Grpc),
            (Method::POST, &[("content-type", "application/json")], ResponseFormat::Data),
            (Method::GET, &[("sec-websocket-version", "13"), ORIGIN], ResponseFormat::WebSocket),
            (Method::GET, &[("sec-fetch-mode", "websocket")], ResponseFormat::WebSocket),
            (Method::OPTIONS, &[ORIGIN, ("access-control-request-method", "PUT")], ResponseFormat::Preflight),
            (Method::OPTIONS, &[ORIGIN], ResponseFormat::Data),
            (Method::GET, &[ORIGIN, ("access-control-request-method", "PUT")], ResponseFormat::Data),
        ] {
            let headers: HeaderMap = lines
                .iter()
                .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
                .collect();
            assert_eq!(classify(&method, &headers), wants, "{method} {lines:?}");
        }
    }
}
