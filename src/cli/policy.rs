//! `policy`: prints which requests `envoy/fast.yaml` passes without a check.
//!
//! `envoy/render --fast` generates its file from this, so that nobody maintains a list of paths by hand.

use super::check_config::{CONFIGURATION_ERROR, OUTPUT_ERROR};
use crate::app_name::AppName;
use crate::config::settings::Settings;
use crate::config::{self, settings};
use crate::ext_authz::fast::{self, Step, Verdict};
use crate::policy::PathMatch;
use aws_lc_rs::digest;
use serde::Serialize;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

/// A new key is published for at least this long before it signs: Envoy fetches the keys once a minute.
const MIN_SIGN_AFTER: Duration = Duration::from_secs(120);

/// What a fast gateway needs of the configuration.
#[derive(Debug, Serialize)]
pub(crate) struct Rules {
    /// Names this content, without the paths that an operator adds; `doctor` compares it with the live gateway.
    pub digest: String,
    /// The prefix of the pages.
    pub prefix: String,
    /// The names of WeChat's domain verification files.
    pub domain_proofs: Vec<String>,
    /// The applications.
    pub apps: Vec<App>,
}

/// An application.
#[derive(Debug, Serialize)]
pub(crate) struct App {
    /// The name, which is the audience of the tokens.
    pub name: AppName,
    /// The origin, which is the issuer of the tokens.
    pub origin: String,
    /// The host in requests.
    pub host: String,
    /// What Envoy checks and what it passes. The first step that matches decides.
    pub steps: Vec<Step>,
}

/// Why a fast gateway cannot implement a configuration.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RulesError {
    /// Every request would be checked.
    #[error(
        "the policy restricts or opens every path of every application, so Envoy must check every request: use envoy/strict.yaml"
    )]
    NothingPasses,
    /// A new key signs before Envoy knows it.
    #[error(
        "keys.sign_after is below 2m, so new keys sign before Envoy has fetched them: raise it, or use envoy/strict.yaml"
    )]
    SignsTooSoon,
    /// The path to ask about is invalid.
    #[error("`{0}` is not a path to ask about: it {1}")]
    Path(String, String),
}

impl Rules {
    /// The rules of this configuration. The paths in `ask` are always checked.
    pub(crate) fn new(settings: &Settings, ask: &[String]) -> Result<Self, RulesError> {
        if settings.keys.sign_after < MIN_SIGN_AFTER {
            return Err(RulesError::SignsTooSoon);
        }
        let path = |text: &String| {
            let path = if text.contains('*') { PathMatch::pattern(text) } else { PathMatch::prefix(text) };
            path.map_err(|error| RulesError::Path(text.clone(), error.to_string()))
        };
        let ask = ask.iter().map(path).collect::<Result<Vec<_>, _>>()?;
        let mut rules = Self::without_digest(settings, &[]);
        let bytes = serde_json::to_vec(&rules).unwrap_or_default();
        let digest = digest::digest(&digest::SHA256, &bytes);
        rules.digest = digest.as_ref().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        if !ask.is_empty() {
            rules.apps = Self::without_digest(settings, &ask).apps;
        }
        let passes = |app: &App| app.steps.iter().any(|step| step.verdict == Verdict::Pass);
        if rules.apps.iter().any(passes) { Ok(rules) } else { Err(RulesError::NothingPasses) }
    }

    fn without_digest(settings: &Settings, ask: &[PathMatch]) -> Self {
        let app = |app: &std::sync::Arc<crate::login::settings::App>| App {
            name: app.name.clone(),
            origin: app.origin.as_str().to_owned(),
            host: app.origin.authority().to_owned(),
            steps: fast::steps(&settings.policy, app.origin.authority(), &settings.prefix, ask),
        };
        let mut domain_proofs: Vec<String> =
            settings.domain_proofs.values().flatten().map(|proof| proof.name().to_owned()).collect();
        domain_proofs.sort();
        domain_proofs.dedup();
        Self {
            digest: String::new(),
            prefix: settings.prefix.clone(),
            domain_proofs,
            apps: settings.apps.iter().map(app).collect(),
        }
    }
}

/// Prints the rules of the configuration `file`.
pub(crate) fn run(file: &Path, ask: &[String], as_json: bool) -> ExitCode {
    let settings = match config::load(file, std::env::vars_os()).and_then(settings::resolve) {
        Ok(settings) => settings,
        Err(errors) => {
            eprintln!("{errors}");
            return ExitCode::from(CONFIGURATION_ERROR);
        }
    };
    let rules = match Rules::new(&settings, ask) {
        Ok(rules) => rules,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    if let Err(error) = print(&rules, as_json, &mut io::stdout().lock()) {
        eprintln!("cannot print: {error}");
        return ExitCode::from(OUTPUT_ERROR);
    }
    ExitCode::SUCCESS
}

fn print(rules: &Rules, as_json: bool, out: &mut impl Write) -> io::Result<()> {
    if as_json {
        return writeln!(out, "{}", serde_json::json!(rules));
    }
    writeln!(out, "# Digest {}. For a request with a valid token, the first line that matches decides.", rules.digest)?;
    for app in &rules.apps {
        writeln!(out, "{} at {}", app.name, app.origin)?;
        for step in &app.steps {
            let verdict = if step.verdict == Verdict::Ask { "ask " } else { "pass" };
            let methods = step.methods.as_ref().map_or_else(|| "any method".to_owned(), |methods| methods.join(" "));
            writeln!(out, "  {verdict}  {methods}  {}", step.path)?;
        }
    }
    out.flush()
}
