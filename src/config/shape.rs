//! Validates the tree against the schema, and reports all errors of shape in one walk.
//!
//! The walk also builds the JSON value from which [`super::file::Config`] is deserialized. The value matches the schema
//! only if the walk reports no error.

use super::diagnostic::{Diagnostic, Place, can_be_quoted, shown};
use super::duration::Period;
use super::form::Form;
use super::path::{inside, variable};
use super::yaml::{Entry, Node, Reading, Scalar, Value as Written, read_plain};
use super::{schema, typo, yaml};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// The result of the walk.
pub(crate) struct Validated {
    /// The valid part of the tree.
    pub value: Value,
    /// The place of each setting, by its path.
    pub places: BTreeMap<String, Place>,
    /// The errors.
    pub errors: Vec<Diagnostic>,
}

/// Validates the whole tree.
pub(crate) fn validate(root: &Node) -> Validated {
    let mut validator = Validator { places: BTreeMap::new(), errors: Vec::new() };
    let value = validator.value(root, schema::root(), "").unwrap_or_default();
    Validated { value, places: validator.places, errors: validator.errors }
}

struct Validator {
    places: BTreeMap<String, Place>,
    errors: Vec<Diagnostic>,
}

impl Validator {
    fn error(&mut self, place: &Place, path: &str, found: impl Into<String>, wanted: impl Into<String>) {
        self.errors.push(Diagnostic::new(place.clone(), path, found, wanted));
    }

    /// Returns the value, or `None` if an error was reported.
    fn value(&mut self, node: &Node, schema: &Value, path: &str) -> Option<Value> {
        self.places.insert(path.to_owned(), node.place.clone());
        match &node.value {
            // The parser has already reported it.
            Written::Refused => None,
            Written::Table(entries) if schema::allows(schema, "object") => {
                Some(self.table(entries, schema, path, &node.place))
            }
            Written::List(items) if schema::allows(schema, "array") => self.list(items, schema, path, &node.place),
            Written::Scalar(scalar) => self.scalar(scalar, schema, path, &node.place),
            Written::Table(_) => {
                self.error(&node.place, path, "found a mapping", describe_expected(schema));
                None
            }
            Written::List(_) => {
                self.error(&node.place, path, "found a list", describe_expected(schema));
                None
            }
        }
    }

    fn list(&mut self, items: &[Node], schema: &Value, path: &str, place: &Place) -> Option<Value> {
        let item_schema = schema.get("items").unwrap_or(&Value::Null);
        if schema.get("minItems").and_then(Value::as_u64).is_some_and(|least| (items.len() as u64) < least) {
            self.error(place, path, "found an empty list", "write at least one item, or leave the key out");
            return None;
        }
        let values = items.iter().enumerate();
        let values = values.filter_map(|(n, item)| self.value(item, item_schema, &format!("{path}[{n}]")));
        Some(Value::Array(values.collect()))
    }

    fn table(&mut self, entries: &[Entry], schema: &Value, path: &str, place: &Place) -> Value {
        let mut object = Map::new();
        let mut tried = BTreeSet::new();
        let mut seen: BTreeMap<&str, &Place> = BTreeMap::new();
        for entry in entries {
            if let Some(first) = seen.get(entry.key.as_str()) {
                // An unknown key is reported once, at its first entry.
                if schema::keys(schema).any(|key| key == entry.key) {
                    let line = if let Place::Line { line, .. } = first { *line } else { 0 };
                    let found = format!("found a second time, first on line {line}");
                    self.error(&entry.place, &inside(path, &entry.key), found, "keep one of them");
                }
                continue;
            }
            seen.insert(&entry.key, &entry.place);
            let meant = match schema.get("properties").and_then(|keys| keys.get(&entry.key)) {
                Some(_) => Some(entry.key.as_str()),
                // The value of a misspelled key is validated as well, and the key does not count as missing.
                None => self.unknown_key(entry, entries, schema, path),
            };
            // A key before a full-width colon counts as present, and its value is unknown.
            if let Some((word, _)) = entry.key.split_once('：')
                && schema::keys(schema).any(|key| key == word.trim())
            {
                tried.insert(word.trim().to_owned());
                continue;
            }
            let Some((key, key_schema)) = meant.and_then(|key| Some((key, schema.get("properties")?.get(key)?))) else {
                continue;
            };
            // If one key is misspelled twice, the first entry counts.
            if !tried.insert(key.to_owned()) {
                continue;
            }
            if let Some(value) = self.value(&entry.node, key_schema, &inside(path, key)) {
                object.insert(key.to_owned(), value);
            }
        }
        for key in schema::required(schema).filter(|key| !tried.contains(*key)) {
            let key_schema = schema.get("properties").and_then(|keys| keys.get(key)).unwrap_or(&Value::Null);
            self.error(place, &inside(path, key), "missing", describe_expected(key_schema));
        }
        Value::Object(object)
    }

