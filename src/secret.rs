//! Secrets: they are not printed, and are compared in constant time.

use secrecy::{ExposeSecret, SecretString};
use std::fmt;

/// A secret, such as an AppSecret or the admin token.
#[derive(Clone)]
pub struct Secret(SecretString);

/// Why a text is not accepted as a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// Only white space.
    #[error("is empty")]
    Empty,
    /// Too few characters.
    #[error("is too short: at least {least} characters are needed")]
    TooShort {
        /// The minimum length.
        least: usize,
    },
    /// A known placeholder, or one repeated character.
    #[error("is a placeholder, not a secret")]
    Placeholder,
    /// More than the secret: a label, quotes, or several words.
    #[error("is more than the secret itself")]
    NotAlone,
}

/// Common placeholders.
const PLACEHOLDERS: [&str; 8] =
    ["change-me", "changeme", "secret", "password", "your-secret", "appsecret", "placeholder", "todo"];

impl Secret {
    /// Parses the content of a file. Removes white space at both ends, such as a final line break.
    ///
    /// # Errors
    /// The text is empty, shorter than `least` characters, a placeholder, or one repeated character.
    pub fn parse(text: &str, least: usize) -> Result<Self, SecretError> {
        let text = text.trim();
        let lower = text.to_ascii_lowercase();
        if text.is_empty() {
            return Err(SecretError::Empty);
        }
        let repeated = text.chars().all(|c| text.starts_with(c)) && text.chars().count() > 1;
        if repeated || PLACEHOLDERS.iter().any(|known| lower == *known) || lower.contains("change-me") {
            return Err(SecretError::Placeholder);
        }
        if text.chars().count() < least {
            return Err(SecretError::TooShort { least });
        }
        Ok(Self(text.to_owned().into()))
    }

    /// Parses an AppSecret or a token. Like [`Secret::parse`], but accepts only visible ASCII characters without quotes and
    /// labels, because users copy `AppSecret: …` or a quoted line.
    ///
    /// # Errors
    /// Those of [`Secret::parse`], and [`SecretError::NotAlone`].
    pub fn parse_token(text: &str, least: usize) -> Result<Self, SecretError> {
        let secret = Self::parse(text, least)?;
        let token = secret.expose();
        let visible = token.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\'' | b'`'));
        let label = token.split_once([':', '=']).is_some_and(|(label, rest)| {
            let label = label.to_ascii_lowercase();
            !rest.trim_matches('=').is_empty()
                && ["secret", "token", "appid", "key"].iter().any(|word| label.ends_with(word))
        });
        if visible && !label { Ok(secret) } else { Err(SecretError::NotAlone) }
    }

    /// The secret as text.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// Whether `other` is this secret, compared in constant time.
    pub fn matches(&self, other: &str) -> bool {
        constant_time_eq(self.expose().as_bytes(), other.as_bytes())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Compares in constant time. The length is not secret.
pub fn constant_time_eq(left: &[u8], right: &[u8]) -> bool {
    aws_lc_rs::constant_time::verify_slices_are_equal(left, right).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_printed() {
        let secret = Secret::parse("0123456789abcdef0123456789abcdef\n", 16).unwrap();
        assert_eq!(format!("{secret:?}"), "***");
        assert_eq!(secret.expose(), "0123456789abcdef0123456789abcdef");
    }

    #[test]
    fn placeholders_and_short_texts_are_rejected() {
        for (text, error) in [
            ("", SecretError::Empty),
            (" \n", SecretError::Empty),
            ("change-me", SecretError::Placeholder),
            ("please-CHANGE-ME-now-0123456789", SecretError::Placeholder),
            ("00000000000000000000000000000000", SecretError::Placeholder),
            ("short", SecretError::TooShort { least: 16 }),
        ] {
            assert_eq!(Secret::parse(text, 16).unwrap_err(), error, "{text:?}");
        }
    }

    #[test]
    fn a_token_with_a_label_or_quotes_is_rejected() {
        let token = "0a1b2c3d4e5f60718293a4b5c6d7e8f9";
        for text in [
            format!("AppSecret: {token}"),
            format!("AppSecret:{token}"),
            format!("appsecret={token}"),
            format!("AppSecret：{token}"),
            format!("APP_SECRET=\"{token}\""),
            format!("\"{token}\""),
            format!("'{token}'"),
            format!("{token} # the shop's"),
            format!("{token}\n{token}"),
            format!("\u{feff}{token}"),
            format!("“{token}”"),
        ] {
            assert_eq!(Secret::parse_token(&text, 16).unwrap_err(), SecretError::NotAlone, "{text}");
        }
        for text in [token, "cGFzc3dvcmQtd2l0aC1wYWRkaW5nMTI=", "a:b/c+d-e_f.g~0123456789"] {
            assert_eq!(Secret::parse_token(&format!("{text}\r\n"), 16).unwrap().expose(), text);
        }
    }

    #[test]
    fn only_the_same_secret_matches() {
        let secret = Secret::parse("0123456789abcdef", 16).unwrap();
        assert!(secret.matches("0123456789abcdef"));
        for other in ["", "0123456789abcdeF", "0123456789abcde", "0123456789abcdef0"] {
            assert!(!secret.matches(other), "{other}");
        }
    }
}
