//! What is done now and then: looking for changes, forgetting what no longer matters.

use super::Runtime;
use super::state::AppState;
use crate::clock::{self, Timestamp};
use crate::config::settings::{self, Settings};
use crate::config::{self, Diagnostics};
use crate::session::RecentSession;
use crate::session::keys::KeySet;
use crate::sessions::registry::SessionRecord;
use crate::telemetry;
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// What is forgotten, how often.
const SWEEP_INTERVAL: Duration = Duration::from_secs(10);

/// Sessions told of in one sweep at most.
const MAX_SEEN: usize = 20_000;

/// A session in use as the registry lists it.
fn session_record(seen: &RecentSession) -> SessionRecord {
    let claims = seen.claims();
    SessionRecord {
        session: claims.sid,
        subject: claims.sub.clone(),
        app: claims.aud.clone(),
        flow: claims.flow,
        created: Timestamp(claims.auth_time),
        ends: Timestamp(claims.session_exp),
        seen: seen.at(),
        browser: None,
    }
}

/// Looks for changes and forgets what no longer matters.
pub(super) async fn run(
    settings: Settings,
    world: Arc<ArcSwap<AppState>>,
    parts: Arc<Runtime>,
    log: telemetry::logs::Level,
) {
    let Ok(mut hangup) = signal(SignalKind::hangup()) else { return };
    let mut look = tokio::time::interval(settings.reload_interval);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut sweep = tokio::time::interval(SWEEP_INTERVAL);
    sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let reload = Reload { parts: Arc::clone(&parts), last_error: String::new(), seen_once: None };
    parts.metrics.reloaded_at.set(i64::try_from(clock::now().0).unwrap_or(i64::MAX));
    look.tick().await;
    let mut settings = Arc::new(settings);
    let reload = Arc::new(Mutex::new(reload));
    loop {
        let at_once = tokio::select! {
            _ = look.tick() => false,
            _ = hangup.recv() => true,
            _ = sweep.tick() => {
                let registry = Arc::clone(&parts.registry);
                tokio::spawn(async move { registry.measure_lag().await });
                let (limits, swept) = (Arc::clone(&world.load().limits), Arc::clone(&parts));
                // Walks every key there is: not on a thread that answers.
                let seen = tokio::task::spawn_blocking(move || {
                    limits.sweep();
                    swept.sessions.revocations.sweep(clock::now());
                    swept.sessions.sweep(clock::now());
                    let seen = swept.sessions.seen(MAX_SEEN);
                    swept.registry.seen(seen.iter().map(session_record));
                    seen
                }).await;
                if let Some(seen) = seen.ok().filter(|seen| !seen.is_empty()) {
                    let login = Arc::clone(&world.load().pages.login);
                    // Not among the tasks that a shutdown waits for: nothing is lost with it.
                    tokio::spawn(async move { login.refresh_profiles(&seen).await });
                }
                continue;
            }
        };
        let (current, world, level, reload) =
            (Arc::clone(&settings), Arc::clone(&world), log.clone(), Arc::clone(&reload));
        let looked = tokio::task::spawn_blocking(move || {
            let mut reload = reload.lock();
            reload.check_for_changes(&current, &world, &level, at_once)
        });
        // A look that panicked has been logged; the next one is as good as any.
        let Ok(Some(next)) = looked.await else { continue };
        if next.reload_interval != look.period() {
            look = tokio::time::interval(next.reload_interval);
            look.tick().await;
        }
        settings = Arc::new(next);
    }
}

/// The look for changes. A bad change is refused whole, and said once.
struct Reload {
    parts: Arc<Runtime>,
    last_error: String,
    /// A change seen once. It counts when it is seen again: a file may be read while it is being written.
    seen_once: Option<[u8; 32]>,
}

impl Reload {
    /// Puts what changed in force; gives the new settings if the configuration did. `at_once` is for who asks for it.
    fn check_for_changes(
        &mut self,
        current: &Settings,
        world: &ArcSwap<AppState>,
        log: &telemetry::logs::Level,
        at_once: bool,
    ) -> Option<Settings> {
        let mut complaints: Vec<String> = Vec::new();
        let read = read_changed(&self.parts.file, current).unwrap_or_else(|errors| {
            complaints.push(errors.to_string());
            None
        });
        let again = at_once || self.seen_once == read.as_ref().map(|next| next.fingerprint);
        self.seen_once = read.as_ref().map(|next| next.fingerprint);
        // Keys first: a configuration whose keys cannot be loaded is not put in force.
        let next = read.filter(|_| again).filter(|next| self.keys(next, &mut complaints));
        if next.is_none() {
            self.keys(current, &mut complaints);
        }
        let next = next.filter(|next| match AppState::new(next, &self.parts, Some(&world.load())) {
            Ok(made) => {
                world.store(Arc::new(made));
                self.parts.sessions.settings_changed();
                // Where Redis is cannot have changed; its password may have.
                if let Some(redis) = &next.redis {
                    self.parts.store.replace(redis.store.clone());
                }
                self.parts.admin.token.store(next.admin_token.clone().map(Arc::new));
                self.parts.admin.apps.store(Arc::new(next.app_names()));
                log.set(next.log_level);
                self.log_accepted("configuration");
                true
            }
            Err(error) => {
                complaints.push(error.to_string());
                false
            }
        });
        complaints.dedup();
        self.log_rejected(complaints.join("\n"));
        next
    }

    /// Puts the keys of `settings` in force if they are good, and says whether they are.
    fn keys(&self, settings: &Settings, complaints: &mut Vec<String>) -> bool {
        match KeySet::load(&settings.keys) {
            Ok(keys) => {
                if self.parts.sessions.keys.replace(keys) {
                    self.log_accepted("keys");
                }
                true
            }
            Err(errors) => {
                complaints.extend(errors.iter().map(ToString::to_string));
                false
            }
        }
    }

    fn log_accepted(&self, what: &'static str) {
        self.parts.metrics.reload("accepted");
        self.parts.metrics.reloaded_at.set(i64::try_from(clock::now().0).unwrap_or(i64::MAX));
        tracing::info!(target: "audit", event = "reload", what, "a change is in force");
    }

    fn log_rejected(&mut self, complaint: String) {
        if !complaint.is_empty() && complaint != self.last_error {
            self.parts.metrics.reload("refused");
            tracing::error!(errors = complaint, "a change is refused; what was in force stays");
        }
        self.last_error = complaint;
    }
}

/// The configuration, if it or a secret has changed.
fn read_changed(file: &Path, current: &Settings) -> Result<Option<Settings>, Diagnostics> {
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
