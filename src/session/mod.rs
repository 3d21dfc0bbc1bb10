//! Sessions: issued after a login, verified at each check, renewed while in use, and revoked.
//!
//! A [`LiveSession`] exists only for a token whose signature, claims and times are valid and whose session is not revoked.
//! Identity headers of a user are made of nothing else. This module does not know HTTP, WeChat or the policy.

pub(crate) mod cache;
mod cached_session;
pub(crate) mod claims;
pub(crate) mod ending;
pub(crate) mod error;
pub(crate) mod journal;
pub mod jws;
pub mod keys;
pub(crate) mod profiles;
pub mod revocation;
pub mod revocations;
pub(crate) mod settings;
mod sync_status;
mod table;
pub mod token;

use crate::app_name::AppName;
use crate::clock::Timestamp;
use crate::identity::IdentityHeaders;
use crate::login_method::LoginMethod;
use crate::session_id::SessionId;
use crate::telemetry::TokenMetrics;
use cache::Cache;
use cached_session::{CachedSession, NextToken, TokenAudience};
pub use claims::{Claims, Grant};
pub use error::SessionError;
pub(crate) use error::{IssueError, TokenError};
use keys::KeyRing;
use parking_lot::Mutex;
use profiles::Profiles;
use revocations::Revocations;
pub use settings::Settings;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use token::Unverified;

/// The sessions of this instance: keys, verified tokens and revocations.
pub struct Sessions {
    /// The signing keys.
    pub keys: KeyRing,
    /// The revocations.
    pub revocations: Revocations,
    /// The last known profiles.
    pub profiles: Profiles,
    cache: Cache,
    /// The audiences of the cached tokens, which share them.
    audiences: Mutex<Vec<Arc<TokenAudience>>>,
    tokens: TokenMetrics,
}

/// A session that was used recently. It may have ended since.
#[derive(Clone)]
pub struct RecentSession {
    session: Arc<CachedSession>,
    used_at: Timestamp,
}

/// A session that is valid now. Only [`Sessions::verify`] makes one.
#[derive(Clone)]
pub struct LiveSession {
    session: Arc<CachedSession>,
    state: TokenState,
}

/// How much of its lifetime a token has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenState {
    /// More than a third.
    Fresh,
    /// Less than a third: a check may renew it.
    Expiring,
    /// Nothing. The session lives on because this instance knows the revocations of all instances.
    Expired,
}

/// A new token.
#[derive(Clone, Debug)]
pub struct Issued {
    /// The signed token.
    pub token: String,
    /// The session id.
    pub sid: SessionId,
    /// When the token expires.
    pub expires: Timestamp,
    /// When the session ends. The cookie expires then.
    pub session_expires: Timestamp,
}

impl Sessions {
    /// Sessions with these keys and revocations. `tokens` counts the results of the token cache.
    pub fn new(keys: KeyRing, revocations: Revocations, tokens: TokenMetrics) -> Self {
        Self {
            keys,
            revocations,
            profiles: Profiles::default(),
            cache: Cache::default(),
            audiences: Mutex::default(),
            tokens,
        }
    }

    /// Verifies `token` for the application of `settings` at `now`. Calls `admit` before it checks a signature.
    ///
    /// # Errors
    /// [`SessionError`] says why it is not a live session.
    pub fn verify(
        &self,
        token: &str,
        settings: &Settings,
        now: Timestamp,
        admit: impl FnOnce() -> Result<(), Duration>,
    ) -> Result<LiveSession, SessionError> {
        let session = self.lookup(token, settings, now, admit)?;
        let state = session.state(settings, now)?;
        if self.revocations.is_revoked(&*session, &session.revocations_seen) {
            return Err(SessionError::Revoked);
        }
        if state == TokenState::Expired && !self.revocations.sync_status().is_fresh() {
            // Another instance may have revoked it, and this one would not know. So the token is not accepted past `exp`.
            return Err(SessionError::Expired);
        }
        session.touch(now);
        Ok(LiveSession { session, state })
    }

    fn lookup(
        &self,
        token: &str,
        settings: &Settings,
        now: Timestamp,
        admit: impl FnOnce() -> Result<(), Duration>,
    ) -> Result<Arc<CachedSession>, SessionError> {
        if token.len() > token::MAX_BYTES {
            self.tokens.rejected_unverified.inc();
            return Err(SessionError::Token(TokenError::Malformed));
        }
        let keys = self.keys.current();
        let key = self.cache.fingerprint(keys.generation(), token);
        match key.and_then(|key| self.cache.get(&key, now)) {
            Some(Ok(session)) if session.audience.is_of(settings) => {
                self.tokens.cache_hits.inc();
                return Ok(session);
            }
            Some(Err(error)) => {
                self.tokens.cache_rejected_hits.inc();
                return Err(SessionError::Token(error));
            }
            // Of another application: the claims are checked without a signature check.
            Some(Ok(_)) | None => {}
        }
        let unverified = Unverified::read(token, &keys, settings, now).map_err(|error| {
            self.tokens.rejected_unverified.inc();
            SessionError::Token(error)
        })?;
        admit().map_err(SessionError::Busy)?;
        self.tokens.verifications.inc();
        match unverified.verify() {
            Ok(token) => {
                let session = Arc::new(CachedSession::new(&token, self.audience(settings)));
                if let Some(key) = key {
                    self.cache.insert(key, Arc::clone(&session));
                }
                Ok(session)
            }
            Err(error) => {
                if let Some(key) = key {
                    self.cache.insert_rejection(key, error, now);
                }
                Err(SessionError::Token(error))
            }
        }
    }

