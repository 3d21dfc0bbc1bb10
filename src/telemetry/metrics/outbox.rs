//! Events and session records that are written to Redis.

use super::declare::{Counters, Gauges};
use super::labels::{DropLabels, EventLabels, GroupLabels, ItemLabels};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

metrics! {
    /// Events and session records that are written to Redis.
    pub struct OutboxMetrics {
        /// Items that wait to be written to Redis: events and session records.
        waiting: Gauges<ItemLabels> = "outbox_waiting", with_items(|item| ItemLabels { item });
        /// Items that were not written to Redis, by reason: full, refused or ended.
        dropped: Counters<DropLabels> = "outbox_dropped", with_items(|item| DropLabels { item, reason: "full" });
        /// Events appended to the stream, by event.
        events: Counters<EventLabels> = "events_appended";
        /// Events removed from the stream to keep it within redis.events.max.
        trimmed: Counter = "events_trimmed";
        /// Events removed from the stream before a consumer group had read them, by group.
        lost: Counters<GroupLabels> = "events_lost";
        /// Events that a consumer group has not read yet, by group; an upper bound if Redis does not know the number.
        lag: Gauges<GroupLabels> = "events_lag";
        /// Records in Redis that this version or its keys cannot read.
        unreadable: Counter = "redis_records_unreadable";
    }
}

/// A family with a series for each item: `rate` does not see the first event of a series that starts with it.
fn with_items<L, M>(labels: fn(&'static str) -> L) -> Family<L, M>
where
    L: Clone + std::hash::Hash + Eq,
    M: Default,
{
    let family = Family::default();
    for item in ["events", "records"] {
        drop(family.get_or_create(&labels(item)));
    }
    family
}

impl OutboxMetrics {
    /// Sets the number of waiting `events` or `records`.
    pub fn waiting(&self, item: &'static str, count: usize) {
        self.waiting.get_or_create(&ItemLabels { item }).set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Records an item that was not written: `full`, `refused` or `ended`.
    pub fn dropped(&self, item: &'static str, reason: &'static str) {
        self.dropped.get_or_create(&DropLabels { item, reason }).inc();
    }

    /// Records an event in the stream.
    pub fn appended(&self, event: &'static str) {
        self.events.get_or_create(&EventLabels { event }).inc();
    }

    /// Records events that were removed to keep the stream within its maximum.
    pub fn trimmed(&self, events: u64) {
        self.trimmed.inc_by(events);
    }

    /// Records events that were removed before this consumer group had read them.
    pub fn lost(&self, group: &str, events: u64) {
        self.lost.get_or_create(&GroupLabels { group: group.to_owned() }).inc_by(events);
    }

    /// Sets the lag of each consumer group and removes the series of deleted groups. Of several groups with one label, the
    /// largest lag counts.
    pub fn lags(&self, groups: impl Iterator<Item = (String, u64)>) {
        self.lag.clear();
        for (group, lag) in groups {
            let labels = GroupLabels { group };
            // `increase` does not see the first loss of a series that starts with it.
            drop(self.lost.get_or_create(&labels));
            let gauge = self.lag.get_or_create_owned(&labels);
            gauge.set(gauge.get().max(i64::try_from(lag).unwrap_or(i64::MAX)));
        }
    }

    /// Records a record in Redis that cannot be read.
    pub fn unreadable(&self) {
        self.unreadable.inc();
    }
}
