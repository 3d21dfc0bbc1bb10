//! Periodic work: reloads changes, and removes expired entries from memory.

use super::process::ProcessState;
use super::reload::Reloader;
use super::state::AppState;
use crate::clock::{self, Timestamp};
use crate::config::settings::Settings;
use crate::session::RecentSession;
use crate::sessions::registry::SessionRecord;
use crate::telemetry;
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Interval, MissedTickBehavior, interval};

/// The time between two sweeps.
const SWEEP_INTERVAL: Duration = Duration::from_secs(10);

/// How many recently used sessions one sweep reports to the registry.
const MAX_RECENT_SESSIONS: usize = 20_000;

/// Reloads every `reload_interval` and on SIGHUP, and sweeps. Never ends.
pub(super) async fn run(
    settings: Settings,
    state: Arc<ArcSwap<AppState>>,
    process: Arc<ProcessState>,
    log: telemetry::logs::Level,
) {
    let Ok(mut hangup) = signal(SignalKind::hangup()) else { return };
    let mut sweeps = ticks(SWEEP_INTERVAL);
    let mut reloads = ticks(settings.reload_interval);
    reloads.tick().await;
    let reloader = Arc::new(Mutex::new(Reloader::new(Arc::clone(&process), Arc::clone(&state), log)));
    let mut settings = Arc::new(settings);
    loop {
        let at_once = tokio::select! {
            _ = reloads.tick() => false,
            _ = hangup.recv() => true,
            _ = sweeps.tick() => {
                sweep(&state.load_full(), &process).await;
                continue;
            }
        };
        let (current, reloader) = (Arc::clone(&settings), Arc::clone(&reloader));
        let reload = tokio::task::spawn_blocking(move || reloader.lock().reload(&current, at_once));
        // The panic hook has logged a panic. The next reload starts afresh.
        let Ok(Some(next)) = reload.await else { continue };
        if next.reload_interval != reloads.period() {
            reloads = ticks(next.reload_interval);
            reloads.tick().await;
        }
        settings = Arc::new(next);
    }
}

fn ticks(period: Duration) -> Interval {
    let mut interval = interval(period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

/// Removes expired entries, and reports recently used sessions to the registry.
async fn sweep(state: &AppState, process: &Arc<ProcessState>) {
    let registry = Arc::clone(&process.registry);
    tokio::spawn(async move { registry.measure_lag().await });
    let (limits, process) = (Arc::clone(&state.limits), Arc::clone(process));
    // A sweep visits every key, so it must not run on a thread that answers requests.
    let sweep = tokio::task::spawn_blocking(move || {
        let now = clock::now();
        limits.sweep();
        process.sessions.revocations.sweep(now);
        process.sessions.sweep(now);
        let recent = process.sessions.take_recent(MAX_RECENT_SESSIONS);
        process.registry.sessions_used(recent.iter().map(session_record));
        recent
    });
    let Ok(recent) = sweep.await else { return };
    if !recent.is_empty() {
        let login = Arc::clone(&state.pages.login);
        // Not one of the tasks that the drain waits for: an unfinished refresh loses nothing.
        tokio::spawn(async move { login.refresh_profiles(&recent).await });
    }
}

/// The registry's record of a recently used session.
fn session_record(session: &RecentSession) -> SessionRecord {
    let claims = session.claims();
    SessionRecord {
        session: claims.sid,
        subject: claims.sub.clone(),
        app: claims.aud.clone(),
        flow: claims.flow,
        created: Timestamp(claims.auth_time),
        ends: Timestamp(claims.session_exp),
        seen: session.used_at(),
        browser: None,
    }
}
