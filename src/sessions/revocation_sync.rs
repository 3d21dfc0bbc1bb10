//! Revocations in step with every other instance, by way of Redis.
//!
//! What is revoked here is written there and told at once; what is told is believed at once. Because a message can be
//! missed, the list is also fetched every [`Settings::reconcile`], whole after each new connection and now and then. A
//! random mark lies beside the list: another mark means that Redis was emptied, and whoever finds that puts back what it
//! knows. So the memory of any one instance brings the list back, and no failover loses what an instance has heard.
//!
//! Redis can only revoke: nothing read here makes a session.

use crate::clock::{self, Timestamp};
use crate::random;
use crate::redis::scripts::{PULL_REVOCATIONS, PUSH_REVOCATIONS};
use crate::redis::{CallError, Redis, Subscription};
use crate::session::ending::SessionToEnd;
use crate::session::journal::JournalError;
use crate::session::revocation::{Revocation, Target};
use crate::session::revocations::{Collapsed, Revocations};
use crate::session::token::{LEEWAY, MAX_LIFETIME};
use crate::session::{Sessions, revocation};
use crate::subject::Subject;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::sleep;

/// How revocations are kept in step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How often the list is fetched, and so how long a missed message goes unnoticed.
    pub reconcile: Duration,
    /// How old the picture may be before tokens are no longer renewed past their end.
    pub stale_after: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { reconcile: Duration::from_secs(30), stale_after: Duration::from_secs(24 * 3_600) }
    }
}

/// Revocations fetched or written in one go.
const PAGE: usize = 2_000;

/// Revocations of one moment at most: more than [`PAGE`], because several instances may write in the same millisecond.
/// With the longest text, a page has 6 MB at most.
const MAX_OF_ONE_MOMENT: usize = 10_000;

/// Members that are taken out of the list after one fetch at most: 2 MB of text. The others go after a later one.
const MAX_REMOVED: usize = 4_000;

/// Every so many fetches, the whole list: what somebody else lost comes back, what is dead goes.
const WHOLE_EVERY: u32 = 20;

/// The longest the mark outlives the last fetch.
const MARK_LIVES_MS: u64 = 3_600_000;

/// Hearing again after the connection was lost: at most after this, by chance.
const HEAR_AGAIN: Duration = Duration::from_secs(1);

/// A revocation broke off: whether it is in force is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the revocation was interrupted")]
pub struct InterruptedError;

/// What became of a revocation that is in force in this instance.
#[derive(Debug)]
pub struct Revoked {
    /// Whether a restart of this instance keeps it; none where no journal is configured.
    pub on_disk: Option<Result<(), JournalError>>,
    /// Whether every instance has it.
    pub shared: Result<(), CallError>,
}

/// The sessions of this instance, in step with those of the others.
pub struct RevocationSync {
    sessions: Arc<Sessions>,
    store: Redis,
    settings: Settings,
    pulled: Mutex<Pulled>,
    /// Somebody wants the whole list.
    whole: tokio::sync::Notify,
    /// Redis did not take something that is in force here, and gets it with the whole list.
    owed: AtomicBool,
    owing: Arc<Pending>,
}

/// What was revoked here and is not known to be in Redis. Bounded: what is beyond comes with the whole list.
#[derive(Default)]
struct Pending(parking_lot::Mutex<Vec<Revocation>>);

impl Pending {
    fn add(&self, revocation: &Revocation) {
        let mut owing = self.0.lock();
        if owing.len() < PAGE {
            owing.push(revocation.clone());
        }
    }

    fn first(&self) -> Vec<Revocation> {
        self.0.lock().iter().take(PAGE / 10).cloned().collect()
    }

    /// Drops what another entry has replaced.
    fn ack(&self, these: &[Revocation]) {
        self.0.lock().retain(|one| !these.contains(one));
    }
}

/// Where the last fetch ended.
#[derive(Default)]
struct Pulled {
    mark: Option<String>,
    /// Redis's time, in ms.
    until_ms: u64,
    count: u32,
    round: u32,
}

/// A page of the list: Redis's time (ms), the mark, how many the whole list holds, from which score on there may be more,
/// whether all of the last score are in it, and the members.
type Page = (u64, String, usize, String, u8, Vec<String>);

/// A fetch of the list.
struct Fetched {
    /// Redis's time, in ms.
    now_ms: u64,
    mark: String,
    /// How many the whole list holds.
    count: usize,
    /// Whether the fetch came to the end of the list.
    whole: bool,
    /// Members whose revocation is over, or part of another one that is in force here.
    superseded: Vec<String>,
}

