//! One end for each login, whichever instance its callbacks come to.
//!
//! The instance that takes a flow's turn spends its code; every other waits for what comes of it. Progress lies in Redis
//! as long as the flow's cookie lives, sealed for that flow: a state is good once everywhere, and a dump holds no session.
//! While Redis is away an instance goes on alone: the sealed cookie still logs people in, and only a callback that comes
//! to two instances at once may need a second, silent login.

use super::attempt::{self, SetAside};
use super::error::LoginError;
use super::outcomes::{CodeAction, LoginOutcome, Progress};
use crate::random;
use crate::redis::scripts::{SETTLE_CALLBACK, TAKE_CALLBACK};
use crate::redis::{CallError, Redis};
use crate::seal::Sealer;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// The longest a sealed record is: a token and a location, or a return address, and room.
const MAX_RECORD: usize = 16_384;

/// How often to look whether another instance is done: from the one to the other, by chance.
const POLL_INTERVAL: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(80));

/// Logins as all instances know them.
pub struct CallbackLock {
    store: Redis,
    sealer: Arc<dyn Sealer>,
    /// The longest an exchange can take: so long a turn lasts, and so long others wait for it.
    timeout: Duration,
}

/// The right to spend a flow's code.
#[derive(Debug)]
pub struct Lock {
    owner: String,
}

/// What is known of a flow.
#[derive(Debug)]
pub enum Known {
    /// Nothing that would end it: spend the code.
    Mine(Lock),
    /// Another instance has ended it.
    Ended(Progress<LoginError>),
    /// Redis does not say: spend the code, without a promise that nobody else does.
    Alone(CallError),
}

impl CallbackLock {
    /// Logins shared by `store`, sealed by `sealer`; an exchange takes at most `patience`.
    pub fn new(store: Redis, sealer: Arc<dyn Sealer>, timeout: Duration) -> Self {
        Self { store, sealer, timeout }
    }

    /// Takes the turn for `code` of the flow of `state`, or waits until whoever has it is done.
    pub async fn acquire(&self, state: &str, code: &str) -> Known {
        let turn = Lock { owner: random::unique_name() };
        let deadline = Instant::now() + self.timeout;
        loop {
            let (progress, took) = match self.try_take(state, &turn).await {
                Ok(found) => found,
                Err(away) => return Known::Alone(away),
            };
            if let Some(progress) = progress.filter(|progress| !matches!(progress.next(code), CodeAction::Spend)) {
                if took {
                    let _ = self.release(state, &turn, None).await;
                }
                return Known::Ended(progress);
            }
            if took {
                return Known::Mine(turn);
            }
            if Instant::now() >= deadline {
                return Known::Alone(CallError::TimedOut);
            }
            sleep(POLL_INTERVAL.0 + (POLL_INTERVAL.1 - POLL_INTERVAL.0).mul_f64(fastrand::f64())).await;
        }
    }

    /// Tells the others what came of `turn`.
    ///
    /// # Errors
    /// [`Away`]: they find out for themselves.
    pub async fn release(
        &self,
        state: &str,
        turn: &Lock,
        progress: Option<&Progress<LoginError>>,
    ) -> Result<(), CallError> {
        let names = self.store.keys();
        let name = names.flow(state);
        let sealed = progress.and_then(|progress| {
            let plain = serde_json::to_vec(&Record { v: VERSION, progress }).ok()?;
            self.sealer.seal(name.as_str(), &plain)
        });
        let stands = progress.is_some_and(|progress| progress.entered().is_some());
        let mut script = SETTLE_CALLBACK.prepare_invoke();
        script.key(&name).key(names.turn(state));
        script
            .arg(&turn.owner)
            .arg(sealed.unwrap_or_default())
            .arg(milliseconds(attempt::LIFETIME))
            .arg(u8::from(stands));
        self.store.run_script::<u8>("release_login", &script).await.map(drop)
    }

    /// How the flow of `state` ended, if it ended well.
    pub async fn entered(&self, state: &str) -> Option<LoginOutcome> {
        let name = self.store.keys().flow(state);
        let sealed = self.store.get("read_login", &name, MAX_RECORD).await.ok()?;
        self.open(name.as_str(), &sealed?)?.entered().cloned()
    }

