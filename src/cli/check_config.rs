//! `check-config FILE`: reports every error of a configuration, or prints the effective configuration.
//!
//! It starts nothing, makes no network calls and prints no secret.

pub(crate) use crate::config::CONFIGURATION_ERROR;
use crate::config::{self, Diagnostics, schema, settings};
use crate::session::keys::KeySet;
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

/// The exit code if the output cannot be written: `EX_IOERR` of sysexits.h.
pub(crate) const OUTPUT_ERROR: u8 = 74;

/// Why the check failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CheckError {
    /// The configuration is invalid.
    #[error(transparent)]
    Configuration(#[from] Diagnostics),
    /// A key is invalid.
    #[error("{0}")]
    Keys(String),
    /// The output cannot be written.
    #[error("cannot print: {0}")]
    Output(#[from] io::Error),
}

/// Checks the file with the process's environment. Prints the effective configuration to standard output or the errors to
/// standard error. With `print_schema` it prints the JSON schema instead and reads no file.
pub(crate) fn run(path: &Path, print_schema: bool) -> ExitCode {
    let mut out = io::stdout().lock();
    let outcome = if print_schema { write_schema(&mut out) } else { check(path, std::env::vars_os(), &mut out) };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(CheckError::Configuration(errors)) => {
            let _ = writeln!(io::stderr(), "{errors}\n\n{}", closing_line(&errors));
            ExitCode::from(CONFIGURATION_ERROR)
        }
        Err(error @ CheckError::Keys(_)) => {
            let _ = writeln!(io::stderr(), "{error}");
            ExitCode::from(CONFIGURATION_ERROR)
        }
        Err(error @ CheckError::Output(_)) => {
            let _ = writeln!(io::stderr(), "{error}");
            ExitCode::from(OUTPUT_ERROR)
        }
    }
}

/// Prints the effective configuration of the file at `path`.
pub(crate) fn check(
    path: &Path,
    env: impl Iterator<Item = (OsString, OsString)>,
    out: &mut impl Write,
) -> Result<(), CheckError> {
    let loaded = config::load(path, env)?;
    let effective = loaded.effective();
    let settings = settings::resolve(loaded)?;
    KeySet::load(&settings.keys)
        .map_err(|errors| CheckError::Keys(errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")))?;
    writeln!(out, "# The effective configuration. Secrets are read from the files named here and never shown.")?;
    for warning in &settings.warnings {
        writeln!(out, "# warning: {warning}")?;
    }
    writeln!(out, "{effective}")?;
    Ok(out.flush()?)
}

fn write_schema(out: &mut impl Write) -> Result<(), CheckError> {
    writeln!(out, "{}", schema::text())?;
    Ok(out.flush()?)
}

fn closing_line(errors: &Diagnostics) -> String {
    match errors.iter().count() {
        1 => "1 error; nothing was started.".to_owned(),
        count => format!("{count} errors; nothing was started."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks a file that lies beside a key directory and a secret, both good.
    fn checked(text: &str) -> Result<String, CheckError> {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("keys")).unwrap();
        std::fs::write(directory.path().join("keys/a.pem"), crate::session::keys::generate().unwrap()).unwrap();
        std::fs::write(directory.path().join("oa.secret"), "0a1b2c3d4e5f60718293a4b5c6d7e8f9").unwrap();
        let file = directory.path().join("config.yaml");
        std::fs::write(&file, text).unwrap();
        let mut out = Vec::new();
        check(&file, std::iter::empty(), &mut out).map(|()| String::from_utf8(out).unwrap())
    }

    const MINIMAL: &str = "keys: { directory: keys }\napps:\n- name: shop\n  origin: https://shop.example.com\n  \
                           official_account: { appid: wx0123456789abcdef, secret_file: ./oa.secret }\n";

    #[test]
    fn a_good_file_is_printed_with_defaults_and_without_secrets() {
        let text = checked(MINIMAL).unwrap();
        assert!(text.starts_with("# The effective configuration."));
        assert!(
            text.contains("# warning: ") && text.contains("chmod"),
            "the test's secret is for everybody to read: {text}"
        );
        assert!(text.contains("\n    idle: 24h\n"), "{text}");
        assert!(text.trim_end().ends_with("deadline: 10s"), "{text}");
        assert!(!text.contains("0a1b2c3d4e5f"), "{text}");
    }

    #[test]
    fn the_files_that_it_names_are_read_too() {
        for (from, to, says) in [
            ("./oa.secret", "./none.secret", "official_account.secret_file: found no such file"),
            ("directory: keys", "directory: none", "keys.directory"),
        ] {
            match checked(&MINIMAL.replace(from, to)) {
                Ok(text) => panic!("{text}"),
                Err(error) => assert!(error.to_string().contains(says), "{error}"),
            }
        }
    }

    #[test]
    fn a_wrong_file_shows_nothing_but_its_errors() {
        let error = checked("prefix: /a/\n").unwrap_err();
        let CheckError::Configuration(errors) = error else { panic!("{error}") };
        assert_eq!(closing_line(&errors), "3 errors; nothing was started.");
    }

    #[test]
    fn the_schema_is_json() {
        let mut out = Vec::new();
        write_schema(&mut out).unwrap();
        let schema: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(schema["properties"]["apps"]["type"], "array");
    }
}
