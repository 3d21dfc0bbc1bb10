//! From a span's end to the collector, so that nobody ever waits for it.
//!
//! ```text
//! Span ends ─▶ Queue ─▶ the library's batches, on a thread of their own ─▶ Counted ─▶ OTLP ─▶ Carrier ─▶ collector
//! ```
//!
//! Spans that find no room, or that no collector takes, are counted and gone. The log says once that a collector does not
//! take them and once that it does again: the library's own words, one for each batch, are compiled out.

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

/// A collector's answer has a few bytes.
const MAX_BODY: usize = 64 * 1024;

/// The longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(3);

/// Traces cannot leave.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// TLS cannot be set up.
    #[error("the HTTP client cannot be set up")]
    Http(#[source] reqwest::Error),
    /// What a variable says that only the library reads.
    #[error("{0}")]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
}

/// Takes ended spans, as many as may wait.
#[derive(Debug)]
pub(super) struct SpanQueue {
    batches: BatchSpanProcessor,
    tally: Arc<ExportStats>,
}

impl SpanQueue {
    /// A queue to the collector of `settings`. Requests run on `runtime`.
    pub(super) fn new(
        settings: &Settings,
        runtime: Handle,
        meter: TraceMetrics,
    ) -> Result<(Self, Arc<ExportStats>), TraceError> {
        let tally = Arc::new(ExportStats::new(settings.most_waiting, meter));
        let http = http_client::client(|| configured(settings)).map_err(TraceError::Http)?;
        let otlp = opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_http_client(OtlpHttpClient { http, runtime, tally: Arc::clone(&tally) })
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(settings.endpoint.as_str())
            .with_timeout(settings.timeout)
            .build()?;
        let config = BatchConfigBuilder::default()
            .with_max_queue_size(settings.most_waiting)
            .with_max_export_batch_size(settings.batch)
            .with_scheduled_delay(settings.delay)
            .build();
        let batches = BatchSpanProcessor::new(CountingExporter { otlp, tally: Arc::clone(&tally) }, config);
        Ok((Self { batches, tally: Arc::clone(&tally) }, tally))
    }
}

impl SpanProcessor for SpanQueue {
    fn on_start(&self, _: &mut Span, _: &opentelemetry::Context) {}

    fn on_end(&self, span: SpanData) {
        // The library drops what does not fit as well, but tells nobody how much.
        if self.tally.admit() {
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

/// What became of the spans.
#[derive(Debug)]
pub(super) struct ExportStats {
    most_waiting: usize,
    waiting: AtomicUsize,
    /// Refused by an answer that took the others.
    refused: AtomicU64,
    /// How the last request failed.
    why: Mutex<String>,
    told: AtomicBool,
    meter: TraceMetrics,
}

impl ExportStats {
    pub(super) fn new(most_waiting: usize, meter: TraceMetrics) -> Self {
        Self {
            most_waiting,
            waiting: AtomicUsize::new(0),
            refused: AtomicU64::new(0),
            why: Mutex::default(),
            told: AtomicBool::new(false),
            meter,
        }
    }

    /// Spans that have ended and are at no collector.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Whether there is room for one more.
    fn admit(&self) -> bool {
        let fits = self.waiting.fetch_add(1, Ordering::Relaxed) < self.most_waiting;
        if !fits {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            self.meter.dropped("full", 1);
        }
        fits
    }

    fn failing(&self, why: impl Into<String>) {
        *self.why.lock() = why.into();
    }

    fn settle(&self, count: usize, went_well: bool) {
        let spans = u64::try_from(count).unwrap_or(u64::MAX);
        let refused = self.refused.swap(0, Ordering::Relaxed).min(spans);
        if went_well {
            self.meter.exported(spans - refused);
            if refused > 0 {
                self.meter.dropped("refused", refused);
            }
            if self.told.swap(false, Ordering::Relaxed) {
                tracing::info!("the collector takes traces again");
            }
        } else {
            self.meter.dropped("failed", spans);
            if !self.told.swap(true, Ordering::Relaxed) {
                let why = self.why.lock().clone();
                tracing::warn!(
                    why,
                    "the collector takes no traces: they are dropped and counted, and this is said once"
                );
            }
        }
    }
}

/// The library's exporter, counted.
#[derive(Debug)]
struct CountingExporter {
    otlp: opentelemetry_otlp::SpanExporter,
    tally: Arc<ExportStats>,
}

impl SpanExporter for CountingExporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let count = batch.len();
        // The queue's room is free from here on.
        self.tally.waiting.fetch_sub(count, Ordering::Relaxed);
        let exported = self.otlp.export(batch).await;
        self.tally.settle(count, exported.is_ok());
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
        .connect_timeout(CONNECT.min(settings.timeout))
        .timeout(settings.timeout)
        .pool_max_idle_per_host(1)
}

/// Makes the exporter's requests: it runs on a thread without a runtime.
struct OtlpHttpClient {
    http: reqwest::Client,
    runtime: Handle,
    tally: Arc<ExportStats>,
}

impl fmt::Debug for OtlpHttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Carrier")
    }
}

