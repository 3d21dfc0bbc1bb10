//! Logins and requests to the pages.

use super::declare::{Counters, Histograms};
use super::labels::{
    AppLabels, LimitLabels, LoginFailureLabels, LoginLabels, OutcomeLabels, ReasonLabels, RejectionLabels,
};
use crate::app_name::AppName;
use crate::login_method::LoginMethod;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use std::time::Duration;

/// A silent login takes a second, a scanned one a minute.
const LOGIN_BUCKETS: [f64; 9] = [0.25, 0.5, 1.0, 2.0, 5.0, 15.0, 60.0, 180.0, 600.0];

metrics! {
    /// Logins and requests to the pages.
    pub struct LoginMetrics {
        /// Redirects to WeChat, by login method.
        started: Counters<LoginLabels> = "logins_started";
        /// Logins that ended in a session, by login method.
        finished: Counters<LoginLabels> = "logins_finished";
        /// Callbacks that ended without a session, by login method, class and errcode.
        failed: Counters<LoginFailureLabels> = "logins_failed";
        /// Time from the start of a login to its session, by login method.
        duration: Histograms<LoginLabels> = "login_duration_seconds",
            Family::new_with_constructor(|| Histogram::new(LOGIN_BUCKETS));
        /// Callbacks handled without Redis, on the sealed cookie alone, by reason.
        without_redis: Counters<ReasonLabels> = "logins_without_redis";
        /// Login outcomes kept for repeated callbacks.
        pub outcomes: Gauge = "login_outcomes";
        /// Logins for which WeChat did not return a profile.
        profiles_unavailable: Counters<AppLabels> = "profiles_unavailable";
        /// Refreshes of old profiles in the background, by outcome.
        profile_refreshes: Counters<OutcomeLabels> = "profile_refreshes";
        /// Requests that a page rejected, by reason: forged or expired callbacks, login loops, requests of other sites.
        rejected: Counters<RejectionLabels> = "page_requests_rejected";
        /// Requests to pages that a limit refused, by limit.
        limited: Counters<LimitLabels> = "requests_limited";
        /// Client addresses that the limits track.
        pub limiter_clients: Gauge = "limiter_clients";
    }
}

impl LoginMetrics {
    /// Creates the series of a login method of an application.
    pub(super) fn create(&self, app: &AppName, method: LoginMethod) {
        let labels = LoginLabels::of(app, method);
        drop(self.started.get_or_create(&labels));
        drop(self.finished.get_or_create(&labels));
        drop(self.duration.get_or_create(&labels));
        drop(self.profiles_unavailable.get_or_create(&AppLabels::of(app)));
    }

    /// Records a redirect to WeChat.
    pub fn started(&self, app: &AppName, method: LoginMethod) {
        self.started.get_or_create(&LoginLabels::of(app, method)).inc();
    }

    /// Records a login that ended in a session.
    pub fn finished(&self, app: &AppName, method: LoginMethod, elapsed: Duration) {
        let labels = LoginLabels::of(app, method);
        self.finished.get_or_create(&labels).inc();
        self.duration.get_or_create(&labels).observe(elapsed.as_secs_f64());
    }

    /// Records a callback that ended without a session.
    pub fn failed(&self, app: &AppName, method: LoginMethod, class: &'static str, errcode: &'static str) {
        let labels = LoginFailureLabels { app: app.clone(), method: method.as_str(), class, errcode };
        self.failed.get_or_create(&labels).inc();
    }

    /// Records a callback that was handled without Redis.
    pub fn without_redis(&self, reason: &'static str) {
        self.without_redis.get_or_create(&ReasonLabels { reason }).inc();
    }

    /// Records a login for which WeChat did not return a profile.
    pub fn profile_unavailable(&self, app: &AppName) {
        self.profiles_unavailable.get_or_create(&AppLabels::of(app)).inc();
    }

    /// Records the refresh of an old profile: `changed`, `unchanged`, `shared`, `no_token` or `failed`.
    pub fn profile_refreshed(&self, outcome: &'static str) {
        self.profile_refreshes.get_or_create(&OutcomeLabels { outcome }).inc();
    }

    /// Creates the series of a reason to reject a request.
    pub fn create_rejection(&self, app: &AppName, reason: &'static str) {
        drop(self.rejected.get_or_create(&RejectionLabels { app: Some(app.clone()), reason }));
    }

    /// Records a request that a page rejected. `app` is `None` for the host of no application.
    pub fn rejected(&self, app: Option<&AppName>, reason: &'static str) {
        self.rejected.get_or_create(&RejectionLabels { app: app.cloned(), reason }).inc();
    }

    /// Records a request to a page that a limit refused.
    pub fn limited(&self, limit: &'static str) {
        self.limited.get_or_create(&LimitLabels { limit }).inc();
    }
}
