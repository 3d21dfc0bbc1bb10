//! The Redis connection against real servers: TLS, a user with few permissions, a new password, and unusable servers of
//! every kind. In each case a call returns in time and reports the reason.

use harness::process::Process;
use harness::redis::Redis;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use wechat_authz::testing::redis::settings::ClientCertificate;
use wechat_authz::testing::redis::{CallError, Form, Redis as Store, Settings};
use wechat_authz::testing::secret::Secret;
use wechat_authz::testing::telemetry::RedisMetrics;

const TIMEOUT: Duration = Duration::from_millis(300);

fn settings(port: u16) -> Settings {
    Settings {
        form: Form::One { address: format!("127.0.0.1:{port}").parse().unwrap(), database: 0 },
        user: None,
        password: None,
        tls: false,
        roots: None,
        client: None,
        prefix: "wechat-authz".into(),
        timeout: TIMEOUT,
    }
}

fn kept(settings: Settings) -> Store {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let store = Store::new(settings, RedisMetrics::default());
    let keeper = store.clone();
    tokio::spawn(async move { keeper.run().await });
    store
}

async fn until_up(store: &Store) {
    tokio::time::timeout(Duration::from_secs(10), store.connected_since(0)).await.expect("a connection");
}

async fn get(store: &Store) -> Result<Option<String>, CallError> {
    let name = store.keys().mark();
    store.query("test", ::redis::cmd("GET").arg(name)).await
}

async fn set(store: &Store) -> Result<(), CallError> {
    let name = store.keys().mark();
    store.query("test", ::redis::cmd("SET").arg(name).arg("x".repeat(1_000)).arg("PX").arg(60_000)).await
}

