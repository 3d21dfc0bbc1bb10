//! The instance: its listeners, configuration and logs.

use super::declare::{Counters, Gauges};
use super::labels::{ListenerLabels, OutcomeLabels};
use prometheus_client::metrics::gauge::Gauge;

metrics! {
    /// The instance: its listeners, configuration and logs.
    pub struct InstanceMetrics {
        /// Reloads of the configuration or the keys, by outcome.
        reloads: Counters<OutcomeLabels> = "configuration_reloads", reloads();
        /// Unix time at which the current configuration was loaded.
        pub loaded_at: Gauge = "configuration_loaded_timestamp_seconds";
        /// Open connections, by listener.
        connections: Gauges<ListenerLabels> = "connections";
        /// Connections that could not be accepted, by listener.
        accept_failures: Counters<ListenerLabels> = "accept_failures";
        /// Requests whose handler panicked, by listener.
        panics: Counters<ListenerLabels> = "panics";
        /// Log lines dropped because standard output was blocked.
        pub log_lines_dropped: Gauge = "log_lines_dropped";
    }
}

fn reloads() -> Counters<OutcomeLabels> {
    let reloads = Counters::default();
    for outcome in ["accepted", "rejected"] {
        drop(reloads.get_or_create(&OutcomeLabels { outcome }));
    }
    reloads
}

impl InstanceMetrics {
    /// Records that a changed configuration or changed keys were `accepted` or `rejected`.
    pub fn reloaded(&self, outcome: &'static str) {
        self.reloads.get_or_create(&OutcomeLabels { outcome }).inc();
    }

    /// The gauge of a listener's open connections. Creates the listener's other series.
    pub fn connections(&self, listener: &'static str) -> Gauge {
        let labels = ListenerLabels { listener };
        drop(self.accept_failures.get_or_create(&labels));
        drop(self.panics.get_or_create(&labels));
        self.connections.get_or_create_owned(&labels)
    }

    /// Records a connection that could not be accepted.
    pub fn accept_failure(&self, listener: &'static str) {
        self.accept_failures.get_or_create(&ListenerLabels { listener }).inc();
    }

    /// Records a request whose handler panicked.
    pub fn panic(&self, listener: &'static str) {
        self.panics.get_or_create(&ListenerLabels { listener }).inc();
    }
}
