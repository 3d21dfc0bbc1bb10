//! Shares revocations with the other instances through Redis.
//!
//! A revocation is added to a list in Redis and published; an instance that receives it applies it at once. Because messages
//! can be lost, each instance also fetches the list every [`Settings::reconcile`]: the new part, or all of it after each
//! connection and from time to time. Beside the list is a random mark. If the mark changed, Redis was emptied, and the
//! instance that finds this writes its revocations back. So any instance can restore the list, also after a failover.
//!
//! What comes from Redis can only revoke sessions, never make one.

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
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::sleep;

/// How revocations are shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How often the list is fetched: the longest delay of a revocation whose message was lost.
    pub reconcile: Duration,
    /// How old the last fetch may be before tokens are no longer renewed after their expiry.
    pub stale_after: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { reconcile: Duration::from_secs(30), stale_after: Duration::from_secs(24 * 3_600) }
    }
}

/// How many revocations are fetched or written at once.
const PAGE: usize = 2_000;

/// The most revocations of one millisecond: more than [`PAGE`], because several instances may write at once. A page has at
/// most 6 MB.
const MAX_OF_ONE_SCORE: usize = 10_000;

/// The most members that are removed from the list after one fetch: 2 MB. The others are removed later.
const MAX_REMOVED: usize = 4_000;

/// Every how many fetches the whole list is fetched, to restore what is missing and remove what has expired.
const FULL_EVERY: u32 = 20;

/// How long the mark exists after the last fetch.
const MARK_TTL_MS: u64 = 3_600_000;

/// The longest pause before a retry. The pause is random.
const RETRY: Duration = Duration::from_secs(1);

/// A revocation was interrupted. It may or may not be in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the revocation was interrupted")]
pub struct InterruptedError;

/// The result of a revocation. It is in force at this instance.
#[derive(Debug)]
pub struct Revoked {
    /// The result of writing the journal; none without a journal.
    pub on_disk: Option<Result<(), JournalError>>,
    /// The result of sharing it with the other instances.
    pub shared: Result<(), CallError>,
}

/// Shares the revocations of this instance.
pub struct RevocationSync {
    sessions: Arc<Sessions>,
    store: Redis,
    settings: Settings,
    progress: Mutex<Progress>,
    /// Wakes the task that fetches the list, which then fetches all of it.
    full_fetch: tokio::sync::Notify,
    unshared: Arc<Unshared>,
}

/// The revocations of this instance that Redis may lack. Of those beyond a page it only remembers that they exist; the next
/// fetch of the whole list writes them.
#[derive(Default)]
struct Unshared(parking_lot::Mutex<(Vec<Revocation>, bool)>);

impl Unshared {
    fn add(&self, revocation: &Revocation) {
        let (revocations, overflowed) = &mut *self.0.lock();
        if revocations.len() < PAGE {
            revocations.push(revocation.clone());
        } else {
            *overflowed = true;
        }
    }

    fn first(&self) -> Vec<Revocation> {
        self.0.lock().0.iter().take(PAGE / 10).cloned().collect()
    }

    /// Removes revocations that Redis has, or that another one replaced.
    fn remove(&self, revocations: &[Revocation]) {
        self.0.lock().0.retain(|unshared| !revocations.contains(unshared));
    }

    fn take_overflow(&self) -> bool {
        std::mem::take(&mut self.0.lock().1)
    }

    fn set_overflow(&self) {
        self.0.lock().1 = true;
    }
}

/// The state after the last fetch.
#[derive(Default)]
struct Progress {
    mark: Option<String>,
    /// The time of Redis, in ms.
    fetched_ms: u64,
    count: u32,
    round: u32,
}

/// A page of the list, as `pull_revocations.lua` returns it.
type Page = (u64, String, usize, String, u8, Vec<String>);

/// A fetch of the list.
struct Fetched {
    /// The time of Redis, in ms.
    now_ms: u64,
    mark: String,
    /// The length of the whole list.
    count: usize,
    /// Whether the fetch reached the end of the list.
    complete: bool,
    /// Members that have expired or that a revocation of this instance includes.
    superseded: Vec<String>,
}

