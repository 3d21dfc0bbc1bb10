//! Messages between instances, received on a connection of their own.
//!
//! The client library reads a message whole before it can be measured, so only Redis can bound it: an ACL user that may publish
//! to the channel can send up to `proto-max-bulk-len`. Give that right to the instances alone (docs/en/redis-keys.md).

use super::connect;
use super::{CallError, Key, Settings};
use futures_util::StreamExt as _;
use redis::aio::{PubSubSink, PubSubStream};
use std::time::Duration;
use tokio::time::{Interval, timeout};

/// The longest attempt to subscribe.
const SUBSCRIBE_TIMEOUT: Duration = Duration::from_secs(2);

/// The time between two probes of the connection.
const PING: Duration = Duration::from_secs(2);

/// The length of the longest message of ours.
const MAX_MESSAGE: usize = 4_096;

/// A subscription.
pub struct Subscription {
    sink: PubSubSink,
    stream: PubSubStream,
    ping: Interval,
}

pub(super) async fn subscribe(settings: &Settings, channel: Key) -> Result<Subscription, CallError> {
    let subscribed = timeout(SUBSCRIBE_TIMEOUT, async {
        let client = connect::server(settings).await?;
        let (mut sink, stream) = client.get_async_pubsub().await?.split();
        sink.subscribe(channel).await?;
        Ok((sink, stream))
    });
    let (sink, stream) =
        subscribed.await.map_err(|_| CallError::TimedOut)?.map_err(|_: redis::RedisError| CallError::Broken)?;
    let mut ping = tokio::time::interval(PING);
    ping.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    Ok(Subscription { sink, stream, ping })
}

impl Subscription {
    /// The next message.
    ///
    /// # Errors
    /// The connection is lost. Messages may be lost until the next subscription.
    pub async fn next(&mut self) -> Result<String, CallError> {
        loop {
            tokio::select! {
                message = self.stream.next() => {
                    let message = message.ok_or(CallError::Broken)?;
                    let payload = message.get_payload_bytes();
                    if payload.len() <= MAX_MESSAGE
                        && let Ok(text) = std::str::from_utf8(payload)
                    {
                        return Ok(text.to_owned());
                    }
                }
                _ = self.ping.tick() => {
                    let answered = timeout(PING, self.sink.ping::<redis::Value>()).await;
                    answered.map_err(|_| CallError::TimedOut)?.map_err(|_| CallError::Broken)?;
                }
            }
        }
    }
}
