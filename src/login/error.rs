//! Why a login fails, by who can fix it. `routes::login` selects the page for each error.

use crate::access_token::AccessTokenError;
use crate::wechat::{self, Class, Rid};
use serde::{Deserialize, Serialize};

/// The error of the call to WeChat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cause {
    /// The `errcode` label of the metric.
    pub label: &'static str,
    /// WeChat's id of the request, if its response contains one.
    pub rid: Option<Rid>,
}

impl Cause {
    /// A cause without a request id.
    pub const fn of(label: &'static str) -> Self {
        Self { label, rid: None }
    }

    /// The cause of an error at another instance, which has counted and logged it.
    const fn elsewhere() -> Self {
        Self::of("elsewhere")
    }
}

/// Why a login failed. Redis stores no cause: the instance that met the error has counted and logged it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LoginError {
    /// The code is invalid or has been used. A new login may succeed.
    #[error("the code is invalid or has been used")]
    CodeSpent(#[serde(skip, default = "Cause::elsewhere")] Cause),
    /// WeChat is unreachable, slow, or busy.
    #[error("WeChat is unreachable or busy")]
    Unreachable(#[serde(skip, default = "Cause::elsewhere")] Cause),
    /// The operator must correct the AppID, the AppSecret, a domain or a permission.
    #[error("the configuration of the application is wrong, here or at WeChat")]
    Configuration(#[serde(skip, default = "Cause::elsewhere")] Cause),
    /// WeChat refuses this user or this request.
    #[error("WeChat refuses this login")]
    Refused(#[serde(skip, default = "Cause::elsewhere")] Cause),
    /// The virtual account of a snapshot page (快照页).
    #[error("a snapshot page has a virtual account only")]
    Snapshot,
    /// The application requires followers of its Official Account (公众号), and this user is not one.
    #[error("the user does not follow the Official Account")]
    NotSubscribed,
    /// The subject is the unionid, and WeChat sent none.
    #[error("WeChat sent no unionid, which the subject rule requires")]
    NoUnionid,
    /// A reload removed the login method during the login.
    #[error("the login method is no longer configured")]
    MethodRemoved,
    /// Signing or sealing failed.
    #[error("signing or sealing failed")]
    Internal,
}

impl LoginError {
    /// The `errcode` label of the metric: WeChat's error code, or a word.
    pub fn label(self) -> &'static str {
        match self {
            Self::CodeSpent(cause) | Self::Unreachable(cause) | Self::Configuration(cause) | Self::Refused(cause) => {
                cause.label
            }
            Self::Snapshot => "snapshot",
            Self::NotSubscribed => "not_subscribed",
            Self::NoUnionid => "no_unionid",
            Self::MethodRemoved => "method_removed",
            Self::Internal => "internal",
        }
    }

    /// WeChat's id of the request, which Tencent's support asks for.
    pub fn rid(self) -> Option<Rid> {
        match self {
            Self::CodeSpent(cause) | Self::Unreachable(cause) | Self::Configuration(cause) | Self::Refused(cause) => {
                cause.rid
            }
            Self::Snapshot | Self::NotSubscribed | Self::NoUnionid | Self::MethodRemoved | Self::Internal => None,
        }
    }

    /// The `class` label of the metric.
    pub fn class(self) -> &'static str {
        match self {
            Self::CodeSpent(_) => "restart_login",
            Self::Unreachable(_) => "unreachable",
            Self::Configuration(_) | Self::NoUnionid | Self::MethodRemoved => "configuration",
            Self::Refused(_) => "refused",
            Self::Snapshot => "snapshot",
            Self::NotSubscribed => "not_subscribed",
            Self::Internal => "internal",
        }
    }
}

impl From<&wechat::WechatError> for LoginError {
    fn from(error: &wechat::WechatError) -> Self {
        let cause = Cause { label: error.label(), rid: error.rid() };
        match error.class() {
            Class::RestartLogin => Self::CodeSpent(cause),
            // `RenewToken` occurs only in the subscription query, if WeChat refuses a new access token too.
            Class::RetryNow | Class::BackOff | Class::RenewToken => Self::Unreachable(cause),
            Class::Configuration => Self::Configuration(cause),
            Class::Fatal => Self::Refused(cause),
        }
    }
}

impl From<&AccessTokenError> for LoginError {
    fn from(error: &AccessTokenError) -> Self {
        match error {
            AccessTokenError::Wechat(error) => Self::from(error),
            AccessTokenError::BackingOff { .. } | AccessTokenError::QuotaExhausted | AccessTokenError::TimedOut => {
                Self::Unreachable(Cause::of(error.label()))
            }
        }
    }
}
