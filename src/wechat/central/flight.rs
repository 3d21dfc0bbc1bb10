//! One search for a value: Redis, the lease, WeChat, and how it ended.

use super::shared::{self, Keys, Seen};
use super::slot::{Held, Outcome, Slot, is};
use super::tally::{self, Call};
use super::{Central, CentralFault, Kind};
use crate::clock;
use crate::secret::Secret;
use crate::store::Lease;
use crate::wechat::Endpoint;
use crate::wechat::application::Application;
use crate::wechat::errcode::Class;
use crate::wechat::fault::Fault;
use crate::wechat::stable_token::Given;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// No value lives longer, whatever Redis says.
pub const LONGEST_LIFE: Duration = Duration::from_secs(7_200);

/// How long an instance that has just started waits for its first connection to Redis, so as not to ask WeChat for what
/// the others have. Once there was one, nobody waits for it.
const FIRST_CONNECTION: Duration = Duration::from_secs(1);

/// The pause between two looks at what another instance is about to write, at first and at most.
const LOOKS: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(300));

/// One search for a value.
pub struct Flight {
    pub central: Arc<Central>,
    pub app: Application,
    pub kind: Kind,
    pub keys: Keys,
    pub slot: Arc<Slot>,
    /// The value that WeChat would not take, where that is why.
    pub dead: Option<Secret>,
}

impl Flight {
    pub async fn fly(&self) -> Outcome {
        let Central { shared, settings, .. } = &*self.central;
        let deadline = Instant::now() + settings.patience * 2;
        if shared.store().is_configured() {
            let _ = timeout(FIRST_CONNECTION, shared.store().connected_since(0)).await;
        }
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
                        self.slot.lock().rest = Some((Instant::now() + pause, wechat.label().to_owned()));
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
            Err(_) => self.slot.lock().tally.spend(call, now),
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
    pub fn land(&self, outcome: &Outcome) {
        let now = Instant::now();
        let (appid, kind) = (self.app.appid.as_str(), self.kind.as_str());
        let mut state = self.slot.lock();
        state.flight = None;
        match outcome {
            Ok(held) => {
                state.held = Some(held.clone());
                state.rest = None;
                state.tally.well();
            }
            Err(fault) => {
                self.central.meter.failed(kind, fault.metrics_class(), fault.label());
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
                    // The token's own search has said it.
                    CentralFault::Wechat(wechat)
                        if self.kind == Kind::JsapiTicket && wechat.endpoint() != Endpoint::JsapiTicket => {}
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
