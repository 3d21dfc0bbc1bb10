//! The login: from "who are you?" to a session.
//!
//! ```text
//! /login ─▶ begin ─▶ sealed flow cookie + redirect to WeChat
//! /callback ─▶ flow::open (cookie and state agree, before the code is spent) ─▶ one exchange per state
//!           ─▶ wechat::exchange ─▶ snapshot? refuse ─▶ profile (may degrade) ─▶ subject ─▶ session ─▶ back
//! ```
//!
//! The only part that waits for WeChat. Promises: no code is spent for a callback whose state and cookie disagree; a
//! callback that comes twice gives one session; an exchange under way goes on when the browser hangs up. Refuses to know
//! HTTP answers and pages.

pub mod attempt;
pub mod callback;
pub mod callback_lock;
pub(crate) mod choice;
mod complete;
pub(crate) mod error;
pub mod loop_guard;
pub mod outcomes;
pub(crate) mod profile_sync;
pub mod return_to;
pub(crate) mod set_aside;
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
use callback_lock::CallbackLock;
use choice::Choice;
use error::LoginError;
use http::{HeaderMap, HeaderValue};
use loop_guard::RecentOutcomes;
use outcomes::{CallbackRegistry, LoginOutcome};
use profile_sync::Tokens;
use set_aside::Addresses;
use settings::App;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::task::TaskTracker;

/// What outlives a change of the configuration.
#[derive(Default)]
pub(crate) struct LoginMemory {
    /// How the last flows ended.
    pub outcomes: CallbackRegistry<LoginError>,
    /// What profiles are asked for again with.
    pub tokens: Tokens,
    /// Return addresses that cookies have no room for.
    pub addresses: Addresses,
}

/// The login of all applications of this instance.
pub(crate) struct Login {
    /// Applications by authority.
    pub apps: HashMap<String, Arc<App>>,
    /// Where the pages are, such as `/_wechat`.
    pub prefix: String,
    /// WeChat's hosts and bounds.
    pub wechat: wechat::Settings,
    /// The way to WeChat's server.
    pub client: Arc<wechat::Client>,
    /// The applications' own tokens.
    pub central: Arc<crate::access_token::AccessTokens>,
    /// Keys and sessions.
    pub sessions: Arc<Sessions>,
    /// Their ends, here and everywhere.
    pub sharing: Arc<RevocationSync>,
    /// How the last flows ended, as all instances know it.
    pub shared: CallbackLock,
    /// Who is logged in, and what happened.
    pub registry: Arc<Registry>,
    /// How old a profile may be before it is asked for again.
    pub profile_max_age: Duration,
    /// What outlives a change of the configuration.
    pub memory: Arc<LoginMemory>,
    /// Exchanges under way, which a shutdown waits for.
    pub tasks: TaskTracker,
    /// Budgets for logins that are started and not finished.
    pub limits: Arc<Limits>,
    /// Where it is counted.
    pub metrics: Arc<Metrics>,
}

/// A request for a login.
pub(crate) struct LoginRequest<'a> {
    /// The application.
    pub app: &'a Arc<App>,
    /// The browser's headers: its cookies and User-Agent.
    pub headers: &'a HeaderMap,
    /// Where to come back to, as it was given.
    pub return_to: Option<&'a str>,
    /// Whether there was a place to come back to that is too long for an address.
    pub lost: bool,
    /// Whether a person pressed a button for it.
    pub pressed: bool,
    /// Whether the person chose the QR code.
    pub by_code: bool,
    /// Whether the browser has a live session.
    pub logged_in: bool,
    /// The client's address.
    pub client: IpAddr,
}

/// What a request for a login leads to.
#[derive(Debug)]
pub(crate) enum LoginStart {
    /// To WeChat, with these cookies.
    Redirect {
        /// Absolute, ends in `#wechat_redirect`.
        location: String,
        /// To set.
        cookies: Vec<HeaderValue>,
    },
    /// Back: the browser is logged in.
    Back {
        /// Absolute.
        location: String,
        /// To set.
        cookies: Vec<HeaderValue>,
    },
    /// The place to come back to is too long to be kept.
    Lost,
    /// A page with a button first.
    AskFirst,
    /// It must be opened in WeChat.
    NeedsWechat {
        /// Whether the person may choose the login by QR code instead.
        or_code: bool,
    },
    /// It must be opened in an ordinary browser.
    NeedsBrowser,
    /// It must be opened where a phone can scan the screen.
    NeedsComputer,
    /// Too many ended in the last minute.
    TooManyAttempts,
    /// Too many of this address, or of all, are under way.
    Limited(LimitExceeded),
    /// Nothing could be sealed.
    WechatError(LoginError),
}

impl LoginStart {
    const fn as_str(&self) -> &'static str {
        match self {
            Self::Redirect { .. } => "redirect",
            Self::Back { .. } => "back",
            Self::Lost => "lost",
            Self::AskFirst => "ask_first",
            Self::NeedsWechat { .. } => "needs_wechat",
            Self::NeedsBrowser => "needs_browser",
            Self::NeedsComputer => "needs_computer",
            Self::TooManyAttempts => "too_many_attempts",
            Self::Limited(_) => "limited",
            Self::WechatError(_) => "error",
        }
    }
}

/// A callback, read.
pub(crate) struct CallbackRequest<'a> {
    /// The application.
    pub app: &'a Arc<App>,
    /// The browser's headers.
    pub headers: &'a HeaderMap,
    /// The query, read.
    pub callback: callback::Callback,
    /// The session the browser already has.
    pub live: Option<LiveSession>,
    /// The session tokens that it shows, whatever they are worth: a login replaces what is behind them.
    pub tokens: Vec<&'a str>,
    /// The client's address.
    pub client: IpAddr,
}

