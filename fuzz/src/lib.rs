//! What must hold of every parser of outside bytes, whatever the bytes.
//!
//! Each target is a function of bytes that panics where its promise is broken: a promise of the threat model, not only
//! that nothing crashes. `src/bin/fuzz.rs` lets libFuzzer search for such bytes, `tests/corpus.rs` runs what is committed
//! under `corpus/`.

pub mod callback;
pub mod check;
pub mod config;
pub mod cookies;
pub mod flow;
pub mod redis;
pub mod return_to;
pub mod servers;
pub mod template;
pub mod token;
pub mod wechat;
pub mod world;

/// A target: its name, which is also its corpus's, and what must hold.
pub type Target = (&'static str, fn(&[u8]));

/// Every target there is.
pub const TARGETS: [Target; 9] = [
    ("callback", callback::holds),
    ("check", check::holds),
    ("config", config::holds),
    ("cookies", cookies::holds),
    ("flow", flow::holds),
    ("redis", redis::holds),
    ("return_to", return_to::holds),
    ("token", token::holds),
    ("wechat", wechat::holds),
];

/// The target called `name`.
#[must_use]
pub fn target(name: &str) -> Option<fn(&[u8])> {
    TARGETS.iter().find(|(known, _)| *known == name).map(|(_, holds)| *holds)
}

/// Whether `bytes` hold `part`.
#[must_use]
pub fn contains(bytes: &[u8], part: &str) -> bool {
    bytes.windows(part.len()).any(|window| window == part.as_bytes())
}
