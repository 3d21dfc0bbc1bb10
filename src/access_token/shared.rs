//! What the instances share of a central value, in Redis: the value sealed, whose turn it is, how many calls the day has
//! seen, and that WeChat failed a moment ago.

use super::TokenKind;
use super::quota::{self, CallKind};
use super::refresh::MAX_LIFE;
use crate::clock::Timestamp;
use crate::redis::scripts::{RECORD_FAILURE, SPEND_QUOTA};
use crate::redis::{CallError, Guarded, Key, Keys, Lease, Redis};
use crate::seal::Sealer;
use crate::secret::Secret;
use crate::wechat::AppId;
use crate::wechat::endpoints::stable_token::{MAX_LENGTH, is_token};
use std::sync::Arc;
use std::time::Duration;

/// The word in place of a error's: WeChat was asked a moment ago, and what it gave is what there is.
pub(super) const ASKED: &str = "asked";

/// The longest sealed text: base64 of a token and the seal around it.
const MAX_SEALED: usize = MAX_LENGTH * 4 / 3 + 100;

/// A day's count is kept until the day is over everywhere.
const DAY: Duration = Duration::from_secs(2 * 86_400);

/// The keys of one application's value.
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

/// What stands in Redis.
pub(super) struct SharedState {
    /// The value and how long it lives.
    pub value: Option<(Secret, Duration)>,
    /// Why WeChat is not to be asked, and for how long.
    pub rest: Option<(String, Duration)>,
}

pub(super) struct Shared {
    store: Redis,
    sealer: Arc<dyn Sealer>,
    /// How long it is told that WeChat was asked.
    asked: Duration,
}

impl Shared {
    pub(super) fn new(store: Redis, sealer: Arc<dyn Sealer>, asked: Duration) -> Self {
        Self { store, sealer, asked }
    }

    pub(super) fn names(&self) -> &Keys {
        self.store.keys()
    }

    pub(super) fn store(&self) -> &Redis {
        &self.store
    }

    /// What is there. A value that does not open, or has no end, is none.
    pub(super) async fn load(&self, keys: &TokenKeys) -> Result<SharedState, CallError> {
        let value = match self.store.guarded(&keys.guarded).await {
            // A value of another type under our key: as none, and the next one written replaces it.
            Err(CallError::Refused) => None,
            other => other?,
        };
        let value = value.and_then(|(sealed, lives)| Some((self.open(keys, &sealed)?, lives.min(MAX_LIFE))));
        let mut both = redis::pipe();
        both.cmd("GET").arg(&keys.rest).cmd("PTTL").arg(&keys.rest);
        let (why, left): (Option<String>, i64) = self.store.pipe("token_backoff", &both).await?;
        let left = u64::try_from(left).ok().filter(|left| *left > 0).map(Duration::from_millis);
        let known = |why: &String| {
            why.len() <= 20 && why.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
        };
        Ok(SharedState { value, rest: why.filter(known).zip(left.map(|left| left.min(quota::QUOTA_BACKOFF))) })
    }

    /// Writes the value, unless another owner came after this one; whether it was written.
    pub(super) async fn put(
        &self,
        keys: &TokenKeys,
        lease: &Lease,
        value: &Secret,
        lives: Duration,
    ) -> Result<bool, CallError> {
        let Some(sealed) = self.sealer.seal(context(keys), value.expose().as_bytes()) else {
            return Err(CallError::Refused);
        };
        let written = self.store.put_fenced(&keys.guarded, lease, &sealed, lives).await?;
        if written {
            let mut both = redis::pipe();
            both.cmd("SET").arg(&keys.rest).arg(ASKED).arg("PX").arg(millis(self.asked)).ignore();
            both.cmd("DEL").arg(&keys.failures).ignore();
            let _ = self.store.pipe::<()>("token_asked", &both).await;
        }
        Ok(written)
    }

    /// Tells all that WeChat failed: the pause, which grows with each failure in a row.
    pub(super) async fn failed(
        &self,
        keys: &TokenKeys,
        why: &str,
        first: Duration,
        most: Duration,
    ) -> Result<Duration, CallError> {
        let mut call = RECORD_FAILURE.key(&keys.failures);
        call.key(&keys.rest).arg(why).arg(millis(first)).arg(millis(most)).arg(millis(quota::IN_A_ROW));
        // Whatever answers there: an instance must not rest for ever by its word.
        self.store.run_script::<u64>("token_failed", &call).await.map(|pause| Duration::from_millis(pause).min(most))
    }

    /// Counts a call: how many there were today with it; none where it must not be made.
    pub(super) async fn consume_quota(
        &self,
        keys: &TokenKeys,
        call: CallKind,
        now: Timestamp,
    ) -> Result<Option<u64>, CallError> {
        let (most, apart) = call.bounds();
        let mut spend = SPEND_QUOTA.key(keys.count(call, now));
        spend.key(&keys.apart).arg(most).arg(millis(DAY)).arg(apart.as_millis().min(u128::from(u32::MAX)).to_string());
        let count: u64 = self.store.run_script("token_quota", &spend).await?;
        Ok(Some(count).filter(|count| *count > 0))
    }

    fn open(&self, keys: &TokenKeys, sealed: &str) -> Option<Secret> {
        let plain = self.sealer.open(context(keys), sealed, MAX_SEALED)?;
        let text = std::str::from_utf8(&plain).ok().filter(|text| is_token(text))?;
        Secret::parse(text, 1).ok()
    }
}

/// The key itself, which holds the schema's version: a value copied under another key does not open.
fn context(keys: &TokenKeys) -> &str {
    keys.guarded.value.as_str()
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::from(u32::MAX)).max(1)
}
