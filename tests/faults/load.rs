//! A steady load through Envoy: logged-in users, users whose session is or will be revoked, clients without a
//! session, clients with forged tokens, and new logins.
//!
//! Clients that must be denied request their own address, [`BARRED`]: any request for it that the application
//! receives was wrongly allowed, whatever the client got.

use crate::fleet::{Fleet, Listeners, log_in, passes, revoke};
use harness::SESSION;
use harness::client::Browser;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// The address that only clients request that must be denied.
pub const BARRED: &str = "/barred";

/// The interval between two checks of one user.
const PACE: Duration = Duration::from_millis(25);

/// The interval between two logins.
const LOGINS: Duration = Duration::from_millis(250);

/// One of this number of logins is revoked immediately.
const REVOKED: u64 = 3;

/// The time-out of a request: longer than every time-out of Envoy.
const PATIENCE: Duration = Duration::from_secs(20);

/// The results of the load.
#[derive(Default)]
pub struct Counts {
    pub checks: AtomicU64,
    /// Requests that an instance wrongly allowed, sent to it directly instead of through Envoy.
    pub wrongly_allowed: AtomicU64,
    pub wrongly_denied: AtomicU64,
    pub logins: AtomicU64,
    pub logins_failed: AtomicU64,
    pub revoked: AtomicU64,
    /// The first wrong answers.
    pub notes: Mutex<Vec<String>>,
    /// The duration of each check of a live session.
    pub took: Mutex<Vec<Duration>>,
    pub slowest_login: Mutex<Duration>,
}

impl Counts {
    pub fn note(&self, text: String) {
        let mut notes = self.notes.lock().unwrap();
        if notes.len() < 8 {
            notes.push(text);
        }
    }

    /// The p99 of the checks.
    pub fn p99(&self) -> Duration {
        let mut took = self.took.lock().unwrap().clone();
        took.sort_unstable();
        took.get(took.len() * 99 / 100).copied().unwrap_or_default()
    }
}

/// A client that must be denied, from now on or after a revocation has reached every instance.
#[derive(Clone)]
struct Unwanted {
    browser: Browser,
    /// Whether it ever had a session.
    revoked: bool,
    barred: Arc<AtomicBool>,
}

impl Unwanted {
    /// A revoked client, and whether the revocation is old enough to hold everywhere.
    fn revoked(browser: Browser, barred: bool) -> Self {
        Self { browser, revoked: true, barred: Arc::new(AtomicBool::new(barred)) }
    }

    /// A client that never had a session.
    fn nobody(browser: Browser) -> Self {
        Self { browser, revoked: false, barred: Arc::new(AtomicBool::new(true)) }
    }
}

/// State shared by the tasks of the load.
struct Shared {
    origin: String,
    listeners: Vec<Listeners>,
    counts: Arc<Counts>,
    stop: AtomicBool,
    unwanted: Mutex<Vec<Unwanted>>,
    /// Clients that logged in meanwhile and were not revoked.
    entered: Mutex<Vec<Browser>>,
    /// The delay after which every instance must deny a revoked session; `None` if that holds only after the fault.
    told_within: Option<Duration>,
}

/// The load, until it is stopped.
pub struct Load {
    pub counts: Arc<Counts>,
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
    /// Logged-in users, each with the current cookies of the browser.
    alive: Vec<Arc<Mutex<Browser>>>,
}

