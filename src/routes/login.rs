//! `login`: starts a login.

use super::rejection::Rejection;
use super::{PageRequest, Pages};
use crate::html::{Code, Page};
use crate::login::choice::{self, Browser};
use crate::login::error::LoginError;
use crate::login::return_to;
use crate::login::{LoginRequest, LoginStart};
use crate::login_method::LoginMethod;
use crate::random;
use crate::rate_limit::LimitExceeded;
use crate::response::{self, Response};
use http::{HeaderValue, StatusCode};

/// The login page as our buttons link to it. `go=1` tells that the user pressed a button.
pub(super) const LOGIN: &str = "login?go=1";

/// The same with the QR code, for a phone whose user has another device to scan with.
const LOGIN_BY_CODE: &str = "login?go=1&by=code";

impl Pages {
    /// `GET login?return_to=…`: redirects to WeChat, or back if the browser is logged in, or shows a page that explains why
    /// neither is possible.
    pub(super) async fn login(&self, request: &PageRequest<'_>) -> Response {
        let return_to = request.parameter("return_to");
        let return_to = return_to.as_deref();
        let by_code = request.parameter("by").is_some_and(|method| method == "code");
        let start = LoginRequest {
            app: request.app,
            headers: &request.parts.headers,
            return_to,
            return_to_dropped: request.parameter("lost").is_some(),
            confirmed: request.parameter("go").is_some(),
            by_code,
            // If the rate limit hides whether there is a session, another login is harmless.
            logged_in: matches!(self.session(request), Ok(Some(_))),
            client: request.client,
        };
        let retry_url = || self.url(request, if by_code { LOGIN_BY_CODE } else { LOGIN }, return_to);
        let logged_in = start.logged_in;
        match self.login.start(&start, request.now).await {
            LoginStart::Redirect { location, cookies } => response::redirect(StatusCode::FOUND, &location, cookies),
            LoginStart::AlreadyLoggedIn { location, cookies } => {
                response::redirect(StatusCode::SEE_OTHER, &location, cookies)
            }
            LoginStart::ReturnToTooLong if logged_in => request.page(&Page::LostLoggedIn { home_url: "/" }),
            LoginStart::ReturnToTooLong => request.page(&Page::Lost { login_url: &self.url(request, LOGIN, None) }),
            LoginStart::AskFirst => {
                request.page(&Page::AskFirst { app: &request.app.title, continue_url: &retry_url() })
            }
            LoginStart::NeedsWechat { or_code } => {
                let (url, code) = self.address_with_code(request, return_to);
                let code_url = or_code.then(|| self.url(request, LOGIN_BY_CODE, return_to));
                request.page(&Page::NeedsWechat { url: &url, code: code.as_ref(), code_url: code_url.as_deref() })
            }
            LoginStart::NeedsBrowser => {
                let (url, code) = self.address_with_code(request, return_to);
                request.page(&Page::NeedsBrowser { url: &url, code: code.as_ref() })
            }
            LoginStart::NeedsComputer => {
                let (url, code) = self.address_with_code(request, return_to);
                let code_url = self.url(request, LOGIN_BY_CODE, return_to);
                request.page(&Page::NeedsComputer { url: &url, code: code.as_ref(), code_url: &code_url })
            }
            LoginStart::TooManyAttempts => self.too_many_attempts(request, &retry_url(), Vec::new()),
            LoginStart::Limited(exceeded) => self.too_many_requests(request, exceeded),
            LoginStart::Failed(error) => self.login_failed(request, error, None, return_to),
        }
    }

    /// The address to open on another device, with a QR code of it. To draw a code takes more CPU time than the rest of the
    /// page: above the rate limit the page shows the address only.
    fn address_with_code(&self, request: &PageRequest, return_to: Option<&str>) -> (String, Option<Code>) {
        let address = return_to::accept(return_to, request.app, &self.login.prefix);
        let code = if self.limits.draw_code() { Code::draw(&address) } else { None };
        (address, code)
    }

    /// The page that stops a redirect loop.
    pub(super) fn too_many_attempts(
        &self,
        request: &PageRequest,
        login_url: &str,
        cookies: Vec<HeaderValue>,
    ) -> Response {
        self.record_rejection(request, Rejection::LoopStopped);
        let browser = Browser::of(&choice::user_agent(&request.parts.headers));
        let page = Page::TooManyAttempts { login_url, in_wechat: browser != Browser::Ordinary };
        response::with_cookies(request.page(&page), cookies)
    }

    /// The page for a client that exceeds a rate limit.
    pub(super) fn too_many_requests(&self, request: &PageRequest, exceeded: LimitExceeded) -> Response {
        self.record_limit(request, exceeded.limit);
        let page = request.page(&Page::TooManyRequests { retry_after: exceeded.retry_after });
        response::retry_after(page, exceeded.retry_after)
    }

    /// The page for a failed login, and the log line with the same incident id.
    pub(super) fn login_failed(
        &self,
        request: &PageRequest,
        error: LoginError,
        method: Option<LoginMethod>,
        return_to: Option<&str>,
    ) -> Response {
        let incident = random::incident_id();
        let login_url = self.login_url(request, return_to);
        let page = match error {
            LoginError::CodeSpent(_) => Page::Expired { login_url: &login_url },
            LoginError::Unreachable(_) => Page::WechatUnreachable { login_url: &login_url, incident: &incident },
            LoginError::Refused(_) => Page::UserRefused { incident: &incident, retry_url: &login_url },
            LoginError::Snapshot => Page::Snapshot { login_url: &login_url },
            LoginError::NotSubscribed => {
                let account = request.app.official_account.as_ref();
                Page::NotSubscribed {
                    login_url: &login_url,
                    account: account.and_then(|account| account.name.as_deref()),
                    code: account.and_then(|account| account.follow_qr.as_deref()),
                }
            }
            LoginError::NoUnionid => Page::NoUnionid { incident: &incident, retry_url: &login_url },
            LoginError::Configuration(_) | LoginError::MethodRemoved | LoginError::Internal => {
                Page::Misconfigured { incident: &incident, retry_url: &login_url }
            }
        };
        let (app, class, errcode) = (request.app.name.as_str(), error.class(), error.label());
        // The operator compares the AppID with WeChat's console; Tencent's support asks for the rid.
        let appid =
            method.and_then(|method| request.app.application(method)).map(|application| application.appid.as_str());
        let rid = error.rid().map(tracing::field::display);
        match error {
            LoginError::Configuration(_) | LoginError::NoUnionid | LoginError::MethodRemoved | LoginError::Internal => {
                tracing::error!(reference = incident, app, appid, class, errcode, rid, %error, "login failed, operator action required");
            }
            _ => tracing::warn!(reference = incident, app, appid, class, errcode, rid, %error, "login failed"),
        }
        request.page(&page)
    }

    /// The login page as our buttons link to it, with the return address.
    pub(super) fn login_url(&self, request: &PageRequest, return_to: Option<&str>) -> String {
        let own = request.app.origin.as_str();
        let return_to =
            return_to.map(|target| target.strip_prefix(own).filter(|path| path.starts_with('/')).unwrap_or(target));
        self.url(request, LOGIN, return_to)
    }
}
