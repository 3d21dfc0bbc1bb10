//! `process_*`: the process as the operating system sees it, under the names that Prometheus libraries use. No maintained
//! library exports these through prometheus-client.
//!
//! A metric that the system does not provide is absent: only Linux has `/proc`.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use rustix::process::Resource;
use rustix::time::ClockId;
use std::fmt::Error;
use std::time::Duration;

type Description = (&'static str, &'static str);
const MEMORY: Description = ("process_resident_memory_bytes", "Resident memory of the process");
const CPU: Description = ("process_cpu_seconds", "CPU time used by the process");
const OPEN_FILES: Description = ("process_open_fds", "Open file descriptors");
const MAX_FILES: Description = ("process_max_fds", "Maximum number of open file descriptors");

/// Reads the values at each scrape.
#[derive(Debug)]
pub(super) struct Process;

impl Process {
    /// The rows in `docs/en/metrics.md`.
    #[cfg(test)]
    pub(super) fn rows() -> [(String, String, &'static str); 4] {
        [(MEMORY, "gauge"), (CPU, "counter"), (OPEN_FILES, "gauge"), (MAX_FILES, "gauge")]
            .map(|((name, help), kind)| (name.to_owned(), kind.to_owned(), help))
    }
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let encoder = &mut encoder;
        if let Some(bytes) = resident_memory() {
            encode(encoder, MEMORY, &ConstGauge::new(bytes))?;
        }
        encode(encoder, CPU, &ConstCounter::new(cpu_time().as_secs_f64()))?;
        if let Some(count) = open_files() {
            encode(encoder, OPEN_FILES, &ConstGauge::new(count))?;
        }
        if let Some(max) = rustix::process::getrlimit(Resource::Nofile).current {
            encode(encoder, MAX_FILES, &ConstGauge::new(saturating(max)))?;
        }
        Ok(())
    }
}

fn encode(
    encoder: &mut DescriptorEncoder<'_>,
    (name, help): Description,
    metric: &impl EncodeMetric,
) -> Result<(), Error> {
    metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
}

/// The second number of `statm` is the resident memory in pages.
fn resident_memory() -> Option<i64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    Some(saturating(pages.saturating_mul(rustix::param::page_size() as u64)))
}

/// CPU time of all threads, in user and kernel mode.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap_or(0), time.tv_nsec.try_into().unwrap_or(0))
}

/// The entries of `fd`, without the one that reads the directory.
fn open_files() -> Option<i64> {
    let count = std::fs::read_dir("/proc/self/fd").ok()?.count();
    i64::try_from(count).ok().map(|count| count - 1)
}

fn saturating(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
