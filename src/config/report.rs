//! Collects the errors and warnings of a configuration of the right shape.

use super::diagnostic::{Diagnostic, Diagnostics, Place};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Where each setting was written.
#[derive(Debug)]
pub(super) struct Places {
    file: Arc<str>,
    by_path: BTreeMap<String, Place>,
}

impl Places {
    /// The places of a file, by the paths of settings, such as `apps[0].origin`.
    pub(super) fn new(file: Arc<str>, by_path: BTreeMap<String, Place>) -> Self {
        Self { file, by_path }
    }

    /// The file as the user named it.
    pub(super) fn file(&self) -> &Arc<str> {
        &self.file
    }

    /// Where a setting was written. An absent setting has the place of the mapping around it.
    fn of(&self, path: &str) -> Place {
        let mut path = path;
        loop {
            if let Some(place) = self.by_path.get(path) {
                return place.clone();
            }
            match path.rfind(['.', '[']).and_then(|end| path.get(..end)) {
                Some(around) => path = around,
                None => return self.by_path.get("").cloned().unwrap_or(Place::File(self.file.clone())),
            }
        }
    }
}

/// Proof that an error was reported.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reported(());

/// The errors and warnings found so far. `found` and `wanted` are phrases as in [`Diagnostic`].
#[derive(Debug)]
pub(super) struct Report {
    places: Places,
    errors: Vec<Diagnostic>,
    warnings: Vec<Diagnostic>,
}

impl Report {
    /// An empty report.
    pub(super) fn new(places: Places) -> Self {
        Self { places, errors: Vec::new(), warnings: Vec::new() }
    }

    /// Reports an error of the setting at `path`.
    pub(super) fn error(&mut self, path: &str, found: impl Into<String>, wanted: impl Into<String>) -> Reported {
        self.error_at(self.places.of(path), path, found, wanted)
    }

    /// Reports an error at another place than the setting's.
    pub(super) fn error_at(
        &mut self,
        place: Place,
        path: &str,
        found: impl Into<String>,
        wanted: impl Into<String>,
    ) -> Reported {
        self.errors.push(Diagnostic::new(place, path, found, wanted));
        Reported(())
    }

    /// Reports what works but should be changed.
    pub(super) fn warn(&mut self, path: &str, found: impl Into<String>, wanted: impl Into<String>) {
        self.warnings.push(Diagnostic::new(self.places.of(path), path, found, wanted));
    }

    /// What was made of the configuration, with the warnings.
    ///
    /// # Errors
    /// All errors, if there are any.
    pub(super) fn finish<T>(self, made: Result<T, Reported>) -> Result<(T, Vec<Diagnostic>), Diagnostics> {
        match (Diagnostics::of(self.errors), made) {
            (None, Ok(made)) => Ok((made, self.warnings)),
            (Some(errors), _) => Err(errors),
            (None, Err(Reported(()))) => Err(Diagnostic::internal(self.places.file()).into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absent_setting_has_the_place_of_its_mapping() {
        let line = |line| Place::Line { file: "c.yaml".into(), line, column: 1 };
        let places = [("", 1), ("apps", 2), ("apps[0]", 3), ("apps[0].origin", 4)];
        let places = places.into_iter().map(|(path, n)| (path.to_owned(), line(n))).collect();
        let places = Places::new("c.yaml".into(), places);
        for (path, line) in
            [("apps[0].origin", 4), ("apps[0].session.idle", 3), ("apps[7].name", 2), ("log.level", 1), ("", 1)]
        {
            assert_eq!(places.of(path).to_string(), format!("c.yaml:{line}"), "{path}");
        }
    }
}
