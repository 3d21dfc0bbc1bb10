//! Clients that hold a connection without using it: silent, slow, idle, or not reading.

use super::*;

#[tokio::test]
async fn a_silent_or_slow_client_is_disconnected() {
    let server = open("127.0.0.1:0", short(), Duration::from_secs(2)).await;
    for half in [&b""[..], b"G", b"GET /a HTTP/1.1\r\nhost: a\r\nx: ", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let mut stream = connect(&server).await;
        let started = Instant::now();
        exchange(&mut stream, half, Duration::from_secs(5)).await;
        assert!(started.elapsed() < Duration::from_secs(2), "{half:?} held for {:?}", started.elapsed());
    }
    let mut stream = connect(&server).await;
    let started = Instant::now();
    let answered = exchange(&mut stream, b"GET /a HTTP/1.1\r\nhost: a\r\n\r\n", Duration::from_secs(5)).await;
    assert!(answered.contains("200 OK") && started.elapsed() < Duration::from_secs(2), "an idle keep-alive is let go");
}

#[tokio::test]
async fn a_slow_second_request_is_disconnected() {
    let server = open("127.0.0.1:0", short(), Duration::from_secs(2)).await;
    let mut stream = connect(&server).await;
    stream.write_all(b"GET /a HTTP/1.1\r\nhost: a\r\n\r\nGET /b HTTP/1.1\r\nhost: ").await.unwrap();
    let started = Instant::now();
    // Single bytes do not extend the time limit.
    let dripping = async {
        while stream.write_all(b"a").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(5), dripping).await.is_ok(), "held for {:?}", started.elapsed());
}

#[tokio::test]
async fn an_idle_http_2_connection_gets_a_goaway() {
    let server = open("127.0.0.1:0", short(), Duration::from_secs(2)).await;
    let (mut sender, connection) = http2(&server).await;
    assert_eq!(sender.send_request(request("GET", "/a")).await.unwrap().status(), 200);
    let ended = tokio::time::timeout(Duration::from_secs(4), connection).await.expect("it is held");
    assert!(ended.unwrap().is_ok(), "without a GOAWAY, the client could not tell whether its next request was read");
}

#[tokio::test]
async fn a_client_that_does_not_read_is_disconnected() {
    let server = open("127.0.0.1:0", short(), Duration::from_secs(2)).await;
    let mut stream = connect(&server).await;
    stream.write_all(&b"GET /big HTTP/1.1\r\nhost: a\r\n\r\n".repeat(20)).await.unwrap();
    let (mut sender, _connection) = http2(&server).await;
    let _unread = sender.send_request(request("GET", "/big")).await.unwrap();
    assert!(within(Duration::from_secs(1), || server.open.get() == 2).await);
    assert!(within(Duration::from_secs(6), || server.open.get() == 0).await, "{} are held", server.open.get());
}

#[tokio::test]
async fn waiting_requests_are_bounded() {
    for (limits, waiting_kib, busy) in [(ListenerLimits::check(), 256, 429), (ListenerLimits::pages(), 4, 503)] {
        let server = open("127.0.0.1:0", ListenerLimits { waiting_kib, ..limits }, Duration::from_secs(2)).await;
        let (mut sender, _connection) = http2(&server).await;
        let waiting: Vec<_> = (0..2).map(|_| tokio::spawn(sender.send_request(request("GET", "/slow")))).collect();
        tokio::time::sleep(Duration::from_millis(100)).await;
        // Beyond the limit, over either version: no waiting request, and no response with a body.
        assert_eq!(sender.send_request(request("GET", "/slow")).await.unwrap().status(), busy);
        let answer = exchange(&mut connect(&server).await, CLOSE, Duration::from_secs(2)).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {busy}")) && answer.ends_with("\r\n\r\n"), "{answer}");
        for waiting in waiting {
            assert_eq!(waiting.await.unwrap().unwrap().status(), 200);
        }
        let freed = sender.send_request(request("GET", "/a")).await.unwrap();
        assert_eq!(freed.collect().await.unwrap().to_bytes(), "/a HTTP/2.0");
        // The memory of a response is free once it is read.
        assert_eq!(sender.send_request(request("GET", "/slow")).await.unwrap().status(), 200);
    }
}

