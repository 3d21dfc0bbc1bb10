//! The application's access token with many instances on one Redis: the number of calls to WeChat, and the value in
//! each instance.
//!
//! The instances run in this process, each with its own HTTP client and Redis connection. Redis and the simulator are
//! real.

use harness::redis::Redis;
use harness::{OA, OA_SECRET};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use wechat_authz::testing::access_token::{AccessTokenError, AccessTokens, Settings};
use wechat_authz::testing::redis::{Form, Guarded, Redis as Store};
use wechat_authz::testing::seal::{self, Sealer, SealingKey};
use wechat_authz::testing::secret::Secret;
use wechat_authz::testing::telemetry::{AccessTokenMetrics, RedisMetrics};
use wechat_authz::testing::wechat::{self, AppId, Client, Credentials, OpenId, breaker};
use wechat_simulator::{App, Effect, Endpoint, Fault, Options, Simulator, Times};

const TOKEN: &str = "/cgi-bin/stable_token";
const TICKET: &str = "/cgi-bin/ticket/getticket";

struct Key(SealingKey);

impl Sealer for Key {
    fn seal(&self, context: &str, plain: &[u8]) -> Option<String> {
        self.0.seal(context, plain).ok()
    }

    fn open(&self, context: &str, sealed: &str, most: usize) -> Option<Vec<u8>> {
        self.0.open(context, &seal::decode(sealed, most)?)
    }
}

fn app() -> Credentials {
    Credentials { appid: AppId::parse(OA).unwrap(), secret: Secret::parse(OA_SECRET, 16).unwrap() }
}

async fn simulator() -> Simulator {
    let apps = vec![App::official_account(OA, OA_SECRET, "127.0.0.1").with_any_port()];
    Simulator::start(Options { apps, ..Options::default() }).await.unwrap()
}

/// The number of calls to WeChat at this path.
fn calls(simulator: &Simulator, path: &str) -> usize {
    simulator.journal().iter().filter(|entry| entry.path == path).count()
}

fn forced(simulator: &Simulator) -> usize {
    simulator.journal().iter().filter(|entry| entry.decision == "central token: forced").count()
}

fn store(port: u16) -> Store {
    let form = Form::One { address: format!("127.0.0.1:{port}").parse().unwrap(), database: 0 };
    let settings = wechat_authz::testing::redis::Settings {
        form,
        user: None,
        password: None,
        tls: false,
        roots: None,
        client: None,
        prefix: "test".into(),
        timeout: Duration::from_millis(500),
    };
    let store = Store::new(settings, RedisMetrics::default());
    let keeper = store.clone();
    tokio::spawn(async move { keeper.run().await });
    store
}

async fn connected(port: u16) -> Store {
    let store = store(port);
    store.connected_since(0).await;
    store
}

fn instance(simulator: &Simulator, store: Store, settings: Settings) -> Arc<AccessTokens> {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let wechat = wechat::Settings {
        api: simulator.base_url().parse().unwrap(),
        breaker: breaker::Settings { failures: 1_000, open: Duration::from_secs(1) },
        ..wechat::Settings::default()
    };
    let client = Arc::new(Client::new(&wechat, |_, _, _| {}).unwrap());
    let sealer = Arc::new(Key(SealingKey::derive(b"one key for all instances").unwrap()));
    AccessTokens::new(
        client,
        store,
        sealer,
        AccessTokenMetrics::default(),
        tokio_util::task::TaskTracker::new(),
        settings,
    )
}

async fn instances(count: usize, simulator: &Simulator, redis: &Redis, settings: Settings) -> Vec<Arc<AccessTokens>> {
    let mut instances = Vec::new();
    for _ in 0..count {
        instances.push(instance(simulator, connected(redis.port).await, settings));
    }
    instances
}

fn quick() -> Settings {
    Settings { lease: Duration::from_millis(500), ..Settings::default() }
}

/// Runs a request on all instances concurrently.
async fn at_once<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
    instances: &[Arc<AccessTokens>],
    ask: impl Fn(Arc<AccessTokens>) -> F,
) -> Vec<T> {
    let tasks: Vec<_> = instances.iter().map(|central| tokio::spawn(ask(Arc::clone(central)))).collect();
    let mut answers = Vec::new();
    for task in tasks {
        answers.push(task.await.unwrap());
    }
    answers
}

