//! The callback's way to a session.

use super::attempt::{self, MatchedAttempt};
use super::callback_lock::Known;
use super::choice::{self, Family};
use super::error::LoginError;
use super::loop_guard::RecentOutcomes;
use super::outcomes::{CodeAction, LoginOutcome, Progress};
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
use std::time::Instant;
use tracing::Instrument as _;

/// How `code` of a flow ended, if it has.
fn finished_login(progress: &Progress<LoginError>, code: &Code) -> Option<Result<LoginOutcome, LoginError>> {
    match progress.next(code.expose()) {
        CodeAction::Done(entered) => Some(Ok(entered)),
        CodeAction::Failed(error) => Some(Err(error)),
        CodeAction::Spend => None,
    }
}

/// The longest address that is remembered with an outcome, for a browser that comes back without its flow: it bounds the
/// memory of all outcomes.
const MAX_REMEMBERED: usize = 2_048;

/// Deliveries of one callback at once that cost nothing: WeChat makes two or three. Each waits for one exchange.
const MAX_FREE_DELIVERIES: usize = 16;

/// Restarts of one flow at most: after three failures a person is shown a page.
const MAX_RESTARTS: u8 = 2;

impl Login {
    /// Takes a callback to its end, at `now`.
    ///
    /// A callback that matches its flow costs its address nothing, and a login that ends well returns the start's token. Only
    /// with the flow's cookie is anything spent or called. The exchange runs apart from the browser's connection:
    /// WeChat's browsers hang up and ask again, and a code is good once.
    pub(crate) async fn complete(self: &Arc<Self>, back: CallbackRequest<'_>, now: Timestamp) -> CallbackOutcome {
        let CallbackRequest { app, headers, callback, live, tokens, client } = back;
        let matched = {
            let step = traces::span("match attempt");
            let matched = attempt::open(app, &callback.state, headers, &self.sessions.keys, now);
            step.set_attribute("wechat_authz.matched", matched.is_ok());
            matched
        };
        // A browser takes no trace along to WeChat and back.
        if let Some(begun) = matched.as_ref().ok().and_then(MatchedAttempt::trace) {
            traces::link(begun);
        }
        let matched = match matched {
            Ok(matched) => matched,
            Err(error) => {
                let Some(live) = live else { return CallbackOutcome::NoAttempt(error) };
                let location = self.location_of_finished_login(&callback.state, live.claims().sid).await;
                return location.map_or(CallbackOutcome::AlreadyLoggedIn(error), |location| {
                    CallbackOutcome::AlreadyCompleted { location }
                });
            }
        };
        let return_to = match matched.return_to() {
            Some(return_to) => return_to.to_owned(),
            None => self.set_aside_for(matched.state()).await.unwrap_or_else(|| self.return_to_dropped_url(app)),
        };
        let matched = matched.returning_to(return_to.clone());
        let attempts = RecentOutcomes::read(app, headers, &self.sessions.keys, now);
        let ends = |attempts: RecentOutcomes| -> Vec<HeaderValue> {
            let remembered = attempts.cookie(app, &self.sessions.keys, now);
            std::iter::once(attempt::forget(&callback.state)).chain(remembered).collect()
        };
        let Some(code) = callback.code else {
            self.metrics.logins.failed(&app.name, matched.flow(), "denied", "denied");
            return CallbackOutcome::Denied { return_to, cookies: ends(attempts) };
        };
        if self.memory.outcomes.deliveries(&callback.state) >= MAX_FREE_DELIVERIES
            && let Err(exceeded) = self.limits.login(client)
        {
            return CallbackOutcome::Limited(exceeded);
        }
        let (login, flow_app, flow) = (Arc::clone(self), Arc::clone(app), matched.clone());
        let browser = Family::of(&choice::user_agent(headers));
        let former: Vec<String> = tokens.into_iter().map(str::to_owned).collect();
        let spend = async move {
            let step = traces::span("redeem code");
            step.set_attribute("wechat_authz.app", SpanValue::configured(flow_app.name.as_str()));
            step.set_attribute("wechat_authz.method", flow.flow().as_str());
            let spent = step.scope(login.exchange_once(&flow_app, &flow, &code, browser, former, client)).await;
            if let Err(error) = &spent {
                step.set_error(error.class());
            }
            spent
        };
        let spending = self.tasks.spawn(traces::with_context(spend.in_current_span()));
        match spending.await.unwrap_or(Err(LoginError::Internal)) {
            Ok(entered) => {
                let entered = LoginOutcome { location: return_to, ..entered };
                CallbackOutcome::LoggedIn { login: entered, cookies: ends(attempts.succeeded(now)) }
            }
            Err(LoginError::CodeSpent(_)) => {
                self.restart(app, &matched, headers, attempts.failed(now), client, now).await
            }
            Err(error) => CallbackOutcome::Failed {
                error,
                method: matched.flow(),
                return_to,
                cookies: ends(attempts.failed(now)),
            },
        }
    }

