//! What WeChat's answers say, without a call: the door through which `fuzz/` comes to their reading.

use super::client::understand;
use super::exchange::Exchanged;
use super::fault::Fault;
use super::person::OpenId;
use super::stable_token::Given;
use super::userinfo::Profiled;
use super::{Endpoint, subscription, userinfo};
use crate::secret::Secret;
use std::time::Duration;

/// The answer to a code.
///
/// # Errors
/// [`Fault`], as for each of these.
pub fn exchanged(body: &[u8]) -> Result<Exchanged, Fault> {
    understand(Endpoint::AccessToken, body, Exchanged::read)
}

/// The answer about a person: whom it is about, and what it says.
///
/// # Errors
/// [`Fault`].
pub fn profiled(body: &[u8]) -> Result<(OpenId, Profiled), Fault> {
    understand(Endpoint::Userinfo, body, userinfo::read)
}

/// The application's own token and how long it lives.
///
/// # Errors
/// [`Fault`].
pub fn token(body: &[u8]) -> Result<(Secret, Duration), Fault> {
    let given = understand(Endpoint::StableToken, body, |answer| Given::read(answer, "access_token"))?;
    Ok((given.value, given.lives))
}

/// Whom the answer is about, and whether they follow.
///
/// # Errors
/// [`Fault`].
pub fn subscription(body: &[u8]) -> Result<(OpenId, bool), Fault> {
    understand(Endpoint::Subscription, body, subscription::read)
}
