//! Completes a login: from the callback to the session.

use super::attempt::{self, MatchedAttempt};
use super::choice::{self, Family};
use super::error::LoginError;
use super::loop_guard::RecentOutcomes;
use super::once::LoginOutcome;
use super::settings::{App, SubjectRule};
use super::{CallbackOutcome, CallbackRequest, Login};
use crate::access_token::AccessTokenError;
use crate::clock::{self, Timestamp};
use crate::login_method::LoginMethod;
use crate::profile::Profile;
use crate::redis::CallError;
use crate::session::Grant;
use crate::session::ending::{EndError, SessionToEnd};
use crate::session_id::SessionId;
use crate::sessions::events::{Event, Kind};
use crate::sessions::registry::SessionRecord;
use crate::subject::Subject;
use crate::telemetry;
use crate::telemetry::traces::{self, SpanValue};
use crate::wechat::{Code, Credentials, ExchangeResponse, Scope, UserInfo};
use http::{HeaderMap, HeaderValue};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use tracing::Instrument as _;

/// The longest return address that is stored with an outcome. It bounds the memory of all outcomes.
const MAX_STORED_LOCATION: usize = 2_048;

/// How many callbacks with one state may be in progress before more count against the rate limit. WeChat sends two or
/// three. All of them wait for one exchange.
const MAX_FREE_CALLBACKS: usize = 16;

/// The most restarts of one login. After three failures the user sees a page.
const MAX_RESTARTS: u8 = 2;

impl Login {
    /// Completes a callback.
    ///
    /// Without the attempt's cookie, no code is exchanged. A callback with the cookie does not count against the rate limit,
    /// and a successful login returns the permit of its start. The exchange is a task of its own: WeChat's browsers
    /// disconnect and send the callback again, but a code can be exchanged only once.
    pub(crate) async fn complete(self: &Arc<Self>, request: CallbackRequest<'_>, now: Timestamp) -> CallbackOutcome {
        let CallbackRequest { app, headers, callback, live, tokens, client } = request;
        let matched = {
            let span = traces::span("match attempt");
            let matched = attempt::open(app, &callback.state, headers, &self.sessions.keys, now);
            span.set_attribute("wechat_authz.matched", matched.is_ok());
            matched
        };
        // The browser does not carry a trace context to WeChat and back.
        if let Some(start) = matched.as_ref().ok().and_then(MatchedAttempt::trace) {
            traces::link(start);
        }
        let attempt = match matched {
            Ok(attempt) => attempt,
            Err(error) => {
                let Some(live) = live else { return CallbackOutcome::NoAttempt(error) };
                return match self.once.location(&callback.state, live.claims().sid).await {
                    Some(location) => CallbackOutcome::AlreadyCompleted { location },
                    None => CallbackOutcome::AlreadyLoggedIn(error),
                };
            }
        };
        let return_to = match attempt.return_to() {
            Some(return_to) => return_to.to_owned(),
            None => {
                self.return_addresses.find(attempt.state()).await.unwrap_or_else(|| self.return_to_dropped_url(app))
            }
        };
        let attempt = attempt.returning_to(return_to.clone());
        let recent = RecentOutcomes::read(app, headers, &self.sessions.keys, now);
        let cookies = |recent: RecentOutcomes| -> Vec<HeaderValue> {
            let recent = recent.cookie(app, &self.sessions.keys, now);
            std::iter::once(attempt::forget(&callback.state)).chain(recent).collect()
        };
        let Some(code) = callback.code else {
            self.metrics.logins.failed(&app.name, attempt.method(), "denied", "denied");
            return CallbackOutcome::Denied { return_to, cookies: cookies(recent) };
        };
        if self.once.in_progress(&callback.state) >= MAX_FREE_CALLBACKS
            && let Err(exceeded) = self.limits.login(client)
        {
            return CallbackOutcome::Limited(exceeded);
        }
        let browser = Family::of(&choice::user_agent(headers));
        let exchange = {
            let (login, app, attempt) = (Arc::clone(self), Arc::clone(app), attempt.clone());
            let tokens: Vec<String> = tokens.into_iter().map(str::to_owned).collect();
            async move {
                let span = traces::span("redeem code");
                span.set_attribute("wechat_authz.app", SpanValue::configured(app.name.as_str()));
                span.set_attribute("wechat_authz.method", attempt.method().as_str());
                let result = span.scope(login.exchange_once(&app, &attempt, &code, browser, tokens, client)).await;
                if let Err(error) = &result {
                    span.set_error(error.class());
                }
                result
            }
        };
        let task = self.tasks.spawn(traces::with_context(exchange.in_current_span()));
        match task.await.unwrap_or(Err(LoginError::Internal)) {
            Ok(login) => {
                let login = LoginOutcome { location: return_to, ..login };
                CallbackOutcome::LoggedIn { login, cookies: cookies(recent.succeeded(now)) }
            }
            Err(LoginError::CodeSpent(_)) => {
                self.restart(app, &attempt, headers, recent.failed(now), client, now).await
            }
            Err(error) => CallbackOutcome::Failed {
                error,
                method: attempt.method(),
                return_to,
                cookies: cookies(recent.failed(now)),
            },
        }
    }

