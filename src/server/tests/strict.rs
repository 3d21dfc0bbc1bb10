//! Each listener rejects requests that two servers could interpret differently.

use super::*;

/// Heads that get a 400 and close the connection.
fn ambiguous() -> Vec<String> {
    let get = |lines: &str| format!("GET /a HTTP/1.1\r\n{lines}\r\n\r\n");
    let post = |lines: &str| format!("POST /a HTTP/1.1\r\nhost: a\r\n{lines}\r\n\r\n5\r\nhello\r\n0\r\n\r\n");
    vec![
        "GET /a HTTP/1.1\nhost: a\n\n".into(),
        "GET /a HTTP/1.1\nhost: a\r\n\r\n".into(),
        get("host: a\nx: 1"),
        "GET /a HTTP/1.1\r\nhost: a\r\n\n".into(),
        "\nGET /a HTTP/1.1\r\nhost: a\r\n\r\n".into(),
        get("host: a\rx: 1"),
        "GET /a#b HTTP/1.1\r\nhost: a\r\n\r\n".into(),
        "GET #b HTTP/1.1\r\nhost: a\r\n\r\n".into(),
        "GET http://a/a#b HTTP/1.1\r\nhost: a\r\n\r\n".into(),
        "GET /a\r\n\r\n".into(),
        "GET /a HTTP/0.9\r\nhost: a\r\n\r\n".into(),
        "GET /a HTTP/2.0\r\nhost: a\r\n\r\n".into(),
        "GET /a b HTTP/1.1\r\nhost: a\r\n\r\n".into(),
        "GET  /a HTTP/1.1\r\nhost: a\r\n\r\n".into(),
        "GET\t/a HTTP/1.1\r\nhost: a\r\n\r\n".into(),
        "GET /a\u{b}HTTP/1.1\r\nhost: a\r\n\r\n".into(),
        get("x: 1"),
        get("host: a\r\nhost: a"),
        get("host: a\r\nHost: b"),
        get("host : a"),
        get(" host: a"),
        get("host: a\r\nx: 1\r\n folded"),
        get("host: a\r\nx: 1\r\n\tfolded"),
        get("host: a\r\nx: a\0b"),
        get("host: a\r\nno colon"),
        get("host: a\r\n: 1"),
        "GET http://b/a HTTP/1.1\r\nhost: a\r\n\r\n".into(),
        "GET http://a:81/a HTTP/1.1\r\nhost: a\r\n\r\n".into(),
        post("content-length: 5\r\ntransfer-encoding: chunked"),
        post("Transfer-Encoding: chunked\r\nContent-Length: 5"),
        post("content-length: 5\r\ncontent-length: 5"),
        post("content-length: 5\r\ncontent-length: 6"),
        post("content-length: 5, 5"),
        post("content-length: +5"),
        post("content-length: -5"),
        post("content-length: 0x5"),
        post("content-length:"),
        post("content-length : 5"),
        post("transfer-encoding: chunked\r\ntransfer-encoding: chunked"),
        post("transfer-encoding: gzip, chunked"),
        post("transfer-encoding: chunked, identity"),
        post("transfer-encoding: identity"),
        post("transfer-encoding:\u{b}chunked"),
        "POST /a HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n".into(),
    ]
}

fn all_limits() -> [ListenerLimits; 3] {
    [ListenerLimits::check(), ListenerLimits::pages(), ListenerLimits::small()]
}

/// The statuses of the responses.
fn statuses(answers: &str) -> Vec<&str> {
    answers.split("HTTP/1.").skip(1).filter_map(|answer| answer.get(2..5)).collect()
}

