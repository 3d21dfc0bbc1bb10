//! Asking the admin door of a running instance. Where it is and what opens it comes from the configuration, so that no
//! secret stands on a command line.

use super::call::{CallFault, call};
use super::check_config::{CONFIGURATION_FAULT, OUTPUT_FAULT};
use crate::config::{self, settings};
use http::{Method, Request, StatusCode, header};
use serde::Deserialize;
use serde_json::Value;
use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

/// The longest one question takes, all of it: the door waits for a disk and for Redis.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why there is no answer, by whose fault it is.
#[derive(Debug, thiserror::Error)]
pub enum AskFault {
    /// The configuration's.
    #[error("{0}")]
    Configuration(String),
    /// It has no such door.
    #[error("the configuration has no admin listener: write admin: {{ token_file: … }} and start the instance again")]
    NoDoor,
    /// No answer came.
    #[error("{0}. Is the instance running, and with this configuration?")]
    Call(CallFault),
    /// The door said no.
    #[error("the admin listener refused ({0}): {1}")]
    Refused(StatusCode, String),
    /// The request is not possible; the message gives the reason.
    #[error("{0}")]
    Rejected(String),
    /// The answer could not be printed.
    #[error("cannot print: {0}")]
    Output(#[from] io::Error),
}

impl From<CallFault> for AskFault {
    fn from(fault: CallFault) -> Self {
        match fault {
            CallFault::NoRequest => Self::Configuration("admin.token_file: holds what no header can".to_owned()),
            other => Self::Call(other),
        }
    }
}

impl AskFault {
    /// Says it and gives the exit code.
    #[must_use]
    pub fn told(&self) -> ExitCode {
        eprintln!("{self}");
        ExitCode::from(match self {
            Self::Configuration(_) | Self::NoDoor => CONFIGURATION_FAULT,
            Self::Output(_) => OUTPUT_FAULT,
            Self::Call(_) | Self::Refused(..) | Self::Rejected(_) => 1,
        })
    }
}

/// The answer's JSON body. Its `code` repeats the status.
#[derive(Deserialize)]
struct Envelope {
    message: String,
    data: Value,
}

/// Sends one request to the admin listener that the configuration `file` describes. Returns the answer's `data`.
///
/// # Errors
/// [`AskFault`].
pub fn ask(file: &Path, method: Method, path: &str, body: &str) -> Result<Value, AskFault> {
    let loaded = config::load(file, std::env::vars_os());
    let settings = loaded.and_then(settings::understand);
    let settings = settings.map_err(|faults| AskFault::Configuration(faults.to_string()))?;
    let (Some(address), Some(token)) = (settings.listen.admin, settings.admin_token) else {
        return Err(AskFault::NoDoor);
    };
    let request = Request::builder().method(method).uri(path);
    let request = request.header(header::AUTHORIZATION, format!("Bearer {}", token.expose()));
    let (status, body) = call(&address, request, body, PATIENCE)?;
    let Envelope { message, data } = serde_json::from_slice(&body).map_err(|_| CallFault::NotUnderstood(address))?;
    match status {
        StatusCode::OK => Ok(data),
        StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND => Err(AskFault::Rejected(printable(&message))),
        _ => Err(AskFault::Refused(status, printable(&message))),
    }
}

/// A text without what could steer a terminal: people choose their nicknames.
#[must_use]
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
