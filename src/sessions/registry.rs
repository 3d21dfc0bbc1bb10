//! The registry: sessions, profiles and, if configured, the tokens of WeChat, for the operator.
//!
//! No check reads the registry: if it is lost, all users stay logged in. An instance remembers the sessions that it has seen,
//! in bounded memory. With Redis, all instances write to it through the [outbox](super::outbox) and read from it. Personal
//! data and secrets in Redis are sealed, with the key of the record as context; other values are digests and our own ids.
//! Records have a version and an expiry. A record that cannot be read is ignored and counted.

use super::events::{self, Event};
use super::outbox::{Change, Outbox};
use crate::app_name::AppName;
use crate::clock::Timestamp;
use crate::login_method::LoginMethod;
use crate::profile::Profile;
use crate::random;
use crate::redis::keys::digest_of;
use crate::redis::scripts::LIST_SESSIONS;
use crate::redis::{CallError, Redis};
use crate::seal::Sealer;
use crate::secret::Secret;
use crate::session::revocations::RevocationSubject;
use crate::session_id::SessionId;
use crate::subject::Subject;
use crate::telemetry::OutboxMetrics;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

/// The version of all records.
const VERSION: u32 = 1;

/// The most sessions that this instance remembers, of about 400 bytes each.
const MAX_REMEMBERED: u64 = 20_000;

/// The most sessions of one subject in a list: twice as many as Redis keeps.
const MAX_LISTED: usize = 128;

/// How long this instance remembers a session: the longest lifetime.
const SESSION_TTL: Duration = Duration::from_secs(90 * 86_400);

/// How long profiles and tokens of WeChat are kept: the lifetime of a refresh token.
const RECORD_TTL: Duration = Duration::from_secs(30 * 86_400);

/// The length of the longest sealed record.
const MAX_SEALED: usize = 16_384;

/// The shortest and the longest pause after a failed write.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// How long to collect changes for a batch.
const BATCH_DELAY: Duration = Duration::from_millis(10);

/// The length of the longest value of a session in Redis.
const MAX_SESSION_VALUE: usize = 2_048;

/// The settings of registry and events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Whether the tokens of WeChat are stored in Redis, sealed.
    pub keep_wechat_tokens: bool,
    /// The stream of events.
    pub events: events::Settings,
}

/// A session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRecord {
    /// The session id.
    pub session: SessionId,
    /// The subject.
    pub subject: Subject,
    /// The name of the application.
    pub app: AppName,
    /// The login method.
    pub flow: LoginMethod,
    /// When the user logged in.
    pub created: Timestamp,
    /// When it ends.
    pub ends: Timestamp,
    /// When it was last used, to a few minutes.
    pub seen: Timestamp,
    /// The kind of browser at the login; none if this instance does not know it.
    pub browser: Option<String>,
}

impl<'a> From<&'a SessionRecord> for RevocationSubject<'a> {
    fn from(record: &'a SessionRecord) -> Self {
        Self { sid: record.session, sub: record.subject.as_str(), aud: &record.app, auth_time: record.created.0 }
    }
}

/// A profile and its time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProfileRecord {
    /// Nickname and avatar.
    #[serde(flatten)]
    pub profile: Profile,
    /// The unionid; empty if unknown.
    pub unionid: String,
    /// When WeChat sent it.
    pub at: Timestamp,
}

/// The tokens with which WeChat returns the profile of a user.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TokensRecord {
    /// The AppID for which they are valid.
    pub appid: String,
    /// The openid of the user.
    pub openid: String,
    /// The unionid of the user; empty if unknown.
    pub unionid: String,
    /// The access token of the user.
    #[serde(serialize_with = "serialize_secret", deserialize_with = "deserialize_secret")]
    pub access: Secret,
    /// When the access token expires.
    pub access_until: Timestamp,
    /// The refresh token.
    #[serde(serialize_with = "serialize_secret", deserialize_with = "deserialize_secret")]
    pub refresh: Secret,
}

