//! `serve`: starts the process, reloads its configuration, and drains it.
//!
//! State has two lifetimes. [`ProcessState`](process::ProcessState) lives as long as the process.
//! [`AppState`](state::AppState) is built from one configuration, and a reload replaces it as a whole.
//!
//! Two tokio runtimes: one for the check and pages listeners, and one on a thread of its own for the ops and admin
//! listeners, so that these answer while the others are busy.

mod admin_server;
mod error;
mod housekeeping;
mod in_band;
mod process;
mod reload;
mod run;
mod state;

pub(crate) use run::run;