#[tokio::test]
async fn an_ambiguous_head_is_a_400_and_closes() {
    for limits in all_limits() {
        let server = open("127.0.0.1:0", limits, Duration::from_secs(2)).await;
        for head in ambiguous() {
            // Alone, and after a good request; whole, and byte by byte.
            for (before, expected) in [("", &["400"][..]), ("GET /b HTTP/1.1\r\nhost: a\r\n\r\n", &["200", "400"])] {
                let mut stream = connect(&server).await;
                let sent = format!("{before}{head}");
                let answers = exchange(&mut stream, sent.as_bytes(), Duration::from_secs(2)).await;
                assert_eq!(statuses(&answers), expected, "{sent:?}: {answers}");
            }
            let mut stream = connect(&server).await;
            stream.set_nodelay(true).unwrap();
            for byte in head.as_bytes() {
                // The server may close before everything is sent.
                if stream.write_all(&[*byte]).await.is_err() {
                    break;
                }
                tokio::task::yield_now().await;
            }
            let answers = exchange(&mut stream, b"", Duration::from_secs(2)).await;
            assert!(["400", ""].contains(&statuses(&answers).concat().as_str()), "{head:?}: {answers}");
        }
    }
}

#[tokio::test]
async fn unusual_heads_with_one_meaning_are_answered() {
    for limits in all_limits() {
        let server = open("127.0.0.1:0", limits, Duration::from_secs(2)).await;
        for (head, version) in [
            ("GET /a HTTP/1.0\r\n\r\n", "HTTP/1.0"),
            ("GET /a HTTP/1.0\r\nhost: 10.0.0.1\r\n\r\n", "HTTP/1.0"),
            ("GET http://a/a HTTP/1.1\r\nhost: A\r\nconnection: close\r\n\r\n", "HTTP/1.1"),
            ("\r\nGET /a HTTP/1.1\r\nhost:a\r\nconnection: close\r\n\r\n", "HTTP/1.1"),
            (
                "GET /a HTTP/1.1\r\nhost: a\r\nx: \r\nuser-agent: \u{e4}\u{5fae}\r\nconnection: close\r\n\r\n",
                "HTTP/1.1",
            ),
            ("POST /a HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 5\r\n\r\n\n\n#\n\n", "HTTP/1.1"),
            // The connection closes, so the end of the body does not matter.
            (
                "POST /a HTTP/1.1\r\nhost: a\r\nTransfer-Encoding: Chunked\r\n\r\n0\r\n\r\nGET /b HTTP/1.1\nhost: a\r\n\r\n",
                "HTTP/1.1",
            ),
        ] {
            let answers = exchange(&mut connect(&server).await, head.as_bytes(), Duration::from_secs(3)).await;
            assert_eq!(statuses(&answers), ["200"], "{head:?}: {answers}");
            assert!(answers.ends_with(&format!("/a {version}")), "{head:?}: {answers}");
        }
    }
}

#[tokio::test]
async fn requests_sent_together_are_answered_in_order() {
    for limits in all_limits() {
        let server = open("127.0.0.1:0", limits, Duration::from_secs(2)).await;
        let mut sent = String::new();
        let mut expected = Vec::new();
        for number in 0..300 {
            let body = if number % 3 == 0 { "content-length: 4\r\n\r\nbody" } else { "\r\n" };
            sent += &format!("POST /{number} HTTP/1.1\r\nhost: a\r\n{body}");
            expected.push(format!("/{number} HTTP/1.1"));
        }
        sent += "GET /end HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
        let answers = exchange(&mut connect(&server).await, sent.as_bytes(), Duration::from_secs(5)).await;
        let mut found = answers.split("HTTP/1.1 200 OK").skip(1).map(|answer| answer.split("\r\n\r\n").nth(1).unwrap());
        for expected in expected {
            assert_eq!(found.next(), Some(expected.as_str()));
        }
    }
}

#[tokio::test]
async fn over_http_2_host_must_equal_the_authority() {
    let server = open("127.0.0.1:0", short(), Duration::from_secs(2)).await;
    let (mut sender, _connection) = http2(&server).await;
    for (hosts, status) in [(&[][..], 200), (&["a.example"], 200), (&["b.example"], 400), (&["a.example"; 2], 400)] {
        let mut request = request("GET", "/a");
        for host in hosts {
            request.headers_mut().append("host", host.parse().unwrap());
        }
        assert_eq!(sender.send_request(request).await.unwrap().status(), status, "{hosts:?}");
    }
    let mut many = request("GET", "/a");
    for number in 0..500 {
        many.headers_mut().append("x", number.into());
    }
    assert_eq!(sender.send_request(many).await.unwrap().status(), 431);
}
