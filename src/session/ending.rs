//! Ending a session by its token, for a logout or a new login.
//!
//! A [`SessionToEnd`] exists only for a token that one of our keys has signed. Expiry, the idle limit, the settings of the
//! application and the state of the revocations are not checked: they may differ at another instance, or change.

use super::Sessions;
use super::claims::Claims;
use super::error::TokenError;
use super::token::{self, Unverified};
use crate::clock::Timestamp;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

/// A session that the holder of its token may end. Only [`Sessions::to_end`] makes one.
#[derive(Clone, Debug)]
pub struct SessionToEnd {
    claims: Claims,
}

/// Why no session can be ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndError {
    /// The token is not valid at any instance.
    NoSession,
    /// The client has reached a limit. It may try again after this time.
    Busy(Duration),
    /// This instance does not have the key, but another one may. The client may try again after this time.
    UnknownKey(Duration),
}

/// How long the keys of two instances may differ: a mounted Secret reaches each node within two minutes.
const MAX_KEY_DELAY: Duration = Duration::from_secs(300);

/// After what time to try again with a key that this instance does not have.
const KEY_RETRY: Duration = Duration::from_secs(30);

/// How far the clock of this instance may be ahead of those of others.
const MAX_CLOCK_SKEW: Duration = Duration::from_secs(86_400);

impl Sessions {
    /// Verifies that one of our keys signed `token`. Calls `admit` before it checks a signature.
    ///
    /// # Errors
    /// [`EndError`]. Only [`EndError::NoSession`] means that there is nothing to end.
    pub fn to_end(
        &self,
        token: &str,
        now: Timestamp,
        admit: impl FnOnce() -> Result<(), Duration>,
    ) -> Result<SessionToEnd, EndError> {
        if token.len() > token::MAX_BYTES {
            return Err(EndError::NoSession);
        }
        let keys = self.keys.current();
        let key = self.cache.fingerprint(keys.generation(), token);
        match key.and_then(|key| self.cache.get(&key, now)) {
            Some(Ok(session)) => return Ok(SessionToEnd { claims: session.claims() }),
            // The cache holds rejected signatures only.
            Some(Err(_)) => return Err(EndError::NoSession),
            None => {}
        }
        let unverified = Unverified::read_at_any_age(token, &keys).map_err(|error| match error {
            TokenError::UnknownKey if may_live_elsewhere(token, now) => EndError::UnknownKey(KEY_RETRY),
            _ => EndError::NoSession,
        })?;
        admit().map_err(EndError::Busy)?;
        self.tokens.verifications.inc();
        match unverified.verify() {
            Ok(token) => Ok(SessionToEnd { claims: token.claims().clone() }),
            Err(error) => {
                if let Some(key) = key {
                    self.cache.insert_rejection(key, error, now);
                }
                Err(EndError::NoSession)
            }
        }
    }
}

/// Whether another instance may accept `token`, whose key this one does not have. Not after its expiry: if the key was
/// removed, it is not valid anywhere.
fn may_live_elsewhere(token: &str, now: Timestamp) -> bool {
    token::unverified_expiry(token).is_some_and(|end| now < end + MAX_KEY_DELAY)
}

impl SessionToEnd {
    /// The claims of its token.
    pub fn claims(&self) -> &Claims {
        &self.claims
    }

