//! Paths: one reading of a request's path, or none.
//!
//! A rule that matches one form of a path while the application serves another is how gateways are walked
//! around (oauth2-proxy CVE-2026-40575, Envoy CVE-2026-73511). So what a server behind us might read in two ways is
//! refused, never guessed (contract §1.6, §7.9). A normalising gateway leaves nothing here to refuse.

use std::borrow::Cow;

/// A path that has one meaning: percent-decoded once, no dot segments, no empty segments, starting with `/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NormalPath<'a> {
    text: Cow<'a, str>,
}

/// Why a path has no single meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathFault {
    /// Does not start with a slash: `*`, an authority, nothing.
    #[error("does not start with a slash")]
    NotAbsolute,
    /// `.` or `..` as a segment, however written, also before path parameters.
    #[error("holds a dot segment")]
    DotSegment,
    /// `//`: merged by some servers, kept by others.
    #[error("holds an empty segment")]
    EmptySegment,
    /// An encoded slash, backslash or NUL, or a raw backslash.
    #[error("holds an encoded or reversed slash")]
    EncodedSlash,
    /// Still encoded after decoding once, in a way that matters.
    #[error("is encoded twice")]
    EncodedTwice,
    /// A percent sign without two hex digits, or bytes that are not UTF-8.
    #[error("is not decodable")]
    NotDecodable,
    /// A control character, or a decoded `?` or `#`.
    #[error("holds a control character, or an encoded end of the path")]
    ControlCharacter,
}

impl<'a> NormalPath<'a> {
    /// Reads the path part of a request target (no query).
    ///
    /// # Errors
    /// [`PathFault`] where two servers could read it differently.
    pub fn parse(raw: &'a str) -> Result<Self, PathFault> {
        if is_plain(raw) { Ok(Self { text: raw.into() }) } else { Self::parse_slowly(raw) }
    }

    /// What holds for every path; [`is_plain`] only knows some for which it needs no second look.
    fn parse_slowly(raw: &'a str) -> Result<Self, PathFault> {
        if !raw.starts_with('/') {
            return Err(PathFault::NotAbsolute);
        }
        let text = decode(raw)?;
        for byte in text.bytes() {
            match byte {
                b'\\' => return Err(PathFault::EncodedSlash),
                // A decoded `?` or `#` would end the path for a server that decodes before it parses.
                0..=0x1f | 0x7f | b'#' | b'?' => return Err(PathFault::ControlCharacter),
                _ => {}
            }
        }
        if text.contains('%') && still_encoded(text.as_bytes()) {
            return Err(PathFault::EncodedTwice);
        }
        let mut segments = text.split('/').skip(1).peekable();
        while let Some(segment) = segments.next() {
            let name = segment.split(';').next().unwrap_or_default();
            if matches!(name, "." | "..") {
                return Err(PathFault::DotSegment);
            }
            // A name that is all parameters (`/;x/a`) is an empty segment to a server that drops them.
            if name.is_empty() && (segments.peek().is_some() || !segment.is_empty()) {
                return Err(PathFault::EmptySegment);
            }
        }
        Ok(Self { text })
    }

    /// The whole path, decoded.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The path as a server reads it that drops `;parameters` from each segment; none where that is the same path.
    #[must_use]
    pub fn without_parameters(&self) -> Option<NormalPath<'static>> {
        if !self.text.contains(';') {
            return None;
        }
        let kept: Vec<&str> =
            self.text.split('/').map(|segment| segment.split(';').next().unwrap_or_default()).collect();
        Some(NormalPath { text: kept.join("/").into() })
    }

    /// Whether this is `prefix` itself or lies below it, by whole segments.
    #[must_use]
    pub fn is_under(&self, prefix: &str) -> bool {
        let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
        self.text.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

/// Whether a path has one meaning at first sight, as nearly all have: nothing to decode, no parameters, and no segment
/// that is empty or starts with a dot.
fn is_plain(raw: &str) -> bool {
    let mut before = 0;
    raw.starts_with('/')
        && raw.bytes().all(|byte| {
            let after_slash = std::mem::replace(&mut before, byte) == b'/';
            match byte {
                b'/' | b'.' => !after_slash,
                b'%' | b';' | b'\\' | b'#' | b'?' | 0..=0x1f | 0x7f => false,
                _ => true,
            }
        })
}

/// Percent-decodes once; borrows where there is nothing to decode.
fn decode(raw: &str) -> Result<Cow<'_, str>, PathFault> {
    if !raw.contains('%') {
        return Ok(raw.into());
    }
    let mut decoded = Vec::with_capacity(raw.len());
    let mut bytes = raw.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
        let (Some(high), Some(low)) = (digit(bytes.next()), digit(bytes.next())) else {
            return Err(PathFault::NotDecodable);
        };
        let value = u8::try_from(high * 16 + low).unwrap_or_default();
        if matches!(value, b'/' | b'\\' | 0) {
            return Err(PathFault::EncodedSlash);
        }
        decoded.push(value);
    }
    String::from_utf8(decoded).map(Cow::Owned).map_err(|_| PathFault::NotDecodable)
}

