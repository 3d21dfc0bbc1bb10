//! The structure of the repository: modules use modules of lower levels only (docs/en/architecture.md, Levels); the
//! tests in `tests/README.md` and the files in `docs/en/architecture.md` exist; comments cite only documents that a
//! reader of the repository can open.

#![allow(clippy::unwrap_used)] // a test says what it means by failing

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Modules by level. A module uses itself and modules of lower levels.
const LEVELS: [(u8, &[&str]); 9] = [
    (8, &["main", "cli"]),
    (7, &["app"]),
    (6, &["config", "server", "admin"]),
    (5, &["routes"]),
    (4, &["ext_authz", "login"]),
    (3, &["sessions", "access_token"]),
    (2, &["session", "wechat", "policy", "rate_limit", "response"]),
    (1, &["redis", "telemetry", "html", "client_address", "client_kind"]),
    (
        0,
        &[
            "decision",
            "login_method",
            "profile",
            "path",
            "percent",
            "identity",
            "cookie",
            "origin",
            "seal",
            "secret",
            "clock",
            "random",
            "http_client",
            "core_dump",
            "app_name",
            "session_id",
            "subject",
        ],
    ),
];

/// Allowed uses within one level, each with its reason.
const NEIGHBOURS: [(&str, &str, &str); 6] = [
    ("redis", "telemetry", "calls to Redis are counted where they happen"),
    ("decision", "identity", "an allow has the identity"),
    ("decision", "subject", "a requirement may list subjects"),
    ("session_id", "random", "a new session's id is random"),
    ("config", "server", "config makes each module's own settings"),
    ("config", "admin", "config makes each module's own settings"),
];

fn level(module: &str) -> u8 {
    let found = LEVELS.iter().find(|(_, modules)| modules.contains(&module));
    found.unwrap_or_else(|| panic!("`{module}` has no level: add it to the table of tests/structure.rs")).0
}

fn sources(directory: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

/// The module of a file: its folder or name under `src`.
fn module_of(file: &Path, root: &Path) -> String {
    let first = file.strip_prefix(root).unwrap().components().next().unwrap();
    first.as_os_str().to_str().unwrap().trim_end_matches(".rs").to_owned()
}

/// The text without comments and tests.
fn production(text: &str) -> String {
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// Module names after `crate::`, also in braces.
fn used(code: &str) -> Vec<String> {
    let mut modules = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        if at > 0 && code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let rest = &code[at + "crate::".len()..];
        let names: Vec<&str> = match rest.strip_prefix('{') {
            Some(list) => list.split('}').next().unwrap().split(',').collect(),
            None => vec![rest],
        };
        for name in names {
            let name: String = name.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            if !name.is_empty() {
                modules.push(name);
            }
        }
    }
    modules
}

fn arrows() -> BTreeMap<(String, String), PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let mut arrows = BTreeMap::new();
    for file in files {
        let module = module_of(&file, &root);
        // `testing` gives tests, fuzz targets and benchmarks access to the crate, so it uses everything.
        let is_test = file
            .strip_prefix(&root)
            .unwrap()
            .components()
            .any(|part| matches!(part.as_os_str().to_str(), Some("tests" | "tests.rs")));
        if matches!(module.as_str(), "lib" | "testing") || is_test {
            continue;
        }
        for other in used(&production(&fs::read_to_string(&file).unwrap())) {
            if other != module {
                arrows.insert((module.clone(), other), file.clone());
            }
        }
    }
    arrows
}

#[test]
fn arrows_between_modules_only_go_down() {
    let arrows = arrows();
    assert!(arrows.len() > 20, "parsing of `crate::` paths is broken: {arrows:?}");
    for ((from, to), file) in arrows {
        let neighbour = NEIGHBOURS.iter().any(|(one, other, _)| (*one, *other) == (from.as_str(), to.as_str()));
        assert!(level(&from) > level(&to) || neighbour, "{} uses `{to}`, which is not below `{from}`", file.display());
    }
}