impl RevocationSync {
    /// Shares the revocations of `sessions` through `store`.
    pub fn new(sessions: Arc<Sessions>, store: Redis, settings: Settings) -> Self {
        if store.is_configured() {
            sessions.revocations.sync_status().set_max_staleness(settings.stale_after);
        }
        Self {
            sessions,
            store,
            settings,
            progress: Mutex::default(),
            full_fetch: tokio::sync::Notify::new(),
            unshared: Arc::default(),
        }
    }

    /// Revokes `target` at all instances. It is in force at this instance if this succeeds.
    pub async fn revoke(&self, target: Target, now: Timestamp) -> Result<Revoked, InterruptedError> {
        self.publish(move |revocations| revocations.revoke(target, now)).await
    }

    /// Revokes one session at all instances.
    pub async fn end(&self, session: &SessionToEnd, now: Timestamp) -> Result<Revoked, InterruptedError> {
        let claims = session.claims().clone();
        self.publish(move |revocations| revocations.end(&claims, now)).await
    }

    /// Collapses the ended sessions of `subject` at all instances, if there are too many. `live` are the login times of its
    /// live sessions.
    pub async fn collapse(&self, subject: &Subject, live: Vec<u64>, now: Timestamp) {
        let (sessions, subject) = (Arc::clone(&self.sessions), subject.clone());
        // The disk may be slow, so not on an async thread.
        let collapsing = tokio::task::spawn_blocking(move || sessions.revocations.collapse(&subject, &live, now));
        let Ok(Some(Collapsed { in_force, replaced, on_disk })) = collapsing.await else { return };
        if let Some(Err(error)) = on_disk {
            tracing::error!(%error, "cannot write a revocation to the disk: a restart loses it");
        }
        if !self.store.is_configured() {
            return;
        }
        self.unshared.add(&in_force);
        self.unshared.remove(&replaced);
        if self.push("revoke", std::slice::from_ref(&in_force), true).await.is_err() {
            return;
        }
        self.unshared.remove(std::slice::from_ref(&in_force));
        let replaced: Vec<String> = replaced.iter().map(revocation::render).collect();
        // After an error, the next fetch of the whole list removes them.
        let _ = self.remove(&replaced).await;
    }

    async fn publish(
        &self,
        revoke: impl FnOnce(&Revocations) -> (Revocation, Option<Result<(), JournalError>>) + Send + 'static,
    ) -> Result<Revoked, InterruptedError> {
        let (sessions, unshared) = (Arc::clone(&self.sessions), Arc::clone(&self.unshared));
        let is_shared = self.store.is_configured();
        // The disk may be slow, so not on an async thread.
        let request = tracing::Span::current();
        let revoking = tokio::task::spawn_blocking(move || {
            let (in_force, on_disk) = request.in_scope(|| revoke(&sessions.revocations));
            // Here, because the caller may be cancelled before Redis has it: a browser may close the connection.
            if is_shared {
                unshared.add(&in_force);
            }
            (in_force, on_disk)
        });
        let Ok((in_force, on_disk)) = revoking.await else {
            tracing::error!("a revocation was interrupted: repeat it");
            return Err(InterruptedError);
        };
        if let Some(Err(error)) = &on_disk {
            tracing::error!(%error, "cannot write a revocation to the disk: a restart loses it");
        }
        let shared = self.push("revoke", std::slice::from_ref(&in_force), true).await;
        if shared.is_ok() {
            self.unshared.remove(std::slice::from_ref(&in_force));
        }
        Ok(Revoked { on_disk, shared })
    }

    /// Applies a message of any instance.
    pub fn on_message(&self, message: &str, now: Timestamp) {
        if let Some(revocation) = read(message, now) {
            self.sessions.revocations.merge([revocation]);
        }
    }

