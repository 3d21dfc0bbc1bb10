//! A real Redis server of a test's own, on a free port of this machine, with nothing on a disk that outlives it.

use crate::stack::free_port;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The server. It ends with this value.
pub struct Redis {
    pub port: u16,
    child: Option<Child>,
    directory: tempfile::TempDir,
    arguments: Vec<String>,
}

impl Redis {
    /// A server that answers.
    pub async fn start() -> Self {
        Self::with(&[]).await
    }

    /// The same with these arguments.
    pub async fn with(arguments: &[&str]) -> Self {
        let mut redis = Self::planned(arguments);
        redis.run().await;
        redis
    }

    /// A server that has a port and does not run yet.
    pub fn planned(arguments: &[&str]) -> Self {
        Self {
            port: free_port(),
            child: None,
            directory: tempfile::tempdir().unwrap(),
            arguments: arguments.iter().map(|&argument| argument.to_owned()).collect(),
        }
    }

    /// Starts it, or starts it again, empty.
    pub async fn run(&mut self) {
        let child = Command::new("redis-server")
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .args(["--dir", self.directory.path().to_str().unwrap(), "--logfile", "redis.log"])
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("Debian's package redis-server");
        self.child = Some(child);
        let begun = Instant::now();
        while self.try_ask::<String>(&["PING"]).await.is_err() {
            let ended = self.child.as_mut().unwrap().try_wait().unwrap();
            if ended.is_some() || begun.elapsed() > Duration::from_secs(20) {
                let log = std::fs::read_to_string(self.directory.path().join("redis.log")).unwrap_or_default();
                panic!("redis-server does not answer ({ended:?}):\n{log}");
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Its lines in a configuration.
    pub fn configuration(&self) -> String {
        format!("redis:\n  url: redis://127.0.0.1:{}/0\n", self.port)
    }

    /// Kills it, as a crash does.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Sends it a signal by name.
    pub fn signal(&self, name: &str) {
        let id = self.child.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &id]).status().unwrap().success());
    }

    /// One command's answer.
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

    /// Every key, and how many milliseconds it still lives.
    pub async fn keys(&self) -> Vec<(String, i64)> {
        let mut keys = Vec::new();
        for key in self.ask::<Vec<String>>(&["KEYS", "*"]).await {
            let left = self.ask(&["PTTL", &key]).await;
            keys.push((key, left));
        }
        keys
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}
