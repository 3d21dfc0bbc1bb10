//! The decision: from a check and the time to a [`Decision`].
//!
//! Synchronous and without I/O, so the security tests are tables over [`Authorizer::decide`]. An allow is always explicit,
//! never a default.

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

/// What a check needs to know about an application.
#[derive(Clone, Debug)]
pub struct AppPolicy {
    /// Its origin.
    pub origin: Origin,
    /// Its session settings.
    pub session: session::Settings,
    /// Whether its paths may contain encoded slashes and be encoded more than once, without a rule that allows it.
    pub allow_encoded_slashes: bool,
}

/// Everything that a decision depends on besides the check and the time.
pub struct Authorizer {
    /// Applications by authority. All names come from the operator, so the hashes need no secret.
    pub apps: HashMap<String, AppPolicy, FixedState>,
    /// The rules.
    pub policy: Policy,
    /// The prefix of the pages, such as `/_wechat`.
    pub prefix: String,
    /// Whether a `Set-Cookie` on an allow reaches the browser.
    pub delivers_set_cookie: bool,
    /// Whether the check listener answers the pages, too.
    pub pages_in_band: bool,
    /// The source of the client address.
    pub client_address: ClientAddress,
    /// Tokens and revocations.
    pub sessions: Arc<Sessions>,
    /// Rate limits.
    pub limits: Arc<Limits>,
}

impl Authorizer {
    /// Decides one check at `now`.
    pub fn decide(&self, check: &CheckRequest, now: Timestamp) -> Decision {
        if check.method == Method::CONNECT {
            return Decision::Deny { reason: Reason::ConnectDenied };
        }
        if check.method.as_str().bytes().any(|byte| byte.is_ascii_lowercase()) {
            // Methods are case-sensitive, but some applications ignore case.
            return Decision::Deny { reason: Reason::MethodNotUpperCase };
        }
        // Most clients send the canonical form.
        let canonical = self.apps.get_key_value(check.host);
        let Some((host, app)) = canonical.or_else(|| self.apps.get_key_value(&*authority(check.host))) else {
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
            || app.allow_encoded_slashes || self.policy.allows_encoded_slashes(host, path, check.method, client);
        if path.has_encoded_slashes() && !allows_encoded() {
            return Decision::Deny { reason: Reason::AmbiguousPath };
        }
        let Ok(requirement) = self.policy.strictest(host, path, &readings, check.method, client) else {
            return Decision::Deny { reason: Reason::AmbiguousPath };
        };
        match &*requirement {
            Requirement::Public => anonymous(Reason::PublicPath),
            Requirement::Optional => match self.session(check, app, now) {
                Ok(live) => self.allow(check, app, &live, now),
                Err(_) => self.within_limit(check, anonymous(Reason::AnonymousAllowed)),
            },
            Requirement::Required => match self.session(check, app, now) {
                Ok(live) => self.allow(check, app, &live, now),
                Err(refusal) => self.within_limit(check, self.deny(check, app, refusal)),
            },
            Requirement::Subjects(subjects) => match self.session(check, app, now) {
                Ok(live) if subjects.iter().any(|subject| subject.as_str() == live.subject()) => {
                    self.allow(check, app, &live, now)
                }
                Ok(_) => Decision::Deny { reason: Reason::SubjectNotAllowed },
                Err(refusal) => self.within_limit(check, self.deny(check, app, refusal)),
            },
        }
    }

    /// Allows what rules for any host make public. Without an application there is no session.
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

    /// The path and its readings. Fails if a reading, but not the path itself, leads to the pages.
    fn readings<'c>(&self, check: &'c CheckRequest<'c>) -> Result<(&'c NormalPath<'c>, Readings<'c>), Reason> {
        let path = check.path.as_ref().map_err(|_| Reason::AmbiguousPath)?;
        let readings = path.readings().map_err(|_| Reason::AmbiguousPath)?;
        if (path.is_cased() || readings.others().len() > 0) && !path.is_under(&self.prefix) {
            let prefix = fold(self.prefix.as_bytes());
            let is_page = |path: &[u8]| is_under(&fold(path), &prefix);
            if is_page(path.as_bytes()) || readings.others().any(is_page) {
                return Err(Reason::AmbiguousPath);
            }
        }
        Ok((path, readings))
    }

    /// The live session of the request.
    fn session(&self, check: &CheckRequest, app: &AppPolicy, now: Timestamp) -> Result<LiveSession, NoSession> {
        let token = match check.credential {
            Credential::Absent => return Err(NoSession::Absent),
            Credential::Conflict => return Err(NoSession::Conflict),
            Credential::Cookie(token) | Credential::Bearer(token) => token,
        };
        let admit = || self.limits.new_token(self.client(check)).map_err(|exceeded| exceeded.retry_after);
        self.sessions.verify(token, &app.session, now, admit).map_err(NoSession::Refused)
    }

    fn allow(&self, check: &CheckRequest, app: &AppPolicy, live: &LiveSession, now: Timestamp) -> Decision {
        let identity = Identity::Known(live.identity());
        // Only cookies are renewed here. Clients with a bearer token use the renewal page.
        let has_cookie = matches!(check.credential, Credential::Cookie(_));
        if has_cookie && live.state() != TokenState::Fresh {
            if self.delivers_set_cookie
                && let Ok(next) = self.sessions.renew(live, &app.session, now)
            {
                let renewed = cookie::set(cookie::SESSION, &next.token, "/", next.session_expires.since(now));
                return Decision::Allow { identity, renewed: Some(renewed), reason: Reason::SessionRenewed };
            }
            let follows_redirect = || check.method == Method::GET && check.client_kind() == ClientKind::Page;
            if !self.delivers_set_cookie
                && live.state() == TokenState::Expired
                && follows_redirect()
                && live.admit_renewal_redirect(now)
            {
                let location = self.page(app, "renew", Some(check.target));
                return Decision::Renew { location, reason: Reason::SessionNeedsRenewal };
            }
        }
        Decision::Allow { identity, renewed: None, reason: Reason::SessionValid }
    }

    fn deny(&self, check: &CheckRequest, app: &AppPolicy, no: NoSession) -> Decision {
        let reason = match no {
            NoSession::Absent if check.client_kind() == ClientKind::Preflight => {
                return Decision::Deny { reason: Reason::PreflightDenied };
            }
            NoSession::Refused(SessionError::Busy(retry_after)) => {
                return Decision::Limited { retry_after, reason: Reason::TooManyNewTokens };
            }
            NoSession::Absent => Reason::NoSession,
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
        // The address of a script's request is not a page to return to. The application adds one when it shows the login.
        let back = matches!(check.client_kind(), ClientKind::Page | ClientKind::Form).then_some(check.target);
        Decision::Login { location: self.page(app, "login", back), reason }
    }

    /// `decision`, unless the client exceeds the limit of checks without a session.
    fn within_limit(&self, check: &CheckRequest, decision: Decision) -> Decision {
        match self.limits.unauthenticated_check(self.client(check)) {
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

    fn page(&self, app: &AppPolicy, name: &str, back: Option<&str>) -> String {
        app.origin.page(&format!("{}/{name}", self.prefix), back)
    }
}

/// The request has no live session.
#[derive(Clone, Copy, Debug)]
enum NoSession {
    Absent,
    Conflict,
    Refused(SessionError),
}

fn anonymous(reason: Reason) -> Decision {
    Decision::Allow { identity: Identity::Anonymous, renewed: None, reason }
}

#[cfg(test)]
mod tests;