impl RevocationSync {
    /// Keeps the revocations of `sessions` in step by `store`.
    pub fn new(sessions: Arc<Sessions>, store: Redis, settings: Settings) -> Self {
        if store.is_configured() {
            sessions.revocations.sync_status().set_max_staleness(settings.stale_after);
        }
        Self {
            sessions,
            store,
            settings,
            pulled: Mutex::default(),
            whole: tokio::sync::Notify::new(),
            owed: AtomicBool::new(false),
            owing: Arc::default(),
        }
    }

    /// Revokes everywhere. It is in force here when this succeeds, whatever else went wrong.
    pub async fn revoke(&self, target: Target, now: Timestamp) -> Result<Revoked, InterruptedError> {
        self.publish(move |revocations| revocations.revoke(target, now)).await
    }

    /// Ends one session everywhere, for as long as it could live.
    pub async fn end(&self, session: &SessionToEnd, now: Timestamp) -> Result<Revoked, InterruptedError> {
        let claims = session.claims().clone();
        self.publish(move |revocations| revocations.end(&claims, now)).await
    }

    /// Makes the many ended sessions of `subject` one entry, everywhere, if there are too many. `live` are the login times
    /// of the subject's sessions that live on.
    pub async fn collapse(&self, subject: &Subject, live: Vec<u64>, now: Timestamp) {
        let (sessions, subject) = (Arc::clone(&self.sessions), subject.clone());
        // The disk may be slow; an async thread must not wait for it.
        let collapsing = tokio::task::spawn_blocking(move || sessions.revocations.collapse(&subject, &live, now));
        let Ok(Some(Collapsed { in_force, replaced, on_disk })) = collapsing.await else { return };
        if let Some(Err(error)) = on_disk {
            tracing::error!(%error, "a revocation is not on the disk: a restart would forget it");
        }
        if !self.store.is_configured() {
            return;
        }
        self.owing.add(&in_force);
        self.owing.ack(&replaced);
        if self.push("revoke", std::slice::from_ref(&in_force), true).await.is_err() {
            self.owed.store(true, Ordering::Release);
            return;
        }
        self.owing.ack(std::slice::from_ref(&in_force));
        let replaced: Vec<String> = replaced.iter().map(revocation::render).collect();
        // What stays in the list goes after the next fetch of the whole.
        let _ = self.remove(&replaced).await;
    }

    async fn publish(
        &self,
        revoke: impl FnOnce(&Revocations) -> (Revocation, Option<Result<(), JournalError>>) + Send + 'static,
    ) -> Result<Revoked, InterruptedError> {
        let (sessions, owing) = (Arc::clone(&self.sessions), Arc::clone(&self.owing));
        let shares = self.store.is_configured();
        // The disk may be slow; an async thread must not wait for it.
        let request = tracing::Span::current();
        let revoking = tokio::task::spawn_blocking(move || {
            let (in_force, on_disk) = request.in_scope(|| revoke(&sessions.revocations));
            // Whoever asked may be gone before Redis has it: a browser hangs up, and its request is dropped.
            if shares {
                owing.add(&in_force);
            }
            (in_force, on_disk)
        });
        let Ok((in_force, on_disk)) = revoking.await else {
            tracing::error!("a revocation was interrupted: repeat it");
            return Err(InterruptedError);
        };
        if let Some(Err(error)) = &on_disk {
            tracing::error!(%error, "a revocation is not on the disk: a restart would forget it");
        }
        let shared = self.push("revoke", std::slice::from_ref(&in_force), true).await;
        match shared {
            Ok(()) => self.owing.ack(std::slice::from_ref(&in_force)),
            Err(_) => self.owed.store(true, Ordering::Release),
        }
        Ok(Revoked { on_disk, shared })
    }

    /// Takes a message of another instance, or our own come back.
    pub fn on_message(&self, message: &str, now: Timestamp) {
        if let Some(revocation) = read(message, now) {
            self.sessions.revocations.merge([revocation]);
        }
    }

