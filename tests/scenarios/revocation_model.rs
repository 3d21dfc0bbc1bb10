//! Compares revocations with a model: for any order of logins, revocations, lost messages, fetches, restarts and
//! flushes of Redis, an instance rejects each session that it must know to be revoked, and no other session.
//!
//! The instances and Redis are real and run in this process. The test delivers the messages between instances itself,
//! so that it can drop them.

use ::redis::AsyncCommands as _;
use harness::redis::Redis;
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use wechat_authz::testing::clock::{self, Timestamp};
use wechat_authz::testing::fixtures;
use wechat_authz::testing::random;
use wechat_authz::testing::redis::{Form, Redis as Store, Subscription};
use wechat_authz::testing::session::keys::KeyRing;
use wechat_authz::testing::session::revocations::Target;
use wechat_authz::testing::session::{Claims, Grant, SessionError, Sessions, Settings};
use wechat_authz::testing::sessions::revocation_sync::{self, RevocationSync};
use wechat_authz::testing::telemetry::RedisMetrics;

const INSTANCES: usize = 3;
const SUBJECTS: [&str; 2] = ["wx:wx0123456789abcdef:oAlice", "wx:union:oBob"];
const APPS: [&str; 2] = ["shop", "blog"];
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

/// One step of a run.
#[derive(Clone, Debug)]
enum Step {
    /// A user logs in at an instance.
    Login {
        at: usize,
        who: usize,
        app: usize,
    },
    /// An instance revokes the nth session from the end.
    RevokeSession {
        at: usize,
        back: usize,
    },
    /// A user logs in repeatedly at an instance; each login replaces the previous session.
    LoginAgain {
        at: usize,
        who: usize,
        app: usize,
        count: usize,
    },
    RevokeSubject {
        at: usize,
        who: usize,
    },
    RevokeApp {
        at: usize,
        app: usize,
    },
    /// An instance receives all pending messages.
    Hear {
        at: usize,
    },
    /// An instance loses all pending messages.
    Miss {
        at: usize,
    },
    Reconcile {
        at: usize,
        whole: bool,
    },
    Restart {
        at: usize,
    },
    /// Redis loses all data.
    Flush,
}

fn step() -> impl Strategy<Value = Step> {
    let (at, who, app) = (0..INSTANCES, 0..SUBJECTS.len(), 0..APPS.len());
    prop_oneof![
        6 => (at.clone(), who.clone(), app.clone()).prop_map(|(at, who, app)| Step::Login { at, who, app }),
        4 => (at.clone(), 0..6usize).prop_map(|(at, back)| Step::RevokeSession { at, back }),
        2 => (at.clone(), who.clone(), app.clone(), 10..50usize)
            .prop_map(|(at, who, app, count)| Step::LoginAgain { at, who, app, count }),
        2 => (at.clone(), who).prop_map(|(at, who)| Step::RevokeSubject { at, who }),
        1 => (at.clone(), app).prop_map(|(at, app)| Step::RevokeApp { at, app }),
        5 => at.clone().prop_map(|at| Step::Hear { at }),
        3 => at.clone().prop_map(|at| Step::Miss { at }),
        4 => (at.clone(), any::<bool>()).prop_map(|(at, whole)| Step::Reconcile { at, whole }),
        2 => at.prop_map(|at| Step::Restart { at }),
        1 => Just(Step::Flush),
    ]
}

/// An instance, and the revocations that it must know according to the model.
struct Instance {
    sessions: Arc<Sessions>,
    sharing: RevocationSync,
    hearing: Subscription,
    /// Revocations whose messages are neither received nor lost yet.
    said: BTreeSet<usize>,
    known: BTreeSet<usize>,
    /// Whether Redis was flushed since the last fetch.
    flushed: bool,
}

struct World {
    store: Store,
    key: tempfile::TempDir,
    instances: Vec<Instance>,
    now: Timestamp,
    /// All sessions: token and claims.
    sessions: Vec<(String, Claims)>,
    /// All revocations: target and time.
    revoked: Vec<(Target, Timestamp)>,
    /// The revocations that are stored in Redis.
    listed: BTreeSet<usize>,
}

/// Makes a session id from a name.
fn sid(name: &str) -> String {
    format!("{name:A<22}")
}

fn settings(app: usize) -> Settings {
    Settings {
        issuer: format!("https://{}.example.com", APPS[app]),
        audience: APPS[app].parse().unwrap(),
        token_lifetime: HOUR,
        lifetime: 7 * DAY,
        idle: 7 * DAY,
    }
}