    /// Keeps a return address for all instances. While Redis is away only this one knows it.
    pub async fn set_aside(&self, entry: &SetAside) {
        let name = self.store.keys().return_to(&entry.state);
        let Some(sealed) = self.sealer.seal(name.as_str(), entry.return_to.as_bytes()) else { return };
        let mut command = redis::cmd("SET");
        command.arg(&name).arg(sealed).arg("PX").arg(milliseconds(attempt::LIFETIME));
        let _ = self.store.query::<()>("store_return_to", &command).await;
    }

    /// The return address of `state` that an instance has set aside.
    pub async fn return_to(&self, state: &str) -> Option<String> {
        let name = self.store.keys().return_to(state);
        let sealed = self.store.get("read_return_to", &name, MAX_RECORD).await.ok()?;
        String::from_utf8(self.sealer.open(name.as_str(), &sealed?, MAX_RECORD)?).ok()
    }

    async fn try_take(&self, state: &str, turn: &Lock) -> Result<(Option<Progress<LoginError>>, bool), CallError> {
        let names = self.store.keys();
        let name = names.flow(state);
        let mut script = TAKE_CALLBACK.prepare_invoke();
        script.key(&name).key(names.turn(state));
        script.arg(&turn.owner).arg(milliseconds(self.timeout)).arg(MAX_RECORD);
        let (sealed, took): (Option<String>, u8) = self.store.run_script("acquire_login", &script).await?;
        Ok((sealed.and_then(|sealed| self.open(name.as_str(), &sealed)), took == 1))
    }

    /// What does not open is not ours: as good as nothing.
    pub fn open(&self, name: &str, sealed: &str) -> Option<Progress<LoginError>> {
        let plain = self.sealer.open(name, sealed, MAX_RECORD)?;
        let record: Record<Progress<LoginError>> = serde_json::from_slice(&plain).ok()?;
        (record.v == VERSION).then(|| record.progress.bounded())
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The record's version.
const VERSION: u32 = 1;

/// Progress as Redis holds it, sealed.
#[derive(Serialize, Deserialize)]
struct Record<P> {
    v: u32,
    #[serde(flatten)]
    progress: P,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::login::error::Cause;
    use crate::session_id::SessionId;

    #[test]
    fn every_way_to_fail_comes_back_as_it_went_but_for_its_label() {
        let cause = Cause::of("40163");
        for error in [
            LoginError::CodeSpent(cause),
            LoginError::Unreachable(cause),
            LoginError::Configuration(cause),
            LoginError::Refused(cause),
            LoginError::Snapshot,
            LoginError::NotSubscribed,
            LoginError::NoUnionid,
            LoginError::MethodRemoved,
            LoginError::Internal,
        ] {
            let mut progress = Progress::default();
            progress.record("a code", &Err(error));
            let text = serde_json::to_string(&Record { v: VERSION, progress: &progress }).unwrap();
            assert!(!text.contains("a code"), "{text}");
            let back = serde_json::from_str::<Record<Progress<LoginError>>>(&text).unwrap().progress;
            let CodeAction::Failed(back) = back.next("a code") else { panic!("{text}") };
            assert_eq!((back.class(), back.to_string()), (error.class(), error.to_string()));
            assert!(matches!(back.label(), "elsewhere") || back.label() == error.label());
        }
    }

    #[test]
    fn a_session_comes_back_whole() {
        let entered = LoginOutcome {
            token: "token".into(),
            sid: SessionId::named("sid"),
            lifetime: Duration::from_secs(60),
            location: "https://shop.example.com/a".into(),
        };
        let mut progress = Progress::<LoginError>::default();
        progress.record("a code", &Ok(entered.clone()));
        let text = serde_json::to_string(&Record { v: VERSION, progress: &progress }).unwrap();
        let back = serde_json::from_str::<Record<Progress<LoginError>>>(&text).unwrap().progress;
        assert_eq!(back.entered(), Some(&entered));
    }
}
