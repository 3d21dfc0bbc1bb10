//! How long an application's sessions live and for whom their tokens are.

use crate::app_name::AppName;
use std::time::Duration;

/// One application's session settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `iss`: the application's origin, so that a token holds at one host only.
    pub issuer: String,
    /// `aud`: the application's name.
    pub audience: AppName,
    /// `exp` − `iat`: the longest a copied token works where only its signature is checked.
    pub token_lifetime: Duration,
    /// `session_exp` − `auth_time`: after this a person logs in again.
    pub lifetime: Duration,
    /// The longest a session may rest unused.
    pub idle: Duration,
}
