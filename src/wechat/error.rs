//! Errors of calls to WeChat.
//!
//! No error of the HTTP client is kept: it quotes the URL, which contains the secret, code or token.

use super::Endpoint;
use super::errcode::{self, Class};
use std::time::Duration;

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WechatError {
    /// No connection; nothing was sent.
    #[error("cannot connect to WeChat for {}: {why}", .endpoint.as_str())]
    Unsent {
        /// The endpoint.
        endpoint: Endpoint,
        /// The reason: `name not resolved`, `refused`, `timed out`, `TLS failed`, `cut off`, `not connected`.
        why: &'static str,
    },
    /// The server's certificate is not trusted; nothing was sent.
    #[error("the certificate of the server for {} is not trusted", .endpoint.as_str())]
    Certificate {
        /// The endpoint.
        endpoint: Endpoint,
    },
    /// The connection ended after the request was sent, which may have had its effect.
    #[error("the connection for {} broke after the request was sent", .endpoint.as_str())]
    Broken {
        /// The endpoint.
        endpoint: Endpoint,
    },
    /// The call timed out. It may have had its effect.
    #[error("{} timed out", .endpoint.as_str())]
    TimedOut {
        /// The endpoint.
        endpoint: Endpoint,
    },
    /// An HTTP status other than 2xx. WeChat's own errors have status 200.
    #[error("HTTP status {status} for {}", .endpoint.as_str())]
    Status {
        /// The endpoint.
        endpoint: Endpoint,
        /// The status.
        status: u16,
    },
    /// A body that cannot be decoded.
    #[error("the answer to {} is not usable: {what}", .endpoint.as_str())]
    Unusable {
        /// The endpoint.
        endpoint: Endpoint,
        /// The reason: `not JSON`, or the name of a field.
        what: &'static str,
    },
    /// A body of more than 64 KiB.
    #[error("the answer to {} is too large", .endpoint.as_str())]
    TooLarge {
        /// The endpoint.
        endpoint: Endpoint,
    },
    /// An error code of WeChat.
    #[error("WeChat answers {code} to {}{}", .endpoint.as_str(), Suffix(*.rid))]
    Errcode {
        /// The endpoint.
        endpoint: Endpoint,
        /// The error code.
        code: i64,
        /// WeChat's request id, for questions to Tencent.
        rid: Option<Rid>,
    },
    /// Not sent: previous calls failed.
    #[error("{} failed repeatedly; the next call is in {retry_after:?}", .endpoint.as_str())]
    BreakerOpen {
        /// The endpoint.
        endpoint: Endpoint,
        /// When the next call is allowed.
        retry_after: Duration,
    },
    /// The answer is about another user.
    #[error("the answer to {} is about another user", .endpoint.as_str())]
    Mismatch {
        /// The endpoint.
        endpoint: Endpoint,
    },
    /// Not sent: too many concurrent calls.
    #[error("too many concurrent calls to WeChat: {} was not sent", .endpoint.as_str())]
    TooManyCalls {
        /// The endpoint.
        endpoint: Endpoint,
    },
}

/// WeChat's request id: three groups of eight hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rid([u32; 3]);

impl Rid {
    /// Reads `6741a0c2-11aa22bb-33cc44dd`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut groups = text.split('-').map(|group| {
            let is_hex = group.len() == 8 && group.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
            is_hex.then(|| u32::from_str_radix(group, 16).ok()).flatten()
        });
        let rid = Self([groups.next()??, groups.next()??, groups.next()??]);
        groups.next().is_none().then_some(rid)
    }
}

impl std::fmt::Display for Rid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [first, second, third] = self.0;
        write!(f, "{first:08x}-{second:08x}-{third:08x}")
    }
}

/// ` (rid …)`, where there is one.
struct Suffix(Option<Rid>);

impl std::fmt::Display for Suffix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.map_or(Ok(()), |rid| write!(f, " (rid {rid})"))
    }
}

impl WechatError {
    /// The call that failed.
    pub fn endpoint(&self) -> Endpoint {
        match self {
            Self::Unsent { endpoint, .. }
            | Self::Certificate { endpoint }
            | Self::Broken { endpoint }
            | Self::TimedOut { endpoint }
            | Self::Status { endpoint, .. }
            | Self::Unusable { endpoint, .. }
            | Self::TooLarge { endpoint }
            | Self::Errcode { endpoint, .. }
            | Self::BreakerOpen { endpoint, .. }
            | Self::Mismatch { endpoint }
            | Self::TooManyCalls { endpoint } => *endpoint,
        }
    }

    /// WeChat's id of the request.
    pub fn rid(&self) -> Option<Rid> {
        match self {
            Self::Errcode { rid, .. } => *rid,
            _ => None,
        }
    }

    /// What to do, after the retries of the call.
    pub fn class(&self) -> Class {
        match self {
            Self::Unsent { .. } => Class::RetryNow,
            Self::Certificate { .. } => Class::Configuration,
            Self::Broken { endpoint }
            | Self::TimedOut { endpoint }
            | Self::Unusable { endpoint, .. }
            | Self::TooLarge { endpoint } => {
                // The code may be spent, so only a new login helps.
                if endpoint.is_repeatable() { Class::BackOff } else { Class::RestartLogin }
            }
            Self::Status { status: 408 | 429 | 500.., .. } => Class::BackOff,
            // WeChat's API sends no redirect or 404: the base URL is wrong, or a proxy answers.
            Self::Status { .. } => Class::Configuration,
            Self::Errcode { endpoint, code, .. } => errcode::classify(*endpoint, *code),
            Self::BreakerOpen { .. } | Self::TooManyCalls { .. } => Class::BackOff,
            Self::Mismatch { .. } => Class::Fatal,
        }
    }