impl World {
    async fn new(port: u16) -> Self {
        let settings = wechat_authz::testing::redis::Settings {
            form: Form::One { address: format!("127.0.0.1:{port}").parse().unwrap(), database: 0 },
            user: None,
            password: None,
            tls: false,
            roots: None,
            client: None,
            prefix: random::incident_id(),
            timeout: Duration::from_millis(500),
        };
        let store = Store::new(settings, RedisMetrics::default());
        let keeper = store.clone();
        tokio::spawn(async move { keeper.run().await });
        store.connected_since(0).await;
        let mut world = Self {
            store,
            key: fixtures::key_directory(),
            instances: Vec::new(),
            now: clock::now(),
            sessions: Vec::new(),
            revoked: Vec::new(),
            listed: BTreeSet::new(),
        };
        for _ in 0..INSTANCES {
            let instance = world.instance().await;
            world.instances.push(instance);
        }
        world
    }

    /// A new instance after its first fetch, as after a start.
    async fn instance(&self) -> Instance {
        let keys = KeyRing::new(fixtures::load_keys(self.key.path()));
        let sessions = Arc::new(fixtures::sessions(keys, self.now));
        let sharing =
            RevocationSync::new(Arc::clone(&sessions), self.store.clone(), revocation_sync::Settings::default());
        let hearing = self.store.subscribe().await.unwrap();
        sharing.reconcile(self.now, true).await.unwrap();
        Instance { sessions, sharing, hearing, said: BTreeSet::new(), known: self.listed.clone(), flushed: false }
    }

    async fn take(&mut self, step: Step) {
        self.now = self.now + Duration::from_secs(1);
        match step {
            Step::Login { at, who, app } => self.log_in(at, who, app),
            Step::LoginAgain { at, who, app, count } => {
                for _ in 0..count {
                    self.now = self.now + Duration::from_secs(1);
                    self.log_in(at, who, app);
                    self.end(at, 0).await;
                    self.collapse(at, who).await;
                }
            }
            Step::RevokeSession { at, back } => self.end(at, back).await,
            Step::RevokeSubject { at, who } => self.revoke(at, Target::subject(&SUBJECTS[who].parse().unwrap())).await,
            Step::RevokeApp { at, app } => self.revoke(at, Target::App(APPS[app].parse().unwrap())).await,
            Step::Hear { at } => {
                // Redis keeps the order: once this message arrives, all earlier ones have arrived.
                let last = format!("until here {}", random::incident_id());
                self.ask(&["PUBLISH", self.store.keys().channel().as_str(), &last]).await;
                let instance = &mut self.instances[at];
                loop {
                    // An instance also receives its own messages; the model does not count messages.
                    let message = tokio::time::timeout(Duration::from_secs(20), instance.hearing.next()).await;
                    let message = message.expect("the message must arrive").unwrap();
                    if message == last {
                        break;
                    }
                    instance.sharing.on_message(&message, self.now);
                }
                let said = std::mem::take(&mut instance.said);
                instance.known.extend(said);
            }
            Step::Miss { at } => {
                self.instances[at].hearing = self.store.subscribe().await.unwrap();
                self.instances[at].said.clear();
            }
            Step::Reconcile { at, whole } => self.reconcile(at, whole).await,
            Step::Restart { at } => self.instances[at] = self.instance().await,
            Step::Flush => {
                self.flush().await;
                self.listed.clear();
                self.instances.iter_mut().for_each(|instance| instance.flushed = true);
            }
        }
    }

    fn log_in(&mut self, at: usize, who: usize, app: usize) {
        let grant = Grant { subject: SUBJECTS[who].parse().unwrap(), ..fixtures::alice() };
        let sessions = &self.instances[at].sessions;
        let issued = sessions.begin(grant, &settings(app), self.now).unwrap();
        let live = sessions.verify(&issued.token, &settings(app), self.now, || Ok(()));
        let claims = live.unwrap_or_else(|refusal| panic!("a new session: {refusal:?}")).claims();
        self.sessions.push((issued.token, claims));
    }

    /// Combines the revocations of a subject, as an instance does after it ends a session; the registry supplies the
    /// live sessions.
    async fn collapse(&self, at: usize, who: usize) {
        let (instance, subject) = (&self.instances[at], SUBJECTS[who].parse().unwrap());
        if !instance.sessions.revocations.wants_collapse(&subject) {
            return;
        }
        let lives = |claims: &Claims| !(0..self.revoked.len()).any(|number| self.concerns(number, claims));
        let own = self.sessions.iter().map(|(_, claims)| claims).filter(|claims| claims.sub == subject);
        let live = own.filter(|claims| lives(claims)).map(|claims| claims.auth_time).collect();
        instance.sharing.collapse(&subject, live, self.now).await;
    }

