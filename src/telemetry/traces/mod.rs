//! Traces of requests for an OpenTelemetry collector.
//!
//! A request's span is a child of the gateway's span (`traceparent`). Its own children are the steps of a login and the
//! calls to WeChat and Redis. Traces are off without an endpoint. A request that is not traced costs one header lookup,
//! and no request waits for the collector. Spans contain only constants, numbers and names from the configuration,
//! because [`SpanValue`] accepts nothing else. WeChat and the application receive no trace context.

mod export;
mod parent;
mod sampling;
mod settings;

pub use export::TraceError;
pub use parent::TraceParent;
pub use sampling::Sampling;
pub use settings::{ParsedSettings, Settings, read};

use crate::telemetry::metrics::TraceMetrics;
use export::{ExportStats, SpanQueue};
use http::{HeaderMap, Method};
use opentelemetry::context::FutureExt as _;
use opentelemetry::trace::{
    SpanBuilder, SpanContext, SpanId, SpanKind, Status, TraceContextExt as _, TraceFlags, TraceId, TraceState,
    Tracer as _, TracerProvider as _,
};
use opentelemetry::{Context, KeyValue, Value};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::resource::{EnvResourceDetector, TelemetryResourceDetector};
use opentelemetry_sdk::trace::{Sampler, SdkTracer, SdkTracerProvider};
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;

/// Starts the spans of requests.
#[derive(Clone)]
pub struct Traces(Option<Arc<Tracing>>);

struct Tracing {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
    sampling: Sampling,
    stats: Arc<ExportStats>,
}

impl Traces {
    /// Traces nothing.
    pub const fn off() -> Self {
        Self(None)
    }

    /// Traces to the collector in `settings`, as `instance`. Requests to the collector run on `runtime`.
    pub fn new(
        settings: &Settings,
        instance: &str,
        service_name: Option<String>,
        runtime: Handle,
        metrics: TraceMetrics,
    ) -> Result<Self, TraceError> {
        let (queue, stats) = SpanQueue::new(settings, runtime, metrics)?;
        let provider = SdkTracerProvider::builder()
            // `Sampling` has already decided.
            .with_sampler(Sampler::AlwaysOn)
            .with_resource(resource(instance, service_name))
            .with_span_processor(queue)
            .build();
        let tracer = provider.tracer("wechat-authz");
        Ok(Self(Some(Arc::new(Tracing { provider, tracer, sampling: settings.sampling, stats }))))
    }

    /// The span of a request with these headers, if it is traced.
    pub fn request(&self, headers: &HeaderMap, name: impl FnOnce() -> Cow<'static, str>) -> Span {
        let Some(tracing) = &self.0 else { return Span::none() };
        let Some(parent) = tracing.sampling.sample(headers) else { return Span::none() };
        let context = Context::new().with_value(SpanParent(tracing.tracer.clone()));
        let context = match parent.and_then(|parent| parent.context(headers)) {
            Some(parent) => context.with_remote_span_context(parent),
            None => context,
        };
        Span::start(&tracing.tracer, &context, name(), SpanKind::Server)
    }

    /// Exports the waiting spans, for at most `within`.
    pub async fn close(&self, within: Duration) {
        let Some(tracing) = self.0.clone() else { return };
        let closing = tokio::task::spawn_blocking(move || {
            let closed = tracing.provider.shutdown_with_timeout(within);
            (closed.is_ok(), tracing.stats.waiting())
        });
        if let Ok((false, waiting)) = closing.await {
            tracing::warn!(waiting, "shutting down before the collector accepted all traces");
        }
    }
}

/// The attributes of this process. The variables override the defaults.
fn resource(instance: &str, service_name: Option<String>) -> Resource {
    let defaults = [
        KeyValue::new("service.name", "wechat-authz"),
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        KeyValue::new("service.instance.id", instance.to_owned()),
    ];
    let builder = Resource::builder_empty().with_attributes(defaults);
    let builder = builder.with_detector(Box::new(TelemetryResourceDetector));
    let builder = builder.with_detector(Box::new(EnvResourceDetector::new()));
    match service_name.filter(|name| !name.is_empty()) {
        Some(name) => builder.with_service_name(name).build(),
        None => builder.build(),
    }
}

/// The tracer of a request's child spans, in its context.
struct SpanParent(SdkTracer);

/// A span, which ends when it is dropped. Empty if the request is not traced.
#[must_use = "a span lasts as long as it is held"]
pub struct Span(Option<Context>);

impl Span {
    /// A span that is not traced.
    pub const fn none() -> Self {
        Self(None)
    }

    fn start(tracer: &SdkTracer, parent: &Context, name: Cow<'static, str>, kind: SpanKind) -> Self {
        let span = tracer.build_with_context(SpanBuilder::from_name(name).with_kind(kind), parent);
        Self(Some(parent.with_span(span)))
    }

