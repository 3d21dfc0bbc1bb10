//! Revocations: which sessions no longer count, whatever their tokens say.
//!
//! By session id, by subject and by application ("nothing from before this moment"), never by a token's bytes. Held in
//! memory, each no longer than a session can live. Where there is a journal, what it holds comes back at start.
//!
//! Bounded without ever forgetting: a table full of entries that still matter is replaced by one entry for everyone,
//! which ends every session from before now. That is harsh, and lawful: it turns Allow into Deny, never the other way.

use super::journal::{Journal, JournalFault};
pub use super::revocation::{Revocation, Target};
use super::token::Claims;
use crate::clock::Timestamp;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

/// Entries held at most: about 100 bytes each.
pub(super) const MOST: usize = 200_000;

/// The revocations in force.
pub struct Revocations {
    held: RwLock<Held>,
    /// Grows with each change; a session that was looked up at this version need not be again.
    version: AtomicU64,
    journal: Option<Mutex<Journal>>,
    /// The longest any session can live.
    horizon: Duration,
    /// When this began, by both clocks: what is dropped is judged by the earlier of them, so that a wall clock that
    /// runs ahead for a moment forgets nothing.
    began: (Timestamp, Instant),
    picture: Picture,
}

type Held = HashMap<Target, Revocation>;

/// What of a session revocations go by.
#[derive(Clone, Copy, Debug)]
pub struct Concerned<'a> {
    /// The session's id.
    pub sid: &'a str,
    /// Its subject.
    pub sub: &'a str,
    /// Its application.
    pub aud: &'a str,
    /// When the person logged in.
    pub auth_time: u64,
}

impl<'a> From<&'a Claims> for Concerned<'a> {
    fn from(claims: &'a Claims) -> Self {
        Self { sid: &claims.sid, sub: &claims.sub, aud: &claims.aud, auth_time: claims.auth_time }
    }
}

impl Revocations {
    /// Revocations in memory, with what `journal` brought back.
    #[must_use]
    pub fn new(horizon: Duration, journal: Option<(Journal, Vec<Revocation>)>, now: Timestamp) -> Self {
        let (journal, brought) = journal.map_or((None, Vec::new()), |(journal, brought)| (Some(journal), brought));
        let revocations = Self {
            held: RwLock::default(),
            version: AtomicU64::new(1),
            journal: journal.map(Mutex::new),
            horizon,
            began: (now, Instant::now()),
            picture: Picture::default(),
        };
        for revocation in brought {
            let _ = revocations.insert(revocation);
        }
        revocations
    }

    /// How well this instance knows what others have revoked.
    #[must_use]
    pub fn picture(&self) -> &Picture {
        &self.picture
    }

    /// Revokes as [`Self::revoke_until`] does, to be remembered as long as any session can live.
    pub fn revoke(&self, target: Target, now: Timestamp) -> (Revocation, Option<Result<(), JournalFault>>) {
        self.revoke_until(target, now.plus(self.horizon), now)
    }

    /// Ends the session of `claims`, to be remembered as long as it could live.
    pub fn end(&self, claims: &Claims, now: Timestamp) -> (Revocation, Option<Result<(), JournalFault>>) {
        self.revoke_until(Target::Session(claims.sid.clone()), Timestamp(claims.session_exp), now)
    }

    /// Revokes in memory at once, then in the journal, to be remembered until `until`: from then on nothing it concerns is
    /// alive. Blocks for the disk where there is a journal. Gives what is in force now, and what the disk said if there
    /// is one: where it could not be written, a restart forgets the revocation.
    pub fn revoke_until(
        &self,
        target: Target,
        until: Timestamp,
        now: Timestamp,
    ) -> (Revocation, Option<Result<(), JournalFault>>) {
        let in_force = self.insert(Revocation { target, at: now.0, until: until.0 });
        let on_disk = self.journal.as_ref().map(|journal| self.write(journal, &in_force, now));
        (in_force, on_disk)
    }

    fn write(&self, journal: &Mutex<Journal>, revocation: &Revocation, now: Timestamp) -> Result<(), JournalFault> {
        let mut journal = journal.lock().unwrap_or_else(PoisonError::into_inner);
        journal.append(revocation)?;
        if journal.wants_compaction(self.len()) {
            journal.compact(&self.live(now))?;
        }
        Ok(())
    }

    /// Takes what other instances have revoked. What is known already changes nothing.
    pub fn merge(&self, others: impl IntoIterator<Item = Revocation>) {
        for other in others {
            let known = {
                let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
                held.get(&other.target).is_some_and(|entry| entry.at >= other.at && entry.until >= other.until)
            };
            if !known {
                let _ = self.insert(other);
            }
        }
    }

