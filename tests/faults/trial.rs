//! One fault under load, and its row of results.

use crate::fleet::Fleet;
use crate::load::{self, BARRED, Load};
use harness::SESSION;
use harness::client::Browser;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::RwLock;
use tokio::time::sleep;

/// A fleet that the tasks of a fault share.
pub type Shared = Arc<RwLock<Fleet>>;

/// The reconcile interval of the instances in these tests.
pub const RECONCILE: Duration = Duration::from_secs(2);

/// Maximum additional memory of an instance during a fault, in MiB.
const MORE_MEMORY: u64 = 16;

/// The pass line. `wrongly_allowed` and `sessions_lost` must also be 0 in every row.
#[derive(Clone, Copy, Debug)]
pub struct Line {
    /// Maximum failed checks of live sessions.
    pub denied: u64,
    /// Maximum failed logins; `None` for any number.
    pub logins_failed: Option<u64>,
    /// Maximum duration of a login, in seconds.
    pub login_s: f64,
    /// Maximum seconds from the end of the fault until everything works on every instance.
    pub heal_s: f64,
    /// Whether the load revokes some sessions before the fault; false if instances cannot learn of revocations.
    pub revokes: bool,
    /// Maximum delay, during the fault, until every instance denies a revoked session. `None` if instances cannot
    /// reach each other: then the revoking instance denies it immediately and the others after the fault.
    pub told_within: Option<Duration>,
    /// Maximum log lines of one instance at WARN or above, without the audit log.
    pub warnings: usize,
}

impl Default for Line {
    /// The pass line if Redis and everything else works.
    fn default() -> Self {
        Self {
            denied: 0,
            logins_failed: Some(0),
            login_s: 5.0,
            heal_s: 5.0,
            revokes: true,
            told_within: Some(Duration::from_secs(1)),
            warnings: 8,
        }
    }
}

impl Line {
    /// The pass line if Redis is unavailable for a while.
    pub fn without_redis() -> Self {
        Self { told_within: None, ..Self::default() }
    }
}

/// The results of one fault.
#[derive(Debug)]
pub struct Row {
    pub fault: &'static str,
    pub checks: u64,
    pub wrongly_allowed: u64,
    pub wrongly_denied: u64,
    pub sessions_lost: u64,
    pub logins: u64,
    pub logins_failed: u64,
    pub revoked: u64,
    pub heal_s: f64,
    pub p99: Duration,
    pub slowest_login: Duration,
    /// The largest number of lines at WARN or above from one instance.
    pub warnings: usize,
    pub holds: bool,
    pub notes: Vec<String>,
}

impl Row {
    /// A fault whose trial did not finish.
    pub fn broken(fault: &'static str, why: String) -> Self {
        Self {
            fault,
            checks: 0,
            wrongly_allowed: 0,
            wrongly_denied: 0,
            sessions_lost: 0,
            logins: 0,
            logins_failed: 0,
            revoked: 0,
            heal_s: -1.0,
            p99: Duration::ZERO,
            slowest_login: Duration::ZERO,
            warnings: 0,
            holds: false,
            notes: vec![why],
        }
    }

    pub fn print(&self) {
        println!(
            "{:<19} {:>6} {:>7} {:>7} {:>4} {:>6} {:>6} {:>7} {:>5.1} {:>6.0} {:>5.1} {:>5}  {}",
            self.fault,
            self.checks,
            self.wrongly_allowed,
            self.wrongly_denied,
            self.sessions_lost,
            self.logins,
            self.logins_failed,
            self.revoked,
            self.heal_s,
            self.p99.as_secs_f64() * 1_000.0,
            self.slowest_login.as_secs_f64(),
            self.warnings,
            if self.holds { "holds" } else { "FAILS" }
        );
        if !self.holds || std::env::var_os("FAULTS_NOTES").is_some() {
            for note in &self.notes {
                println!("    {note}");
            }
        }
    }
}

pub fn head() {
    println!(
        "{:<19} {:>6} {:>7} {:>7} {:>4} {:>6} {:>6} {:>7} {:>5} {:>6} {:>5} {:>5}",
        "fault", "checks", "wrongly", "wrongly", "lost", "logins", "failed", "revoked", "heal", "p99", "slow", "WARN"
    );
    println!("{:<19} {:>6} {:>7} {:>7} {:>33} {:>5} {:>6} {:>5}", "", "", "allowed", "denied", "", "s", "ms", "s");
}

pub fn foot(elapsed: Duration) {
    println!(
        "wrongly allowed: reached the application with no session or a forged one, or with one that was revoked: a second \
         before where Redis\nis well; otherwise it is refused at once by the instance that revoked it, and by all {} s \
         after the fault has healed.\nwrongly denied: a check of a live session that was not answered 200. lost: a session \
         that some instance does not know after the fault,\nalso of those that began in it. heal: from the fault's end \
         until every instance is ready and has Redis, a new revocation reaches all\nwithin a second, and a callback at two \
         instances is one session. p99: of checks of live sessions. slow: the slowest login.\nWARN: lines of the log from \
         WARN on, of the instance that wrote most. All in {:.0} s.",
        settled_within().as_secs(),
        elapsed.as_secs_f64()
    );
}

