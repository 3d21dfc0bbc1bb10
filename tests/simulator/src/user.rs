//! A user with a phone: what WeChat knows about them, and their usual choices.

use serde::{Deserialize, Serialize};

/// The user's choice on a consent page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Consent {
    #[default]
    Allow,
    Deny,
    /// Never answers.
    Ignore,
}

/// When WeChat shows this user a snapshot page instead of the consent page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Snapshot {
    #[default]
    Never,
    /// On the next `snsapi_userinfo` visit only: afterwards the user has pressed 使用完整服务.
    Once,
    /// On every `snsapi_userinfo` visit.
    Always,
    /// On `snsapi_base` too, which WeChat neither promises nor excludes.
    AlwaysEvenSilent,
}

/// WeChat's status of the account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Risk {
    #[default]
    Normal,
    /// High risk: the exchange answers 40226.
    Blocked,
    /// Frozen, punished or deregistered: 50002.
    Punished,
}

/// The picture in the profile.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Avatar {
    /// An address derived from the name.
    #[default]
    Own,
    /// The profile contains `"headimgurl":""`.
    Missing,
    At(String),
}

/// A user. Tests and pages use `name`; WeChat returns only the nickname.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    pub name: String,
    pub nickname: String,
    /// One line about the special property, for the user picker.
    #[serde(default)]
    pub about: String,
    #[serde(default)]
    pub avatar: Avatar,
    /// AppIDs of the accounts that the user follows, `*` for all: these need no consent.
    #[serde(default)]
    pub follows: Vec<String>,
    #[serde(default)]
    pub consent: Consent,
    #[serde(default)]
    pub snapshot: Snapshot,
    #[serde(default)]
    pub risk: Risk,
    /// False: apps get no unionid although they are bound to an Open Platform account.
    #[serde(default = "yes")]
    pub has_unionid: bool,
    /// Tokens from before a password change are invalid: 42007 at the refresh.
    #[serde(default)]
    pub password_changes: u32,
}

impl User {
    /// A user without special properties, with a picture and a unionid, who agrees on the consent page.
    #[must_use]
    pub fn plain(name: &str, nickname: &str) -> Self {
        Self {
            name: name.into(),
            nickname: nickname.into(),
            about: String::new(),
            avatar: Avatar::Own,
            follows: Vec::new(),
            consent: Consent::Allow,
            snapshot: Snapshot::Never,
            risk: Risk::Normal,
            has_unionid: true,
            password_changes: 0,
        }
    }

    #[must_use]
    pub fn follows(&self, appid: &str) -> bool {
        self.follows.iter().any(|followed| followed == "*" || followed == appid)
    }

    pub fn change_password(&mut self) {
        self.password_changes = self.password_changes.wrapping_add(1);
    }
}

fn yes() -> bool {
    true
}
