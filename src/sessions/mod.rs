//! Who is logged in, across instances: the registry, the events, and revocations in step with Redis.

pub(crate) mod events;
pub(crate) mod outbox;
pub mod registry;
pub mod revocation_sync;

pub use registry::Registry;
