//! Sessions: issued after a login, verified on every check, renewed while they are used, revoked.
//!
//! Promises: a [`LiveSession`] exists only for a token whose signature, claims, times and revocations hold at this
//! moment; identity headers are written from nothing else. Refuses to know HTTP, WeChat and the policy.

pub mod cache;
pub mod journal;
pub mod keys;
pub mod profiles;
pub mod revocation;
pub mod revocations;
pub mod settings;
pub mod sharing;
pub mod token;

use crate::check::IdentityHeaders;
use crate::clock::Timestamp;
use crate::percent::encode_component;
use crate::telemetry::Lookups;
use bytes::Bytes;
use cache::Cache;
use http::HeaderValue;
use keys::KeyRing;
use profiles::Profiles;
use revocations::Revocations;
pub use settings::Settings;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
pub use token::Grant;
use token::{Claims, TokenFault, Unverified, VerifiedToken};

/// All sessions of this instance: keys, verified tokens, revocations.
pub struct Sessions {
    /// The signing keys.
    pub keys: KeyRing,
    /// What was revoked.
    pub revocations: Revocations,
    /// What is known of people.
    pub profiles: Profiles,
    cache: Cache,
    lookups: Lookups,
}

/// A verified token with what is made from it once.
pub struct Session {
    token: VerifiedToken,
    identity: Arc<IdentityHeaders>,
    revocations_seen: AtomicU64,
    /// The session's next token and when it was issued: shared by the many requests of one page.
    next: Mutex<Option<(Timestamp, String)>>,
    /// When a browser was last sent to the renewal page, in seconds; one redirect, not a loop.
    sent_to_renew: AtomicU64,
    /// When it was last used, to a minute, in seconds.
    last_seen: AtomicU64,
    /// When it was last told of, in seconds.
    last_told: AtomicU64,
}

/// A session that was used lately. Says nothing of whether it still counts.
#[derive(Clone)]
pub struct Seen {
    session: Arc<Session>,
    at: Timestamp,
}

/// A session that counts at this moment. Only [`Sessions::verify`] makes one.
#[derive(Clone)]
pub struct LiveSession {
    session: Arc<Session>,
    age: Age,
}

/// Where a token stands in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Age {
    /// Nothing to do.
    Fresh,
    /// In its last third: the next may go out with an answer.
    Ending,
    /// Past `exp`; alive because what was revoked is known here well enough.
    Ended,
}

/// Why a token is no live session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Not a token of ours.
    Token(TokenFault),
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
    pub sid: String,
    /// When this token ends.
    pub expires: Timestamp,
    /// When the session ends: the cookie's life.
    pub session_expires: Timestamp,
}

/// A token could not be signed: no key, or the cryptographic library refused. Ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no token could be signed")]
pub struct IssueFault;

impl Sessions {
    /// Sessions with these keys and revocations; how look-ups go is counted in `lookups`.
    #[must_use]
    pub fn new(keys: KeyRing, revocations: Revocations, lookups: Lookups) -> Self {
        Self { keys, revocations, profiles: Profiles::default(), cache: Cache::default(), lookups }
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
    ) -> Result<LiveSession, Refusal> {
        let session = self.known(token, settings, now, admit)?;
        let age = judge(session.token.claims(), settings, now)?;
        if self.revocations.covers(session.token.claims(), &session.revocations_seen) {
            return Err(Refusal::Revoked);
        }
        if age == Age::Ended && !self.revocations.picture().is_fresh() {
            // Others may have revoked it, and this instance would not know: the token's end is strict then.
            return Err(Refusal::Expired);
        }
        session.used(now);
        Ok(LiveSession { session, age })
    }

