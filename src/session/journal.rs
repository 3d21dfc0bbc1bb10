//! The journal: revocations in an append-only file, one JSON object a line, so that a restart forgets none.
//!
//! A line is on the disk before the revocation is acknowledged. A torn last line was never acknowledged and is passed
//! over; any other line that cannot be read stops the start, because guessing could bring a revoked session back.

use super::revocation::Revocation;
use crate::clock::Timestamp;
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

/// The file's name in the state directory.
pub const FILE_NAME: &str = "revocations.jsonl";

/// The version of a line, so that a later one can change its shape.
const VERSION: u32 = 1;

/// A line of ours is far shorter.
const MOST_LINE: usize = 4_096;

/// Dead lines the file may hold before it is written anew.
const SLACK: usize = 10_000;

/// Why the journal cannot be used. The operator's fault, or the disk's.
#[derive(Debug, thiserror::Error)]
pub enum JournalFault {
    /// The file system refused.
    #[error("{0}: {1}")]
    Io(PathBuf, std::io::Error),
    /// A line in the middle is not one of ours.
    #[error("{0}: line {1} is not a revocation; mend or remove that line: guessing could let a revoked session in")]
    Line(PathBuf, usize),
}

/// The open file.
pub struct Journal {
    path: PathBuf,
    file: File,
    lines: usize,
}

#[derive(Serialize, Deserialize)]
struct Line {
    v: u32,
    #[serde(flatten)]
    revocation: Revocation,
}

impl Journal {
    /// Opens the journal in `directory`, brings back what still matters at `now`, and writes the file anew without
    /// the rest.
    ///
    /// # Errors
    /// [`JournalFault`]: the directory must exist and be writable, every line readable.
    pub fn open(directory: &Path, now: Timestamp) -> Result<(Self, Vec<Revocation>), JournalFault> {
        let path = directory.join(FILE_NAME);
        let brought = match File::open(&path) {
            Ok(file) => read(&path, file)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(JournalFault::Io(path, error)),
        };
        let live: Vec<Revocation> = brought.into_iter().filter(|revocation| revocation.until > now.0).collect();
        let file = rewrite(&path, &live)?;
        Ok((Self { path, file, lines: live.len() }, live))
    }

    /// Writes one line and waits until the disk has it.
    ///
    /// # Errors
    /// The file system refused.
    pub fn append(&mut self, revocation: &Revocation) -> Result<(), JournalFault> {
        let line = render(revocation);
        let written = self.file.write_all(line.as_bytes()).and_then(|()| self.file.sync_data());
        self.lines += 1;
        written.map_err(|error| JournalFault::Io(self.path.clone(), error))
    }

    /// Whether most lines are dead, `live` being how many are not.
    #[must_use]
    pub fn wants_compaction(&self, live: usize) -> bool {
        self.lines > live.saturating_mul(2).saturating_add(SLACK)
    }

    /// Writes the file anew with these lines alone.
    ///
    /// # Errors
    /// The file system refused; the old file stays.
    pub fn compact(&mut self, live: &[Revocation]) -> Result<(), JournalFault> {
        self.file = rewrite(&self.path, live)?;
        self.lines = live.len();
        Ok(())
    }
}

fn render(revocation: &Revocation) -> String {
    let line = serde_json::to_string(&Line { v: VERSION, revocation: revocation.clone() });
    // Strings and numbers always render.
    line.map(|line| line + "\n").unwrap_or_default()
}

fn read(path: &Path, file: File) -> Result<Vec<Revocation>, JournalFault> {
    let mut reader = BufReader::new(file);
    let mut revocations = Vec::new();
    for number in 1.. {
        let mut line = Vec::new();
        let length = reader.read_until(b'\n', &mut line).map_err(|error| JournalFault::Io(path.to_owned(), error))?;
        if length == 0 {
            break;
        }
        let whole = line.pop_if(|last| *last == b'\n').is_some();
        let parsed = (line.len() <= MOST_LINE).then(|| serde_json::from_slice::<Line>(&line).ok()).flatten();
        match parsed {
            Some(line) if line.v == VERSION => revocations.push(line.revocation),
            _ if !whole => tracing::warn!(line = number, "the journal's last line is torn and was never acknowledged"),
            _ => return Err(JournalFault::Line(path.to_owned(), number)),
        }
    }
    Ok(revocations)
}

/// Puts a new file in the old one's place in one step, and leaves it open for appending.
fn rewrite(path: &Path, live: &[Revocation]) -> Result<File, JournalFault> {
    let fresh = path.with_extension("new");
    let write = || {
        let mut file = OpenOptions::new().create(true).write(true).truncate(true).open(&fresh)?;
        for revocation in live {
            file.write_all(render(revocation).as_bytes())?;
        }
        file.sync_data()?;
        std::fs::rename(&fresh, path)?;
        if let Some(directory) = path.parent() {
            File::open(directory)?.sync_all()?;
        }
        OpenOptions::new().append(true).open(path)
    };
    write().map_err(|error| JournalFault::Io(path.to_owned(), error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::revocation::Target;

    fn revocation(sid: &str, until: u64) -> Revocation {
        Revocation { target: Target::Session(sid.into()), at: 10, until }
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
        assert_eq!(text, "{\"v\":1,\"session\":\"a\",\"at\":10,\"until\":100}\n");
    }

    #[test]
    fn a_torn_last_line_is_passed_over_and_a_broken_one_stops_the_start() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join(FILE_NAME);
        let whole = render(&revocation("a", 100));
        std::fs::write(&file, format!("{whole}{}", &whole[..20])).unwrap();
        assert_eq!(Journal::open(directory.path(), Timestamp(0)).unwrap().1, [revocation("a", 100)]);
        std::fs::write(&file, format!("{}\n{whole}", &whole[..20])).unwrap();
        assert!(matches!(Journal::open(directory.path(), Timestamp(0)), Err(JournalFault::Line(_, 1))));
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
    fn a_directory_that_is_not_there_is_a_fault_with_its_path() {
        let fault = Journal::open(Path::new("/nonexistent"), Timestamp(0)).err().unwrap();
        assert!(fault.to_string().starts_with("/nonexistent/revocations"), "{fault}");
    }
}
