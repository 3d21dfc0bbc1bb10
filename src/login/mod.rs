//! A login, from the redirect to WeChat to the session.
//!
//! ```text
//! /login    ─▶ attempt::begin: sealed attempt cookie, redirect to WeChat
//! /callback ─▶ attempt::open: the cookie matches the state ─▶ one exchange of the code per state
//!           ─▶ wechat::exchange ─▶ no snapshot page ─▶ profile (optional) ─▶ subject ─▶ session ─▶ return address
//! ```
//!
//! Only this module waits for WeChat. No code is exchanged unless the state matches a cookie of the browser. Repeated
//! callbacks of one attempt share one session. An exchange continues if the browser disconnects.

pub mod attempt;
pub mod callback;
pub(crate) mod choice;
mod complete;
pub(crate) mod error;
pub mod loop_guard;
pub mod once;
pub(crate) mod profile_sync;
pub(crate) mod return_address_store;
pub mod return_to;
pub mod settings;

use crate::clock::Timestamp;
use crate::login_method::LoginMethod;
use crate::origin::LOST;
use crate::rate_limit::{LimitExceeded, Limits};
use crate::session::{LiveSession, Sessions};
use crate::sessions::Registry;
use crate::sessions::revocation_sync::RevocationSync;
use crate::telemetry::Metrics;
use crate::telemetry::traces::{self, SpanValue};
use crate::wechat;
use attempt::AttemptError;
use choice::Choice;
use error::LoginError;
use http::{HeaderMap, HeaderValue};
use loop_guard::RecentOutcomes;
use once::{LoginOutcome, Once, RecentCallbacks};
use profile_sync::Tokens;
use return_address_store::{Addresses, ReturnAddresses};
use settings::App;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::task::TaskTracker;

/// State that a reload of the configuration keeps.
#[derive(Default)]
pub(crate) struct LoginMemory {
    /// The progress of recent attempts.
    pub callbacks: Arc<RecentCallbacks>,
    /// Tokens for later calls for profiles.
    pub tokens: Tokens,
    /// Return addresses that do not fit into cookies.
    pub addresses: Arc<Addresses>,
}

/// The login of all applications of this instance.
pub(crate) struct Login {
    /// Applications by authority.
    pub apps: HashMap<String, Arc<App>>,
    /// The prefix of the pages, such as `/_wechat`.
    pub prefix: String,
    /// WeChat's hosts and time-outs.
    pub wechat: wechat::Settings,
    /// The client for WeChat's API.
    pub client: Arc<wechat::Client>,
    /// The access tokens of the Official Accounts.
    pub access_tokens: Arc<crate::access_token::AccessTokens>,
    /// Keys and sessions.
    pub sessions: Arc<Sessions>,
    /// Publishes revocations to all instances.
    pub sharing: Arc<RevocationSync>,
    /// Runs each callback once.
    pub once: Once,
    /// Return addresses that do not fit into cookies.
    pub return_addresses: ReturnAddresses,
    /// The list of sessions and the event stream.
    pub registry: Arc<Registry>,
    /// The age at which a profile is fetched again.
    pub profile_max_age: Duration,
    /// State that a reload of the configuration keeps.
    pub memory: Arc<LoginMemory>,
    /// Running exchanges. A shutdown waits for them.
    pub tasks: TaskTracker,
    /// Limits for logins that are started and not finished.
    pub limits: Arc<Limits>,
    /// Metrics.
    pub metrics: Arc<Metrics>,
}

/// A request to start a login.
pub(crate) struct LoginRequest<'a> {
    /// The application.
    pub app: &'a Arc<App>,
    /// The request headers: cookies and User-Agent.
    pub headers: &'a HeaderMap,
    /// The return address of the request, not yet validated.
    pub return_to: Option<&'a str>,
    /// Whether the check dropped the return address because it is too long for a URL.
    pub return_to_dropped: bool,
    /// Whether the user pressed a button for it.
    pub confirmed: bool,
    /// Whether the user chose the QR code.
    pub by_code: bool,
    /// Whether the browser has a live session.
    pub logged_in: bool,
    /// The client address.
    pub client: IpAddr,
}

