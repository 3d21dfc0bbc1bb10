//! The last known profile of each subject at each application, in bounded memory. A login without a profile uses it, and so
//! does the next token of a session whose profile has changed.

use super::claims::Claims;
use crate::app_name::AppName;
use crate::clock::Timestamp;
use crate::profile::Profile;
use crate::subject::Subject;
use std::sync::Arc;
use std::time::Duration;

/// The most profiles, of about 400 bytes each.
const MAX_PROFILES: u64 = 20_000;

/// How long a profile is kept.
const PROFILE_TTL: Duration = Duration::from_secs(30 * 86_400);

/// A profile and its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownProfile {
    /// Nickname and avatar.
    pub profile: Profile,
    /// When WeChat sent it.
    pub at: Timestamp,
}

/// Profiles by application and subject.
pub struct Profiles {
    profiles: moka::sync::Cache<(AppName, Subject), Arc<KnownProfile>>,
}

impl Default for Profiles {
    fn default() -> Self {
        Self { profiles: moka::sync::Cache::builder().max_capacity(MAX_PROFILES).time_to_live(PROFILE_TTL).build() }
    }
}

impl Profiles {
    /// The last known profile of `subject` at `app`. The user agreed there that the application may read it.
    pub fn last_known(&self, app: &AppName, subject: &Subject) -> Option<Arc<KnownProfile>> {
        self.profiles.get(&(app.clone(), subject.clone()))
    }

    /// Stores a profile unless a later one is known.
    pub fn remember(&self, app: &AppName, subject: &Subject, known: KnownProfile) {
        if self.last_known(app, subject).is_none_or(|last| last.at <= known.at) {
            self.profiles.insert((app.clone(), subject.clone()), Arc::new(known));
        }
    }

    /// `claims` with the last known profile, if it is later than the login.
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
