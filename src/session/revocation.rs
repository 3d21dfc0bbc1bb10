//! One revocation: what no longer counts, since when, and how long that has to be remembered.

use crate::store::name::digest_of;
use serde::{Deserialize, Serialize};

/// The version of a revocation's text, on disk and in Redis, so that a later one can change its shape.
const VERSION: u32 = 1;

/// A revocation's text is far shorter.
const MOST_TEXT: usize = 4_096;

/// What is revoked.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// One session, by its id.
    Session(String),
    /// Every session of a subject from before now; the subject by its digest, so that no list of revocations tells who.
    Subject(String),
    /// Every session of an application from before now.
    App(String),
    /// Every session there is from before now: what is left when the table is full. Nobody asks for it.
    Everyone(()),
}

impl Target {
    /// Every session of `subject` from before now.
    #[must_use]
    pub fn subject(subject: &str) -> Self {
        Self::Subject(digest_of(subject))
    }
}

/// One revocation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocation {
    /// What.
    #[serde(flatten)]
    pub target: Target,
    /// When, as a NumericDate.
    pub at: u64,
    /// From when on no session it could concern is alive.
    pub until: u64,
}

#[derive(Serialize, Deserialize)]
struct Text {
    v: u32,
    #[serde(flatten)]
    revocation: Revocation,
}

/// The revocation as one line of JSON.
#[must_use]
pub fn render(revocation: &Revocation) -> String {
    // Strings and numbers always render.
    serde_json::to_string(&Text { v: VERSION, revocation: revocation.clone() }).unwrap_or_default()
}

/// Reads what [`render`] made; none for anything else, another version's text among it.
#[must_use]
pub fn read(text: &str) -> Option<Revocation> {
    if text.len() > MOST_TEXT {
        return None;
    }
    let text: Text = serde_json::from_str(text).ok()?;
    (text.v == VERSION).then_some(text.revocation)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_nothing_else() {
        for target in [Target::Session("s".into()), Target::subject("wx:union:o"), Target::App("shop".into())] {
            let revocation = Revocation { target, at: 10, until: 20 };
            assert_eq!(read(&render(&revocation)), Some(revocation));
        }
        for text in [
            "",
            "null",
            "[]",
            r#"{"v":2,"session":"s","at":10,"until":20}"#,
            r#"{"v":1,"session":"s","at":-1,"until":20}"#,
            r#"{"v":1,"at":1,"until":20}"#,
        ] {
            assert_eq!(read(text), None, "{text}");
        }
        let long = format!(r#"{{"v":1,"session":"{}","at":10,"until":20}}"#, "s".repeat(5_000));
        assert_eq!(read(&long), None);
    }

    #[test]
    fn a_subject_is_not_told() {
        let text = render(&Revocation { target: Target::subject("wx:union:oAlice"), at: 10, until: 20 });
        assert!(!text.contains("oAlice"), "{text}");
    }
}
