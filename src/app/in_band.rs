//! Pages of ours asked for at the check door: the same pages as at their own, in what the gateway passes on.
//!
//! A check costs microseconds and a page may wait for WeChat, so pages have places of their own here, few against the
//! connections of the door, and an end.

use super::state::AppState;
use crate::clock::Timestamp;
use crate::ext_authz::answer::Answer;
use crate::ext_authz::in_band::{busy, rewrite, unavailable_in_band};
use crate::telemetry::Metrics;
use http::HeaderMap;
use http::request::Parts;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// Pages under way at once, at most: as many as the check listener holds while they wait (`server::limits`), and
/// less than a tenth of what Envoy sends to a cluster at once by default. With many instances behind one cluster its
/// circuit breaker has to be wider; `docs/en/kubernetes.md` says how wide.
const MAX_PAGES: usize = 96;

/// Beyond the longest login, for a page to say itself what has failed.
const MARGIN: Duration = Duration::from_secs(1);

/// The places of pages at the check door.
pub(super) struct InBand {
    permits: Arc<Semaphore>,
    metrics: Arc<Metrics>,
}

impl InBand {
    /// Places at a door with room for so many connections: over HTTP/1.1 each page under way holds one.
    pub(super) fn new(connections: usize, metrics: Arc<Metrics>) -> Self {
        Self { permits: Arc::new(Semaphore::new(MAX_PAGES.min(connections / 4).max(1))), metrics }
    }

    /// Answers a page. What it has begun at WeChat goes on, whatever becomes of the answer.
    pub(super) fn answer(
        &self,
        world: Arc<AppState>,
        request: Parts,
        peer: IpAddr,
        now: Timestamp,
    ) -> impl Future<Output = Answer> + Send + 'static {
        let (places, metrics) = (Arc::clone(&self.permits), Arc::clone(&self.metrics));
        async move {
            if world.pages.is_for_scripts(request.uri.path()) {
                return unavailable_in_band();
            }
            let within = world.longest_login + MARGIN;
            match run_within(&places, within, world.pages.answer(&request, peer, now)).await {
                Ok(answer) => rewrite(answer),
                Err(why) => error_page(why, &metrics, &request.headers, now),
            }
        }
    }
}

/// Why a page has no answer of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PageError {
    /// All places are taken.
    NoPlace,
    /// It took longer than any login may.
    NoEnd,
}

/// What `page` answers, if there is a place for it now and it ends in time.
async fn run_within(
    places: &Semaphore,
    within: Duration,
    page: impl Future<Output = Answer>,
) -> Result<Answer, PageError> {
    // Not waited for: a queue of pages would be what the places are there to prevent.
    let Ok(_place) = places.try_acquire() else { return Err(PageError::NoPlace) };
    tokio::time::timeout(within, page).await.map_err(|_| PageError::NoEnd)
}

fn error_page(why: PageError, metrics: &Metrics, headers: &HeaderMap, now: Timestamp) -> Answer {
    const BUDGET: &str = "pages_in_band";
    match why {
        PageError::NoPlace => {
            metrics.limited(BUDGET);
            if let Some(left_out) = metrics.limit_lines.admit(now) {
                tracing::info!(target: "audit", event = "limit", budget = BUDGET, left_out, "too many requests");
            }
        }
        PageError::NoEnd => tracing::warn!("a page asked for in-band took too long; what it has begun goes on"),
    }
    busy(headers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;
    use std::future::{pending, ready};

    const LONG: Duration = Duration::from_secs(3_600);
    const SHORT: Duration = Duration::from_millis(50);

    #[tokio::test]
    async fn who_finds_no_place_is_not_kept_waiting_and_a_place_is_free_again_however_its_page_ends() {
        let in_band = InBand::new(8, Arc::default());
        let places = &in_band.permits;
        let (mut first, mut second) =
            (run_within(places, SHORT, pending()).boxed(), run_within(places, LONG, pending()).boxed());
        assert!(first.as_mut().now_or_never().is_none() && second.as_mut().now_or_never().is_none());
        let refused = run_within(places, LONG, ready(Answer::default())).now_or_never();
        assert_eq!(refused.unwrap().unwrap_err(), PageError::NoPlace);
        // Its browser went away.
        drop(second);
        assert!(run_within(places, LONG, ready(Answer::default())).await.is_ok());
        // And the other one took too long.
        let ended = tokio::time::timeout(Duration::from_secs(10), first).await;
        assert_eq!(ended.unwrap().unwrap_err(), PageError::NoEnd);
        assert_eq!(places.available_permits(), 2);
    }

    #[test]
    fn pages_take_a_quarter_of_a_small_door_and_no_more_of_a_large_one() {
        let places = |connections| InBand::new(connections, Arc::default()).permits.available_permits();
        assert_eq!([1_536, 616, 200, 16, 1].map(places), [96, 96, 50, 4, 1]);
    }
}
