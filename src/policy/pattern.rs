//! The path of a rule.

use crate::path::NormalPath;
use crate::path::fold::fold;
use std::fmt;

/// How a rule matches a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathMatch {
    /// Any path.
    Any,
    /// This path and all below it, by whole segments.
    Prefix(String),
    /// Segment by segment.
    Pattern(Vec<Segment>),
}

/// One segment of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment {
    /// This text.
    Literal(String),
    /// `*`: any one segment that is not empty.
    One,
    /// `**`, last, or second last before a suffix: any number of segments.
    Rest,
    /// `*.js`, last only: a segment that ends in `.js` and does not begin there.
    Suffix(String),
}

/// A path and all below it, such as `/static`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathPrefix(pub PathMatch);

/// A path by segments, such as `/users/*/avatar`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathPattern(pub PathMatch);

impl std::str::FromStr for PathPrefix {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        PathMatch::prefix(text).map(Self)
    }
}

impl fmt::Display for PathPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::str::FromStr for PathPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        PathMatch::pattern(text).map(Self)
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The text is not a pattern or prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Not an absolute path.
    #[error("does not start with `/`; the host belongs in `host`")]
    NotAbsolute,
    /// A query or a fragment.
    #[error("contains a `?` or `#`: rules match the path only")]
    Query,
    /// Percent-encoding.
    #[error("contains a `%`; write the character itself")]
    Encoded,
    /// Dot segments, empty segments, parameters, control characters.
    #[error("contains a dot segment, `//`, `;`, a control character, or a name that ends with a dot or a space")]
    NotNormal,
    /// `{id}`, `:id`, `<id>`, `[0-9]+`, `(a|b)`, `.+`, `^` and `$`.
    #[error(
        "contains a variable or a regular expression; write path_pattern with `*` for one segment and `**` for the rest"
    )]
    NotLiteral,
    /// A star in a prefix.
    #[error("contains a `*`, which path_prefix reads literally; a prefix covers everything below it without a `*`")]
    StarInPrefix,
    /// A star that is not a whole segment.
    #[error(
        "contains a `*` that is neither a whole segment nor, in the last segment, followed by an extension, such as `*.js`"
    )]
    PartialStar,
    /// `**` in the middle.
    #[error("contains a `**` that is not last; only a last segment such as `*.js` may follow it")]
    RestNotLast,
}

impl PathMatch {
    /// A prefix such as `/static`; `/` is [`PathMatch::Any`].
    pub fn prefix(text: &str) -> Result<Self, PatternError> {
        validate(text)?;
        if text.contains('*') {
            return Err(PatternError::StarInPrefix);
        }
        let prefix = text.strip_suffix('/').unwrap_or(text);
        Ok(if prefix.is_empty() { Self::Any } else { Self::Prefix(prefix.to_owned()) })
    }

    /// A pattern such as `/users/*/avatar`, `/files/**`, `/*.js` or `/assets/**/*.js`.
    pub fn pattern(text: &str) -> Result<Self, PatternError> {
        validate(text)?;
        let mut segments = Vec::new();
        let mut texts = text.split('/').skip(1).peekable();
        while let Some(text) = texts.next() {
            let is_last = texts.peek().is_none();
            let segment = match text {
                "*" => Segment::One,
                "**" => Segment::Rest,
                literal if !literal.contains('*') => Segment::Literal(literal.to_owned()),
                glob => match glob.strip_prefix('*').filter(|suffix| is_last && is_extension(suffix)) {
                    Some(suffix) => Segment::Suffix(suffix.to_owned()),
                    None => return Err(PatternError::PartialStar),
                },
            };
            if segments.last() == Some(&Segment::Rest) && !matches!(segment, Segment::Suffix(_)) {
                return Err(PatternError::RestNotLast);
            }
            segments.push(segment);
        }
        Ok(Self::Pattern(segments))
    }

    /// The segments of the equivalent pattern.
    pub fn segments(&self) -> Vec<Segment> {
        match self {
            Self::Any => vec![Segment::Rest],
            Self::Prefix(prefix) => {
                let names = prefix.split('/').skip(1).map(|name| Segment::Literal(name.to_owned()));
                names.chain([Segment::Rest]).collect()
            }
            Self::Pattern(segments) => segments.clone(),
        }
    }

    /// Whether it matches each path that `other` matches.
    pub fn covers(&self, other: &Self) -> bool {
        covers(&self.segments(), &other.segments())
    }

