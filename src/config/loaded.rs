//! A configuration whose shape has been looked at, on its way to its meaning.
//!
//! The settings come out only together with a [`Meaning`], and that ends in success only where neither the shape nor
//! the meaning had a error: stand-ins for what was wrong can be examined but never run.

use super::diagnostic::{Diagnostic, Diagnostics, Place, shown};
use super::raw;
use crate::secret::{Secret, SecretError};
use secrecy::zeroize::Zeroizing;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Largest secret file: a token or AppSecret has a few dozen characters.
const MAX_SECRET_BYTES: u64 = 4_096;

/// A configuration of the right shape, or one whose errors of shape wait to be reported with those of meaning.
#[derive(Debug)]
pub struct Loaded {
    pub(super) raw: raw::Config,
    pub(super) meaning: Resolver,
    pub(super) digest: [u8; 32],
}

impl Loaded {
    /// The settings, and what finds their errors.
    pub fn into_parts(self) -> (raw::Config, Resolver) {
        (self.raw, self.meaning)
    }

    /// The settings alone, where nothing but their shape matters.
    ///
    /// # Errors
    /// The errors of shape.
    pub fn shape(self) -> Result<raw::Config, Diagnostics> {
        self.meaning.finish(Some(self.raw))
    }

    /// The effective configuration as YAML, without secrets. To be shown only once the meaning has no errors: until
    /// then it can hold stand-ins.
    pub fn effective(&self) -> String {
        super::effective::text(&self.raw)
    }

    /// SHA-256 of the file's text: the same digest, the same file.
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }
}

/// Collects the errors of meaning beside those of shape.
///
/// Paths are those of the errors, such as `apps[0].origin`; `found` and `wanted` are phrases as in [`Diagnostic`].
#[derive(Debug)]
pub struct Resolver {
    file: Arc<str>,
    directory: PathBuf,
    places: BTreeMap<String, Place>,
    errors: Vec<Diagnostic>,
    warnings: Vec<Diagnostic>,
}

impl Resolver {
    /// With what the shape left to report. `file` as the user named it.
    pub(super) fn new(file: Arc<str>, places: BTreeMap<String, Place>, errors: Vec<Diagnostic>) -> Self {
        let directory = Path::new(&*file).parent().unwrap_or(Path::new("")).to_owned();
        Self { file, directory, places, errors, warnings: Vec::new() }
    }

    /// Where a setting was written; for one that was left out, where the mapping around it was.
    pub fn place(&self, path: &str) -> Place {
        let mut path = path;
        loop {
            if let Some(place) = self.places.get(path) {
                return place.clone();
            }
            match path.rfind(['.', '[']).and_then(|end| path.get(..end)) {
                Some(around) => path = around,
                None => return self.places.get("").cloned().unwrap_or(Place::File(self.file.clone())),
            }
        }
    }

    /// Whether a setting holds what was written or its default, rather than a stand-in: no error was found at it, in
    /// it or around it.
    pub fn is_valid(&self, path: &str) -> bool {
        !self.errors.iter().any(|error| is_within(&error.path, path) || is_within(path, &error.path))
    }

    /// Reports a error, unless the setting is known to be wrong already.
    pub fn add(&mut self, path: &str, found: impl Into<String>, wanted: impl Into<String>) {
        if self.is_valid(path) {
            self.errors.push(Diagnostic::new(self.place(path), path, found, wanted));
        }
    }

    /// Notes what works but should not stay so.
    pub fn warn(&mut self, path: &str, found: impl Into<String>, wanted: impl Into<String>) {
        if self.is_valid(path) {
            self.warnings.push(Diagnostic::new(self.place(path), path, found, wanted));
        }
    }

    /// The value, or its error reported: "found `…`, which {error}".
    pub fn parse<T, E: Display>(&mut self, path: &str, text: &str, read: Result<T, E>, wanted: &str) -> Option<T> {
        read.map_err(|error| self.add(path, format!("found {}, which {error}", shown(text)), wanted)).ok()
    }

    /// A file or directory as the configuration names it: a relative path starts where the configuration lies.
    pub fn resolve(&self, file: &str) -> PathBuf {
        self.directory.join(file)
    }

