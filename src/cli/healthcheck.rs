//! `healthcheck`: reports whether the local instance is alive, for probes in an image without a shell.
//!
//! It reads no configuration file: an instance rejects an invalid change and keeps running, so the probe must not fail.

use super::http::{HttpError, request};
use crate::config::file::Listen;
use crate::server::Address;
use http::{Request, StatusCode};
use std::process::ExitCode;
use std::time::Duration;

/// The variable that sets the ops listener's address for `serve`.
const OPS_VARIABLE: &str = "WECHAT_AUTHZ__LISTEN__OPS";

/// Less than the default time limit of a probe, one second.
const TIMEOUT: Duration = Duration::from_millis(900);

/// Why the instance counts as unhealthy.
#[derive(Debug, thiserror::Error)]
enum HealthcheckError {
    #[error("{OPS_VARIABLE}: `{0}` is not the address of a listener")]
    InvalidAddress(String),
    #[error(transparent)]
    Call(#[from] HttpError),
    #[error("{0} responds with {1}")]
    Unhealthy(Address, StatusCode),
}

/// Calls the ops listener at `address`, or at the address from the environment or the default. Asks whether the instance is
/// alive, or with `ready` whether it accepts requests.
pub(crate) fn run(address: Option<Address>, ready: bool) -> ExitCode {
    match probe(address, std::env::var(OPS_VARIABLE).ok(), ready) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn probe(address: Option<Address>, variable: Option<String>, ready: bool) -> Result<(), HealthcheckError> {
    let address = match (address, variable) {
        (Some(address), _) => address,
        (None, Some(text)) => text.parse().map_err(|_| HealthcheckError::InvalidAddress(text))?,
        (None, None) => Listen::default().ops.into(),
    };
    let path = if ready { "/readyz" } else { "/healthz" };
    match request(&address, Request::get(path), "", TIMEOUT)? {
        (StatusCode::OK, _) => Ok(()),
        (status, _) => Err(HealthcheckError::Unhealthy(address, status)),
    }
}
