//! Errors of the account's tokens.

use super::quota;
use crate::wechat::errcode::Class;
use crate::wechat::error::WechatError;
use std::time::Duration;

/// Why there is no token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccessTokenError {
    /// The call to WeChat failed.
    #[error(transparent)]
    Wechat(#[from] WechatError),
    /// A recent call failed, perhaps at another instance.
    #[error("backing off after {reason}; the next call to WeChat is in {retry_after:?}")]
    BackingOff {
        /// The label of the error.
        reason: String,
        /// When the next call is allowed.
        retry_after: Duration,
    },
    /// Our own daily limit of calls is used up.
    #[error("the daily limit of calls is used up")]
    QuotaExhausted,
    /// The refresh, here or at another instance, did not finish in time.
    #[error("the refresh did not finish in time")]
    TimedOut,
}

impl AccessTokenError {
    /// The metric's label.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Wechat(error) => error.label(),
            Self::BackingOff { .. } => "backing_off",
            Self::QuotaExhausted => "quota_exhausted",
            Self::TimedOut => "refresh_timed_out",
        }
    }

    /// The metric's `class` label, as for failed logins: whether the operator must act.
    pub fn metrics_class(&self) -> &'static str {
        match self {
            Self::Wechat(error) if error.class() == Class::Configuration => "configuration",
            Self::Wechat(_) | Self::BackingOff { .. } | Self::QuotaExhausted | Self::TimedOut => "unreachable",
        }
    }

    /// When a retry may succeed.
    pub fn retry_after(&self) -> Duration {
        match self {
            Self::BackingOff { retry_after, .. } => *retry_after,
            Self::Wechat(WechatError::BreakerOpen { retry_after, .. }) => *retry_after,
            Self::Wechat(error) => quota::backoff_range(error).0,
            Self::QuotaExhausted => quota::QUOTA_BACKOFF,
            Self::TimedOut => Duration::from_secs(2),
        }
    }
}
