//! Who holds a connection and makes no use of it: silent, half, idle, or not reading.

use super::*;

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
async fn a_second_request_that_comes_by_halves_is_let_go_too() {
    let door = open("127.0.0.1:0", short(), Duration::from_secs(2)).await;
    let mut stream = connect(&door).await;
    stream.write_all(b"GET /a HTTP/1.1\r\nhost: a\r\n\r\nGET /b HTTP/1.1\r\nhost: ").await.unwrap();
    let begun = Instant::now();
    // A byte now and then is no request.
    let dripping = async {
        while stream.write_all(b"a").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(5), dripping).await.is_ok(), "held for {:?}", begun.elapsed());
}

#[tokio::test]
async fn an_http_2_connection_that_rests_is_closed_politely() {
    let door = open("127.0.0.1:0", short(), Duration::from_secs(2)).await;
    let (mut sender, connection) = http2(&door).await;
    assert_eq!(sender.send_request(request("GET", "/a")).await.unwrap().status(), 200);
    let ended = tokio::time::timeout(Duration::from_secs(4), connection).await.expect("it is held");
    assert!(ended.unwrap().is_ok(), "without a GOAWAY, the client could not tell whether its next request was read");
}

#[tokio::test]
async fn who_asks_and_does_not_read_is_let_go() {
    let door = open("127.0.0.1:0", short(), Duration::from_secs(2)).await;
    let mut stream = connect(&door).await;
    stream.write_all(&b"GET /big HTTP/1.1\r\nhost: a\r\n\r\n".repeat(20)).await.unwrap();
    let (mut sender, _connection) = http2(&door).await;
    let _unread = sender.send_request(request("GET", "/big")).await.unwrap();
    assert!(within(Duration::from_secs(1), || door.open.get() == 2).await);
    assert!(within(Duration::from_secs(6), || door.open.get() == 0).await, "{} are held", door.open.get());
}

#[tokio::test]
async fn an_answer_that_takes_its_time_is_waited_for() {
    let budget = Budget { first_request: Duration::from_millis(50), idle: Duration::from_millis(100), ..short() };
    let door = open("127.0.0.1:0", budget, Duration::from_secs(2)).await;
    let mut stream = connect(&door).await;
    let slow = b"GET /slow HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    assert!(exchange(&mut stream, slow, Duration::from_secs(3)).await.contains("200 OK"));
    let (mut sender, _connection) = http2(&door).await;
    assert_eq!(sender.send_request(request("GET", "/slow")).await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_request_given_up_does_not_count_as_under_way() {
    let door = open("127.0.0.1:0", short(), Duration::from_secs(2)).await;
    let (mut sender, connection) = http2(&door).await;
    let given_up = tokio::time::timeout(Duration::from_millis(50), sender.send_request(request("GET", "/hang"))).await;
    assert!(given_up.is_err());
    assert!(tokio::time::timeout(Duration::from_secs(4), connection).await.is_ok(), "it is held");
}
