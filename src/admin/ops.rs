//! The ops listener: `/healthz`, `/readyz` and `/metrics`.

use super::{Readiness, Response, text_response};
use crate::telemetry::{self, Metrics};
use http::request::Parts;
use http::{HeaderValue, Method, StatusCode, header};
use std::sync::Arc;

/// The ops listener's handler.
pub(crate) struct Ops {
    /// Decides the answer of `/readyz`.
    pub readiness: Arc<Readiness>,
    /// The content of `/metrics`.
    pub metrics: Arc<Metrics>,
    /// Updates the gauges before they are read.
    pub refresh: Box<dyn Fn() + Send + Sync>,
}

impl Ops {
    /// Answers a request.
    pub(crate) fn answer(&self, request: &Parts) -> Response {
        let path = request.uri.path();
        if !matches!(path, "/healthz" | "/readyz" | "/metrics") {
            return text_response(
                StatusCode::NOT_FOUND,
                "not found: this listener has /healthz, /readyz and /metrics\n",
            );
        }
        if !matches!(request.method, Method::GET | Method::HEAD) {
            return text_response(StatusCode::METHOD_NOT_ALLOWED, "method not allowed: use GET\n");
        }
        match path {
            "/metrics" => {
                (self.refresh)();
                let mut answer = text_response(StatusCode::OK, &self.metrics.render());
                let kind = HeaderValue::from_static(telemetry::METRICS_CONTENT_TYPE);
                answer.headers_mut().insert(header::CONTENT_TYPE, kind);
                answer
            }
            "/readyz" if !self.readiness.is_ready() => text_response(StatusCode::SERVICE_UNAVAILABLE, "not ready\n"),
            _ => text_response(StatusCode::OK, "ok\n"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ops_listener_is_read_only() {
        let readiness = Arc::new(Readiness::default());
        let ops =
            Ops { readiness: Arc::clone(&readiness), metrics: Arc::new(Metrics::default()), refresh: Box::new(|| ()) };
        let ask = |method: &str, path: &str| {
            let request = http::Request::builder().method(method).uri(path).body(()).unwrap();
            ops.answer(&request.into_parts().0).status().as_u16()
        };
        assert_eq!((ask("GET", "/healthz"), ask("GET", "/readyz")), (200, 503));
        readiness.mark_started();
        assert_eq!((ask("GET", "/readyz"), ask("HEAD", "/readyz"), ask("GET", "/metrics")), (200, 200, 200));
        readiness.mark_draining();
        readiness.mark_started();
        assert_eq!((ask("GET", "/healthz"), ask("GET", "/readyz")), (200, 503), "a drain does not stop");
        assert_eq!((ask("POST", "/metrics"), ask("GET", "/"), ask("GET", "/sessions/revoke")), (405, 404, 404));
    }
}
