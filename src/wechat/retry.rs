//! Whether and when to retry a request (docs/en/wechat.md, Retries).
//!
//! The exchange is not repeatable: the first request may have spent the code, and a second one then fails with 40163. It is
//! retried only if nothing was sent, and once if WeChat says that it could not serve it (`-1`, 429, 5xx). If the retry fails
//! with 40163 or 40029, a new login starts, as for every spent code.

use super::errcode::Class;
use super::error::WechatError;
use std::time::Duration;

/// Draws a random delay up to the given limit.
pub(crate) type Jitter = fn(Duration) -> Duration;

/// The number of requests after the first.
const MAX_RETRIES: u32 = 2;

/// Doubled for each retry: up to 200 ms before the first, up to 400 ms before the second.
const BASE_DELAY: Duration = Duration::from_millis(100);

/// Full jitter, from zero to `limit`: calls that failed at the same time do not retry at the same time.
pub(crate) fn full_jitter(limit: Duration) -> Duration {
    limit.mul_f64(fastrand::f64())
}

/// The retries of one call.
#[derive(Debug, Default)]
pub(crate) struct Retries {
    count: u32,
    immediate: bool,
    delayed: bool,
}

/// How a failed request may be retried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RetryKind {
    /// Not at all.
    Never,
    /// Immediately the first time, then like `Delayed`.
    Immediate,
    /// After a delay.
    Delayed,
}

impl Retries {
    /// The delay before the next request; `None` to give up.
    pub(crate) fn delay_after(&mut self, error: &WechatError, jitter: Jitter) -> Option<Duration> {
        if self.count >= MAX_RETRIES {
            return None;
        }
        let repeatable = error.endpoint().is_repeatable();
        let delay = match retry_kind(error) {
            RetryKind::Never => return None,
            RetryKind::Immediate if !self.immediate => {
                self.immediate = true;
                Duration::ZERO
            }
            RetryKind::Immediate if !repeatable => return None,
            RetryKind::Delayed if self.delayed && !repeatable => return None,
            RetryKind::Immediate | RetryKind::Delayed => {
                self.delayed = true;
                jitter(BASE_DELAY * 2u32.pow(self.count + 1))
            }
        };
        self.count += 1;
        Some(delay)
    }
}

