//! The application's own token and what hangs on it: one for all instances, asked for by one of them.
//!
//! ```text
//! memory ─▶ Redis ─▶ lease ─▶ look again ─▶ WeChat ─▶ Redis, fenced ─▶ release
//!                      └─ taken: wait for the value, or go on with the old one
//! ```
//!
//! Promises: the old value is served while it lives, and a new one is sought before its end; one flight per instance and
//! one owner among all; after a failure nobody asks for a while that grows; calls are counted by the day, and stop before
//! WeChat's quota does. While Redis is away an instance does the same alone: WeChat gives all of them the same token.
//! Refuses to trust Redis: a value that does not open is none, and lives no longer than WeChat ever gives one.

mod shared;
mod tally;

use super::application::Application;
use super::client::Client;
use super::errcode::Class;
use super::fault::Fault;
use super::person::OpenId;
use super::stable_token::Given;
use super::{AppId, Endpoint};
use crate::clock;
use crate::seal::Sealer;
use crate::secret::Secret;
use crate::store::{Lease, Store};
use crate::telemetry::CentralMeter;
use shared::{Keys, Seen, Shared};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tally::{Call, Tally};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::task::TaskTracker;

/// No value lives longer, whatever Redis says.
const LONGEST_LIFE: Duration = Duration::from_secs(7_200);

/// The pause between two looks at what another instance is about to write, at first and at most.
const LOOKS: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(300));

/// Which of an application's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The token itself.
    AccessToken,
    /// What JS-SDK pages are signed with.
    JsapiTicket,
}

impl Kind {
    /// The word for it in logs, metrics and Redis.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AccessToken => "access_token",
            Self::JsapiTicket => "jsapi_ticket",
        }
    }
}

/// How long things take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How long before its end a value is replaced. WeChat replaces a token five minutes before, and both live meanwhile:
    /// asking earlier brings the old one again.
    pub ahead: Duration,
    /// How soon after one call for a value near its end the next one is made, by whichever instance.
    pub seek_again: Duration,
    /// How long an owner that died keeps the others waiting.
    pub lease: Duration,
    /// How long a request waits for a value.
    pub patience: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            ahead: Duration::from_secs(270),
            seek_again: Duration::from_secs(20),
            lease: Duration::from_secs(3),
            patience: Duration::from_secs(8),
        }
    }
}

/// Why there is no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CentralFault {
    /// WeChat was asked and gave none.
    #[error(transparent)]
    Wechat(#[from] Fault),
    /// WeChat was asked a moment ago, perhaps by another instance, and gave none.
    #[error("WeChat gave none ({why}) and is not asked for another {retry_after:?}")]
    Resting {
        /// The label of that fault.
        why: String,
        /// When it may be asked again.
        retry_after: Duration,
    },
    /// Our own bound on calls a day.
    #[error("the calls of the day are used up")]
    Spent,
    /// Another instance asks, and is not done in time.
    #[error("the value was not there in time")]
    Waited,
}

impl CentralFault {
    /// The metric's label.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Wechat(fault) => fault.label(),
            Self::Resting { .. } => "resting",
            Self::Spent => "spent",
            Self::Waited => "waited",
        }
    }

    /// When asking again may do better.
    #[must_use]
    pub fn retry_after(&self) -> Duration {
        match self {
            Self::Resting { retry_after, .. } => *retry_after,
            Self::Wechat(Fault::BreakerOpen { retry_after, .. }) => *retry_after,
            Self::Wechat(fault) => tally::first_rest(fault),
            Self::Spent => tally::LONG_REST,
            Self::Waited => Duration::from_secs(2),
        }
    }
}

/// A value and its times.
#[derive(Clone, Debug)]
struct Held {
    value: Secret,
    ends: Instant,
    /// From when on a new one is sought.
    seek: Instant,
}

type Outcome = Result<Held, CentralFault>;

#[derive(Default)]
struct State {
    held: Option<Held>,
    flight: Option<watch::Receiver<Option<Outcome>>>,
    rest: Option<(Instant, String)>,
    tally: Tally,
}

impl State {
    /// The value, where it lives and is not `dead`.
    fn alive(&self, dead: Option<&Secret>, now: Instant) -> Option<&Held> {
        self.held.as_ref().filter(|held| held.ends > now && !is(&held.value, dead))
    }

    fn resting(&self, now: Instant) -> Option<CentralFault> {
        let (until, why) = self.rest.as_ref().filter(|(until, _)| *until > now)?;
        Some(CentralFault::Resting { why: why.clone(), retry_after: *until - now })
    }
}

fn is(value: &Secret, dead: Option<&Secret>) -> bool {
    dead.is_some_and(|dead| dead.matches(value.expose()))
}

