//! The connection to Redis, and reconnecting.
//!
//! Calls do not wait for a connection: without one, they fail at once, so that no request hangs. One task connects, with
//! growing random pauses so that many instances do not reconnect at the same time. It also probes the connection every second:
//! whether the server answers and accepts writes.

use super::connect::{RedisConnection, connect};
use super::{CallError, Settings};
use crate::telemetry::{RedisMetrics, traces};
use arc_swap::{ArcSwap, ArcSwapOption, Guard};
use parking_lot::Mutex;
use redis::{ErrorKind, FromRedisValue, RedisError, RedisResult, ServerErrorKind};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::{Instant, sleep, timeout};

/// The most calls that wait for an answer.
const MAX_CALLS: usize = 512;

/// The longest attempt to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(4);

/// The time between two probes.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);

/// How many probes in a row must fail before the connection to a Cluster is dropped: one node may be down.
const MAX_FAILED_PROBES: u32 = 3;

/// The first and the longest pause before a new attempt.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// How long no call of a kind may be refused before the log says so. During a failover, a Cluster refuses the keys of one
/// slot and accepts those of another.
const RECOVERY_WINDOW: Duration = Duration::from_secs(5);

/// The log line for a lost connection, written once.
const UNAVAILABLE_MESSAGE: &str =
    "cannot reach redis: sessions stay valid, logins rely on their cookies, and shared data waits";

pub(super) struct Connection {
    settings: ArcSwap<Settings>,
    client: ArcSwapOption<RedisConnection>,
    /// Grows with each new connection.
    epoch: watch::Sender<u64>,
    /// Whether the first attempt to connect has ended.
    first_attempt: watch::Sender<bool>,
    /// Wakes the task that probes the connection.
    suspect: Notify,
    permits: Semaphore,
    /// The calls that Redis refuses, with the time of the last refusal. The log names each once.
    refused: Mutex<BTreeMap<&'static str, Instant>>,
    meter: RedisMetrics,
}

impl Connection {
    pub(super) fn new(settings: Settings, meter: RedisMetrics) -> Self {
        Self {
            settings: ArcSwap::from_pointee(settings),
            client: ArcSwapOption::empty(),
            epoch: watch::Sender::new(0),
            first_attempt: watch::Sender::new(false),
            suspect: Notify::new(),
            permits: Semaphore::new(MAX_CALLS),
            refused: Mutex::default(),
            meter,
        }
    }

    pub(super) fn settings(&self) -> Guard<Arc<Settings>> {
        self.settings.load()
    }

    /// Uses `settings` from the next connection on.
    pub(super) fn replace(&self, settings: Settings) {
        self.settings.store(Arc::new(settings));
    }

    pub(super) fn is_up(&self) -> bool {
        self.client.load().is_some()
    }

    pub(super) async fn connected_since(&self, epoch: u64) -> u64 {
        let mut epochs = self.epoch.subscribe();
        let now = epochs.wait_for(|now| *now > epoch).await.map(|now| *now);
        match now {
            Ok(now) => now,
            // Not possible: `self` holds the sender.
            Err(_) => std::future::pending().await,
        }
    }

    /// Waits until the first attempt to connect has succeeded or failed.
    pub(super) async fn first_attempt(&self) {
        let _ = self.first_attempt.subscribe().wait_for(|tried| *tried).await;
    }

    /// Makes a call within the configured timeout.
    pub(super) async fn call<T: FromRedisValue>(
        &self,
        call: &'static str,
        send: impl AsyncFnOnce(&mut RedisConnection) -> RedisResult<T>,
    ) -> Result<T, CallError> {
        let started = Instant::now();
        let span = traces::client_span("redis", call);
        let answer = self.send(call, send).await;
        let failed = answer.as_ref().err().map(|error| error.as_str());
        span.set_attribute("db.system.name", "redis");
        if let Some(reason) = failed {
            span.set_error(reason);
        }
        self.meter.call(call, failed, started.elapsed());
        answer
    }

    async fn send<T: FromRedisValue>(
        &self,
        call: &'static str,
        send: impl AsyncFnOnce(&mut RedisConnection) -> RedisResult<T>,
    ) -> Result<T, CallError> {
        let Some(shared) = self.client.load_full() else { return Err(CallError::Down) };
        let _permit = self.permits.try_acquire().map_err(|_| CallError::Busy)?;
        let mut client = RedisConnection::clone(&shared);
        match timeout(self.settings().timeout, send(&mut client)).await {
            Ok(Ok(answer)) => {
                self.on_success(call);
                Ok(answer)
            }
            Ok(Err(error)) => Err(self.on_error(call, &shared, &error)),
            Err(_) => {
                self.suspect.notify_one();
                Err(CallError::TimedOut)
            }
        }
    }

