//! What became of each flow, for a while: WeChat's browsers deliver a callback twice, with another code, or again after
//! a slow answer (docs/en/wechat.md, Repeated callbacks). All deliveries of one flow wait for one exchange and share its
//! end.
//!
//! An outcome is given to nobody but a browser whose flow cookie opened, or whose live session it is. Bounded by count
//! and age; forgetting one early costs a second exchange, which WeChat refuses, and a silent new login.

use crate::session_id::SessionId;
use aws_lc_rs::digest;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long an outcome is kept: a minute after the slowest exchange.
const OUTCOME_TTL: Duration = Duration::from_secs(90);

/// Flows remembered at most; with a token each, about 2 KiB.
const MAX_ENTRIES: usize = 20_000;

/// Codes tried for one flow at most.
const MAX_CODES: usize = 3;

/// A login that ended well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoginOutcome {
    /// The session's first token.
    pub token: String,
    /// The session's id.
    pub sid: SessionId,
    /// How long the cookie lives.
    pub lifetime: Duration,
    /// Where the browser goes.
    pub location: String,
}

/// What happened to one flow so far. `F` is how a login can fail.
#[derive(Debug, Serialize, Deserialize)]
pub struct Progress<F> {
    outcome: Option<LoginOutcome>,
    tried: Vec<([u8; 32], F)>,
}

impl<F> Default for Progress<F> {
    fn default() -> Self {
        Self { outcome: None, tried: Vec::new() }
    }
}

/// What to do with a code that came for a flow.
#[derive(Debug)]
pub enum CodeAction<F> {
    /// The flow has ended well: this is the end for this delivery too.
    Done(LoginOutcome),
    /// This code was tried, or too many were: this is what came of it.
    Failed(F),
    /// Spend it.
    Spend,
}

impl<F: Clone> Progress<F> {
    /// What to do with `code`.
    pub fn next(&self, code: &str) -> CodeAction<F> {
        if let Some(entered) = &self.outcome {
            return CodeAction::Done(entered.clone());
        }
        let hash = hash(code);
        let tried = self.tried.iter().find(|(tried, _)| *tried == hash);
        match tried.or_else(|| self.tried.get(MAX_CODES - 1)) {
            Some((_, error)) => CodeAction::Failed(error.clone()),
            None => CodeAction::Spend,
        }
    }

    /// Notes what came of `code`.
    pub fn record(&mut self, code: &str, result: &Result<LoginOutcome, F>) {
        match result {
            Ok(entered) => self.outcome = Some(entered.clone()),
            Err(error) => self.tried.push((hash(code), error.clone())),
        }
    }

    /// How many codes were tried without success.
    pub fn failures(&self) -> usize {
        self.tried.len()
    }

    /// Drops what no instance of ours writes: more codes than are ever tried.
    pub fn bounded(mut self) -> Self {
        self.tried.truncate(MAX_CODES);
        self
    }

    /// The end, if it was a good one.
    pub fn entered(&self) -> Option<&LoginOutcome> {
        self.outcome.as_ref()
    }
}

/// One flow's progress, held by whoever works on it.
pub type Slot<F> = Arc<tokio::sync::Mutex<Progress<F>>>;

/// The outcomes of the last flows, by `state`.
pub struct CallbackRegistry<F> {
    kept: Mutex<Entries<F>>,
}

struct Entries<F> {
    slots: HashMap<String, Slot<F>>,
    /// In the order of their arrival.
    order: VecDeque<(Instant, String)>,
}

impl<F> Default for CallbackRegistry<F> {
    fn default() -> Self {
        Self { kept: Mutex::new(Entries { slots: HashMap::new(), order: VecDeque::new() }) }
    }
}

