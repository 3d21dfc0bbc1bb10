//! The doors: listening, a budget of connections for each, time-outs, and the polite end.
//!
//! Knows bytes and connections, not what is asked: each door gets its handler as an argument.

mod address;
mod at_once;
mod body;
mod budget;
mod connection;
mod door;
mod drain;
mod framing;
mod guarded;
mod pulse;
mod unix;

pub use address::{Address, AddressFault};
pub use budget::Budget;
pub use door::{BindFault, Door};
pub use drain::Drain;

#[cfg(test)]
mod tests;
