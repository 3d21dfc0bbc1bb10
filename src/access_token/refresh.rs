//! One search for a value: Redis, the lease, WeChat, and how it ended.

use super::entry::{CachedToken, Entry, Outcome, is};
use super::quota::{self, CallKind};
use super::shared::{self, SharedState, TokenKeys};
use super::{AccessTokenError, AccessTokens, TokenKind};
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

/// No value lives longer, whatever Redis says.
pub(super) const MAX_LIFE: Duration = Duration::from_secs(7_200);

/// How long an instance that has just started waits for its first connection to Redis, so as not to ask WeChat for what
/// the others have. Once there was one, nobody waits for it.
const FIRST_CONNECTION: Duration = Duration::from_secs(1);

/// The pause between two looks at what another instance is about to write, at first and at most.
const LOOKS: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(300));

/// One search for a value.
pub(super) struct Refresh {
    pub central: Arc<AccessTokens>,
    pub app: Credentials,
    pub kind: TokenKind,
    pub keys: TokenKeys,
    pub slot: Arc<Entry>,
    /// The value that WeChat would not take, where that is why.
    pub dead: Option<Secret>,
}

impl Refresh {
    pub(super) async fn run(&self) -> Outcome {
        let AccessTokens { shared, settings, .. } = &*self.central;
        let deadline = Instant::now() + settings.timeout * 2;
        if shared.store().is_configured() {
            let _ = timeout(FIRST_CONNECTION, shared.store().connected_since(0)).await;
        }
        let mut pause = LOOKS.0;
        loop {
            let Ok(seen) = shared.load(&self.keys).await else { return self.ask_alone().await };
            if let Some(good) = self.good(&seen) {
                return Ok(good);
            }
            let old = self.living(&seen);
            if let Some(rests) = self.shared_backoff(&seen) {
                return old.ok_or(rests);
            }
            match shared.store().take_lease(&self.keys.guarded, settings.lease).await {
                Err(_) => return self.ask_alone().await,
                Ok(Some(lease)) => return self.ask_as_owner(&lease).await,
                // Another is at it: the old one does meanwhile.
                Ok(None) if old.is_some() => return old.ok_or(AccessTokenError::Waited),
                Ok(None) if Instant::now() >= deadline => return Err(AccessTokenError::Waited),
                Ok(None) => {
                    sleep(pause / 2 + pause.mul_f64(fastrand::f64() / 2.0)).await;
                    pause = (pause * 2).min(LOOKS.1);
                }
            }
        }
    }

    /// What another instance wrote, if it lives and is not the dead one.
    fn living(&self, seen: &SharedState) -> Option<CachedToken> {
        let (value, lives) = seen.value.as_ref()?;
        (!is(value, self.dead.as_ref())).then(|| self.fresh_value(value.clone(), *lives))
    }

    /// The same, unless it is so near its end that a new one is due.
    fn good(&self, seen: &SharedState) -> Option<CachedToken> {
        let (_, lives) = seen.value.as_ref()?;
        let good = self.living(seen).filter(|_| *lives > self.central.settings.ahead)?;
        self.central.meter.got(self.kind.as_str(), "redis");
        Some(good)
    }

    /// Why WeChat is not to be asked now, as the instances together know it. That it was asked a moment ago is no reason
    /// where there is no value, or a dead one.
    fn shared_backoff(&self, seen: &SharedState) -> Option<AccessTokenError> {
        let (why, retry_after) = seen.rest.clone()?;
        let asked = why == shared::ASKED && self.living(seen).is_none();
        (!asked).then_some(AccessTokenError::Resting { why, retry_after })
    }

    fn fresh_value(&self, value: Secret, lives: Duration) -> CachedToken {
        let now = Instant::now();
        let lives = lives.min(MAX_LIFE);
        // Drawn by chance, so that not all instances look at once; never earlier than `ahead`.
        let ahead = self.central.settings.ahead.mul_f64(1.0 - fastrand::f64() / 10.0);
        let seek = lives.saturating_sub(ahead).max(self.central.settings.seek_again.min(lives / 4));
        CachedToken { value, expires_at: now + lives, refresh_at: now + seek }
    }

