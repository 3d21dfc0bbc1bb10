//! The configuration: what the user wrote → what it means.
//!
//! A file is read in steps, each a module: bytes → a tree that knows its lines ([`yaml`]) → with the environment's
//! overrides ([`environment`]) → checked against the schema ([`shape`]) that is made from the one definition of all
//! settings ([`raw`]) → examined for its meaning beside the errors found so far ([`Meaning`]).
//!
//! It promises that all errors are reported together, each with its setting, its line and what would be right; that no
//! text of the file panics it; and that no error quotes what could be a secret. It refuses what it does not know:
//! unknown keys and variables are errors, never ignored.

pub(crate) mod diagnostic;
pub(crate) mod duration;
pub(crate) mod effective;
pub(crate) mod environment;
pub(crate) mod form;
pub(crate) mod loaded;
pub(crate) mod raw;
pub(crate) mod schema;
pub mod settings;
pub(crate) mod shape;
pub(crate) mod text;
pub(crate) mod typo;
pub(crate) mod yaml;

#[cfg(test)]
mod tests;

pub(crate) use diagnostic::Diagnostic;
pub use diagnostic::{Diagnostics, Place};
pub use loaded::Loaded;
pub(crate) use loaded::Resolver;

use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;

/// Exit code of a process whose configuration has errors: `EX_CONFIG` of sysexits.h.
pub(crate) const CONFIGURATION_ERROR: u8 = 78;

/// Reads the file at `path` with the overrides in `env`.
///
/// A file of the wrong shape loads too, as long as it is YAML: its errors wait in the [`Meaning`] to be reported with
/// the rest.
///
/// # Errors
/// Where there is nothing to examine: no such file, not UTF-8, not YAML.
pub fn load(path: &Path, env: impl Iterator<Item = (OsString, OsString)>) -> Result<Loaded, Diagnostics> {
    let file: Arc<str> = path.to_string_lossy().as_ref().into();
    let bytes = loaded::read_bounded(path, yaml::MAX_BYTES as u64).map_err(|found| {
        let wanted = "name a configuration file that this process can read";
        Diagnostic::new(Place::File(file.clone()), "", format!("found {found}"), wanted)
    })?;
    read(&bytes, file, env)
}

/// The same for text at hand; `file` is what errors call it, and relative paths start in its directory.
///
/// # Errors
/// As for [`load`].
pub fn read(
    bytes: &[u8],
    file: Arc<str>,
    env: impl Iterator<Item = (OsString, OsString)>,
) -> Result<Loaded, Diagnostics> {
    let internal = || Diagnostic::new(Place::File(file.clone()), "", "found nothing to read", "please report this");
    let (root, mut errors) = yaml::parse(bytes, &file);
    let Some(mut root) = root else {
        return Err(Diagnostics::of(errors).unwrap_or_else(|| internal().into()));
    };
    errors.extend(environment::apply(&mut root, env));
    let shaped = shape::check(&root);
    for error in errors.iter_mut().filter(|error| error.path.is_empty()) {
        // YAML knows lines only; whoever fixes the file wants the setting's name too.
        let there = shaped.places.iter().filter(|(_, place)| **place == error.place);
        error.path = there.map(|(path, _)| path).max_by_key(|path| path.len()).cloned().unwrap_or_default();
    }
    errors.extend(shaped.errors);
    // The walk made a value of the schema's shape, and the schema is made from this type. The error is dropped
    // because its words hold values.
    let raw = serde_json::from_value(shaped.value).map_err(|_| internal())?;
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    let digest = digest.as_ref().try_into().map_err(|_| internal())?;
    Ok(Loaded { raw, meaning: Resolver::new(file, shaped.places, errors), digest })
}
