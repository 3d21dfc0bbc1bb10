//! The doors: listening, a budget of connections for each, time-outs, and the polite end.
//!
//! Knows bytes and connections, not what is asked: each door gets its handler as an argument.

mod address;
mod connection;
mod door;
mod drain;

pub use address::{Address, AddressFault};
pub use connection::Budget;
pub use door::{BindFault, Door};
pub use drain::Drain;

#[cfg(test)]
mod tests;