    /// Fetches what is new, or the whole list where that is due; puts back what Redis has lost.
    ///
    /// # Errors
    /// [`Away`]; the picture stays as it was and grows older.
    pub async fn reconcile(&self, now: Timestamp, whole: bool) -> Result<(), CallError> {
        let mut pulled = self.pulled.lock().await;
        let owed = self.owed.swap(false, Ordering::AcqRel);
        let due = whole || owed || pulled.mark.is_none() || pulled.count.is_multiple_of(WHOLE_EVERY);
        // Clocks of a master and its successor differ, and a write may lie unfinished: look back a little.
        let overlap = 2 * self.settings.reconcile + Duration::from_secs(10);
        let overlap = u64::try_from(overlap.as_millis()).unwrap_or(u64::MAX);
        let from = if due { 0 } else { pulled.until_ms.saturating_sub(overlap) };
        pulled.round = pulled.round.wrapping_add(1).max(1);
        let fetched = self.pull(from, due.then_some(pulled.round), now).await.inspect_err(|_| {
            self.owed.fetch_or(owed, Ordering::AcqRel);
        })?;
        let emptied = pulled.mark.as_ref().is_some_and(|known| *known != fetched.mark);
        // A full Redis may evict the list and leave the mark.
        let lost = fetched.count < self.sessions.revocations.count_live(now);
        if (emptied || lost) && !due {
            tracing::warn!("redis was emptied: what this instance knows of revocations is put back");
            pulled.mark = None;
            drop(pulled);
            return Box::pin(self.reconcile(now, true)).await;
        }
        if due && self.put_back(&fetched, pulled.round, now).await.is_err() {
            // What others know is known here; what they lack is offered again next time.
            self.owed.store(true, Ordering::Release);
        }
        pulled.mark = Some(fetched.mark);
        pulled.until_ms = fetched.now_ms;
        pulled.count = pulled.count.wrapping_add(1);
        if fetched.whole {
            self.sessions.revocations.sync_status().mark_synced();
        } else {
            tracing::error!("the list of revocations in redis is too long to read: this instance may miss revocations");
        }
        Ok(())
    }

    /// Takes the list from `from` (ms) on, page by page. Of a whole list, notes in `round` what it holds.
    async fn pull(&self, from: u64, round: Option<u32>, now: Timestamp) -> Result<Fetched, CallError> {
        /// Beyond, a list is not read on: twice what a table holds.
        const MAX_PAGES: usize = 2 * crate::session::revocations::MAX_ENTRIES / PAGE;
        let names = self.store.keys();
        let fresh_mark = random::unique_name();
        let (mut from, mut superseded, mut whole) = (from.to_string(), Vec::new(), true);
        for page in 1.. {
            let mut script = PULL_REVOCATIONS.prepare_invoke();
            script.key(names.revoked()).key(names.mark());
            script
                .arg(&from)
                .arg(&fresh_mark)
                .arg(PAGE)
                .arg(MAX_OF_ONE_MOMENT)
                .arg(MARK_LIVES_MS)
                .arg(revocation::MAX_JSON);
            let (now_ms, mark, count, more, fits, members): Page =
                self.store.run_script("pull_revocations", &script).await?;
            for member in members {
                let needed = self.take(&member, round, now, Timestamp(now_ms / 1_000));
                if !needed && superseded.len() < MAX_REMOVED {
                    superseded.push(member);
                }
            }
            whole &= fits == 1;
            if more.is_empty() || page >= MAX_PAGES {
                whole &= more.is_empty();
                return Ok(Fetched { now_ms, mark, count, whole, superseded });
            }
            from = more;
        }
        Err(CallError::Broken)
    }

    /// Puts a member of the list in force. Says whether the list still needs it.
    fn take(&self, member: &str, round: Option<u32>, now: Timestamp, redis_now: Timestamp) -> bool {
        // Another version's, perhaps.
        let Some(listed) = revocation::read(member) else { return true };
        // A day's grace: clocks differ, and what is dropped too early lets somebody in. By this clock and by Redis's: one
        // that runs ahead must not take from all what still matters.
        let over = listed.until.saturating_add(86_400) < now.min(redis_now).0;
        let Some(listed) = bounded(listed, now) else { return !over };
        match round {
            Some(round) => self.sessions.revocations.merge_listed(listed, round),
            None => {
                self.sessions.revocations.merge([listed]);
                true
            }
        }
    }

    /// Writes what the list lacks after a whole fetch in `round`, and takes out what it needs no longer.
    async fn put_back(&self, fetched: &Fetched, round: u32, now: Timestamp) -> Result<(), CallError> {
        loop {
            let lacking = self.sessions.revocations.take_unlisted(round, PAGE, now);
            if lacking.is_empty() {
                break;
            }
            self.push("restore_revocations", &lacking, false).await?;
        }
        self.remove(&fetched.superseded).await
    }

