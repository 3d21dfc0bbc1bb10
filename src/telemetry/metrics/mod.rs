//! Metrics in OpenMetrics text. Each group is declared once, with [`metrics!`]: the fields, their registration and their
//! rows in `docs/en/metrics.md`.

#[macro_use]
mod declare;

mod access_tokens;
mod checks;
mod instance;
mod labels;
mod logins;
mod outbox;
mod process;
mod redis;
mod sessions;
#[cfg(test)]
mod tests;
mod traces;
mod wechat;

pub use access_tokens::AccessTokenMetrics;
use checks::CheckMetrics;
pub use checks::TokenMetrics;
use declare::Declared;
use instance::InstanceMetrics;
use logins::LoginMetrics;
pub use outbox::OutboxMetrics;
use prometheus_client::encoding::text::{encode, encode_registry};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
pub use redis::RedisMetrics;
use sessions::SessionMetrics;
pub use traces::TraceMetrics;
use wechat::WechatMetrics;

use super::LogLimiter;
use crate::app_name::AppName;
use crate::login_method::LoginMethod;

/// The content type of [`Metrics::render`].
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All metrics of an instance.
pub struct Metrics {
    declared: Declared,
    /// `process_*`, which have no prefix of this program.
    process: Registry,
    /// Checks.
    pub checks: CheckMetrics,
    /// Session tokens.
    pub tokens: TokenMetrics,
    /// Logins and the requests to the pages.
    pub logins: LoginMetrics,
    /// Calls to WeChat.
    pub wechat: WechatMetrics,
    /// Access tokens of the accounts.
    pub access_tokens: AccessTokenMetrics,
    /// Sessions, revocations and keys.
    pub sessions: SessionMetrics,
    /// Calls to Redis.
    pub redis: RedisMetrics,
    /// Events and records that are written to Redis.
    pub outbox: OutboxMetrics,
    /// Listeners, configuration and logs.
    pub instance: InstanceMetrics,
    /// Spans.
    pub traces: TraceMetrics,
    /// Limits the log lines of denied checks.
    pub deny_lines: LogLimiter,
    /// Limits the log lines of limited requests.
    pub limit_lines: LogLimiter,
    /// Limits the log lines of rejected requests to pages.
    pub reject_lines: LogLimiter,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            declared: Declared::default(),
            process: Registry::default(),
            checks: CheckMetrics::default(),
            tokens: TokenMetrics::default(),
            logins: LoginMetrics::default(),
            wechat: WechatMetrics::default(),
            access_tokens: AccessTokenMetrics::default(),
            sessions: SessionMetrics::default(),
            redis: RedisMetrics::default(),
            outbox: OutboxMetrics::default(),
            instance: InstanceMetrics::default(),
            traces: TraceMetrics::default(),
            deny_lines: LogLimiter::default(),
            limit_lines: LogLimiter::default(),
            reject_lines: LogLimiter::default(),
        };
        let declared = &mut metrics.declared;
        declared.add("build", "The running version", Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]));
        metrics.checks.register(declared);
        metrics.tokens.register(declared);
        metrics.logins.register(declared);
        metrics.wechat.register(declared);
        metrics.access_tokens.register(declared);
        metrics.sessions.register(declared);
        metrics.redis.register(declared);
        metrics.outbox.register(declared);
        metrics.instance.register(declared);
        metrics.traces.register(declared);
        metrics.process.register_collector(Box::new(process::Process));
        metrics
    }
}

impl Metrics {
    /// Creates the series of a login method of an application: `rate` does not see the first event of a series that starts
    /// with it, and a sidecar of a small application has few others.
    pub fn create_login_method(&self, app: &AppName, method: LoginMethod) {
        self.logins.create(app, method);
        self.sessions.create(app);
    }

    /// The rows of `docs/en/metrics.md`: name, type and meaning.
    #[cfg(test)]
    fn rows(&self) -> Vec<(String, String, &'static str)> {
        self.declared.rows.iter().cloned().chain(process::Process::rows()).collect()
    }

    /// All metrics as OpenMetrics text.
    pub fn render(&self) -> String {
        let mut text = String::with_capacity(16 * 1024);
        // Writing to memory does not fail.
        let _ = encode_registry(&mut text, &self.process).and_then(|()| encode(&mut text, &self.declared.registry));
        text
    }
}
