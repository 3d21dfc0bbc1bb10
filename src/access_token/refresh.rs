//! The refresh of one token: from Redis, or under a lease from WeChat.

use super::entry::{CachedToken, Entry, Outcome, is_rejected};
use super::quota::{self, CallKind};
use super::shared::{self, SharedState, TokenKeys};
use super::{AccessTokenError, AccessTokens, Settings, TokenKind};
use crate::clock;
use crate::redis::Lease;
use crate::secret::Secret;
use crate::wechat::Endpoint;
use crate::wechat::credentials::Credentials;
use crate::wechat::endpoints::stable_token::TokenResponse;
use crate::wechat::errcode::Class;
use crate::wechat::error::WechatError;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// The longest lifetime, whatever Redis says.
pub(super) const MAX_LIFETIME: Duration = Duration::from_secs(7_200);

/// How long a new instance waits for its first connection to Redis, so that it does not ask WeChat for a token that the
/// others have.
const FIRST_CONNECTION_TIMEOUT: Duration = Duration::from_secs(1);

/// The first and the longest delay between two reads of Redis, while another instance refreshes.
const POLL_DELAY: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(300));

/// A refresh.
pub(super) struct Refresh {
    pub tokens: Arc<AccessTokens>,
    pub app: Credentials,
    pub kind: TokenKind,
    pub keys: TokenKeys,
    pub entry: Arc<Entry>,
    /// The token that WeChat rejected, if that is the reason for this refresh.
    pub rejected: Option<Secret>,
}

impl Refresh {
    pub(super) async fn run(&self) -> Outcome {
        let AccessTokens { shared, settings, .. } = &*self.tokens;
        let deadline = Instant::now() + settings.timeout * 2;
        if shared.store().is_configured() {
            let _ = timeout(FIRST_CONNECTION_TIMEOUT, shared.store().connected_since(0)).await;
        }
        let mut pause = POLL_DELAY.0;
        loop {
            let Ok(state) = shared.load(&self.keys).await else { return self.request_alone().await };
            if let Some(token) = self.fresh(&state) {
                return Ok(token);
            }
            let old = self.usable(&state);
            if let Some(backoff) = self.shared_backoff(&state) {
                return old.ok_or(backoff);
            }
            match shared.store().take_lease(&self.keys.guarded, settings.lease).await {
                Err(_) => return self.request_alone().await,
                Ok(Some(lease)) => return self.request_with_lease(&lease).await,
                // Another instance refreshes: use the old token meanwhile.
                Ok(None) if old.is_some() => return old.ok_or(AccessTokenError::TimedOut),
                Ok(None) if Instant::now() >= deadline => return Err(AccessTokenError::TimedOut),
                Ok(None) => {
                    sleep(pause / 2 + pause.mul_f64(fastrand::f64() / 2.0)).await;
                    pause = (pause * 2).min(POLL_DELAY.1);
                }
            }
        }
    }

    /// The token in Redis, if it is not the rejected one.
    fn usable(&self, state: &SharedState) -> Option<CachedToken> {
        let (value, ttl) = state.value.as_ref()?;
        (!is_rejected(value, self.rejected.as_ref())).then(|| self.cached_token(value.clone(), *ttl))
    }

    /// The same, unless it is due for a refresh.
    fn fresh(&self, state: &SharedState) -> Option<CachedToken> {
        let (_, ttl) = state.value.as_ref()?;
        let token = self.usable(state).filter(|_| *ttl > self.tokens.settings.refresh_before)?;
        self.tokens.metrics.obtained(self.kind.as_str(), "redis");
        Some(token)
    }

    /// The shared back-off, if any. A recent successful call does not count if there is no usable token.
    fn shared_backoff(&self, state: &SharedState) -> Option<AccessTokenError> {
        let (reason, retry_after) = state.backoff.clone()?;
        let ignored = reason == shared::ASKED && self.usable(state).is_none();
        (!ignored).then_some(AccessTokenError::BackingOff { reason, retry_after })
    }

    fn cached_token(&self, value: Secret, ttl: Duration) -> CachedToken {
        let Settings { refresh_before, min_interval, .. } = self.tokens.settings;
        let now = Instant::now();
        let ttl = ttl.min(MAX_LIFETIME);
        // Random, so that the instances do not refresh at the same time; never earlier than `refresh_before`.
        let refresh_before = refresh_before.mul_f64(1.0 - fastrand::f64() / 10.0);
        let refresh_in = ttl.saturating_sub(refresh_before).max(min_interval.min(ttl / 4));
        CachedToken { value, expires_at: now + ttl, refresh_at: now + refresh_in }
    }

