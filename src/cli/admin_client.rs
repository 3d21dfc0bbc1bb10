//! Calls the admin listener of a running instance. Its address and token come from the configuration, so that no secret is
//! on a command line.

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

/// The longest call: the admin listener waits for the disk and for Redis.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AdminError {
    /// The configuration is invalid.
    #[error("{0}")]
    Configuration(String),
    /// The configuration has no admin listener.
    #[error("the configuration has no admin listener: write admin: {{ token_file: … }} and start the instance again")]
    NoListener,
    /// No response.
    #[error("{0}. Is the instance running, and with this configuration?")]
    Call(HttpError),
    /// The admin listener refused the call.
    #[error("the admin listener refused ({0}): {1}")]
    Refused(StatusCode, String),
    /// The request is invalid; the message gives the reason.
    #[error("{0}")]
    Rejected(String),
    /// The output cannot be written.
    #[error("cannot print: {0}")]
    Output(#[from] io::Error),
}

impl From<HttpError> for AdminError {
    fn from(error: HttpError) -> Self {
        match error {
            HttpError::InvalidHeader => {
                Self::Configuration("admin.token_file: the token has characters that no header can have".to_owned())
            }
            other => Self::Call(other),
        }
    }
}

impl AdminError {
    /// Prints the error and returns the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        eprintln!("{self}");
        ExitCode::from(match self {
            Self::Configuration(_) | Self::NoListener => CONFIGURATION_ERROR,
            Self::Output(_) => OUTPUT_ERROR,
            Self::Call(_) | Self::Refused(..) | Self::Rejected(_) => 1,
        })
    }
}

/// The JSON body of a response. Its `code` repeats the status.
#[derive(Deserialize)]
struct Envelope {
    message: String,
    data: Value,
}

/// Sends a request to the admin listener of the configuration `file`. Returns the `data` of the response.
pub(crate) fn call(file: &Path, method: Method, path: &str, body: &str) -> Result<Value, AdminError> {
    let loaded = config::load(file, std::env::vars_os());
    let settings = loaded.and_then(settings::resolve);
    let settings = settings.map_err(|errors| AdminError::Configuration(errors.to_string()))?;
    let (Some(address), Some(token)) = (settings.listen.admin, settings.admin_token) else {
        return Err(AdminError::NoListener);
    };
    let request = Request::builder().method(method).uri(path);
    let request = request.header(header::AUTHORIZATION, format!("Bearer {}", token.expose()));
    let (status, body) = http_client::request(&address, request, body, TIMEOUT)?;
    let Envelope { message, data } = serde_json::from_slice(&body).map_err(|_| HttpError::InvalidResponse(address))?;
    match status {
        StatusCode::OK => Ok(data),
        StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND => Err(AdminError::Rejected(printable(&message))),
        _ => Err(AdminError::Refused(status, printable(&message))),
    }
}

/// Replaces control characters, which could control the terminal: users choose their nicknames.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
