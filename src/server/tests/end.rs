//! The drain: nobody loses a request, and it ends.

use super::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

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
    let door = open("127.0.0.1:0", ListenerLimits::check(), Duration::from_millis(300)).await;
    let mut stream = connect(&door).await;
    stream.write_all(b"GET /a HTTP/1.1\r\nhost: a\r\n\r\nGET /half").await.unwrap();
    let begun = Instant::now();
    door.drain.run().await;
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_request_that_does_not_end_is_cut_at_the_deadline() {
    let door = open("127.0.0.1:0", ListenerLimits::check(), Duration::from_millis(300)).await;
    let mut stream = connect(&door).await;
    stream.write_all(b"GET /hang HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    assert!(within(Duration::from_secs(1), || door.open.get() == 1).await);
    door.drain.run().await;
    assert!(within(Duration::from_secs(1), || door.open.get() == 0).await);
    assert_eq!(exchange(&mut stream, b"", Duration::from_secs(1)).await, "");
}

/// Asks on one connection until an answer closes it, then on the next; counts what was answered and what was lost.
async fn keep_asking(address: std::net::SocketAddr, enough: Arc<AtomicBool>) -> (usize, usize, bool) {
    let (mut answered, mut lost, mut told) = (0, 0, false);
    while !enough.load(Ordering::Relaxed) {
        let Ok(stream) = TcpStream::connect(address).await else { return (answered, lost + 1, told) };
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
                told = true;
                break;
            }
        }
        drop(sender);
        let _ = connection.await;
    }
    (answered, lost, told)
}

#[tokio::test]
async fn a_drain_under_load_loses_no_request_and_tells_every_connection() {
    let drain = Drain::new(Duration::from_millis(800), Duration::from_secs(2), TaskTracker::new());
    let door = open_until("127.0.0.1:0", short(), drain.clone()).await;
    let Address::Tcp(address) = door.address else { panic!("not TCP") };
    let enough = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..8).map(|_| tokio::spawn(keep_asking(address, Arc::clone(&enough)))).collect();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let draining = tokio::spawn(async move { drain.run().await });
    // A gateway that sees us not ready any more chooses another one before the doors close.
    tokio::time::sleep(Duration::from_millis(500)).await;
    enough.store(true, Ordering::Relaxed);
    for client in clients {
        let (answered, lost, told) = client.await.unwrap();
        assert!(answered > 0 && lost == 0 && told, "{answered} answered, {lost} lost, told: {told}");
    }
    draining.await.unwrap();
    assert_eq!(door.open.get(), 0);
    assert!(TcpStream::connect(address).await.is_err(), "nothing new is taken");
}

#[tokio::test]
async fn a_connection_just_made_is_answered_though_the_drain_has_begun() {
    let delay = Duration::from_millis(600);
    for http in ["HTTP/1.1", "HTTP/2.0"] {
        let drain = Drain::new(delay, Duration::from_secs(2), TaskTracker::new());
        let door = open_until("127.0.0.1:0", ListenerLimits::check(), drain.clone()).await;
        let begun = Instant::now();
        let draining = tokio::spawn(async move { drain.run().await });
        tokio::time::sleep(delay - Duration::from_millis(50)).await;
        let mut stream = connect(&door).await;
        tokio::time::sleep(Duration::from_millis(150)).await;
        assert!(begun.elapsed() > delay, "the doors have closed meanwhile");
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
        assert!(begun.elapsed() < delay + Duration::from_secs(2), "{:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn connections_that_wait_to_be_accepted_are_taken_before_the_door_closes() {
    let door = open("127.0.0.1:0", ListenerLimits::check(), Duration::from_secs(2)).await;
    let Address::Tcp(address) = door.address else { panic!("not TCP") };
    exchange(&mut connect(&door).await, CLOSE, Duration::from_secs(2)).await;
    // The door's task has this thread, so the system takes these and the door cannot until it is told to close.
    let waiting: Vec<_> = (0..32).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
    door.drain.closing.cancel();
    for stream in waiting {
        stream.set_nonblocking(true).unwrap();
        let mut stream = TcpStream::from_std(stream).unwrap();
        assert!(exchange(&mut stream, CLOSE, Duration::from_secs(2)).await.contains("200 OK"));
    }
    assert!(within(Duration::from_secs(2), || door.serving.is_finished()).await);
    assert!(TcpStream::connect(address).await.is_err(), "nothing new is taken");
}

#[tokio::test]
async fn http_2_is_told_by_goaway_and_finishes_its_streams() {
    let door = open("127.0.0.1:0", short(), Duration::from_secs(2)).await;
    let (mut sender, connection) = http2(&door).await;
    assert_eq!(sender.send_request(request("GET", "/a")).await.unwrap().status(), 200);
    let drain = door.drain.clone();
    let draining = tokio::spawn(async move { drain.run().await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(sender.send_request(request("GET", "/slow")).await.unwrap().status(), 200);
    assert!(tokio::time::timeout(Duration::from_secs(2), connection).await.unwrap().unwrap().is_ok());
    draining.await.unwrap();
    assert_eq!(door.open.get(), 0);
}

#[tokio::test]
async fn a_task_that_outlives_its_connection_is_waited_for_until_the_deadline() {
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
        let begun = Instant::now();
        Drain::new(Duration::ZERO, Duration::from_secs(1), tasks).run().await;
        assert_eq!(done.load(Ordering::Relaxed), finishes, "{takes:?}");
        assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
        task.abort();
    }
}