/// Whether a second decoding would bring out a dot, a slash, a percent sign or a control character.
fn still_encoded(text: &[u8]) -> bool {
    text.windows(3).any(|window| match window {
        [b'%', high, low] => {
            let digit = |byte: &u8| char::from(*byte).to_digit(16);
            match (digit(high), digit(low)) {
                (Some(high), Some(low)) => {
                    matches!(high * 16 + low, 0..=0x1f | 0x23 | 0x25 | 0x2e | 0x2f | 0x3b | 0x3f | 0x5c | 0x7f)
                }
                _ => false,
            }
        }
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_plain_path_is_itself() {
        for path in ["/", "/a", "/a/", "/a/b.html", "/a..b/...", "/中文", "/a;p=1/b", "/~x/-_.!$&'()*+,=:@"] {
            assert_eq!(NormalPath::parse(path).unwrap().as_str(), path);
        }
    }

    #[test]
    fn encodings_of_ordinary_characters_are_undone_once() {
        for (raw, reads) in [
            ("/%61dmin", "/admin"),
            ("/%E4%B8%AD", "/中"),
            ("/a%20b", "/a b"),
            ("/100%25", "/100%"),
            ("/%2541", "/%41"),
        ] {
            assert_eq!(NormalPath::parse(raw).unwrap().as_str(), reads);
        }
    }

    /// The paths of contract §1.6, as a gateway that normalises nothing would pass them.
    #[test]
    fn what_two_servers_read_differently_is_refused() {
        use PathFault::*;
        for (raw, fault) in [
            ("/public/../admin", DotSegment),
            ("/public/%2e%2e/admin", DotSegment),
            ("/public/.%2E/admin", DotSegment),
            ("/public/./admin", DotSegment),
            ("/public/..", DotSegment),
            ("/public/..;/admin", DotSegment),
            ("/public/..;a=b/admin", DotSegment),
            ("/public/..\\admin", EncodedSlash),
            ("/public/..%2fadmin", EncodedSlash),
            ("/public%2F..%2Fadmin", EncodedSlash),
            ("/a%5Cb", EncodedSlash),
            ("/a\\b", EncodedSlash),
            ("/a%00b", EncodedSlash),
            ("/public/%252e%252e/admin", EncodedTwice),
            ("/a%252fb", EncodedTwice),
            ("/a%25252fb", EncodedTwice),
            ("//admin", EmptySegment),
            ("/a//b", EmptySegment),
            ("/;x/admin", EmptySegment),
            ("/a%0d%0ab", ControlCharacter),
            ("/a%7f", ControlCharacter),
            ("/a%23b", ControlCharacter),
            ("/admin%3fx", ControlCharacter),
            ("/admin%253fx", EncodedTwice),
            ("/a#b", ControlCharacter),
            ("/a%zz", NotDecodable),
            ("/a%", NotDecodable),
            ("/a%4", NotDecodable),
            ("/%c0%af", NotDecodable),
            ("/%ff", NotDecodable),
            ("*", NotAbsolute),
            ("", NotAbsolute),
            ("example.com:443", NotAbsolute),
        ] {
            assert_eq!(NormalPath::parse(raw), Err(fault), "{raw}");
        }
    }

    #[test]
    fn a_prefix_ends_at_a_segment() {
        for (path, prefix, under) in [
            ("/public", "/public", true),
            ("/public/", "/public", true),
            ("/public/a", "/public/", true),
            ("/publicadmin", "/public", false),
            ("/public;x", "/public", false),
            ("/Public", "/public", false),
            ("/", "/public", false),
            ("/anything", "/", true),
        ] {
            assert_eq!(NormalPath::parse(path).unwrap().is_under(prefix), under, "{path} under {prefix}");
        }
    }

    #[test]
    fn the_reading_without_parameters_is_known() {
        let path = NormalPath::parse("/admin;v=1/users;x").unwrap();
        assert_eq!(path.without_parameters().unwrap().as_str(), "/admin/users");
        assert_eq!(NormalPath::parse("/admin").unwrap().without_parameters(), None);
    }

    proptest! {
        #[test]
        fn what_is_accepted_has_no_dot_or_empty_segment_and_reads_the_same_again(raw in "/[a-z./%0-9;\\\\A-F]{0,40}") {
            if let Ok(path) = NormalPath::parse(&raw) {
                let text = path.as_str();
                prop_assert!(!text.split('/').any(|segment| segment == ".." || segment == "."));
                prop_assert!(!text.contains("//") && !text.contains('\\'));
                if !text.contains('%') {
                    let again = NormalPath::parse(text).unwrap();
                    prop_assert_eq!(again.as_str(), text);
                }
            }
        }

        #[test]
        fn a_path_that_is_plain_at_first_sight_is_plain(raw in "/[a-z./%0-9;\\\\?\u{7f} ]{0,12}") {
            prop_assert_eq!(NormalPath::parse(&raw), NormalPath::parse_slowly(&raw));
        }

        #[test]
        fn no_bytes_make_it_panic(raw in "\\PC{0,80}") {
            let _ = NormalPath::parse(&raw);
        }
    }
}
