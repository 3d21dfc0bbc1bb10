//! One fault under load, and the row that comes of it.

use crate::client::Browser;
use crate::fleet::{Fleet, SESSION};
use crate::load::{self, Load};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::RwLock;

/// A fleet that the load and the fault share.
pub type Shared = Arc<RwLock<Fleet>>;

/// The pass line, beside `wrongly_allowed` and `sessions_lost`, which are 0 in every row.
#[derive(Clone, Copy, Debug)]
pub struct Line {
    /// Checks of live sessions that may fail.
    pub denied: u64,
    /// Logins that may fail; none for any number.
    pub logins_failed: Option<u64>,
    /// Seconds from the fault's end until everything works everywhere.
    pub heal_s: f64,
    /// Whether some of the load's sessions are revoked before: not where nobody can be told of it.
    pub revokes: bool,
}

impl Default for Line {
    fn default() -> Self {
        Self { denied: 0, logins_failed: Some(0), heal_s: 5.0, revokes: true }
    }
}

/// What came of one fault.
#[derive(Debug)]
pub struct Row {
    pub fault: &'static str,
    pub checks: u64,
    pub wrongly_allowed: u64,
    pub wrongly_denied: u64,
    pub sessions_lost: u64,
    pub logins: u64,
    pub logins_failed: u64,
    pub heal_s: f64,
    pub holds: bool,
    pub notes: Vec<String>,
}

impl Row {
    /// A fault whose trial did not come to an end.
    pub fn broken(fault: &'static str) -> Self {
        Self {
            fault,
            checks: 0,
            wrongly_allowed: 0,
            wrongly_denied: 0,
            sessions_lost: 0,
            logins: 0,
            logins_failed: 0,
            heal_s: -1.0,
            holds: false,
            notes: vec!["the trial broke off".into()],
        }
    }

    pub fn print(&self) {
        println!(
            "{:<24} {:>7} {:>8} {:>7} {:>6} {:>7} {:>7} {:>7.1}  {}",
            self.fault,
            self.checks,
            self.wrongly_allowed,
            self.wrongly_denied,
            self.sessions_lost,
            self.logins,
            self.logins_failed,
            self.heal_s,
            if self.holds { "holds" } else { "FAILS" }
        );
        if !self.holds {
            for note in &self.notes {
                println!("    {note}");
            }
        }
    }
}

pub fn head() {
    println!(
        "{:<24} {:>7} {:>8} {:>7} {:>6} {:>7} {:>7} {:>7}",
        "fault", "checks", "wrongly", "wrongly", "lost", "logins", "failed", "heal s"
    );
    println!("{:<24} {:>7} {:>8} {:>7}", "", "", "allowed", "denied");
}

pub fn foot(elapsed: Duration) {
    println!(
        "wrongly allowed: reached the application with no session, or with one revoked more than a second before \
         (at another instance: told by Redis).\nwrongly denied: a check of a live session that was not answered 200. \
         lost: a session that does not work after the fault.\nheal: from the fault's end until a revocation reaches every \
         instance within a second and a callback at two instances is one session.\nAll in {:.0} s.",
        elapsed.as_secs_f64()
    );
}

/// `target/faults.json`.
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
    let file = crate::stack::root().join("target/faults.json");
    std::fs::write(file, serde_json::to_string_pretty(&rows).unwrap() + "\n").unwrap();
}

/// Makes `fault` under load. What it says besides must be `Ok`.
pub async fn run<F>(name: &'static str, fleet: Fleet, line: Line, fault: F) -> Row
where
    F: AsyncFnOnce(&Shared, &mut Load) -> Result<(), String>,
{
    let origin = fleet.origin.clone();
    let fleet: Shared = Arc::new(RwLock::new(fleet));
    let mut load = Load::start(&fleet, line.revokes).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let said = fault(&fleet, &mut load).await;
    let heal = healed(&fleet).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    load.stop().await;
    let sessions_lost = load.lost(&origin).await;
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    let mut notes = load.counts.notes.lock().unwrap().clone();
    notes.extend(said.as_ref().err().cloned());
    notes.extend(heal.as_ref().err().cloned());
    let (wrongly_allowed, wrongly_denied) = (count(&load.counts.wrongly_allowed), count(&load.counts.wrongly_denied));
    let (checks, logins_failed) = (count(&load.counts.checks), count(&load.counts.logins_failed));
    let heal_s = heal.as_ref().copied().unwrap_or(-1.0);
    let holds = said.is_ok()
        && heal.is_ok()
        && heal_s <= line.heal_s
        && checks > 100
        && wrongly_allowed == 0
        && sessions_lost == 0
        && wrongly_denied <= line.denied
        && line.logins_failed.is_none_or(|most| logins_failed <= most);
    let logins = count(&load.counts.logins);
    Row {
        fault: name,
        checks,
        wrongly_allowed,
        wrongly_denied,
        sessions_lost,
        logins,
        logins_failed,
        heal_s,
        holds,
        notes,
    }
}

/// How long until everything works everywhere.
async fn healed(fleet: &Shared) -> Result<f64, String> {
    let begun = Instant::now();
    loop {
        match works(fleet).await {
            Ok(()) => return Ok(begun.elapsed().as_secs_f64()),
            Err(why) if begun.elapsed() > Duration::from_secs(40) => return Err(format!("not healed: {why}")),
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// Whether a person can log in, a revocation reaches every instance in a second, and a callback at two is one session.
pub async fn works(fleet: &Shared) -> Result<(), String> {
    let fleet = fleet.read().await;
    let count = fleet.instances.len();
    for index in 0..count {
        if !fleet.is_ready(index).await {
            return Err(format!("instance {index} is not ready"));
        }
        if fleet.metric(index, "wechat_authz_redis_up").await < 1.0 {
            return Err(format!("instance {index} has no Redis"));
        }
    }
    let browser = fleet.log_in().await.ok_or("nobody can log in")?;
    let session = load::sid(&browser, &fleet.origin).await;
    let told = fleet.revoke(0, &serde_json::json!({ "session": session })).await;
    if told["shared"] != true {
        return Err(format!("a revocation is not shared: {told}"));
    }
    refused_everywhere(&fleet, &browser, Duration::from_secs(1)).await?;
    let given = twice(&fleet).await?;
    if given.0 == given.1 { Ok(()) } else { Err("one callback at two instances was two sessions".into()) }
}

/// Waits until every instance refuses this browser.
pub async fn refused_everywhere(fleet: &Fleet, browser: &Browser, within: Duration) -> Result<(), String> {
    let begun = Instant::now();
    for index in 0..fleet.instances.len() {
        while fleet.passes(index, browser).await {
            if begun.elapsed() > within {
                return Err(format!("instance {index} lets a revoked session in after {within:?}"));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    Ok(())
}

/// One callback delivered to two instances at once: the sessions that both give.
pub async fn twice(fleet: &Fleet) -> Result<(String, String), String> {
    let mut browser = Browser::wechat();
    let callback = fleet.to_callback(&mut browser).await;
    let last = fleet.instances.len() - 1;
    let both = tokio::join!(fleet.deliver(0, &browser, &callback), fleet.deliver(last, &browser, &callback));
    let given = |answer: Option<crate::client::Answer>| {
        let answer = answer.ok_or("no answer to a callback")?;
        let line = answer.set_cookies().find(|line| line.starts_with(SESSION)).map(str::to_owned);
        line.ok_or(format!("a callback gave no session: {} {}", answer.status, answer.location()))
    };
    Ok((given(both.0)?, given(both.1)?))
}