async fn tokens(instances: &[Arc<AccessTokens>]) -> Vec<Result<Secret, AccessTokenError>> {
    at_once(instances, async |central: Arc<AccessTokens>| central.token(&app()).await).await
}

fn one_value(values: Vec<Result<Secret, AccessTokenError>>) -> Secret {
    let values: Vec<Secret> = values.into_iter().map(Result::unwrap).collect();
    assert!(values.iter().all(|value| value.matches(values[0].expose())), "all instances must have the same value");
    values[0].clone()
}

fn keys(store: &Store) -> Guarded {
    let key = |what| store.keys().token(OA, "access_token", what);
    Guarded { lock: key("lock"), fence: key("fence"), value: key("value") }
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_instances_starting_together_make_one_call_to_wechat() {
    let (simulator, redis) = (simulator().await, Redis::start().await);
    let instances = instances(20, &simulator, &redis, Settings::default()).await;
    // WeChat responds slowly, so that all instances wait before the first response.
    let slow = Effect::DelayAfter(Duration::from_millis(600));
    simulator.inject(Fault::at(Endpoint::Any, slow).times(Times::FOREVER));
    let tickets = at_once(&instances, async |central: Arc<AccessTokens>| central.ticket(&app()).await).await;
    let ticket = one_value(tickets);
    assert_eq!((calls(&simulator, TOKEN), calls(&simulator, TICKET)), (1, 1));

    // An instance that starts later makes no call and uses the same value.
    let late = instance(&simulator, connected(redis.port).await, Settings::default());
    assert!(late.ticket(&app()).await.unwrap().matches(ticket.expose()));
    one_value(tokens(&instances).await);
    assert_eq!((calls(&simulator, TOKEN), calls(&simulator, TICKET)), (1, 1));

    // The values in Redis are counted, expire, share a slot and are encrypted.
    assert_eq!(redis.ask::<u64>(&["GET", &counter(&redis, "usual").await]).await, 1);
    let secrets = simulator.issued_secrets();
    for (key, left) in redis.keys().await {
        assert!(left > 0, "{key} does not expire");
        assert!(key.starts_with(&format!("test:1:{{token:{OA}:")), "{key}");
        let value: String = redis.ask(&["GET", &key]).await;
        assert!(secrets.iter().all(|secret| !value.contains(secret)), "{key}: {value}");
    }
}

/// A proxy to Redis that delays the first request for a lease.
async fn held_up(redis_port: u16, pause: Duration) -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = tokio::net::TcpStream::connect(("127.0.0.1", redis_port)).await.unwrap();
            let (mut from_client, mut to_client) = client.into_split();
            let (mut from_server, mut to_server) = server.into_split();
            tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
            tokio::spawn(async move {
                let (mut buffer, mut held) = (vec![0; 65_536], false);
                while let Ok(length @ 1..) = from_client.read(&mut buffer).await {
                    let about_the_lock = buffer[..length].windows(5).any(|word| word == b":lock");
                    if about_the_lock && !std::mem::replace(&mut held, true) {
                        tokio::time::sleep(pause).await;
                    }
                    if to_server.write_all(&buffer[..length]).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread")]
async fn who_takes_its_turn_after_the_value_was_written_asks_nobody() {
    let (simulator, redis) = (simulator().await, Redis::start().await);
    // It finds no value in Redis. Its request for the lease arrives only after another instance has stored a value.
    let pause = Duration::from_millis(300);
    let late = instance(&simulator, connected(held_up(redis.port, pause).await).await, Settings::default());
    let quick = instance(&simulator, connected(redis.port).await, Settings::default());
    let asked = tokio::spawn(async move { late.token(&app()).await });
    tokio::time::sleep(pause / 3).await;
    assert_eq!(calls(&simulator, TOKEN), 0);
    let first = quick.token(&app()).await;
    assert_eq!(calls(&simulator, TOKEN), 1);
    one_value(vec![first, asked.await.unwrap()]);
    assert_eq!(calls(&simulator, TOKEN), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_that_waits_for_wechat_keeps_its_turn() {
    let (simulator, redis) = (simulator().await, Redis::start().await);
    let settings = Settings { lease: Duration::from_millis(300), ..Settings::default() };
    let instances = instances(5, &simulator, &redis, settings).await;
    simulator.inject(Fault::at(Endpoint::StableToken, Effect::DelayBefore(Duration::from_millis(1_500))));
    one_value(tokens(&instances).await);
    assert_eq!(calls(&simulator, TOKEN), 1);
}

/// The call counter of the token for today.
async fn counter(redis: &Redis, call: &str) -> String {
    let start = format!("test:1:{{token:{OA}:access_token}}:{call}:");
    redis.keys().await.into_iter().map(|(key, _)| key).find(|key| key.starts_with(&start)).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_request_waits_briefly_for_the_first_connection() {
    let simulator = simulator().await;
    let mut redis = Redis::planned(&[]);
    let instances: Vec<_> = (0..8).map(|_| instance(&simulator, store(redis.port), Settings::default())).collect();
    let asked = tokio::spawn(async move { tokens(&instances).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    redis.run().await;
    one_value(asked.await.unwrap());
    assert_eq!(calls(&simulator, TOKEN), 1);
    redis.kill();
    let began = Instant::now();
    instance(&simulator, store(redis.port), Settings::default()).token(&app()).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_owner_dies_another_takes_over_when_its_lease_ends() {
    let (simulator, redis) = (simulator().await, Redis::start().await);
    let instances = instances(5, &simulator, &redis, Settings::default()).await;
    let dead = connected(redis.port).await;
    let lease = dead.take_lease(&keys(&dead), Duration::from_millis(1_200)).await.unwrap().unwrap();
    let began = Instant::now();
    one_value(tokens(&instances).await);
    assert!(began.elapsed() > Duration::from_millis(1_000), "must wait for the lease: {:?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_millis(4_000), "{:?}", began.elapsed());
    assert_eq!(calls(&simulator, TOKEN), 1);
    // After the lease has expired, the former owner can neither write nor prolong nor release.
    assert!(!dead.put_fenced(&keys(&dead), &lease, "old", Duration::from_secs(9)).await.unwrap());
    assert!(!dead.prolong(&keys(&dead), &lease, Duration::from_secs(9)).await.unwrap());
    assert!(!dead.release(&keys(&dead), &lease).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_newest_owner_writes_even_where_redis_forgot() {
    let redis = Redis::start().await;
    let store = connected(redis.port).await;
    let (keys, short, long) = (keys(&store), Duration::from_millis(600), Duration::from_secs(60));
    let first = store.take_lease(&keys, short).await.unwrap().unwrap();
    assert!(store.take_lease(&keys, short).await.unwrap().is_none(), "only one owner may hold the lease");
    assert!(store.put_fenced(&keys, &first, "first", long).await.unwrap());
    tokio::time::sleep(short + Duration::from_millis(100)).await;
    // The lease has expired and no other instance has taken one, so that the owner may still write.
    assert!(store.put_fenced(&keys, &first, "first again", long).await.unwrap());
    let second = store.take_lease(&keys, long).await.unwrap().unwrap();
    assert!(!store.put_fenced(&keys, &first, "too late", long).await.unwrap(), "the second owner has the lease");
    assert!(store.put_fenced(&keys, &second, "second", long).await.unwrap());
    assert!(!store.release(&keys, &first).await.unwrap(), "the first owner must not release the second's lease");
    assert!(store.prolong(&keys, &second, long).await.unwrap() && store.release(&keys, &second).await.unwrap());
    // The fence number still grows after the fence is evicted or all data is lost.
    redis.ask::<u64>(&["DEL", keys.fence.as_str()]).await;
    assert!(!store.put_fenced(&keys, &first, "too late", long).await.unwrap());
    assert_eq!(store.guarded(&keys).await.unwrap().unwrap().0, "second");
    redis.ask::<String>(&["FLUSHALL"]).await;
    let third = store.take_lease(&keys, long).await.unwrap().unwrap();
    assert!(!store.put_fenced(&keys, &second, "too late", long).await.unwrap());
    assert!(store.put_fenced(&keys, &third, "third", long).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_owner_adopts_the_newer_token() {
    let (simulator, redis) = (simulator().await, Redis::start().await);
    let all = instances(3, &simulator, &redis, Settings::default()).await;
    simulator.inject(Fault::at(Endpoint::StableToken, Effect::DelayAfter(Duration::from_millis(1_500))));
    let slow = Arc::clone(&all[0]);
    let slow = tokio::spawn(async move { slow.token(&app()).await });
    while calls(&simulator, TOKEN) == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // The instance has received its token and waits; its lease ends, and the token is replaced.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let store = connected(redis.port).await;
    assert_eq!(redis.ask::<u64>(&["DEL", keys(&store).lock.as_str()]).await, 1);
    simulator.replace_central_token(OA);
    let newer = all[1].token(&app()).await.unwrap();
    let slow = slow.await.unwrap().unwrap();
    assert!(slow.matches(newer.expose()), "the slow owner must use the newer token");
    assert!(all[2].token(&app()).await.unwrap().matches(newer.expose()));
    assert_eq!(calls(&simulator, TOKEN), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_token_is_replaced_by_one_forced_call() {
    let (simulator, redis) = (simulator().await, Redis::start().await);
    let instances = instances(10, &simulator, &redis, quick()).await;
    let dead = one_value(tokens(&instances).await);
    let after = async |instances: &[Arc<AccessTokens>], dead: &Secret| {
        let dead = dead.clone();
        at_once(instances, move |central: Arc<AccessTokens>| {
            let dead = dead.clone();
            async move { central.token_after(&app(), &dead).await }
        })
        .await
    };

    // Another system has replaced the token: a normal call is sufficient, no forced refresh happens.
    simulator.replace_central_token(OA);
    let second = one_value(after(&instances, &dead).await);
    assert_eq!((calls(&simulator, TOKEN), forced(&simulator)), (2, 0));

    // WeChat returns the token but rejects its use: one forced refresh happens.
    simulator.kill_central_token(OA);
    let third = one_value(after(&instances, &second).await);
    assert!(!third.matches(second.expose()));
    assert_eq!((calls(&simulator, TOKEN), forced(&simulator)), (4, 1));

    // An instance that reports an older token gets the newest one without a call.
    for old in [&dead, &second] {
        assert!(one_value(after(&instances, old).await).matches(third.expose()));
    }
    assert_eq!(calls(&simulator, TOKEN), 4);

    // The token fails again immediately: at most one forced refresh per minute, and no burst of normal calls.
    simulator.kill_central_token(OA);
    for _ in 0..5 {
        for refused in after(&instances, &third).await {
            assert!(
                matches!(refused, Err(AccessTokenError::QuotaExhausted | AccessTokenError::BackingOff { .. })),
                "{refused:?}"
            );
        }
    }
    assert_eq!(forced(&simulator), 1);
    assert!(calls(&simulator, TOKEN) <= 4 + instances.len(), "{}", calls(&simulator, TOKEN));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_with_a_dead_token_gets_another_and_asks_once_more() {
    let (simulator, redis) = (simulator().await, Redis::start().await);
    let central = instances(1, &simulator, &redis, quick()).await.remove(0);
    let follower = OpenId::parse(&simulator.openid(OA, "follower")).unwrap();
    let stranger = OpenId::parse(&simulator.openid(OA, "小明")).unwrap();
    assert!(central.is_subscribed(&app(), &follower).await.unwrap());
    assert!(!central.is_subscribed(&app(), &stranger).await.unwrap());
    simulator.kill_central_token(OA);
    assert!(central.is_subscribed(&app(), &follower).await.unwrap());
    assert_eq!(forced(&simulator), 1);
    simulator.replace_central_token(OA);
    central.ticket(&app()).await.unwrap();
    assert_eq!(forced(&simulator), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_for_one_is_not_tried_by_all() {
    let (simulator, redis) = (simulator().await, Redis::start().await);
    simulator.change_app(OA, |app| app.caller_allowed = false);
    let instances = instances(20, &simulator, &redis, Settings::default()).await;
    for answer in tokens(&instances).await {
        let fault = answer.unwrap_err();
        assert!(fault.to_string().contains("40164"), "{fault}");
        assert!(fault.retry_after() >= Duration::from_secs(10), "{fault:?}");
    }
    assert_eq!(calls(&simulator, TOKEN), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_old_value_is_served_until_the_new_one_is_there() {
    let (simulator, redis) = (simulator().await, Redis::start().await);
    // The token is always near its expiry, so that each read starts a refresh.
    let settings = Settings {
        refresh_before: Duration::from_secs(9_000),
        min_interval: Duration::from_millis(100),
        ..Settings::default()
    };
    let instances = instances(4, &simulator, &redis, settings).await;
    let old = one_value(tokens(&instances).await);
    simulator.inject(Fault::at(Endpoint::StableToken, Effect::Status(502)).times(Times::FOREVER));
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let began = Instant::now();
        assert!(one_value(tokens(&instances).await).matches(old.expose()));
        assert!(
            began.elapsed() < Duration::from_millis(100),
            "a read must not wait for a refresh: {:?}",
            began.elapsed()
        );
    }
    let failed = calls(&simulator, TOKEN) - 1;
    assert!((1..=3).contains(&failed), "expected one call and its retries for all instances, got {failed}");
    simulator.clear_faults();
    simulator.replace_central_token(OA);
    let began = Instant::now();
    loop {
        let now = tokens(&instances).await;
        if now.iter().all(|value| !value.as_ref().unwrap().matches(old.expose())) {
            one_value(now);
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(10), "the instances did not get the new token");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_each_instance_asks_wechat_once() {
    let simulator = simulator().await;
    let mut redis = Redis::planned(&[]);
    let alone = instance(&simulator, Store::none(), Settings::default());
    let waiting = instance(&simulator, store(redis.port), Settings::default());
    let fifty: Vec<_> = (0..50).map(|nth| if nth % 2 == 0 { &alone } else { &waiting }).cloned().collect();
    one_value(tokens(&fifty).await);
    assert_eq!(calls(&simulator, TOKEN), 2);

    // Redis starts, is used, freezes and stops: no caller waits long, and no call is repeated.
    redis.run().await;
    let shared = instance(&simulator, connected(redis.port).await, Settings::default());
    shared.token(&app()).await.unwrap();
    assert_eq!(calls(&simulator, TOKEN), 3);
    redis.signal("STOP");
    let began = Instant::now();
    let frozen = instance(&simulator, store(redis.port), Settings::default());
    frozen.token(&app()).await.unwrap();
    shared.ticket(&app()).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    redis.signal("CONT");
    redis.kill();
    shared.token(&app()).await.unwrap();
    assert_eq!(calls(&simulator, TOKEN), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_days_calls_have_a_bound_that_all_instances_share() {
    let (simulator, redis) = (simulator().await, Redis::start().await);
    one_value(tokens(&instances(1, &simulator, &redis, Settings::default()).await).await);
    let count = counter(&redis, "usual").await;
    redis.ask::<String>(&["SET", &count, "10000"]).await;
    let store = connected(redis.port).await;
    redis.ask::<u64>(&["DEL", keys(&store).value.as_str()]).await;
    let fresh = instance(&simulator, store, Settings::default());
    assert_eq!(fresh.token(&app()).await.unwrap_err(), AccessTokenError::QuotaExhausted);
    assert_eq!(calls(&simulator, TOKEN), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_values_that_we_sealed_are_accepted_from_redis() {
    let (simulator, redis) = (simulator().await, Redis::start().await);
    let store = connected(redis.port).await;
    let keys = keys(&store);
    let value = keys.value.as_str();
    let other = Key(SealingKey::derive(b"another key").unwrap()).seal(value, b"planted").unwrap();
    let key = Key(SealingKey::derive(b"one key for all instances").unwrap());
    // A value that we have encrypted for another key: the ticket, copied to the key of the token.
    let one = instance(&simulator, store.clone(), Settings::default());
    let ticket = one.ticket(&app()).await.unwrap();
    let place = store.keys().token(OA, "jsapi_ticket", "value");
    let elsewhere: String = redis.ask(&["GET", place.as_str()]).await;
    let endless = key.seal(value, b"planted").unwrap();
    let commands: [&[&str]; 6] = [
        &["SET", value, "1:planted", "PX", "1000000"],
        &["SET", value, &format!("1:{other}"), "PX", "1000000"],
        &["SET", value, &elsewhere, "PX", "1000000"],
        &["SET", value, &format!("1:{endless}")],
        &["SET", value, "garbage", "PX", "1000000"],
        &["LPUSH", value, "planted"],
    ];
    for command in commands {
        redis.ask::<String>(&["FLUSHALL"]).await;
        redis.ask::<::redis::Value>(command).await;
        let before = calls(&simulator, TOKEN);
        let fresh = instance(&simulator, store.clone(), Settings::default());
        let token = fresh.token(&app()).await.unwrap();
        assert!(!token.matches("planted") && !token.matches(ticket.expose()), "{command:?}");
        assert_eq!(calls(&simulator, TOKEN), before + 1, "{command:?}");
        // The value that Redis holds now is valid.
        let next = instance(&simulator, store.clone(), Settings::default());
        next.token(&app()).await.unwrap();
        assert_eq!(calls(&simulator, TOKEN), before + 1, "{command:?}");
    }
}
