//! The export of ended spans to the collector. No request waits for it.
//!
//! ```text
//! span ends ─▶ SpanQueue ─▶ BatchSpanProcessor (its own thread) ─▶ CountingExporter ─▶ OTLP ─▶ OtlpHttpClient ─▶ collector
//! ```
//!
//! Spans beyond the queue and spans that the collector does not accept are dropped and counted. The log reports a failure
//! once and the recovery once; the library's own log lines, one for each batch, are compiled out.

use super::settings::Settings;
use crate::http_client;
use crate::telemetry::metrics::TraceMetrics;
use async_trait::async_trait;
use bytes::Bytes;
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{Protocol, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, Span, SpanData, SpanExporter, SpanProcessor};
use parking_lot::Mutex;
use prost::Message as _;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::runtime::Handle;

/// The maximum size of a response from the collector, which usually has a few bytes.
const MAX_BODY: usize = 64 * 1024;

/// The time-out of a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Traces cannot be exported.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// TLS cannot be set up.
    #[error("the HTTP client cannot be set up")]
    Http(#[source] reqwest::Error),
    /// The library rejects one of the variables that it reads itself.
    #[error("{0}")]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
}

/// A bounded queue of ended spans.
#[derive(Debug)]
pub(super) struct SpanQueue {
    batches: BatchSpanProcessor,
    stats: Arc<ExportStats>,
}

impl SpanQueue {
    /// Creates a queue to the collector in `settings`. Requests run on `runtime`.
    pub(super) fn new(
        settings: &Settings,
        runtime: Handle,
        metrics: TraceMetrics,
    ) -> Result<(Self, Arc<ExportStats>), TraceError> {
        let stats = Arc::new(ExportStats::new(settings.max_queue_size, metrics));
        let http = http_client::client(|| configured(settings)).map_err(TraceError::Http)?;
        let otlp = opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_http_client(OtlpHttpClient { http, runtime, stats: Arc::clone(&stats) })
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(settings.endpoint.as_str())
            .with_timeout(settings.timeout)
            .build()?;
        let config = BatchConfigBuilder::default()
            .with_max_queue_size(settings.max_queue_size)
            .with_max_export_batch_size(settings.batch)
            .with_scheduled_delay(settings.delay)
            .build();
        let batches = BatchSpanProcessor::new(CountingExporter { otlp, stats: Arc::clone(&stats) }, config);
        Ok((Self { batches, stats: Arc::clone(&stats) }, stats))
    }
}

impl SpanProcessor for SpanQueue {
    fn on_start(&self, _: &mut Span, _: &opentelemetry::Context) {}

    fn on_end(&self, span: SpanData) {
        // The library drops excess spans as well, but does not count them.
        if self.stats.admit() {
            self.batches.on_end(span);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.batches.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.batches.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.batches.set_resource(resource);
    }
}

/// The state of the export.
#[derive(Debug)]
pub(super) struct ExportStats {
    max_queue_size: usize,
    waiting: AtomicUsize,
    /// Spans that a partial success rejected.
    refused: AtomicU64,
    /// The reason for the last failure.
    reason: Mutex<String>,
    failing: AtomicBool,
    metrics: TraceMetrics,
}

impl ExportStats {
    pub(super) fn new(max_queue_size: usize, metrics: TraceMetrics) -> Self {
        Self {
            max_queue_size,
            waiting: AtomicUsize::new(0),
            refused: AtomicU64::new(0),
            reason: Mutex::default(),
            failing: AtomicBool::new(false),
            metrics,
        }
    }

    /// The number of spans that wait for the export.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Whether the queue has room for one more span.
    fn admit(&self) -> bool {
        let fits = self.waiting.fetch_add(1, Ordering::Relaxed) < self.max_queue_size;
        if !fits {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            self.metrics.dropped("full", 1);
        }
        fits
    }

    fn set_reason(&self, reason: impl Into<String>) {
        *self.reason.lock() = reason.into();
    }

