//! `logout`: ends the session.

use super::login::LOGIN;
use super::rejection::Rejection;
use super::{PageRequest, Pages};
use crate::client_kind::{self, ClientKind};
use crate::cookie;
use crate::ext_authz::in_band::Done;
use crate::html::Page;
use crate::response::{self, Response};
use crate::session::ending::{EndError, SessionToEnd};
use crate::sessions::revocation_sync::InterruptedError;
use crate::telemetry;
use http::{Method, StatusCode};
use serde_json::json;
use std::time::Duration;

/// `Retry-After` if the revocation was interrupted.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// The session may still be valid. The browser keeps its cookie, so that the user can try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct LogoutError {
    status: StatusCode,
    retry_after: Duration,
}

impl From<InterruptedError> for LogoutError {
    fn from(_: InterruptedError) -> Self {
        Self { status: StatusCode::SERVICE_UNAVAILABLE, retry_after: RETRY_AFTER }
    }
}

impl Pages {
    /// `POST logout`, or `GET` from a page of the application: ends the session and shows a page. A redirect to the
    /// application would start a silent login, which would undo the logout.
    pub(super) async fn logout(&self, request: &PageRequest<'_>) -> Response {
        let post = request.parts.method == Method::POST;
        let intended = if post { !request.is_cross_site() } else { request.is_same_origin() && request.is_document() };
        let script = !matches!(
            client_kind::classify(&request.parts.method, &request.parts.headers),
            ClientKind::Page | ClientKind::Form
        );
        if !intended {
            self.record_rejection(request, Rejection::CrossSite);
            if script {
                return response::json_error(StatusCode::FORBIDDEN, "send POST from a page of this application");
            }
            return request.page(&Page::LogoutConfirm { post_url: &self.url(request, "logout", None) });
        }
        match self.end_sessions(request).await {
            Ok(()) => self.logged_out(request, script),
            Err(LogoutError { status, retry_after }) => {
                let response = if script {
                    response::json_error(status, "the session may not have ended, try again later")
                } else {
                    let post_url = self.url(request, "logout", None);
                    request.page(&Page::NotLoggedOut { post_url: &post_url, retry_after, status })
                };
                response::retry_after(response, retry_after)
            }
        }
    }

    fn logged_out(&self, request: &PageRequest<'_>, script: bool) -> Response {
        let login_url = self.url(request, LOGIN, None);
        let response = if script {
            let mut response = response::json(StatusCode::OK, "logged out", json!({ "login_url": login_url }));
            response.extensions_mut().insert(Done);
            response
        } else {
            request.page(&Page::LoggedOut { login_url: &login_url })
        };
        response::with_cookies(response, [cookie::clear(cookie::SESSION, "/")])
    }

    /// Ends the session of each token in the request.
    async fn end_sessions(&self, request: &PageRequest<'_>) -> Result<(), LogoutError> {
        let mut result = Ok(());
        for token in request.tokens() {
            let ended = match self.session_to_end(request, token) {
                Ok(session) if session.is_over(self.sessions(), request.now) => Ok(()),
                Ok(session) => self.end_session(request, &session).await,
                Err(EndError::NoSession) => Ok(()),
                Err(EndError::Busy(retry_after)) => {
                    Err(LogoutError { status: StatusCode::TOO_MANY_REQUESTS, retry_after })
                }
                Err(EndError::UnknownKey(retry_after)) => {
                    // A client can invent key ids, so the number of log lines is limited.
                    if let Some(suppressed) = self.metrics.reject_lines.admit(request.now) {
                        let app = request.app.name.as_str();
                        tracing::warn!(app, suppressed, "logout failed: the key of the token is unknown");
                    }
                    Err(LogoutError { status: StatusCode::SERVICE_UNAVAILABLE, retry_after })
                }
            };
            result = result.and(ended);
        }
        result
    }

    fn session_to_end(&self, request: &PageRequest<'_>, token: &str) -> Result<SessionToEnd, EndError> {
        let admit = || {
            self.limits.logout_token(request.client).map_err(|exceeded| {
                self.record_limit(request, exceeded.limit);
                exceeded.retry_after
            })
        };
        self.sessions().to_end(token, request.now, admit)
    }

    async fn end_session(&self, request: &PageRequest<'_>, session: &SessionToEnd) -> Result<(), LogoutError> {
        let claims = session.claims();
        self.login.end_session(session, request.now);
        self.metrics.sessions.revoked("logout");
        tracing::info!(
            target: "audit", event = "logout", app = request.app.name.as_str(),
            subject = telemetry::redact(claims.sub.as_str()), session = telemetry::redact(&claims.sid.to_string()), "logged out"
        );
        // This is the last step because a disconnect of the browser cancels this function. The revocation itself continues.
        self.login.sharing.end(session, request.now).await?;
        self.login.collapse_ended(&claims.sub, request.now).await;
        Ok(())
    }
}