    /// Where the flow of `state` goes in the end, if its cookie had no room for it and it is still known.
    async fn set_aside_for(&self, state: &str) -> Option<String> {
        match self.memory.addresses.find(state, Instant::now()) {
            Some(return_to) => Some(return_to),
            None => self.shared.return_to(state).await,
        }
    }

    /// Where the flow of `state` ended, if it ended in session `sid`, here or at another instance.
    async fn location_of_finished_login(&self, state: &str, sid: SessionId) -> Option<String> {
        match self.memory.outcomes.location_for(state, sid) {
            Some(location) => Some(location),
            None => {
                self.shared.entered(state).await.filter(|entered| entered.sid == sid).map(|entered| entered.location)
            }
        }
    }

    /// Spends the code once for however many deliveries of this flow, to however many instances.
    async fn exchange_once(
        &self,
        app: &App,
        flow: &MatchedAttempt,
        code: &Code,
        browser: Family,
        former: Vec<String>,
        client: IpAddr,
    ) -> Result<LoginOutcome, LoginError> {
        let slot = self.memory.outcomes.slot(flow.state(), Instant::now());
        let mut progress = slot.lock().await;
        if let Some(end) = finished_login(&progress, code) {
            return end;
        }
        let turn = match self.shared.acquire(flow.state(), code.expose()).await {
            Known::Mine(turn) => Some(turn),
            Known::Ended(elsewhere) => {
                *progress = elsewhere;
                if let Some(end) = finished_login(&progress, code) {
                    return end;
                }
                None
            }
            Known::Alone(away) => {
                self.metrics.logins.without_redis(away.as_str());
                None
            }
        };
        let result = self.finish_login(app, flow, code, browser).await;
        progress.record(code.expose(), &result);
        if let Some(turn) = turn {
            // Who waits elsewhere must not wait until the turn runs out.
            let _ = self.shared.release(flow.state(), &turn, Some(&progress)).await;
        }
        drop(progress);
        let now = clock::now();
        match &result {
            Ok(entered) => {
                self.limits.login_finished(client);
                self.metrics.logins.finished(&app.name, flow.flow(), flow.age(now));
                self.end_former(&former, entered.sid, now).await;
            }
            Err(error) => self.metrics.logins.failed(&app.name, flow.flow(), error.class(), error.label()),
        }
        result
    }

    /// From a code to a session.
    async fn finish_login(
        &self,
        app: &App,
        flow: &MatchedAttempt,
        code: &Code,
        browser: Family,
    ) -> Result<LoginOutcome, LoginError> {
        let application = app.application(flow.flow()).ok_or(LoginError::MethodRemoved)?;
        let exchange = traces::span("exchange code").instrument(self.client.exchange(application, code));
        let exchanged = exchange.await.map_err(|error| {
            tracing::warn!(app = app.name.as_str(), method = flow.flow().as_str(), %error, "code exchange failed");
            LoginError::from(&error)
        })?;
        if exchanged.snapshot {
            return Err(LoginError::Snapshot);
        }
        self.require_follower(app, flow.flow(), application, &exchanged).await?;
        let (told, missed) = match self.fetch_profile(app, flow.flow(), application, &exchanged).await {
            Ok(told) => (told, None),
            Err(error) => (None, Some(error)),
        };
        let unionid = exchanged.unionid.as_ref().or(told.as_ref().and_then(|told| told.unionid.as_ref()));
        let unionid = unionid.map(|unionid| unionid.as_str().to_owned());
        let subject = match (app.subject, &unionid) {
            (SubjectRule::Openid, _) => Subject::from_openid(application.appid.as_str(), exchanged.openid.as_str()),
            (SubjectRule::Unionid, Some(unionid)) => Subject::from_unionid(unionid),
            // It might have come with the profile.
            (SubjectRule::Unionid, None) => return Err(missed.unwrap_or(LoginError::NoUnionid)),
        };
        let subject = subject.map_err(|_| LoginError::Internal)?;
        let profile = match told {
            Some(told) => {
                self.remember(app, flow.flow(), &subject, &exchanged, &told).await;
                told.profile
            }
            None => self.last_known_profile(app, &subject, missed.is_some()).await,
        };
        let grant = Grant {
            subject,
            flow: flow.flow(),
            appid: application.appid.as_str().to_owned(),
            openid: exchanged.openid.as_str().to_owned(),
            unionid: unionid.unwrap_or_default(),
            profile,
        };
        self.issue_session(app, flow, grant, browser)
    }

