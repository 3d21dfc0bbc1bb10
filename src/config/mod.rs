//! The configuration: the file and the environment → the settings of every module.
//!
//! Two phases, and errors of the first end the reading:
//!
//! 1. Shape: bytes → a tree that knows its lines ([`yaml`]) → with the overrides of the environment ([`environment`]) →
//!    validated against the schema of the definition ([`file`]), where the type of a setting judges its text
//!    ([`form`]) → [`Loaded`].
//! 2. Meaning: the rules between settings ([`rules`]) and the files that they name ([`files`]) → [`settings::Settings`].
//!
//! Each phase reports all its errors together, each with its setting, its line and what to write instead. No text of the
//! file causes a panic, and no error quotes what may be a secret. Unknown keys and variables are errors.

pub(crate) mod diagnostic;
pub(crate) mod duration;
pub(crate) mod effective;
pub(crate) mod environment;
pub(crate) mod file;
mod files;
pub(crate) mod form;
mod path;
mod report;
mod rules;
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

use report::Places;
use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;

/// Exit code of a process whose configuration has errors: `EX_CONFIG` of sysexits.h.
pub(crate) const CONFIGURATION_ERROR: u8 = 78;

/// A configuration of the right shape.
#[derive(Debug)]
pub struct Loaded {
    config: file::Config,
    places: Places,
    /// SHA-256 of the file's text.
    digest: [u8; 32],
}

impl Loaded {
    /// The effective configuration as YAML, without secrets.
    pub fn effective(&self) -> String {
        effective::text(&self.config)
    }
}

/// Reads the file at `path` with the overrides in `env`.
///
/// # Errors
/// No such file, not UTF-8, not YAML, or all errors of shape.
pub fn load(path: &Path, env: impl Iterator<Item = (OsString, OsString)>) -> Result<Loaded, Diagnostics> {
    let file: Arc<str> = path.to_string_lossy().as_ref().into();
    let bytes = files::read_bounded(path, yaml::MAX_BYTES as u64).map_err(|found| {
        let wanted = "name a configuration file that this process can read";
        Diagnostic::new(Place::File(file.clone()), "", format!("found {found}"), wanted)
    })?;
    read(&bytes, file, env)
}

/// The same for a text in memory. Errors call it `file`, and relative paths start in the directory of `file`.
///
/// # Errors
/// As for [`load`].
pub fn read(
    bytes: &[u8],
    file: Arc<str>,
    env: impl Iterator<Item = (OsString, OsString)>,
) -> Result<Loaded, Diagnostics> {
    let internal = || Diagnostic::internal(&file);
    let (root, mut errors) = yaml::parse(bytes, &file);
    let Some(mut root) = root else {
        return Err(Diagnostics::of(errors).unwrap_or_else(|| internal().into()));
    };
    errors.extend(environment::apply(&mut root, env));
    let validated = shape::validate(&root);
    for error in errors.iter_mut().filter(|error| error.path.is_empty()) {
        // The YAML parser knows lines only. The user also needs the setting's name.
        let here = validated.places.iter().filter(|(_, place)| **place == error.place);
        error.path = here.map(|(path, _)| path).max_by_key(|path| path.len()).cloned().unwrap_or_default();
    }
    errors.extend(validated.errors);
    if let Some(errors) = Diagnostics::of(errors) {
        return Err(errors);
    }
    // The schema is made from this type. The error is dropped because it quotes values.
    let config = serde_json::from_value(validated.value).map_err(|_| internal())?;
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    let digest = digest.as_ref().try_into().map_err(|_| internal())?;
    Ok(Loaded { config, places: Places::new(file, validated.places), digest })
}
