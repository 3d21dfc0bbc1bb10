//! Scenarios: the real program behind a real Envoy, with a stack of its own for each test.
//!
//! One crate, so that the harness is compiled once. A test that measures a whole process is a crate of its own:
//! `tests/abuse.rs`, `tests/memory.rs`, `tests/faults/`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)] // a test fails by panicking

mod apps;
mod bad_input;
mod browser;
mod callback;
mod central;
mod clock;
mod derived;
mod doctor;
mod ending;
mod envoy;
mod fast;
mod frameworks;
mod gateway;
mod in_band;
mod jssdk;
mod login;
mod mesh;
mod operation;
mod otlp;
mod pod;
mod registry;
mod revocation_model;
mod store;
mod traces;
