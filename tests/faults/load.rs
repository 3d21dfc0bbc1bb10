//! A steady load through Envoy: people who are logged in, people whose session was revoked, strangers, and new logins.

use crate::client::Browser;
use crate::fleet::Fleet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What came of it.
#[derive(Default)]
pub struct Counts {
    pub checks: AtomicU64,
    pub wrongly_allowed: AtomicU64,
    pub wrongly_denied: AtomicU64,
    pub logins: AtomicU64,
    pub logins_failed: AtomicU64,
    /// What the first wrong answers were.
    pub notes: Mutex<Vec<String>>,
}

impl Counts {
    fn note(&self, text: String) {
        let mut notes = self.notes.lock().unwrap();
        if notes.len() < 5 {
            notes.push(text);
        }
    }
}

/// The load, until it is stopped.
pub struct Load {
    pub counts: Arc<Counts>,
    stop: Arc<AtomicBool>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
    /// Sessions that are alive, each with its browser as it is now.
    pub alive: Vec<Arc<Mutex<Browser>>>,
}

/// Between two checks of one person.
const PACE: Duration = Duration::from_millis(25);

/// Between two logins.
const LOGINS: Duration = Duration::from_millis(250);

impl Load {
    /// Logs people in, revokes some if that can be told, and lets all of them come again and again.
    pub async fn start(fleet: &Arc<tokio::sync::RwLock<Fleet>>, revokes: bool) -> Self {
        let origin = fleet.read().await.origin.clone();
        let (mut alive, mut revoked) = (Vec::new(), Vec::new());
        for number in 0..12 {
            let fleet = fleet.read().await;
            let browser = fleet.log_in().await.expect("a login while all is well");
            if number % 4 == 3 && revokes {
                let at = number % fleet.instances.len();
                fleet.revoke(at, &serde_json::json!({ "session": sid(&browser, &origin).await })).await;
                revoked.push(Arc::new(Mutex::new(browser)));
            } else {
                alive.push(Arc::new(Mutex::new(browser)));
            }
        }
        // The stated bound.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let counts = Arc::new(Counts::default());
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = Vec::new();
        for (people, may) in [(&alive, true), (&revoked, false)] {
            for person in people {
                tasks.push(tokio::spawn(come_again(
                    Arc::clone(person),
                    may,
                    origin.clone(),
                    Arc::clone(&counts),
                    Arc::clone(&stop),
                )));
            }
        }
        let stranger = Arc::new(Mutex::new(Browser::wechat()));
        tasks.push(tokio::spawn(come_again(stranger, false, origin, Arc::clone(&counts), Arc::clone(&stop))));
        let (logging, counting, stopping) = (Arc::clone(fleet), Arc::clone(&counts), Arc::clone(&stop));
        tasks.push(tokio::spawn(async move {
            while !stopping.load(Ordering::Relaxed) {
                let origin = logging.read().await.origin.clone();
                counting.logins.fetch_add(1, Ordering::Relaxed);
                if crate::fleet::log_in(&origin).await.is_none() {
                    counting.logins_failed.fetch_add(1, Ordering::Relaxed);
                }
                tokio::time::sleep(LOGINS).await;
            }
        }));
        Self { counts, stop, tasks, alive }
    }

    /// Ends it.
    pub async fn stop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks.drain(..) {
            let _ = task.await;
        }
    }

    /// Sessions that do not work any more though nobody revoked them.
    pub async fn lost(&self, origin: &str) -> u64 {
        let mut lost = 0;
        for person in &self.alive {
            let mut browser = person.lock().unwrap().clone();
            let answer = browser.try_get(&format!("{origin}/a")).await;
            lost += u64::from(answer.is_none_or(|answer| answer.status != 200));
        }
        lost
    }
}

/// The id of a browser's session, as the application sees it.
pub async fn sid(browser: &Browser, origin: &str) -> String {
    let answer = browser.clone().get(&format!("{origin}/a")).await;
    answer.seen("x-wechat-session").unwrap()
}

async fn come_again(
    person: Arc<Mutex<Browser>>,
    may: bool,
    origin: String,
    counts: Arc<Counts>,
    stop: Arc<AtomicBool>,
) {
    let url = format!("{origin}/a");
    while !stop.load(Ordering::Relaxed) {
        let mut browser = person.lock().unwrap().clone();
        let answer = browser.try_get(&url).await;
        counts.checks.fetch_add(1, Ordering::Relaxed);
        let passed = answer.as_ref().is_some_and(|answer| answer.status == 200);
        if passed && !may {
            counts.wrongly_allowed.fetch_add(1, Ordering::Relaxed);
            let session = answer.as_ref().and_then(|answer| answer.seen("x-wechat-session"));
            counts.note(format!("let in: session {session:?}"));
        }
        if !passed && may {
            counts.wrongly_denied.fetch_add(1, Ordering::Relaxed);
            let what = answer.as_ref().map(|answer| (answer.status, answer.location().to_owned()));
            counts.note(format!("denied: {what:?}"));
        }
        if may {
            // A renewed cookie is kept, as browsers do; a stranger's flow cookies are not.
            *person.lock().unwrap() = browser;
        }
        tokio::time::sleep(PACE).await;
    }
}
