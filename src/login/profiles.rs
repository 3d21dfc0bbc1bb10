//! The last known profile of each subject at each application, for the time when WeChat does not tell. In memory, bounded.

use crate::check::Profile;
use std::time::Duration;

/// Profiles remembered at most; about 400 bytes each.
const MOST: u64 = 20_000;

/// A profile nobody has seen for this long is forgotten.
const KEPT: Duration = Duration::from_secs(30 * 86_400);

/// Profiles by subject.
pub struct Profiles {
    kept: moka::sync::Cache<(String, String), Profile>,
}

impl Default for Profiles {
    fn default() -> Self {
        Self { kept: moka::sync::Cache::builder().max_capacity(MOST).time_to_live(KEPT).build() }
    }
}

impl Profiles {
    /// The last known profile of `subject` at `app`, which it consented to there; an empty one where there is none.
    #[must_use]
    pub fn last_known(&self, app: &str, subject: &str) -> Profile {
        self.kept.get(&(app.to_owned(), subject.to_owned())).unwrap_or_default()
    }

    /// Remembers what WeChat just said.
    pub fn remember(&self, app: &str, subject: &str, profile: &Profile) {
        self.kept.insert((app.to_owned(), subject.to_owned()), profile.clone());
    }
}
