//! Faults: their kind, place, target and frequency.
//!
//! A fault acts at one stage of an answer; faults of different stages act together: a delay, then a truncated body,
//! then a slow transfer. At one stage only the oldest fault acts, so injecting two in turn gives "-1 twice, then
//! 45011 once".

use serde::{Deserialize, Serialize};

use crate::clock::Moment;
use crate::dice::Dice;
use crate::effect::{Effect, Stage};
use crate::endpoint::Endpoint;

/// Maximum pending faults.
pub const MAX_DIAGNOSTICS: usize = 1_000;

/// How often a fault occurs before it is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Times {
    Next(u32),
    Lasting(Lasting),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lasting {
    Forever,
    /// From its first occurrence until the next whole minute of the simulator's clock, like a minute quota.
    UntilNextMinute,
}

impl Times {
    pub const FOREVER: Self = Self::Lasting(Lasting::Forever);
    pub const UNTIL_NEXT_MINUTE: Self = Self::Lasting(Lasting::UntilNextMinute);
}

impl From<u32> for Times {
    fn from(times: u32) -> Self {
        Self::Next(times)
    }
}

/// One fault. [`Fault::at`] creates one that occurs once, for the next request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    pub endpoint: Endpoint,
    /// Only for this app.
    #[serde(default)]
    pub appid: Option<String>,
    /// Only for this user.
    #[serde(default)]
    pub user: Option<String>,
    #[serde(default = "once")]
    pub times: Times,
    /// The probability of each occurrence, from 0 to 1.
    #[serde(default = "always")]
    pub probability: f64,
    pub effect: Effect,
}

impl Fault {
    #[must_use]
    pub fn at(endpoint: Endpoint, effect: Effect) -> Self {
        Self { endpoint, appid: None, user: None, times: once(), probability: always(), effect }
    }

    #[must_use]
    pub fn times(mut self, times: impl Into<Times>) -> Self {
        self.times = times.into();
        self
    }

    #[must_use]
    pub fn for_app(mut self, appid: &str) -> Self {
        self.appid = Some(appid.into());
        self
    }

    #[must_use]
    pub fn for_user(mut self, name: &str) -> Self {
        self.user = Some(name.into());
        self
    }

    #[must_use]
    pub fn with_probability(mut self, probability: f64) -> Self {
        self.probability = probability;
        self
    }
}

fn once() -> Times {
    Times::Next(1)
}

fn always() -> f64 {
    1.0
}

/// The endpoint of a request, and the app and user, as far as it names them.
#[derive(Clone, Copy, Debug)]
pub struct Occasion<'a> {
    pub endpoint: Endpoint,
    pub appid: Option<&'a str>,
    pub user: Option<&'a str>,
}

/// The pending faults, in the order of injection.
#[derive(Debug, Default)]
pub struct Faults {
    waiting: Vec<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    fault: Fault,
    /// When a minute quota will be full again.
    ends: Option<Moment>,
}

impl Faults {
    /// Appends a fault; if the list is full, drops the first one.
    pub fn inject(&mut self, fault: Fault) {
        if self.waiting.len() >= MAX_DIAGNOSTICS {
            self.waiting.remove(0);
        }
        self.waiting.push(Waiting { fault, ends: None });
    }

    pub fn clear(&mut self) {
        self.waiting.clear();
    }

    pub fn iter(&self) -> impl Iterator<Item = &Fault> {
        self.waiting.iter().map(|waiting| &waiting.fault)
    }

