//! Sessions and events in a real Redis: the registry, the command line, the event stream, and the refresh of profiles.

use harness::client::{Answer, Browser};
use harness::process::Process;
use harness::redis::Redis;
use harness::stack::{self, Plan, Stack};
use harness::{ADMIN_TOKEN, OA, SESSION, program};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::{Duration, Instant};
use wechat_authz::testing::clock::{self, Timestamp};
use wechat_authz::testing::fixtures;
use wechat_authz::testing::login_method::LoginMethod;
use wechat_authz::testing::profile::Profile;
use wechat_authz::testing::redis::{Form, Redis as Store, Settings};
use wechat_authz::testing::seal::Sealer;
use wechat_authz::testing::session::keys::{self, KeyRing};
use wechat_authz::testing::sessions::Registry;
use wechat_authz::testing::sessions::registry::{self, ProfileRecord, SessionRecord};
use wechat_authz::testing::telemetry::{OutboxMetrics, RedisMetrics};
use wechat_simulator::{Effect, Endpoint, Fault, Options};

/// A stack with this Redis and more lines for its configuration, indented by two.
async fn stack_with(redis: &Redis, more: &str, plan: Plan) -> Stack {
    let more = format!("{}{}{more}", stack::UNLIMITED, redis.configuration());
    let stack = Stack::planned(Plan { more, ..plan }).await;
    // The configuration with the actual ports, for the command line.
    std::fs::write(stack.directory.path().join("cli.yaml"), stack.configured()).unwrap();
    stack
}

/// Runs the command line with this configuration in the stack's directory.
fn cli(file: &Path, words: &[&str]) -> Output {
    Command::new(program()).args(words).arg("--config").arg(file).output().unwrap()
}

fn told(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap() + &String::from_utf8_lossy(&output.stderr)
}

