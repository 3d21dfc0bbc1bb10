//! A real Redis server for one test, on a free loopback port and without persistence.

use crate::free_port;
use crate::process::Process;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A server. Dropping it kills the process.
pub struct Redis {
    pub port: u16,
    process: Option<Process>,
    directory: tempfile::TempDir,
    arguments: Vec<String>,
}

impl Redis {
    /// Starts a server and waits until it answers.
    pub async fn start() -> Self {
        Self::with(&[]).await
    }

    /// The same with these arguments.
    pub async fn with(arguments: &[&str]) -> Self {
        let mut redis = Self::planned(arguments);
        redis.run().await;
        redis
    }

    /// A server that has a port and is not started.
    pub fn planned(arguments: &[&str]) -> Self {
        Self {
            port: free_port(),
            process: None,
            directory: tempfile::tempdir().unwrap(),
            arguments: arguments.iter().map(|&argument| argument.to_owned()).collect(),
        }
    }

    /// Starts it without data.
    pub async fn run(&mut self) {
        let mut command = Command::new("redis-server");
        command.args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
        command.args(["--dir", self.directory.path().to_str().unwrap(), "--logfile", "redis.log"]);
        let mut process = Process::start(command.args(&self.arguments).stdout(Stdio::null()));
        let start = Instant::now();
        while self.try_ask::<String>(&["PING"]).await.is_err() {
            let status = process.status();
            if status.is_some() || start.elapsed() > Duration::from_secs(20) {
                let log = std::fs::read_to_string(self.directory.path().join("redis.log")).unwrap_or_default();
                panic!("redis-server does not answer ({status:?}):\n{log}");
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.process = Some(process);
    }

    /// The lines that configure wechat-authz to use it.
    pub fn configuration(&self) -> String {
        format!("redis:\n  url: redis://127.0.0.1:{}/0\n", self.port)
    }

    /// Kills it, as a crash does.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Sends it a signal by name.
    pub fn signal(&self, name: &str) {
        self.process.as_ref().unwrap().signal(name);
    }

    /// Sends one command and returns its reply.
    pub async fn ask<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        self.try_ask(words).await.unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    async fn try_ask<T: redis::FromRedisValue>(&self, words: &[&str]) -> redis::RedisResult<T> {
        let client = redis::Client::open(format!("redis://127.0.0.1:{}/", self.port))?;
        let mut connection = client.get_multiplexed_async_connection().await?;
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        command.query_async(&mut connection).await
    }

    /// Every key and its remaining time to live in milliseconds.
    pub async fn keys(&self) -> Vec<(String, i64)> {
        let mut keys = Vec::new();
        for key in self.ask::<Vec<String>>(&["KEYS", "*"]).await {
            let left = self.ask(&["PTTL", &key]).await;
            keys.push((key, left));
        }
        keys
    }
}
