//! What happened, for the operator's other systems: a Redis Stream that anybody may follow with a consumer group.
//!
//! | field | in | what |
//! |---|---|---|
//! | `v` | all | 1, the version of these fields; later ones may add fields |
//! | `id` | all | random: the same event appended twice has the same |
//! | `type` | all | `login`, `logout`, `revocation`, `profile` |
//! | `at` | all | when, as a Unix time in seconds |
//! | `instance` | all | which instance says so, random at its start |
//! | `trace_id` | all with a trace | the trace of the request that caused it (W3C Trace Context), as the logs say it |
//! | `app` | all but most revocations | the application's name |
//! | `flow` | login, logout, profile | `official_account` or `website` |
//! | `subject` | login, logout, profile, revocation of a subject | who: as the application knows them, or the digest by which keys know them, as `redis.events.subject` says |
//! | `session` | login, logout, revocation of a session | the session's id |
//! | `reason` | all but login | logout: `person`, `new_login`; revocation: `operator`; profile: `login`, `refresh` |
//!
//! Never a token, code, cookie, nickname or avatar: who is told that a profile changed sees it with the person's next
//! request. A session id opens nothing. Appended at least once: where Redis did not say whether it took an event, it is
//! appended again. An instance that is killed loses what it had not appended yet; one that is told
//! to end does not, while Redis is well.

use crate::app_name::AppName;
use crate::clock::Timestamp;
use crate::login_method::LoginMethod;
use crate::random;
use crate::session_id::SessionId;
use crate::subject::Subject;
use crate::telemetry::traces;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The version of the fields.
const VERSION: u32 = 1;

/// The default of [`Settings::max`]. Holds a backlog of 120,000 with room; 200,000 events take about 42 MB in Redis.
pub(crate) const MAX_EVENTS: u64 = 200_000;

/// How a subject is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SubjectForm {
    /// As the application knows it.
    #[default]
    Plain,
    /// As keys in Redis know it.
    Digest,
}

/// How the stream is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Events kept, about: what a consumer group may lag behind before it loses events.
    pub max: u64,
    /// How a subject is written.
    pub subject: SubjectForm,
}

impl Default for Settings {
    fn default() -> Self {
        Self { max: MAX_EVENTS, subject: SubjectForm::default() }
    }
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A session began.
    Login,
    /// A person left, or a new login took the session's place.
    Logout,
    /// An operator ended sessions.
    Revocation,
    /// Nickname or avatar changed.
    Profile,
}

impl Kind {
    /// The word for it in stream and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Logout => "logout",
            Self::Revocation => "revocation",
            Self::Profile => "profile",
        }
    }
}

/// One event. What does not apply is empty and left out.
#[derive(Clone, Debug)]
pub struct Event {
    /// What happened.
    pub kind: Kind,
    /// When.
    pub at: Timestamp,
    /// The application's name.
    pub app: Option<AppName>,
    /// Which way of logging in.
    pub flow: Option<LoginMethod>,
    /// Who.
    pub subject: Option<Subject>,
    /// Which session.
    pub session: Option<SessionId>,
    /// Why; a word of ours.
    pub reason: &'static str,
    /// The trace of the request that caused it; empty without one.
    pub trace_id: String,
}

impl Event {
    /// Something that happened at `at` because of the current request, of which nothing else is said yet.
    pub fn new(kind: Kind, at: Timestamp) -> Self {
        Self {
            kind,
            at,
            app: None,
            flow: None,
            subject: None,
            session: None,
            reason: "",
            trace_id: traces::request_trace_id(),
        }
    }

    /// The fields in their order, those that are empty left out.
    pub(super) fn fields(self, instance: &str, form: SubjectForm) -> Vec<(&'static str, String)> {
        let subject = self.subject.map(|subject| match form {
            SubjectForm::Digest => crate::redis::keys::digest_of(subject.as_str()),
            SubjectForm::Plain => subject.into(),
        });
        let fields = [
            ("v", VERSION.to_string()),
            ("id", random::unique_name()),
            ("type", self.kind.as_str().to_owned()),
            ("at", self.at.0.to_string()),
            ("instance", instance.to_owned()),
            ("trace_id", self.trace_id),
            ("app", self.app.map_or(String::new(), String::from)),
            ("method", self.flow.map_or(String::new(), |flow| flow.as_str().to_owned())),
            ("subject", subject.unwrap_or_default()),
            ("session", self.session.map_or(String::new(), String::from)),
            ("reason", self.reason.to_owned()),
        ];
        fields.into_iter().filter(|(_, value)| !value.is_empty()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_says_what_applies_and_a_subject_as_it_is_wanted() {
        let event = Event {
            app: "shop".parse().ok(),
            flow: Some(LoginMethod::Website),
            subject: "wx:union:oAlice".parse().ok(),
            ..Event::new(Kind::Profile, Timestamp(7))
        };
        let plain = event.clone().fields("i1", SubjectForm::Plain);
        let names: Vec<&str> = plain.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["v", "id", "type", "at", "instance", "app", "method", "subject"]);
        assert!(plain.contains(&("subject", "wx:union:oAlice".into())) && plain.contains(&("at", "7".into())));
        let digest = format!("{:?}", event.fields("i1", SubjectForm::Digest));
        assert!(!digest.contains("oAlice") && digest.contains(&crate::redis::keys::digest_of("wx:union:oAlice")));
        let bare = Event::new(Kind::Revocation, Timestamp(7)).fields("i1", SubjectForm::Digest);
        assert!(bare.iter().all(|(name, _)| *name != "subject"), "nobody has no digest");
    }
}
