//! What is to be written when Redis can take it: nobody's request waits for that.
//!
//! Two lines, one of events and one of records, so that neither crowds out the other. Each is bounded by number and by
//! bytes; what does not fit is dropped, counted, and told once. A thing leaves its line when Redis has said that it has
//! it, so whatever is lost on the way is written again: twice sometimes, never silently not at all.

use crate::redis::scripts::{CHANGE_SESSIONS, TRIM_EVENTS};
use crate::redis::{CallError, Key, Redis};
use crate::session_id::SessionId;
use crate::telemetry::OutboxMetrics;
use parking_lot::Mutex;
use redis::FromRedisValue;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// Things that wait in one line at most.
const MAX_WAITING: usize = 10_000;

/// Their bytes at most, about: an hour's logins of a large site.
const MAX_BYTES: usize = 8 * 1024 * 1024;

/// Things written in one go: few enough that Redis answers the others in between.
const BATCH_SIZE: usize = 100;

/// What Redis has refused for so long is given up: its room is for what can still be written.
const GIVE_UP_AFTER: Duration = Duration::from_secs(3_600);

/// Sessions of one subject in the list at most; beyond, those go that rested longest.
pub(super) const MAX_OF_SUBJECT: usize = 64;

/// No session ends later than this from now, two clocks' difference included: what says so is none of ours.
const FURTHEST_END: Duration = Duration::from_secs(92 * 86_400);

/// Events are gone so long after the last of them: an idle Redis ends up empty.
const EVENTS_LIVE: Duration = Duration::from_secs(7 * 86_400);

/// Events that one trim removes at most: so many of a group's events Redis reads to count them.
const MAX_TRIMMED: usize = 1_000;

/// Consumer groups that are looked at. Their names become labels.
const MAX_GROUPS: usize = 16;

/// A name that is longer is no label.
const MAX_GROUP_NAME: usize = 64;

/// How often the log says at most that events were lost.
const LOSS_LINES_APART: Duration = Duration::from_secs(60);

/// One thing of one subject.
#[derive(Clone, Debug)]
pub(super) enum Change {
    /// A session is to be listed.
    Began { sid: SessionId, ends: u64, seen: u64, sealed: String },
    /// A session was used.
    Seen { sid: SessionId, at: u64 },
    /// A session is over.
    Ended { sid: SessionId },
    /// A value is to go.
    Drop { name: Key },
    /// A value of its own.
    Put { name: Key, sealed: String, lives: Duration },
}

impl Change {
    fn bytes(&self) -> usize {
        64 + match self {
            Self::Began { sealed, .. } => sealed.len(),
            Self::Seen { .. } | Self::Ended { .. } => 0,
            Self::Drop { name } => name.as_str().len(),
            Self::Put { name, sealed, .. } => name.as_str().len() + sealed.len(),
        }
    }
}

/// A change and whose it is, by digest.
#[derive(Clone, Debug)]
struct Record {
    subject: String,
    change: Change,
}

/// An event as it goes into the stream.
#[derive(Clone, Debug)]
struct StreamEvent {
    kind: &'static str,
    fields: Vec<(&'static str, String)>,
}

/// A bounded line. Only [`Outbox::round`] takes from its front.
struct BoundedQueue<T> {
    kind: &'static str,
    waiting: Mutex<Waiting<T>>,
    /// Whether it was told that it is full.
    told: AtomicBool,
}

struct Waiting<T> {
    things: VecDeque<(Instant, usize, T)>,
    bytes: usize,
}

impl<T: Clone> BoundedQueue<T> {
    fn new(kind: &'static str) -> Self {
        let waiting = Mutex::new(Waiting { things: VecDeque::new(), bytes: 0 });
        Self { kind, waiting, told: AtomicBool::new(false) }
    }

    /// Puts a thing at the end; whether there was room.
    fn push(&self, thing: T, bytes: usize) -> bool {
        let mut waiting = self.waiting.lock();
        let fits = waiting.things.len() < MAX_WAITING && waiting.bytes + bytes <= MAX_BYTES;
        if fits {
            waiting.bytes += bytes;
            waiting.things.push_back((Instant::now(), bytes, thing));
        }
        fits
    }

    fn front(&self) -> Vec<T> {
        let waiting = self.waiting.lock();
        waiting.things.iter().take(BATCH_SIZE).map(|(_, _, thing)| thing.clone()).collect()
    }

    /// Takes what was at the front, each with what became of it: written things go, refused ones go to the end until they
    /// have waited too long, the others stay. Gives how many were given up.
    fn pop(&self, outcomes: &[Result<(), CallError>], now: Instant) -> usize {
        let mut waiting = self.waiting.lock();
        let taken = outcomes.len().min(waiting.things.len());
        let front: Vec<_> = waiting.things.drain(..taken).collect();
        let (mut stay, mut refused, mut given_up) = (Vec::new(), Vec::new(), 0);
        for (thing, outcome) in front.into_iter().zip(outcomes) {
            match outcome {
                Ok(()) => waiting.bytes -= thing.1,
                Err(CallError::Refused) if now.saturating_duration_since(thing.0) > GIVE_UP_AFTER => {
                    waiting.bytes -= thing.1;
                    given_up += 1;
                }
                Err(CallError::Refused) => refused.push(thing),
                Err(_) => stay.push(thing),
            }
        }
        waiting.things.extend(refused);
        stay.into_iter().rev().for_each(|thing| waiting.things.push_front(thing));
        given_up
    }

