//! The cache in front of the signature check.
//!
//! Keyed by SHA-256 of everything a verdict depends on: key-set generation, audience, the whole token. Nothing but this
//! cache is keyed by a token's bytes: ES256 signatures have twins. What may change after a token was verified
//! (revocation, time) is judged on every hit, outside. Refusals have a small cache of their own, which can never push
//! out a good entry.

use super::Session;
use super::token::TokenFault;
use aws_lc_rs::digest;
use std::sync::Arc;
use std::time::Duration;

/// A token's place in the cache.
pub type CacheKey = [u8; 32];

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
        }
    }
}

impl Cache {
    /// The key of `token` for `audience` under the key set's `generation`.
    #[must_use]
    pub fn key(generation: u64, issuer: &str, audience: &str, token: &str) -> CacheKey {
        let mut hash = digest::Context::new(&digest::SHA256);
        hash.update(&generation.to_be_bytes());
        // A NUL stands in neither origin nor name, so parts cannot slide into each other.
        for part in [issuer, "\0", audience, "\0", token] {
            hash.update(part.as_bytes());
        }
        let mut key = [0; 32];
        key.copy_from_slice(hash.finish().as_ref());
        key
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
