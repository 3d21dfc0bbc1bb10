//! A Unix socket: its permissions, the file that it replaces, and its removal.

use super::*;
use std::os::unix::fs::PermissionsExt;
use tokio::net::UnixStream;

#[tokio::test]
async fn a_unix_socket_is_for_its_owner_and_removed_at_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("check.sock");
    let address = format!("unix:{}", path.display());
    let server = open(&address, short(), Duration::from_secs(1)).await;
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let mut stream = UnixStream::connect(&path).await.unwrap();
    assert!(exchange(&mut stream, CLOSE, Duration::from_secs(2)).await.ends_with("/a HTTP/1.1"));
    let taken = Listener::bind(&address.parse().unwrap(), short()).await.err().unwrap();
    assert!(matches!(taken, BindError::AddressInUse(_)), "{taken}");
    server.drain.run().await;
    tokio::time::timeout(Duration::from_secs(1), async {
        while path.exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_stale_socket_is_replaced_and_a_file_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("check.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let address: Address = format!("unix:{}", path.display()).parse().unwrap();
    drop(Listener::bind(&address, short()).await.unwrap());
    std::fs::write(&path, "precious").unwrap();
    assert!(matches!(Listener::bind(&address, short()).await.err().unwrap(), BindError::NotASocket(_)));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
}

#[tokio::test]
async fn making_a_socket_touches_no_other_file() {
    let directory = tempfile::tempdir().unwrap();
    let mut others = Vec::new();
    for name in ["check.new", "check.sock.new", "check"] {
        let path = directory.path().join(name);
        std::fs::write(&path, "precious").unwrap();
        others.push(path);
    }
    let address: Address = format!("unix:{}", directory.path().join("check.sock").display()).parse().unwrap();
    drop(Listener::bind(&address, short()).await);
    for path in others {
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious", "{}", path.display());
    }
}

#[tokio::test]
async fn a_busy_process_keeps_its_socket() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("check.sock");
    // The queue of a running process is full, so connecting fails.
    let socket = tokio::net::UnixSocket::new_stream().unwrap();
    socket.bind(&path).unwrap();
    let _busy = socket.listen(0).unwrap();
    let mut waiting = Vec::new();
    for _ in 0..8 {
        let attempt = UnixStream::connect(&path);
        waiting.push(tokio::time::timeout(Duration::from_millis(50), attempt).await);
    }
    assert!(waiting.iter().any(|attempt| !matches!(attempt, Ok(Ok(_)))), "the queue is not full");
    let address: Address = format!("unix:{}", path.display()).parse().unwrap();
    let before = std::fs::symlink_metadata(&path).unwrap();
    let error = Listener::bind(&address, short()).await.err().unwrap();
    assert!(matches!(error, BindError::AddressInUse(_)), "{error}");
    let after = std::fs::symlink_metadata(&path).unwrap();
    assert_eq!(before.modified().unwrap(), after.modified().unwrap());
}

#[tokio::test]
async fn a_missing_directory_is_reported_with_the_address() {
    let directory = tempfile::tempdir().unwrap();
    let address = format!("unix:{}/missing/check.sock", directory.path().display());
    let error = Listener::bind(&address.parse().unwrap(), short()).await.err().unwrap().to_string();
    assert!(error.starts_with(&format!("cannot listen on {address}: ")), "{error}");
}

#[tokio::test]
async fn a_port_in_use_is_reported_with_the_remedy() {
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address: Address = other.local_addr().unwrap().to_string().parse().unwrap();
    let error = Listener::bind(&address, short()).await.err().unwrap();
    assert!(matches!(error, BindError::AddressInUse(_)), "{error}");
    assert!(error.to_string().ends_with("another process does; end it, or configure another address"), "{error}");
}
