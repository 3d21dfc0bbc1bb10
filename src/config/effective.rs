//! The effective configuration as YAML: what was written, the defaults for the rest, and no secret.
//!
//! Secrets never enter the settings, only the paths of their files. A path that looks like a pasted secret is masked.

use super::diagnostic::{Place, can_be_quoted};
use super::yaml::{Node, Reading, Value, parse, read_plain};
use super::{raw, schema};
use serde::Serialize;
use serde_json::Value as Schema;
use std::fmt::Write as _;
use std::sync::Arc;

/// The settings as a file that means the same.
pub(crate) fn text(config: &raw::Config) -> String {
    // JSON is YAML, and written straight from the structs it keeps their order, which a JSON tree would not.
    let (root, _) = parse(quoted(config).as_bytes(), &Arc::from("effective"));
    let root = root.unwrap_or(Node { place: Place::File("effective".into()), value: Value::Table(Vec::new()) });
    let mut out = String::new();
    write_block(&root, Some(schema::root()), 0, &mut out);
    out
}

/// A mapping or list over several lines; the caller has written what stands before the first.
fn write_block(node: &Node, schema: Option<&Schema>, indent: usize, out: &mut String) {
    match &node.value {
        Value::Table(entries) => {
            for (n, entry) in entries.iter().enumerate() {
                if n > 0 || indent == 0 {
                    new_line(indent, out);
                }
                let below = schema.and_then(|schema| schema.get("properties")?.get(&entry.key));
                let _ = write!(out, "{}:", entry.key);
                write_after_key(&entry.node, below, indent, out);
            }
        }
        Value::List(items) => {
            for item in items {
                new_line(indent, out);
                out.push_str("- ");
                write_block(item, schema.and_then(|schema| schema.get("items")), indent + 2, out);
            }
        }
        _ => write_scalar(node, schema, out),
    }
}

fn new_line(indent: usize, out: &mut String) {
    if !out.is_empty() {
        out.push('\n');
    }
    out.extend(std::iter::repeat_n(' ', indent));
}

fn write_after_key(node: &Node, schema: Option<&Schema>, indent: usize, out: &mut String) {
    match &node.value {
        Value::Table(entries) if entries.is_empty() => out.push_str(" {}"),
        Value::List(items) if items.is_empty() => out.push_str(" []"),
        Value::Table(_) => {
            new_line(indent + 2, out);
            write_block(node, schema, indent + 2, out);
        }
        Value::List(_) => write_block(node, schema, indent, out),
        _ => {
            out.push(' ');
            write_scalar(node, schema, out);
        }
    }
}

fn write_scalar(node: &Node, schema: Option<&Schema>, out: &mut String) {
    let Value::Scalar(scalar) = &node.value else { return };
    if scalar.reading != Reading::Quoted {
        out.push_str(&scalar.text);
        return;
    }
    let is_secret_file = schema.and_then(|schema| schema.get("x-form")).is_some_and(|form| form == "secret-file");
    if is_secret_file && !is_surely_a_path(&scalar.text) {
        out.push_str("\"***\"");
    } else if is_plain(&scalar.text) {
        out.push_str(&scalar.text);
    } else {
        out.push_str(&quoted(&scalar.text));
    }
}

/// As JSON, whose quotes and escapes are YAML's too, with what YAML does not allow raw escaped as well.
fn quoted(value: &impl Serialize) -> String {
    let json = serde_json::to_string(value).unwrap_or_default();
    json.chars().fold(String::with_capacity(json.len()), |mut text, c| {
        let raw = !c.is_control() && !matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}');
        let _ = if raw { write!(text, "{c}") } else { write!(text, "\\u{:04x}", u32::from(c)) };
        text
    })
}

/// Long names are common in paths; a long run of letters *and* digits is what AppSecrets look like.
fn is_surely_a_path(text: &str) -> bool {
    let random = |part: &str| part.bytes().any(|b| b.is_ascii_digit()) && part.bytes().any(|b| b.is_ascii_alphabetic());
    text.starts_with(['/', '.']) && text.split('/').all(|part| part.is_empty() || can_be_quoted(part) || !random(part))
}

/// Whether YAML reads a text as itself without quotes.
fn is_plain(text: &str) -> bool {
    let first = text.starts_with(|c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_'));
    let rest = text.chars().all(|c| c.is_ascii_alphanumeric() || "/._-:+=*@".contains(c));
    first && rest && !text.ends_with(':') && read_plain(text) == Reading::Plain
}
