//! Runs each callback once.
//!
//! WeChat's browsers send a callback twice, with another code, or again after a slow response (docs/en/wechat.md, Repeated
//! callbacks). All callbacks with one `state` wait for one exchange of the code and share its outcome: within this instance
//! by a mutex per state, between instances by a lock in Redis that expires.
//!
//! An outcome is visible only to a browser whose attempt cookie matches the state, or whose live session it is. In Redis
//! it is sealed for its state and expires with the attempt. Without Redis, a callback that reaches two instances at once
//! may need a second, silent login.

use super::attempt;
use super::error::LoginError;
use crate::random;
use crate::redis::scripts::{SETTLE_CALLBACK, TAKE_CALLBACK};
use crate::redis::{CallError, Redis};
use crate::seal::Sealer;
use crate::session_id::SessionId;
use crate::telemetry::Metrics;
use aws_lc_rs::digest;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// How long memory keeps an outcome: longer than the slowest exchange.
const OUTCOME_TTL: Duration = Duration::from_secs(90);

/// The most states in memory, each with about 2 KiB.
const MAX_STATES: usize = 20_000;

/// The most codes that one attempt may try.
const MAX_CODES: usize = 3;

/// The longest sealed record: a token and a location, and some room.
const MAX_RECORD: usize = 16_384;

/// The version of the record in Redis.
const VERSION: u32 = 1;

/// The shortest and the longest time between two polls of the lock.
const POLL_INTERVAL: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(80));

/// A successful login.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoginOutcome {
    /// The session's first token.
    pub token: String,
    /// The session's id.
    pub sid: SessionId,
    /// The lifetime of the session cookie.
    pub lifetime: Duration,
    /// The return address.
    pub location: String,
}

/// The result of an exchange.
pub type LoginResult = Result<LoginOutcome, LoginError>;

/// The progress of one attempt.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Progress {
    outcome: Option<LoginOutcome>,
    /// Hashes of codes, with the error of each.
    failures: Vec<([u8; 32], LoginError)>,
}

impl Progress {
    /// The result for `code`, or `None` if the code is to be exchanged. A successful login is the result for every code.
    /// After [`MAX_CODES`] failures no further code is exchanged.
    pub fn result(&self, code: &str) -> Option<LoginResult> {
        if let Some(outcome) = &self.outcome {
            return Some(Ok(outcome.clone()));
        }
        let hash = hash(code);
        let failure = self.failures.iter().find(|(failed, _)| *failed == hash);
        failure.or_else(|| self.failures.get(MAX_CODES - 1)).map(|(_, error)| Err(*error))
    }

    /// How many codes failed.
    pub fn failures(&self) -> usize {
        self.failures.len()
    }

    /// The successful login.
    pub fn outcome(&self) -> Option<&LoginOutcome> {
        self.outcome.as_ref()
    }

    fn record(&mut self, code: &str, result: &LoginResult) {
        match result {
            Ok(outcome) => self.outcome = Some(outcome.clone()),
            Err(error) => self.failures.push((hash(code), *error)),
        }
    }
}

fn hash(code: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, code.as_bytes()).as_ref());
    hash
}

/// The progress of one attempt in memory, locked during an exchange.
type Slot = Arc<tokio::sync::Mutex<Progress>>;

/// The progress of recent attempts in this instance, by `state`.
#[derive(Default)]
pub struct RecentCallbacks {
    slots: Mutex<Slots>,
}

#[derive(Default)]
struct Slots {
    by_state: HashMap<String, Slot>,
    /// The oldest first.
    order: VecDeque<(Instant, String)>,
}

impl RecentCallbacks {
    /// The slot of `state`, which is created if it is absent.
    fn slot(&self, state: &str, now: Instant) -> Slot {
        let mut slots = self.slots.lock();
        while let Some((at, _)) = slots.order.front() {
            if now.saturating_duration_since(*at) < OUTCOME_TTL && slots.order.len() < MAX_STATES {
                break;
            }
            if let Some((_, oldest)) = slots.order.pop_front() {
                slots.by_state.remove(&oldest);
            }
        }
        if let Some(slot) = slots.by_state.get(state) {
            return Arc::clone(slot);
        }
        let slot = Slot::default();
        slots.by_state.insert(state.to_owned(), Arc::clone(&slot));
        slots.order.push_back((now, state.to_owned()));
        slot
    }

    /// How many attempts are in memory.
    pub(crate) fn len(&self) -> usize {
        self.slots.lock().by_state.len()
    }

    /// The return address of the attempt, if it is complete and created session `sid`.
    fn location(&self, state: &str, sid: SessionId) -> Option<String> {
        let slot = self.slots.lock().by_state.get(state).cloned()?;
        let progress = slot.try_lock().ok()?;
        progress.outcome().filter(|outcome| outcome.sid == sid).map(|outcome| outcome.location.clone())
    }

    /// How many callbacks with `state` are in progress.
    fn in_progress(&self, state: &str) -> usize {
        // The map has one reference itself.
        self.slots.lock().by_state.get(state).map_or(0, |slot| Arc::strong_count(slot) - 1)
    }
}

