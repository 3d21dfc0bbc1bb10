//! `serve`: puts everything together. The only file that knows everyone.
//!
//! Two runtimes: the checks and the pages share one; health, metrics and revocation have a thread of their own, so that
//! they answer while the others are busy.

mod admin_server;
mod housekeeping;
mod in_band;
mod state;

use crate::admin::{Admin, Readiness};
use crate::clock;
use crate::config::settings::{self, Settings};
use crate::config::{self, CONFIGURATION_ERROR};
use crate::ext_authz::answer::Answer;
use crate::ext_authz::{self, CheckOutcome};
use crate::login::LoginMemory;
use crate::redis::Redis;
use crate::seal::Sealer;
use crate::server::{BindError, Drain, Listener, ListenerLimits};
use crate::session::Sessions;
use crate::session::journal::{Journal, JournalError};
use crate::session::keys::{KeyError, KeyRing, KeySet};
use crate::session::revocations::Revocations;
use crate::session::token::MAX_LIFETIME;
use crate::sessions::revocation_sync::{self, RevocationSync};
use crate::sessions::{Registry, registry};
use crate::telemetry::{self, Metrics, Traces, traces};
use crate::wechat;
use admin_server::AdminServer;
use arc_swap::{ArcSwap, ArcSwapOption};
use futures_util::future::{BoxFuture, Either, FutureExt as _};
use http::Request;
use hyper::body::Incoming;
use in_band::InBand;
use state::AppState;
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::{self, Builder, Handle};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::task::TaskTracker;

/// How long the start waits for what others have revoked; where Redis says nothing, a start takes no longer than this.
const INITIAL_SYNC_TIMEOUT: Duration = Duration::from_millis(800);

/// How long the end waits for what is to be written to Redis, and for the last traces.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// Why the process could not start, or stopped.
#[derive(Debug, thiserror::Error)]
enum ServeError {
    /// The configuration, a secret or a key. The operator's, every error named.
    #[error("{0}")]
    Configuration(String),
    /// A door.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The operating system.
    #[error("{0}")]
    System(#[from] std::io::Error),
    /// The client to WeChat.
    #[error(transparent)]
    Wechat(#[from] wechat::BuildError),
    /// The logs.
    #[error(transparent)]
    Log(#[from] telemetry::LogError),
}

impl ServeError {
    fn keys(errors: &[KeyError]) -> Self {
        Self::Configuration(errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    }
}

impl From<JournalError> for ServeError {
    fn from(error: JournalError) -> Self {
        Self::Configuration(format!("state_directory: {error}"))
    }
}

/// Serves until it is told to end.
pub(crate) fn run(file: &Path) -> ExitCode {
    match serve(file) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(if matches!(error, ServeError::Configuration(_)) { CONFIGURATION_ERROR } else { 1 })
        }
    }
}

fn serve(file: &Path) -> Result<(), ServeError> {
    let settings = read(file)?;
    let keys = KeySet::load(&settings.keys).map_err(|errors| ServeError::keys(&errors))?;
    let logs = telemetry::logs(settings.log_level)?;
    log_panics();
    let runtime = listener_runtime()?;
    let parts = Arc::new(Runtime::assemble(file, &settings, keys, runtime.handle())?);
    let world = Arc::new(ArcSwap::from_pointee(AppState::new(&settings, &parts, None)?));

    let beside = AdminServer::start(&settings, &parts, &world, logs.level())?;
    let ended = runtime.block_on(async {
        let drain = Drain::new(settings.drain.delay, settings.drain.deadline, parts.tasks.clone());
        // The checks come first: whoever fills the pages' share leaves theirs alone.
        let kept = Arc::clone(&parts);
        let keeping = tokio::spawn(async move {
            tokio::join!(kept.store.run(), kept.sharing.keep_in_step(), kept.registry.run())
        });
        parts.sharing.first_look(INITIAL_SYNC_TIMEOUT).await;
        let files = open_files();
        let checks = ListenerLimits::check().at_most(files / 10 * 6);
        let check = Listener::bind(&settings.listen.check, checks).await?;
        let in_band = InBand::new(checks.connections, Arc::clone(&parts.metrics));
        let pages = Listener::bind(&settings.listen.pages, ListenerLimits::pages().at_most(files / 10 * 2)).await?;
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"), apps = settings.apps.len(), check = %check.local_address(),
            pages = %pages.local_address(), ops = %beside.ops, admin = beside.admin.as_ref().map(tracing::field::display),
            instance = parts.registry.instance(), "serving"
        );
        let doors = [
            parts.open(check, "check", check_handler(&world, &parts, in_band), &drain, ext_authz::envoy::denied),
            parts.open(pages, "pages", pages_handler(&world), &drain, crate::routes::internal_error),
        ];
        let upkeep = tokio::spawn(housekeeping::run(settings, Arc::clone(&world), Arc::clone(&parts), logs.level()));
        parts.readiness.mark_started();
        shutdown_signal().await?;
        tracing::info!("draining: not ready any more, finishing what is under way");
        parts.readiness.mark_draining();
        drain.run().await;
        tokio::join!(parts.registry.flush(FLUSH_TIMEOUT), parts.traces.close(FLUSH_TIMEOUT));
        upkeep.abort();
        keeping.abort();
        doors.iter().for_each(tokio::task::JoinHandle::abort);
        tracing::info!("ended");
        Ok(())
    });
    beside.stop();
    runtime.shutdown_timeout(Duration::from_secs(1));
    ended
}

/// The runtime of the doors, a thread for each core. Where there is one, or a part of one, as beside a gateway in a pod,
/// work has nowhere to move to, and the simpler runtime does less for each request.
fn listener_runtime() -> std::io::Result<runtime::Runtime> {
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let mut runtime = if cores == 1 { Builder::new_current_thread() } else { Builder::new_multi_thread() };
    runtime.thread_name("doors").enable_all().build()
}

/// How many files this process may have open, by the system's own word; a common default where it says nothing.
fn open_files() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().next());
    match soft {
        Some("unlimited") => usize::MAX,
        Some(number) => number.parse().unwrap_or(1_024),
        None => 1_024,
    }
}

