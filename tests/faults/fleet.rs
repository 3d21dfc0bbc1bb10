//! Several instances behind one Envoy, with a WeChat and an application: what a deployment is.

use crate::client::{self, Answer, Browser};
use crate::stack::{ADMIN_TOKEN, OA, OA_SECRET, Upstream, WEB, WEB_SECRET, faketime, free_port, program, root};
use std::fs::File;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tokio::time::timeout;
use wechat_simulator::{App, Options, Simulator};

/// Where one instance listens. A restart takes the same ports.
#[derive(Clone, Debug)]
pub struct Doors {
    pub check: SocketAddr,
    pub pages: SocketAddr,
    pub ops: SocketAddr,
    pub admin: SocketAddr,
}

/// One instance of wechat-authz.
pub struct Instance {
    pub doors: Doors,
    pub child: Option<Child>,
}

/// The deployment.
pub struct Fleet {
    pub simulator: Simulator,
    pub upstream: Upstream,
    pub origin: String,
    pub directory: tempfile::TempDir,
    pub instances: Vec<Instance>,
    envoy: Option<Child>,
    plan: Plan,
}

/// How a deployment differs from the usual one.
#[derive(Default)]
pub struct Plan {
    /// The configuration's `redis:` lines.
    pub redis: String,
    /// Whether instances run with a wall clock that can be set.
    pub clock: bool,
    /// Open files that the last instance may have.
    pub files: Option<u32>,
    /// Whether each instance keeps revocations on its disk.
    pub state: bool,
}

impl Fleet {
    /// `count` instances with these `redis:` lines.
    pub async fn start(count: usize, redis: &str) -> Self {
        Self::planned(count, Plan { redis: redis.to_owned(), ..Plan::default() }).await
    }

    /// `count` instances that differ from the usual ones.
    pub async fn planned(count: usize, plan: Plan) -> Self {
        let options = Options {
            apps: vec![
                App::official_account(OA, OA_SECRET, "127.0.0.1").with_any_port().in_open_platform("one"),
                App::website(WEB, WEB_SECRET, "127.0.0.1").with_any_port().in_open_platform("one"),
            ],
            ..Options::default()
        };
        let directory = tempfile::tempdir().unwrap();
        let keys = directory.path().join("keys");
        assert!(Command::new(program()).arg("keygen").arg(&keys).stdout(Stdio::null()).status().unwrap().success());
        for (file, text) in [("oa.secret", OA_SECRET), ("web.secret", WEB_SECRET), ("admin.token", ADMIN_TOKEN)] {
            std::fs::write(directory.path().join(file), text).unwrap();
        }
        let port = || SocketAddr::from(([127, 0, 0, 1], free_port()));
        let doors = || Doors { check: port(), pages: port(), ops: port(), admin: port() };
        let mut fleet = Self {
            simulator: Simulator::start(options).await.unwrap(),
            upstream: Upstream::start().await,
            origin: format!("http://127.0.0.1:{}", free_port()),
            directory,
            instances: (0..count).map(|_| Instance { doors: doors(), child: None }).collect(),
            envoy: None,
            plan,
        };
        for index in 0..count {
            std::fs::create_dir(fleet.directory.path().join(format!("state-{index}"))).unwrap();
            fleet.launch(index);
        }
        for index in 0..count {
            fleet.until_ready(index).await;
        }
        fleet.start_envoy().await;
        fleet
    }

    pub fn config(&self, index: usize) -> PathBuf {
        self.directory.path().join(format!("config-{index}.yaml"))
    }

    /// The configuration's text for one instance.
    pub fn configuration(&self, index: usize) -> String {
        let Doors { check, pages, ops, admin } = &self.instances[index].doors;
        let state = if self.plan.state { format!("state_directory: ./state-{index}\n") } else { String::new() };
        format!(
            "{state}listen: {{ check: \"{check}\", pages: \"{pages}\", ops: \"{ops}\" }}\n\
             admin: {{ listen: \"{admin}\", token_file: ./admin.token }}\n\
             keys: {{ directory: keys, sign_after: 2s }}\nreload_interval: 1s\n\
             drain: {{ delay: 1s, deadline: 10s }}\n\
             limits: {{ logins_per_client: {{ per_minute: 100000, burst: 100000 }}, \
             new_tokens_per_client: {{ per_minute: 100000, burst: 100000 }} }}\n\
             wechat:\n  open: {sim}\n  api: {sim}\n  breaker: {{ failures: 5, open: 1s }}\n\
             apps:\n- name: shop\n  origin: {origin}\n\
             \x20 official_account: {{ appid: {OA}, secret_file: ./oa.secret }}\n\
             \x20 website: {{ appid: {WEB}, secret_file: ./web.secret }}\n{redis}",
            sim = self.simulator.base_url(),
            origin = self.origin,
            redis = self.plan.redis,
        )
    }

