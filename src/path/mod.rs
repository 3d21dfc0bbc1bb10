//! The path of a request, and its readings: the paths that a server could understand it as.
//!
//! A gateway can be bypassed if a rule matches one form of a path and the application serves another (oauth2-proxy
//! CVE-2026-40575, Envoy CVE-2026-73511). [`NormalPath::parse`] decodes a path once and refuses what no valid client
//! sends. [`NormalPath::readings`] lists the readings of the result, so that the policy can apply the strictest requirement
//! of all of them.

pub mod fold;
mod readings;

pub use readings::{MAX_READINGS, Readings};

use std::borrow::Cow;

/// A path that is percent-decoded once, without dot segments, starting with `/`. Bytes, because not every
/// percent-encoded text is UTF-8. Encoded slashes and backslashes stay encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NormalPath<'a> {
    text: Cow<'a, [u8]>,
    /// The union of the bits below.
    traits: u8,
}

/// Contains a letter with another case, or a non-ASCII byte.
const CASED: u8 = 1;
/// Contains a dot: the last segment may have an extension.
const DOTTED: u8 = 2;
/// Has readings that differ in more than letter case, last slash and extension.
const ODD: u8 = 4;
/// Contains `%` and two hex digits after decoding.
const ENCODED: u8 = 8;
/// Has to be decoded or examined.
const RAW: u8 = 16;

/// The path is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// It does not start with a slash: `*`, an authority, or empty.
    #[error("does not start with a slash")]
    NotAbsolute,
    /// A reading has the segment `.` or `..`, also before path parameters.
    #[error("contains a dot segment")]
    DotSegment,
    /// It contains a raw backslash or `#`, which browsers never send.
    #[error("contains a backslash or `#` that is not encoded")]
    NotEncoded,
    /// It contains a percent sign without two hex digits.
    #[error("contains an invalid percent-encoding")]
    NotDecodable,
    /// It contains a control character, after decoding once or more.
    #[error("contains a control character")]
    ControlCharacter,
    /// It has more readings than [`MAX_READINGS`], or they have too many bytes.
    #[error("has too many readings")]
    TooManyReadings,
}

/// The traits of a path that contains a byte.
static CLASSES: [u8; 256] = classes();

#[allow(clippy::indexing_slicing, clippy::cast_possible_truncation)] // In a constant: an error is a compile error.
const fn classes() -> [u8; 256] {
    let mut classes = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        classes[byte] = match byte as u8 {
            b'A'..=b'Z' => CASED,
            b'.' => DOTTED,
            b';' => ODD,
            b'%' | b'\\' | b'#' | b'?' | 0..=0x1f | 0x7f => RAW | ODD,
            b' ' => ODD,
            // The first bytes of overlong UTF-8.
            0xc0 | 0xc1 | 0xe0 | 0xf0 | 0xf8 | 0xfc => CASED | ODD,
            0x80..=0xff => CASED,
            _ => 0,
        };
        byte += 1;
    }
    classes
}

/// The traits of a text. A dot beside a slash and a slash beside a slash are odd.
fn traits(text: &[u8]) -> u8 {
    let (mut traits, mut before) = (0, 0);
    for byte in text {
        #[allow(clippy::indexing_slicing)] // A byte is below 256.
        {
            traits |= CLASSES[usize::from(*byte)];
        }
        if matches!((before, byte), (b'/', b'/' | b'.') | (b'.', b'/')) {
            traits |= ODD | RAW;
        }
        before = *byte;
    }
    if before == b'.' { traits | ODD } else { traits }
}

impl<'a> NormalPath<'a> {
    /// Parses the path of a request target, without the query. Refuses what no policy may allow.
    pub fn parse(raw: &'a str) -> Result<Self, PathError> {
        if !raw.starts_with('/') {
            return Err(PathError::NotAbsolute);
        }
        let traits = traits(raw.as_bytes());
        if traits & RAW == 0 { Ok(Self { text: raw.as_bytes().into(), traits }) } else { Self::parse_slowly(raw) }
    }

    fn parse_slowly(raw: &'a str) -> Result<Self, PathError> {
        if raw.bytes().any(|byte| matches!(byte, b'\\' | b'#')) {
            return Err(PathError::NotEncoded);
        }
        let text = decode_once(raw.as_bytes())?;
        readings::validate(&text)?;
        let encoded = if readings::is_encoded(&text) { ENCODED } else { 0 };
        let traits = traits(&text) & !RAW | encoded;
        Ok(Self { text, traits })
    }

    /// The whole path, decoded once.
    pub fn as_bytes(&self) -> &[u8] {
        &self.text
    }

    /// Whether `%2F`, `%5C` or another `%` with two hex digits remains after decoding once: servers differ in whether
    /// they decode it.
    pub fn has_encoded_slashes(&self) -> bool {
        self.traits & ENCODED != 0
    }

    /// Whether it contains a letter that has another case.
    pub fn is_cased(&self) -> bool {
        self.traits & CASED != 0
    }

    /// Whether it contains a dot.
    pub fn is_dotted(&self) -> bool {
        self.traits & DOTTED != 0
    }

    /// The readings of this path, itself first. The policy, which knows the names in rules, adds those that differ in letter
    /// case or extension. Fails if a reading is refused, or if there are too many.
    pub fn readings(&self) -> Result<Readings<'_>, PathError> {
        Readings::of(&self.text, self.traits & ODD != 0, self.has_encoded_slashes())
    }

    /// Whether this is `prefix` itself or lies below it, by whole segments.
    pub fn is_under(&self, prefix: &str) -> bool {
        is_under(&self.text, prefix.as_bytes())
    }
}

/// Whether `path` is `prefix` itself or lies below it, by whole segments.
pub fn is_under(path: &[u8], prefix: &[u8]) -> bool {
    let prefix = prefix.strip_suffix(b"/").unwrap_or(prefix);
    path.strip_prefix(prefix).is_some_and(|rest| matches!(rest.first(), None | Some(b'/')))
}

/// Percent-decodes once, except encoded slashes and backslashes. Borrows if nothing is encoded.
fn decode_once(raw: &[u8]) -> Result<Cow<'_, [u8]>, PathError> {
    if !raw.contains(&b'%') {
        return Ok(raw.into());
    }
    let mut decoded = Vec::with_capacity(raw.len());
    let mut rest = raw;
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte != b'%' {
            decoded.push(*byte);
            continue;
        }
        let (value, after) = readings::hex(rest).ok_or(PathError::NotDecodable)?;
        match value {
            b'/' => decoded.extend_from_slice(b"%2F"),
            b'\\' => decoded.extend_from_slice(b"%5C"),
            _ => decoded.push(value),
        }
        rest = after;
    }
    Ok(decoded.into())
}

#[cfg(test)]
mod tests;
