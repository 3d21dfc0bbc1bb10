//! The ops and admin listeners. They have a thread and a runtime of their own, so that they answer while the others are
//! busy.

use super::error::ServeError;
use super::process::ProcessState;
use super::state::AppState;
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

/// The running ops and admin listeners.
pub(super) struct AdminServer {
    /// The address of the ops listener.
    pub ops: Address,
    /// The address of the admin listener, if it is configured.
    pub admin: Option<Address>,
    thread: std::thread::JoinHandle<()>,
    stop: tokio::sync::oneshot::Sender<()>,
}

impl AdminServer {
    pub(super) fn start(
        settings: &Settings,
        process: &Arc<ProcessState>,
        state: &Arc<ArcSwap<AppState>>,
        log: telemetry::logs::Level,
    ) -> Result<Self, ServeError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let ops = runtime.block_on(Listener::bind(&settings.listen.ops, ListenerLimits::small()))?;
        let admin = match &settings.listen.admin {
            Some(address) => Some(runtime.block_on(Listener::bind(address, ListenerLimits::small()))?),
            None => None,
        };
        let (ops_address, admin_address) =
            (ops.local_address().clone(), admin.as_ref().map(|listener| listener.local_address().clone()));
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let (process, state) = (Arc::clone(process), Arc::clone(state));
        let thread = std::thread::Builder::new().name("admin".into()).spawn(move || {
            runtime.block_on(async move {
                // These listeners answer during the drain, so that probes see it, and end with the process.
                let drain = Drain::new(Duration::ZERO, Duration::ZERO, TaskTracker::new());
                let handler = Arc::new(Ops {
                    readiness: Arc::clone(&process.readiness),
                    metrics: Arc::clone(&process.metrics),
                    refresh: refresh(&process, &state, log),
                });
                let handler =
                    move |request: Request<Incoming>, _| std::future::ready(handler.answer(&request.into_parts().0));
                tokio::spawn(process.serve(ops, "ops", handler, &drain, crate::routes::internal_error));
                if let Some(listener) = admin {
                    let admin = Arc::clone(&process.admin);
                    let handler = move |request, _| {
                        let admin = Arc::clone(&admin);
                        Box::pin(async move { admin.answer(request).await })
                    };
                    tokio::spawn(process.serve(listener, "admin", handler, &drain, crate::routes::internal_error));
                }
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

/// Sets the gauges; called when the metrics are read.
fn refresh(
    process: &Arc<ProcessState>,
    state: &Arc<ArcSwap<AppState>>,
    log: telemetry::logs::Level,
) -> Box<dyn Fn() + Send + Sync> {
    let (process, state) = (Arc::clone(process), Arc::clone(state));
    let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    Box::new(move || {
        let (metrics, sessions, state) = (&process.metrics, &process.sessions, state.load());
        metrics.sessions.cached_tokens.set(number(sessions.cached_count()));
        metrics.sessions.revocations.set(number(sessions.revocations.len()));
        metrics.sessions.revocations_staleness.set(sessions.revocations.sync_status().age().as_secs_f64());
        metrics.logins.limiter_clients.set(number(state.limits.clients()));
        metrics.logins.outcomes.set(number(process.memory.callbacks.len()));
        metrics.instance.log_lines_dropped.set(i64::try_from(log.dropped()).unwrap_or(i64::MAX));
        let now = clock::now();
        metrics.sessions.keys(sessions.keys.current().keys().iter().map(|key| (key.kid(), now.since(key.created()))));
        for (appid, endpoint, state) in state.client.breakers() {
            let state = match state {
                wechat::breaker::State::Closed => 0,
                wechat::breaker::State::HalfOpen => 1,
                wechat::breaker::State::Open => 2,
            };
            metrics.wechat.breaker(appid.as_str(), endpoint.as_str(), state);
        }
    })
}
