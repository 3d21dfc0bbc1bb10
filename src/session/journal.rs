//! The journal: revocations in an append-only file, one JSON object a line, so that a restart forgets none.
//!
//! A line is on the disk before the revocation is acknowledged. A torn last line was never acknowledged and is passed
//! over; any other line that cannot be read stops the start, because guessing could bring a revoked session back.

use super::revocation::{self, Revocation};
use crate::clock::Timestamp;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The file's name in the state directory.
pub(crate) const FILE_NAME: &str = "revocations.jsonl";

/// Dead lines the file may hold before it is written anew.
const SLACK: usize = 10_000;

/// Held locked by the process that writes the journal.
const LOCK_NAME: &str = "revocations.lock";

/// Why the journal cannot be used. The operator's error, or the disk's.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file system refused.
    #[error("{path}: {error}{}", next_step(.1), path = .0.display(), error = .1)]
    Io(PathBuf, std::io::Error),
    /// Another process writes it: two would lose each other's lines.
    #[error("{0}: another process uses this directory; give each its own")]
    InUse(PathBuf),
    /// A line in the middle is not one of ours.
    #[error("{0}: line {1} is not a revocation; mend or remove that line: guessing could let a revoked session in")]
    Line(PathBuf, usize),
}

/// What helps against an error of the file system, to follow it.
fn next_step(error: &std::io::Error) -> &'static str {
    match error.kind() {
        // `serve` ran as another user before, often as root.
        std::io::ErrorKind::PermissionDenied => {
            "; give the directory and its files to the user that runs `serve`: chown -R"
        }
        std::io::ErrorKind::StorageFull => "; make room on the disk",
        _ => "",
    }
}

/// The open file.
pub struct Journal {
    path: PathBuf,
    file: File,
    lines: usize,
    /// Bytes that are whole lines.
    length: u64,
    /// A write failed: what is in memory is not all on the disk.
    torn: bool,
    _lock: File,
}

impl Journal {
    /// Opens the journal in `directory`, brings back what still matters at `now`, and writes the file anew without
    /// the rest.
    ///
    /// # Errors
    /// [`JournalError`]: the directory must exist and be writable, every line readable.
    pub fn open(directory: &Path, now: Timestamp) -> Result<(Self, Vec<Revocation>), JournalError> {
        let path = directory.join(FILE_NAME);
        let lock = lock(directory)?;
        let brought = match File::open(&path) {
            Ok(file) => read(&path, file)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(JournalError::Io(path, error)),
        };
        let live = if brought.iter().any(|revocation| revocation.until > now.0) {
            brought.into_iter().filter(|revocation| revocation.until > now.0).collect()
        } else {
            // A clock that makes all of them old is not believed: it may be a year ahead, and lines cost little.
            brought
        };
        let (file, length) = rewrite(&path, &live)?;
        Ok((Self { path, file, lines: live.len(), length, torn: false, _lock: lock }, live))
    }

    /// Writes one line and waits until the disk has it.
    ///
    /// # Errors
    /// The file system refused.
    pub fn append(&mut self, revocation: &Revocation) -> Result<(), JournalError> {
        let line = render(revocation);
        match self.file.write_all(line.as_bytes()).and_then(|()| self.file.sync_data()) {
            Ok(()) => {
                self.lines += 1;
                self.length += line.len() as u64;
                Ok(())
            }
            Err(error) => {
                // Half a line must not be there for the next one to be glued to.
                let _ = self.file.set_len(self.length);
                self.torn = true;
                Err(JournalError::Io(self.path.clone(), error))
            }
        }
    }

    /// Whether most lines are dead, `live` being how many are not, or some are missing.
    pub fn wants_compaction(&self, live: usize) -> bool {
        self.torn || self.lines > live.saturating_mul(2).saturating_add(SLACK)
    }

    /// Writes the file anew with these lines alone.
    ///
    /// # Errors
    /// The file system refused; the old file stays.
    pub fn compact(&mut self, live: &[Revocation]) -> Result<(), JournalError> {
        (self.file, self.length) = rewrite(&self.path, live)?;
        self.lines = live.len();
        self.torn = false;
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
        let whole = line.pop_if(|last| *last == b'\n').is_some();
        match std::str::from_utf8(&line).ok().and_then(revocation::read) {
            Some(revocation) => revocations.push(revocation),
            _ if !whole => tracing::warn!(line = number, "the journal's last line is torn and was never acknowledged"),
            _ => return Err(JournalError::Line(path.to_owned(), number)),
        }
    }
    Ok(revocations)
}

