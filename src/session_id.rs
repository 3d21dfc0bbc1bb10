//! Session ids.

use crate::random;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The id of a session: 128 random bits, written as 22 characters of base64url. Public; it grants nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct SessionId([u8; 16]);

/// A text is not a session id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not 22 characters of base64url")]
pub struct SessionIdError;

impl SessionId {
    /// The id of a new session.
    pub fn random() -> Self {
        Self(random::bytes())
    }
}

impl FromStr for SessionId {
    type Err = SessionIdError;

    fn from_str(text: &str) -> Result<Self, SessionIdError> {
        let mut id = [0; 16];
        let is_id = text.len() == 22 && URL_SAFE_NO_PAD.decode_slice(text, &mut id) == Ok(16);
        is_id.then_some(Self(id)).ok_or(SessionIdError)
    }
}

impl TryFrom<String> for SessionId {
    type Error = SessionIdError;

    fn try_from(text: String) -> Result<Self, SessionIdError> {
        text.parse()
    }
}

impl From<SessionId> for String {
    fn from(id: SessionId) -> Self {
        URL_SAFE_NO_PAD.encode(id.0)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from(*self))
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
impl SessionId {
    /// An id that starts with `name`, which has at most 21 characters of base64url.
    pub(crate) fn named(name: &str) -> Self {
        format!("{name:A<22}").parse().unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_as_it_is_written_and_in_no_other_way() {
        let id = SessionId::random();
        let text = id.to_string();
        assert_eq!((text.len(), text.parse()), (22, Ok(id)));
        let same_bits = format!("{}B", &"A".repeat(21));
        for text in ["", "nonsense", &format!("{text}A"), &text[..21], &format!("{}+", &text[..21]), &same_bits] {
            assert_eq!(text.parse::<SessionId>(), Err(SessionIdError), "{text}");
        }
    }
}
