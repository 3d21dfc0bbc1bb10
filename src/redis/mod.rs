//! What must outlive a request and be known to every instance: Redis, in its three forms.
//!
//! Without Redis, and while it is away, every call here ends at once in [`Away`], and the caller does what one instance
//! can do alone: there is one way for both. Promises: every call has a time-out; what waits is bounded; the log says once
//! that Redis is away and once that it is back; nothing found here is taken for a session, because whatever could be
//! one is sealed by its owner. Refuses to know what its values mean.

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

/// Redis did not do it. Whoever called goes on alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The configuration names none.
    #[error("no Redis is configured")]
    NotConfigured,
    /// There is no connection; one is being sought.
    #[error("Redis is away")]
    Down,
    /// No answer in time. What was asked may have been done.
    #[error("Redis did not answer in time")]
    TimedOut,
    /// More calls at once than are let wait.
    #[error("too many calls wait for Redis")]
    Busy,
    /// The connection broke, or what came was no answer. What was asked may have been done.
    #[error("the connection to Redis broke")]
    Broken,
    /// Redis said no: full, read-only, no right.
    #[error("Redis refused")]
    Refused,
}

impl CallError {
    /// The metric's label.
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

/// The way to what all instances share.
#[derive(Clone)]
pub struct Redis {
    link: Option<Arc<Connection>>,
    names: Keys,
}

impl Redis {
    /// No Redis: every call ends in [`Away::NotConfigured`].
    pub fn none() -> Self {
        Self { link: None, names: Keys::new("none") }
    }

    /// The Redis of `settings`. Connects in the background, from the first [`Store::keep`] on.
    pub fn new(settings: Settings, meter: RedisMetrics) -> Self {
        let names = Keys::new(&settings.prefix);
        Self { link: Some(Arc::new(Connection::new(settings, meter))), names }
    }

    /// Whether the configuration names a Redis.
    pub fn is_configured(&self) -> bool {
        self.link.is_some()
    }

    /// Whether there is a connection now.
    pub fn is_up(&self) -> bool {
        self.link.as_ref().is_some_and(|link| link.is_up())
    }

    /// From the next connection on, `settings` count; the address and the prefix must be the same.
    pub fn replace(&self, settings: Settings) {
        if let Some(link) = &self.link {
            link.replace(settings);
        }
    }

    /// What things are called in Redis.
    pub fn keys(&self) -> &Keys {
        &self.names
    }

    /// Finds and keeps a connection, for ever. Returns at once where there is no Redis.
    pub async fn run(&self) {
        if let Some(link) = &self.link {
            link.run().await;
        }
    }

    /// Waits until the first search for a connection is over, however it ended. Not at all where there is no Redis.
    pub async fn first_attempt(&self) {
        if let Some(link) = &self.link {
            link.first_attempt().await;
        }
    }

    /// Waits until a connection has been made since `epoch`, and gives the new epoch. For ever where there is no Redis.
    pub async fn connected_since(&self, epoch: u64) -> u64 {
        match &self.link {
            Some(link) => link.connected_since(epoch).await,
            None => std::future::pending().await,
        }
    }

    /// One command. `kind` names it in the metrics.
    pub async fn ask<T: FromRedisValue>(&self, kind: &'static str, command: &Cmd) -> Result<T, CallError> {
        let link = self.link()?;
        link.call(kind, async |wire| command.query_async(wire).await).await
    }

    /// The string under `name`. One longer than `max` bytes is none of ours, and stays in Redis: whoever wrote it, it costs
    /// no memory here.
    pub async fn get(&self, kind: &'static str, name: &Key, max: usize) -> Result<Option<String>, CallError> {
        let mut script = scripts::GET_BOUNDED.prepare_invoke();
        script.key(name).arg(max);
        self.run_script(kind, &script).await
    }

    /// Several commands in one go; all keys of one hash slot.
    pub async fn pipe<T: FromRedisValue>(&self, kind: &'static str, commands: &Pipeline) -> Result<T, CallError> {
        let link = self.link()?;
        link.call(kind, async |wire| commands.query_async(wire).await).await
    }

    /// A script; all keys of one hash slot.
    pub async fn run_script<T: FromRedisValue>(
        &self,
        kind: &'static str,
        script: &ScriptInvocation<'_>,
    ) -> Result<T, CallError> {
        let link = self.link()?;
        link.call(kind, async |wire| script.invoke_async(wire).await).await
    }

    /// Listens to what instances say, on a connection of its own. What was said before is missed.
    pub async fn subscribe(&self) -> Result<Subscription, CallError> {
        let link = self.link()?;
        let settings = Arc::clone(&link.settings());
        pubsub::subscribe(&settings, self.names.channel()).await
    }

    fn link(&self) -> Result<&Arc<Connection>, CallError> {
        self.link.as_ref().ok_or(CallError::NotConfigured)
    }
}
