//! The files that the configuration names: secrets, certificates, the state directory.

use super::diagnostic::{Place, shown};
use super::report::{Report, Reported};
use super::text::{FilePath, SecretFile};
use crate::secret::{Secret, SecretError};
use aws_lc_rs::digest;
use rustix::fs::{Access, access};
use secrecy::zeroize::Zeroizing;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

/// The largest secret file: a token or AppSecret has a few dozen characters.
const MAX_SECRET_BYTES: u64 = 4_096;

/// The largest certificate file: a system's whole store has some 200 KiB.
const MAX_CERTIFICATE_BYTES: u64 = 1_024 * 1_024;

/// The first line of a certificate.
const PEM: &[u8] = b"-----BEGIN CERTIFICATE-----";

/// Reads the files of one configuration and reports their errors. Relative paths start in the configuration's directory.
pub(super) struct Files {
    directory: PathBuf,
    fingerprint: digest::Context,
    /// The errors and warnings.
    pub report: Report,
}

impl Files {
    /// For the configuration `file`, whose text has the SHA-256 `digest`.
    pub(super) fn new(file: &str, digest: [u8; 32], report: Report) -> Self {
        let directory = Path::new(file).parent().unwrap_or(Path::new("")).to_owned();
        let mut fingerprint = digest::Context::new(&digest::SHA256);
        fingerprint.update(&digest);
        Self { directory, fingerprint, report }
    }

    /// The report, and the digest of everything that was read.
    pub(super) fn finish(self) -> (Report, [u8; 32]) {
        let mut fingerprint = [0; 32];
        fingerprint.copy_from_slice(self.fingerprint.finish().as_ref());
        (self.report, fingerprint)
    }

    /// The whole path.
    pub(super) fn resolve(&self, file: &FilePath) -> PathBuf {
        self.directory.join::<&str>(file.as_ref())
    }

    /// A password: any text.
    pub(super) fn password(&mut self, path: &str, file: &SecretFile) -> Result<Secret, Reported> {
        self.secret(path, file, |text| Secret::parse(text, 1))
    }

    /// An AppSecret or a bearer token of at least `min` characters.
    pub(super) fn token(&mut self, path: &str, file: &SecretFile, min: usize) -> Result<Secret, Reported> {
        self.secret(path, file, |text| Secret::parse_token(text, min))
    }

    /// The proxy's `USER:PASSWORD`.
    pub(super) fn proxy_credentials(&mut self, path: &str, file: &SecretFile) -> Result<Secret, Reported> {
        let secret = self.password(path, file)?;
        if !secret.expose().contains(':') {
            return Err(self.report.error(path, "found a file without a colon", "write USER:PASSWORD into the file"));
        }
        Ok(secret)
    }

    /// A private key as PEM.
    pub(super) fn private_key(&mut self, path: &str, file: &SecretFile) -> Result<Secret, Reported> {
        let key = self.password(path, file)?;
        if !key.expose().contains("PRIVATE KEY-----") {
            let wanted = "name a file that holds a private key as PEM";
            return Err(self.report.error(path, "found a file without a private key", wanted));
        }
        Ok(key)
    }

    fn secret(
        &mut self,
        path: &str,
        file: &SecretFile,
        parse: impl FnOnce(&str) -> Result<Secret, SecretError>,
    ) -> Result<Secret, Reported> {
        let whole = self.directory.join::<&str>(file.as_ref());
        let bytes = read_bounded(&whole, MAX_SECRET_BYTES).map(Zeroizing::new).map_err(|problem| {
            // The path is not shown: without such a file, it may be the secret itself.
            let wanted = "name a file that this process can read and that holds the secret";
            self.report.error(path, format!("found {problem}"), wanted)
        })?;
        let secret = match std::str::from_utf8(&bytes) {
            Ok(text) => parse(text).map_err(|error| match error {
                SecretError::NotAlone => "found more than the secret: a label, quotes, or several words".to_owned(),
                SecretError::Empty => "found an empty file".to_owned(),
                SecretError::Placeholder => "found a placeholder".to_owned(),
                SecretError::TooShort { least } => format!("found a secret of fewer than {least} characters"),
            }),
            Err(_) => Err("found bytes that are not text".to_owned()),
        };
        let secret = secret.map_err(|found| {
            let wanted = "write the secret itself into this file, alone";
            self.report.error_at(Place::SecretFile(whole.clone()), path, found, wanted)
        })?;
        if is_readable_by_all(&whole) && !is_in_a_pods_volume(&whole) {
            let found = "the file can be read by every user of this machine";
            self.report.warn(path, found, "take that right away: chmod o= FILE");
        }
        self.fingerprint.update(path.as_bytes());
        self.fingerprint.update(secret.expose().as_bytes());
        Ok(secret)
    }

    /// Certificates as PEM.
    pub(super) fn certificates(&mut self, path: &str, file: &FilePath) -> Result<Vec<u8>, Reported> {
        let wanted = "name a file that this process can read and that holds certificates as PEM";
        let found = match read_bounded(&self.resolve(file), MAX_CERTIFICATE_BYTES) {
            Ok(pem) if pem.windows(PEM.len()).any(|window| window == PEM) => {
                self.fingerprint.update(path.as_bytes());
                self.fingerprint.update(&pem);
                return Ok(pem);
            }
            Ok(_) => "found a file without a certificate".to_owned(),
            Err(problem) => format!("found {problem}"),
        };
        Err(self.report.error(path, found, wanted))
    }

