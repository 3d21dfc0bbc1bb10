//! The kind of a client: which form of answer it can use. Every kind needs the same session.

use crate::cookie::SEC_FETCH_MODE;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};

const X_REQUESTED_WITH: HeaderName = HeaderName::from_static("x-requested-with");

/// The form of answer that a client can use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClientKind {
    /// A browser that navigates by GET or HEAD: it follows a redirect.
    Page,
    /// A browser that sends a form: a redirect would lose the input.
    Form,
    /// A script, an API client, an image: it reads a status and JSON.
    Data,
    /// A gRPC call: Envoy turns the status into a trailer and the body into its message.
    Grpc,
    /// A WebSocket handshake: it sees only the status.
    WebSocket,
    /// A CORS preflight: it never has a cookie.
    Preflight,
}

/// Reads the kind from method and headers. Compares bytes, because one non-ASCII byte in a header does not invalidate the
/// rest.
pub(crate) fn classify(method: &Method, headers: &HeaderMap) -> ClientKind {
    let text = |name: HeaderName| headers.get(name).map(HeaderValue::as_bytes).unwrap_or_default();
    if text(header::CONTENT_TYPE).starts_with(b"application/grpc") {
        return ClientKind::Grpc;
    }
    if method == Method::OPTIONS
        && headers.contains_key(header::ORIGIN)
        && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
    {
        return ClientKind::Preflight;
    }
    // The gateway removes `upgrade` before the check; these headers remain.
    if headers.contains_key(header::SEC_WEBSOCKET_VERSION) || headers.contains_key(header::SEC_WEBSOCKET_KEY) {
        return ClientKind::WebSocket;
    }
    // Browsers send Basic credentials; programs send bearer tokens.
    if text(header::AUTHORIZATION).get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"bearer ")) {
        return ClientKind::Data;
    }
    let navigates = match text(SEC_FETCH_MODE) {
        b"navigate" => true,
        // Android WeChat sends `com.tencent.mm` on page loads, so only this value counts.
        b"" if text(X_REQUESTED_WITH).eq_ignore_ascii_case(b"XMLHttpRequest") => false,
        b"" => prefers_html(headers),
        b"websocket" => return ClientKind::WebSocket,
        _ => false,
    };
    match (navigates, method) {
        (true, &Method::GET | &Method::HEAD) => ClientKind::Page,
        (true, _) => ClientKind::Form,
        (false, _) => ClientKind::Data,
    }
}

/// Whether `Accept` is that of a browser that navigates: no type has a higher quality than HTML, and no data type has the
/// same. Programs list `text/html` among other types; browsers list XHTML with it.
fn prefers_html(headers: &HeaderMap) -> bool {
    let (mut html, mut other, mut has_xhtml, mut data) = (0, 0, false, 0);
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
                has_xhtml |= weight > 0;
                &mut html
            }
            kind if kind.ends_with(b"json") || kind == b"text/event-stream" => &mut data,
            _ => &mut other,
        };
        *highest = weight.max(*highest);
    }
    html > data && (html > other || has_xhtml && html == other)
}

