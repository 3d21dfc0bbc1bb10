//! What is done now and then: looking for changes, forgetting what no longer matters.

use super::Parts;
use super::world::World;
use crate::clock;
use crate::config::settings::{self, Settings};
use crate::config::{self, Faults};
use crate::session::keys::KeySet;
use crate::telemetry;
use arc_swap::ArcSwap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// What is forgotten, how often.
const SWEEP: Duration = Duration::from_secs(10);

/// Looks for changes and forgets what no longer matters.
pub(super) async fn upkeep(
    mut settings: Settings,
    world: Arc<ArcSwap<World>>,
    parts: Arc<Parts>,
    log: telemetry::logs::Level,
) {
    let Ok(mut hangup) = signal(SignalKind::hangup()) else { return };
    let mut look = tokio::time::interval(settings.reload_interval);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut sweep = tokio::time::interval(SWEEP);
    sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut reload = Reload { parts: Arc::clone(&parts), last_complaint: String::new() };
    parts.metrics.reloaded_at.set(i64::try_from(clock::now().0).unwrap_or(i64::MAX));
    look.tick().await;
    loop {
        tokio::select! {
            _ = look.tick() => {}
            _ = hangup.recv() => {}
            _ = sweep.tick() => {
                let (limits, parts) = (Arc::clone(&world.load().limits), Arc::clone(&parts));
                // Walks every key there is: not on a thread that answers.
                let _ = tokio::task::spawn_blocking(move || {
                    limits.sweep();
                    parts.sessions.revocations.sweep(clock::now());
                }).await;
                continue;
            }
        }
        let (current, next_world) = (settings, Arc::clone(&world));
        let level = log.clone();
        let looked = tokio::task::spawn_blocking(move || {
            let next = reload.look(&current, &next_world, &level);
            (reload, next.unwrap_or(current))
        });
        match looked.await {
            Ok((again, next)) => {
                if next.reload_interval != look.period() {
                    look = tokio::time::interval(next.reload_interval);
                    look.tick().await;
                }
                (reload, settings) = (again, next);
            }
            Err(_) => return,
        }
    }
}

/// The look for changes. A bad change is refused whole, and said once.
struct Reload {
    parts: Arc<Parts>,
    last_complaint: String,
}

impl Reload {
    /// Puts what changed in force; gives the new settings if the configuration did.
    fn look(&mut self, current: &Settings, world: &ArcSwap<World>, log: &telemetry::logs::Level) -> Option<Settings> {
        let mut complaints: Vec<String> = Vec::new();
        let next = match read_changed(&self.parts.file, current) {
            Ok(next) => next,
            Err(faults) => {
                complaints.push(faults.to_string());
                None
            }
        };
        let next = next.filter(|next| match World::new(next, &self.parts, Some(&world.load())) {
            Ok(made) => {
                world.store(Arc::new(made));
                self.parts.sessions.settings_changed();
                self.parts.admin.token.store(next.admin_token.clone().map(Arc::new));
                log.set(next.log_level);
                self.accepted("configuration");
                true
            }
            Err(fault) => {
                complaints.push(fault.to_string());
                false
            }
        });
        match KeySet::load(&next.as_ref().unwrap_or(current).keys) {
            Ok(keys) => {
                if self.parts.sessions.keys.replace(keys) {
                    self.accepted("keys");
                }
            }
            Err(faults) => complaints.extend(faults.iter().map(ToString::to_string)),
        }
        self.complain(complaints.join("\n"));
        next
    }

    fn accepted(&self, what: &'static str) {
        self.parts.metrics.reload("accepted");
        self.parts.metrics.reloaded_at.set(i64::try_from(clock::now().0).unwrap_or(i64::MAX));
        tracing::info!(target: "audit", event = "reload", what, "a change is in force");
    }

    fn complain(&mut self, complaint: String) {
        if !complaint.is_empty() && complaint != self.last_complaint {
            self.parts.metrics.reload("refused");
            tracing::error!(faults = complaint, "a change is refused; what was in force stays");
        }
        self.last_complaint = complaint;
    }
}

/// The configuration, if it or a secret has changed.
fn read_changed(file: &Path, current: &Settings) -> Result<Option<Settings>, Faults> {
    let next = config::load(file, std::env::vars_os()).and_then(settings::understand)?;
    if next.fingerprint == current.fingerprint {
        return Ok(None);
    }
    if next.listen != current.listen || next.state_directory != current.state_directory {
        let wanted = "restart the process for this change, or take it back";
        let file = file.to_string_lossy().as_ref().into();
        let found = "found listen, admin.listen or state_directory changed, which are fixed while running";
        return Err(config::Fault::new(config::Place::File(file), "listen", found, wanted).into());
    }
    Ok(Some(next))
}
