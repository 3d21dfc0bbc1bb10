//! Redis as one server, with Sentinel, or as a Cluster.
//!
//! Without Redis or without a connection, all calls return a [`CallError`] at once, and the caller goes on with what one
//! instance knows. All calls have a timeout, and the number of waiting calls is bounded. Nothing read from Redis is trusted:
//! the callers seal what matters. This module does not know what the values mean.

mod connect;
mod connection;
pub mod keys;
pub(crate) mod lease;
mod pubsub;
pub(crate) mod scripts;
pub mod settings;

pub(crate) use keys::{Key, Keys};
pub use lease::Guarded;
pub(crate) use lease::Lease;
pub use pubsub::Subscription;
pub use settings::{Form, Settings};

use crate::telemetry::RedisMetrics;
use connection::Connection;
use redis::{Cmd, FromRedisValue, Pipeline, ScriptInvocation};
use std::sync::Arc;

/// Why a call failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// Redis is not configured.
    #[error("no Redis is configured")]
    NotConfigured,
    /// There is no connection.
    #[error("there is no connection to Redis")]
    Down,
    /// Redis did not answer in time. It may have executed the command.
    #[error("Redis did not answer in time")]
    TimedOut,
    /// Too many calls wait for an answer.
    #[error("too many calls wait for Redis")]
    Busy,
    /// The connection broke, or the answer was invalid. Redis may have executed the command.
    #[error("the connection to Redis broke")]
    Broken,
    /// Redis returned an error: it is full or read-only, or the user lacks a permission.
    #[error("Redis refused")]
    Refused,
}

impl CallError {
    /// The label for metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotConfigured => "not_configured",
            Self::Down => "down",
            Self::TimedOut => "timed_out",
            Self::Busy => "busy",
            Self::Broken => "broken",
            Self::Refused => "refused",
        }
    }
}

/// The Redis that all instances share. Clones use the same connection.
#[derive(Clone)]
pub struct Redis {
    connection: Option<Arc<Connection>>,
    keys: Keys,
}

impl Redis {
    /// No Redis: all calls return [`CallError::NotConfigured`].
    pub fn none() -> Self {
        Self { connection: None, keys: Keys::new("none") }
    }

    /// The Redis of `settings`. [`Self::run`] connects.
    pub fn new(settings: Settings, meter: RedisMetrics) -> Self {
        let keys = Keys::new(&settings.prefix);
        Self { connection: Some(Arc::new(Connection::new(settings, meter))), keys }
    }

    /// Whether Redis is configured.
    pub fn is_configured(&self) -> bool {
        self.connection.is_some()
    }

    /// Whether there is a connection.
    pub fn is_up(&self) -> bool {
        self.connection.as_ref().is_some_and(|connection| connection.is_up())
    }

    /// Uses `settings` from the next connection on. Their addresses and prefix must be the same.
    pub fn replace(&self, settings: Settings) {
        if let Some(connection) = &self.connection {
            connection.replace(settings);
        }
    }

    /// The names of the keys.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// Keeps a connection, forever. Returns at once without Redis.
    pub async fn run(&self) {
        if let Some(connection) = &self.connection {
            connection.run().await;
        }
    }

    /// Waits until the first attempt to connect has succeeded or failed. Returns at once without Redis.
    pub async fn first_attempt(&self) {
        if let Some(connection) = &self.connection {
            connection.first_attempt().await;
        }
    }

    /// Waits for a connection later than `epoch` and returns its epoch. Waits forever without Redis.
    pub async fn connected_since(&self, epoch: u64) -> u64 {
        match &self.connection {
            Some(connection) => connection.connected_since(epoch).await,
            None => std::future::pending().await,
        }
    }

    /// Sends a command. `call` names it in metrics and logs.
    pub async fn query<T: FromRedisValue>(&self, call: &'static str, command: &Cmd) -> Result<T, CallError> {
        let connection = self.connection()?;
        connection.call(call, async |client| command.query_async(client).await).await
    }

    /// The string under `key`. If it is longer than `max` bytes, it is not ours and stays in Redis.
    pub async fn get(&self, call: &'static str, key: &Key, max: usize) -> Result<Option<String>, CallError> {
        let mut script = scripts::GET_BOUNDED.prepare_invoke();
        script.key(key).arg(max);
        self.run_script(call, &script).await
    }

    /// Sends several commands at once. Their keys must share a hash slot.
    pub async fn pipe<T: FromRedisValue>(&self, call: &'static str, commands: &Pipeline) -> Result<T, CallError> {
        let connection = self.connection()?;
        connection.call(call, async |client| commands.query_async(client).await).await
    }

    /// Runs a script. Its keys must share a hash slot.
    pub async fn run_script<T: FromRedisValue>(
        &self,
        call: &'static str,
        script: &ScriptInvocation<'_>,
    ) -> Result<T, CallError> {
        let connection = self.connection()?;
        connection.call(call, async |client| script.invoke_async(client).await).await
    }

    /// Subscribes to the messages of the instances, with a connection of its own.
    pub async fn subscribe(&self) -> Result<Subscription, CallError> {
        let connection = self.connection()?;
        let settings = Arc::clone(&connection.settings());
        pubsub::subscribe(&settings, self.keys.channel()).await
    }

    fn connection(&self) -> Result<&Arc<Connection>, CallError> {
        self.connection.as_ref().ok_or(CallError::NotConfigured)
    }
}
