//! Reads request cookies from any number of `Cookie` headers, and writes our own.
//!
//! Names are case-sensitive. Two different values of one of our cookies are a conflict; neither is used.
//!
//! A gateway may join several `Cookie` lines with a bare comma (docs/en/ext-authz.md, Cookies of a check), and programs
//! send several lines. A browser sends one line, and a sibling sub-domain may set a cookie whose *value* contains
//! `,__Host-…=`. If that comma counted as a separator, the `__Host-` prefix would not protect our cookies. So a comma
//! is a separator only if [`Separators`] allows it.

use bytes::Bytes;
use cookie::{Cookie, SameSite};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use std::borrow::Cow;
use std::time::Duration;

/// The session: an ES256 JWT.
pub const SESSION: &str = "__Host-wechat_session";
/// The times at which this browser's recent logins ended, sealed. They stop redirect loops.
pub const ATTEMPTS: &str = "__Host-wechat_attempts";
/// The prefix of the attempt cookies. The first digits of the attempt's `state` follow.
pub const FLOW_PREFIX: &str = "__Host-wechat_flow_";

/// The prefix of all our cookie names.
const OURS: &[u8] = b"__Host-wechat_";

/// A header that browsers send and that no page can set.
pub const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");

/// The values of one cookie in a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found<'a> {
    /// No such cookie.
    None,
    /// One value, sent once or several times.
    One(&'a str),
    /// Two or more different values, or a value that is not UTF-8.
    Conflict,
}

/// The separators between cookies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Separators {
    /// `;`, which browsers send.
    Semicolon,
    /// `;` and `,`, because a gateway may have joined several lines.
    SemicolonAndComma,
}

impl Separators {
    /// The separators for this client. Only the lines of a program can be joined with a comma. Every browser (WeChat's
    /// too) sends `Mozilla/` in its `User-Agent`, and a page that sets a cookie cannot change that.
    pub fn of(headers: &HeaderMap) -> Self {
        let browser = headers
            .get_all(header::USER_AGENT)
            .iter()
            .any(|value| value.as_bytes().windows(8).any(|window| window.eq_ignore_ascii_case(b"mozilla/")));
        if browser || headers.contains_key(SEC_FETCH_MODE) { Self::Semicolon } else { Self::SemicolonAndComma }
    }

    /// The pieces of `line`. `memchr` skips a session token quickly: it has hundreds of bytes without a separator.
    fn pieces(self, line: &[u8]) -> impl Iterator<Item = &[u8]> {
        let mut rest = Some(line);
        std::iter::from_fn(move || {
            let line = rest?;
            let end = match self {
                Self::Semicolon => memchr::memchr(b';', line),
                Self::SemicolonAndComma => memchr::memchr2(b';', b',', line),
            };
            let (piece, after) = end.and_then(|end| line.split_at_checked(end)).unwrap_or((line, b""));
            // `after` starts with the separator.
            rest = after.get(1..);
            Some(piece)
        })
    }
}

/// Every `name=value` of all `Cookie` headers, in order. Cookies that are not UTF-8 are skipped.
pub fn pairs(headers: &HeaderMap) -> impl Iterator<Item = (&str, &str)> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b';'))
        .filter_map(|piece| std::str::from_utf8(piece).ok())
        .filter_map(|piece| piece.trim().split_once('='))
}

/// The cookie `name` in a browser's request.
pub fn find<'a>(headers: &'a HeaderMap, name: &str) -> Found<'a> {
    find_among(headers, name, Separators::Semicolon)
}

/// The cookie `name`, with these separators.
pub fn find_among<'a>(headers: &'a HeaderMap, name: &str, separators: Separators) -> Found<'a> {
    let mut found = Found::None;
    for line in headers.get_all(header::COOKIE) {
        for piece in separators.pieces(line.as_bytes()) {
            let piece = piece.trim_ascii();
            let Some(value) = piece.strip_prefix(name.as_bytes()).and_then(|rest| rest.strip_prefix(b"=")) else {
                continue;
            };
            found = match (found, std::str::from_utf8(value)) {
                (Found::None, Ok(value)) => Found::One(value),
                (Found::One(first), Ok(value)) if first == value => found,
                _ => return Found::Conflict,
            };
        }
    }
    found
}

