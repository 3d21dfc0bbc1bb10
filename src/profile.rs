//! A user's profile.

use serde::{Deserialize, Serialize};

/// What WeChat knows about a user, cleaned: no control characters, a maximum length, https only.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// The nickname; may be empty.
    pub nickname: String,
    /// The https URL of the avatar; may be empty.
    pub avatar: String,
}
