//! Listeners with real sockets: ordinary clients, many clients, and clients that use up resources.

mod drain;
mod slow_clients;
mod socket;
mod strict;

use super::address::AddressError;
use super::response::Response;
use super::*;
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use prometheus_client::metrics::gauge::Gauge;
use std::net::IpAddr;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::task::TaskTracker;

struct Server {
    address: Address,
    drain: Drain,
    open: Gauge,
    serving: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn short() -> ListenerLimits {
    ListenerLimits {
        first_request: Duration::from_millis(300),
        idle: Duration::from_millis(600),
        ..ListenerLimits::check()
    }
}

async fn handle(request: Request<Incoming>, _: IpAddr) -> Response {
    match request.uri().path() {
        "/panic" => panic!("a handler fails"),
        "/slow" => tokio::time::sleep(Duration::from_millis(400)).await,
        "/hang" => std::future::pending().await,
        "/big" => return Response::new(Full::new(Bytes::from(vec![b'a'; 4 << 20]))),
        _ => {}
    }
    Response::new(Full::new(Bytes::from(format!("{} {:?}", request.uri().path(), request.version()))))
}

async fn open(address: &str, limits: ListenerLimits, deadline: Duration) -> Server {
    open_until(address, limits, Drain::new(Duration::ZERO, deadline, TaskTracker::new())).await
}

async fn open_until(address: &str, limits: ListenerLimits, drain: Drain) -> Server {
    let server = Listener::bind(&address.parse().unwrap(), limits).await.unwrap();
    let (address, open) = (server.local_address().clone(), Gauge::default());
    let denied = || http::Response::builder().status(403).body(Full::default()).unwrap();
    let handler = |request, peer| Box::pin(handle(request, peer));
    let serving = tokio::spawn(server.serve(handler, drain.clone(), open.clone(), |_| (), denied));
    Server { address, drain, open, serving }
}

async fn tcp() -> (Server, TcpStream) {
    let server = open("127.0.0.1:0", short(), Duration::from_secs(2)).await;
    let stream = connect(&server).await;
    (server, stream)
}

async fn connect(server: &Server) -> TcpStream {
    let Address::Tcp(address) = server.address else { panic!("not TCP") };
    TcpStream::connect(address).await.unwrap()
}

type Http2 = hyper::client::conn::http2::SendRequest<Full<Bytes>>;

/// An HTTP/2 client, and the end of its connection.
async fn http2(server: &Server) -> (Http2, tokio::task::JoinHandle<hyper::Result<()>>) {
    let io = hyper_util::rt::TokioIo::new(connect(server).await);
    let executor = hyper_util::rt::TokioExecutor::new();
    let (sender, connection) = hyper::client::conn::http2::handshake(executor, io).await.unwrap();
    (sender, tokio::spawn(connection))
}

fn request(method: &str, path: &str) -> Request<Full<Bytes>> {
    Request::builder().method(method).uri(format!("http://a.example{path}")).body(Full::default()).unwrap()
}

/// Waits until `condition` holds; returns false after the time-out.
async fn within(time: Duration, condition: impl Fn() -> bool) -> bool {
    let holds = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(time, holds).await.is_ok()
}

/// Sends `bytes` and reads until the other side closes or `within` has passed.
async fn exchange(stream: &mut (impl AsyncReadExt + AsyncWriteExt + Unpin), bytes: &[u8], within: Duration) -> String {
    let _ = stream.write_all(bytes).await;
    let mut read = Vec::new();
    let _ = tokio::time::timeout(within, stream.read_to_end(&mut read)).await;
    String::from_utf8_lossy(&read).into_owned()
}

const CLOSE: &[u8] = b"GET /a HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";

#[tokio::test]
async fn http_1_and_http_2_share_one_port() {
    let (server, mut stream) = tcp().await;
    assert!(exchange(&mut stream, CLOSE, Duration::from_secs(2)).await.ends_with("/a HTTP/1.1"));
    let (mut sender, _connection) = http2(&server).await;
    assert_eq!(sender.send_request(request("GET", "/b")).await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_response_to_head_has_a_length_and_no_body() {
    let (server, mut stream) = tcp().await;
    let head = b"HEAD /a HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    let answer = exchange(&mut stream, head, Duration::from_secs(2)).await;
    assert!(answer.contains("content-length: 11\r\n") && answer.ends_with("\r\n\r\n"), "{answer}");
    let (mut sender, _connection) = http2(&server).await;
    let answer = sender.send_request(request("HEAD", "/a")).await.unwrap();
    assert_eq!(answer.headers()["content-length"], "11");
    assert!(answer.collect().await.unwrap().to_bytes().is_empty());
}

#[tokio::test]
async fn an_unread_body_does_not_delay_the_response() {
    for body in ["content-length: 1000000\r\n", "transfer-encoding: chunked\r\n"] {
        let (_server, mut stream) = tcp().await;
        let head = format!("POST /a HTTP/1.1\r\nhost: a\r\n{body}\r\n");
        let started = Instant::now();
        let answer = exchange(&mut stream, head.as_bytes(), Duration::from_secs(5)).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(started.elapsed() < Duration::from_secs(2), "{body:?} held for {:?}", started.elapsed());
    }
}

#[tokio::test]
async fn heads_are_bounded_above_the_limits_of_envoy() {
    for (limits, lines, status) in [
        (ListenerLimits::check(), 90, "200"),
        (ListenerLimits::check(), 110, "431"),
        (ListenerLimits::pages(), 120, "200"),
        (ListenerLimits::pages(), 140, "431"),
    ] {
        let line = "x: 1\r\n";
        let server = open("127.0.0.1:0", limits, Duration::from_secs(2)).await;
        let mut stream = connect(&server).await;
        let head = format!("GET /a HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{}\r\n", line.repeat(lines));
        let answer = exchange(&mut stream, head.as_bytes(), Duration::from_secs(2)).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{lines}: {answer}");
    }
    for (length, status) in [(60 * 1024, "200"), (200 * 1024, "431")] {
        let (_server, mut stream) = tcp().await;
        let head = format!("GET /a HTTP/1.1\r\nhost: a\r\nconnection: close\r\nx: {}\r\n\r\n", "a".repeat(length));
        let answer = exchange(&mut stream, head.as_bytes(), Duration::from_secs(2)).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{length}: {answer:.80}");
    }
}

#[tokio::test]
async fn heads_are_bounded_over_http_2() {
    for (length, status) in [(60 * 1024, 200), (100 * 1024, 431)] {
        let server = open("127.0.0.1:0", short(), Duration::from_secs(2)).await;
        let (mut sender, _connection) = http2(&server).await;
        let mut request = request("GET", "/a");
        request.headers_mut().insert("x", "a".repeat(length).parse().unwrap());
        assert_eq!(sender.send_request(request).await.unwrap().status(), status, "{length}");
    }
}

#[tokio::test]
async fn invalid_framing_is_a_400_and_closes() {
    for head in [
        "GET /a HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        "GET /a HTTP/1.1\r\nhost: a\r\nx : 1\r\n\r\n",
        "GET /a HTTP/1.1\r\nhost: a\r\nx: 1\r\n folded\r\n\r\n",
        "GET /a b HTTP/1.1\r\nhost: a\r\n\r\n",
        "\u{16}\u{3}\u{1}",
    ] {
        let (_server, mut stream) = tcp().await;
        let answer = exchange(&mut stream, head.as_bytes(), Duration::from_secs(2)).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{head:?}: {answer}");
    }
}

#[tokio::test]
async fn connections_beyond_the_limit_wait() {
    let limits = ListenerLimits { connections: 2, ..short() };
    let server = open("127.0.0.1:0", limits, Duration::from_secs(2)).await;
    let mut streams = Vec::new();
    for _ in 0..6 {
        streams.push(connect(&server).await);
    }
    for stream in &mut streams {
        assert!(server.open.get() <= 2);
        assert!(exchange(stream, CLOSE, Duration::from_secs(5)).await.contains("200 OK"));
    }
}

#[tokio::test]
async fn a_panic_denies_one_request_only() {
    let (server, mut stream) = tcp().await;
    let answer =
        exchange(&mut stream, b"GET /panic HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n", Duration::from_secs(2))
            .await;
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    assert!(exchange(&mut connect(&server).await, CLOSE, Duration::from_secs(2)).await.contains("200 OK"));
    let (mut sender, _connection) = http2(&server).await;
    assert_eq!(sender.send_request(request("GET", "/panic")).await.unwrap().status(), 403);
    assert_eq!(sender.send_request(request("GET", "/a")).await.unwrap().status(), 200);
}

#[test]
fn addresses_are_parsed_or_refused() {
    for good in ["127.0.0.1:9100", "[::1]:9100", "unix:/run/a.sock"] {
        assert_eq!(good.parse::<Address>().unwrap().to_string(), good);
    }
    for (bad, error) in [
        ("localhost:9100", AddressError::NotAnIp),
        ("9100", AddressError::NoPort),
        (":9100", AddressError::NoHost),
        ("::1:9100:x", AddressError::InvalidPort),
        ("fe80::zz:1", AddressError::NoBrackets),
        ("unix:a.sock", AddressError::NotAbsolute),
        ("unix:/run/", AddressError::NotAbsolute),
    ] {
        assert_eq!(bad.parse::<Address>().unwrap_err(), error, "{bad}");
    }
}
