//! The account's access token and JS-SDK ticket. All instances share them, and one instance refreshes them.
//!
//! ```text
//! memory ─▶ Redis ─▶ lease ─▶ Redis again ─▶ WeChat ─▶ Redis, with fencing token ─▶ release
//!                      └─ taken: wait for the token, or use the old one
//! ```
//!
//! Promises: the old token is served until it expires, and refreshed before that. Each instance runs one refresh at a time,
//! and one instance holds the lease. After a failure all instances back off, longer each time. Calls are counted by the day
//! and stop before WeChat's quota is used up. If Redis is unavailable, each instance refreshes alone: WeChat gives all of
//! them the same token. Redis is not trusted: a token that does not unseal is ignored, and no token is used for longer than
//! WeChat's longest lifetime.

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
use entry::{Entry, Outcome, State, is_rejected};
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

/// A kind of token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum TokenKind {
    /// The access token.
    AccessToken,
    /// The ticket that signs JS-SDK pages.
    JsapiTicket,
}

impl TokenKind {
    /// The name in logs, metrics and Redis.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::AccessToken => "access_token",
            Self::JsapiTicket => "jsapi_ticket",
        }
    }
}

/// Times of the refresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How long before its expiry a token is refreshed. WeChat issues the next token five minutes before; an earlier call
    /// returns the old one.
    pub refresh_before: Duration,
    /// The shortest time between two refreshes, over all instances.
    pub min_interval: Duration,
    /// How long fresh instances wait for one that crashed during a refresh.
    pub lease: Duration,
    /// How long a caller waits for a token.
    pub timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            refresh_before: Duration::from_secs(270),
            min_interval: Duration::from_secs(20),
            lease: Duration::from_secs(3),
            timeout: Duration::from_secs(8),
        }
    }
}

/// The tokens of all applications.
pub struct AccessTokens {
    client: Arc<Client>,
    shared: Shared,
    metrics: AccessTokenMetrics,
    tasks: TaskTracker,
    settings: Settings,
    /// Bounded by the configuration, which is the only source of AppIDs.
    entries: Mutex<HashMap<(AppId, TokenKind), Arc<Entry>>>,
}

impl AccessTokens {
    /// Refreshes by `client`, and shares tokens by `store`, sealed by `sealer`. The drain waits for `tasks`, the refreshes.
    pub fn new(
        client: Arc<Client>,
        store: Redis,
        sealer: Arc<dyn Sealer>,
        metrics: AccessTokenMetrics,
        tasks: TaskTracker,
        settings: Settings,
    ) -> Arc<Self> {
        let shared = Shared::new(store, sealer, settings.min_interval);
        Arc::new(Self { client, shared, metrics, tasks, settings, entries: Mutex::default() })
    }

    /// The ticket, or the reason why there is none, if it is in memory. Starts a refresh if the ticket expires soon.
    pub fn cached_ticket(self: &Arc<Self>, app: &Credentials) -> Option<Result<Secret, AccessTokenError>> {
        let entry = self.entry(app, TokenKind::JsapiTicket);
        let ticket = self.cached(app, TokenKind::JsapiTicket, &entry);
        ticket.map(Ok).or_else(|| entry.lock().backoff(Instant::now()).map(Err))
    }

    /// The JS-SDK ticket.
    pub async fn ticket(self: &Arc<Self>, app: &Credentials) -> Result<Secret, AccessTokenError> {
        self.value(app, TokenKind::JsapiTicket, None).await
    }

    /// The access token.
    pub async fn token(self: &Arc<Self>, app: &Credentials) -> Result<Secret, AccessTokenError> {
        self.value(app, TokenKind::AccessToken, None).await
    }

    /// An access token fresh than `rejected`, which WeChat rejected.
    pub async fn token_after(
        self: &Arc<Self>,
        app: &Credentials,
        rejected: &Secret,
    ) -> Result<Secret, AccessTokenError> {
        self.value(app, TokenKind::AccessToken, Some(rejected)).await
    }

