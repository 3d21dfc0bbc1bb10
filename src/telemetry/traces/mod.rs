//! Traces: what happened to a request, and how long each part took, for an OpenTelemetry collector.
//!
//! A request's span is a child of the gateway's (`traceparent`), and what is done for it is below it: steps of a login,
//! calls to WeChat and to Redis. Off where no endpoint is given. Promises: a request that is not traced costs one look at
//! a header; nobody waits for a collector; no span holds anything but words of ours, numbers and names of the
//! configuration, because [`Said`] cannot be made of anything else. Refuses to tell WeChat or the application of a trace.

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

/// Begins the spans of requests.
#[derive(Clone)]
pub struct Traces(Option<Arc<Tracing>>);

struct Tracing {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
    sampling: Sampling,
    tally: Arc<ExportStats>,
}

impl Traces {
    /// Nothing is traced.
    pub const fn off() -> Self {
        Self(None)
    }

    /// Traces to the collector of `settings`, as `instance`. Requests to it run on `runtime`.
    pub fn new(
        settings: &Settings,
        instance: &str,
        service_name: Option<String>,
        runtime: Handle,
        meter: TraceMetrics,
    ) -> Result<Self, TraceError> {
        let (queue, tally) = SpanQueue::new(settings, runtime, meter)?;
        let provider = SdkTracerProvider::builder()
            // Who gets here is traced.
            .with_sampler(Sampler::AlwaysOn)
            .with_resource(resource(instance, service_name))
            .with_span_processor(queue)
            .build();
        let tracer = provider.tracer("wechat-authz");
        Ok(Self(Some(Arc::new(Tracing { provider, tracer, sampling: settings.sampling, tally }))))
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

    /// Exports what waits, no longer than this.
    pub async fn close(&self, within: Duration) {
        let Some(tracing) = self.0.clone() else { return };
        let closing = tokio::task::spawn_blocking(move || {
            let closed = tracing.provider.shutdown_with_timeout(within);
            (closed.is_ok(), tracing.tally.waiting())
        });
        if let Ok((false, waiting)) = closing.await {
            tracing::warn!(waiting, "the collector did not take all traces before the end");
        }
    }
}

/// By what name a collector knows this process. What the variables say of it goes before what it says itself.
fn resource(instance: &str, service_name: Option<String>) -> Resource {
    let own = [
        KeyValue::new("service.name", "wechat-authz"),
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        KeyValue::new("service.instance.id", instance.to_owned()),
    ];
    let builder = Resource::builder_empty().with_attributes(own);
    let builder = builder.with_detector(Box::new(TelemetryResourceDetector));
    let builder = builder.with_detector(Box::new(EnvResourceDetector::new()));
    match service_name.filter(|name| !name.is_empty()) {
        Some(name) => builder.with_service_name(name).build(),
        None => builder.build(),
    }
}

/// What makes the spans below a request's: part of its context.
struct SpanParent(SdkTracer);

/// Something that is going on; over when dropped. Where the request is not traced, nothing.
#[must_use = "a span lasts as long as it is held"]
pub struct Span(Option<Context>);

impl Span {
    /// Not traced.
    pub const fn none() -> Self {
        Self(None)
    }

    fn start(tracer: &SdkTracer, parent: &Context, name: Cow<'static, str>, kind: SpanKind) -> Self {
        let span = tracer.build_with_context(SpanBuilder::from_name(name).with_kind(kind), parent);
        Self(Some(parent.with_span(span)))
    }

    /// A span below the current one, if there is one.
    fn child(kind: SpanKind, name: impl FnOnce() -> Cow<'static, str>) -> Self {
        Context::map_current(|current| match current.get::<SpanParent>() {
            Some(SpanParent(tracer)) => Self::start(tracer, current, name(), kind),
            None => Self::none(),
        })
    }

    /// Whether what is noted gets anywhere.
    pub fn is_traced(&self) -> bool {
        self.0.is_some()
    }

    /// The trace it belongs to, as 32 hex digits.
    pub fn trace_id(&self) -> Option<String> {
        self.0.as_ref().map(|context| context.span().span_context().trace_id().to_string())
    }

    /// Says something of it.
    pub fn set_attribute(&self, key: &'static str, said: impl Into<SpanValue>) {
        if let Some(context) = &self.0 {
            context.span().set_attribute(KeyValue::new(key, said.into().0));
        }
    }

    /// It failed, by one of our words.
    pub fn set_error(&self, why: &'static str) {
        if let Some(context) = &self.0 {
            context.span().set_attribute(KeyValue::new("error.type", why));
            context.span().set_status(Status::error(why));
        }
    }

    /// What a request was and what became of it.
    pub fn set_response(&self, method: &Method, status: http::StatusCode) {
        self.set_attribute("http.request.method", word(method));
        self.set_attribute("http.response.status_code", status.as_u16());
    }

    /// Does `work`; spans begun in it are below this one.
    pub fn scope<F: Future>(&self, work: F) -> impl Future<Output = F::Output> + use<F> {
        work.with_context(self.0.clone().unwrap_or_default())
    }

    /// Lasts as long as `work`, and has below it what is begun in it.
    pub async fn instrument<F: Future>(self, work: F) -> F::Output {
        self.scope(work).await
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        // Work that outlives it may hold its context.
        if let Some(context) = &self.0 {
            context.span().end();
        }
    }
}

/// A step of a login: what is done here, below the current span.
pub fn span(name: &'static str) -> Span {
    Span::child(SpanKind::Internal, || name.into())
}

/// A call to another server, below the current span: `whom` is `wechat` or `redis`.
pub fn client_span(whom: &'static str, what: &'static str) -> Span {
    Span::child(SpanKind::Client, || format!("{whom} {what}").into())
}

tokio::task_local! {
    static REQUEST_TRACE_ID: String;
}

/// `work` for a request that belongs to the trace `trace_id`, which is empty without one.
pub fn for_request<F: Future>(trace_id: String, work: F) -> impl Future<Output = F::Output> + use<F> {
    REQUEST_TRACE_ID.scope(trace_id, work)
}

/// The trace of the current request, sampled or not; empty without one.
pub fn request_trace_id() -> String {
    REQUEST_TRACE_ID.try_with(Clone::clone).unwrap_or_default()
}

/// `work` for a task of its own: its spans are below the current one, and it belongs to the same request.
pub fn with_context<F: Future>(work: F) -> impl Future<Output = F::Output> + use<F> {
    for_request(request_trace_id(), work.with_current_context())
}

/// The current span, to be linked to from another trace: its trace's id and its own.
pub fn current_id() -> Option<String> {
    Context::map_current(|current| {
        current.get::<SpanParent>()?;
        let span = current.span();
        Some(format!("{}-{}", span.span_context().trace_id(), span.span_context().span_id()))
    })
}

/// Links the current span to another, as [`here`] gave it. What was not traced has no link.
pub fn link(there: &str) {
    let ids = there.split_once('-');
    let ids = ids.and_then(|(trace, span)| Some((TraceId::from_hex(trace).ok()?, SpanId::from_hex(span).ok()?)));
    let Some((trace, span)) = ids else { return };
    let there = SpanContext::new(trace, span, TraceFlags::SAMPLED, true, TraceState::default());
    Context::map_current(|current| {
        if there.is_valid() && current.get::<SpanParent>().is_some() {
            current.span().add_link(there, Vec::new());
        }
    });
}

/// What a span may say.
pub struct SpanValue(Value);

impl SpanValue {
    /// A name that the configuration gives: of an application, of a host.
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

/// A client may write anything in a method's place.
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
