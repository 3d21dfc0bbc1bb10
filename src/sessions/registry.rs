//! Who is logged in, for the operator to look at: sessions, profiles, and WeChat's own tokens where that is wanted.
//!
//! Nothing here makes a session or lets anybody pass: no check reads it, and where it is empty everybody stays logged in.
//! This instance remembers in memory what it has seen since its start, bounded; with Redis all instances write to one
//! list, by way of the [outbox](super::outbox), and read from it. What is personal or secret lies there sealed with its
//! place as context, under keys that are not in Redis; ids that are not are digests or our own. Records carry a version:
//! what cannot be read is passed over and counted, and every key has an end.

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
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

/// The version of every record.
const VERSION: u32 = 1;

/// Sessions that this instance remembers at most; about 400 bytes each.
const MAX_REMEMBERED: u64 = 20_000;

/// Sessions of one subject that are listed at most: the newest, twice as many as Redis keeps.
const MAX_LISTED: usize = 128;

/// The longest any session lives.
const REMEMBERED: Duration = Duration::from_secs(90 * 86_400);

/// Profiles and WeChat's tokens are kept so long after they were last written: so long a refresh token lives.
const PROFILES_LIVE: Duration = Duration::from_secs(30 * 86_400);

/// No sealed record of ours is longer.
const MAX_SEALED: usize = 16_384;

/// The pause after Redis did not take something: from the one to the other.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// How long to wait for a few things to come together.
const BATCH_DELAY: Duration = Duration::from_millis(10);

/// A session's text in Redis is far shorter.
const MAX_SESSION_TEXT: usize = 2_048;

/// What is kept, and how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Whether WeChat's own tokens are kept in Redis, sealed.
    pub keep_wechat_tokens: bool,
    /// The stream of events.
    pub events: events::Settings,
}

/// One session, as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRecord {
    /// Its id.
    pub session: SessionId,
    /// Whose it is.
    pub subject: Subject,
    /// The application's name.
    pub app: AppName,
    /// Which way of logging in.
    pub flow: LoginMethod,
    /// When the person logged in.
    pub created: Timestamp,
    /// When it ends.
    pub ends: Timestamp,
    /// When it was last seen, to a few minutes.
    pub seen: Timestamp,
    /// The family of browsers it began in, a word of ours; none where another instance knows.
    pub browser: Option<String>,
}

impl<'a> From<&'a SessionRecord> for RevocationSubject<'a> {
    fn from(record: &'a SessionRecord) -> Self {
        Self { sid: record.session, sub: record.subject.as_str(), aud: &record.app, auth_time: record.created.0 }
    }
}

/// What WeChat said of a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProfileRecord {
    /// Nickname and avatar.
    pub profile: Profile,
    /// The unionid; empty where unknown.
    pub unionid: String,
    /// When WeChat said so.
    pub at: Timestamp,
}

/// WeChat's own tokens of a person.
#[derive(Clone, Debug)]
pub struct TokensRecord {
    /// The AppID they are good for.
    pub appid: String,
    /// The person, under that AppID.
    pub openid: String,
    /// The person's unionid; empty where unknown.
    pub unionid: String,
    /// Asks for the profile.
    pub access: Secret,
    /// Until when.
    pub access_until: Timestamp,
    /// Gets another access token.
    pub refresh: Secret,
}

/// What is listed of a subject.
#[derive(Clone, Debug)]
pub struct SubjectSessions {
    /// The sessions, newest first.
    pub sessions: Vec<SessionRecord>,
    /// Profiles by application.
    pub profiles: BTreeMap<AppName, ProfileRecord>,
    /// Why other instances' sessions are not among them, if they are not.
    pub alone: Option<CallError>,
}

