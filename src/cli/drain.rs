//! `drain`: has the Envoy beside this one end politely, as a pod's preStop hook.
//!
//! Envoy ends ten milliseconds after SIGTERM and cuts what is under way. Told before, it says `connection: close` in each
//! answer, counts as not ready, and lets requests finish. GET is refused there, so no `httpGet` hook can tell it.

use super::http::{HttpError, request};
use crate::server::Address;
use http::{Request, StatusCode};
use std::process::ExitCode;
use std::time::Duration;

/// Envoy's admin port is beside us.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Not ready first, so that nobody new is sent here; then the listeners.
const STEPS: [&str; 2] = ["/healthcheck/fail", "/drain_listeners?graceful"];

/// Why Envoy does not drain.
#[derive(Debug, thiserror::Error)]
enum DrainError {
    #[error("{0}. Is this Envoy's admin port?")]
    Call(#[from] HttpError),
    #[error("Envoy at {0} answers {1} to POST {2}: its admin.allow_paths must have the path")]
    Refused(Address, StatusCode, &'static str),
}

/// Tells the Envoy whose admin port is at `envoy` to drain, and waits. It waits in any case: while this hook runs the
/// instance serves, and who is still sent here finds it.
pub(crate) fn run(envoy: &Address, wait: Duration) -> ExitCode {
    let told = STEPS.iter().try_for_each(|step| send(envoy, step));
    if let Err(error) = &told {
        eprintln!("{error}");
    }
    std::thread::sleep(wait);
    if told.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn send(envoy: &Address, step: &'static str) -> Result<(), DrainError> {
    match request(envoy, Request::post(step), "", TIMEOUT)? {
        (StatusCode::OK, _) => Ok(()),
        (status, _) => Err(DrainError::Refused(envoy.clone(), status, step)),
    }
}
