//! Why there is no central value.

use super::quota;
use crate::wechat::errcode::Class;
use crate::wechat::error::WechatError;
use std::time::Duration;

/// Why there is no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccessTokenError {
    /// WeChat was asked and gave none.
    #[error(transparent)]
    Wechat(#[from] WechatError),
    /// WeChat was asked a moment ago, perhaps by another instance, and gave none.
    #[error("WeChat gave none ({why}) and is not asked for another {retry_after:?}")]
    Resting {
        /// The label of that error.
        why: String,
        /// When it may be asked again.
        retry_after: Duration,
    },
    /// Our own bound on calls a day.
    #[error("the calls of the day are used up")]
    Spent,
    /// Another instance asks, and is not done in time.
    #[error("the value was not there in time")]
    Waited,
}

impl AccessTokenError {
    /// The metric's label.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Wechat(error) => error.label(),
            Self::Resting { .. } => "resting",
            Self::Spent => "spent",
            Self::Waited => "waited",
        }
    }

    /// The metric's `class` label, in the words of failed logins: whether it is for the operator to mend.
    pub fn metrics_class(&self) -> &'static str {
        match self {
            Self::Wechat(error) if error.class() == Class::Configuration => "configuration",
            Self::Wechat(_) | Self::Resting { .. } | Self::Spent | Self::Waited => "unreachable",
        }
    }

    /// When asking again may do better.
    pub fn retry_after(&self) -> Duration {
        match self {
            Self::Resting { retry_after, .. } => *retry_after,
            Self::Wechat(WechatError::BreakerOpen { retry_after, .. }) => *retry_after,
            Self::Wechat(error) => quota::first_backoff(error),
            Self::Spent => quota::QUOTA_BACKOFF,
            Self::Waited => Duration::from_secs(2),
        }
    }
}
