//! How a call to WeChat can fail.
//!
//! Closed words only: WeChat's requests carry secret, code and token in their URLs, and an HTTP client's error quotes the
//! URL, so no foreign error is kept.

use super::Endpoint;
use super::errcode::{self, Class};
use std::time::Duration;

/// Why a call gave nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WechatError {
    /// No connection, so nothing was sent.
    #[error("WeChat could not be reached for {}: {why}", .endpoint.as_str())]
    Unsent {
        /// Which call.
        endpoint: Endpoint,
        /// Where it ended: `name not resolved`, `refused`, `timed out`, `TLS failed`, `cut off`, `not connected`.
        why: &'static str,
    },
    /// Something without a certificate that we trust answers in WeChat's place. Nothing was sent.
    #[error("the certificate shown for {} is not trusted", .endpoint.as_str())]
    Certificate {
        /// Which call.
        endpoint: Endpoint,
    },
    /// The connection ended after bytes were sent: what was asked may have happened.
    #[error("the connection for {} broke after it was asked", .endpoint.as_str())]
    Broken {
        /// Which call.
        endpoint: Endpoint,
    },
    /// The call's whole time passed: what was asked may have happened.
    #[error("no answer to {} in time", .endpoint.as_str())]
    TimedOut {
        /// Which call.
        endpoint: Endpoint,
    },
    /// An HTTP status other than 2xx; WeChat's own refusals are 200.
    #[error("HTTP status {status} for {}", .endpoint.as_str())]
    Status {
        /// Which call.
        endpoint: Endpoint,
        /// The status.
        status: u16,
    },
    /// A 2xx whose body says nothing that we can use.
    #[error("the answer to {} is not usable: {what}", .endpoint.as_str())]
    Unusable {
        /// Which call.
        endpoint: Endpoint,
        /// What is wrong: `not JSON`, or the field's name.
        what: &'static str,
    },
    /// A body beyond 64 KiB.
    #[error("the answer to {} is too large", .endpoint.as_str())]
    TooLarge {
        /// Which call.
        endpoint: Endpoint,
    },
    /// WeChat's own refusal.
    #[error("WeChat answers {code} to {}{}", .endpoint.as_str(), Suffix(*.rid))]
    Errcode {
        /// Which call.
        endpoint: Endpoint,
        /// The number.
        code: i64,
        /// WeChat's id of the request, to ask Tencent with: three groups of eight hex digits.
        rid: Option<Rid>,
    },
    /// Not asked: the calls before this one failed.
    #[error("{} is not asked for another {retry_after:?}: it failed repeatedly", .endpoint.as_str())]
    BreakerOpen {
        /// Which call.
        endpoint: Endpoint,
        /// When it may be asked again.
        retry_after: Duration,
    },
    /// The answer is about somebody else than was asked for.
    #[error("the answer to {} is about another person", .endpoint.as_str())]
    Mismatch {
        /// Which call.
        endpoint: Endpoint,
    },
    /// Not asked: too many calls are under way.
    #[error("too many calls to WeChat at once: {} is not asked", .endpoint.as_str())]
    TooManyCalls {
        /// Which call.
        endpoint: Endpoint,
    },
}

/// WeChat's id of a request: three groups of eight hex digits.
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

    /// What to do about it now that the call has given up.
    pub fn class(&self) -> Class {
        match self {
            Self::Unsent { .. } => Class::RetryNow,
            Self::Certificate { .. } => Class::Configuration,
            Self::Broken { endpoint }
            | Self::TimedOut { endpoint }
            | Self::Unusable { endpoint, .. }
            | Self::TooLarge { endpoint } => {
                // The code may be spent, and only a new one tells.
                if endpoint.is_repeatable() { Class::BackOff } else { Class::RestartLogin }
            }
            Self::Status { status: 408 | 429 | 500.., .. } => Class::BackOff,
            // A redirect or a 404 does not come from WeChat's API: the address is wrong, or a proxy stands in between.
            Self::Status { .. } => Class::Configuration,
            Self::Errcode { endpoint, code, .. } => errcode::classify(*endpoint, *code),
            Self::BreakerOpen { .. } | Self::TooManyCalls { .. } => Class::BackOff,
            Self::Mismatch { .. } => Class::Fatal,
        }
    }

    /// The metrics' label: the errcode where there is one, a word otherwise. A closed set.
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

    /// Whether it shows that WeChat is not working. What users (40029) and operators cause does not; nor does what says
    /// nothing of WeChat, for which there is no verdict.
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
    fn what_may_have_been_spent_restarts_the_login_and_the_rest_comes_later() {
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
    fn the_breaker_counts_wechats_failures_and_never_users_or_operators() {
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
    fn a_refusal_reads_well_with_and_without_its_id() {
        let error =
            |rid: Option<&str>| WechatError::Errcode { endpoint: EXCHANGE, code: 40029, rid: rid.and_then(Rid::parse) };
        assert_eq!(error(None).to_string(), "WeChat answers 40029 to access_token");
        assert_eq!(
            error(Some("6741a0c2-11aa22bb-33cc44dd")).to_string(),
            "WeChat answers 40029 to access_token (rid 6741a0c2-11aa22bb-33cc44dd)"
        );
    }
}