/// Runs each callback once.
pub struct Once {
    recent: Arc<RecentCallbacks>,
    store: Redis,
    sealer: Arc<dyn Sealer>,
    /// The longest time an exchange takes: the lock expires after it, and other instances wait for it.
    timeout: Duration,
    metrics: Arc<Metrics>,
}

/// The lock of an attempt in Redis.
enum Lock {
    /// This instance has the lock.
    Acquired {
        /// A random name, by which Redis knows the owner.
        owner: String,
    },
    /// Another instance has a result for the code.
    Finished(Progress),
    /// Redis does not answer: exchange the code without a lock.
    Unavailable(CallError),
}

impl Once {
    /// `timeout` is the longest time an exchange takes.
    pub fn new(
        recent: Arc<RecentCallbacks>,
        store: Redis,
        sealer: Arc<dyn Sealer>,
        timeout: Duration,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self { recent, store, sealer, timeout, metrics }
    }

    /// Runs `exchange`, unless there is a result for this state and code. Returns the result, and whether `exchange` ran.
    pub(crate) async fn run_once(
        &self,
        state: &str,
        code: &str,
        exchange: impl Future<Output = LoginResult>,
    ) -> (LoginResult, bool) {
        let slot = self.recent.slot(state, Instant::now());
        let mut progress = slot.lock().await;
        if let Some(result) = progress.result(code) {
            return (result, false);
        }
        let owner = match self.acquire(state, code).await {
            Lock::Acquired { owner } => Some(owner),
            Lock::Finished(elsewhere) => {
                *progress = elsewhere;
                if let Some(result) = progress.result(code) {
                    return (result, false);
                }
                None
            }
            Lock::Unavailable(error) => {
                self.metrics.logins.without_redis(error.as_str());
                None
            }
        };
        let result = exchange.await;
        progress.record(code, &result);
        if let Some(owner) = owner {
            // If this fails, the other instances wait until the lock expires.
            let _ = self.release(state, &owner, Some(&progress)).await;
        }
        (result, true)
    }

    /// How many callbacks with `state` are in progress at this instance.
    pub(crate) fn in_progress(&self, state: &str) -> usize {
        self.recent.in_progress(state)
    }

    /// The return address of the attempt with `state`, if it created session `sid` at any instance.
    pub(crate) async fn location(&self, state: &str, sid: SessionId) -> Option<String> {
        if let Some(location) = self.recent.location(state, sid) {
            return Some(location);
        }
        let key = self.store.keys().flow(state);
        let sealed = self.store.get("read_login", &key, MAX_RECORD).await.ok()??;
        let outcome = self.open(key.as_str(), &sealed)?.outcome?;
        (outcome.sid == sid).then_some(outcome.location)
    }

    /// Acquires the lock of `state`, or waits until another instance has a result for `code`.
    async fn acquire(&self, state: &str, code: &str) -> Lock {
        let owner = random::unique_name();
        let deadline = tokio::time::Instant::now() + self.timeout;
        loop {
            let (progress, acquired) = match self.try_acquire(state, &owner).await {
                Ok(found) => found,
                Err(error) => return Lock::Unavailable(error),
            };
            if let Some(progress) = progress.filter(|progress| progress.result(code).is_some()) {
                if acquired {
                    let _ = self.release(state, &owner, None).await;
                }
                return Lock::Finished(progress);
            }
            if acquired {
                return Lock::Acquired { owner };
            }
            if tokio::time::Instant::now() >= deadline {
                return Lock::Unavailable(CallError::TimedOut);
            }
            sleep(POLL_INTERVAL.0 + (POLL_INTERVAL.1 - POLL_INTERVAL.0).mul_f64(fastrand::f64())).await;
        }
    }

    async fn try_acquire(&self, state: &str, owner: &str) -> Result<(Option<Progress>, bool), CallError> {
        let keys = self.store.keys();
        let key = keys.flow(state);
        let mut script = TAKE_CALLBACK.prepare_invoke();
        script.key(&key).key(keys.turn(state));
        script.arg(owner).arg(milliseconds(self.timeout)).arg(MAX_RECORD);
        let (sealed, acquired): (Option<String>, u8) = self.store.run_script("acquire_login", &script).await?;
        Ok((sealed.and_then(|sealed| self.open(key.as_str(), &sealed)), acquired == 1))
    }

    /// Releases the lock and stores `progress` for the other instances.
    async fn release(&self, state: &str, owner: &str, progress: Option<&Progress>) -> Result<(), CallError> {
        let keys = self.store.keys();
        let key = keys.flow(state);
        let sealed = progress.and_then(|progress| {
            let record = serde_json::to_vec(&Record { v: VERSION, progress }).ok()?;
            self.sealer.seal(key.as_str(), &record)
        });
        // A successful login is stored even if the lock has expired.
        let store_always = progress.is_some_and(|progress| progress.outcome().is_some());
        let mut script = SETTLE_CALLBACK.prepare_invoke();
        script.key(&key).key(keys.turn(state));
        script
            .arg(owner)
            .arg(sealed.unwrap_or_default())
            .arg(milliseconds(attempt::LIFETIME))
            .arg(u8::from(store_always));
        self.store.run_script::<u8>("release_login", &script).await.map(drop)
    }

