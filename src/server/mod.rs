//! The doors: listening, a budget of connections for each, time-outs, and the polite end.
//!
//! Knows bytes and connections, not what is asked: each door gets its handler as an argument.

mod address;
mod body;
mod connection;
mod drain;
mod framing;
mod guarded;
mod in_flight;
mod inline_executor;
mod limits;
mod listener;
mod unix;

pub(crate) use address::{Address, TcpAddress};
pub(crate) use drain::Drain;
pub(crate) use limits::ListenerLimits;
pub(crate) use listener::{BindError, Listener};

#[cfg(test)]
mod tests;