/// Repeats the request until `wanted` accepts the response, and returns the duration of the slowest one.
async fn until(store: &Store, wanted: impl Fn(&Result<Option<String>, CallError>) -> bool) -> Duration {
    let (begun, mut slowest) = (Instant::now(), Duration::ZERO);
    loop {
        let asked = Instant::now();
        let answer = get(store).await;
        slowest = slowest.max(asked.elapsed());
        if wanted(&answer) {
            return slowest;
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "still {answer:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_trusts_the_named_roots_and_nobody_else() {
    let directory = tempfile::tempdir().unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["127.0.0.1".into()]).unwrap().self_signed(&key).unwrap();
    let write = |name: &str, text: &str| {
        let file = directory.path().join(name);
        std::fs::write(&file, text).unwrap();
        file.to_str().unwrap().to_owned()
    };
    let (certificate_file, key_file) = (write("cert.pem", &certificate.pem()), write("key.pem", &key.serialize_pem()));
    let tls_port = harness::free_port();
    let port = tls_port.to_string();
    let files =
        ["--tls-cert-file", &certificate_file, "--tls-key-file", &key_file, "--tls-ca-cert-file", &certificate_file];
    let arguments: Vec<&str> = ["--tls-port", &port, "--tls-auth-clients", "no"].into_iter().chain(files).collect();
    let _redis = Redis::with(&arguments).await;
    let roots = Some(std::fs::read(Path::new(&certificate_file)).unwrap());
    let trusting = kept(Settings { tls: true, roots, ..settings(tls_port) });
    until_up(&trusting).await;
    assert_eq!(set(&trusting).await, Ok(()));
    assert!(trusting.subscribe().await.is_ok());
    let wary = kept(Settings { tls: true, ..settings(tls_port) });
    let plain = kept(settings(tls_port));
    tokio::time::sleep(Duration::from_millis(800)).await;
    assert!(!wary.is_up() && !plain.is_up());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_asks_for_a_certificate_gets_ours() {
    let directory = tempfile::tempdir().unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["127.0.0.1".into()]).unwrap().self_signed(&key).unwrap();
    let (certificate_file, key_file) = (directory.path().join("cert.pem"), directory.path().join("key.pem"));
    std::fs::write(&certificate_file, certificate.pem()).unwrap();
    std::fs::write(&key_file, key.serialize_pem()).unwrap();
    let tls_port = harness::free_port();
    let (port, file, key_file) = (tls_port.to_string(), certificate_file.to_str().unwrap(), key_file.to_str().unwrap());
    let files = ["--tls-cert-file", file, "--tls-key-file", key_file, "--tls-ca-cert-file", file];
    let arguments: Vec<&str> = ["--tls-port", &port, "--tls-auth-clients", "yes"].into_iter().chain(files).collect();
    let _redis = Redis::with(&arguments).await;
    let roots = Some(certificate.pem().into_bytes());
    let ours = ClientCertificate {
        chain: certificate.pem().into_bytes(),
        key: Secret::parse(&key.serialize_pem(), 1).unwrap(),
    };
    let known = kept(Settings { tls: true, roots: roots.clone(), client: Some(ours), ..settings(tls_port) });
    until_up(&known).await;
    assert_eq!(set(&known).await, Ok(()));
    assert!(known.subscribe().await.is_ok());
    let unknown = kept(Settings { tls: true, roots, ..settings(tls_port) });
    tokio::time::sleep(Duration::from_millis(800)).await;
    assert!(!unknown.is_up());
}

#[tokio::test(flavor = "multi_thread")]
async fn sentinels_are_asked_as_their_own_user() {
    let redis = Redis::start().await;
    let directory = tempfile::tempdir().unwrap();
    let (port, file) = (harness::free_port(), directory.path().join("sentinel.conf"));
    let text = format!(
        "port {port}\nbind 127.0.0.1\ndir {}\nsentinel monitor it 127.0.0.1 {} 1\nuser default off\n\
         user asker on >of-the-sentinels -@all +auth +hello +ping +client +sentinel|get-master-addr-by-name\n",
        directory.path().display(),
        redis.port
    );
    std::fs::write(&file, text).unwrap();
    let _sentinel = Process::silent(Command::new("redis-sentinel").arg(&file));
    let named = |user: Option<&str>, password: &str| {
        let password = Some(Secret::parse(password, 1).unwrap());
        let addresses = vec![format!("127.0.0.1:{port}").parse().unwrap()];
        let user = user.map(str::to_owned);
        kept(Settings {
            form: Form::Sentinel { master: "it".into(), addresses, database: 0, user, password },
            ..settings(1)
        })
    };
    let asker = named(Some("asker"), "of-the-sentinels");
    let others = [named(None, "of-the-sentinels"), named(Some("asker"), "of-somebody-else")];
    until_up(&asker).await;
    assert_eq!(set(&asker).await, Ok(()));
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(others.iter().all(|other| !other.is_up()));
}

/// Creates the Redis user `wechat-authz` with the command from the documents.
async fn grant_the_documented_rights(redis: &Redis) {
    let command = |file: &str| {
        let text = std::fs::read_to_string(harness::root().join(file)).unwrap();
        let line = text.lines().find(|line| line.starts_with("ACL SETUSER wechat-authz ")).expect("the command");
        line.replace(">PASSWORD", ">first-password")
    };
    let shown = command("docs/en/several-instances.md");
    assert_eq!(shown, command("docs/zh/several-instances.md"));
    redis.ask::<()>(&shown.split(' ').collect::<Vec<_>>()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_rights_are_enough_for_a_cluster() {
    let bus = harness::free_port().to_string();
    let redis = Redis::with(&["--cluster-enabled", "yes", "--cluster-port", &bus]).await;
    redis.ask::<()>(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]).await;
    grant_the_documented_rights(&redis).await;
    let store = kept(Settings {
        form: Form::Cluster { addresses: vec![format!("127.0.0.1:{}", redis.port).parse().unwrap()] },
        user: Some("wechat-authz".into()),
        password: Some(Secret::parse("first-password", 1).unwrap()),
        ..settings(redis.port)
    });
    until_up(&store).await;
    until(&store, Result::is_ok).await;
    assert_eq!(set(&store).await, Ok(()));
    assert!(store.subscribe().await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn few_rights_suffice_and_a_new_password_is_used() {
    let redis = Redis::start().await;
    grant_the_documented_rights(&redis).await;
    let with = |password: &str| Settings {
        user: Some("wechat-authz".into()),
        password: Some(Secret::parse(password, 1).unwrap()),
        ..settings(redis.port)
    };
    let store = kept(with("first-password"));
    until_up(&store).await;
    assert_eq!(set(&store).await, Ok(()));
    assert_eq!(store.query::<()>("test", ::redis::cmd("SET").arg("foreign").arg(1)).await, Err(CallError::Refused));
    redis.ask::<()>(&["ACL", "SETUSER", "wechat-authz", "resetpass", ">second-password"]).await;
    redis.ask::<u64>(&["CLIENT", "KILL", "USER", "wechat-authz"]).await;
    until(&store, |answer| *answer == Err(CallError::Down)).await;
    store.replace(with("second-password"));
    until(&store, Result::is_ok).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_without_redis_ends_at_once_and_never_hangs() {
    assert_eq!(get(&Store::none()).await, Err(CallError::NotConfigured));
    let mut redis = Redis::planned(&[]);
    let store = kept(settings(redis.port));
    let asked = Instant::now();
    assert_eq!(get(&store).await, Err(CallError::Down));
    assert!(asked.elapsed() < Duration::from_millis(50));
    redis.run().await;
    until(&store, Result::is_ok).await;
    redis.kill();
    let slowest = until(&store, |answer| *answer == Err(CallError::Down)).await;
    assert!(slowest < TIMEOUT * 2, "{slowest:?}");
    redis.run().await;
    until(&store, Result::is_ok).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_redis_costs_each_call_one_timeout_at_most() {
    let redis = Redis::start().await;
    let store = kept(settings(redis.port));
    until_up(&store).await;
    redis.signal("STOP");
    let slowest = until(&store, |answer| *answer == Err(CallError::Down)).await;
    assert!(slowest < TIMEOUT * 2, "{slowest:?}");
    let asked = Instant::now();
    for _ in 0..1_000 {
        assert_eq!(get(&store).await, Err(CallError::Down));
    }
    assert!(asked.elapsed() < TIMEOUT, "requests must not wait any more");
    redis.signal("CONT");
    until(&store, Result::is_ok).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_calls_at_once_than_are_let_wait_are_told_so() {
    let redis = Redis::start().await;
    let store = kept(settings(redis.port));
    until_up(&store).await;
    redis.signal("STOP");
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..2_000 {
        let store = store.clone();
        calls.spawn(async move { get(&store).await });
    }
    let answers = calls.join_all().await;
    redis.signal("CONT");
    let busy = answers.iter().filter(|answer| **answer == Err(CallError::Busy)).count();
    assert!(busy > 1_000 && answers.iter().all(Result::is_err), "{busy}");
    until(&store, Result::is_ok).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_redis_is_read_and_a_replica_is_not_written_to() {
    let redis = Redis::start().await;
    let store = kept(settings(redis.port));
    until_up(&store).await;
    redis.ask::<()>(&["CONFIG", "SET", "maxmemory", "1"]).await;
    assert_eq!(set(&store).await, Err(CallError::Refused));
    assert_eq!(get(&store).await, Ok(None));
    assert!(store.is_up());
    redis.ask::<()>(&["CONFIG", "SET", "maxmemory", "0"]).await;
    assert_eq!(set(&store).await, Ok(()));
    // Another server becomes the master, and this one its replica.
    let master = Redis::start().await;
    redis.ask::<()>(&["REPLICAOF", "127.0.0.1", &master.port.to_string()]).await;
    assert!(set(&store).await.is_err());
    until(&store, |answer| *answer == Err(CallError::Down)).await;
    redis.ask::<()>(&["REPLICAOF", "NO", "ONE"]).await;
    until(&store, Result::is_ok).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_value_under_our_key_is_rejected() {
    let redis = Redis::start().await;
    let store = kept(settings(redis.port));
    until_up(&store).await;
    redis.ask::<u64>(&["LPUSH", store.keys().mark().as_str(), "x"]).await;
    assert_eq!(get(&store).await, Err(CallError::Refused));
    assert!(store.is_up());
    redis.ask::<u64>(&["DEL", store.keys().mark().as_str()]).await;
    assert_eq!(get(&store).await, Ok(None));
}

/// A server that sends the same response to each request.
async fn liar(says: &'static [u8]) -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut read = [0; 4_096];
                while stream.read(&mut read).await.is_ok_and(|count| count > 0) {
                    if stream.write_all(says).await.is_err() {
                        break;
                    }
                }
            });
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_redis_is_never_taken_for_one() {
    for says in [
        &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..],
        b"\xff\xfe\x00garbage",
        b"$999999999\r\n",
        b"*1000000\r\n",
        b"-LOADING Redis is loading the dataset in memory\r\n",
        b"-NOAUTH Authentication required.\r\n",
        b"+OK\r\n",
        b":1\r\n",
        b"",
    ] {
        let store = kept(settings(liar(says).await));
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(700) {
            assert!(get(&store).await.is_err(), "{}", String::from_utf8_lossy(says));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(!store.is_up(), "{}", String::from_utf8_lossy(says));
    }
}
