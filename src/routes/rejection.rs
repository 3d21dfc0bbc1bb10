//! Rejected requests. Each is counted and, up to a rate, written to the audit log.
//!
//! An audit line contains the reason, the page, the application and the client address, and the host if it is unknown. It
//! never contains the code, the `state` or the query.

use super::{PageRequest, Pages};
use crate::app_name::AppName;
use crate::clock::Timestamp;
use crate::ext_authz::envoy;
use crate::login::attempt::AttemptError;
use crate::login::callback::CallbackError;
use crate::origin::bounded;
use crate::rate_limit::LimitKind;
use http::request::Parts;
use std::net::IpAddr;

macro_rules! rejections {
    ($($(#[doc = $doc:literal])+ $name:ident = $word:literal,)+) => {
        /// Why a page rejected a request: the metric's label and the audit line's `reason`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Rejection { $($(#[doc = $doc])+ $name,)+ }

        impl Rejection {
            /// All reasons.
            pub(crate) const ALL: &'static [Self] = &[$(Self::$name,)+];

            #[cfg(test)]
            const MEANINGS: &'static [&'static str] = &[$(concat!($($doc),+),)+];

            /// The reason in snake_case.
            pub(crate) const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $word,)+ }
            }
        }
    };
}

rejections! {
    /// A callback whose query is longer than WeChat's.
    QueryTooLong = "query_too_long",
    /// A callback with two values of `code` or of `state`.
    ParameterTwice = "parameter_twice",
    /// A callback without a `state`, or with one of another form than ours.
    StateMalformed = "state_malformed",
    /// A callback whose code is not one of WeChat's.
    CodeMalformed = "code_malformed",
    /// A callback whose `state` belongs to no attempt of this browser.
    StateUnknown = "state_unknown",
    /// A callback with two cookies for one attempt.
    AttemptConflict = "attempt_conflict",
    /// A callback whose attempt cookie does not open: forged, or of another application.
    AttemptForeign = "attempt_foreign",
    /// A callback whose attempt is too old.
    AttemptExpired = "attempt_expired",
    /// Too many logins of this browser ended within a minute.
    LoopStopped = "loop_stopped",
    /// A page of another site sent the request.
    CrossSite = "cross_site",
    /// `jssdk` for an address that is not the application's own.
    UrlForeign = "url_foreign",
    /// No application has this host.
    UnknownHost = "unknown_host",
}

impl From<CallbackError> for Rejection {
    fn from(error: CallbackError) -> Self {
        match error {
            CallbackError::TooLong => Self::QueryTooLong,
            CallbackError::Duplicate => Self::ParameterTwice,
            CallbackError::MalformedState => Self::StateMalformed,
            CallbackError::MalformedCode => Self::CodeMalformed,
        }
    }
}

impl From<AttemptError> for Rejection {
    fn from(error: AttemptError) -> Self {
        match error {
            AttemptError::Unknown => Self::StateUnknown,
            AttemptError::Conflict => Self::AttemptConflict,
            AttemptError::Foreign => Self::AttemptForeign,
            AttemptError::Expired => Self::AttemptExpired,
        }
    }
}

impl Pages {
    /// Records that `request` was rejected.
    pub(super) fn record_rejection(&self, request: &PageRequest, rejection: impl Into<Rejection>) {
        self.record_rejection_at(Some(&request.app.name), request.parts, request.client, rejection.into(), request.now);
    }

    /// Records a rejected request. `app` is `None` if the host is unknown.
    pub(super) fn record_rejection_at(
        &self,
        app: Option<&AppName>,
        parts: &Parts,
        client: IpAddr,
        rejection: Rejection,
        now: Timestamp,
    ) {
        let (page, reason) = (self.page_name(parts.uri.path()), rejection.as_str());
        self.metrics.logins.rejected(app, reason);
        let app = app.map_or("", AppName::as_str);
        if let Some(suppressed) = self.metrics.reject_lines.admit(now) {
            let client = client.to_string();
            let host = (rejection == Rejection::UnknownHost).then(|| bounded(envoy::host(parts)));
            tracing::info!(
                target: "audit", event = "reject", reason, page, app, host, client, suppressed, "request rejected"
            );
        }
    }

    /// Records that `request` exceeded a rate limit.
    pub(super) fn record_limit(&self, request: &PageRequest, budget: LimitKind) {
        let (app, page, budget) =
            (request.app.name.as_str(), self.page_name(request.parts.uri.path()), budget.as_str());
        self.metrics.logins.limited(budget);
        if let Some(suppressed) = self.metrics.limit_lines.admit(request.now) {
            let client = request.client.to_string();
            tracing::info!(target: "audit", event = "limit", limit = budget, page, app, client, suppressed, "rate limit exceeded");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documents_explain_each_reason() {
        let meanings = Rejection::MEANINGS.iter().map(|meaning| meaning.trim().to_owned());
        let words = Rejection::ALL.iter().map(|reason| reason.as_str().to_owned());
        crate::documents::assert_table("reasons.md", words.zip(meanings));
    }
}