    /// Reports an unknown key. Returns the intended key, unless the mapping also contains that key.
    fn unknown_key<'a>(&mut self, entry: &Entry, entries: &[Entry], schema: &'a Value, path: &str) -> Option<&'a str> {
        let home = find_key(&entry.key, path);
        let meant = typo::closest(&entry.key, schema::keys(schema))
            .or_else(|| typo::related(&entry.key, schema::keys(schema)).filter(|_| home.is_none()));
        let taken = meant.and_then(|key| entries.iter().find(|other| other.key == key));
        let from_variable = matches!(entry.place, Place::Variable(_));
        let name = |key: &str| {
            if from_variable { variable(&inside(path, key)) } else { format!("`{key}`") }
        };
        let wanted = match (meant, taken) {
            _ if entry.key.contains('：') => yaml::FULL_WIDTH.1.to_owned(),
            (Some(key), Some(other)) => match &other.place {
                Place::Line { line, .. } => format!("did you mean {}, which stands on line {line} already?", name(key)),
                other => format!("did you mean {}, which {other} sets already?", name(key)),
            },
            (Some(key), None) => format!("did you mean {}?", name(key)),
            (None, _) if entry.key == "<<" => "merge keys are not supported: write the values out".to_owned(),
            (None, _) => match home {
                Some(home) => format!("it belongs in `{home}`"),
                None => format!("the keys here are {}", join_quoted(schema::keys(schema), "and")),
            },
        };
        // A misspelled key is not a secret, even if it is long.
        if meant.is_some() || can_be_quoted(&entry.key) || from_variable {
            self.error(&entry.place, &inside(path, &entry.key), "unknown key", wanted);
        } else {
            let length = entry.key.chars().count();
            self.error(&entry.place, path, format!("unknown key of {length} characters"), wanted);
        }
        meant.filter(|_| taken.is_none())
    }

    fn scalar(&mut self, scalar: &Scalar, schema: &Value, path: &str, place: &Place) -> Option<Value> {
        // The value of a variable has no quotes that distinguish text from numbers, so the type of the setting decides.
        let from_variable = matches!(place, Place::Variable(_));
        let reading = if from_variable { read_plain(&scalar.text) } else { scalar.reading };
        if reading == Reading::Null && schema::allows(schema, "null") {
            return Some(Value::Null);
        }
        if schema::allows(schema, "string") {
            return self.text(scalar, reading, from_variable, schema, path, place);
        }
        match reading {
            Reading::Boolean(value) if schema::allows(schema, "boolean") => return Some(value.into()),
            Reading::Integer(value) if schema::allows(schema, "integer") => {
                let bound = |name| schema.get(name).and_then(Value::as_i64);
                let error = if bound("minimum").is_some_and(|least| value < least) {
                    "which is too small"
                } else if bound("maximum").is_some_and(|most| value > most) {
                    "which is too large"
                } else {
                    return Some(value.into());
                };
                self.error(place, path, format!("found {}, {error}", shown(&scalar.text)), describe_expected(schema));
            }
            _ => {
                let mut error =
                    Diagnostic::new(place.clone(), path, describe_found(scalar, reading), describe_expected(schema));
                let unquoted = if reading == Reading::Quoted { read_plain(&scalar.text) } else { reading };
                error.hint = match unquoted {
                    Reading::Integer(_) if schema::allows(schema, "integer") => Some("without the quotes".to_owned()),
                    Reading::Boolean(_) if schema::allows(schema, "boolean") => Some("without the quotes".to_owned()),
                    _ => unset_hint(reading, from_variable, schema),
                };
                self.errors.push(error);
            }
        }
        None
    }

    fn text(
        &mut self,
        scalar: &Scalar,
        reading: Reading,
        from_variable: bool,
        schema: &Value,
        path: &str,
        place: &Place,
    ) -> Option<Value> {
        let text = scalar.text.as_str();
        let is_period = schema.get("x-form").is_some_and(|form| form == "period");
        let form = schema.get("x-form").and_then(Value::as_str).and_then(Form::named);
        let is_number = matches!(reading, Reading::Integer(_) | Reading::Decimal);
        let is_text =
            matches!(reading, Reading::Plain | Reading::Quoted) || (from_variable && reading != Reading::Null);
        let error = if is_period && (is_text || is_number) {
            match text.parse::<Period>() {
                Err(error) => format!("found {}, which {error}", shown(text)),
                Ok(period) => match range(schema) {
                    Some((least, _)) if period < least => format!("found {}, which is too short", shown(text)),
                    Some((_, most)) if period > most => format!("found {}, which is too long", shown(text)),
                    _ => return Some(text.into()),
                },
            }
        } else if !is_text {
            let fits = !text.is_empty() && form.is_some_and(|form| form.validate(text).is_ok());
            let hint = fits.then(|| format!("put it in quotes: \"{text}\"")).filter(|_| can_be_quoted(text));
            let hint = hint.or_else(|| unset_hint(reading, from_variable, schema));
            let found =
                form.map_or_else(|| describe_found(scalar, reading), |form| describe_found_form(form, scalar, reading));
            self.errors.push(Diagnostic::new(place.clone(), path, found, describe_expected(schema)).with_hint(hint));
            return None;
        } else if let Some(form) = form {
            match form.validate(text) {
                Ok(()) => return Some(text.into()),
                Err(_) if text.is_empty() => "found an empty text".to_owned(),
                Err(reason) => format!("found {}, {reason}", form.redact(text)),
            }
        } else if schema::words(schema).any(|word| word == text) {
            return Some(text.into());
        } else {
            let meant = typo::closest(text, schema::words(schema)).map(|word| format!("did you mean {word}?"));
            let found = format!("found {}", shown(text));
            self.errors.push(Diagnostic::new(place.clone(), path, found, describe_expected(schema)).with_hint(meant));
            return None;
        };
        self.error(place, path, error, describe_expected(schema));
        None
    }
}