    /// Fetches the new part of the list, or all of it if `full` or if that is due. Writes back what Redis lacks.
    ///
    /// # Errors
    /// [`CallError`]: nothing was fetched.
    pub async fn reconcile(&self, now: Timestamp, full: bool) -> Result<(), CallError> {
        let mut progress = self.progress.lock().await;
        let overflowed = self.unshared.take_overflow();
        let full = full || overflowed || progress.mark.is_none() || progress.count.is_multiple_of(FULL_EVERY);
        // With an overlap: the clocks of a master and its successor differ, and a write may be in progress.
        let overlap = 2 * self.settings.reconcile + Duration::from_secs(10);
        let overlap = u64::try_from(overlap.as_millis()).unwrap_or(u64::MAX);
        let from = if full { 0 } else { progress.fetched_ms.saturating_sub(overlap) };
        progress.round = progress.round.wrapping_add(1).max(1);
        let fetched = self.pull(from, full.then_some(progress.round), now).await.inspect_err(|_| {
            if overflowed {
                self.unshared.set_overflow();
            }
        })?;
        let emptied = progress.mark.as_ref().is_some_and(|known| *known != fetched.mark);
        // A full Redis may evict the list but not the mark.
        let lost = fetched.count < self.sessions.revocations.count_live(now);
        if (emptied || lost) && !full {
            tracing::warn!("redis lost revocations: writing them back");
            progress.mark = None;
            drop(progress);
            return Box::pin(self.reconcile(now, true)).await;
        }
        let restored = !full || self.restore(&fetched, progress.round, now).await.is_ok();
        progress.mark = Some(fetched.mark);
        progress.fetched_ms = fetched.now_ms;
        // 0 makes the next fetch a full one, which tries again.
        progress.count = if restored { progress.count.wrapping_add(1) } else { 0 };
        if fetched.complete {
            self.sessions.revocations.sync_status().mark_synced();
        } else {
            tracing::error!("the list of revocations in redis is too long: this instance may lack revocations");
        }
        Ok(())
    }

    /// Fetches the list from `from` (ms) on, page by page. `round` is the number of a fetch of the whole list.
    async fn pull(&self, from: u64, round: Option<u32>, now: Timestamp) -> Result<Fetched, CallError> {
        /// The most pages: twice the size of the table.
        const MAX_PAGES: usize = 2 * crate::session::revocations::MAX_ENTRIES / PAGE;
        let names = self.store.keys();
        let fresh_mark = random::unique_name();
        let (mut from, mut superseded, mut complete) = (from.to_string(), Vec::new(), true);
        for page in 1.. {
            let mut script = PULL_REVOCATIONS.prepare_invoke();
            script.key(names.revoked()).key(names.mark());
            script
                .arg(&from)
                .arg(&fresh_mark)
                .arg(PAGE)
                .arg(MAX_OF_ONE_SCORE)
                .arg(MARK_TTL_MS)
                .arg(revocation::MAX_JSON);
            let (now_ms, mark, count, next, all_of_score, members): Page =
                self.store.run_script("pull_revocations", &script).await?;
            for member in members {
                let needed = self.apply(&member, round, now, Timestamp(now_ms / 1_000));
                if !needed && superseded.len() < MAX_REMOVED {
                    superseded.push(member);
                }
            }
            complete &= all_of_score == 1;
            if next.is_empty() || page >= MAX_PAGES {
                complete &= next.is_empty();
                return Ok(Fetched { now_ms, mark, count, complete, superseded });
            }
            from = next;
        }
        Err(CallError::Broken)
    }

    /// Applies a member of the list. Returns whether the list still needs it.
    fn apply(&self, member: &str, round: Option<u32>, now: Timestamp, redis_now: Timestamp) -> bool {
        // It may be of another version.
        let Some(listed) = revocation::read(member) else { return true };
        // A day later, because clocks differ, and by both clocks, so that a clock that is ahead removes nothing: removing a
        // revocation too early would make its session valid again.
        let expired = listed.until.saturating_add(86_400) < now.min(redis_now).0;
        let Some(listed) = bounded(listed, now) else { return !expired };
        match round {
            Some(round) => self.sessions.revocations.merge_listed(listed, round),
            None => {
                self.sessions.revocations.merge([listed]);
                true
            }
        }
    }