    /// Ends the nth session from the end at an instance.
    async fn end(&mut self, at: usize, back: usize) {
        let Some((token, claims)) = self.sessions.iter().rev().nth(back) else { return };
        let target = Target::Session(claims.sid);
        let session = self.instances[at].sessions.to_end(token, self.now, || Ok(())).unwrap();
        let revoked = self.instances[at].sharing.end(&session, self.now).await;
        revoked.unwrap().shared.unwrap();
        self.note(at, target);
    }

    async fn revoke(&mut self, at: usize, target: Target) {
        let revoked = self.instances[at].sharing.revoke(target.clone(), self.now).await;
        revoked.unwrap().shared.unwrap();
        self.note(at, target);
    }

    fn note(&mut self, at: usize, target: Target) {
        let number = self.revoked.len();
        self.revoked.push((target, self.now));
        self.listed.insert(number);
        self.instances[at].known.insert(number);
        self.instances.iter_mut().for_each(|instance| {
            instance.said.insert(number);
        });
    }

    async fn reconcile(&mut self, at: usize, whole: bool) {
        let instance = &mut self.instances[at];
        instance.sharing.reconcile(self.now, whole).await.unwrap();
        instance.known.extend(self.listed.iter().copied());
        if std::mem::take(&mut instance.flushed) || whole {
            self.listed.extend(instance.known.iter().copied());
        }
    }

    async fn flush(&self) {
        let names = self.store.keys();
        let command = ::redis::Cmd::del(&[names.revoked(), names.mark()]);
        self.store.query::<u64>("test", &command).await.unwrap();
    }

    /// Whether revocation `number` applies to the session of `claims`.
    fn concerns(&self, number: usize, claims: &Claims) -> bool {
        let (target, at) = &self.revoked[number];
        match target {
            Target::Session(_) => *target == Target::Session(claims.sid),
            Target::Subject(_) => *target == Target::subject(&claims.sub) && claims.auth_time <= at.0,
            Target::App(app) => *app == claims.aud && claims.auth_time <= at.0,
            Target::Everyone(()) => claims.auth_time <= at.0,
        }
    }