/// The sessions and profiles of a subject.
#[derive(Clone, Debug)]
pub struct SubjectSessions {
    /// The sessions, newest first.
    pub sessions: Vec<SessionRecord>,
    /// Profiles by application.
    pub profiles: BTreeMap<AppName, ProfileRecord>,
    /// Why the list lacks the sessions of other instances, if it does.
    pub unavailable: Option<CallError>,
}

/// The sealed part of a session in Redis.
#[derive(Serialize, Deserialize)]
struct SealedSession {
    app: AppName,
    flow: LoginMethod,
    created: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    browser: Option<String>,
}

/// The version of a record.
#[derive(Deserialize)]
struct Version {
    v: u32,
}

/// A record with its version.
#[derive(Serialize)]
struct Versioned<'a, T> {
    v: u32,
    #[serde(flatten)]
    record: &'a T,
}

/// Serializes a secret of a record that will be sealed.
fn serialize_secret<S: Serializer>(secret: &Secret, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(secret.expose())
}

fn deserialize_secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Secret, D::Error> {
    Secret::parse(&String::deserialize(deserializer)?, 1).map_err(serde::de::Error::custom)
}

/// The registry.
pub struct Registry {
    store: Redis,
    sealer: Arc<dyn Sealer>,
    settings: Settings,
    outbox: Outbox,
    meter: OutboxMetrics,
    remembered: moka::sync::Cache<SessionId, Arc<SessionRecord>>,
    instance: String,
}

impl Registry {
    /// A registry in `store`. `sealer` seals its records.
    pub fn new(store: Redis, sealer: Arc<dyn Sealer>, settings: Settings, meter: OutboxMetrics) -> Self {
        let remembered = moka::sync::Cache::builder()
            .max_capacity(MAX_REMEMBERED)
            .eviction_policy(moka::policy::EvictionPolicy::lru())
            .time_to_live(SESSION_TTL)
            .build();
        let outbox = Outbox::new(store.clone(), settings.events.max, meter.clone());
        Self { store, sealer, settings, outbox, meter, remembered, instance: random::incident_id() }
    }

    /// The name of this instance in events.
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// Records a new session.
    pub fn session_started(&self, record: SessionRecord) {
        self.enqueue_session(&record);
        self.remembered.insert(record.session, Arc::new(record));
    }

    /// Records the end of a session.
    pub fn session_ended(&self, subject: &Subject, session: SessionId) {
        self.remembered.invalidate(&session);
        self.outbox.change(digest_of(subject.as_str()), Change::Ended { sid: session });
    }

    /// Records the use of sessions. Without a connection to Redis only this instance knows it; the next use is written.
    pub fn sessions_used(&self, records: impl IntoIterator<Item = SessionRecord>) {
        for record in records {
            if self.store.is_up() {
                let change = Change::Used { sid: record.session, at: record.seen.0 };
                self.outbox.change(digest_of(record.subject.as_str()), change);
            }
            let browser = self.remembered.get(&record.session).and_then(|known| known.browser.clone());
            self.remembered.insert(record.session, Arc::new(SessionRecord { browser, ..record }));
        }
    }

    /// Whether this instance knows `session` as not ended.
    pub fn has_seen(&self, session: SessionId) -> bool {
        self.remembered.contains_key(&session)
    }

    /// Stores the profile of `subject` at `app`.
    pub fn store_profile(&self, app: &AppName, subject: &Subject, record: &ProfileRecord) {
        self.put(subject, &format!("profile:{app}"), record);
    }

    /// Stores the tokens of WeChat of `subject` at `app`, if that is configured.
    pub fn store_tokens(&self, app: &AppName, subject: &Subject, record: &TokensRecord) {
        if self.settings.keep_wechat_tokens {
            self.put(subject, &format!("wechat:{app}"), record);
        }
    }

    /// Deletes the tokens of WeChat of `subject` at `app`.
    pub fn delete_tokens(&self, app: &AppName, subject: &Subject) {
        if self.settings.keep_wechat_tokens {
            let digest = digest_of(subject.as_str());
            let name = self.store.keys().of_subject(&digest, &format!("wechat:{app}"));
            self.outbox.change(digest, Change::Delete { name });
        }
    }

