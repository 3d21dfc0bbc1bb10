//! Revocations: the sessions that are no longer valid although their tokens are.
//!
//! By session id, subject or application; never by the bytes of a token. They stay in memory until all sessions that they end
//! have expired. A journal, if configured, restores them at start.
//!
//! Memory is bounded, and no revocation is lost. Many ended sessions of one subject are collapsed into one entry with spans of
//! login times. If the table is full, one entry that ends all sessions replaces it: that may turn an allow into a deny, but
//! never the reverse.

use super::claims::Claims;
use super::journal::{Journal, JournalError};
pub use super::revocation::{Revocation, RevocationSubject, SubjectDigest, Target};
use super::sync_status::SyncStatus;
use super::table::Table;
use crate::clock::Timestamp;
use crate::subject::Subject;
use parking_lot::{Mutex, RwLock};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The most entries. Each takes at most 260 bytes: 50 MiB for all.
pub const MAX_ENTRIES: usize = 200_000;

/// The revocations of this instance.
pub struct Revocations {
    table: RwLock<Table>,
    /// Grows with each change. A session that was not revoked at this version is not looked up again.
    version: AtomicU64,
    journal: Option<Mutex<Journal>>,
    /// The longest lifetime of a session.
    max_lifetime: Duration,
    /// When this was created, by both clocks. A revocation expires by the earlier of them, so that a wall clock that is ahead
    /// for a moment removes nothing.
    created: (Timestamp, Instant),
    sync_status: SyncStatus,
}

/// The result of collapsing the ended sessions of a subject.
#[derive(Debug)]
pub struct Collapsed {
    /// The new entry.
    pub in_force: Revocation,
    /// The entries that it replaces.
    pub replaced: Vec<Revocation>,
    /// The result of writing the journal, if there is one.
    pub on_disk: Option<Result<(), JournalError>>,
}

impl Revocations {
    /// Revocations with those that `journal` restored.
    pub fn new(max_lifetime: Duration, journal: Option<(Journal, Vec<Revocation>)>, now: Timestamp) -> Self {
        let (journal, restored) = journal.map_or((None, Vec::new()), |(journal, restored)| (Some(journal), restored));
        let revocations = Self {
            table: RwLock::default(),
            version: AtomicU64::new(1),
            journal: journal.map(Mutex::new),
            max_lifetime,
            created: (now, Instant::now()),
            sync_status: SyncStatus::default(),
        };
        for revocation in restored {
            let _ = revocations.insert(revocation);
        }
        revocations
    }

    /// How recently this instance has read the revocations of the others.
    pub fn sync_status(&self) -> &SyncStatus {
        &self.sync_status
    }

    /// Revokes `target` until no session that it ends can be alive; see [`Self::revoke_until`].
    pub fn revoke(&self, target: Target, now: Timestamp) -> (Revocation, Option<Result<(), JournalError>>) {
        self.revoke_until(target, now + self.max_lifetime, now)
    }

    /// Revokes the session of `claims` until it would have expired.
    pub fn end(&self, claims: &Claims, now: Timestamp) -> (Revocation, Option<Result<(), JournalError>>) {
        let subject = SubjectDigest::of(claims.sub.as_str());
        self.record(Revocation::of_session(claims.sid, subject, claims.auth_time, now.0, claims.session_exp), now)
    }

    /// Whether the ended sessions of `subject` are numerous enough to collapse them.
    pub fn wants_collapse(&self, subject: &Subject) -> bool {
        self.table.read().wants_collapse(SubjectDigest::of(subject.as_str()))
    }

    /// Collapses the ended sessions of `subject`, except the newest, into one entry that ends all sessions which started at
    /// or between their login times. It has gaps at the login times of the `live` sessions. Blocks while it writes the
    /// journal.
    pub fn collapse(&self, subject: &Subject, live: &[u64], now: Timestamp) -> Option<Collapsed> {
        let collapsed = self.table.write().collapse(SubjectDigest::of(subject.as_str()), live);
        let (in_force, replaced) = collapsed?;
        self.version.fetch_add(1, Ordering::Release);
        let on_disk = self.journal.as_ref().map(|journal| self.write(journal, &in_force, now));
        Some(Collapsed { in_force, replaced, on_disk })
    }

    /// Revokes `target` until `until`, in memory and then in the journal. Blocks while it writes the journal. Returns the
    /// revocation and the result of the journal, if there is one: after an error, a restart loses the revocation.
    pub fn revoke_until(
        &self,
        target: Target,
        until: Timestamp,
        now: Timestamp,
    ) -> (Revocation, Option<Result<(), JournalError>>) {
        self.record(Revocation::new(target, now.0, until.0), now)
    }

