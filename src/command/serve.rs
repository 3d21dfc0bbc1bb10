//! `serve`: puts everything together. The only file that knows everyone.
//!
//! Three runtimes: the checks and the pages share one; health, metrics and revocation have a thread of their own, so
//! that they answer while the others are busy.

use crate::admin::{Admin, Ops, Readiness};
use crate::clock;
use crate::command::check_config::CONFIGURATION_FAULT;
use crate::config::settings::{self, Settings};
use crate::config::{self, Faults};
use crate::decide::{Decider, Site};
use crate::gateway::answer::Answer;
use crate::gateway::{self, Envoy};
use crate::limits::{self, Limits};
use crate::login::settings::App;
use crate::login::{Login, Memory};
use crate::pages::Pages;
use crate::server::{Address, BindFault, Budget, Door, Drain};
use crate::session::Sessions;
use crate::session::journal::{Journal, JournalFault};
use crate::session::keys::{KeyFault, KeyRing, KeySet};
use crate::session::revocations::Revocations;
use crate::telemetry::{self, Metrics};
use crate::wechat;
use arc_swap::{ArcSwap, ArcSwapOption};
use http::Request;
use hyper::body::Incoming;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::task::TaskTracker;

/// Why the process could not start, or stopped.
#[derive(Debug, thiserror::Error)]
enum ServeFault {
    /// The configuration, a secret or a key. The operator's, every fault named.
    #[error("{0}")]
    Configuration(String),
    /// A door.
    #[error(transparent)]
    Bind(#[from] BindFault),
    /// The operating system.
    #[error("{0}")]
    System(#[from] std::io::Error),
    /// The client to WeChat.
    #[error(transparent)]
    Wechat(#[from] wechat::BuildFault),
    /// The logs.
    #[error(transparent)]
    Log(#[from] telemetry::LogFault),
}

impl ServeFault {
    fn keys(faults: &[KeyFault]) -> Self {
        Self::Configuration(faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    }
}

impl From<JournalFault> for ServeFault {
    fn from(fault: JournalFault) -> Self {
        Self::Configuration(format!("state_directory: {fault}"))
    }
}

/// Serves until it is told to end.
#[must_use]
pub fn run(file: &Path) -> ExitCode {
    match serve(file) {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            eprintln!("{fault}");
            ExitCode::from(if matches!(fault, ServeFault::Configuration(_)) { CONFIGURATION_FAULT } else { 1 })
        }
    }
}

fn serve(file: &Path) -> Result<(), ServeFault> {
    let settings = read(file)?;
    let keys = KeySet::load(&settings.keys).map_err(|faults| ServeFault::keys(&faults))?;
    let logs = telemetry::logs(settings.log_level)?;
    log_panics();
    let parts = Arc::new(Parts::assemble(file, &settings, keys)?);
    let world = Arc::new(ArcSwap::from_pointee(World::new(&settings, &parts, None)?));

    let runtime = tokio::runtime::Builder::new_multi_thread().thread_name("doors").enable_all().build()?;
    let beside = Beside::start(&settings, &parts, &world, logs.level())?;
    let ended = runtime.block_on(async {
        let drain = Drain::new(settings.drain.delay, settings.drain.deadline, parts.tasks.clone());
        let check = Door::bind(&settings.listen.check, Budget::check()).await?;
        let pages = Door::bind(&settings.listen.pages, Budget::pages()).await?;
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"), apps = settings.apps.len(), check = %check.local_address(),
            pages = %pages.local_address(), ops = %beside.ops, admin = beside.admin.as_ref().map(tracing::field::display), "serving"
        );
        let doors = [
            parts.open(check, "check", check_handler(&world, &parts), &drain, gateway::envoy::denied),
            parts.open(pages, "pages", pages_handler(&world), &drain, crate::pages::broken),
        ];
        let upkeep = tokio::spawn(upkeep(settings, Arc::clone(&world), Arc::clone(&parts), logs.level()));
        parts.readiness.started();
        told_to_end().await?;
        tracing::info!("draining: not ready any more, finishing what is under way");
        parts.readiness.draining();
        drain.run().await;
        upkeep.abort();
        doors.iter().for_each(tokio::task::JoinHandle::abort);
        tracing::info!("ended");
        Ok(())
    });
    beside.stop();
    runtime.shutdown_timeout(Duration::from_secs(1));
    ended
}

/// A panic is a fault of ours: one line says where. Its message could hold anything, so it is left out.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, "a handler panicked; the request was answered with an error");
    }));
}