    /// The stored profile of `subject` at `app`, if there is one.
    pub async fn stored_profile(&self, app: &AppName, subject: &Subject) -> Result<Option<ProfileRecord>, CallError> {
        self.get(subject, &format!("profile:{app}")).await
    }

    /// The stored tokens of WeChat of `subject` at `app`, if there are any.
    pub async fn stored_tokens(&self, app: &AppName, subject: &Subject) -> Result<Option<TokensRecord>, CallError> {
        if !self.settings.keep_wechat_tokens {
            return Ok(None);
        }
        self.get(subject, &format!("wechat:{app}")).await
    }

    /// Appends an event to the stream.
    pub fn emit(&self, event: Event) {
        let kind = event.kind.as_str();
        self.outbox.append(kind, event.fields(&self.instance, self.settings.events.subject));
    }

    /// Measures how far each consumer group lags behind the stream of events.
    pub async fn measure_lag(&self) {
        self.outbox.measure_lag().await;
    }

    /// The live sessions of `subject` at `now`, newest first, and why the list lacks those of other instances, if it does.
    pub async fn sessions(&self, subject: &Subject, now: Timestamp) -> (Vec<SessionRecord>, Option<CallError>) {
        let mut sessions: HashMap<SessionId, SessionRecord> = self
            .remembered
            .iter()
            .filter(|(_, record)| record.subject == *subject)
            .map(|(sid, record)| (*sid, SessionRecord::clone(&record)))
            .collect();
        let mut unavailable = None;
        match self.stored_sessions(subject).await {
            Ok(stored) => {
                for record in stored {
                    let seen = sessions.get(&record.session).map_or(record.seen, |own| own.seen.max(record.seen));
                    sessions.insert(record.session, SessionRecord { seen, ..record });
                }
            }
            Err(error) => unavailable = Some(error),
        }
        let mut sessions: Vec<SessionRecord> = sessions.into_values().filter(|record| record.ends > now).collect();
        sessions.sort_by_key(|record| std::cmp::Reverse((record.created, record.session)));
        sessions.truncate(MAX_LISTED);
        (sessions, unavailable)
    }

    /// The live sessions and the profiles of `subject` at `now`.
    pub async fn list(&self, subject: &Subject, now: Timestamp) -> SubjectSessions {
        let (sessions, unavailable) = self.sessions(subject, now).await;
        let mut profiles = BTreeMap::new();
        for app in sessions.iter().map(|record| &record.app) {
            if unavailable.is_none()
                && !profiles.contains_key(app)
                && let Ok(Some(profile)) = self.stored_profile(app, subject).await
            {
                profiles.insert(app.clone(), profile);
            }
        }
        SubjectSessions { sessions, profiles, unavailable }
    }

    /// Writes the outbox to Redis, forever. Returns at once without Redis.
    pub async fn run(&self) {
        if !self.store.is_configured() {
            return;
        }
        let (mut pause, mut epoch) = (PAUSES.0, 0);
        loop {
            self.outbox.wait_for_work().await;
            if !self.store.is_up() {
                epoch = self.store.connected_since(epoch).await;
                // All instances connect to a new master at the same time; spread their writes.
                tokio::time::sleep(PAUSES.0 * 4 * fastrand::u32(1..=4)).await;
                continue;
            }
            tokio::time::sleep(BATCH_DELAY).await;
            if self.write_batch().await {
                pause = PAUSES.0;
            } else {
                tokio::time::sleep(pause.mul_f64(0.5 + 0.5 * fastrand::f64())).await;
                pause = (pause * 2).min(PAUSES.1);
            }
        }
    }

    /// Writes the outbox within `timeout`, and drops the rest.
    pub async fn flush(&self, timeout: Duration) {
        let writing = async { while !self.outbox.is_empty() && self.store.is_up() && self.write_batch().await {} };
        let _ = tokio::time::timeout(timeout, writing).await;
        let lost = self.outbox.len();
        if lost > 0 {
            tracing::warn!(lost, "dropped what was not written to redis before the end");
            self.outbox.abandon();
        }
    }

