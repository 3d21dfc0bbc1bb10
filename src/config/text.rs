//! Texts whose meaning ends with the configuration: names, paths of files, the address of an image.
//!
//! Every other text has the type of the module that uses it.

use super::diagnostic::can_be_quoted;
use http::Method;
use serde::{Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

/// Why a text is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct TextError(Cow<'static, str>);

/// Refuses a text.
fn refuse<T>(reason: impl Into<Cow<'static, str>>) -> Result<T, TextError> {
    Err(TextError(reason.into()))
}

macro_rules! texts {
    ($($(#[$doc:meta])+ $name:ident: $check:expr;)+) => {$(
        $(#[$doc])+
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub(crate) struct $name(String);

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = TextError;

            fn from_str(text: &str) -> Result<Self, TextError> {
                let check: fn(&str) -> Result<(), TextError> = $check;
                check(text).map(|()| Self(text.to_owned()))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl From<$name> for String {
            fn from(text: $name) -> Self {
                text.0
            }
        }
    )+};
}

texts! {
    /// A name on the pages.
    Title: title;
    /// The https address of an image.
    ImageUrl: image_url;
    /// The path of the pages.
    Prefix: prefix;
    /// A word of the operator's choice, such as a part of Redis keys.
    Word: |text| characters(text, 64, |c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'), "letters, digits, dots, _ and -");
    /// The path of a file or directory.
    FilePath: |text| if text.trim().is_empty() { refuse("is empty") } else { Ok(()) };
    /// The path of a file that holds a secret: it has a slash, or a dot before an extension. A pasted secret has neither.
    SecretFile: |text| {
        let is_path = text.contains(['/', '.']) && !text.ends_with(['/', '.']);
        if is_path { Ok(()) } else { refuse("is not the path of a file") }
    };
}

impl Default for Prefix {
    fn default() -> Self {
        Self("/_wechat".to_owned())
    }
}

impl Word {
    /// `wechat-authz`.
    pub(super) fn product_name() -> Self {
        Self(env!("CARGO_PKG_NAME").to_owned())
    }
}

impl Serialize for SecretFile {
    /// Masks what may be a pasted secret after all.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(if self.is_certainly_a_path() { &self.0 } else { "***" })
    }
}

impl SecretFile {
    /// Long names are common in paths. A long run of letters and digits looks like an AppSecret.
    fn is_certainly_a_path(&self) -> bool {
        let is_random =
            |part: &str| part.bytes().any(|b| b.is_ascii_digit()) && part.bytes().any(|b| b.is_ascii_alphabetic());
        let is_name = |part: &str| part.is_empty() || can_be_quoted(part) || !is_random(part);
        self.0.starts_with(['/', '.']) && self.0.split('/').all(is_name)
    }
}

/// An HTTP method in capitals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MethodName(pub Method);

impl FromStr for MethodName {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        characters(text, 20, |c| c.is_ascii_uppercase(), "capital letters")?;
        text.parse().map(Self).or_else(|_| refuse("is not a method"))
    }
}

impl fmt::Display for MethodName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

fn characters(text: &str, max: usize, allowed: fn(char) -> bool, names: &str) -> Result<(), TextError> {
    if text.is_empty() {
        refuse("is empty")
    } else if !text.chars().all(allowed) {
        refuse(format!("has other characters than {names}"))
    } else if text.len() > max {
        refuse(format!("has more than {max} characters"))
    } else {
        Ok(())
    }
}

fn title(text: &str) -> Result<(), TextError> {
    if text.trim().is_empty() {
        refuse("is empty")
    } else if text.chars().any(char::is_control) {
        refuse("has control characters")
    } else if text.trim() != text {
        refuse("starts or ends with a blank")
    } else if text.chars().count() > 40 {
        refuse("has more than 40 characters")
    } else {
        Ok(())
    }
}

fn image_url(text: &str) -> Result<(), TextError> {
    let Ok(url) = url::Url::parse(text) else { return refuse("is not a URL") };
    if url.scheme() != "https" {
        refuse("does not start with https://")
    } else if !url.username().is_empty() || url.password().is_some() {
        refuse("has a user name or password")
    } else if text.len() > 2_048 || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        refuse("is too long or has characters that must be percent-encoded")
    } else {
        Ok(())
    }
}

fn prefix(text: &str) -> Result<(), TextError> {
    let Some(path) = text.strip_prefix('/') else { return refuse("does not start with a slash") };
    if path.ends_with('/') {
        return refuse("ends with a slash");
    }
    if path.split('/').count() > 8 {
        return refuse("has more than 8 segments");
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    path.split('/').try_for_each(|segment| characters(segment, 64, allowed, "letters, digits, _ and -"))
}
