//! Doors with real sockets: what slow, silent, greedy and many clients get.

use super::connection::Answer;
use super::*;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use prometheus_client::metrics::gauge::Gauge;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio_util::task::TaskTracker;

struct Open {
    address: Address,
    drain: Drain,
    open: Gauge,
    serving: tokio::task::JoinHandle<()>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn short() -> Budget {
    Budget { first_request: Duration::from_millis(300), idle: Duration::from_millis(600), ..Budget::check() }
}

async fn handle(request: Request<Incoming>, _: IpAddr) -> Answer {
    match request.uri().path() {
        "/panic" => panic!("a handler fails"),
        "/slow" => tokio::time::sleep(Duration::from_millis(400)).await,
        _ => {}
    }
    Response::new(Full::new(Bytes::from(format!("{} {:?}", request.uri().path(), request.version()))))
}

async fn open(address: &str, budget: Budget, deadline: Duration) -> Open {
    let door = Door::bind(&address.parse().unwrap(), budget).await.unwrap();
    let (address, open) = (door.local_address().clone(), Gauge::default());
    let drain = Drain::new(Duration::ZERO, deadline, TaskTracker::new());
    let denied = || Response::builder().status(403).body(Full::default()).unwrap();
    let serving = tokio::spawn(door.serve(handle, drain.clone(), open.clone(), |_| (), denied));
    Open { address, drain, open, serving }
}

async fn tcp() -> (Open, TcpStream) {
    let door = open("127.0.0.1:0", short(), Duration::from_secs(2)).await;
    let stream = connect(&door).await;
    (door, stream)
}

async fn connect(door: &Open) -> TcpStream {
    let Address::Tcp(address) = door.address else { panic!("not TCP") };
    TcpStream::connect(address).await.unwrap()
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
    let (door, mut stream) = tcp().await;
    assert!(exchange(&mut stream, CLOSE, Duration::from_secs(2)).await.ends_with("/a HTTP/1.1"));
    let stream = connect(&door).await;
    let io = hyper_util::rt::TokioIo::new(stream);
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(hyper_util::rt::TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    let request = Request::builder().uri("http://a.example/b").body(Full::<Bytes>::default()).unwrap();
    assert_eq!(sender.send_request(request).await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_unix_socket_is_for_its_owner_only_and_goes_with_the_door() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("check.sock");
    let address = format!("unix:{}", path.display());
    let door = open(&address, short(), Duration::from_secs(1)).await;
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let mut stream = UnixStream::connect(&path).await.unwrap();
    assert!(exchange(&mut stream, CLOSE, Duration::from_secs(2)).await.ends_with("/a HTTP/1.1"));
    let taken = Door::bind(&address.parse().unwrap(), short()).await.err().unwrap();
    assert!(matches!(taken, BindFault::Taken(_)), "{taken}");
    door.drain.run().await;
    tokio::time::timeout(Duration::from_secs(1), async {
        while path.exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn the_socket_of_a_process_that_is_gone_is_replaced_and_a_file_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("check.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let address: Address = format!("unix:{}", path.display()).parse().unwrap();
    drop(Door::bind(&address, short()).await.unwrap());
    std::fs::write(&path, "precious").unwrap();
    assert!(matches!(Door::bind(&address, short()).await.err().unwrap(), BindFault::NotASocket(_)));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
}

#[tokio::test]
async fn a_client_that_says_nothing_or_half_is_let_go() {
    let door = open("127.0.0.1:0", short(), Duration::from_secs(2)).await;
    for half in [&b""[..], b"G", b"GET /a HTTP/1.1\r\nhost: a\r\nx: ", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let mut stream = connect(&door).await;
        let begun = Instant::now();
        exchange(&mut stream, half, Duration::from_secs(5)).await;
        assert!(begun.elapsed() < Duration::from_secs(2), "{half:?} held for {:?}", begun.elapsed());
    }
    let mut stream = connect(&door).await;
    let begun = Instant::now();
    let answered = exchange(&mut stream, b"GET /a HTTP/1.1\r\nhost: a\r\n\r\n", Duration::from_secs(5)).await;
    assert!(answered.contains("200 OK") && begun.elapsed() < Duration::from_secs(2), "an idle keep-alive is let go");
}

#[tokio::test]
async fn heads_are_bounded_above_what_envoy_passes_on() {
    for (line, lines, status) in [("x: 1\r\n", 120, "200"), ("x: 1\r\n", 140, "431")] {
        let (_door, mut stream) = tcp().await;
        let head = format!("GET /a HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{}\r\n", line.repeat(lines));
        let answer = exchange(&mut stream, head.as_bytes(), Duration::from_secs(2)).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{lines}: {answer}");
    }
    for (length, status) in [(60 * 1024, "200"), (200 * 1024, "431")] {
        let (_door, mut stream) = tcp().await;
        let head = format!("GET /a HTTP/1.1\r\nhost: a\r\nconnection: close\r\nx: {}\r\n\r\n", "a".repeat(length));
        let answer = exchange(&mut stream, head.as_bytes(), Duration::from_secs(2)).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{length}: {answer:.80}");
    }
}

#[tokio::test]
async fn broken_framing_is_a_400_and_the_end() {
    for head in [
        "GET /a HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        "GET /a HTTP/1.1\r\nhost: a\r\nx : 1\r\n\r\n",
        "GET /a HTTP/1.1\r\nhost: a\r\nx: 1\r\n folded\r\n\r\n",
        "GET /a b HTTP/1.1\r\nhost: a\r\n\r\n",
        "\u{16}\u{3}\u{1}",
    ] {
        let (_door, mut stream) = tcp().await;
        let answer = exchange(&mut stream, head.as_bytes(), Duration::from_secs(2)).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{head:?}: {answer}");
    }
}

#[tokio::test]
async fn who_does_not_fit_waits_and_nobody_is_lost() {
    let budget = Budget { connections: 2, ..short() };
    let door = open("127.0.0.1:0", budget, Duration::from_secs(2)).await;
    let mut streams = Vec::new();
    for _ in 0..6 {
        streams.push(connect(&door).await);
    }
    for stream in &mut streams {
        assert!(door.open.get() <= 2);
        assert!(exchange(stream, CLOSE, Duration::from_secs(5)).await.contains("200 OK"));
    }
}

#[tokio::test]
async fn a_handler_that_panics_denies_and_the_door_stays_open() {
    let (door, mut stream) = tcp().await;
    let answer =
        exchange(&mut stream, b"GET /panic HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n", Duration::from_secs(2))
            .await;
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    assert!(exchange(&mut connect(&door).await, CLOSE, Duration::from_secs(2)).await.contains("200 OK"));
}

#[tokio::test]
async fn a_drain_announces_the_end_and_finishes_what_is_under_way() {
    let (door, mut stream) = tcp().await;
    stream.write_all(b"GET /slow HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let begun = Instant::now();
    let drain = door.drain.clone();
    let draining = tokio::spawn(async move { drain.run().await });
    let answer = exchange(&mut stream, b"", Duration::from_secs(3)).await;
    assert!(answer.contains("200 OK") && answer.to_lowercase().contains("connection: close"), "{answer}");
    draining.await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    assert_eq!(door.open.get(), 0);
}

#[tokio::test]
async fn a_drain_ends_at_its_deadline_whoever_holds_on() {
    let door = open("127.0.0.1:0", Budget::check(), Duration::from_millis(300)).await;
    let mut stream = connect(&door).await;
    stream.write_all(b"GET /a HTTP/1.1\r\nhost: a\r\n\r\nGET /half").await.unwrap();
    let begun = Instant::now();
    door.drain.run().await;
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
}

#[test]
fn an_address_is_read_or_refused() {
    for good in ["127.0.0.1:9100", "[::1]:9100", "unix:/run/a.sock"] {
        assert_eq!(good.parse::<Address>().unwrap().to_string(), good);
    }
    for (bad, fault) in [
        ("localhost:9100", AddressFault::NotAnAddress),
        ("9100", AddressFault::NotAnAddress),
        ("unix:a.sock", AddressFault::NotAbsolute),
        ("unix:/run/", AddressFault::NotAbsolute),
    ] {
        assert_eq!(bad.parse::<Address>().unwrap_err(), fault, "{bad}");
    }
}
