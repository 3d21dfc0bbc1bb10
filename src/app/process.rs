//! State that lives as long as the process.

use super::error::ServeError;
use crate::admin::{Admin, Readiness};
use crate::clock;
use crate::config::settings::Settings;
use crate::login::LoginMemory;
use crate::redis::Redis;
use crate::response::Response;
use crate::seal::Sealer;
use crate::server::{Drain, Listener};
use crate::session::Sessions;
use crate::session::journal::Journal;
use crate::session::keys::{KeyRing, KeySet};
use crate::session::revocations::Revocations;
use crate::session::token::MAX_LIFETIME;
use crate::sessions::revocation_sync::{self, RevocationSync};
use crate::sessions::{Registry, registry};
use crate::telemetry::{Metrics, Traces, traces};
use arc_swap::{ArcSwap, ArcSwapOption};
use http::Request;
use hyper::body::Incoming;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

/// State that lives as long as the process and survives a reload.
pub(super) struct ProcessState {
    pub file: PathBuf,
    pub sessions: Arc<Sessions>,
    pub store: Redis,
    pub sharing: Arc<RevocationSync>,
    /// Seals the values that this instance writes to Redis.
    pub sealer: Arc<dyn Sealer>,
    pub registry: Arc<Registry>,
    pub memory: Arc<LoginMemory>,
    pub metrics: Arc<Metrics>,
    pub traces: Traces,
    pub readiness: Arc<Readiness>,
    pub admin: Arc<Admin>,
    /// Tasks that the drain waits for.
    pub tasks: TaskTracker,
}

impl ProcessState {
    pub(super) fn new(file: &Path, settings: &Settings, keys: KeySet, runtime: &Handle) -> Result<Self, ServeError> {
        let metrics = Arc::new(Metrics::default());
        let journal = match &settings.state_directory {
            Some(directory) => Some(Journal::open(directory, clock::now())?),
            None if settings.redis.is_some() => None,
            None => {
                tracing::warn!("no state_directory: a restart forgets revocations and logouts");
                None
            }
        };
        for warning in &settings.warnings {
            tracing::warn!(warning, "the configuration works but should be changed");
        }
        // No session outlives MAX_LIFETIME, so no revocation has to.
        let revocations = Revocations::new(MAX_LIFETIME, journal, clock::now());
        let sessions = Arc::new(Sessions::new(KeyRing::new(keys), revocations, metrics.tokens.clone()));
        let store = match &settings.redis {
            Some(redis) => Redis::new(redis.store.clone(), metrics.redis.clone()),
            None => {
                tracing::info!("no redis: logins and revocations are not shared with other instances");
                Redis::none()
            }
        };
        let sharing = settings.redis.as_ref().map_or_else(revocation_sync::Settings::default, |redis| redis.sharing);
        let sharing = Arc::new(RevocationSync::new(Arc::clone(&sessions), store.clone(), sharing));
        let sealer: Arc<dyn Sealer> = Arc::<Sessions>::clone(&sessions);
        let registry = settings.redis.as_ref().map_or_else(registry::Settings::default, |redis| redis.registry);
        let registry = Registry::new(store.clone(), Arc::clone(&sealer), registry, metrics.outbox.clone());
        let registry = Arc::new(registry);
        let traces = export_traces(registry.instance(), runtime, &metrics);
        let admin = Admin {
            token: ArcSwapOption::from(settings.admin_token.clone().map(Arc::new)),
            apps: ArcSwap::from_pointee(settings.app_names()),
            sessions: Arc::clone(&sessions),
            sharing: Arc::clone(&sharing),
            registry: Arc::clone(&registry),
            metrics: Arc::clone(&metrics),
        };
        Ok(Self {
            file: file.to_owned(),
            sealer,
            registry,
            sessions,
            store,
            sharing,
            memory: Arc::default(),
            metrics,
            traces,
            readiness: Arc::default(),
            admin: Arc::new(admin),
            tasks: TaskTracker::new(),
        })
    }

    /// Maintains the connection to Redis, the revocations and the registry, for ever.
    pub(super) async fn sync_with_redis(self: Arc<Self>) {
        tokio::join!(self.store.run(), self.sharing.run(), self.registry.run());
    }

    /// Serves `listener` until `drain` ends. A handler that panics is answered with `internal_error`.
    pub(super) fn serve<H, F>(
        &self,
        listener: Listener,
        name: &'static str,
        handler: H,
        drain: &Drain,
        internal_error: fn() -> Response,
    ) -> impl Future<Output = ()> + Send + 'static
    where
        H: Fn(Request<Incoming>, IpAddr) -> F + Send + Sync + 'static,
        F: Future<Output = Response> + Unpin + Send + 'static,
    {
        let (failures, panics) = (Arc::clone(&self.metrics), Arc::clone(&self.metrics));
        let on_failure = move |error: &std::io::Error| {
            failures.instance.accept_failure(name);
            tracing::warn!(listener = name, %error, "cannot accept a connection");
        };
        let on_panic = move || {
            panics.instance.panic(name);
            internal_error()
        };
        listener.serve(handler, drain.clone(), self.metrics.instance.connections(name), on_failure, on_panic)
    }
}

/// Traces as the standard variables configure them. Errors are logged and turn tracing off.
fn export_traces(instance: &str, runtime: &Handle, metrics: &Metrics) -> Traces {
    let variable = |name: &str| std::env::var(name).ok();
    let traces::ParsedSettings { settings, errors } = traces::read(variable);
    for error in errors {
        tracing::warn!(error, "a variable of OpenTelemetry is not used as it is");
    }
    let Some(settings) = settings else { return Traces::off() };
    // The host and port only: the path and query may hold a token.
    let collector = settings.endpoint.host_str().unwrap_or_default();
    match Traces::new(&settings, instance, variable("OTEL_SERVICE_NAME"), runtime.clone(), metrics.traces.clone()) {
        Ok(traces) => {
            tracing::info!(collector, port = settings.endpoint.port_or_known_default(), "exporting traces");
            traces
        }
        Err(error) => {
            tracing::error!(%error, "cannot export traces");
            Traces::off()
        }
    }
}