/// All different values of the cookie `name`.
pub fn values<'a>(headers: &'a HeaderMap, name: &str) -> Vec<&'a str> {
    let separators = Separators::of(headers);
    let mut values = Vec::new();
    for piece in headers.get_all(header::COOKIE).iter().flat_map(|line| separators.pieces(line.as_bytes())) {
        let value = piece.trim_ascii().strip_prefix(name.as_bytes()).and_then(|rest| rest.strip_prefix(b"="));
        if let Some(value) = value.and_then(|value| std::str::from_utf8(value).ok())
            && !values.contains(&value)
        {
            values.push(value);
        }
    }
    values
}

/// The session cookie, and the request's cookies without our own.
pub fn session_and_rest(headers: &HeaderMap) -> (Found<'_>, Forwarded) {
    let mut lines = headers.get_all(header::COOKIE).iter();
    let plain = match (lines.next(), lines.next()) {
        (None, _) => return (Found::None, Forwarded::Untouched),
        (Some(line), None) => plain_line(line.as_bytes()),
        _ => None,
    };
    plain.unwrap_or_else(|| (find_among(headers, SESSION, Separators::of(headers)), without_ours(headers)))
}

/// [`session_and_rest`] for one line as browsers write it: `; ` between cookies, no comma, and none of our cookies
/// except the session. Such a line is parsed in the same way for every client. `None` for any other line.
fn plain_line(line: &[u8]) -> Option<(Found<'_>, Forwarded)> {
    let (mut session, mut start) = (None, 0);
    for piece in Separators::SemicolonAndComma.pieces(line) {
        let cookie = if start == 0 { piece } else { piece.strip_prefix(b" ")? };
        let end = start + piece.len();
        if cookie.is_empty() || cookie.trim_ascii().len() != cookie.len() || line.get(end) == Some(&b',') {
            return None;
        }
        if cookie.starts_with(OURS) {
            let value = cookie.strip_prefix(SESSION.as_bytes())?.strip_prefix(b"=")?;
            if session.replace((start, std::str::from_utf8(value).ok()?, end)).is_some() {
                return None;
            }
        }
        start = end + 1;
    }
    let Some((start, value, end)) = session else { return Some((Found::None, Forwarded::Untouched)) };
    let before = line.get(..start.saturating_sub(1))?;
    let after = line.get(end..)?.strip_prefix(b"; ").unwrap_or_default();
    let rest = match (before, after) {
        (b"", b"") => return Some((Found::One(value), Forwarded::Nothing)),
        (rest, b"") | (b"", rest) => HeaderValue::from_bytes(rest),
        (before, after) => HeaderValue::from_maybe_shared(Bytes::from([before, after].join(&b"; "[..]))),
    };
    Some((Found::One(value), Forwarded::Rest(rest.ok()?)))
}

/// The cookies that the application receives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Forwarded {
    /// The request has none of our cookies: the header stays unchanged.
    Untouched,
    /// The cookies without our own.
    Rest(HeaderValue),
    /// The request has only our cookies: the header is removed.
    Nothing,
}

/// Whether a piece between separators is one of our cookies.
fn is_ours(piece: &[u8]) -> bool {
    let piece = piece.trim_ascii_start();
    // Most cookies do not have the prefix.
    if !piece.starts_with(OURS) {
        return false;
    }
    let name = piece.split(|byte| *byte == b'=').next().unwrap_or_default().trim_ascii();
    name == SESSION.as_bytes() || name == ATTEMPTS.as_bytes() || name.starts_with(FLOW_PREFIX.as_bytes())
}

