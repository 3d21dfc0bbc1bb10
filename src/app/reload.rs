//! Reloads the configuration, the secrets and the keys.

use super::process::ProcessState;
use super::state::AppState;
use crate::clock;
use crate::config::settings::{self, Settings};
use crate::config::{self, Diagnostics};
use crate::session::keys::KeySet;
use crate::telemetry;
use arc_swap::ArcSwap;
use std::path::Path;
use std::sync::Arc;

/// Applies changes. A change with an error is rejected as a whole, and logged once.
pub(super) struct Reloader {
    process: Arc<ProcessState>,
    state: Arc<ArcSwap<AppState>>,
    log: telemetry::logs::Level,
    last_errors: String,
    /// The fingerprint of a change seen once. A change is applied when two readings agree: a file may be read while it
    /// is being written.
    pending: Option<[u8; 32]>,
}

impl Reloader {
    pub(super) fn new(process: Arc<ProcessState>, state: Arc<ArcSwap<AppState>>, log: telemetry::logs::Level) -> Self {
        set_reload_time(&process);
        Self { process, state, log, last_errors: String::new(), pending: None }
    }

    /// Applies what changed since `current`; returns the new settings if the configuration changed. `at_once` applies a
    /// change at its first reading.
    pub(super) fn reload(&mut self, current: &Settings, at_once: bool) -> Option<Settings> {
        let mut errors: Vec<String> = Vec::new();
        let change = read_change(&self.process.file, current).unwrap_or_else(|diagnostics| {
            errors.push(diagnostics.to_string());
            None
        });
        let fingerprint = change.as_ref().map(|next| next.fingerprint);
        let confirmed = at_once || self.pending == fingerprint;
        self.pending = fingerprint;
        // Keys first: a configuration whose keys cannot be loaded is rejected.
        let next = change.filter(|_| confirmed).filter(|next| self.load_keys(next, &mut errors));
        if next.is_none() {
            self.load_keys(current, &mut errors);
        }
        let next = next.filter(|next| self.apply(next).map_err(|error| errors.push(error)).is_ok());
        errors.dedup();
        self.log_rejected(errors.join("\n"));
        next
    }

    /// Replaces the application state, and what the process state takes from the configuration.
    fn apply(&self, next: &Settings) -> Result<(), String> {
        let process = &self.process;
        let state = AppState::new(next, process, Some(&self.state.load())).map_err(|error| error.to_string())?;
        self.state.store(Arc::new(state));
        process.sessions.settings_changed();
        // The address of Redis cannot change here; its password can.
        if let Some(redis) = &next.redis {
            process.store.replace(redis.store.clone());
        }
        process.admin.token.store(next.admin_token.clone().map(Arc::new));
        process.admin.apps.store(Arc::new(next.app_names()));
        self.log.set(next.log_level);
        self.log_reloaded("configuration");
        Ok(())
    }

    /// Loads the keys of `settings`; whether all are good.
    fn load_keys(&self, settings: &Settings, errors: &mut Vec<String>) -> bool {
        match KeySet::load(&settings.keys) {
            Ok(keys) => {
                if self.process.sessions.keys.replace(keys) {
                    self.log_reloaded("keys");
                }
                true
            }
            Err(key_errors) => {
                errors.extend(key_errors.iter().map(ToString::to_string));
                false
            }
        }
    }

    fn log_reloaded(&self, what: &'static str) {
        self.process.metrics.instance.reloaded("accepted");
        set_reload_time(&self.process);
        tracing::info!(target: "audit", event = "reload", changed = what, "reloaded");
    }

    fn log_rejected(&mut self, errors: String) {
        if !errors.is_empty() && errors != self.last_errors {
            self.process.metrics.instance.reloaded("rejected");
            tracing::error!(errors, "change rejected; the previous configuration stays in use");
        }
        self.last_errors = errors;
    }
}

fn set_reload_time(process: &ProcessState) {
    process.metrics.instance.loaded_at.set(i64::try_from(clock::now().0).unwrap_or(i64::MAX));
}

/// The configuration, if it or a secret has changed since `current`.
fn read_change(file: &Path, current: &Settings) -> Result<Option<Settings>, Diagnostics> {
    let next = config::load(file, std::env::vars_os()).and_then(settings::resolve)?;
    if next.fingerprint == current.fingerprint {
        return Ok(None);
    }
    let fixed = (&next.listen, &next.state_directory, &next.redis);
    if fixed != (&current.listen, &current.state_directory, &current.redis) {
        let wanted = "restart the process for this change, or take it back";
        let file = file.to_string_lossy().as_ref().into();
        let found = "found listen, admin.listen, state_directory or redis changed, which are fixed while running";
        return Err(config::Diagnostic::new(config::Place::File(file), "listen", found, wanted).into());
    }
    Ok(Some(next))
}