/// The result of a request to start a login.
#[derive(Debug)]
pub(crate) enum LoginStart {
    /// Redirect to WeChat.
    Redirect {
        /// WeChat's URL, which ends in `#wechat_redirect`.
        location: String,
        /// Cookies to set.
        cookies: Vec<HeaderValue>,
    },
    /// The browser is logged in: redirect back.
    AlreadyLoggedIn {
        /// The absolute return address.
        location: String,
        /// Cookies to set.
        cookies: Vec<HeaderValue>,
    },
    /// The return address is too long.
    ReturnToTooLong,
    /// Show a page with a button first.
    AskFirst,
    /// The user must open the page in WeChat.
    NeedsWechat {
        /// Whether the user may choose the login by QR code instead.
        or_code: bool,
    },
    /// The user must open the page in an ordinary browser.
    NeedsBrowser,
    /// The user must open the page on a screen that a phone can scan.
    NeedsComputer,
    /// Too many logins of this browser ended in the last minute.
    TooManyAttempts,
    /// A rate limit is exceeded.
    Limited(LimitExceeded),
    /// The attempt could not be sealed.
    Failed(LoginError),
}

impl LoginStart {
    const fn as_str(&self) -> &'static str {
        match self {
            Self::Redirect { .. } => "redirect",
            Self::AlreadyLoggedIn { .. } => "back",
            Self::ReturnToTooLong => "lost",
            Self::AskFirst => "ask_first",
            Self::NeedsWechat { .. } => "needs_wechat",
            Self::NeedsBrowser => "needs_browser",
            Self::NeedsComputer => "needs_computer",
            Self::TooManyAttempts => "too_many_attempts",
            Self::Limited(_) => "limited",
            Self::Failed(_) => "error",
        }
    }
}

/// A callback.
pub(crate) struct CallbackRequest<'a> {
    /// The application.
    pub app: &'a Arc<App>,
    /// The request headers.
    pub headers: &'a HeaderMap,
    /// The parsed query.
    pub callback: callback::Callback,
    /// The live session of the browser.
    pub live: Option<LiveSession>,
    /// The session tokens of the request, valid or not. A login ends their sessions.
    pub tokens: Vec<&'a str>,
    /// The client address.
    pub client: IpAddr,
}

/// The result of a callback.
#[derive(Debug)]
pub(crate) enum CallbackOutcome {
    /// The user is logged in.
    LoggedIn {
        /// The session and the return address.
        login: LoginOutcome,
        /// Cookies to set besides the session cookie.
        cookies: Vec<HeaderValue>,
    },
    /// This attempt has created the browser's session: redirect to the return address.
    AlreadyCompleted {
        /// The absolute return address.
        location: String,
    },
    /// The browser is logged in, but not by an attempt with this state.
    AlreadyLoggedIn(AttemptError),
    /// The browser has no attempt with this state. WeChat was not called.
    NoAttempt(AttemptError),
    /// A restart would exceed a rate limit.
    Limited(LimitExceeded),
    /// The user refused at WeChat.
    Denied {
        /// The return address.
        return_to: String,
        /// Cookies to set.
        cookies: Vec<HeaderValue>,
    },
    /// Redirect to WeChat again.
    Restart {
        /// WeChat's URL.
        location: String,
        /// Cookies to set.
        cookies: Vec<HeaderValue>,
    },
    /// Too many logins failed: redirect no more.
    TooManyAttempts {
        /// The return address.
        return_to: String,
        /// Cookies to set.
        cookies: Vec<HeaderValue>,
    },
    /// The login failed.
    Failed {
        /// The error.
        error: LoginError,
        /// The login method.
        method: LoginMethod,
        /// The return address.
        return_to: String,
        /// Cookies to set.
        cookies: Vec<HeaderValue>,
    },
}

