//! Going out: `logout`.

use super::answer::{self, Answer};
use super::rejection::Rejection;
use super::{Pages, Visit};
use crate::cookie;
use crate::html::Page;
use crate::telemetry;
use http::Method;

impl Pages {
    /// `POST logout`, or `GET` from the application's own page: ends the session everywhere, and ends on a page. A
    /// redirect to the application would start the next silent login and undo it.
    pub(super) async fn leave(&self, visit: &Visit<'_>) -> Answer {
        let meant = if visit.request.method == Method::POST { !visit.is_cross_site() } else { visit.is_same_origin() };
        if !meant {
            self.record_rejection(visit, Rejection::CrossSite);
            let post_url = self.url(visit, "logout", None);
            return answer::page(&Page::LogoutConfirm { post_url: &post_url }, visit.language);
        }
        if let Some(live) = self.session_to_end(visit) {
            let claims = live.claims();
            self.login.person_left(&live, visit.now);
            self.metrics.session_revoked("logout");
            tracing::info!(
                target: "audit", event = "logout", app = visit.app.name,
                subject = telemetry::redact(&claims.sub), session = telemetry::redact(&claims.sid), "logged out"
            );
            // Last: a browser that hangs up ends this here. The revocation goes on, and what belongs to it is done.
            self.login.sharing.end(&claims, visit.now).await;
        }
        let page = Page::LoggedOut { login_url: &self.url(visit, "login?go=1", None) };
        answer::with_cookies(answer::page(&page, visit.language), [cookie::clear(cookie::SESSION, "/")])
    }
}