    /// Exchanges the code once for all callbacks of this attempt at all instances.
    async fn exchange_once(
        &self,
        app: &App,
        attempt: &MatchedAttempt,
        code: &Code,
        browser: Family,
        tokens: Vec<String>,
        client: IpAddr,
    ) -> Result<LoginOutcome, LoginError> {
        let exchange = self.exchange(app, attempt, code, browser);
        let (result, exchanged) = self.once.run_once(attempt.state(), code.expose(), exchange).await;
        if !exchanged {
            return result;
        }
        let now = clock::now();
        match &result {
            Ok(login) => {
                self.limits.login_finished(client);
                self.metrics.logins.finished(&app.name, attempt.method(), attempt.age(now));
                self.end_previous_sessions(&tokens, login.sid, now).await;
            }
            Err(error) => self.metrics.logins.failed(&app.name, attempt.method(), error.class(), error.label()),
        }
        result
    }

    /// Exchanges the code and creates the session.
    async fn exchange(
        &self,
        app: &App,
        attempt: &MatchedAttempt,
        code: &Code,
        browser: Family,
    ) -> Result<LoginOutcome, LoginError> {
        let application = app.application(attempt.method()).ok_or(LoginError::MethodRemoved)?;
        let exchange = traces::span("exchange code").instrument(self.client.exchange(application, code));
        let exchanged = exchange.await.map_err(|error| {
            tracing::warn!(app = app.name.as_str(), method = attempt.method().as_str(), %error, "code exchange failed");
            LoginError::from(&error)
        })?;
        if exchanged.snapshot {
            return Err(LoginError::Snapshot);
        }
        self.require_follower(app, attempt.method(), application, &exchanged).await?;
        let (user_info, profile_error) = match self.fetch_profile(app, attempt.method(), application, &exchanged).await
        {
            Ok(user_info) => (user_info, None),
            Err(error) => (None, Some(error)),
        };
        let unionid = exchanged.unionid.as_ref().or(user_info.as_ref().and_then(|info| info.unionid.as_ref()));
        let unionid = unionid.map(|unionid| unionid.as_str().to_owned());
        let subject = match (app.subject, &unionid) {
            (SubjectRule::Openid, _) => Subject::from_openid(application.appid.as_str(), exchanged.openid.as_str()),
            (SubjectRule::Unionid, Some(unionid)) => Subject::from_unionid(unionid),
            // The profile might have contained it.
            (SubjectRule::Unionid, None) => return Err(profile_error.unwrap_or(LoginError::NoUnionid)),
        };
        let subject = subject.map_err(|_| LoginError::Internal)?;
        let profile = match user_info {
            Some(user_info) => {
                self.remember(app, attempt.method(), &subject, &exchanged, &user_info).await;
                user_info.profile
            }
            None => self.last_known_profile(app, &subject, profile_error.is_some()).await,
        };
        let grant = Grant {
            subject,
            flow: attempt.method(),
            appid: application.appid.as_str().to_owned(),
            openid: exchanged.openid.as_str().to_owned(),
            unionid: unionid.unwrap_or_default(),
            profile,
        };
        self.issue_session(app, attempt, grant, browser)
    }