    fn known(
        &self,
        token: &str,
        settings: &Settings,
        now: Timestamp,
        admit: impl FnOnce() -> Result<(), Duration>,
    ) -> Result<Arc<Session>, Refusal> {
        if token.len() > token::MOST_BYTES {
            self.lookups.refused_cheaply.inc();
            return Err(Refusal::Token(TokenFault::Malformed));
        }
        let keys = self.keys.current();
        let place = self.cache.place(keys.generation(), &settings.issuer, &settings.audience, token);
        match place.and_then(|place| self.cache.get(&place)) {
            Some(Ok(session)) => {
                self.lookups.hits.inc();
                return Ok(session);
            }
            Some(Err(fault)) => {
                self.lookups.refused_hits.inc();
                return Err(Refusal::Token(fault));
            }
            None => {}
        }
        let unverified = Unverified::read(token, &keys, settings, now).map_err(|fault| {
            self.lookups.refused_cheaply.inc();
            Refusal::Token(fault)
        })?;
        admit().map_err(Refusal::Busy)?;
        self.lookups.verified.inc();
        match unverified.verify(&keys) {
            Ok(token) => {
                let session = Arc::new(Session::new(token));
                if let Some(place) = place {
                    self.cache.keep(place, Arc::clone(&session));
                }
                Ok(session)
            }
            Err(fault) => {
                if let Some(place) = place {
                    self.cache.refuse(place, fault);
                }
                Err(Refusal::Token(fault))
            }
        }
    }

    /// Issues the first token of a new session.
    ///
    /// # Errors
    /// [`IssueFault`].
    pub fn begin(&self, grant: Grant, settings: &Settings, now: Timestamp) -> Result<Issued, IssueFault> {
        self.issue(&Claims::first(grant, crate::random::session_id(), settings, now), settings, now)
    }

    /// The next token of a live session, the same one for all who ask within a third of its life.
    ///
    /// # Errors
    /// [`IssueFault`]; also when nothing of the session is left.
    pub fn renew(&self, live: &LiveSession, settings: &Settings, now: Timestamp) -> Result<Issued, IssueFault> {
        let claims = live.claims().next(settings, now).ok_or(IssueFault)?;
        let claims = self.profiles.brought_up_to_date(claims);
        let mut next = live.session.next.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((issued, token)) = next.as_ref()
            && *issued <= now
            && now.since(*issued) < settings.token_lifetime / 3
        {
            return Ok(Issued {
                token: token.clone(),
                sid: claims.sid,
                expires: issued.plus(settings.token_lifetime).min(Timestamp(claims.session_exp)),
                session_expires: Timestamp(claims.session_exp),
            });
        }
        let issued = self.issue(&claims, settings, now)?;
        *next = Some((now, issued.token.clone()));
        Ok(issued)
    }

    fn issue(&self, claims: &Claims, settings: &Settings, now: Timestamp) -> Result<Issued, IssueFault> {
        let keys = self.keys.current();
        let key = keys.signing(now).ok_or(IssueFault)?;
        let (token, verified) = token::issue(claims, key).map_err(|_| IssueFault)?;
        // Known from its first check on: it must not need a budget that a neighbour's forged tokens have spent.
        if let Some(place) = self.cache.place(keys.generation(), &settings.issuer, &settings.audience, &token) {
            self.cache.keep(place, Arc::new(Session::new(verified)));
        }
        Ok(Issued {
            token,
            sid: claims.sid.clone(),
            expires: Timestamp(claims.exp),
            session_expires: Timestamp(claims.session_exp),
        })
    }

    /// Forgets verdicts: the settings that they rest on have changed.
    pub fn settings_changed(&self) {
        self.cache.clear();
    }

    /// Sessions that were used since they were last told of, `most` at most: each about every five minutes. Walks the
    /// whole cache: not for a thread that answers.
    #[must_use]
    pub fn seen(&self, most: usize) -> Vec<Seen> {
        let mut told: HashMap<String, Seen> = HashMap::new();
        for (_, session) in self.cache.sessions() {
            if told.len() >= most {
                break;
            }
            if let Some(at) = session.to_tell() {
                // A session may have two tokens at a time.
                let sid = session.token.claims().sid.clone();
                let later = told.get(&sid).is_none_or(|known| known.at < at);
                if later {
                    told.insert(sid, Seen { session, at });
                }
            }
        }
        told.into_values().collect()
    }

