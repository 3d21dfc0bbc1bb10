//! The configuration: any text as the file and in the environment.
//!
//! An input is the file; lines that start with `#env NAME=value` are the environment's overrides as well.

use std::ffi::OsString;
use wechat_authz::testing::config::{self, Diagnostics, Place, settings};

/// A file has errors, each with its place and without control characters, or it loads, and its effective configuration
/// reads as itself.
pub fn holds(data: &[u8]) {
    let lines = data.split(|byte| *byte == b'\n').filter_map(|line| line.strip_prefix(b"#env "));
    let pairs = lines.filter_map(|line| std::str::from_utf8(line).ok()?.split_once('='));
    let pairs = pairs.filter(|(name, _)| !name.contains('\0'));
    let env: Vec<(OsString, OsString)> = pairs.map(|(name, value)| (name.into(), value.into())).collect();
    // Relative paths start here, where a file that any text can name stands for a secret.
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz.yaml");
    let loaded = match config::read(data, file.into(), env.into_iter()) {
        Ok(loaded) => loaded,
        Err(errors) => return assert_readable(&errors),
    };
    let effective = loaded.effective();
    // A path that may be a pasted secret is masked, and a masked path is not one.
    if !effective.contains("\"***\"") {
        match config::read(effective.as_bytes(), file.into(), std::iter::empty()) {
            Ok(again) => assert_eq!(again.effective(), effective),
            Err(errors) => panic!("{errors}\nof:\n{effective}"),
        }
    }
    match settings::resolve(loaded) {
        Err(errors) => assert_readable(&errors),
        Ok(settings) => {
            assert!(!settings.apps.is_empty());
            for app in &settings.apps {
                assert!(app.official_account.is_some() || app.website.is_some(), "nobody can log in to {}", app.name);
            }
        }
    }
}

fn assert_readable(errors: &Diagnostics) {
    let mut count = 0;
    for error in errors.iter() {
        count += 1;
        if let Place::Line { line, .. } = error.place {
            assert!(line > 0);
        }
        let text = error.to_string();
        assert!(!error.found.is_empty() && !error.wanted.is_empty(), "{text}");
        assert!(!text.chars().any(char::is_control), "{text:?}");
        assert!(text.chars().count() < 2_000, "an error of {} characters", text.chars().count());
    }
    assert!(count > 0 && !errors.to_string().is_empty());
}
