//! Cookies: the ones that we read and the ones that we pass on (docs/en/threat-model.md, Cookies).
//!
//! An input is the values of `Cookie` lines, one per line.

use http::header::{self, HeaderMap, HeaderValue};
use wechat_authz::testing::cookie::{self, Forwarded, Found, Separators};

/// Our parser finds the value of our cookie, or a conflict, exactly as the simple parser below does; the application
/// receives every cookie but ours, in the original order.
pub fn holds(data: &[u8]) {
    let lines = data.split(|byte| *byte == b'\n').filter_map(|line| HeaderValue::from_bytes(line).ok());
    let headers: HeaderMap = lines.map(|line| (header::COOKIE, line)).collect();
    for name in [cookie::SESSION, cookie::ATTEMPTS, "a"] {
        assert_eq!(cookie::find(&headers, name), found(&headers, name, b";"));
        for (separators, bytes) in [(Separators::Semicolon, &b";"[..]), (Separators::SemicolonAndComma, b";,")] {
            assert_eq!(cookie::find_among(&headers, name, separators), found(&headers, name, bytes));
        }
    }
    let separately =
        (cookie::find_among(&headers, cookie::SESSION, Separators::of(&headers)), cookie::without_ours(&headers));
    assert_eq!(cookie::session_and_rest(&headers), separately);
    for (name, value) in cookie::pairs(&headers) {
        assert!(!name.contains(['=', ';']) && !value.contains(';'), "{name:?} {value:?}");
    }
    let kept: Vec<&[u8]> = pieces(&headers).into_iter().filter(|piece| !is_ours(piece)).collect();
    let seen = match cookie::without_ours(&headers) {
        Forwarded::Untouched => {
            assert_eq!(kept.len(), pieces(&headers).len(), "our cookies were not found");
            return;
        }
        Forwarded::Nothing => HeaderMap::new(),
        Forwarded::Rest(rest) => HeaderMap::from_iter([(header::COOKIE, rest)]),
    };
    assert!(kept.len() < pieces(&headers).len(), "no cookie was ours, but the header was rewritten");
    assert_eq!(pieces(&seen), kept);
}

/// Every piece that a server could take for a cookie, trimmed.
#[must_use]
pub fn pieces(headers: &HeaderMap) -> Vec<&[u8]> {
    let lines = headers.get_all(header::COOKIE).iter();
    let pieces = lines.flat_map(|line| line.as_bytes().split(|byte| matches!(byte, b';' | b',')));
    pieces.map(<[u8]>::trim_ascii).filter(|piece| !piece.is_empty()).collect()
}

/// Whether a piece has one of our names.
#[must_use]
pub fn is_ours(piece: &[u8]) -> bool {
    let name = piece.split(|byte| *byte == b'=').next().unwrap_or_default().trim_ascii();
    name == b"__Host-wechat_session" || name == b"__Host-wechat_attempts" || name.starts_with(b"__Host-wechat_flow_")
}

fn found<'a>(headers: &'a HeaderMap, name: &str, separators: &[u8]) -> Found<'a> {
    let lines = headers.get_all(header::COOKIE).iter();
    let pieces = lines.flat_map(|line| line.as_bytes().split(|byte| separators.contains(byte)));
    let start = format!("{name}=");
    let mut values: Vec<&[u8]> = pieces.filter_map(|piece| piece.trim_ascii().strip_prefix(start.as_bytes())).collect();
    values.dedup();
    match values.as_slice() {
        [] => Found::None,
        [value] => std::str::from_utf8(value).map_or(Found::Conflict, Found::One),
        _ => Found::Conflict,
    }
}
