//! The revocations of an instance by what they end. Each entry has a bounded size.

use super::revocation::{Revocation, RevocationSubject, Span, SubjectDigest, Target, merge_spans};
use crate::app_name::AppName;
use crate::session_id::SessionId;
use std::collections::HashMap;

/// The most single sessions of one subject. More are collapsed into one entry.
pub(super) const MAX_ENDED: usize = 32;

/// More than this are collapsed even if the live sessions of the subject are not known: several instances may each have
/// [`MAX_ENDED`] that the others do not know yet.
const HARD_MAX_ENDED: usize = 128;

/// How many of the newest sessions are not collapsed: another login at the same time may not be known yet.
const KEEP_SINGLE: usize = 8;

/// When a revocation was made, when it expires, and in which reconciliation the shared list last contained it.
#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    at: u64,
    until: u64,
    listed: u32,
}

impl Entry {
    fn new(at: u64, until: u64) -> Self {
        Self { at, until, listed: 0 }
    }

    /// Whether it includes one with these times.
    fn includes(&self, at: u64, until: u64) -> bool {
        self.at >= at && self.until >= until
    }

    /// Extends it to these times. Returns whether it changed.
    fn extend(&mut self, at: u64, until: u64) -> bool {
        let changed = !self.includes(at, until);
        if changed {
            *self = Self::new(self.at.max(at), self.until.max(until));
        }
        changed
    }

    /// Records that the shared list contained it in `round`, if it has exactly these times. Returns whether it has.
    fn mark_listed(&mut self, at: u64, until: u64, round: u32) -> bool {
        let same = (self.at, self.until) == (at, until);
        if same {
            self.listed = round;
        }
        same
    }
}

/// A revoked session with a known subject.
struct Ended {
    id: SessionId,
    issued: u64,
    entry: Entry,
}

/// Spans of login times of a subject whose sessions are revoked.
struct Spans {
    spans: Box<[Span]>,
    until: u64,
    listed: u32,
}

impl Spans {
    fn cover(&self, login: u64) -> bool {
        self.spans.iter().any(|span| span.0 <= login && login <= span.1)
    }

    fn contain(&self, other: &Span) -> bool {
        self.spans.iter().any(|span| span.0 <= other.0 && other.1 <= span.1)
    }
}

/// The revocations of one subject.
#[derive(Default)]
struct SubjectEntry {
    together: Option<Box<Spans>>,
    single: Vec<Ended>,
}

impl SubjectEntry {
    fn covers(&self, login: u64) -> bool {
        self.together.as_ref().is_some_and(|spans| spans.cover(login))
    }

    fn find(&mut self, id: SessionId) -> Option<&mut Ended> {
        self.single.iter_mut().find(|ended| ended.id == id)
    }

    fn len(&self) -> usize {
        self.single.len() + usize::from(self.together.is_some())
    }

    /// Adds spans and removes the single sessions that they cover. Returns those.
    fn add(&mut self, spans: Vec<Span>, until: u64) -> Vec<Ended> {
        let known = self.together.as_ref().map(|known| (known.spans.to_vec(), known.until)).unwrap_or_default();
        let spans = merge_spans([known.0, spans].concat()).into_boxed_slice();
        self.together = Some(Box::new(Spans { spans, until: until.max(known.1), listed: 0 }));
        let (covered, single) =
            std::mem::take(&mut self.single).into_iter().partition(|ended| self.covers(ended.issued));
        self.single = single;
        self.single.shrink_to_fit();
        covered
    }
}

/// The revocations.
#[derive(Default)]
pub(super) struct Table {
    everyone: Option<Entry>,
    apps: HashMap<AppName, Entry>,
    /// Sessions with an unknown subject.
    sessions: HashMap<SessionId, Entry>,
    subjects: HashMap<SubjectDigest, SubjectEntry>,
    len: usize,
}

impl Table {
    /// The number of entries.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no entries.
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether `session` is revoked.
    pub(super) fn covers(&self, RevocationSubject { sid, sub, aud, auth_time }: RevocationSubject<'_>) -> bool {
        let before = |entry: &Entry| auth_time <= entry.at;
        self.everyone.as_ref().is_some_and(before)
            || self.sessions.contains_key(&sid)
            || self.apps.get(aud).is_some_and(before)
            || self
                .subjects
                .get(&SubjectDigest::of(sub))
                .is_some_and(|subject| subject.covers(auth_time) || subject.single.iter().any(|ended| ended.id == sid))
    }

