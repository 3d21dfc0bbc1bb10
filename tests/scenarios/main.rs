//! Scenarios: the real program behind a real Envoy, before a real application, with a WeChat that bites.
//!
//! Each test has a stack of its own on ports of its own. A scenario's name is the sentence it proves; `tests/README.md`
//! maps the contract, the protocol and the threat model to them.

mod client;
mod stack;

mod login;
