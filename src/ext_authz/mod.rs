//! Gateways: what each one asks, read from exactly one place, and what each one understands as an answer.
//!
//! One mode per listener, never several told apart by path or header: a client's raw `/../other` would otherwise climb
//! into a mode that trusts what it can forge (docs/en/ext-authz.md, One gateway per listener). A gateway never calls
//! WeChat and never waits.

pub mod answer;
pub mod authorize;
mod check;
pub mod envoy;
pub(crate) mod fast;
pub(crate) mod in_band;
pub(crate) mod probe;

pub use check::{CheckOutcome, check};
pub use envoy::Envoy;
