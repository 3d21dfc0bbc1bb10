//! Coming in: `login` and `callback`.

use super::answer::{self, Answer};
use super::rejection::Rejection;
use super::{Pages, Visit};
use crate::check::Flow;
use crate::cookie;
use crate::html::{Code, Page};
use crate::limits::Exceeded;
use crate::login::callback::Callback;
use crate::login::choice::{self, Browser};
use crate::login::fault::LoginFault;
use crate::login::return_to;
use crate::login::{Return, Returned, Start, Started};
use crate::random;
use http::{HeaderValue, StatusCode, header};

impl Pages {
    /// `GET login?return_to=…`: to WeChat, straight back for a browser that is logged in, or a page that says why not.
    /// `go=1` is what our own buttons add, `by=code` that of the login by QR code on a phone.
    pub(super) async fn begin(&self, visit: &Visit<'_>) -> Answer {
        let return_to = visit.parameter("return_to");
        let by_code = visit.parameter("by").is_some_and(|way| way == "code");
        let start = Start {
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
            Started::Redirect { location, cookies } => answer::redirect(StatusCode::FOUND, &location, cookies),
            Started::Back { location, cookies } => answer::redirect(StatusCode::SEE_OTHER, &location, cookies),
            Started::Lost if logged_in => answer::page(&Page::LostLoggedIn { home_url: "/" }, visit.language),
            Started::Lost => answer::page(&Page::Lost { login_url: &self.url(visit, AGAIN, None) }, visit.language),
            Started::AskFirst => {
                let ask = Page::AskFirst { app: &visit.app.title, continue_url: &again() };
                answer::page(&ask, visit.language)
            }
            Started::NeedsWechat { or_code } => {
                let (url, code) = self.address(visit, return_to.as_deref());
                let code_url = or_code.then(|| self.url(visit, BY_CODE, return_to.as_deref()));
                let page = Page::NeedsWechat { url: &url, code: code.as_ref(), code_url: code_url.as_deref() };
                answer::page(&page, visit.language)
            }
            Started::NeedsBrowser => {
                let (url, code) = self.address(visit, return_to.as_deref());
                answer::page(&Page::NeedsBrowser { url: &url, code: code.as_ref() }, visit.language)
            }
            Started::NeedsComputer => {
                let (url, code) = self.address(visit, return_to.as_deref());
                let code_url = self.url(visit, BY_CODE, return_to.as_deref());
                let page = Page::NeedsComputer { url: &url, code: code.as_ref(), code_url: &code_url };
                answer::page(&page, visit.language)
            }
            Started::TooManyAttempts => self.too_many_attempts(visit, &again(), Vec::new()),
            Started::Limited(exceeded) => self.limited(visit, exceeded),
            Started::Fault(fault) => self.failed(visit, fault, None, return_to.as_deref()),
        }
    }

    /// The whole address to open elsewhere, and its drawing. One costs the processor more than all else on a page: beyond a
    /// rate the address stands alone.
    fn address(&self, visit: &Visit, return_to: Option<&str>) -> (String, Option<Code>) {
        let address = return_to::accept(return_to, visit.app, &self.login.prefix);
        let code = if self.limits.draw_code() { Code::draw(&address) } else { None };
        (address, code)
    }

    /// The page on which a loop ends.
    fn too_many_attempts(&self, visit: &Visit, login_url: &str, cookies: Vec<HeaderValue>) -> Answer {
        self.record_rejection(visit, Rejection::LoopStopped);
        let browser = Browser::of(&choice::user_agent(&visit.request.headers));
        let page = Page::TooManyAttempts { login_url, in_wechat: browser != Browser::Ordinary };
        answer::with_cookies(answer::page(&page, visit.language), cookies)
    }