    /// Whether this application lets in who does not follow its Official Account, and if it does not, that this person
    /// does. Where WeChat does not say, nobody is let in.
    async fn require_follower(
        &self,
        app: &App,
        flow: LoginMethod,
        application: &Credentials,
        exchanged: &ExchangeResponse,
    ) -> Result<(), LoginError> {
        if flow != LoginMethod::OfficialAccount || !app.requires_subscription() {
            return Ok(());
        }
        let asked = traces::span("check subscription")
            .instrument(self.access_tokens.is_subscribed(application, &exchanged.openid));
        let answer = tokio::time::timeout(self.wechat.subscription_timeout(), asked).await;
        match answer.unwrap_or(Err(AccessTokenError::TimedOut)) {
            Ok(true) => Ok(()),
            Ok(false) => Err(LoginError::NotSubscribed),
            Err(error) => {
                tracing::warn!(app = app.name.as_str(), %error, "WeChat did not say whether a person follows the account");
                Err(LoginError::from(&error))
            }
        }
    }

    /// The last known profile. Where WeChat was asked and did not answer, another instance may know a later one.
    async fn last_known_profile(&self, app: &App, subject: &Subject, asked: bool) -> Profile {
        let own = self.sessions.profiles.last_known(&app.name, subject);
        let stored = if asked { self.registry.stored_profile(&app.name, subject).await.ok().flatten() } else { None };
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
        flow: &MatchedAttempt,
        grant: Grant,
        browser: Family,
    ) -> Result<LoginOutcome, LoginError> {
        let now = clock::now();
        let subject = grant.subject.clone();
        let who = telemetry::redact(grant.subject.as_str());
        let issued = {
            let _step = traces::span("issue session");
            self.sessions.begin(grant, &app.session, now).map_err(|_| LoginError::Internal)?
        };
        self.metrics.sessions.issued(&app.name);
        tracing::info!(
            target: "audit", event = "login", app = app.name.as_str(), method = flow.flow().as_str(), subject = who,
            session = telemetry::redact(&issued.sid.to_string()), "logged in"
        );
        self.registry.session_started(SessionRecord {
            session: issued.sid,
            subject: subject.clone(),
            app: app.name.clone(),
            flow: flow.flow(),
            created: now,
            ends: issued.session_expires,
            seen: now,
            browser: Some(browser.as_str().to_owned()),
        });
        self.registry.emit(Event {
            app: Some(app.name.clone()),
            flow: Some(flow.flow()),
            subject: Some(subject),
            session: Some(issued.sid),
            ..Event::new(Kind::Login, now)
        });
        Ok(LoginOutcome {
            token: issued.token,
            sid: issued.sid,
            lifetime: issued.session_expires.since(now),
            location: flow
                .return_to()
                .filter(|address| address.len() <= MAX_REMEMBERED)
                .map_or_else(|| self.return_to_dropped_url(app), str::to_owned),
        })
    }

