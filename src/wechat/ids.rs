//! WeChat's ids of a user. They are personal data, so `Debug` does not print them.

use std::fmt;

/// The longest id. WeChat's have about 28 characters.
const MAX_LENGTH: usize = 64;

/// Not an openid or unionid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not 1 to 64 of the characters A-Z, a-z, 0-9, - and _")]
pub struct IdError;

macro_rules! id {
    ($(#[doc = $doc:literal])+ $name:ident) => {
        $(#[doc = $doc])+
        #[derive(Clone, PartialEq, Eq, Hash)]
        pub struct $name(Box<str>);

        impl $name {
            /// Parses an id.
            ///
            /// # Errors
            /// Empty, longer than 64, or outside `[A-Za-z0-9_-]`.
            pub fn parse(text: &str) -> Result<Self, IdError> {
                let fits = (1..=MAX_LENGTH).contains(&text.len()) && text.bytes().all(is_word);
                if fits { Ok(Self(text.into())) } else { Err(IdError) }
            }

            /// The id itself.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("***")
            }
        }
    };
}

id! {
    /// The id of a user under one AppID.
    OpenId
}

id! {
    /// The id of a user under all applications of one Open Platform account.
    UnionId
}

/// The alphabet of WeChat's ids, codes and tokens.
pub(crate) const fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_bounded_and_not_printed() {
        let openid = OpenId::parse("oAbCd0123456789-_EFGHijklmno").unwrap();
        assert_eq!((openid.as_str(), format!("{openid:?}")), ("oAbCd0123456789-_EFGHijklmno", "***".into()));
        assert_eq!(format!("{:?}", UnionId::parse("oUnIo").unwrap()), "***");
        for text in ["", "o b", "o/b", "o\n", "ö", "o:b", &"o".repeat(65)] {
            assert_eq!(OpenId::parse(text), Err(IdError), "{text:?}");
        }
    }
}
