//! Calls to WeChat.

use super::declare::{Gauges, Histograms};
use super::labels::{BreakerLabels, WechatCallLabels};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use std::time::Duration;

/// 0.4 s is usual; calls time out after 5 s.
const CALL_BUCKETS: [f64; 10] = [0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0];

metrics! {
    /// Calls to WeChat.
    pub struct WechatMetrics {
        /// Duration of calls to WeChat, by endpoint and outcome.
        calls: Histograms<WechatCallLabels> = "wechat_call_duration_seconds",
            Family::new_with_constructor(|| Histogram::new(CALL_BUCKETS));
        /// State of the circuit breakers: 0 closed, 1 half-open, 2 open.
        breakers: Gauges<BreakerLabels> = "wechat_breaker_state";
    }
}

impl WechatMetrics {
    /// Records a call.
    pub fn call(&self, endpoint: &'static str, outcome: &'static str, elapsed: Duration) {
        self.calls.get_or_create(&WechatCallLabels { endpoint, outcome }).observe(elapsed.as_secs_f64());
    }

    /// Sets the state of a circuit breaker: 0 closed, 1 half-open, 2 open.
    pub fn breaker(&self, appid: &str, endpoint: &'static str, state: i64) {
        self.breakers.get_or_create(&BreakerLabels { appid: appid.to_owned(), endpoint }).set(state);
    }
}
