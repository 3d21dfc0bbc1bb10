//! An instance of wechat-authz.

use crate::process::Process;
use crate::{faketime, program};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// An instance with its files. Its process ends with this value.
pub struct Instance {
    /// Its configuration.
    pub config: PathBuf,
    /// What it logs.
    pub log: PathBuf,
    /// Its wall clock's offset, if the test sets it.
    clock: Option<PathBuf>,
    /// How many files it may have open; by default as many as this process.
    pub files: Option<u32>,
    /// Variables of its environment.
    pub environment: Vec<(&'static str, String)>,
    process: Option<Process>,
}

impl Instance {
    /// An instance with files of this name in a directory: `config.yaml` and `authz.log`, or `config-1.yaml` and
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

    /// Lets the test set its wall clock; its durations stay on the true monotonic clock.
    pub fn with_clock(self) -> Self {
        Self { clock: Some(self.log.with_extension("clock")), ..self }
    }

    /// Starts `serve`, and does not wait for it.
    pub fn start(&mut self) {
        let mut command = Command::new(program());
        if let Some(files) = self.files {
            // It sets the limit and becomes the program: the process id is the same.
            command = Command::new("prlimit");
            command.arg(format!("--nofile={files}:{files}")).arg(program());
        }
        if let Some(clock) = &self.clock {
            command.env("LD_PRELOAD", faketime()).env("FAKETIME_TIMESTAMP_FILE", clock);
            command.env("FAKETIME_NO_CACHE", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
            self.set_clock(0);
        }
        // The tests may run traced; an instance is as its plan says.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("OTEL_")) {
            command.env_remove(name);
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.args(["serve", "--config"]).arg(&self.config);
        self.process = Some(Process::logging(&mut command, &self.log));
    }

    /// Sets its wall clock this many seconds from the true time.
    pub fn set_clock(&self, offset: i64) {
        let file = self.clock.as_ref().expect("an instance with a clock of its own");
        let fresh = file.with_extension("new");
        std::fs::write(&fresh, format!("{offset:+}")).unwrap();
        std::fs::rename(&fresh, file).unwrap();
    }

    /// What it has logged so far.
    pub fn logged(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits for a line with this message in its log, past `offset`.
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

    /// Fails with the log if it has ended.
    pub fn assert_alive(&mut self) {
        if let Some(status) = self.process.as_mut().and_then(Process::status) {
            panic!("wechat-authz ended with {status}:\n{}", self.logged());
        }
    }

    /// Its process, if it runs.
    pub fn process(&self) -> Option<&Process> {
        self.process.as_ref()
    }

    /// Sends it a signal by name.
    pub fn signal(&self, name: &str) {
        self.process().expect("a running instance").signal(name);
    }

    /// Kills it, as a crash does.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Waits for it to end by itself; its exit code.
    pub async fn ended(&mut self, within: Duration) -> Option<i32> {
        let status = self.process.as_mut().expect("a running instance").ended(within).await;
        self.process = None;
        status.code()
    }
}
