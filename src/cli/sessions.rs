//! `sessions list`: lists the sessions of a user.

use super::admin_client::{AdminError, call, printable};
use crate::clock::Timestamp;
use http::Method;
use serde_json::Value;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use time::macros::format_description;

/// Lists the sessions of `subject` that the instance of the configuration `file` knows.
pub(crate) fn run(file: &Path, subject: &str, as_json: bool) -> ExitCode {
    match list(file, subject, as_json, &mut io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error.report(),
    }
}

fn list(file: &Path, subject: &str, as_json: bool, out: &mut impl Write) -> Result<(), AdminError> {
    let subject: String = url::form_urlencoded::byte_serialize(subject.as_bytes()).collect();
    let answer = call(file, Method::GET, &format!("/sessions?subject={subject}"), "")?;
    if as_json {
        writeln!(out, "{answer}")?;
    } else {
        table(&answer).iter().try_for_each(|line| writeln!(out, "{line}"))?;
    }
    Ok(out.flush()?)
}

const HEAD: [&str; 7] = ["SESSION", "APP", "FLOW", "BROWSER", "LOGGED IN", "LAST SEEN", "ENDS"];

/// The response of the admin listener as lines of text.
fn table(answer: &Value) -> Vec<String> {
    let text = |value: &Value, name: &str| value.get(name).and_then(Value::as_str).map_or("-".into(), printable);
    let time = |value: &Value, name: &str| value.get(name).and_then(Value::as_u64).map_or("-".into(), moment);
    let none = Vec::new();
    let sessions = answer.get("sessions").and_then(Value::as_array).unwrap_or(&none);
    let mut rows = vec![HEAD.map(str::to_owned)];
    rows.extend(sessions.iter().map(|one| {
        let words = ["session", "app", "method", "browser"].map(|name| text(one, name));
        let times = ["created", "seen", "ends"].map(|name| time(one, name));
        let [session, app, method, browser] = words;
        let [created, seen, ends] = times;
        [session, app, method, browser, created, seen, ends]
    }));
    let mut lines: Vec<String> = if sessions.is_empty() {
        vec!["no session".to_owned()]
    } else {
        let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(String::len).max().unwrap_or(0);
        let widths: Vec<usize> = (0..HEAD.len()).map(width).collect();
        let line = |row: &[String; 7]| {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        rows.iter().map(line).collect()
    };
    for (app, profile) in answer.get("profiles").and_then(Value::as_object).into_iter().flatten() {
        let (nickname, unionid) = (text(profile, "nickname"), text(profile, "unionid"));
        let (app, at) = (printable(app), time(profile, "at"));
        lines.push(format!("{app}: nickname {nickname}, unionid {unionid}, as of {at}"));
    }
    lines.push(format!("(as known to {})", text(answer, "from")));
    lines
}

fn moment(seconds: u64) -> String {
    Timestamp(seconds).format(format_description!(version = 2, "[year]-[month]-[day]T[hour]:[minute]Z"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn sessions_stand_in_columns_and_nothing_steers_the_terminal() {
        let answer = json!({
            "subject": "wx:union:o1", "from": "all instances",
            "sessions": [
                { "session": "AbC", "app": "shop", "method": "website", "browser": "chrome",
                  "created": 1_795_433_100, "seen": 1_795_433_100, "ends": 1_795_433_160 },
                { "session": "longer-id", "app": "shop", "method": "official_account", "browser": null,
                  "created": 1_795_433_100, "seen": 1_795_433_100, "ends": 1_795_433_160 },
            ],
            "profiles": { "shop": { "nickname": "\u{1b}[2Ja", "unionid": "", "at": 1_795_433_100 } },
        });
        let lines = table(&answer);
        assert_eq!(lines[0], "SESSION    APP   FLOW              BROWSER  LOGGED IN          LAST SEEN          ENDS");
        assert_eq!(
            lines[1],
            "AbC        shop  website           chrome   2026-11-23T11:25Z  2026-11-23T11:25Z  2026-11-23T11:26Z"
        );
        assert!(lines[2].contains("official_account  -  "), "{lines:?}");
        assert_eq!(lines[3], "shop: nickname \u{fffd}[2Ja, unionid , as of 2026-11-23T11:25Z");
        assert_eq!(
            table(&json!({ "from": "all instances", "sessions": [] })),
            ["no session", "(as known to all instances)"]
        );
    }
}