#[derive(Serialize, Deserialize)]
struct SessionText {
    v: u32,
    app: AppName,
    flow: LoginMethod,
    created: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    browser: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct ProfileText {
    v: u32,
    nickname: String,
    avatar: String,
    unionid: String,
    at: u64,
}

#[derive(Serialize, Deserialize)]
struct TokensText {
    v: u32,
    appid: String,
    openid: String,
    unionid: String,
    access: String,
    access_until: u64,
    refresh: String,
}

/// A record's version, before the rest of it is looked at.
#[derive(Deserialize)]
struct Versioned {
    v: u32,
}

/// The registry of this instance, and by Redis of all.
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
    /// A registry in `store`, sealed by `sealer`.
    pub fn new(store: Redis, sealer: Arc<dyn Sealer>, settings: Settings, meter: OutboxMetrics) -> Self {
        let remembered = moka::sync::Cache::builder()
            .max_capacity(MAX_REMEMBERED)
            .eviction_policy(moka::policy::EvictionPolicy::lru())
            .time_to_live(REMEMBERED)
            .build();
        let outbox = Outbox::new(store.clone(), settings.events.max, meter.clone());
        Self { store, sealer, settings, outbox, meter, remembered, instance: random::incident_id() }
    }

    /// By what name events tell this instance from others.
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// A session began.
    pub fn session_started(&self, record: SessionRecord) {
        self.list_again(&record);
        self.remembered.insert(record.session, Arc::new(record));
    }

    /// A session is over.
    pub fn ended(&self, subject: &Subject, session: SessionId) {
        self.remembered.invalidate(&session);
        self.outbox.change(digest_of(subject.as_str()), Change::Ended { sid: session });
    }

    /// Sessions were used. While Redis is away this is remembered here alone: another use will be told in time.
    pub fn seen(&self, records: impl IntoIterator<Item = SessionRecord>) {
        for record in records {
            if self.store.is_up() {
                let change = Change::Seen { sid: record.session, at: record.seen.0 };
                self.outbox.change(digest_of(record.subject.as_str()), change);
            }
            let browser = self.remembered.get(&record.session).and_then(|known| known.browser.clone());
            self.remembered.insert(record.session, Arc::new(SessionRecord { browser, ..record }));
        }
    }

    /// Whether this instance has seen `session` since its start, not how it ended.
    pub fn has_seen(&self, session: SessionId) -> bool {
        self.remembered.contains_key(&session)
    }

    /// WeChat said this of `subject` at `app`.
    pub fn profile(&self, app: &AppName, subject: &Subject, record: &ProfileRecord) {
        let text = ProfileText {
            v: VERSION,
            nickname: record.profile.nickname.clone(),
            avatar: record.profile.avatar.clone(),
            unionid: record.unionid.clone(),
            at: record.at.0,
        };
        self.put(subject, &format!("profile:{app}"), &text);
    }

    /// WeChat's own tokens of `subject` at `app`, if they are to be kept.
    pub fn tokens(&self, app: &AppName, subject: &Subject, record: &TokensRecord) {
        if !self.settings.keep_wechat_tokens {
            return;
        }
        let text = TokensText {
            v: VERSION,
            appid: record.appid.clone(),
            openid: record.openid.clone(),
            unionid: record.unionid.clone(),
            access: record.access.expose().to_owned(),
            access_until: record.access_until.0,
            refresh: record.refresh.expose().to_owned(),
        };
        self.put(subject, &format!("wechat:{app}"), &text);
    }

    /// Forgets WeChat's own tokens of `subject` at `app`: they would outlive the session they came with.
    pub fn forget_tokens(&self, app: &AppName, subject: &Subject) {
        if self.settings.keep_wechat_tokens {
            let digest = digest_of(subject.as_str());
            let name = self.store.keys().of_subject(&digest, &format!("wechat:{app}"));
            self.outbox.change(digest, Change::Drop { name });
        }
    }

    /// The stored profile of `subject` at `app`, if there is one.
    pub async fn stored_profile(&self, app: &AppName, subject: &Subject) -> Result<Option<ProfileRecord>, CallError> {
        let text: Option<ProfileText> = self.take(subject, &format!("profile:{app}")).await?;
        Ok(text.map(|text| ProfileRecord {
            profile: Profile { nickname: text.nickname, avatar: text.avatar },
            unionid: text.unionid,
            at: Timestamp(text.at),
        }))
    }