    /// Reads the secret in `file` as `parse` judges it. The path is not shown unless there is such a file: it could be
    /// the secret itself.
    pub fn secret(
        &mut self,
        path: &str,
        file: &str,
        parse: impl FnOnce(&str) -> Result<Secret, SecretError>,
    ) -> Option<Secret> {
        if !self.is_valid(path) {
            return None;
        }
        let whole = self.resolve(file);
        let text = match read_bounded(&whole, MAX_SECRET_BYTES) {
            Ok(bytes) => Zeroizing::new(bytes),
            Err(problem) => {
                let wanted = "name a file that this process can read and that holds the secret";
                self.add(path, format!("found {problem}"), wanted);
                return None;
            }
        };
        let readable_by_all = is_readable_by_all(&whole) && !is_in_a_pods_volume(&whole);
        let secret = match std::str::from_utf8(&text) {
            Ok(text) => parse(text).map_err(|error| match error {
                SecretError::NotAlone => "found more than the secret: a label, quotes, or several words".to_owned(),
                SecretError::Empty => "found an empty file".to_owned(),
                SecretError::Placeholder => "found a placeholder".to_owned(),
                SecretError::TooShort { least } => format!("found a secret of fewer than {least} characters"),
            }),
            Err(_) => Err("found bytes that are not text".to_owned()),
        };
        match secret {
            Ok(secret) => {
                if readable_by_all {
                    self.warn(
                        path,
                        "the file can be read by every user of this machine",
                        "take that right away: chmod o= FILE",
                    );
                }
                Some(secret)
            }
            Err(found) => {
                let wanted = "write the secret itself into this file, alone";
                self.errors.push(Diagnostic::new(Place::SecretFile(whole), path, found, wanted));
                None
            }
        }
    }

    /// Reads the certificates in `file`, as PEM.
    pub fn certificates(&mut self, path: &str, file: &str) -> Option<Vec<u8>> {
        if !self.is_valid(path) {
            return None;
        }
        let wanted = "name a file that this process can read and that holds certificates as PEM";
        match read_bounded(&self.resolve(file), MAX_CERTIFICATE_BYTES) {
            Ok(bytes) if bytes.windows(PEM.len()).any(|window| window == PEM) => return Some(bytes),
            Ok(_) => self.add(path, "found a file without a certificate", wanted),
            Err(problem) => self.add(path, format!("found {problem}"), wanted),
        }
        None
    }

    /// What works but should not stay so.
    pub fn warnings(&self) -> &[Diagnostic] {
        &self.warnings
    }

    /// What was made of the settings, if neither their shape nor their meaning has a error.
    ///
    /// # Errors
    /// All errors of both.
    pub fn finish<T>(self, made: Option<T>) -> Result<T, Diagnostics> {
        match (Diagnostics::of(self.errors), made) {
            (Some(errors), _) => Err(errors),
            (None, Some(made)) => Ok(made),
            (None, None) => {
                let found = "found settings that could not be understood, and no reason why";
                Err(Diagnostic::new(Place::File(self.file), "", found, "please report this: it is a error of ours")
                    .into())
            }
        }
    }
}

/// How a certificate begins.
const PEM: &[u8] = b"-----BEGIN CERTIFICATE-----";

/// A system's whole store has some 200 KiB.
const MAX_CERTIFICATE_BYTES: u64 = 1_024 * 1_024;

/// Whether `path` is `around` or lies in it.
fn is_within(path: &str, around: &str) -> bool {
    path.strip_prefix(around)
        .is_some_and(|rest| !around.is_empty() && (rest.is_empty() || rest.starts_with(['.', '['])))
}

/// A regular file's bytes, at most `most` of them. Anything else could keep us waiting.
///
/// # Errors
/// Why not, as words for what was found; they do not hold the path.
pub(super) fn read_bounded(path: &Path, most: u64) -> Result<Vec<u8>, String> {
    let in_words = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => "no such file".to_owned(),
        std::io::ErrorKind::PermissionDenied => "a file that may not be read".to_owned(),
        kind => format!("a file that cannot be read ({kind})"),
    };
    let about = std::fs::metadata(path).map_err(in_words)?;
    if about.is_dir() {
        return Err("a directory".to_owned());
    }
    if !about.is_file() {
        return Err("something that is not a regular file".to_owned());
    }
    // Room for the whole file at once: a buffer that grows leaves copies of a secret behind.
    let mut bytes = Vec::with_capacity(usize::try_from(about.len().min(most)).unwrap_or_default() + 1);
    let file = std::fs::File::open(path).map_err(in_words)?;
    file.take(most + 1).read_to_end(&mut bytes).map_err(in_words)?;
    if bytes.len() as u64 > most { Err(format!("a file of more than {most} bytes")) } else { Ok(bytes) }
}

fn is_readable_by_all(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).is_ok_and(|about| about.permissions().mode() & 0o004 != 0)
}

