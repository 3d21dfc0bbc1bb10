//! Texts whose meaning ends with the configuration: names, paths of files, the address of an image.
//!
//! Every other text has the type of the module that uses it.

use http::Method;
use std::fmt;
use std::str::FromStr;

/// Why a text is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// No characters, or blanks only.
    #[error("is empty")]
    Empty,
    /// Too many characters.
    #[error("has more than {0} characters")]
    TooLong(usize),
    /// Characters outside the allowed ones.
    #[error("has other characters than {0}")]
    OtherCharacters(&'static str),
    /// A blank at the start or end.
    #[error("starts or ends with a blank")]
    Blanks,
    /// Control characters.
    #[error("has control characters")]
    ControlCharacters,
    /// A relative path under the origin.
    #[error("does not start with a slash")]
    NoSlash,
    /// `/_wechat/`.
    #[error("ends with a slash")]
    FinalSlash,
    /// More than eight segments.
    #[error("has more than 8 segments")]
    TooManySegments,
    /// Not a URL.
    #[error("is not a URL")]
    NotAUrl,
    /// Another scheme.
    #[error("does not start with https://")]
    NotHttps,
    /// A user name or a password.
    #[error("has a user name or password")]
    Credentials,
    /// Characters that a URL must encode, or too many.
    #[error("is too long or has characters that must be percent-encoded")]
    NotEncoded,
    /// Neither a slash nor a dot: a secret rather than its file.
    #[error("is not the path of a file")]
    NotAFile,
}

macro_rules! texts {
    ($($(#[$doc:meta])+ $name:ident: $check:expr;)+) => {$(
        $(#[$doc])+
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name(String);

        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
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
    FilePath: |text| if text.trim().is_empty() { Err(TextError::Empty) } else { Ok(()) };
    /// The path of a file that holds a secret: it has a slash, or a dot before an extension. A pasted secret has neither.
    SecretFile: |text| {
        let is_path = text.contains(['/', '.']) && !text.ends_with(['/', '.']);
        if is_path { Ok(()) } else { Err(TextError::NotAFile) }
    };
}

/// An HTTP method in capitals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MethodName(pub Method);

impl FromStr for MethodName {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        const ALLOWED: &str = "capital letters";
        characters(text, 20, |c| c.is_ascii_uppercase(), ALLOWED)?;
        text.parse().map(Self).map_err(|_| TextError::OtherCharacters(ALLOWED))
    }
}

impl fmt::Display for MethodName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

fn characters(text: &str, max: usize, allowed: fn(char) -> bool, names: &'static str) -> Result<(), TextError> {
    if text.is_empty() {
        Err(TextError::Empty)
    } else if !text.chars().all(allowed) {
        Err(TextError::OtherCharacters(names))
    } else if text.len() > max {
        Err(TextError::TooLong(max))
    } else {
        Ok(())
    }
}

fn title(text: &str) -> Result<(), TextError> {
    if text.trim().is_empty() {
        Err(TextError::Empty)
    } else if text.chars().any(char::is_control) {
        Err(TextError::ControlCharacters)
    } else if text.trim() != text {
        Err(TextError::Blanks)
    } else if text.chars().count() > 40 {
        Err(TextError::TooLong(40))
    } else {
        Ok(())
    }
}

fn image_url(text: &str) -> Result<(), TextError> {
    let url = url::Url::parse(text).map_err(|_| TextError::NotAUrl)?;
    if url.scheme() != "https" {
        Err(TextError::NotHttps)
    } else if !url.username().is_empty() || url.password().is_some() {
        Err(TextError::Credentials)
    } else if text.len() > 2_048 || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        Err(TextError::NotEncoded)
    } else {
        Ok(())
    }
}

fn prefix(text: &str) -> Result<(), TextError> {
    let path = text.strip_prefix('/').ok_or(TextError::NoSlash)?;
    if path.ends_with('/') {
        return Err(TextError::FinalSlash);
    }
    if path.split('/').count() > 8 {
        return Err(TextError::TooManySegments);
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    path.split('/').try_for_each(|segment| characters(segment, 64, allowed, "letters, digits, _ and -"))
}
