//! The cache in front of the signature check.
//!
//! Keyed by a fingerprint of everything a verdict depends on: key-set generation, issuer, audience, the whole token.
//! Nothing but this cache is keyed by a token's bytes: ES256 signatures have twins. What may change after a token was verified
//! (revocation, time) is judged on every hit, outside. Refusals have a small cache of their own, which can never push
//! out a good entry.

use super::Session;
use super::token::TokenFault;
use crate::random;
use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use std::sync::Arc;
use std::time::Duration;

/// A token's place in the cache.
pub type CacheKey = [u8; 16];

/// Sessions held at most: about 1 KiB each.
const MOST_SESSIONS: u64 = 100_000;
/// Refusals held at most.
const MOST_REFUSALS: u64 = 20_000;
/// A refusal is forgotten after this; it only saves work.
const REFUSAL_TTL: Duration = Duration::from_secs(60);
/// A session's entry is made anew after this, whatever its token says.
const SESSION_TTL: Duration = Duration::from_secs(3_600);

/// Verified tokens and refused ones.
pub struct Cache {
    sessions: moka::sync::Cache<CacheKey, Arc<Session>, foldhash::fast::RandomState>,
    refusals: moka::sync::Cache<CacheKey, TokenFault, foldhash::fast::RandomState>,
    fingerprints: Option<LessSafeKey>,
}

impl Default for Cache {
    fn default() -> Self {
        let hasher = foldhash::fast::RandomState::default;
        Self {
            sessions: moka::sync::Cache::builder()
                .max_capacity(MOST_SESSIONS)
                .time_to_live(SESSION_TTL)
                .build_with_hasher(hasher()),
            refusals: moka::sync::Cache::builder()
                .max_capacity(MOST_REFUSALS)
                .time_to_live(REFUSAL_TTL)
                .build_with_hasher(hasher()),
            fingerprints: UnboundKey::new(&AES_128_GCM, &random::bytes::<16>()).ok().map(LessSafeKey::new),
        }
    }
}

impl Cache {
    /// The place of `token` for `issuer` and `audience` under the key set's `generation`; none where the cryptographic
    /// library fails, which for our lengths it does not, and nothing is remembered then.
    ///
    /// GMAC (NIST SP 800-38D) under a key that this process drew and never shows. As a hash it is universal: whoever
    /// chooses them, two different texts of our lengths have one fingerprint with a chance below 2^-119. It costs a fraction
    /// of SHA-256 where the processor has no instructions for that. That one nonce serves for all would be a fault if
    /// fingerprints were ever shown; they do not leave this cache.
    #[must_use]
    pub fn place(&self, generation: u64, issuer: &str, audience: &str, token: &str) -> Option<CacheKey> {
        let mut text = Vec::with_capacity(8 + issuer.len() + audience.len() + token.len() + 2);
        text.extend_from_slice(&generation.to_be_bytes());
        // A NUL stands in neither origin nor name, so parts cannot slide into each other.
        for part in [issuer, "\0", audience, "\0", token] {
            text.extend_from_slice(part.as_bytes());
        }
        let nonce = Nonce::assume_unique_for_key([0; 12]);
        let tag = self.fingerprints.as_ref()?.seal_in_place_separate_tag(nonce, Aad::from(text), &mut []).ok()?;
        tag.as_ref().try_into().ok()
    }

    /// What is known of a token.
    #[must_use]
    pub fn get(&self, key: &CacheKey) -> Option<Result<Arc<Session>, TokenFault>> {
        match self.sessions.get(key) {
            Some(session) => Some(Ok(session)),
            None => self.refusals.get(key).map(Err),
        }
    }

    /// Remembers a verified token.
    pub fn keep(&self, key: CacheKey, session: Arc<Session>) {
        self.sessions.insert(key, session);
    }

    /// Remembers a refusal that will not change.
    pub fn refuse(&self, key: CacheKey, fault: TokenFault) {
        self.refusals.insert(key, fault);
    }

    /// Each session held now.
    pub fn sessions(&self) -> impl Iterator<Item = (Arc<CacheKey>, Arc<Session>)> {
        self.sessions.iter()
    }

    /// Sessions held now, about.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.sessions.entry_count()
    }

    /// Whether no session is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets everything: the settings that verdicts rest on have changed.
    pub fn clear(&self) {
        self.sessions.invalidate_all();
        self.refusals.invalidate_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_depends_on_all_that_a_verdict_depends_on_and_on_this_process() {
        let cache = Cache::default();
        let place = |generation, issuer, audience, token| cache.place(generation, issuer, audience, token).unwrap();
        let known = place(1, "https://a.example", "shop", "x.y.z");
        assert_eq!(known, place(1, "https://a.example", "shop", "x.y.z"));
        for other in [
            place(2, "https://a.example", "shop", "x.y.z"),
            place(1, "https://b.example", "shop", "x.y.z"),
            place(1, "https://a.example", "blog", "x.y.z"),
            place(1, "https://a.example", "shop", "x.y.Z"),
            place(1, "https://a.example", "shop", "x.y.z\0"),
            place(1, "https://a.examples", "hop", "x.y.z"),
            place(1, "https://a.example", "sho", "px.y.z"),
            Cache::default().place(1, "https://a.example", "shop", "x.y.z").unwrap(),
        ] {
            assert_ne!(known, other);
        }
    }
}
