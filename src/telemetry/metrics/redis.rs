//! Calls to Redis.

use super::declare::{Counters, Histograms};
use super::labels::{RedisCallLabels, RedisFailureLabels};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use std::time::Duration;

/// 0.1 ms is usual on the same host; calls time out after 0.3 s by default.
const REDIS_BUCKETS: [f64; 8] = [1e-4, 2.5e-4, 5e-4, 1e-3, 5e-3, 2e-2, 0.1, 0.3];

metrics! {
    /// Calls to Redis.
    pub struct RedisMetrics {
        /// Whether Redis is connected: 1 or 0.
        up: Gauge = "redis_up";
        /// Duration of calls to Redis, by call.
        calls: Histograms<RedisCallLabels> = "redis_call_duration_seconds",
            Family::new_with_constructor(|| Histogram::new(REDIS_BUCKETS));
        /// Failed calls to Redis, by call and reason.
        failed: Counters<RedisFailureLabels> = "redis_calls_failed";
    }
}

impl RedisMetrics {
    /// Sets whether Redis is connected.
    pub fn up(&self, up: bool) {
        self.up.set(i64::from(up));
    }

    /// Records a call, the reason if it failed, and its duration.
    pub fn call(&self, call: &'static str, failed: Option<&'static str>, elapsed: Duration) {
        self.calls.get_or_create(&RedisCallLabels { call }).observe(elapsed.as_secs_f64());
        if let Some(reason) = failed {
            self.failed.get_or_create(&RedisFailureLabels { call, reason }).inc();
        }
    }
}