    /// A child of the current span; empty without a current span.
    fn child(kind: SpanKind, name: impl FnOnce() -> Cow<'static, str>) -> Self {
        Context::map_current(|current| match current.get::<SpanParent>() {
            Some(SpanParent(tracer)) => Self::start(tracer, current, name(), kind),
            None => Self::none(),
        })
    }

    /// Whether the span is traced.
    pub fn is_traced(&self) -> bool {
        self.0.is_some()
    }

    /// The id of its trace, as 32 hex digits.
    pub fn trace_id(&self) -> Option<String> {
        self.0.as_ref().map(|context| context.span().span_context().trace_id().to_string())
    }

    /// Sets an attribute.
    pub fn set_attribute(&self, key: &'static str, value: impl Into<SpanValue>) {
        if let Some(context) = &self.0 {
            context.span().set_attribute(KeyValue::new(key, value.into().0));
        }
    }

    /// Marks the span as failed.
    pub fn set_error(&self, reason: &'static str) {
        if let Some(context) = &self.0 {
            context.span().set_attribute(KeyValue::new("error.type", reason));
            context.span().set_status(Status::error(reason));
        }
    }

    /// Sets the request's method and the response's status.
    pub fn set_response(&self, method: &Method, status: http::StatusCode) {
        self.set_attribute("http.request.method", word(method));
        self.set_attribute("http.response.status_code", status.as_u16());
    }

    /// Runs `work` with this span as the parent of its spans.
    pub fn scope<F: Future>(&self, work: F) -> impl Future<Output = F::Output> + use<F> {
        work.with_context(self.0.clone().unwrap_or_default())
    }

    /// Runs `work` with this span as the parent of its spans, and ends the span with it.
    pub async fn instrument<F: Future>(self, work: F) -> F::Output {
        self.scope(work).await
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        // Work that outlives the span may hold its context.
        if let Some(context) = &self.0 {
            context.span().end();
        }
    }
}

/// A step of a login, as a child of the current span.
pub fn span(name: &'static str) -> Span {
    Span::child(SpanKind::Internal, || name.into())
}

/// A call to the server `peer`, `wechat` or `redis`, as a child of the current span.
pub fn client_span(peer: &'static str, call: &'static str) -> Span {
    Span::child(SpanKind::Client, || format!("{peer} {call}").into())
}

tokio::task_local! {
    static REQUEST_TRACE_ID: String;
}

/// Runs `work` for a request of the trace `trace_id`; empty without a trace.
pub fn for_request<F: Future>(trace_id: String, work: F) -> impl Future<Output = F::Output> + use<F> {
    REQUEST_TRACE_ID.scope(trace_id, work)
}

/// The trace id of the current request, sampled or not; empty without a trace.
pub fn request_trace_id() -> String {
    REQUEST_TRACE_ID.try_with(Clone::clone).unwrap_or_default()
}

/// Runs `work` in its own task, for the same request and with the current span as the parent of its spans.
pub fn with_context<F: Future>(work: F) -> impl Future<Output = F::Output> + use<F> {
    for_request(request_trace_id(), work.with_current_context())
}

/// The ids of the current span and its trace, for [`link`].
pub fn current_id() -> Option<String> {
    Context::map_current(|current| {
        current.get::<SpanParent>()?;
        let span = current.span();
        Some(format!("{}-{}", span.span_context().trace_id(), span.span_context().span_id()))
    })
}

/// Links the current span to the span of [`current_id`]. Does nothing if either is not traced.
pub fn link(id: &str) {
    let ids = id.split_once('-');
    let ids = ids.and_then(|(trace, span)| Some((TraceId::from_hex(trace).ok()?, SpanId::from_hex(span).ok()?)));
    let Some((trace, span)) = ids else { return };
    let linked = SpanContext::new(trace, span, TraceFlags::SAMPLED, true, TraceState::default());
    Context::map_current(|current| {
        if linked.is_valid() && current.get::<SpanParent>().is_some() {
            current.span().add_link(linked, Vec::new());
        }
    });
}

/// The value of a span's attribute.
pub struct SpanValue(Value);

impl SpanValue {
    /// A name from the configuration, of an application or a host.
    pub fn configured(name: &str) -> Self {
        Self(Value::from(name.to_owned()))
    }
}

impl From<&'static str> for SpanValue {
    fn from(word: &'static str) -> Self {
        Self(word.into())
    }
}

impl From<u16> for SpanValue {
    fn from(number: u16) -> Self {
        Self(i64::from(number).into())
    }
}

impl From<bool> for SpanValue {
    fn from(fact: bool) -> Self {
        Self(fact.into())
    }
}

/// The method, or `_OTHER` for an unknown method, because a client may send any text.
fn word(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        Method::CONNECT => "CONNECT",
        Method::TRACE => "TRACE",
        _ => "_OTHER",
    }
}

#[cfg(test)]
mod tests;
