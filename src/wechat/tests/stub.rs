//! A WeChat stub on raw TCP: it answers with any bytes, or fails in any way, and counts requests.

use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use url::Url;

/// The stub's behaviour for one connection.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// Reads the request, writes these bytes, closes.
    Say(Vec<u8>),
    /// Closes without reading.
    Slam,
    /// Reads the request, then resets the connection.
    Reset,
    /// Reads the request, writes these bytes, then resets the connection.
    SayAndReset(Vec<u8>),
    /// Reads the request and sends nothing.
    Hang,
    /// Reads the request, writes these bytes, and then one byte every 20 ms, without end.
    Drip(Vec<u8>),
}

/// Uses the behaviours in turn and repeats the last one.
pub(crate) struct Stub {
    pub(crate) url: Url,
    seen: Arc<Mutex<Vec<String>>>,
    posted: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Stub {
    pub(crate) async fn start(acts: impl IntoIterator<Item = Act>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = Url::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let acts: Vec<Act> = acts.into_iter().collect();
        let posted = Arc::default();
        let (note, keep) = (Arc::clone(&seen), Arc::clone(&posted));
        let task = tokio::spawn(async move {
            for turn in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                let act = acts.get(turn).or(acts.last()).unwrap().clone();
                tokio::spawn(play(stream, act, Arc::clone(&note), Arc::clone(&keep)));
            }
        });
        Self { url, seen, posted, task }
    }

    /// The first lines of all requests so far; empty for a connection that the stub did not read.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }

    /// The bodies of all requests with one.
    pub(crate) fn posted(&self) -> Vec<String> {
        self.posted.lock().unwrap().clone()
    }

    /// The number of connections.
    pub(crate) fn calls(&self) -> usize {
        self.seen.lock().unwrap().len()
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn play(mut stream: TcpStream, act: Act, seen: Arc<Mutex<Vec<String>>>, posted: Arc<Mutex<Vec<String>>>) {
    if matches!(act, Act::Slam) {
        seen.lock().unwrap().push(String::new());
        return;
    }
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let first = String::from_utf8_lossy(&head).lines().next().unwrap_or_default().to_owned();
    seen.lock().unwrap().push(first);
    let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
    if let Some(length) = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next()) {
        let mut body = vec![0; length.parse().unwrap()];
        if stream.read_exact(&mut body).await.is_err() {
            return;
        }
        posted.lock().unwrap().push(String::from_utf8(body).unwrap());
    }
    match act {
        Act::Slam => {}
        Act::Say(bytes) => {
            let _ = stream.write_all(&bytes).await;
            let _ = stream.shutdown().await;
        }
        Act::Reset => stream.set_zero_linger().unwrap(),
        Act::SayAndReset(bytes) => {
            let _ = stream.write_all(&bytes).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
            stream.set_zero_linger().unwrap();
        }
        Act::Hang => tokio::time::sleep(Duration::from_secs(60)).await,
        Act::Drip(bytes) => {
            let _ = stream.write_all(&bytes).await;
            while stream.write_all(b" ").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

/// An answer in WeChat's form: 200, always `text/plain`.
pub(crate) fn says(body: impl AsRef<[u8]>) -> Act {
    with_head("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n", body)
}

/// A status with an HTML body.
pub(crate) fn status(status: u16) -> Act {
    with_head(&format!("HTTP/1.1 {status} Whatever\r\nContent-Type: text/html\r\n"), "<html>no</html>")
}

/// A head without its final empty line, and a body with its length. It announces that the connection closes, so that
/// no test depends on which end closes first.
pub(crate) fn with_head(head: &str, body: impl AsRef<[u8]>) -> Act {
    let body = body.as_ref();
    let mut bytes = format!("{head}Connection: close\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
    bytes.extend_from_slice(body);
    Act::Say(bytes)
}