    /// The effects for this request, at most one per stage; removes used-up faults.
    pub fn strike(&mut self, occasion: Occasion<'_>, now: Moment, dice: &mut Dice) -> Vec<Effect> {
        self.waiting.retain(|waiting| waiting.ends.is_none_or(|ends| now < ends));
        let mut effects: Vec<Effect> = Vec::new();
        for Waiting { fault, ends } in &mut self.waiting {
            let stage = fault.effect.stage();
            let is_meant = fault.endpoint.includes(occasion.endpoint)
                && (stage == Stage::Callback) == (occasion.endpoint == Endpoint::Callback)
                && fault.appid.as_deref().is_none_or(|appid| occasion.appid == Some(appid))
                && fault.user.as_deref().is_none_or(|user| occasion.user == Some(user));
            if !is_meant || effects.iter().any(|effect| effect.stage() == stage) || !dice.chance(fault.probability) {
                continue;
            }
            match &mut fault.times {
                Times::Next(0) => continue,
                Times::Next(left) => *left -= 1,
                Times::Lasting(Lasting::Forever) => {}
                Times::Lasting(Lasting::UntilNextMinute) => *ends = Some(ends.unwrap_or(now.next_minute())),
            }
            effects.push(fault.effect.clone());
        }
        self.waiting.retain(|waiting| waiting.fault.times != Times::Next(0));
        effects
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::effect::Mangling;

    const HERE: Occasion<'_> = Occasion { endpoint: Endpoint::AccessToken, appid: Some("wxa"), user: Some("小明") };

    fn strikes(faults: &mut Faults, occasion: Occasion<'_>) -> Vec<Effect> {
        faults.strike(occasion, Moment(0), &mut Dice::new(0))
    }

    #[test]
    fn faults_of_one_stage_happen_one_after_the_other() {
        let mut faults = Faults::default();
        faults.inject(Fault::at(Endpoint::AccessToken, Effect::Errcode(-1)).times(2));
        faults.inject(Fault::at(Endpoint::Any, Effect::Errcode(45011)));
        let heard: Vec<_> = (0..4).flat_map(|_| strikes(&mut faults, HERE)).collect();
        assert_eq!(heard, [Effect::Errcode(-1), Effect::Errcode(-1), Effect::Errcode(45011)]);
    }

    #[test]
    fn faults_of_different_stages_happen_together() {
        let mut faults = Faults::default();
        faults.inject(Fault::at(Endpoint::AccessToken, Effect::TruncatedJson));
        faults.inject(Fault::at(Endpoint::AccessToken, Effect::Chunked));
        assert_eq!(strikes(&mut faults, HERE).len(), 2);
    }

    #[test]
    fn a_fault_for_another_place_app_or_person_waits() {
        for fault in [
            Fault::at(Endpoint::UserInfo, Effect::Close),
            Fault::at(Endpoint::AccessToken, Effect::Close).for_app("wxb"),
            Fault::at(Endpoint::AccessToken, Effect::Close).for_user("小红"),
            Fault::at(Endpoint::AccessToken, Effect::Close).with_probability(0.0),
            Fault::at(Endpoint::AccessToken, Effect::Mangle(Mangling::NoCode)),
        ] {
            let mut faults = Faults::default();
            faults.inject(fault.clone());
            assert_eq!(strikes(&mut faults, HERE), [], "{fault:?}");
            assert_eq!(faults.iter().count(), 1);
        }
    }

    #[test]
    fn a_minute_quota_ends_with_the_minute() {
        let mut faults = Faults::default();
        faults.inject(Fault::at(Endpoint::AccessToken, Effect::Errcode(45011)).times(Times::UNTIL_NEXT_MINUTE));
        let mut at = |ms| faults.strike(HERE, Moment(ms), &mut Dice::new(0)).len();
        assert_eq!([at(61_000), at(119_999), at(120_000)], [1, 1, 0]);
    }

    #[test]
    fn faults_are_written_in_json_as_they_read() {
        let fault: Fault = serde_json::from_str(
            r#"{"endpoint":"access_token","times":"forever","effect":{"drip":{"pieces":3,"over_s":1.5}}}"#,
        )
        .unwrap();
        assert_eq!(fault.times, Times::FOREVER);
        assert_eq!(fault.effect, Effect::Drip { pieces: 3, over: Duration::from_millis(1500) });
        let fault: Fault = serde_json::from_str(r#"{"endpoint":"userinfo","effect":"reset_after"}"#).unwrap();
        assert_eq!((fault.times, fault.effect), (Times::Next(1), Effect::ResetAfter));
    }
}