/// The request's cookies without our own, with which the application could act as the user.
pub fn without_ours(headers: &HeaderMap) -> Forwarded {
    let lines = headers.get_all(header::COOKIE);
    if !lines.iter().any(|line| Separators::SemicolonAndComma.pieces(line.as_bytes()).any(is_ours)) {
        return Forwarded::Untouched;
    }
    let mut rest: Vec<u8> = Vec::with_capacity(256);
    for line in lines {
        for part in Separators::Semicolon.pieces(line.as_bytes()) {
            let kept = match memchr::memchr(b',', part) {
                None if is_ours(part) => continue,
                None => Cow::Borrowed(part),
                // A comma may be part of another cookie's value. It stays if both sides of it stay.
                Some(_) => {
                    let kept: Vec<&[u8]> = part.split(|byte| *byte == b',').filter(|piece| !is_ours(piece)).collect();
                    kept.join(&b","[..]).into()
                }
            };
            let kept = kept.trim_ascii();
            if kept.is_empty() {
                continue;
            }
            if !rest.is_empty() {
                rest.extend_from_slice(b"; ");
            }
            rest.extend_from_slice(kept);
        }
    }
    if rest.is_empty() {
        return Forwarded::Nothing;
    }
    // Parts of header values form a valid header value.
    HeaderValue::from_bytes(&rest).map_or(Forwarded::Nothing, Forwarded::Rest)
}

/// A `Set-Cookie` for this host and `path`, with `HttpOnly`.
pub fn set(name: &str, value: &str, path: &str, max_age: Duration) -> HeaderValue {
    let seconds = i64::try_from(max_age.as_secs()).unwrap_or(i64::MAX);
    render(Cookie::build((name, value)).max_age(cookie::time::Duration::seconds(seconds)), path)
}

/// A `Set-Cookie` that deletes the cookie. Browsers require the same attributes.
pub fn clear(name: &str, path: &str) -> HeaderValue {
    render(Cookie::build((name, "")).max_age(cookie::time::Duration::ZERO), path)
}

