//! The stack of one test: simulator, application, wechat-authz and Envoy on free ports.
//!
//! Dropping it kills its processes by id and, if the test has passed, searches the whole logs for secrets.

use crate::client::{Answer, Browser, Cookie};
use crate::instance::Instance;
use crate::process::Process;
use crate::upstream::Upstream;
use crate::{ADMIN_TOKEN, OA, OA_SECRET, WEB, WEB_SECRET, directory_with_secrets, envoy, free_port, program, wechat};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};
use wechat_simulator::{Options, Simulator};

/// For `Plan::more`: login limits that no test reaches.
pub const UNLIMITED: &str = "limits: { logins_per_client: { per_minute: 100000, burst: 100000 } }\n";

/// For `Plan::wechat`: a breaker that stays closed.
pub const PATIENT: &str = "  breaker: { failures: 1000, open: 1s }\n";

/// The differences from the usual stack.
pub struct Plan {
    /// The Official Account's scope.
    pub scope: &'static str,
    /// More lines for the application in the configuration, indented by two; `EDGE_PORT` becomes Envoy's port.
    pub app: String,
    /// More top-level lines for the configuration.
    pub more: String,
    /// Whether Envoy checks over HTTP/2.
    pub h2c: bool,
    /// Whether Envoy checks over a Unix socket.
    pub unix: bool,
    /// Lines under `wechat:` beside its hosts, indented by two.
    pub wechat: String,
    /// Whether Envoy runs `fast.yaml` instead of `strict.yaml`.
    pub fast: bool,
    /// Paths that `fast.yaml` always checks, besides those that the policy restricts.
    pub asked: &'static [&'static str],
    /// Replaces text in Envoy's configuration; `EDGE_PORT` becomes its port.
    pub envoy: Vec<(String, String)>,
    /// Whether Envoy runs as in a pod: with a second listener for probes and Prometheus (`ops.yaml`) and a drain.
    pub pod: bool,
    /// Whether wechat-authz has a state directory, which keeps revocations.
    pub state: bool,
    /// Whether the test sets wechat-authz's wall clock ([`Stack::set_clock`]).
    pub clock: bool,
    /// wechat-authz's limit of open files; by default the one of this process.
    pub files: Option<u32>,
    /// Environment variables of wechat-authz.
    pub environment: Vec<(&'static str, String)>,
    /// More arguments for `envoy/render`.
    pub render: Vec<String>,
    /// Writes Envoy's configuration instead of a shipped one.
    pub derived: Option<Derived>,
    /// Changes the simulator before it starts.
    pub simulator: fn(&mut Options),
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            scope: "snsapi_base",
            app: String::new(),
            more: String::new(),
            h2c: false,
            unix: false,
            wechat: String::new(),
            fast: false,
            asked: &["/admin"],
            envoy: Vec::new(),
            pod: false,
            state: false,
            clock: false,
            files: None,
            environment: Vec::new(),
            render: Vec::new(),
            derived: None,
            simulator: |_| (),
        }
    }
}

impl Plan {
    /// The usual stack, behind Envoy with `strict.yaml`.
    pub fn strict() -> Self {
        Self::default()
    }

    /// The usual stack, behind Envoy with `fast.yaml`.
    pub fn fast() -> Self {
        Self { fast: true, ..Self::default() }
    }
}

/// Writes an Envoy configuration for the addresses of a stack.
pub type Derived = Box<dyn Fn(&Addresses) -> String + Send + Sync>;

/// The addresses that an Envoy needs.
pub struct Addresses {
    /// Its listener.
    pub edge: SocketAddr,
    /// Its admin listener.
    pub admin: SocketAddr,
    /// The application.
    pub app: SocketAddr,
    /// The check listener, on TCP.
    pub check: SocketAddr,
    /// The pages listener.
    pub pages: SocketAddr,
}

