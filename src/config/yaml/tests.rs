use super::*;
use proptest::prelude::*;

fn errors(text: impl AsRef<[u8]>) -> String {
    let errors = parse(text.as_ref(), &"c.yaml".into()).1;
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[test]
fn plain_values_are_read_by_the_core_schema() {
    for (text, reading) in [
        ("", Reading::Null),
        ("~", Reading::Null),
        ("null", Reading::Null),
        ("nUll", Reading::Plain),
        ("true", Reading::Boolean(true)),
        ("FALSE", Reading::Boolean(false)),
        ("yes", Reading::Plain),
        ("on", Reading::Plain),
        ("15", Reading::Integer(15)),
        ("-15", Reading::Integer(-15)),
        ("+15", Reading::Integer(15)),
        ("0644", Reading::Integer(644)),
        ("0x1F", Reading::Integer(31)),
        ("0o17", Reading::Integer(15)),
        ("1_000", Reading::Plain),
        ("99999999999999999999", Reading::Decimal),
        ("1.5", Reading::Decimal),
        (".5", Reading::Decimal),
        ("1e3", Reading::Decimal),
        ("-.inf", Reading::Decimal),
        (".nan", Reading::Decimal),
        (".", Reading::Plain),
        ("127.0.0.1", Reading::Plain),
        ("15m", Reading::Plain),
        ("inf", Reading::Plain),
        ("0x", Reading::Plain),
    ] {
        assert_eq!(read_plain(text), reading, "{text:?}");
    }
}

#[test]
fn every_value_knows_its_line() {
    let (root, errors) = parse(b"# head\na: 1\nb:\n- x\n-   y: 2\nc:\n", &"c.yaml".into());
    assert_eq!(errors, []);
    let Value::Table(entries) = root.unwrap().value else { panic!("a mapping") };
    let lines: Vec<_> = entries.iter().map(|entry| (entry.key.as_str(), entry.node.place.to_string())).collect();
    assert_eq!(lines, [("a", "c.yaml:2".into()), ("b", "c.yaml:3".into()), ("c", "c.yaml:6".into())]);
    let Value::List(items) = &entries[1].node.value else { panic!("a list") };
    assert_eq!(items.iter().map(|item| item.place.to_string()).collect::<Vec<_>>(), ["c.yaml:4", "c.yaml:5"]);
}

#[test]
fn an_empty_file_is_an_empty_mapping() {
    for text in ["", "\n", "# nothing\n", "---\n", "\u{feff}# nothing", "null"] {
        let (root, errors) = parse(text.as_bytes(), &"c.yaml".into());
        assert_eq!(root.map(|root| root.value), Some(Value::Table(vec![])), "{text:?}");
        assert_eq!(errors, []);
    }
}

#[test]
fn anchors_tags_and_several_documents_are_refused() {
    for (text, error) in [
        ("a: &x 1", "c.yaml:1: found an anchor (`&`); write the value at each place that needs it"),
        ("a: !!str 1", "c.yaml:1: found a tag (`!`); leave it out, or put the value in quotes"),
        (
            "a: */b",
            "c.yaml:1: found an alias (`*`) or anchor (`&`); \
                 write the value itself, in quotes where it starts with `*`",
        ),
        ("a: 1\n---\nb: 2", "c.yaml:2: found a second document; write one document, without `---`"),
        ("[a]: 1", "c.yaml:1: found a list or mapping as a key; write a single word before `:`"),
    ] {
        assert_eq!(errors(text), error, "{text:?}");
    }
    assert!(errors("a: &x 1\nb: *x").contains("c.yaml:2: found an alias (`*`); write the value itself"));
}

#[test]
fn invalid_yaml_is_reported_by_its_line() {
    for (text, error) in [
        ("a:\n\tb: 1", "c.yaml:2: found a tab; indent with spaces"),
        ("a: b: c", "c.yaml:1: found a `:` where none can be; check the indentation, or put the value in quotes"),
        ("a: \"x", "c.yaml:1: found the end of the file too early; close the bracket or quote that is open"),
        (
            "a: {b: 1",
            "c.yaml:1: found neither a comma nor the end of the brackets that open on line 1; write a comma between the items, and the closing bracket",
        ),
        ("a: 1\n b: 2", "c.yaml:2: found a `:` where none can be; check the indentation, or put the value in quotes"),
        ("a: 1\nb\nc: 2", "c.yaml:3: found a key without a colon; write `key: value`, with a space after the colon"),
    ] {
        assert_eq!(errors(text), error, "{text:?}");
    }
    assert_eq!(errors(b"a: 1\nb: \xff"), "c.yaml:2: found bytes that are not UTF-8; save the file as UTF-8");
    assert_eq!(
        errors("a: 1\nb: 2\0\nc: 3"),
        "c.yaml:2: found a control character; remove it; most editors can show invisible characters"
    );
}

#[test]
fn depth_size_and_number_are_bounded() {
    assert!(errors("[".repeat(17)).contains("too many levels"));
    assert!(errors("- ".repeat(200_000)).contains("too many levels"));
    assert!(errors("- 1\n".repeat(100_001)).contains("more than 100000 values"));
    assert!(errors(" ".repeat(MAX_BYTES + 1)).contains("more than 1 MiB"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&bytes, &"c".into());
    }

    #[test]
    fn no_marks_panic(text in "([-a: ,\\[\\]{}&*!|>'\"%@`#?~\n\r\t.0-9\\\\]|---|\\.\\.\\.|- |: |%TAG |<<){0,80}") {
        let _ = parse(text.as_bytes(), &"c".into());
    }
}