    /// Takes `members` out of the list.
    async fn remove(&self, members: &[String]) -> Result<(), CallError> {
        for page in members.chunks(PAGE) {
            let mut command = redis::cmd("ZREM");
            command.arg(self.store.keys().revoked()).arg(page);
            self.store.ask::<u64>("drop_revocations", &command).await?;
        }
        Ok(())
    }

    async fn push(&self, kind: &'static str, revocations: &[Revocation], tell: bool) -> Result<(), CallError> {
        let names = self.store.keys();
        let mut script = PUSH_REVOCATIONS.prepare_invoke();
        script.key(names.revoked());
        let channel = names.channel();
        script.arg(if tell { channel.as_str() } else { "" });
        for revocation in revocations {
            script.arg(revocation::render(revocation)).arg(revocation.until);
        }
        self.store.run_script::<u64>(kind, &script).await.map(drop)
    }

    /// Learns what is revoked before the first check is answered, as far as Redis can be had within `patience`: who has
    /// just started must not let somebody in whom the others refuse.
    pub async fn first_look(&self, patience: Duration) {
        let look = async {
            self.store.first_attempt().await;
            if self.store.is_up() {
                let _ = self.reconcile(clock::now(), true).await;
            }
        };
        let _ = tokio::time::timeout(patience, look).await;
    }

    /// Keeps in step, for ever. Returns at once without Redis.
    pub async fn keep_in_step(&self) {
        if self.store.is_configured() {
            tokio::join!(self.keep_reconciling(), self.keep_hearing(), self.keep_paying());
        }
    }

    /// Pushes again what Redis did not take, or what nobody waited for: the others are not to learn of it a reconcile
    /// late.
    async fn keep_paying(&self) {
        loop {
            sleep(HEAR_AGAIN.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
            let owed = self.owing.first();
            if !owed.is_empty() && self.push("restore_revocations", &owed, true).await.is_ok() {
                self.owing.ack(&owed);
            }
        }
    }

    async fn keep_reconciling(&self) {
        let mut epoch = 0;
        let mut whole = true;
        loop {
            if whole && epoch > 0 {
                // All instances meet a new master at once; they need not ask it at once.
                sleep(HEAR_AGAIN.mul_f64(fastrand::f64() / 2.0)).await;
            }
            let done = self.reconcile(clock::now(), whole).await;
            // Not all at once, for those who started at once.
            let pause =
                if done.is_ok() { self.settings.reconcile.mul_f64(0.8 + 0.2 * fastrand::f64()) } else { HEAR_AGAIN };
            whole = tokio::select! {
                now = self.store.connected_since(epoch) => { epoch = now; true }
                () = self.whole.notified() => true,
                () = sleep(pause) => whole && done.is_err(),
            };
        }
    }

    async fn keep_hearing(&self) {
        let mut epoch = 0;
        loop {
            if !self.store.is_up() {
                epoch = self.store.connected_since(epoch).await;
            }
            if let Ok(hearing) = self.store.subscribe().await {
                // What was told until now may have been missed.
                self.whole.notify_one();
                self.follow(hearing).await;
            }
            sleep(HEAR_AGAIN.mul_f64(fastrand::f64()) + HEAR_AGAIN / 20).await;
        }
    }

    async fn follow(&self, mut hearing: Subscription) {
        while let Ok(message) = hearing.next().await {
            self.on_message(&message, clock::now());
        }
    }
}

/// A revocation as Redis gave it, within bounds: a wrong clock elsewhere, or a hand in Redis, must not end somebody's
/// sessions for years to come.
pub fn read(text: &str, now: Timestamp) -> Option<Revocation> {
    bounded(revocation::read(text)?, now)
}

fn bounded(mut revocation: Revocation, now: Timestamp) -> Option<Revocation> {
    let latest = (now + LEEWAY).0;
    let of_spans = !revocation.spans.is_empty();
    revocation.at = revocation.at.min(latest);
    revocation.spans.retain_mut(|span| {
        span.1 = span.1.min(latest);
        span.0 <= span.1
    });
    revocation.until = revocation.until.min((now + MAX_LIFETIME + LEEWAY).0);
    // Without spans it would end every session of its subject.
    let ends_nothing = of_spans && revocation.spans.is_empty();
    (revocation.until > now.0 && !ends_nothing).then_some(revocation)
}
