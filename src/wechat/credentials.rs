//! AppID, AppSecret and scopes of an Official Account or website application.

use crate::secret::Secret;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// An AppID: `wx` and 16 lower-case hex digits (docs/en/wechat.md, Names). Public: URLs and
/// tokens contain it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct AppId(Box<str>);

/// Why a text is not an AppID: it is a WeCom CorpID, an original id `gh_…`, a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppIdError {
    /// Another prefix.
    #[error("does not start with wx")]
    Prefix,
    /// More or fewer characters.
    #[error("has {0} characters instead of 18")]
    Length(usize),
    /// Other characters after `wx`.
    #[error("has other characters than 0-9 and a-f after wx")]
    NotHex,
}

impl AppId {
    /// Reads `wx` and 16 lower-case hex digits.
    pub fn parse(text: &str) -> Result<Self, AppIdError> {
        let digits = text.strip_prefix("wx").ok_or(AppIdError::Prefix)?;
        if digits.chars().count() != 16 {
            return Err(AppIdError::Length(text.chars().count()));
        }
        if !digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(AppIdError::NotHex);
        }
        Ok(Self(text.into()))
    }

    /// `wx0123456789abcdef`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for AppId {
    type Err = AppIdError;

    fn from_str(text: &str) -> Result<Self, AppIdError> {
        Self::parse(text)
    }
}

impl fmt::Debug for AppId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for AppId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An Official Account or a website application.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// Its AppID.
    pub appid: AppId,
    /// Its AppSecret.
    pub secret: Secret,
}

/// What the user is asked to authorize (docs/en/wechat.md, Scopes).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Scope {
    /// `snsapi_base`: the openid, without consent.
    #[serde(rename = "snsapi_base")]
    Base,
    /// `snsapi_userinfo`: nickname and avatar too, with consent.
    #[serde(rename = "snsapi_userinfo")]
    Userinfo,
    /// `snsapi_login`: the QR code on a website. No setting: a website has no other scope.
    #[serde(skip)]
    Login,
}

impl Scope {
    /// The `scope` parameter.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Base => "snsapi_base",
            Self::Userinfo => "snsapi_userinfo",
            Self::Login => "snsapi_login",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_appid_is_wx_and_sixteen_hex_digits() {
        assert_eq!(AppId::parse("wx0123456789abcdef").unwrap().as_str(), "wx0123456789abcdef");
        for (text, error) in [
            ("", AppIdError::Prefix),
            ("wx", AppIdError::Length(2)),
            ("wx0123456789abcde", AppIdError::Length(17)),
            ("wx0123456789abcdef0", AppIdError::Length(19)),
            ("wx0123456789ABCDEF", AppIdError::NotHex),
            ("wx0123456789abcdeg", AppIdError::NotHex),
            ("ww0123456789abcdef", AppIdError::Prefix),
            ("gh_0123456789ab", AppIdError::Prefix),
            (" wx0123456789abcdef", AppIdError::Prefix),
            ("wx0123456789abcdéf", AppIdError::NotHex),
            ("0123456789abcdef0123456789abcdef", AppIdError::Prefix),
        ] {
            assert_eq!(AppId::parse(text), Err(error), "{text}");
        }
    }

    #[test]
    fn an_application_does_not_print_its_secret() {
        let application = Credentials {
            appid: AppId::parse("wx0123456789abcdef").unwrap(),
            secret: Secret::parse("0123456789abcdef0123456789abcdef", 16).unwrap(),
        };
        assert_eq!(format!("{application:?}"), "Credentials { appid: wx0123456789abcdef, secret: *** }");
    }
}