#[tokio::test]
async fn a_new_connection_takes_the_slot_of_an_idle_one() {
    let limits = ListenerLimits { connections: 3, ..ListenerLimits::check() };
    let server = open("127.0.0.1:0", limits, Duration::from_secs(2)).await;
    let (mut busy, _connection) = http2(&server).await;
    let busy = tokio::spawn(async move {
        for _ in 0..200 {
            busy.send_request(request("GET", "/b")).await?;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        hyper::Result::Ok(())
    });
    let mut idle = Vec::new();
    for held in ["", "GET /a HTTP/1.1\r\nx: ", "GET /a HTTP/1.1\r\nhost: a\r\n\r\n", "PRI * HTTP/2.0\r\n\r\n"] {
        for _ in 0..2 {
            let mut stream = connect(&server).await;
            stream.write_all(held.as_bytes()).await.unwrap();
            idle.push(stream);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        let started = Instant::now();
        let answer = exchange(&mut connect(&server).await, CLOSE, Duration::from_secs(5)).await;
        assert!(answer.contains("200 OK"), "beside {held:?}: {answer}");
        assert!(started.elapsed() < Duration::from_millis(1_500), "beside {held:?}: {:?}", started.elapsed());
    }
    // The used connection keeps its slot.
    assert!(busy.await.unwrap().is_ok());
}

#[tokio::test]
async fn large_heads_wait_and_slow_ones_are_disconnected() {
    let limits = ListenerLimits { large_heads: 1, ..short() };
    let server = open("127.0.0.1:0", limits, Duration::from_secs(2)).await;
    let head = |size: usize| format!("GET /a HTTP/1.1\r\nhost: a\r\nconnection: close\r\nx: {}", "a".repeat(size));
    let mut slow = connect(&server).await;
    slow.write_all(head(20_000).as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    let started = Instant::now();
    let whole = format!("{}\r\n\r\n", head(20_000));
    // The large request waits; small ones do not.
    let mut next = connect(&server).await;
    next.write_all(&whole.as_bytes()[..12_000]).await.unwrap();
    assert!(exchange(&mut connect(&server).await, CLOSE, Duration::from_secs(2)).await.contains("200 OK"));
    assert!(started.elapsed() < Duration::from_millis(200));
    let mut read = Vec::new();
    tokio::time::timeout(Duration::from_secs(2), slow.read_to_end(&mut read)).await.unwrap().ok();
    assert!(read.is_empty(), "no head came whole");
    assert!(exchange(&mut connect(&server).await, whole.as_bytes(), Duration::from_secs(2)).await.contains("200 OK"));
}

#[tokio::test]
async fn nothing_is_read_from_a_client_that_does_not_read() {
    let server = open("127.0.0.1:0", short(), Duration::from_secs(2)).await;
    let mut stream = connect(&server).await;
    // Responses of 4 MiB each: the second starts after the client has read the first.
    let sending = async {
        loop {
            stream.write_all(&b"GET /big HTTP/1.1\r\nhost: a\r\n\r\n".repeat(1_000)).await?;
        }
    };
    let ended: Result<std::io::Result<()>, _> = tokio::time::timeout(Duration::from_secs(1), sending).await;
    assert!(ended.is_err(), "it is read from without end: {ended:?}");
}

#[tokio::test]
async fn a_slow_response_keeps_its_connection() {
    let limits =
        ListenerLimits { first_request: Duration::from_millis(50), idle: Duration::from_millis(100), ..short() };
    let server = open("127.0.0.1:0", limits, Duration::from_secs(2)).await;
    let mut stream = connect(&server).await;
    let slow = b"GET /slow HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    assert!(exchange(&mut stream, slow, Duration::from_secs(3)).await.contains("200 OK"));
    let (mut sender, _connection) = http2(&server).await;
    assert_eq!(sender.send_request(request("GET", "/slow")).await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_request_given_up_does_not_count_as_under_way() {
    let server = open("127.0.0.1:0", short(), Duration::from_secs(2)).await;
    let (mut sender, connection) = http2(&server).await;
    let given_up = tokio::time::timeout(Duration::from_millis(50), sender.send_request(request("GET", "/hang"))).await;
    assert!(given_up.is_err());
    assert!(tokio::time::timeout(Duration::from_secs(4), connection).await.is_ok(), "it is held");
}