    /// Opens a record from Redis. `None` if it is not a record of ours.
    pub fn open(&self, key: &str, sealed: &str) -> Option<Progress> {
        let record = self.sealer.open(key, sealed, MAX_RECORD)?;
        let Record { v, mut progress } = serde_json::from_slice::<Record<Progress>>(&record).ok()?;
        progress.failures.truncate(MAX_CODES);
        (v == VERSION).then_some(progress)
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The progress in Redis, before it is sealed.
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

    const USED: LoginError = LoginError::CodeSpent(Cause::of("40163"));

    fn outcome() -> LoginOutcome {
        LoginOutcome {
            token: "token".into(),
            sid: SessionId::named("s"),
            lifetime: Duration::from_secs(60),
            location: "https://shop.example.com/a".into(),
        }
    }

    struct Unsealed;

    impl Sealer for Unsealed {
        fn seal(&self, _: &str, plain: &[u8]) -> Option<String> {
            String::from_utf8(plain.to_vec()).ok()
        }

        fn open(&self, _: &str, sealed: &str, _: usize) -> Option<Vec<u8>> {
            Some(sealed.into())
        }
    }

    fn once() -> Once {
        Once::new(Arc::default(), Redis::none(), Arc::new(Unsealed), Duration::from_secs(1), Arc::default())
    }

    #[test]
    fn a_failed_code_keeps_its_error_and_a_success_counts_for_every_code() {
        let mut progress = Progress::default();
        assert_eq!(progress.result("a"), None);
        progress.record("a", &Err(USED));
        assert_eq!((progress.result("a"), progress.result("b")), (Some(Err(USED)), None));
        progress.record("b", &Ok(outcome()));
        assert_eq!(progress.result("a"), Some(Ok(outcome())));
    }

    #[test]
    fn an_attempt_exchanges_three_codes_at_most() {
        let mut progress = Progress::default();
        for code in ["a", "b", "c"] {
            assert_eq!(progress.result(code), None);
            progress.record(code, &Err(USED));
        }
        assert_eq!(progress.result("d"), Some(Err(USED)));
    }

    #[tokio::test]
    async fn an_exchange_runs_once_per_code() {
        let once = once();
        let run = |code, result| once.run_once("state", code, std::future::ready(result));
        assert_eq!(run("a", Err(USED)).await, (Err(USED), true));
        assert_eq!(run("a", Ok(outcome())).await, (Err(USED), false));
        assert_eq!(run("b", Ok(outcome())).await, (Ok(outcome()), true));
        assert_eq!(run("b", Err(USED)).await, (Ok(outcome()), false));
    }

    #[test]
    fn outcomes_are_bounded_by_age_and_count() {
        let recent = RecentCallbacks::default();
        let now = Instant::now();
        let first = recent.slot("a", now);
        assert!(Arc::ptr_eq(&first, &recent.slot("a", now)));
        assert!(!Arc::ptr_eq(&first, &recent.slot("a", now + OUTCOME_TTL)));
        for number in 0..2 * MAX_STATES {
            let _ = recent.slot(&number.to_string(), now + OUTCOME_TTL);
        }
        assert!(recent.len() <= MAX_STATES);
    }

    #[test]
    fn callbacks_in_progress_are_counted() {
        let recent = RecentCallbacks::default();
        assert_eq!(recent.in_progress("a"), 0);
        let both = [recent.slot("a", Instant::now()), recent.slot("a", Instant::now())];
        assert_eq!(recent.in_progress("a"), 2);
        drop(both);
        assert_eq!(recent.in_progress("a"), 0);
    }

    #[tokio::test]
    async fn only_the_session_of_an_attempt_learns_its_return_address() {
        let recent = RecentCallbacks::default();
        recent.slot("a", Instant::now()).lock().await.record("code", &Ok(outcome()));
        assert_eq!(recent.location("a", SessionId::named("s")), Some(outcome().location));
        assert_eq!(recent.location("a", SessionId::named("other")), None);
        assert_eq!(recent.location("b", SessionId::named("s")), None);
    }

    #[test]
    fn a_record_keeps_every_error_but_its_label() {
        for error in [
            USED,
            LoginError::Unreachable(Cause::of("40163")),
            LoginError::Configuration(Cause::of("40163")),
            LoginError::Refused(Cause::of("40163")),
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
            let read = serde_json::from_str::<Record<Progress>>(&text).unwrap().progress;
            let Some(Err(read)) = read.result("a code") else { panic!("{text}") };
            assert_eq!((read.class(), read.to_string()), (error.class(), error.to_string()));
            assert!(matches!(read.label(), "elsewhere") || read.label() == error.label());
        }
    }

    #[test]
    fn a_record_keeps_an_outcome() {
        let mut progress = Progress::default();
        progress.record("a code", &Ok(outcome()));
        let text = serde_json::to_string(&Record { v: VERSION, progress: &progress }).unwrap();
        let read = serde_json::from_str::<Record<Progress>>(&text).unwrap().progress;
        assert_eq!(read.outcome(), Some(&outcome()));
    }
}
