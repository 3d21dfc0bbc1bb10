//! Events for other systems of the operator: a Redis stream that they read with a consumer group.
//! docs/en/redis-keys.md lists the fields.
//!
//! Events contain no token, code, cookie, nickname or avatar; a changed profile is in the headers of the user's next request. A
//! session id grants nothing. Events are appended at least once: if Redis does not confirm an event, it is appended again. An
//! instance that is killed loses the events that it has not appended; one that shuts down appends them first.

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
    /// As text.
    #[default]
    Plain,
    /// As its digest.
    Digest,
}

/// The settings of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// About how many events the stream holds: a consumer group that lags further behind loses events.
    pub max: u64,
    /// How a subject is written.
    pub subject: SubjectForm,
}

impl Default for Settings {
    fn default() -> Self {
        Self { max: MAX_EVENTS, subject: SubjectForm::default() }
    }
}

/// The type of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A session started.
    Login,
    /// A user logged out, or a new login replaced the session.
    Logout,
    /// An operator revoked sessions.
    Revocation,
    /// The nickname or avatar changed.
    Profile,
}

impl Kind {
    /// The value in the stream and in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Logout => "logout",
            Self::Revocation => "revocation",
            Self::Profile => "profile",
        }
    }
}

/// An event.
#[derive(Clone, Debug)]
pub struct Event {
    /// The type.
    pub kind: Kind,
    /// The time.
    pub at: Timestamp,
    /// The application.
    pub app: Option<AppName>,
    /// The login method.
    pub flow: Option<LoginMethod>,
    /// The subject.
    pub subject: Option<Subject>,
    /// The session.
    pub session: Option<SessionId>,
    /// The reason; empty if none applies.
    pub reason: &'static str,
    /// The trace id of the request that caused it; empty without a trace.
    pub trace_id: String,
}

impl Event {
    /// An event of the current request, without the other fields.
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

    /// The fields in order, without empty ones.
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
    fn an_event_has_the_fields_that_apply_and_the_configured_form_of_the_subject() {
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
        assert!(bare.iter().all(|(name, _)| *name != "subject"), "an event without a subject has no digest");
    }
}
