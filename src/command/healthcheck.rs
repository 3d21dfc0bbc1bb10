//! `healthcheck`: whether the instance beside this lives, for probes in an image without a shell.
//!
//! It reads no configuration: one that was changed to something wrong is refused by the instance, which goes on, and must
//! not be ended for it.

use super::call::{CallFault, call};
use crate::config::raw::Listen;
use crate::server::Address;
use http::{Request, StatusCode};
use std::process::ExitCode;
use std::time::Duration;

/// The variable that moves the ops door, as `serve` reads it.
const DOOR: &str = "WECHAT_AUTHZ__LISTEN__OPS";

/// Below the second that a probe waits unless told otherwise.
const PATIENCE: Duration = Duration::from_millis(900);

/// Why it does not count as well.
#[derive(Debug, thiserror::Error)]
enum HealthFault {
    #[error("{DOOR}: `{0}` is no address of a door")]
    NoAddress(String),
    #[error(transparent)]
    Call(#[from] CallFault),
    #[error("{0} answers {1}")]
    Unwell(Address, StatusCode),
}

/// Asks the ops door at `door`, or where the environment or the default has it: whether the instance lives, or with
/// `ready` whether it takes requests.
#[must_use]
pub fn run(door: Option<Address>, ready: bool) -> ExitCode {
    match asked(door, std::env::var(DOOR).ok(), ready) {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            eprintln!("{fault}");
            ExitCode::FAILURE
        }
    }
}

fn asked(door: Option<Address>, moved: Option<String>, ready: bool) -> Result<(), HealthFault> {
    let door = match door {
        Some(door) => door,
        None => {
            let text = moved.unwrap_or_else(|| Listen::default().ops);
            text.parse().map_err(|_| HealthFault::NoAddress(text))?
        }
    };
    let path = if ready { "/readyz" } else { "/healthz" };
    match call(&door, Request::get(path), "", PATIENCE)? {
        (StatusCode::OK, _) => Ok(()),
        (status, _) => Err(HealthFault::Unwell(door, status)),
    }
}
