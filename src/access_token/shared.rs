//! What the instances share in Redis for one token: the sealed value, the lease, today's count of calls, and the back-off.

use super::TokenKind;
use super::quota::{self, CallKind};
use super::refresh::MAX_LIFETIME;
use crate::clock::Timestamp;
use crate::redis::scripts::{RECORD_FAILURE, SPEND_QUOTA};
use crate::redis::{CallError, Guarded, Key, Keys, Lease, Redis};
use crate::seal::Sealer;
use crate::secret::Secret;
use crate::wechat::AppId;
use crate::wechat::endpoints::stable_token::{MAX_LENGTH, is_token};
use std::sync::Arc;
use std::time::Duration;

/// The back-off's reason after a success: WeChat was asked recently, and another call returns the same token.
pub(super) const ASKED: &str = "asked";

/// The longest sealed text: base64 of a token and the seal.
const MAX_SEALED: usize = MAX_LENGTH * 4 / 3 + 100;

/// The lifetime of a day's count, until the day is over everywhere.
const COUNT_TTL: Duration = Duration::from_secs(2 * 86_400);

/// The keys of one token.
pub(super) struct TokenKeys {
    pub guarded: Guarded,
    rest: Key,
    failures: Key,
    apart: Key,
    names: Keys,
    appid: AppId,
    kind: TokenKind,
}

impl TokenKeys {
    pub(super) fn new(names: &Keys, appid: &AppId, kind: TokenKind) -> Self {
        let key = |what| names.token(appid.as_str(), kind.as_str(), what);
        let guarded = Guarded { lock: key("lock"), fence: key("fence"), value: key("value") };
        let (rest, failures, apart) = (key("rest"), key("failures"), key("apart"));
        Self { guarded, rest, failures, apart, names: names.clone(), appid: appid.clone(), kind }
    }

    fn count(&self, call: CallKind, now: Timestamp) -> Key {
        let what = format!("{}:{}", call.as_str(), quota::day(now));
        self.names.token(self.appid.as_str(), self.kind.as_str(), &what)
    }
}

/// The content of Redis.
pub(super) struct SharedState {
    /// The token and its remaining lifetime.
    pub value: Option<(Secret, Duration)>,
    /// The reason of the back-off, and its remaining time.
    pub backoff: Option<(String, Duration)>,
}

pub(super) struct Shared {
    store: Redis,
    sealer: Arc<dyn Sealer>,
    /// The shortest time between two refreshes.
    min_interval: Duration,
}

impl Shared {
    pub(super) fn new(store: Redis, sealer: Arc<dyn Sealer>, min_interval: Duration) -> Self {
        Self { store, sealer, min_interval }
    }

    pub(super) fn key_names(&self) -> &Keys {
        self.store.keys()
    }

    pub(super) fn store(&self) -> &Redis {
        &self.store
    }

    /// Reads Redis. A value that does not unseal or has no expiry is ignored.
    pub(super) async fn load(&self, keys: &TokenKeys) -> Result<SharedState, CallError> {
        let value = match self.store.guarded(&keys.guarded).await {
            // A value of another type under our key is ignored, and overwritten later.
            Err(CallError::Refused) => None,
            other => other?,
        };
        let value = value.and_then(|(sealed, ttl)| Some((self.open(keys, &sealed)?, ttl.min(MAX_LIFETIME))));
        let mut pipe = redis::pipe();
        pipe.cmd("GET").arg(&keys.rest).cmd("PTTL").arg(&keys.rest);
        let (reason, ttl): (Option<String>, i64) = self.store.pipe("token_backoff", &pipe).await?;
        let ttl = u64::try_from(ttl).ok().filter(|ttl| *ttl > 0).map(Duration::from_millis);
        let is_label = |reason: &String| {
            reason.len() <= 20 && reason.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
        };
        Ok(SharedState { value, backoff: reason.filter(is_label).zip(ttl.map(|ttl| ttl.min(quota::QUOTA_BACKOFF))) })
    }

    /// Writes the token, unless a later holder of the lease has written one. Returns whether it was written.
    pub(super) async fn put(
        &self,
        keys: &TokenKeys,
        lease: &Lease,
        value: &Secret,
        ttl: Duration,
    ) -> Result<bool, CallError> {
        let Some(sealed) = self.sealer.seal(context(keys), value.expose().as_bytes()) else {
            return Err(CallError::Refused);
        };
        let written = self.store.put_fenced(&keys.guarded, lease, &sealed, ttl).await?;
        if written {
            let mut pipe = redis::pipe();
            pipe.cmd("SET").arg(&keys.rest).arg(ASKED).arg("PX").arg(millis(self.min_interval)).ignore();
            pipe.cmd("DEL").arg(&keys.failures).ignore();
            let _ = self.store.pipe::<()>("token_asked", &pipe).await;
        }
        Ok(written)
    }

    /// Records a failure for all instances. Returns the back-off, which grows with each consecutive failure.
    pub(super) async fn record_failure(
        &self,
        keys: &TokenKeys,
        reason: &str,
        (first, max): (Duration, Duration),
    ) -> Result<Duration, CallError> {
        let mut call = RECORD_FAILURE.key(&keys.failures);
        call.key(&keys.rest).arg(reason).arg(millis(first)).arg(millis(max)).arg(millis(quota::FAILURE_WINDOW));
        // Redis is not trusted, so its answer is limited.
        self.store.run_script::<u64>("token_failed", &call).await.map(|pause| Duration::from_millis(pause).min(max))
    }

    /// Counts a call and returns today's count; `None` if the call is not allowed.
    pub(super) async fn consume_quota(
        &self,
        keys: &TokenKeys,
        call: CallKind,
        now: Timestamp,
    ) -> Result<Option<u64>, CallError> {
        let (max, interval) = call.limits();
        let mut spend = SPEND_QUOTA.key(keys.count(call, now));
        spend
            .key(&keys.apart)
            .arg(max)
            .arg(millis(COUNT_TTL))
            .arg(interval.as_millis().min(u128::from(u32::MAX)).to_string());
        let count: u64 = self.store.run_script("token_quota", &spend).await?;
        Ok(Some(count).filter(|count| *count > 0))
    }

    fn open(&self, keys: &TokenKeys, sealed: &str) -> Option<Secret> {
        let plain = self.sealer.open(context(keys), sealed, MAX_SEALED)?;
        let text = std::str::from_utf8(&plain).ok().filter(|text| is_token(text))?;
        Secret::parse(text, 1).ok()
    }
}

/// The seal's context is the key: a value copied to another key does not unseal.
fn context(keys: &TokenKeys) -> &str {
    keys.guarded.value.as_str()
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::from(u32::MAX)).max(1)
}
