//! The configuration: any text as the file and as environment variables.
//!
//! An input is the file; lines that start with `#env NAME=value` also become environment variables.

use std::ffi::OsString;
use wechat_authz::testing::config::{self, Diagnostics, Place, settings};

/// A file either has errors, each with its place and without control characters, or it loads, and its effective
/// configuration loads with the same result.
pub fn holds(data: &[u8]) {
    let lines = data.split(|byte| *byte == b'\n').filter_map(|line| line.strip_prefix(b"#env "));
    let pairs = lines.filter_map(|line| std::str::from_utf8(line).ok()?.split_once('='));
    let pairs = pairs.filter(|(name, _)| !name.contains('\0'));
    let env: Vec<(OsString, OsString)> = pairs.map(|(name, value)| (name.into(), value.into())).collect();
    // Relative paths start in this directory, which holds a secret file that an input can name.
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz.yaml");
    let loaded = match config::read(data, file.into(), env.into_iter()) {
        Ok(loaded) => loaded,
        Err(errors) => return assert_readable(&errors),
    };
    let effective = loaded.effective();
    // A path that may be a pasted secret is masked; the mask itself is not a valid path.
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
                assert!(app.official_account.is_some() || app.website.is_some(), "no login method for {}", app.name);
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
