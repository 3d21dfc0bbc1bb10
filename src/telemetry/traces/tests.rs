use super::*;
use http::HeaderValue;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SpanData, SpanProcessor};
use std::sync::Mutex;

/// Stores finished spans.
#[derive(Clone, Debug, Default)]
struct Kept(Arc<Mutex<Vec<SpanData>>>);

impl SpanProcessor for Kept {
    fn on_start(&self, _: &mut opentelemetry_sdk::trace::Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        self.0.lock().unwrap().push(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

impl Kept {
    fn named(&self, name: &str) -> SpanData {
        let spans = self.0.lock().unwrap();
        let found = spans.iter().find(|span| span.name == name);
        found.unwrap_or_else(|| panic!("no {name} in {spans:?}")).clone()
    }

    fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

fn traces(sampling: Sampling) -> (Traces, Kept) {
    let kept = Kept::default();
    let provider =
        SdkTracerProvider::builder().with_sampler(Sampler::AlwaysOn).with_span_processor(kept.clone()).build();
    let tracer = provider.tracer("test");
    let stats = Arc::new(ExportStats::new(1, TraceMetrics::default()));
    (Traces(Some(Arc::new(Tracing { provider, tracer, sampling, stats }))), kept)
}

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

fn headers(flags: &str) -> HeaderMap {
    let line = format!("00-{TRACE}-00f067aa0ba902b7-{flags}");
    HeaderMap::from_iter([(http::HeaderName::from_static("traceparent"), HeaderValue::from_str(&line).unwrap())])
}

fn at_once<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

#[test]
fn spans_of_every_task_are_children_of_the_request() {
    let (traces, kept) = traces(Sampling::default());
    at_once(async {
        let request = traces.request(&headers("01"), || "page callback".into());
        assert_eq!(request.trace_id().as_deref(), Some(TRACE));
        let work = async {
            drop(span("match flow"));
            let spend =
                async { span("spend code").instrument(async { drop(client_span("redis", "acquire_login")) }).await };
            tokio::spawn(with_context(spend)).await.unwrap();
        };
        request.scope(work).await;
        drop(span("after it"));
    });
    let [page, flow, spend, redis] =
        ["page callback", "match flow", "spend code", "redis acquire_login"].map(|name| kept.named(name));
    assert_eq!(kept.count(), 4, "a finished request gets no more child spans");
    assert_eq!(page.parent_span_id, SpanId::from_hex("00f067aa0ba902b7").unwrap());
    assert!(page.parent_span_is_remote);
    for (child, parent) in [(&flow, &page), (&spend, &page), (&redis, &spend)] {
        assert_eq!(child.parent_span_id, parent.span_context.span_id(), "{} under {}", child.name, parent.name);
        assert_eq!(child.span_context.trace_id(), TraceId::from_hex(TRACE).unwrap());
    }
    assert_eq!(
        (page.span_kind, spend.span_kind, redis.span_kind),
        (SpanKind::Server, SpanKind::Internal, SpanKind::Client)
    );
}

#[test]
fn a_request_that_is_not_traced_has_nothing_below_it() {
    let (on, kept) = traces(Sampling::default());
    for traces in [Traces::off(), on] {
        let request = traces.request(&headers("00"), || unreachable!("no name is made for it"));
        assert!(!request.is_traced() && request.trace_id().is_none());
        request.set_attribute("key", "value");
        request.set_error("why");
        at_once(request.scope(async {
            assert!(!span("begin login").is_traced());
            tokio::spawn(with_context(async { assert!(!client_span("redis", "ask").is_traced()) })).await.unwrap();
        }));
    }
    assert_eq!(kept.count(), 0);
}

#[test]
fn a_request_without_a_gateways_span_begins_a_trace() {
    let (traces, kept) = traces(Sampling::default());
    let ids = [(); 2].map(|()| traces.request(&HeaderMap::new(), || "check".into()).trace_id().unwrap());
    assert_ne!(ids[0], ids[1]);
    assert_eq!(kept.named("check").parent_span_id, SpanId::INVALID);
}

#[test]
fn a_dropped_span_ends_though_its_context_lives_on() {
    let (traces, kept) = traces(Sampling::default());
    let request = traces.request(&headers("01"), || "check".into());
    let work = request.scope(std::future::pending::<()>());
    request.set_error("broken");
    drop(request);
    let span = kept.named("check");
    assert_eq!(span.status, Status::error("broken"));
    assert!(span.end_time >= span.start_time);
    drop(work);
    assert_eq!(kept.count(), 1);
}

#[test]
fn two_ends_of_a_login_are_linked_where_both_are_traced() {
    let (traces, kept) = traces(Sampling::default());
    assert_eq!(current_id(), None);
    let begun =
        at_once(traces.request(&headers("01"), || "page login".into()).instrument(async { current_id() })).unwrap();
    assert_eq!(begun, format!("{TRACE}-{}", kept.named("page login").span_context.span_id()));
    for (there, links) in
        [(begun.as_str(), 1), ("", 0), ("no-link", 0), (&format!("{}-{}", "0".repeat(32), "0".repeat(16)), 0)]
    {
        let (traces, kept) = super::tests::traces(Sampling::default());
        at_once(traces.request(&HeaderMap::new(), || "page callback".into()).instrument(async { link(there) }));
        assert_eq!(kept.named("page callback").links.len(), links, "{there}");
    }
    link(&begun);
}

#[test]
fn a_method_that_a_client_made_up_is_not_repeated() {
    let (traces, kept) = traces(Sampling::default());
    let request = traces.request(&headers("01"), || "check".into());
    request.set_response(&Method::from_bytes(b"SECRET").unwrap(), http::StatusCode::FORBIDDEN);
    request.set_attribute("host", SpanValue::configured("api.weixin.qq.com"));
    drop(request);
    let said: Vec<String> =
        kept.named("check").attributes.iter().map(|said| format!("{}={}", said.key, said.value)).collect();
    assert_eq!(said, ["http.request.method=_OTHER", "http.response.status_code=403", "host=api.weixin.qq.com"]);
}

#[test]
fn the_variables_say_who_we_are_before_we_do() {
    let value = |resource: &Resource, key: &'static str| resource.get(&key.into()).map(|value| value.to_string());
    let ours = resource("i-1", None);
    assert_eq!(value(&ours, "service.name").as_deref(), Some("wechat-authz"));
    assert_eq!(value(&ours, "service.instance.id").as_deref(), Some("i-1"));
    assert_eq!(value(&resource("i-1", Some("edge".into())), "service.name").as_deref(), Some("edge"));
    assert_eq!(value(&resource("i-1", Some(String::new())), "service.name").as_deref(), Some("wechat-authz"));
}