pub struct Stack {
    pub simulator: Simulator,
    pub upstream: Upstream,
    /// The origin that a browser opens: `http://127.0.0.1:PORT`.
    pub origin: String,
    pub edge: SocketAddr,
    pub check: String,
    pub pages: SocketAddr,
    pub ops: SocketAddr,
    pub admin: SocketAddr,
    /// Envoy's admin port.
    pub envoy_admin: SocketAddr,
    /// Envoy's second listener, if `Plan::pod` is set.
    pub envoy_ops: SocketAddr,
    pub directory: tempfile::TempDir,
    authz: Instance,
    envoy: Option<Process>,
    /// More Envoys in front of the same wechat-authz.
    others: Vec<Process>,
    plan: Plan,
    /// Values that no log may contain, besides those of the simulator.
    canaries: Mutex<Vec<String>>,
}

impl Stack {
    /// Starts the usual stack.
    pub async fn start() -> Self {
        Self::planned(Plan::default()).await
    }

    /// Starts a stack by this plan.
    pub async fn planned(plan: Plan) -> Self {
        let edge_port = free_port();
        let edge = SocketAddr::from(([127, 0, 0, 1], edge_port));
        let mut options = wechat();
        (plan.simulator)(&mut options);
        let simulator = Simulator::start(options).await.unwrap();
        let directory = directory_with_secrets();
        let mut authz = Instance::new(directory.path(), "");
        authz.files = plan.files;
        authz.environment.clone_from(&plan.environment);
        if plan.clock {
            authz = authz.with_clock();
        }
        if plan.state {
            std::fs::create_dir(directory.path().join("state")).unwrap();
        }
        let mut stack = Self {
            upstream: Upstream::start().await,
            origin: format!("http://127.0.0.1:{edge_port}"),
            edge,
            check: String::new(),
            pages: edge,
            ops: edge,
            admin: edge,
            envoy_admin: SocketAddr::from(([127, 0, 0, 1], free_port())),
            envoy_ops: SocketAddr::from(([127, 0, 0, 1], free_port())),
            authz,
            envoy: None,
            others: Vec::new(),
            directory,
            simulator,
            plan,
            canaries: Mutex::default(),
        };
        let any = "127.0.0.1:0".to_owned();
        let socket = format!("unix:{}", stack.directory.path().join("check.sock").display());
        let check = if stack.plan.unix { socket } else { any.clone() };
        std::fs::write(stack.config(), stack.configuration(&[&check, &any, &any, &any])).unwrap();
        stack.start_authz().await;
        stack.start_envoy().await;
        stack
    }

    pub fn config(&self) -> PathBuf {
        self.authz.config.clone()
    }

    /// The text of the configuration with these listeners: check, pages, ops, admin.
    pub fn configuration(&self, listeners: &[&str; 4]) -> String {
        let Plan { scope, app, more, wechat, state, .. } = &self.plan;
        let [check, pages, ops, admin] = listeners;
        let state = if *state { "state_directory: ./state\n" } else { "" };
        format!(
            "listen: {{ check: \"{check}\", pages: \"{pages}\", ops: \"{ops}\" }}\n\
             admin: {{ listen: \"{admin}\", token_file: ./admin.token }}\n\
             keys: {{ directory: keys }}\nreload_interval: 1s\nlog: {{ level: trace }}\n{state}\
             wechat:\n  open: {sim}\n  api: {sim}\n{wechat}\
             apps:\n- name: shop\n  origin: {origin}\n\
             \x20 official_account: {{ appid: {OA}, secret_file: ./oa.secret, scope: {scope} }}\n\
             \x20 website: {{ appid: {WEB}, secret_file: ./web.secret }}\n{app}{more}",
            sim = self.simulator.base_url(),
            origin = self.origin,
        )
        .replace("EDGE_PORT", &self.edge.port().to_string())
    }

    /// The text of the configuration with the addresses in use.
    pub fn configured(&self) -> String {
        let [pages, ops, admin] = [self.pages, self.ops, self.admin].map(|address| address.to_string());
        self.configuration(&[&self.check, &pages, &ops, &admin])
    }

    /// Starts wechat-authz and waits until it serves.
    pub async fn start_authz(&mut self) {
        let before = self.authz.logged().len();
        self.authz.start();
        let serving = self.authz.until_logged("serving", before).await;
        let address = |listener: &str| serving[listener].as_str().unwrap_or_else(|| panic!("{serving}")).to_owned();
        self.check = address("check");
        self.pages = address("pages").parse().unwrap();
        self.ops = address("ops").parse().unwrap();
        self.admin = address("admin").parse().unwrap();
    }

