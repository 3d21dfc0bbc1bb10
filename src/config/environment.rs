//! Overrides from the environment: `WECHAT_AUTHZ__LISTEN__CHECK=…` sets `listen.check`,
//! `WECHAT_AUTHZ__APPS__0__ORIGIN=…` sets `apps[0].origin`.
//!
//! Two underscores separate the parts, because keys contain single underscores, and so do the variables that Kubernetes
//! sets for a service of our name (`WECHAT_AUTHZ_PORT`). A variable sets one value. An unknown variable is an error,
//! like an unknown key. No variable contains a secret, only the path of its file.

use super::diagnostic::{Diagnostic, Place, shown};
use super::path::{PREFIX, inside, variable};
use super::schema;
use super::yaml::{Entry, Node, Reading, Scalar, Value as Written, read_plain};
use serde_json::Value;
use std::ffi::OsString;
use std::sync::Arc;

/// The maximum number of parts in a name. The deepest setting has five.
const MAX_PARTS: usize = 12;

/// One part of a variable's name. Numbers are sorted as numbers, so that lists grow in order.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Index(usize),
    Key(String),
}

/// Applies the overrides to the tree.
pub(crate) fn apply(root: &mut Node, variables: impl Iterator<Item = (OsString, OsString)>) -> Vec<Diagnostic> {
    let mut errors = Vec::new();
    let mut overrides = Vec::new();
    for (name, value) in variables {
        let name = name.to_string_lossy();
        let Some(rest) = name.strip_prefix(PREFIX) else { continue };
        let place = Place::Variable(Arc::from(name.as_ref()));
        let parts: Vec<Part> = rest.split("__").take(MAX_PARTS + 1).map(part).collect();
        if parts.len() > MAX_PARTS || parts.iter().any(|part| *part == Part::Key(String::new())) {
            let wanted = format!("write a setting's path, such as {PREFIX}LISTEN__CHECK for listen.check");
            errors.push(Diagnostic::new(place, "", "found a name without a setting", wanted));
            continue;
        }
        match value.into_string() {
            Ok(text) => overrides.push((parts, place, text)),
            Err(_) => {
                errors.push(Diagnostic::new(place, "", "found bytes that are not UTF-8", "write the value as UTF-8"))
            }
        }
    }
    overrides.sort();
    for (parts, place, text) in overrides {
        let mut write = Override { path: String::new(), place, errors: &mut errors };
        write.set(root, Some(schema::root()), &parts, text);
    }
    errors
}

fn part(text: &str) -> Part {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(index) if digits => Part::Index(index),
        _ => Part::Key(text.to_ascii_lowercase()),
    }
}

/// Applies one variable to the tree.
struct Override<'a> {
    path: String,
    place: Place,
    errors: &'a mut Vec<Diagnostic>,
}

impl Override<'_> {
    fn error(&mut self, found: impl Into<String>, wanted: impl Into<String>) {
        self.errors.push(Diagnostic::new(self.place.clone(), self.path.as_str(), found, wanted));
    }

    fn empty(&self, value: Written) -> Node {
        Node { place: self.place.clone(), value }
    }

    fn set(&mut self, node: &mut Node, schema: Option<&Value>, parts: &[Part], text: String) {
        let Some((first, rest)) = parts.split_first() else {
            return self.set_value(node, schema, text);
        };
        let is = |kind| schema.is_some_and(|schema| schema::allows(schema, kind));
        let absent = matches!(&node.value, Written::Scalar(Scalar { reading: Reading::Null, .. }));
        if absent && is("array") {
            *node = self.empty(Written::List(Vec::new()));
        } else if absent && (is("object") || schema.is_none()) {
            *node = self.empty(Written::Table(Vec::new()));
        }
        match (&mut node.value, first) {
            (Written::List(items), Part::Index(index)) => {
                let length = items.len();
                self.path = format!("{}[{index}]", self.path);
                let below = schema.and_then(|schema| schema.get("items"));
                if *index == length {
                    items.push(self.empty(null()));
                }
                match items.get_mut(*index) {
                    Some(item) => self.set(item, below, rest, text),
                    None => {
                        let wanted = match length {
                            0 => "begin with number 0".to_owned(),
                            _ => format!("the next number is {length}"),
                        };
                        self.error(format!("found an item after a gap in a list of {length}"), wanted);
                    }
                }
            }
            (Written::List(_), Part::Key(key)) => {
                let wanted = format!("name the item by its number: {}", variable(&format!("{}.0.{key}", self.path)));
                self.error("found a key where a list's number belongs", wanted);
            }
            (Written::Table(entries), part) => {
                let key = match part {
                    Part::Key(key) => key.clone(),
                    Part::Index(index) => index.to_string(),
                };
                self.path = inside(&self.path, &key);
                let below = schema.and_then(|schema| schema.get("properties")?.get(&key));
                let position = entries.iter().position(|entry| entry.key == key).unwrap_or_else(|| {
                    entries.push(Entry { key, place: self.place.clone(), node: self.empty(null()) });
                    entries.len() - 1
                });
                if let Some(entry) = entries.get_mut(position) {
                    self.set(&mut entry.node, below, rest, text);
                }
            }
            // The value in the file is wrong and is reported separately.
            (Written::Scalar(_) | Written::Refused, _) if is("object") || is("array") => {}
            (Written::Scalar(_) | Written::Refused, _) => {
                let wanted = format!("set it by {}", variable(&self.path));
                self.error("found parts of a setting with a single value", wanted);
            }
        }
    }

    fn set_value(&mut self, node: &mut Node, schema: Option<&Value>, text: String) {
        let reading = read_plain(&text);
        let several = schema.is_some_and(|schema| schema::allows(schema, "object") || schema::allows(schema, "array"));
        let unset = reading == Reading::Null && schema.is_some_and(|schema| schema::allows(schema, "null"));
        if several && !unset {
            let next = match schema.filter(|schema| schema::allows(schema, "array")) {
                Some(_) => "0".to_owned(),
                None => schema.and_then(|schema| schema::keys(schema).next()).unwrap_or_default().to_owned(),
            };
            let wanted = format!("set its parts, such as {}", variable(&format!("{}.{next}", self.path)));
            return self.error(format!("found {} for a setting of several parts", shown_value(&text)), wanted);
        }
        *node = self.empty(Written::Scalar(Scalar { text, reading }));
    }
}

/// Describes the value; a mapping or list in a variable is not quoted.
fn shown_value(text: &str) -> String {
    if text.contains(':') { "a single text".to_owned() } else { shown(text) }
}

fn null() -> Written {
    Written::Scalar(Scalar { text: String::new(), reading: Reading::Null })
}
