//! The committed corpus holds, findings of the past among it; no libFuzzer is needed for that.

use std::fs;
use std::path::Path;
use wechat_authz_fuzz::TARGETS;

/// Beyond, a corpus is no longer looked at by anybody.
const MOST_FILES: usize = 60;

#[test]
fn everything_in_the_corpus_holds() {
    for (name, holds) in TARGETS {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
        let mut files: Vec<_> = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        assert!((5..=MOST_FILES).contains(&files.len()), "{name} has {} files", files.len());
        for file in files {
            let bytes = fs::read(&file).unwrap();
            let held = std::panic::catch_unwind(|| holds(&bytes));
            assert!(held.is_ok(), "{} breaks its promise", file.display());
        }
    }
}

#[test]
fn every_corpus_has_a_target() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for entry in fs::read_dir(corpus).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(wechat_authz_fuzz::target(&name).is_some(), "{name} is no target");
    }
}
