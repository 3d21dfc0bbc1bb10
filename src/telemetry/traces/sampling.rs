//! The sampler: `OTEL_TRACES_SAMPLER`.
//!
//! The library's samplers run after a span's name, ids and attributes have been created, and most checks need none.

use super::parent::{self, TraceParent};
use http::HeaderMap;

/// A sampler. [`Sampling::named`] lists the standard names.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Whether to follow the caller's decision, if the request has one.
    follows_parent: bool,
    rest: Share,
}

/// The share of requests to trace if the caller has made no decision.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Share {
    All,
    None,
    /// From 0 to 1.
    Of(f64),
}

impl Default for Sampling {
    /// The default of the standard: `parentbased_always_on`.
    fn default() -> Self {
        Self { follows_parent: true, rest: Share::All }
    }
}

impl Sampling {
    /// The sampler of this name. Ratio samplers use `share`.
    pub fn named(name: &str, share: f64) -> Option<Self> {
        let share = Share::Of(share);
        let (follows_parent, rest) = match name {
            "always_on" => (false, Share::All),
            "always_off" => (false, Share::None),
            "traceidratio" => (false, share),
            "parentbased_always_on" => (true, Share::All),
            "parentbased_always_off" => (true, Share::None),
            "parentbased_traceidratio" => (true, share),
            _ => return None,
        };
        Some(Self { follows_parent, rest })
    }

    /// Whether the sampler never samples.
    pub fn is_never(self) -> bool {
        self == Self { follows_parent: false, rest: Share::None }
    }

    /// The parent of a request with these headers, if the request is traced.
    pub(super) fn sample(self, headers: &HeaderMap) -> Option<Option<TraceParent<'_>>> {
        if self.follows_parent && parent::is_unsampled(headers) {
            return None;
        }
        let parent = TraceParent::of(headers);
        let takes = match (self.follows_parent, parent) {
            (true, Some(parent)) => parent.sampled,
            (_, parent) => self.rest.is_sampled(parent),
        };
        takes.then_some(parent)
    }
}

impl Share {
    fn is_sampled(self, parent: Option<TraceParent<'_>>) -> bool {
        match self {
            Self::All => true,
            Self::None => false,
            // Every service that samples by trace id makes the same decision.
            Self::Of(share) => parent.map_or_else(fastrand::f64, |parent| position(parent.trace_id)) < share,
        }
    }
}

/// The position of a trace id between 0 and 1, by the same 63 bits as in other SDKs.
#[allow(clippy::cast_precision_loss)] // the lost bits do not matter
fn position(trace_id: &str) -> f64 {
    let low = trace_id.get(16..).and_then(|half| u64::from_str_radix(half, 16).ok()).unwrap_or(u64::MAX);
    (low >> 1) as f64 / (1_u64 << 63) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn with(half: &str, flags: &str) -> HeaderMap {
        let line = format!("00-4bf92f3577b34da6{half}-00f067aa0ba902b7-{flags}");
        HeaderMap::from_iter([(http::HeaderName::from_static("traceparent"), HeaderValue::from_str(&line).unwrap())])
    }

    /// An id below and one above the middle.
    const LOW: &str = "2000000000000000";
    const HIGH: &str = "e000000000000000";

    #[test]
    fn each_sampler_decides_as_its_name_says() {
        let none = HeaderMap::new();
        // Without a parent; with a recorded parent, with a low and a high id; with a parent that is not recorded.
        for (name, share, decisions) in [
            ("always_on", 0.0, [true, true, true, true, true]),
            ("always_off", 1.0, [false, false, false, false, false]),
            ("traceidratio", 0.5, [true, true, false, true, false]),
            ("parentbased_always_on", 0.0, [true, true, true, false, false]),
            ("parentbased_always_off", 1.0, [false, true, true, false, false]),
            ("parentbased_traceidratio", 0.5, [true, true, true, false, false]),
        ] {
            let sampling = Sampling::named(name, share).unwrap();
            let asked = [none.clone(), with(LOW, "01"), with(HIGH, "01"), with(LOW, "00"), with(HIGH, "00")];
            for (index, (headers, decision)) in asked.iter().zip(decisions).enumerate() {
                let by_chance = index == 0 && name.contains("ratio");
                assert!(by_chance || sampling.sample(headers).is_some() == decision, "{name} {index}");
            }
        }
        assert_eq!(Sampling::named("xray", 1.0), None);
        assert_eq!(Sampling::default(), Sampling::named("parentbased_always_on", 0.0).unwrap());
    }

    #[test]
    fn a_share_of_those_without_a_parent_is_traced() {
        fastrand::seed(7);
        let sampling = Sampling::named("parentbased_traceidratio", 0.25).unwrap();
        let traced = (0..10_000).filter(|_| sampling.sample(&HeaderMap::new()).is_some()).count();
        assert!((2_300..2_700).contains(&traced), "{traced}");
        for (share, all) in [(0.0, 0), (1.0, 1_000)] {
            let sampling = Sampling::named("traceidratio", share).unwrap();
            assert_eq!((0..1_000).filter(|_| sampling.sample(&HeaderMap::new()).is_some()).count(), all);
        }
    }

    #[test]
    fn what_is_no_parent_is_none() {
        assert_eq!(Sampling::default().sample(&with("no such thing...", "01")), Some(None));
        // This flag means "not recorded" even with valid ids, so the ids are not validated.
        assert_eq!(Sampling::default().sample(&with("no such thing...", "00")), None);
        assert!(Sampling::named("always_off", 1.0).unwrap().is_never());
        assert!(!Sampling::named("parentbased_always_off", 1.0).unwrap().is_never());
    }
}
