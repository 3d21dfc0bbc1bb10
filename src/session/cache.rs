//! The cache in front of the signature check.
//!
//! Keyed by a fingerprint of what a signature's verdict depends on: key-set generation and the whole token. For whom a
//! session is stands in it, and is judged by who asks; a refusal that is kept is a signature's, the same for all. Nothing
//! but this cache is keyed by a token's bytes: ES256 signatures have twins. What may change after a token was verified
//! (revocation, time) is judged on every hit, outside. Refusals have a small cache of their own, which can never push out
//! a good entry.

use super::cached_session::CachedSession;
use super::error::TokenError;
use crate::clock::Timestamp;
use crate::random;
use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use moka::policy::EvictionPolicy;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

/// Sessions cached at most, about 850 bytes each.
const MAX_SESSIONS: usize = 100_000;
/// Refusals cached at most.
const MAX_REFUSALS: usize = 20_000;
/// A refusal is forgotten after this; it only saves work.
const REFUSAL_TTL: Duration = Duration::from_secs(60);
/// A session that no client has shown for this long is forgotten; its token is verified when it comes again.
const SESSION_TTL: Duration = Duration::from_secs(3_600);

/// A token's fingerprint: its key in the cache.
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

/// Takes a fingerprint as its own hash: it is a secret function of the token, so no client chooses where it falls.
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
        // A fingerprint writes no bytes.
        bytes.iter().for_each(|byte| self.0 = self.0.rotate_left(8) ^ u64::from(*byte));
    }
}

type Lru<V> = moka::sync::Cache<CacheKey, V, BuildHasherDefault<FingerprintHasher>>;

/// Verified tokens and refused ones.
pub(crate) struct Cache {
    sessions: Lru<Arc<CachedSession>>,
    refusals: Lru<(TokenError, Timestamp)>,
    fingerprints: Option<LessSafeKey>,
}

/// A cache of `max` entries. Least recently used, not by frequency: what enters has been paid for by a signature, and a
/// new session must be known at its first check.
fn lru<V: Clone + Send + Sync + 'static>(max: usize) -> Lru<V> {
    let builder = moka::sync::Cache::builder().max_capacity(max as u64).eviction_policy(EvictionPolicy::lru());
    builder.build_with_hasher(BuildHasherDefault::default())
}

impl Default for Cache {
    fn default() -> Self {
        Self {
            sessions: lru(MAX_SESSIONS),
            refusals: lru(MAX_REFUSALS),
            fingerprints: UnboundKey::new(&AES_128_GCM, &random::bytes::<16>()).ok().map(LessSafeKey::new),
        }
    }
}

impl Cache {
    /// The place of `token` under the key set's `generation`; none where the cryptographic library fails, which for our
    /// lengths it does not, and nothing is remembered then.
    ///
    /// GMAC (NIST SP 800-38D) under a key that this process drew and never shows. As a hash it is universal: whoever
    /// chooses them, two different texts of our lengths have one fingerprint with a chance below 2^-119. It costs a fraction
    /// of SHA-256 where the processor has no instructions for that. That one nonce serves for many would be a error if
    /// fingerprints were ever shown; they do not leave this cache.
    pub(crate) fn fingerprint(&self, generation: u64, token: &str) -> Option<CacheKey> {
        let mut nonce = [0; 12];
        if let Some(end) = nonce.last_chunk_mut() {
            *end = generation.to_be_bytes();
        }
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = self.fingerprints.as_ref()?.seal_in_place_separate_tag(nonce, Aad::from(token), &mut []).ok()?;
        Some(<[u8; 16]>::try_from(tag.as_ref()).ok()?.into())
    }

    /// What is known of a token at `now`.
    pub(crate) fn get(&self, key: &CacheKey, now: Timestamp) -> Option<Result<Arc<CachedSession>, TokenError>> {
        match self.sessions.get(key) {
            Some(session) => Some(Ok(session)),
            None => {
                let (error, since) = self.refusals.get(key)?;
                (now.since(since) < REFUSAL_TTL).then_some(Err(error))
            }
        }
    }

    /// Remembers a verified token.
    pub(crate) fn insert(&self, key: CacheKey, session: Arc<CachedSession>) {
        self.sessions.insert(key, session);
    }

    /// Remembers a refusal that will not change, from `now` on.
    pub(crate) fn insert_rejection(&self, key: CacheKey, error: TokenError, now: Timestamp) {
        self.refusals.insert(key, (error, now));
    }

    /// Each session held now.
    pub(crate) fn sessions(&self) -> impl Iterator<Item = Arc<CachedSession>> {
        self.sessions.iter().map(|(_, session)| session)
    }

    /// Forgets sessions at rest.
    pub(crate) fn sweep(&self, now: Timestamp) {
        for (key, _) in self.sessions.iter().filter(|(_, session)| session.idle_for(now) > SESSION_TTL) {
            self.sessions.invalidate(&*key);
        }
    }

    /// The number of cached sessions. Does the cache's pending work first.
    pub(crate) fn len(&self) -> usize {
        self.sessions.run_pending_tasks();
        usize::try_from(self.sessions.entry_count()).unwrap_or(usize::MAX)
    }

    /// Forgets everything: the settings that verdicts rest on have changed.
    pub(crate) fn clear(&self) {
        self.sessions.invalidate_all();
        self.refusals.invalidate_all();
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
    fn a_flood_of_refusals_takes_no_place_from_a_session() {
        let (cache, known) = (Cache::default(), fingerprint());
        cache.insert(known, session());
        let refused = std::iter::repeat_with(fingerprint).take(3 * MAX_REFUSALS);
        let last = refused.inspect(|place| cache.insert_rejection(*place, TokenError::Forged, NOW)).last().unwrap();
        assert!(matches!(cache.get(&known, NOW), Some(Ok(_))));
        cache.refusals.run_pending_tasks();
        assert_eq!((cache.refusals.entry_count(), cache.len()), (MAX_REFUSALS as u64, 1));
        assert_eq!(cache.get(&last, NOW).map(|found| found.err()), Some(Some(TokenError::Forged)));
        assert!(cache.get(&last, NOW + REFUSAL_TTL).is_none());
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
    fn a_place_depends_on_the_key_set_the_whole_token_and_this_process() {
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