    /// The metrics' label, from a closed set: the errcode or a word.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Unsent { .. } => "unsent",
            Self::Certificate { .. } => "certificate",
            Self::Broken { .. } => "broken",
            Self::TimedOut { .. } => "timed_out",
            Self::Status { status: 429, .. } => "status_429",
            Self::Status { status: 500.., .. } => "status_5xx",
            Self::Status { .. } => "status_other",
            Self::Unusable { .. } => "unusable",
            Self::TooLarge { .. } => "too_large",
            Self::Errcode { code, .. } => errcode::label(*code),
            Self::BreakerOpen { .. } => "breaker_open",
            Self::Mismatch { .. } => "mismatch",
            Self::TooManyCalls { .. } => "too_many_calls",
        }
    }

    /// Whether the breaker counts this as a failure of WeChat. Errors caused by users (40029) or operators do not count.
    /// `None` if the error says nothing about WeChat.
    pub(crate) fn blames_wechat(&self) -> Option<bool> {
        match self {
            Self::Unsent { .. } | Self::Broken { .. } | Self::TimedOut { .. } => Some(true),
            Self::Status { status, .. } => Some(*status >= 500),
            Self::Errcode { code, .. } => Some(*code == -1),
            Self::Unusable { .. } | Self::TooLarge { .. } | Self::Mismatch { .. } => Some(false),
            Self::Certificate { .. } | Self::BreakerOpen { .. } | Self::TooManyCalls { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXCHANGE: Endpoint = Endpoint::AccessToken;
    const USERINFO: Endpoint = Endpoint::Userinfo;

    /// The table of docs/en/wechat.md, Retries.
    #[test]
    fn a_code_that_may_be_spent_restarts_the_login() {
        let unusable = |endpoint| WechatError::Unusable { endpoint, what: "not JSON" };
        let status = |endpoint, status| WechatError::Status { endpoint, status };
        for (error, class) in [
            (WechatError::Unsent { endpoint: EXCHANGE, why: "refused" }, Class::RetryNow),
            (WechatError::Certificate { endpoint: EXCHANGE }, Class::Configuration),
            (WechatError::Broken { endpoint: EXCHANGE }, Class::RestartLogin),
            (WechatError::Broken { endpoint: USERINFO }, Class::BackOff),
            (WechatError::TimedOut { endpoint: EXCHANGE }, Class::RestartLogin),
            (WechatError::TimedOut { endpoint: USERINFO }, Class::BackOff),
            (unusable(EXCHANGE), Class::RestartLogin),
            (unusable(USERINFO), Class::BackOff),
            (WechatError::TooLarge { endpoint: EXCHANGE }, Class::RestartLogin),
            (status(EXCHANGE, 429), Class::BackOff),
            (status(EXCHANGE, 502), Class::BackOff),
            (status(EXCHANGE, 302), Class::Configuration),
            (status(USERINFO, 404), Class::Configuration),
            (WechatError::BreakerOpen { endpoint: EXCHANGE, retry_after: Duration::ZERO }, Class::BackOff),
            (WechatError::TooManyCalls { endpoint: EXCHANGE }, Class::BackOff),
            (WechatError::Mismatch { endpoint: USERINFO }, Class::Fatal),
        ] {
            assert_eq!(error.class(), class, "{error}");
        }
    }

    #[test]
    fn the_breaker_counts_failures_of_wechat_only() {
        let errcode = |code| WechatError::Errcode { endpoint: EXCHANGE, code, rid: None };
        let status = |status| WechatError::Status { endpoint: EXCHANGE, status };
        for (error, blame) in [
            (WechatError::Unsent { endpoint: EXCHANGE, why: "refused" }, Some(true)),
            (WechatError::Broken { endpoint: EXCHANGE }, Some(true)),
            (WechatError::TimedOut { endpoint: EXCHANGE }, Some(true)),
            (status(500), Some(true)),
            (errcode(-1), Some(true)),
            (status(429), Some(false)),
            (status(302), Some(false)),
            (errcode(40029), Some(false)),
            (errcode(40163), Some(false)),
            (errcode(40125), Some(false)),
            (errcode(45011), Some(false)),
            (errcode(99999), Some(false)),
            (WechatError::Certificate { endpoint: EXCHANGE }, None),
        ] {
            assert_eq!(error.blames_wechat(), blame, "{error}");
        }
    }

    #[test]
    fn an_error_reads_well_with_and_without_a_rid() {
        let error =
            |rid: Option<&str>| WechatError::Errcode { endpoint: EXCHANGE, code: 40029, rid: rid.and_then(Rid::parse) };
        assert_eq!(error(None).to_string(), "WeChat answers 40029 to access_token");
        assert_eq!(
            error(Some("6741a0c2-11aa22bb-33cc44dd")).to_string(),
            "WeChat answers 40029 to access_token (rid 6741a0c2-11aa22bb-33cc44dd)"
        );
    }
}
