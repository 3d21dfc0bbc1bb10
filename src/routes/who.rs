//! Who is this: `session` for the application's scripts, `renew` for a session near its end.

use super::answer::{self, Answer};
use super::rejection::Rejection;
use super::{PageRequest, Pages};
use crate::client_kind;
use crate::client_kind::ClientKind;
use crate::clock::Timestamp;
use crate::cookie;
use crate::ext_authz::envoy;
use crate::ext_authz::request::Credential;
use crate::html::Page;
use crate::login::return_to;
use crate::session::{IssueError, Issued, LiveSession, TokenState};
use http::{Method, StatusCode};
use serde_json::json;

impl Pages {
    /// `GET session`: who am I, until when.
    pub(super) fn session_info(&self, visit: &PageRequest) -> Answer {
        let live = match self.session(visit) {
            Ok(Some(live)) => live,
            Ok(None) => return self.unauthorized(visit),
            Err(retry_after) => return answer::too_many(retry_after),
        };
        let claims = live.claims();
        let data = json!({
            "subject": claims.sub,
            "app": claims.aud,
            "method": claims.flow.as_str(),
            "session": claims.sid,
            "nickname": claims.nickname,
            "avatar": claims.avatar,
            "logged_in_at": claims.auth_time,
            "token_expires_at": claims.exp,
            "session_expires_at": claims.session_exp,
        });
        answer::json(StatusCode::OK, &json!({ "code": 200, "message": "logged in", "data": data }))
    }

    /// `GET renew?return_to=…`: the session's next token as a cookie, then back; to a bearer's holder as JSON.
    pub(super) fn renew(&self, visit: &PageRequest) -> Answer {
        let headers = &visit.request.headers;
        let page = client_kind::classify(&visit.request.method, headers) == ClientKind::Page;
        let bearer = matches!(envoy::credential(headers), Credential::Bearer(_));
        // The check sends a browser here from whatever led to the application, a link of another site too: such a page
        // load renews as the application's own page would. Nothing else of another site does.
        let opened = visit.request.method == Method::GET && visit.header(cookie::SEC_FETCH_MODE) == "navigate";
        if visit.is_cross_site() && !opened && !bearer {
            self.record_rejection(visit, Rejection::CrossSite);
            return answer::forbidden("only pages of this application may ask");
        }
        let wanted = visit.parameter("return_to");
        let live = match self.session(visit) {
            Ok(live) => live,
            Err(retry_after) => return answer::too_many(retry_after),
        };
        let next = live.as_ref().map(|live| self.next(visit, live));
        match next {
            Some(Ok(next)) if bearer => {
                let expires_in = next.expires.since(visit.now).as_secs();
                let session_expires_in = next.session_expires.since(visit.now).as_secs();
                let data =
                    json!({ "token": next.token, "expires_in": expires_in, "session_expires_in": session_expires_in });
                answer::json(StatusCode::OK, &json!({ "code": 200, "message": "renewed", "data": data }))
            }
            Some(Ok(next)) => {
                self.metrics.session_renewed(&visit.app.name);
                let lifetime = next.session_expires.since(visit.now);
                let cookie = cookie::set(cookie::SESSION, &next.token, "/", lifetime);
                if !page {
                    let data =
                        json!({ "token_expires_at": next.expires.0, "session_expires_at": next.session_expires.0 });
                    let told =
                        answer::json(StatusCode::OK, &json!({ "code": 200, "message": "renewed", "data": data }));
                    return answer::with_cookies(told, [cookie]);
                }
                if visit.parameter("lost").is_some() {
                    let lost = answer::page(&Page::LostLoggedIn { home_url: "/" }, visit.language);
                    return answer::with_cookies(lost, [cookie]);
                }
                let location = return_to::accept_as_it_is(wanted.as_deref(), visit.app, &self.login.prefix);
                answer::redirect(StatusCode::SEE_OTHER, &location, [cookie])
            }
            Some(Err(_)) | None if page => {
                let login = self.url(visit, "login", wanted.as_deref());
                answer::redirect(StatusCode::SEE_OTHER, &login, [])
            }
            Some(Err(_)) | None => self.unauthorized(visit),
        }
    }

    /// The session's next token; the one it has, while that is fresh: tokens are not made for the asking.
    fn next(&self, visit: &PageRequest, live: &LiveSession) -> Result<Issued, IssueError> {
        match (live.state(), Self::token(visit)) {
            (TokenState::Fresh, Some(token)) => Ok(Issued {
                token: token.to_owned(),
                sid: live.claims().sid,
                expires: Timestamp(live.claims().exp),
                session_expires: Timestamp(live.claims().session_exp),
            }),
            _ => self.sessions().renew(live, &visit.app.session, visit.now),
        }
    }

    fn unauthorized(&self, visit: &PageRequest) -> Answer {
        let data = json!({ "login_url": self.url(visit, "login", None), "reason": "no_session" });
        answer::json(StatusCode::UNAUTHORIZED, &json!({ "code": 401, "message": "log in first", "data": data }))
    }
}