impl Load {
    /// Logs in users, revokes some sessions if `revokes`, and starts the requests of all users.
    pub async fn start(fleet: &Fleet, revokes: bool, told_within: Option<Duration>) -> Self {
        let (origin, listeners) = (fleet.origin.clone(), fleet.listeners.clone());
        let (mut alive, mut unwanted) = (Vec::new(), Vec::new());
        for number in 0..12 {
            let browser = log_in(&origin).await.expect("a login without a fault");
            if number % 4 == 3 && revokes {
                let session = sid(&browser, &origin).await.unwrap();
                fleet.revoke(number % listeners.len(), &serde_json::json!({ "session": session })).await;
                unwanted.push(Unwanted::revoked(browser, true));
            } else {
                alive.push(Arc::new(Mutex::new(browser)));
            }
        }
        unwanted.push(Unwanted::nobody(Browser::wechat()));
        unwanted.push(Unwanted::nobody(forger(&alive[0].lock().unwrap())));
        // The documented maximum delay.
        sleep(Duration::from_secs(1)).await;
        let counts = Arc::new(Counts::default());
        let shared = Arc::new(Shared {
            origin,
            listeners,
            counts: Arc::clone(&counts),
            stop: AtomicBool::new(false),
            unwanted: Mutex::new(unwanted),
            entered: Mutex::default(),
            told_within,
        });
        let mut tasks = JoinSet::new();
        for person in &alive {
            tasks.spawn(come_again(Arc::clone(person), Arc::clone(&shared)));
        }
        let next = Arc::new(AtomicUsize::new(0));
        for _ in 0..4 {
            tasks.spawn(try_again(Arc::clone(&next), Arc::clone(&shared)));
        }
        tasks.spawn(enter(Arc::clone(&shared)));
        Self { counts, shared, tasks, alive }
    }

    /// Until the fault has ended, instances cannot learn of each other's revocations: revoked clients continue to
    /// send requests, but their results do not count. Clients without a session and with forged tokens count at all
    /// times.
    pub fn excuse(&self) {
        for one in self.shared.unwanted.lock().unwrap().iter().filter(|one| one.revoked) {
            one.barred.store(false, Ordering::Relaxed);
        }
    }

    /// After the fault: every instance must deny the clients that were revoked meanwhile, after `within` at most.
    pub async fn settle(&self, within: Duration) {
        let begun = Instant::now();
        let late: Vec<Unwanted> = {
            let unwanted = self.shared.unwanted.lock().unwrap();
            unwanted.iter().filter(|one| !one.barred.load(Ordering::Relaxed)).cloned().collect()
        };
        for one in &late {
            for (index, listeners) in self.shared.listeners.iter().enumerate() {
                while passes(listeners, &self.shared.origin, &one.browser).await {
                    if begun.elapsed() > within {
                        self.counts.wrongly_allowed.fetch_add(1, Ordering::Relaxed);
                        self.counts
                            .note(format!("revoked in the fault, and instance {index} allows it {within:?} later"));
                        break;
                    }
                    sleep(Duration::from_millis(20)).await;
                }
            }
            one.barred.store(true, Ordering::Relaxed);
        }
    }

    /// Stops the load.
    ///
    /// # Errors
    /// A task of the load had already ended, so its counts mean nothing.
    pub async fn stop(&mut self) -> Result<(), String> {
        self.shared.stop.store(true, Ordering::Relaxed);
        let mut all = Ok(());
        while let Some(ended) = self.tasks.join_next().await {
            all = all.and(ended.map_err(|error| format!("a part of the load broke off: {error}")));
        }
        all
    }

    /// Sessions that some instance denies although they were not revoked: those of the load, and all that began
    /// during the fault.
    pub async fn lost(&self) -> u64 {
        let Shared { origin, listeners, .. } = &*self.shared;
        let mut people: Vec<Browser> = self.alive.iter().map(|person| person.lock().unwrap().clone()).collect();
        people.extend(self.shared.entered.lock().unwrap().iter().cloned());
        let mut lost = 0;
        for (number, mut browser) in people.into_iter().enumerate() {
            let mut known = browser.try_get(&format!("{origin}/a")).await.is_some_and(|answer| answer.status == 200);
            for (index, listeners) in listeners.iter().enumerate() {
                let here = passes(listeners, origin, &browser).await;
                if !here {
                    self.counts.note(format!("lost: session {number} at instance {index}"));
                }
                known &= here;
            }
            lost += u64::from(!known);
        }
        lost
    }
}

/// The id of a browser's session, as the application receives it; `None` if the request is denied.
pub async fn sid(browser: &Browser, origin: &str) -> Option<String> {
    let answer = browser.clone().try_get(&format!("{origin}/a")).await?;
    (answer.status == 200).then(|| answer.seen("x-wechat-session"))?
}