    /// Checks that the user follows the Official Account, if the application requires it. If WeChat does not answer, the login
    /// fails.
    async fn require_follower(
        &self,
        app: &App,
        method: LoginMethod,
        application: &Credentials,
        exchanged: &ExchangeResponse,
    ) -> Result<(), LoginError> {
        if method != LoginMethod::OfficialAccount || !app.requires_subscription() {
            return Ok(());
        }
        let query = traces::span("check subscription")
            .instrument(self.access_tokens.is_subscribed(application, &exchanged.openid));
        let answer = tokio::time::timeout(self.wechat.subscription_timeout(), query).await;
        match answer.unwrap_or(Err(AccessTokenError::TimedOut)) {
            Ok(true) => Ok(()),
            Ok(false) => Err(LoginError::NotSubscribed),
            Err(error) => {
                tracing::warn!(app = app.name.as_str(), %error, "subscription check failed");
                Err(LoginError::from(&error))
            }
        }
    }

    /// The last known profile. If WeChat did not answer, Redis may have a newer one.
    async fn last_known_profile(&self, app: &App, subject: &Subject, unanswered: bool) -> Profile {
        let own = self.sessions.profiles.last_known(&app.name, subject);
        let stored =
            if unanswered { self.registry.stored_profile(&app.name, subject).await.ok().flatten() } else { None };
        match (own, stored) {
            (Some(own), Some(stored)) if own.at < stored.at => stored.profile,
            (Some(own), _) => own.profile.clone(),
            (None, Some(stored)) => stored.profile,
            (None, None) => Profile::default(),
        }
    }

    fn issue_session(
        &self,
        app: &App,
        attempt: &MatchedAttempt,
        grant: Grant,
        browser: Family,
    ) -> Result<LoginOutcome, LoginError> {
        let now = clock::now();
        let subject = grant.subject.clone();
        let redacted = telemetry::redact(grant.subject.as_str());
        let issued = {
            let _span = traces::span("issue session");
            self.sessions.begin(grant, &app.session, now).map_err(|_| LoginError::Internal)?
        };
        self.metrics.sessions.issued(&app.name);
        tracing::info!(
            target: "audit", event = "login", app = app.name.as_str(), method = attempt.method().as_str(), subject = redacted,
            session = telemetry::redact(&issued.sid.to_string()), "logged in"
        );
        self.registry.session_started(SessionRecord {
            session: issued.sid,
            subject: subject.clone(),
            app: app.name.clone(),
            flow: attempt.method(),
            created: now,
            ends: issued.session_expires,
            seen: now,
            browser: Some(browser.as_str().to_owned()),
        });
        self.registry.emit(Event {
            app: Some(app.name.clone()),
            flow: Some(attempt.method()),
            subject: Some(subject),
            session: Some(issued.sid),
            ..Event::new(Kind::Login, now)
        });
        Ok(LoginOutcome {
            token: issued.token,
            sid: issued.sid,
            lifetime: issued.session_expires.since(now),
            location: attempt
                .return_to()
                .filter(|address| address.len() <= MAX_STORED_LOCATION)
                .map_or_else(|| self.return_to_dropped_url(app), str::to_owned),
        })
    }

    /// Fetches the profile if the scope permits it. An error affects the profile only, not the login.
    async fn fetch_profile(
        &self,
        app: &App,
        method: LoginMethod,
        application: &Credentials,
        exchanged: &ExchangeResponse,
    ) -> Result<Option<UserInfo>, LoginError> {
        let permitted = match app.scope(method) {
            Scope::Base => false,
            // The user or WeChat may grant less than the requested scope (48001).
            Scope::Userinfo => exchanged.granted.iter().any(|scope| scope == "snsapi_userinfo"),
            Scope::Login => true,
        };
        if !permitted {
            return Ok(None);
        }
        let user_info = traces::span("fetch profile").instrument(self.client.userinfo(application, exchanged));
        user_info.await.map(Some).map_err(|error| {
            self.metrics.logins.profile_unavailable(&app.name);
            tracing::warn!(app = app.name.as_str(), %error, "profile not fetched, using the last known one");
            LoginError::from(&error)
        })
    }

