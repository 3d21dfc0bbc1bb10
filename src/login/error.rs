//! How a login can fail, by whose error it is. What a person sees for each is decided in one place, in the pages.

use crate::access_token::AccessTokenError;
use crate::wechat::{self, Class, Rid};

/// What WeChat, or the way to it, said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cause {
    /// The metric's label.
    pub label: &'static str,
    /// WeChat's id of the request, if its answer held one.
    pub rid: Option<Rid>,
}

impl Cause {
    /// A cause without an id.
    pub const fn of(label: &'static str) -> Self {
        Self { label, rid: None }
    }
}

/// Why a login did not end well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoginError {
    /// The code was no good, or may have been spent: a fresh login may go better.
    #[error("the code is of no use any more")]
    CodeSpent(Cause),
    /// WeChat is away, slow, or asks us to come later.
    #[error("WeChat is not reachable or is busy")]
    Unreachable(Cause),
    /// AppID, AppSecret, domain or right: the operator's.
    #[error("the application is not set up rightly at WeChat or here")]
    Configuration(Cause),
    /// WeChat refuses this person, or the request; nothing helps now.
    #[error("WeChat refuses this login for good")]
    Refused(Cause),
    /// A snapshot page's virtual account (快照页).
    #[error("a snapshot visitor is nobody")]
    Snapshot,
    /// The application asks for followers of its Official Account (公众号), and this person is none.
    #[error("the person does not follow the Official Account")]
    NotSubscribed,
    /// The subject is the unionid and WeChat sent none.
    #[error("no unionid came, and the subject rule asks for one")]
    NoUnionid,
    /// The application no longer has the flow that was started: the configuration changed meanwhile.
    #[error("the flow is no longer configured")]
    FlowGone,
    /// We could not sign or seal.
    #[error("no token could be made")]
    Ours,
}

impl LoginError {
    /// The metric's `errcode` label: WeChat's code where there is one, a word otherwise.
    pub fn label(self) -> &'static str {
        match self {
            Self::CodeSpent(cause) | Self::Unreachable(cause) | Self::Configuration(cause) | Self::Refused(cause) => {
                cause.label
            }
            Self::Snapshot => "snapshot",
            Self::NotSubscribed => "not_subscribed",
            Self::NoUnionid => "no_unionid",
            Self::FlowGone => "flow_gone",
            Self::Ours => "ours",
        }
    }

    /// WeChat's id of the request, to ask Tencent with.
    pub fn rid(self) -> Option<Rid> {
        match self {
            Self::CodeSpent(cause) | Self::Unreachable(cause) | Self::Configuration(cause) | Self::Refused(cause) => {
                cause.rid
            }
            Self::Snapshot | Self::NotSubscribed | Self::NoUnionid | Self::FlowGone | Self::Ours => None,
        }
    }

    /// The metric's `class` label.
    pub fn class(self) -> &'static str {
        match self {
            Self::CodeSpent(_) => "restart_login",
            Self::Unreachable(_) => "unreachable",
            Self::Configuration(_) | Self::NoUnionid | Self::FlowGone => "configuration",
            Self::Refused(_) => "refused",
            Self::Snapshot => "snapshot",
            Self::NotSubscribed => "not_subscribed",
            Self::Ours => "ours",
        }
    }
}

impl From<&wechat::WechatError> for LoginError {
    fn from(error: &wechat::WechatError) -> Self {
        let cause = Cause { label: error.label(), rid: error.rid() };
        match error.class() {
            Class::RestartLogin => Self::CodeSpent(cause),
            // The last of them is said of no login call; of the application's own token when a new one is refused too.
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
