//! One revocation: which sessions are no longer valid, since when, and how long it must be stored.

use super::claims::Claims;
use crate::app_name::AppName;
use crate::session_id::SessionId;
use crate::subject::Subject;
use aws_lc_rs::digest;
use serde::{Deserialize, Serialize};

/// The version of the JSON on the disk and in Redis.
const VERSION: u32 = 1;

/// The length of the longest JSON: a subject with all its spans.
pub const MAX_JSON: usize = 512;

/// The most spans of one subject.
pub const MAX_SPANS: usize = 8;

/// The digest of a subject, so that a list of revocations names no user. The same as [`crate::redis::keys::digest_of`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct SubjectDigest([u8; 16]);

impl SubjectDigest {
    /// The digest of `subject`.
    pub fn of(subject: &str) -> Self {
        let digest = digest::digest(&digest::SHA256, subject.as_bytes());
        Self(digest.as_ref().first_chunk().copied().unwrap_or_default())
    }
}

impl From<SubjectDigest> for String {
    fn from(digest: SubjectDigest) -> Self {
        crate::random::hex(&digest.0)
    }
}

impl TryFrom<String> for SubjectDigest {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let lower = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() != 32 || !text.bytes().all(lower) {
            return Err("not the digest of a subject");
        }
        let bytes = u128::from_str_radix(&text, 16).map_err(|_| "not the digest of a subject")?;
        Ok(Self(bytes.to_be_bytes()))
    }
}

/// What a revocation ends.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// One session.
    Session(SessionId),
    /// The sessions of a subject: all that started before the revocation, or those that started within its spans.
    Subject(SubjectDigest),
    /// All sessions of an application that started before the revocation.
    App(AppName),
    /// All sessions that started before the revocation. Replaces the entries of a full table.
    Everyone(()),
}

impl Target {
    /// All sessions of `subject`.
    pub fn subject(subject: &Subject) -> Self {
        Self::Subject(SubjectDigest::of(subject.as_str()))
    }
}

/// The parts of a session by which it can be revoked.
#[derive(Clone, Copy, Debug)]
pub struct RevocationSubject<'a> {
    /// The session id.
    pub sid: SessionId,
    /// The text of its subject.
    pub sub: &'a str,
    /// Its application.
    pub aud: &'a AppName,
    /// The login time, as a NumericDate.
    pub auth_time: u64,
}

impl<'a> From<&'a Claims> for RevocationSubject<'a> {
    fn from(claims: &'a Claims) -> Self {
        Self { sid: claims.sid, sub: claims.sub.as_str(), aud: &claims.aud, auth_time: claims.auth_time }
    }
}

/// The first and the last login time of a span, as NumericDates.
pub type Span = (u64, u64);

/// A revocation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocation {
    /// What it ends.
    #[serde(flatten)]
    pub target: Target,
    /// When it was made, as a NumericDate.
    pub at: u64,
    /// When it expires: all sessions that it ends have expired by then.
    pub until: u64,
    /// For a session: its subject, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<SubjectDigest>,
    /// For a session with a known subject: its login time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issued: Option<u64>,
    /// For a subject: the spans of login times in ascending order; all logins until `at` if empty. An older instance
    /// ignores this field and ends all sessions of the subject.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spans: Vec<Span>,
}

impl Revocation {
    /// The revocation of `target` at `at`.
    pub fn new(target: Target, at: u64, until: u64) -> Self {
        Self { target, at, until, of: None, issued: None, spans: Vec::new() }
    }

    /// The revocation of a session of `subject` that started at `issued`.
    pub fn of_session(id: SessionId, subject: SubjectDigest, issued: u64, at: u64, until: u64) -> Self {
        Self { of: Some(subject), issued: Some(issued), ..Self::new(Target::Session(id), at, until) }
    }

    /// The revocation of the sessions of `subject` that started within `spans`, which must not be empty.
    pub fn of_spans(subject: SubjectDigest, spans: Vec<Span>, until: u64) -> Self {
        let at = spans.last().map_or(0, |span| span.1);
        let spans = if matches!(spans.as_slice(), [(0, _)]) { Vec::new() } else { spans };
        Self { spans, ..Self::new(Target::Subject(subject), at, until) }
    }

    /// The spans of login times that it ends.
    pub fn effective_spans(&self) -> Vec<Span> {
        if self.spans.is_empty() { vec![(0, self.at)] } else { self.spans.clone() }
    }
}

/// Sorts the spans and merges those that touch. If there are more than [`MAX_SPANS`], merges the oldest, including the time
/// between them.
pub fn merge_spans(mut spans: Vec<Span>) -> Vec<Span> {
    spans.retain(|span| span.0 <= span.1);
    spans.sort_unstable();
    let mut merged: Vec<Span> = Vec::with_capacity(spans.len().min(MAX_SPANS));
    for span in spans {
        match merged.last_mut() {
            Some(last) if span.0 <= last.1.saturating_add(1) => last.1 = last.1.max(span.1),
            _ => merged.push(span),
        }
    }
    let excess = merged.len().saturating_sub(MAX_SPANS);
    if excess > 0 {
        let first = merged.first().map_or(0, |span| span.0);
        merged.drain(..excess);
        if let Some(oldest) = merged.first_mut() {
            oldest.0 = first;
        }
    }
    merged
}

#[derive(Serialize, Deserialize)]
struct Versioned {
    v: u32,
    #[serde(flatten)]
    revocation: Revocation,
}

