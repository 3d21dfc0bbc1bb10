//! The process as the operating system sees it, read when somebody looks. The names are those that every Prometheus
//! library gives, without our prefix: tables and alerts that know them work here too.
//!
//! Where a system does not tell (only Linux has `/proc`), the metric is absent rather than wrong.

use super::MetricInfo;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use rustix::process::Resource;
use rustix::time::ClockId;
use std::fmt::Error;
use std::time::Duration;

const MEMORY: (&str, &str) = ("process_resident_memory_bytes", "Resident memory of the process");
const CPU: (&str, &str) = ("process_cpu_seconds", "CPU time used by the process");
const OPEN_FILES: (&str, &str) = ("process_open_fds", "Open file descriptors");
const MAX_FILES: (&str, &str) = ("process_max_fds", "Maximum number of open file descriptors");

/// Asks the operating system at each look.
#[derive(Debug)]
pub(super) struct Process;

impl Process {
    /// What there is, for the tables.
    pub(super) fn documented() -> [MetricInfo; 4] {
        [(MEMORY, "gauge"), (CPU, "counter"), (OPEN_FILES, "gauge"), (MAX_FILES, "gauge")]
            .map(|((name, help), kind)| MetricInfo { name: name.into(), kind, help })
    }
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let mut show = |(name, help): (&str, &str), metric: &dyn Shown| metric.show(name, help, &mut encoder);
        if let Some(bytes) = resident() {
            show(MEMORY, &ConstGauge::new(bytes))?;
        }
        show(CPU, &ConstCounter::new(used().as_secs_f64()))?;
        if let Some(count) = open_files() {
            show(OPEN_FILES, &ConstGauge::new(count))?;
        }
        if let Some(most) = rustix::process::getrlimit(Resource::Nofile).current {
            show(MAX_FILES, &ConstGauge::new(number(most)))?;
        }
        Ok(())
    }
}

/// A metric of any number's type.
trait Shown {
    fn show(&self, name: &str, help: &str, encoder: &mut DescriptorEncoder<'_>) -> Result<(), Error>;
}

impl<M: EncodeMetric> Shown for M {
    fn show(&self, name: &str, help: &str, encoder: &mut DescriptorEncoder<'_>) -> Result<(), Error> {
        self.encode(encoder.encode_descriptor(name, help, None, self.metric_type())?)
    }
}

/// Bytes in RAM: the second number of `statm` counts them in pages.
fn resident() -> Option<i64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    Some(number(pages.saturating_mul(rustix::param::page_size() as u64)))
}

/// Processor time of all threads, in our code and in the kernel for us.
fn used() -> Duration {
    let time = rustix::time::clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap_or(0), time.tv_nsec.try_into().unwrap_or(0))
}

/// Entries of `fd`, without the one that reads them.
fn open_files() -> Option<i64> {
    let count = std::fs::read_dir("/proc/self/fd").ok()?.count();
    i64::try_from(count).ok().map(|count| count - 1)
}

fn number(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
