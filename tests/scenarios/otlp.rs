//! A collector: receives OTLP over HTTP, stores every byte, and can fail in several ways.

use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use prost::Message as _;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// The collector's reaction to a request that it has read.
#[derive(Clone, Copy, Debug)]
pub enum Mood {
    Take,
    /// Responds with this status.
    Refuse(u16),
    /// Never responds.
    Hang,
    /// Accepts all spans except one.
    TakeMost,
    /// Sends an endless response.
    Babble,
}

/// One request to the collector.
#[derive(Clone)]
pub struct Delivery {
    pub path: String,
    pub headers: http::HeaderMap,
    pub body: Bytes,
}

/// A received span.
#[derive(Clone, Debug)]
pub struct Span {
    /// The resource's `service.name`.
    pub service: String,
    pub name: String,
    pub trace: String,
    pub id: String,
    pub parent: String,
    /// Trace id and span id of each link.
    pub links: Vec<(String, String)>,
    /// Attributes; `status` is the message of the status.
    pub said: BTreeMap<String, String>,
    pub resource: BTreeMap<String, String>,
}

pub struct Collector {
    pub address: SocketAddr,
    pub mood: Arc<Mutex<Mood>>,
    deliveries: Arc<Mutex<Vec<Delivery>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Collector {
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mood = Arc::new(Mutex::new(Mood::Take));
        let deliveries: Arc<Mutex<Vec<Delivery>>> = Arc::default();
        let (moods, kept) = (Arc::clone(&mood), Arc::clone(&deliveries));
        let task = tokio::spawn(async move {
            // The connections end with this task.
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let Ok((stream, _)) = listener.accept().await else { continue };
                let (moods, kept) = (Arc::clone(&moods), Arc::clone(&kept));
                connections.spawn(async move {
                    let service = service_fn(move |request| {
                        let (moods, kept) = (Arc::clone(&moods), Arc::clone(&kept));
                        async move { Ok::<_, Infallible>(take(request, &moods, &kept).await) }
                    });
                    let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { address, mood, deliveries, task }
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn is(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    pub fn deliveries(&self) -> Vec<Delivery> {
        self.deliveries.lock().unwrap().clone()
    }

    /// All spans received so far.
    pub fn spans(&self) -> Vec<Span> {
        self.deliveries().iter().flat_map(|delivery| spans(&delivery.body)).collect()
    }

    /// Waits until `wanted` accepts the spans, and returns them.
    pub async fn until(&self, wanted: impl Fn(&[Span]) -> bool) -> Vec<Span> {
        let begun = Instant::now();
        loop {
            let spans = self.spans();
            if wanted(&spans) {
                return spans;
            }
            assert!(begun.elapsed() < Duration::from_secs(30), "the expected spans did not arrive: {spans:#?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Whether a request body or a header line contains this text.
    pub fn holds(&self, text: &str) -> bool {
        let bytes = text.as_bytes();
        self.deliveries().iter().any(|delivery| {
            delivery.body.windows(bytes.len()).any(|window| window == bytes)
                || delivery.path.contains(text)
                || delivery.headers.values().any(|value| String::from_utf8_lossy(value.as_bytes()).contains(text))
        })
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn take(
    request: http::Request<hyper::body::Incoming>,
    mood: &Mutex<Mood>,
    kept: &Mutex<Vec<Delivery>>,
) -> http::Response<Full<Bytes>> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    kept.lock().unwrap().push(Delivery { path: parts.uri.to_string(), headers: parts.headers, body });
    let mood = *mood.lock().unwrap();
    let mut said = ExportTraceServiceResponse::default();
    let status = match mood {
        Mood::Refuse(status) => status,
        Mood::Hang => std::future::pending().await,
        Mood::TakeMost => {
            let error_message = "one is too many".to_owned();
            said.partial_success = Some(ExportTracePartialSuccess { rejected_spans: 1, error_message });
            200
        }
        Mood::Babble => return http::Response::new(Full::from(vec![0; 1024 * 1024])),
        Mood::Take => 200,
    };
    let answer = http::Response::builder().status(status).header("content-type", "application/x-protobuf");
    answer.body(Full::from(said.encode_to_vec())).unwrap()
}

/// Decodes the spans of a request's body.
pub fn spans(body: &Bytes) -> Vec<Span> {
    let request = ExportTraceServiceRequest::decode(body.clone()).expect("OTLP as protobuf");
    let mut spans = Vec::new();
    for part in request.resource_spans {
        let resource = words(part.resource.unwrap_or_default().attributes);
        for span in part.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            let mut said = words(span.attributes);
            said.extend(span.status.map(|status| ("status".to_owned(), status.message)));
            assert!(span.events.is_empty(), "the tests do not decode events: {:?}", span.events);
            spans.push(Span {
                service: resource.get("service.name").cloned().unwrap_or_default(),
                name: span.name,
                trace: hex(&span.trace_id),
                id: hex(&span.span_id),
                parent: hex(&span.parent_span_id),
                links: span.links.iter().map(|link| (hex(&link.trace_id), hex(&link.span_id))).collect(),
                said,
                resource: resource.clone(),
            });
        }
    }
    spans
}

fn words(attributes: Vec<KeyValue>) -> BTreeMap<String, String> {
    let word = |attribute: KeyValue| {
        let value = match attribute.value.and_then(|value| value.value) {
            Some(Value::StringValue(text)) => text,
            Some(Value::IntValue(number)) => number.to_string(),
            Some(Value::BoolValue(fact)) => fact.to_string(),
            other => format!("{other:?}"),
        };
        (attribute.key, value)
    };
    attributes.into_iter().map(word).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