fn listed(stack: &Stack, subject: &str) -> Value {
    let output = cli(&stack.directory.path().join("cli.yaml"), &["sessions", "list", "--json", "--subject", subject]);
    assert!(output.status.success(), "{}", told(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn revoked(stack: &Stack, words: &[&str]) -> Value {
    let output = cli(&stack.directory.path().join("cli.yaml"), &[&["revoke", "--json"], words].concat());
    assert!(output.status.success(), "{}", told(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Logs a user of the simulator in; returns the browser and the application's response.
async fn person(stack: &Stack, user: &str) -> (Browser, Answer) {
    let mut browser = Browser::wechat();
    stack.hand_to(&mut browser, user);
    let page = stack.log_in(&mut browser, "/").await;
    (browser, page)
}

fn seen(page: &Answer, name: &str) -> String {
    page.seen(&format!("x-wechat-{name}")).unwrap_or_default()
}

/// The nickname that the application receives.
fn nickname(page: &Answer) -> String {
    percent_encoding::percent_decode_str(&seen(page, "nickname")).decode_utf8().unwrap().into_owned()
}

async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = ask().await {
            return found;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "not in 30 s: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until Redis has at least `count` keys that contain `end`.
async fn until_keys(redis: &Redis, end: &str, count: usize) {
    until(end, async || {
        let keys = redis.keys().await;
        (keys.iter().filter(|(key, _)| key.contains(end)).count() >= count).then_some(())
    })
    .await;
}

const STREAM: &str = "wechat-authz:1:{events}";

type Entries = Vec<(String, Vec<String>)>;

/// The events that a consumer of this group reads, each with its fields by name.
async fn read(redis: &Redis, from: &str) -> Vec<HashMap<String, String>> {
    let words = ["XREADGROUP", "GROUP", "crm", "one", "COUNT", "1000", "STREAMS", STREAM, from];
    let streams: Option<Vec<(String, Entries)>> = redis.ask(&words).await;
    let entries = streams.into_iter().flatten().flat_map(|(_, entries)| entries);
    entries.map(|(_, fields)| fields.chunks(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect()).collect()
}

/// Reads until `count` events have arrived.
async fn events(redis: &Redis, count: usize) -> Vec<HashMap<String, String>> {
    let mut all = Vec::new();
    until("events", async || {
        all.extend(read(redis, ">").await);
        (all.len() >= count).then_some(())
    })
    .await;
    all
}

async fn group(redis: &Redis) {
    redis.ask::<String>(&["XGROUP", "CREATE", STREAM, "crm", "0", "MKSTREAM"]).await;
}

/// The content of Redis with the stored values.
async fn dump(redis: &Redis, stream: bool) -> String {
    let mut all = String::new();
    for (key, _) in redis.keys().await {
        let words: &[&str] = match redis.ask::<String>(&["TYPE", &key]).await.as_str() {
            "string" => &["GET"],
            "hash" => &["HGETALL"],
            "zset" => &["ZRANGE"],
            "stream" if stream => &["XRANGE"],
            "stream" => continue,
            other => panic!("{key} is a {other}"),
        };
        let ends: &[&str] = match words[0] {
            "ZRANGE" => &["0", "-1", "WITHSCORES"],
            "XRANGE" => &["-", "+"],
            _ => &[],
        };
        let value: ::redis::Value = redis.ask(&[words, &[&key], ends].concat()).await;
        all += &format!("{key} = {value:?}\n");
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_logged_in_is_listed_and_ended_from_the_command_line() {
    let redis = Redis::start().await;
    let mut stack = stack_with(&redis, "", Plan::default()).await;
    let (mut phone, page) = person(&stack, "小明").await;
    let (mut tablet, _) = person(&stack, "小明").await;
    let (mut other, _) = person(&stack, "小红").await;
    let (subject, session) = (seen(&page, "subject"), seen(&page, "session"));
    until("both sessions", async || {
        let hash = format!("wechat-authz:1:{{{}}}:sessions", wechat_authz::testing::redis::keys::digest_of(&subject));
        (redis.ask::<u64>(&["HLEN", &hash]).await == 2).then_some(())
    })
    .await;

    let list = listed(&stack, &subject);
    assert_eq!((list["from"].as_str(), list["sessions"].as_array().unwrap().len()), (Some("all instances"), 2));
    let own = list["sessions"].as_array().unwrap().iter().find(|one| one["session"] == session.as_str()).unwrap();
    assert_eq!(
        (&own["app"], &own["method"], &own["browser"]),
        (&json!("shop"), &json!("official_account"), &json!("wechat_ios"))
    );
    let now = clock::now().0;
    assert!(now - own["created"].as_u64().unwrap() < 60 && now - own["seen"].as_u64().unwrap() < 60, "{own}");
    assert_eq!(own["ends"].as_u64().unwrap() - own["created"].as_u64().unwrap(), 7 * 86_400);

    // Another instance, which has served no login, returns the same list.
    stack.kill_authz();
    stack.restart_authz().await;
    let again = until("a connection", async || {
        let list = listed(&stack, &subject);
        (list["from"] == "all instances").then_some(list)
    })
    .await;
    assert_eq!(again["sessions"], list["sessions"]);

    assert_eq!(revoked(&stack, &["--session", &session])["revoked"], "session");
    assert_eq!(phone.fetch(&stack.url("/")).await.status, 401);
    assert_eq!(tablet.fetch(&stack.url("/")).await.status, 200);
    assert_eq!(listed(&stack, &subject)["sessions"].as_array().unwrap().len(), 1);
    let answer = revoked(&stack, &["--subject", &subject]);
    assert_eq!((&answer["known"], &answer["shared"]), (&json!(true), &json!(true)));
    assert_eq!(tablet.fetch(&stack.url("/")).await.status, 401);
    assert_eq!(listed(&stack, &subject)["sessions"], json!([]));
    assert_eq!(other.fetch(&stack.url("/")).await.status, 200);
    assert_eq!(revoked(&stack, &["--subject", "wx:union:nobody"])["known"], false);
    assert_eq!(revoked(&stack, &["--session", "AAAAAAAAAAAAAAAAAAAAAA"])["known"], Value::Null);
    assert_eq!(revoked(&stack, &["--app", "shop"])["revoked"], "app");
    assert_eq!(other.fetch(&stack.url("/")).await.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_says_what_is_wrong_and_ends_with_its_code() {
    let mut stack = Stack::start().await;
    let (_, page) = person(&stack, "小明").await;
    let subject = seen(&page, "subject");
    let directory = stack.directory.path().to_owned();
    let at = |name: &str| directory.join(name);
    let good = stack.configured();
    let socket = format!("unix:{}", at("admin.sock").display());
    std::fs::write(at("good.yaml"), &good).unwrap();
    std::fs::write(at("other.token"), "another-token-of-forty-characters-or-more").unwrap();
    std::fs::write(at("wrong.yaml"), good.replace("./admin.token", "./other.token")).unwrap();
    std::fs::write(at("elsewhere.yaml"), good.replace(&stack.admin.to_string(), "127.0.0.1:9")).unwrap();
    std::fs::write(at("pages.yaml"), good.replace(&stack.admin.to_string(), &stack.ops.to_string())).unwrap();
    let closed: Vec<&str> = good.lines().filter(|line| !line.starts_with("admin:")).collect();
    std::fs::write(at("closed.yaml"), closed.join("\n")).unwrap();
    std::fs::write(at("broken.yaml"), "keys: 7\n").unwrap();

    let table = told(&cli(&at("good.yaml"), &["sessions", "list", "--subject", &subject]));
    assert!(table.starts_with("SESSION") && table.contains("wechat_ios"), "{table}");
    assert!(table.ends_with("(as known to this instance alone: no Redis is configured)\n"), "{table}");
    let alone = told(&cli(&at("good.yaml"), &["revoke", "--subject", &subject]));
    assert!(alone.contains("revoked") && alone.contains("a restart of the instance forgets the revocation"), "{alone}");
    for (file, words, code, says) in [
        ("good.yaml", &["revoke", "--app", "shoop"][..], 1, "no application of this name"),
        ("good.yaml", &["revoke", "--subject", "oAlice"], 1, "this is not a subject; nothing was done"),
        ("good.yaml", &["revoke", "--subject", "wx:nonsense"], 1, "wx:union:<unionid>"),
        ("good.yaml", &["revoke", "--session", "nonsense"], 1, "this is not a session id; nothing was revoked"),
        ("good.yaml", &["revoke", "--session", "wx:union:oAlice"], 1, "x-wechat-session"),
        ("good.yaml", &["revoke"], 2, "--session"),
        ("good.yaml", &["revoke", "--app", "shop", "--session", "a"], 2, "cannot be used with"),
        ("good.yaml", &["sessions", "list"], 2, "--subject"),
        (
            "good.yaml",
            &["sessions", "list", "--subject", "oAlice"],
            1,
            "write wx:, the AppID and a colon before an openid",
        ),
        ("wrong.yaml", &["revoke", "--app", "shop"], 1, "401"),
        ("elsewhere.yaml", &["revoke", "--app", "shop"], 1, "cannot connect to 127.0.0.1:9"),
        ("closed.yaml", &["revoke", "--app", "shop"], 78, "no admin listener"),
        ("broken.yaml", &["revoke", "--app", "shop"], 78, "keys"),
        ("none.yaml", &["revoke", "--app", "shop"], 78, "none.yaml"),
    ] {
        let output = cli(&at(file), words);
        let said = told(&output);
        assert_eq!(output.status.code(), Some(code), "{file} {words:?}: {said}");
        assert!(said.contains(says) && !said.contains(ADMIN_TOKEN), "{file} {words:?}: {said}");
    }

    // Over a Unix socket; the stack's own admin listener has closed before.
    stack.kill_authz();
    let gone = told(&cli(&at("good.yaml"), &["revoke", "--app", "shop"]));
    assert!(gone.contains("cannot connect to"), "{gone}");
    std::fs::write(at("socket.yaml"), good.replace(&stack.admin.to_string(), &socket)).unwrap();
    let _server = Process::silent(Command::new(program()).args(["serve", "--config"]).arg(at("socket.yaml")));
    let answer = until("the socket", async || {
        let output = cli(&at("socket.yaml"), &["revoke", "--json", "--app", "shop"]);
        output.status.success().then_some(output)
    })
    .await;
    assert_eq!(serde_json::from_slice::<Value>(&answer.stdout).unwrap()["revoked"], "app");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_key_has_an_end_and_a_dump_tells_nobody_anything() {
    let redis = Redis::start().await;
    let stack = stack_with(&redis, "  keep_wechat_tokens: true\n", with_profile()).await;
    let (mut phone, page) = consenting(&stack, "小明").await;
    assert_eq!(nickname(&page), "小明");
    let (other, _) = consenting(&stack, "小红").await;
    phone.ask("POST", &stack.url("/_wechat/logout"), &[("origin", &stack.origin)], "").await;
    let (phone, page) = consenting(&stack, "小明").await;
    until_keys(&redis, ":wechat:shop", 2).await;
    until_keys(&redis, ":profile:shop", 2).await;
    until_keys(&redis, ":sessions", 2).await;
    until_keys(&redis, "{events}", 1).await;

    let keys = redis.keys().await;
    assert!(keys.len() >= 8, "{keys:?}");
    for (key, left) in &keys {
        assert!(*left > 0 && *left <= 91 * 86_400 * 1_000, "{key} lives for {left} ms");
    }
    // All keys of a subject share one slot.
    let digest = wechat_authz::testing::redis::keys::digest_of(&seen(&page, "subject"));
    let mut slots = Vec::new();
    for (key, _) in keys.iter().filter(|(key, _)| key.contains(&digest)) {
        assert!(key.starts_with(&format!("wechat-authz:1:{{{digest}}}:")), "{key}");
        slots.push(key);
    }
    assert_eq!(slots.len(), 3, "expected sessions, profile and wechat: {slots:?}");

    let all = dump(&redis, true).await;
    let mut forbidden = stack.simulator.issued_secrets();
    assert!(forbidden.len() > 6, "WeChat must have issued codes and tokens");
    forbidden.extend(["小明".to_owned(), "小红".to_owned(), "qlogo".to_owned(), "MicroMessenger".to_owned()]);
    let cookies: Vec<String> = [&other, &phone].into_iter().filter_map(|one| one.cookie(SESSION)).collect();
    forbidden.extend(cookies);
    for secret in &forbidden {
        assert!(!all.contains(secret.as_str()), "{secret} is in Redis:\n{all}");
    }
    // A logout deletes WeChat's tokens of this session; other sessions keep theirs.
    let (mut leaver, page) = (phone, page);
    leaver.ask("POST", &stack.url("/_wechat/logout"), &[("origin", &stack.origin)], "").await;
    let tokens = format!("{{{}}}:wechat:shop", wechat_authz::testing::redis::keys::digest_of(&seen(&page, "subject")));
    until("no token of theirs", async || {
        let left: Vec<_> = redis.keys().await.into_iter().filter(|(key, _)| key.ends_with(":wechat:shop")).collect();
        (left.len() == 1 && !left[0].0.contains(&tokens)).then_some(())
    })
    .await;
    // Only the stream contains the subject, because the configuration enables that.
    let quiet = dump(&redis, false).await;
    for user in ["小明", "小红"] {
        let openid = stack.simulator.openid(OA, user);
        assert!(!quiet.contains(&openid) && all.contains(&openid), "{openid}:\n{quiet}");
    }
}

/// The simulated user consents at once.
fn at_once(options: &mut Options) {
    options.apps[0].instant_consent = true;
}

/// A stack whose logins request nickname and avatar.
fn with_profile() -> Plan {
    Plan { scope: "snsapi_userinfo", simulator: at_once, wechat: stack::PATIENT.into(), ..Plan::default() }
}

/// Logs a user of the simulator in through our page's button.
async fn consenting(stack: &Stack, user: &str) -> (Browser, Answer) {
    let mut browser = Browser::wechat();
    stack.hand_to(&mut browser, user);
    let asked = browser.follow(&stack.url("/")).await.pop().unwrap();
    let home = browser.follow(&asked.button()).await.pop().unwrap();
    assert_eq!(home.seen("x-wechat-openid"), Some(stack.simulator.openid(OA, user)), "{home:?}");
    stack.remember(&browser);
    (browser, home)
}

#[tokio::test(flavor = "multi_thread")]
async fn events_reach_a_consumer_group_before_and_after_an_outage() {
    let mut redis = Redis::start().await;
    let stack = stack_with(&redis, "", with_profile()).await;
    group(&redis).await;
    let (mut phone, first) = consenting(&stack, "小明").await;
    stack.simulator.change_user("小明", |user| user.nickname = "小明明".into());
    // A second login in the same browser replaces the first session.
    let second = phone.follow(&stack.url("/_wechat/login?go=1")).await.pop().unwrap();
    let page = phone.ask("POST", &stack.url("/_wechat/logout"), &[("origin", &stack.origin)], "").await;
    assert_eq!(page.status, 200, "{page:?}");
    let subject = seen(&first, "subject");
    revoked(&stack, &["--session", &seen(&first, "session")]);
    revoked(&stack, &["--subject", &subject]);
    revoked(&stack, &["--app", "shop"]);

    let all = events(&redis, 8).await;
    let told: Vec<[&str; 5]> = all
        .iter()
        .map(|event| {
            ["type", "app", "subject", "session", "reason"].map(|name| event.get(name).map_or("", String::as_str))
        })
        .collect();
    let (one, two) = (seen(&first, "session"), seen(&second, "session"));
    let (one, two, who) = (one.as_str(), two.as_str(), subject.as_str());
    assert_eq!(
        told,
        [
            ["login", "shop", who, one, ""],
            ["profile", "shop", who, "", "login"],
            ["login", "shop", who, two, ""],
            ["logout", "shop", who, one, "new_login"],
            ["logout", "shop", who, two, "person"],
            ["revocation", "", "", one, "operator"],
            ["revocation", "", who, "", "operator"],
            ["revocation", "shop", "", "", "operator"],
        ]
    );
    let fields = ["v", "id", "type", "at", "instance", "trace_id", "app", "method", "subject", "session", "reason"];
    for event in &all {
        assert!(event.keys().all(|name| fields.contains(&name.as_str())), "{event:?}");
        assert!(event["v"] == "1" && clock::now().0 - event["at"].parse::<u64>().unwrap() < 120, "{event:?}");
    }

    // An event without acknowledgement is read again; an acknowledged one is not.
    let ids: Vec<(String, Vec<String>)> = redis.ask(&["XRANGE", STREAM, "-", "+"]).await;
    redis.ask::<u64>(&["XACK", STREAM, "crm", &ids[0].0]).await;
    assert_eq!(read(&redis, "0").await.len(), 7);

    // After a revocation the user can log in again in the next second.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    // Redis is down: users notice nothing, and the events are stored when it is back.
    redis.kill();
    let (_, page) = consenting(&stack, "小红").await;
    assert!(stack.metric("wechat_authz_outbox_waiting{item=\"events\"}").await >= 1.0);
    redis.run().await;
    group(&redis).await;
    let late = events(&redis, 1).await;
    assert_eq!((late[0]["type"].as_str(), &late[0]["session"]), ("login", &seen(&page, "session")));
    assert_eq!(late[0]["subject"], seen(&page, "subject"));
    until("an empty outbox", async || {
        let waiting = stack.metric("wechat_authz_outbox_waiting{item=\"events\"}").await;
        (waiting == 0.0).then_some(())
    })
    .await;
    assert_eq!(stack.metric("wechat_authz_outbox_dropped_total{item=\"events\",reason=\"full\"}").await, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recovered_redis_gets_every_event_at_least_once() {
    let redis = Redis::start().await;
    let stack = stack_with(&redis, "", Plan::default()).await;
    group(&redis).await;
    // Redis freezes before or after it executes the command: without a reply, the instance stores the event again with
    // the same id.
    redis.signal("STOP");
    let (_, hung) = person(&stack, "小明").await;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    redis.signal("CONT");
    until("the first", async || (redis.ask::<u64>(&["XLEN", STREAM]).await >= 1).then_some(())).await;
    redis.ask::<String>(&["CONFIG", "SET", "maxmemory", "1"]).await;
    let (mut full, page) = person(&stack, "小红").await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(full.fetch(&stack.url("/")).await.status, 200);
    assert!(stack.metric("wechat_authz_outbox_waiting{item=\"events\"}").await >= 1.0);
    redis.ask::<String>(&["CONFIG", "SET", "maxmemory", "0"]).await;
    let mut told: HashMap<String, String> = HashMap::new();
    until("both", async || {
        told.extend(read(&redis, ">").await.into_iter().map(|event| (event["id"].clone(), event["session"].clone())));
        (told.len() >= 2).then_some(())
    })
    .await;
    let mut sessions: Vec<_> = told.into_values().collect();
    let mut expected = vec![seen(&hung, "session"), seen(&page, "session")];
    sessions.sort();
    expected.sort();
    assert_eq!(sessions, expected);
    until("the records too", async || {
        let waiting = stack.metric("wechat_authz_outbox_waiting{item=\"records\"}").await;
        (waiting == 0.0).then_some(())
    })
    .await;
    until_keys(&redis, ":sessions", 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_writes_what_still_waits_and_subjects_can_be_digests() {
    let redis = Redis::start().await;
    let mut stack = stack_with(&redis, "  events: { subject: digest }\n", Plan::default()).await;
    group(&redis).await;
    let (_, page) = person(&stack, "小明").await;
    stack.signal("TERM");
    assert_eq!(stack.authz_ended(Duration::from_secs(10)).await, Some(0));
    let all = events(&redis, 1).await;
    assert_eq!(all[0]["subject"], wechat_authz::testing::redis::keys::digest_of(&seen(&page, "subject")));
    assert!(!dump(&redis, true).await.contains(&stack.simulator.openid(OA, "小明")));
}

#[tokio::test(flavor = "multi_thread")]
async fn events_that_nobody_reads_slow_no_login_and_are_bounded() {
    let redis = Redis::start().await;
    let stack = stack_with(&redis, "  events: { max: 200000 }\n", Plan::default()).await;
    let fill =
        "for i = 1, ARGV[1] do redis.call('XADD', KEYS[1], '*', 'v', '1', 'type', 'login', 'subject', 'wx:o' .. i) end";
    for _ in 0..24 {
        redis.ask::<::redis::Value>(&["EVAL", fill, "1", "full", "5000"]).await;
    }
    // Alternates between runs with and without a full stream, so that other load on the machine affects both.
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for round in 0..10 {
        let times = if round % 2 == 0 { &mut without } else { &mut with };
        if round % 2 == 1 {
            redis.ask::<String>(&["RENAME", "full", STREAM]).await;
        }
        for _ in 0..10 {
            let begun = Instant::now();
            person(&stack, "小明").await;
            times.push(begun.elapsed());
        }
        if round % 2 == 1 {
            assert!(redis.ask::<u64>(&["XLEN", STREAM]).await > 120_000);
            redis.ask::<String>(&["RENAME", STREAM, "full"]).await;
        }
    }
    let median = |times: &mut Vec<Duration>| {
        times.sort();
        times[times.len() / 2]
    };
    let (with, without) = (median(&mut with), median(&mut without));
    let ratio = with.as_secs_f64() / without.as_secs_f64();
    println!("a login: {without:?}, and with 120,000 unread events {with:?}: {ratio:.2} times");
    // On a busy machine two medians differ by a fifth. Reading the whole stream would take many times as long.
    assert!(ratio < 1.5, "{without:?} and {with:?}");
    redis.ask::<String>(&["RENAME", "full", STREAM]).await;

    // A lower maximum takes effect; each append removes up to a thousand events.
    let stack = stack_with(&redis, "  events: { max: 1000 }\n", Plan::default()).await;
    let shorter = redis.ask::<u64>(&["XLEN", STREAM]).await - 3_000;
    until("a shorter stream", async || {
        person(&stack, "小明").await;
        (redis.ask::<u64>(&["XLEN", STREAM]).await < shorter).then_some(())
    })
    .await;
}

/// Appends `count` events of our format to the stream.
async fn fill(redis: &Redis, count: usize) {
    let fill = "for i = 1, ARGV[1] do redis.call('XADD', KEYS[1], '*', 'v', '1', 'id', 'yQ3k0Zf9hXb1mTzq7cVdAw', \
                'type', 'login', 'at', '1795433100', 'instance', 'K7Q2M9XB', 'trace_id', \
                '4bf92f3577b34da6a3ce929d0e0e4736', 'app', 'shop', 'flow', 'official_account', 'subject', \
                'wx:wx0123456789abcdef:oAbcdefghijklmnopqrst' .. i, 'session', 'yQ3k0Zf9hXb1mTzq7cVdAw') end";
    for begin in (0..count).step_by(5_000) {
        let few = (count - begin).min(5_000).to_string();
        redis.ask::<::redis::Value>(&["EVAL", fill, "1", STREAM, &few]).await;
    }
}

/// The metric series of a consumer group's lag.
fn lag(group: &str) -> String {
    format!("wechat_authz_events_lag{{group=\"{group}\"}}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_of_120000_events_survives_a_login() {
    let redis = Redis::start().await;
    // The default maximum.
    let stack = stack_with(&redis, "", Plan::default()).await;
    group(&redis).await;
    fill(&redis, 120_000).await;
    let first: Entries = redis.ask(&["XRANGE", STREAM, "-", "+", "COUNT", "1"]).await;
    for _ in 0..3 {
        person(&stack, "小明").await;
    }
    until("the logins' events", async || (redis.ask::<u64>(&["XLEN", STREAM]).await == 120_003).then_some(())).await;
    let bytes: f64 = redis.ask(&["MEMORY", "USAGE", STREAM, "SAMPLES", "0"]).await;
    println!("{} bytes for each event", bytes / 120_003.0);
    assert!(bytes / 120_003.0 < 220.0, "docs/en/several-instances.md states less");
    let unread = read(&redis, ">").await;
    assert_eq!((unread.len(), &unread[0]["subject"]), (1_000, &first[0].1[17]));
    until("the lag", async || (stack.metric(&lag("crm")).await == 119_003.0).then_some(())).await;
    let metrics = stack.metrics().await;
    for series in ["wechat_authz_events_trimmed_total 0", "wechat_authz_events_lost_total{group=\"crm\"} 0"] {
        assert!(metrics.lines().any(|line| line == series), "no {series}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_removed_unread_are_counted_and_logged() {
    let redis = Redis::start().await;
    let stack = stack_with(&redis, "  events: { max: 1000 }\n", Plan::default()).await;
    // One group reads nothing, one a part, one everything, and one has a name that cannot be a label.
    for name in ["crm", "part", "all", &"x".repeat(65)] {
        redis.ask::<String>(&["XGROUP", "CREATE", STREAM, name, "0", "MKSTREAM"]).await;
    }
    fill(&redis, 5_000).await;
    let read = |group: &'static str, count: &'static str| {
        let redis = &redis;
        async move {
            let words = ["XREADGROUP", "GROUP", group, "one", "COUNT", count, "STREAMS", STREAM, ">"];
            redis.ask::<::redis::Value>(&words).await;
        }
    };
    read("part", "1500").await;
    read("all", "5000").await;
    until("a shorter stream", async || {
        person(&stack, "小明").await;
        (redis.ask::<u64>(&["XLEN", STREAM]).await < 1_200).then_some(())
    })
    .await;
    let counted = async |name: &str| stack.metric(&format!("wechat_authz_events_{name}")).await;
    let removed = until("the last count", async || {
        let appended = counted("appended_total{event=\"login\"}").await;
        let removed = 5_000.0 + appended - redis.ask::<f64>(&["XLEN", STREAM]).await;
        (counted("trimmed_total").await == removed).then_some(removed)
    })
    .await;
    assert!(removed > 3_500.0);
    let lost = async |group: &str| counted(&format!("lost_total{{group=\"{group}\"}}")).await;
    assert_eq!((lost("crm").await, lost("part").await, lost("other").await), (removed, removed - 1_500.0, removed));
    assert!(!stack.metrics().await.contains("wechat_authz_events_lost_total{group=\"all\"} 1"));
    stack.until_log_holds("events were removed from the stream before this consumer group had read them").await;
    let lines = stack.logged();
    let lines = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let warned: Vec<Value> = lines.filter(|line| line["message"].as_str().unwrap().contains("had read them")).collect();
    let groups: Vec<&str> = warned.iter().map(|line| line["group"].as_str().unwrap()).collect();
    assert!(groups.contains(&"crm") && !groups.contains(&"all"), "{warned:?}");
    assert!(warned.len() <= 6, "must not log a line for each trim: {warned:?}");
    assert!(warned.iter().all(|line| line["level"] == "WARN" && line["lost"].as_u64().unwrap() > 0), "{warned:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stream_stays_bounded_whatever_redis_allows() {
    // Stream nodes that hold more events than one trim removes.
    let redis = Redis::with(&["--stream-node-max-entries", "0", "--stream-node-max-bytes", "0"]).await;
    let stack = stack_with(&redis, "  events: { max: 1000 }\n", Plan::default()).await;
    group(&redis).await;
    fill(&redis, 14_000).await;
    person(&stack, "小明").await;
    until("a shorter stream", async || (redis.ask::<u64>(&["XLEN", STREAM]).await == 13_001).then_some(())).await;
    assert_eq!(stack.metric("wechat_authz_events_lost_total{group=\"crm\"}").await, 1_000.0);
    // A Redis user without permission to trim.
    let redis = Redis::start().await;
    redis.ask::<String>(&["ACL", "SETUSER", "default", "-xtrim"]).await;
    let stack = stack_with(&redis, "  events: { max: 1000 }\n", Plan::default()).await;
    fill(&redis, 5_000).await;
    until("a shorter stream", async || {
        person(&stack, "小明").await;
        (redis.ask::<u64>(&["XLEN", STREAM]).await < 1_200).then_some(())
    })
    .await;
    stack.until_log_holds("redis refuses to count the events that are removed unread").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_event_names_the_trace_of_its_request() {
    let redis = Redis::start().await;
    let stack = stack_with(&redis, "", with_profile()).await;
    group(&redis).await;
    let trace = |digit: &str| digit.repeat(32);
    let traced = |browser: &mut Browser, digit: &str| {
        browser.headers = vec![("traceparent".into(), format!("00-{}-00f067aa0ba902b7-00", trace(digit)))];
    };
    let mut phone = Browser::wechat();
    stack.hand_to(&mut phone, "小明");
    traced(&mut phone, "a");
    let asked = phone.follow(&stack.url("/")).await.pop().unwrap();
    phone.follow(&asked.button()).await;
    // A second login over the first, with another nickname.
    stack.simulator.change_user("小明", |user| user.nickname = "小明明".into());
    traced(&mut phone, "d");
    phone.follow(&stack.url("/_wechat/login?go=1")).await;
    traced(&mut phone, "b");
    let page = phone.ask("POST", &stack.url("/_wechat/logout"), &[("origin", &stack.origin)], "").await;
    assert_eq!(page.status, 200, "{page:?}");
    let revoke = format!("http://{}/sessions/revoke", stack.admin);
    let bearer = format!("Bearer {ADMIN_TOKEN}");
    traced(&mut phone, "c");
    let answer = phone.ask("POST", &revoke, &[("authorization", &bearer)], "{\"app\":\"shop\"}").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let all = events(&redis, 6).await;
    let told: Vec<_> = all.iter().map(|event| (event["type"].as_str(), event["trace_id"].clone())).collect();
    let expected =
        [("login", "a"), ("profile", "d"), ("login", "d"), ("logout", "d"), ("logout", "b"), ("revocation", "c")];
    assert_eq!(told, expected.map(|(kind, digit)| (kind, trace(digit))));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_profile_is_brought_up_to_date_behind_the_persons_back() {
    let redis = Redis::start().await;
    let wechat = format!("  profile_max_age: 1h\n{}", stack::PATIENT);
    let plan = Plan { clock: true, wechat, ..with_profile() };
    let stack = stack_with(&redis, "", plan).await;
    group(&redis).await;
    let (mut phone, page) = consenting(&stack, "小明").await;
    assert_eq!(nickname(&page), "小明");
    let asked = |endpoint: &str| stack.simulator.journal().iter().filter(|entry| entry.path == endpoint).count();
    assert_eq!((asked("/sns/userinfo"), asked("/sns/oauth2/refresh_token")), (1, 0));
    let outcome = async |outcome: &str, count: f64| {
        let series = format!("wechat_authz_profile_refreshes_total{{outcome=\"{outcome}\"}}");
        until(outcome, async || (stack.metric(&series).await >= count).then_some(())).await;
    };

    // More than an hour later the user returns: the request does not wait, and the next token has the new name.
    stack.simulator.change_user("小明", |user| user.nickname = "新名字".into());
    stack.set_clock(3_700);
    assert_eq!(nickname(&passing(&stack, &mut phone).await), "小明");
    outcome("changed", 1.0).await;
    assert_eq!((asked("/sns/userinfo"), asked("/sns/oauth2/refresh_token")), (2, 0));
    stack.set_clock(3_700 + 900);
    let renewed = until("the new name", async || {
        let page = passing(&stack, &mut phone).await;
        (nickname(&page) == "新名字").then_some(page)
    })
    .await;
    assert_eq!(seen(&renewed, "session"), seen(&page, "session"), "the session must stay the same");
    let told = events(&redis, 2).await;
    assert_eq!((told[1]["type"].as_str(), told[1]["reason"].as_str()), ("profile", "refresh"));
    let listed = listed(&stack, &seen(&page, "subject"));
    assert_eq!(listed["profiles"]["shop"]["nickname"], "新名字", "{listed}");

    // WeChat's access token has expired by then: the instance requests a new one.
    stack.set_clock(9_000);
    passing(&stack, &mut phone).await;
    outcome("unchanged", 1.0).await;
    assert_eq!((asked("/sns/userinfo"), asked("/sns/oauth2/refresh_token")), (3, 1));

    // If a request fails, the stored profile is used, and the failure is counted.
    for endpoint in [Endpoint::UserInfo, Endpoint::RefreshToken] {
        (0..20).for_each(|_| stack.simulator.inject(Fault::at(endpoint, Effect::Errcode(48001))));
    }
    stack.set_clock(9_000 + 3_700);
    passing(&stack, &mut phone).await;
    outcome("failed", 1.0).await;
    stack.set_clock(9_000 + 3_700 + 900);
    assert_eq!(nickname(&passing(&stack, &mut phone).await), "新名字");
    // A login without a profile from WeChat also uses the stored one.
    let (_, page) = consenting(&stack, "小明").await;
    assert_eq!(nickname(&page), "新名字");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_keep_wechat_tokens_lets_other_instances_refresh() {
    for (more, expected) in [("  keep_wechat_tokens: true\n", "changed"), ("", "no_token")] {
        let redis = Redis::start().await;
        let wechat = format!("  profile_max_age: 1h\n{}", stack::PATIENT);
        let mut stack = stack_with(&redis, more, Plan { clock: true, wechat, ..with_profile() }).await;
        let (mut phone, _) = consenting(&stack, "小明").await;
        until_keys(&redis, ":profile:shop", 1).await;
        assert_eq!(redis.keys().await.iter().any(|(key, _)| key.ends_with(":wechat:shop")), !more.is_empty());
        stack.kill_authz();
        stack.restart_authz().await;
        stack.simulator.change_user("小明", |user| user.nickname = "新名字".into());
        if !more.is_empty() {
            // WeChat rejects the access token before it expires; the refresh token yields another one.
            stack.simulator.inject(Fault::at(Endpoint::UserInfo, Effect::Errcode(40001)));
        }
        stack.set_clock(3_700);
        passing(&stack, &mut phone).await;
        let outcome = async |outcome: &str| {
            let series = format!("wechat_authz_profile_refreshes_total{{outcome=\"{outcome}\"}}");
            until(outcome, async || (stack.metric(&series).await >= 1.0).then_some(())).await;
        };
        outcome(expected).await;
        if !more.is_empty() {
            // If the refresh token is invalid as well, the instance deletes both.
            stack.simulator.inject(Fault::at(Endpoint::UserInfo, Effect::Errcode(40001)));
            stack.simulator.inject(Fault::at(Endpoint::RefreshToken, Effect::Errcode(42007)));
            stack.set_clock(7_400);
            passing(&stack, &mut phone).await;
            outcome("failed").await;
            until("no tokens", async || {
                (!redis.keys().await.iter().any(|(key, _)| key.ends_with(":wechat:shop"))).then_some(())
            })
            .await;
        }
    }
}

/// Waits until the instance has read the revocations, and returns the page. Only then does a session with an expired
/// token continue.
async fn passing(stack: &Stack, browser: &mut Browser) -> Answer {
    until("the page", async || {
        let page = browser.fetch(&stack.url("/")).await;
        (page.status == 200).then_some(page)
    })
    .await
}

fn key_ring(directory: &Path) -> KeyRing {
    KeyRing::new(fixtures::load_keys(directory))
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_records_are_skipped_and_a_key_rotation_loses_none() {
    let redis = Redis::start().await;
    let mut stack = stack_with(&redis, "", Plan::default()).await;
    let (mut phone, page) = person(&stack, "小明").await;
    let subject = seen(&page, "subject");
    let hash = format!("wechat-authz:1:{{{}}}:sessions", wechat_authz::testing::redis::keys::digest_of(&subject));
    until("the session", async || (redis.ask::<u64>(&["HLEN", &hash]).await == 1).then_some(())).await;

    // Values that a later version, another key or manual changes may leave in Redis.
    let keys = stack.directory.path().join("keys");
    let ring = key_ring(&keys);
    let sealed = |sid: &str, plain: &Value| {
        ring.seal(&format!("{hash}/{sid}"), plain.to_string().as_bytes(), clock::now()).unwrap()
    };
    let now = clock::now().0;
    let good = json!({ "v": 1, "app": "shop", "flow": "website", "created": now, "more": { "than": ["we", "know"] } });
    let later = json!({ "v": 2, "app": "shop", "flow": "website", "created": now });
    let id = |name: &str| format!("{name:A<22}");
    let value = |context: &str, record: &Value| format!("{} {now} {}", now + 1_000, sealed(&id(context), record));
    for (name, value) in [
        ("newer", value("newer", &good)),
        ("version-2", value("version-2", &later)),
        ("moved", value("elsewhere", &good)),
        ("rubbish", "rubbish".to_owned()),
        ("numbers", format!("{} {now} ", u64::MAX)),
    ] {
        redis.ask::<u64>(&["HSET", &hash, &id(name), &value]).await;
    }
    let sids = |list: &Value| -> Vec<String> {
        let mut sids: Vec<_> = list["sessions"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["session"].as_str().unwrap().to_owned())
            .collect();
        sids.sort();
        sids
    };
    let own = seen(&page, "session");
    let expected = |more: &[&String]| {
        let mut all = vec![id("newer"), own.clone()];
        all.extend(more.iter().map(|sid| (*sid).clone()));
        all.sort();
        all
    };
    assert_eq!(sids(&listed(&stack, &subject)), expected(&[]));
    assert_eq!(stack.metric("wechat_authz_redis_records_unreadable_total").await, 4.0);
    assert_eq!(phone.fetch(&stack.url("/")).await.status, 200, "no session may depend on it");

    // A new key encrypts; values of the old key stay readable, at this instance and at a new one.
    std::fs::write(keys.join(keys::file_name(Timestamp(now - 86_400))), keys::generate().unwrap()).unwrap();
    let old: Vec<_> = std::fs::read_dir(&keys).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(old.len(), 2);
    stack.signal("HUP");
    until("both keys", async || (stack.metric("wechat_authz_keys_loaded").await == 2.0).then_some(())).await;
    let (_, second) = person(&stack, "小明").await;
    let second = seen(&second, "session");
    until("the second", async || (redis.ask::<u64>(&["HEXISTS", &hash, &second]).await == 1).then_some(())).await;
    stack.kill_authz();
    stack.restart_authz().await;
    until("all sessions", async || (sids(&listed(&stack, &subject)) == expected(&[&second])).then_some(())).await;

    // A foreign value under our key: everything else works.
    redis.ask::<u64>(&["DEL", &hash]).await;
    redis.ask::<String>(&["SET", &hash, "a string", "PX", "60000"]).await;
    let (mut third, _) = person(&stack, "小明").await;
    assert_eq!(third.fetch(&stack.url("/")).await.status, 200);
    let list = listed(&stack, &subject);
    assert_eq!(list["from"], "this instance alone: Redis refused", "{list}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emptied_redis_lists_a_session_again_when_it_is_used() {
    let redis = Redis::start().await;
    let stack = stack_with(&redis, "", Plan { clock: true, ..Plan::default() }).await;
    let (mut phone, page) = person(&stack, "小明").await;
    let hash = format!(
        "wechat-authz:1:{{{}}}:sessions",
        wechat_authz::testing::redis::keys::digest_of(&seen(&page, "subject"))
    );
    let length = async || redis.ask::<u64>(&["HLEN", &hash]).await;
    until("the session", async || (length().await == 1).then_some(())).await;
    redis.ask::<String>(&["FLUSHALL"]).await;
    stack.set_clock(400);
    assert_eq!(phone.fetch(&stack.url("/")).await.status, 200);
    until("the session again", async || (length().await == 1).then_some(())).await;
    let list = listed(&stack, &seen(&page, "subject"));
    let one = &list["sessions"][0];
    assert_eq!((&one["session"], &one["browser"]), (&json!(seen(&page, "session")), &json!("wechat_ios")));
    assert!(one["seen"].as_u64().unwrap() >= one["created"].as_u64().unwrap() + 390, "{one}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_keeps_all_of_it_too() {
    // Redis opens its cluster port 10,000 above its own port by default, which lies in the range for outgoing
    // connections.
    let bus = harness::free_port().to_string();
    let arguments = ["--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf", "--cluster-port", &bus];
    let redis = Redis::with(&arguments).await;
    redis.ask::<String>(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]).await;
    until("a cluster", async || {
        redis.ask::<String>(&["CLUSTER", "INFO"]).await.contains("cluster_state:ok").then_some(())
    })
    .await;
    let more =
        format!("{}redis:\n  cluster: [\"127.0.0.1:{}\"]\n  keep_wechat_tokens: true\n", stack::UNLIMITED, redis.port);
    let stack = Stack::planned(Plan { more, ..with_profile() }).await;
    std::fs::write(stack.directory.path().join("cli.yaml"), stack.configured()).unwrap();
    group(&redis).await;
    let (_, page) = consenting(&stack, "小明").await;
    let (_, other) = consenting(&stack, "小红").await;
    for end in [":sessions", ":profile:shop", ":wechat:shop"] {
        until_keys(&redis, end, 2).await;
    }
    assert_eq!(events(&redis, 2).await.len(), 2);
    for page in [&page, &other] {
        let list = listed(&stack, &seen(page, "subject"));
        assert_eq!(
            (&list["from"], &list["sessions"][0]["session"]),
            (&json!("all instances"), &json!(seen(page, "session")))
        );
        assert_eq!(list["profiles"]["shop"]["nickname"], nickname(page));
    }
    assert_eq!(stack.metric("wechat_authz_outbox_waiting{item=\"records\"}").await, 0.0);
}

/// The memory in Redis for 20,000 sessions. `docs/en/several-instances.md` contains the number.
#[tokio::test(flavor = "multi_thread")]
async fn sessions_cost_half_a_kilobyte_and_are_limited_per_user() {
    const SESSIONS: u64 = 20_000;
    let redis = Redis::start().await;
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let address = format!("127.0.0.1:{}", redis.port).parse().unwrap();
    let store = Store::new(
        Settings {
            form: Form::One { address, database: 0 },
            user: None,
            password: None,
            tls: false,
            roots: None,
            client: None,
            prefix: "wechat-authz".into(),
            timeout: Duration::from_millis(300),
        },
        RedisMetrics::default(),
    );
    let sealer: Arc<dyn Sealer> = Arc::new(Ring(fixtures::key_ring()));
    let registry = Registry::new(store.clone(), sealer, registry::Settings::default(), OutboxMetrics::default());
    let registry = Arc::new(registry);
    let (keeper, writer) = (store.clone(), Arc::clone(&registry));
    let keeping = tokio::spawn(async move { tokio::join!(keeper.run(), writer.run()) });
    tokio::time::timeout(Duration::from_secs(10), store.connected_since(0)).await.unwrap();
    let now = clock::now();
    let record = |person: u64, session: u64| SessionRecord {
        session: wechat_authz::testing::session_id::SessionId::random(),
        subject: format!("wx:wx0123456789abcdef:oAbCd0123456789-_EFGH{person:08}").parse().unwrap(),
        app: "shop".parse().unwrap(),
        flow: LoginMethod::OfficialAccount,
        created: Timestamp(now.0 + session),
        ends: now + Duration::from_secs(7 * 86_400),
        seen: Timestamp(now.0 + session),
        browser: Some("wechat_android".into()),
    };
    let memory = async || {
        let info: String = redis.ask(&["INFO", "memory"]).await;
        let line = info.lines().find_map(|line| line.strip_prefix("used_memory_dataset:")).unwrap().to_owned();
        line.trim().parse::<u64>().unwrap()
    };
    let keys = async || redis.ask::<u64>(&["DBSIZE"]).await;
    let begun = Instant::now();
    let before = memory().await;
    for person in 0..SESSIONS {
        registry.session_started(record(person, 0));
        if person % 5_000 == 4_999 {
            until("the sessions", async || (keys().await > person).then_some(())).await;
        }
    }
    let took = begun.elapsed();
    let each = (memory().await - before) / SESSIONS;
    let known = redis.ask::<Vec<String>>(&["KEYS", "*:sessions"]).await;
    let usage: u64 = redis.ask(&["MEMORY", "USAGE", &known[0]]).await;

    for person in 0..5_000 {
        let profile = Profile {
            nickname: "一个不短的昵称".into(),
            avatar: "https://thirdwx.qlogo.cn/mmopen/vi_32/Q0j4TwGTfTJ0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQ/132".into(),
        };
        let told = ProfileRecord { profile, unionid: "oUnIo0123456789-_PQRSTuvwxyz".into(), at: now };
        registry.store_profile(&"shop".parse().unwrap(), &record(person, 0).subject, &told);
    }
    let before = memory().await;
    until("the profiles", async || (keys().await >= SESSIONS + 5_000).then_some(())).await;
    let profile = (memory().await - before) / 5_000;
    println!(
        "{SESSIONS} sessions of as many people: {each} bytes each (MEMORY USAGE of one: {usage}), \
         a profile {profile} bytes more; written in {took:?}"
    );
    assert!(each < 512 && usage < 512, "{each} {usage}");
    assert!(profile < 1_024, "{profile}");

    // The list of a user with a thousand sessions contains the last 64.
    (0..1_000).for_each(|session| registry.session_started(record(SESSIONS, session)));
    let hash = format!(
        "wechat-authz:1:{{{}}}:sessions",
        wechat_authz::testing::redis::keys::digest_of(record(SESSIONS, 0).subject.as_str())
    );
    until("the last session", async || {
        let listed = registry.list(&record(SESSIONS, 0).subject, now).await;
        (listed.sessions.first()?.created.0 == now.0 + 999 && redis.ask::<u64>(&["HLEN", &hash]).await == 64)
            .then_some(())
    })
    .await;
    assert_eq!(redis.ask::<i64>(&["TTL", &hash]).await / 86_400, 6);
    keeping.abort();
}

struct Ring(KeyRing);

impl Sealer for Ring {
    fn seal(&self, context: &str, plain: &[u8]) -> Option<String> {
        self.0.seal(context, plain, clock::now())
    }

    fn open(&self, context: &str, sealed: &str, most: usize) -> Option<Vec<u8>> {
        self.0.open(context, sealed, most)
    }
}
