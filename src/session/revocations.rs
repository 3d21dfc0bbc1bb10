//! Revocations: which sessions no longer count, whatever their tokens say.
//!
//! By session id, by subject and by application ("nothing from before this moment"), never by a token's bytes. Held in
//! memory, each no longer than a session can live. Where there is a journal, what it holds comes back at start.
//!
//! Bounded without ever forgetting. One subject's many ended sessions become spans of login times, in one entry. A table
//! full of other entries that still matter is replaced by one entry for everyone, which ends every session from before
//! now. That is harsh, and lawful: it turns Allow into Deny, never the other way.

use super::claims::Claims;
use super::journal::{Journal, JournalError};
pub use super::revocation::{Revocation, SubjectDigest, Target};
use super::table::{Table, Taken};
use crate::app_name::AppName;
use crate::clock::Timestamp;
use crate::session_id::SessionId;
use crate::subject::Subject;
use parking_lot::{Mutex, RwLock};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Entries held at most. Each costs 260 bytes at most, whoever wrote it: 50 MiB for all.
pub const MAX_ENTRIES: usize = 200_000;

/// The revocations in force.
pub struct Revocations {
    held: RwLock<Table>,
    /// Grows with each change; a session that was looked up at this version need not be again.
    version: AtomicU64,
    journal: Option<Mutex<Journal>>,
    /// The longest any session can live.
    horizon: Duration,
    /// When this began, by both clocks: what is dropped is judged by the earlier of them, so that a wall clock that
    /// runs ahead for a moment forgets nothing.
    began: (Timestamp, Instant),
    sync_status: SyncStatus,
}

/// Many ended sessions of a subject that have become one entry.
#[derive(Debug)]
pub struct Collapsed {
    /// The entry.
    pub in_force: Revocation,
    /// What it replaces.
    pub replaced: Vec<Revocation>,
    /// What the disk said, if there is a journal.
    pub on_disk: Option<Result<(), JournalError>>,
}

/// What of a session revocations go by.
#[derive(Clone, Copy, Debug)]
pub struct RevocationSubject<'a> {
    /// The session's id.
    pub sid: SessionId,
    /// Its subject.
    pub sub: &'a str,
    /// Its application.
    pub aud: &'a AppName,
    /// When the person logged in.
    pub auth_time: u64,
}

impl<'a> From<&'a Claims> for RevocationSubject<'a> {
    fn from(claims: &'a Claims) -> Self {
        Self { sid: claims.sid, sub: claims.sub.as_str(), aud: &claims.aud, auth_time: claims.auth_time }
    }
}

impl Revocations {
    /// Revocations in memory, with what `journal` brought back.
    pub fn new(horizon: Duration, journal: Option<(Journal, Vec<Revocation>)>, now: Timestamp) -> Self {
        let (journal, brought) = journal.map_or((None, Vec::new()), |(journal, brought)| (Some(journal), brought));
        let revocations = Self {
            held: RwLock::default(),
            version: AtomicU64::new(1),
            journal: journal.map(Mutex::new),
            horizon,
            began: (now, Instant::now()),
            sync_status: SyncStatus::default(),
        };
        for revocation in brought {
            let _ = revocations.insert(revocation);
        }
        revocations
    }

    /// How well this instance knows what others have revoked.
    pub fn sync_status(&self) -> &SyncStatus {
        &self.sync_status
    }

    /// Revokes as [`Self::revoke_until`] does, to be remembered as long as any session can live.
    pub fn revoke(&self, target: Target, now: Timestamp) -> (Revocation, Option<Result<(), JournalError>>) {
        self.revoke_until(target, now + self.horizon, now)
    }

    /// Ends the session of `claims`, to be remembered as long as it could live.
    pub fn end(&self, claims: &Claims, now: Timestamp) -> (Revocation, Option<Result<(), JournalError>>) {
        let subject = SubjectDigest::of(claims.sub.as_str());
        self.record(Revocation::of_session(claims.sid, subject, claims.auth_time, now.0, claims.session_exp), now)
    }

    /// Whether so many sessions of `subject` have ended that they should become one entry.
    pub fn wants_collapse(&self, subject: &Subject) -> bool {
        self.held.read().wants_collapse(SubjectDigest::of(subject.as_str()))
    }

    /// Makes the ended sessions of `subject`, but for the newest, one entry that ends whatever began at their login times
    /// and between them. `live` are the login times of its sessions that live on: the entry has gaps there. Blocks for
    /// the disk where there is a journal.
    pub fn collapse(&self, subject: &Subject, live: &[u64], now: Timestamp) -> Option<Collapsed> {
        let collapsed = self.held.write().collapse(SubjectDigest::of(subject.as_str()), live);
        let (in_force, replaced) = collapsed?;
        self.version.fetch_add(1, Ordering::Release);
        let on_disk = self.journal.as_ref().map(|journal| self.write(journal, &in_force, now));
        Some(Collapsed { in_force, replaced, on_disk })
    }

    /// Revokes in memory at once, then in the journal, to be remembered until `until`: from then on nothing it concerns is
    /// alive. Blocks for the disk where there is a journal. Gives what is in force now, and what the disk said if there
    /// is one: where it could not be written, a restart forgets the revocation.
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

    /// Takes what other instances have revoked. What is known already changes nothing.
    pub fn merge(&self, others: impl IntoIterator<Item = Revocation>) {
        for other in others {
            let known = self.held.read().has(&other);
            if !known {
                let _ = self.insert(other);
            }
        }
    }

    /// Takes `listed`, which the shared list holds, and notes that in `round`. Says whether what is in force here is just
    /// that; if not, it is more, and the list needs `listed` no longer.
    pub(crate) fn take(&self, listed: Revocation, round: u32) -> bool {
        if !self.held.read().has(&listed) {
            let _ = self.insert(listed.clone());
        }
        self.held.write().note(&listed, round)
    }