/// One instance writes a pending revocation at its reconcile, and another reads it at its own.
fn settled_within() -> Duration {
    2 * RECONCILE + Duration::from_secs(1)
}

/// Writes `target/faults.json`.
pub fn write(rows: &[Row]) {
    let rows: Vec<serde_json::Value> = rows
        .iter()
        .map(|row| {
            serde_json::json!({
                "fault": row.fault, "checks": row.checks, "wrongly_allowed": row.wrongly_allowed,
                "wrongly_denied": row.wrongly_denied, "sessions_lost": row.sessions_lost,
                "heal_s": (row.heal_s * 10.0).round() / 10.0, "holds": row.holds,
            })
        })
        .collect();
    let file = harness::root().join("target/faults.json");
    std::fs::write(file, serde_json::to_string_pretty(&rows).unwrap() + "\n").unwrap();
}

/// A deployment under load, in which a fault runs.
pub struct Trial {
    pub fleet: Shared,
    pub load: Load,
    heal_s: Option<f64>,
}

impl Trial {
    /// After the fault: waits until everything works on every instance again, and records the duration.
    pub async fn heals(&mut self) -> Result<(), String> {
        let begun = Instant::now();
        loop {
            match works(&*self.fleet.read().await).await {
                Ok(()) => break self.heal_s = Some(begun.elapsed().as_secs_f64()),
                Err(why) if begun.elapsed() > Duration::from_secs(40) => return Err(format!("not healed: {why}")),
                Err(_) => sleep(Duration::from_millis(100)).await,
            }
        }
        Ok(())
    }

    /// Waits until a metric of every instance shows the fault: a fault without effect tests nothing.
    pub async fn felt(&self, series: &str, by: impl Fn(f64) -> bool) -> Result<(), String> {
        let begun = Instant::now();
        let fleet = self.fleet.read().await;
        for index in 0..fleet.instances.len() {
            while !by(fleet.metric(index, series).await) {
                if begun.elapsed() > Duration::from_secs(5) {
                    return Err(format!("instance {index} did not feel the fault: {series}"));
                }
                sleep(Duration::from_millis(50)).await;
            }
        }
        Ok(())
    }

    /// Waits until every instance reports that Redis is unavailable.
    pub async fn away(&self) -> Result<(), String> {
        self.felt("wechat_authz_redis_up", |up| up == 0.0).await
    }

    /// Waits until every instance reports failed Redis calls, of any kind.
    pub async fn refused(&self) -> Result<(), String> {
        self.felt("wechat_authz_redis_calls_failed_total", |failed| failed > 0.0).await
    }

    pub async fn all_ready(&self) -> Result<(), String> {
        let fleet = self.fleet.read().await;
        for index in 0..fleet.instances.len() {
            if !fleet.is_ready(index).await {
                return Err(format!("instance {index} is not ready"));
            }
        }
        Ok(())
    }

    /// Checks that every instance logged exactly this number of times that Redis was lost and that it reconnected.
    pub async fn said(&self, times: usize) -> Result<(), String> {
        let fleet = self.fleet.read().await;
        for index in 0..fleet.instances.len() {
            let (away, back) = (fleet.lines(index, "cannot reach redis"), fleet.lines(index, "reconnected to redis"));
            if (away, back) != (times, times) {
                return Err(format!(
                    "instance {index} logged {away} times that it cannot reach Redis, {back} times that it reconnected"
                ));
            }
        }
        Ok(())
    }
}

/// The state of each instance before the fault: process, memory, and number of log lines.
fn taken(fleet: &Fleet) -> Vec<(Option<u32>, u64, usize)> {
    let each = 0..fleet.instances.len();
    each.map(|index| (fleet.pid(index), fleet.memory(index), fleet.warnings(index).len())).collect()
}

