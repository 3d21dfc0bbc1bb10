//! The session settings of an application.

use crate::app_name::AppName;
use std::time::Duration;

/// The session settings of an application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The `iss` of its tokens: the origin, so that a token is valid at one host only.
    pub issuer: String,
    /// The `aud` of its tokens: the name of the application.
    pub audience: AppName,
    /// The lifetime of a token (`exp` − `iat`). Where only the signature is checked, a copied token works for this long.
    pub token_lifetime: Duration,
    /// The lifetime of a session (`session_exp` − `auth_time`).
    pub lifetime: Duration,
    /// How long a session may stay unused.
    pub idle: Duration,
}
