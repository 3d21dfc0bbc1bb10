//! What is counted of the things that wait to be written to Redis.

use super::labels::{DropLabels, Word};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

/// What is counted where it happens.
#[derive(Clone, Default)]
pub struct OutboxMeter {
    pub(super) waiting: Family<Word, Gauge>,
    pub(super) dropped: Family<DropLabels, Counter>,
    pub(super) events: Family<Word, Counter>,
    pub(super) unreadable: Counter,
}

impl OutboxMeter {
    /// How many of a kind wait: `events`, `records`.
    pub fn waiting(&self, kind: &'static str, count: usize) {
        self.waiting.get_or_create(&Word { kind }).set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// One of a kind was given up, and why: `full`, `refused`, `ended`.
    pub fn dropped(&self, kind: &'static str, why: &'static str) {
        self.dropped.get_or_create(&DropLabels { kind, why }).inc();
    }

    /// An event of this type is in the stream.
    pub fn appended(&self, kind: &'static str) {
        self.events.get_or_create(&Word { kind }).inc();
    }

    /// A record of Redis could not be read: another version's, another key's, or nobody's.
    pub fn unreadable(&self) {
        self.unreadable.inc();
    }
}
