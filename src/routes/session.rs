//! `session`: tells the application's scripts who is logged in.

use super::{PageRequest, Pages};
use crate::response::{self, Response};
use http::StatusCode;
use serde_json::json;

impl Pages {
    /// `GET session`.
    pub(super) fn session_info(&self, request: &PageRequest) -> Response {
        let live = match self.session(request) {
            Ok(Some(live)) => live,
            Ok(None) => return self.unauthorized(request),
            Err(retry_after) => return response::rate_limited(retry_after),
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
        response::json(StatusCode::OK, "logged in", data)
    }

    /// 401 for a script.
    pub(super) fn unauthorized(&self, request: &PageRequest) -> Response {
        let data = json!({ "login_url": self.url(request, "login", None), "reason": "no_session" });
        response::json(StatusCode::UNAUTHORIZED, "log in first", data)
    }
}