    /// `GET callback?code=…&state=…`: what WeChat sends the browser back with.
    pub(super) async fn complete(&self, visit: &Visit<'_>) -> Answer {
        let callback = match Callback::read(visit.query()) {
            Ok(callback) => callback,
            Err(fault) => {
                self.record_rejection(visit, fault);
                if let Err(exceeded) = self.limits.login(visit.client) {
                    return self.limited(visit, exceeded);
                }
                let login_url = self.login_url(visit, None);
                return answer::page(&Page::Incomplete { login_url: &login_url }, visit.language);
            }
        };
        let back = Return {
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
            Returned::Entered { entered, cookies } => {
                let session = cookie::set(cookie::SESSION, &entered.token, "/", entered.lifetime);
                let location = without_inherited_fragment(entered.location);
                answer::redirect(StatusCode::SEE_OTHER, &location, cookies.into_iter().chain([session]))
            }
            Returned::Back { location } => {
                answer::redirect(StatusCode::SEE_OTHER, &without_inherited_fragment(location), [])
            }
            Returned::AlreadyLoggedIn(error) => {
                self.record_rejection(visit, error);
                page(&Page::AlreadyLoggedIn { continue_url: "/" }, Vec::new())
            }
            Returned::Unknown(error) => {
                self.record_rejection(visit, error);
                match self.limits.login(visit.client) {
                    Ok(()) => page(&Page::Expired { login_url: &login_url }, Vec::new()),
                    Err(exceeded) => self.limited(visit, exceeded),
                }
            }
            Returned::Limited(exceeded) => self.limited(visit, exceeded),
            Returned::Denied { return_to, cookies } => {
                page(&Page::Denied { login_url: &self.login_url(visit, Some(&return_to)) }, cookies)
            }
            Returned::Restart { location, cookies } => answer::redirect(StatusCode::SEE_OTHER, &location, cookies),
            Returned::TooManyAttempts { return_to, cookies } => {
                self.too_many_attempts(visit, &self.login_url(visit, Some(&return_to)), cookies)
            }
            Returned::Failed { fault, flow, return_to, cookies } => {
                answer::with_cookies(self.failed(visit, fault, Some(flow), Some(&return_to)), cookies)
            }
        }
    }

    /// What a person sees of each fault, and the one log line with the same incident.
    fn failed(&self, visit: &Visit, fault: LoginFault, flow: Option<Flow>, return_to: Option<&str>) -> Answer {
        let incident = random::incident_id();
        let login_url = self.login_url(visit, return_to);
        let page = match fault {
            LoginFault::CodeSpent(_) => Page::Expired { login_url: &login_url },
            LoginFault::Unreachable(_) => Page::WechatUnreachable { login_url: &login_url, incident: &incident },
            LoginFault::Refused(_) => Page::UserRefused { incident: &incident, retry_url: &login_url },
            LoginFault::Snapshot => Page::Snapshot { login_url: &login_url },
            LoginFault::NotSubscribed => {
                let account = visit.app.official_account.as_ref();
                Page::NotSubscribed {
                    login_url: &login_url,
                    account: account.and_then(|account| account.name.as_deref()),
                    code: account.and_then(|account| account.follow_qr.as_deref()),
                }
            }
            LoginFault::NoUnionid => Page::NoUnionid { incident: &incident, retry_url: &login_url },
            LoginFault::Configuration(_) | LoginFault::FlowGone | LoginFault::Ours => {
                Page::Misconfigured { incident: &incident, retry_url: &login_url }
            }
        };
        let (app, class, errcode) = (&visit.app.name, fault.class(), fault.label());
        // What the operator compares with WeChat's console, and what Tencent's support asks for.
        let appid = flow.and_then(|flow| visit.app.application(flow)).map(|application| application.appid.as_str());
        let rid = fault.rid().map(tracing::field::display);
        match fault {
            LoginFault::Configuration(_) | LoginFault::NoUnionid | LoginFault::FlowGone | LoginFault::Ours => {
                tracing::error!(incident, app, appid, class, errcode, rid, %fault, "a login failed: this needs the operator");
            }
            _ => tracing::warn!(incident, app, appid, class, errcode, rid, %fault, "a login failed"),
        }
        answer::page(&page, visit.language)
    }

    /// The page for a client beyond a limit.
    fn limited(&self, visit: &Visit, exceeded: Exceeded) -> Answer {
        self.record_limit(visit, exceeded.budget);
        let mut answer = answer::page(&Page::TooManyRequests { retry_after: exceeded.retry_after }, visit.language);
        answer.headers_mut().insert(header::RETRY_AFTER, answer::jittered(exceeded.retry_after));
        answer
    }

    /// Where our own buttons lead: the login, pressed by a person, who goes on to where they were going.
    fn login_url(&self, visit: &Visit, return_to: Option<&str>) -> String {
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
