//! Keeps secrets out of core files and away from debuggers.
//!
//! The process's memory holds AppSecrets, the admin token and private keys. A core file would store them on disk, and
//! any process of the same user could copy them by `ptrace`.

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
use std::io;

/// Forbids core dumps of this process for the rest of its life.
///
/// The limit alone is not enough: the kernel ignores it if `core_pattern` is a pipe, as with systemd-coredump. A
/// process that is not dumpable gets no core file either way, and only root may attach to it. The entries of
/// `/proc/PID` belong to root from then on; the process itself may still read its own.
///
/// # Errors
/// The operating system refuses, for example because of a seccomp filter.
pub fn forbid() -> io::Result<()> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(())
}