    /// WeChat's stored tokens of `subject` at `app`, if they are kept and there are any.
    pub async fn stored_tokens(&self, app: &AppName, subject: &Subject) -> Result<Option<TokensRecord>, CallError> {
        if !self.settings.keep_wechat_tokens {
            return Ok(None);
        }
        let text: Option<TokensText> = self.take(subject, &format!("wechat:{app}")).await?;
        Ok(text.and_then(|text| {
            Some(TokensRecord {
                appid: text.appid,
                openid: text.openid,
                unionid: text.unionid,
                access: Secret::parse(&text.access, 1).ok()?,
                access_until: Timestamp(text.access_until),
                refresh: Secret::parse(&text.refresh, 1).ok()?,
            })
        }))
    }

    /// Tells whoever follows the stream.
    pub fn emit(&self, event: Event) {
        let kind = event.kind.as_str();
        self.outbox.append(kind, event.fields(&self.instance, self.settings.events.subject));
    }

    /// Measures how far each consumer group lags behind the stream of events.
    pub async fn measure_lag(&self) {
        self.outbox.measure_lag().await;
    }

    /// The sessions of `subject` that are known at `now`, newest first, and why those of other instances are not among
    /// them, if they are not.
    pub async fn sessions(&self, subject: &Subject, now: Timestamp) -> (Vec<SessionRecord>, Option<CallError>) {
        let mut sessions: HashMap<SessionId, SessionRecord> = self
            .remembered
            .iter()
            .filter(|(_, record)| record.subject == *subject)
            .map(|(sid, record)| (*sid, SessionRecord::clone(&record)))
            .collect();
        let mut alone = None;
        match self.stored_sessions(subject).await {
            Ok(stored) => {
                for record in stored {
                    let seen = sessions.get(&record.session).map_or(record.seen, |own| own.seen.max(record.seen));
                    sessions.insert(record.session, SessionRecord { seen, ..record });
                }
            }
            Err(away) => alone = Some(away),
        }
        let mut sessions: Vec<SessionRecord> = sessions.into_values().filter(|record| record.ends > now).collect();
        sessions.sort_by(|one, other| (other.created, other.session).cmp(&(one.created, one.session)));
        sessions.truncate(MAX_LISTED);
        (sessions, alone)
    }

    /// What is known of `subject` at `now`, of every instance while Redis is well.
    pub async fn list(&self, subject: &Subject, now: Timestamp) -> SubjectSessions {
        let (sessions, alone) = self.sessions(subject, now).await;
        let mut profiles = BTreeMap::new();
        for app in sessions.iter().map(|record| &record.app) {
            if alone.is_none()
                && !profiles.contains_key(app)
                && let Ok(Some(profile)) = self.stored_profile(app, subject).await
            {
                profiles.insert(app.clone(), profile);
            }
        }
        SubjectSessions { sessions, profiles, alone }
    }

    /// Writes to Redis what waits for it, for ever. Returns at once where there is no Redis.
    pub async fn run(&self) {
        if !self.store.is_configured() {
            return;
        }
        let (mut pause, mut epoch) = (PAUSES.0, 0);
        loop {
            self.outbox.wait_for_work().await;
            if !self.store.is_up() {
                epoch = self.store.connected_since(epoch).await;
                // All instances meet a new master at once; they need not all come at once.
                tokio::time::sleep(PAUSES.0 * 4 * fastrand::u32(1..=4)).await;
                continue;
            }
            tokio::time::sleep(BATCH_DELAY).await;
            if self.round().await {
                pause = PAUSES.0;
            } else {
                tokio::time::sleep(pause.mul_f64(0.5 + 0.5 * fastrand::f64())).await;
                pause = (pause * 2).min(PAUSES.1);
            }
        }
    }

    /// Writes what still waits, and gives up what cannot be written within `time`.
    pub async fn flush(&self, time: Duration) {
        let writing = async { while !self.outbox.is_empty() && self.store.is_up() && self.round().await {} };
        let _ = tokio::time::timeout(time, writing).await;
        let lost = self.outbox.len();
        if lost > 0 {
            tracing::warn!(lost, "redis could not be told everything before the end");
            self.outbox.abandon();
        }
    }