fn render(cookie: cookie::CookieBuilder<'_>, path: &str) -> HeaderValue {
    let cookie = cookie.path(path).secure(true).http_only(true).same_site(SameSite::Lax).build();
    // The names are ours, the values are base64url, and the configuration limits the characters of the path.
    HeaderValue::from_str(&cookie.to_string()).unwrap_or_else(|_| HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn headers(lines: &[&str]) -> HeaderMap {
        lines.iter().map(|line| (header::COOKIE, HeaderValue::from_bytes(line.as_bytes()).unwrap())).collect()
    }

    #[test]
    fn a_cookie_is_found_in_any_line_and_behind_any_separator() {
        for lines in [
            &["__Host-wechat_session=a"][..],
            &["x=1; __Host-wechat_session=a; y=2"],
            &["x=1,__Host-wechat_session=a,y=2"],
            &["x=1", "__Host-wechat_session=a"],
            &["__Host-wechat_session=a; __Host-wechat_session=a"],
            &["  __Host-wechat_session=a  ;"],
        ] {
            assert_eq!(
                find_among(&headers(lines), SESSION, Separators::SemicolonAndComma),
                Found::One("a"),
                "{lines:?}"
            );
        }
    }

    #[test]
    fn a_line_as_browsers_write_it_is_read_in_one_look() {
        for (line, session, rest) in [
            ("__Host-wechat_session=a", "a", Forwarded::Nothing),
            ("x=1; __Host-wechat_session=a", "a", Forwarded::Rest(HeaderValue::from_static("x=1"))),
            ("__Host-wechat_session=a; x=1; y", "a", Forwarded::Rest(HeaderValue::from_static("x=1; y"))),
            ("x=1; __Host-wechat_session=a; y=2", "a", Forwarded::Rest(HeaderValue::from_static("x=1; y=2"))),
        ] {
            assert_eq!(plain_line(line.as_bytes()), Some((Found::One(session), rest)), "{line}");
        }
        assert_eq!(plain_line(b"x=1; y=2"), Some((Found::None, Forwarded::Untouched)));
        for other in ["x=1;y=2", "x=1,2", "__Host-wechat_flow_1=a", "__Host-wechat_session =a", "x=1; ", ""] {
            assert_eq!(plain_line(other.as_bytes()), None, "{other}");
        }
    }

    /// A cookie that a sibling sub-domain can set does not count as ours.
    #[test]
    fn a_comma_inside_a_browsers_cookie_separates_nothing() {
        let planted = headers(&["lang=zh,__Host-wechat_session=evil"]);
        assert_eq!(find(&planted, SESSION), Found::None);
        assert_eq!(pairs(&planted).count(), 1);
        let beside = headers(&["lang=zh,__Host-wechat_session=evil; __Host-wechat_session=good"]);
        assert_eq!(find(&beside, SESSION), Found::One("good"));
        for (user_agent, separators) in [
            ("Mozilla/5.0 (iPhone) MicroMessenger/8.0", Separators::Semicolon),
            ("curl/8.5", Separators::SemicolonAndComma),
            ("", Separators::SemicolonAndComma),
        ] {
            let agent = HeaderMap::from_iter([(header::USER_AGENT, HeaderValue::from_str(user_agent).unwrap())]);
            assert_eq!(Separators::of(&agent), separators, "{user_agent}");
        }
    }

    #[test]
    fn two_values_under_one_name_are_a_conflict() {
        for lines in [
            &["__Host-wechat_session=a; __Host-wechat_session=b"][..],
            &["__Host-wechat_session=a", "__Host-wechat_session=b"],
            &["__Host-wechat_session=a,__Host-wechat_session="],
        ] {
            assert_eq!(
                find_among(&headers(lines), SESSION, Separators::SemicolonAndComma),
                Found::Conflict,
                "{lines:?}"
            );
        }
    }

    #[test]
    fn a_name_is_the_whole_name() {
        for line in [
            "__host-wechat_session=a",
            "__Host-wechat_sessio=a",
            "__Host-wechat_session2=a",
            "=__Host-wechat_session=a",
            "x__Host-wechat_session=a",
            "__Host-wechat_session",
            "__Host-wechat_session =a",
        ] {
            assert_eq!(find(&headers(&[line]), SESSION), Found::None, "{line}");
        }
    }

    #[test]
    fn the_application_sees_every_cookie_but_ours() {
        for (lines, rest) in [
            (&["x=1; __Host-wechat_session=a; y=2"][..], Forwarded::Rest(HeaderValue::from_static("x=1; y=2"))),
            (&["x=1", "__Host-wechat_session=a"], Forwarded::Rest(HeaderValue::from_static("x=1"))),
            (&["x=1,__Host-wechat_session=a,y=2"], Forwarded::Rest(HeaderValue::from_static("x=1,y=2"))),
            (&["x={a,b}; __Host-wechat_attempts=z"], Forwarded::Rest(HeaderValue::from_static("x={a,b}"))),
            (&["__Host-wechat_session=a; __Host-wechat_flow_0=b"], Forwarded::Nothing),
            (&["__Host-wechat_session"], Forwarded::Nothing),
            (&["x=1; y=2"], Forwarded::Untouched),
            (&[], Forwarded::Untouched),
        ] {
            assert_eq!(without_ours(&headers(lines)), rest, "{lines:?}");
        }
    }

    #[test]
    fn our_cookies_carry_every_attribute_when_set_and_when_cleared() {
        assert_eq!(
            set(SESSION, "v", "/", Duration::from_secs(60)),
            "__Host-wechat_session=v; HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=60"
        );
        assert_eq!(clear(SESSION, "/"), "__Host-wechat_session=; HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=0");
    }

    proptest! {
        #[test]
        fn one_look_finds_what_each_look_finds(
            words in prop::collection::vec("a=1|b|__Host-wechat_(session|flow_1|)|=|; |;|,| |x\u{e9}", 0..12),
        ) {
            let line = words.concat();
            let headers = HeaderMap::from_iter([(header::COOKIE, HeaderValue::from_bytes(line.as_bytes()).unwrap())]);
            if let Some((found, forwarded)) = plain_line(line.as_bytes()) {
                for separators in [Separators::Semicolon, Separators::SemicolonAndComma] {
                    prop_assert_eq!(find_among(&headers, SESSION, separators), found);
                }
                prop_assert_eq!(without_ours(&headers), forwarded);
            }
        }

        #[test]
        fn no_spelling_hides_our_cookie_from_the_removal(lines in prop::collection::vec("[ -~]{0,60}", 0..4), at in 0usize..4) {
            let mut lines = lines;
            lines.insert(at.min(lines.len()), format!("{SESSION}=secret"));
            let headers: HeaderMap = lines.iter().map(|line| (header::COOKIE, HeaderValue::from_str(line).unwrap())).collect();
            if let Forwarded::Rest(rest) = without_ours(&headers) {
                let again = HeaderMap::from_iter([(header::COOKIE, rest)]);
                prop_assert_eq!(find_among(&again, SESSION, Separators::SemicolonAndComma), Found::None);
            }
        }
    }
}
