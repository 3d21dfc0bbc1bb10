//! The cache in front of the signature check.
//!
//! Keyed by a fingerprint of what a signature's verdict depends on: key-set generation and the whole token. For whom a
//! session is stands in it, and is judged by who asks; a refusal that is kept is a signature's, the same for all. Nothing
//! but this cache is keyed by a token's bytes: ES256 signatures have twins. What may change after a token was verified
//! (revocation, time) is judged on every hit, outside. Refusals have a small cache of their own, which can never push out
//! a good entry.

use super::kept::Session;
use super::token::TokenFault;
use crate::clock::Timestamp;
use crate::random;
use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use std::sync::Arc;
use std::time::Duration;

/// A token's place in the cache.
pub type CacheKey = [u8; 16];

/// Sessions held at most, about 600 bytes each. 100,000 have room wherever their fingerprints fall: each sixteenth of the
/// cache is bounded by itself, and gets 6,250 of them give or take 80.
const MOST_SESSIONS: usize = 108_000;
/// Refusals held at most.
const MOST_REFUSALS: usize = 20_000;
/// Parts with a lock each. A look-up takes it for reading.
const SHARDS: usize = 16;
/// A refusal is forgotten after this; it only saves work.
const REFUSAL_TTL: Duration = Duration::from_secs(60);
/// A session that nobody has shown for this long is forgotten; its token is verified when it comes again.
const SESSION_REST: Duration = Duration::from_secs(3_600);

type Held<V> = quick_cache::sync::Cache<CacheKey, V, quick_cache::UnitWeighter, foldhash::fast::RandomState>;

/// Verified tokens and refused ones.
pub struct Cache {
    sessions: Held<Arc<Session>>,
    refusals: Held<(TokenFault, Timestamp)>,
    fingerprints: Option<LessSafeKey>,
}

/// A cache of so many entries.
fn held<V: Clone>(most: usize) -> Held<V> {
    let mut options = quick_cache::OptionsBuilder::new();
    options.shards(SHARDS).estimated_items_capacity(most).weight_capacity(most as u64).ghost_allocation(0.1);
    // It lacks neither of the two that it asks for.
    let options = options.build().unwrap_or_else(|fault| unreachable!("{fault}"));
    Held::with_options(options, quick_cache::UnitWeighter, <_>::default(), <_>::default())
}

impl Default for Cache {
    fn default() -> Self {
        Self {
            sessions: held(MOST_SESSIONS),
            refusals: held(MOST_REFUSALS),
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
    /// of SHA-256 where the processor has no instructions for that. That one nonce serves for many would be a fault if
    /// fingerprints were ever shown; they do not leave this cache.
    #[must_use]
    pub fn place(&self, generation: u64, token: &str) -> Option<CacheKey> {
        let mut nonce = [0; 12];
        if let Some(end) = nonce.last_chunk_mut() {
            *end = generation.to_be_bytes();
        }
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = self.fingerprints.as_ref()?.seal_in_place_separate_tag(nonce, Aad::from(token), &mut []).ok()?;
        tag.as_ref().try_into().ok()
    }

    /// What is known of a token at `now`.
    #[must_use]
    pub fn get(&self, key: &CacheKey, now: Timestamp) -> Option<Result<Arc<Session>, TokenFault>> {
        match self.sessions.get(key) {
            Some(session) => Some(Ok(session)),
            None => {
                let (fault, since) = self.refusals.get(key)?;
                (now.since(since) < REFUSAL_TTL).then_some(Err(fault))
            }
        }
    }

    /// Remembers a verified token.
    pub fn keep(&self, key: CacheKey, session: Arc<Session>) {
        self.sessions.insert(key, session);
    }

    /// Remembers a refusal that will not change, from `now` on.
    pub fn refuse(&self, key: CacheKey, fault: TokenFault, now: Timestamp) {
        self.refusals.insert(key, (fault, now));
    }

    /// Each session held now.
    pub fn sessions(&self) -> impl Iterator<Item = (CacheKey, Arc<Session>)> {
        self.sessions.iter()
    }

    /// Forgets sessions at rest. Nobody waits for a lock longer than one look takes.
    pub fn sweep(&self, now: Timestamp) {
        for (key, _) in self.sessions.iter().filter(|(_, session)| session.unused(now) > SESSION_REST) {
            self.sessions.remove(&key);
        }
    }

    /// Sessions held now.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Whether no session is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets everything: the settings that verdicts rest on have changed.
    pub fn clear(&self) {
        self.sessions.clear();
        self.refusals.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::super::kept::Site;
    use super::super::tests::claims;
    use super::super::token::VerifiedToken;
    use super::*;

    const NOW: Timestamp = Timestamp(1_800_000_000);

    fn session() -> Arc<Session> {
        let site = Site { issuer: "https://shop.example.com".into(), audience: "shop".into() };
        Arc::new(Session::new(&VerifiedToken::for_tests(claims(NOW)), Arc::new(site)))
    }

    #[test]
    fn a_hundred_thousand_sessions_are_held_and_not_many_more() {
        let (cache, session) = (Cache::default(), session());
        let places = || std::iter::repeat_with(random::bytes::<16>);
        let first: Vec<CacheKey> = places().take(100_000).collect();
        first.iter().for_each(|place| cache.keep(*place, Arc::clone(&session)));
        assert!(first.iter().all(|place| cache.get(place, NOW).is_some()));
        places().take(50_000).for_each(|place| cache.keep(place, Arc::clone(&session)));
        assert!(cache.len() <= MOST_SESSIONS, "{}", cache.len());
    }

    #[test]
    fn a_flood_of_refusals_takes_no_place_from_a_session_and_is_forgotten_after_a_minute() {
        let (cache, known) = (Cache::default(), random::bytes::<16>());
        cache.keep(known, session());
        let refused = std::iter::repeat_with(random::bytes::<16>).take(30_000);
        let last = refused.inspect(|place| cache.refuse(*place, TokenFault::Forged, NOW)).last().unwrap();
        assert!(matches!(cache.get(&known, NOW), Some(Ok(_))));
        assert!(cache.refusals.len() <= MOST_REFUSALS);
        assert_eq!(cache.get(&last, NOW).map(|found| found.err()), Some(Some(TokenFault::Forged)));
        assert!(cache.get(&last, NOW.plus(REFUSAL_TTL)).is_none());
    }

    #[test]
    fn a_session_that_nobody_shows_for_an_hour_is_forgotten() {
        let (cache, session) = (Cache::default(), session());
        let (rests, used) = (random::bytes::<16>(), random::bytes::<16>());
        let other = self::session();
        cache.keep(rests, session);
        cache.keep(used, Arc::clone(&other));
        cache.sweep(NOW.plus(SESSION_REST));
        assert_eq!(cache.len(), 2);
        other.used(NOW.plus(SESSION_REST));
        cache.sweep(NOW.plus(SESSION_REST + Duration::from_secs(1)));
        assert!(cache.get(&rests, NOW).is_none() && cache.get(&used, NOW).is_some());
    }

    #[test]
    fn a_place_depends_on_the_key_set_the_whole_token_and_this_process() {
        let cache = Cache::default();
        let place = |generation, token| cache.place(generation, token).unwrap();
        let known = place(1, "x.y.z");
        assert_eq!(known, place(1, "x.y.z"));
        for other in [
            place(2, "x.y.z"),
            place(1 << 56, "x.y.z"),
            place(1, "x.y.Z"),
            place(1, "x.y.z\0"),
            place(1, "x.y.z="),
            Cache::default().place(1, "x.y.z").unwrap(),
        ] {
            assert_ne!(known, other);
        }
    }
}
