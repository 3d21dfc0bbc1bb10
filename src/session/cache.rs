//! The token cache, which saves signature checks.
//!
//! The key is a fingerprint of the key set's generation and the whole token, because the result of a signature check depends
//! on both. Nothing else is keyed by the bytes of a token: an ES256 signature has a second valid form. The caller checks on
//! each hit what does not depend on the signature: audience, times and revocation. Rejected signatures have a small cache of
//! their own, so that they evict no session.

use super::cached_session::CachedSession;
use super::error::TokenError;
use crate::clock::Timestamp;
use crate::random;
use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use moka::policy::EvictionPolicy;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

/// The most sessions, of about 850 bytes each.
const MAX_SESSIONS: usize = 100_000;
/// The most rejected tokens.
const MAX_REJECTIONS: usize = 20_000;
/// How long a rejection stays.
const REJECTION_TTL: Duration = Duration::from_secs(60);
/// How long an unused session stays. After that, its token is verified again.
const SESSION_TTL: Duration = Duration::from_secs(3_600);

/// The fingerprint of a token, which is its key in the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CacheKey([u64; 2]);

impl From<[u8; 16]> for CacheKey {
    fn from(bytes: [u8; 16]) -> Self {
        let both = u128::from_ne_bytes(bytes);
        Self([both as u64, (both >> 64) as u64])
    }
}

impl Hash for CacheKey {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        hasher.write_u64(self.0[0]);
    }
}

/// Uses the fingerprint as the hash. It is a secret function of the token, so a client cannot choose it.
#[derive(Default)]
pub(crate) struct FingerprintHasher(u64);

impl Hasher for FingerprintHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write_u64(&mut self, half: u64) {
        self.0 = half;
    }

    fn write(&mut self, bytes: &[u8]) {
        // `CacheKey` does not call this.
        bytes.iter().for_each(|byte| self.0 = self.0.rotate_left(8) ^ u64::from(*byte));
    }
}

type Lru<V> = moka::sync::Cache<CacheKey, V, BuildHasherDefault<FingerprintHasher>>;

/// Verified and rejected tokens.
pub(crate) struct Cache {
    sessions: Lru<Arc<CachedSession>>,
    rejections: Lru<(TokenError, Timestamp)>,
    fingerprints: Option<LessSafeKey>,
}

/// A cache of `max` entries that evicts the least recently used one. Evicting by frequency would evict a new session before
/// its first check.
fn lru<V: Clone + Send + Sync + 'static>(max: usize) -> Lru<V> {
    let builder = moka::sync::Cache::builder().max_capacity(max as u64).eviction_policy(EvictionPolicy::lru());
    builder.build_with_hasher(BuildHasherDefault::default())
}

impl Default for Cache {
    fn default() -> Self {
        Self {
            sessions: lru(MAX_SESSIONS),
            rejections: lru(MAX_REJECTIONS),
            fingerprints: UnboundKey::new(&AES_128_GCM, &random::bytes::<16>()).ok().map(LessSafeKey::new),
        }
    }
}

impl Cache {
    /// The cache key of `token` for a `generation` of the key set. None if the cryptographic library fails, which it does not
    /// for these lengths; the token is not cached then.
    ///
    /// The fingerprint is a GMAC (NIST SP 800-38D) with a random key of this process. As a universal hash it gives two
    /// different tokens the same fingerprint with a probability below 2^-119, even if an attacker chooses them. It is much
    /// faster than SHA-256 on processors without SHA instructions. Many tokens share a nonce, which is safe only because no
    /// fingerprint leaves this cache.
    pub(crate) fn fingerprint(&self, generation: u64, token: &str) -> Option<CacheKey> {
        let mut nonce = [0; 12];
        if let Some(end) = nonce.last_chunk_mut() {
            *end = generation.to_be_bytes();
        }
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = self.fingerprints.as_ref()?.seal_in_place_separate_tag(nonce, Aad::from(token), &mut []).ok()?;
        Some(<[u8; 16]>::try_from(tag.as_ref()).ok()?.into())
    }

    /// The cached result for a token at `now`.
    pub(crate) fn get(&self, key: &CacheKey, now: Timestamp) -> Option<Result<Arc<CachedSession>, TokenError>> {
        match self.sessions.get(key) {
            Some(session) => Some(Ok(session)),
            None => {
                let (error, since) = self.rejections.get(key)?;
                (now.since(since) < REJECTION_TTL).then_some(Err(error))
            }
        }
    }

    /// Caches a verified token.
    pub(crate) fn insert(&self, key: CacheKey, session: Arc<CachedSession>) {
        self.sessions.insert(key, session);
    }

    /// Caches a rejected signature.
    pub(crate) fn insert_rejection(&self, key: CacheKey, error: TokenError, now: Timestamp) {
        self.rejections.insert(key, (error, now));
    }

    /// All sessions.
    pub(crate) fn sessions(&self) -> impl Iterator<Item = Arc<CachedSession>> {
        self.sessions.iter().map(|(_, session)| session)
    }