    /// Ends the previous sessions of the browser, except `current`. This prevents session fixation. It does not count against
    /// a rate limit: another client at the same address must not keep a session alive by exhausting the limit.
    async fn end_previous_sessions(&self, tokens: &[String], current: SessionId, now: Timestamp) {
        for token in tokens {
            match self.sessions.to_end(token, now, || Ok(())) {
                Ok(session) if session.claims().sid == current || session.is_over(&self.sessions, now) => {}
                Ok(session) => {
                    let ending = traces::span("end previous session").instrument(self.sharing.end(&session, now));
                    // An error has been logged. The login stays valid.
                    let _ = ending.await;
                    self.revoke_session(&session, "new_login", now);
                    self.collapse_ended(&session.claims().sub, now).await;
                }
                Err(EndError::NoSession) => {}
                Err(EndError::Busy(_) | EndError::UnknownKey(_)) => {
                    tracing::warn!("previous session not ended: the key of its token is unknown");
                }
            }
        }
    }

    /// Replaces many ended sessions of `subject` by one revocation, so that repeated logins do not fill the table. The live
    /// sessions that are known stay valid.
    pub(crate) async fn collapse_ended(&self, subject: &Subject, now: Timestamp) {
        if !self.sessions.revocations.wants_collapse(subject) {
            return;
        }
        let (live, error) = self.registry.sessions(subject, now).await;
        if matches!(error, None | Some(CallError::NotConfigured)) {
            let live =
                live.into_iter().filter(|record| !self.sessions.revocations.is_revoked(record, &AtomicU64::new(0)));
            let live = live.map(|record| record.created.0).collect();
            self.sharing.collapse(subject, live, now).await;
        }
        // Otherwise Redis may know more live sessions. A later call retries.
    }

    /// Deletes what belongs to a session that its user ends.
    pub(crate) fn end_session(&self, session: &SessionToEnd, now: Timestamp) {
        let claims = session.claims();
        self.forget_tokens(&claims.aud, &claims.sub);
        self.revoke_session(session, "person", now);
    }

    fn revoke_session(&self, session: &SessionToEnd, reason: &'static str, now: Timestamp) {
        let claims = session.claims();
        self.registry.session_ended(&claims.sub, claims.sid);
        self.registry.emit(Event {
            app: Some(claims.aud.clone()),
            flow: Some(claims.flow),
            subject: Some(claims.sub.clone()),
            session: Some(claims.sid),
            reason,
            ..Event::new(Kind::Logout, now)
        });
    }

    /// Redirects to WeChat again, unless too many logins failed.
    async fn restart(
        &self,
        app: &App,
        attempt: &MatchedAttempt,
        headers: &HeaderMap,
        recent: RecentOutcomes,
        client: IpAddr,
        now: Timestamp,
    ) -> CallbackOutcome {
        let recent_cookie = recent.cookie(app, &self.sessions.keys, now);
        let return_to = attempt.return_to().map_or_else(|| self.return_to_dropped_url(app), str::to_owned);
        let forget = attempt::forget(attempt.state());
        if attempt.restarts() >= MAX_RESTARTS || recent.are_too_many() {
            return CallbackOutcome::TooManyAttempts {
                return_to,
                cookies: recent_cookie.into_iter().chain([forget]).collect(),
            };
        }
        // A restart counts as a start: otherwise one attempt's cookie would permit any number of exchanges. The cookie stays, so
        // that the button of the page, which loads the callback again, restarts the login.
        if let Err(exceeded) = self.limits.login(client) {
            return CallbackOutcome::Limited(exceeded);
        }
        match self.redirect(app, attempt.method(), return_to.clone(), attempt.restarts() + 1, headers, now).await {
            Some((location, mut cookies)) => {
                cookies.extend(recent_cookie);
                cookies.push(forget);
                CallbackOutcome::Restart { location, cookies }
            }
            None => CallbackOutcome::Failed {
                error: LoginError::MethodRemoved,
                method: attempt.method(),
                return_to,
                cookies: vec![forget],
            },
        }
    }
}
