//! The outbox: what is written to Redis in the background, so that no request waits for it.
//!
//! There is a queue of events and a queue of changes, so that neither displaces the other. Both are bounded in number and
//! bytes; what does not fit is dropped and counted, and the log says so once. An item leaves its queue when Redis has
//! confirmed it. So after an error it is written again, sometimes twice, but never lost silently.

mod queue;

use crate::redis::scripts::{CHANGE_SESSIONS, TRIM_EVENTS};
use crate::redis::{CallError, Key, Redis};
use crate::session_id::SessionId;
use crate::telemetry::OutboxMetrics;
use parking_lot::Mutex;
use queue::{BoundedQueue, MAX_WAITING};
use redis::FromRedisValue;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// How many items are written at once: few enough that Redis answers other clients in between.
const BATCH_SIZE: usize = 100;

/// The most sessions of one subject in Redis. Beyond that, the least recently used ones are removed.
pub(super) const MAX_OF_SUBJECT: usize = 64;

/// The longest remaining lifetime of a session, including the difference of two clocks.
const MAX_REMAINING: Duration = Duration::from_secs(92 * 86_400);

/// How long the stream exists after its last event.
const EVENTS_TTL: Duration = Duration::from_secs(7 * 86_400);

/// The most events that one trim removes: Redis reads as many to count the unread ones.
const MAX_TRIMMED: usize = 1_000;

/// The most consumer groups that are measured. Their names become labels.
const MAX_GROUPS: usize = 16;

/// The length of the longest group name that becomes a label.
const MAX_GROUP_NAME: usize = 64;

/// The shortest time between two log lines about lost events.
const LOSS_LOG_INTERVAL: Duration = Duration::from_secs(60);

/// A change of the records of one subject.
#[derive(Clone, Debug)]
pub(super) enum Change {
    /// A session started.
    Started { sid: SessionId, ends: u64, seen: u64, sealed: String },
    /// A session was used.
    Used { sid: SessionId, at: u64 },
    /// A session ended.
    Ended { sid: SessionId },
    /// A record is deleted.
    Delete { name: Key },
    /// A record is written.
    Put { name: Key, sealed: String, ttl: Duration },
}

impl Change {
    fn bytes(&self) -> usize {
        64 + match self {
            Self::Started { sealed, .. } => sealed.len(),
            Self::Used { .. } | Self::Ended { .. } => 0,
            Self::Delete { name } => name.as_str().len(),
            Self::Put { name, sealed, .. } => name.as_str().len() + sealed.len(),
        }
    }
}

/// A change and the digest of its subject.
#[derive(Clone, Debug)]
struct Record {
    subject: String,
    change: Change,
}

/// An event of the stream.
#[derive(Clone, Debug)]
struct StreamEvent {
    kind: &'static str,
    fields: Vec<(&'static str, String)>,
}

/// A consumer group as `XINFO GROUPS` describes it.
struct GroupInfo {
    label: String,
    /// None if Redis does not know it: before 7.0, or after an `XDEL` of unread events.
    lag: Option<u64>,
}

impl FromRedisValue for GroupInfo {
    fn from_redis_value(value: redis::Value) -> Result<Self, redis::ParsingError> {
        let mut fields: HashMap<String, redis::Value> = redis::from_redis_value(value)?;
        let name: Vec<u8> = fields.remove("name").map_or(Ok(Vec::new()), redis::from_redis_value)?;
        let lag = fields.remove("lag").map_or(Ok(None), redis::from_redis_value)?;
        Ok(Self { label: group_label(&name), lag })
    }
}

/// The name of a consumer group as a label. Any client of Redis may have chosen it.
fn group_label(name: &[u8]) -> String {
    let printable = std::str::from_utf8(name).ok().filter(|name| !name.chars().any(char::is_control));
    printable.filter(|name| name.len() <= MAX_GROUP_NAME).unwrap_or("other").to_owned()
}

/// The result of writing a batch.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// Whether Redis accepted everything.
    pub succeeded: bool,
    /// Used sessions that Redis does not know.
    pub unknown: Vec<String>,
}

/// The two queues.
pub(super) struct Outbox {
    store: Redis,
    events: BoundedQueue<StreamEvent>,
    records: BoundedQueue<Record>,
    most_events: u64,
    not_empty: Notify,
    /// One batch at a time, because only one may read the front.
    batches: tokio::sync::Mutex<()>,
    losses: Mutex<Losses>,
    /// Whether Redis refused the last trim.
    trim_refused: AtomicBool,
    meter: OutboxMetrics,
}

/// The lost events since the last log line, and its time.
#[derive(Default)]
struct Losses {
    logged: Option<Instant>,
    by_group: BTreeMap<String, u64>,
    /// Whether the log says that events are removed although no group reads them.
    unread: bool,
}

