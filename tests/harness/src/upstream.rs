//! An application behind Envoy.

use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

/// An application that returns each request as JSON.
pub struct Upstream {
    pub address: SocketAddr,
    /// The request lines it has received.
    pub requests: Arc<Mutex<Vec<String>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Upstream {
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests: Arc<Mutex<Vec<String>>> = Arc::default();
        let seen = Arc::clone(&requests);
        let task = tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else { continue };
                let seen = Arc::clone(&seen);
                tokio::spawn(async move {
                    let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
                        let seen = Arc::clone(&seen);
                        async move { Ok::<_, Infallible>(echo(request, &seen).await) }
                    });
                    let mut builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                    builder.http1().max_headers(200);
                    let _ = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { address, requests, task }
    }

    /// The number of requests it has received.
    pub fn count(&self) -> usize {
        self.requests.lock().unwrap().len()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn echo(request: http::Request<hyper::body::Incoming>, seen: &Mutex<Vec<String>>) -> http::Response<Full<Bytes>> {
    let (parts, body) = request.into_parts();
    seen.lock().unwrap().push(format!("{} {}", parts.method, parts.uri));
    if parts.headers.contains_key("upgrade") {
        let answer =
            http::Response::builder().status(101).header("upgrade", "websocket").header("connection", "upgrade");
        return answer.body(Full::default()).unwrap();
    }
    let body = body.collect().await.map(|body| body.to_bytes().len()).unwrap_or_default();
    let headers: Vec<(String, String)> = parts
        .headers
        .iter()
        .map(|(name, value)| (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect();
    let said = serde_json::json!({
        "method": parts.method.as_str(), "target": parts.uri.to_string(), "headers": headers, "body": body,
        "version": format!("{:?}", parts.version),
    });
    http::Response::builder()
        .header("content-type", "application/json")
        .header("set-cookie", "app=1; Path=/")
        .body(Full::from(said.to_string()))
        .unwrap()
}