fn read(file: &Path) -> Result<Settings, ServeFault> {
    let loaded = config::load(file, std::env::vars_os());
    loaded.and_then(settings::understand).map_err(|faults| ServeFault::Configuration(faults.to_string()))
}

/// What lives as long as the process, whatever the configuration says.
struct Parts {
    file: PathBuf,
    sessions: Arc<Sessions>,
    memory: Arc<Memory>,
    metrics: Arc<Metrics>,
    readiness: Arc<Readiness>,
    admin: Arc<Admin>,
    tasks: TaskTracker,
}

impl Parts {
    fn assemble(file: &Path, settings: &Settings, keys: KeySet) -> Result<Self, ServeFault> {
        let metrics = Arc::new(Metrics::default());
        let journal = match &settings.state_directory {
            Some(directory) => Some(Journal::open(directory, clock::now())?),
            None => {
                tracing::warn!("without state_directory, a restart forgets which sessions were revoked or logged out");
                None
            }
        };
        for warning in &settings.warnings {
            tracing::warn!(warning, "the configuration works but should not stay so");
        }
        // No configured session can outlive this, so no revocation has to be remembered longer.
        let revocations = Revocations::new(LONGEST_SESSION, journal);
        let sessions = Arc::new(Sessions::new(KeyRing::new(keys), revocations, metrics.lookups.clone()));
        let admin = Admin {
            token: ArcSwapOption::from(settings.admin_token.clone().map(Arc::new)),
            sessions: Arc::clone(&sessions),
            metrics: Arc::clone(&metrics),
        };
        Ok(Self {
            file: file.to_owned(),
            sessions,
            memory: Arc::default(),
            metrics,
            readiness: Arc::default(),
            admin: Arc::new(admin),
            tasks: TaskTracker::new(),
        })
    }
}

impl Parts {
    /// Opens a door on the current runtime.
    fn open<H, F>(
        &self,
        door: Door,
        name: &'static str,
        handler: H,
        drain: &Drain,
        broken: fn() -> Answer,
    ) -> tokio::task::JoinHandle<()>
    where
        H: Fn(Request<Incoming>, IpAddr) -> F + Send + Sync + 'static,
        F: Future<Output = Answer> + Send + 'static,
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

/// `session.lifetime` goes up to this.
const LONGEST_SESSION: Duration = Duration::from_secs(90 * 86_400);

/// What a configuration makes; replaced whole when it changes.
struct World {
    envoy: Envoy,
    decider: Decider,
    pages: Pages,
    limits: Arc<Limits>,
    client: Arc<wechat::Client>,
    limit_settings: limits::Settings,
    wechat_settings: wechat::Settings,
}

impl World {
    /// What `settings` make. Budgets and breakers go on where their own settings are as `before`.
    fn new(settings: &Settings, parts: &Parts, before: Option<&Self>) -> Result<Self, ServeFault> {
        let metrics = Arc::clone(&parts.metrics);
        let limits = match before.filter(|before| before.limit_settings == settings.limits) {
            Some(before) => Arc::clone(&before.limits),
            None => Arc::new(Limits::new(&settings.limits)),
        };
        let client = match before.filter(|before| before.wechat_settings == settings.wechat) {
            Some(before) => Arc::clone(&before.client),
            None => {
                let calls = Arc::clone(&metrics);
                let observer = move |endpoint, outcome, elapsed| calls.wechat_call(endpoint, outcome, elapsed);
                Arc::new(wechat::Client::new(&settings.wechat, observer)?)
            }
        };
        let site = |app: &Arc<App>| {
            let site = Site { origin: app.origin.clone(), session: app.session.clone() };
            (app.origin.authority().to_owned(), site)
        };
        let decider = Decider {
            sites: settings.apps.iter().map(site).collect(),
            policy: settings.policy.clone(),
            prefix: settings.prefix.clone(),
            delivers_set_cookie: settings.delivers_set_cookie,
            sessions: Arc::clone(&parts.sessions),
            limits: Arc::clone(&limits),
        };
        let login = Login {
            apps: settings.apps.iter().map(|app| (app.origin.authority().to_owned(), Arc::clone(app))).collect(),
            prefix: settings.prefix.clone(),
            wechat: settings.wechat.clone(),
            client: Arc::clone(&client),
            sessions: Arc::clone(&parts.sessions),
            memory: Arc::clone(&parts.memory),
            tasks: parts.tasks.clone(),
            metrics: Arc::clone(&metrics),
        };
        let pages = Pages {
            login: Arc::new(login),
            limits: Arc::clone(&limits),
            client_address: settings.client_address.clone(),
            domain_proofs: settings.domain_proofs.clone(),
            metrics,
        };
        let envoy = Envoy { client_address: settings.client_address.clone() };
        Ok(Self {
            envoy,
            decider,
            pages,
            limits,
            client,
            limit_settings: settings.limits,
            wechat_settings: settings.wechat.clone(),
        })
    }
}

/// The hot path: no wait, no lock held, the world as it is now.
fn check_handler(
    world: &Arc<ArcSwap<World>>,
    parts: &Arc<Parts>,
) -> impl Fn(Request<Incoming>, IpAddr) -> std::future::Ready<Answer> + Send + Sync + 'static {
    let (world, metrics) = (Arc::clone(world), Arc::clone(&parts.metrics));
    move |request, peer| {
        let (request, _) = request.into_parts();
        let world = world.load();
        std::future::ready(gateway::check(&request, peer, &world.envoy, &world.decider, &metrics, clock::now()))
    }
}

