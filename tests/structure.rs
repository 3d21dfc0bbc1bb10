//! Holds the levels of the design: an arrow between modules only goes down.
//!
//! Reads every `crate::` path in `src/`, outside tests, and compares it with the table.

#![allow(clippy::unwrap_used)] // a test says what it means by failing

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Modules by level; a module may use those of lower levels and itself.
const LEVELS: [(u8, &[&str]); 7] = [
    (6, &["main", "command"]),
    (5, &["config", "server", "admin"]),
    (4, &["gateway", "pages"]),
    (3, &["decide", "login"]),
    (2, &["policy", "limits", "session", "wechat"]),
    (1, &["store", "telemetry", "html"]),
    (
        0,
        &[
            "check",
            "path",
            "percent",
            "identity",
            "cookie",
            "origin",
            "seal",
            "secret",
            "clock",
            "random",
            "roots",
            "core_dump",
        ],
    ),
];

/// Arrows between neighbours of one level, each with its reason.
const NEIGHBOURS: [(&str, &str, &str); 7] = [
    ("store", "telemetry", "calls to Redis are counted where they happen"),
    ("check", "path", "a check holds the path's one reading"),
    ("check", "identity", "an allow says who it is"),
    ("check", "cookie", "a check holds the cookies as the application may see them"),
    ("pages", "gateway", "both doors read host, address and credential of a request in the same one place"),
    ("config", "server", "a module's own settings are made in config"),
    ("config", "admin", "a module's own settings are made in config"),
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

/// The module a file belongs to: its folder or name under `src`.
fn module_of(file: &Path, root: &Path) -> String {
    let first = file.strip_prefix(root).unwrap().components().next().unwrap();
    first.as_os_str().to_str().unwrap().trim_end_matches(".rs").to_owned()
}

/// The text without its comments and its tests.
fn production(text: &str) -> String {
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// Modules named after `crate::`, also in braces.
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
        if module == "lib" || file.file_stem().is_some_and(|name| name == "tests") {
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
    assert!(arrows.len() > 20, "the reading of `crate::` paths is broken: {arrows:?}");
    for ((from, to), file) in arrows {
        let neighbour = NEIGHBOURS.iter().any(|(one, other, _)| (*one, *other) == (from.as_str(), to.as_str()));
        assert!(level(&from) > level(&to) || neighbour, "{} uses `{to}`, which is not below `{from}`", file.display());
    }
}

#[test]
fn a_gateway_never_meets_wechat_and_a_decision_never_waits() {
    let arrows = arrows();
    for (from, to) in [
        ("gateway", "wechat"),
        ("gateway", "login"),
        ("decide", "wechat"),
        ("session", "wechat"),
        ("session", "policy"),
    ] {
        assert!(!arrows.contains_key(&(from.to_owned(), to.to_owned())), "{from} → {to}");
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    for module in ["decide", "session", "gateway"] {
        sources(&root.join(module), &mut files);
    }
    // Keeps revocations in step with other instances, beside the checks and never in one.
    files.retain(|file| !file.ends_with("session/sharing.rs"));
    for file in files {
        let code = production(&fs::read_to_string(&file).unwrap());
        assert!(!code.contains(".await") && !code.contains("async fn"), "{} waits", file.display());
    }
}

#[test]
fn the_map_in_lib_names_every_module() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let map = fs::read_to_string(root.join("lib.rs")).unwrap();
    for entry in fs::read_dir(&root).unwrap() {
        let name = module_of(&entry.unwrap().path(), &root);
        if !matches!(name.as_str(), "lib" | "main") {
            assert!(map.contains(&format!("pub mod {name};")), "{name} is not in lib.rs");
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
    // Names of tests are sentences: at least two underscores.
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
    assert!(named.len() > 60, "the map is not read: {named:?}");
    for name in named {
        assert!(functions.contains(name), "tests/README.md names `{name}`, which is no test");
    }
}
