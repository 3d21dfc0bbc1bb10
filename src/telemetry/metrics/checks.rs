//! Checks and the tokens in them.

use super::declare::{Counters, Declared};
use super::labels::CheckLabels;
use crate::decision::{Decision, Reason};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::Histogram;
use std::time::Duration;

/// From a cached check to the time-out of a gateway. One bound above 0.5 s, because no quantile exceeds the highest bound.
const CHECK_BUCKETS: [f64; 13] = [5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2.5e-3, 1e-2, 5e-2, 0.5, 1.0];

metrics! {
    /// The families of checks.
    struct CheckFamilies {
        /// Checks answered, by decision and reason.
        answered: Counters<CheckLabels> = "checks";
        /// Time from the headers of a check to its answer.
        duration: Histogram = "check_duration_seconds", Histogram::new(CHECK_BUCKETS);
    }
}

metrics! {
    /// Session tokens, counted by the session module.
    pub struct TokenMetrics {
        /// Tokens found in the cache as verified.
        pub cache_hits: Counter = "token_cache_hits";
        /// Tokens found in the cache as rejected.
        pub cache_rejected_hits: Counter = "token_cache_rejected_hits";
        /// Signature verifications: one for each token that is not in the cache.
        pub verifications: Counter = "token_signature_verifications";
        /// Tokens rejected without a verification of their signature.
        pub rejected_unverified: Counter = "tokens_rejected_unverified";
    }
}

/// Checks, with the counter of each reason at hand: a look-up by labels takes a lock and allocates.
pub struct CheckMetrics {
    families: CheckFamilies,
    /// In the order of [`Reason::ALL`].
    by_reason: Vec<Counter>,
}

impl Default for CheckMetrics {
    fn default() -> Self {
        let families = CheckFamilies::default();
        let counter = |reason: &Reason| {
            let labels = CheckLabels { decision: decision_of(*reason), reason: reason.as_str() };
            families.answered.get_or_create_owned(&labels)
        };
        let by_reason = Reason::ALL.iter().map(counter).collect();
        Self { families, by_reason }
    }
}

impl CheckMetrics {
    pub(super) fn register(&self, declared: &mut Declared) {
        self.families.register(declared);
    }

    /// Records the answer to a check.
    pub fn record(&self, decision: &Decision, elapsed: Duration) {
        let reason = decision.reason();
        debug_assert_eq!(decision.as_str(), decision_of(reason), "{reason:?}");
        if let Some(counter) = self.by_reason.get(reason as usize) {
            counter.inc();
        }
        self.families.duration.observe(elapsed.as_secs_f64());
    }
}

/// The decision of which `reason` is a reason.
const fn decision_of(reason: Reason) -> &'static str {
    match reason {
        Reason::PublicPath | Reason::AnonymousAllowed | Reason::SessionValid | Reason::SessionRenewed => "allow",
        Reason::SessionNeedsRenewal => "renew",
        Reason::PageInBand => "page",
        Reason::NoSession
        | Reason::ConflictingCredentials
        | Reason::TokenMalformed
        | Reason::TokenForeign
        | Reason::TokenUnknownKey
        | Reason::TokenForged
        | Reason::SessionExpired
        | Reason::SessionIdle
        | Reason::SessionRevoked => "login",
        Reason::SubjectNotAllowed
        | Reason::AmbiguousPath
        | Reason::UnknownHost
        | Reason::MethodNotUpperCase
        | Reason::ConnectDenied
        | Reason::PreflightDenied
        | Reason::PagesNotRouted => "deny",
        Reason::TooManyChecks | Reason::TooManyNewTokens => "limited",
    }
}
