//! Coming in: `login` and `callback`.

use super::answer::{self, Answer};
use super::rejection::Rejection;
use super::{PageRequest, Pages};
use crate::cookie;
use crate::html::{Code, Page};
use crate::login::callback::Callback;
use crate::login::choice::{self, Browser};
use crate::login::error::LoginError;
use crate::login::return_to;
use crate::login::{CallbackOutcome, CallbackRequest, LoginRequest, LoginStart};
use crate::login_method::LoginMethod;
use crate::random;
use crate::rate_limit::LimitExceeded;
use http::{HeaderValue, StatusCode, header};

impl Pages {
    /// `GET login?return_to=…`: to WeChat, straight back for a browser that is logged in, or a page that says why not.
    /// `go=1` is what our own buttons add, `by=code` that of the login by QR code on a phone.
    pub(super) async fn login(&self, visit: &PageRequest<'_>) -> Answer {
        let return_to = visit.parameter("return_to");
        let by_code = visit.parameter("by").is_some_and(|way| way == "code");
        let start = LoginRequest {
            app: visit.app,
            headers: &visit.request.headers,
            return_to: return_to.as_deref(),
            lost: visit.parameter("lost").is_some(),
            pressed: visit.parameter("go").is_some(),
            by_code,
            // Where that is not known now, a login does no harm.
            logged_in: matches!(self.session(visit), Ok(Some(_))),
            client: visit.client,
        };
        let again = || self.url(visit, if by_code { BY_CODE } else { AGAIN }, return_to.as_deref());
        let logged_in = start.logged_in;
        match self.login.begin(&start, visit.now).await {
            LoginStart::Redirect { location, cookies } => answer::redirect(StatusCode::FOUND, &location, cookies),
            LoginStart::Back { location, cookies } => answer::redirect(StatusCode::SEE_OTHER, &location, cookies),
            LoginStart::Lost if logged_in => answer::page(&Page::LostLoggedIn { home_url: "/" }, visit.language),
            LoginStart::Lost => answer::page(&Page::Lost { login_url: &self.url(visit, AGAIN, None) }, visit.language),
            LoginStart::AskFirst => {
                let ask = Page::AskFirst { app: &visit.app.title, continue_url: &again() };
                answer::page(&ask, visit.language)
            }
            LoginStart::NeedsWechat { or_code } => {
                let (url, code) = self.address(visit, return_to.as_deref());
                let code_url = or_code.then(|| self.url(visit, BY_CODE, return_to.as_deref()));
                let page = Page::NeedsWechat { url: &url, code: code.as_ref(), code_url: code_url.as_deref() };
                answer::page(&page, visit.language)
            }
            LoginStart::NeedsBrowser => {
                let (url, code) = self.address(visit, return_to.as_deref());
                answer::page(&Page::NeedsBrowser { url: &url, code: code.as_ref() }, visit.language)
            }
            LoginStart::NeedsComputer => {
                let (url, code) = self.address(visit, return_to.as_deref());
                let code_url = self.url(visit, BY_CODE, return_to.as_deref());
                let page = Page::NeedsComputer { url: &url, code: code.as_ref(), code_url: &code_url };
                answer::page(&page, visit.language)
            }
            LoginStart::TooManyAttempts => self.too_many_attempts(visit, &again(), Vec::new()),
            LoginStart::Limited(exceeded) => self.check_limit(visit, exceeded),
            LoginStart::WechatError(error) => self.error_page(visit, error, None, return_to.as_deref()),
        }
    }

    /// The whole address to open elsewhere, and its drawing. One costs the processor more than all else on a page: beyond a
    /// rate the address stands alone.
    fn address(&self, visit: &PageRequest, return_to: Option<&str>) -> (String, Option<Code>) {
        let address = return_to::accept(return_to, visit.app, &self.login.prefix);
        let code = if self.limits.draw_code() { Code::draw(&address) } else { None };
        (address, code)
    }

    /// The page on which a loop ends.
    fn too_many_attempts(&self, visit: &PageRequest, login_url: &str, cookies: Vec<HeaderValue>) -> Answer {
        self.record_rejection(visit, Rejection::LoopStopped);
        let browser = Browser::of(&choice::user_agent(&visit.request.headers));
        let page = Page::TooManyAttempts { login_url, in_wechat: browser != Browser::Ordinary };
        answer::with_cookies(answer::page(&page, visit.language), cookies)
    }