    /// What WeChat tells of the person, where this login may ask. Its failure degrades the profile, not the login.
    async fn fetch_profile(
        &self,
        app: &App,
        flow: LoginMethod,
        application: &Credentials,
        exchanged: &ExchangeResponse,
    ) -> Result<Option<UserInfo>, LoginError> {
        let asks = match app.scope(flow) {
            Scope::Base => false,
            // Asked for, but the person or WeChat granted less: no error, no profile (48001).
            Scope::Userinfo => exchanged.granted.iter().any(|scope| scope == "snsapi_userinfo"),
            Scope::Login => true,
        };
        if !asks {
            return Ok(None);
        }
        let told = traces::span("fetch profile").instrument(self.client.userinfo(application, exchanged));
        told.await.map(Some).map_err(|error| {
            self.metrics.logins.profile_unavailable(&app.name);
            tracing::warn!(app = app.name.as_str(), %error, "no profile came; the last known one is used");
            LoginError::from(&error)
        })
    }

    /// Ends the sessions of the tokens that the browser had, but for the one that it has `entered` (no fixation, no
    /// session that outlives its cookie). No budget is asked: the login has paid for it, and a neighbour who spends the
    /// address's budgets must not keep a session alive.
    async fn end_former(&self, tokens: &[String], entered: SessionId, now: Timestamp) {
        for token in tokens {
            match self.sessions.to_end(token, now, || Ok(())) {
                Ok(session) if session.claims().sid == entered || session.is_over(&self.sessions, now) => {}
                Ok(session) => {
                    let ending = traces::span("end previous session").instrument(self.sharing.end(&session, now));
                    // What breaks off has been logged; the login stands.
                    let _ = ending.await;
                    self.revoke_session(&session, "new_login", now);
                    self.collapse_ended(&session.claims().sub, now).await;
                }
                Err(EndError::NoSession) => {}
                Err(EndError::Busy(_) | EndError::UnknownKey(_)) => {
                    tracing::warn!("a login could not end the former session: this instance lacks its key");
                }
            }
        }
    }

    /// Makes the many ended sessions of `subject` one revocation, so that nobody fills the table by logging in again and
    /// again. Its sessions that live on, as far as they are known, stay alive.
    pub(crate) async fn collapse_ended(&self, subject: &Subject, now: Timestamp) {
        if !self.sessions.revocations.wants_collapse(subject) {
            return;
        }
        let (live, alone) = self.registry.sessions(subject, now).await;
        if matches!(alone, None | Some(CallError::NotConfigured)) {
            let live =
                live.into_iter().filter(|record| !self.sessions.revocations.is_revoked(record, &AtomicU64::new(0)));
            let live = live.map(|record| record.created.0).collect();
            self.sharing.collapse(subject, live, now).await;
        }
        // Otherwise Redis may know more sessions; a few dozen entries more can wait for it.
    }

    /// Ends what goes with a session that its person leaves.
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

    /// Once more to WeChat, unless this has been tried often enough.
    async fn restart(
        &self,
        app: &App,
        matched: &MatchedAttempt,
        headers: &HeaderMap,
        attempts: RecentOutcomes,
        client: IpAddr,
        now: Timestamp,
    ) -> CallbackOutcome {
        let remembered = attempts.cookie(app, &self.sessions.keys, now);
        let return_to = matched.return_to().map_or_else(|| self.return_to_dropped_url(app), str::to_owned);
        let forget = attempt::forget(matched.state());
        if matched.restarts() >= MAX_RESTARTS || attempts.are_too_many() {
            return CallbackOutcome::TooManyAttempts {
                return_to,
                cookies: remembered.into_iter().chain([forget]).collect(),
            };
        }
        // A start like any other: otherwise one flow's cookie would be good for exchanges without end. The flow stays, so that
        // the page's button, which loads the callback again, restarts it.
        if let Err(exceeded) = self.limits.login(client) {
            return CallbackOutcome::Limited(exceeded);
        }
        match self.redirect(app, matched.flow(), return_to.clone(), matched.restarts() + 1, headers, now).await {
            Some((location, mut cookies)) => {
                cookies.extend(remembered);
                cookies.push(forget);
                CallbackOutcome::Restart { location, cookies }
            }
            None => CallbackOutcome::Failed {
                error: LoginError::MethodRemoved,
                method: matched.flow(),
                return_to,
                cookies: vec![forget],
            },
        }
    }
}
