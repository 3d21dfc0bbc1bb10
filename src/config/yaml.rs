//! Parses YAML text into a tree in which every value has its line.
//!
//! A configuration needs mappings, lists and single values. Anchors, aliases, tags, merge keys and several documents
//! are rejected, because they make the meaning of a line depend on another line. Plain values have the types of YAML
//! 1.2's core schema: `no` and `on` are texts. The size, the depth and the number of values are limited.

use super::diagnostic::{Diagnostic, Place};
use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError};
use std::sync::Arc;

/// The maximum size of a file: a thousand times the usual size.
pub(crate) const MAX_BYTES: usize = 1 << 20;
/// The maximum number of values, enough for ten thousand policy rules.
const MAX_NODES: usize = 100_000;
/// The maximum number of errors that do not stop the parser. For each error, all settings are searched afterwards.
const MAX_DIAGNOSTICS: usize = 100;
/// The maximum depth; the settings need six levels.
const MAX_DEPTH: usize = 16;

/// A value and its place.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node {
    /// The line of the value, or of its key if the value takes several lines.
    pub place: Place,
    /// The value.
    pub value: Value,
}

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    /// A single value.
    Scalar(Scalar),
    /// A list.
    List(Vec<Node>),
    /// A mapping, in the order of the file; a key may occur twice.
    Table(Vec<Entry>),
    /// A rejected value, whose error was reported.
    Refused,
}

/// A single value: its text and its type.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Scalar {
    /// The text as written, without quotes.
    pub text: String,
    /// Its type.
    pub reading: Reading,
}

/// The type of a single value in the core schema.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Reading {
    /// Nothing, `null` or `~`.
    Null,
    /// `true` or `false`.
    Boolean(bool),
    /// A whole number.
    Integer(i64),
    /// Any other number.
    Decimal,
    /// Text without quotes.
    Plain,
    /// Text in quotes or as a block.
    Quoted,
}

/// One key of a mapping.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    /// The key.
    pub key: String,
    /// The place of the key.
    pub place: Place,
    /// Its value.
    pub node: Node,
}

/// Parses one document. Returns a tree despite errors, unless the text is not YAML.
pub(crate) fn parse(bytes: &[u8], file: &Arc<str>) -> (Option<Node>, Vec<Diagnostic>) {
    let text = match plain_text(bytes, file) {
        Ok(text) => text,
        Err(error) => return (None, vec![*error]),
    };
    let mut builder = Builder { file, open: Vec::new(), root: None, nodes: 0, errors: Vec::new() };
    let mut parser = Parser::new_from_str(text);
    let mut documents = 0;
    while let Some(event) = parser.next_event() {
        let outcome = match event {
            Ok((Event::DocumentStart(_), span)) => {
                documents += 1;
                let second = builder.error(span.start, "found a second document", "write one document, without `---`");
                if documents > 1 { Err(second.into()) } else { Ok(()) }
            }
            Ok((event, span)) => builder.handle(event, span.start),
            Err(error) => Err(builder.syntax_error(&error, text).into()),
        };
        if let Err(error) = outcome {
            builder.errors.push(*error);
            return (None, builder.errors);
        }
    }
    let empty = || Node { place: place(file, 1, 0), value: Value::Table(Vec::new()) };
    let root = builder.root.unwrap_or_else(empty);
    // The file contains only comments or `---`.
    let nothing = matches!(&root.value, Value::Scalar(Scalar { reading: Reading::Null, .. }));
    (Some(if nothing { empty() } else { root }), builder.errors)
}

/// The type of a plain value in the core schema.
pub(crate) fn read_plain(text: &str) -> Reading {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Reading::Null,
        "true" | "True" | "TRUE" => return Reading::Boolean(true),
        "false" | "False" | "FALSE" => return Reading::Boolean(false),
        _ => {}
    }
    let digits = |text: &str, radix| !text.is_empty() && text.chars().all(|c| c.is_digit(radix));
    for (prefix, radix) in [("0x", 16), ("0o", 8)] {
        if let Some(rest) = text.strip_prefix(prefix).filter(|rest| digits(rest, radix)) {
            return i64::from_str_radix(rest, radix).map_or(Reading::Decimal, Reading::Integer);
        }
    }
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits(unsigned, 10) {
        return text.parse().map_or(Reading::Decimal, Reading::Integer);
    }
    let named = matches!(unsigned, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN");
    let numeric = unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && unsigned.bytes().all(|byte| byte.is_ascii_digit() || b".eE+-".contains(&byte))
        && unsigned.parse::<f64>().is_ok();
    if named || numeric { Reading::Decimal } else { Reading::Plain }
}

