//! `check-config FILE`: says everything that is wrong with a configuration, or shows what it amounts to.
//!
//! It starts nothing, connects to nobody and prints no secret.

use crate::config::{self, Faults, schema};
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

/// Exit code for a configuration with faults: `EX_CONFIG` of sysexits.h.
pub const CONFIGURATION_FAULT: u8 = 78;
/// Exit code where the answer could not be printed: `EX_IOERR` of sysexits.h.
pub const OUTPUT_FAULT: u8 = 74;

/// Why the check did not end well, by whose fault it is.
#[derive(Debug, thiserror::Error)]
pub enum CheckFault {
    /// The configuration's.
    #[error(transparent)]
    Configuration(#[from] Faults),
    /// The output's: a closed pipe, a full disk.
    #[error("cannot print: {0}")]
    Output(#[from] io::Error),
}

/// Checks the file with the process's environment and prints the effective configuration to standard output, its
/// faults to standard error. With `print_schema` the JSON schema is printed instead, and the file is not looked at.
#[must_use]
pub fn run(path: &Path, print_schema: bool) -> ExitCode {
    let mut out = io::stdout().lock();
    let outcome = if print_schema { write_schema(&mut out) } else { check(path, std::env::vars_os(), &mut out) };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(CheckFault::Configuration(faults)) => {
            let _ = writeln!(io::stderr(), "{faults}\n\n{}", closing_line(&faults));
            ExitCode::from(CONFIGURATION_FAULT)
        }
        Err(fault @ CheckFault::Output(_)) => {
            let _ = writeln!(io::stderr(), "{fault}");
            ExitCode::from(OUTPUT_FAULT)
        }
    }
}

/// Prints the effective configuration of the file at `path`.
///
/// # Errors
/// [`CheckFault`].
pub fn check(
    path: &Path,
    env: impl Iterator<Item = (OsString, OsString)>,
    out: &mut impl Write,
) -> Result<(), CheckFault> {
    let loaded = config::load(path, env)?;
    let effective = loaded.effective();
    loaded.shape()?;
    writeln!(out, "# The effective configuration. Secrets are read from the files named here and never shown.")?;
    writeln!(out, "{effective}")?;
    Ok(out.flush()?)
}

fn write_schema(out: &mut impl Write) -> Result<(), CheckFault> {
    writeln!(out, "{}", schema::text())?;
    Ok(out.flush()?)
}

fn closing_line(faults: &Faults) -> String {
    match faults.iter().count() {
        1 => "1 fault; nothing was started.".to_owned(),
        count => format!("{count} faults; nothing was started."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(text: &str) -> Result<String, CheckFault> {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("config.yaml");
        std::fs::write(&file, text).unwrap();
        let mut out = Vec::new();
        check(&file, std::iter::empty(), &mut out).map(|()| String::from_utf8(out).unwrap())
    }

    #[test]
    fn a_good_file_is_shown_with_its_defaults() {
        let text = checked(include_str!("../../tests/config/minimal.yaml")).unwrap();
        assert!(text.starts_with("# The effective configuration."));
        assert!(text.contains("\n    idle: 24h\n"), "{text}");
        assert!(text.ends_with("deadline: 10s\n"), "{text}");
    }

    #[test]
    fn a_wrong_file_shows_nothing_but_its_faults() {
        let fault = checked("prefix: /a/\n").unwrap_err();
        let CheckFault::Configuration(faults) = fault else { panic!("{fault}") };
        assert_eq!(closing_line(&faults), "3 faults; nothing was started.");
    }

    #[test]
    fn the_schema_is_json() {
        let mut out = Vec::new();
        write_schema(&mut out).unwrap();
        let schema: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(schema["properties"]["apps"]["type"], "array");
    }
}
