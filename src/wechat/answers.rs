//! What WeChat's answers say, without a call: the door through which `fuzz/` comes to their reading.

use super::client::understand;
use super::error::WechatError;
use super::endpoints::exchange::ExchangeResponse;
use super::ids::OpenId;
use super::endpoints::stable_token::TokenResponse;
use super::endpoints::userinfo::UserInfo;
use super::Endpoint;
use super::endpoints::{subscription, userinfo};
use crate::secret::Secret;
use std::time::Duration;

/// The answer to a code.
///
/// # Errors
/// [`WechatError`], as for each of these.
pub fn exchanged(body: &[u8]) -> Result<ExchangeResponse, WechatError> {
    understand(Endpoint::AccessToken, body, ExchangeResponse::read)
}

/// The answer about a person: whom it is about, and what it says.
pub fn profiled(body: &[u8]) -> Result<(OpenId, UserInfo), WechatError> {
    understand(Endpoint::Userinfo, body, userinfo::read)
}

/// The application's own token and how long it lives.
pub fn token(body: &[u8]) -> Result<(Secret, Duration), WechatError> {
    let given = understand(Endpoint::StableToken, body, |answer| TokenResponse::read(answer, "access_token"))?;
    Ok((given.value, given.ttl))
}

/// Whom the answer is about, and whether they follow.
pub fn subscription(body: &[u8]) -> Result<(OpenId, bool), WechatError> {
    understand(Endpoint::Subscription, body, subscription::read)
}
