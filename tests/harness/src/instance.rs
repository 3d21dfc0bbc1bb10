//! An instance of wechat-authz.

use crate::process::Process;
use crate::{faketime, program};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// An instance and its files. Dropping it kills its process.
pub struct Instance {
    /// Its configuration.
    pub config: PathBuf,
    /// Its log.
    pub log: PathBuf,
    /// The file with the offset of its wall clock, if the test sets the clock.
    clock: Option<PathBuf>,
    /// Its limit of open files; by default the one of this process.
    pub files: Option<u32>,
    /// Variables of its environment.
    pub environment: Vec<(&'static str, String)>,
    process: Option<Process>,
}

impl Instance {
    /// An instance with its files in this directory: `config.yaml` and `authz.log`, or with a suffix `config-1.yaml` and
    /// `authz-1.log`.
    pub fn new(directory: &Path, suffix: &str) -> Self {
        Self {
            config: directory.join(format!("config{suffix}.yaml")),
            log: directory.join(format!("authz{suffix}.log")),
            clock: None,
            files: None,
            environment: Vec::new(),
            process: None,
        }
    }

    /// Lets the test set its wall clock. Its durations come from the real monotonic clock.
    pub fn with_clock(self) -> Self {
        Self { clock: Some(self.log.with_extension("clock")), ..self }
    }

    /// Starts `serve` without waiting for it.
    pub fn start(&mut self) {
        let mut command = Command::new(program());
        if let Some(files) = self.files {
            // `prlimit` sets the limit and then executes the program, so that the process id stays the same.
            command = Command::new("prlimit");
            command.arg(format!("--nofile={files}:{files}")).arg(program());
        }
        if let Some(clock) = &self.clock {
            command.env("LD_PRELOAD", faketime()).env("FAKETIME_TIMESTAMP_FILE", clock);
            command.env("FAKETIME_NO_CACHE", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
            self.set_clock(0);
        }
        // The environment of the tests must not switch on traces.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("OTEL_")) {
            command.env_remove(name);
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.args(["serve", "--config"]).arg(&self.config);
        self.process = Some(Process::logging(&mut command, &self.log));
    }

    /// Sets its wall clock to this offset from the real time, in seconds.
    pub fn set_clock(&self, offset: i64) {
        let file = self.clock.as_ref().expect("the test must set the clock");
        let fresh = file.with_extension("new");
        std::fs::write(&fresh, format!("{offset:+}")).unwrap();
        std::fs::rename(&fresh, file).unwrap();
    }

    /// The text of its log.
    pub fn logged(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits for a line with this message after `offset` in its log.
    pub async fn until_logged(&mut self, message: &str, offset: usize) -> serde_json::Value {
        let start = Instant::now();
        loop {
            let text = self.logged();
            let lines = text.get(offset..).unwrap_or_default().lines();
            let mut parsed = lines.filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
            if let Some(found) = parsed.find(|line| line["message"] == message) {
                return found;
            }
            self.assert_alive();
            assert!(start.elapsed() < Duration::from_secs(30), "no \"{message}\" in\n{text}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Panics with its log if it has exited.
    pub fn assert_alive(&mut self) {
        if let Some(status) = self.process.as_mut().and_then(Process::status) {
            panic!("wechat-authz exited with {status}:\n{}", self.logged());
        }
    }

    /// Its process, if it is running.
    pub fn process(&self) -> Option<&Process> {
        self.process.as_ref()
    }

    /// Sends it a signal by name.
    pub fn signal(&self, name: &str) {
        self.process().expect("the instance must be running").signal(name);
    }

    /// Kills it, as a crash does.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Waits until it exits and returns its exit code.
    pub async fn ended(&mut self, within: Duration) -> Option<i32> {
        let status = self.process.as_mut().expect("a running instance").ended(within).await;
        self.process = None;
        status.code()
    }
}
