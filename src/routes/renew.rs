//! `renew`: issues the next token of a session.

use super::rejection::Rejection;
use super::{PageRequest, Pages};
use crate::client_kind::{self, ClientKind};
use crate::clock::Timestamp;
use crate::cookie;
use crate::ext_authz::envoy;
use crate::ext_authz::request::Credential;
use crate::html::Page;
use crate::login::return_to;
use crate::response::{self, Response};
use crate::session::{IssueError, Issued, LiveSession, TokenState};
use http::{Method, StatusCode};
use serde_json::json;

impl Pages {
    /// `GET renew?return_to=…`: sets the next token as a cookie and redirects back. A client with a bearer token gets JSON.
    pub(super) fn renew(&self, request: &PageRequest) -> Response {
        let headers = &request.parts.headers;
        let page = client_kind::classify(&request.parts.method, headers) == ClientKind::Page;
        let bearer = matches!(envoy::credential(headers), Credential::Bearer(_));
        // The check redirects navigations here. A navigation can come from a link on another site; no other request from
        // another site may renew a session.
        let navigation = request.parts.method == Method::GET && request.header(cookie::SEC_FETCH_MODE) == "navigate";
        if request.is_cross_site() && !navigation && !bearer {
            self.record_rejection(request, Rejection::CrossSite);
            return response::json_error(StatusCode::FORBIDDEN, "only pages of this application may ask");
        }
        let return_to = request.parameter("return_to");
        let live = match self.session(request) {
            Ok(live) => live,
            Err(retry_after) => return response::rate_limited(retry_after),
        };
        let next = match live.map(|live| self.next_token(request, &live)) {
            Some(Ok(next)) => next,
            Some(Err(_)) | None if page => {
                let login = self.url(request, "login", return_to.as_deref());
                return response::redirect(StatusCode::SEE_OTHER, &login, []);
            }
            Some(Err(_)) | None => return self.unauthorized(request),
        };
        let lifetime = next.session_expires.since(request.now);
        if bearer {
            let data = json!({
                "token": next.token,
                "expires_in": next.expires.since(request.now).as_secs(),
                "session_expires_in": lifetime.as_secs(),
            });
            return response::json(StatusCode::OK, "renewed", data);
        }
        self.metrics.sessions.renewed(&request.app.name);
        let response = if !page {
            let data = json!({ "token_expires_at": next.expires.0, "session_expires_at": next.session_expires.0 });
            response::json(StatusCode::OK, "renewed", data)
        } else if request.parameter("lost").is_some() {
            request.page(&Page::LostLoggedIn { home_url: "/" })
        } else {
            let location = return_to::accept_as_it_is(return_to.as_deref(), request.app, &self.login.prefix);
            response::redirect(StatusCode::SEE_OTHER, &location, [])
        };
        response::with_cookies(response, [cookie::set(cookie::SESSION, &next.token, "/", lifetime)])
    }

    /// The session's next token. While the token of the request is fresh, it is returned unchanged.
    fn next_token(&self, request: &PageRequest, live: &LiveSession) -> Result<Issued, IssueError> {
        match (live.state(), request.token()) {
            (TokenState::Fresh, Some(token)) => Ok(Issued {
                token: token.to_owned(),
                sid: live.claims().sid,
                expires: Timestamp(live.claims().exp),
                session_expires: Timestamp(live.claims().session_exp),
            }),
            _ => self.sessions().renew(live, &request.app.session, request.now),
        }
    }
}
