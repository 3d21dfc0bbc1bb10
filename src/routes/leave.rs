//! Going out: `logout`.

use super::answer::{self, Answer};
use super::rejection::Rejection;
use super::{PageRequest, Pages};
use crate::client_kind;
use crate::client_kind::ClientKind;
use crate::cookie;
use crate::ext_authz::in_band::Done;
use crate::html::Page;
use crate::session::ending::{EndError, SessionToEnd};
use crate::sessions::revocation_sync::InterruptedError;
use crate::telemetry;
use http::{Method, StatusCode, header};
use serde_json::json;
use std::time::Duration;

/// When to try again after a error of ours.
const AGAIN: Duration = Duration::from_secs(5);

/// A session may live on: whether it ended is not certain. The cookie stays, or its holder could not try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct NotEnded {
    status: StatusCode,
    retry_after: Duration,
}

impl From<InterruptedError> for NotEnded {
    fn from(_: InterruptedError) -> Self {
        Self { status: StatusCode::SERVICE_UNAVAILABLE, retry_after: AGAIN }
    }
}

impl Pages {
    /// `POST logout`, or `GET` from the application's own page: ends the session everywhere, and ends on a page. A
    /// redirect to the application would start the next silent login and undo it.
    pub(super) async fn logout(&self, visit: &PageRequest<'_>) -> Answer {
        let post = visit.request.method == Method::POST;
        let meant = if post { !visit.is_cross_site() } else { visit.is_same_origin() && visit.is_document() };
        let script = !matches!(
            client_kind::classify(&visit.request.method, &visit.request.headers),
            ClientKind::Page | ClientKind::Form
        );
        if !meant {
            self.record_rejection(visit, Rejection::CrossSite);
            if script {
                return answer::forbidden("send POST from a page of this application");
            }
            let post_url = self.url(visit, "logout", None);
            return answer::page(&Page::LogoutConfirm { post_url: &post_url }, visit.language);
        }
        match self.end_all(visit).await {
            Ok(()) => self.left(visit, script),
            Err(not_ended) if script => answer::later(
                not_ended.status,
                "the session may not have ended, try again later",
                not_ended.retry_after,
            ),
            Err(NotEnded { status, retry_after }) => {
                let page = Page::NotLoggedOut { post_url: &self.url(visit, "logout", None), retry_after, status };
                let mut answer = answer::page(&page, visit.language);
                answer.headers_mut().insert(header::RETRY_AFTER, answer::jittered(retry_after));
                answer
            }
        }
    }

    fn left(&self, visit: &PageRequest<'_>, script: bool) -> Answer {
        let login_url = self.url(visit, "login?go=1", None);
        let answer = if script {
            let data = json!({ "login_url": login_url });
            let mut answer =
                answer::json(StatusCode::OK, &json!({ "code": 200, "message": "logged out", "data": data }));
            answer.extensions_mut().insert(Done);
            answer
        } else {
            answer::page(&Page::LoggedOut { login_url: &login_url }, visit.language)
        };
        answer::with_cookies(answer, [cookie::clear(cookie::SESSION, "/")])
    }

    /// Ends the session of each token that the request shows.
    async fn end_all(&self, visit: &PageRequest<'_>) -> Result<(), NotEnded> {
        let mut ended = Ok(());
        for token in Self::tokens(visit) {
            let this = match self.session_to_end(visit, token) {
                Ok(session) if session.is_over(self.sessions(), visit.now) => Ok(()),
                Ok(session) => self.end(visit, &session).await,
                Err(EndError::NoSession) => Ok(()),
                Err(EndError::Busy(retry_after)) => {
                    Err(NotEnded { status: StatusCode::TOO_MANY_REQUESTS, retry_after })
                }
                Err(EndError::UnknownKey(retry_after)) => {
                    // Anybody can make up a key's name.
                    if let Some(suppressed) = self.metrics.reject_lines.admit(visit.now) {
                        tracing::warn!(
                            app = visit.app.name.as_str(),
                            suppressed,
                            "a logout could not end a session: this instance lacks its key"
                        );
                    }
                    Err(NotEnded { status: StatusCode::SERVICE_UNAVAILABLE, retry_after })
                }
            };
            ended = ended.and(this);
        }
        ended
    }

    fn session_to_end(&self, visit: &PageRequest<'_>, token: &str) -> Result<SessionToEnd, EndError> {
        let admit = || {
            let admitted = self.limits.ending_token(visit.client);
            admitted.map_err(|exceeded| {
                self.record_limit(visit, exceeded.budget);
                exceeded.retry_after
            })
        };
        self.sessions().to_end(token, visit.now, admit)
    }

    async fn end(&self, visit: &PageRequest<'_>, session: &SessionToEnd) -> Result<(), NotEnded> {
        let claims = session.claims();
        self.login.end_session(session, visit.now);
        self.metrics.session_revoked("logout");
        tracing::info!(
            target: "audit", event = "logout", app = visit.app.name.as_str(),
            subject = telemetry::redact(claims.sub.as_str()), session = telemetry::redact(&claims.sid.to_string()), "logged out"
        );
        // Last: a browser that hangs up ends this here. The revocation goes on, and what belongs to it is done.
        self.login.sharing.end(session, visit.now).await?;
        self.login.collapse_ended(&claims.sub, visit.now).await;
        Ok(())
    }
}
