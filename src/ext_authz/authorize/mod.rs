//! The decision: from the question and the time to the answer.
//!
//! Synchronous, without I/O: the security tests are tables over [`Decider::decide`]. Every way to an answer is written
//! out; an allow is never what is left over.

use super::request::{CheckRequest, Credential};
use crate::client_address::ClientAddress;
use crate::client_kind::ClientKind;
use crate::clock::Timestamp;
use crate::cookie;
use crate::decision::{Decision, Identity, Reason, Requirement};
use crate::origin::{Origin, authority};
use crate::path::fold::fold;
use crate::path::{NormalPath, Readings, is_under};
use crate::policy::Policy;
use crate::rate_limit::Limits;
use crate::session::{self, LiveSession, SessionError, Sessions, TokenError, TokenState};
use foldhash::fast::FixedState;
use http::Method;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

/// One application as the check knows it.
#[derive(Clone, Debug)]
pub struct AppPolicy {
    /// Where it lives.
    pub origin: Origin,
    /// Its sessions.
    pub session: session::Settings,
    /// Whether its paths may hold encoded slashes, and be encoded more than once, whatever the rules say.
    pub allow_encoded_slashes: bool,
}

/// All that a decision rests on besides the question and the time.
pub struct Authorizer {
    /// Applications by authority. The names in it are the operator's alone, so its hashes need no secret.
    pub apps: HashMap<String, AppPolicy, FixedState>,
    /// The rules.
    pub policy: Policy,
    /// Where the pages are, such as `/_wechat`.
    pub prefix: String,
    /// Whether a `Set-Cookie` on an allow reaches the browser.
    pub delivers_set_cookie: bool,
    /// Whether the pages are answered at the check door, too.
    pub pages_in_band: bool,
    /// The source of the client address.
    pub client_address: ClientAddress,
    /// Tokens and revocations.
    pub sessions: Arc<Sessions>,
    /// Budgets.
    pub limits: Arc<Limits>,
}

impl Authorizer {
    /// Decides one check at `now`.
    pub fn decide(&self, check: &CheckRequest, now: Timestamp) -> Decision {
        if check.method == Method::CONNECT {
            return Decision::Deny { reason: Reason::ConnectDenied };
        }
        if check.method.as_str().bytes().any(|byte| byte.is_ascii_lowercase()) {
            // Methods are case-sensitive, but not to every application.
            return Decision::Deny { reason: Reason::MethodNotUpperCase };
        }
        // Most clients write it as we do.
        let known = self.apps.get_key_value(check.host);
        let Some((host, site)) = known.or_else(|| self.apps.get_key_value(&*authority(check.host))) else {
            return self.at_unknown_host(check);
        };
        let (path, readings) = match self.readings(check) {
            Ok(read) => read,
            Err(reason) => return Decision::Deny { reason },
        };
        if path.is_under(&self.prefix) {
            return match (path.has_encoded_slashes(), self.pages_in_band) {
                (true, _) => Decision::Deny { reason: Reason::AmbiguousPath },
                (false, true) => Decision::Page { reason: Reason::PageInBand },
                (false, false) => Decision::Deny { reason: Reason::PagesNotRouted },
            };
        }
        let client = self.client_for_policy(check);
        let allows_encoded =
            || site.allow_encoded_slashes || self.policy.allows_encoded_slashes(host, path, check.method, client);
        if path.has_encoded_slashes() && !allows_encoded() {
            return Decision::Deny { reason: Reason::AmbiguousPath };
        }
        let Ok(requirement) = self.policy.strictest(host, path, &readings, check.method, client) else {
            return Decision::Deny { reason: Reason::AmbiguousPath };
        };
        match &*requirement {
            Requirement::Public => anonymous(Reason::PublicPath),
            Requirement::Optional => match self.session(check, site, now) {
                Ok(live) => self.allow(check, site, &live, now),
                Err(_) => self.within_limit(check, anonymous(Reason::AnonymousAllowed)),
            },
            Requirement::Required => match self.session(check, site, now) {
                Ok(live) => self.allow(check, site, &live, now),
                Err(refusal) => self.within_limit(check, self.deny(check, site, refusal)),
            },
            Requirement::Subjects(subjects) => match self.session(check, site, now) {
                Ok(live) if subjects.iter().any(|subject| subject.as_str() == live.subject()) => {
                    self.allow(check, site, &live, now)
                }
                Ok(_) => Decision::Deny { reason: Reason::SubjectNotAllowed },
                Err(refusal) => self.within_limit(check, self.deny(check, site, refusal)),
            },
        }
    }

    /// Only what rules for any host make public: there is no application, so there is no session.
    fn at_unknown_host(&self, check: &CheckRequest) -> Decision {
        match self.readings(check) {
            Ok((path, readings))
                if !path.is_under(&self.prefix)
                    && !path.has_encoded_slashes()
                    && self.policy.is_public_at_any_host(&readings, check.method, self.client_for_policy(check)) =>
            {
                anonymous(Reason::PublicPath)
            }
            _ => Decision::Deny { reason: Reason::UnknownHost },
        }
    }