/// A client with another user's token and a changed signature.
fn forger(other: &Browser) -> Browser {
    let mut browser = other.clone();
    for cookie in browser.jar.iter_mut().filter(|cookie| cookie.name == SESSION) {
        let (signed, signature) = cookie.value.rsplit_once('.').unwrap();
        let changed = if signature.starts_with('A') { "B" } else { "A" };
        cookie.value = format!("{signed}.{changed}{}", &signature[1..]);
    }
    browser
}

/// A logged-in user, who must be allowed each time.
async fn come_again(person: Arc<Mutex<Browser>>, shared: Arc<Shared>) {
    let (counts, url) = (&shared.counts, format!("{}/a", shared.origin));
    while !shared.stop.load(Ordering::Relaxed) {
        let mut browser = person.lock().unwrap().clone();
        let begun = Instant::now();
        let answer = timeout(PATIENCE, browser.try_get(&url)).await.ok().flatten();
        counts.took.lock().unwrap().push(begun.elapsed());
        counts.checks.fetch_add(1, Ordering::Relaxed);
        if answer.as_ref().is_none_or(|answer| answer.status != 200) {
            counts.wrongly_denied.fetch_add(1, Ordering::Relaxed);
            let what = answer.as_ref().map(|answer| (answer.status, answer.location().to_owned()));
            counts.note(format!("denied: {what:?}"));
        }
        // Stores all cookies of an answer, as a browser does: an answer that deletes the session would lose it.
        *person.lock().unwrap() = browser;
        sleep(PACE).await;
    }
}

/// All clients that must be denied, in turn. They store nothing from the answers.
async fn try_again(next: Arc<AtomicUsize>, shared: Arc<Shared>) {
    while !shared.stop.load(Ordering::Relaxed) {
        let mut one = {
            let unwanted = shared.unwanted.lock().unwrap();
            unwanted[next.fetch_add(1, Ordering::Relaxed) % unwanted.len()].clone()
        };
        let path = if one.barred.load(Ordering::Relaxed) { BARRED } else { "/revoked" };
        let url = format!("{}{path}", shared.origin);
        let answer = timeout(PATIENCE, one.browser.try_get(&url)).await.ok().flatten();
        if path == BARRED && answer.as_ref().is_some_and(|answer| answer.status == 200) {
            shared.counts.note(format!("wrongly allowed: session {:?}", answer.unwrap().seen("x-wechat-session")));
        }
        shared.counts.checks.fetch_add(1, Ordering::Relaxed);
        sleep(PACE).await;
    }
}

/// Users who log in; some are revoked immediately, each time by the next instance.
async fn enter(shared: Arc<Shared>) {
    let Shared { origin, listeners, counts, .. } = &*shared;
    let mut waiting = JoinSet::new();
    for number in 1.. {
        if shared.stop.load(Ordering::Relaxed) {
            return;
        }
        counts.logins.fetch_add(1, Ordering::Relaxed);
        let begun = Instant::now();
        let browser = timeout(2 * PATIENCE, log_in(origin)).await.ok().flatten();
        {
            let mut slowest = counts.slowest_login.lock().unwrap();
            *slowest = begun.elapsed().max(*slowest);
        }
        match browser {
            None => {
                counts.logins_failed.fetch_add(1, Ordering::Relaxed);
            }
            Some(browser) if number % REVOKED == 0 => {
                let at = &listeners[(number / REVOKED) as usize % listeners.len()];
                let Some(session) = sid(&browser, origin).await else { continue };
                // Without an answer, the revocation may or may not have taken effect.
                if revoke(at, &serde_json::json!({ "session": session })).await.is_some() {
                    counts.revoked.fetch_add(1, Ordering::Relaxed);
                    if passes(at, origin, &browser).await {
                        counts.wrongly_allowed.fetch_add(1, Ordering::Relaxed);
                        counts.note("revoked, and allowed by the same instance".to_owned());
                    }
                    let one = Unwanted::revoked(browser, false);
                    if let Some(bound) = shared.told_within {
                        let barred = Arc::clone(&one.barred);
                        waiting.spawn(async move {
                            sleep(bound).await;
                            barred.store(true, Ordering::Relaxed);
                        });
                    }
                    shared.unwanted.lock().unwrap().push(one);
                }
            }
            Some(browser) => shared.entered.lock().unwrap().push(browser),
        }
        sleep(LOGINS).await;
    }
}
