//! Sessions: issued after a login, verified on every check, renewed while they are used, revoked.
//!
//! Promises: a [`LiveSession`] exists only for a token whose signature, claims, times and revocations hold at this
//! moment; identity headers are written from nothing else. Refuses to know HTTP, WeChat and the policy.

pub(crate) mod cache;
mod cached_session;
pub(crate) mod ending;
pub(crate) mod journal;
pub mod keys;
pub(crate) mod profiles;
pub mod revocation;
pub mod revocations;
pub(crate) mod settings;
mod table;
pub mod token;

use crate::app_name::AppName;
use crate::clock::Timestamp;
use crate::identity::IdentityHeaders;
use crate::login_method::LoginMethod;
use crate::session_id::SessionId;
use crate::telemetry::Lookups;
use cache::Cache;
use cached_session::{CachedSession, Next, TokenAudience};
use keys::KeyRing;
use parking_lot::Mutex;
use profiles::Profiles;
use revocations::Revocations;
pub use settings::Settings;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
pub use token::Grant;
use token::{Claims, TokenError, Unverified};

/// All sessions of this instance: keys, verified tokens, revocations.
pub struct Sessions {
    /// The signing keys.
    pub keys: KeyRing,
    /// What was revoked.
    pub revocations: Revocations,
    /// What is known of people.
    pub profiles: Profiles,
    cache: Cache,
    /// The sites whose sessions are kept.
    sites: Mutex<Vec<Arc<TokenAudience>>>,
    lookups: Lookups,
}

/// A session that was used lately. Says nothing of whether it still counts.
#[derive(Clone)]
pub struct RecentSession {
    session: Arc<CachedSession>,
    at: Timestamp,
}

/// A session that counts at this moment. Only [`Sessions::verify`] makes one.
#[derive(Clone)]
pub struct LiveSession {
    session: Arc<CachedSession>,
    age: TokenState,
}

/// Where a token stands in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenState {
    /// Nothing to do.
    Fresh,
    /// In its last third: the next may go out with an answer.
    Ending,
    /// Past `exp`; alive because what was revoked is known here well enough.
    Ended,
}

/// Why a token is no live session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionError {
    /// Not a token of ours.
    Token(TokenError),
    /// The session is over, or its token is and renewal is not safe.
    Expired,
    /// Unused for longer than the idle limit.
    Idle,
    /// Revoked.
    Revoked,
    /// The address has shown too many unseen tokens; again after this.
    Busy(Duration),
}

/// A token just issued.
#[derive(Clone, Debug)]
pub struct Issued {
    /// The signed token.
    pub token: String,
    /// The session's id.
    pub sid: SessionId,
    /// When this token ends.
    pub expires: Timestamp,
    /// When the session ends: the cookie's life.
    pub session_expires: Timestamp,
}

/// A token could not be signed: no key, or the cryptographic library refused. Ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no token could be signed")]
pub struct IssueError;

impl Sessions {
    /// Sessions with these keys and revocations; how look-ups go is counted in `lookups`.
    pub fn new(keys: KeyRing, revocations: Revocations, lookups: Lookups) -> Self {
        Self {
            keys,
            revocations,
            profiles: Profiles::default(),
            cache: Cache::default(),
            sites: Mutex::default(),
            lookups,
        }
    }

    /// Judges `token` for the application of `settings` at `now`. `admit` is asked before a signature is checked.
    ///
    /// # Errors
    /// [`Refusal`] says why it is no session.
    pub fn verify(
        &self,
        token: &str,
        settings: &Settings,
        now: Timestamp,
        admit: impl FnOnce() -> Result<(), Duration>,
    ) -> Result<LiveSession, SessionError> {
        let session = self.lookup(token, settings, now, admit)?;
        let age = session.state(settings, now)?;
        if self.revocations.is_revoked(&*session, &session.revocations_seen) {
            return Err(SessionError::Revoked);
        }
        if age == TokenState::Ended && !self.revocations.sync_status().is_fresh() {
            // Others may have revoked it, and this instance would not know: the token's end is strict then.
            return Err(SessionError::Expired);
        }
        session.touch(now);
        Ok(LiveSession { session, age })
    }

    fn lookup(
        &self,
        token: &str,
        settings: &Settings,
        now: Timestamp,
        admit: impl FnOnce() -> Result<(), Duration>,
    ) -> Result<Arc<CachedSession>, SessionError> {
        if token.len() > token::MAX_BYTES {
            self.lookups.refused_cheaply.inc();
            return Err(SessionError::Token(TokenError::Malformed));
        }
        let keys = self.keys.current();
        let place = self.cache.fingerprint(keys.generation(), token);
        match place.and_then(|place| self.cache.get(&place, now)) {
            Some(Ok(session)) if session.site.is_of(settings) => {
                self.lookups.hits.inc();
                return Ok(session);
            }
            Some(Err(error)) => {
                self.lookups.refused_hits.inc();
                return Err(SessionError::Token(error));
            }
            // Another application's: what is wrong with it here is said without a signature.
            Some(Ok(_)) | None => {}
        }
        let unverified = Unverified::read(token, &keys, settings, now).map_err(|error| {
            self.lookups.refused_cheaply.inc();
            SessionError::Token(error)
        })?;
        admit().map_err(SessionError::Busy)?;
        self.lookups.verified.inc();
        match unverified.verify() {
            Ok(token) => {
                let session = Arc::new(CachedSession::new(&token, self.site(settings)));
                if let Some(place) = place {
                    self.cache.insert(place, Arc::clone(&session));
                }
                Ok(session)
            }
            Err(error) => {
                if let Some(place) = place {
                    self.cache.insert_rejection(place, error, now);
                }
                Err(SessionError::Token(error))
            }
        }
    }