/// Describes a value of the wrong type.
fn describe_found(scalar: &Scalar, reading: Reading) -> String {
    let value = shown(&scalar.text);
    match reading {
        Reading::Null if scalar.text.is_empty() => "found nothing".to_owned(),
        Reading::Null => format!("found {value}, which means nothing"),
        Reading::Boolean(_) => format!("found {value}, a boolean"),
        Reading::Integer(_) | Reading::Decimal => format!("found {value}, a number"),
        Reading::Quoted if !scalar.text.is_empty() && can_be_quoted(&scalar.text) => {
            format!("found {value} in quotes, a text")
        }
        Reading::Plain | Reading::Quoted if can_be_quoted(&scalar.text) => format!("found {value}, a text"),
        Reading::Plain | Reading::Quoted => format!("found {value}"),
    }
}

/// An alternative for a key without a value.
fn unset_hint(reading: Reading, from_variable: bool, schema: &Value) -> Option<String> {
    let has_default = reading == Reading::Null && schema.get("default").is_some();
    has_default.then(|| if from_variable { "or unset it" } else { "or leave the key out" }.to_owned())
}

/// [`describe_found`] for a form that may forbid quoting.
fn describe_found_form(form: &Form, scalar: &Scalar, reading: Reading) -> String {
    if form.quotable || reading == Reading::Null {
        describe_found(scalar, reading)
    } else {
        "found a number or boolean".to_owned()
    }
}