/// The central values of all applications. One for each client.
pub struct Central {
    client: Arc<Client>,
    shared: Shared,
    meter: CentralMeter,
    tasks: TaskTracker,
    settings: Settings,
    /// One for each application and kind: as many as the configuration names.
    slots: Mutex<HashMap<(AppId, Kind), Arc<Mutex<State>>>>,
}

impl Central {
    /// Asks by `client`, shares by `store` what `sealer` sealed. Flights are `tasks`, which a shutdown waits for.
    #[must_use]
    pub fn new(
        client: Arc<Client>,
        store: Store,
        sealer: Arc<dyn Sealer>,
        meter: CentralMeter,
        tasks: TaskTracker,
        settings: Settings,
    ) -> Arc<Self> {
        let shared = Shared::new(store, sealer, settings.seek_again);
        Arc::new(Self { client, shared, meter, tasks, settings, slots: Mutex::default() })
    }

    /// The ticket, where this instance has it at hand; starts to seek the next one when its end is near.
    #[must_use]
    pub fn ticket_at_hand(self: &Arc<Self>, app: &Application) -> Option<Secret> {
        let slot = self.slot(app, Kind::JsapiTicket);
        self.at_hand(app, Kind::JsapiTicket, &slot)
    }

    /// The ticket that JS-SDK pages are signed with.
    ///
    /// # Errors
    /// [`CentralFault`].
    pub async fn ticket(self: &Arc<Self>, app: &Application) -> Result<Secret, CentralFault> {
        self.value(app, Kind::JsapiTicket, None).await
    }

    /// The token.
    ///
    /// # Errors
    /// [`CentralFault`].
    pub async fn token(self: &Arc<Self>, app: &Application) -> Result<Secret, CentralFault> {
        self.value(app, Kind::AccessToken, None).await
    }

    /// A token other than `dead`, which WeChat would not take.
    ///
    /// # Errors
    /// [`CentralFault`].
    pub async fn token_after(self: &Arc<Self>, app: &Application, dead: &Secret) -> Result<Secret, CentralFault> {
        self.value(app, Kind::AccessToken, Some(dead)).await
    }

    /// Whether the person follows the Official Account.
    ///
    /// # Errors
    /// [`CentralFault`].
    pub async fn is_subscribed(self: &Arc<Self>, app: &Application, openid: &OpenId) -> Result<bool, CentralFault> {
        let token = self.token(app).await?;
        match self.client.subscription(app, &token, openid).await {
            Err(fault) if fault.class() == Class::RenewToken => {
                let other = self.token_after(app, &token).await?;
                Ok(self.client.subscription(app, &other, openid).await?)
            }
            outcome => Ok(outcome?),
        }
    }

    async fn value(
        self: &Arc<Self>,
        app: &Application,
        kind: Kind,
        dead: Option<&Secret>,
    ) -> Result<Secret, CentralFault> {
        let slot = self.slot(app, kind);
        if dead.is_none()
            && let Some(value) = self.at_hand(app, kind, &slot)
        {
            return Ok(value);
        }
        let sought = timeout(self.settings.patience, self.sought(app, kind, &slot, dead));
        sought.await.unwrap_or(Err(CentralFault::Waited))
    }

    /// The value from memory. Near its end a flight is started, and nobody waits for it.
    fn at_hand(self: &Arc<Self>, app: &Application, kind: Kind, slot: &Arc<Mutex<State>>) -> Option<Secret> {
        let now = Instant::now();
        let mut state = lock(slot);
        let held = state.alive(None, now)?;
        let (value, seek) = (held.value.clone(), held.seek);
        if seek <= now && state.flight.is_none() && state.resting(now).is_none() {
            drop(self.take_off(app, kind, slot, &mut state, None));
        }
        Some(value)
    }

    async fn sought(
        self: &Arc<Self>,
        app: &Application,
        kind: Kind,
        slot: &Arc<Mutex<State>>,
        dead: Option<&Secret>,
    ) -> Result<Secret, CentralFault> {
        // A flight that was under way when the token died may bring the dead one; the next one does not.
        for _ in 0..2 {
            let mut flight = {
                let now = Instant::now();
                let mut state = lock(slot);
                if let Some(held) = state.alive(dead, now) {
                    return Ok(held.value.clone());
                }
                match &state.flight {
                    // One whose task died says nothing any more.
                    Some(flight) if flight.has_changed().is_ok() => flight.clone(),
                    _ => match state.resting(now) {
                        Some(resting) => return Err(resting),
                        None => self.take_off(app, kind, slot, &mut state, dead),
                    },
                }
            };
            let outcome = flight.wait_for(Option::is_some).await.ok().and_then(|outcome| outcome.clone());
            let held = outcome.unwrap_or(Err(CentralFault::Waited))?;
            if !is(&held.value, dead) {
                return Ok(held.value);
            }
        }
        Err(CentralFault::Waited)
    }

