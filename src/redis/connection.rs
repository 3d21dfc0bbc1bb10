//! One connection, found again whenever it is lost.
//!
//! Calls never wait for a connection: without one they end at once, so that nobody's request hangs on Redis. One task
//! seeks it, with pauses that grow and are drawn by chance, so that many instances do not come back together; it also asks
//! every second whether the other end still answers and may still be written to.

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

/// Calls that may wait for an answer at once.
const MAX_CALLS: usize = 512;

/// The longest search for a connection.
const CONNECT: Duration = Duration::from_secs(4);

/// How often the other end is asked whether it is well.
const PROBE: Duration = Duration::from_secs(1);

/// Probes that may fail in a row before the connection is given up. A Cluster of which one node is away is not.
const FAILED_PROBES: u32 = 3;

/// The pause before the first new try, and the longest one.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// How long nothing of a kind must have been refused before that is told. A Cluster in the midst of a failover refuses one
/// slot's keys and takes another's.
const RECOVERY_WINDOW: Duration = Duration::from_secs(5);

/// What it means that Redis is away; said once.
const UNAVAILABLE_MESSAGE: &str =
    "redis is away: sessions go on, logins rest on their cookie alone, and what is shared waits";

pub(super) struct Connection {
    settings: ArcSwap<Settings>,
    wire: ArcSwapOption<RedisConnection>,
    /// Grows with each new connection.
    epoch: watch::Sender<u64>,
    /// Whether the first search for a connection is over.
    first_attempt: watch::Sender<bool>,
    /// Somebody doubts the connection.
    suspect: Notify,
    room: Semaphore,
    /// What Redis has refused and not yet done again for a while, and when last: each is told once.
    refused: Mutex<BTreeMap<&'static str, Instant>>,
    meter: RedisMetrics,
}

impl Connection {
    pub(super) fn new(settings: Settings, meter: RedisMetrics) -> Self {
        Self {
            settings: ArcSwap::from_pointee(settings),
            wire: ArcSwapOption::empty(),
            epoch: watch::Sender::new(0),
            first_attempt: watch::Sender::new(false),
            suspect: Notify::new(),
            room: Semaphore::new(MAX_CALLS),
            refused: Mutex::default(),
            meter,
        }
    }

    pub(super) fn settings(&self) -> Guard<Arc<Settings>> {
        self.settings.load()
    }

    /// From the next connection on, `settings` count: another password, for instance.
    pub(super) fn replace(&self, settings: Settings) {
        self.settings.store(Arc::new(settings));
    }

    pub(super) fn is_up(&self) -> bool {
        self.wire.load().is_some()
    }

    pub(super) async fn connected_since(&self, epoch: u64) -> u64 {
        let mut epochs = self.epoch.subscribe();
        let now = epochs.wait_for(|now| *now > epoch).await.map(|now| *now);
        match now {
            Ok(now) => now,
            // Cannot be: this link holds the sender.
            Err(_) => std::future::pending().await,
        }
    }

    /// Waits until the first search for a connection is over, however it ended.
    pub(super) async fn first_attempt(&self) {
        let _ = self.first_attempt.subscribe().wait_for(|tried| *tried).await;
    }

    /// One call, within the configured time.
    pub(super) async fn call<T: FromRedisValue>(
        &self,
        kind: &'static str,
        ask: impl AsyncFnOnce(&mut RedisConnection) -> RedisResult<T>,
    ) -> Result<T, CallError> {
        let began = Instant::now();
        let span = traces::client_span("redis", kind);
        let answer = self.send(kind, ask).await;
        let failed = answer.as_ref().err().map(|away| away.as_str());
        span.set_attribute("db.system.name", "redis");
        if let Some(why) = failed {
            span.set_error(why);
        }
        self.meter.call(kind, failed, began.elapsed());
        answer
    }

    async fn send<T: FromRedisValue>(
        &self,
        kind: &'static str,
        ask: impl AsyncFnOnce(&mut RedisConnection) -> RedisResult<T>,
    ) -> Result<T, CallError> {
        let Some(shared) = self.wire.load_full() else { return Err(CallError::Down) };
        let _room = self.room.try_acquire().map_err(|_| CallError::Busy)?;
        let mut wire = RedisConnection::clone(&shared);
        match timeout(self.settings().timeout, ask(&mut wire)).await {
            Ok(Ok(answer)) => {
                self.on_success(kind);
                Ok(answer)
            }
            Ok(Err(error)) => Err(self.on_error(kind, &shared, &error)),
            Err(_) => {
                self.suspect.notify_one();
                Err(CallError::TimedOut)
            }
        }
    }

