//! The faults.

use crate::client::Browser;
use crate::fleet::{Fleet, SESSION};
use crate::load::{self, Load};
use crate::proxy::{Proxy, Wire};
use crate::redis::Redis;
use crate::servers::{Cluster, Sentinels, cli};
use crate::trial::{self, Line, Row, Shared, refused_everywhere, twice};
use serde_json::json;
use std::pin::Pin;
use std::process::{Command, Stdio};
use std::time::Duration;
use tokio::time::sleep;
use wechat_simulator::{Effect, Endpoint, Fault as Trouble, Times};

/// One fault: its name, whether it takes a few seconds, and how it is made.
pub struct Fault {
    pub name: &'static str,
    pub short: bool,
    pub run: fn() -> Pin<Box<dyn Future<Output = Row> + Send>>,
}

macro_rules! faults {
    ($($name:literal $short:literal $run:ident;)+) => {
        /// Every fault there is.
        pub const ALL: &[Fault] = &[$(Fault { name: $name, short: $short, run: || Box::pin($run($name)) },)+];
    };
}

faults! {
    "double-callback"    true  double_callback;
    "instance-killed"    true  instance_killed;
    "killed-in-callback" true  killed_in_callback;
    "instance-stopped"   true  instance_stopped;
    "all-stopped"        true  all_stopped;
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

/// The configuration's lines for a Redis at this port.
fn at(port: u16) -> String {
    format!("redis: {{ url: \"redis://127.0.0.1:{port}/0\", reconcile: 2s }}\n")
}

async fn fleet(count: usize) -> (Fleet, Redis) {
    let redis = Redis::start().await;
    (Fleet::start(count, &at(redis.port)).await, redis)
}

fn check(holds: bool, why: impl Into<String>) -> Result<(), String> {
    if holds { Ok(()) } else { Err(why.into()) }
}

/// While Redis is away everybody stays ready, whoever is logged in stays so, and the log says it once.
async fn all_ready(fleet: &Shared) -> Result<(), String> {
    let fleet = fleet.read().await;
    for index in 0..fleet.instances.len() {
        check(fleet.is_ready(index).await, format!("instance {index} is not ready"))?;
        let said = fleet.lines(index, "redis is away");
        check(said <= 1, format!("instance {index} said {said} times that Redis is away"))?;
    }
    Ok(())
}

async fn double_callback(name: &'static str) -> Row {
    let (fleet, _redis) = fleet(3).await;
    trial::run(name, fleet, Line::default(), async |fleet: &Shared, _: &mut Load| {
        let fleet = fleet.read().await;
        for _ in 0..10 {
            let (one, other) = twice(&fleet).await?;
            check(one == other, "one callback at two instances was two sessions")?;
        }
        // Two codes with one state (protocol §8.1 B): whichever is good, both deliveries end in one session.
        fleet.simulator.inject(Trouble::at(Endpoint::AccessToken, Effect::DelayAfter(500 * MILLISECOND)));
        let mut browser = Browser::wechat();
        let first = fleet.to_callback(&mut browser).await;
        let code = url::Url::parse(&first).unwrap();
        let code = code.query_pairs().find(|(key, _)| key == "code").unwrap().1.into_owned();
        let second = first.replace(&code, "0019999999999999999999999999dead");
        let both = tokio::join!(fleet.deliver(0, &browser, &first), async {
            sleep(100 * MILLISECOND).await;
            fleet.deliver(1, &browser, &second).await
        });
        let given = |answer: Option<crate::client::Answer>| {
            answer.and_then(|answer| answer.set_cookies().find(|line| line.starts_with(SESSION)).map(str::to_owned))
        };
        let (one, other) = (given(both.0), given(both.1));
        check(
            one.is_some() && one == other,
            format!("two codes with one state: {} {}", one.is_some(), other.is_some()),
        )?;
        // A state is good once, everywhere: a third delivery long after gives that same session and no exchange.
        let before = exchanges(&fleet);
        let again = given(fleet.deliver(2, &browser, &first).await);
        check(again == one && exchanges(&fleet) == before, "a state was spent twice")
    })
    .await
}

fn exchanges(fleet: &Fleet) -> usize {
    fleet.simulator.journal().iter().filter(|entry| entry.path == "/sns/oauth2/access_token").count()
}

async fn instance_killed(name: &'static str) -> Row {
    let (fleet, _redis) = fleet(3).await;
    // What was on its connections is asked again, once; until Envoy's health check has seen it, that may meet it again. A
    // page under way is not asked again.
    let line = Line { denied: 12, logins_failed: Some(3), ..Line::default() };
    trial::run(name, fleet, line, async |fleet: &Shared, _: &mut Load| {
        fleet.write().await.kill(1);
        sleep(2 * SECOND).await;
        fleet.write().await.restart(1).await;
        Ok(())
    })
    .await
}

async fn killed_in_callback(name: &'static str) -> Row {
    let (fleet, _redis) = fleet(3).await;
    let line = Line { denied: 12, logins_failed: Some(3), ..Line::default() };
    trial::run(name, fleet, line, async |fleet: &Shared, _: &mut Load| {
        let mut browser = Browser::wechat();
        let callback = {
            let fleet = fleet.read().await;
            let callback = fleet.to_callback(&mut browser).await;
            fleet.simulator.inject(Trouble::at(Endpoint::AccessToken, Effect::DelayAfter(3 * SECOND)));
            callback
        };
        let (sharing, sending, to) = (std::sync::Arc::clone(fleet), browser.clone(), callback.clone());
        let delivery = tokio::spawn(async move {
            let doors = sharing.read().await.instances[1].doors.clone();
            let _ = crate::fleet::deliver_to(&doors, &sending, &to).await;
        });
        sleep(700 * MILLISECOND).await;
        fleet.write().await.kill(1);
        let _ = delivery.await;
        // The code is spent and nobody knows what for: the person is sent round once more, and arrives.
        let answer = fleet.read().await.deliver(0, &browser, &callback).await.ok_or("no answer")?;
        let to_wechat = answer.status == 303 && answer.location().contains("/connect/");
        check(to_wechat, format!("after the kill: {} {}", answer.status, answer.location()))?;
        fleet.write().await.restart(1).await;
        Ok(())
    })
    .await
}

async fn instance_stopped(name: &'static str) -> Row {
    let (fleet, _redis) = fleet(3).await;
    trial::run(name, fleet, Line::default(), async |fleet: &Shared, _: &mut Load| {
        let mut browser = Browser::wechat();
        let (callback, doors) = {
            let fleet = fleet.read().await;
            let callback = fleet.to_callback(&mut browser).await;
            fleet.simulator.inject(Trouble::at(Endpoint::AccessToken, Effect::DelayAfter(2 * SECOND)));
            (callback, fleet.instances[1].doors.clone())
        };
        let delivery = tokio::spawn(async move { crate::fleet::deliver_to(&doors, &browser, &callback).await });
        sleep(300 * MILLISECOND).await;
        fleet.read().await.signal(1, "TERM");
        let answer = delivery.await.unwrap().ok_or("a callback under way was cut off by SIGTERM")?;
        let entered = answer.set_cookies().any(|line| line.starts_with(SESSION));
        check(entered, format!("a callback under way: {} {}", answer.status, answer.location()))?;
        let code = fleet.write().await.ended(1).await;
        check(code == Some(0), format!("exit code {code:?}"))?;
        fleet.write().await.restart(1).await;
        Ok(())
    })
    .await
}

async fn all_stopped(name: &'static str) -> Row {
    let (fleet, _redis) = fleet(3).await;
    // For a while there is nobody to ask: Envoy refuses everything, as it must.
    let line = Line { denied: u64::MAX, logins_failed: None, ..Line::default() };
    trial::run(name, fleet, line, async |fleet: &Shared, _: &mut Load| {
        let person = fleet.read().await.log_in().await.ok_or("nobody can log in")?;
        let subject = {
            let fleet = fleet.read().await;
            let answer = person.clone().get(&format!("{}/a", fleet.origin)).await;
            fleet.simulator.use_user("小红");
            answer.seen("x-wechat-subject").unwrap()
        };
        // Everybody in the load is this very subject: its sessions end too, so it gets a person of its own.
        let other = fleet.read().await.log_in().await.ok_or("nobody can log in")?;
        let fleet_now = fleet.read().await;
        let second = other.clone().get(&format!("{}/a", fleet_now.origin)).await.seen("x-wechat-subject").unwrap();
        check(second != subject, "the second person is the first")?;
        fleet_now.revoke(0, &json!({ "subject": second })).await;
        fleet_now.simulator.use_user("小明");
        let count = fleet_now.instances.len();
        (0..count).for_each(|index| fleet_now.signal(index, "TERM"));
        drop(fleet_now);
        for index in 0..count {
            let code = fleet.write().await.ended(index).await;
            check(code == Some(0), format!("exit code {code:?}"))?;
        }
        for index in 0..count {
            fleet.write().await.restart(index).await;
        }
        // What nobody was told of must still be known: "nothing issued before" outlives all instances.
        refused_everywhere(&*fleet.read().await, &other, 2 * SECOND).await?;
        check(fleet.read().await.passes(0, &person).await, "a session that nobody revoked is refused")
    })
    .await
}

async fn redis_killed(name: &'static str) -> Row {
    let (fleet, mut redis) = fleet(3).await;
    trial::run(name, fleet, Line::default(), async |fleet: &Shared, _: &mut Load| {
        let before = fleet.read().await.memory(0);
        redis.kill();
        sleep(4 * SECOND).await;
        all_ready(fleet).await?;
        let fleet = fleet.read().await;
        let unshared = fleet.metric(0, "wechat_authz_logins_unshared_total").await
            + fleet.metric(1, "wechat_authz_logins_unshared_total").await
            + fleet.metric(2, "wechat_authz_logins_unshared_total").await;
        check(unshared > 0.0, "logins without Redis were not counted")?;
        let after = fleet.memory(0);
        check(after <= before + 16, format!("memory grew from {before} to {after} MiB"))?;
        // Revoked while nobody could be told: it holds here at once, and everywhere when Redis is back.
        let browser = fleet.log_in().await.ok_or("nobody can log in without Redis")?;
        let session = load::sid(&browser, &fleet.origin).await;
        let told = fleet.revoke(1, &json!({ "session": session })).await;
        check(told["shared"] == false, format!("{told}"))?;
        check(!fleet.passes(1, &browser).await, "revoked and let in by the same instance")?;
        redis.run().await;
        refused_everywhere(&fleet, &browser, 6 * SECOND).await
    })
    .await
}

async fn redis_late(name: &'static str) -> Row {
    let mut redis = Redis::planned(&[]);
    let fleet = Fleet::start(2, &at(redis.port)).await;
    let line = Line { revokes: false, ..Line::default() };
    trial::run(name, fleet, line, async |fleet: &Shared, _: &mut Load| {
        all_ready(fleet).await?;
        sleep(SECOND).await;
        redis.run().await;
        sleep(3 * SECOND).await;
        trial::works(fleet).await
    })
    .await
}

async fn paused(name: &'static str, how_long: Duration) -> Row {
    let (fleet, redis) = fleet(3).await;
    trial::run(name, fleet, Line::default(), async |fleet: &Shared, _: &mut Load| {
        redis.signal("STOP");
        sleep(how_long / 2).await;
        all_ready(fleet).await?;
        sleep(how_long / 2).await;
        redis.signal("CONT");
        Ok(())
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
    let line = Line { denied: 12, logins_failed: Some(3), ..Line::default() };
    trial::run(name, fleet, line, async |fleet: &Shared, _: &mut Load| {
        let key = "wechat-authz:1:{revoked}:list";
        let before: u64 = redis.ask(&["ZCARD", key]).await;
        redis.ask::<()>(&["FLUSHALL"]).await;
        sleep(3 * SECOND).await;
        let after: u64 = redis.ask(&["ZCARD", key]).await;
        check(before > 0 && after >= before, format!("{before} revocations before, {after} after"))?;
        // Whoever starts now knows them from the list.
        fleet.write().await.kill(2);
        fleet.write().await.restart(2).await;
        Ok(())
    })
    .await
}

async fn redis_full(name: &'static str) -> Row {
    let (fleet, redis) = fleet(3).await;
    trial::run(name, fleet, Line::default(), async |fleet: &Shared, _: &mut Load| {
        redis.ask::<()>(&["CONFIG", "SET", "maxmemory", "1"]).await;
        sleep(SECOND).await;
        let browser = {
            let fleet = fleet.read().await;
            let browser = fleet.log_in().await.ok_or("nobody can log in while Redis is full")?;
            let session = load::sid(&browser, &fleet.origin).await;
            let told = fleet.revoke(1, &json!({ "session": session })).await;
            check(told["shared"] == false, format!("{told}"))?;
            browser
        };
        all_ready(fleet).await?;
        redis.ask::<()>(&["CONFIG", "SET", "maxmemory", "0"]).await;
        // Written when there is room: at the next look at the whole list, at the latest.
        refused_everywhere(&*fleet.read().await, &browser, 6 * SECOND).await
    })
    .await
}

async fn redis_read_only(name: &'static str) -> Row {
    let (fleet, redis) = fleet(3).await;
    let other = Redis::start().await;
    trial::run(name, fleet, Line::default(), async |fleet: &Shared, _: &mut Load| {
        redis.ask::<()>(&["REPLICAOF", "127.0.0.1", &other.port.to_string()]).await;
        sleep(3 * SECOND).await;
        all_ready(fleet).await?;
        redis.ask::<()>(&["REPLICAOF", "NO", "ONE"]).await;
        Ok(())
    })
    .await
}

async fn wired(name: &'static str, wire: Wire, how_long: Duration) -> Row {
    let redis = Redis::start().await;
    let proxy = Proxy::start(redis.port).await;
    let fleet = Fleet::start(3, &at(proxy.port)).await;
    trial::run(name, fleet, Line::default(), async |fleet: &Shared, _: &mut Load| {
        proxy.set(wire);
        sleep(how_long).await;
        all_ready(fleet).await?;
        proxy.set(Wire::Pass);
        Ok(())
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
    trial::run(name, fleet, Line::default(), async |fleet: &Shared, _: &mut Load| {
        let keys = ["wechat-authz:1:{revoked}:list", "wechat-authz:1:{revoked}:mark", "wechat-authz:1:{events}"];
        for key in keys {
            redis.ask::<u64>(&["DEL", key]).await;
            redis.ask::<u64>(&["HSET", key, "a", "b"]).await;
        }
        sleep(3 * SECOND).await;
        all_ready(fleet).await?;
        for key in keys {
            redis.ask::<u64>(&["DEL", key]).await;
        }
        Ok(())
    })
    .await
}

async fn missed_message(name: &'static str) -> Row {
    let (fleet, redis) = fleet(3).await;
    trial::run(name, fleet, Line::default(), async |fleet: &Shared, _: &mut Load| {
        let fleet = fleet.read().await;
        for _ in 0..3 {
            let browser = fleet.log_in().await.ok_or("nobody can log in")?;
            let session = load::sid(&browser, &fleet.origin).await;
            redis.ask::<u64>(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
            fleet.revoke(0, &json!({ "session": session })).await;
            // The reconcile period, and a moment.
            refused_everywhere(&fleet, &browser, 2 * SECOND + 500 * MILLISECOND).await?;
        }
        Ok(())
    })
    .await
}

async fn sentinel_failover(name: &'static str) -> Row {
    let mut sentinels = Sentinels::start().await;
    let fleet = Fleet::start(2, &sentinels.configuration()).await;
    trial::run(name, fleet, Line { heal_s: 10.0, ..Line::default() }, async |fleet: &Shared, _: &mut Load| {
        let master = sentinels.master();
        sentinels.nodes[master].kill();
        sleep(SECOND).await;
        all_ready(fleet).await?;
        sentinels.until_master_is_not(master).await;
        Ok(())
    })
    .await
}

async fn sentinel_switch(name: &'static str) -> Row {
    let sentinels = Sentinels::start().await;
    let fleet = Fleet::start(2, &sentinels.configuration()).await;
    trial::run(name, fleet, Line { heal_s: 10.0, ..Line::default() }, async |_: &Shared, _: &mut Load| {
        let master = sentinels.master();
        sentinels.fail_over();
        sentinels.until_master_is_not(master).await;
        Ok(())
    })
    .await
}

async fn cluster_failover(name: &'static str) -> Row {
    let mut cluster = Cluster::start().await;
    let fleet = Fleet::start(2, &cluster.configuration()).await;
    trial::run(name, fleet, Line { heal_s: 10.0, ..Line::default() }, async |fleet: &Shared, _: &mut Load| {
        // The node that holds the revocations.
        let slot = cli(cluster.nodes[0].port, &["CLUSTER", "KEYSLOT", "wechat-authz:1:{revoked}:list"]);
        let counted = |at: usize| cli(cluster.nodes[at].port, &["CLUSTER", "COUNTKEYSINSLOT", &slot]) != "0";
        let owner = cluster.masters().into_iter().find(|at| counted(*at)).ok_or("nobody holds the revocations")?;
        cluster.nodes[owner].kill();
        sleep(SECOND).await;
        for index in 0..2 {
            check(fleet.read().await.is_ready(index).await, "not ready")?;
        }
        sleep(3 * SECOND).await;
        cluster.until_ok().await;
        Ok(())
    })
    .await
}

async fn cluster_reshard(name: &'static str) -> Row {
    let cluster = Cluster::start().await;
    let fleet = Fleet::start(2, &cluster.configuration()).await;
    trial::run(name, fleet, Line { heal_s: 10.0, ..Line::default() }, async |_: &Shared, _: &mut Load| {
        tokio::task::block_in_place(|| cluster.reshard());
        Ok(())
    })
    .await
}

async fn clock_step(name: &'static str) -> Row {
    let redis = Redis::start().await;
    let fleet = Fleet::with(3, &at(redis.port), true, None).await;
    trial::run(name, fleet, Line::default(), async |fleet: &Shared, _: &mut Load| {
        // Within the leeway that tokens are given: beyond it another instance's tokens are from the future.
        for offset in [25, -25, 0] {
            fleet.read().await.set_clock(1, offset);
            sleep(SECOND).await;
        }
        Ok(())
    })
    .await
}

async fn wechat(name: &'static str, effect: Effect) -> Row {
    let (fleet, _redis) = fleet(2).await;
    // Nobody can log in while WeChat cannot; whoever is logged in notices nothing.
    let line = Line { logins_failed: None, ..Line::default() };
    trial::run(name, fleet, line, async |fleet: &Shared, load: &mut Load| {
        fleet.read().await.simulator.inject(Trouble::at(Endpoint::AccessToken, effect.clone()).times(Times::FOREVER));
        sleep(4 * SECOND).await;
        let failed = load.counts.logins_failed.load(std::sync::atomic::Ordering::Relaxed);
        fleet.read().await.simulator.clear_faults();
        check(failed > 0, "WeChat was no trouble at all")
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
    trial::run(name, fleet, Line::default(), async |fleet: &Shared, _: &mut Load| {
        let fleet = fleet.read().await;
        // A key's age is in its name, by the second.
        sleep(1_100 * MILLISECOND).await;
        let keys = fleet.directory.path().join("keys");
        let made = Command::new(crate::stack::program()).arg("keygen").arg(&keys).stdout(Stdio::null()).status();
        check(made.unwrap().success(), "no new key")?;
        sleep(5 * SECOND).await;
        for index in 0..3 {
            let loaded = fleet.metric(index, "wechat_authz_keys_loaded").await;
            check(loaded >= 2.0, format!("instance {index} has {loaded} keys"))?;
        }
        Ok(())
    })
    .await
}

async fn bad_reload(name: &'static str) -> Row {
    let (fleet, _redis) = fleet(2).await;
    trial::run(name, fleet, Line::default(), async |fleet: &Shared, _: &mut Load| {
        let fleet = fleet.read().await;
        let good = fleet.configuration(0);
        for bad in ["apps: [", "", "apps: []\n", &good.replace("redis:", "rediss:"), &good[..good.len() / 2]] {
            std::fs::write(fleet.config(0), bad).unwrap();
            fleet.signal(0, "HUP");
            sleep(400 * MILLISECOND).await;
        }
        let refused = fleet.metric(0, "wechat_authz_configuration_reloads_total{kind=\"refused\"}").await;
        std::fs::write(fleet.config(0), good).unwrap();
        fleet.signal(0, "HUP");
        check(refused >= 4.0, format!("{refused} bad files were refused"))
    })
    .await
}

async fn few_files(name: &'static str) -> Row {
    let redis = Redis::start().await;
    let fleet = Fleet::with(2, &at(redis.port), false, Some(64)).await;
    // Whoever finds no room at the door with few files is sent to the other, or waits.
    let line = Line { denied: 20, logins_failed: Some(20), ..Line::default() };
    trial::run(name, fleet, line, async |fleet: &Shared, _: &mut Load| {
        let doors = fleet.read().await.instances[1].doors.clone();
        let mut held = Vec::new();
        for number in 0..200 {
            let door = if number % 2 == 0 { doors.check } else { doors.pages };
            held.push(tokio::net::TcpStream::connect(door).await);
        }
        sleep(3 * SECOND).await;
        drop(held);
        Ok(())
    })
    .await
}