/// What a callback leads to.
#[derive(Debug)]
pub(crate) enum CallbackOutcome {
    /// Logged in.
    Entered {
        /// The session and where to go.
        entered: LoginOutcome,
        /// To set besides the session's.
        cookies: Vec<HeaderValue>,
    },
    /// Logged in before, by this very flow: back there.
    Back {
        /// Absolute.
        location: String,
    },
    /// Logged in before; the flow is over or was never here.
    AlreadyLoggedIn(AttemptError),
    /// No flow of this browser: nothing was spent, nothing was called.
    Unknown(AttemptError),
    /// A restart beyond what the client's address may have.
    Limited(LimitExceeded),
    /// The person said no at WeChat.
    Denied {
        /// Where they were going.
        return_to: String,
        /// To set.
        cookies: Vec<HeaderValue>,
    },
    /// To WeChat once more.
    Restart {
        /// Absolute.
        location: String,
        /// To set.
        cookies: Vec<HeaderValue>,
    },
    /// Failed too often: no more redirects.
    TooManyAttempts {
        /// Where the person was going.
        return_to: String,
        /// To set.
        cookies: Vec<HeaderValue>,
    },
    /// Failed.
    Failed {
        /// How.
        error: LoginError,
        /// The login method.
        flow: LoginMethod,
        /// Where the person was going.
        return_to: String,
        /// To set.
        cookies: Vec<HeaderValue>,
    },
}

impl Login {
    /// The application that lives at `authority` (canonical).
    pub(crate) fn app(&self, authority: &str) -> Option<&Arc<App>> {
        self.apps.get(authority)
    }

    /// Starts a login at `now`. Only a redirect to WeChat costs the client's address a token, and may wait for one.
    pub(crate) async fn begin(&self, start: &LoginRequest<'_>, now: Timestamp) -> LoginStart {
        let step = traces::span("start login");
        step.set_attribute("wechat_authz.app", SpanValue::configured(start.app.name.as_str()));
        let started = step.scope(self.started(start, now)).await;
        step.set_attribute("wechat_authz.outcome", started.as_str());
        started
    }

    async fn started(&self, start: &LoginRequest<'_>, now: Timestamp) -> LoginStart {
        let attempts = RecentOutcomes::read(start.app, start.headers, &self.sessions.keys, now);
        let lost = start.lost || start.return_to.is_some_and(return_to::is_too_long);
        if lost && !start.pressed {
            return LoginStart::Lost;
        }
        if start.logged_in && !start.pressed {
            // A session that this listener knows and the check does not would be sent round for ever.
            if attempts.are_too_many() {
                return LoginStart::TooManyAttempts;
            }
            let location = return_to::accept_as_it_is(start.return_to, start.app, &self.prefix);
            let cookies = attempts.succeeded(now).cookie(start.app, &self.sessions.keys, now);
            return LoginStart::Back { location, cookies: cookies.into_iter().collect() };
        }
        let user_agent = choice::user_agent(start.headers);
        let flow = match choice::choose(start.app, &user_agent, start.by_code) {
            Choice::Flow(flow) => flow,
            Choice::NeedsWechat { or_code } => return LoginStart::NeedsWechat { or_code },
            Choice::NeedsBrowser => return LoginStart::NeedsBrowser,
            Choice::NeedsComputer => return LoginStart::NeedsComputer,
        };
        if attempts.are_too_many() && !start.pressed {
            return LoginStart::TooManyAttempts;
        }
        let asks_first = start.app.official_account.as_ref().is_some_and(|account| account.ask_first);
        if flow == LoginMethod::OfficialAccount && asks_first && !start.pressed {
            return LoginStart::AskFirst;
        }
        if let Err(exceeded) = self.limits.start_login(start.client).await {
            return LoginStart::Limited(exceeded);
        }
        let return_to = return_to::accept(start.return_to, start.app, &self.prefix);
        match self.redirect(start.app, flow, return_to, 0, start.headers, now).await {
            Some((location, mut cookies)) => {
                if start.pressed && attempts != RecentOutcomes::default() {
                    cookies.extend(RecentOutcomes::forgiven().cookie(start.app, &self.sessions.keys, now));
                }
                LoginStart::Redirect { location, cookies }
            }
            None => LoginStart::WechatError(LoginError::Ours),
        }
    }

    /// The page that says that the place to come back to was not kept.
    fn lost(&self, app: &App) -> String {
        app.origin.absolute(&format!("{}/login?{LOST}", self.prefix))
    }

    /// A new flow and WeChat's address for it.
    async fn redirect(
        &self,
        app: &App,
        flow: LoginMethod,
        return_to: String,
        restarts: u8,
        headers: &HeaderMap,
        now: Timestamp,
    ) -> Option<(String, Vec<HeaderValue>)> {
        let application = app.application(flow)?;
        let begun = attempt::begin(app, flow, return_to, restarts, headers, &self.sessions.keys, now)?;
        for entry in &begun.set_aside {
            self.memory.addresses.keep(entry, Instant::now());
            self.shared.set_aside(entry).await;
        }
        let callback = app.origin.absolute(&format!("{}/callback", self.prefix));
        let location =
            wechat::authorize_url(&self.wechat, flow, &application.appid, app.scope(flow), &callback, &begun.state);
        self.metrics.login_started(&app.name, flow);
        Some((location, begun.cookies))
    }
}

#[cfg(test)]
mod tests;
