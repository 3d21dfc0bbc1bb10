//! Paths: the path that a request asks for, and the other paths that a server could read it as.
//!
//! A rule that matches one form of a path while the application serves another is how gateways are bypassed
//! (oauth2-proxy CVE-2026-40575, Envoy CVE-2026-73511). [`NormalPath::parse`] decodes a path once and refuses what no
//! sound client sends. [`NormalPath::readings`] lists the paths that servers could make of the rest, so that the policy
//! requires the strictest of what it requires for any of them.

pub mod fold;
mod readings;

pub use readings::{MAX_READINGS, Readings};

use std::borrow::Cow;

/// A path that is percent-decoded once, without dot segments, starting with `/`. Bytes, because not every
/// percent-encoded text is UTF-8. Encoded slashes and backslashes stay encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NormalPath<'a> {
    text: Cow<'a, [u8]>,
    /// A union of the bits below.
    traits: u8,
}

/// Holds a letter that has another case, or could have.
const CASED: u8 = 1;
/// Holds a dot: its last segment may have an extension.
const DOTTED: u8 = 2;
/// A server could read it as another path for more than its case, its last slash or its extension.
const ODD: u8 = 4;
/// `%` and two hex digits remain after decoding.
const ENCODED: u8 = 8;
/// Cannot be taken as it stands: has to be decoded or examined.
const RAW: u8 = 16;

/// Why a path is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// Does not start with a slash: `*`, an authority, nothing.
    #[error("does not start with a slash")]
    NotAbsolute,
    /// `.` or `..` as a segment in any reading, also before path parameters.
    #[error("holds a dot segment")]
    DotSegment,
    /// A raw backslash or `#`, which browsers never send.
    #[error("holds a backslash or `#` that is not encoded")]
    NotEncoded,
    /// A percent sign without two hex digits.
    #[error("is not decodable")]
    NotDecodable,
    /// A control character, decoded once or more.
    #[error("holds a control character")]
    ControlCharacter,
    /// More readings than [`MAX_READINGS`], or more bytes in them than are worth a request.
    #[error("could be read in too many ways")]
    TooManyReadings,
}

/// What each byte says about the path that holds it.
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
    /// Reads the path part of a request target (no query).
    ///
    /// # Errors
    /// [`PathError`] for what is refused whatever the policy says.
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
        readings::check(&text)?;
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

    /// Whether a letter of it could be written in another case.
    pub fn is_cased(&self) -> bool {
        self.traits & CASED != 0
    }

    /// Whether it holds a dot.
    pub fn is_dotted(&self) -> bool {
        self.traits & DOTTED != 0
    }

    /// The paths that servers could read it as, this one first. Letter case and extensions are left to
    /// the policy, which knows the names that matter.
    ///
    /// # Errors
    /// [`PathError`] where a reading is refused, or there are too many.
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

/// Percent-decodes once, but for encoded slashes and backslashes. Borrows where there is nothing to decode.
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
