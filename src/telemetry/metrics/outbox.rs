//! What is counted of the things that wait to be written to Redis.

use super::labels::{DropLabels, EventLabels, GroupLabels, ItemLabels};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

/// What is counted where it happens.
#[derive(Clone, Default)]
pub struct OutboxMetrics {
    pub(super) waiting: Family<ItemLabels, Gauge>,
    pub(super) dropped: Family<DropLabels, Counter>,
    pub(super) events: Family<EventLabels, Counter>,
    pub(super) trimmed: Counter,
    pub(super) lost: Family<GroupLabels, Counter>,
    pub(super) lag: Family<GroupLabels, Gauge>,
    pub(super) unreadable: Counter,
}

impl OutboxMetrics {
    /// How many of a kind wait: `events`, `records`.
    pub fn waiting(&self, item: &'static str, count: usize) {
        self.waiting.get_or_create(&ItemLabels { item }).set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// One of a kind was given up, and why: `full`, `refused`, `ended`.
    pub fn dropped(&self, item: &'static str, reason: &'static str) {
        self.dropped.get_or_create(&DropLabels { item, reason }).inc();
    }

    /// An event of this type is in the stream.
    pub fn appended(&self, event: &'static str) {
        self.events.get_or_create(&EventLabels { event }).inc();
    }

    /// Events were removed from the stream to keep it within its maximum.
    pub fn trimmed(&self, events: u64) {
        self.trimmed.inc_by(events);
    }

    /// Events were removed before this consumer group had read them.
    pub fn lost(&self, group: &str, events: u64) {
        self.lost.get_or_create(&GroupLabels { group: group.to_owned() }).inc_by(events);
    }

    /// How far each consumer group lags; a group that is gone is shown no more. Of groups with one label the worst counts.
    pub fn lags(&self, groups: impl Iterator<Item = (String, u64)>) {
        self.lag.clear();
        for (group, lag) in groups {
            let labels = GroupLabels { group };
            // The series of losses exist before the first loss, or an alert's `increase` misses it.
            drop(self.lost.get_or_create(&labels));
            let gauge = self.lag.get_or_create_owned(&labels);
            gauge.set(gauge.get().max(i64::try_from(lag).unwrap_or(i64::MAX)));
        }
    }

    /// A record of Redis could not be read: another version's, another key's, or nobody's.
    pub fn unreadable(&self) {
        self.unreadable.inc();
    }
}
