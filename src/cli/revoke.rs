//! `revoke`: ends sessions at all instances.

use super::admin_client::{AdminError, call};
use clap::Args;
use http::Method;
use serde_json::{Value, json};
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

/// What to revoke: exactly one of these.
#[derive(Clone, Debug, Args)]
#[group(required = true, multiple = false)]
pub struct Target {
    /// One session, by its id (x-wechat-session).
    // An id may begin with a hyphen, which is a character of base64url.
    #[arg(long, value_name = "ID", allow_hyphen_values = true)]
    session: Option<String>,
    /// All present sessions of a user (x-wechat-subject).
    #[arg(long, value_name = "SUBJECT")]
    subject: Option<String>,
    /// All present sessions of an application.
    #[arg(long, value_name = "NAME")]
    app: Option<String>,
}

/// Revokes at the instance of the configuration `file` and prints the result.
pub(crate) fn run(file: &Path, target: &Target, as_json: bool) -> ExitCode {
    match revoke(file, target, as_json, &mut io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error.report(),
    }
}

fn revoke(file: &Path, target: &Target, as_json: bool, out: &mut impl Write) -> Result<(), AdminError> {
    let body = match target {
        Target { session: Some(session), .. } => json!({ "session": session }),
        Target { subject: Some(subject), .. } => json!({ "subject": subject }),
        Target { app, .. } => json!({ "app": app }),
    };
    let answer = call(file, Method::POST, "/sessions/revoke", &body.to_string())?;
    if as_json {
        writeln!(out, "{answer}")?;
    } else {
        describe(&answer).iter().try_for_each(|line| writeln!(out, "{line}"))?;
    }
    Ok(out.flush()?)
}

/// Describes the response of the admin listener.
fn describe(answer: &Value) -> Vec<&'static str> {
    let flag = |name: &str| answer.get(name).and_then(Value::as_bool);
    let what = match answer.get("revoked").and_then(Value::as_str) {
        Some("session") => "the session is revoked",
        Some("subject") => "all sessions of this user are revoked",
        _ => "all sessions of this application are revoked",
    };
    let mut lines = vec![what];
    match flag("known") {
        Some(true) => {}
        Some(false) => lines.push("note: this user has no known session; check the subject"),
        None => lines.push("note: this instance does not know the session; check the id"),
    }
    if flag("shared") == Some(false) {
        lines.push(match answer.get("reason").and_then(Value::as_str) {
            Some("not_configured") => "note: at this instance only: no Redis is configured",
            _ => "note: at this instance only, until Redis is available again",
        });
    }
    if flag("kept") == Some(false) {
        lines.push("warning: in memory only; a restart of the instance forgets the revocation");
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::super::{Arguments, Command};
    use super::*;
    use clap::Parser;

    #[test]
    fn an_id_may_begin_with_a_hyphen() {
        for id in ["-yQ3k0Zf9hXb1mTzq7cVdA", "--Q3k0Zf9hXb1mTzq7cVdA", "_yQ3k0Zf9hXb1mTzq7cVdA"] {
            let words = ["wechat-authz", "revoke", "--session", id, "--config", "config.yaml"];
            let arguments = Arguments::try_parse_from(words).unwrap();
            let Command::Revoke { target, .. } = arguments.command else { panic!("{arguments:?}") };
            assert_eq!(target.session.as_deref(), Some(id));
        }
    }

    #[test]
    fn uncertain_results_are_reported() {
        let lines = |known: Value, kept, shared| {
            describe(&json!({ "revoked": "subject", "known": known, "kept": kept, "shared": shared }))
        };
        assert_eq!(lines(json!(true), true, true), ["all sessions of this user are revoked"]);
        assert!(lines(json!(false), true, true).iter().any(|line| line.contains("check the subject")));
        assert!(lines(json!(null), true, true).iter().any(|line| line.contains("does not know the session")));
        assert!(lines(json!(true), true, false).iter().any(|line| line.contains("this instance only")));
        let not_shared =
            |reason| describe(&json!({ "revoked": "app", "known": true, "shared": false, "reason": reason }));
        assert!(not_shared("not_configured").iter().any(|line| line.contains("no Redis is configured")));
        assert!(not_shared("down").iter().any(|line| line.contains("until Redis is available again")));
        assert!(lines(json!(true), false, false).iter().any(|line| line.contains("a restart")));
    }
}
