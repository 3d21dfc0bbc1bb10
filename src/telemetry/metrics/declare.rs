//! The declaration of a group of metrics.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry};

pub(super) type Counters<L> = Family<L, Counter>;
pub(super) type Gauges<L> = Family<L, Gauge>;
pub(super) type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

const PREFIX: &str = "wechat_authz";

/// The registry of the declared metrics.
pub(super) struct Declared {
    pub registry: Registry,
    /// Their rows in `docs/en/metrics.md`: name, type and meaning.
    #[cfg(test)]
    pub rows: Vec<(String, String, &'static str)>,
}

impl Default for Declared {
    fn default() -> Self {
        Self {
            registry: Registry::with_prefix(PREFIX),
            #[cfg(test)]
            rows: Vec::new(),
        }
    }
}

impl Declared {
    /// Registers a metric. `help` is a doc comment or its text.
    pub(super) fn add(&mut self, name: &'static str, help: &'static str, metric: impl Metric) {
        let help = help.trim().trim_end_matches('.');
        #[cfg(test)]
        self.rows.push((format!("{PREFIX}_{name}"), metric.metric_type().as_str().to_owned(), help));
        self.registry.register(name, help, metric);
    }
}

/// Declares a group: a struct with its metrics as fields, `Default`, and `register`. The doc comment of a field is the
/// metric's `# HELP`. A metric without a `Default` is followed by its first value.
macro_rules! metrics {
    (@new) => { Default::default() };
    (@new $new:expr) => { $new };
    (
        $(#[$attribute:meta])*
        $scope:vis struct $group:ident {
            $(#[doc = $help:literal] $visibility:vis $field:ident: $type:ty = $name:literal $(, $new:expr)?;)+
        }
    ) => {
        $(#[$attribute])*
        #[derive(Clone, Debug)]
        $scope struct $group {
            $(#[doc = $help] $visibility $field: $type,)+
        }

        impl Default for $group {
            fn default() -> Self {
                Self { $($field: metrics!(@new $($new)?),)+ }
            }
        }

        impl $group {
            pub(super) fn register(&self, declared: &mut $crate::telemetry::metrics::declare::Declared) {
                $(declared.add($name, $help, self.$field.clone());)+
            }
        }
    };
}
