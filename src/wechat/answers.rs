//! Decodes WeChat's answers without a call, for the fuzz targets.

use super::Endpoint;
use super::client::parse_body;
use super::endpoints::exchange::ExchangeResponse;
use super::endpoints::stable_token::TokenResponse;
use super::endpoints::userinfo::UserInfo;
use super::endpoints::{subscription, userinfo};
use super::error::WechatError;
use super::ids::OpenId;
use crate::secret::Secret;
use std::time::Duration;

/// Decodes the answer of the exchange.
///
/// # Errors
/// The body is an error of WeChat or not usable; the same for the other functions.
pub fn exchanged(body: &[u8]) -> Result<ExchangeResponse, WechatError> {
    parse_body(Endpoint::AccessToken, body, ExchangeResponse::read)
}

/// Decodes the answer of `sns/userinfo`: the user's openid and profile.
pub fn profiled(body: &[u8]) -> Result<(OpenId, UserInfo), WechatError> {
    parse_body(Endpoint::Userinfo, body, userinfo::read)
}

/// Decodes the answer of `cgi-bin/stable_token`: the token and its lifetime.
pub fn token(body: &[u8]) -> Result<(Secret, Duration), WechatError> {
    let response = parse_body(Endpoint::StableToken, body, |answer| TokenResponse::read(answer, "access_token"))?;
    Ok((response.value, response.ttl))
}

/// Decodes the answer of `cgi-bin/user/info`: the user's openid, and whether the user follows the account.
pub fn subscription(body: &[u8]) -> Result<(OpenId, bool), WechatError> {
    parse_body(Endpoint::Subscription, body, subscription::read)
}
