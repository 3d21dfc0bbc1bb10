//! `keygen DIR`: a new signing key.

use crate::clock;
use crate::session::keys;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Makes a key and says where.
#[must_use]
pub fn run(directory: &Path) -> ExitCode {
    match make(directory) {
        Ok(file) => {
            println!("{}", file.display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{}: no key was made: {error}", directory.display());
            ExitCode::FAILURE
        }
    }
}

/// Writes the key where nobody else may read it; never over another.
fn make(directory: &Path) -> io::Result<PathBuf> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let pem = keys::generate().map_err(|_| io::Error::other("the cryptographic library refused"))?;
    let file = directory.join(keys::file_name(clock::now()));
    // Whoever reads the directory meanwhile must not see half a key, so it gets its name when it is whole.
    let fresh = file.with_extension("new");
    let mut half = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
    let written = half.write_all(pem.as_bytes()).and_then(|()| half.sync_all());
    // `hard_link` refuses to replace a file; `rename` would not.
    let named = written.and_then(|()| std::fs::hard_link(&fresh, &file));
    std::fs::remove_file(&fresh)?;
    named.map(|()| file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_key_is_made_that_can_be_loaded_and_that_nobody_else_can_read() {
        let directory = tempfile::tempdir().unwrap();
        let keys_directory = directory.path().join("keys");
        let file = make(&keys_directory).unwrap();
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let settings = keys::KeySettings { directory: keys_directory.clone(), sign_after: std::time::Duration::ZERO };
        assert_eq!(keys::KeySet::load(&settings).ok().unwrap().keys().len(), 1);
        assert_eq!(std::fs::read_dir(&keys_directory).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn no_key_is_written_over_another() {
        let directory = tempfile::tempdir().unwrap();
        let made: Vec<_> = (0..3).map(|_| make(directory.path())).collect();
        assert!(made[0].is_ok());
        let files = std::fs::read_dir(directory.path()).unwrap().count();
        assert_eq!(files, made.iter().filter(|result| result.is_ok()).count());
    }
}