    /// What an error means, for the caller and for the connection.
    fn on_error(&self, kind: &'static str, wire: &Arc<RedisConnection>, error: &RedisError) -> CallError {
        match error.kind() {
            // A replica now, or one that has lost its master: the master is elsewhere. A Cluster's client looks itself.
            ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown)
                if matches!(**wire, RedisConnection::One(_)) =>
            {
                self.reconnect(wire);
                CallError::Broken
            }
            // Full, no right, another type: Redis is there and says no.
            ErrorKind::Server(_) | ErrorKind::Extension => {
                self.log_refusal(kind, error);
                CallError::Refused
            }
            _ if error.is_timeout() => {
                self.suspect.notify_one();
                CallError::TimedOut
            }
            // An answer of another type than this call has: somebody else's value under our key.
            ErrorKind::UnexpectedReturnType => {
                self.log_refusal(kind, error);
                CallError::Refused
            }
            _ => {
                if error.is_unrecoverable_error() && matches!(**wire, RedisConnection::One(_)) {
                    self.reconnect(wire);
                } else {
                    self.suspect.notify_one();
                }
                CallError::Broken
            }
        }
    }

    fn log_refusal(&self, kind: &'static str, error: &RedisError) {
        let mut refused = self.refused.lock();
        if refused.insert(kind, Instant::now()).is_none() {
            let code = error.code().unwrap_or("an answer of another type");
            tracing::warn!(call = kind, code, "redis refuses; this goes on without it and is said once");
        }
    }

    fn on_success(&self, kind: &'static str) {
        let mut refused = self.refused.lock();
        if refused.get(kind).is_some_and(|last| last.elapsed() > RECOVERY_WINDOW) {
            refused.remove(kind);
            tracing::info!(call = kind, "redis does again what it refused");
        }
    }

    /// Drops `wire`, if it is still the one in use, and has another sought.
    fn reconnect(&self, wire: &Arc<RedisConnection>) {
        let dropped = self.wire.rcu(|current| match current {
            Some(current) if Arc::ptr_eq(current, wire) => None,
            other => other.clone(),
        });
        if dropped.is_some_and(|dropped| Arc::ptr_eq(&dropped, wire)) {
            self.suspect.notify_one();
        }
    }

    /// Seeks and keeps a connection, for ever.
    pub(super) async fn run(&self) {
        let mut pause = PAUSES.0;
        let mut told_away = false;
        loop {
            let settings = self.settings.load_full();
            match timeout(CONNECT, connect(&settings)).await {
                Ok(Ok(wire)) => {
                    pause = PAUSES.0;
                    self.meter.up(true);
                    tracing::info!("redis is {}", if told_away { "back" } else { "there" });
                    let why = self.watch_over(Arc::new(wire)).await;
                    self.wire.store(None);
                    self.meter.up(false);
                    tracing::warn!(reason = why, address = settings.form.to_string(), "{UNAVAILABLE_MESSAGE}");
                    told_away = true;
                }
                Ok(Err(error)) if !told_away => {
                    told_away = true;
                    let why = reason(&error);
                    tracing::warn!(reason = why, address = settings.form.to_string(), "{UNAVAILABLE_MESSAGE}");
                }
                Err(_) if !told_away => {
                    told_away = true;
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

    /// Lends `wire` to the calls until it is of no use; why it is not.
    async fn watch_over(&self, wire: Arc<RedisConnection>) -> String {
        self.wire.store(Some(Arc::clone(&wire)));
        self.first_attempt.send_replace(true);
        self.epoch.send_modify(|epoch| *epoch += 1);
        let patience = if matches!(*wire, RedisConnection::Cluster(_)) { FAILED_PROBES } else { 1 };
        let mut failed = 0;
        loop {
            let doubted = timeout(PROBE, self.suspect.notified()).await.is_ok();
            if self.wire.load().is_none() {
                return "the connection broke, or leads to a replica".to_owned();
            }
            let mut probing = RedisConnection::clone(&wire);
            let probed = timeout(2 * self.settings().timeout, probing.probe()).await;
            let why = match probed {
                Ok(Ok(())) => {
                    failed = 0;
                    // Doubts of a busy moment must not become a storm of probes.
                    if doubted {
                        sleep(self.settings().timeout / 4).await;
                    }
                    continue;
                }
                Ok(Err(error)) => reason(&error),
                Err(_) => "no answer in time".to_owned(),
            };
            failed += 1;
            if failed >= patience {
                return why;
            }
        }
    }
}

/// What is told of an error: its kind, never its details, which may hold what was sent.
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
    fn a_refused_connection_is_told_from_other_failures() {
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        assert_eq!(reason(&RedisError::from(refused)), "connection refused");
        let secret = RedisError::from((ErrorKind::Client, "no", "hunter2".to_owned()));
        assert!(!reason(&secret).contains("hunter2"));
    }
}
