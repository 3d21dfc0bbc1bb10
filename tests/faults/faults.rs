//! The faults.

use crate::fleet::{Fleet, Plan, deliver_to, log_in_with};
use crate::load;
use crate::proxy::{Proxy, Wire};
use crate::servers::{Cluster, Sentinels, cli};
use crate::trial::{self, Line, RECONCILE, Row, Trial, refused_everywhere, twice};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use harness::SESSION;
use harness::client::{Answer, Browser};
use harness::redis::Redis;
use serde_json::{Value, json};
use std::pin::Pin;
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::time::sleep;
use wechat_simulator::{Effect, Endpoint, Fault as Trouble, Times};

/// One fault: its name, whether it takes only a few seconds, and its function.
pub struct Fault {
    pub name: &'static str,
    pub short: bool,
    pub run: fn() -> Pin<Box<dyn Future<Output = Row> + Send>>,
}

macro_rules! faults {
    ($($name:literal $short:literal $run:ident;)+) => {
        /// All faults.
        pub const ALL: &[Fault] = &[$(Fault { name: $name, short: $short, run: || Box::pin($run($name)) },)+];
    };
}

faults! {
    "double-callback"    true  double_callback;
    "instance-killed"    true  instance_killed;
    "killed-in-callback" true  killed_in_callback;
    "instance-stopped"   true  instance_stopped;
    "all-stopped"        true  all_stopped;
    "everything-stopped" true  everything_stopped;
    "redis-killed"       true  redis_killed;
    "redis-late"         true  redis_late;
    "redis-paused"       false redis_paused;
    "redis-paused-long"  false redis_paused_long;
    "redis-flushed"      true  redis_flushed;
    "redis-full"         true  redis_full;
    "redis-read-only"    true  redis_read_only;
    "redis-rubbish"      true  redis_rubbish;
    "wrong-types"        true  wrong_types;
    "network-cut"        true  network_cut;
    "network-black-hole" false network_black_hole;
    "network-slow"       false network_slow;
    "missed-message"     true  missed_message;
    "sentinel-failover"  false sentinel_failover;
    "sentinel-switch"    false sentinel_switch;
    "cluster-failover"   false cluster_failover;
    "cluster-reshard"    false cluster_reshard;
    "clock-step"         true  clock_step;
    "wechat-down"        true  wechat_down;
    "wechat-slow"        false wechat_slow;
    "wechat-lying"       true  wechat_lying;
    "wechat-45011"       true  wechat_45011;
    "key-rotation"       true  key_rotation;
    "bad-reload"         true  bad_reload;
    "few-files"          true  few_files;
}

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// The Redis keys of the revocations.
const LIST: &str = "wechat-authz:1:{revoked}:list";
const MARK: &str = "wechat-authz:1:{revoked}:mark";
const EVENTS: &str = "wechat-authz:1:{events}";
const CHANNEL: &str = "wechat-authz:1:changes";

/// The configuration's `redis:` line for this port.
fn at(port: u16) -> String {
    format!("redis: {{ url: \"redis://127.0.0.1:{port}/0\", reconcile: {}s }}\n", RECONCILE.as_secs())
}

async fn fleet(count: usize) -> (Fleet, Redis) {
    let redis = Redis::start().await;
    (Fleet::start(count, &at(redis.port)).await, redis)
}

fn check(holds: bool, why: impl Into<String>) -> Result<(), String> {
    if holds { Ok(()) } else { Err(why.into()) }
}

/// The session in an answer, as its `Set-Cookie` line.
fn given(answer: Option<&Answer>) -> Option<String> {
    answer.and_then(|answer| answer.set_cookies().find(|line| line.starts_with(SESSION)).map(str::to_owned))
}