    /// This path in folded case.
    pub fn folded(&self) -> Self {
        let fold = |text: &str| String::from_utf8_lossy(&fold(text.as_bytes())).into_owned();
        match self {
            Self::Any => Self::Any,
            Self::Prefix(prefix) => Self::Prefix(fold(prefix)),
            Self::Pattern(segments) => Self::Pattern(
                segments
                    .iter()
                    .map(|segment| match segment {
                        Segment::Literal(text) => Segment::Literal(fold(text)),
                        Segment::Suffix(text) => Segment::Suffix(fold(text)),
                        other => other.clone(),
                    })
                    .collect(),
            ),
        }
    }

    /// Whether it matches `path`. For many rules the policy uses its tree, which is faster.
    pub fn matches(&self, path: &[u8]) -> bool {
        matches_segments(&self.segments(), &path.split(|byte| *byte == b'/').skip(1).collect::<Vec<_>>())
    }
}

impl fmt::Display for PathMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("/"),
            Self::Prefix(prefix) => f.write_str(prefix),
            Self::Pattern(segments) => segments.iter().try_for_each(|segment| match segment {
                Segment::Literal(text) => write!(f, "/{text}"),
                Segment::One => f.write_str("/*"),
                Segment::Rest => f.write_str("/**"),
                Segment::Suffix(suffix) => write!(f, "/*{suffix}"),
            }),
        }
    }
}

fn covers(wide: &[Segment], narrow: &[Segment]) -> bool {
    use Segment::{Literal, One, Rest, Suffix};
    match (wide, narrow) {
        ([Rest], _) | ([], []) => true,
        ([Rest, Suffix(suffix)], narrow) => match narrow.last() {
            Some(Literal(text)) => ends_in(text.as_bytes(), suffix),
            Some(Suffix(other)) => other.ends_with(suffix.as_str()),
            _ => false,
        },
        ([Literal(one), wide @ ..], [Literal(other), narrow @ ..]) if one == other => covers(wide, narrow),
        ([One, wide @ ..], [Literal(text), narrow @ ..]) if !text.is_empty() => covers(wide, narrow),
        ([One, wide @ ..], [One | Suffix(_), narrow @ ..]) => covers(wide, narrow),
        ([Suffix(suffix)], [Literal(text)]) => ends_in(text.as_bytes(), suffix),
        ([Suffix(suffix)], [Suffix(other)]) => other.ends_with(suffix.as_str()),
        _ => false,
    }
}

fn matches_segments(pattern: &[Segment], path: &[&[u8]]) -> bool {
    match (pattern, path) {
        ([], []) | ([Segment::Rest], _) => true,
        ([Segment::Rest, Segment::Suffix(suffix)], [.., last]) => ends_in(last, suffix),
        ([Segment::Literal(text), pattern @ ..], [segment, path @ ..]) => {
            text.as_bytes() == *segment && matches_segments(pattern, path)
        }
        ([Segment::One, pattern @ ..], [segment, path @ ..]) => !segment.is_empty() && matches_segments(pattern, path),
        ([Segment::Suffix(suffix)], [segment]) => ends_in(segment, suffix),
        _ => false,
    }
}

/// Whether `segment` ends in `suffix` after at least one more byte.
pub(super) fn ends_in(segment: &[u8], suffix: &str) -> bool {
    segment.len() > suffix.len() && segment.ends_with(suffix.as_bytes())
}

/// `.js`, `.min.js`: letters, digits, `_` and `-` after dots.
fn is_extension(text: &str) -> bool {
    let is_word = |word: &str| {
        !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
    };
    text.strip_prefix('.').is_some_and(|words| words.split('.').all(is_word))
}

/// Refuses a text that no decoded path equals, or that probably means something else.
fn validate(text: &str) -> Result<(), PatternError> {
    if !text.starts_with('/') {
        return Err(PatternError::NotAbsolute);
    }
    if text.contains(['?', '#']) {
        return Err(PatternError::Query);
    }
    if text.contains('%') {
        return Err(PatternError::Encoded);
    }
    let is_variable = |segment: &str| {
        let name = segment.strip_prefix(':').unwrap_or_default();
        name.starts_with(|first: char| first.is_alphabetic() || first == '_')
    };
    let has_special = text.contains(['{', '}', '<', '>', '[', ']', '^', '|', '\\', '"', '`']) || text.contains(".+");
    if has_special || text.ends_with('$') || text.split('/').any(is_variable) {
        return Err(PatternError::NotLiteral);
    }
    let is_normal = NormalPath::parse(text).is_ok_and(|path| path.as_bytes() == text.as_bytes());
    // Windows drops blanks and dots at the end of a name, so such a rule would also match other paths there.
    let is_trimmed = text.split('/').all(|segment| !segment.ends_with(['.', ' ']));
    if is_normal && is_trimmed && !text.contains("//") && !text.contains(';') {
        Ok(())
    } else {
        Err(PatternError::NotNormal)
    }
}