    /// Verified tokens held, about.
    #[must_use]
    pub fn cached(&self) -> u64 {
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

/// What time says of a verified token.
fn judge(claims: &Claims, settings: &Settings, now: Timestamp) -> Result<Age, Refusal> {
    // What the configuration allows today counts, should it have allowed more when the token was issued.
    let over = Timestamp(claims.auth_time).plus(settings.lifetime).min(Timestamp(claims.session_exp));
    if over <= now {
        return Err(Refusal::Expired);
    }
    // A clock that was set back finds tokens from its future: they were good, and no good comes of guessing.
    if claims.iat > now.plus(token::LEEWAY).0 {
        return Err(Refusal::Token(TokenFault::ImpossibleTimes));
    }
    if now.since(Timestamp(claims.iat)) > settings.idle {
        return Err(Refusal::Idle);
    }
    let left = Timestamp(claims.iat).plus(settings.token_lifetime).min(Timestamp(claims.exp)).since(now);
    Ok(if left.is_zero() {
        Age::Ended
    } else if left < settings.token_lifetime / 3 {
        Age::Ending
    } else {
        Age::Fresh
    })
}

impl Session {
    fn new(token: VerifiedToken) -> Self {
        let identity = Arc::new(identity(token.claims()));
        Self {
            token,
            identity,
            revocations_seen: AtomicU64::new(0),
            next: Mutex::new(None),
            sent_to_renew: AtomicU64::new(0),
            last_seen: AtomicU64::new(0),
            last_told: AtomicU64::new(0),
        }
    }

    /// Notes that it is used. To a minute, so that the threads that answer do not write one place all the time.
    fn used(&self, now: Timestamp) {
        const MINUTE: u64 = 60;
        if now.0 >= self.last_seen.load(Ordering::Relaxed).saturating_add(MINUTE) {
            self.last_seen.store(now.0, Ordering::Relaxed);
        }
    }

    /// When it was last used, if that has to be told.
    fn to_tell(&self) -> Option<Timestamp> {
        const APART: u64 = 300;
        let seen = self.last_seen.load(Ordering::Relaxed);
        let due = seen >= self.last_told.load(Ordering::Relaxed).saturating_add(APART);
        due.then(|| {
            self.last_told.store(seen, Ordering::Relaxed);
            Timestamp(seen)
        })
    }
}

impl Seen {
    /// What its token says.
    #[must_use]
    pub fn claims(&self) -> &Claims {
        self.session.token.claims()
    }

    /// When it was used.
    #[must_use]
    pub fn at(&self) -> Timestamp {
        self.at
    }
}

impl LiveSession {
    /// What its token says.
    #[must_use]
    pub fn claims(&self) -> &Claims {
        self.session.token.claims()
    }

    /// The identity headers, rendered when the token was verified.
    #[must_use]
    pub fn identity(&self) -> Arc<IdentityHeaders> {
        Arc::clone(&self.session.identity)
    }

    /// Where its token stands.
    #[must_use]
    pub fn age(&self) -> Age {
        self.age
    }

    /// Whether a browser may be sent to the renewal page now: once a minute at most, so that one whose cookie does
    /// not stick is not sent round for ever.
    #[must_use]
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

/// Renders the identity headers of a token's claims, one beside the other in one piece of memory: a hundred thousand
/// sessions are held, and each header apart would cost as much again.
fn identity(claims: &Claims) -> IdentityHeaders {
    let nickname = encode_component(&claims.nickname).to_string();
    let Claims { sub, openid, unionid, appid, sid, avatar, .. } = claims;
    let together = Bytes::from([sub, openid, unionid, appid, sid, &nickname, avatar].map(String::as_str).concat());
    let mut start = 0;
    let mut next = |text: &str| {
        let end = start + text.len();
        // Our own claims are visible ASCII, except the nickname; what is not becomes empty rather than a broken header.
        let value = text.is_ascii().then(|| HeaderValue::from_maybe_shared(together.slice(start..end)).ok());
        start = end;
        value.flatten().unwrap_or_else(|| HeaderValue::from_static(""))
    };
    IdentityHeaders {
        subject: next(sub),
        openid: next(openid),
        unionid: next(unionid),
        appid: next(appid),
        flow: HeaderValue::from_static(claims.flow.as_str()),
        session: next(sid),
        nickname: next(&nickname),
        avatar: next(avatar),
    }
}

#[cfg(test)]
mod tests;
