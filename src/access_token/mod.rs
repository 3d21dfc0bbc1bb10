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

mod entry;
mod error;
mod quota;
mod refresh;
mod shared;

pub use error::AccessTokenError;

use crate::redis::Redis;
use crate::seal::Sealer;
use crate::secret::Secret;
use crate::telemetry::{AccessTokenMetrics, traces};
use crate::wechat::AppId;
use crate::wechat::client::Client;
use crate::wechat::credentials::Credentials;
use crate::wechat::errcode::Class;
use crate::wechat::ids::OpenId;
use entry::{Entry, Outcome, State, is};
use parking_lot::Mutex;
use refresh::Refresh;
use shared::{Shared, TokenKeys};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

/// Which of an application's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum TokenKind {
    /// The token itself.
    AccessToken,
    /// What JS-SDK pages are signed with.
    JsapiTicket,
}

impl TokenKind {
    /// The word for it in logs, metrics and Redis.
    pub(crate) const fn as_str(self) -> &'static str {
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
    pub timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            ahead: Duration::from_secs(270),
            seek_again: Duration::from_secs(20),
            lease: Duration::from_secs(3),
            timeout: Duration::from_secs(8),
        }
    }
}

/// The central values of all applications. One for each client.
pub struct AccessTokens {
    client: Arc<Client>,
    shared: Shared,
    meter: AccessTokenMetrics,
    tasks: TaskTracker,
    settings: Settings,
    /// One for each application and kind: as many as the configuration names.
    slots: Mutex<HashMap<(AppId, TokenKind), Arc<Entry>>>,
}

impl AccessTokens {
    /// Asks by `client`, shares by `store` what `sealer` sealed. Flights are `tasks`, which a shutdown waits for.
    pub fn new(
        client: Arc<Client>,
        store: Redis,
        sealer: Arc<dyn Sealer>,
        meter: AccessTokenMetrics,
        tasks: TaskTracker,
        settings: Settings,
    ) -> Arc<Self> {
        let shared = Shared::new(store, sealer, settings.seek_again);
        Arc::new(Self { client, shared, meter, tasks, settings, slots: Mutex::default() })
    }

    /// The ticket, or why there is none, where this instance knows it without asking anybody; starts to seek the next one
    /// when its end is near.
    pub fn cached_ticket(self: &Arc<Self>, app: &Credentials) -> Option<Result<Secret, AccessTokenError>> {
        let slot = self.slot(app, TokenKind::JsapiTicket);
        let ticket = self.cached(app, TokenKind::JsapiTicket, &slot);
        ticket.map(Ok).or_else(|| slot.lock().resting(Instant::now()).map(Err))
    }

    /// The ticket that JS-SDK pages are signed with.
    pub async fn ticket(self: &Arc<Self>, app: &Credentials) -> Result<Secret, AccessTokenError> {
        self.value(app, TokenKind::JsapiTicket, None).await
    }

    /// The token.
    pub async fn token(self: &Arc<Self>, app: &Credentials) -> Result<Secret, AccessTokenError> {
        self.value(app, TokenKind::AccessToken, None).await
    }

    /// A token other than `dead`, which WeChat would not take.
    pub async fn token_after(self: &Arc<Self>, app: &Credentials, dead: &Secret) -> Result<Secret, AccessTokenError> {
        self.value(app, TokenKind::AccessToken, Some(dead)).await
    }

    /// Whether the person follows the Official Account.
    pub async fn is_subscribed(self: &Arc<Self>, app: &Credentials, openid: &OpenId) -> Result<bool, AccessTokenError> {
        let token = self.token(app).await?;
        match self.client.subscription(app, &token, openid).await {
            Err(error) if error.class() == Class::RenewToken => {
                let other = self.token_after(app, &token).await?;
                Ok(self.client.subscription(app, &other, openid).await?)
            }
            outcome => Ok(outcome?),
        }
    }

    async fn value(
        self: &Arc<Self>,
        app: &Credentials,
        kind: TokenKind,
        dead: Option<&Secret>,
    ) -> Result<Secret, AccessTokenError> {
        let slot = self.slot(app, kind);
        if dead.is_none()
            && let Some(value) = self.cached(app, kind, &slot)
        {
            return Ok(value);
        }
        let sought = timeout(self.settings.timeout, self.wait_for_refresh(app, kind, &slot, dead));
        sought.await.unwrap_or(Err(AccessTokenError::Waited))
    }

    /// The value from memory. Near its end a flight is started, and nobody waits for it.
    fn cached(self: &Arc<Self>, app: &Credentials, kind: TokenKind, slot: &Arc<Entry>) -> Option<Secret> {
        let now = Instant::now();
        let mut state = slot.lock();
        let held = state.alive(None, now)?;
        let (value, seek) = (held.value.clone(), held.refresh_at);
        if seek <= now && state.flight.is_none() && state.resting(now).is_none() {
            drop(self.start_refresh(app, kind, slot, &mut state, None));
        }
        Some(value)
    }

    async fn wait_for_refresh(
        self: &Arc<Self>,
        app: &Credentials,
        kind: TokenKind,
        slot: &Arc<Entry>,
        dead: Option<&Secret>,
    ) -> Result<Secret, AccessTokenError> {
        // A flight that was under way when the token died may bring the dead one; the next one does not.
        for _ in 0..2 {
            let mut flight = {
                let now = Instant::now();
                let mut state = slot.lock();
                if let Some(held) = state.alive(dead, now) {
                    return Ok(held.value.clone());
                }
                match &state.flight {
                    // One whose task died says nothing any more.
                    Some(flight) if flight.has_changed().is_ok() => flight.clone(),
                    _ => match state.resting(now) {
                        Some(resting) => return Err(resting),
                        None => self.start_refresh(app, kind, slot, &mut state, dead),
                    },
                }
            };
            let outcome = flight.wait_for(Option::is_some).await.ok().and_then(|outcome| outcome.clone());
            let held = outcome.unwrap_or(Err(AccessTokenError::Waited))?;
            if !is(&held.value, dead) {
                return Ok(held.value);
            }
        }
        Err(AccessTokenError::Waited)
    }

    /// Starts the one flight there is. It goes on when nobody waits for it any more.
    fn start_refresh(
        self: &Arc<Self>,
        app: &Credentials,
        kind: TokenKind,
        slot: &Arc<Entry>,
        state: &mut State,
        dead: Option<&Secret>,
    ) -> watch::Receiver<Option<Outcome>> {
        let (tell, told) = watch::channel(None);
        state.flight = Some(told.clone());
        let flight = Refresh {
            central: Arc::clone(self),
            app: app.clone(),
            kind,
            keys: TokenKeys::new(self.shared.names(), &app.appid, kind),
            slot: Arc::clone(slot),
            dead: dead.cloned(),
        };
        let flying = async move {
            let outcome = flight.run().await;
            flight.finish(&outcome);
            tell.send_replace(Some(outcome));
        };
        // It belongs to the request that was first to want it.
        drop(self.tasks.spawn(traces::with_context(flying.in_current_span())));
        told
    }

    fn slot(&self, app: &Credentials, kind: TokenKind) -> Arc<Entry> {
        let mut slots = self.slots.lock();
        Arc::clone(slots.entry((app.appid.clone(), kind)).or_default())
    }
}
