//! The breakers of all applications: one for each AppID and endpoint, so that nobody's trouble stops another's logins.

use super::Endpoint;
use super::application::AppId;
use super::breaker::{Breaker, Settings, State};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

/// Breakers at most: seven for each of some hundred applications. Beyond, applications share one per endpoint.
const MAX_BREAKERS: usize = 1_024;

pub(crate) struct Breakers {
    settings: Settings,
    most: usize,
    own: Mutex<HashMap<(AppId, Endpoint), Arc<Breaker>>>,
    shared: HashMap<Endpoint, Arc<Breaker>>,
}

impl Breakers {
    pub(crate) fn new(settings: Settings) -> Self {
        Self::bounded(settings, MAX_BREAKERS)
    }

    fn bounded(settings: Settings, most: usize) -> Self {
        let shared = Endpoint::ALL.map(|endpoint| (endpoint, Arc::new(Breaker::new(settings))));
        Self { settings, most, own: Mutex::default(), shared: HashMap::from(shared) }
    }

    /// The breaker of this application's calls to `endpoint`.
    pub(crate) fn of(&self, appid: &AppId, endpoint: Endpoint, now: Instant) -> Arc<Breaker> {
        let mut own = self.own.lock();
        let key = (appid.clone(), endpoint);
        if let Some(breaker) = own.get(&key) {
            return Arc::clone(breaker);
        }
        if own.len() >= self.most {
            // A closed breaker that nobody holds loses a count of failures when it goes, no more.
            own.retain(|_, breaker| breaker.state(now) != State::Closed || Arc::strong_count(breaker) > 1);
        }
        if own.len() >= self.most
            && let Some(shared) = self.shared.get(&endpoint)
        {
            return Arc::clone(shared);
        }
        Arc::clone(own.entry(key).or_insert_with(|| Arc::new(Breaker::new(self.settings))))
    }

    /// Every breaker that has been used, in the order of their AppIDs.
    pub(crate) fn states(&self, now: Instant) -> Vec<(AppId, Endpoint, State)> {
        let own = self.own.lock();
        let mut states: Vec<_> =
            own.iter().map(|((appid, endpoint), breaker)| (appid.clone(), *endpoint, breaker.state(now))).collect();
        drop(own);
        states.sort_by(|left, right| (left.0.as_str(), left.1.as_str()).cmp(&(right.0.as_str(), right.1.as_str())));
        states
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn appid(number: u32) -> AppId {
        AppId::parse(&format!("wx{number:016x}")).unwrap()
    }

    #[test]
    fn applications_and_endpoints_break_apart() {
        let (breakers, now) = (Breakers::new(Settings { failures: 1, open: Duration::from_secs(1) }), Instant::now());
        breakers.of(&appid(1), Endpoint::AccessToken, now).acquire(now).unwrap().failed(now);
        let _ = breakers.of(&appid(1), Endpoint::Userinfo, now);
        let _ = breakers.of(&appid(2), Endpoint::AccessToken, now);
        assert_eq!(
            breakers.states(now),
            [
                (appid(1), Endpoint::AccessToken, State::Open),
                (appid(1), Endpoint::Userinfo, State::Closed),
                (appid(2), Endpoint::AccessToken, State::Closed),
            ]
        );
    }

    #[test]
    fn their_number_is_bounded_and_open_ones_stay() {
        let (breakers, now) =
            (Breakers::bounded(Settings { failures: 1, open: Duration::from_secs(1) }, 2), Instant::now());
        breakers.of(&appid(0), Endpoint::AccessToken, now).acquire(now).unwrap().failed(now);
        for number in 1..100 {
            let _ = breakers.of(&appid(number), Endpoint::AccessToken, now);
        }
        let states = breakers.states(now);
        assert_eq!(states.len(), 2);
        assert_eq!(states[0], (appid(0), Endpoint::AccessToken, State::Open));
        breakers.of(&appid(99), Endpoint::AccessToken, now).acquire(now).unwrap().failed(now);
        let shared = breakers.of(&appid(100), Endpoint::AccessToken, now);
        assert!(Arc::ptr_eq(&shared, &breakers.of(&appid(101), Endpoint::AccessToken, now)));
        assert!(!Arc::ptr_eq(&shared, &breakers.of(&appid(101), Endpoint::Userinfo, now)));
    }
}
