//! What instances share about sessions: the registry, the events and the revocations.

pub(crate) mod events;
pub(crate) mod outbox;
pub mod registry;
pub mod revocation_sync;

pub use registry::Registry;
