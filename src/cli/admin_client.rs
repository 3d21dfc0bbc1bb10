//! Asking the admin door of a running instance. Where it is and what opens it comes from the configuration, so that no
//! secret stands on a command line.

use super::check_config::{CONFIGURATION_ERROR, OUTPUT_ERROR};
use super::http::{self as http_client, HttpError};
use crate::config::{self, settings};
use http::{Method, Request, StatusCode, header};
use serde::Deserialize;
use serde_json::Value;
use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

/// The longest one question takes, all of it: the door waits for a disk and for Redis.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Why there is no answer, by whose error it is.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    /// The configuration's.
    #[error("{0}")]
    Configuration(String),
    /// It has no such door.
    #[error("the configuration has no admin listener: write admin: {{ token_file: … }} and start the instance again")]
    NoDoor,
    /// No answer came.
    #[error("{0}. Is the instance running, and with this configuration?")]
    Call(HttpError),
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

impl From<HttpError> for AskError {
    fn from(error: HttpError) -> Self {
        match error {
            HttpError::NoRequest => Self::Configuration("admin.token_file: holds what no header can".to_owned()),
            other => Self::Call(other),
        }
    }
}

impl AskError {
    /// Says it and gives the exit code.
    pub(crate) fn told(&self) -> ExitCode {
        eprintln!("{self}");
        ExitCode::from(match self {
            Self::Configuration(_) | Self::NoDoor => CONFIGURATION_ERROR,
            Self::Output(_) => OUTPUT_ERROR,
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
pub(crate) fn ask(file: &Path, method: Method, path: &str, body: &str) -> Result<Value, AskError> {
    let loaded = config::load(file, std::env::vars_os());
    let settings = loaded.and_then(settings::resolve);
    let settings = settings.map_err(|errors| AskError::Configuration(errors.to_string()))?;
    let (Some(address), Some(token)) = (settings.listen.admin, settings.admin_token) else {
        return Err(AskError::NoDoor);
    };
    let request = Request::builder().method(method).uri(path);
    let request = request.header(header::AUTHORIZATION, format!("Bearer {}", token.expose()));
    let (status, body) = http_client::request(&address, request, body, TIMEOUT)?;
    let Envelope { message, data } = serde_json::from_slice(&body).map_err(|_| HttpError::NotUnderstood(address))?;
    match status {
        StatusCode::OK => Ok(data),
        StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND => Err(AskError::Rejected(printable(&message))),
        _ => Err(AskError::Refused(status, printable(&message))),
    }
}

/// A text without what could steer a terminal: people choose their nicknames.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