    /// Starts the one flight there is. It goes on when nobody waits for it any more.
    fn take_off(
        self: &Arc<Self>,
        app: &Application,
        kind: Kind,
        slot: &Arc<Mutex<State>>,
        state: &mut State,
        dead: Option<&Secret>,
    ) -> watch::Receiver<Option<Outcome>> {
        let (tell, told) = watch::channel(None);
        state.flight = Some(told.clone());
        let flight = Flight {
            central: Arc::clone(self),
            app: app.clone(),
            kind,
            keys: Keys::new(self.shared.names(), &app.appid, kind),
            slot: Arc::clone(slot),
            dead: dead.cloned(),
        };
        drop(self.tasks.spawn(async move {
            let outcome = flight.fly().await;
            flight.land(&outcome);
            tell.send_replace(Some(outcome));
        }));
        told
    }

    fn slot(&self, app: &Application, kind: Kind) -> Arc<Mutex<State>> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(slots.entry((app.appid.clone(), kind)).or_default())
    }
}

fn lock(slot: &Mutex<State>) -> MutexGuard<'_, State> {
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One search for a value.
struct Flight {
    central: Arc<Central>,
    app: Application,
    kind: Kind,
    keys: Keys,
    slot: Arc<Mutex<State>>,
    /// The value that WeChat would not take, where that is why.
    dead: Option<Secret>,
}

impl Flight {
    async fn fly(&self) -> Outcome {
        let Central { shared, settings, .. } = &*self.central;
        let deadline = Instant::now() + settings.patience * 2;
        let mut pause = LOOKS.0;
        loop {
            let Ok(seen) = shared.look(&self.keys).await else { return self.ask_alone().await };
            if let Some(good) = self.good(&seen) {
                return Ok(good);
            }
            let old = self.living(&seen);
            if let Some(rests) = self.rests(&seen) {
                return old.ok_or(rests);
            }
            match shared.store().take_lease(&self.keys.guarded, settings.lease).await {
                Err(_) => return self.ask_alone().await,
                Ok(Some(lease)) => return self.ask_as_owner(&lease).await,
                // Another is at it: the old one does meanwhile.
                Ok(None) if old.is_some() => return old.ok_or(CentralFault::Waited),
                Ok(None) if Instant::now() >= deadline => return Err(CentralFault::Waited),
                Ok(None) => {
                    sleep(pause / 2 + pause.mul_f64(fastrand::f64() / 2.0)).await;
                    pause = (pause * 2).min(LOOKS.1);
                }
            }
        }
    }

    /// What another instance wrote, if it lives and is not the dead one.
    fn living(&self, seen: &Seen) -> Option<Held> {
        let (value, lives) = seen.value.as_ref()?;
        (!is(value, self.dead.as_ref())).then(|| self.held(value.clone(), *lives))
    }

    /// The same, unless it is so near its end that a new one is due.
    fn good(&self, seen: &Seen) -> Option<Held> {
        let (_, lives) = seen.value.as_ref()?;
        let good = self.living(seen).filter(|_| *lives > self.central.settings.ahead)?;
        self.central.meter.got(self.kind.as_str(), "redis");
        Some(good)
    }

    /// Why WeChat is not to be asked now, as the instances together know it. That it was asked a moment ago is no reason
    /// where there is no value, or a dead one.
    fn rests(&self, seen: &Seen) -> Option<CentralFault> {
        let (why, retry_after) = seen.rest.clone()?;
        let asked = why == shared::ASKED && self.living(seen).is_none();
        (!asked).then_some(CentralFault::Resting { why, retry_after })
    }

    fn held(&self, value: Secret, lives: Duration) -> Held {
        let now = Instant::now();
        let lives = lives.min(LONGEST_LIFE);
        // Drawn by chance, so that not all instances look at once; never earlier than `ahead`.
        let ahead = self.central.settings.ahead.mul_f64(1.0 - fastrand::f64() / 10.0);
        let seek = lives.saturating_sub(ahead).max(self.central.settings.seek_again.min(lives / 4));
        Held { value, ends: now + lives, seek: now + seek }
    }