/// Accepts UTF-8 without control characters. At a NUL, the parser would stop without an error.
fn plain_text<'a>(bytes: &'a [u8], file: &Arc<str>) -> Result<&'a str, Box<Diagnostic>> {
    let line_of = |position: usize| {
        let before = bytes.get(..position).unwrap_or_default();
        place(file, before.iter().filter(|byte| **byte == b'\n').count() + 1, 0)
    };
    if bytes.len() > MAX_BYTES {
        let found = "found more than 1 MiB";
        return Err(Diagnostic::new(
            Place::File(file.clone()),
            "",
            found,
            "write a smaller file; is it the right one?",
        )
        .into());
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        Diagnostic::new(line_of(error.valid_up_to()), "", "found bytes that are not UTF-8", "save the file as UTF-8")
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let forbidden = |(_, c): &(usize, char)| {
        (c.is_control() && !matches!(c, '\t' | '\n' | '\r')) || matches!(c, '\u{feff}' | '\u{fffe}' | '\u{ffff}')
    };
    match text.char_indices().find(forbidden) {
        Some((position, _)) => {
            let found = "found a control character";
            Err(Diagnostic::new(line_of(position), "", found, "remove it; most editors can show invisible characters")
                .into())
        }
        None => Ok(text),
    }
}

fn place(file: &Arc<str>, line: usize, column: usize) -> Place {
    Place::Line { file: file.clone(), line: line.max(1), column: column + 1 }
}

/// The error for a full-width colon, which Chinese input methods insert.
pub(super) const FULL_WIDTH: (&str, &str) =
    ("found a full-width colon (`：`)", "write `key: value` with an ASCII colon and a space after it");

/// The line (from 1) and the column (from 0) of a full-width colon right after a key.
fn full_width_after_key((number, line): (usize, &str)) -> Option<(usize, usize)> {
    let (before, _) = line.split_once('：')?;
    // Take the last item before the colon: a flow mapping or a list may start on the same line.
    let key = before.rsplit(['{', ',', '-', '"', '\'']).next().unwrap_or_default().trim();
    let is_key = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    (is_key && !before.contains('#')).then(|| (number + 1, before.chars().count()))
}

/// A list or mapping whose end is not parsed yet.
enum Open {
    List { place: Place, items: Vec<Node> },
    Table { place: Place, entries: Vec<Entry>, key: Option<Key> },
}

impl Open {
    fn line(&self) -> usize {
        match self {
            Self::List { place: Place::Line { line, .. }, .. }
            | Self::Table { place: Place::Line { line, .. }, .. } => *line,
            _ => 1,
        }
    }
}

/// A key whose value is not parsed yet.
struct Key {
    text: Option<String>,
    place: Place,
}

struct Builder<'a> {
    file: &'a Arc<str>,
    open: Vec<Open>,
    root: Option<Node>,
    nodes: usize,
    errors: Vec<Diagnostic>,
}

