//! The journal: an append-only file of revocations, one JSON object per line, so that a restart loses none.
//!
//! A revocation is acknowledged after its line is on the disk. So an incomplete last line was never acknowledged, and is
//! ignored. Any other invalid line stops the start: ignoring it could make a revoked session valid again.

use super::revocation::{self, Revocation};
use crate::clock::Timestamp;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The name of the file in the state directory.
pub(crate) const FILE_NAME: &str = "revocations.jsonl";

/// How many lines of expired revocations the file may hold before it is compacted.
const MAX_EXPIRED_LINES: usize = 10_000;

/// The name of the file that the process which writes the journal locks.
const LOCK_NAME: &str = "revocations.lock";

/// Why the journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file system returned an error.
    #[error("{path}: {error}{}", next_step(.1), path = .0.display(), error = .1)]
    Io(PathBuf, std::io::Error),
    /// Another process writes the journal.
    #[error("{0}: another process uses this directory; give each process its own")]
    InUse(PathBuf),
    /// A line is not valid.
    #[error("{0}: line {1} is not a revocation; correct or remove the line")]
    Line(PathBuf, usize),
}

/// What the operator can do about an error of the file system.
fn next_step(error: &std::io::Error) -> &'static str {
    match error.kind() {
        // Often `serve` ran as root before.
        std::io::ErrorKind::PermissionDenied => {
            "; give the directory and its files to the user that runs `serve`: chown -R"
        }
        std::io::ErrorKind::StorageFull => "; free space on the disk",
        _ => "",
    }
}

/// An open journal.
pub struct Journal {
    path: PathBuf,
    file: File,
    lines: usize,
    /// The length of the complete lines.
    length: u64,
    /// A write failed, so that a revocation in memory is not in the file.
    incomplete: bool,
    _lock: File,
}

impl Journal {
    /// Opens the journal in `directory`, loads the revocations that have not expired at `now`, and compacts the file.
    ///
    /// # Errors
    /// [`JournalError`]: the directory must exist and be writable, and all lines must be valid.
    pub fn open(directory: &Path, now: Timestamp) -> Result<(Self, Vec<Revocation>), JournalError> {
        let path = directory.join(FILE_NAME);
        let lock = lock(directory)?;
        let loaded = match File::open(&path) {
            Ok(file) => read(&path, file)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(JournalError::Io(path, error)),
        };
        let live = if loaded.iter().any(|revocation| revocation.until > now.0) {
            loaded.into_iter().filter(|revocation| revocation.until > now.0).collect()
        } else {
            // If all have expired, the clock may be wrong. Keeping the lines costs little.
            loaded
        };
        let (file, length) = rewrite(&path, &live)?;
        Ok((Self { path, file, lines: live.len(), length, incomplete: false, _lock: lock }, live))
    }

    /// Writes a line and waits until it is on the disk.
    ///
    /// # Errors
    /// The file system returned an error.
    pub fn append(&mut self, revocation: &Revocation) -> Result<(), JournalError> {
        let line = render(revocation);
        match self.file.write_all(line.as_bytes()).and_then(|()| self.file.sync_data()) {
            Ok(()) => {
                self.lines += 1;
                self.length += line.len() as u64;
                Ok(())
            }
            Err(error) => {
                // Remove a partial line: the next line must not be appended to it.
                let _ = self.file.set_len(self.length);
                self.incomplete = true;
                Err(JournalError::Io(self.path.clone(), error))
            }
        }
    }

    /// Whether most lines have expired, where `live` have not, or a line is missing.
    pub fn wants_compaction(&self, live: usize) -> bool {
        self.incomplete || self.lines > live.saturating_mul(2).saturating_add(MAX_EXPIRED_LINES)
    }

    /// Replaces the file with one of these revocations.
    ///
    /// # Errors
    /// The file system returned an error. The old file stays.
    pub fn compact(&mut self, live: &[Revocation]) -> Result<(), JournalError> {
        (self.file, self.length) = rewrite(&self.path, live)?;
        self.lines = live.len();
        self.incomplete = false;
        Ok(())
    }
}

fn render(revocation: &Revocation) -> String {
    revocation::render(revocation) + "\n"
}

fn read(path: &Path, file: File) -> Result<Vec<Revocation>, JournalError> {
    let mut reader = BufReader::new(file);
    let mut revocations = Vec::new();
    for number in 1.. {
        let mut line = Vec::new();
        let length = reader.read_until(b'\n', &mut line).map_err(|error| JournalError::Io(path.to_owned(), error))?;
        if length == 0 {
            break;
        }
        let complete = line.pop_if(|last| *last == b'\n').is_some();
        match std::str::from_utf8(&line).ok().and_then(revocation::read) {
            Some(revocation) => revocations.push(revocation),
            _ if !complete => tracing::warn!(line = number, "ignored the incomplete last line of the journal"),
            _ => return Err(JournalError::Line(path.to_owned(), number)),
        }
    }
    Ok(revocations)
}

