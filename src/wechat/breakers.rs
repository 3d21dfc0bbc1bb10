//! One circuit breaker for each AppID and endpoint, so that the failures of one application do not stop another's logins.

use super::Endpoint;
use super::breaker::{Breaker, Settings, State};
use super::credentials::AppId;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

pub(crate) struct Breakers {
    settings: Settings,
    /// Bounded by the configuration, which is the only source of AppIDs.
    breakers: Mutex<HashMap<(AppId, Endpoint), Arc<Breaker>>>,
}

impl Breakers {
    pub(crate) fn new(settings: Settings) -> Self {
        Self { settings, breakers: Mutex::default() }
    }

    pub(crate) fn get(&self, appid: &AppId, endpoint: Endpoint) -> Arc<Breaker> {
        let mut breakers = self.breakers.lock();
        let breaker =
            breakers.entry((appid.clone(), endpoint)).or_insert_with(|| Arc::new(Breaker::new(self.settings)));
        Arc::clone(breaker)
    }

    /// The state of each breaker that has been used, ordered by AppID.
    pub(crate) fn states(&self, now: Instant) -> Vec<(AppId, Endpoint, State)> {
        let breakers = self.breakers.lock();
        let mut states: Vec<_> = breakers
            .iter()
            .map(|((appid, endpoint), breaker)| (appid.clone(), *endpoint, breaker.state(now)))
            .collect();
        drop(breakers);
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
    fn each_application_and_endpoint_has_its_own_breaker() {
        let (breakers, now) = (Breakers::new(Settings { failures: 1, open: Duration::from_secs(1) }), Instant::now());
        breakers.get(&appid(1), Endpoint::AccessToken).acquire(now).unwrap().failed(now);
        let _ = breakers.get(&appid(1), Endpoint::Userinfo);
        let _ = breakers.get(&appid(2), Endpoint::AccessToken);
        assert_eq!(
            breakers.states(now),
            [
                (appid(1), Endpoint::AccessToken, State::Open),
                (appid(1), Endpoint::Userinfo, State::Closed),
                (appid(2), Endpoint::AccessToken, State::Closed),
            ]
        );
        assert!(breakers.get(&appid(1), Endpoint::AccessToken).would_refuse(now).is_some(), "the same breaker");
    }
}