/// A quality value such as `0.8` in thousandths. An invalid one counts as absent, which is 1.
fn weight(text: &[u8]) -> u16 {
    let value = std::str::from_utf8(text).ok().and_then(|text| text.parse::<f32>().ok());
    let value = value.filter(|value| (0.0..=1.0).contains(value)).unwrap_or(1.0);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // Between 0 and 1000.
    {
        (value * 1_000.0).round() as u16
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A request of this kind: its method and headers.
    pub(crate) fn request_of(kind: ClientKind) -> (Method, HeaderMap) {
        let (method, lines): (_, &[_]) = match kind {
            ClientKind::Page => (Method::GET, &[("sec-fetch-mode", "navigate")]),
            ClientKind::Form => (Method::POST, &[("sec-fetch-mode", "navigate")]),
            ClientKind::Data => (Method::GET, &[]),
            ClientKind::Grpc => (Method::POST, &[("content-type", "application/grpc")]),
            ClientKind::WebSocket => (Method::GET, &[("sec-fetch-mode", "websocket")]),
            ClientKind::Preflight => (Method::OPTIONS, &[ORIGIN, ("access-control-request-method", "PUT")]),
        };
        let lines = lines.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        (method, lines.collect())
    }

    const HTML: (&str, &str) = ("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8");
    const ORIGIN: (&str, &str) = ("origin", "https://a.example");

    #[test]
    fn a_list_of_types_is_a_page_for_browsers_only() {
        for (accept, wants) in [
            // Chrome, Firefox, Safari, WeChat, Internet Explorer, Android 4.
            (
                "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8",
                ClientKind::Page,
            ),
            ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", ClientKind::Page),
            (
                "text/html,application/xhtml+xml,application/xml;q=0.9,image/wxpic,image/tpg,image/webp,*/*;q=0.8",
                ClientKind::Page,
            ),
            ("text/html, application/xhtml+xml, image/jxr, */*", ClientKind::Page),
            (
                "application/xml,application/xhtml+xml,text/html;q=0.9,text/plain;q=0.8,image/png,*/*;q=0.5",
                ClientKind::Page,
            ),
            ("text/html", ClientKind::Page),
            ("TEXT/HTML; charset=utf-8, application/json; q=0.5", ClientKind::Page),
            // axios, Java, Angular, RestTemplate, feed readers, fetchers of everything.
            ("application/json, text/plain, */*", ClientKind::Data),
            ("application/json, text/plain, text/html, */*", ClientKind::Data),
            ("text/html, application/json", ClientKind::Data),
            ("text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2", ClientKind::Data),
            ("text/plain, application/vnd.api+json, text/html", ClientKind::Data),
            ("application/rss+xml, application/xml;q=0.9, text/html;q=0.8", ClientKind::Data),
            ("*/*, text/html;q=0", ClientKind::Data),
            ("text/event-stream, text/html", ClientKind::Data),
            ("text/html;q=nan, text/html;q=7", ClientKind::Page),
            ("*/*", ClientKind::Data),
            ("", ClientKind::Data),
        ] {
            let headers = HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static(accept))]);
            assert_eq!(classify(&Method::GET, &headers), wants, "{accept}");
        }
        let raw = HeaderValue::from_bytes(b"text/html,application/xhtml+xml,\xe4\xb8\xad/x;q=0.1").unwrap();
        assert_eq!(classify(&Method::GET, &HeaderMap::from_iter([(header::ACCEPT, raw)])), ClientKind::Page);
    }

    #[test]
    fn each_client_kind_is_classified() {
        for (method, lines, wants) in [
            (Method::GET, &[HTML][..], ClientKind::Page),
            (Method::HEAD, &[HTML], ClientKind::Page),
            (Method::POST, &[HTML], ClientKind::Form),
            (Method::GET, &[("sec-fetch-mode", "navigate")], ClientKind::Page),
            (Method::POST, &[("sec-fetch-mode", "navigate")], ClientKind::Form),
            (Method::GET, &[HTML, ("sec-fetch-mode", "cors")], ClientKind::Data),
            (Method::GET, &[HTML, ("sec-fetch-mode", "no-cors")], ClientKind::Data),
            (Method::GET, &[HTML, ("x-requested-with", "XMLHttpRequest")], ClientKind::Data),
            (Method::GET, &[HTML, ("x-requested-with", "com.tencent.mm")], ClientKind::Page),
            (Method::GET, &[HTML, ("authorization", "Bearer x")], ClientKind::Data),
            (Method::GET, &[HTML, ("authorization", "Basic x")], ClientKind::Page),
            (Method::GET, &[("accept", "*/*")], ClientKind::Data),
            (Method::GET, &[("accept", "application/json")], ClientKind::Data),
            (Method::GET, &[], ClientKind::Data),
            (Method::POST, &[("content-type", "application/grpc+proto")], ClientKind::Grpc),
            (Method::POST, &[("content-type", "application/json")], ClientKind::Data),
            (Method::GET, &[("sec-websocket-version", "13"), ORIGIN], ClientKind::WebSocket),
            (Method::GET, &[("sec-fetch-mode", "websocket")], ClientKind::WebSocket),
            (Method::OPTIONS, &[ORIGIN, ("access-control-request-method", "PUT")], ClientKind::Preflight),
            (Method::OPTIONS, &[ORIGIN], ClientKind::Data),
            (Method::GET, &[ORIGIN, ("access-control-request-method", "PUT")], ClientKind::Data),
        ] {
            let headers: HeaderMap = lines
                .iter()
                .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
                .collect();
            assert_eq!(classify(&method, &headers), wants, "{method} {lines:?}");
        }
    }
}
