//! The accounts' access tokens and JS-SDK tickets.

use super::declare::{Counters, Gauges};
use super::labels::{QuotaLabels, TokenFailureLabels, TokenLabels};

metrics! {
    /// The accounts' access tokens and JS-SDK tickets.
    pub struct AccessTokenMetrics {
        /// Access tokens of the accounts and JS-SDK tickets obtained, by token and source.
        obtained: Counters<TokenLabels> = "access_tokens_obtained";
        /// Failed attempts to obtain an access token or JS-SDK ticket, by token, class and errcode.
        failed: Counters<TokenFailureLabels> = "access_tokens_failed";
        /// Calls to WeChat today for an access token or JS-SDK ticket, as of the last call.
        calls_today: Gauges<QuotaLabels> = "access_token_calls_today";
    }
}

impl AccessTokenMetrics {
    /// Records a new value: from `redis`, where another instance stored it, or from `wechat`.
    pub fn obtained(&self, token: &'static str, source: &'static str) {
        self.obtained.get_or_create(&TokenLabels { token, source }).inc();
    }

    /// Records a failed attempt.
    pub fn failed(&self, token: &'static str, class: &'static str, errcode: &'static str) {
        self.failed.get_or_create(&TokenFailureLabels { token, class, errcode }).inc();
    }

    /// Sets the number of calls to WeChat of the day.
    pub fn calls_today(&self, appid: &str, token: &'static str, mode: &'static str, today: u64) {
        let labels = QuotaLabels { appid: appid.to_owned(), token, mode };
        self.calls_today.get_or_create(&labels).set(i64::try_from(today).unwrap_or(i64::MAX));
    }
}