    /// Whether `session` is revoked. `seen` is the session's own note of when it was last looked up.
    #[must_use]
    pub fn covers<'a>(&self, session: impl Into<Concerned<'a>>, seen: &AtomicU64) -> bool {
        let version = self.version.load(Ordering::Acquire);
        if seen.load(Ordering::Relaxed) == version {
            return false;
        }
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        if held.is_empty() {
            // The usual case. To make names to look for would cost each new session more than the rest of its look-up.
            seen.store(version, Ordering::Relaxed);
            return false;
        }
        let Concerned { sid, sub, aud, auth_time } = session.into();
        let before = |target: Target| held.get(&target).is_some_and(|entry| auth_time <= entry.at);
        let covered = before(Target::Everyone(()))
            || held.contains_key(&Target::Session(sid.to_owned()))
            || before(Target::subject(sub))
            || before(Target::App(aud.to_owned()));
        if !covered {
            seen.store(version, Ordering::Relaxed);
        }
        covered
    }

    /// Drops what no living session can be concerned by, and writes what the disk would not take before.
    pub fn sweep(&self, now: Timestamp) {
        self.mend(now);
        let now = self.surely(now);
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        held.retain(|_, entry| entry.until > now.0);
        held.shrink_to_fit();
    }

    /// How many are held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.held.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether none is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// `now`, but no later than the monotonic clock allows.
    fn surely(&self, now: Timestamp) -> Timestamp {
        let (wall, monotonic) = self.began;
        now.min(wall.plus(monotonic.elapsed() + super::token::LEEWAY))
    }

    fn mend(&self, now: Timestamp) {
        let Some(journal) = &self.journal else { return };
        let mut journal = journal.lock().unwrap_or_else(PoisonError::into_inner);
        if journal.wants_compaction(self.len())
            && let Err(fault) = journal.compact(&self.live(now))
        {
            tracing::warn!(%fault, "the journal could not be written anew");
        }
    }

    /// Those that matter at `now`.
    pub(super) fn live(&self, now: Timestamp) -> Vec<Revocation> {
        let now = self.surely(now);
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        held.values().filter(|entry| entry.until > now.0).cloned().collect()
    }

    /// How many matter at `now`.
    pub(super) fn count_live(&self, now: Timestamp) -> usize {
        let now = self.surely(now);
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        held.values().filter(|entry| entry.until > now.0).count()
    }

    /// Puts `revocation` in force, and gives what is in force now: itself, or one for everyone.
    fn insert(&self, revocation: Revocation) -> Revocation {
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        let mut in_force = revocation;
        if held.len() >= MOST && !held.contains_key(&in_force.target) {
            let now = self.surely(Timestamp(in_force.at));
            held.retain(|_, entry| entry.until > now.0);
            if held.len() >= MOST {
                tracing::error!(held = MOST, "the table of revocations is full: every session from before now ends");
                // Those that were revoked while a clock ran ahead are covered too.
                in_force.at = held.values().map(|entry| entry.at).fold(in_force.at, u64::max);
                in_force.until = held.values().map(|entry| entry.until).fold(in_force.until, u64::max);
                held.clear();
                in_force.target = Target::Everyone(());
            }
        }
        held.entry(in_force.target.clone())
            // An older record never takes back what a newer one said.
            .and_modify(|entry| {
                entry.at = entry.at.max(in_force.at);
                entry.until = entry.until.max(in_force.until);
            })
            .or_insert_with(|| in_force.clone());
        drop(held);
        self.version.fetch_add(1, Ordering::Release);
        in_force
    }
}

/// How well this instance knows what others have revoked: since when it has known all of it, and how long that counts.
#[derive(Debug)]
pub struct Picture {
    began: Instant,
    /// Milliseconds since the beginning, and one; 0 for never.
    completed: AtomicU64,
    /// How old it may be, in milliseconds; 0 where nobody else revokes anything.
    most_age: AtomicU64,
}

impl Default for Picture {
    fn default() -> Self {
        Self { began: Instant::now(), completed: AtomicU64::new(0), most_age: AtomicU64::new(0) }
    }
}

impl Picture {
    /// From now on others revoke too, and what is known of it counts for `most_age`.
    pub fn expected_within(&self, most_age: Duration) {
        self.most_age.store(milliseconds(most_age).max(1), Ordering::Release);
    }

    /// Everything that others have revoked until now is known.
    pub fn completed(&self) {
        self.completed.store(milliseconds(self.began.elapsed()).saturating_add(1), Ordering::Release);
    }

    /// How old it is: since the start where it was never complete, and nothing where nobody else revokes.
    #[must_use]
    pub fn age(&self) -> Duration {
        if self.most_age.load(Ordering::Acquire) == 0 {
            return Duration::ZERO;
        }
        let completed = Duration::from_millis(self.completed.load(Ordering::Acquire).saturating_sub(1));
        self.began.elapsed().saturating_sub(completed)
    }

    /// Whether it is good enough to renew a token past its end: complete since the start, and young.
    #[must_use]
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
        revocations.covers(claims, &AtomicU64::new(0))
    }

    fn target(kind: usize) -> Target {
        match kind {
            0 => Target::Session("sid".into()),
            1 => Target::subject("wx:wx0123456789abcdef:oAlice"),
            _ => Target::App("shop".into()),
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
        assert!(!revocations.covers(&alice, &seen));
        revocations.revoke(target(0), Timestamp(150));
        assert!(revocations.covers(&alice, &seen));
        assert!(revocations.covers(&alice, &seen));
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
        for number in 0..MOST {
            revocations.revoke(Target::Session(number.to_string()), Timestamp(200));
        }
        assert!(revocations.len() <= MOST);
        assert!(covers(&revocations, &claims(Timestamp(100))));
        assert!(!covers(&revocations, &Claims { sid: "new".into(), ..claims(Timestamp(201)) }));
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
}