#[test]
fn a_gateway_never_meets_wechat_and_a_decision_never_waits() {
    let arrows = arrows();
    for (from, to) in [
        ("ext_authz", "wechat"),
        ("ext_authz", "login"),
        ("session", "wechat"),
        ("session", "policy"),
        ("session", "redis"),
    ] {
        assert!(!arrows.contains_key(&(from.to_owned(), to.to_owned())), "{from} → {to}");
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    for module in ["session", "ext_authz"] {
        sources(&root.join(module), &mut files);
    }
    for file in files {
        let code = production(&fs::read_to_string(&file).unwrap());
        assert!(!code.contains(".await") && !code.contains("async fn"), "{} is asynchronous", file.display());
    }
}

#[test]
fn the_map_in_lib_names_every_module() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let map = fs::read_to_string(root.join("lib.rs")).unwrap();
    for entry in fs::read_dir(&root).unwrap() {
        let name = module_of(&entry.unwrap().path(), &root);
        // Only tests use `documents` and `testing`.
        if !matches!(name.as_str(), "lib" | "main" | "documents" | "testing") {
            assert!(map.contains(&format!("\nmod {name};")), "{name} is not in lib.rs");
            level(&name);
        }
    }
}

/// Every `fn` name in the sources and tests.
fn functions() -> std::collections::HashSet<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for directory in ["src", "tests"] {
        sources(&root.join(directory), &mut files);
    }
    let mut names = std::collections::HashSet::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        for (at, _) in text.match_indices("fn ") {
            names.insert(text[at + 3..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect());
        }
    }
    names
}

#[test]
fn every_test_that_the_map_names_exists() {
    let map = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/README.md")).unwrap();
    let functions = functions();
    // Test names are sentences: at least two underscores.
    let named: Vec<&str> = map
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|word| {
            word.matches('_').count() >= 2
                && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        })
        .filter(|word| !word.starts_with("snapsi_") && !word.starts_with("wechat_authz_"))
        .collect();
    assert!(named.len() > 60, "found too few names: {named:?}");
    for name in named {
        assert!(functions.contains(name), "tests/README.md names `{name}`, which is not a test");
    }
}

/// Folders with files whose comments this test checks.
const COMMENTED: [&str; 6] = ["src", "tests", "fuzz", "benches", "envoy", "helm"];

/// Folders of generated or installed files.
const NOT_WRITTEN_HERE: [&str; 8] =
    ["target", "node_modules", "corpus", "artifacts", "coverage", "golden", "charts", "__pycache__"];

/// The hand-written text files below `directory`.
fn written_files(directory: &Path, into: &mut Vec<(PathBuf, String)>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() {
            if !NOT_WRITTEN_HERE.contains(&name) && !name.starts_with('.') {
                written_files(&path, into);
            }
            continue;
        }
        let kind = path.extension().map(|extension| extension.to_str().unwrap());
        let is_written =
            matches!(kind, None | Some("rs" | "go" | "py" | "md" | "yaml" | "toml" | "tpl" | "css" | "js"));
        if is_written && let Ok(text) = fs::read_to_string(&path) {
            into.push((path, text));
        }
    }
}

/// All comments of a file on one line, because a citation may span lines; for a document, its whole text.
fn comments(path: &Path, text: &str) -> String {
    let marker = match path.extension().and_then(|extension| extension.to_str()) {
        Some("rs" | "go") => "//",
        _ => "",
    };
    let comments = text.lines().filter_map(|line| line.split_once(marker).map(|(_, comment)| comment));
    let words = comments.flat_map(|comment| comment.trim_start_matches(['/', '!', '#']).split_whitespace());
    words.collect::<Vec<_>>().join(" ")
}

/// Citations in `comments` of anything but a public document or a chapter of `docs/en`. `chapters` returns the
/// headings of a document.
fn unknown_sources(comments: &str, chapters: impl Fn(&str) -> Option<Vec<String>>) -> Vec<String> {
    let pattern = |text: &str| regex::Regex::new(text).unwrap();
    let mut unknown = Vec::new();
    // A section of a public document, or a numbered line of an absent note.
    let section = pattern(r"§");
    let public = pattern(r"(RFC [0-9]{3,5}|Trace Context),? $");
    for found in section.find_iter(comments) {
        if !public.is_match(&comments[..found.start()]) {
            unknown.push(around(comments, found.start()));
        }
    }
    let label = pattern(r"(Amazon )?\b[RST][0-9]{1,2}\b|\bissue #?[0-9]+|\bthe mission\b");
    unknown.extend(
        label
            .find_iter(comments)
            .filter(|found| !found.as_str().starts_with("Amazon"))
            .map(|found| around(comments, found.start())),
    );
    for found in pattern(r"docs/en/([a-z-]+)\.md(, (?P<chapter>[A-Z]))?").captures_iter(comments) {
        let whole = found.get(0).unwrap();
        let headings = chapters(&found[1]);
        let is_known = match (&headings, found.name("chapter")) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(headings), Some(first)) => {
                let rest = |heading: &String| comments[first.start()..].strip_prefix(heading.as_str());
                headings.iter().filter_map(rest).any(|rest| !rest.starts_with(char::is_alphanumeric))
            }
        };
        if !is_known {
            unknown.push(around(comments, whole.start()));
        }
    }
    unknown
}

