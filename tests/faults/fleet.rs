//! A deployment: several instances behind one Envoy, with a WeChat simulator and an application.

use harness::SESSION;
use harness::client::{self, Answer, Browser};
use harness::instance::Instance;
use harness::process::Process;
use harness::upstream::Upstream;
use harness::{ADMIN_TOKEN, OA, WEB, directory_with_secrets, envoy, free_port, wechat};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::time::timeout;
use wechat_simulator::Simulator;

/// The listeners of one instance. A restart uses the same ports.
#[derive(Clone, Debug)]
pub struct Listeners {
    pub check: SocketAddr,
    pub pages: SocketAddr,
    pub ops: SocketAddr,
    pub admin: SocketAddr,
}

/// The deployment.
pub struct Fleet {
    pub simulator: Simulator,
    pub upstream: Upstream,
    pub origin: String,
    pub directory: tempfile::TempDir,
    /// The listeners of each instance.
    pub listeners: Vec<Listeners>,
    pub instances: Vec<Instance>,
    envoy: Option<Process>,
    plan: Plan,
}

/// How a deployment differs from the default.
#[derive(Default)]
pub struct Plan {
    /// The configuration's `redis:` lines.
    pub redis: String,
    /// Whether the test can set the wall clock of the instances.
    pub clock: bool,
    /// Maximum open files of the last instance.
    pub files: Option<u32>,
    /// Whether each instance stores revocations on its disk.
    pub state: bool,
}

impl Fleet {
    /// `count` instances with these `redis:` lines.
    pub async fn start(count: usize, redis: &str) -> Self {
        Self::planned(count, Plan { redis: redis.to_owned(), ..Plan::default() }).await
    }