fn retry_kind(error: &WechatError) -> RetryKind {
    let repeatable = error.endpoint().is_repeatable();
    match error {
        WechatError::Unsent { .. } => RetryKind::Immediate,
        // A quota of the minute or day does not recover within a call.
        WechatError::Errcode { code: 45009 | 45011, .. } => RetryKind::Never,
        WechatError::Errcode { code: -1, .. } if !repeatable => RetryKind::Delayed,
        WechatError::Errcode { .. }
        | WechatError::Broken { .. }
        | WechatError::Unusable { .. }
        | WechatError::TooLarge { .. }
            if !repeatable =>
        {
            RetryKind::Never
        }
        WechatError::Errcode { .. } => match error.class() {
            Class::RetryNow => RetryKind::Immediate,
            Class::BackOff => RetryKind::Delayed,
            Class::RestartLogin | Class::Configuration | Class::Fatal | Class::RenewToken => RetryKind::Never,
        },
        WechatError::Status { .. } if error.class() == Class::BackOff => RetryKind::Delayed,
        WechatError::Broken { .. } | WechatError::Unusable { .. } => RetryKind::Delayed,
        // No time is left, or a retry would have the same result.
        WechatError::TimedOut { .. } | WechatError::TooLarge { .. } | WechatError::Mismatch { .. } => RetryKind::Never,
        WechatError::Status { .. } | WechatError::Certificate { .. } => RetryKind::Never,
        WechatError::BreakerOpen { .. } | WechatError::TooManyCalls { .. } => RetryKind::Never,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wechat::Endpoint;

    const EXCHANGE: Endpoint = Endpoint::AccessToken;
    const REFRESH: Endpoint = Endpoint::RefreshToken;
    const USERINFO: Endpoint = Endpoint::Userinfo;

    /// The pauses in milliseconds at their longest, when a call fails with these one after the other.
    fn pauses(errors: &[WechatError]) -> Vec<u128> {
        let mut retries = Retries::default();
        errors
            .iter()
            .map_while(|error| retries.delay_after(error, |bound| bound))
            .map(|pause| pause.as_millis())
            .collect()
    }

    fn unsent(endpoint: Endpoint) -> WechatError {
        WechatError::Unsent { endpoint, why: "refused" }
    }

    fn errcode(endpoint: Endpoint, code: i64) -> WechatError {
        WechatError::Errcode { endpoint, code, rid: None }
    }

    fn status(endpoint: Endpoint, status: u16) -> WechatError {
        WechatError::Status { endpoint, status }
    }

    #[test]
    fn an_exchange_is_retried_only_if_safe() {
        let endpoint = EXCHANGE;
        for (errors, expected) in [
            (vec![unsent(endpoint); 3], vec![0]),
            (vec![errcode(endpoint, -1); 3], vec![200]),
            (vec![status(endpoint, 503); 3], vec![200]),
            (vec![status(endpoint, 429); 3], vec![200]),
            (vec![errcode(endpoint, -1), status(endpoint, 502)], vec![200]),
            (vec![unsent(endpoint), errcode(endpoint, -1), errcode(endpoint, -1)], vec![0, 400]),
            (vec![errcode(endpoint, -1), unsent(endpoint), unsent(endpoint)], vec![200, 0]),
            (vec![errcode(endpoint, -1), errcode(endpoint, 40163)], vec![200]),
            (vec![WechatError::Broken { endpoint }], vec![]),
            (vec![WechatError::TimedOut { endpoint }], vec![]),
            (vec![WechatError::Unusable { endpoint, what: "not JSON" }], vec![]),
            (vec![WechatError::TooLarge { endpoint }], vec![]),
            (vec![WechatError::Certificate { endpoint }], vec![]),
            (vec![WechatError::TooManyCalls { endpoint }], vec![]),
            (vec![WechatError::BreakerOpen { endpoint, retry_after: BASE_DELAY }], vec![]),
            (vec![status(endpoint, 302)], vec![]),
            (vec![status(endpoint, 404)], vec![]),
            (vec![errcode(endpoint, 40029)], vec![]),
            (vec![errcode(endpoint, 40125)], vec![]),
            (vec![errcode(endpoint, 45011)], vec![]),
            (vec![errcode(endpoint, 99999)], vec![]),
        ] {
            assert_eq!(pauses(&errors), expected, "{errors:?}");
        }
    }

    #[test]
    fn other_calls_are_retried_twice_with_growing_delays() {
        for endpoint in [USERINFO, REFRESH] {
            for (errors, expected) in [
                (vec![unsent(endpoint); 3], vec![0, 400]),
                (vec![errcode(endpoint, -1); 3], vec![0, 400]),
                (vec![errcode(endpoint, 99999); 3], vec![200, 400]),
                (vec![status(endpoint, 503); 3], vec![200, 400]),
                (vec![WechatError::Broken { endpoint }; 3], vec![200, 400]),
                (vec![WechatError::Unusable { endpoint, what: "openid" }; 3], vec![200, 400]),
                (vec![errcode(endpoint, 40001)], vec![]),
                (vec![errcode(endpoint, 45009)], vec![]),
                (vec![errcode(endpoint, 48001)], vec![]),
                (vec![WechatError::TimedOut { endpoint }], vec![]),
                (vec![WechatError::TooLarge { endpoint }], vec![]),
                (vec![WechatError::Mismatch { endpoint }], vec![]),
                (vec![status(endpoint, 404)], vec![]),
            ] {
                assert_eq!(pauses(&errors), expected, "{errors:?}");
            }
        }
    }

    #[test]
    fn jitter_stays_below_its_limit() {
        let bound = Duration::from_millis(200);
        let drawn: Vec<_> = (0..1_000).map(|_| full_jitter(bound)).collect();
        assert!(drawn.iter().all(|pause| *pause <= bound));
        assert!(drawn.iter().any(|pause| *pause < bound / 4) && drawn.iter().any(|pause| *pause > bound * 3 / 4));
    }
}