    pub fn log(&self, index: usize) -> PathBuf {
        self.directory.path().join(format!("authz-{index}.log"))
    }

    /// Lines of an instance's log with a level from WARN on, but for the audit's, of which each denial has one.
    pub fn warnings(&self, index: usize) -> Vec<String> {
        let log = std::fs::read_to_string(self.log(index)).unwrap_or_default();
        let lines = log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        let loud =
            lines.filter(|line| matches!(line["level"].as_str(), Some("WARN" | "ERROR")) && line["target"] != "audit");
        loud.map(|line| line["message"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// An instance's process id.
    pub fn pid(&self, index: usize) -> Option<u32> {
        self.instances[index].child.as_ref().map(Child::id)
    }

    /// Lines of an instance's log that hold `text`.
    pub fn lines(&self, index: usize, text: &str) -> usize {
        let log = std::fs::read_to_string(self.log(index)).unwrap_or_default();
        log.lines().filter(|line| line.contains(text)).count()
    }

    /// Starts an instance, and does not wait for it.
    pub fn launch(&mut self, index: usize) {
        std::fs::write(self.config(index), self.configuration(index)).unwrap();
        let out = File::options().create(true).append(true).open(self.log(index)).unwrap();
        let last = index + 1 == self.instances.len();
        let mut command = match self.plan.files.filter(|_| last) {
            Some(files) => {
                let mut command = Command::new("prlimit");
                command.arg(format!("--nofile={files}:{files}")).arg(program());
                command
            }
            None => Command::new(program()),
        };
        if self.plan.clock {
            let file = self.directory.path().join(format!("clock-{index}"));
            std::fs::write(&file, "+0").unwrap();
            command.env("LD_PRELOAD", faketime()).env("FAKETIME_TIMESTAMP_FILE", file);
            command.env("FAKETIME_NO_CACHE", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        }
        let child = command
            .args(["serve", "--config"])
            .arg(self.config(index))
            .stdin(Stdio::null())
            .stdout(out.try_clone().unwrap())
            .stderr(out)
            .spawn()
            .unwrap();
        self.instances[index].child = Some(child);
    }

    /// Sets an instance's wall clock so many seconds from the true time.
    pub fn set_clock(&self, index: usize, offset: i64) {
        let file = self.directory.path().join(format!("clock-{index}"));
        let fresh = file.with_extension("new");
        std::fs::write(&fresh, format!("{offset:+}")).unwrap();
        std::fs::rename(fresh, file).unwrap();
    }

    pub async fn until_ready(&mut self, index: usize) {
        let begun = Instant::now();
        while !self.is_ready(index).await {
            let ended = self.instances[index].child.as_mut().and_then(|child| child.try_wait().unwrap());
            let log = || std::fs::read_to_string(self.log(index)).unwrap_or_default();
            assert!(ended.is_none() && begun.elapsed() < Duration::from_secs(30), "not ready:\n{}", log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub async fn ask_ops(&self, index: usize, path: &str) -> Option<Answer> {
        let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        client::raw(self.instances[index].doors.ops, request.as_bytes()).await
    }

    /// A metric of an instance: the sum of the series that start so.
    pub async fn metric(&self, index: usize, series: &str) -> f64 {
        let Some(answer) = self.ask_ops(index, "/metrics").await else { return f64::NAN };
        let lines = answer.body.lines().filter(|line| line.starts_with(series));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// Whether an instance's `/readyz` says yes.
    pub async fn is_ready(&self, index: usize) -> bool {
        self.ask_ops(index, "/readyz").await.is_some_and(|answer| answer.status == 200)
    }

    /// An instance's resident memory, in MiB.
    pub fn memory(&self, index: usize) -> u64 {
        let id = self.instances[index].child.as_ref().map_or(0, Child::id);
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0 kB");
        line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap_or(0) / 1_024
    }

    pub fn kill(&mut self, index: usize) {
        end(self.instances[index].child.take());
    }

    pub fn signal(&self, index: usize, name: &str) {
        let id = self.instances[index].child.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &id]).status().unwrap().success());
    }

    /// Waits for an instance to end by itself, and gives its exit code.
    pub async fn ended(&mut self, index: usize) -> Option<i32> {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.instances[index].child.as_mut().unwrap().try_wait().unwrap() {
                self.instances[index].child = None;
                return status.code();
            }
            assert!(begun.elapsed() < Duration::from_secs(30), "an instance does not end");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Starts an instance again and waits for it.
    pub async fn restart(&mut self, index: usize) {
        self.launch(index);
        self.until_ready(index).await;
    }

    /// Where each instance listens.
    pub fn doors(&self) -> Vec<Doors> {
        self.instances.iter().map(|instance| instance.doors.clone()).collect()
    }

    /// Revokes at an instance's admin door; its JSON.
    pub async fn revoke(&self, index: usize, what: &serde_json::Value) -> serde_json::Value {
        revoke(&self.instances[index].doors, what).await.expect("an answer to a revocation")
    }

    /// Whether an instance lets this browser pass.
    pub async fn passes(&self, index: usize, browser: &Browser) -> bool {
        passes(&self.instances[index].doors, &self.origin, browser).await
    }

    /// Delivers a callback to one instance, past Envoy.
    pub async fn deliver(&self, index: usize, browser: &Browser, callback: &str) -> Option<Answer> {
        deliver_to(&self.instances[index].doors, browser, callback).await
    }

    /// Starts a login and stops at the callback's address; none where it does not come that far.
    pub async fn to_callback(&self, browser: &mut Browser) -> Option<String> {
        let callback = format!("{}/_wechat/callback?", self.origin);
        let answers = browser.follow_until(&format!("{}/a", self.origin), |next| next.starts_with(&callback)).await;
        answers.last().map(|answer| answer.location().to_owned()).filter(|location| location.starts_with(&callback))
    }

    /// Logs a new browser in; none where that fails.
    pub async fn log_in(&self) -> Option<Browser> {
        log_in(&self.origin).await
    }

    async fn start_envoy(&mut self) {
        let admin = free_port();
        let edge = self.origin.trim_start_matches("http://");
        let mut render = Command::new(root().join("envoy/render"));
        render.args(["--listen", edge, "--app", &self.upstream.address.to_string(), "--admin", &admin.to_string()]);
        for Doors { check, pages, .. } in self.doors() {
            render.args(["--check", &check.to_string(), "--pages", &pages.to_string()]);
        }
        let rendered = render.output().unwrap();
        assert!(rendered.status.success(), "{}", String::from_utf8_lossy(&rendered.stderr));
        let mut text = String::from_utf8(rendered.stdout).unwrap();
        // Each is asked for its readiness at its ops door.
        for Doors { check, pages, ops, .. } in self.doors() {
            for door in [check, pages] {
                let address =
                    format!("address: {{ socket_address: {{ address: {}, port_value: {} }} }}", door.ip(), door.port());
                let plain = format!("endpoint: {{ {address} }}");
                assert_eq!(text.matches(&plain).count(), 1, "{plain}");
                let health = format!("health_check_config: {{ port_value: {} }}", ops.port());
                text = text.replace(&plain, &format!("endpoint: {{ {address}, {health} }}"));
            }
        }
        let health = "\n    health_checks:\n    - { timeout: 0.5s, interval: 0.25s, no_traffic_interval: 0.25s, \
             unhealthy_threshold: 1, healthy_threshold: 1, http_health_check: { path: /readyz } }\n    \
             connect_timeout: 2s\n";
        assert_eq!(text.matches("\n    connect_timeout: 2s\n").count(), 2);
        text = text.replace("\n    connect_timeout: 2s\n", health);
        let file = self.directory.path().join("envoy.yaml");
        std::fs::write(&file, text).unwrap();
        let out = File::create(self.directory.path().join("envoy.log")).unwrap();
        let child = Command::new(root().join("target/envoy/1.40.0/envoy"))
            .args(["--disable-hot-restart", "--concurrency", "1", "-l", "error", "-c"])
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(out.try_clone().unwrap())
            .stderr(out)
            .spawn()
            .unwrap();
        self.envoy = Some(child);
        let begun = Instant::now();
        while self.log_in().await.is_none() {
            assert!(begun.elapsed() < Duration::from_secs(30), "nobody can log in");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

pub const SESSION: &str = "__Host-wechat_session";

/// The longest wait for an instance's own answer, past Envoy.
const PATIENCE: Duration = Duration::from_secs(5);

/// Revokes at these doors; the answer's data, none where no good answer came.
pub async fn revoke(doors: &Doors, what: &serde_json::Value) -> Option<serde_json::Value> {
    let body = what.to_string();
    let request = format!(
        "POST /sessions/revoke HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {ADMIN_TOKEN}\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    let answer = timeout(PATIENCE, client::raw(doors.admin, request.as_bytes())).await.ok()??;
    (answer.status == 200).then(|| answer.json()["data"].clone())
}

/// Whether an instance lets this browser pass, asked at its check door as Envoy asks.
pub async fn passes(doors: &Doors, origin: &str, browser: &Browser) -> bool {
    let request = format!(
        "GET /a HTTP/1.1\r\nhost: {}\r\ncookie: {}\r\nx-auth-client-ip: 127.0.0.1\r\nuser-agent: {}\r\n\
         connection: close\r\n\r\n",
        origin.trim_start_matches("http://"),
        cookies(browser),
        browser.user_agent,
    );
    let answer = timeout(PATIENCE, client::raw(doors.check, request.as_bytes())).await.ok().flatten();
    answer.is_some_and(|answer| answer.status == 200)
}

/// Delivers a callback to these doors.
pub async fn deliver_to(doors: &Doors, browser: &Browser, callback: &str) -> Option<Answer> {
    let url = url::Url::parse(callback).unwrap();
    let request = format!(
        "GET {}?{} HTTP/1.1\r\nhost: {}:{}\r\ncookie: {}\r\nx-auth-client-ip: 127.0.0.1\r\nuser-agent: {}\r\n\
         connection: close\r\n\r\n",
        url.path(),
        url.query().unwrap(),
        url.host_str().unwrap(),
        url.port().unwrap(),
        cookies(browser),
        browser.user_agent,
    );
    client::raw(doors.pages, request.as_bytes()).await
}

/// Logs a new browser in at `origin`; none where that fails.
pub async fn log_in(origin: &str) -> Option<Browser> {
    log_in_with(Browser::wechat(), origin).await
}

/// Logs this browser in at `origin`; none where that fails.
pub async fn log_in_with(mut browser: Browser, origin: &str) -> Option<Browser> {
    let mut url = format!("{origin}/a");
    for _ in 0..8 {
        let answer = browser.try_get(&url).await?;
        if answer.status == 200 {
            return browser.cookie(SESSION).is_some().then_some(browser);
        }
        if !(300..400).contains(&answer.status) {
            return None;
        }
        url = url::Url::parse(&url).ok()?.join(answer.location()).ok()?.to_string();
    }
    None
}

fn cookies(browser: &Browser) -> String {
    let pairs = browser.jar.iter().map(|cookie| format!("{}={}", cookie.name, cookie.value));
    pairs.collect::<Vec<_>>().join("; ")
}

/// Ends a process that we started, by its id.
pub fn end(child: Option<Child>) {
    if let Some(mut child) = child {
        let _ = child.kill();
        let _ = child.wait();
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        end(self.envoy.take());
        for instance in &mut self.instances {
            end(instance.child.take());
        }
        if std::thread::panicking() {
            for index in 0..self.instances.len() {
                let log = std::fs::read_to_string(self.log(index)).unwrap_or_default();
                let tail: Vec<&str> = log.lines().rev().take(8).collect();
                eprintln!("instance {index}, newest first:\n{}", tail.join("\n"));
            }
        }
    }
}
