//! The JSON schema of the file, generated from [`super::file`], for editors, the chart and [`super::shape`].

use super::file;
use schemars::generate::SchemaSettings;
use serde_json::Value;
use std::sync::LazyLock;

/// The schema without references, so that readers and [`super::shape`] need not resolve them.
static SCHEMA: LazyLock<Value> = LazyLock::new(|| {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    settings.into_generator().into_root_schema_for::<file::Config>().to_value()
});

/// The schema of the whole file.
pub(crate) fn root() -> &'static Value {
    &SCHEMA
}

/// The schema as text.
pub(crate) fn text() -> String {
    format!("{:#}", root())
}

/// Whether the schema allows values of this JSON type.
pub(crate) fn allows(schema: &Value, kind: &str) -> bool {
    match schema.get("type") {
        Some(Value::String(only)) => only == kind,
        Some(Value::Array(kinds)) => kinds.iter().any(|one| one == kind),
        // The words of an enum are strings.
        _ => words(schema).next().is_some() && kind == "string",
    }
}

/// The keys of a mapping; empty for other types.
pub(crate) fn keys(schema: &Value) -> impl Iterator<Item = &str> {
    schema.get("properties").and_then(Value::as_object).into_iter().flatten().map(|(key, _)| key.as_str())
}

/// The required keys of a mapping.
pub(crate) fn required(schema: &Value) -> impl Iterator<Item = &str> {
    schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

/// The words of an enum; empty for other types.
pub(crate) fn words(schema: &Value) -> impl Iterator<Item = &str> {
    let plain = schema.get("enum").and_then(Value::as_array).into_iter().flatten();
    let documented = schema.get("oneOf").and_then(Value::as_array).into_iter().flatten();
    plain.chain(documented.filter_map(|one| one.get("const"))).filter_map(Value::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All keywords that `shape.rs` handles. A keyword added here must be handled there.
    const HANDLED: [&str; 15] = [
        "type",
        "properties",
        "required",
        "additionalProperties",
        "items",
        "minItems",
        "pattern",
        "not",
        "x-form",
        "x-least",
        "x-most",
        "minimum",
        "maximum",
        "enum",
        "oneOf",
    ];
    const WORDS_ABOUT: [&str; 5] = ["$schema", "title", "description", "default", "format"];

    fn visit(path: &str, schema: &Value, see: &mut impl FnMut(&str, &Value)) {
        see(path, schema);
        for key in keys(schema) {
            visit(&format!("{path}.{key}"), &schema["properties"][key], see);
        }
        if let Some(items) = schema.get("items") {
            visit(&format!("{path}[]"), items, see);
        }
    }

    #[test]
    fn every_keyword_of_the_schema_is_validated() {
        visit("", root(), &mut |path, schema| {
            for keyword in schema.as_object().unwrap().keys() {
                assert!(
                    HANDLED.contains(&keyword.as_str()) || WORDS_ABOUT.contains(&keyword.as_str()),
                    "{path} {keyword}"
                );
            }
            if allows(schema, "object") {
                assert_eq!(schema["additionalProperties"], false, "{path}");
            }
            if allows(schema, "string") {
                assert!(schema.get("x-form").is_some() || words(schema).next().is_some(), "{path} takes any text");
            }
            if schema["x-form"] == "period" {
                assert!(schema.get("x-least").is_some() && schema.get("x-most").is_some(), "{path} has no range");
            }
            if allows(schema, "integer") {
                assert!(schema.get("minimum").is_some() && schema.get("maximum").is_some(), "{path} has no range");
            }
        });
    }

    #[test]
    fn every_setting_is_documented_in_a_sentence_or_two() {
        visit("", root(), &mut |path, schema| {
            if !path.ends_with("[]") {
                let text = schema["description"].as_str().unwrap_or_default();
                assert!(text.ends_with('.') && (8..400).contains(&text.len()), "{path}: {text}");
            }
        });
    }

    #[test]
    fn a_default_stands_in_the_documentation() {
        visit("", root(), &mut |path, schema| {
            let description = schema["description"].as_str().unwrap_or_default().to_lowercase();
            let is_documented = match schema.get("default") {
                Some(Value::String(text)) => description.contains(text.as_str()),
                Some(Value::Number(number)) => description.contains(&number.to_string()),
                Some(Value::Bool(value)) => description.contains(&format!("default {value}")),
                _ => true,
            };
            assert!(is_documented, "{path}: {description}");
        });
    }
}