/// Locks the journal in `directory` while the returned file is open.
fn lock(directory: &Path) -> Result<File, JournalError> {
    let path = directory.join(LOCK_NAME);
    let opened = OpenOptions::new().create(true).append(true).mode(0o600).open(&path);
    let file = opened.map_err(|error| JournalError::Io(path.clone(), error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(JournalError::InUse(directory.to_owned())),
        Err(TryLockError::Error(error)) => Err(JournalError::Io(path, error)),
    }
}

/// Replaces the file atomically. Returns the new file, open for appending, and its length.
fn rewrite(path: &Path, live: &[Revocation]) -> Result<(File, u64), JournalError> {
    let fresh = path.with_extension("new");
    let write = || {
        let mut file = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&fresh)?;
        for revocation in live {
            file.write_all(render(revocation).as_bytes())?;
        }
        file.sync_data()?;
        std::fs::rename(&fresh, path)?;
        if let Some(directory) = path.parent() {
            File::open(directory)?.sync_all()?;
        }
        let file = OpenOptions::new().append(true).open(path)?;
        let length = file.metadata()?.len();
        Ok((file, length))
    };
    write().map_err(|error| JournalError::Io(path.to_owned(), error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_the_file_system_names_the_next_step() {
        let error =
            |kind: std::io::ErrorKind| JournalError::Io("/state/revocations.lock".into(), kind.into()).to_string();
        assert!(error(std::io::ErrorKind::PermissionDenied).ends_with("chown -R"));
        assert!(error(std::io::ErrorKind::NotFound).ends_with("entity not found"));
    }
    use crate::session::revocation::Target;

    fn revocation(sid: &str, until: u64) -> Revocation {
        Revocation::new(Target::Session(crate::session_id::SessionId::named(sid)), 10, until)
    }

    #[test]
    fn a_restart_loads_what_has_not_expired() {
        let directory = tempfile::tempdir().unwrap();
        let (mut journal, loaded) = Journal::open(directory.path(), Timestamp(0)).unwrap();
        assert!(loaded.is_empty());
        for revocation in [revocation("a", 100), revocation("b", 50)] {
            journal.append(&revocation).unwrap();
        }
        drop(journal);
        let (_, loaded) = Journal::open(directory.path(), Timestamp(60)).unwrap();
        assert_eq!(loaded, [revocation("a", 100)]);
        let text = std::fs::read_to_string(directory.path().join(FILE_NAME)).unwrap();
        assert_eq!(text, render(&revocation("a", 100)));
    }

    #[test]
    fn an_incomplete_last_line_is_ignored_and_an_invalid_one_fails() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join(FILE_NAME);
        let whole = render(&revocation("a", 100));
        std::fs::write(&file, format!("{whole}{}", &whole[..20])).unwrap();
        assert_eq!(Journal::open(directory.path(), Timestamp(0)).unwrap().1, [revocation("a", 100)]);
        std::fs::write(&file, format!("{}\n{whole}", &whole[..20])).unwrap();
        assert!(matches!(Journal::open(directory.path(), Timestamp(0)), Err(JournalError::Line(_, 1))));
    }

    #[test]
    fn compacting_removes_expired_lines() {
        let directory = tempfile::tempdir().unwrap();
        let (mut journal, _) = Journal::open(directory.path(), Timestamp(0)).unwrap();
        journal.append(&revocation("a", 100)).unwrap();
        journal.lines = MAX_EXPIRED_LINES + 10;
        assert!(journal.wants_compaction(1));
        journal.compact(&[revocation("b", 100)]).unwrap();
        journal.append(&revocation("c", 100)).unwrap();
        drop(journal);
        let (_, loaded) = Journal::open(directory.path(), Timestamp(0)).unwrap();
        assert_eq!(loaded, [revocation("b", 100), revocation("c", 100)]);
    }

    #[test]
    fn a_second_process_cannot_open_the_journal() {
        let directory = tempfile::tempdir().unwrap();
        let first = Journal::open(directory.path(), Timestamp(0)).unwrap();
        assert!(matches!(Journal::open(directory.path(), Timestamp(0)), Err(JournalError::InUse(_))));
        drop(first);
        assert!(Journal::open(directory.path(), Timestamp(0)).is_ok());
    }

    #[test]
    fn a_clock_that_is_years_ahead_loses_no_revocation() {
        let directory = tempfile::tempdir().unwrap();
        let (mut journal, _) = Journal::open(directory.path(), Timestamp(0)).unwrap();
        journal.append(&revocation("a", 100)).unwrap();
        drop(journal);
        drop(Journal::open(directory.path(), Timestamp(1_000_000)).unwrap());
        let (_, loaded) = Journal::open(directory.path(), Timestamp(50)).unwrap();
        assert_eq!(loaded, [revocation("a", 100)]);
    }

    #[test]
    fn a_line_that_failed_is_written_when_the_disk_has_space() {
        let directory = tempfile::tempdir().unwrap();
        let (mut journal, _) = Journal::open(directory.path(), Timestamp(0)).unwrap();
        journal.append(&revocation("a", 100)).unwrap();
        // Writing to a file that is open for reading fails, as on a full disk.
        let good = std::mem::replace(&mut journal.file, File::open(directory.path().join(FILE_NAME)).unwrap());
        assert!(journal.append(&revocation("b", 100)).is_err());
        journal.file = good;
        assert!(journal.wants_compaction(2), "something is missing");
        journal.compact(&[revocation("a", 100), revocation("b", 100)]).unwrap();
        drop(journal);
        let (_, loaded) = Journal::open(directory.path(), Timestamp(0)).unwrap();
        assert_eq!(loaded, [revocation("a", 100), revocation("b", 100)]);
    }

    #[test]
    fn only_the_owner_can_read_the_journal() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let _journal = Journal::open(directory.path(), Timestamp(0)).unwrap();
        for name in [FILE_NAME, LOCK_NAME] {
            let mode = std::fs::metadata(directory.path().join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
    }

    #[test]
    fn a_missing_directory_is_an_error_with_its_path() {
        let error = Journal::open(Path::new("/nonexistent"), Timestamp(0)).err().unwrap();
        assert!(error.to_string().starts_with("/nonexistent/revocations"), "{error}");
    }
}