    async fn write_batch(&self) -> bool {
        let batch = self.outbox.write_batch().await;
        for record in batch.unknown.iter().filter_map(|sid| self.remembered.get(&sid.parse::<SessionId>().ok()?)) {
            // Redis lacks the session, because it was emptied or because the first write failed.
            self.enqueue_session(&record);
        }
        batch.succeeded
    }

    fn enqueue_session(&self, record: &SessionRecord) {
        let sealed = SealedSession {
            app: record.app.clone(),
            flow: record.flow,
            created: record.created,
            browser: record.browser.clone(),
        };
        let digest = digest_of(record.subject.as_str());
        if let Some(sealed) = self.seal(&self.context(&digest, record.session), &sealed) {
            let (sid, ends, seen) = (record.session, record.ends.0, record.seen.0);
            self.outbox.change(digest, Change::Started { sid, ends, seen, sealed });
        }
    }

    async fn stored_sessions(&self, subject: &Subject) -> Result<Vec<SessionRecord>, CallError> {
        let digest = digest_of(subject.as_str());
        let mut script = LIST_SESSIONS.prepare_invoke();
        script.key(self.store.keys().of_subject(&digest, "sessions")).arg(MAX_LISTED).arg(MAX_SESSION_VALUE);
        let fields: HashMap<String, String> = self.store.run_script("list_sessions", &script).await?;
        let records = fields.into_iter().map(|(sid, value)| self.parse_session(subject, &sid, &value));
        Ok(records.filter_map(|record| self.count_unreadable(record)).collect())
    }

    /// Parses the session `sid` of `subject` from its value in Redis: its end, its last use, and the rest, sealed.
    pub fn parse_session(&self, subject: &Subject, sid: &str, value: &str) -> Option<SessionRecord> {
        let session = sid.parse().ok()?;
        let mut parts = value.splitn(3, ' ');
        let mut number = || parts.next()?.parse().ok().map(Timestamp);
        let (ends, seen) = (number()?, number()?);
        let SealedSession { app, flow, created, browser } =
            self.open(&self.context(&digest_of(subject.as_str()), session), parts.next()?)?;
        Some(SessionRecord { session, subject: subject.clone(), app, flow, created, ends, seen, browser })
    }

    fn put(&self, subject: &Subject, what: &str, record: &impl Serialize) {
        if !self.store.is_configured() {
            return;
        }
        let digest = digest_of(subject.as_str());
        let name = self.store.keys().of_subject(&digest, what);
        if let Some(sealed) = self.seal(name.as_str(), record) {
            self.outbox.change(digest, Change::Put { name, sealed, ttl: RECORD_TTL });
        }
    }

    async fn get<T: for<'de> Deserialize<'de>>(&self, subject: &Subject, what: &str) -> Result<Option<T>, CallError> {
        let name = self.store.keys().of_subject(&digest_of(subject.as_str()), what);
        let sealed = self.store.get("read_record", &name, MAX_SEALED).await?;
        Ok(sealed.and_then(|sealed| self.count_unreadable(self.open(name.as_str(), &sealed))))
    }

    /// The context with which a session is sealed.
    fn context(&self, digest: &str, session: SessionId) -> String {
        format!("{}/{session}", self.store.keys().of_subject(digest, "sessions").as_str())
    }

    fn seal(&self, context: &str, record: &impl Serialize) -> Option<String> {
        if !self.store.is_configured() {
            return None;
        }
        self.sealer.seal(context, &serde_json::to_vec(&Versioned { v: VERSION, record }).ok()?)
    }

    fn open<T: for<'de> Deserialize<'de>>(&self, context: &str, sealed: &str) -> Option<T> {
        let plain = self.sealer.open(context, sealed, MAX_SEALED)?;
        let Version { v } = serde_json::from_slice(&plain).ok()?;
        if v == VERSION { serde_json::from_slice(&plain).ok() } else { None }
    }

    fn count_unreadable<T>(&self, record: Option<T>) -> Option<T> {
        if record.is_none() {
            self.meter.unreadable();
        }
        record
    }
}

#[cfg(test)]
mod tests;
