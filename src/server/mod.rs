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

pub use address::{Address, AddressError};
pub use drain::Drain;
pub use limits::ListenerLimits;
pub use listener::{BindError, Listener};

#[cfg(test)]
mod tests;
