//! A session in the token cache. It is small, because the cache holds up to 100,000.

use super::TokenState;
use super::claims::Claims;
use super::error::{SessionError, TokenError};
use super::revocations::RevocationSubject;
use super::settings::Settings;
use super::token::{self, VerifiedToken};
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

/// A verified token and what is derived from it.
pub struct CachedSession {
    pub(super) identity: IdentityHeaders,
    pub(super) audience: Arc<TokenAudience>,
    pub(super) flow: LoginMethod,
    pub(super) sid: SessionId,
    auth_time: u64,
    iat: u64,
    exp: u64,
    session_exp: u64,
    pub(super) revocations_seen: AtomicU64,
    /// The next token, which the many requests of one page share.
    pub(super) next: Mutex<Option<Box<NextToken>>>,
    /// When a browser was last redirected to the renewal page, in seconds.
    pub(super) renewal_redirected_at: AtomicU64,
    /// When it was last used, in seconds, to the minute.
    last_used: AtomicU64,
    /// The last use that [`Self::take_last_used`] returned, in seconds.
    last_reported: AtomicU64,
}

/// The issuer and audience of the tokens of one application.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TokenAudience {
    pub issuer: String,
    pub audience: AppName,
}

impl TokenAudience {
    /// Whether they are those of `settings`.
    pub(super) fn is_of(&self, settings: &Settings) -> bool {
        self.issuer == settings.issuer && self.audience == settings.audience
    }
}

/// The next token of a session.
pub(super) struct NextToken {
    pub issued: Timestamp,
    pub token: String,
}

impl CachedSession {
    /// The session of `token`.
    pub(super) fn new(token: &VerifiedToken, audience: Arc<TokenAudience>) -> Self {
        let Claims {
            sub, sid, auth_time, iat, exp, session_exp, flow, appid, openid, unionid, nickname, avatar, ..
        } = token.claims();
        let (nickname, session) = (Cow::from(encode_component(nickname)), sid.to_string());
        let fields = IdentityFields {
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
            identity: IdentityHeaders::new(&fields),
            audience,
            flow: *flow,
            sid: *sid,
            auth_time: *auth_time,
            iat: *iat,
            exp: *exp,
            session_exp: *session_exp,
            revocations_seen: AtomicU64::new(0),
            next: Mutex::new(None),
            renewal_redirected_at: AtomicU64::new(0),
            last_used: AtomicU64::new(0),
            last_reported: AtomicU64::new(0),
        }
    }

    /// The claims of the token.
    pub(super) fn claims(&self) -> Claims {
        let IdentityFields { subject, openid, unionid, appid, nickname, avatar, .. } = self.identity.fields();
        Claims {
            iss: self.audience.issuer.clone(),
            aud: self.audience.audience.clone(),
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

    /// The state of the token at `now`.
    ///
    /// # Errors
    /// The session has expired or was idle for too long, or its token is from the future.
    pub(super) fn state(&self, settings: &Settings, now: Timestamp) -> Result<TokenState, SessionError> {
        // The present configuration applies, even if an earlier one allowed more when the token was issued.
        let session_end = (Timestamp(self.auth_time) + settings.lifetime).min(Timestamp(self.session_exp));
        if session_end <= now {
            return Err(SessionError::Expired);
        }
        // The clock was set back since the token was issued.
        if self.iat > (now + token::LEEWAY).0 {
            return Err(SessionError::Token(TokenError::ImpossibleTimes));
        }
        if now.since(Timestamp(self.iat)) > settings.idle {
            return Err(SessionError::Idle);
        }
        let left = (Timestamp(self.iat) + settings.token_lifetime).min(Timestamp(self.exp)).since(now);
        Ok(if left.is_zero() {
            TokenState::Expired
        } else if left < settings.token_lifetime / 3 {
            TokenState::Expiring
        } else {
            TokenState::Fresh
        })
    }

    /// Records a use, at most once a minute: threads would contend for the memory otherwise.
    pub(super) fn touch(&self, now: Timestamp) {
        const MINUTE: u64 = 60;
        if now.0 >= self.last_used.load(Ordering::Relaxed).saturating_add(MINUTE) {
            self.last_used.store(now.0, Ordering::Relaxed);
        }
    }

    /// When it was last used, at most once in five minutes.
    pub(super) fn take_last_used(&self) -> Option<Timestamp> {
        const INTERVAL: u64 = 300;
        let used = self.last_used.load(Ordering::Relaxed);
        let due = used >= self.last_reported.load(Ordering::Relaxed).saturating_add(INTERVAL);
        due.then(|| {
            self.last_reported.store(used, Ordering::Relaxed);
            Timestamp(used)
        })
    }

    /// The time since its last use, or since its issue if it was never used.
    pub(super) fn idle_for(&self, now: Timestamp) -> Duration {
        now.since(Timestamp(self.last_used.load(Ordering::Relaxed).max(self.iat)))
    }
}

impl<'a> From<&'a CachedSession> for RevocationSubject<'a> {
    fn from(session: &'a CachedSession) -> Self {
        Self {
            sid: session.sid,
            sub: session.identity.subject(),
            aud: &session.audience.audience,
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
    fn a_cached_session_keeps_all_claims() {
        let audience =
            || Arc::new(TokenAudience { issuer: "https://shop.example.com".into(), audience: "shop".parse().unwrap() });
        let all = claims(NOW);
        for claims in [
            all.clone(),
            Claims { nickname: "100 % \0 \u{7f} ;%41".into(), ..all.clone() },
            Claims { unionid: String::new(), nickname: String::new(), avatar: String::new(), ..all },
        ] {
            assert_eq!(CachedSession::new(&VerifiedToken::for_tests(claims.clone()), audience()).claims(), claims);
        }
    }
}