    /// Drops unused sessions.
    pub(crate) fn sweep(&self, now: Timestamp) {
        for (key, _) in self.sessions.iter().filter(|(_, session)| session.idle_for(now) > SESSION_TTL) {
            self.sessions.invalidate(&*key);
        }
    }

    /// The number of sessions, after the pending work of the cache.
    pub(crate) fn len(&self) -> usize {
        self.sessions.run_pending_tasks();
        usize::try_from(self.sessions.entry_count()).unwrap_or(usize::MAX)
    }

    /// Forgets everything: the settings that verdicts rest on have changed.
    pub(crate) fn clear(&self) {
        self.sessions.invalidate_all();
        self.rejections.invalidate_all();
    }
}

#[cfg(test)]
mod tests {
    use super::super::cached_session::TokenAudience;
    use super::super::tests::claims;
    use super::super::token::VerifiedToken;
    use super::*;

    const NOW: Timestamp = Timestamp(1_800_000_000);

    fn session() -> Arc<CachedSession> {
        let site = TokenAudience { issuer: "https://shop.example.com".into(), audience: "shop".parse().unwrap() };
        Arc::new(CachedSession::new(&VerifiedToken::for_tests(claims(NOW)), Arc::new(site)))
    }

    fn fingerprint() -> CacheKey {
        random::bytes::<16>().into()
    }

    #[test]
    fn a_hundred_thousand_sessions_are_cached_and_no_more() {
        let (cache, session) = (Cache::default(), session());
        let places = || std::iter::repeat_with(fingerprint);
        let first: Vec<CacheKey> = places().take(100_000).collect();
        first.iter().for_each(|place| cache.insert(*place, Arc::clone(&session)));
        assert!(first.iter().all(|place| cache.get(place, NOW).is_some()));
        // The newest is known at its first check, however full the cache is.
        for place in places().take(50_000) {
            cache.insert(place, Arc::clone(&session));
            assert!(cache.get(&place, NOW).is_some());
        }
        assert_eq!(cache.len(), MAX_SESSIONS);
    }

    #[test]
    fn the_session_that_rests_longest_makes_room() {
        let (cache, session) = (Cache::default(), session());
        let used = fingerprint();
        cache.insert(used, Arc::clone(&session));
        let rests = fingerprint();
        cache.insert(rests, Arc::clone(&session));
        for _ in 0..MAX_SESSIONS / 100 {
            (0..101).for_each(|_| cache.insert(fingerprint(), Arc::clone(&session)));
            assert!(cache.get(&used, NOW).is_some());
        }
        assert_eq!(cache.len(), MAX_SESSIONS);
        assert!(cache.get(&used, NOW).is_some() && cache.get(&rests, NOW).is_none());
    }

    #[test]
    fn a_flood_of_rejections_takes_no_place_from_a_session() {
        let (cache, known) = (Cache::default(), fingerprint());
        cache.insert(known, session());
        let refused = std::iter::repeat_with(fingerprint).take(3 * MAX_REJECTIONS);
        let last = refused.inspect(|place| cache.insert_rejection(*place, TokenError::Forged, NOW)).last().unwrap();
        assert!(matches!(cache.get(&known, NOW), Some(Ok(_))));
        cache.rejections.run_pending_tasks();
        assert_eq!((cache.rejections.entry_count(), cache.len()), (MAX_REJECTIONS as u64, 1));
        assert_eq!(cache.get(&last, NOW).map(|found| found.err()), Some(Some(TokenError::Forged)));
        assert!(cache.get(&last, NOW + REJECTION_TTL).is_none());
    }

    #[test]
    fn a_session_that_nobody_shows_for_an_hour_is_forgotten() {
        let (cache, session) = (Cache::default(), session());
        let (rests, used) = (fingerprint(), fingerprint());
        let other = self::session();
        cache.insert(rests, session);
        cache.insert(used, Arc::clone(&other));
        cache.sweep(NOW + SESSION_TTL);
        assert_eq!(cache.len(), 2);
        other.touch(NOW + SESSION_TTL);
        cache.sweep(NOW + SESSION_TTL + Duration::from_secs(1));
        assert!(cache.get(&rests, NOW).is_none() && cache.get(&used, NOW).is_some());
    }

    #[test]
    fn a_fingerprint_depends_on_keys_token_and_process() {
        let cache = Cache::default();
        let place = |generation, token| cache.fingerprint(generation, token).unwrap();
        let known = place(1, "x.y.z");
        assert_eq!(known, place(1, "x.y.z"));
        for other in [
            place(2, "x.y.z"),
            place(1 << 56, "x.y.z"),
            place(1, "x.y.Z"),
            place(1, "x.y.z\0"),
            place(1, "x.y.z="),
            Cache::default().fingerprint(1, "x.y.z").unwrap(),
        ] {
            assert_ne!(known, other);
        }
    }
}
