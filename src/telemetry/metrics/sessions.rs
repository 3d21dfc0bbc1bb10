//! Sessions, revocations and signing keys.

use super::declare::{Counters, Gauges};
use super::labels::{AppLabels, CauseLabels, KeyLabels};
use crate::app_name::AppName;
use prometheus_client::metrics::gauge::Gauge;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

metrics! {
    /// Sessions, revocations and signing keys.
    pub struct SessionMetrics {
        /// Sessions started.
        issued: Counters<AppLabels> = "sessions_issued";
        /// Tokens renewed on the renewal page.
        renewed: Counters<AppLabels> = "sessions_renewed";
        /// Revocations, by cause: a logout, or an operator who revokes a session, a subject or an app.
        revoked: Counters<CauseLabels> = "sessions_revoked";
        /// Verified tokens in the cache, approximately.
        pub cached_tokens: Gauge = "token_cache_entries";
        /// Revocations of sessions that have not expired.
        pub revocations: Gauge = "revocations_active";
        /// Time since this instance last read all revocations from Redis; 0 without Redis.
        pub revocations_staleness: Gauge<f64, AtomicU64> = "revocations_staleness_seconds";
        /// Loaded signing keys, including those that only verify.
        keys_loaded: Gauge = "keys_loaded";
        /// Age of each loaded signing key.
        key_ages: Gauges<KeyLabels> = "key_age_seconds";
    }
}

impl SessionMetrics {
    /// Creates the series of an application.
    pub(super) fn create(&self, app: &AppName) {
        drop(self.issued.get_or_create(&AppLabels::of(app)));
        drop(self.renewed.get_or_create(&AppLabels::of(app)));
    }

    /// Records a new session.
    pub fn issued(&self, app: &AppName) {
        self.issued.get_or_create(&AppLabels::of(app)).inc();
    }

    /// Records a token that the renewal page renewed.
    pub fn renewed(&self, app: &AppName) {
        self.renewed.get_or_create(&AppLabels::of(app)).inc();
    }

    /// Records a revocation: `logout`, `session`, `subject` or `app`.
    pub fn revoked(&self, cause: &'static str) {
        self.revoked.get_or_create(&CauseLabels { cause }).inc();
    }

    /// Sets the loaded keys and their ages.
    pub fn keys<'a>(&self, ages: impl Iterator<Item = (&'a str, Duration)>) {
        self.key_ages.clear();
        self.keys_loaded.set(0);
        for (kid, age) in ages {
            self.keys_loaded.inc();
            let seconds = i64::try_from(age.as_secs()).unwrap_or(i64::MAX);
            self.key_ages.get_or_create(&KeyLabels { kid: kid.to_owned() }).set(seconds);
        }
    }
}