impl<F: Clone> CallbackRegistry<F> {
    /// The slot of `state`, a new one if there is none.
    pub fn slot(&self, state: &str, now: Instant) -> Slot<F> {
        let mut kept = self.kept.lock();
        while let Some((at, _)) = kept.order.front() {
            if now.saturating_duration_since(*at) < OUTCOME_TTL && kept.order.len() < MAX_ENTRIES {
                break;
            }
            if let Some((_, old)) = kept.order.pop_front() {
                kept.slots.remove(&old);
            }
        }
        if let Some(slot) = kept.slots.get(state) {
            return Arc::clone(slot);
        }
        let slot: Slot<F> = Arc::default();
        kept.slots.insert(state.to_owned(), Arc::clone(&slot));
        kept.order.push_back((now, state.to_owned()));
        slot
    }

    /// Where the flow of `state` ended, if it ended in session `sid` and nobody is at work on it.
    pub fn location_for(&self, state: &str, sid: SessionId) -> Option<String> {
        let slot = self.kept.lock().slots.get(state).cloned()?;
        let progress = slot.try_lock().ok()?;
        progress.entered().filter(|entered| entered.sid == sid).map(|entered| entered.location.clone())
    }

    /// Deliveries of the flow of `state` that are under way.
    pub fn deliveries(&self, state: &str) -> usize {
        let kept = self.kept.lock();
        // The table itself holds one.
        kept.slots.get(state).map_or(0, |slot| Arc::strong_count(slot) - 1)
    }

    /// How many are remembered.
    pub fn len(&self) -> usize {
        self.kept.lock().slots.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn hash(code: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, code.as_bytes()).as_ref());
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entered() -> LoginOutcome {
        LoginOutcome { token: "t".into(), sid: SessionId::named("s"), lifetime: OUTCOME_TTL, location: "/".into() }
    }

    #[test]
    fn a_code_is_spent_once_and_another_may_be_tried() {
        let mut progress = Progress::<&str>::default();
        assert!(matches!(progress.next("a"), CodeAction::Spend));
        progress.record("a", &Err("40163"));
        assert!(matches!(progress.next("a"), CodeAction::Failed("40163")));
        assert!(matches!(progress.next("b"), CodeAction::Spend));
        progress.record("b", &Ok(entered()));
        assert!(matches!(progress.next("a"), CodeAction::Done(_)), "shape B: the good code counts for both");
    }

    #[test]
    fn no_flow_spends_codes_without_end() {
        let mut progress = Progress::<&str>::default();
        for code in ["a", "b", "c"] {
            assert!(matches!(progress.next(code), CodeAction::Spend));
            progress.record(code, &Err("40029"));
        }
        assert!(matches!(progress.next("d"), CodeAction::Failed(_)));
    }

    #[test]
    fn outcomes_are_bounded_by_age_and_count() {
        let outcomes = CallbackRegistry::<&str>::default();
        let now = Instant::now();
        let first = outcomes.slot("a", now);
        assert!(Arc::ptr_eq(&first, &outcomes.slot("a", now)));
        assert!(!Arc::ptr_eq(&first, &outcomes.slot("a", now + OUTCOME_TTL)));
        for number in 0..2 * MAX_ENTRIES {
            let _ = outcomes.slot(&number.to_string(), now + OUTCOME_TTL);
        }
        assert!(outcomes.len() <= MAX_ENTRIES);
    }

    #[test]
    fn deliveries_under_way_are_counted() {
        let outcomes = CallbackRegistry::<&str>::default();
        assert_eq!(outcomes.deliveries("a"), 0);
        let both = [outcomes.slot("a", Instant::now()), outcomes.slot("a", Instant::now())];
        assert_eq!(outcomes.deliveries("a"), 2);
        drop(both);
        assert_eq!(outcomes.deliveries("a"), 0);
    }

    #[tokio::test]
    async fn only_the_session_of_a_flow_learns_where_it_ended() {
        let outcomes = CallbackRegistry::<&str>::default();
        outcomes.slot("a", Instant::now()).lock().await.record("code", &Ok(entered()));
        assert_eq!(outcomes.location_for("a", SessionId::named("s")).as_deref(), Some("/"));
        assert_eq!(outcomes.location_for("a", SessionId::named("other")), None);
        assert_eq!(outcomes.location_for("b", SessionId::named("s")), None);
    }
}
