//! In a pod: the addresses for kubelet and Prometheus, the probe commands, and the shutdown in the order of Kubernetes.

use harness::client::{Browser, raw};
use harness::stack::{Plan, Stack};
use harness::{free_port, program};
use std::net::SocketAddr;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

fn in_a_pod() -> Plan {
    Plan { pod: true, unix: true, ..Plan::default() }
}

fn ran(arguments: &[&str]) -> Output {
    Command::new(program()).args(arguments).env_clear().output().unwrap()
}

/// The exit code and the standard error.
fn ended(output: &Output) -> (Option<i32>, String) {
    assert!(output.stdout.is_empty(), "{output:?}");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

async fn asked(address: SocketAddr, method: &str, path: &str) -> (u16, String) {
    let request = format!("{method} {path} HTTP/1.1\r\nhost: pod\r\nconnection: close\r\n\r\n");
    let answer = raw(address, request.as_bytes()).await.unwrap();
    (answer.status, answer.body)
}

#[tokio::test(flavor = "multi_thread")]
async fn envoys_second_listener_serves_three_paths_and_no_other() {
    let stack = Stack::planned(in_a_pod()).await;
    let at = stack.envoy_ops;
    assert_eq!(asked(at, "GET", "/ready").await, (200, "LIVE\n".to_owned()));
    let (status, ours) = asked(at, "GET", "/metrics").await;
    assert!(status == 200 && ours.contains("wechat_authz_checks_total"), "{ours}");
    let (status, envoys) = asked(at, "GET", "/stats/prometheus").await;
    assert!(status == 200 && envoys.contains("envoy_server_live"), "{envoys}");
    for (method, path) in [
        ("POST", "/ready"),
        ("POST", "/metrics"),
        ("POST", "/healthcheck/fail"),
        ("GET", "/healthcheck/fail"),
        ("POST", "/drain_listeners"),
        ("POST", "/quitquitquit"),
        ("GET", "/config_dump"),
        ("GET", "/stats"),
        ("GET", "/stats/prometheus/x"),
        ("GET", "/ready/"),
        ("GET", "/metrics/../sessions"),
        ("GET", "/metrics%2f..%2fconfig_dump"),
        ("GET", "//metrics"),
        ("GET", "/healthz"),
        ("GET", "/"),
    ] {
        let (status, body) = asked(at, method, path).await;
        assert!(matches!(status, 400 | 404), "{method} {path}: {status} {body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_report_liveness_and_readiness_without_configuration() {
    let mut stack = Stack::planned(in_a_pod()).await;
    let door = stack.ops.to_string();
    assert_eq!(ended(&ran(&["healthcheck", "--ops", &door])), (Some(0), String::new()));
    assert_eq!(ended(&ran(&["healthcheck", "--ops", &door, "--ready"])), (Some(0), String::new()));
    // The pod's environment variable moves the listener, both for `serve` and for this command.
    let moved = |text: &str| {
        let mut command = Command::new(program());
        ended(&command.arg("healthcheck").env_clear().env("WECHAT_AUTHZ__LISTEN__OPS", text).output().unwrap())
    };
    assert_eq!(moved(&door), (Some(0), String::new()));
    let (code, said) = moved("everywhere");
    assert!(
        code == Some(1) && said.contains("WECHAT_AUTHZ__LISTEN__OPS: `everywhere` is not the address of a listener"),
        "{said}"
    );
    // During the drain the process is alive and not ready.
    stack.signal("TERM");
    let begun = Instant::now();
    loop {
        let (code, said) = ended(&ran(&["healthcheck", "--ops", &door, "--ready"]));
        if code == Some(1) {
            assert!(said.contains("responds with 503") || said.contains("cannot connect to"), "{said}");
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(5), "must not be ready during the drain");
    }
    assert_eq!(stack.authz_ended(Duration::from_secs(10)).await, Some(0));
    let (code, said) = ended(&ran(&["healthcheck", "--ops", &door]));
    assert!(code == Some(1) && said.contains("cannot connect to"), "{said}");
    // A process that accepts connections and never responds is not alive.
    let mute = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let begun = Instant::now();
    let (code, said) = ended(&ran(&["healthcheck", "--ops", &mute.local_addr().unwrap().to_string()]));
    assert!(code == Some(1) && said.contains("no response from") && begun.elapsed() < Duration::from_secs(3), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_drained_is_said_and_waited_for_all_the_same() {
    let stack = Stack::start().await;
    let nobody = format!("127.0.0.1:{}", free_port());
    let begun = Instant::now();
    let (code, said) = ended(&ran(&["drain", "--envoy", &nobody, "--wait", "1"]));
    assert!(code == Some(1) && said.contains("cannot connect to") && said.contains("admin port"), "{said}");
    assert!(begun.elapsed() >= Duration::from_secs(1));
    // An Envoy whose admin listener does not allow this path.
    let (code, said) = ended(&ran(&["drain", "--envoy", &stack.envoy_admin.to_string(), "--wait", "0"]));
    assert!(code == Some(1) && said.contains("answers 403 Forbidden to POST /healthcheck/fail"), "{said}");
    assert!(said.contains("allow_paths"), "{said}");
}

/// A keep-alive client: sends requests on one connection, opens the next one after `connection: close`, and stops when
/// connections are refused. Returns the number of requests without a complete response of status 200.
async fn keep_asking(address: SocketAddr, cookie: String, stop: Arc<AtomicBool>, answered: Arc<AtomicUsize>) -> usize {
    let request = format!("GET /a HTTP/1.1\r\nhost: {address}\r\naccept: text/html\r\ncookie: {cookie}\r\n\r\n");
    let mut failed = 0;
    'connections: while !stop.load(Ordering::Relaxed) {
        // Kubernetes has removed the pod from its Service before the listener closes.
        let Ok(mut stream) = tokio::net::TcpStream::connect(address).await else { break };
        while !stop.load(Ordering::Relaxed) {
            let mut bytes = Vec::new();
            let head = async {
                stream.write_all(request.as_bytes()).await?;
                while !bytes.windows(4).any(|four| four == b"\r\n\r\n") {
                    if stream.read_buf(&mut bytes).await? == 0 {
                        return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof));
                    }
                }
                Ok(())
            };
            let Ok(Ok(())) = tokio::time::timeout(Duration::from_secs(5), head).await else {
                failed += 1;
                continue 'connections;
            };
            let at = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
            let head = String::from_utf8_lossy(&bytes[..at]).to_ascii_lowercase();
            let length = head.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
            let length: usize = length.unwrap_or_else(|| panic!("{head}")).parse().unwrap();
            while bytes.len() < at + length {
                assert_ne!(stream.read_buf(&mut bytes).await.unwrap(), 0, "the connection closed within a response");
            }
            answered.fetch_add(1, Ordering::Relaxed);
            failed += usize::from(!head.starts_with("http/1.1 200"));
            if head.contains("connection: close") {
                continue 'connections;
            }
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
    }
    failed
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_ends_in_kubernetes_order_refuses_no_request() {
    let mut stack = Stack::planned(in_a_pod()).await;
    let mut browser = Browser::wechat();
    stack.log_in(&mut browser, "/").await;
    let cookie = format!("__Host-wechat_session={}", browser.cookie("__Host-wechat_session").unwrap());
    let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..20)
        .map(|_| tokio::spawn(keep_asking(stack.edge, cookie.clone(), Arc::clone(&stop), Arc::clone(&answered))))
        .collect();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let before = answered.load(Ordering::Relaxed);
    assert!(before > 100, "the load must be running: {before}");
    // All preStop hooks run at once: ours starts the drain, and Envoy's waits equally long.
    let (admin, ops) = (stack.envoy_admin.to_string(), stack.envoy_ops);
    let hook = std::thread::spawn(move || ended(&ran(&["drain", "--envoy", &admin, "--wait", "3"])));
    let begun = Instant::now();
    while asked(ops, "GET", "/ready").await.0 != 503 {
        assert!(begun.elapsed() < Duration::from_secs(2), "Envoy must not be ready during the drain");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // A request during the removal of endpoints is served, with `connection: close`.
    let mut late = Browser::wechat();
    late.jar = browser.jar.clone();
    let answer = late.fetch(&stack.url("/late")).await;
    assert_eq!((answer.status, answer.header("connection")), (200, "close"), "{answer:?}");
    tokio::task::spawn_blocking(move || assert_eq!(hook.join().unwrap(), (Some(0), String::new()))).await.unwrap();
    // By now Kubernetes has updated all clients: no new requests arrive, and those in progress complete.
    stop.store(true, Ordering::Relaxed);
    let mut failed = 0;
    for client in clients {
        failed += client.await.unwrap();
    }
    let during = answered.load(Ordering::Relaxed) - before;
    assert!(during > 100, "the load must continue: {during}");
    assert_eq!(failed, 0, "failed requests of {during}");
    // Envoy stops first, then wechat-authz: the reverse of the start order.
    stack.signal_envoy("TERM");
    stack.envoy_ended(Duration::from_secs(5)).await;
    stack.signal("TERM");
    assert_eq!(stack.authz_ended(Duration::from_secs(10)).await, Some(0));
}