    fn record(&self, revocation: Revocation, now: Timestamp) -> (Revocation, Option<Result<(), JournalError>>) {
        let in_force = self.insert(revocation);
        let on_disk = self.journal.as_ref().map(|journal| self.write(journal, &in_force, now));
        (in_force, on_disk)
    }

    fn write(&self, journal: &Mutex<Journal>, revocation: &Revocation, now: Timestamp) -> Result<(), JournalError> {
        let mut journal = journal.lock();
        journal.append(revocation)?;
        if journal.wants_compaction(self.len()) {
            journal.compact(&self.live(now))?;
        }
        Ok(())
    }

    /// Adds revocations of other instances.
    pub fn merge(&self, others: impl IntoIterator<Item = Revocation>) {
        for other in others {
            let known = self.table.read().includes(&other);
            if !known {
                let _ = self.insert(other);
            }
        }
    }

    /// Adds `listed`, which the shared list contained in `round`. Returns whether the entry here equals it; otherwise the
    /// entry includes more, and the list does not need `listed` any more.
    pub(crate) fn merge_listed(&self, listed: Revocation, round: u32) -> bool {
        if !self.table.read().includes(&listed) {
            let _ = self.insert(listed.clone());
        }
        self.table.write().mark_listed(&listed, round)
    }

    /// At most `count` revocations that have not expired at `now` and were not in the shared list in `round`. Marks them as
    /// listed.
    pub(crate) fn take_unlisted(&self, round: u32, count: usize, now: Timestamp) -> Vec<Revocation> {
        let now = self.clamp_to_monotonic(now);
        self.table.write().take_unlisted(round, count, now.0)
    }

