//! One revocation: what no longer counts, since when, and how long that has to be remembered.

use serde::{Deserialize, Serialize};

/// What is revoked.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// One session, by its id.
    Session(String),
    /// Every session of a subject from before now.
    Subject(String),
    /// Every session of an application from before now.
    App(String),
    /// Every session there is from before now: what is left when the table is full. Nobody asks for it.
    Everyone(()),
}

/// One revocation, as the journal keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocation {
    /// What.
    #[serde(flatten)]
    pub target: Target,
    /// When, as a NumericDate.
    pub at: u64,
    /// From when on no session it could concern is alive.
    pub until: u64,
}
