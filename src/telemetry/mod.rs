//! Logs, metrics and traces. Promises that no code, token, secret, cookie, full openid or query string gets into any.

pub mod bound;
pub mod ids;
pub mod logs;
pub mod metrics;
pub mod traces;

pub use bound::LineBound;
pub use ids::{RequestIds, redact};
pub use logs::{LogFault, Logs, logs};
pub use metrics::{
    CONTENT_TYPE as METRICS_CONTENT_TYPE, CentralMeter, Documented, Lookups, Metrics, OutboxMeter, StoreMeter,
    TraceMeter,
};
pub use traces::Traces;