    /// Converts an error, and reconnects or probes the connection if the error calls for it.
    fn on_error(&self, call: &'static str, client: &Arc<RedisConnection>, error: &RedisError) -> CallError {
        match error.kind() {
            // The server is a replica now, or has lost its master. The client of a Cluster finds the new master itself.
            ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown)
                if matches!(**client, RedisConnection::One(_)) =>
            {
                self.reconnect(client);
                CallError::Broken
            }
            // Redis is full, the user lacks a permission, or the key has another type.
            ErrorKind::Server(_) | ErrorKind::Extension => {
                self.log_refusal(call, error);
                CallError::Refused
            }
            _ if error.is_timeout() => {
                self.suspect.notify_one();
                CallError::TimedOut
            }
            // The answer has another type: the value under our key is not ours.
            ErrorKind::UnexpectedReturnType => {
                self.log_refusal(call, error);
                CallError::Refused
            }
            _ => {
                if error.is_unrecoverable_error() && matches!(**client, RedisConnection::One(_)) {
                    self.reconnect(client);
                } else {
                    self.suspect.notify_one();
                }
                CallError::Broken
            }
        }
    }

    fn log_refusal(&self, call: &'static str, error: &RedisError) {
        let mut refused = self.refused.lock();
        if refused.insert(call, Instant::now()).is_none() {
            let code = error.code().unwrap_or("an answer of another type");
            tracing::warn!(call, code, "redis refuses a call; this is logged once");
        }
    }

    fn on_success(&self, call: &'static str) {
        let mut refused = self.refused.lock();
        if refused.get(call).is_some_and(|last| last.elapsed() > RECOVERY_WINDOW) {
            refused.remove(call);
            tracing::info!(call, "redis accepts a call that it refused");
        }
    }

    /// Drops `client` if it is the current one, and connects again.
    fn reconnect(&self, client: &Arc<RedisConnection>) {
        let dropped = self.client.rcu(|current| match current {
            Some(current) if Arc::ptr_eq(current, client) => None,
            other => other.clone(),
        });
        if dropped.is_some_and(|dropped| Arc::ptr_eq(&dropped, client)) {
            self.suspect.notify_one();
        }
    }

    /// Keeps a connection, forever.
    pub(super) async fn run(&self) {
        let mut pause = PAUSES.0;
        let mut lost = false;
        loop {
            let settings = self.settings.load_full();
            match timeout(CONNECT_TIMEOUT, connect(&settings)).await {
                Ok(Ok(client)) => {
                    pause = PAUSES.0;
                    self.meter.up(true);
                    tracing::info!("{}", if lost { "reconnected to redis" } else { "connected to redis" });
                    let reason = self.watch(Arc::new(client)).await;
                    self.client.store(None);
                    self.meter.up(false);
                    tracing::warn!(reason, address = settings.form.to_string(), "{UNAVAILABLE_MESSAGE}");
                    lost = true;
                }
                Ok(Err(error)) if !lost => {
                    lost = true;
                    let reason = reason(&error);
                    tracing::warn!(reason, address = settings.form.to_string(), "{UNAVAILABLE_MESSAGE}");
                }
                Err(_) if !lost => {
                    lost = true;
                    tracing::warn!(
                        reason = "no connection in time",
                        address = settings.form.to_string(),
                        "{UNAVAILABLE_MESSAGE}"
                    );
                }
                Ok(Err(_)) | Err(_) => {}
            }
            self.first_attempt.send_replace(true);
            sleep(pause.mul_f64(fastrand::f64()) + PAUSES.0).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    /// Lets calls use `client` until it fails. Returns why.
    async fn watch(&self, client: Arc<RedisConnection>) -> String {
        self.client.store(Some(Arc::clone(&client)));
        self.first_attempt.send_replace(true);
        self.epoch.send_modify(|epoch| *epoch += 1);
        let max_failed = if matches!(*client, RedisConnection::Cluster(_)) { MAX_FAILED_PROBES } else { 1 };
        let mut failed = 0;
        loop {
            let suspected = timeout(PROBE_INTERVAL, self.suspect.notified()).await.is_ok();
            if self.client.load().is_none() {
                return "the connection broke, or the server is a replica".to_owned();
            }
            let mut probing = RedisConnection::clone(&client);
            let probed = timeout(2 * self.settings().timeout, probing.probe()).await;
            let reason = match probed {
                Ok(Ok(())) => {
                    failed = 0;
                    // Many calls may time out at once; do not probe for each of them.
                    if suspected {
                        sleep(self.settings().timeout / 4).await;
                    }
                    continue;
                }
                Ok(Err(error)) => reason(&error),
                Err(_) => "no answer in time".to_owned(),
            };
            failed += 1;
            if failed >= max_failed {
                return reason;
            }
        }
    }
}

/// The kind of an error for the log. Not its details, which may contain what was sent.
fn reason(error: &RedisError) -> String {
    match error.code() {
        Some(code) => format!("{} ({code})", error.category()),
        None if error.is_connection_refusal() => "connection refused".to_owned(),
        None => error.category().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_connection_has_its_own_reason() {
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        assert_eq!(reason(&RedisError::from(refused)), "connection refused");
        let secret = RedisError::from((ErrorKind::Client, "no", "hunter2".to_owned()));
        assert!(!reason(&secret).contains("hunter2"));
    }
}
