//! The revocations that an instance holds, by what they end. Each has a bounded size, whatever wrote it.

use super::revocation::{Revocation, Span, SubjectDigest, Target, united};
use super::revocations::RevocationSubject;
use crate::app_name::AppName;
use crate::session_id::SessionId;
use std::collections::HashMap;

/// Ended sessions of one subject that are held one by one; more should become one entry.
pub(super) const MAX_ENDED: usize = 32;

/// More than this become one entry even if it is not known which other sessions of the subject live: several instances
/// may each hold [`MAX_ENDED`] that the others have not heard of yet.
const HARD_MAX_ENDED: usize = 128;

/// The newest ended sessions stay single: another login of the same moment may not be known yet.
const KEEP: usize = 8;

/// Since when, until when, and in which round the shared list was last seen to hold it.
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

    /// Whether it says all that one with these times would.
    fn has(&self, at: u64, until: u64) -> bool {
        self.at >= at && self.until >= until
    }

    /// An older record never takes back what a newer one said.
    fn join(&mut self, at: u64, until: u64) -> bool {
        let more = !self.has(at, until);
        if more {
            *self = Self::new(self.at.max(at), self.until.max(until));
        }
        more
    }

    /// Notes `round` if it is exactly this.
    fn note(&mut self, at: u64, until: u64, round: u32) -> bool {
        let same = (self.at, self.until) == (at, until);
        if same {
            self.listed = round;
        }
        same
    }
}

/// An ended session whose subject is known.
struct Ended {
    id: SessionId,
    issued: u64,
    entry: Entry,
}

/// Logins of a subject that ended together.
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

/// What ended of one subject.
#[derive(Default)]
struct OfSubject {
    together: Option<Box<Spans>>,
    single: Vec<Ended>,
}

impl OfSubject {
    fn covers(&self, login: u64) -> bool {
        self.together.as_ref().is_some_and(|spans| spans.cover(login))
    }

    fn find(&mut self, id: SessionId) -> Option<&mut Ended> {
        self.single.iter_mut().find(|ended| ended.id == id)
    }

    fn len(&self) -> usize {
        self.single.len() + usize::from(self.together.is_some())
    }

    /// Adds spans, and drops the single sessions that they cover: those.
    fn add(&mut self, spans: Vec<Span>, until: u64) -> Vec<Ended> {
        let known = self.together.as_ref().map(|known| (known.spans.to_vec(), known.until)).unwrap_or_default();
        let spans = united([known.0, spans].concat()).into_boxed_slice();
        self.together = Some(Box::new(Spans { spans, until: until.max(known.1), listed: 0 }));
        let (covered, single) =
            std::mem::take(&mut self.single).into_iter().partition(|ended| self.covers(ended.issued));
        self.single = single;
        self.single.shrink_to_fit();
        covered
    }
}

/// What became of a revocation that was put into the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// More is revoked than before.
    More,
    /// All of it was revoked before.
    Nothing,
}

/// The table.
#[derive(Default)]
pub(super) struct Table {
    everyone: Option<Entry>,
    apps: HashMap<AppName, Entry>,
    /// Sessions whose subject is not known.
    sessions: HashMap<SessionId, Entry>,
    subjects: HashMap<SubjectDigest, OfSubject>,
    len: usize,
}

impl Table {
    /// How many entries there are.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
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

