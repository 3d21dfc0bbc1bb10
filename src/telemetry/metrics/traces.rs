//! Exported spans.

use super::declare::Counters;
use super::labels::ReasonLabels;
use prometheus_client::metrics::counter::Counter;

metrics! {
    /// Exported spans.
    pub struct TraceMetrics {
        /// Spans that the collector accepted.
        exported: Counter = "spans_exported";
        /// Spans that were not exported, by reason: full, failed or refused.
        dropped: Counters<ReasonLabels> = "spans_dropped", dropped();
    }
}

fn dropped() -> Counters<ReasonLabels> {
    let dropped = Counters::default();
    for reason in ["full", "failed", "refused"] {
        drop(dropped.get_or_create(&ReasonLabels { reason }));
    }
    dropped
}

impl TraceMetrics {
    /// Records spans that the collector accepted.
    pub fn exported(&self, spans: u64) {
        self.exported.inc_by(spans);
    }

    /// Records spans that were not exported: `full`, `failed` or `refused`.
    pub fn dropped(&self, reason: &'static str, spans: u64) {
        self.dropped.get_or_create(&ReasonLabels { reason }).inc_by(spans);
    }

    #[cfg(test)]
    pub(in crate::telemetry) fn exported_total(&self) -> u64 {
        self.exported.get()
    }

    #[cfg(test)]
    pub(in crate::telemetry) fn dropped_total(&self, reason: &'static str) -> u64 {
        self.dropped.get_or_create(&ReasonLabels { reason }).get()
    }
}
