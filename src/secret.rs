//! Secrets: held so that they cannot be printed, compared in constant time.

use secrecy::{ExposeSecret, SecretString};
use std::fmt;

/// Something only we and its owner may know: an AppSecret, an admin token.
#[derive(Clone)]
pub struct Secret(SecretString);

/// Why a text is refused as a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// Nothing but white space.
    #[error("is empty")]
    Empty,
    /// Shorter than the least length its purpose asks for.
    #[error("is too short: at least {least} characters are needed")]
    TooShort {
        /// The least length.
        least: usize,
    },
    /// A value that stands in examples everywhere.
    #[error("is a placeholder, not a secret")]
    Placeholder,
    /// More than the secret: a label, quotes, several words.
    #[error("is more than the secret itself")]
    NotAlone,
}

/// What people leave in a file when they mean to come back to it.
const PLACEHOLDERS: [&str; 8] =
    ["change-me", "changeme", "secret", "password", "your-secret", "appsecret", "placeholder", "todo"];

impl Secret {
    /// A secret from a file's text: surrounding white space is dropped, so that a final newline does no harm.
    ///
    /// # Errors
    /// Empty, shorter than `least` characters, a known placeholder, or one character repeated.
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

    /// An AppSecret or a token from a file's text: as [`Secret::parse`], and nothing but visible ASCII characters without
    /// quotes, `:` and `=`-labels. People copy `AppSecret: …` or a quoted line of another file.
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

    /// The secret itself, for the one place that needs it.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// Whether `other` is this secret; takes as long for a near miss as for a far one.
    pub fn matches(&self, other: &str) -> bool {
        same(self.expose().as_bytes(), other.as_bytes())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Compares in constant time for equal lengths; a differing length is no secret.
pub fn same(left: &[u8], right: &[u8]) -> bool {
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
    fn what_stands_in_examples_is_no_secret() {
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
    fn a_label_or_quotes_are_not_part_of_a_token() {
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
    fn only_the_whole_secret_matches() {
        let secret = Secret::parse("0123456789abcdef", 16).unwrap();
        assert!(secret.matches("0123456789abcdef"));
        for other in ["", "0123456789abcdeF", "0123456789abcde", "0123456789abcdef0"] {
            assert!(!secret.matches(other), "{other}");
        }
    }
}
