//! Binds the listeners, serves, and drains.

use super::admin_server::AdminServer;
use super::error::ServeError;
use super::housekeeping;
use super::in_band::InBand;
use super::process::ProcessState;
use super::state::AppState;
use crate::clock;
use crate::config::settings::{self, Settings};
use crate::config::{self, CONFIGURATION_ERROR};
use crate::ext_authz::{self, CheckOutcome};
use crate::response::Response;
use crate::server::{BindError, Drain, Listener, ListenerLimits};
use crate::session::keys::KeySet;
use crate::telemetry;
use arc_swap::ArcSwap;
use futures_util::future::{BoxFuture, Either, FutureExt as _};
use http::Request;
use hyper::body::Incoming;
use std::io;
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

/// How long the start waits for the revocations in Redis.
const INITIAL_SYNC_TIMEOUT: Duration = Duration::from_millis(800);

/// How long the end waits for the last writes to Redis and for the last traces.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// Serves the configuration `file` until SIGTERM or SIGINT.
pub(crate) fn run(file: &Path) -> ExitCode {
    match start(file) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(if matches!(error, ServeError::Configuration(_)) { CONFIGURATION_ERROR } else { 1 })
        }
    }
}

fn start(file: &Path) -> Result<(), ServeError> {
    let loaded = config::load(file, std::env::vars_os()).and_then(settings::resolve);
    let settings = loaded.map_err(|errors| ServeError::Configuration(errors.to_string()))?;
    let keys = KeySet::load(&settings.keys)?;
    let logs = telemetry::logs(settings.log_level)?;
    log_panics();
    let runtime = traffic_runtime()?;
    let process = Arc::new(ProcessState::new(file, &settings, keys, runtime.handle())?);
    let state = Arc::new(ArcSwap::from_pointee(AppState::new(&settings, &process, None)?));
    let admin_server = AdminServer::start(&settings, &process, &state, logs.level())?;
    let result = runtime.block_on(async {
        let shutdown = shutdown_signal()?;
        let mut tasks = JoinSet::new();
        tasks.spawn(Arc::clone(&process).sync_with_redis());
        process.sharing.first_fetch(INITIAL_SYNC_TIMEOUT).await;
        let listeners = Listeners::bind(&settings).await?;
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"), apps = settings.apps.len(),
            check = %listeners.check.local_address(), pages = %listeners.pages.local_address(),
            ops = %admin_server.ops, admin = admin_server.admin.as_ref().map(tracing::field::display),
            instance = process.registry.instance(), "serving"
        );
        let drain = Drain::new(settings.drain.delay, settings.drain.deadline, process.tasks.clone());
        tasks.spawn(housekeeping::run(settings, Arc::clone(&state), Arc::clone(&process), logs.level()));
        serve(listeners, shutdown, drain, &process, &state).await;
        tracing::info!("stopped");
        Ok(())
    });
    admin_server.stop();
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

/// The listeners for traffic.
struct Listeners {
    check: Listener,
    pages: Listener,
    /// How many connections the check listener accepts.
    check_connections: usize,
}

impl Listeners {
    /// Divides the files that the process may open: 60 % for checks, 20 % for pages, so that pages cannot starve checks.
    async fn bind(settings: &Settings) -> Result<Self, BindError> {
        let files = open_files();
        let limits = ListenerLimits::check().at_most(files / 10 * 6);
        Ok(Self {
            check: Listener::bind(&settings.listen.check, limits).await?,
            pages: Listener::bind(&settings.listen.pages, ListenerLimits::pages().at_most(files / 10 * 2)).await?,
            check_connections: limits.connections,
        })
    }
}

/// Serves until `shutdown` completes, then drains.
async fn serve(
    listeners: Listeners,
    shutdown: impl Future<Output = ()>,
    drain: Drain,
    process: &Arc<ProcessState>,
    state: &Arc<ArcSwap<AppState>>,
) {
    let in_band = InBand::new(listeners.check_connections, Arc::clone(&process.metrics));
    let (check, pages) = (check_handler(state, process, in_band), pages_handler(state));
    // Dropping the set aborts its tasks.
    let mut tasks = JoinSet::new();
    tasks.spawn(process.serve(listeners.check, "check", check, &drain, ext_authz::envoy::denied));
    tasks.spawn(process.serve(listeners.pages, "pages", pages, &drain, crate::routes::internal_error));
    process.readiness.mark_started();
    shutdown.await;
    tracing::info!("draining: no longer ready, finishing open requests");
    process.readiness.mark_draining();
    drain.run().await;
    tokio::join!(process.registry.flush(FLUSH_TIMEOUT), process.traces.close(FLUSH_TIMEOUT));
}

/// Answers a check from memory, without a lock or a wait. Only a page in-band waits.
fn check_handler(
    state: &Arc<ArcSwap<AppState>>,
    process: &ProcessState,
    in_band: InBand,
) -> impl Fn(Request<Incoming>, IpAddr) -> Either<std::future::Ready<Response>, BoxFuture<'static, Response>>
+ Send
+ Sync
+ 'static {
    let (state, metrics, traces) = (Arc::clone(state), Arc::clone(&process.metrics), process.traces.clone());
    move |request, peer| {
        let (request, _) = request.into_parts();
        let now = clock::now();
        let current = state.load();
        match ext_authz::check(&request, peer, &current.authorizer, &metrics, &traces, now) {
            CheckOutcome::Response(answer) => Either::Left(std::future::ready(answer)),
            CheckOutcome::Page => Either::Right(in_band.answer(Arc::clone(&current), request, peer, now).boxed()),
        }
    }
}

fn pages_handler(
    state: &Arc<ArcSwap<AppState>>,
) -> impl Fn(Request<Incoming>, IpAddr) -> BoxFuture<'static, Response> + Send + Sync + 'static {
    let state = Arc::clone(state);
    move |request, peer| {
        let state = state.load_full();
        Box::pin(async move {
            let (request, _) = request.into_parts();
            state.pages.answer(&request, peer, clock::now()).await
        })
    }
}

/// The runtime of the check and pages listeners: one thread for each core. On a single core, as beside a gateway in a
/// pod, the current-thread runtime does less work for each request.
fn traffic_runtime() -> io::Result<Runtime> {
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let mut builder = if cores == 1 { Builder::new_current_thread() } else { Builder::new_multi_thread() };
    builder.thread_name("traffic").enable_all().build()
}

/// Completes on SIGTERM or SIGINT.
fn shutdown_signal() -> io::Result<impl Future<Output = ()>> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// How many files this process may open: the soft limit.
pub(super) fn open_files() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    limit.map_or(usize::MAX, |files| usize::try_from(files).unwrap_or(usize::MAX))
}

/// Logs where a panic happened. The message is left out: it could hold anything.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(location = place, "a handler panicked; the request was answered with an error");
    }));
}
