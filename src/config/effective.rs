//! The effective configuration as YAML: every setting, as written or with its default, and no secret.
//!
//! The settings hold the paths of secrets only, and [`super::text::SecretFile`] masks a path that may be a pasted secret.

use super::diagnostic::Place;
use super::file::Config;
use super::yaml::{Node, Reading, Value, parse, read_plain};
use serde::Serialize;
use std::fmt::Write as _;
use std::sync::Arc;

/// The settings as a file with the same meaning.
pub(crate) fn text(config: &Config) -> String {
    // JSON is YAML. Serialized from the structs it keeps their order, which a JSON tree does not.
    let (root, _) = parse(quoted(config).as_bytes(), &Arc::from("effective"));
    let root = root.unwrap_or(Node { place: Place::File("effective".into()), value: Value::Table(Vec::new()) });
    let mut out = String::new();
    write_block(&root, 0, &mut out);
    out
}

/// Writes a mapping or list over several lines, the first of which has been started.
fn write_block(node: &Node, indent: usize, out: &mut String) {
    match &node.value {
        Value::Table(entries) => {
            for (n, entry) in entries.iter().enumerate() {
                if n > 0 || indent == 0 {
                    start_line(indent, out);
                }
                let _ = write!(out, "{}:", entry.key);
                write_after_key(&entry.node, indent, out);
            }
        }
        Value::List(items) => {
            for item in items {
                start_line(indent, out);
                out.push_str("- ");
                write_block(item, indent + 2, out);
            }
        }
        _ => write_scalar(node, out),
    }
}

fn start_line(indent: usize, out: &mut String) {
    if !out.is_empty() {
        out.push('\n');
    }
    out.extend(std::iter::repeat_n(' ', indent));
}

fn write_after_key(node: &Node, indent: usize, out: &mut String) {
    match &node.value {
        Value::Table(entries) if entries.is_empty() => out.push_str(" {}"),
        Value::List(items) if items.is_empty() => out.push_str(" []"),
        Value::Table(_) => {
            start_line(indent + 2, out);
            write_block(node, indent + 2, out);
        }
        Value::List(_) => write_block(node, indent, out),
        _ => {
            out.push(' ');
            write_scalar(node, out);
        }
    }
}

fn write_scalar(node: &Node, out: &mut String) {
    let Value::Scalar(scalar) = &node.value else { return };
    if scalar.reading == Reading::Quoted && !is_plain(&scalar.text) {
        out.push_str(&quoted(&scalar.text));
    } else {
        out.push_str(&scalar.text);
    }
}

/// JSON, whose quotes and escapes are also YAML's, with what YAML forbids in plain escaped.
fn quoted(value: &impl Serialize) -> String {
    let json = serde_json::to_string(value).unwrap_or_default();
    json.chars().fold(String::with_capacity(json.len()), |mut text, c| {
        let raw = !c.is_control() && !matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}');
        let _ = if raw { write!(text, "{c}") } else { write!(text, "\\u{:04x}", u32::from(c)) };
        text
    })
}

/// Whether YAML reads the text as itself without quotes.
fn is_plain(text: &str) -> bool {
    let first = text.starts_with(|c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_'));
    let rest = text.chars().all(|c| c.is_ascii_alphanumeric() || "/._-:+=*@".contains(c));
    first && rest && !text.ends_with(':') && read_plain(text) == Reading::Plain
}
