//! The small doors beside the traffic: ops and admin, on a thread and runtime of their own, so that they answer while the
//! others are busy.

use super::state::AppState;
use super::{Runtime, ServeError};
use crate::admin::Ops;
use crate::clock;
use crate::config::settings::Settings;
use crate::server::{Address, Drain, Listener, ListenerLimits};
use crate::telemetry;
use crate::wechat;
use arc_swap::ArcSwap;
use http::Request;
use hyper::body::Incoming;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::task::TaskTracker;

/// The ops and admin doors, on a thread and runtime of their own.
pub(super) struct AdminServer {
    /// Where the ops door listens.
    pub ops: Address,
    /// Where the admin door listens, if there is one.
    pub admin: Option<Address>,
    thread: std::thread::JoinHandle<()>,
    stop: tokio::sync::oneshot::Sender<()>,
}

impl AdminServer {
    pub(super) fn start(
        settings: &Settings,
        parts: &Arc<Runtime>,
        world: &Arc<ArcSwap<AppState>>,
        log: telemetry::logs::Level,
    ) -> Result<Self, ServeError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let ops = runtime.block_on(Listener::bind(&settings.listen.ops, ListenerLimits::small()))?;
        let admin = match &settings.listen.admin {
            Some(address) => Some(runtime.block_on(Listener::bind(address, ListenerLimits::small()))?),
            None => None,
        };
        let (ops_address, admin_address) =
            (ops.local_address().clone(), admin.as_ref().map(|door| door.local_address().clone()));
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let (parts, world) = (Arc::clone(parts), Arc::clone(world));
        let thread = std::thread::Builder::new().name("beside".into()).spawn(move || {
            runtime.block_on(async move {
                // These doors answer through the drain, so that the probes see it, and end with the process.
                let drain = Drain::new(Duration::ZERO, Duration::ZERO, TaskTracker::new());
                let answers = Arc::new(Ops {
                    readiness: Arc::clone(&parts.readiness),
                    metrics: Arc::clone(&parts.metrics),
                    refresh: refresh(&parts, &world, log),
                });
                let ops_handler =
                    move |request: Request<Incoming>, _| std::future::ready(answers.answer(&request.into_parts().0));
                let _ops = parts.open(ops, "ops", ops_handler, &drain, crate::routes::internal_error);
                let _admin = admin.map(|door| {
                    let admin = Arc::clone(&parts.admin);
                    let handler = move |request, _| {
                        let admin = Arc::clone(&admin);
                        Box::pin(async move { admin.answer(request).await })
                    };
                    parts.open(door, "admin", handler, &drain, crate::routes::internal_error)
                });
                let _ = stopped.await;
            });
        })?;
        Ok(Self { ops: ops_address, admin: admin_address, thread, stop })
    }

    pub(super) fn stop(self) {
        let _ = self.stop.send(());
        let _ = self.thread.join();
    }
}

/// Brings the gauges up to date when somebody looks.
fn refresh(
    parts: &Arc<Runtime>,
    world: &Arc<ArcSwap<AppState>>,
    log: telemetry::logs::Level,
) -> Box<dyn Fn() + Send + Sync> {
    let (parts, world) = (Arc::clone(parts), Arc::clone(world));
    let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    Box::new(move || {
        let (metrics, sessions, world) = (&parts.metrics, &parts.sessions, world.load());
        metrics.sessions_cached.set(number(sessions.cached_count()));
        metrics.revocations.set(number(sessions.revocations.len()));
        metrics.revocations_age.set(sessions.revocations.sync_status().age().as_secs_f64());
        metrics.limiter_clients.set(number(world.limits.clients()));
        metrics.flow_outcomes.set(number(parts.memory.outcomes.len()));
        metrics.log_lines_dropped.set(i64::try_from(log.dropped()).unwrap_or(i64::MAX));
        let now = clock::now();
        metrics.keys(sessions.keys.current().keys().iter().map(|key| (key.kid(), now.since(key.created()))));
        for (appid, endpoint, state) in world.client.breakers() {
            let state = match state {
                wechat::breaker::State::Closed => 0,
                wechat::breaker::State::HalfOpen => 1,
                wechat::breaker::State::Open => 2,
            };
            metrics.breaker(appid.as_str(), endpoint.as_str(), state);
        }
    })
}