    /// At most `count` of those that matter at `now` and were not noted in `round`. They are, from now on.
    pub(crate) fn take_unlisted(&self, round: u32, count: usize, now: Timestamp) -> Vec<Revocation> {
        let now = self.clamp_to_monotonic(now);
        self.held.write().take_unlisted(round, count, now.0)
    }

    /// Whether `session` is revoked. `seen` is the session's own note of when it was last looked up.
    pub fn is_revoked<'a>(&self, session: impl Into<RevocationSubject<'a>>, seen: &AtomicU64) -> bool {
        let version = self.version.load(Ordering::Acquire);
        if seen.load(Ordering::Relaxed) == version {
            return false;
        }
        let held = self.held.read();
        if held.is_empty() {
            // The usual case. To make names to look for would cost each new session more than the rest of its look-up.
            seen.store(version, Ordering::Relaxed);
            return false;
        }
        let covered = held.covers(session.into());
        if !covered {
            seen.store(version, Ordering::Relaxed);
        }
        covered
    }

    /// Drops what no living session can be concerned by, and writes what the disk would not take before.
    pub fn sweep(&self, now: Timestamp) {
        self.compact_journal(now);
        let now = self.clamp_to_monotonic(now);
        self.held.write().drop_dead(now.0);
    }

    /// How many are held.
    pub fn len(&self) -> usize {
        self.held.read().len()
    }

    /// Whether none is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// `now`, but no later than the monotonic clock allows.
    fn clamp_to_monotonic(&self, now: Timestamp) -> Timestamp {
        let (wall, monotonic) = self.began;
        now.min(wall + monotonic.elapsed() + super::token::LEEWAY)
    }

    fn compact_journal(&self, now: Timestamp) {
        let Some(journal) = &self.journal else { return };
        let mut journal = journal.lock();
        if journal.wants_compaction(self.len())
            && let Err(error) = journal.compact(&self.live(now))
        {
            tracing::warn!(%error, "the journal could not be written anew");
        }
    }

    /// Those that matter at `now`.
    pub(crate) fn live(&self, now: Timestamp) -> Vec<Revocation> {
        let now = self.clamp_to_monotonic(now);
        let held = self.held.read();
        held.live(now.0).collect()
    }

    /// How many matter at `now`.
    pub(crate) fn count_live(&self, now: Timestamp) -> usize {
        let now = self.clamp_to_monotonic(now);
        let held = self.held.read();
        held.count_live(now.0)
    }

    /// Puts `revocation` in force, and gives what is in force now: itself, or one for everyone.
    fn insert(&self, revocation: Revocation) -> Revocation {
        let mut held = self.held.write();
        let mut in_force = revocation;
        if held.len() >= MAX_ENTRIES && !held.knows(&in_force) {
            held.drop_dead(self.clamp_to_monotonic(Timestamp(in_force.at)).0);
            if held.len() >= MAX_ENTRIES {
                tracing::error!(
                    max = MAX_ENTRIES,
                    "the table of revocations is full: every session from before now ends"
                );
                in_force = held.end_everyone(&in_force);
            }
        }
        if held.put(&in_force) == Taken::Nothing {
            return in_force;
        }
        drop(held);
        self.version.fetch_add(1, Ordering::Release);
        in_force
    }
}

/// How well this instance knows what others have revoked: since when it has known all of it, and how long that counts.
#[derive(Debug)]
pub struct SyncStatus {
    began: Instant,
    /// Milliseconds since the beginning, and one; 0 for never.
    completed: AtomicU64,
    /// How old it may be, in milliseconds; 0 where nobody else revokes anything.
    most_age: AtomicU64,
}

impl Default for SyncStatus {
    fn default() -> Self {
        Self { began: Instant::now(), completed: AtomicU64::new(0), most_age: AtomicU64::new(0) }
    }
}

impl SyncStatus {
    /// From now on others revoke too, and what is known of it counts for `most_age`.
    pub fn set_max_staleness(&self, most_age: Duration) {
        self.most_age.store(milliseconds(most_age).max(1), Ordering::Release);
    }

    /// Everything that others have revoked until now is known.
    pub fn mark_synced(&self) {
        self.completed.store(milliseconds(self.began.elapsed()).saturating_add(1), Ordering::Release);
    }

    /// How old it is: since the start where it was never complete, and nothing where nobody else revokes.
    pub fn age(&self) -> Duration {
        if self.most_age.load(Ordering::Acquire) == 0 {
            return Duration::ZERO;
        }
        let completed = Duration::from_millis(self.completed.load(Ordering::Acquire).saturating_sub(1));
        self.began.elapsed().saturating_sub(completed)
    }

    /// Whether it is good enough to renew a token past its end: complete since the start, and young.
    pub fn is_fresh(&self) -> bool {
        let most_age = self.most_age.load(Ordering::Acquire);
        most_age == 0 || (self.completed.load(Ordering::Acquire) > 0 && self.age() <= Duration::from_millis(most_age))
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::tests::claims;

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
    fn a_login_after_the_revocation_counts_again_but_a_revoked_session_never_does() {
        for (kind, covered) in [(0, true), (1, false), (2, false)] {
            let revocations = Revocations::new(Duration::from_secs(1_000), None, Timestamp(0));
            revocations.revoke(target(kind), Timestamp(150));
            assert_eq!(covers(&revocations, &claims(Timestamp(151))), covered, "{:?}", target(kind));
        }
    }

    #[test]
    fn a_session_that_was_looked_up_is_looked_up_again_after_a_change() {
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