/// A panic is a error of ours: one line says where. Its message could hold anything, so it is left out.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, "a handler panicked; the request was answered with an error");
    }));
}

fn read(file: &Path) -> Result<Settings, ServeError> {
    let loaded = config::load(file, std::env::vars_os());
    loaded.and_then(settings::resolve).map_err(|errors| ServeError::Configuration(errors.to_string()))
}

/// Traces, as the standard variables say. A error of theirs is told and ends in none: no trace is worth a login.
fn open_traces(instance: &str, runtime: &Handle, metrics: &Metrics) -> Traces {
    let variable = |name: &str| std::env::var(name).ok();
    let traces::ParsedSettings { settings, errors: complaints } = traces::read(variable);
    for complaint in complaints {
        tracing::warn!(complaint, "a variable of OpenTelemetry is not used as it is");
    }
    let Some(settings) = settings else { return Traces::off() };
    // Its path and query may hold a token.
    let collector = settings.endpoint.host_str().unwrap_or_default();
    match Traces::new(&settings, instance, variable("OTEL_SERVICE_NAME"), runtime.clone(), metrics.traces.clone()) {
        Ok(traces) => {
            tracing::info!(collector, port = settings.endpoint.port_or_known_default(), "traces are exported");
            traces
        }
        Err(error) => {
            tracing::error!(%error, "nothing is traced");
            Traces::off()
        }
    }
}

/// What lives as long as the process, whatever the configuration says.
struct Runtime {
    file: PathBuf,
    sessions: Arc<Sessions>,
    store: Redis,
    sharing: Arc<RevocationSync>,
    /// Seals what Redis keeps for us.
    sealer: Arc<dyn Sealer>,
    registry: Arc<Registry>,
    memory: Arc<LoginMemory>,
    metrics: Arc<Metrics>,
    traces: Traces,
    readiness: Arc<Readiness>,
    admin: Arc<Admin>,
    tasks: TaskTracker,
}