    /// After a fetch of the whole list in `round`, writes what the list lacks and removes what it does not need.
    async fn restore(&self, fetched: &Fetched, round: u32, now: Timestamp) -> Result<(), CallError> {
        loop {
            let missing = self.sessions.revocations.take_unlisted(round, PAGE, now);
            if missing.is_empty() {
                break;
            }
            self.push("restore_revocations", &missing, false).await?;
        }
        self.remove(&fetched.superseded).await
    }

    /// Removes `members` from the list.
    async fn remove(&self, members: &[String]) -> Result<(), CallError> {
        for page in members.chunks(PAGE) {
            let mut command = redis::cmd("ZREM");
            command.arg(self.store.keys().revoked()).arg(page);
            self.store.query::<u64>("drop_revocations", &command).await?;
        }
        Ok(())
    }

    async fn push(&self, kind: &'static str, revocations: &[Revocation], publish: bool) -> Result<(), CallError> {
        let names = self.store.keys();
        let mut script = PUSH_REVOCATIONS.prepare_invoke();
        script.key(names.revoked());
        let channel = names.channel();
        script.arg(if publish { channel.as_str() } else { "" });
        for revocation in revocations {
            script.arg(revocation::render(revocation)).arg(revocation.until);
        }
        self.store.run_script::<u64>(kind, &script).await.map(drop)
    }

    /// Fetches the list before the first check, if Redis answers within `max_wait`: a new instance must not accept sessions
    /// that the others reject.
    pub async fn first_fetch(&self, max_wait: Duration) {
        let fetch = async {
            self.store.first_attempt().await;
            if self.store.is_up() {
                let _ = self.reconcile(clock::now(), true).await;
            }
        };
        let _ = tokio::time::timeout(max_wait, fetch).await;
    }

    /// Shares revocations forever. Returns at once without Redis.
    pub async fn run(&self) {
        if self.store.is_configured() {
            tokio::join!(self.reconcile_forever(), self.follow_messages(), self.share_again());
        }
    }

    /// Writes again what Redis lacks, so that the others have it before their next fetch.
    async fn share_again(&self) {
        loop {
            sleep(RETRY.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
            let unshared = self.unshared.first();
            if !unshared.is_empty() && self.push("restore_revocations", &unshared, true).await.is_ok() {
                self.unshared.remove(&unshared);
            }
        }
    }

    async fn reconcile_forever(&self) {
        let mut epoch = 0;
        let mut full = true;
        loop {
            if full && epoch > 0 {
                // All instances connect to a new master at the same time; spread their fetches.
                sleep(RETRY.mul_f64(fastrand::f64() / 2.0)).await;
            }
            let done = self.reconcile(clock::now(), full).await;
            // Random, because instances may have started at the same time.
            let pause = if done.is_ok() { self.settings.reconcile.mul_f64(0.8 + 0.2 * fastrand::f64()) } else { RETRY };
            full = tokio::select! {
                now = self.store.connected_since(epoch) => { epoch = now; true }
                () = self.full_fetch.notified() => true,
                () = sleep(pause) => full && done.is_err(),
            };
        }
    }

    async fn follow_messages(&self) {
        let mut epoch = 0;
        loop {
            if !self.store.is_up() {
                epoch = self.store.connected_since(epoch).await;
            }
            if let Ok(subscription) = self.store.subscribe().await {
                // Messages may have been lost before.
                self.full_fetch.notify_one();
                self.follow(subscription).await;
            }
            sleep(RETRY.mul_f64(fastrand::f64()) + RETRY / 20).await;
        }
    }

    async fn follow(&self, mut subscription: Subscription) {
        while let Ok(message) = subscription.next().await {
            self.on_message(&message, clock::now());
        }
    }
}

/// Parses a revocation from Redis and bounds its times: another instance with a wrong clock, or someone with access to
/// Redis, must not end sessions for years.
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
    // Without its spans, it would end all sessions of its subject.
    let ends_nothing = of_spans && revocation.spans.is_empty();
    (revocation.until > now.0 && !ends_nothing).then_some(revocation)
}
