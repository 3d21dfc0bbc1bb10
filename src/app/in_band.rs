//! Pages in-band: the login pages, answered at the check listener in the form that the gateway passes on.
//!
//! A check takes microseconds, but a page may wait for WeChat. So only a few pages run at a time, each with a time limit.

use super::state::AppState;
use crate::clock::Timestamp;
use crate::ext_authz::in_band::{busy, rewrite, unavailable_in_band};
use crate::response::Response;
use crate::telemetry::Metrics;
use http::HeaderMap;
use http::request::Parts;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// The maximum number of pages that run at a time. The check listener can hold this number of waiting requests
/// (`server::limits`), and Envoy's default circuit breaker for one cluster allows more than ten times as many. With
/// many instances behind one cluster, raise the circuit breaker as `docs/en/kubernetes.md` says.
const MAX_PAGES: usize = 96;

/// Time in addition to the longest login, so that a page can report a failure itself.
const MARGIN: Duration = Duration::from_secs(1);

/// Runs pages at the check listener.
pub(super) struct InBand {
    permits: Arc<Semaphore>,
    metrics: Arc<Metrics>,
}

impl InBand {
    /// Creates the limit for a listener with this number of connections. Over HTTP/1.1 each running page occupies one
    /// of them.
    pub(super) fn new(connections: usize, metrics: Arc<Metrics>) -> Self {
        Self { permits: Arc::new(Semaphore::new(MAX_PAGES.min(connections / 4).max(1))), metrics }
    }

    /// Answers a page. If the answer is dropped, a login that it has started continues.
    pub(super) fn answer(
        &self,
        state: Arc<AppState>,
        request: Parts,
        peer: IpAddr,
        now: Timestamp,
    ) -> impl Future<Output = Response> + Send + 'static {
        let (permits, metrics) = (Arc::clone(&self.permits), Arc::clone(&self.metrics));
        async move {
            if state.pages.is_for_scripts(request.uri.path()) {
                return unavailable_in_band();
            }
            let limit = state.longest_login + MARGIN;
            match run_within(&permits, limit, state.pages.answer(&request, peer, now)).await {
                Ok(answer) => rewrite(answer),
                Err(error) => error_page(error, &metrics, &request.headers, now),
            }
        }
    }
}

/// The reason why a page was not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PageError {
    /// Too many pages are running.
    Busy,
    /// The page took longer than the longest login.
    TimedOut,
}

/// Runs `page` with a permit and a time limit.
async fn run_within(
    permits: &Semaphore,
    limit: Duration,
    page: impl Future<Output = Response>,
) -> Result<Response, PageError> {
    // Do not wait for a permit, because a queue of pages would also occupy connections.
    let Ok(_permit) = permits.try_acquire() else { return Err(PageError::Busy) };
    tokio::time::timeout(limit, page).await.map_err(|_| PageError::TimedOut)
}

fn error_page(error: PageError, metrics: &Metrics, headers: &HeaderMap, now: Timestamp) -> Response {
    const LIMIT: &str = "pages_in_band";
    match error {
        PageError::Busy => {
            metrics.logins.limited(LIMIT);
            if let Some(suppressed) = metrics.limit_lines.admit(now) {
                tracing::info!(target: "audit", event = "limit", limit = LIMIT, suppressed, "too many requests");
            }
        }
        PageError::TimedOut => tracing::warn!("a page in-band timed out; its login goes on"),
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
    async fn a_page_without_a_permit_is_refused_and_each_end_returns_one() {
        let in_band = InBand::new(8, Arc::default());
        let places = &in_band.permits;
        let (mut first, mut second) =
            (run_within(places, SHORT, pending()).boxed(), run_within(places, LONG, pending()).boxed());
        assert!(first.as_mut().now_or_never().is_none() && second.as_mut().now_or_never().is_none());
        let refused = run_within(places, LONG, ready(Response::default())).now_or_never();
        assert_eq!(refused.unwrap().unwrap_err(), PageError::Busy);
        // The browser of the second page disconnects.
        drop(second);
        assert!(run_within(places, LONG, ready(Response::default())).await.is_ok());
        // The first page times out.
        let ended = tokio::time::timeout(Duration::from_secs(10), first).await;
        assert_eq!(ended.unwrap().unwrap_err(), PageError::TimedOut);
        assert_eq!(places.available_permits(), 2);
    }

    #[test]
    fn pages_take_a_quarter_of_the_connections_and_at_most_96() {
        let places = |connections| InBand::new(connections, Arc::default()).permits.available_permits();
        assert_eq!([1_536, 616, 200, 16, 1].map(places), [96, 96, 50, 4, 1]);
    }
}
