//! Coming in: `login` and `callback`.

use super::answer::{self, Answer};
use super::rejection::Rejection;
use super::{Pages, Visit};
use crate::cookie;
use crate::html::Page;
use crate::login::callback::Callback;
use crate::login::fault::LoginFault;
use crate::login::{Return, Returned, Start, Started};
use crate::random;
use http::{HeaderValue, StatusCode, header};

impl Pages {
    /// `GET login?return_to=…`: to WeChat, or a page that says why not. `go=1` is what our own buttons add.
    pub(super) fn begin(&self, visit: &Visit) -> Answer {
        if let Some(limited) = self.limited(visit) {
            return limited;
        }
        let return_to = visit.parameter("return_to");
        let start = Start {
            app: visit.app,
            headers: &visit.request.headers,
            return_to: return_to.as_deref(),
            pressed: visit.parameter("go").is_some(),
        };
        let again = || self.login_url(visit, return_to.as_deref());
        match self.login.begin(&start, visit.now) {
            Started::Redirect { location, cookies } => answer::redirect(StatusCode::FOUND, &location, cookies),
            Started::AskFirst => {
                let ask = Page::AskFirst { app: &visit.app.name, continue_url: &again() };
                answer::page(&ask, visit.language)
            }
            Started::NeedsWechat => answer::page(&Page::NeedsWechat { url: visit.app.origin.as_str() }, visit.language),
            Started::NeedsBrowser => {
                answer::page(&Page::NeedsBrowser { url: visit.app.origin.as_str() }, visit.language)
            }
            Started::TooManyAttempts => {
                self.record_rejection(visit, Rejection::LoopStopped);
                answer::page(&Page::TooManyAttempts { login_url: &again() }, visit.language)
            }
            Started::Fault(fault) => self.failed(visit, fault, return_to.as_deref()),
        }
    }

    /// `GET callback?code=…&state=…`: what WeChat sends the browser back with.
    pub(super) async fn complete(&self, visit: &Visit<'_>) -> Answer {
        if let Some(limited) = self.limited(visit) {
            return limited;
        }
        let callback = match Callback::read(visit.query()) {
            Ok(callback) => callback,
            Err(fault) => {
                self.record_rejection(visit, fault);
                return answer::page(&Page::BadRequest, visit.language);
            }
        };
        let back = Return {
            app: visit.app,
            headers: &visit.request.headers,
            callback,
            live: self.session(visit).ok().flatten(),
            tokens: Self::tokens(visit),
        };
        let login_url = self.login_url(visit, None);
        let page =
            |page: &Page, cookies: Vec<HeaderValue>| answer::with_cookies(answer::page(page, visit.language), cookies);
        match self.login.complete(back, visit.now).await {
            Returned::Entered { entered, cookies } => {
                let session = cookie::set(cookie::SESSION, &entered.token, "/", entered.lifetime);
                answer::redirect(StatusCode::SEE_OTHER, &entered.location, cookies.into_iter().chain([session]))
            }
            Returned::Back { location } => answer::redirect(StatusCode::SEE_OTHER, &location, []),
            Returned::AlreadyLoggedIn(error) => {
                self.record_rejection(visit, error);
                page(&Page::AlreadyLoggedIn { continue_url: "/" }, Vec::new())
            }
            Returned::Unknown(error) => {
                self.record_rejection(visit, error);
                page(&Page::Expired { login_url: &login_url }, Vec::new())
            }
            Returned::Denied { return_to, cookies } => {
                page(&Page::Denied { login_url: &self.login_url(visit, Some(&return_to)) }, cookies)
            }
            Returned::Restart { location, cookies } => answer::redirect(StatusCode::SEE_OTHER, &location, cookies),
            Returned::TooManyAttempts { return_to, cookies } => {
                self.record_rejection(visit, Rejection::LoopStopped);
                page(&Page::TooManyAttempts { login_url: &self.login_url(visit, Some(&return_to)) }, cookies)
            }
            Returned::Failed { fault, return_to, cookies } => {
                answer::with_cookies(self.failed(visit, fault, Some(&return_to)), cookies)
            }
        }
    }

    /// What a person sees of each fault, and the one log line with the same incident.
    fn failed(&self, visit: &Visit, fault: LoginFault, return_to: Option<&str>) -> Answer {
        let incident = random::incident_id();
        let login_url = self.login_url(visit, return_to);
        let page = match fault {
            LoginFault::CodeSpent { .. } => Page::Expired { login_url: &login_url },
            LoginFault::Unreachable { .. } => Page::WechatUnreachable { login_url: &login_url, incident: &incident },
            LoginFault::Refused { .. } => Page::UserRefused { incident: &incident },
            LoginFault::Snapshot => Page::Snapshot { login_url: &login_url },
            LoginFault::NotSubscribed => Page::NotSubscribed { login_url: &login_url },
            LoginFault::NoUnionid => Page::NoUnionid { incident: &incident },
            LoginFault::Configuration { .. } | LoginFault::FlowGone | LoginFault::Ours => {
                Page::Misconfigured { incident: &incident }
            }
        };
        let (app, class, errcode) = (&visit.app.name, fault.class(), fault.label());
        match fault {
            LoginFault::Configuration { .. } | LoginFault::NoUnionid | LoginFault::FlowGone | LoginFault::Ours => {
                tracing::error!(incident, app, class, errcode, %fault, "a login failed: this needs the operator");
            }
            _ => tracing::warn!(incident, app, class, errcode, %fault, "a login failed"),
        }
        answer::page(&page, visit.language)
    }

    /// The page for who asks too often, if they do.
    fn limited(&self, visit: &Visit) -> Option<Answer> {
        let exceeded = self.limits.login(visit.client).err()?;
        self.record_limit(visit, exceeded.budget);
        let mut answer = answer::page(&Page::TooManyRequests { retry_after: exceeded.retry_after }, visit.language);
        answer.headers_mut().insert(header::RETRY_AFTER, answer::jittered(exceeded.retry_after));
        Some(answer)
    }

    /// Where our own buttons lead: the login, pressed by a person, who goes on to where they were going.
    fn login_url(&self, visit: &Visit, return_to: Option<&str>) -> String {
        let own = visit.app.origin.as_str();
        let return_to =
            return_to.map(|target| target.strip_prefix(own).filter(|path| path.starts_with('/')).unwrap_or(target));
        self.url(visit, "login?go=1", return_to)
    }
}
