//! Leases with fencing: one instance at a time writes a value.
//!
//! A lease expires if its owner stops. An owner that was only slow may go on later, so each lease has a fence: a number that
//! grows. Only the newest fence can write the value. The fence is at least the clock of Redis in milliseconds, so it also
//! grows if Redis was emptied or lost its last writes.

use super::scripts::{GET_FENCED, PROLONG_LEASE, PUT_FENCED, RELEASE_LEASE, TAKE_LEASE};
use super::{CallError, Key, Redis};
use crate::random;
use std::time::Duration;

/// How long a fence is stored: longer than the value.
const FENCE_TTL: Duration = Duration::from_secs(86_400);

/// The keys of a fenced value, which share a hash slot.
#[derive(Clone, Debug)]
pub struct Guarded {
    /// The owner of the lease.
    pub lock: Key,
    /// The newest fence.
    pub fence: Key,
    /// The value, after the fence of its writer.
    pub value: Key,
}

/// A lease. It may have expired.
#[derive(Debug)]
pub struct Lease {
    owner: String,
    fence: String,
}

/// The length of the longest value.
const MAX_VALUE: usize = 16_384;

impl Redis {
    /// Takes the lease for `time`. None if another instance has it.
    ///
    /// # Errors
    /// [`CallError`]. After [`CallError::TimedOut`] the lease may have been taken; it expires.
    pub async fn take_lease(&self, keys: &Guarded, time: Duration) -> Result<Option<Lease>, CallError> {
        let owner = random::state();
        let mut call = TAKE_LEASE.key(&keys.lock);
        call.key(&keys.fence).arg(&owner).arg(millis(time)).arg(millis(FENCE_TTL));
        let fence: Option<String> = self.run_script("acquire_lease", &call).await?;
        Ok(fence.map(|fence| Lease { owner, fence }))
    }

    /// Extends the lease to `time` from now. Returns whether this owner still had it.
    pub async fn prolong(&self, keys: &Guarded, lease: &Lease, time: Duration) -> Result<bool, CallError> {
        let mut call = PROLONG_LEASE.key(&keys.lock);
        call.arg(&lease.owner).arg(millis(time));
        self.run_script("extend_lease", &call).await
    }

    /// Releases the lease. Returns whether this owner still had it.
    pub async fn release(&self, keys: &Guarded, lease: &Lease) -> Result<bool, CallError> {
        let mut call = RELEASE_LEASE.key(&keys.lock);
        call.arg(&lease.owner);
        self.run_script("release_lease", &call).await
    }

    /// Writes the value for `ttl`, unless a newer fence exists. Returns whether it was written.
    pub async fn put_fenced(
        &self,
        keys: &Guarded,
        lease: &Lease,
        value: &str,
        ttl: Duration,
    ) -> Result<bool, CallError> {
        let mut call = PUT_FENCED.key(&keys.value);
        call.key(&keys.fence).arg(&lease.fence).arg(value).arg(millis(ttl)).arg(millis(FENCE_TTL));
        self.run_script("put_fenced", &call).await
    }

    /// The value and its remaining life. A value without an expiry is not ours.
    pub async fn guarded(&self, keys: &Guarded) -> Result<Option<(String, Duration)>, CallError> {
        let mut call = GET_FENCED.key(&keys.value);
        call.arg(MAX_VALUE);
        let (value, left): (Option<String>, i64) = self.run_script("get_fenced", &call).await?;
        let left = u64::try_from(left).ok().filter(|left| *left > 0).map(Duration::from_millis);
        let value = value.and_then(|value| value.split_once(':').map(|(_, value)| value.to_owned()));
        Ok(value.zip(left))
    }
}

/// In milliseconds, at least one: Redis rejects an expiry of 0.
fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX / 4).clamp(1, u64::MAX / 4)
}
