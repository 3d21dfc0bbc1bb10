//! Diagnostics of the configuration: what is wrong, where, and what to write instead.
//!
//! An error names its setting and its line and never quotes the line: a secret in the wrong place must not reach a
//! terminal, a CI log or a screenshot. A value is quoted only if it cannot be a secret (see [`shown`]).

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// The errors that are printed at most. A file with more is probably the wrong one.
const MAX_PRINTED: usize = 100;
/// The longest value that is quoted.
const MAX_QUOTED: usize = 64;
/// A run of this many characters without a break may be a key or a token: an AppSecret has 32.
const SECRET_LIKE: usize = 20;

/// Where a setting was written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// The whole file, without a line.
    File(Arc<str>),
    /// A line and column of the file, counted from 1.
    Line {
        /// The file as the user named it.
        file: Arc<str>,
        /// The line.
        line: usize,
        /// The column, in characters.
        column: usize,
    },
    /// An environment variable, by its name.
    Variable(Arc<str>),
    /// A file that holds a secret, if it could be opened.
    SecretFile(PathBuf),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(file) => write!(f, "{}", Visible(file)),
            Self::Line { file, line, .. } => write!(f, "{}:{line}", Visible(file)),
            Self::Variable(name) => write!(f, "{}", Visible(name)),
            Self::SecretFile(path) => write!(f, "{}", Visible(&path.to_string_lossy())),
        }
    }
}

/// One error or warning. `found` and `wanted` are phrases that are joined by a semicolon: "found `5x`, which has an unknown
/// unit; write a duration such as 5s".
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Diagnostic {
    /// Where it was written.
    pub place: Place,
    /// The path of the setting, such as `apps[0].origin`; empty for the whole file.
    pub path: String,
    /// What was found.
    pub found: String,
    /// What to write instead.
    pub wanted: String,
    /// What was probably meant, as a question or a tip.
    pub hint: Option<String>,
}

impl Diagnostic {
    /// An error that should not be possible.
    pub(super) fn internal(file: &Arc<str>) -> Self {
        Self::new(Place::File(file.clone()), "", "found something unforeseen", "please report this as a bug")
    }

    /// An error without a hint.
    pub fn new(place: Place, path: impl Into<String>, found: impl Into<String>, wanted: impl Into<String>) -> Self {
        Self { place, path: path.into(), found: found.into(), wanted: wanted.into(), hint: None }
    }

    /// The same with a hint.
    pub fn with_hint(mut self, hint: Option<String>) -> Self {
        self.hint = hint;
        self
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.place)?;
        if !self.path.is_empty() {
            write!(f, "{}: ", Visible(&self.path))?;
        }
        write!(f, "{}; {}", self.found, self.wanted)?;
        self.hint.as_ref().map_or(Ok(()), |hint| write!(f, " ({hint})"))
    }
}

/// The errors of one configuration, at least one, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostics(Vec<Diagnostic>);

impl Diagnostics {
    /// The errors in the order of the file; `None` if there are none.
    pub fn of(mut errors: Vec<Diagnostic>) -> Option<Self> {
        errors.sort();
        errors.dedup();
        (!errors.is_empty()).then_some(Self(errors))
    }

    /// The errors in the order of the file.
    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.0.iter()
    }
}

impl From<Diagnostic> for Diagnostics {
    fn from(error: Diagnostic) -> Self {
        Self(vec![error])
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, error) in self.0.iter().take(MAX_PRINTED).enumerate() {
            if n > 0 {
                f.write_str("\n")?;
            }
            error.fmt(f)?;
        }
        match self.0.len().saturating_sub(MAX_PRINTED) {
            0 => Ok(()),
            more => write!(f, "\n… and {more} more"),
        }
    }
}

impl std::error::Error for Diagnostics {}

/// A value as an error may show it: in backticks, or only its length if it may be a secret.
pub(crate) fn shown(text: &str) -> String {
    if can_be_quoted(text) {
        return format!("`{text}`");
    }
    match text.chars().count() {
        0 => "an empty text".to_owned(),
        1 => "a text of 1 character (not shown)".to_owned(),
        length => format!("a text of {length} characters (not shown)"),
    }
}

/// Whether a text is too short and plain to be a secret, a URL with a password or a query, or an attack on the
/// terminal.
pub(crate) fn can_be_quoted(text: &str) -> bool {
    let longest_run = text
        .split(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '+' | '=')))
        .map(str::len)
        .max()
        .unwrap_or_default();
    let plain = text.chars().all(|c| !is_invisible(c) && !matches!(c, '`' | '@' | '?'));
    !text.is_empty() && plain && longest_run < SECRET_LIKE && text.chars().count() <= MAX_QUOTED
}

/// Control characters, and characters that reorder or hide their neighbours.
fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// A name, with invisible characters replaced.
pub(super) struct Visible<'a>(pub &'a str);

impl fmt::Display for Visible<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| write!(f, "{}", if is_invisible(c) { '\u{fffd}' } else { c }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_be_a_secret_is_described_by_its_length() {
        for text in [
            "0123456789abcdef0123456789abcdef",
            "https://user:hunter2@example.com",
            "correct-horse-battery-staple",
            "dGhpcyBpcyBhIHRva2VuIQ==",
            "https://example.com/?code=abc",
            "line\nline",
            "\u{202e}txet",
            "a b c d e f g h i j k l m n o p q r s t u v w x y z a b c d e f g h i j",
        ] {
            assert!(!shown(text).contains(text), "{text}");
            assert!(shown(text).ends_with("characters (not shown)"), "{text}");
        }
        for text in ["15", "http://shop.example.com/a", "wx0123456789abcdef", "中文"] {
            assert_eq!(shown(text), format!("`{text}`"));
        }
    }

    #[test]
    fn errors_stand_in_the_order_of_the_file_and_once_each() {
        let at = |line| Place::Line { file: "c.yaml".into(), line, column: 1 };
        let error = |place| Diagnostic::new(place, "a.b", "unknown key", "leave it out");
        let errors = Diagnostics::of(vec![
            error(Place::Variable("X".into())),
            error(at(10)),
            error(at(9)).with_hint(Some("is this the right file?".to_owned())),
            error(at(10)),
        ]);
        assert_eq!(
            errors.unwrap().to_string(),
            "c.yaml:9: a.b: unknown key; leave it out (is this the right file?)\n\
             c.yaml:10: a.b: unknown key; leave it out\n\
             X: a.b: unknown key; leave it out"
        );
        assert_eq!(Diagnostics::of(vec![]), None);
    }

    /// An unknown key is named as it was written, and a quoted one can hold anything.
    #[test]
    fn no_key_steers_the_terminal() {
        let line = Place::Line { file: "c\u{1b}.yaml".into(), line: 1, column: 1 };
        let text = Diagnostic::new(line, "apps[0].\u{1b}[31m\t\u{202e}x", "unknown key", "leave it out").to_string();
        assert_eq!(text, "c\u{fffd}.yaml:1: apps[0].\u{fffd}[31m\u{fffd}\u{fffd}x: unknown key; leave it out");
    }

    #[test]
    fn a_flood_of_errors_is_cut() {
        let error = |line| Diagnostic::new(Place::Line { file: "c".into(), line, column: 1 }, "", "a", "b");
        let text = Diagnostics::of((0..150).map(error).collect()).unwrap().to_string();
        assert_eq!(text.lines().count(), 101);
        assert!(text.ends_with("… and 50 more"));
    }
}