    fn len(&self) -> usize {
        self.waiting.lock().things.len()
    }
}

/// A consumer group as `XINFO GROUPS` describes it.
struct GroupInfo {
    label: String,
    /// None where Redis does not know it: before 7.0, or after an `XDEL` among what is unread.
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

/// A consumer group's name as a label: whoever may write to Redis may have chosen it.
fn group_label(name: &[u8]) -> String {
    let printable = std::str::from_utf8(name).ok().filter(|name| !name.chars().any(char::is_control));
    printable.filter(|name| name.len() <= MAX_GROUP_NAME).unwrap_or("other").to_owned()
}

/// What one round did.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// Whether Redis took everything it was given.
    pub went_well: bool,
    /// Sessions that were seen and are not listed.
    pub unknown: Vec<String>,
}

/// The two lines.
pub(super) struct Outbox {
    store: Redis,
    events: BoundedQueue<StreamEvent>,
    records: BoundedQueue<Record>,
    most_events: u64,
    filled: Notify,
    /// One round at a time, because only one may take from the front.
    rounds: tokio::sync::Mutex<()>,
    losses: Mutex<Losses>,
    /// Whether Redis refused the last trim.
    trim_refused: AtomicBool,
    meter: OutboxMetrics,
}

/// Lost events of which no log line tells yet, and when the last line was written.
#[derive(Default)]
struct Losses {
    logged: Option<Instant>,
    by_group: BTreeMap<String, u64>,
    /// Whether a line said that events are removed although no group reads them.
    unread: bool,
}

impl Outbox {
    pub(super) fn new(store: Redis, most_events: u64, meter: OutboxMetrics) -> Self {
        Self {
            store,
            events: BoundedQueue::new("events"),
            records: BoundedQueue::new("records"),
            most_events,
            filled: Notify::new(),
            rounds: tokio::sync::Mutex::default(),
            losses: Mutex::default(),
            trim_refused: AtomicBool::new(false),
            meter,
        }
    }

    /// Has a change of `subject` (a digest) written.
    pub(super) fn change(&self, subject: String, change: Change) {
        if self.store.is_configured() {
            let bytes = subject.len() + change.bytes();
            let fits = self.records.push(Record { subject, change }, bytes);
            self.enqueue(&self.records, fits);
        }
    }

