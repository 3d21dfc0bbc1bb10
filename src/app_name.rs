//! The names of applications.

use serde::{Deserialize, Serialize};
use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// The longest name.
const MAX_LENGTH: usize = 32;

/// An application's name: 1 to 32 lower-case letters, digits and hyphens.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct AppName(Arc<str>);

/// Why a text is not the name of an application.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppNameError {
    /// No characters.
    #[error("is empty")]
    Empty,
    /// A character outside the set.
    #[error("holds more than lower-case letters, digits and hyphens")]
    Character,
    /// Too many characters.
    #[error("is longer than {MAX_LENGTH} characters")]
    TooLong,
}

impl AppName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for AppName {
    type Err = AppNameError;

    fn from_str(text: &str) -> Result<Self, AppNameError> {
        if text.is_empty() {
            Err(AppNameError::Empty)
        } else if !text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-')) {
            Err(AppNameError::Character)
        } else if text.len() > MAX_LENGTH {
            Err(AppNameError::TooLong)
        } else {
            Ok(Self(text.into()))
        }
    }
}

impl TryFrom<String> for AppName {
    type Error = AppNameError;

    fn try_from(text: String) -> Result<Self, AppNameError> {
        text.parse()
    }
}

impl From<AppName> for String {
    fn from(name: AppName) -> Self {
        name.as_str().to_owned()
    }
}

impl Borrow<str> for AppName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AppName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_short_and_lower_case() {
        let longest = "a".repeat(MAX_LENGTH);
        for text in ["shop", "a", "shop-2", &longest] {
            assert_eq!(text.parse::<AppName>().unwrap().as_str(), text);
        }
        let too_long = format!("{longest}a");
        for (text, error) in [
            ("", AppNameError::Empty),
            ("Shop", AppNameError::Character),
            ("小店", AppNameError::Character),
            ("a b", AppNameError::Character),
            (&too_long, AppNameError::TooLong),
        ] {
            assert_eq!(text.parse::<AppName>(), Err(error), "{text}");
        }
    }
}
