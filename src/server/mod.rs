//! Listeners and connections: limits, time-outs, strict HTTP framing, drain.
//!
//! Each listener takes its handler as an argument, so this module does not know what requests mean.

mod address;
mod bind_error;
mod body;
mod connection;
mod drain;
mod events;
mod framing;
mod guarded;
mod in_flight;
mod inline_executor;
mod limits;
mod listener;
mod response;
mod unix;

pub(crate) use address::{Address, TcpAddress};
pub(crate) use bind_error::BindError;
pub(crate) use drain::Drain;
pub(crate) use limits::ListenerLimits;
pub(crate) use listener::Listener;

#[cfg(test)]
mod tests;
