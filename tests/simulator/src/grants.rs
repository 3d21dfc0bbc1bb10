//! Issued codes, tokens and consents: their user, their age, and whether they are spent.

use std::collections::HashMap;
use std::time::Duration;

use crate::clock::Moment;
use crate::shelf::Shelf;

/// The lifetime of an access token.
pub const ACCESS_LIFE: Duration = Duration::from_secs(7_200);
/// The lifetime of a refresh token, which cannot be renewed.
pub const REFRESH_LIFE: Duration = Duration::from_secs(30 * 86_400);
/// How long after a consent the next login needs none.
pub const CONSENT_LIFE: Duration = Duration::from_secs(30 * 86_400);
/// Maximum stored items of each kind; far more than any test creates.
const ROOM: usize = 50_000;

/// What a login was granted: the common part of a code and its tokens.
#[derive(Clone, Debug)]
pub struct Grant {
    pub appid: String,
    /// The user's name in the simulator, also for a snapshot page.
    pub user: String,
    pub scope: String,
    /// Issued for the virtual user of a snapshot page.
    pub snapshot: bool,
    /// The user's number of password changes at that time.
    pub password_changes: u32,
}

#[derive(Debug)]
pub struct Code {
    pub grant: Grant,
    pub born: Moment,
    pub spent: bool,
}

#[derive(Debug)]
pub struct AccessToken {
    pub grant: Grant,
    pub expires: Moment,
}

#[derive(Debug)]
pub struct RefreshToken {
    pub grant: Grant,
    pub born: Moment,
    /// The newest access token from this refresh token.
    pub access_token: String,
}

#[derive(Debug)]
pub struct Grants {
    pub codes: Shelf<Code>,
    pub access_tokens: Shelf<AccessToken>,
    pub refresh_tokens: Shelf<RefreshToken>,
    consents: HashMap<(String, String), Moment>,
    /// Exchanges in the current minute, per app.
    exchanges: HashMap<String, (Moment, u32)>,
}

impl Default for Grants {
    fn default() -> Self {
        Self {
            codes: Shelf::with_room_for(ROOM),
            access_tokens: Shelf::with_room_for(ROOM),
            refresh_tokens: Shelf::with_room_for(ROOM),
            consents: HashMap::new(),
            exchanges: HashMap::new(),
        }
    }
}

impl Grants {
    pub fn consent(&mut self, appid: &str, user: &str, now: Moment) {
        self.consents.insert((appid.into(), user.into()), now);
    }

    /// Whether the user agreed to this app in the last thirty days.
    #[must_use]
    pub fn consented(&self, appid: &str, user: &str, now: Moment) -> bool {
        let given = self.consents.get(&(appid.into(), user.into()));
        given.is_some_and(|given| now.since(*given) < CONSENT_LIFE)
    }

    /// Counts one exchange of the app and returns the number in this minute.
    pub fn count_exchange(&mut self, appid: &str, now: Moment) -> u32 {
        let (ends, count) = self.exchanges.entry(appid.into()).or_insert((now.next_minute(), 0));
        if now >= *ends {
            (*ends, *count) = (now.next_minute(), 0);
        }
        *count = count.saturating_add(1);
        *count
    }

    /// Every stored code and token.
    pub fn secrets(&self) -> impl Iterator<Item = &str> {
        self.codes.keys().chain(self.access_tokens.keys()).chain(self.refresh_tokens.keys())
    }
}