    /// Sets wechat-authz's wall clock to this offset from the real time, in seconds.
    pub fn set_clock(&self, offset: i64) {
        self.authz.set_clock(offset);
    }

    /// Waits for a line with this message after `offset` in wechat-authz's log.
    pub async fn until_logged(&mut self, message: &str, offset: usize) -> serde_json::Value {
        self.authz.until_logged(message, offset).await
    }

    pub fn authz_log(&self) -> PathBuf {
        self.authz.log.clone()
    }

    /// The text of wechat-authz's log.
    pub fn logged(&self) -> String {
        self.authz.logged()
    }

    async fn start_envoy(&mut self) {
        self.envoy = Some(self.envoy_at(self.edge, self.envoy_admin, self.plan.fast).await);
    }

    /// Starts one more Envoy with `fast.yaml` or `strict.yaml`, and returns the address of its listener.
    pub async fn another_envoy(&mut self, fast: bool) -> SocketAddr {
        let edge = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let admin = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let envoy = self.envoy_at(edge, admin, fast).await;
        self.others.push(envoy);
        edge
    }

    /// A shipped configuration for this stack.
    fn shipped(&self, edge: SocketAddr, admin: SocketAddr, fast: bool) -> String {
        let mut render = envoy::renderer();
        render.args(["--listen", &edge.to_string(), "--app", &self.upstream.address.to_string()]);
        render.args(["--check", &self.check, "--pages", &self.pages.to_string(), "--admin", &admin.port().to_string()]);
        if self.plan.pod && edge == self.edge {
            render.args(["--ops", &self.envoy_ops.to_string(), "--ops-listener", &self.ops.to_string()]);
        }
        if self.plan.h2c {
            render.arg("--h2c");
        }
        if fast {
            render.arg("--fast").arg("--config").arg(self.config()).arg("--program").arg(program());
            render.args(self.plan.asked.iter().map(|path| format!("--ask={path}")));
        }
        render.args(&self.plan.render);
        let mut text = envoy::render(&mut render);
        for (from, to) in &self.plan.envoy {
            assert!(text.contains(from), "Envoy's configuration has no {from:?}");
            text = text.replace(from, &to.replace("EDGE_PORT", &self.edge.port().to_string()));
        }
        text
    }

    async fn envoy_at(&self, edge: SocketAddr, admin: SocketAddr, fast: bool) -> Process {
        let text = match &self.plan.derived {
            Some(derived) => {
                let check = self.check.parse().unwrap();
                derived(&Addresses { edge, admin, app: self.upstream.address, check, pages: self.pages })
            }
            None => self.shipped(edge, admin, fast),
        };
        envoy::start(&text, admin, self.directory.path()).await
    }