    /// Whether the table includes all of `revocation`.
    pub(super) fn includes(&self, revocation: &Revocation) -> bool {
        let Revocation { at, until, .. } = *revocation;
        let has = |entry: Option<&Entry>| entry.is_some_and(|entry| entry.includes(at, until));
        match (&revocation.target, revocation.of, revocation.issued) {
            (Target::Everyone(()), ..) => has(self.everyone.as_ref()),
            (Target::App(app), ..) => has(self.apps.get(app)),
            (Target::Session(id), Some(of), Some(issued)) => self.subjects.get(&of).is_some_and(|subject| {
                subject.covers(issued)
                    || has(subject.single.iter().find(|ended| ended.id == *id).map(|ended| &ended.entry))
            }),
            (Target::Session(id), ..) => has(self.sessions.get(id)),
            (Target::Subject(subject), ..) => {
                let together = self.subjects.get(subject).and_then(|subject| subject.together.as_ref());
                together.is_some_and(|known| {
                    known.until >= until && revocation.effective_spans().iter().all(|span| known.contain(span))
                })
            }
        }
    }

    /// Whether an entry for the target of `revocation` exists.
    pub(super) fn has_entry_for(&self, revocation: &Revocation) -> bool {
        match (&revocation.target, revocation.of, revocation.issued) {
            (Target::Everyone(()), ..) => true,
            (Target::App(app), ..) => self.apps.contains_key(app),
            (Target::Session(id), Some(of), Some(issued)) => self
                .subjects
                .get(&of)
                .is_some_and(|subject| subject.covers(issued) || subject.single.iter().any(|ended| ended.id == *id)),
            (Target::Session(id), ..) => self.sessions.contains_key(id),
            (Target::Subject(subject), ..) => {
                self.subjects.get(subject).is_some_and(|subject| subject.together.is_some())
            }
        }
    }

    /// Adds `revocation`. Returns whether it revokes more than before.
    pub(super) fn insert(&mut self, revocation: &Revocation) -> bool {
        let Revocation { at, until, .. } = *revocation;
        let new = Entry::new(at, until);
        match (&revocation.target, revocation.of, revocation.issued) {
            (Target::Everyone(()), ..) => {
                if let Some(entry) = &mut self.everyone {
                    return entry.extend(at, until);
                }
                self.everyone = Some(new);
            }
            (Target::App(app), ..) => {
                if let Some(entry) = self.apps.get_mut(app) {
                    return entry.extend(at, until);
                }
                self.apps.insert(app.clone(), new);
            }
            (Target::Session(id), Some(of), Some(issued)) => {
                let subject = self.subjects.entry(of).or_default();
                if subject.covers(issued) {
                    return false;
                }
                if let Some(known) = subject.find(*id) {
                    return known.entry.extend(at, until);
                }
                // Most subjects have one, so do not reserve space for more.
                subject.single.reserve_exact(1);
                subject.single.push(Ended { id: *id, issued, entry: new });
                let too_many = subject.single.len() > HARD_MAX_ENDED;
                self.len += 1;
                if too_many {
                    self.collapse(of, &[]);
                }
                return true;
            }
            (Target::Session(id), ..) => {
                if let Some(entry) = self.sessions.get_mut(id) {
                    return entry.extend(at, until);
                }
                self.sessions.insert(*id, new);
            }
            (Target::Subject(digest), ..) => {
                if self.includes(revocation) {
                    return false;
                }
                let subject = self.subjects.entry(*digest).or_default();
                let before = subject.len();
                subject.add(revocation.effective_spans(), until);
                self.len = self.len + subject.len() - before;
                return true;
            }
        }
        self.len += 1;
        true
    }

    /// Whether the single entries of the subject are numerous enough to collapse them.
    pub(super) fn wants_collapse(&self, subject: SubjectDigest) -> bool {
        self.subjects.get(&subject).is_some_and(|subject| subject.single.len() > MAX_ENDED)
    }

    /// Collapses the single sessions of a subject, except the newest, into one entry with gaps at the login times in `live`.
    /// Returns that entry and those it replaces.
    pub(super) fn collapse(&mut self, digest: SubjectDigest, live: &[u64]) -> Option<(Revocation, Vec<Revocation>)> {
        let subject = self.subjects.get_mut(&digest)?;
        let lives = |from: u64, to: u64| live.iter().any(|login| from <= *login && *login <= to);
        let mut logins: Vec<(u64, u64)> =
            subject.single.iter().map(|ended| (ended.issued, ended.entry.until)).collect();
        logins.sort_unstable();
        logins.truncate(logins.len().saturating_sub(KEEP_SINGLE));
        // A session that started in the same second as a live one stays single: their login times are equal.
        logins.retain(|(login, _)| !lives(*login, *login));
        let until = logins.iter().map(|(_, until)| *until).max()?;
        let known = subject.together.as_ref().map(|known| known.spans.to_vec()).unwrap_or_default();
        let mut spans: Vec<Span> = known.into_iter().chain(logins.iter().map(|(login, _)| (*login, *login))).collect();
        spans.sort_unstable();
        let mut joined: Vec<Span> = Vec::new();
        for span in spans {
            match joined.last_mut() {
                Some(last) if span.0 <= last.1 || !lives(last.1 + 1, span.0 - 1) => last.1 = last.1.max(span.1),
                _ => joined.push(span),
            }
        }
        let before = subject.len();
        let replaced = subject.add(joined, until);
        self.len = self.len + subject.len() - before;
        let of_session =
            |ended: Ended| Revocation::of_session(ended.id, digest, ended.issued, ended.entry.at, ended.entry.until);
        let spans = subject.together.as_ref()?;
        let in_force = Revocation::of_spans(digest, spans.spans.to_vec(), spans.until);
        Some((in_force, replaced.into_iter().map(of_session).collect()))
    }