    /// Requests a token as the holder of the lease, and writes it to Redis.
    async fn request_with_lease(&self, lease: &Lease) -> Outcome {
        let AccessTokens { shared, settings, .. } = &*self.tokens;
        // Another instance may have written a token before this one took the lease.
        if let Ok(state) = shared.load(&self.keys).await {
            let found = match self.shared_backoff(&state) {
                Some(backoff) => Some(self.usable(&state).ok_or(backoff)),
                None => self.fresh(&state).map(Ok),
            };
            if let Some(found) = found {
                let _ = shared.store().release(&self.keys.guarded, lease).await;
                return found;
            }
        }
        let prolong_lease = async {
            loop {
                sleep(settings.lease / 3).await;
                // A failure is harmless: the fencing token decides whose value Redis keeps.
                let _ = shared.store().prolong(&self.keys.guarded, lease, settings.lease).await;
            }
        };
        let start = Instant::now();
        let response = tokio::select! {
            response = self.request() => response,
            () = prolong_lease => Err(AccessTokenError::TimedOut),
        };
        let outcome = match response {
            Ok(response) => {
                let ttl = response.ttl.min(MAX_LIFETIME).saturating_sub(start.elapsed());
                let written = shared.put(&self.keys, lease, &response.value, ttl).await;
                let newer = match written {
                    // A later holder of the lease has written a newer token.
                    Ok(false) => shared.load(&self.keys).await.ok().and_then(|state| self.usable(&state)),
                    Ok(true) | Err(_) => None,
                };
                Ok(newer.unwrap_or_else(|| self.cached_token(response.value, ttl)))
            }
            Err(error) => {
                if let AccessTokenError::Wechat(wechat) = &error
                    && concerns_wechat(wechat)
                {
                    let range = quota::backoff_range(wechat);
                    if let Ok(backoff) = shared.record_failure(&self.keys, wechat.label(), range).await {
                        self.entry.lock().backoff = Some((Instant::now() + backoff, wechat.label().to_owned()));
                    }
                }
                Err(error)
            }
        };
        let _ = shared.store().release(&self.keys.guarded, lease).await;
        outcome
    }

    /// Requests a token without Redis.
    async fn request_alone(&self) -> Outcome {
        let response = self.request().await?;
        Ok(self.cached_token(response.value, response.ttl))
    }

    async fn request(&self) -> Result<TokenResponse, AccessTokenError> {
        let AccessTokens { client, metrics, .. } = &*self.tokens;
        let response = match self.kind {
            TokenKind::AccessToken => {
                self.consume_quota(CallKind::Usual).await?;
                let current = client.stable_token(&self.app, Endpoint::StableToken).await?;
                // Force a new token only if WeChat still returns the one that it rejects.
                if is_rejected(&current.value, self.rejected.as_ref()) {
                    self.consume_quota(CallKind::Forced).await?;
                    client.stable_token(&self.app, Endpoint::ForcedToken).await?
                } else {
                    current
                }
            }
            TokenKind::JsapiTicket => {
                let token = self.tokens.token(&self.app).await?;
                self.consume_quota(CallKind::Usual).await?;
                match client.jsapi_ticket(&self.app, &token).await {
                    Err(error) if error.class() == Class::RenewToken => {
                        let fresh = self.tokens.token_after(&self.app, &token).await?;
                        self.consume_quota(CallKind::Usual).await?;
                        client.jsapi_ticket(&self.app, &fresh).await?
                    }
                    outcome => outcome?,
                }
            }
        };
        metrics.obtained(self.kind.as_str(), "wechat");
        Ok(response)
    }

    /// Counts a call in Redis, or in memory while Redis is unavailable.
    async fn consume_quota(&self, call: CallKind) -> Result<(), AccessTokenError> {
        let now = clock::now();
        let count = match self.tokens.shared.consume_quota(&self.keys, call, now).await {
            Ok(count) => count,
            Err(_) => self.entry.lock().quota.consume(call, now),
        };
        match count {
            Some(today) => {
                self.tokens.metrics.calls_today(self.app.appid.as_str(), self.kind.as_str(), call.as_str(), today);
                Ok(())
            }
            None => Err(AccessTokenError::QuotaExhausted),
        }
    }

    /// Stores the outcome, and logs a failure.
    pub(super) fn finish(&self, outcome: &Outcome) {
        let now = Instant::now();
        let (appid, kind) = (self.app.appid.as_str(), self.kind.as_str());
        let mut state = self.entry.lock();
        state.refresh = None;
        match outcome {
            Ok(token) => {
                state.token = Some(token.clone());
                state.backoff = None;
                state.quota.reset_failures();
            }
            Err(error) => {
                self.tokens.metrics.failed(kind, error.metrics_class(), error.label());
                let backoff = match error {
                    AccessTokenError::Wechat(wechat) => state.quota.failed(wechat),
                    other => other.retry_after(),
                };
                // Keep the shared back-off if it is longer.
                let shared = state.backoff.take().filter(|(until, _)| *until > now + backoff);
                state.backoff = Some(shared.unwrap_or_else(|| (now + backoff, error.label().to_owned())));
                let old = state.usable(self.rejected.as_ref(), now).is_some();
                drop(state);
                match error {
                    AccessTokenError::BackingOff { .. } => {}
                    // The refresh of the access token has logged it.
                    AccessTokenError::Wechat(wechat)
                        if self.kind == TokenKind::JsapiTicket && wechat.endpoint() != Endpoint::JsapiTicket => {}
                    AccessTokenError::Wechat(wechat) if wechat.class() == Class::Configuration => {
                        tracing::error!(appid, token = kind, cached = old, %error, "cannot refresh the token: the operator must act");
                    }
                    _ => tracing::warn!(appid, token = kind, cached = old, %error, "cannot refresh the token"),
                }
            }
        }
    }
}

/// Whether the error concerns all instances, and not this one alone.
fn concerns_wechat(error: &WechatError) -> bool {
    !matches!(error, WechatError::BreakerOpen { .. } | WechatError::TooManyCalls { .. })
}