/// Runs `fault` under load. Its own result must be `Ok`.
pub async fn run<F>(name: &'static str, fleet: Fleet, line: Line, fault: F) -> Row
where
    F: AsyncFnOnce(&mut Trial) -> Result<(), String>,
{
    let load = Load::start(&fleet, line.revokes, line.told_within).await;
    sleep(Duration::from_millis(500)).await;
    let before = taken(&fleet);
    let fleet: Shared = Arc::new(RwLock::new(fleet));
    let mut trial = Trial { fleet, load, heal_s: None };
    let said = fault(&mut trial).await;
    let healed = if trial.heal_s.is_none() { trial.heals().await } else { Ok(()) };
    let Trial { fleet, mut load, heal_s } = trial;
    let fleet = fleet.read().await;
    load.settle(settled_within()).await;
    sleep(Duration::from_millis(300)).await;
    let whole = load.stop().await;
    let sessions_lost = load.lost().await;
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let let_in = fleet.upstream.requests.lock().unwrap().iter().filter(|line| line.contains(BARRED)).count() as u64;
    let mut faults: Vec<String> = [said, healed, whole].into_iter().filter_map(Result::err).collect();
    let mut warnings = 0;
    for (index, ((pid, memory, lines), now)) in before.into_iter().zip(taken(&fleet)).enumerate() {
        let new = fleet.warnings(index).split_off(lines);
        warnings = warnings.max(new.len());
        if new.len() > line.warnings {
            faults.push(format!("instance {index} wrote {} lines, as {:?}", new.len(), &new[..line.warnings.min(12)]));
        }
        if pid == now.0 && now.1 > memory + MORE_MEMORY {
            faults.push(format!("instance {index} grew from {memory} to {} MiB", now.1));
        }
    }
    let counts = &load.counts;
    let row = Row {
        fault: name,
        checks: count(&counts.checks),
        wrongly_allowed: let_in + count(&counts.wrongly_allowed),
        wrongly_denied: count(&counts.wrongly_denied),
        sessions_lost,
        logins: count(&counts.logins),
        logins_failed: count(&counts.logins_failed),
        revoked: count(&counts.revoked),
        heal_s: heal_s.unwrap_or(-1.0),
        p99: counts.p99(),
        slowest_login: *counts.slowest_login.lock().unwrap(),
        warnings,
        holds: false,
        notes: Vec::new(),
    };
    let mut beyond = |holds: bool, what: &str| {
        if !holds {
            faults.push(format!("beyond the line: {what}"));
        }
    };
    beyond(row.checks > 100, "too few checks to say anything");
    beyond(row.wrongly_allowed == 0, "wrongly allowed");
    beyond(row.sessions_lost == 0, "sessions lost");
    beyond(row.wrongly_denied <= line.denied, "wrongly denied");
    beyond(line.logins_failed.is_none_or(|most| row.logins_failed <= most), "logins failed");
    beyond(row.heal_s <= line.heal_s, "time to heal");
    beyond(row.slowest_login.as_secs_f64() <= line.login_s, "the slowest login");
    let holds = faults.is_empty();
    faults.extend(counts.notes.lock().unwrap().iter().cloned());
    Row { holds, notes: faults, ..row }
}

/// Whether a login works, a revocation reaches every instance in a second, and one callback at two instances creates
/// one session.
pub async fn works(fleet: &Fleet) -> Result<(), String> {
    for index in 0..fleet.instances.len() {
        if !fleet.is_ready(index).await {
            return Err(format!("instance {index} is not ready"));
        }
        if fleet.metric(index, "wechat_authz_redis_up").await != 1.0 {
            return Err(format!("instance {index} has no Redis"));
        }
    }
    let browser = fleet.log_in().await.ok_or("no login succeeds")?;
    let session = load::sid(&browser, &fleet.origin).await.ok_or("the new session is denied")?;
    for index in 0..fleet.instances.len() {
        if !fleet.passes(index, &browser).await {
            return Err(format!("instance {index} does not know a new session"));
        }
    }
    let told = fleet.revoke(0, &serde_json::json!({ "session": session })).await;
    if told["shared"] != true {
        return Err(format!("a revocation is not shared: {told}"));
    }
    refused_everywhere(fleet, &browser, Duration::from_secs(1)).await?;
    let given = twice(fleet).await?;
    if given.0 == given.1 { Ok(()) } else { Err("one callback at two instances created two sessions".into()) }
}

/// Waits until every instance denies this browser.
pub async fn refused_everywhere(fleet: &Fleet, browser: &Browser, within: Duration) -> Result<(), String> {
    let begun = Instant::now();
    for index in 0..fleet.instances.len() {
        while fleet.passes(index, browser).await {
            if begun.elapsed() > within {
                return Err(format!("instance {index} allows a revoked session after {within:?}"));
            }
            sleep(Duration::from_millis(20)).await;
        }
    }
    Ok(())
}

/// Delivers one callback to two instances at once; returns both sessions.
pub async fn twice(fleet: &Fleet) -> Result<(String, String), String> {
    let mut browser = Browser::wechat();
    let callback = fleet.to_callback(&mut browser).await.ok_or("no login starts")?;
    let last = fleet.instances.len() - 1;
    let both = tokio::join!(fleet.deliver(0, &browser, &callback), fleet.deliver(last, &browser, &callback));
    let given = |answer: Option<harness::client::Answer>| {
        let answer = answer.ok_or("no answer to a callback")?;
        let line = answer.set_cookies().find(|line| line.starts_with(SESSION)).map(str::to_owned);
        line.ok_or(format!("a callback gave no session: {} {}", answer.status, answer.location()))
    };
    Ok((given(both.0)?, given(both.1)?))
}
