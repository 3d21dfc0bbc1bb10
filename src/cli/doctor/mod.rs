//! `doctor`: checks everything that a login needs and, given a URL, what the live gateway loses. Each finding names its
//! remedy. It changes nothing and logs nobody in.

mod gateway;
mod parts;
mod probes;

use super::admin_client::printable;
use super::check_config::{CONFIGURATION_ERROR, OUTPUT_ERROR};
use crate::config::{self, settings};
use clap::ValueEnum;
use serde::Serialize;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;
use url::Url;

/// The longest call.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The severity of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    /// Good.
    Ok,
    /// It works, but should be changed.
    Warn,
    /// Logins or checks fail.
    Fail,
}

/// One thing looked at.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Finding {
    /// What was looked at, in few words.
    pub about: String,
    /// The severity.
    pub verdict: Verdict,
    /// The observation.
    pub found: String,
    /// The remedy; empty if none is needed.
    pub cure: String,
}

impl Finding {
    fn ok(about: impl Into<String>, found: impl Into<String>) -> Self {
        Self { about: about.into(), verdict: Verdict::Ok, found: found.into(), cure: String::new() }
    }

    fn warn(about: impl Into<String>, found: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { about: about.into(), verdict: Verdict::Warn, found: found.into(), cure: cure.into() }
    }

    fn fail(about: impl Into<String>, found: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { about: about.into(), verdict: Verdict::Fail, found: found.into(), cure: cure.into() }
    }
}

/// Checks everything that the configuration `file` names, and the live gateway at `url`. Exit code 1 if a finding fails.
pub(crate) fn run(file: &Path, url: Option<&Url>, as_json: bool) -> ExitCode {
    let settings = match config::load(file, std::env::vars_os()).and_then(settings::resolve) {
        Ok(settings) => settings,
        Err(errors) => {
            eprintln!("{errors}");
            return ExitCode::from(CONFIGURATION_ERROR);
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let findings = runtime.block_on(async {
        let mut findings = parts::inspect(&settings).await;
        if let Some(url) = url {
            findings.extend(gateway::inspect(&settings, url).await);
        }
        findings
    });
    runtime.shutdown_background();
    if let Err(error) = print(&findings, as_json, &mut io::stdout().lock()) {
        eprintln!("cannot print: {error}");
        return ExitCode::from(OUTPUT_ERROR);
    }
    ExitCode::from(u8::from(findings.iter().any(|finding| finding.verdict == Verdict::Fail)))
}

fn print(findings: &[Finding], as_json: bool, out: &mut impl Write) -> io::Result<()> {
    if as_json {
        return writeln!(out, "{}", serde_json::json!({ "findings": findings }));
    }
    let width = findings.iter().map(|finding| finding.about.chars().count()).max().unwrap_or(0);
    for Finding { about, verdict, found, cure } in findings {
        let word = match verdict {
            Verdict::Ok => "ok  ",
            Verdict::Warn => "warn",
            Verdict::Fail => "FAIL",
        };
        writeln!(out, "{word}  {about:width$}  {}", printable(found))?;
        if !cure.is_empty() {
            writeln!(out, "      {:width$}  -> {}", "", printable(cure))?;
        }
    }
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_and_its_cure_are_two_lines_without_escapes() {
        let findings = [Finding::ok("keys", "2 keys"), Finding::fail("redis", "says \u{1b}[2J", "start it")];
        let mut out = Vec::new();
        print(&findings, false, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text, "ok    keys   2 keys\nFAIL  redis  says \u{fffd}[2J\n             -> start it\n");
        let mut out = Vec::new();
        print(&findings, true, &mut out).unwrap();
        let told: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(told["findings"][1]["verdict"], "fail");
    }
}