impl Login {
    /// The application at `authority`, in canonical form.
    pub(crate) fn app(&self, authority: &str) -> Option<&Arc<App>> {
        self.apps.get(authority)
    }

    /// Starts a login. Only a redirect to WeChat counts against the rate limit; it may wait for a permit.
    pub(crate) async fn start(&self, request: &LoginRequest<'_>, now: Timestamp) -> LoginStart {
        let span = traces::span("start login");
        span.set_attribute("wechat_authz.app", SpanValue::configured(request.app.name.as_str()));
        let result = span.scope(self.start_in_span(request, now)).await;
        span.set_attribute("wechat_authz.outcome", result.as_str());
        result
    }

    async fn start_in_span(&self, request: &LoginRequest<'_>, now: Timestamp) -> LoginStart {
        let LoginRequest { app, headers, return_to, confirmed, .. } = *request;
        let recent = RecentOutcomes::read(app, headers, &self.sessions.keys, now);
        let too_long = request.return_to_dropped || return_to.is_some_and(return_to::is_too_long);
        if too_long && !confirmed {
            return LoginStart::ReturnToTooLong;
        }
        if request.logged_in && !confirmed {
            // If the check rejects a session that this listener accepts, the browser is redirected in a loop.
            if recent.are_too_many() {
                return LoginStart::TooManyAttempts;
            }
            let location = return_to::accept_as_it_is(return_to, app, &self.prefix);
            let cookies = recent.succeeded(now).cookie(app, &self.sessions.keys, now);
            return LoginStart::AlreadyLoggedIn { location, cookies: cookies.into_iter().collect() };
        }
        let method = match choice::choose(app, &choice::user_agent(headers), request.by_code) {
            Choice::Method(method) => method,
            Choice::NeedsWechat { or_code } => return LoginStart::NeedsWechat { or_code },
            Choice::NeedsBrowser => return LoginStart::NeedsBrowser,
            Choice::NeedsComputer => return LoginStart::NeedsComputer,
        };
        if recent.are_too_many() && !confirmed {
            return LoginStart::TooManyAttempts;
        }
        let ask_first = app.official_account.as_ref().is_some_and(|account| account.ask_first);
        if method == LoginMethod::OfficialAccount && ask_first && !confirmed {
            return LoginStart::AskFirst;
        }
        if let Err(exceeded) = self.limits.start_login(request.client).await {
            return LoginStart::Limited(exceeded);
        }
        let return_to = return_to::accept(return_to, app, &self.prefix);
        match self.redirect(app, method, return_to, 0, headers, now).await {
            Some((location, mut cookies)) => {
                // A user who pressed a button is not in a loop.
                if confirmed && recent != RecentOutcomes::default() {
                    cookies.extend(RecentOutcomes::default().cookie(app, &self.sessions.keys, now));
                }
                LoginStart::Redirect { location, cookies }
            }
            None => LoginStart::Failed(LoginError::Internal),
        }
    }

    /// The page that explains that the return address was dropped.
    fn return_to_dropped_url(&self, app: &App) -> String {
        app.origin.absolute(&format!("{}/login?{LOST}", self.prefix))
    }

    /// Starts an attempt and returns WeChat's URL and the cookies to set.
    async fn redirect(
        &self,
        app: &App,
        method: LoginMethod,
        return_to: String,
        restarts: u8,
        headers: &HeaderMap,
        now: Timestamp,
    ) -> Option<(String, Vec<HeaderValue>)> {
        let application = app.application(method)?;
        let attempt = attempt::begin(app, method, return_to, restarts, headers, &self.sessions.keys, now)?;
        for entry in &attempt.set_aside {
            self.return_addresses.store(entry).await;
        }
        let callback = app.origin.absolute(&format!("{}/callback", self.prefix));
        let location = wechat::authorize_url(
            &self.wechat,
            method,
            &application.appid,
            app.scope(method),
            &callback,
            &attempt.state,
        );
        self.metrics.logins.started(&app.name, method);
        Some((location, attempt.cookies))
    }
}

#[cfg(test)]
mod tests;