    async fn ask_as_owner(&self, lease: &Lease) -> Outcome {
        let AccessTokens { shared, settings, .. } = &*self.central;
        // Somebody may have written between the look and the lease.
        if let Ok(seen) = shared.load(&self.keys).await {
            let found = match self.shared_backoff(&seen) {
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
            () = beat => Err(AccessTokenError::Waited),
        };
        let outcome = match asked {
            Ok(given) => {
                let lives = given.ttl.min(MAX_LIFE).saturating_sub(began.elapsed());
                let written = shared.put(&self.keys, lease, &given.value, lives).await;
                let newer = match written {
                    // Another owner came after this one: what it wrote is newer.
                    Ok(false) => shared.load(&self.keys).await.ok().and_then(|seen| self.living(&seen)),
                    Ok(true) | Err(_) => None,
                };
                Ok(newer.unwrap_or_else(|| self.fresh_value(given.value, lives)))
            }
            Err(error) => {
                if let AccessTokenError::Wechat(wechat) = &error
                    && concerns_wechat(wechat)
                {
                    let (first, most) = quota::backoff_range(wechat);
                    if let Ok(pause) = shared.failed(&self.keys, wechat.label(), first, most).await {
                        self.slot.lock().rest = Some((Instant::now() + pause, wechat.label().to_owned()));
                    }
                }
                Err(error)
            }
        };
        let _ = shared.store().release(&self.keys.guarded, lease).await;
        outcome
    }

    /// Without Redis: the same call, with what this instance knows by itself.
    async fn ask_alone(&self) -> Outcome {
        let given = self.ask().await?;
        Ok(self.fresh_value(given.value, given.ttl))
    }

    async fn ask(&self) -> Result<TokenResponse, AccessTokenError> {
        let AccessTokens { client, meter, .. } = &*self.central;
        let given = match self.kind {
            TokenKind::AccessToken => {
                self.consume_quota(CallKind::Usual).await?;
                let given = client.stable_token(&self.app, Endpoint::StableToken).await?;
                // Where another system had the token replaced, asking is enough. Forcing is for a token that WeChat
                // gives out and does not take.
                if is(&given.value, self.dead.as_ref()) {
                    self.consume_quota(CallKind::Forced).await?;
                    client.stable_token(&self.app, Endpoint::ForcedToken).await?
                } else {
                    given
                }
            }
            TokenKind::JsapiTicket => {
                let token = self.central.token(&self.app).await?;
                self.consume_quota(CallKind::Usual).await?;
                match client.jsapi_ticket(&self.app, &token).await {
                    Err(error) if error.class() == Class::RenewToken => {
                        let other = self.central.token_after(&self.app, &token).await?;
                        self.consume_quota(CallKind::Usual).await?;
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
    async fn consume_quota(&self, call: CallKind) -> Result<(), AccessTokenError> {
        let now = clock::now();
        let counted = match self.central.shared.consume_quota(&self.keys, call, now).await {
            Ok(counted) => counted,
            Err(_) => self.slot.lock().tally.consume(call, now),
        };
        match counted {
            Some(today) => {
                self.central.meter.spent(self.app.appid.as_str(), self.kind.as_str(), call.as_str(), today);
                Ok(())
            }
            None => Err(AccessTokenError::Spent),
        }
    }

    /// Remembers how it ended, and says so once.
    pub(super) fn finish(&self, outcome: &Outcome) {
        let now = Instant::now();
        let (appid, kind) = (self.app.appid.as_str(), self.kind.as_str());
        let mut state = self.slot.lock();
        state.flight = None;
        match outcome {
            Ok(held) => {
                state.held = Some(held.clone());
                state.rest = None;
                state.tally.reset_failures();
            }
            Err(error) => {
                self.central.meter.failed(kind, error.metrics_class(), error.label());
                let pause = match error {
                    AccessTokenError::Wechat(wechat) => state.tally.failed(wechat),
                    other => other.retry_after(),
                };
                // Longer where the instances together have failed more often.
                let known = state.rest.take().filter(|(until, _)| *until > now + pause);
                state.rest = Some(known.unwrap_or_else(|| (now + pause, error.label().to_owned())));
                let old = state.alive(self.dead.as_ref(), now).is_some();
                drop(state);
                match error {
                    AccessTokenError::Resting { .. } => {}
                    // The token's own search has said it.
                    AccessTokenError::Wechat(wechat)
                        if self.kind == TokenKind::JsapiTicket && wechat.endpoint() != Endpoint::JsapiTicket => {}
                    AccessTokenError::Wechat(wechat) if wechat.class() == Class::Configuration => {
                        tracing::error!(appid, token = kind, cached = old, %error, "WeChat gives no central token: this needs the operator");
                    }
                    _ => tracing::warn!(appid, token = kind, cached = old, %error, "WeChat gives no central token"),
                }
            }
        }
    }
}

/// Whether the error says something of WeChat, and not of this instance alone.
fn concerns_wechat(error: &WechatError) -> bool {
    !matches!(error, WechatError::BreakerOpen { .. } | WechatError::TooManyCalls { .. })
}