    /// Issues the first token of a new session.
    pub fn begin(&self, grant: Grant, settings: &Settings, now: Timestamp) -> Result<Issued, IssueError> {
        self.issue(&Claims::first(grant, SessionId::random(), settings, now), settings, now)
    }

    /// Issues the next token of a live session. Requests within a third of its lifetime get the same token.
    ///
    /// # Errors
    /// [`IssueError`]; also if the session has ended.
    pub fn renew(&self, live: &LiveSession, settings: &Settings, now: Timestamp) -> Result<Issued, IssueError> {
        let claims = live.claims().next(settings, now).ok_or(IssueError)?;
        let claims = self.profiles.apply(claims);
        let mut next = live.session.next.lock();
        if let Some(NextToken { issued, token }) = next.as_deref()
            && *issued <= now
            && now.since(*issued) < settings.token_lifetime / 3
        {
            return Ok(Issued {
                token: token.clone(),
                sid: claims.sid,
                expires: (*issued + settings.token_lifetime).min(Timestamp(claims.session_exp)),
                session_expires: Timestamp(claims.session_exp),
            });
        }
        let issued = self.issue(&claims, settings, now)?;
        *next = Some(Box::new(NextToken { issued: now, token: issued.token.clone() }));
        Ok(issued)
    }

    fn issue(&self, claims: &Claims, settings: &Settings, now: Timestamp) -> Result<Issued, IssueError> {
        let keys = self.keys.current();
        let key = keys.signing(now).ok_or(IssueError)?;
        let (token, verified) = token::issue(claims, key).map_err(|_| IssueError)?;
        // Cached at once: its first check must not count against the limit on unknown tokens, which another client at the
        // same address may have used up.
        if let Some(cache_key) = self.cache.fingerprint(keys.generation(), &token) {
            self.cache.insert(cache_key, Arc::new(CachedSession::new(&verified, self.audience(settings))));
        }
        Ok(Issued {
            token,
            sid: claims.sid,
            expires: Timestamp(claims.exp),
            session_expires: Timestamp(claims.session_exp),
        })
    }

    /// The audience of `settings`, which all its sessions share.
    fn audience(&self, settings: &Settings) -> Arc<TokenAudience> {
        let mut audiences = self.audiences.lock();
        if let Some(known) = audiences.iter().find(|audience| audience.is_of(settings)) {
            return Arc::clone(known);
        }
        // Audiences of an earlier configuration are dropped with their last session.
        audiences.retain(|audience| Arc::strong_count(audience) > 1);
        let audience = Arc::new(TokenAudience { issuer: settings.issuer.clone(), audience: settings.audience.clone() });
        audiences.push(Arc::clone(&audience));
        audience
    }

    /// Empties the token cache, because settings on which its entries depend have changed.
    pub fn settings_changed(&self) {
        self.cache.clear();
    }

    /// Takes at most `max` sessions that were used since they were last taken; each is taken about every five minutes.
    /// Reads the whole cache: do not call it on a thread that answers requests.
    pub fn take_recent(&self, max: usize) -> Vec<RecentSession> {
        let mut recent: HashMap<SessionId, RecentSession> = HashMap::new();
        for session in self.cache.sessions() {
            if recent.len() >= max {
                break;
            }
            if let Some(used_at) = session.take_last_used() {
                // A session may have two tokens at a time.
                let sid = session.sid;
                let later = recent.get(&sid).is_none_or(|known| known.used_at < used_at);
                if later {
                    recent.insert(sid, RecentSession { session, used_at });
                }
            }
        }
        recent.into_values().collect()
    }

    /// Drops sessions that no client has used for long. Reads the whole cache: do not call it on a thread that answers
    /// requests.
    pub fn sweep(&self, now: Timestamp) {
        self.cache.sweep(now);
    }

    /// The number of verified tokens in the cache.
    pub fn cached_count(&self) -> usize {
        self.cache.len()
    }
}

impl crate::seal::Sealer for Sessions {
    fn seal(&self, context: &str, plain: &[u8]) -> Option<String> {
        self.keys.seal(context, plain, crate::clock::now())
    }

    fn open(&self, context: &str, sealed: &str, max: usize) -> Option<Vec<u8>> {
        self.keys.open(context, sealed, max)
    }
}

impl RecentSession {
    /// The claims of its token.
    pub fn claims(&self) -> Claims {
        self.session.claims()
    }

    /// The name of its application.
    pub fn application(&self) -> &AppName {
        &self.session.audience.audience
    }

    /// The login method.
    pub fn flow(&self) -> LoginMethod {
        self.session.flow
    }

    /// When it was last used.
    pub fn used_at(&self) -> Timestamp {
        self.used_at
    }
}

impl LiveSession {
    /// The claims of its token.
    pub fn claims(&self) -> Claims {
        self.session.claims()
    }

    /// The text of its subject.
    pub fn subject(&self) -> &str {
        self.session.identity.subject()
    }

    /// The identity headers.
    pub fn identity(&self) -> IdentityHeaders {
        self.session.identity.clone()
    }

    /// How much of its lifetime the token has left.
    pub fn state(&self) -> TokenState {
        self.state
    }

    /// Whether a browser may be redirected to the renewal page now: at most once a minute, so that a browser that does not
    /// store the cookie does not loop.
    pub fn admit_renewal_redirect(&self, now: Timestamp) -> bool {
        const INTERVAL: u64 = 60;
        let last = self.session.renewal_redirected_at.load(Ordering::Relaxed);
        let admitted = now.0 >= last.saturating_add(INTERVAL);
        if admitted {
            self.session.renewal_redirected_at.store(now.0, Ordering::Relaxed);
        }
        admitted
    }
}

#[cfg(test)]
mod tests;