    async fn round(&self) -> bool {
        let round = self.outbox.write_batch().await;
        for record in round.unknown.iter().filter_map(|sid| self.remembered.get(&sid.parse::<SessionId>().ok()?)) {
            // Redis was emptied, or never heard of it.
            self.list_again(&record);
        }
        round.went_well
    }

    fn list_again(&self, record: &SessionRecord) {
        let text = SessionText {
            v: VERSION,
            app: record.app.clone(),
            flow: record.flow,
            created: record.created.0,
            browser: record.browser.clone(),
        };
        let digest = digest_of(record.subject.as_str());
        if let Some(sealed) = self.sealed(&self.place(&digest, record.session), &text) {
            let (sid, ends, seen) = (record.session, record.ends.0, record.seen.0);
            self.outbox.change(digest, Change::Began { sid, ends, seen, sealed });
        }
    }

    async fn stored_sessions(&self, subject: &Subject) -> Result<Vec<SessionRecord>, CallError> {
        let digest = digest_of(subject.as_str());
        let mut script = LIST_SESSIONS.prepare_invoke();
        script.key(self.store.keys().of_subject(&digest, "sessions")).arg(MAX_LISTED).arg(MAX_SESSION_TEXT);
        let fields: HashMap<String, String> = self.store.run_script("list_sessions", &script).await?;
        let records = fields.into_iter().map(|(sid, value)| self.session(subject, &sid, &value));
        Ok(records.filter_map(|record| self.readable(record)).collect())
    }

    /// Reads the session `sid` of `subject` as it lies in Redis: its end, when it was last seen, and the rest, sealed.
    pub fn session(&self, subject: &Subject, sid: &str, value: &str) -> Option<SessionRecord> {
        let session = sid.parse().ok()?;
        let mut parts = value.splitn(3, ' ');
        let mut number = || parts.next()?.parse().ok().map(Timestamp);
        let (ends, seen) = (number()?, number()?);
        let text: SessionText = self.open(&self.place(&digest_of(subject.as_str()), session), parts.next()?)?;
        let (app, flow, created, browser) = (text.app, text.flow, Timestamp(text.created), text.browser);
        Some(SessionRecord { session, subject: subject.clone(), app, flow, created, ends, seen, browser })
    }

    fn put(&self, subject: &Subject, what: &str, text: &impl Serialize) {
        if !self.store.is_configured() {
            return;
        }
        let digest = digest_of(subject.as_str());
        let name = self.store.keys().of_subject(&digest, what);
        if let Some(sealed) = self.sealed(name.as_str(), text) {
            self.outbox.change(digest, Change::Put { name, sealed, lives: PROFILES_LIVE });
        }
    }

    async fn take<T: for<'de> Deserialize<'de>>(&self, subject: &Subject, what: &str) -> Result<Option<T>, CallError> {
        let name = self.store.keys().of_subject(&digest_of(subject.as_str()), what);
        let sealed = self.store.get("read_record", &name, MAX_SEALED).await?;
        Ok(sealed.and_then(|sealed| self.readable(self.open(name.as_str(), &sealed))))
    }

    /// Where a session stands: no other place opens what is sealed for it.
    fn place(&self, digest: &str, session: SessionId) -> String {
        format!("{}/{session}", self.store.keys().of_subject(digest, "sessions").as_str())
    }

    fn sealed(&self, place: &str, text: &impl Serialize) -> Option<String> {
        if !self.store.is_configured() {
            return None;
        }
        self.sealer.seal(place, &serde_json::to_vec(text).ok()?)
    }

    fn open<T: for<'de> Deserialize<'de>>(&self, place: &str, sealed: &str) -> Option<T> {
        let plain = self.sealer.open(place, sealed, MAX_SEALED)?;
        let Versioned { v } = serde_json::from_slice(&plain).ok()?;
        if v == VERSION { serde_json::from_slice(&plain).ok() } else { None }
    }

    fn readable<T>(&self, read: Option<T>) -> Option<T> {
        if read.is_none() {
            self.meter.unreadable();
        }
        read
    }
}

#[cfg(test)]
mod tests;
