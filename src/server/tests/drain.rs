//! The drain: it loses no request, and it ends.

use super::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

#[tokio::test]
async fn a_drain_announces_the_end_and_finishes_requests() {
    let (server, mut stream) = tcp().await;
    stream.write_all(b"GET /slow HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let started = Instant::now();
    let drain = server.drain.clone();
    let draining = tokio::spawn(async move { drain.run().await });
    let answer = exchange(&mut stream, b"", Duration::from_secs(3)).await;
    assert!(answer.contains("200 OK") && answer.to_lowercase().contains("connection: close"), "{answer}");
    draining.await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    assert_eq!(server.open.get(), 0);
}

#[tokio::test]
async fn a_drain_ends_at_its_deadline() {
    let server = open("127.0.0.1:0", ListenerLimits::check(), Duration::from_millis(300)).await;
    let mut stream = connect(&server).await;
    stream.write_all(b"GET /a HTTP/1.1\r\nhost: a\r\n\r\nGET /half").await.unwrap();
    let started = Instant::now();
    server.drain.run().await;
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_request_that_does_not_end_is_cut_at_the_deadline() {
    let server = open("127.0.0.1:0", ListenerLimits::check(), Duration::from_millis(300)).await;
    let mut stream = connect(&server).await;
    stream.write_all(b"GET /hang HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    assert!(within(Duration::from_secs(1), || server.open.get() == 1).await);
    server.drain.run().await;
    assert!(within(Duration::from_secs(1), || server.open.get() == 0).await);
    assert_eq!(exchange(&mut stream, b"", Duration::from_secs(1)).await, "");
}

/// Sends requests on one connection until a response closes it, then on the next. Returns the number of responses, of
/// lost requests, and whether a response has closed a connection.
async fn send_requests(address: std::net::SocketAddr, enough: Arc<AtomicBool>) -> (usize, usize, bool) {
    let (mut answered, mut lost, mut closed) = (0, 0, false);
    while !enough.load(Ordering::Relaxed) {
        let Ok(stream) = TcpStream::connect(address).await else { return (answered, lost + 1, closed) };
        let io = hyper_util::rt::TokioIo::new(stream);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
        let connection = tokio::spawn(connection);
        while !enough.load(Ordering::Relaxed) {
            let request = Request::builder().uri("/a").header("host", "a").body(Full::<Bytes>::default()).unwrap();
            let Ok(answer) = sender.send_request(request).await else {
                lost += 1;
                break;
            };
            answered += 1;
            let closes = answer.headers().get("connection").is_some_and(|value| value == "close");
            let _ = answer.collect().await;
            if closes {
                closed = true;
                break;
            }
        }
        drop(sender);
        let _ = connection.await;
    }
    (answered, lost, closed)
}

#[tokio::test]
async fn a_drain_under_load_loses_no_request() {
    let drain = Drain::new(Duration::from_millis(800), Duration::from_secs(2), TaskTracker::new());
    let server = open_until("127.0.0.1:0", short(), drain.clone()).await;
    let Address::Tcp(address) = server.address else { panic!("not TCP") };
    let enough = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..8).map(|_| tokio::spawn(send_requests(address, Arc::clone(&enough)))).collect();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let draining = tokio::spawn(async move { drain.run().await });
    // A gateway that sees the failed readiness chooses another instance before the listeners close.
    tokio::time::sleep(Duration::from_millis(500)).await;
    enough.store(true, Ordering::Relaxed);
    for client in clients {
        let (answered, lost, closed) = client.await.unwrap();
        assert!(answered > 0 && lost == 0 && closed, "{answered} answered, {lost} lost, closed: {closed}");
    }
    draining.await.unwrap();
    assert_eq!(server.open.get(), 0);
    assert!(TcpStream::connect(address).await.is_err(), "nothing new is taken");
}

#[tokio::test]
async fn a_drain_answers_a_new_connection() {
    let delay = Duration::from_millis(600);
    for http in ["HTTP/1.1", "HTTP/2.0"] {
        let drain = Drain::new(delay, Duration::from_secs(2), TaskTracker::new());
        let server = open_until("127.0.0.1:0", ListenerLimits::check(), drain.clone()).await;
        let started = Instant::now();
        let draining = tokio::spawn(async move { drain.run().await });
        tokio::time::sleep(delay - Duration::from_millis(50)).await;
        let mut stream = connect(&server).await;
        tokio::time::sleep(Duration::from_millis(150)).await;
        assert!(started.elapsed() > delay, "the doors have closed meanwhile");
        if http == "HTTP/1.1" {
            let answer = exchange(&mut stream, b"GET /a HTTP/1.1\r\nhost: a\r\n\r\n", Duration::from_secs(2)).await;
            assert!(answer.contains("200 OK") && answer.contains("connection: close"), "{answer}");
        } else {
            let executor = hyper_util::rt::TokioExecutor::new();
            let io = hyper_util::rt::TokioIo::new(stream);
            let (mut sender, connection) = hyper::client::conn::http2::handshake(executor, io).await.unwrap();
            let connection = tokio::spawn(connection);
            assert_eq!(sender.send_request(request("GET", "/a")).await.unwrap().status(), 200);
            let ended = tokio::time::timeout(Duration::from_secs(2), connection).await.unwrap();
            assert!(ended.unwrap().is_ok());
        }
        draining.await.unwrap();
        assert!(started.elapsed() < delay + Duration::from_secs(2), "{:?}", started.elapsed());
    }
}

#[tokio::test]
async fn a_drain_answers_connections_in_the_backlog() {
    let server = open("127.0.0.1:0", ListenerLimits::check(), Duration::from_secs(2)).await;
    let Address::Tcp(address) = server.address else { panic!("not TCP") };
    exchange(&mut connect(&server).await, CLOSE, Duration::from_secs(2)).await;
    // The server's task shares this thread, so the system accepts these connections and the server cannot until it
    // shuts down.
    let waiting: Vec<_> = (0..32).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
    server.drain.closing.cancel();
    for stream in waiting {
        stream.set_nonblocking(true).unwrap();
        let mut stream = TcpStream::from_std(stream).unwrap();
        assert!(exchange(&mut stream, CLOSE, Duration::from_secs(2)).await.contains("200 OK"));
    }
    assert!(within(Duration::from_secs(2), || server.serving.is_finished()).await);
    assert!(TcpStream::connect(address).await.is_err(), "nothing new is taken");
}

#[tokio::test]
async fn a_drain_finishes_http_2_streams_after_a_goaway() {
    let server = open("127.0.0.1:0", short(), Duration::from_secs(2)).await;
    let (mut sender, connection) = http2(&server).await;
    assert_eq!(sender.send_request(request("GET", "/a")).await.unwrap().status(), 200);
    let drain = server.drain.clone();
    let draining = tokio::spawn(async move { drain.run().await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(sender.send_request(request("GET", "/slow")).await.unwrap().status(), 200);
    assert!(tokio::time::timeout(Duration::from_secs(2), connection).await.unwrap().unwrap().is_ok());
    draining.await.unwrap();
    assert_eq!(server.open.get(), 0);
}

#[tokio::test]
async fn a_drain_waits_for_tasks_until_its_deadline() {
    for (takes, finishes) in [(Duration::from_millis(800), true), (Duration::from_secs(60), false)] {
        let tasks = TaskTracker::new();
        let done = Arc::new(AtomicBool::new(false));
        let task = tasks.spawn({
            let done = Arc::clone(&done);
            async move {
                tokio::time::sleep(takes).await;
                done.store(true, Ordering::Relaxed);
            }
        });
        let started = Instant::now();
        Drain::new(Duration::ZERO, Duration::from_secs(1), tasks).run().await;
        assert_eq!(done.load(Ordering::Relaxed), finishes, "{takes:?}");
        assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
        task.abort();
    }
}