/// The place in a text, with the words around it.
fn around(text: &str, at: usize) -> String {
    let begin = text[..at].char_indices().rev().nth(40).map_or(0, |(begin, _)| begin);
    text[begin..].chars().take(100).collect()
}

/// The headings of a document in `docs/en`.
fn headings(name: &str) -> Option<Vec<String>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("docs/en/{name}.md"));
    let text = fs::read_to_string(path).ok()?;
    let headings = text.lines().filter(|line| line.starts_with('#'));
    Some(headings.map(|line| line.trim_start_matches('#').trim().to_owned()).collect())
}

#[test]
fn comments_cite_only_what_a_reader_can_open() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for directory in COMMENTED {
        written_files(&root.join(directory), &mut files);
    }
    assert!(files.len() > 300, "found too few files: {}", files.len());
    let mut cited = 0;
    let mut unknown = Vec::new();
    // This file contains bad examples.
    for (path, text) in files.iter().filter(|(path, _)| !path.ends_with("tests/structure.rs")) {
        let comments = comments(path, text);
        cited += comments.matches("docs/en/").count();
        unknown.extend(
            unknown_sources(&comments, headings).into_iter().map(|found| format!("{}: {found}", path.display())),
        );
    }
    assert!(cited > 40, "found too few citations: {cited}");
    assert!(unknown.is_empty(), "citations that a reader cannot open:\n{}", unknown.join("\n"));
}

#[test]
fn a_citation_of_something_else_is_found() {
    let chapters = |name: &str| (name == "wechat").then(|| vec!["Exchange".to_owned(), "Error codes".to_owned()]);
    for good in [
        "// Once (RFC 9112 §3.2).",
        "// At least 512 bytes (W3C Trace\n    // Context §3.3.1.5).",
        "// The table of docs/en/wechat.md, Error\n// codes, in one place.",
        "// See docs/en/wechat.md for both.",
        "// Paths of npm, Amazon S3 and others.",
        "let t1 = \"T1\";",
    ] {
        let comments = comments(Path::new("a.rs"), good);
        assert_eq!(unknown_sources(&comments, chapters), Vec::<String>::new(), "{good}");
    }
    for (bad, count) in [
        ("// Sends the code once (protocol §3.2).", 1),
        ("// An allow is 200 (contract\n// §1.4).", 1),
        ("let a = 1; // A closed list (R3).", 1),
        ("//! What comes back (T7, T8).", 2),
        ("// Loops end on a page (protocol S16).", 1),
        ("// The spellings of issue 9.", 1),
        ("// See docs/en/wechat.md, Exchanges of codes.", 1),
        ("// See docs/en/wechat.md, Time limits.", 1),
        ("// See docs/en/design.md.", 1),
    ] {
        let comments = comments(Path::new("a.rs"), bad);
        assert_eq!(unknown_sources(&comments, chapters).len(), count, "{bad}");
    }
}

#[test]
fn every_file_that_the_architecture_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    sources(&root.join("src"), &mut files);
    for document in ["docs/en/architecture.md", "docs/zh/architecture.md"] {
        let text = fs::read_to_string(root.join(document)).unwrap();
        let quoted = text.split("```").step_by(2).flat_map(|prose| prose.split('`').skip(1).step_by(2));
        let named: Vec<&str> = quoted
            .filter(|word| word.ends_with(".rs") || word.ends_with('/'))
            .map(|word| word.strip_prefix("src/").unwrap_or(word))
            .filter(|word| !word.is_empty() && !word.starts_with("tests/"))
            .collect();
        assert!(named.len() > 40, "found too few names: {named:?}");
        for name in named {
            let path = format!("/{name}");
            let exists = files.iter().any(|file| {
                let file = file.to_str().unwrap();
                if name.ends_with('/') { file.contains(&path) } else { file.ends_with(&path) }
            });
            assert!(exists, "{document} names `{name}`, which is not in src/");
        }
    }
}