    /// Replaces all entries with one that ends all sessions that started before the latest time of `last` and the entries.
    pub(super) fn end_everyone(&mut self, last: &Revocation) -> Revocation {
        // The latest time, because a clock may have been ahead.
        let at = self.live(0).map(|entry| entry.at).fold(last.at, u64::max);
        let until = self.live(0).map(|entry| entry.until).fold(last.until, u64::max);
        *self = Self::default();
        Revocation::new(Target::Everyone(()), at, until)
    }

    /// Records that the shared list contained `listed` in `round`, if it equals the entry. Returns whether it does.
    pub(super) fn mark_listed(&mut self, listed: &Revocation, round: u32) -> bool {
        let Revocation { at, until, .. } = *listed;
        let mark = |entry: Option<&mut Entry>| entry.is_some_and(|entry| entry.mark_listed(at, until, round));
        match (&listed.target, listed.of) {
            (Target::Everyone(()), _) => mark(self.everyone.as_mut()),
            (Target::App(app), _) => mark(self.apps.get_mut(app)),
            (Target::Session(id), Some(of)) => {
                let single = self.subjects.get_mut(&of).and_then(|subject| subject.find(*id));
                mark(single.map(|ended| &mut ended.entry))
            }
            (Target::Session(id), None) => mark(self.sessions.get_mut(id)),
            (Target::Subject(subject), _) => {
                let together = self.subjects.get_mut(subject).and_then(|subject| subject.together.as_mut());
                together.is_some_and(|known| {
                    let same = known.until == until && *known.spans == *listed.effective_spans();
                    if same {
                        known.listed = round;
                    }
                    same
                })
            }
        }
    }

    /// At most `count` that have not expired at `now` and were not marked in `round`. Marks them.
    pub(super) fn take_unlisted(&mut self, round: u32, count: usize, now: u64) -> Vec<Revocation> {
        let unlisted: Vec<Revocation> = self
            .entries()
            .filter(|(revocation, listed)| *listed != round && revocation.until > now)
            .map(|(revocation, _)| revocation)
            .take(count)
            .collect();
        for revocation in &unlisted {
            self.mark_listed(revocation, round);
        }
        unlisted
    }

    /// Removes expired revocations.
    pub(super) fn remove_expired(&mut self, now: u64) {
        self.everyone = self.everyone.filter(|entry| entry.until > now);
        self.apps.retain(|_, entry| entry.until > now);
        self.sessions.retain(|_, entry| entry.until > now);
        self.subjects.retain(|_, subject| {
            subject.single.retain(|ended| ended.entry.until > now);
            subject.together.take_if(|spans| spans.until <= now);
            subject.len() > 0
        });
        self.apps.shrink_to_fit();
        self.sessions.shrink_to_fit();
        self.subjects.shrink_to_fit();
        self.len = self.entries().count();
    }

    /// The revocations that have not expired at `now`.
    pub(super) fn live(&self, now: u64) -> impl Iterator<Item = Revocation> {
        self.entries().map(|(revocation, _)| revocation).filter(move |revocation| revocation.until > now)
    }

    /// The number of revocations that have not expired at `now`.
    pub(super) fn count_live(&self, now: u64) -> usize {
        self.live(now).count()
    }

    /// All revocations, and in which round the shared list last contained each.
    fn entries(&self) -> impl Iterator<Item = (Revocation, u32)> {
        let plain = |target, entry: &Entry| (Revocation::new(target, entry.at, entry.until), entry.listed);
        let everyone = self.everyone.iter().map(move |entry| plain(Target::Everyone(()), entry));
        let apps = self.apps.iter().map(move |(app, entry)| plain(Target::App(app.clone()), entry));
        let sessions = self.sessions.iter().map(move |(id, entry)| plain(Target::Session(*id), entry));
        let subjects = self.subjects.iter().flat_map(|(digest, subject)| {
            let together = subject
                .together
                .iter()
                .map(|spans| (Revocation::of_spans(*digest, spans.spans.to_vec(), spans.until), spans.listed));
            together.chain(subject.single.iter().map(|Ended { id, issued, entry }| {
                (Revocation::of_session(*id, *digest, *issued, entry.at, entry.until), entry.listed)
            }))
        });
        everyone.chain(apps).chain(sessions).chain(subjects)
    }
}