/// Describes the expected value.
fn describe_expected(schema: &Value) -> String {
    if let Some(form) = schema.get("x-form").and_then(Value::as_str).and_then(Form::named) {
        return form.wanted(schema.get("default").and_then(Value::as_str));
    }
    if let Some((least, most)) = range(schema) {
        let example = schema.get("default").and_then(Value::as_str).unwrap_or("10s");
        return format!("write a duration such as {example} ({least} to {most})");
    }
    if schema::words(schema).next().is_some() {
        return format!("write {}", join_words(schema::words(schema), "or"));
    }
    if schema::allows(schema, "boolean") {
        return "write true or false".to_owned();
    }
    if schema::allows(schema, "integer") {
        let bound = |name| schema.get(name).and_then(Value::as_i64).unwrap_or_default();
        return format!("write a whole number from {} to {}", bound("minimum"), bound("maximum"));
    }
    if schema::allows(schema, "array") {
        let item = schema.get("items").map(describe_expected).unwrap_or_default();
        let single = schema.get("items").is_some_and(|items| !schema::allows(items, "object"));
        return if single {
            format!("write a list in brackets, where each item is {}", item.trim_start_matches("write "))
        } else {
            let keys = schema.get("items").map(parts).unwrap_or_default();
            format!("write a list, each item after a `- ` and with {keys}")
        };
    }
    format!("write a mapping with {}", parts(schema))
}

/// Lists the keys of a mapping: the required keys, or all keys if none is required.
fn parts(schema: &Value) -> String {
    match join_quoted(schema::required(schema), "and") {
        needed if needed.is_empty() => join_quoted(schema::keys(schema), "and"),
        needed => format!("at least {needed}"),
    }
}

/// The minimum and the maximum duration.
fn range(schema: &Value) -> Option<(Period, Period)> {
    let bound = |name| schema.get(name)?.as_str()?.parse::<Period>().ok();
    Some((bound("x-least")?, bound("x-most")?))
}

/// Formats as: `a`, `b` and `c`
fn join_quoted<'a>(words: impl Iterator<Item = &'a str>, last: &str) -> String {
    let quoted: Vec<String> = words.map(|word| format!("`{word}`")).collect();
    join_words(quoted.iter().map(String::as_str), last)
}

/// Formats as: a, b and c
fn join_words<'a>(words: impl Iterator<Item = &'a str>, last: &str) -> String {
    let words: Vec<&str> = words.collect();
    match words.as_slice() {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [first @ .., end] => format!("{} {last} {end}", first.join(", ")),
    }
}

/// The only mapping that has this key, if it is in the same section of the file as `path`. For example, a `host` in
/// `redis` does not suggest the `host` of a policy rule.
fn find_key(key: &str, path: &str) -> Option<String> {
    fn search(key: &str, schema: &Value, path: &str, homes: &mut Vec<String>) {
        for (name, below) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
            if name == key && !path.is_empty() {
                homes.push(path.to_owned());
            }
            search(key, below, &inside(path, name), homes);
        }
        if let Some(items) = schema.get("items") {
            search(key, items, &format!("{path}[]"), homes);
        }
    }
    let mut homes = Vec::new();
    search(key, schema::root(), "", &mut homes);
    let part = |path: &str| path.split(['.', '[']).next().unwrap_or_default().to_owned();
    let home = homes.pop().filter(|_| homes.is_empty())?;
    (path.is_empty() || part(&home) == part(path)).then_some(home)
}
