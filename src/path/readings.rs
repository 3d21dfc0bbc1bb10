//! The readings of a path.
//!
//! Each stage is something that some server does with a path before it finds the resource. A reading is the result of any
//! choice of stages, in this order: decode again, read overlong UTF-8, read backslashes as slashes, end at `?` or `#`,
//! drop parameters, drop blanks and dots at the end of names, merge slashes or read `//name` as an authority, drop the
//! last slash.

use super::PathError;
use std::borrow::Cow;

/// Readings of one path. Ordinary paths have one or two.
pub const MAX_READINGS: usize = 64;

/// Bytes of all readings of one path: several times the longest path that a gateway accepts.
const MAX_BYTES: usize = 256 * 1024;

/// How often a path may be percent-encoded, if that is allowed.
const MAX_DECODINGS: usize = 3;

/// The readings of one path, the path itself first.
#[derive(Debug)]
pub struct Readings<'p> {
    exact: &'p [u8],
    others: Vec<Cow<'p, [u8]>>,
}

impl<'p> Readings<'p> {
    pub(super) fn of(exact: &'p [u8], is_odd: bool, is_encoded: bool) -> Result<Self, PathError> {
        if !is_odd {
            let others = without_last_slash(exact).map(|path| vec![path.into()]).unwrap_or_default();
            return Ok(Self { exact, others });
        }
        let mut all = Collector { paths: vec![exact.to_vec()], bytes: exact.len() };
        if is_encoded {
            all.decode()?;
        }
        all.add(|path| overlong(path).map(|read| vec![decoded(&read), read]).unwrap_or_default())?;
        all.add(|path| replaced(path, b'\\', b'/').into_iter().collect())?;
        all.add(ends)?;
        all.add(|path| by_segment(path, |segment| split_at(segment, b';')))?;
        all.add(|path| by_segment(path, trimmed))?;
        all.add(merged)?;
        all.add(|path| without_last_slash(path).map(<[u8]>::to_vec).into_iter().collect())?;
        Ok(Self { exact, others: all.paths.into_iter().skip(1).map(Cow::Owned).collect() })
    }

    /// The path itself.
    pub fn exact(&self) -> &[u8] {
        self.exact
    }

    /// The other readings; most paths have none.
    pub fn others(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.others.iter().map(AsRef::as_ref)
    }
}

struct Collector {
    paths: Vec<Vec<u8>>,
    bytes: usize,
}

impl Collector {
    /// Adds the results of one stage for each path so far.
    fn add(&mut self, stage: impl Fn(&[u8]) -> Vec<Vec<u8>>) -> Result<(), PathError> {
        for number in 0..self.paths.len() {
            let results = self.paths.get(number).map(|path| stage(path)).unwrap_or_default();
            results.into_iter().try_for_each(|path| self.push(path))?;
        }
        Ok(())
    }

    fn push(&mut self, path: Vec<u8>) -> Result<(), PathError> {
        if self.paths.contains(&path) {
            return Ok(());
        }
        validate(&path)?;
        self.bytes += path.len();
        if self.paths.len() >= MAX_READINGS || self.bytes > MAX_BYTES {
            return Err(PathError::TooManyReadings);
        }
        self.paths.push(path);
        Ok(())
    }

    /// Decodes again until nothing is encoded.
    fn decode(&mut self) -> Result<(), PathError> {
        let mut path = self.paths.first().cloned().unwrap_or_default();
        for _ in 0..MAX_DECODINGS {
            path = decoded(&path);
            self.push(path.clone())?;
            if !is_encoded(&path) {
                return Ok(());
            }
        }
        Err(PathError::TooManyReadings)
    }
}

/// Refuses a reading that no policy may allow.
pub(super) fn validate(path: &[u8]) -> Result<(), PathError> {
    if path.iter().any(u8::is_ascii_control) {
        return Err(PathError::ControlCharacter);
    }
    let is_dots = |segment: &[u8]| {
        // Windows drops blanks at the end of a name.
        matches!(split_at(segment, b';').trim_ascii_end(), b"." | b"..")
    };
    // A server that ends the path at `?` or `#` sees the dots before it.
    if path.split(|byte| matches!(byte, b'/' | b'?' | b'#')).any(is_dots) {
        return Err(PathError::DotSegment);
    }
    Ok(())
}

/// The value of two hex digits, and the rest.
pub(super) fn hex(text: &[u8]) -> Option<(u8, &[u8])> {
    let (digits, after) = text.split_first_chunk::<2>()?;
    let [high, low] = digits.map(|digit| char::from(digit).to_digit(16));
    Some((u8::try_from(high? * 16 + low?).ok()?, after))
}