impl Runtime {
    fn assemble(file: &Path, settings: &Settings, keys: KeySet, runtime: &Handle) -> Result<Self, ServeError> {
        let metrics = Arc::new(Metrics::default());
        let journal = match &settings.state_directory {
            Some(directory) => Some(Journal::open(directory, clock::now())?),
            None if settings.redis.is_some() => None,
            None => {
                tracing::warn!("without state_directory, a restart forgets which sessions were revoked or logged out");
                None
            }
        };
        for warning in &settings.warnings {
            tracing::warn!(warning, "the configuration works but should not stay so");
        }
        // No configured session can outlive this, so no revocation has to be remembered longer.
        let revocations = Revocations::new(MAX_LIFETIME, journal, clock::now());
        let sessions = Arc::new(Sessions::new(KeyRing::new(keys), revocations, metrics.lookups.clone()));
        let store = match &settings.redis {
            Some(redis) => Redis::new(redis.store.clone(), metrics.store.clone()),
            None => {
                tracing::info!(
                    "without redis this instance stands alone: what it revokes and whom it logs in no other knows"
                );
                Redis::none()
            }
        };
        let sharing = settings.redis.as_ref().map_or_else(revocation_sync::Settings::default, |redis| redis.sharing);
        let sharing = Arc::new(RevocationSync::new(Arc::clone(&sessions), store.clone(), sharing));
        let sealer: Arc<dyn Sealer> = Arc::<Sessions>::clone(&sessions);
        let kept = settings.redis.as_ref().map_or_else(registry::Settings::default, |redis| redis.registry);
        let registry = Registry::new(store.clone(), Arc::clone(&sealer), kept, metrics.outbox.clone());
        let registry = Arc::new(registry);
        let traces = open_traces(registry.instance(), runtime, &metrics);
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
}

impl Runtime {
    /// Opens a door on the current runtime.
    fn open<H, F>(
        &self,
        door: Listener,
        name: &'static str,
        handler: H,
        drain: &Drain,
        broken: fn() -> Answer,
    ) -> tokio::task::JoinHandle<()>
    where
        H: Fn(Request<Incoming>, IpAddr) -> F + Send + Sync + 'static,
        F: Future<Output = Answer> + Unpin + Send + 'static,
    {
        let (failures, panics) = (Arc::clone(&self.metrics), Arc::clone(&self.metrics));
        let failed = move |error: &std::io::Error| {
            failures.accept_failure(name);
            tracing::warn!(door = name, %error, "a connection could not be accepted");
        };
        let panicked = move || {
            panics.panic(name);
            broken()
        };
        tokio::spawn(door.serve(handler, drain.clone(), self.metrics.connections(name), failed, panicked))
    }
}

/// The hot path: no wait, no lock held, the world as it is now. Only a page that is asked for in-band has to be waited
/// for.
fn check_handler(
    world: &Arc<ArcSwap<AppState>>,
    parts: &Arc<Runtime>,
    in_band: InBand,
) -> impl Fn(Request<Incoming>, IpAddr) -> Either<std::future::Ready<Answer>, BoxFuture<'static, Answer>>
+ Send
+ Sync
+ 'static {
    let (world, metrics, traces) = (Arc::clone(world), Arc::clone(&parts.metrics), parts.traces.clone());
    move |request, peer| {
        let (request, _) = request.into_parts();
        let now = clock::now();
        let current = world.load();
        match ext_authz::check(&request, peer, &current.authorizer, &metrics, &traces, now) {
            CheckOutcome::Response(answer) => Either::Left(std::future::ready(answer)),
            CheckOutcome::Page => Either::Right(in_band.answer(Arc::clone(&current), request, peer, now).boxed()),
        }
    }
}

fn pages_handler(
    world: &Arc<ArcSwap<AppState>>,
) -> impl Fn(Request<Incoming>, IpAddr) -> std::pin::Pin<Box<dyn Future<Output = Answer> + Send>> + Send + Sync + 'static
{
    let world = Arc::clone(world);
    move |request, peer| {
        let world = world.load_full();
        Box::pin(async move {
            let (request, _) = request.into_parts();
            world.pages.answer(&request, peer, clock::now()).await
        })
    }
}

/// SIGTERM, or Ctrl-C at a terminal.
async fn shutdown_signal() -> Result<(), ServeError> {
    let (mut term, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = term.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