impl Outbox {
    pub(super) fn new(store: Redis, most_events: u64, meter: OutboxMetrics) -> Self {
        Self {
            store,
            events: BoundedQueue::new("events"),
            records: BoundedQueue::new("records"),
            most_events,
            not_empty: Notify::new(),
            batches: tokio::sync::Mutex::default(),
            losses: Mutex::default(),
            trim_refused: AtomicBool::new(false),
            meter,
        }
    }

    /// Enqueues a change of `subject`, given by its digest.
    pub(super) fn change(&self, subject: String, change: Change) {
        if self.store.is_configured() {
            let bytes = subject.len() + change.bytes();
            let fits = self.records.push(Record { subject, change }, bytes);
            self.enqueue(&self.records, fits);
        }
    }

    /// Enqueues an event.
    pub(super) fn append(&self, kind: &'static str, fields: Vec<(&'static str, String)>) {
        if self.store.is_configured() {
            let bytes = fields.iter().map(|(name, value)| 48 + name.len() + value.len()).sum();
            let fits = self.events.push(StreamEvent { kind, fields }, bytes);
            self.enqueue(&self.events, fits);
        }
    }

    fn enqueue<T: Clone>(&self, queue: &BoundedQueue<T>, fits: bool) {
        if fits {
            self.meter.waiting(queue.kind, queue.len());
            self.not_empty.notify_one();
        } else {
            self.meter.dropped(queue.kind, "full");
            if !queue.full_logged.swap(true, Ordering::Relaxed) {
                let (waiting, item) = (queue.len(), queue.kind);
                tracing::warn!(item, waiting, "the queue for redis is full: dropping new items");
            }
        }
    }

    /// Waits until a queue holds an item.
    pub(super) async fn wait_for_work(&self) {
        while self.is_empty() {
            self.not_empty.notified().await;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn len(&self) -> usize {
        self.events.len() + self.records.len()
    }

    /// Counts what is left as dropped.
    pub(super) fn abandon(&self) {
        for (kind, count) in [("events", self.events.len()), ("records", self.records.len())] {
            (0..count).for_each(|_| self.meter.dropped(kind, "ended"));
        }
    }

    /// Writes the front of both queues.
    pub(super) async fn write_batch(&self) -> Batch {
        let _alone = self.batches.lock().await;
        let mut unknown = Vec::new();
        let records = self.write_records(&mut unknown).await;
        let events = self.write_events().await;
        Batch { succeeded: records && events, unknown }
    }

    async fn write_events(&self) -> bool {
        let events = self.events.front();
        if events.is_empty() {
            return true;
        }
        let stream = self.store.keys().events();
        let mut pipe = redis::pipe();
        // If Redis refuses the script that counts lost events, trim without it.
        let bounded = self.trim_refused.load(Ordering::Relaxed);
        for event in &events {
            pipe.cmd("XADD").arg(&stream);
            if bounded {
                pipe.arg("MAXLEN").arg("~").arg(self.most_events);
            }
            pipe.arg("*").arg(&event.fields).ignore();
        }
        pipe.cmd("EXPIRE").arg(&stream).arg(EVENTS_TTL.as_secs()).ignore();
        pipe.cmd("XLEN").arg(&stream);
        let written = self.store.pipe::<(u64,)>("append_events", &pipe).await;
        if let Ok((length,)) = written {
            events.iter().for_each(|event| self.meter.appended(event.kind));
            if length > self.most_events {
                self.trim_events().await;
            }
        }
        self.on_written(&self.events, &vec![written.map(drop); events.len()])
    }

    /// Removes the oldest events beyond the maximum, and records which of them a consumer group had not read.
    async fn trim_events(&self) {
        let mut script = TRIM_EVENTS.prepare_invoke();
        script.key(self.store.keys().events()).arg(self.most_events).arg(MAX_TRIMMED).arg(MAX_GROUPS);
        let trimmed = self.store.run_script::<(u64, u64, Vec<(Vec<u8>, u64)>)>("trim_events", &script).await;
        let refused = matches!(trimmed, Err(CallError::Refused | CallError::Broken));
        if refused != self.trim_refused.swap(refused, Ordering::Relaxed) && refused {
            tracing::warn!("redis refuses to count the events that are removed unread: its user may lack a permission");
        }
        // After an error, the next append tries again.
        let Ok((removed, groups, lost)) = trimmed else { return };
        self.meter.trimmed(removed);
        let mut losses = self.losses.lock();
        if groups == 0 && removed > 0 && !losses.unread {
            losses.unread = true;
            tracing::warn!(
                removed,
                max = self.most_events,
                "events that no consumer group has read are removed from the stream: redis.events.max is reached"
            );
        }
        for (group, lost) in lost.into_iter().filter(|(_, lost)| *lost > 0) {
            let group = group_label(&group);
            self.meter.lost(&group, lost);
            *losses.by_group.entry(group).or_default() += lost;
        }
        let now = Instant::now();
        if losses.logged.is_none_or(|logged| now.saturating_duration_since(logged) >= LOSS_LOG_INTERVAL) {
            for (group, lost) in std::mem::take(&mut losses.by_group) {
                losses.logged = Some(now);
                tracing::warn!(
                    group,
                    lost,
                    max = self.most_events,
                    "events were removed from the stream before this consumer group had read them"
                );
            }
        }
    }

    /// Measures how far each consumer group lags behind the stream.
    pub(super) async fn measure_lag(&self) {
        if !self.store.is_up() {
            return;
        }
        let stream = self.store.keys().events();
        let (mut length, mut groups) = (redis::cmd("XLEN"), redis::cmd("XINFO"));
        length.arg(&stream);
        groups.arg("GROUPS").arg(&stream);
        let Ok(length) = self.store.query::<u64>("measure_lag", &length).await else { return };
        // Without a stream, XINFO GROUPS is an error.
        let lags = if length == 0 {
            Vec::new()
        } else {
            let Ok(groups) = self.store.query::<Vec<GroupInfo>>("measure_lag", &groups).await else { return };
            groups.into_iter().map(|group| (group.label, group.lag.unwrap_or(length))).collect()
        };
        self.meter.lags(lags.into_iter().take(MAX_GROUPS));
    }

    async fn write_records(&self, unknown: &mut Vec<String>) -> bool {
        let records = self.records.front();
        let mut outcomes: Vec<Result<(), CallError>> = vec![Err(CallError::Down); records.len()];
        let mut subjects: Vec<&str> = Vec::new();
        for record in &records {
            if !subjects.contains(&record.subject.as_str()) {
                subjects.push(&record.subject);
            }
        }
        for subject in subjects {
            let own: Vec<&Change> =
                records.iter().filter(|record| record.subject == subject).map(|record| &record.change).collect();
            let outcome = self.write_subject(subject, &own, unknown).await;
            let whose = records.iter().map(|record| record.subject == subject);
            outcomes.iter_mut().zip(whose).filter(|(_, own)| *own).for_each(|(place, _)| *place = outcome);
            if matches!(outcome, Err(error) if error != CallError::Refused) {
                break;
            }
        }
        records.is_empty() || self.on_written(&self.records, &outcomes)
    }

    async fn write_subject(
        &self,
        subject: &str,
        changes: &[&Change],
        unknown: &mut Vec<String>,
    ) -> Result<(), CallError> {
        let sessions = self.store.keys().of_subject(subject, "sessions");
        let mut script = CHANGE_SESSIONS.prepare_invoke();
        script.key(&sessions).arg(MAX_OF_SUBJECT).arg(MAX_REMAINING.as_secs());
        let mut puts = redis::pipe();
        let (mut runs, mut writes) = (false, false);
        for change in changes {
            runs |= !matches!(change, Change::Put { .. } | Change::Delete { .. });
            match change {
                Change::Started { sid, ends, seen, sealed } => {
                    script.arg("B").arg(sid.to_string()).arg(format!("{ends} {seen}")).arg(sealed);
                }
                Change::Used { sid, at } => {
                    script.arg("S").arg(sid.to_string()).arg(*at).arg("");
                }
                Change::Ended { sid } => {
                    script.arg("E").arg(sid.to_string()).arg("").arg("");
                }
                Change::Delete { name } => {
                    writes = true;
                    puts.cmd("DEL").arg(name).ignore();
                }
                Change::Put { name, sealed, ttl } => {
                    writes = true;
                    puts.cmd("SET").arg(name).arg(sealed).arg("EX").arg(ttl.as_secs().max(1)).ignore();
                }
            }
        }
        if runs {
            unknown.extend(self.store.run_script::<Vec<String>>("update_sessions", &script).await?);
        }
        if writes {
            self.store.pipe::<()>("put_records", &puts).await?;
        }
        Ok(())
    }

    /// Applies the results to the front of the queue. Returns whether all were written.
    fn on_written<T: Clone>(&self, queue: &BoundedQueue<T>, outcomes: &[Result<(), CallError>]) -> bool {
        let given_up = queue.pop(outcomes, Instant::now());
        (0..given_up).for_each(|_| self.meter.dropped(queue.kind, "refused"));
        let left = queue.len();
        self.meter.waiting(queue.kind, left);
        if left < MAX_WAITING / 2 && queue.full_logged.swap(false, Ordering::Relaxed) {
            tracing::info!(item = queue.kind, waiting = left, "the queue for redis has room again");
        }
        outcomes.iter().all(Result::is_ok)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_redis_the_queues_stay_empty() {
        let outbox = Outbox::new(Redis::none(), 10, OutboxMetrics::default());
        outbox.append("login", vec![("v", "1".into())]);
        outbox.change("d".into(), Change::Ended { sid: SessionId::named("s") });
        assert!(outbox.is_empty());
    }
}