/// One of the two JSON parts of a session's token.
fn part(token: &str, nth: usize) -> Value {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(token.split('.').nth(nth).unwrap()).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

/// A new session's token.
async fn token(fleet: &Fleet) -> Result<String, String> {
    let browser = fleet.log_in().await.ok_or("no login succeeds")?;
    browser.cookie(SESSION).ok_or("a login without a session".into())
}

/// A browser that has just logged in, and its session id.
async fn entered(fleet: &Fleet) -> Result<(Browser, String), String> {
    let browser = fleet.log_in().await.ok_or("no login succeeds")?;
    let session = load::sid(&browser, &fleet.origin).await.ok_or("the new session is denied")?;
    Ok((browser, session))
}

async fn double_callback(name: &'static str) -> Row {
    let (fleet, _redis) = fleet(3).await;
    trial::run(name, fleet, Line::default(), async |trial: &mut Trial| {
        let fleet = trial.fleet.read().await;
        for _ in 0..10 {
            let (one, other) = twice(&fleet).await?;
            check(one == other, "one callback at two instances created two sessions")?;
        }
        // Two codes with one state (docs/en/wechat.md, Repeated callbacks): whichever code is valid, both deliveries
        // end in one session.
        for good_first in [true, false] {
            fleet.simulator.inject(Trouble::at(Endpoint::AccessToken, Effect::DelayAfter(500 * MILLISECOND)));
            let mut browser = Browser::wechat();
            let good = fleet.to_callback(&mut browser).await.ok_or("no login starts")?;
            let code = url::Url::parse(&good).unwrap();
            let code = code.query_pairs().find(|(key, _)| key == "code").unwrap().1.into_owned();
            let bad = good.replace(&code, "0019999999999999999999999999dead");
            let (first, second) = if good_first { (&good, &bad) } else { (&bad, &good) };
            let both = tokio::join!(fleet.deliver(0, &browser, first), async {
                sleep(100 * MILLISECOND).await;
                fleet.deliver(1, &browser, second).await
            });
            fleet.simulator.clear_faults();
            let (one, other) = (given(both.0.as_ref()), given(both.1.as_ref()));
            // If the invalid code arrives first, its login starts again.
            let over = |answer: &Option<Answer>| answer.as_ref().is_some_and(|answer| answer.status == 303);
            let well = if good_first { one.is_some() && one == other } else { over(&both.0) && other.is_some() };
            let said =
                |answer: &Option<Answer>| answer.as_ref().map(|answer| (answer.status, answer.location().to_owned()));
            check(well, format!("two codes, good first {good_first}: {:?}, {:?}", said(&both.0), said(&both.1)))?;
            // A state is valid once, on all instances: a much later third delivery returns the same session without
            // an exchange.
            let before = exchanges(&fleet);
            let again = given(fleet.deliver(2, &browser, &good).await.as_ref());
            check(again == other && exchanges(&fleet) == before, "a state was spent twice")?;
        }
        Ok(())
    })
    .await
}

fn exchanges(fleet: &Fleet) -> usize {
    fleet.simulator.journal().iter().filter(|entry| entry.path == "/sns/oauth2/access_token").count()
}

/// Envoy retries checks on another instance, but not a page request in progress.
fn killed() -> Line {
    Line { logins_failed: Some(3), ..Line::default() }
}

async fn instance_killed(name: &'static str) -> Row {
    let (fleet, _redis) = fleet(3).await;
    trial::run(name, fleet, killed(), async |trial: &mut Trial| {
        trial.fleet.write().await.instances[1].kill();
        sleep(2 * SECOND).await;
        trial.fleet.write().await.restart(1).await;
        Ok(())
    })
    .await
}

async fn killed_in_callback(name: &'static str) -> Row {
    let (fleet, _redis) = fleet(3).await;
    // The next delivery waits until the lock of the killed instance expires.
    trial::run(name, fleet, Line { login_s: 12.0, ..killed() }, async |trial: &mut Trial| {
        let mut browser = Browser::wechat();
        let (callback, listeners) = {
            let fleet = trial.fleet.read().await;
            let callback = fleet.to_callback(&mut browser).await.ok_or("no login starts")?;
            fleet.simulator.inject(Trouble::at(Endpoint::AccessToken, Effect::DelayAfter(3 * SECOND)));
            (callback, fleet.listeners[1].clone())
        };
        let (sending, to) = (browser.clone(), callback.clone());
        let before = exchanges(&*trial.fleet.read().await);
        let delivery = tokio::spawn(async move { deliver_to(&listeners, &sending, &to).await });
        sleep(700 * MILLISECOND).await;
        trial.fleet.write().await.instances[1].kill();
        let cut = delivery.await.unwrap();
        check(cut.is_none(), "the callback was answered before the kill")?;
        check(exchanges(&*trial.fleet.read().await) > before, "the code was not spent before the kill")?;
        // The code is spent and its result is lost: the user goes to WeChat once more and then logs in.
        let answer = trial.fleet.read().await.deliver(0, &browser, &callback).await.ok_or("no answer")?;
        let to_wechat = answer.status == 303 && answer.location().contains("/connect/");
        check(to_wechat, format!("after the kill: {} {}", answer.status, answer.location()))?;
        let origin = trial.fleet.read().await.origin.clone();
        let arrived = log_in_with(browser, &origin).await;
        check(arrived.is_some(), "the second login failed")?;
        trial.fleet.write().await.restart(1).await;
        Ok(())
    })
    .await
}

async fn instance_stopped(name: &'static str) -> Row {
    let (fleet, _redis) = fleet(3).await;
    trial::run(name, fleet, Line::default(), async |trial: &mut Trial| {
        let mut browser = Browser::wechat();
        let (callback, listeners) = {
            let fleet = trial.fleet.read().await;
            let callback = fleet.to_callback(&mut browser).await.ok_or("no login starts")?;
            fleet.simulator.inject(Trouble::at(Endpoint::AccessToken, Effect::DelayAfter(2 * SECOND)));
            (callback, fleet.listeners[1].clone())
        };
        let delivery = tokio::spawn(async move { deliver_to(&listeners, &browser, &callback).await });
        sleep(300 * MILLISECOND).await;
        trial.fleet.read().await.instances[1].signal("TERM");
        check(!delivery.is_finished(), "the callback was answered before SIGTERM")?;
        let answer = delivery.await.unwrap().ok_or("SIGTERM cut off a callback in progress")?;
        let entered = given(Some(&answer)).is_some();
        check(entered, format!("a callback in progress: {} {}", answer.status, answer.location()))?;
        let code = trial.fleet.write().await.instances[1].ended(30 * SECOND).await;
        check(code == Some(0), format!("exit code {code:?}"))?;
        trial.fleet.write().await.restart(1).await;
        Ok(())
    })
    .await
}

/// No instance runs for a while: Envoy must deny every request.
fn nobody_there() -> Line {
    Line { denied: u64::MAX, logins_failed: None, login_s: 20.0, ..Line::default() }
}

/// Revokes one subject, stops every instance (and Redis, if given), and starts all again: that subject is still
/// denied, and other subjects keep their sessions.
async fn stopped(trial: &mut Trial, redis: Option<&mut Redis>) -> Result<(), String> {
    let origin = trial.fleet.read().await.origin.clone();
    // All users of the load are one subject, whose sessions must not end.
    let mut other = Browser::wechat();
    other.headers.push(("x-sim-user".to_owned(), "%E5%B0%8F%E7%BA%A2".to_owned()));
    let other = log_in_with(other, &origin).await.ok_or("no login as another user succeeds")?;
    let count = {
        let fleet = trial.fleet.read().await;
        let (person, _) = entered(&fleet).await?;
        let subject = async |browser: &Browser| {
            browser.clone().try_get(&format!("{origin}/a")).await.and_then(|answer| answer.seen("x-wechat-subject"))
        };
        let (one, second) = (subject(&person).await, subject(&other).await.ok_or("no subject")?);
        check(one.as_ref() != Some(&second), "both users have the same subject")?;
        fleet.revoke(0, &json!({ "subject": second })).await;
        let count = fleet.instances.len();
        (0..count).for_each(|index| fleet.instances[index].signal("TERM"));
        count
    };
    for index in 0..count {
        let code = trial.fleet.write().await.instances[index].ended(30 * SECOND).await;
        check(code == Some(0), format!("exit code {code:?}"))?;
    }
    let denied = other.clone().try_get(&format!("{origin}/a")).await.ok_or("Envoy does not answer")?;
    check(denied.status == 503 && denied.set_cookies().next().is_none(), format!("without an instance: {denied:?}"))?;
    // With an empty Redis, each instance reads its own revocations from its disk and learns those of the others
    // later.
    let alone = redis.is_some();
    if let Some(redis) = redis {
        trial.load.excuse();
        redis.kill();
        redis.run().await;
    }
    {
        let mut fleet = trial.fleet.write().await;
        (0..count).for_each(|index| fleet.launch(index));
        for index in 0..count {
            fleet.until_ready(index).await;
            // Must hold from the first check on: the instance has received no message since its start.
            let knows = index == 0 || !alone;
            check(!knows || !fleet.passes(index, &other).await, format!("instance {index} allows a revoked subject"))?;
        }
    }
    trial.heals().await?;
    let within = if alone { 2 * RECONCILE } else { Duration::ZERO };
    refused_everywhere(&*trial.fleet.read().await, &other, within).await
}

async fn all_stopped(name: &'static str) -> Row {
    let (fleet, _redis) = fleet(3).await;
    trial::run(name, fleet, nobody_there(), async |trial: &mut Trial| stopped(trial, None).await).await
}

async fn everything_stopped(name: &'static str) -> Row {
    let mut redis = Redis::start().await;
    let fleet = Fleet::planned(2, Plan { redis: at(redis.port), state: true, ..Plan::default() }).await;
    let line = Line { told_within: None, ..nobody_there() };
    trial::run(name, fleet, line, async |trial: &mut Trial| stopped(trial, Some(&mut redis)).await).await
}

async fn redis_killed(name: &'static str) -> Row {
    let (fleet, mut redis) = fleet(3).await;
    trial::run(name, fleet, Line::without_redis(), async |trial: &mut Trial| {
        redis.kill();
        trial.away().await?;
        sleep(4 * SECOND).await;
        trial.all_ready().await?;
        let browser = {
            let fleet = trial.fleet.read().await;
            let mut unshared = 0.0;
            for index in 0..3 {
                unshared += fleet.metric(index, "wechat_authz_logins_without_redis_total").await;
            }
            check(unshared > 0.0, "logins without Redis were not counted")?;
            // A revocation without Redis holds at this instance immediately, and at all instances when Redis is back.
            let (browser, session) = entered(&fleet).await?;
            let told = fleet.revoke(1, &json!({ "session": session })).await;
            check(told["shared"] == false, format!("{told}"))?;
            check(!fleet.passes(1, &browser).await, "revoked and allowed by the same instance")?;
            browser
        };
        redis.run().await;
        trial.heals().await?;
        refused_everywhere(&*trial.fleet.read().await, &browser, 2 * RECONCILE).await?;
        trial.said(1).await
    })
    .await
}

async fn redis_late(name: &'static str) -> Row {
    let mut redis = Redis::planned(&[]);
    let fleet = Fleet::start(2, &at(redis.port)).await;
    let line = Line { revokes: false, ..Line::without_redis() };
    trial::run(name, fleet, line, async |trial: &mut Trial| {
        trial.away().await?;
        trial.all_ready().await?;
        sleep(SECOND).await;
        redis.run().await;
        trial.heals().await?;
        trial.said(1).await
    })
    .await
}

async fn paused(name: &'static str, how_long: Duration) -> Row {
    let (fleet, redis) = fleet(3).await;
    trial::run(name, fleet, Line::without_redis(), async |trial: &mut Trial| {
        redis.signal("STOP");
        trial.away().await?;
        sleep(how_long / 2).await;
        trial.all_ready().await?;
        sleep(how_long / 2).await;
        redis.signal("CONT");
        trial.heals().await?;
        trial.said(1).await
    })
    .await
}

async fn redis_paused(name: &'static str) -> Row {
    paused(name, 8 * SECOND).await
}

async fn redis_paused_long(name: &'static str) -> Row {
    paused(name, 30 * SECOND).await
}

async fn redis_flushed(name: &'static str) -> Row {
    let (fleet, redis) = fleet(3).await;
    trial::run(name, fleet, killed(), async |trial: &mut Trial| {
        let before: Vec<String> = redis.ask(&["ZRANGE", LIST, "0", "-1"]).await;
        redis.ask::<()>(&["FLUSHALL"]).await;
        let at_once: u64 = redis.ask(&["ZCARD", LIST]).await;
        check(!before.is_empty() && at_once < before.len() as u64, "nothing was flushed")?;
        sleep(RECONCILE + SECOND).await;
        let after: Vec<String> = redis.ask(&["ZRANGE", LIST, "0", "-1"]).await;
        let lacking = before.iter().filter(|member| !after.contains(member)).count();
        check(lacking == 0, format!("{lacking} of {} revocations were not restored", before.len()))?;
        // A new instance reads them from the list.
        trial.fleet.write().await.instances[2].kill();
        trial.fleet.write().await.restart(2).await;
        Ok(())
    })
    .await
}

async fn redis_full(name: &'static str) -> Row {
    let (fleet, redis) = fleet(3).await;
    trial::run(name, fleet, Line::without_redis(), async |trial: &mut Trial| {
        redis.ask::<()>(&["CONFIG", "SET", "maxmemory", "1"]).await;
        trial.refused().await?;
        sleep(SECOND).await;
        let browser = {
            let fleet = trial.fleet.read().await;
            let (browser, session) = entered(&fleet).await?;
            let told = fleet.revoke(1, &json!({ "session": session })).await;
            check(told["shared"] == false, format!("{told}"))?;
            browser
        };
        trial.all_ready().await?;
        redis.ask::<()>(&["CONFIG", "SET", "maxmemory", "0"]).await;
        trial.heals().await?;
        refused_everywhere(&*trial.fleet.read().await, &browser, 2 * RECONCILE).await?;
        // Redis was available throughout.
        trial.said(0).await
    })
    .await
}

async fn redis_read_only(name: &'static str) -> Row {
    let (fleet, redis) = fleet(3).await;
    let other = Redis::start().await;
    trial::run(name, fleet, Line::without_redis(), async |trial: &mut Trial| {
        redis.ask::<()>(&["REPLICAOF", "127.0.0.1", &other.port.to_string()]).await;
        trial.away().await?;
        sleep(3 * SECOND).await;
        trial.all_ready().await?;
        redis.ask::<()>(&["REPLICAOF", "NO", "ONE"]).await;
        trial.heals().await?;
        trial.said(1).await
    })
    .await
}

async fn wired(name: &'static str, wire: Wire, how_long: Duration) -> Row {
    let redis = Redis::start().await;
    let proxy = Proxy::start(redis.port).await;
    let fleet = Fleet::start(3, &at(proxy.port)).await;
    trial::run(name, fleet, Line::without_redis(), async |trial: &mut Trial| {
        proxy.set(wire);
        trial.away().await?;
        sleep(how_long).await;
        trial.all_ready().await?;
        proxy.set(Wire::Pass);
        trial.heals().await?;
        trial.said(1).await
    })
    .await
}

async fn redis_rubbish(name: &'static str) -> Row {
    wired(name, Wire::Rubbish, 3 * SECOND).await
}

async fn network_cut(name: &'static str) -> Row {
    wired(name, Wire::Cut, 3 * SECOND).await
}

async fn network_black_hole(name: &'static str) -> Row {
    wired(name, Wire::Swallow, 6 * SECOND).await
}

async fn network_slow(name: &'static str) -> Row {
    wired(name, Wire::Slow(SECOND), 6 * SECOND).await
}

async fn wrong_types(name: &'static str) -> Row {
    let (fleet, redis) = fleet(3).await;
    trial::run(name, fleet, Line::without_redis(), async |trial: &mut Trial| {
        for key in [LIST, MARK, EVENTS] {
            redis.ask::<u64>(&["DEL", key]).await;
            redis.ask::<u64>(&["HSET", key, "a", "b"]).await;
        }
        trial.refused().await?;
        sleep(3 * SECOND).await;
        trial.all_ready().await?;
        for key in [LIST, MARK, EVENTS] {
            redis.ask::<u64>(&["DEL", key]).await;
        }
        trial.heals().await?;
        trial.said(0).await
    })
    .await
}

async fn missed_message(name: &'static str) -> Row {
    let (fleet, redis) = fleet(3).await;
    let line = Line { told_within: Some(RECONCILE + 500 * MILLISECOND), ..Line::default() };
    trial::run(name, fleet, line, async |trial: &mut Trial| {
        let fleet = trial.fleet.read().await;
        for _ in 0..3 {
            let (browser, session) = entered(&fleet).await?;
            redis.ask::<u64>(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
            let (_, hearing): (String, u64) = redis.ask(&["PUBSUB", "NUMSUB", CHANNEL]).await;
            fleet.revoke(0, &json!({ "session": session })).await;
            check(hearing == 0, format!("{hearing} instances still receive messages"))?;
            // The reconcile interval, and a margin.
            refused_everywhere(&fleet, &browser, RECONCILE + 500 * MILLISECOND).await?;
        }
        // A revocation that is written without a message, with every subscription connected: the next reconcile finds
        // it.
        let (_, known) = entered(&fleet).await?;
        fleet.revoke(0, &json!({ "session": known })).await;
        let members: Vec<String> = redis.ask(&["ZRANGE", LIST, "0", "-1"]).await;
        let member = members.iter().find(|member| member.contains(&known)).ok_or("a revocation is not in the list")?;
        sleep(RECONCILE).await;
        for _ in 0..3 {
            let (browser, session) = entered(&fleet).await?;
            let (_, hearing): (String, u64) = redis.ask(&["PUBSUB", "NUMSUB", CHANNEL]).await;
            check(hearing == 3, format!("{hearing} of 3 instances hear"))?;
            let (seconds, micros): (u64, u64) = redis.ask(&["TIME"]).await;
            let score = (seconds * 1_000 + micros / 1_000).to_string();
            redis.ask::<u64>(&["ZADD", LIST, &score, &member.replace(&known, &session)]).await;
            refused_everywhere(&fleet, &browser, RECONCILE + 500 * MILLISECOND).await?;
        }
        Ok(())
    })
    .await
}

async fn sentinel_failover(name: &'static str) -> Row {
    let mut sentinels = Sentinels::start().await;
    let fleet = Fleet::start(2, &sentinels.configuration()).await;
    trial::run(name, fleet, Line { heal_s: 10.0, ..Line::without_redis() }, async |trial: &mut Trial| {
        let master = sentinels.master();
        sentinels.nodes[master].kill();
        trial.away().await?;
        trial.all_ready().await?;
        sentinels.until_master_is_not(master).await;
        trial.heals().await?;
        trial.said(1).await
    })
    .await
}

async fn sentinel_switch(name: &'static str) -> Row {
    let sentinels = Sentinels::start().await;
    let fleet = Fleet::start(2, &sentinels.configuration()).await;
    trial::run(name, fleet, Line { heal_s: 10.0, ..Line::without_redis() }, async |trial: &mut Trial| {
        let master = sentinels.master();
        sentinels.fail_over();
        sentinels.until_master_is_not(master).await;
        // For some seconds there are two masters, and the former one loses its writes.
        sentinels.until_replica(master).await;
        trial.all_ready().await?;
        trial.heals().await?;
        trial.said(1).await
    })
    .await
}

/// The master of the Cluster that stores the revocations.
fn owner(cluster: &Cluster) -> Result<usize, String> {
    let slot = cli(cluster.nodes[0].port, &["CLUSTER", "KEYSLOT", LIST]);
    let holds = |at: &usize| cli(cluster.nodes[*at].port, &["CLUSTER", "COUNTKEYSINSLOT", &slot]) != "0";
    cluster.masters().into_iter().find(holds).ok_or("no master stores the revocations".to_owned())
}

async fn cluster_failover(name: &'static str) -> Row {
    let mut cluster = Cluster::start().await;
    let fleet = Fleet::start(2, &cluster.configuration()).await;
    trial::run(name, fleet, Line { heal_s: 10.0, ..Line::without_redis() }, async |trial: &mut Trial| {
        let former = owner(&cluster)?;
        cluster.nodes[former].kill();
        trial.refused().await?;
        trial.all_ready().await?;
        cluster.until_whole_without(former).await;
        trial.heals().await?;
        check(owner(&cluster)? != former, "the revocations are where they were")
    })
    .await
}

async fn cluster_reshard(name: &'static str) -> Row {
    let cluster = Cluster::start().await;
    let fleet = Fleet::start(2, &cluster.configuration()).await;
    trial::run(name, fleet, Line { heal_s: 10.0, ..Line::without_redis() }, async |trial: &mut Trial| {
        let former = owner(&cluster)?;
        let to = cluster.masters().into_iter().find(|at| *at != former).ok_or("one master")?;
        let moved = tokio::task::block_in_place(|| cluster.reshard(to));
        check(moved >= 8_192, format!("{moved} slots were moved"))?;
        let sent_elsewhere = cluster.errors("MOVED") + cluster.errors("ASK");
        check(sent_elsewhere > 0, "no client was redirected")?;
        trial.all_ready().await?;
        trial.heals().await?;
        check(owner(&cluster)? == to, "the revocations did not move")
    })
    .await
}

async fn clock_step(name: &'static str) -> Row {
    let redis = Redis::start().await;
    let fleet = Fleet::planned(3, Plan { redis: at(redis.port), clock: true, ..Plan::default() }).await;
    trial::run(name, fleet, Line::default(), async |trial: &mut Trial| {
        let fleet = trial.fleet.read().await;
        // Within the leeway of tokens; beyond it, the tokens of another instance are in the future.
        for offset in [25, -25, 0] {
            fleet.instances[1].set_clock(offset);
            let mut browser = Browser::wechat();
            let callback = fleet.to_callback(&mut browser).await.ok_or("no login starts")?;
            let line =
                given(fleet.deliver(1, &browser, &callback).await.as_ref()).ok_or("no session of that instance")?;
            let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs().cast_signed();
            let issued = part(&line, 1)["iat"].as_i64().ok_or("a token without iat")? - now;
            check((issued - offset).abs() < 5, format!("the clock was set {offset} s, and a token says {issued} s"))?;
            sleep(SECOND).await;
        }
        Ok(())
    })
    .await
}

async fn wechat(name: &'static str, effect: Effect) -> Row {
    let (fleet, _redis) = fleet(2).await;
    // While WeChat fails, no user can log in, and logged-in users are not affected.
    // Each failed login logs two lines.
    let line = Line { logins_failed: None, login_s: 12.0, warnings: 80, ..Line::default() };
    trial::run(name, fleet, line, async |trial: &mut Trial| {
        trial
            .fleet
            .read()
            .await
            .simulator
            .inject(Trouble::at(Endpoint::AccessToken, effect.clone()).times(Times::FOREVER));
        sleep(4 * SECOND).await;
        let page = {
            let fleet = trial.fleet.read().await;
            let answers = Browser::wechat().follow(&format!("{}/a", fleet.origin)).await;
            answers.last().unwrap().clone()
        };
        let (failed, all) = (&trial.load.counts.logins_failed, &trial.load.counts.logins);
        let (failed, all) = (failed.load(Ordering::Relaxed), all.load(Ordering::Relaxed));
        trial.fleet.read().await.simulator.clear_faults();
        check(failed > 0, "no login failed although WeChat has a fault")?;
        // The page is ours, not Envoy's, and offers a next step.
        check(
            page.status >= 400 && page.body.contains("class=\"button\""),
            format!("a failed login ends with {page:?}"),
        )?;
        trial.heals().await?;
        // The load's next login works too, once the current one has finished.
        let counts = &trial.load.counts;
        let begun = Instant::now();
        while counts.logins.load(Ordering::Relaxed) - all < counts.logins_failed.load(Ordering::Relaxed) - failed + 2 {
            check(begun.elapsed() < 15 * SECOND, "no login has succeeded since")?;
            sleep(100 * MILLISECOND).await;
        }
        Ok(())
    })
    .await
}

async fn wechat_down(name: &'static str) -> Row {
    wechat(name, Effect::Status(502)).await
}

async fn wechat_slow(name: &'static str) -> Row {
    wechat(name, Effect::DelayBefore(30 * SECOND)).await
}

async fn wechat_lying(name: &'static str) -> Row {
    wechat(name, Effect::Html).await
}

async fn wechat_45011(name: &'static str) -> Row {
    wechat(name, Effect::Errcode(45011)).await
}

async fn key_rotation(name: &'static str) -> Row {
    let (fleet, _redis) = fleet(3).await;
    trial::run(name, fleet, Line::default(), async |trial: &mut Trial| {
        let fleet = trial.fleet.read().await;
        let former = part(&token(&fleet).await?, 0)["kid"].clone();
        // A key's name contains its creation time in seconds.
        sleep(1_100 * MILLISECOND).await;
        let keys = fleet.directory.path().join("keys");
        let made = Command::new(harness::program()).arg("keygen").arg(&keys).stdout(Stdio::null()).status();
        check(made.unwrap().success(), "no new key")?;
        sleep(5 * SECOND).await;
        for index in 0..3 {
            let loaded = fleet.metric(index, "wechat_authz_keys_loaded").await;
            check(loaded >= 2.0, format!("instance {index} has {loaded} keys"))?;
        }
        let now = part(&token(&fleet).await?, 0)["kid"].clone();
        check(now.is_string() && now != former, "the new key does not sign")
    })
    .await
}

async fn bad_reload(name: &'static str) -> Row {
    let (fleet, _redis) = fleet(2).await;
    trial::run(name, fleet, Line::default(), async |trial: &mut Trial| {
        let fleet = trial.fleet.read().await;
        let good = fleet.configuration(0);
        let rejected = async || fleet.metric(0, "wechat_authz_configuration_reloads_total{outcome=\"rejected\"}").await;
        for bad in ["apps: [", "", "apps: []\n", &good.replace("redis:", "rediss:"), &good[..good.len() / 2]] {
            let before = rejected().await;
            std::fs::write(&fleet.instances[0].config, bad).unwrap();
            fleet.instances[0].signal("HUP");
            sleep(400 * MILLISECOND).await;
            check(rejected().await > before, format!("not rejected: {bad:?}"))?;
        }
        std::fs::write(&fleet.instances[0].config, good).unwrap();
        fleet.instances[0].signal("HUP");
        Ok(())
    })
    .await
}

async fn few_files(name: &'static str) -> Row {
    let redis = Redis::start().await;
    let fleet = Fleet::planned(2, Plan { redis: at(redis.port), files: Some(64), ..Plan::default() }).await;
    // Connections that the listener with few files rejects go to the other instance, or wait.
    // Each listener logs at most twenty times a second that it cannot accept.
    let line = Line { denied: 3, logins_failed: Some(3), warnings: 400, ..Line::without_redis() };
    trial::run(name, fleet, line, async |trial: &mut Trial| {
        let fleet = trial.fleet.read().await;
        let Some(id) = fleet.pid(1) else { return Err("no process".into()) };
        let open = || std::fs::read_dir(format!("/proc/{id}/fd")).map_or(0, Iterator::count);
        let listeners = fleet.listeners[1].clone();
        let (mut held, mut most) = (Vec::new(), 0);
        for number in 0..200 {
            let listener = if number % 2 == 0 { listeners.check } else { listeners.pages };
            held.push(tokio::net::TcpStream::connect(listener).await);
        }
        for _ in 0..30 {
            sleep(100 * MILLISECOND).await;
            most = most.max(open());
        }
        drop(held);
        check(most >= 48, format!("at most {most} of 64 files were open"))
    })
    .await
}
