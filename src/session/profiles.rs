//! The last known profile of each subject at each application: for a login to which WeChat tells none, and for the next
//! token of a session whose person has a new name. In memory, bounded.

use super::claims::Claims;
use crate::app_name::AppName;
use crate::clock::Timestamp;
use crate::profile::Profile;
use crate::subject::Subject;
use std::sync::Arc;
use std::time::Duration;

/// Profiles remembered at most; about 400 bytes each.
const MAX_PROFILES: u64 = 20_000;

/// A profile nobody has seen for this long is forgotten.
const KEPT: Duration = Duration::from_secs(30 * 86_400);

/// A profile, and when WeChat told it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Nickname and avatar.
    pub profile: Profile,
    /// When WeChat said so.
    pub at: Timestamp,
}

/// Profiles by application and subject.
pub struct Profiles {
    kept: moka::sync::Cache<(AppName, Subject), Arc<Known>>,
}

impl Default for Profiles {
    fn default() -> Self {
        Self { kept: moka::sync::Cache::builder().max_capacity(MAX_PROFILES).time_to_live(KEPT).build() }
    }
}

impl Profiles {
    /// The last known profile of `subject` at `app`, which it consented to there.
    pub fn last_known(&self, app: &AppName, subject: &Subject) -> Option<Arc<Known>> {
        self.kept.get(&(app.clone(), subject.clone()))
    }

    /// Remembers what WeChat said, unless it said something later.
    pub fn remember(&self, app: &AppName, subject: &Subject, known: Known) {
        if self.last_known(app, subject).is_none_or(|kept| kept.at <= known.at) {
            self.kept.insert((app.clone(), subject.clone()), Arc::new(known));
        }
    }

    /// `claims` with the profile that is known by now, where that is later than the login.
    pub(super) fn apply(&self, claims: Claims) -> Claims {
        match self.last_known(&claims.aud, &claims.sub).filter(|known| known.at.0 >= claims.auth_time) {
            Some(known) => {
                let Profile { nickname, avatar } = known.profile.clone();
                Claims { nickname, avatar, ..claims }
            }
            None => claims,
        }
    }
}