    /// Whether it has expired or is revoked. It counts as expired a day late, because the clock of this instance may be
    /// wrong.
    pub fn is_over(&self, sessions: &Sessions, now: Timestamp) -> bool {
        Timestamp(self.claims.session_exp) + MAX_CLOCK_SKEW <= now
            || sessions.revocations.is_revoked(&self.claims, &AtomicU64::new(0))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::claims;
    use super::super::{SessionError, Settings};
    use super::*;
    use crate::testing::fixtures::{self, NOW};

    const HOUR: Duration = Duration::from_secs(3_600);
    const DAY: Duration = Duration::from_secs(86_400);

    fn sessions() -> Sessions {
        fixtures::sessions(fixtures::key_ring(), NOW)
    }

    /// A token that `sessions` signed and does not remember, and its session's id.
    fn token(sessions: &Sessions) -> (String, crate::session_id::SessionId) {
        let claims = claims(NOW);
        let keys = sessions.keys.current();
        let token = token::issue(&claims, keys.signing(NOW).unwrap()).unwrap().0;
        (token, claims.sid)
    }

    fn forged(token: &str) -> String {
        format!("{}.{}A", token.rsplit_once('.').unwrap().0, "q7Zk5".repeat(17))
    }

    #[test]
    fn a_session_ends_whatever_makes_it_unusable_here() {
        let unusable = |sessions: &Sessions, token: &str, settings: &Settings, now| {
            sessions.verify(token, settings, now, || Ok(())).is_err()
        };
        let usual = super::super::tests::settings();
        let renamed =
            Settings { issuer: "https://new.example.com".into(), audience: "new".parse().unwrap(), ..usual.clone() };
        let short = Settings { lifetime: HOUR, ..usual.clone() };
        let stale =
            |sessions: &Sessions| sessions.revocations.sync_status().set_max_staleness(Duration::from_millis(1));
        let fresh = |_: &Sessions| ();
        for (what, settings, now, state) in [
            ("a clock behind", &usual, NOW - HOUR, &fresh as &dyn Fn(&Sessions)),
            ("a clock at its start", &usual, Timestamp(0), &fresh),
            ("idle", &usual, NOW + 2 * DAY, &fresh),
            ("over, or a clock ahead", &usual, NOW + 7 * DAY + HOUR, &fresh),
            ("past its token, and revocations are not known", &usual, NOW + HOUR, &stale),
            ("another name and origin", &renamed, NOW, &fresh),
            ("a shorter lifetime", &short, NOW + 2 * HOUR, &fresh),
        ] {
            let sessions = sessions();
            let (token, sid) = token(&sessions);
            state(&sessions);
            assert!(unusable(&sessions, &token, settings, now), "{what}");
            let session = sessions.to_end(&token, now, || Ok(())).unwrap();
            assert_eq!(session.claims().sid, sid, "{what}");
            assert!(!session.is_over(&sessions, now), "{what}");
            sessions.revocations.end(session.claims(), now);
            assert!(session.is_over(&sessions, now), "{what}");
            assert_eq!(
                sessions.verify(&token, &usual, NOW, || Ok(())).err(),
                Some(SessionError::Revoked),
                "{what}: dead when the cause has passed"
            );
        }
        let sessions = sessions();
        let (token, _) = token(&sessions);
        let long_ago = NOW + 8 * DAY + HOUR;
        assert!(sessions.to_end(&token, long_ago, || Ok(())).unwrap().is_over(&sessions, long_ago));
    }

    #[test]
    fn what_is_not_certain_is_never_no_session() {
        let (sessions, other) = (sessions(), sessions());
        let (token, _) = token(&sessions);
        let wait = Duration::from_secs(3);
        assert_eq!(sessions.to_end(&token, NOW, || Err(wait)).err(), Some(EndError::Busy(wait)));
        assert_eq!(other.to_end(&token, NOW, || Ok(())).err(), Some(EndError::UnknownKey(KEY_RETRY)));
        let exp = claims(NOW).exp;
        let last = Timestamp(exp) + MAX_KEY_DELAY - Duration::from_secs(1);
        assert_eq!(other.to_end(&token, last, || Ok(())).err(), Some(EndError::UnknownKey(KEY_RETRY)));
        let removed = Timestamp(exp) + MAX_KEY_DELAY;
        assert_eq!(other.to_end(&token, removed, || Ok(())).err(), Some(EndError::NoSession), "its key was removed");
    }

    #[test]
    fn only_a_signature_of_ours_leads_to_a_session() {
        let sessions = sessions();
        let (token, _) = token(&sessions);
        let other = forged(&token);
        for text in ["", "a.b.c", "a token of the application", &other, &format!("{token}="), &"a".repeat(5_000)] {
            assert_eq!(sessions.to_end(text, NOW, || Ok(())).err(), Some(EndError::NoSession), "{text}");
        }
        // A verdict is remembered, so that the same text costs no budget again.
        let refused = sessions.to_end(&other, NOW, || Err(Duration::from_secs(1)));
        assert_eq!(refused.err(), Some(EndError::NoSession));
        assert!(sessions.verify(&token, &super::super::tests::settings(), NOW, || Ok(())).is_ok());
        assert!(sessions.to_end(&token, NOW, || Err(HOUR)).is_ok(), "a session that is known needs no budget");
    }
}
