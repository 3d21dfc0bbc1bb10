//! `serve`: puts everything together. The only file that knows everyone.
//!
//! Three runtimes: the checks and the pages share one; health, metrics and revocation have a thread of their own, so
//! that they answer while the others are busy.

use crate::admin::{Admin, Ops, Readiness};
use crate::clock;
use crate::command::check_config::CONFIGURATION_FAULT;
use crate::config::settings::Settings;
use crate::config::{self, settings};
use crate::decide::{Decider, Site};
use crate::gateway::{self, Envoy};
use crate::limits::Limits;
use crate::login::{Login, Memory};
use crate::pages::Pages;
use crate::server::{BindFault, Door, DoorSettings, Drain};
use crate::session::Sessions;
use crate::session::journal::{Journal, JournalFault};
use crate::session::keys::{KeyFault, KeyRing, KeySet};
use crate::session::revocations::Revocations;
use crate::telemetry::{self, Metrics};
use crate::wechat;
use arc_swap::{ArcSwap, ArcSwapOption};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

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
    #[error("the log could not be opened: {0}")]
    Log(String),
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
    let metrics = Arc::new(Metrics::default());
    let logs = telemetry::logs(settings.log_level, &metrics).map_err(|error| ServeFault::Log(error.to_string()))?;
    let parts = Arc::new(Parts::assemble(file, &settings, keys, Arc::clone(&metrics))?);
    let world = Arc::new(ArcSwap::from_pointee(World::new(&settings, &parts)?));

    let runtime = tokio::runtime::Builder::new_multi_thread().thread_name("doors").enable_all().build()?;
    let beside = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (stop_beside, stopped) = tokio::sync::oneshot::channel::<()>();
    let small_doors = beside.block_on(SmallDoors::bind(&settings, &parts))?;
    let beside = std::thread::Builder::new().name("ops".into()).spawn(move || {
        beside.block_on(async move {
            tokio::select! {
                () = small_doors.serve() => {}
                _ = stopped => {}
            }
        });
    })?;

    let ended = runtime.block_on(async {
        let drain = Drain::new(settings.drain.delay, settings.drain.deadline, parts.tasks.clone());
        let check = Door::bind(&settings.listen.check, DoorSettings::check()).await?;
        let pages = Door::bind(&settings.listen.pages, DoorSettings::pages()).await?;
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"), check = check.local_address(), pages = pages.local_address(),
            ops = %settings.listen.ops, apps = settings.apps.len(), "serving"
        );
        let doors = [
            tokio::spawn(check.serve(check_handler(&world, &parts), Arc::clone(&metrics), drain.clone())),
            tokio::spawn(pages.serve(pages_handler(&world), Arc::clone(&metrics), drain.clone())),
        ];
        let upkeep = tokio::spawn(upkeep(settings, Arc::clone(&world), Arc::clone(&parts), logs.level()));
        parts.readiness.started();
        told_to_end().await?;
        tracing::info!("draining: not ready any more, finishing what is under way");
        parts.readiness.draining();
        drain.begin();
        drain.finished().await;
        upkeep.abort();
        for door in doors {
            door.abort();
        }
        tracing::info!("ended");
        Ok(())
    });
    let _ = stop_beside.send(());
    let _ = beside.join();
    runtime.shutdown_timeout(Duration::from_secs(1));
    drop(logs);
    ended
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
    tasks: tokio_util::task::TaskTracker,
}

impl Parts {
    fn assemble(file: &Path, settings: &Settings, keys: KeySet, metrics: Arc<Metrics>) -> Result<Self, ServeFault> {
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
        let sessions = Arc::new(Sessions::new(KeyRing::new(keys), revocations));
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
            tasks: tokio_util::task::TaskTracker::new(),
        })
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
}

impl World {
    fn new(settings: &Settings, parts: &Parts) -> Result<Self, ServeFault> {
        let limits = Arc::new(Limits::new(&settings.limits));
        let metrics = Arc::clone(&parts.metrics);
        let client = Arc::new(wechat::Client::new(&settings.wechat, metrics.wechat_observer())?);
        let site = |app: &Arc<crate::login::settings::App>| {
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
        Ok(Self { envoy, decider, pages, limits, client })
    }
}