impl Builder<'_> {
    fn error(&self, at: Marker, found: &str, wanted: &str) -> Diagnostic {
        Diagnostic::new(place(self.file, at.line(), at.col()), "", found, wanted)
    }

    /// Handles one event. An `Err` stops the parser.
    fn handle(&mut self, event: Event<'_>, at: Marker) -> Result<(), Box<Diagnostic>> {
        let here = place(self.file, at.line(), at.col());
        match event {
            Event::Alias(_) => {
                let error = self.error(at, "found an alias (`*`)", "write the value itself");
                self.report(error);
                self.add(Node { place: here, value: Value::Refused })
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.refuse_marks(anchor, tag.is_some(), &here);
                let reading = if style == ScalarStyle::Plain { read_plain(&text) } else { Reading::Quoted };
                self.add(Node { place: here, value: Value::Scalar(Scalar { text: text.into_owned(), reading }) })
            }
            Event::SequenceStart(anchor, tag) => {
                let here = self.place_by_key(&here);
                self.refuse_marks(anchor, tag.is_some(), &here);
                self.push(Open::List { place: here, items: Vec::new() }, at)
            }
            Event::MappingStart(anchor, tag) => {
                let here = self.place_by_key(&here);
                self.refuse_marks(anchor, tag.is_some(), &here);
                self.push(Open::Table { place: here, entries: Vec::new(), key: None }, at)
            }
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(Open::List { place, items }) => self.add(Node { place, value: Value::List(items) }),
                Some(Open::Table { place, entries, .. }) => self.add(Node { place, value: Value::Table(entries) }),
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// Describes the error, if possible more clearly than the parser, whose messages quote at most one character of the
    /// text.
    fn syntax_error(&self, error: &ScanError, text: &str) -> Diagnostic {
        let info = error.info();
        // The parser reads a key with a full-width colon as a text, and reports an error some lines below.
        let lines_read = text.lines().take(error.marker().line());
        if let Some((line, column)) = lines_read.enumerate().filter_map(full_width_after_key).last() {
            return Diagnostic::new(place(self.file, line, column), "", FULL_WIDTH.0, FULL_WIDTH.1);
        }
        let (found, wanted) = if info.contains("tab") {
            ("found a tab".to_owned(), "indent with spaces".to_owned())
        } else if info.contains("unknown anchor") || info.contains("anchor or alias") {
            (
                "found an alias (`*`) or anchor (`&`)".to_owned(),
                "write the value itself, in quotes where it starts with `*`".to_owned(),
            )
        } else if info.contains("mapping values are not allowed") {
            ("found a `:` where none can be".to_owned(), "check the indentation, or put the value in quotes".to_owned())
        } else if info.contains("end of stream") || info.contains("unexpected eof") {
            ("found the end of the file too early".to_owned(), "close the bracket or quote that is open".to_owned())
        } else if info.contains("recursion limit") {
            ("found too many levels".to_owned(), format!("nest at most {MAX_DEPTH} levels"))
        } else if info.contains("flow mapping") || info.contains("flow sequence") {
            let line = self.open.last().map_or(1, Open::line);
            let found = format!("found neither a comma nor the end of the brackets that open on line {line}");
            (found, "write a comma between the items, and the closing bracket".to_owned())
        } else if info.contains("block mapping") || info.contains("block collection") || info.contains("indent") {
            ("found a line that does not fit what is around it".to_owned(), "check its indentation".to_owned())
        } else if info.contains("simple key expect") {
            ("found a key without a colon".to_owned(), "write `key: value`, with a space after the colon".to_owned())
        } else {
            ("found something that is not YAML".to_owned(), format!("check this line and the one before: {info}"))
        };
        // Report the end of the file on its last line, not on the next.
        let mut line = error.marker().line().min(text.lines().count());
        if info.contains("tab") {
            // The parser reports the line of the value above, because it reads the line with the tab as part of that
            // value.
            let is_indented_by_tab = |line: &str| line.chars().take_while(|c| c.is_whitespace()).any(|c| c == '\t');
            line += text.lines().skip(line.saturating_sub(1)).position(is_indented_by_tab).unwrap_or_default();
        }
        Diagnostic::new(place(self.file, line, error.marker().col()), "", found, wanted)
    }

    /// Reports an error after which the reading continues.
    fn report(&mut self, error: Diagnostic) {
        if self.errors.len() < MAX_DIAGNOSTICS {
            self.errors.push(error);
        }
    }

    fn refuse_marks(&mut self, anchor: usize, tag: bool, place: &Place) {
        let mut refuse = |found, wanted| self.report(Diagnostic::new(place.clone(), "", found, wanted));
        if anchor != 0 {
            refuse("found an anchor (`&`)", "write the value at each place that needs it");
        }
        if tag {
            refuse("found a tag (`!`)", "leave it out, or put the value in quotes");
        }
    }

    /// The place of a list or mapping: its key, if it has one.
    fn place_by_key(&self, here: &Place) -> Place {
        match self.open.last() {
            Some(Open::Table { key: Some(key), .. }) => key.place.clone(),
            _ => here.clone(),
        }
    }

    fn push(&mut self, open: Open, at: Marker) -> Result<(), Box<Diagnostic>> {
        if self.open.len() >= MAX_DEPTH {
            return Err(self.error(at, "found too many levels", &format!("nest at most {MAX_DEPTH} levels")).into());
        }
        self.open.push(open);
        Ok(())
    }

    /// Adds a finished value as an item, a key, a key's value, or the root.
    fn add(&mut self, mut node: Node) -> Result<(), Box<Diagnostic>> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(
                Diagnostic::new(node.place, "", format!("found more than {MAX_NODES} values"), "write fewer").into()
            );
        }
        let mut refused = None;
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some(Open::List { items, .. }) => items.push(node),
            Some(Open::Table { key, .. }) if key.is_none() => {
                let text = match node.value {
                    Value::Scalar(scalar) => Some(scalar.text),
                    Value::Refused => None,
                    Value::List(_) | Value::Table(_) => {
                        let found = "found a list or mapping as a key";
                        let wanted = "write a single word before `:`";
                        refused = Some(Diagnostic::new(node.place.clone(), "", found, wanted));
                        None
                    }
                };
                *key = Some(Key { text, place: node.place });
            }
            Some(Open::Table { entries, key, .. }) => {
                let Some(Key { text: Some(name), place }) = key.take() else { return Ok(()) };
                // The parser reports a missing value later, perhaps some lines below.
                if matches!(&node.value, Value::Scalar(scalar) if scalar.text.is_empty()) {
                    node.place = place.clone();
                }
                entries.push(Entry { key: name, place, node });
            }
        }
        if let Some(error) = refused {
            self.report(error);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
