//! A session as the cache keeps it: small, because a hundred thousand are kept.

use super::revocations::RevocationSubject;
use super::settings::Settings;
use super::token::{self, Claims, TokenError, VerifiedToken};
use super::{SessionError, TokenState};
use crate::app_name::AppName;
use crate::clock::Timestamp;
use crate::identity::{IdentityFields, IdentityHeaders};
use crate::login_method::LoginMethod;
use crate::percent::{decode_component, encode_component};
use crate::session_id::SessionId;
use crate::subject::Subject;
use parking_lot::Mutex;
use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A verified token with what is made from it once.
pub struct CachedSession {
    pub(super) identity: IdentityHeaders,
    pub(super) site: Arc<TokenAudience>,
    pub(super) flow: LoginMethod,
    pub(super) sid: SessionId,
    auth_time: u64,
    iat: u64,
    exp: u64,
    session_exp: u64,
    pub(super) revocations_seen: AtomicU64,
    /// The session's next token: shared by the many requests of one page.
    pub(super) next: Mutex<Option<Box<Next>>>,
    /// When a browser was last sent to the renewal page, in seconds; one redirect, not a loop.
    pub(super) sent_to_renew: AtomicU64,
    /// When it was last used, to a minute, in seconds.
    last_seen: AtomicU64,
    /// When it was last told of, in seconds.
    last_reported: AtomicU64,
}

/// For whom the tokens of one application are; its sessions share it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TokenAudience {
    pub issuer: String,
    pub audience: AppName,
}

impl TokenAudience {
    /// Whether it is the one that `settings` describe.
    pub(super) fn is_of(&self, settings: &Settings) -> bool {
        self.issuer == settings.issuer && self.audience == settings.audience
    }
}

/// A session's next token.
pub(super) struct Next {
    pub issued: Timestamp,
    pub token: String,
}

impl CachedSession {
    /// What the cache keeps of `token`, which is for `site`.
    pub(super) fn new(token: &VerifiedToken, site: Arc<TokenAudience>) -> Self {
        let Claims {
            sub, sid, auth_time, iat, exp, session_exp, flow, appid, openid, unionid, nickname, avatar, ..
        } = token.claims();
        let (nickname, session) = (Cow::from(encode_component(nickname)), sid.to_string());
        let said = IdentityFields {
            subject: sub.as_str(),
            openid,
            unionid,
            appid,
            flow: flow.as_str(),
            session: &session,
            nickname: &nickname,
            avatar,
        };
        Self {
            identity: IdentityHeaders::new(&said),
            site,
            flow: *flow,
            sid: *sid,
            auth_time: *auth_time,
            iat: *iat,
            exp: *exp,
            session_exp: *session_exp,
            revocations_seen: AtomicU64::new(0),
            next: Mutex::new(None),
            sent_to_renew: AtomicU64::new(0),
            last_seen: AtomicU64::new(0),
            last_reported: AtomicU64::new(0),
        }
    }

    /// What the token says, word for word.
    pub(super) fn claims(&self) -> Claims {
        let IdentityFields { subject, openid, unionid, appid, nickname, avatar, .. } = self.identity.fields();
        Claims {
            iss: self.site.issuer.clone(),
            aud: self.site.audience.clone(),
            sub: Subject::from_valid(subject),
            sid: self.sid,
            auth_time: self.auth_time,
            iat: self.iat,
            exp: self.exp,
            session_exp: self.session_exp,
            flow: self.flow,
            appid: appid.to_owned(),
            openid: openid.to_owned(),
            unionid: unionid.to_owned(),
            nickname: decode_component(nickname).unwrap_or_default(),
            avatar: avatar.to_owned(),
        }
    }

    /// What time says of it.
    pub(super) fn state(&self, settings: &Settings, now: Timestamp) -> Result<TokenState, SessionError> {
        // What the configuration allows today counts, should it have allowed more when the token was issued.
        let over = (Timestamp(self.auth_time) + settings.lifetime).min(Timestamp(self.session_exp));
        if over <= now {
            return Err(SessionError::Expired);
        }
        // A clock that was set back finds tokens from its future: they were good, and no good comes of guessing.
        if self.iat > (now + token::LEEWAY).0 {
            return Err(SessionError::Token(TokenError::ImpossibleTimes));
        }
        if now.since(Timestamp(self.iat)) > settings.idle {
            return Err(SessionError::Idle);
        }
        let left = (Timestamp(self.iat) + settings.token_lifetime).min(Timestamp(self.exp)).since(now);
        Ok(if left.is_zero() {
            TokenState::Ended
        } else if left < settings.token_lifetime / 3 {
            TokenState::Ending
        } else {
            TokenState::Fresh
        })
    }

    /// Notes that it is used. To a minute, so that the threads that answer do not write one place all the time.
    pub(super) fn touch(&self, now: Timestamp) {
        const MINUTE: u64 = 60;
        if now.0 >= self.last_seen.load(Ordering::Relaxed).saturating_add(MINUTE) {
            self.last_seen.store(now.0, Ordering::Relaxed);
        }
    }

    /// When it was last used, if that has to be told.
    pub(super) fn take_last_seen(&self) -> Option<Timestamp> {
        const APART: u64 = 300;
        let seen = self.last_seen.load(Ordering::Relaxed);
        let due = seen >= self.last_reported.load(Ordering::Relaxed).saturating_add(APART);
        due.then(|| {
            self.last_reported.store(seen, Ordering::Relaxed);
            Timestamp(seen)
        })
    }

    /// How long nobody has shown it with success. Its issue counts, so that it is there for its first check.
    pub(super) fn idle_for(&self, now: Timestamp) -> Duration {
        now.since(Timestamp(self.last_seen.load(Ordering::Relaxed).max(self.iat)))
    }
}

impl<'a> From<&'a CachedSession> for RevocationSubject<'a> {
    fn from(session: &'a CachedSession) -> Self {
        Self {
            sid: session.sid,
            sub: session.identity.subject(),
            aud: &session.site.audience,
            auth_time: session.auth_time,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::claims;
    use super::*;

    const NOW: Timestamp = Timestamp(1_800_000_000);

    #[test]
    fn what_is_kept_says_what_the_token_said() {
        let site =
            || Arc::new(TokenAudience { issuer: "https://shop.example.com".into(), audience: "shop".parse().unwrap() });
        let said = claims(NOW);
        for claims in [
            said.clone(),
            Claims { nickname: "100 % \0 \u{7f} ;%41".into(), ..said.clone() },
            Claims { unionid: String::new(), nickname: String::new(), avatar: String::new(), ..said },
        ] {
            assert_eq!(CachedSession::new(&VerifiedToken::for_tests(claims.clone()), site()).claims(), claims);
        }
    }
}