/// Whether a `%` with two hex digits remains.
pub(super) fn is_encoded(path: &[u8]) -> bool {
    path.iter().enumerate().any(|(at, byte)| *byte == b'%' && path.get(at + 1..).and_then(hex).is_some())
}

fn decoded(path: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((byte, after)) = rest.split_first() {
        let (value, after) = hex(after).filter(|_| *byte == b'%').unwrap_or((*byte, after));
        decoded.push(value);
        rest = after;
    }
    decoded
}

/// The path with overlong UTF-8 read as ASCII, as lenient decoders do. A NUL ends the path. Other control characters stay
/// unchanged: they are common second bytes of GBK.
fn overlong(path: &[u8]) -> Option<Vec<u8>> {
    let mut read = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((byte, after)) = rest.split_first() {
        match overlong_ascii(rest) {
            Some((0, _)) => return Some(read),
            Some((value, after)) if !value.is_ascii_control() => {
                read.push(value);
                rest = after;
            }
            _ => {
                read.push(*byte);
                rest = after;
            }
        }
    }
    (read != path).then_some(read)
}

/// The ASCII character of the overlong UTF-8 at the start of `text`, and the rest.
fn overlong_ascii(text: &[u8]) -> Option<(u8, &[u8])> {
    let (first, rest) = text.split_first()?;
    // The number of padding bytes between the first byte and the last two.
    let (padding, pair) = match first {
        0xc0 | 0xc1 => {
            let (last, after) = rest.split_first()?;
            return Some(((first & 1) << 6 | last & 0x3f, after));
        }
        0xe0 => (0, rest),
        0xf0 => (1, rest.get(1..)?),
        0xf8 => (2, rest.get(2..)?),
        0xfc => (3, rest.get(3..)?),
        _ => return None,
    };
    let ([high @ (0x80 | 0x81), last @ 0x80..=0xbf], after) = pair.split_first_chunk::<2>()? else { return None };
    let is_padded = rest.iter().take(padding).all(|byte| *byte == 0x80);
    is_padded.then_some(((high & 1) << 6 | last & 0x3f, after))
}

fn replaced(path: &[u8], from: u8, to: u8) -> Option<Vec<u8>> {
    path.contains(&from).then(|| path.iter().map(|byte| if *byte == from { to } else { *byte }).collect())
}

/// The path up to `?`, and up to `#`.
fn ends(path: &[u8]) -> Vec<Vec<u8>> {
    let end = |at| path.contains(&at).then(|| split_at(path, at).to_vec()).filter(|path| !path.is_empty());
    [end(b'?'), end(b'#')].into_iter().flatten().collect()
}

fn split_at(text: &[u8], at: u8) -> &[u8] {
    text.split(|byte| *byte == at).next().unwrap_or_default()
}

fn trimmed(segment: &[u8]) -> &[u8] {
    let end = segment.iter().rposition(|byte| !matches!(byte, b' ' | b'.')).map_or(0, |last| last + 1);
    segment.get(..end).unwrap_or_default()
}

fn by_segment(path: &[u8], change: impl Fn(&[u8]) -> &[u8]) -> Vec<Vec<u8>> {
    let changed = path.split(|byte| *byte == b'/').map(change).collect::<Vec<_>>().join(&b'/');
    if changed == path { Vec::new() } else { vec![changed] }
}

/// The path with merged slashes; if it starts with two, also without the name after them.
fn merged(path: &[u8]) -> Vec<Vec<u8>> {
    let mut paths = Vec::new();
    if !path.windows(2).any(|pair| pair == b"//") {
        return paths;
    }
    let mut merged = path.to_vec();
    merged.dedup_by(|after, before| *after == b'/' && *before == b'/');
    paths.push(merged);
    if let Some(authority) = path.strip_prefix(b"//") {
        let end = authority.iter().position(|byte| *byte == b'/').unwrap_or(authority.len());
        let rest = authority.get(end..).unwrap_or_default();
        paths.push(if rest.is_empty() { b"/".to_vec() } else { rest.to_vec() });
        let mut rest = rest.to_vec();
        rest.dedup_by(|after, before| *after == b'/' && *before == b'/');
        if !rest.is_empty() {
            paths.push(rest);
        }
    }
    paths
}

fn without_last_slash(path: &[u8]) -> Option<&[u8]> {
    path.strip_suffix(b"/").filter(|path| !path.is_empty())
}