    /// The path and its readings. None of them leads to our pages unless the path itself does.
    fn readings<'c>(&self, check: &'c CheckRequest<'c>) -> Result<(&'c NormalPath<'c>, Readings<'c>), Reason> {
        let path = check.path.as_ref().map_err(|_| Reason::AmbiguousPath)?;
        let readings = path.readings().map_err(|_| Reason::AmbiguousPath)?;
        if (path.is_cased() || readings.others().len() > 0) && !path.is_under(&self.prefix) {
            let prefix = fold(self.prefix.as_bytes());
            let is_ours = |path: &[u8]| is_under(&fold(path), &prefix);
            if is_ours(path.as_bytes()) || readings.others().any(is_ours) {
                return Err(Reason::AmbiguousPath);
            }
        }
        Ok((path, readings))
    }

    /// The live session the request shows, if it shows one.
    fn session(&self, check: &CheckRequest, site: &AppPolicy, now: Timestamp) -> Result<LiveSession, NoSession> {
        let token = match check.credential {
            Credential::Absent => return Err(NoSession::NotShown),
            Credential::Conflict => return Err(NoSession::Conflict),
            Credential::Cookie(token) | Credential::Bearer(token) => token,
        };
        let admit = || self.limits.new_token(self.client(check)).map_err(|exceeded| exceeded.retry_after);
        self.sessions.verify(token, &site.session, now, admit).map_err(NoSession::Refused)
    }

    fn allow(&self, check: &CheckRequest, site: &AppPolicy, live: &LiveSession, now: Timestamp) -> Decision {
        let identity = Identity::Known(live.identity());
        // Only the cookie is renewed here: a bearer's holder asks the renewal page.
        let cookie = matches!(check.credential, Credential::Cookie(_));
        if cookie && live.state() != TokenState::Fresh {
            if self.delivers_set_cookie
                && let Ok(next) = self.sessions.renew(live, &site.session, now)
            {
                let renewed = cookie::set(cookie::SESSION, &next.token, "/", next.session_expires.since(now));
                return Decision::Allow { identity, renewed: Some(renewed), reason: Reason::SessionRenewed };
            }
            let follows = || check.method == Method::GET && check.client_kind() == ClientKind::Page;
            if !self.delivers_set_cookie
                && live.state() == TokenState::Expired
                && follows()
                && live.admit_renewal_redirect(now)
            {
                let location = self.page(site, "renew", Some(check.target));
                return Decision::Renew { location, reason: Reason::SessionNeedsRenewal };
            }
        }
        Decision::Allow { identity, renewed: None, reason: Reason::SessionValid }
    }

    fn deny(&self, check: &CheckRequest, site: &AppPolicy, no: NoSession) -> Decision {
        let reason = match no {
            NoSession::NotShown if check.client_kind() == ClientKind::Preflight => {
                return Decision::Deny { reason: Reason::PreflightDenied };
            }
            NoSession::Refused(SessionError::Busy(retry_after)) => {
                return Decision::Limited { retry_after, reason: Reason::TooManyNewTokens };
            }
            NoSession::NotShown => Reason::NoSession,
            NoSession::Conflict => Reason::ConflictingCredentials,
            NoSession::Refused(SessionError::Token(error)) => match error {
                TokenError::Malformed | TokenError::ImpossibleTimes => Reason::TokenMalformed,
                TokenError::Foreign => Reason::TokenForeign,
                TokenError::UnknownKey => Reason::TokenUnknownKey,
                TokenError::Forged => Reason::TokenForged,
                TokenError::Expired => Reason::SessionExpired,
            },
            NoSession::Refused(SessionError::Expired) => Reason::SessionExpired,
            NoSession::Refused(SessionError::Idle) => Reason::SessionIdle,
            NoSession::Refused(SessionError::Revoked) => Reason::SessionRevoked,
        };
        // A script's address is no place for a person to come back to: who shows the login adds the way back.
        let back = matches!(check.client_kind(), ClientKind::Page | ClientKind::Form).then_some(check.target);
        Decision::Login { location: self.page(site, "login", back), reason }
    }

    /// `decision`, unless its client asks too often without a session.
    fn within_limit(&self, check: &CheckRequest, decision: Decision) -> Decision {
        match self.limits.check(self.client(check)) {
            Ok(()) => decision,
            Err(exceeded) => Decision::Limited { retry_after: exceeded.retry_after, reason: Reason::TooManyChecks },
        }
    }

    /// The client's address, or the gateway's if the configured source names none.
    fn client(&self, check: &CheckRequest) -> IpAddr {
        self.client_address.address(check.headers, check.peer)
    }

    /// The client's address, if the policy depends on it and the configured source names it.
    fn client_for_policy(&self, check: &CheckRequest) -> Option<IpAddr> {
        if self.policy.depends_on_client() {
            self.client_address.named_address(check.headers, check.peer)
        } else {
            None
        }
    }

    fn page(&self, site: &AppPolicy, name: &str, back: Option<&str>) -> String {
        site.origin.page(&format!("{}/{name}", self.prefix), back)
    }
}

/// Why a request shows no live session.
#[derive(Clone, Copy, Debug)]
enum NoSession {
    NotShown,
    Conflict,
    Refused(SessionError),
}

fn anonymous(reason: Reason) -> Decision {
    Decision::Allow { identity: Identity::Anonymous, renewed: None, reason }
}

#[cfg(test)]
mod tests;