    /// `count` instances with these options.
    pub async fn planned(count: usize, plan: Plan) -> Self {
        let directory = directory_with_secrets();
        let port = || SocketAddr::from(([127, 0, 0, 1], free_port()));
        let listeners = || Listeners { check: port(), pages: port(), ops: port(), admin: port() };
        let instance = |index: usize| {
            let mut instance = Instance::new(directory.path(), &format!("-{index}"));
            instance.files = plan.files.filter(|_| index + 1 == count);
            if plan.clock { instance.with_clock() } else { instance }
        };
        let mut fleet = Self {
            simulator: Simulator::start(wechat()).await.unwrap(),
            upstream: Upstream::start().await,
            origin: format!("http://127.0.0.1:{}", free_port()),
            listeners: (0..count).map(|_| listeners()).collect(),
            instances: (0..count).map(instance).collect(),
            directory,
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

    /// The configuration of one instance.
    pub fn configuration(&self, index: usize) -> String {
        let Listeners { check, pages, ops, admin } = &self.listeners[index];
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

    /// Lines in an instance's log at WARN or above, except those of the audit log, which has one per denial.
    pub fn warnings(&self, index: usize) -> Vec<String> {
        let log = self.instances[index].logged();
        let lines = log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        let loud =
            lines.filter(|line| matches!(line["level"].as_str(), Some("WARN" | "ERROR")) && line["target"] != "audit");
        loud.map(|line| line["message"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// An instance's process id.
    pub fn pid(&self, index: usize) -> Option<u32> {
        self.instances[index].process().map(Process::id)
    }

    /// Lines in an instance's log that contain `text`.
    pub fn lines(&self, index: usize, text: &str) -> usize {
        let log = self.instances[index].logged();
        log.lines().filter(|line| line.contains(text)).count()
    }

    /// Starts an instance without waiting for it.
    pub fn launch(&mut self, index: usize) {
        let configuration = self.configuration(index);
        let instance = &mut self.instances[index];
        std::fs::write(&instance.config, configuration).unwrap();
        instance.start();
    }

    pub async fn until_ready(&mut self, index: usize) {
        let begun = Instant::now();
        while !self.is_ready(index).await {
            self.instances[index].assert_alive();
            let late = begun.elapsed() > Duration::from_secs(30);
            assert!(!late, "not ready:\n{}", self.instances[index].logged());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub async fn ask_ops(&self, index: usize, path: &str) -> Option<Answer> {
        let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        client::raw(self.listeners[index].ops, request.as_bytes()).await
    }

    /// A metric of an instance: the sum of the series with this prefix.
    pub async fn metric(&self, index: usize, series: &str) -> f64 {
        let Some(answer) = self.ask_ops(index, "/metrics").await else { return f64::NAN };
        let lines = answer.body.lines().filter(|line| line.starts_with(series));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// Whether `/readyz` of an instance returns success.
    pub async fn is_ready(&self, index: usize) -> bool {
        self.ask_ops(index, "/readyz").await.is_some_and(|answer| answer.status == 200)
    }

    /// An instance's resident memory, in MiB.
    pub fn memory(&self, index: usize) -> u64 {
        self.instances[index].process().and_then(|process| process.memory("VmRSS")).unwrap_or(0)
    }

    /// Starts an instance again and waits until it is ready.
    pub async fn restart(&mut self, index: usize) {
        self.launch(index);
        self.until_ready(index).await;
    }

    /// Revokes at an instance's admin listener; returns its JSON.
    pub async fn revoke(&self, index: usize, what: &serde_json::Value) -> serde_json::Value {
        revoke(&self.listeners[index], what).await.expect("an answer to a revocation")
    }

    /// Whether an instance allows this browser.
    pub async fn passes(&self, index: usize, browser: &Browser) -> bool {
        passes(&self.listeners[index], &self.origin, browser).await
    }

    /// Delivers a callback to one instance directly, not through Envoy.
    pub async fn deliver(&self, index: usize, browser: &Browser, callback: &str) -> Option<Answer> {
        deliver_to(&self.listeners[index], browser, callback).await
    }

    /// Starts a login and stops before the callback; `None` if the login fails earlier.
    pub async fn to_callback(&self, browser: &mut Browser) -> Option<String> {
        let callback = format!("{}/_wechat/callback?", self.origin);
        let answers = browser.follow_until(&format!("{}/a", self.origin), |next| next.starts_with(&callback)).await;
        answers.last().map(|answer| answer.location().to_owned()).filter(|location| location.starts_with(&callback))
    }

    /// Logs in a new browser; `None` if that fails.
    pub async fn log_in(&self) -> Option<Browser> {
        log_in(&self.origin).await
    }

    async fn start_envoy(&mut self) {
        let admin = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let edge = self.origin.trim_start_matches("http://");
        let mut render = envoy::renderer();
        render.args([
            "--listen",
            edge,
            "--app",
            &self.upstream.address.to_string(),
            "--admin",
            &admin.port().to_string(),
        ]);
        for Listeners { check, pages, .. } in &self.listeners {
            render.args(["--check", &check.to_string(), "--pages", &pages.to_string()]);
        }
        let mut text = envoy::render(&mut render);
        // Envoy checks the readiness of each instance at its ops listener.
        for Listeners { check, pages, ops, .. } in &self.listeners {
            for listener in [check, pages] {
                let address = format!(
                    "address: {{ socket_address: {{ address: {}, port_value: {} }} }}",
                    listener.ip(),
                    listener.port()
                );
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
        self.envoy = Some(envoy::start(&text, admin, self.directory.path()).await);
        let begun = Instant::now();
        while self.log_in().await.is_none() {
            assert!(begun.elapsed() < Duration::from_secs(30), "no login succeeds");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// The time-out for a request to an instance without Envoy.
const PATIENCE: Duration = Duration::from_secs(5);

/// Revokes at these listeners; returns the answer's data, `None` without a successful answer.
pub async fn revoke(listeners: &Listeners, what: &serde_json::Value) -> Option<serde_json::Value> {
    let body = what.to_string();
    let request = format!(
        "POST /sessions/revoke HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {ADMIN_TOKEN}\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    let answer = timeout(PATIENCE, client::raw(listeners.admin, request.as_bytes())).await.ok()??;
    (answer.status == 200).then(|| answer.json()["data"].clone())
}

/// Whether an instance allows this browser; sends the check to its check listener as Envoy does.
pub async fn passes(listeners: &Listeners, origin: &str, browser: &Browser) -> bool {
    let request = format!(
        "GET /a HTTP/1.1\r\nhost: {}\r\ncookie: {}\r\nx-auth-client-ip: 127.0.0.1\r\nuser-agent: {}\r\n\
         connection: close\r\n\r\n",
        origin.trim_start_matches("http://"),
        cookies(browser),
        browser.user_agent,
    );
    let answer = timeout(PATIENCE, client::raw(listeners.check, request.as_bytes())).await.ok().flatten();
    answer.is_some_and(|answer| answer.status == 200)
}

/// Delivers a callback to these listeners.
pub async fn deliver_to(listeners: &Listeners, browser: &Browser, callback: &str) -> Option<Answer> {
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
    client::raw(listeners.pages, request.as_bytes()).await
}

/// Logs in a new browser at `origin`; `None` if that fails.
pub async fn log_in(origin: &str) -> Option<Browser> {
    log_in_with(Browser::wechat(), origin).await
}

/// Logs in this browser at `origin`; `None` if that fails.
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

impl Drop for Fleet {
    fn drop(&mut self) {
        // Stops the processes so that their logs are complete.
        self.envoy = None;
        self.instances.iter_mut().for_each(Instance::kill);
        if std::thread::panicking() {
            for index in 0..self.instances.len() {
                let log = self.instances[index].logged();
                let tail: Vec<&str> = log.lines().rev().take(8).collect();
                eprintln!("instance {index}, newest first:\n{}", tail.join("\n"));
            }
        }
    }
}