    pub fn envoy_log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("envoy.log")).unwrap_or_default()
    }

    /// wechat-authz's process.
    pub fn authz(&self) -> &Process {
        self.authz.process().expect("wechat-authz must be running")
    }

    /// wechat-authz's process id.
    pub fn authz_pid(&self) -> u32 {
        self.authz().id()
    }

    /// Sends wechat-authz a signal by name.
    pub fn signal(&self, name: &str) {
        self.authz.signal(name);
    }

    /// Stops wechat-authz until the signal `CONT`.
    pub async fn stop_authz(&self) {
        self.signal("STOP");
        // The signal arrives later, and a thread can complete a response before it stops.
        let tasks = format!("/proc/{}/task", self.authz_pid());
        let stopped = |task: std::fs::DirEntry| {
            let stat = std::fs::read_to_string(task.path().join("stat")).unwrap();
            stat.rsplit(')').next().unwrap().trim_start().starts_with('T')
        };
        while !std::fs::read_dir(&tasks).unwrap().all(|task| stopped(task.unwrap())) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Sends Envoy a signal by name.
    pub fn signal_envoy(&self, name: &str) {
        self.envoy.as_ref().unwrap().signal(name);
    }

    /// Waits until wechat-authz exits and returns its exit code.
    pub async fn authz_ended(&mut self, within: Duration) -> Option<i32> {
        self.authz.ended(within).await
    }

    /// Waits until Envoy exits.
    pub async fn envoy_ended(&mut self, within: Duration) {
        self.envoy.take().unwrap().ended(within).await;
    }

    /// Whether Envoy runs `fast.yaml`.
    pub fn is_fast(&self) -> bool {
        self.plan.fast
    }

    /// The number of checks that wechat-authz has answered.
    pub async fn asked(&self) -> u64 {
        let text = self.metrics().await;
        let counts = text.lines().filter(|line| line.starts_with("wechat_authz_checks_total{"));
        counts.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
    }

    /// Kills wechat-authz as a crash does.
    pub fn kill_authz(&mut self) {
        self.authz.kill();
    }

    /// Starts wechat-authz again at the same addresses.
    pub async fn restart_authz(&mut self) {
        std::fs::write(self.config(), self.configured()).unwrap();
        self.start_authz().await;
    }

    /// The URL of a path of the application.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.origin)
    }

    /// The text of `/metrics`.
    pub async fn metrics(&self) -> String {
        Browser::desktop().fetch(&format!("http://{}/metrics", self.ops)).await.body
    }

    /// The value of the first series whose line starts with `series`, or 0.
    pub async fn metric(&self, series: &str) -> f64 {
        let text = self.metrics().await;
        let line = text.lines().find(|line| line.starts_with(series) && !line.starts_with('#'));
        line.map_or(0.0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
    }

    /// Logs a browser in at `path` and returns the response of the application.
    pub async fn log_in(&self, browser: &mut Browser, path: &str) -> Answer {
        let answers = browser.follow(&self.url(path)).await;
        let last = answers.last().unwrap().clone();
        assert_eq!(last.status, 200, "{last:?}");
        assert!(last.seen("x-wechat-subject").is_some_and(|subject| !subject.is_empty()), "{last:?}");
        self.remember(browser);
        last
    }

    /// Logs a browser of WeChat in silently, compares each hop, and returns all responses.
    pub async fn log_in_by_each_hop(&self, browser: &mut Browser, path: &str) -> Vec<Answer> {
        let answers = browser.follow(&self.url(path)).await;
        let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
        assert_eq!(statuses, [302, 302, 302, 302, 303, 200], "{answers:?}");
        self.remember(browser);
        let home = answers.last().unwrap();
        assert_eq!(home.json()["target"], path);
        assert_eq!(home.seen("x-wechat-openid"), Some(self.simulator.openid(OA, "小明")));
        answers
    }

    /// Asserts that after the end of its token a script is served and one redirect renews a page. So it is if a
    /// `Set-Cookie` on an allow does not reach the browser.
    pub async fn is_renewed_by_one_redirect(&self, browser: &mut Browser) {
        let data = browser.fetch(&self.url("/api/orders")).await;
        assert_eq!((data.status, data.set_cookies().count()), (200, 1), "only the application's own cookie: {data:?}");
        let answers = browser.follow(&self.url("/a?b=c")).await;
        self.remember(browser);
        let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
        assert_eq!(statuses, [302, 303, 200], "{answers:?}");
        assert_eq!(answers[0].location(), self.url("/_wechat/renew?return_to=%2Fa%3Fb%3Dc"));
        assert_eq!(answers[2].json()["target"], "/a?b=c");
    }

    /// Makes a user of the simulator the user of this browser.
    pub fn hand_to(&self, browser: &mut Browser, user: &str) {
        let host = self.simulator.address().to_string();
        let value = url::form_urlencoded::byte_serialize(user.as_bytes()).collect();
        browser.jar.retain(|cookie| cookie.name != "sim_user");
        browser.jar.push(Cookie { name: "sim_user".into(), value, path: "/".into(), host });
    }

    /// Sends an action of a user's phone for a QR code: `scan`, `confirm`, `cancel` or `expire`.
    pub async fn phone(&self, user: &str, uuid: &str, verb: &str) -> Answer {
        let mut phone = Browser::wechat();
        self.hand_to(&mut phone, user);
        phone.ask("POST", &format!("{}/_sim/qr/{uuid}/{verb}", self.simulator.base_url()), &[], "").await
    }

    /// Starts a login at `path` and returns the URL of the callback without opening it.
    pub async fn to_callback(&self, browser: &mut Browser, path: &str) -> String {
        let callback = self.url("/_wechat/callback?");
        let last = browser.follow_until(&self.url(path), |next| next.starts_with(&callback)).await.pop().unwrap();
        assert!(last.location().starts_with(&callback), "{last:?}");
        last.location().to_owned()
    }

    /// Waits until the simulator has received this many code exchanges.
    pub async fn until_exchanged(&self, count: usize) {
        let begun = Instant::now();
        while self.exchanges().len() < count {
            assert!(begun.elapsed() < Duration::from_secs(10), "{} of {count} exchanges", self.exchanges().len());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until wechat-authz's log contains this text. Lines are written shortly after the response.
    pub async fn until_log_holds(&self, text: &str) {
        let begun = Instant::now();
        while !self.logged().contains(text) {
            assert!(begun.elapsed() < Duration::from_secs(10), "no {text:?} in\n{}", self.logged());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Replaces `from` by `to` in the configuration and restarts wechat-authz.
    pub async fn reconfigured(&mut self, from: &str, to: &str) {
        let text = self.configured();
        assert!(text.contains(from), "the configuration has no {from:?}");
        self.kill_authz();
        std::fs::write(self.config(), text.replace(from, to)).unwrap();
        self.start_authz().await;
    }

    /// Adds a browser's cookies to the values that no log may contain.
    pub fn remember(&self, browser: &Browser) {
        let mut canaries = self.canaries.lock().unwrap();
        canaries.extend(browser.jar.iter().filter(|cookie| cookie.value.len() > 20).map(|cookie| cookie.value.clone()));
    }

    /// The code exchanges that the simulator has received.
    pub fn exchanges(&self) -> Vec<wechat_simulator::Entry> {
        let journal = self.simulator.journal();
        journal.into_iter().filter(|entry| entry.path == "/sns/oauth2/access_token").collect()
    }

    /// Values that no log and no trace may contain.
    pub fn forbidden(&self) -> Vec<String> {
        let mut forbidden = self.simulator.issued_secrets();
        forbidden.extend([OA_SECRET, WEB_SECRET, ADMIN_TOKEN].map(str::to_owned));
        forbidden.extend(self.canaries.lock().unwrap().iter().cloned());
        for user in ["小明", "小红", "follower", "emoji", "odd", "snapshot"] {
            forbidden.extend([OA, WEB].map(|appid| self.simulator.openid(appid, user)));
            forbidden.extend([OA, WEB].into_iter().filter_map(|appid| self.simulator.unionid(appid, user)));
        }
        forbidden.extend(["code=", "state=", "return_to=", "__Host-wechat_session="].map(str::to_owned));
        forbidden
    }

    /// Searches the logs of wechat-authz and Envoy for values that they must not contain.
    fn search_logs(&self) {
        let logs = self.logged() + &self.envoy_log();
        for secret in self.forbidden() {
            let found = logs.lines().find(|line| line.contains(&secret));
            assert!(found.is_none(), "a log contains forbidden values: {}", found.unwrap_or_default());
        }
        for line in self.logged().lines() {
            assert!(serde_json::from_str::<serde_json::Value>(line).is_ok(), "not one JSON object: {line}");
        }
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        let failing = std::thread::panicking();
        // Before the search, so that the logs are complete.
        self.authz.kill();
        self.envoy = None;
        self.others.clear();
        if failing {
            let tail = |text: String| text.lines().rev().take(10).map(str::to_owned).collect::<Vec<_>>().join("\n");
            eprintln!(
                "wechat-authz, newest first:\n{}\nEnvoy, newest first:\n{}",
                tail(self.logged()),
                tail(self.envoy_log())
            );
        } else {
            self.search_logs();
        }
    }
}