    /// Whether `session` is revoked. `seen` stores the version at which it was last looked up.
    pub fn is_revoked<'a>(&self, session: impl Into<RevocationSubject<'a>>, seen: &AtomicU64) -> bool {
        let version = self.version.load(Ordering::Acquire);
        if seen.load(Ordering::Relaxed) == version {
            return false;
        }
        let table = self.table.read();
        if table.is_empty() {
            // The usual case. Hashing the subject would cost more than the rest of the look-up.
            seen.store(version, Ordering::Relaxed);
            return false;
        }
        let covered = table.covers(session.into());
        if !covered {
            seen.store(version, Ordering::Relaxed);
        }
        covered
    }

    /// Removes expired revocations, and compacts the journal if needed.
    pub fn sweep(&self, now: Timestamp) {
        self.compact_journal(now);
        let now = self.clamp_to_monotonic(now);
        self.table.write().remove_expired(now.0);
    }

    /// The number of entries.
    pub fn len(&self) -> usize {
        self.table.read().len()
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// `now`, but no later than the monotonic clock allows.
    fn clamp_to_monotonic(&self, now: Timestamp) -> Timestamp {
        let (wall, monotonic) = self.created;
        now.min(wall + monotonic.elapsed() + super::token::LEEWAY)
    }

    fn compact_journal(&self, now: Timestamp) {
        let Some(journal) = &self.journal else { return };
        let mut journal = journal.lock();
        if journal.wants_compaction(self.len())
            && let Err(error) = journal.compact(&self.live(now))
        {
            tracing::warn!(%error, "cannot compact the journal");
        }
    }

    /// The revocations that have not expired at `now`.
    pub(crate) fn live(&self, now: Timestamp) -> Vec<Revocation> {
        let now = self.clamp_to_monotonic(now);
        let table = self.table.read();
        table.live(now.0).collect()
    }

    /// The number of revocations that have not expired at `now`.
    pub(crate) fn count_live(&self, now: Timestamp) -> usize {
        let now = self.clamp_to_monotonic(now);
        let table = self.table.read();
        table.count_live(now.0)
    }

    /// Adds `revocation`. Returns it, or the one that ends all sessions if the table is full.
    fn insert(&self, revocation: Revocation) -> Revocation {
        let mut table = self.table.write();
        let mut in_force = revocation;
        if table.len() >= MAX_ENTRIES && !table.has_entry_for(&in_force) {
            table.remove_expired(self.clamp_to_monotonic(Timestamp(in_force.at)).0);
            if table.len() >= MAX_ENTRIES {
                tracing::error!(max = MAX_ENTRIES, "the table of revocations is full: revoked all sessions");
                in_force = table.end_everyone(&in_force);
            }
        }
        if !table.insert(&in_force) {
            return in_force;
        }
        drop(table);
        self.version.fetch_add(1, Ordering::Release);
        in_force
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::tests::claims;
    use crate::session_id::SessionId;

    fn covers(revocations: &Revocations, claims: &Claims) -> bool {
        revocations.is_revoked(claims, &AtomicU64::new(0))
    }

    fn target(kind: usize) -> Target {
        match kind {
            0 => Target::Session(SessionId::named("sid")),
            1 => Target::subject(&"wx:wx0123456789abcdef:oAlice".parse().unwrap()),
            _ => Target::App("shop".parse().unwrap()),
        }
    }

    #[test]
    fn a_session_a_subject_and_an_application_can_be_revoked() {
        for kind in 0..3 {
            let revocations = Revocations::new(Duration::from_secs(1_000), None, Timestamp(0));
            let alice = claims(Timestamp(100));
            assert!(!covers(&revocations, &alice));
            revocations.revoke(target(kind), Timestamp(150));
            assert!(covers(&revocations, &alice));
        }
    }

    #[test]
    fn a_login_after_the_revocation_is_valid_and_the_session_never() {
        for (kind, covered) in [(0, true), (1, false), (2, false)] {
            let revocations = Revocations::new(Duration::from_secs(1_000), None, Timestamp(0));
            revocations.revoke(target(kind), Timestamp(150));
            assert_eq!(covers(&revocations, &claims(Timestamp(151))), covered, "{:?}", target(kind));
        }
    }

    #[test]
    fn a_looked_up_session_is_looked_up_again_after_a_change() {
        let revocations = Revocations::new(Duration::from_secs(1_000), None, Timestamp(0));
        let (alice, seen) = (claims(Timestamp(100)), AtomicU64::new(0));
        assert!(!revocations.is_revoked(&alice, &seen));
        revocations.revoke(target(0), Timestamp(150));
        assert!(revocations.is_revoked(&alice, &seen));
        assert!(revocations.is_revoked(&alice, &seen));
    }

    #[test]
    fn an_entry_goes_when_no_session_it_concerns_can_be_alive() {
        let revocations = Revocations::new(Duration::from_secs(1_000), None, Timestamp(2_000));
        revocations.revoke(target(0), Timestamp(150));
        revocations.sweep(Timestamp(1_149));
        assert_eq!(revocations.len(), 1);
        revocations.sweep(Timestamp(1_150));
        assert_eq!(revocations.len(), 0);
    }

    #[test]
    fn a_clock_that_runs_ahead_for_a_moment_forgets_nothing() {
        let revocations = Revocations::new(Duration::from_secs(1_000), None, Timestamp(100));
        revocations.revoke(target(0), Timestamp(150));
        revocations.sweep(Timestamp(400_000_000));
        assert!(covers(&revocations, &claims(Timestamp(100))));
    }

    #[test]
    fn a_full_table_ends_everybody_rather_than_forget_one() {
        let revocations = Revocations::new(Duration::from_secs(1_000_000), None, Timestamp(0));
        revocations.revoke(target(0), Timestamp(100));
        for number in 0..MAX_ENTRIES {
            let claims = Claims { sub: Subject::from_unionid(&number.to_string()).unwrap(), ..claims(Timestamp(100)) };
            revocations.end(&claims, Timestamp(200));
        }
        assert!(revocations.len() <= MAX_ENTRIES);
        assert!(covers(&revocations, &claims(Timestamp(100))));
        assert!(!covers(&revocations, &Claims { sid: SessionId::named("new"), ..claims(Timestamp(201)) }));
    }

    #[test]
    fn a_restart_does_not_forget_that_everybody_was_ended() {
        let directory = tempfile::tempdir().unwrap();
        let journal = Journal::open(directory.path(), Timestamp(0)).unwrap();
        let revocations = Revocations::new(Duration::from_secs(1_000), Some(journal), Timestamp(0));
        revocations.revoke(Target::Everyone(()), Timestamp(150));
        drop(revocations);
        let journal = Journal::open(directory.path(), Timestamp(160)).unwrap();
        let revocations = Revocations::new(Duration::from_secs(1_000), Some(journal), Timestamp(0));
        assert!(covers(&revocations, &claims(Timestamp(150))) && !covers(&revocations, &claims(Timestamp(151))));
    }

    /// Ends `count` sessions of Alice's, one a second from `first` on.
    fn end_many(revocations: &Revocations, first: u64, count: u64) -> Vec<Claims> {
        let ended: Vec<Claims> =
            (first..first + count).map(|at| Claims { sid: SessionId::random(), ..claims(Timestamp(at)) }).collect();
        ended.iter().for_each(|claims| drop(revocations.end(claims, Timestamp(claims.auth_time + 1))));
        ended
    }

    #[test]
    fn one_subject_fills_no_table_and_logs_out_nobody_else() {
        let revocations = Revocations::new(Duration::from_secs(1_000_000), None, Timestamp(0));
        let bob = Claims { sub: "wx:wx0123456789abcdef:oBob".parse().unwrap(), ..claims(Timestamp(1_000)) };
        let ended: Vec<Claims> =
            (0..3_000).flat_map(|round| end_many(&revocations, 1_000 + 100 * round, 100)).collect();
        assert!(ended.len() > MAX_ENTRIES && revocations.len() <= 130, "{}", revocations.len());
        assert!(ended.iter().all(|claims| covers(&revocations, claims)));
        assert!(!covers(&revocations, &bob));
        assert!(!covers(&revocations, &Claims { sid: SessionId::named("new"), ..claims(Timestamp(400_000)) }));
        assert!(
            !covers(&revocations, &Claims { sid: SessionId::named("old"), ..claims(Timestamp(999)) }),
            "before all of them"
        );
    }

    #[test]
    fn sessions_that_live_on_are_gaps_in_the_one_entry() {
        let revocations = Revocations::new(Duration::from_secs(1_000_000), None, Timestamp(0));
        let alice = claims(Timestamp(1)).sub;
        let live: Vec<Claims> = [500, 1_010, 1_030, 1_031, 2_000]
            .map(|at| Claims { sid: SessionId::random(), ..claims(Timestamp(at)) })
            .into();
        let times: Vec<u64> = live.iter().map(|claims| claims.auth_time).collect();
        let mut ended = Vec::new();
        for round in 0..40 {
            ended.extend(end_many(&revocations, 1_000 + 25 * round, 25));
            if revocations.wants_collapse(&alice) {
                let collapsed = revocations.collapse(&alice, &times, Timestamp(3_000)).unwrap();
                assert!(collapsed.replaced.len() >= 20, "{collapsed:?}");
            }
            assert!(live.iter().all(|claims| !covers(&revocations, claims)), "round {round}");
        }
        assert!(ended.iter().all(|claims| covers(&revocations, claims)));
        assert!(revocations.len() < 50, "{}", revocations.len());
    }

    #[test]
    fn with_more_gaps_than_an_entry_holds_the_oldest_sessions_end() {
        let revocations = Revocations::new(Duration::from_secs(1_000_000), None, Timestamp(0));
        let alice = claims(Timestamp(1)).sub;
        let live: Vec<u64> = (0..30).map(|number| 1_005 + 10 * number).collect();
        let ended: Vec<Claims> = (0..30).flat_map(|number| end_many(&revocations, 1_000 + 10 * number, 2)).collect();
        revocations.collapse(&alice, &live, Timestamp(3_000)).unwrap();
        assert!(ended.iter().all(|claims| covers(&revocations, claims)));
        let alive =
            |at: &u64| !covers(&revocations, &Claims { sid: SessionId::named("live"), ..claims(Timestamp(*at)) });
        let living: Vec<u64> = live.iter().copied().filter(alive).collect();
        assert_eq!(living, live[live.len() - living.len()..], "the newest live on");
        assert!(living.len() >= super::super::revocation::MAX_SPANS - 1, "{living:?}");
    }

    #[test]
    fn the_order_in_which_revocations_come_does_not_matter() {
        let (all, alice) =
            (Revocations::new(Duration::from_secs(1_000_000), None, Timestamp(0)), claims(Timestamp(1)).sub);
        let ended = end_many(&all, 1_000, 40);
        let single = all.live(Timestamp(2_000));
        let entry = all.collapse(&alice, &[1_015], Timestamp(2_000)).unwrap().in_force;
        let one = |before: &[Revocation], after: &[Revocation]| {
            let other = Revocations::new(Duration::from_secs(1_000_000), None, Timestamp(0));
            other.merge(before.iter().cloned());
            other.merge(after.iter().cloned());
            (ended.iter().all(|claims| covers(&other, claims)), other.len())
        };
        let entry = std::slice::from_ref(&entry);
        assert_eq!(one(&single, entry), one(entry, &single));
        assert_eq!(one(entry, &single), (true, all.len()));
    }

    #[test]
    fn a_restart_brings_back_the_one_entry_and_its_gaps() {
        let directory = tempfile::tempdir().unwrap();
        let open = || Journal::open(directory.path(), Timestamp(0)).unwrap();
        let revocations = Revocations::new(Duration::from_secs(1_000_000), Some(open()), Timestamp(0));
        let live = Claims { sid: SessionId::named("live"), ..claims(Timestamp(1_025)) };
        let ended = [end_many(&revocations, 1_000, 20), end_many(&revocations, 1_030, 20)].concat();
        revocations.collapse(&live.sub, &[1_025], Timestamp(2_000)).unwrap().on_disk.unwrap().unwrap();
        let count = revocations.len();
        drop(revocations);
        let again = Revocations::new(Duration::from_secs(1_000_000), Some(open()), Timestamp(0));
        assert!(ended.iter().all(|claims| covers(&again, claims)));
        assert_eq!(again.len(), count);
        assert!(!covers(&again, &live));
    }
}