fn pages_handler(
    world: &Arc<ArcSwap<World>>,
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

/// The ops and admin doors, on a thread and runtime of their own.
struct Beside {
    ops: Address,
    admin: Option<Address>,
    thread: std::thread::JoinHandle<()>,
    stop: tokio::sync::oneshot::Sender<()>,
}

impl Beside {
    fn start(
        settings: &Settings,
        parts: &Arc<Parts>,
        world: &Arc<ArcSwap<World>>,
        log: telemetry::logs::Level,
    ) -> Result<Self, ServeFault> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let ops = runtime.block_on(Door::bind(&settings.listen.ops, Budget::small()))?;
        let admin = match &settings.listen.admin {
            Some(address) => Some(runtime.block_on(Door::bind(address, Budget::small()))?),
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
                let _ops = parts.open(ops, "ops", ops_handler, &drain, crate::pages::broken);
                let _admin = admin.map(|door| {
                    let admin = Arc::clone(&parts.admin);
                    let handler = move |request, _| {
                        let admin = Arc::clone(&admin);
                        async move { admin.answer(request).await }
                    };
                    parts.open(door, "admin", handler, &drain, crate::pages::broken)
                });
                let _ = stopped.await;
            });
        })?;
        Ok(Self { ops: ops_address, admin: admin_address, thread, stop })
    }

    fn stop(self) {
        let _ = self.stop.send(());
        let _ = self.thread.join();
    }
}

/// Brings the gauges up to date when somebody looks.
fn refresh(
    parts: &Arc<Parts>,
    world: &Arc<ArcSwap<World>>,
    log: telemetry::logs::Level,
) -> Box<dyn Fn() + Send + Sync> {
    let (parts, world) = (Arc::clone(parts), Arc::clone(world));
    let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    Box::new(move || {
        let (metrics, sessions, world) = (&parts.metrics, &parts.sessions, world.load());
        metrics.sessions_cached.set(i64::try_from(sessions.cached()).unwrap_or(i64::MAX));
        metrics.revocations.set(number(sessions.revocations.len()));
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

/// SIGTERM, or Ctrl-C at a terminal.
async fn told_to_end() -> Result<(), ServeFault> {
    let (mut term, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = term.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// What is forgotten, how often.
const SWEEP: Duration = Duration::from_secs(10);

/// Looks for changes and forgets what no longer matters.
async fn upkeep(mut settings: Settings, world: Arc<ArcSwap<World>>, parts: Arc<Parts>, log: telemetry::logs::Level) {
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