    async fn ask_as_owner(&self, lease: &Lease) -> Outcome {
        let Central { shared, settings, .. } = &*self.central;
        // Somebody may have written between the look and the lease.
        if let Ok(seen) = shared.look(&self.keys).await {
            let found = match self.rests(&seen) {
                Some(rests) => Some(self.living(&seen).ok_or(rests)),
                None => self.good(&seen).map(Ok),
            };
            if let Some(found) = found {
                let _ = shared.store().release(&self.keys.guarded, lease).await;
                return found;
            }
        }
        let beat = async {
            loop {
                sleep(settings.lease / 3).await;
                // A lease that is lost changes nothing here: the fence decides whose value is kept.
                let _ = shared.store().prolong(&self.keys.guarded, lease, settings.lease).await;
            }
        };
        let began = Instant::now();
        let asked = tokio::select! {
            asked = self.ask() => asked,
            () = beat => Err(CentralFault::Waited),
        };
        let outcome = match asked {
            Ok(given) => {
                let lives = given.lives.min(LONGEST_LIFE).saturating_sub(began.elapsed());
                let written = shared.put(&self.keys, lease, &given.value, lives).await;
                let newer = match written {
                    // Another owner came after this one: what it wrote is newer.
                    Ok(false) => shared.look(&self.keys).await.ok().and_then(|seen| self.living(&seen)),
                    Ok(true) | Err(_) => None,
                };
                Ok(newer.unwrap_or_else(|| self.held(given.value, lives)))
            }
            Err(fault) => {
                if let CentralFault::Wechat(wechat) = &fault
                    && was_asked(wechat)
                {
                    let (first, most) = tally::rests(wechat);
                    if let Ok(pause) = shared.failed(&self.keys, wechat.label(), first, most).await {
                        lock(&self.slot).rest = Some((Instant::now() + pause, wechat.label().to_owned()));
                    }
                }
                Err(fault)
            }
        };
        let _ = shared.store().release(&self.keys.guarded, lease).await;
        outcome
    }

    /// Without Redis: the same call, with what this instance knows by itself.
    async fn ask_alone(&self) -> Outcome {
        let given = self.ask().await?;
        Ok(self.held(given.value, given.lives))
    }

    async fn ask(&self) -> Result<Given, CentralFault> {
        let Central { client, meter, .. } = &*self.central;
        let given = match self.kind {
            Kind::AccessToken => {
                self.spend(Call::Usual).await?;
                let given = client.stable_token(&self.app, Endpoint::StableToken).await?;
                // Where another system had the token replaced, asking is enough. Forcing is for a token that WeChat
                // gives out and does not take.
                if is(&given.value, self.dead.as_ref()) {
                    self.spend(Call::Forced).await?;
                    client.stable_token(&self.app, Endpoint::ForcedToken).await?
                } else {
                    given
                }
            }
            Kind::JsapiTicket => {
                let token = self.central.token(&self.app).await?;
                self.spend(Call::Usual).await?;
                match client.jsapi_ticket(&self.app, &token).await {
                    Err(fault) if fault.class() == Class::RenewToken => {
                        let other = self.central.token_after(&self.app, &token).await?;
                        self.spend(Call::Usual).await?;
                        client.jsapi_ticket(&self.app, &other).await?
                    }
                    outcome => outcome?,
                }
            }
        };
        meter.got(self.kind.as_str(), "wechat");
        Ok(given)
    }

    /// Counts a call, in Redis or, while it is away, here.
    async fn spend(&self, call: Call) -> Result<(), CentralFault> {
        let now = clock::now();
        let counted = match self.central.shared.spend(&self.keys, call, now).await {
            Ok(counted) => counted,
            Err(_) => lock(&self.slot).tally.spend(call, now),
        };
        match counted {
            Some(today) => {
                self.central.meter.spent(self.app.appid.as_str(), self.kind.as_str(), call.as_str(), today);
                Ok(())
            }
            None => Err(CentralFault::Spent),
        }
    }

    /// Remembers how it ended, and says so once.
    fn land(&self, outcome: &Outcome) {
        let now = Instant::now();
        let (appid, kind) = (self.app.appid.as_str(), self.kind.as_str());
        let mut state = lock(&self.slot);
        state.flight = None;
        match outcome {
            Ok(held) => {
                state.held = Some(held.clone());
                state.rest = None;
                state.tally.well();
            }
            Err(fault) => {
                self.central.meter.failed(kind, fault.label());
                let pause = match fault {
                    CentralFault::Wechat(wechat) => state.tally.failed(wechat),
                    other => other.retry_after(),
                };
                // Longer where the instances together have failed more often.
                let known = state.rest.take().filter(|(until, _)| *until > now + pause);
                state.rest = Some(known.unwrap_or_else(|| (now + pause, fault.label().to_owned())));
                let old = state.alive(self.dead.as_ref(), now).is_some();
                drop(state);
                match fault {
                    CentralFault::Resting { .. } => {}
                    CentralFault::Wechat(wechat) if wechat.class() == Class::Configuration => {
                        tracing::error!(appid, kind, old, %fault, "WeChat gives no central token: this needs the operator");
                    }
                    _ => tracing::warn!(appid, kind, old, %fault, "WeChat gives no central token"),
                }
            }
        }
    }
}

/// Whether the fault says something of WeChat, and not of this instance alone.
fn was_asked(fault: &Fault) -> bool {
    !matches!(fault, Fault::BreakerOpen { .. } | Fault::TooManyCalls { .. })
}
