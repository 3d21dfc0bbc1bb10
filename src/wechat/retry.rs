//! Whether to ask once more, and after how long (docs/en/wechat.md, Retries).
//!
//! The exchange is not repeatable once it is sent: the code may be spent, and asking again gives 40163 although the first
//! try went well. It is sent again where nothing was sent, and once where WeChat itself says it could not serve it (`-1`,
//! 429, 5xx): if that try answers 40163 or 40029 after all, a fresh login is started, the same as for any dead code.

use super::errcode::Class;
use super::error::WechatError;
use std::time::Duration;

/// Draws the pause before a try: from nothing up to the given bound.
pub(crate) type Jitter = fn(Duration) -> Duration;

/// Requests after the first, at most.
const MAX_RETRIES: u32 = 2;

/// Doubled for each retry: up to 200 ms before the first, up to 400 ms before the second.
const BASE: Duration = Duration::from_millis(100);

/// Full jitter: anything from nothing to `bound`, so that those who failed together do not come back together.
pub(crate) fn full_jitter(bound: Duration) -> Duration {
    bound.mul_f64(fastrand::f64())
}

/// The retries of one call.
#[derive(Debug, Default)]
pub(crate) struct Retries {
    made: u32,
    at_once: bool,
    later: bool,
}

/// How a failed request may be repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RetryKind {
    /// Not in this call.
    Never,
    /// At once; where that was done before, like `Later`.
    AtOnce,
    /// After a pause.
    Later,
}

impl Retries {
    /// The pause before asking once more after `error`; none to give up.
    pub(crate) fn after(&mut self, error: &WechatError, jitter: Jitter) -> Option<Duration> {
        if self.made >= MAX_RETRIES {
            return None;
        }
        let repeatable = error.endpoint().is_repeatable();
        let pause = match repeat(error) {
            RetryKind::Never => return None,
            RetryKind::AtOnce if !self.at_once => {
                self.at_once = true;
                Duration::ZERO
            }
            RetryKind::AtOnce if !repeatable => return None,
            RetryKind::Later if self.later && !repeatable => return None,
            RetryKind::AtOnce | RetryKind::Later => {
                self.later = true;
                jitter(BASE * 2u32.pow(self.made + 1))
            }
        };
        self.made += 1;
        Some(pause)
    }
}

fn repeat(error: &WechatError) -> RetryKind {
    let repeatable = error.endpoint().is_repeatable();
    match error {
        WechatError::Unsent { .. } => RetryKind::AtOnce,
        // A minute's or a day's quota does not come back within a call.
        WechatError::Errcode { code: 45009 | 45011, .. } => RetryKind::Never,
        WechatError::Errcode { code: -1, .. } if !repeatable => RetryKind::Later,
        WechatError::Errcode { .. }
        | WechatError::Broken { .. }
        | WechatError::Unusable { .. }
        | WechatError::TooLarge { .. }
            if !repeatable =>
        {
            RetryKind::Never
        }
        WechatError::Errcode { .. } => match error.class() {
            Class::RetryNow => RetryKind::AtOnce,
            Class::BackOff => RetryKind::Later,
            Class::RestartLogin | Class::Configuration | Class::Fatal | Class::RenewToken => RetryKind::Never,
        },
        WechatError::Status { .. } if error.class() == Class::BackOff => RetryKind::Later,
        WechatError::Broken { .. } | WechatError::Unusable { .. } => RetryKind::Later,
        // The whole time is over; a body of that size or an answer about another person is no accident.
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
        errors.iter().map_while(|error| retries.after(error, |bound| bound)).map(|pause| pause.as_millis()).collect()
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
    fn an_exchange_is_repeated_only_where_that_is_safe() {
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
            (vec![WechatError::BreakerOpen { endpoint, retry_after: BASE }], vec![]),
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
    fn other_calls_are_repeated_twice_with_growing_pauses() {
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
    fn jitter_is_anything_up_to_its_bound() {
        let bound = Duration::from_millis(200);
        let drawn: Vec<_> = (0..1_000).map(|_| full_jitter(bound)).collect();
        assert!(drawn.iter().all(|pause| *pause <= bound));
        assert!(drawn.iter().any(|pause| *pause < bound / 4) && drawn.iter().any(|pause| *pause > bound * 3 / 4));
    }
}
