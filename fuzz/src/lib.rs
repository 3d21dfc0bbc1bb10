//! Properties that every parser of external bytes must have for every input.
//!
//! Each target is a function of bytes that panics when a property does not hold. The properties come from the threat
//! model, beyond the absence of crashes. `src/bin/fuzz.rs` lets libFuzzer search for failing inputs;
//! `tests/corpus.rs` runs the committed inputs under `corpus/`.

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

/// A target: its name, which is also the name of its corpus, and the property that it checks.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
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

/// Returns the target called `name`.
#[must_use]
pub fn target(name: &str) -> Option<fn(&[u8])> {
    TARGETS.iter().find(|(known, _)| *known == name).map(|(_, holds)| *holds)
}

/// Whether `bytes` contain `part`.
#[must_use]
pub fn contains(bytes: &[u8], part: &str) -> bool {
    bytes.windows(part.len()).any(|window| window == part.as_bytes())
}
