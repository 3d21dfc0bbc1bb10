//! Logs, metrics and traces. Promises that no code, token, secret, cookie, full openid or query string gets into any.

pub(crate) mod ids;
pub(crate) mod log_limit;
pub(crate) mod logs;
pub(crate) mod metrics;
pub mod traces;

pub(crate) use ids::{RequestIds, redact};
pub(crate) use log_limit::LogLimiter;
pub(crate) use logs::{LogError, logs};
pub(crate) use metrics::CONTENT_TYPE as METRICS_CONTENT_TYPE;
pub use metrics::{AccessTokenMetrics, Metrics, OutboxMetrics, RedisMetrics, TokenMetrics, TraceMetrics};
pub use traces::Traces;
