//! Logs, metrics and traces. Promises that no code, token, secret, cookie, full openid or query string gets into any.

pub mod ids;
pub mod log_limit;
pub mod logs;
pub mod metrics;
pub mod traces;

pub use ids::{RequestIds, redact};
pub use log_limit::LogLimiter;
pub use logs::{LogError, Logs, logs};
pub use metrics::{
    AccessTokenMetrics, CONTENT_TYPE as METRICS_CONTENT_TYPE, Lookups, MetricInfo, Metrics, OutboxMetrics,
    RedisMetrics, TraceMetrics,
};
pub use traces::Traces;
