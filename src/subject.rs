//! Subjects: who a session belongs to.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// A subject: `wx:<appid>:<openid>` or `wx:union:<unionid>`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Subject(Arc<str>);

/// Why a text is not a subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubjectError {
    /// Another scheme, or none.
    #[error("does not start with wx:")]
    Scheme,
    /// The second part.
    #[error("has a second part that is neither union nor an AppID")]
    Namespace,
    /// The third part.
    #[error("has an id that is not 1 to 64 letters, digits, _ and -")]
    Id,
}

impl Subject {
    /// The subject of an openid, which is unique under `appid`.
    ///
    /// # Errors
    /// [`SubjectError`] if one of them has another form than WeChat's ids.
    pub fn from_openid(appid: &str, openid: &str) -> Result<Self, SubjectError> {
        format!("wx:{appid}:{openid}").parse()
    }

    /// The subject of a unionid.
    ///
    /// # Errors
    /// [`SubjectError`] if it has another form than WeChat's ids.
    pub fn from_unionid(unionid: &str) -> Result<Self, SubjectError> {
        format!("wx:union:{unionid}").parse()
    }

    /// The subject that [`Self::as_str`] of another one returned.
    pub(crate) fn from_valid(text: &str) -> Self {
        debug_assert_eq!(validate(text), Ok(()));
        Self(text.into())
    }

    /// The subject as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Subject {
    type Err = SubjectError;

    fn from_str(text: &str) -> Result<Self, SubjectError> {
        validate(text).map(|()| Self(text.into()))
    }
}

fn validate(text: &str) -> Result<(), SubjectError> {
    let rest = text.strip_prefix("wx:").ok_or(SubjectError::Scheme)?;
    let (namespace, id) = rest.split_once(':').unwrap_or((rest, ""));
    let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let is_appid = |text: &str| text.strip_prefix("wx").is_some_and(|hex| hex.len() == 16 && hex.bytes().all(is_hex));
    if namespace != "union" && !is_appid(namespace) {
        return Err(SubjectError::Namespace);
    }
    let is_id = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if !(1..=64).contains(&id.len()) || !id.bytes().all(is_id) {
        return Err(SubjectError::Id);
    }
    Ok(())
}

impl TryFrom<String> for Subject {
    type Error = SubjectError;

    fn try_from(text: String) -> Result<Self, SubjectError> {
        text.parse()
    }
}

impl From<Subject> for String {
    fn from(subject: Subject) -> Self {
        subject.as_str().to_owned()
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_names_an_appid_and_an_openid_or_a_unionid() {
        let long = format!("wx:union:{}", "u".repeat(64));
        for text in ["wx:wx0123456789abcdef:o-_1", "wx:union:o1", &long] {
            assert_eq!(text.parse::<Subject>().unwrap().as_str(), text);
        }
        let too_long = format!("{long}u");
        for (text, error) in [
            ("", SubjectError::Scheme),
            ("oAlice", SubjectError::Scheme),
            ("WX:union:o1", SubjectError::Scheme),
            ("wx:", SubjectError::Namespace),
            ("wx:a", SubjectError::Namespace),
            ("wx:wx123:oAlice", SubjectError::Namespace),
            ("wx:wx0123456789ABCDEF:oAlice", SubjectError::Namespace),
            ("wx:0123456789abcdef:oAlice", SubjectError::Namespace),
            ("wx:union", SubjectError::Id),
            ("wx:union:", SubjectError::Id),
            ("wx:union:o\0", SubjectError::Id),
            ("wx:union:o:1", SubjectError::Id),
            ("wx:union:小明", SubjectError::Id),
            (&too_long, SubjectError::Id),
        ] {
            assert_eq!(text.parse::<Subject>(), Err(error), "{text}");
        }
    }

    #[test]
    fn json_holds_a_subject_as_text() {
        let subject = Subject::from_unionid("o1").unwrap();
        assert_eq!(serde_json::to_string(&subject).unwrap(), r#""wx:union:o1""#);
        assert_eq!(serde_json::from_str::<Subject>(r#""wx:union:o1""#).unwrap(), subject);
        assert!(serde_json::from_str::<Subject>(r#""o1""#).is_err());
    }
}