/// Whether kubelet has laid it out: behind a link that it changes at once. No other container sees it, and in a pod of an
/// application's, whose groups are not ours to set, it must be readable for all of this one.
fn is_in_a_pods_volume(path: &Path) -> bool {
    path.parent().is_some_and(|directory| directory.join("..data").is_symlink())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn meaning(directory: &Path, errors: Vec<Diagnostic>) -> Resolver {
        let line = |line| Place::Line { file: "c.yaml".into(), line, column: 1 };
        let places = [("", 1), ("apps", 2), ("apps[0]", 3), ("apps[0].origin", 4), ("apps[0].secret_file", 5)];
        let places = places.into_iter().map(|(path, n)| (path.to_owned(), line(n))).collect();
        let file = directory.join("c.yaml").to_string_lossy().as_ref().into();
        Resolver::new(file, places, errors)
    }

    #[test]
    fn a_setting_left_out_is_placed_at_the_mapping_around_it() {
        let meaning = meaning(Path::new(""), vec![]);
        for (path, line) in
            [("apps[0].origin", 4), ("apps[0].session.idle", 3), ("apps[7].name", 2), ("log.level", 1), ("", 1)]
        {
            assert_eq!(meaning.place(path).to_string(), format!("c.yaml:{line}"), "{path}");
        }
    }

    #[test]
    fn nothing_more_is_said_of_what_is_known_to_be_wrong() {
        let known = Diagnostic::new(Place::File("c.yaml".into()), "apps[0].session.idle", "found x", "write y");
        let mut meaning = meaning(Path::new(""), vec![known]);
        for path in ["apps[0].session.idle", "apps[0].session", "apps", "apps[0].session.idle.x"] {
            assert!(!meaning.is_valid(path), "{path}");
            meaning.add(path, "found z", "write y");
        }
        for path in ["apps[0].session.idle_time", "apps[0].session.lifetime", "apps[1]", "apps[0].origin"] {
            assert!(meaning.is_valid(path), "{path}");
        }
        meaning.add("apps[1]", "found z", "write y");
        assert_eq!(meaning.finish(Some(())).unwrap_err().iter().count(), 2);
    }

    #[test]
    fn stand_ins_never_leave() {
        let error = Diagnostic::new(Place::File("c.yaml".into()), "prefix", "found x", "write y");
        assert!(meaning(Path::new(""), vec![error]).finish(Some(())).is_err());
        assert!(meaning(Path::new(""), vec![]).finish(Some(())).is_ok());
        assert!(meaning(Path::new(""), vec![]).finish(None::<()>).is_err());
    }

    #[test]
    fn a_secret_is_read_from_its_file_and_bad_ones_are_named_without_it() {
        let directory = tempfile::tempdir().unwrap();
        let long = "0123456789abcdef0123456789abcdef";
        for (name, text) in [
            ("good", format!("{long}\n")),
            ("empty", " \n".into()),
            ("short", "0123".into()),
            ("placeholder", "change-me".into()),
            ("label", format!("AppSecret: {long}")),
            ("huge", "x1".repeat(4_000)),
        ] {
            std::fs::write(directory.path().join(name), text).unwrap();
        }
        std::fs::write(directory.path().join("bytes"), [0xff, 0xfe]).unwrap();
        let path = "apps[0].secret_file";
        let read = |name: &str| {
            let mut meaning = meaning(directory.path(), vec![]);
            let secret = meaning.secret(path, name, |text| Secret::parse_token(text, 32));
            (secret.is_some(), meaning.finish(Some(())).err().map(|errors| errors.to_string()).unwrap_or_default())
        };
        assert_eq!(read("good"), (true, String::new()));
        for (name, found) in [
            ("empty", "found an empty file"),
            ("short", "found a secret of fewer than 32 characters"),
            ("placeholder", "found a placeholder"),
            ("label", "found more than the secret: a label, quotes, or several words"),
            ("bytes", "found bytes that are not text"),
        ] {
            let (made, text) = read(name);
            let file = directory.path().join(name);
            assert!(!made);
            assert_eq!(
                text,
                format!("{}: {path}: {found}; write the secret itself into this file, alone", file.display())
            );
        }
        for (name, found) in [("huge", "a file of more than 4096 bytes"), (".", "a directory"), (long, "no such file")]
        {
            let wanted = "name a file that this process can read and that holds the secret";
            assert_eq!(read(name), (false, format!("c.yaml:5: {path}: found {found}; {wanted}")));
        }
    }

    #[test]
    fn a_secret_for_everybody_to_read_is_a_warning() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("s");
        std::fs::write(&file, "0123456789abcdef").unwrap();
        for (mode, warnings) in [(0o600, 0), (0o640, 0), (0o644, 1)] {
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
            let mut meaning = meaning(directory.path(), vec![]);
            assert!(meaning.secret("apps[0].secret_file", "s", |text| Secret::parse(text, 16)).is_some());
            assert_eq!(meaning.warnings().len(), warnings);
        }
    }

    #[test]
    fn a_secret_that_kubelet_mounted_is_none_for_everybody() {
        let directory = tempfile::tempdir().unwrap();
        let version = directory.path().join("..2026_11_25");
        std::fs::create_dir(&version).unwrap();
        std::fs::write(version.join("s"), "0123456789abcdef").unwrap();
        std::fs::set_permissions(version.join("s"), std::fs::Permissions::from_mode(0o444)).unwrap();
        std::os::unix::fs::symlink("..data/s", directory.path().join("s")).unwrap();
        for (link, warnings) in [("..other", 1), ("..data", 0)] {
            std::os::unix::fs::symlink("..2026_11_25", directory.path().join(link)).unwrap();
            // Under another name it is an ordinary directory's.
            let secret = if link == "..data" { "s" } else { "..other/s" };
            let mut meaning = meaning(directory.path(), vec![]);
            assert!(meaning.secret("apps[0].secret_file", secret, |text| Secret::parse(text, 16)).is_some());
            assert_eq!(meaning.warnings().len(), warnings, "{link}");
        }
    }
}
