//! `healthcheck`: whether the instance beside this lives, for probes in an image without a shell.
//!
//! It reads no configuration: one that was changed to something wrong is refused by the instance, which goes on, and must
//! not be ended for it.

use super::http::{HttpError, request};
use crate::config::raw::Listen;
use crate::server::Address;
use http::{Request, StatusCode};
use std::process::ExitCode;
use std::time::Duration;

/// The variable that moves the ops door, as `serve` reads it.
const OPS_VARIABLE: &str = "WECHAT_AUTHZ__LISTEN__OPS";

/// Below the second that a probe waits unless told otherwise.
const TIMEOUT: Duration = Duration::from_millis(900);

/// Why it does not count as well.
#[derive(Debug, thiserror::Error)]
enum HealthError {
    #[error("{OPS_VARIABLE}: `{0}` is no address of a door")]
    NoAddress(String),
    #[error(transparent)]
    Call(#[from] HttpError),
    #[error("{0} answers {1}")]
    Unwell(Address, StatusCode),
}

/// Asks the ops door at `door`, or where the environment or the default has it: whether the instance lives, or with
/// `ready` whether it takes requests.
pub(crate) fn run(door: Option<Address>, ready: bool) -> ExitCode {
    match probe(door, std::env::var(OPS_VARIABLE).ok(), ready) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn probe(door: Option<Address>, moved: Option<String>, ready: bool) -> Result<(), HealthError> {
    let door = match door {
        Some(door) => door,
        None => {
            let text = moved.unwrap_or_else(|| Listen::default().ops);
            text.parse().map_err(|_| HealthError::NoAddress(text))?
        }
    };
    let path = if ready { "/readyz" } else { "/healthz" };
    match request(&door, Request::get(path), "", TIMEOUT)? {
        (StatusCode::OK, _) => Ok(()),
        (status, _) => Err(HealthError::Unwell(door, status)),
    }
}