    /// Has an event appended.
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
            self.filled.notify_one();
        } else {
            self.meter.dropped(queue.kind, "full");
            if !queue.told.swap(true, Ordering::Relaxed) {
                let (waiting, item) = (queue.len(), queue.kind);
                tracing::warn!(
                    item,
                    waiting,
                    "too much waits for redis: what comes now is dropped until there is room"
                );
            }
        }
    }

    /// Waits until something waits.
    pub(super) async fn wait_for_work(&self) {
        while self.is_empty() {
            self.filled.notified().await;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn len(&self) -> usize {
        self.events.len() + self.records.len()
    }

    /// Gives up what still waits.
    pub(super) fn abandon(&self) {
        for (kind, count) in [("events", self.events.len()), ("records", self.records.len())] {
            (0..count).for_each(|_| self.meter.dropped(kind, "ended"));
        }
    }

    /// Writes what is at the front of both lines.
    pub(super) async fn write_batch(&self) -> Batch {
        let _alone = self.rounds.lock().await;
        let mut unknown = Vec::new();
        let records = self.write_records(&mut unknown).await;
        let events = self.write_events().await;
        Batch { went_well: records && events, unknown }
    }

    async fn write_events(&self) -> bool {
        let lines = self.events.front();
        if lines.is_empty() {
            return true;
        }
        let stream = self.store.keys().events();
        let mut pipe = redis::pipe();
        // The stream stays bounded although nothing counts what is lost.
        let bounded = self.trim_refused.load(Ordering::Relaxed);
        for line in &lines {
            pipe.cmd("XADD").arg(&stream);
            if bounded {
                pipe.arg("MAXLEN").arg("~").arg(self.most_events);
            }
            pipe.arg("*").arg(&line.fields).ignore();
        }
        pipe.cmd("EXPIRE").arg(&stream).arg(EVENTS_LIVE.as_secs()).ignore();
        pipe.cmd("XLEN").arg(&stream);
        let written = self.store.pipe::<(u64,)>("append_events", &pipe).await;
        if let Ok((length,)) = written {
            lines.iter().for_each(|line| self.meter.appended(line.kind));
            if length > self.most_events {
                self.trim_events().await;
            }
        }
        self.on_written(&self.events, &vec![written.map(drop); lines.len()])
    }

    /// Removes the oldest events beyond the maximum, and records which of them a consumer group had not read.
    async fn trim_events(&self) {
        let mut script = TRIM_EVENTS.prepare_invoke();
        script.key(self.store.keys().events()).arg(self.most_events).arg(MAX_TRIMMED).arg(MAX_GROUPS);
        let trimmed = self.store.run_script::<(u64, u64, Vec<(Vec<u8>, u64)>)>("trim_events", &script).await;
        let refused = matches!(trimmed, Err(CallError::Refused | CallError::Broken));
        if refused != self.trim_refused.swap(refused, Ordering::Relaxed) && refused {
            tracing::warn!("redis refuses to count the events that are removed unread: its user may lack a right");
        }
        // The next append tries again.
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
        if losses.logged.is_none_or(|logged| now.saturating_duration_since(logged) >= LOSS_LINES_APART) {
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
        let Ok(length) = self.store.ask::<u64>("measure_lag", &length).await else { return };
        // Without a stream there is no group, and Redis calls that an error.
        let lags = if length == 0 {
            Vec::new()
        } else {
            let Ok(groups) = self.store.ask::<Vec<GroupInfo>>("measure_lag", &groups).await else { return };
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
            if matches!(outcome, Err(away) if away != CallError::Refused) {
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
        script.key(&sessions).arg(MAX_OF_SUBJECT).arg(FURTHEST_END.as_secs());
        let mut puts = redis::pipe();
        let (mut runs, mut writes) = (false, false);
        for change in changes {
            runs |= !matches!(change, Change::Put { .. } | Change::Drop { .. });
            match change {
                Change::Began { sid, ends, seen, sealed } => {
                    script.arg("B").arg(sid.to_string()).arg(format!("{ends} {seen}")).arg(sealed);
                }
                Change::Seen { sid, at } => {
                    script.arg("S").arg(sid.to_string()).arg(*at).arg("");
                }
                Change::Ended { sid } => {
                    script.arg("E").arg(sid.to_string()).arg("").arg("");
                }
                Change::Drop { name } => {
                    writes = true;
                    puts.cmd("DEL").arg(name).ignore();
                }
                Change::Put { name, sealed, lives } => {
                    writes = true;
                    puts.cmd("SET").arg(name).arg(sealed).arg("EX").arg(lives.as_secs().max(1)).ignore();
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

    /// Notes what became of the front; whether all of it was written.
    fn on_written<T: Clone>(&self, queue: &BoundedQueue<T>, outcomes: &[Result<(), CallError>]) -> bool {
        let given_up = queue.pop(outcomes, Instant::now());
        (0..given_up).for_each(|_| self.meter.dropped(queue.kind, "refused"));
        let left = queue.len();
        self.meter.waiting(queue.kind, left);
        if left < MAX_WAITING / 2 && queue.told.swap(false, Ordering::Relaxed) {
            tracing::info!(item = queue.kind, waiting = left, "redis takes what waited: there is room again");
        }
        outcomes.iter().all(Result::is_ok)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_bounded_by_number_and_by_bytes() {
        let queue = BoundedQueue::new("events");
        assert!((0..MAX_WAITING).all(|number| queue.push(number, 1)));
        assert!(!queue.push(0, 1));
        let queue = BoundedQueue::new("events");
        assert!(queue.push(0, MAX_BYTES) && !queue.push(1, 1));
        queue.pop(&[Ok(())], Instant::now());
        assert!(queue.push(1, MAX_BYTES), "what is written gives its room back");
    }

    #[test]
    fn what_is_not_written_stays_in_its_order_and_what_is_refused_lets_others_pass() {
        let queue = BoundedQueue::new("records");
        (1..=6).for_each(|number| assert!(queue.push(number, 1)));
        let outcomes =
            [Ok(()), Err(CallError::Refused), Err(CallError::TimedOut), Err(CallError::Refused), Err(CallError::Down)];
        queue.pop(&outcomes, Instant::now());
        assert_eq!(queue.front(), [3, 5, 6, 2, 4]);
    }

    #[test]
    fn what_redis_refuses_for_an_hour_is_given_up() {
        let queue = BoundedQueue::new("records");
        assert!(queue.push(1, 7));
        let (now, later) = (Instant::now(), Instant::now() + 2 * GIVE_UP_AFTER);
        assert_eq!(queue.pop(&[Err(CallError::Refused)], now), 0);
        assert_eq!(queue.pop(&[Err(CallError::Down)], later), 0, "redis being away is nobody's error");
        assert_eq!(queue.pop(&[Err(CallError::Refused)], later), 1);
        assert_eq!((queue.len(), queue.waiting.lock().bytes), (0, 0));
    }

    #[test]
    fn without_redis_nothing_waits() {
        let outbox = Outbox::new(Redis::none(), 10, OutboxMetrics::default());
        outbox.append("login", vec![("v", "1".into())]);
        outbox.change("d".into(), Change::Ended { sid: SessionId::named("s") });
        assert!(outbox.is_empty());
    }
}