    /// `GET callback?code=…&state=…`: what WeChat sends the browser back with.
    pub(super) async fn callback(&self, visit: &PageRequest<'_>) -> Answer {
        let callback = match Callback::read(visit.query()) {
            Ok(callback) => callback,
            Err(error) => {
                self.record_rejection(visit, error);
                if let Err(exceeded) = self.limits.login(visit.client) {
                    return self.check_limit(visit, exceeded);
                }
                let login_url = self.login_url(visit, None);
                return answer::page(&Page::Incomplete { login_url: &login_url }, visit.language);
            }
        };
        let back = CallbackRequest {
            app: visit.app,
            headers: &visit.request.headers,
            callback,
            live: self.session(visit).ok().flatten(),
            tokens: Self::tokens(visit),
            client: visit.client,
        };
        let login_url = self.login_url(visit, None);
        let page =
            |page: &Page, cookies: Vec<HeaderValue>| answer::with_cookies(answer::page(page, visit.language), cookies);
        match self.login.complete(back, visit.now).await {
            CallbackOutcome::Entered { entered, cookies } => {
                let session = cookie::set(cookie::SESSION, &entered.token, "/", entered.lifetime);
                let location = without_inherited_fragment(entered.location);
                answer::redirect(StatusCode::SEE_OTHER, &location, cookies.into_iter().chain([session]))
            }
            CallbackOutcome::Back { location } => {
                answer::redirect(StatusCode::SEE_OTHER, &without_inherited_fragment(location), [])
            }
            CallbackOutcome::AlreadyLoggedIn(error) => {
                self.record_rejection(visit, error);
                page(&Page::AlreadyLoggedIn { continue_url: "/" }, Vec::new())
            }
            CallbackOutcome::Unknown(error) => {
                self.record_rejection(visit, error);
                match self.limits.login(visit.client) {
                    Ok(()) => page(&Page::Expired { login_url: &login_url }, Vec::new()),
                    Err(exceeded) => self.check_limit(visit, exceeded),
                }
            }
            CallbackOutcome::Limited(exceeded) => self.check_limit(visit, exceeded),
            CallbackOutcome::Denied { return_to, cookies } => {
                page(&Page::Denied { login_url: &self.login_url(visit, Some(&return_to)) }, cookies)
            }
            CallbackOutcome::Restart { location, cookies } => {
                answer::redirect(StatusCode::SEE_OTHER, &location, cookies)
            }
            CallbackOutcome::TooManyAttempts { return_to, cookies } => {
                self.too_many_attempts(visit, &self.login_url(visit, Some(&return_to)), cookies)
            }
            CallbackOutcome::Failed { error, flow, return_to, cookies } => {
                answer::with_cookies(self.error_page(visit, error, Some(flow), Some(&return_to)), cookies)
            }
        }
    }

    /// What a person sees of each error, and the one log line with the same incident.
    fn error_page(
        &self,
        visit: &PageRequest,
        error: LoginError,
        flow: Option<LoginMethod>,
        return_to: Option<&str>,
    ) -> Answer {
        let incident = random::incident_id();
        let login_url = self.login_url(visit, return_to);
        let page = match error {
            LoginError::CodeSpent(_) => Page::Expired { login_url: &login_url },
            LoginError::Unreachable(_) => Page::WechatUnreachable { login_url: &login_url, incident: &incident },
            LoginError::Refused(_) => Page::UserRefused { incident: &incident, retry_url: &login_url },
            LoginError::Snapshot => Page::Snapshot { login_url: &login_url },
            LoginError::NotSubscribed => {
                let account = visit.app.official_account.as_ref();
                Page::NotSubscribed {
                    login_url: &login_url,
                    account: account.and_then(|account| account.name.as_deref()),
                    code: account.and_then(|account| account.follow_qr.as_deref()),
                }
            }
            LoginError::NoUnionid => Page::NoUnionid { incident: &incident, retry_url: &login_url },
            LoginError::Configuration(_) | LoginError::FlowGone | LoginError::Ours => {
                Page::Misconfigured { incident: &incident, retry_url: &login_url }
            }
        };
        let (app, class, errcode) = (visit.app.name.as_str(), error.class(), error.label());
        // What the operator compares with WeChat's console, and what Tencent's support asks for.
        let appid = flow.and_then(|flow| visit.app.application(flow)).map(|application| application.appid.as_str());
        let rid = error.rid().map(tracing::field::display);
        match error {
            LoginError::Configuration(_) | LoginError::NoUnionid | LoginError::FlowGone | LoginError::Ours => {
                tracing::error!(reference = incident, app, appid, class, errcode, rid, %error, "a login failed: this needs the operator");
            }
            _ => tracing::warn!(reference = incident, app, appid, class, errcode, rid, %error, "a login failed"),
        }
        answer::page(&page, visit.language)
    }

    /// The page for a client beyond a limit.
    fn check_limit(&self, visit: &PageRequest, exceeded: LimitExceeded) -> Answer {
        self.record_limit(visit, exceeded.budget);
        let mut answer = answer::page(&Page::TooManyRequests { retry_after: exceeded.retry_after }, visit.language);
        answer.headers_mut().insert(header::RETRY_AFTER, answer::jittered(exceeded.retry_after));
        answer
    }

    /// Where our own buttons lead: the login, pressed by a person, who goes on to where they were going.
    fn login_url(&self, visit: &PageRequest, return_to: Option<&str>) -> String {
        let own = visit.app.origin.as_str();
        let return_to =
            return_to.map(|target| target.strip_prefix(own).filter(|path| path.starts_with('/')).unwrap_or(target));
        self.url(visit, AGAIN, return_to)
    }
}

/// Where our own buttons lead.
const AGAIN: &str = "login?go=1";

/// The same for a phone whose user has another device to scan with.
const BY_CODE: &str = "login?go=1&by=code";

/// `location` with a fragment of its own: a browser carries the `#wechat_redirect` of the way to WeChat along otherwise.
fn without_inherited_fragment(location: String) -> String {
    if location.contains('#') { location } else { location + "#" }
}