    /// A directory that this process can write to. `serve` does not create it: in a wrong place, revocations would get
    /// lost.
    pub(super) fn state_directory(&mut self, directory: &FilePath) -> Result<PathBuf, Reported> {
        let whole = self.resolve(directory);
        let found = match std::fs::metadata(&whole) {
            Ok(about) if !about.is_dir() => "found a file",
            Ok(_) if access(&whole, Access::WRITE_OK | Access::EXEC_OK).is_err() => {
                "found a directory to which this user may not write"
            }
            Ok(_) => return Ok(whole),
            Err(error) if error.kind() == ErrorKind::NotFound => "found no such directory",
            Err(_) => "found a directory that this user may not read",
        };
        let directory = shown(directory.as_ref());
        let wanted = format!("make it for the user that runs `serve`: install -d -m 700 -o USER {directory}");
        Err(self.report.error("state_directory", found, wanted))
    }
}

/// The bytes of a regular file, at most `max`. Reading anything else may block.
///
/// # Errors
/// What was found instead, in words without the path.
pub(super) fn read_bounded(path: &Path, max: u64) -> Result<Vec<u8>, String> {
    let in_words = |error: std::io::Error| match error.kind() {
        ErrorKind::NotFound => "no such file".to_owned(),
        ErrorKind::PermissionDenied => "a file that may not be read".to_owned(),
        kind => format!("a file that cannot be read ({kind})"),
    };
    let about = std::fs::metadata(path).map_err(in_words)?;
    if about.is_dir() {
        return Err("a directory".to_owned());
    }
    if !about.is_file() {
        return Err("something that is not a regular file".to_owned());
    }
    // The capacity is the whole file: a buffer that grows leaves copies of a secret behind.
    let mut bytes = Vec::with_capacity(usize::try_from(about.len().min(max)).unwrap_or_default() + 1);
    let file = std::fs::File::open(path).map_err(in_words)?;
    file.take(max + 1).read_to_end(&mut bytes).map_err(in_words)?;
    if bytes.len() as u64 > max { Err(format!("a file of more than {max} bytes")) } else { Ok(bytes) }
}

fn is_readable_by_all(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).is_ok_and(|about| about.permissions().mode() & 0o004 != 0)
}

/// Whether kubelet mounted the file, behind a link that it replaces at once. No other container sees the file, and in a
/// pod of an application, whose groups we do not set, it must be readable for every user of this one.
fn is_in_a_pods_volume(path: &Path) -> bool {
    path.parent().is_some_and(|directory| directory.join("..data").is_symlink())
}

#[cfg(test)]
mod tests {
    use super::super::report::Places;
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::sync::Arc;

    /// Reads the secret in `name`: whether there is one, how many warnings there are, and the errors.
    fn read(directory: &Path, name: &str, min: usize) -> (bool, usize, String) {
        let line = |line| Place::Line { file: "c.yaml".into(), line, column: 1 };
        let places = [(String::new(), line(1)), ("apps[0].secret_file".to_owned(), line(5))];
        let file: Arc<str> = directory.join("c.yaml").to_string_lossy().as_ref().into();
        let report = Report::new(Places::new(file.clone(), places.into_iter().collect()));
        let mut files = Files::new(&file, [0; 32], report);
        let secret = files.token("apps[0].secret_file", &format!("./{name}").parse().unwrap(), min);
        let is_read = secret.is_ok();
        match files.finish().0.finish(secret) {
            Ok((_, warnings)) => (is_read, warnings.len(), String::new()),
            Err(errors) => (is_read, 0, errors.to_string()),
        }
    }

    #[test]
    fn a_secret_is_read_from_its_file_and_errors_do_not_quote_it() {
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
        std::fs::create_dir(directory.path().join("directory")).unwrap();
        let path = "apps[0].secret_file";
        let read = |name: &str| {
            let (is_read, _, errors) = read(directory.path(), name, 32);
            (is_read, errors)
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
            let file = directory.path().join(format!("./{name}"));
            assert!(!made);
            assert_eq!(
                text,
                format!("{}: {path}: {found}; write the secret itself into this file, alone", file.display())
            );
        }
        for (name, found) in
            [("huge", "a file of more than 4096 bytes"), ("directory", "a directory"), (long, "no such file")]
        {
            let wanted = "name a file that this process can read and that holds the secret";
            assert_eq!(read(name), (false, format!("c.yaml:5: {path}: found {found}; {wanted}")));
        }
    }

    #[test]
    fn a_secret_that_all_users_can_read_is_a_warning() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("s");
        std::fs::write(&file, "0123456789abcdef").unwrap();
        for (mode, warnings) in [(0o600, 0), (0o640, 0), (0o644, 1)] {
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(read(directory.path(), "s", 16), (true, warnings, String::new()));
        }
    }

    #[test]
    fn a_secret_mounted_by_kubelet_is_no_warning() {
        let directory = tempfile::tempdir().unwrap();
        let version = directory.path().join("..2026_11_25");
        std::fs::create_dir(&version).unwrap();
        std::fs::write(version.join("s"), "0123456789abcdef").unwrap();
        std::fs::set_permissions(version.join("s"), std::fs::Permissions::from_mode(0o444)).unwrap();
        std::os::unix::fs::symlink("..data/s", directory.path().join("s")).unwrap();
        for (link, warnings) in [("..other", 1), ("..data", 0)] {
            std::os::unix::fs::symlink("..2026_11_25", directory.path().join(link)).unwrap();
            // A link with another name is not kubelet's.
            let secret = if link == "..data" { "s" } else { "..other/s" };
            assert_eq!(read(directory.path(), secret, 16), (true, warnings, String::new()), "{link}");
        }
    }
}
