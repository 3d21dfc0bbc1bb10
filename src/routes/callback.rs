//! `callback`: completes a login. WeChat redirects the browser here.

use super::{PageRequest, Pages};
use crate::cookie;
use crate::html::Page;
use crate::login::callback::Callback;
use crate::login::{CallbackOutcome, CallbackRequest};
use crate::response::{self, Response};
use http::StatusCode;

impl Pages {
    /// `GET callback?code=…&state=…`.
    pub(super) async fn callback(&self, request: &PageRequest<'_>) -> Response {
        let login_url = self.login_url(request, None);
        let callback = match Callback::parse(request.query()) {
            Ok(callback) => callback,
            Err(error) => {
                self.record_rejection(request, error);
                return match self.limits.login(request.client) {
                    Ok(()) => request.page(&Page::Incomplete { login_url: &login_url }),
                    Err(exceeded) => self.too_many_requests(request, exceeded),
                };
            }
        };
        let callback = CallbackRequest {
            app: request.app,
            headers: &request.parts.headers,
            callback,
            live: self.session(request).ok().flatten(),
            tokens: request.tokens(),
            client: request.client,
        };
        match self.login.complete(callback, request.now).await {
            CallbackOutcome::LoggedIn { login, cookies } => {
                let session = cookie::set(cookie::SESSION, &login.token, "/", login.lifetime);
                let location = with_fragment(login.location);
                response::redirect(StatusCode::SEE_OTHER, &location, cookies.into_iter().chain([session]))
            }
            CallbackOutcome::AlreadyCompleted { location } => {
                response::redirect(StatusCode::SEE_OTHER, &with_fragment(location), [])
            }
            CallbackOutcome::AlreadyLoggedIn(error) => {
                self.record_rejection(request, error);
                request.page(&Page::AlreadyLoggedIn { continue_url: "/" })
            }
            CallbackOutcome::NoAttempt(error) => {
                self.record_rejection(request, error);
                match self.limits.login(request.client) {
                    Ok(()) => request.page(&Page::Expired { login_url: &login_url }),
                    Err(exceeded) => self.too_many_requests(request, exceeded),
                }
            }
            CallbackOutcome::Limited(exceeded) => self.too_many_requests(request, exceeded),
            CallbackOutcome::Denied { return_to, cookies } => {
                let page = request.page(&Page::Denied { login_url: &self.login_url(request, Some(&return_to)) });
                response::with_cookies(page, cookies)
            }
            CallbackOutcome::Restart { location, cookies } => {
                response::redirect(StatusCode::SEE_OTHER, &location, cookies)
            }
            CallbackOutcome::TooManyAttempts { return_to, cookies } => {
                self.too_many_attempts(request, &self.login_url(request, Some(&return_to)), cookies)
            }
            CallbackOutcome::Failed { error, method, return_to, cookies } => {
                response::with_cookies(self.login_failed(request, error, Some(method), Some(&return_to)), cookies)
            }
        }
    }
}

/// `location` with a fragment. Without one, the browser would keep `#wechat_redirect` from the redirect to WeChat.
fn with_fragment(location: String) -> String {
    if location.contains('#') { location } else { location + "#" }
}