    /// Whether all that `revocation` says is in force.
    pub(super) fn has(&self, revocation: &Revocation) -> bool {
        let Revocation { at, until, .. } = *revocation;
        let has = |entry: Option<&Entry>| entry.is_some_and(|entry| entry.has(at, until));
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
                    known.until >= until && revocation.whole_spans().iter().all(|span| known.contain(span))
                })
            }
        }
    }

    /// Whether `revocation` needs no entry of its own.
    pub(super) fn knows(&self, revocation: &Revocation) -> bool {
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

    /// Puts `revocation` in force.
    pub(super) fn put(&mut self, revocation: &Revocation) -> Taken {
        let Revocation { at, until, .. } = *revocation;
        let join = |entry: &mut Entry| if entry.join(at, until) { Taken::More } else { Taken::Nothing };
        let new = Entry::new(at, until);
        match (&revocation.target, revocation.of, revocation.issued) {
            (Target::Everyone(()), ..) => {
                if let Some(entry) = &mut self.everyone {
                    return join(entry);
                }
                self.everyone = Some(new);
            }
            (Target::App(app), ..) => {
                if let Some(entry) = self.apps.get_mut(app) {
                    return join(entry);
                }
                self.apps.insert(app.clone(), new);
            }
            (Target::Session(id), Some(of), Some(issued)) => {
                let subject = self.subjects.entry(of).or_default();
                if subject.covers(issued) {
                    return Taken::Nothing;
                }
                if let Some(known) = subject.find(*id) {
                    return join(&mut known.entry);
                }
                // Most subjects have one: no room for four.
                subject.single.reserve_exact(1);
                subject.single.push(Ended { id: *id, issued, entry: new });
                let too_many = subject.single.len() > HARD_MAX_ENDED;
                self.len += 1;
                if too_many {
                    self.collapse(of, &[]);
                }
                return Taken::More;
            }
            (Target::Session(id), ..) => {
                if let Some(entry) = self.sessions.get_mut(id) {
                    return join(entry);
                }
                self.sessions.insert(*id, new);
            }
            (Target::Subject(digest), ..) => {
                if self.has(revocation) {
                    return Taken::Nothing;
                }
                let subject = self.subjects.entry(*digest).or_default();
                let before = subject.len();
                subject.add(revocation.whole_spans(), until);
                self.len = self.len + subject.len() - before;
                return Taken::More;
            }
        }
        self.len += 1;
        Taken::More
    }

    /// Whether so many single sessions of the subject are held that they should become one entry.
    pub(super) fn wants_collapse(&self, subject: SubjectDigest) -> bool {
        self.subjects.get(&subject).is_some_and(|subject| subject.single.len() > MAX_ENDED)
    }

    /// Makes the single sessions of a subject, but for the newest, one entry with gaps at the logins in `live`. Gives that
    /// entry and what it replaces.
    pub(super) fn collapse(&mut self, digest: SubjectDigest, live: &[u64]) -> Option<(Revocation, Vec<Revocation>)> {
        let subject = self.subjects.get_mut(&digest)?;
        let lives = |from: u64, to: u64| live.iter().any(|login| from <= *login && *login <= to);
        let mut logins: Vec<(u64, u64)> =
            subject.single.iter().map(|ended| (ended.issued, ended.entry.until)).collect();
        logins.sort_unstable();
        logins.truncate(logins.len().saturating_sub(KEEP));
        // A session that lives cannot be told by its login from one that ended in the same second: that one stays single.
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

    /// Replaces everything by the end of everyone's sessions, from before the last moment that `last` or an entry names.
    pub(super) fn end_everyone(&mut self, last: &Revocation) -> Revocation {
        // Those that were revoked while a clock ran ahead are covered, too.
        let at = self.live(0).map(|entry| entry.at).fold(last.at, u64::max);
        let until = self.live(0).map(|entry| entry.until).fold(last.until, u64::max);
        *self = Self::default();
        Revocation::new(Target::Everyone(()), at, until)
    }

    /// Notes that the shared list holds `listed`, if it is exactly what is in force.
    pub(super) fn note(&mut self, listed: &Revocation, round: u32) -> bool {
        let Revocation { at, until, .. } = *listed;
        let note = |entry: Option<&mut Entry>| entry.is_some_and(|entry| entry.note(at, until, round));
        match (&listed.target, listed.of) {
            (Target::Everyone(()), _) => note(self.everyone.as_mut()),
            (Target::App(app), _) => note(self.apps.get_mut(app)),
            (Target::Session(id), Some(of)) => {
                let single = self.subjects.get_mut(&of).and_then(|subject| subject.find(*id));
                note(single.map(|ended| &mut ended.entry))
            }
            (Target::Session(id), None) => note(self.sessions.get_mut(id)),
            (Target::Subject(subject), _) => {
                let together = self.subjects.get_mut(subject).and_then(|subject| subject.together.as_mut());
                together.is_some_and(|known| {
                    let same = known.until == until && *known.spans == *listed.whole_spans();
                    if same {
                        known.listed = round;
                    }
                    same
                })
            }
        }
    }

    /// At most `count` that live at `now` and were not noted in `round`; they are now.
    pub(super) fn take_unlisted(&mut self, round: u32, count: usize, now: u64) -> Vec<Revocation> {
        let unlisted: Vec<Revocation> = self
            .entries()
            .filter(|(revocation, listed)| *listed != round && revocation.until > now)
            .map(|(revocation, _)| revocation)
            .take(count)
            .collect();
        for revocation in &unlisted {
            self.note(revocation, round);
        }
        unlisted
    }

    /// Drops what concerns no session that lives at `now`.
    pub(super) fn drop_dead(&mut self, now: u64) {
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

    /// Those that live at `now`.
    pub(super) fn live(&self, now: u64) -> impl Iterator<Item = Revocation> {
        self.entries().map(|(revocation, _)| revocation).filter(move |revocation| revocation.until > now)
    }

    /// How many live at `now`.
    pub(super) fn count_live(&self, now: u64) -> usize {
        self.live(now).count()
    }

    /// Each, and in which round it was last noted.
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