    /// Issues the first token of a new session.
    pub fn begin(&self, grant: Grant, settings: &Settings, now: Timestamp) -> Result<Issued, IssueError> {
        self.issue(&Claims::first(grant, SessionId::random(), settings, now), settings, now)
    }

    /// The next token of a live session, the same one for all who ask within a third of its life.
    ///
    /// # Errors
    /// [`IssueError`]; also when nothing of the session is left.
    pub fn renew(&self, live: &LiveSession, settings: &Settings, now: Timestamp) -> Result<Issued, IssueError> {
        let claims = live.claims().next(settings, now).ok_or(IssueError)?;
        let claims = self.profiles.apply(claims);
        let mut next = live.session.next.lock();
        if let Some(Next { issued, token }) = next.as_deref()
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
        *next = Some(Box::new(Next { issued: now, token: issued.token.clone() }));
        Ok(issued)
    }

    fn issue(&self, claims: &Claims, settings: &Settings, now: Timestamp) -> Result<Issued, IssueError> {
        let keys = self.keys.current();
        let key = keys.signing(now).ok_or(IssueError)?;
        let (token, verified) = token::issue(claims, key).map_err(|_| IssueError)?;
        // Known from its first check on: it must not need a budget that a neighbour's forged tokens have spent.
        if let Some(place) = self.cache.fingerprint(keys.generation(), &token) {
            self.cache.insert(place, Arc::new(CachedSession::new(&verified, self.site(settings))));
        }
        Ok(Issued {
            token,
            sid: claims.sid,
            expires: Timestamp(claims.exp),
            session_expires: Timestamp(claims.session_exp),
        })
    }

    /// The site that `settings` describe, of which there is one however many sessions it has.
    fn site(&self, settings: &Settings) -> Arc<TokenAudience> {
        let mut sites = self.sites.lock();
        if let Some(known) = sites.iter().find(|site| site.is_of(settings)) {
            return Arc::clone(known);
        }
        // Those of a former configuration go with their last session.
        sites.retain(|site| Arc::strong_count(site) > 1);
        let site = Arc::new(TokenAudience { issuer: settings.issuer.clone(), audience: settings.audience.clone() });
        sites.push(Arc::clone(&site));
        site
    }

    /// Forgets verdicts: the settings that they rest on have changed.
    pub fn settings_changed(&self) {
        self.cache.clear();
    }

    /// Sessions that were used since they were last told of, `most` at most: each about every five minutes. Walks the
    /// whole cache: not for a thread that answers.
    pub fn seen(&self, most: usize) -> Vec<RecentSession> {
        let mut told: HashMap<SessionId, RecentSession> = HashMap::new();
        for session in self.cache.sessions() {
            if told.len() >= most {
                break;
            }
            if let Some(at) = session.take_last_seen() {
                // A session may have two tokens at a time.
                let sid = session.sid;
                let later = told.get(&sid).is_none_or(|known| known.at < at);
                if later {
                    told.insert(sid, RecentSession { session, at });
                }
            }
        }
        told.into_values().collect()
    }

    /// Forgets sessions that nobody has shown for long. Walks the whole cache: not for a thread that answers.
    pub fn sweep(&self, now: Timestamp) {
        self.cache.sweep(now);
    }

    /// Verified tokens held.
    pub fn cached_count(&self) -> usize {
        self.cache.len()
    }
}

impl crate::seal::Sealer for Sessions {
    fn seal(&self, context: &str, plain: &[u8]) -> Option<String> {
        self.keys.seal(context, plain, crate::clock::now())
    }

    fn open(&self, context: &str, sealed: &str, most: usize) -> Option<Vec<u8>> {
        self.keys.open(context, sealed, most)
    }
}

impl RecentSession {
    /// What its token says.
    pub fn claims(&self) -> Claims {
        self.session.claims()
    }

    /// For which application it is.
    pub fn application(&self) -> &AppName {
        &self.session.site.audience
    }

    /// By which flow its person logged in.
    pub fn flow(&self) -> LoginMethod {
        self.session.flow
    }

    /// When it was used.
    pub fn at(&self) -> Timestamp {
        self.at
    }
}

impl LiveSession {
    /// What its token says.
    pub fn claims(&self) -> Claims {
        self.session.claims()
    }

    /// Whose it is.
    pub fn subject(&self) -> &str {
        self.session.identity.subject()
    }

    /// What the identity headers say.
    pub fn identity(&self) -> IdentityHeaders {
        self.session.identity.clone()
    }

    /// Where its token stands.
    pub fn state(&self) -> TokenState {
        self.age
    }

    /// Whether a browser may be sent to the renewal page now: once a minute at most, so that one whose cookie does
    /// not stick is not sent round for ever.
    pub fn may_be_sent_to_renew(&self, now: Timestamp) -> bool {
        const AGAIN_AFTER: u64 = 60;
        let last = self.session.sent_to_renew.load(Ordering::Relaxed);
        let may = now.0 >= last.saturating_add(AGAIN_AFTER);
        if may {
            self.session.sent_to_renew.store(now.0, Ordering::Relaxed);
        }
        may
    }
}

#[cfg(test)]
mod tests;