/// A request that got no answer; the words say how.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct NoAnswer(&'static str);

#[async_trait]
impl HttpClient for OtlpHttpClient {
    async fn send_bytes(&self, request: http::Request<Bytes>) -> Result<http::Response<Bytes>, HttpError> {
        let sending = self.runtime.spawn(send(self.http.clone(), request));
        let answer = sending.await.unwrap_or(Err(NoAnswer("ended")));
        match &answer {
            Ok(answer) if answer.status().is_success() => {
                let said = ExportTraceServiceResponse::decode(answer.body().clone()).ok();
                let refused = said.and_then(|said| said.partial_success).map_or(0, |part| part.rejected_spans);
                self.tally.refused.fetch_add(u64::try_from(refused).unwrap_or(0), Ordering::Relaxed);
            }
            Ok(answer) => self.tally.failing(format!("status {}", answer.status().as_u16())),
            Err(NoAnswer(how)) => self.tally.failing(*how),
        }
        Ok(answer?)
    }
}

async fn send(http: reqwest::Client, request: http::Request<Bytes>) -> Result<http::Response<Bytes>, NoAnswer> {
    let request = request.try_into().map_err(|_| NoAnswer("no request"))?;
    let mut answer = http.execute(request).await.map_err(|error| NoAnswer(how(&error)))?;
    let mut whole = http::Response::new(Bytes::new());
    *whole.status_mut() = answer.status();
    // The rest of the head, because it may say when to come again.
    *whole.headers_mut() = answer.headers().clone();
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|error| NoAnswer(how(&error)))? {
        if body.len() + chunk.len() > MAX_BODY {
            return Err(NoAnswer("answer too large"));
        }
        body.extend_from_slice(&chunk);
    }
    *whole.body_mut() = body.into();
    Ok(whole)
}

/// Never the error itself: it quotes the address, which may hold a token.
fn how(error: &reqwest::Error) -> &'static str {
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
    fn what_waits_is_bounded_and_what_does_not_fit_is_counted() {
        let meter = TraceMetrics::default();
        let tally = ExportStats::new(2, meter.clone());
        assert_eq!([(); 4].map(|()| tally.admit()), [true, true, false, false]);
        assert_eq!((tally.waiting(), meter.dropped_total("full")), (2, 2));
        tally.waiting.fetch_sub(2, Ordering::Relaxed);
        assert!(tally.admit(), "what has left makes room");
    }

    #[test]
    fn an_answer_may_refuse_a_part() {
        let meter = TraceMetrics::default();
        let tally = ExportStats::new(9, meter.clone());
        tally.refused.store(3, Ordering::Relaxed);
        tally.settle(5, true);
        assert_eq!((meter.exported_total(), meter.dropped_total("refused")), (2, 3));
        tally.refused.store(99, Ordering::Relaxed);
        tally.settle(5, true);
        assert_eq!((meter.exported_total(), meter.dropped_total("refused")), (2, 8), "no more than there were");
        tally.settle(4, false);
        assert_eq!((meter.exported_total(), meter.dropped_total("failed")), (2, 4));
    }
}
