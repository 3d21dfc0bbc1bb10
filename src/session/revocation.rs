//! One revocation: what no longer counts, since when, and how long that has to be remembered.

use crate::app_name::AppName;
use crate::session_id::SessionId;
use crate::subject::Subject;
use aws_lc_rs::digest;
use serde::{Deserialize, Serialize};

/// The version of a revocation's text, on disk and in Redis, so that a later one can change its shape.
const VERSION: u32 = 1;

/// The longest text of a revocation: one of a subject with all its spans.
pub const MAX_TEXT: usize = 512;

/// Spans of one subject at most.
pub const MAX_SPANS: usize = 8;

/// A subject's digest, so that no list of revocations names anybody: the one of [`crate::redis::keys::digest_of`].
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
            return Err("not a subject's digest");
        }
        let bytes = u128::from_str_radix(&text, 16).map_err(|_| "not a subject's digest")?;
        Ok(Self(bytes.to_be_bytes()))
    }
}

/// What is revoked.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// One session, by its id.
    Session(SessionId),
    /// Sessions of a subject: every one from before now, or those that began within the revocation's spans.
    Subject(SubjectDigest),
    /// Every session of an application from before now.
    App(AppName),
    /// Every session there is from before now: what is left when the table is full. Nobody asks for it.
    Everyone(()),
}

impl Target {
    /// Every session of `subject` from before now.
    pub fn subject(subject: &Subject) -> Self {
        Self::Subject(SubjectDigest::of(subject.as_str()))
    }
}

/// From the one login time to the other, both included, as NumericDates.
pub type Span = (u64, u64);

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
    /// Of a session: whose it is. None where that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<SubjectDigest>,
    /// Of a session whose subject is known: when its user logged in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issued: Option<u64>,
    /// Of a subject: which logins, in ascending order; all of them until `at` where it is empty. An instance that does
    /// not know this field ends all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spans: Vec<Span>,
}

impl Revocation {
    /// The revocation of `target` at `at`.
    pub fn new(target: Target, at: u64, until: u64) -> Self {
        Self { target, at, until, of: None, issued: None, spans: Vec::new() }
    }

    /// The end of a session of `subject` whose user logged in at `issued`.
    pub fn of_session(id: SessionId, subject: SubjectDigest, issued: u64, at: u64, until: u64) -> Self {
        Self { of: Some(subject), issued: Some(issued), ..Self::new(Target::Session(id), at, until) }
    }

    /// The revocation of the logins of `subject` within `spans`, which are not empty.
    pub fn of_spans(subject: SubjectDigest, spans: Vec<Span>, until: u64) -> Self {
        let at = spans.last().map_or(0, |span| span.1);
        let spans = if matches!(spans.as_slice(), [(0, _)]) { Vec::new() } else { spans };
        Self { spans, ..Self::new(Target::Subject(subject), at, until) }
    }

    /// Which logins of its subject it ends.
    pub fn whole_spans(&self) -> Vec<Span> {
        if self.spans.is_empty() { vec![(0, self.at)] } else { self.spans.clone() }
    }
}

/// These spans in ascending order, those that touch made one, and no more than [`MAX_SPANS`]: beyond, the oldest become
/// one, and what lies between them ends, too.
pub fn united(mut spans: Vec<Span>) -> Vec<Span> {
    spans.retain(|span| span.0 <= span.1);
    spans.sort_unstable();
    let mut united: Vec<Span> = Vec::with_capacity(spans.len().min(MAX_SPANS));
    for span in spans {
        match united.last_mut() {
            Some(last) if span.0 <= last.1.saturating_add(1) => last.1 = last.1.max(span.1),
            _ => united.push(span),
        }
    }
    let beyond = united.len().saturating_sub(MAX_SPANS);
    if beyond > 0 {
        let first = united.first().map_or(0, |span| span.0);
        united.drain(..beyond);
        if let Some(oldest) = united.first_mut() {
            oldest.0 = first;
        }
    }
    united
}

#[derive(Serialize, Deserialize)]
struct Text {
    v: u32,
    #[serde(flatten)]
    revocation: Revocation,
}

/// The revocation as one line of JSON.
pub fn render(revocation: &Revocation) -> String {
    // Strings and numbers always render.
    serde_json::to_string(&Text { v: VERSION, revocation: revocation.clone() }).unwrap_or_default()
}

/// Reads what [`render`] made; none for anything else, another version's text among it. What it gives has a bounded
/// size, whoever wrote the text.
pub fn read(text: &str) -> Option<Revocation> {
    if text.len() > MAX_TEXT {
        return None;
    }
    let text: Text = serde_json::from_str(text).ok()?;
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
            let spans = if spans.is_empty() { vec![(0, at)] } else { united(spans) };
            (!spans.is_empty()).then(|| Revocation::of_spans(subject, spans, until))
        }
        target @ (Target::App(_) | Target::Everyone(())) => Some(Revocation::new(target, at, until)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_is_short() {
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
            assert!(text.len() <= MAX_TEXT, "{text}");
            assert_eq!(read(&text), Some(revocation), "{text}");
        }
    }

    #[test]
    fn what_has_another_shape_is_not_read() {
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
    fn a_text_of_before_spans_ends_every_session_of_its_subject() {
        let digest = String::from(SubjectDigest::of("wx:union:o"));
        let old = read(&format!(r#"{{"v":1,"subject":"{digest}","at":10,"until":20}}"#)).unwrap();
        assert_eq!(old.whole_spans(), [(0, 10)]);
        assert_eq!(digest, crate::redis::keys::digest_of("wx:union:o"));
    }

    #[test]
    fn spans_that_touch_become_one_and_there_are_few() {
        for (spans, expected) in [
            (vec![], vec![]),
            (vec![(5, 9), (1, 3)], vec![(1, 3), (5, 9)]),
            (vec![(1, 3), (4, 9)], vec![(1, 9)]),
            (vec![(1, 8), (2, 3)], vec![(1, 8)]),
            (vec![(0, u64::MAX), (3, 4)], vec![(0, u64::MAX)]),
            (vec![(4, 3)], vec![]),
        ] {
            assert_eq!(united(spans.clone()), expected, "{spans:?}");
        }
        let many: Vec<Span> = (0..20).map(|n| (10 * n, 10 * n + 1)).collect();
        let few = united(many.clone());
        assert_eq!((few.len(), few.first(), few.last()), (MAX_SPANS, Some(&(0, 121)), Some(&(190, 191))));
        assert!(many.iter().all(|span| few.iter().any(|wide| wide.0 <= span.0 && span.1 <= wide.1)));
    }

    #[test]
    fn a_subject_is_not_told() {
        let text = render(&Revocation::new(Target::subject(&"wx:union:oAlice".parse().unwrap()), 10, 20));
        assert!(!text.contains("oAlice"), "{text}");
    }
}
