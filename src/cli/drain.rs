//! `drain`: drains the local Envoy. For a pod's preStop hook.
//!
//! On SIGTERM, Envoy exits within milliseconds and aborts open requests. A drain before that makes it not ready, adds
//! `connection: close` to each response, and lets requests finish. Envoy's admin port requires POST, which an `httpGet`
//! hook cannot send.

use super::http::{HttpError, request};
use crate::server::Address;
use http::{Request, StatusCode};
use std::process::ExitCode;
use std::time::Duration;

/// The longest call. Envoy's admin port is local.
const TIMEOUT: Duration = Duration::from_secs(2);

/// First not ready, so that no new connections arrive; then the listeners.
const STEPS: [&str; 2] = ["/healthcheck/fail", "/drain_listeners?graceful"];

/// Why Envoy does not drain.
#[derive(Debug, thiserror::Error)]
enum DrainError {
    #[error("{0}. Is this Envoy's admin port?")]
    Call(#[from] HttpError),
    #[error("Envoy at {0} answers {1} to POST {2}: add the path to admin.allow_paths")]
    Refused(Address, StatusCode, &'static str),
}

/// Drains the Envoy whose admin port is at `envoy`, then waits. It also waits after an error: while the hook runs, the pod
/// serves requests that still arrive.
pub(crate) fn run(envoy: &Address, wait: Duration) -> ExitCode {
    let result = STEPS.iter().try_for_each(|step| send(envoy, step));
    if let Err(error) = &result {
        eprintln!("{error}");
    }
    std::thread::sleep(wait);
    if result.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn send(envoy: &Address, step: &'static str) -> Result<(), DrainError> {
    match request(envoy, Request::post(step), "", TIMEOUT)? {
        (StatusCode::OK, _) => Ok(()),
        (status, _) => Err(DrainError::Refused(envoy.clone(), status, step)),
    }
}
