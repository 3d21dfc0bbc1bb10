//! `keygen DIR`: a new signing key.

use crate::clock;
use crate::session::keys;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// Makes a key and says where.
pub(crate) fn run(directory: &Path) -> ExitCode {
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

/// Keys made within one second, at most.
const MAX_SAME_SECOND: u64 = 60;

/// Makes a key and writes it where no other user may read it.
fn make(directory: &Path) -> io::Result<PathBuf> {
    // Only the directory of the keys is private: a parent is often another program's, too.
    if let Some(parent) = directory.parent() {
        std::fs::create_dir_all(parent)?;
    }
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let pem = keys::generate().map_err(|_| io::Error::other("the cryptographic library refused"))?;
    let now = clock::now();
    // A second key within a second takes the next free second for its name.
    for second in 0..MAX_SAME_SECOND {
        match write(&pem, directory.join(keys::file_name(now + Duration::from_secs(second)))) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            written => return written,
        }
    }
    Err(io::Error::new(io::ErrorKind::AlreadyExists, "there are keys for each of the next seconds"))
}

/// Writes `pem` to `file`, whole or not at all, and never over another file. What root writes belongs to the owner of the
/// directory: that user runs `serve`, and could not read a key of root's.
fn write(pem: &str, file: PathBuf) -> io::Result<PathBuf> {
    // A process that reads the directory meanwhile must not see half a key, so the file is named when it is whole.
    let fresh = file.with_extension("new");
    let mut half = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
    let written =
        give_to_owner(&half, &file).and_then(|()| half.write_all(pem.as_bytes())).and_then(|()| half.sync_all());
    // `hard_link` refuses to replace a file; `rename` would not.
    let named = written.and_then(|()| std::fs::hard_link(&fresh, &file));
    std::fs::remove_file(&fresh)?;
    named.map(|()| file)
}

/// Gives root's `fresh` key to the owner of the directory of `file`.
fn give_to_owner(fresh: &File, file: &Path) -> io::Result<()> {
    let Some(directory) = file.parent().filter(|directory| !directory.as_os_str().is_empty()) else { return Ok(()) };
    let (own, owner) = (fresh.metadata()?, std::fs::metadata(directory)?);
    if own.uid() != 0 || owner.uid() == 0 { Ok(()) } else { fchown(fresh, Some(owner.uid()), Some(owner.gid())) }
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
    fn a_key_made_by_root_belongs_to_the_owner_of_the_directory() {
        let directory = tempfile::tempdir().unwrap();
        // Allowed to root alone; every other user makes keys in a directory of its own.
        let _ = std::os::unix::fs::chown(directory.path(), Some(65_534), Some(65_534));
        let owner = |path: &Path| (std::fs::metadata(path).unwrap().uid(), std::fs::metadata(path).unwrap().gid());
        let file = make(directory.path()).unwrap();
        assert_eq!(owner(&file), owner(directory.path()));
    }

    #[test]
    fn keys_made_in_the_same_second_all_stay() {
        let directory = tempfile::tempdir().unwrap();
        let made: std::collections::HashSet<_> = (0..5).map(|_| make(directory.path()).unwrap()).collect();
        assert_eq!((made.len(), std::fs::read_dir(directory.path()).unwrap().count()), (5, 5));
    }

    #[test]
    fn only_the_directory_of_the_keys_is_private() {
        let directory = tempfile::tempdir().unwrap();
        let keys_directory = directory.path().join("etc/wechat-authz/keys");
        make(&keys_directory).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&keys_directory), 0o700);
        // As `mkdir` makes it under this process's umask, which is not 0o077 in any test run.
        assert_eq!(mode(keys_directory.parent().unwrap()) & 0o500, 0o500);
        assert_ne!(mode(keys_directory.parent().unwrap()), 0o700);
    }
}
