//! `keygen DIR`: creates a signing key.

use crate::clock;
use crate::session::keys;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// Creates a key and prints its path.
pub(crate) fn run(directory: &Path) -> ExitCode {
    match create(directory) {
        Ok(file) => {
            println!("{}", file.display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{}: cannot create a key: {error}", directory.display());
            ExitCode::FAILURE
        }
    }
}

/// How many later seconds are tried for a free file name.
const MAX_LATER_SECONDS: u64 = 60;

/// Creates a key that no other user may read.
fn create(directory: &Path) -> io::Result<PathBuf> {
    // Only the directory of the keys is private: other programs may use a parent directory.
    if let Some(parent) = directory.parent() {
        std::fs::create_dir_all(parent)?;
    }
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let pem = keys::generate().map_err(|_| io::Error::other("the cryptographic library failed"))?;
    let now = clock::now();
    // The name is the time in seconds. If it is taken, use the next free second.
    for second in 0..MAX_LATER_SECONDS {
        match write(&pem, directory.join(keys::file_name(now + Duration::from_secs(second)))) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            written => return written,
        }
    }
    Err(io::Error::new(io::ErrorKind::AlreadyExists, "the names of the next 60 seconds are taken"))
}

/// Writes `pem` to the new `file` atomically. If root runs this, the file belongs to the owner of the directory: that user
/// runs `serve` and must be able to read it.
fn write(pem: &str, file: PathBuf) -> io::Result<PathBuf> {
    // A process that reads the directory must not see a partial key, so the file gets its name when it is complete.
    let temporary = file.with_extension("new");
    let mut new = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    let written = give_to_owner(&new, &file).and_then(|()| new.write_all(pem.as_bytes())).and_then(|()| new.sync_all());
    // `hard_link` refuses to replace a file; `rename` would not.
    let named = written.and_then(|()| std::fs::hard_link(&temporary, &file));
    std::fs::remove_file(&temporary)?;
    named.map(|()| file)
}

/// If root owns `new`, gives it to the owner of the directory of `file`.
fn give_to_owner(new: &File, file: &Path) -> io::Result<()> {
    let Some(directory) = file.parent().filter(|directory| !directory.as_os_str().is_empty()) else { return Ok(()) };
    let (own, owner) = (new.metadata()?, std::fs::metadata(directory)?);
    if own.uid() != 0 || owner.uid() == 0 { Ok(()) } else { fchown(new, Some(owner.uid()), Some(owner.gid())) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_new_key_loads_and_is_private() {
        let directory = tempfile::tempdir().unwrap();
        let keys_directory = directory.path().join("keys");
        let file = create(&keys_directory).unwrap();
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let settings = keys::KeySettings { directory: keys_directory.clone(), sign_after: std::time::Duration::ZERO };
        assert_eq!(keys::KeySet::load(&settings).ok().unwrap().keys().len(), 1);
        assert_eq!(std::fs::read_dir(&keys_directory).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn a_key_of_root_belongs_to_the_owner_of_the_directory() {
        let directory = tempfile::tempdir().unwrap();
        // Allowed to root alone; every other user makes keys in a directory of its own.
        let _ = std::os::unix::fs::chown(directory.path(), Some(65_534), Some(65_534));
        let owner = |path: &Path| (std::fs::metadata(path).unwrap().uid(), std::fs::metadata(path).unwrap().gid());
        let file = create(directory.path()).unwrap();
        assert_eq!(owner(&file), owner(directory.path()));
    }

    #[test]
    fn keys_of_the_same_second_get_different_names() {
        let directory = tempfile::tempdir().unwrap();
        let made: std::collections::HashSet<_> = (0..5).map(|_| create(directory.path()).unwrap()).collect();
        assert_eq!((made.len(), std::fs::read_dir(directory.path()).unwrap().count()), (5, 5));
    }

    #[test]
    fn only_the_directory_of_the_keys_is_private() {
        let directory = tempfile::tempdir().unwrap();
        let keys_directory = directory.path().join("etc/wechat-authz/keys");
        create(&keys_directory).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&keys_directory), 0o700);
        // As `mkdir` makes it under this process's umask, which is not 0o077 in any test run.
        assert_eq!(mode(keys_directory.parent().unwrap()) & 0o500, 0o500);
        assert_ne!(mode(keys_directory.parent().unwrap()), 0o700);
    }
}
