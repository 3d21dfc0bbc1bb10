//! One owner at a time: a lease with an end, and a number that tells a former owner from the present one.
//!
//! A lease ends by itself when its owner dies. An owner that was only slow may wake up after that; so each lease comes
//! with a fence, a number that only grows, and a value is written only by the newest fence that was given out. The
//! number is at least Redis's clock in milliseconds: it grows even where Redis was emptied, or lost its last writes.

use super::scripts::{GET_FENCED, PROLONG_LEASE, PUT_FENCED, RELEASE_LEASE, TAKE_LEASE};
use super::{CallError, Key, Redis};
use crate::random;
use std::time::Duration;

/// How long a fence is remembered: longer than any value it guards.
const FENCE: Duration = Duration::from_secs(86_400);

/// The keys of one guarded value, all of one hash slot.
#[derive(Clone, Debug)]
pub struct Guarded {
    /// Whose turn it is.
    pub lock: Key,
    /// The newest fence.
    pub fence: Key,
    /// The value, behind the fence of who wrote it.
    pub value: Key,
}

/// A turn. Says nothing of whether it is over.
#[derive(Debug)]
pub struct Lease {
    owner: String,
    fence: String,
}

/// A sealed token is far shorter.
const MAX_VALUE: usize = 16_384;

impl Redis {
    /// Takes the lease for `time`; none where another holds it.
    ///
    /// # Errors
    /// [`Away`]. After [`Away::TimedOut`] it may have been taken, and ends by itself.
    pub async fn take_lease(&self, keys: &Guarded, time: Duration) -> Result<Option<Lease>, CallError> {
        let owner = random::state();
        let mut call = TAKE_LEASE.key(&keys.lock);
        call.key(&keys.fence).arg(&owner).arg(millis(time)).arg(millis(FENCE));
        let fence: Option<String> = self.run_script("acquire_lease", &call).await?;
        Ok(fence.map(|fence| Lease { owner, fence }))
    }

    /// Has the lease last for `time` from now; whether it still was this owner's.
    pub async fn prolong(&self, keys: &Guarded, lease: &Lease, time: Duration) -> Result<bool, CallError> {
        let mut call = PROLONG_LEASE.key(&keys.lock);
        call.arg(&lease.owner).arg(millis(time));
        self.run_script("extend_lease", &call).await
    }

    /// Ends the lease; whether it still was this owner's. Nobody else's is ended.
    pub async fn release(&self, keys: &Guarded, lease: &Lease) -> Result<bool, CallError> {
        let mut call = RELEASE_LEASE.key(&keys.lock);
        call.arg(&lease.owner);
        self.run_script("release_lease", &call).await
    }

    /// Writes the value for `lives`, unless another owner came after this one; whether it was written.
    pub async fn put_fenced(
        &self,
        keys: &Guarded,
        lease: &Lease,
        value: &str,
        lives: Duration,
    ) -> Result<bool, CallError> {
        let mut call = PUT_FENCED.key(&keys.value);
        call.key(&keys.fence).arg(&lease.fence).arg(value).arg(millis(lives)).arg(millis(FENCE));
        self.run_script("put_fenced", &call).await
    }

    /// The value and how long it lives. One without an end is none of ours.
    pub async fn guarded(&self, keys: &Guarded) -> Result<Option<(String, Duration)>, CallError> {
        let mut call = GET_FENCED.key(&keys.value);
        call.arg(MAX_VALUE);
        let (value, left): (Option<String>, i64) = self.run_script("get_fenced", &call).await?;
        let left = u64::try_from(left).ok().filter(|left| *left > 0).map(Duration::from_millis);
        let value = value.and_then(|value| value.split_once(':').map(|(_, value)| value.to_owned()));
        Ok(value.zip(left))
    }
}

/// At least one, as Redis takes no life of nothing.
fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX / 4).clamp(1, u64::MAX / 4)
}