    /// Whether the user follows the Official Account.
    pub async fn is_subscribed(self: &Arc<Self>, app: &Credentials, openid: &OpenId) -> Result<bool, AccessTokenError> {
        let token = self.token(app).await?;
        match self.client.subscription(app, &token, openid).await {
            Err(error) if error.class() == Class::RenewToken => {
                let fresh = self.token_after(app, &token).await?;
                Ok(self.client.subscription(app, &fresh, openid).await?)
            }
            outcome => Ok(outcome?),
        }
    }

    async fn value(
        self: &Arc<Self>,
        app: &Credentials,
        kind: TokenKind,
        rejected: Option<&Secret>,
    ) -> Result<Secret, AccessTokenError> {
        let entry = self.entry(app, kind);
        if rejected.is_none()
            && let Some(value) = self.cached(app, kind, &entry)
        {
            return Ok(value);
        }
        let refresh = timeout(self.settings.timeout, self.wait_for_refresh(app, kind, &entry, rejected));
        refresh.await.unwrap_or(Err(AccessTokenError::TimedOut))
    }

    /// The token from memory. Starts a refresh if it expires soon, without waiting.
    fn cached(self: &Arc<Self>, app: &Credentials, kind: TokenKind, entry: &Arc<Entry>) -> Option<Secret> {
        let now = Instant::now();
        let mut state = entry.lock();
        let token = state.usable(None, now)?;
        let (value, refresh_at) = (token.value.clone(), token.refresh_at);
        if refresh_at <= now && state.refresh.is_none() && state.backoff(now).is_none() {
            drop(self.start_refresh(app, kind, entry, &mut state, None));
        }
        Some(value)
    }

    async fn wait_for_refresh(
        self: &Arc<Self>,
        app: &Credentials,
        kind: TokenKind,
        entry: &Arc<Entry>,
        rejected: Option<&Secret>,
    ) -> Result<Secret, AccessTokenError> {
        // A refresh that started before the rejection may return the rejected token; the next one does not.
        for _ in 0..2 {
            let mut refresh = {
                let now = Instant::now();
                let mut state = entry.lock();
                if let Some(token) = state.usable(rejected, now) {
                    return Ok(token.value.clone());
                }
                match &state.refresh {
                    // `has_changed` fails if the task of the refresh has panicked.
                    Some(refresh) if refresh.has_changed().is_ok() => refresh.clone(),
                    _ => match state.backoff(now) {
                        Some(error) => return Err(error),
                        None => self.start_refresh(app, kind, entry, &mut state, rejected),
                    },
                }
            };
            let outcome = refresh.wait_for(Option::is_some).await.ok().and_then(|outcome| outcome.clone());
            let token = outcome.unwrap_or(Err(AccessTokenError::TimedOut))?;
            if !is_rejected(&token.value, rejected) {
                return Ok(token.value);
            }
        }
        Err(AccessTokenError::TimedOut)
    }

    /// Starts a refresh, which goes on even if no caller waits for it.
    fn start_refresh(
        self: &Arc<Self>,
        app: &Credentials,
        kind: TokenKind,
        entry: &Arc<Entry>,
        state: &mut State,
        rejected: Option<&Secret>,
    ) -> watch::Receiver<Option<Outcome>> {
        let (sender, receiver) = watch::channel(None);
        state.refresh = Some(receiver.clone());
        let refresh = Refresh {
            tokens: Arc::clone(self),
            app: app.clone(),
            kind,
            keys: TokenKeys::new(self.shared.key_names(), &app.appid, kind),
            entry: Arc::clone(entry),
            rejected: rejected.cloned(),
        };
        let task = async move {
            let outcome = refresh.run().await;
            refresh.finish(&outcome);
            sender.send_replace(Some(outcome));
        };
        // Logged and traced as part of the request that started it.
        drop(self.tasks.spawn(traces::with_context(task.in_current_span())));
        receiver
    }

    fn entry(&self, app: &Credentials, kind: TokenKind) -> Arc<Entry> {
        let mut entries = self.entries.lock();
        Arc::clone(entries.entry((app.appid.clone(), kind)).or_default())
    }
}