/// The revocation as JSON, without line breaks.
pub fn render(revocation: &Revocation) -> String {
    // Serializing strings and numbers does not fail.
    serde_json::to_string(&Versioned { v: VERSION, revocation: revocation.clone() }).unwrap_or_default()
}

/// Parses the JSON that [`render`] writes. None for anything else, such as another version. The size of the result is
/// bounded.
pub fn read(text: &str) -> Option<Revocation> {
    if text.len() > MAX_JSON {
        return None;
    }
    let text: Versioned = serde_json::from_str(text).ok()?;
    let Revocation { target, at, until, of, issued, spans } = text.revocation;
    if text.v != VERSION || spans.len() > MAX_SPANS {
        return None;
    }
    match target {
        Target::Session(id) => Some(match (of, issued) {
            (Some(of), Some(issued)) => Revocation::of_session(id, of, issued, at, until),
            _ => Revocation::new(Target::Session(id), at, until),
        }),
        Target::Subject(subject) => {
            let spans = if spans.is_empty() { vec![(0, at)] } else { merge_spans(spans) };
            (!spans.is_empty()).then(|| Revocation::of_spans(subject, spans, until))
        }
        target @ (Target::App(_) | Target::Everyone(())) => Some(Revocation::new(target, at, until)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_round_trips_and_is_short() {
        let spans: Vec<Span> = (0..MAX_SPANS as u64).map(|n| (u64::MAX - 40 + 4 * n, u64::MAX - 39 + 4 * n)).collect();
        let (subject, id) = (SubjectDigest::of("wx:union:o"), SessionId::random());
        for revocation in [
            Revocation::new(Target::Session(id), 10, 20),
            Revocation::of_session(id, subject, u64::MAX, u64::MAX, u64::MAX),
            Revocation::new(Target::Subject(subject), 10, 20),
            Revocation::of_spans(subject, spans, u64::MAX),
            Revocation::new(Target::App("a".repeat(32).parse().unwrap()), 10, 20),
            Revocation::new(Target::Everyone(()), 10, 20),
        ] {
            let text = render(&revocation);
            assert!(text.len() <= MAX_JSON, "{text}");
            assert_eq!(read(&text), Some(revocation), "{text}");
        }
    }

    #[test]
    fn other_json_is_rejected() {
        let (id, digest) = (SessionId::random().to_string(), String::from(SubjectDigest::of("wx:union:o")));
        let with = |what: &str| format!(r#"{{"v":1,{what},"at":10,"until":20}}"#);
        let spans = vec![[1, 2]; MAX_SPANS + 1];
        for text in [
            String::new(),
            "null".into(),
            "[]".into(),
            format!(r#"{{"v":2,"session":"{id}","at":10,"until":20}}"#),
            format!(r#"{{"v":1,"session":"{id}","at":-1,"until":20}}"#),
            r#"{"v":1,"at":1,"until":20}"#.into(),
            with(r#""session":"""#),
            with(r#""session":"nonsense""#),
            with(&format!(r#""session":"{id}A""#)),
            with(&format!(r#""session":"{}""#, "s".repeat(4_000))),
            with(&format!(r#""session":"{}+""#, &id[..21])),
            with(r#""subject":"wx:union:o""#),
            with(&format!(r#""subject":"{}""#, digest.to_uppercase())),
            with(&format!(r#""subject":"+{}""#, &digest[1..])),
            with(&format!(r#""subject":"{digest}","spans":[[5,4]]"#)),
            with(&format!(r#""subject":"{digest}","spans":{spans:?}"#)),
            with(r#""app":"""#),
            with(r#""app":"Shop""#),
            with(&format!(r#""app":"{}""#, "a".repeat(33))),
            with(&format!(r#""session":"{id}","more":"{}""#, "s".repeat(500))),
        ] {
            assert_eq!(read(&text), None, "{text}");
        }
    }

    #[test]
    fn json_without_spans_ends_all_sessions_of_its_subject() {
        let digest = String::from(SubjectDigest::of("wx:union:o"));
        let old = read(&format!(r#"{{"v":1,"subject":"{digest}","at":10,"until":20}}"#)).unwrap();
        assert_eq!(old.effective_spans(), [(0, 10)]);
        assert_eq!(digest, crate::redis::keys::digest_of("wx:union:o"));
    }

    #[test]
    fn spans_that_touch_are_merged_and_their_number_is_bounded() {
        for (spans, expected) in [
            (vec![], vec![]),
            (vec![(5, 9), (1, 3)], vec![(1, 3), (5, 9)]),
            (vec![(1, 3), (4, 9)], vec![(1, 9)]),
            (vec![(1, 8), (2, 3)], vec![(1, 8)]),
            (vec![(0, u64::MAX), (3, 4)], vec![(0, u64::MAX)]),
            (vec![(4, 3)], vec![]),
        ] {
            assert_eq!(merge_spans(spans.clone()), expected, "{spans:?}");
        }
        let many: Vec<Span> = (0..20).map(|n| (10 * n, 10 * n + 1)).collect();
        let few = merge_spans(many.clone());
        assert_eq!((few.len(), few.first(), few.last()), (MAX_SPANS, Some(&(0, 121)), Some(&(190, 191))));
        assert!(many.iter().all(|span| few.iter().any(|wide| wide.0 <= span.0 && span.1 <= wide.1)));
    }

    #[test]
    fn json_does_not_name_a_subject() {
        let text = render(&Revocation::new(Target::subject(&"wx:union:oAlice".parse().unwrap()), 10, 20));
        assert!(!text.contains("oAlice"), "{text}");
    }
}