    /// Asserts that each instance rejects all sessions that it must know to be revoked, and no session that is not
    /// revoked.
    fn judge(&self) -> Result<(), TestCaseError> {
        for (index, instance) in self.instances.iter().enumerate() {
            for (token, claims) in &self.sessions {
                let app = APPS.iter().position(|app| *app == claims.aud.as_str()).unwrap();
                let verdict = instance.sessions.verify(token, &settings(app), self.now, || Ok(())).map(drop);
                let must = instance.known.iter().any(|number| self.concerns(*number, claims));
                let may = (0..self.revoked.len()).any(|number| self.concerns(number, claims));
                prop_assert!(
                    !must || verdict == Err(SessionError::Revoked),
                    "instance {index} lets a revoked session in"
                );
                prop_assert!(may || verdict.is_ok(), "instance {index} refuses a good session: {verdict:?}");
            }
        }
        Ok(())
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

#[test]
fn no_order_of_events_lets_a_revoked_session_in_after_the_bound() {
    let runtime = runtime();
    let redis = runtime.block_on(Redis::start());
    let cases = ProptestConfig { cases: 120, failure_persistence: None, ..ProptestConfig::default() };
    let mut runner = proptest::test_runner::TestRunner::new(cases);
    let tried = runner.run(&proptest::collection::vec(step(), 1..60), |steps| {
        runtime.block_on(async {
            let mut world = World::new(redis.port).await;
            for step in steps {
                world.take(step).await;
                world.judge()?;
            }
            // After two fetches by each instance, all instances know every revocation.
            for _ in 0..2 {
                for at in 0..INSTANCES {
                    world.reconcile(at, true).await;
                }
            }
            for instance in &world.instances {
                prop_assert_eq!(&instance.known, &world.listed);
                prop_assert!(instance.sessions.revocations.len() <= SUBJECTS.len() * 130 + 60);
            }
            world.judge()
        })
    });
    tried.unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn unknown_or_stale_revocations_end_a_session_with_its_token() {
    let runtime = runtime();
    runtime.block_on(async {
        let redis = Redis::start().await;
        let mut world = World::new(redis.port).await;
        world.take(Step::Login { at: 0, who: 0, app: 0 }).await;
        let (token, _) = world.sessions[0].clone();
        let later = world.now + HOUR + Duration::from_secs(1);
        let verdict = |sessions: &Sessions| sessions.verify(&token, &settings(0), later, || Ok(())).map(drop);
        assert_eq!(
            verdict(&world.instances[0].sessions),
            Ok(()),
            "an expired token must be renewable while revocations are known"
        );
        let (sessions, age) = {
            let keys = KeyRing::new(fixtures::load_keys(world.key.path()));
            let sessions = fixtures::sessions(keys, world.now);
            (Arc::new(sessions), Duration::from_millis(300))
        };
        let settings = revocation_sync::Settings { reconcile: DAY, stale_after: age };
        let sharing = RevocationSync::new(Arc::clone(&sessions), world.store.clone(), settings);
        assert_eq!(
            verdict(&sessions),
            Err(SessionError::Expired),
            "revocations must be unknown before the first fetch"
        );
        sharing.reconcile(world.now, true).await.unwrap();
        assert_eq!(verdict(&sessions), Ok(()));
        tokio::time::sleep(age * 2).await;
        assert_eq!(verdict(&sessions), Err(SessionError::Expired), "the known revocations must be too old");
        sharing.reconcile(world.now, false).await.unwrap();
        assert_eq!(verdict(&sessions), Ok(()));
    });
}

#[test]
fn an_idle_redis_ends_up_empty_and_holds_nobodys_name() {
    let runtime = runtime();
    runtime.block_on(async {
        let redis = Redis::start().await;
        let mut world = World::new(redis.port).await;
        for step in [
            Step::Login { at: 0, who: 0, app: 0 },
            Step::RevokeSession { at: 0, back: 0 },
            Step::RevokeSubject { at: 1, who: 0 },
            Step::RevokeApp { at: 1, app: 0 },
        ] {
            world.take(step).await;
        }
        let keys = redis.keys().await;
        assert_eq!(keys.len(), 2, "{keys:?}");
        assert!(keys.iter().all(|(_, left)| *left > 0), "without an expiry: {keys:?}");
        let client = ::redis::Client::open(format!("redis://127.0.0.1:{}/", redis.port)).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let list: Vec<String> = connection.zrange(world.store.keys().revoked().as_str(), 0, -1).await.unwrap();
        assert_eq!(list.len(), 3);
        assert!(list.iter().all(|member| !member.contains("oAlice")), "{list:?}");
    });
}

#[test]
fn only_expired_revocations_leave_the_list() {
    let runtime = runtime();
    runtime.block_on(async {
        let redis = Redis::start().await;
        let mut world = World::new(redis.port).await;
        for step in [
            Step::Login { at: 0, who: 0, app: 0 },
            Step::Login { at: 0, who: 0, app: 0 },
            Step::RevokeSession { at: 0, back: 0 },
        ] {
            world.take(step).await;
        }
        let client = ::redis::Client::open(format!("redis://127.0.0.1:{}/", redis.port)).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let (now, day) = (world.now.0, 86_400);
        let listed = |session: &str, until: u64| {
            let session = sid(session);
            format!(r#"{{"v":1,"session":"{session}","at":{},"until":{until}}}"#, now - 9 * day)
        };
        // Both entries are also old by Redis's clock, which the model's clock is ahead of.
        let dead = [listed("one", now - day - 30), listed("two", now - 2 * day)];
        let stays = [listed("three", now - day + 60), r#"{"v":2,"session":"another version's"}"#.to_owned()];
        let list = world.store.keys().revoked().as_str().to_owned();
        for member in dead.iter().chain(&stays) {
            let _: u64 = connection.zadd(&list, member, now * 1_000).await.unwrap();
        }
        world.reconcile(1, true).await;
        let left: Vec<String> = connection.zrange(&list, 0, -1).await.unwrap();
        assert!(dead.iter().all(|member| !left.contains(member)), "{left:?}");
        assert!(stays.iter().all(|member| left.contains(member)), "{left:?}");
        assert_eq!(left.len(), 3, "the revocation of a live session must stay: {left:?}");
        world.judge().unwrap();
    });
}

#[test]
fn unknown_messages_and_wrong_clocks_end_no_session() {
    let runtime = runtime();
    runtime.block_on(async {
        let redis = Redis::start().await;
        let mut world = World::new(redis.port).await;
        let sharing = &world.instances[0].sharing;
        for message in [r#"{"v":2,"app":"shop","at":9999999999,"until":9999999999}"#, "rubbish", ""] {
            sharing.on_message(message, world.now);
        }
        world.take(Step::Login { at: 0, who: 0, app: 0 }).await;
        world.judge().unwrap();
        // A message with a time in a hundred years ends sessions only for a moment, not permanently.
        let far = world.now.0 + 100 * 365 * 86_400;
        let message = format!(
            r#"{{"v":1,"subject":"{}","at":{far},"until":{far}}}"#,
            wechat_authz::testing::redis::keys::digest_of(SUBJECTS[0])
        );
        world.instances[0].sharing.on_message(&message, world.now);
        world.now = world.now + Duration::from_secs(61);
        world.sessions.clear();
        world.take(Step::Login { at: 0, who: 0, app: 0 }).await;
        world.judge().unwrap();
    });
}

impl World {
    async fn list(&self) -> Vec<String> {
        let mut command = ::redis::cmd("ZRANGE");
        command.arg(self.store.keys().revoked()).arg(0).arg(-1);
        self.store.query("test", &command).await.unwrap()
    }

    async fn ask(&self, line: &[&str]) {
        let mut command = ::redis::cmd(line[0]);
        command.arg(&line[1..]);
        self.store.query::<::redis::Value>("test", &command).await.unwrap();
    }
}

#[test]
fn a_revocation_reaches_all_though_its_client_hangs_up() {
    let runtime = runtime();
    runtime.block_on(async {
        let redis = Redis::start().await;
        let mut world = World::new(redis.port).await;
        let Instance { sharing, .. } = world.instances.remove(0);
        let sharing = Arc::new(sharing);
        let keeping = Arc::clone(&sharing);
        tokio::spawn(async move { keeping.run().await });
        // The initial fetches of the whole list have completed.
        tokio::time::sleep(Duration::from_secs(2)).await;
        // Cancels the request as a disconnect of the browser does. On a loaded machine the revocation may complete
        // first.
        let revoking = sharing.revoke(Target::subject(&SUBJECTS[0].parse().unwrap()), world.now);
        let _ = tokio::time::timeout(Duration::ZERO, revoking).await;
        let told = tokio::time::timeout(Duration::from_secs(10), world.instances[0].hearing.next()).await;
        let told = told.expect("the other instances must receive the message").unwrap();
        assert_eq!(world.list().await, [told]);
    });
}

#[test]
fn a_list_that_others_tidy_meanwhile_is_read_whole() {
    const LIVE: usize = 3_000;
    let runtime = runtime();
    runtime.block_on(async {
        let redis = Redis::start().await;
        let world = World::new(redis.port).await;
        let name = world.store.keys().revoked();
        let mut fill = ::redis::pipe();
        for number in 0..12_000 {
            fill.zadd(name.as_str(), format!("dead {number}"), number).ignore();
        }
        for number in 0..LIVE {
            let until = (world.now + DAY).0;
            let at = world.now.0;
            let sid = sid(&number.to_string());
            let text = format!(r#"{{"v":1,"session":"{sid}","at":{at},"until":{until}}}"#);
            fill.zadd(name.as_str(), text, 20_000 + number / 10).ignore();
        }
        let client = ::redis::Client::open(format!("redis://127.0.0.1:{}/", redis.port)).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        fill.query_async::<()>(&mut connection).await.unwrap();
        let list = name.as_str().to_owned();
        let tidying = tokio::spawn(async move {
            for _ in 0..240 {
                let _: u64 = connection.zremrangebyrank(&list, 0, 49).await.unwrap();
            }
        });
        world.instances[0].sharing.reconcile(world.now, true).await.unwrap();
        assert_eq!(world.instances[0].sessions.revocations.len(), LIVE);
        tidying.await.unwrap();
    });
}

#[test]
fn an_evicted_list_is_restored_at_the_next_fetch() {
    let runtime = runtime();
    runtime.block_on(async {
        let redis = Redis::start().await;
        let mut world = World::new(redis.port).await;
        world.take(Step::RevokeApp { at: 0, app: 0 }).await;
        let list = world.list().await;
        assert_eq!(list.len(), 1);
        world.ask(&["DEL", world.store.keys().revoked().as_str()]).await;
        world.instances[0].sharing.reconcile(world.now, false).await.unwrap();
        assert_eq!(world.list().await, list, "the list must be restored");
    });
}

#[test]
fn an_instance_with_a_fast_clock_removes_nothing() {
    let runtime = runtime();
    runtime.block_on(async {
        let redis = Redis::start().await;
        let mut world = World::new(redis.port).await;
        let (at, until) = (world.now.0, (world.now + HOUR).0);
        let sid = sid("one");
        let text = format!(r#"{{"v":1,"session":"{sid}","at":{at},"until":{until}}}"#);
        world.ask(&["ZADD", world.store.keys().revoked().as_str(), "1", &text]).await;
        world.now = world.now + 3 * DAY;
        world.instances[0].sharing.reconcile(world.now, true).await.unwrap();
        assert_eq!(world.list().await, [text]);
    });
}