/// Keeps every other process away from the journal in `directory`, as long as the file is open.
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

/// Puts a new file in the old one's place in one step, and leaves it open for appending; its length.
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
    fn a_restart_brings_back_what_still_matters() {
        let directory = tempfile::tempdir().unwrap();
        let (mut journal, brought) = Journal::open(directory.path(), Timestamp(0)).unwrap();
        assert!(brought.is_empty());
        for revocation in [revocation("a", 100), revocation("b", 50)] {
            journal.append(&revocation).unwrap();
        }
        drop(journal);
        let (_, brought) = Journal::open(directory.path(), Timestamp(60)).unwrap();
        assert_eq!(brought, [revocation("a", 100)]);
        let text = std::fs::read_to_string(directory.path().join(FILE_NAME)).unwrap();
        assert_eq!(text, render(&revocation("a", 100)));
    }

    #[test]
    fn a_torn_last_line_is_passed_over_and_a_broken_one_stops_the_start() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join(FILE_NAME);
        let whole = render(&revocation("a", 100));
        std::fs::write(&file, format!("{whole}{}", &whole[..20])).unwrap();
        assert_eq!(Journal::open(directory.path(), Timestamp(0)).unwrap().1, [revocation("a", 100)]);
        std::fs::write(&file, format!("{}\n{whole}", &whole[..20])).unwrap();
        assert!(matches!(Journal::open(directory.path(), Timestamp(0)), Err(JournalError::Line(_, 1))));
    }

    #[test]
    fn dead_lines_are_written_out_of_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let (mut journal, _) = Journal::open(directory.path(), Timestamp(0)).unwrap();
        journal.append(&revocation("a", 100)).unwrap();
        journal.lines = SLACK + 10;
        assert!(journal.wants_compaction(1));
        journal.compact(&[revocation("b", 100)]).unwrap();
        journal.append(&revocation("c", 100)).unwrap();
        drop(journal);
        let (_, brought) = Journal::open(directory.path(), Timestamp(0)).unwrap();
        assert_eq!(brought, [revocation("b", 100), revocation("c", 100)]);
    }

    #[test]
    fn two_processes_never_write_one_journal() {
        let directory = tempfile::tempdir().unwrap();
        let first = Journal::open(directory.path(), Timestamp(0)).unwrap();
        assert!(matches!(Journal::open(directory.path(), Timestamp(0)), Err(JournalError::InUse(_))));
        drop(first);
        assert!(Journal::open(directory.path(), Timestamp(0)).is_ok());
    }

    #[test]
    fn a_clock_that_is_years_ahead_forgets_nothing_at_the_start() {
        let directory = tempfile::tempdir().unwrap();
        let (mut journal, _) = Journal::open(directory.path(), Timestamp(0)).unwrap();
        journal.append(&revocation("a", 100)).unwrap();
        drop(journal);
        drop(Journal::open(directory.path(), Timestamp(1_000_000)).unwrap());
        let (_, brought) = Journal::open(directory.path(), Timestamp(50)).unwrap();
        assert_eq!(brought, [revocation("a", 100)]);
    }

    #[test]
    fn what_a_full_disk_kept_out_is_written_when_there_is_room() {
        let directory = tempfile::tempdir().unwrap();
        let (mut journal, _) = Journal::open(directory.path(), Timestamp(0)).unwrap();
        journal.append(&revocation("a", 100)).unwrap();
        // A file opened for reading alone fails as a full disk does.
        let good = std::mem::replace(&mut journal.file, File::open(directory.path().join(FILE_NAME)).unwrap());
        assert!(journal.append(&revocation("b", 100)).is_err());
        journal.file = good;
        assert!(journal.wants_compaction(2), "something is missing");
        journal.compact(&[revocation("a", 100), revocation("b", 100)]).unwrap();
        drop(journal);
        let (_, brought) = Journal::open(directory.path(), Timestamp(0)).unwrap();
        assert_eq!(brought, [revocation("a", 100), revocation("b", 100)]);
    }

    #[test]
    fn the_journal_is_for_its_owner_only() {
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