    fn settle(&self, count: usize, accepted: bool) {
        let spans = u64::try_from(count).unwrap_or(u64::MAX);
        let refused = self.refused.swap(0, Ordering::Relaxed).min(spans);
        if accepted {
            self.metrics.exported(spans - refused);
            if refused > 0 {
                self.metrics.dropped("refused", refused);
            }
            if self.failing.swap(false, Ordering::Relaxed) {
                tracing::info!("the collector accepts traces again");
            }
        } else {
            self.metrics.dropped("failed", spans);
            if !self.failing.swap(true, Ordering::Relaxed) {
                let reason = self.reason.lock().clone();
                tracing::warn!(reason, "the collector does not accept traces; dropping them until it does");
            }
        }
    }
}

/// The library's exporter; counts its results.
#[derive(Debug)]
struct CountingExporter {
    otlp: opentelemetry_otlp::SpanExporter,
    stats: Arc<ExportStats>,
}

impl SpanExporter for CountingExporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let count = batch.len();
        // The spans have left the queue.
        self.stats.waiting.fetch_sub(count, Ordering::Relaxed);
        let exported = self.otlp.export(batch).await;
        self.stats.settle(count, exported.is_ok());
        exported
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.otlp.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.otlp.set_resource(resource);
    }
}

fn configured(settings: &Settings) -> reqwest::ClientBuilder {
    http_client::builder()
        .connect_timeout(CONNECT_TIMEOUT.min(settings.timeout))
        .timeout(settings.timeout)
        .pool_max_idle_per_host(1)
}

/// Sends the exporter's requests on the runtime, because the exporter's thread has none.
struct OtlpHttpClient {
    http: reqwest::Client,
    runtime: Handle,
    stats: Arc<ExportStats>,
}

impl fmt::Debug for OtlpHttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OtlpHttpClient")
    }
}

/// A request without a response, and the reason.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct NoResponse(&'static str);

#[async_trait]
impl HttpClient for OtlpHttpClient {
    async fn send_bytes(&self, request: http::Request<Bytes>) -> Result<http::Response<Bytes>, HttpError> {
        let sending = self.runtime.spawn(send(self.http.clone(), request));
        let answer = sending.await.unwrap_or(Err(NoResponse("ended")));
        match &answer {
            Ok(answer) if answer.status().is_success() => {
                let body = ExportTraceServiceResponse::decode(answer.body().clone()).ok();
                let refused = body.and_then(|body| body.partial_success).map_or(0, |part| part.rejected_spans);
                self.stats.refused.fetch_add(u64::try_from(refused).unwrap_or(0), Ordering::Relaxed);
            }
            Ok(answer) => self.stats.set_reason(format!("status {}", answer.status().as_u16())),
            Err(NoResponse(reason)) => self.stats.set_reason(*reason),
        }
        Ok(answer?)
    }
}

async fn send(http: reqwest::Client, request: http::Request<Bytes>) -> Result<http::Response<Bytes>, NoResponse> {
    let request = request.try_into().map_err(|_| NoResponse("no request"))?;
    let mut answer = http.execute(request).await.map_err(|error| NoResponse(error_kind(&error)))?;
    let mut whole = http::Response::new(Bytes::new());
    *whole.status_mut() = answer.status();
    // The headers, because they may contain `Retry-After`.
    *whole.headers_mut() = answer.headers().clone();
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|error| NoResponse(error_kind(&error)))? {
        if body.len() + chunk.len() > MAX_BODY {
            return Err(NoResponse("answer too large"));
        }
        body.extend_from_slice(&chunk);
    }
    *whole.body_mut() = body.into();
    Ok(whole)
}

/// The kind of the error. The error itself contains the URL, which may contain a token.
fn error_kind(error: &reqwest::Error) -> &'static str {
    match error {
        error if error.is_timeout() => "timed out",
        error if error.is_connect() => "not connected",
        _ => "broken off",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_queue_is_bounded_and_counts_dropped_spans() {
        let metrics = TraceMetrics::default();
        let stats = ExportStats::new(2, metrics.clone());
        assert_eq!([(); 4].map(|()| stats.admit()), [true, true, false, false]);
        assert_eq!((stats.waiting(), metrics.dropped_total("full")), (2, 2));
        stats.waiting.fetch_sub(2, Ordering::Relaxed);
        assert!(stats.admit(), "exported spans make room");
    }

    #[test]
    fn a_partial_success_counts_rejected_spans() {
        let metrics = TraceMetrics::default();
        let stats = ExportStats::new(9, metrics.clone());
        stats.refused.store(3, Ordering::Relaxed);
        stats.settle(5, true);
        assert_eq!((metrics.exported_total(), metrics.dropped_total("refused")), (2, 3));
        stats.refused.store(99, Ordering::Relaxed);
        stats.settle(5, true);
        assert_eq!(
            (metrics.exported_total(), metrics.dropped_total("refused")),
            (2, 8),
            "at most as many as were sent"
        );
        stats.settle(4, false);
        assert_eq!((metrics.exported_total(), metrics.dropped_total("failed")), (2, 4));
    }
}
