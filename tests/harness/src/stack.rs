//! A stack of its own for each test: simulator, application, wechat-authz and Envoy on free ports.
//!
//! What it starts it ends, by process id. When it ends well, its logs are searched for everything that must not be in
//! them: so the search covers the whole run.

use crate::client::{Answer, Browser, Cookie};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::convert::Infallible;
use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};
use wechat_simulator::{App, Options, Simulator};

pub const OA: &str = "wx00000000000000a1";
pub const OA_SECRET: &str = "0a1b2c3d4e5f60718293a4b5c6d7e8f9";
pub const WEB: &str = "wx00000000000000b2";
pub const WEB_SECRET: &str = "9f8e7d6c5b4a39281706f5e4d3c2b1a0";
pub const ADMIN_TOKEN: &str = "a-token-of-forty-characters-for-the-tests";

/// The identity headers.
pub const IDENTITY: [&str; 8] = [
    "x-wechat-subject",
    "x-wechat-openid",
    "x-wechat-unionid",
    "x-wechat-appid",
    "x-wechat-flow",
    "x-wechat-session",
    "x-wechat-nickname",
    "x-wechat-avatar",
];

/// For `Plan::more`: no limit that a test meets by its own speed.
pub const UNLIMITED: &str = "limits: { logins_per_client: { per_minute: 100000, burst: 100000 } }\n";

/// For `Plan::wechat`: a breaker that stays closed, for tests about something else.
pub const PATIENT: &str = "  breaker: { failures: 1000, open: 1s }\n";

/// How a stack differs from the usual one.
pub struct Plan {
    /// The Official Account's scope.
    pub scope: &'static str,
    /// More lines for the application in the configuration, indented by two; `EDGE_PORT` becomes Envoy's port.
    pub app: String,
    /// More top-level lines for the configuration.
    pub more: String,
    /// The check over HTTP/2.
    pub h2c: bool,
    /// The check over a Unix socket.
    pub unix: bool,
    /// Lines under `wechat:` beside its hosts, indented by two.
    pub wechat: String,
    /// Envoy with `fast.yaml` instead of `strict.yaml`.
    pub fast: bool,
    /// Paths about which `fast.yaml` asks always, besides those that the policy restricts.
    pub asked: &'static [&'static str],
    /// Replaces text in Envoy's configuration; `EDGE_PORT` becomes its port.
    pub envoy: Vec<(String, String)>,
    /// Envoy as in a pod: a second listener for probes and Prometheus (`ops.yaml`), and its admin port lets it be drained.
    pub pod: bool,
    /// A state directory, so that revocations are kept.
    pub state: bool,
    /// Lets the test set wechat-authz's wall clock (see [`Stack::set_clock`]).
    pub clock: bool,
    /// How many files wechat-authz may have open; as many as this process, where nothing is said.
    pub files: Option<u32>,
    /// Variables of wechat-authz's environment.
    pub environment: Vec<(&'static str, String)>,
    /// More arguments for `envoy/render`.
    pub render: Vec<String>,
    /// Envoy's whole configuration, instead of one of the shipped ones.
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
    /// The usual stack: Envoy with `strict.yaml`.
    pub fn strict() -> Self {
        Self::default()
    }

    /// The usual stack, but Envoy with `fast.yaml`.
    pub fn fast() -> Self {
        Self { fast: true, ..Self::default() }
    }
}

/// Writes an Envoy's configuration for its place in a stack.
pub type Derived = Box<dyn Fn(&Doors) -> String + Send + Sync>;

/// Whom an Envoy has around it.
pub struct Doors {
    /// Where it listens.
    pub edge: SocketAddr,
    /// Its own admin port.
    pub admin: SocketAddr,
    /// The application.
    pub app: SocketAddr,
    /// The check door, on TCP.
    pub check: SocketAddr,
    /// The pages door.
    pub pages: SocketAddr,
}

pub struct Stack {
    pub simulator: Simulator,
    pub upstream: Upstream,
    /// `http://127.0.0.1:PORT`: what a browser opens.
    pub origin: String,
    pub edge: SocketAddr,
    pub check: String,
    pub pages: SocketAddr,
    pub ops: SocketAddr,
    pub admin: SocketAddr,
    /// Envoy's admin port.
    pub envoy_admin: SocketAddr,
    /// Envoy's second listener, where the plan has one.
    pub envoy_ops: SocketAddr,
    pub directory: tempfile::TempDir,
    authz: Option<Child>,
    envoy: Option<Child>,
    /// More Envoys before the same program.
    others: Vec<Child>,
    plan: Plan,
    /// Values that no log may hold, besides the simulator's.
    canaries: Mutex<Vec<String>>,
}

pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// The program under test: another build by `WECHAT_AUTHZ`.
pub fn program() -> PathBuf {
    // Cargo builds it for the tests, one directory above theirs.
    let built = || std::env::current_exe().unwrap().parent().unwrap().with_file_name("wechat-authz");
    std::env::var_os("WECHAT_AUTHZ").map_or_else(built, PathBuf::from)
}

/// The library that gives a process another wall clock.
pub fn faketime() -> PathBuf {
    let places = ["x86_64-linux-gnu", "aarch64-linux-gnu"];
    let library = |place: &str| PathBuf::from(format!("/usr/lib/{place}/faketime/libfaketimeMT.so.1"));
    places.iter().map(|place| library(place)).find(|path| path.is_file()).expect("Debian's package faketime")
}

/// A port for a server that starts later, given to no other test of this process. Below those that the system gives to
/// outgoing connections: one of them could take it meanwhile.
pub fn free_port() -> u16 {
    static NEXT: LazyLock<AtomicU16> = LazyLock::new(|| AtomicU16::new(fastrand::u16(..)));
    let mut ports = std::iter::repeat_with(|| 10_000 + NEXT.fetch_add(1, Ordering::Relaxed) % 22_000);
    ports.find(|port| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok()).unwrap()
}

impl Stack {
    /// The usual stack.
    pub async fn start() -> Self {
        Self::planned(Plan::default()).await
    }

    /// A stack that differs.
    pub async fn planned(plan: Plan) -> Self {
        let edge_port = free_port();
        let edge = SocketAddr::from(([127, 0, 0, 1], edge_port));
        let mut options = Options {
            apps: vec![
                App::official_account(OA, OA_SECRET, "127.0.0.1").with_any_port().in_open_platform("one"),
                App::website(WEB, WEB_SECRET, "127.0.0.1").with_any_port().in_open_platform("one"),
            ],
            qr_hold: Duration::from_secs(2),
            ..Options::default()
        };
        (plan.simulator)(&mut options);
        let simulator = Simulator::start(options).await.unwrap();
        let directory = tempfile::tempdir().unwrap();
        let keys = directory.path().join("keys");
        let made = Command::new(program()).arg("keygen").arg(&keys).stdout(Stdio::null()).status().unwrap();
        assert!(made.success());
        std::fs::write(directory.path().join("oa.secret"), OA_SECRET).unwrap();
        std::fs::write(directory.path().join("web.secret"), WEB_SECRET).unwrap();
        std::fs::write(directory.path().join("admin.token"), ADMIN_TOKEN).unwrap();
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
            authz: None,
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
        // From now on the ports are known, and a restart takes the same ones.
        let doors = [&stack.check, &stack.pages.to_string(), &stack.ops.to_string(), &stack.admin.to_string()];
        std::fs::write(stack.directory.path().join("doors"), doors.map(String::as_str).join("\n")).unwrap();
        stack.start_envoy().await;
        stack
    }

    pub fn config(&self) -> PathBuf {
        self.directory.path().join("config.yaml")
    }

    /// The configuration's text with these doors: check, pages, ops, admin.
    pub fn configuration(&self, doors: &[&str; 4]) -> String {
        let Plan { scope, app, more, wechat, state, .. } = &self.plan;
        let [check, pages, ops, admin] = doors;
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

    /// The configuration as it is now, with the ports in use.
    pub fn configured(&self) -> String {
        let doors = std::fs::read_to_string(self.directory.path().join("doors")).unwrap();
        let doors: Vec<&str> = doors.lines().collect();
        self.configuration(&[doors[0], doors[1], doors[2], doors[3]])
    }

    /// Starts wechat-authz and waits until it serves.
    pub async fn start_authz(&mut self) {
        let log = self.authz_log();
        let before = std::fs::read_to_string(&log).unwrap_or_default().len();
        let out = File::options().create(true).append(true).open(&log).unwrap();
        let mut command = Command::new(program());
        if let Some(files) = self.plan.files {
            // It sets the limit and becomes the program: the process id is the same.
            command = Command::new("prlimit");
            command.arg(format!("--nofile={files}:{files}")).arg(program());
        }
        if self.plan.clock {
            command.env("LD_PRELOAD", faketime()).env("FAKETIME_TIMESTAMP_FILE", self.directory.path().join("clock"));
            command.env("FAKETIME_NO_CACHE", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
            self.set_clock(0);
        }
        // Whoever runs the tests may be traced; what runs in them is as its plan says.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("OTEL_")) {
            command.env_remove(name);
        }
        let child = command
            .envs(self.plan.environment.iter().map(|(name, value)| (name, value)))
            .args(["serve", "--config"])
            .arg(self.config())
            .stdin(Stdio::null())
            .stdout(out.try_clone().unwrap())
            .stderr(out)
            .spawn()
            .unwrap();
        self.authz = Some(child);
        let serving = self.wait_for(&log, before, "serving").await;
        let address = |door: &str| serving[door].as_str().unwrap_or_else(|| panic!("{serving}")).to_owned();
        self.check = address("check");
        self.pages = address("pages").parse().unwrap();
        self.ops = address("ops").parse().unwrap();
        self.admin = address("admin").parse().unwrap();
    }

    /// Sets wechat-authz's wall clock this many seconds from the true time.
    pub fn set_clock(&self, offset: i64) {
        let file = self.directory.path().join("clock");
        let fresh = file.with_extension("new");
        std::fs::write(&fresh, format!("{offset:+}")).unwrap();
        std::fs::rename(&fresh, file).unwrap();
    }

    /// A log line with this message, past `offset`.
    async fn wait_for(&mut self, log: &Path, offset: usize, message: &str) -> serde_json::Value {
        let begun = Instant::now();
        loop {
            let text = std::fs::read_to_string(log).unwrap_or_default();
            let lines = text.get(offset..).unwrap_or_default().lines();
            let parsed = lines.filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
            if let Some(found) = parsed.into_iter().find(|line| line["message"] == message) {
                return found;
            }
            if let Some(child) = &mut self.authz
                && let Some(status) = child.try_wait().unwrap()
            {
                panic!("wechat-authz ended with {status}:\n{text}");
            }
            assert!(begun.elapsed() < Duration::from_secs(30), "no \"{message}\" in\n{text}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until wechat-authz logs this message once more than `before` lines of it.
    pub async fn until_logged(&mut self, message: &str, offset: usize) -> serde_json::Value {
        let log = self.authz_log();
        self.wait_for(&log, offset, message).await
    }

    pub fn authz_log(&self) -> PathBuf {
        self.directory.path().join("authz.log")
    }

    /// What wechat-authz has logged so far.
    pub fn logged(&self) -> String {
        std::fs::read_to_string(self.authz_log()).unwrap_or_default()
    }

    async fn start_envoy(&mut self) {
        self.envoy = Some(self.envoy_at(self.edge, self.envoy_admin, self.plan.fast).await);
    }

    /// Starts one more Envoy, with `fast.yaml` or with `strict.yaml`, and tells where it listens.
    pub async fn another_envoy(&mut self, fast: bool) -> SocketAddr {
        let edge = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let admin = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let envoy = self.envoy_at(edge, admin, fast).await;
        self.others.push(envoy);
        edge
    }

    /// One of the shipped configurations, for this stack.
    fn shipped(&self, edge: SocketAddr, admin: SocketAddr, fast: bool) -> String {
        let mut render = Command::new(root().join("envoy/render"));
        render.args(["--listen", &edge.to_string(), "--app", &self.upstream.address.to_string()]);
        render.args(["--check", &self.check, "--pages", &self.pages.to_string(), "--admin", &admin.port().to_string()]);
        if self.plan.pod && edge == self.edge {
            render.args(["--ops", &self.envoy_ops.to_string(), "--ops-door", &self.ops.to_string()]);
        }
        if self.plan.h2c {
            render.arg("--h2c");
        }
        if fast {
            render.arg("--fast").arg("--config").arg(self.config()).arg("--program").arg(program());
            render.args(self.plan.asked.iter().map(|path| format!("--ask={path}")));
        }
        render.args(&self.plan.render);
        let rendered = render.output().unwrap();
        assert!(rendered.status.success(), "{}", String::from_utf8_lossy(&rendered.stderr));
        let mut text = String::from_utf8(rendered.stdout).unwrap();
        for (from, to) in &self.plan.envoy {
            assert!(text.contains(from), "Envoy's configuration has no {from:?}");
            text = text.replace(from, &to.replace("EDGE_PORT", &self.edge.port().to_string()));
        }
        text
    }

    async fn envoy_at(&self, edge: SocketAddr, admin: SocketAddr, fast: bool) -> Child {
        let log = self.directory.path().join("envoy.log");
        let text = match &self.plan.derived {
            Some(derived) => {
                let check = self.check.parse().unwrap();
                derived(&Doors { edge, admin, app: self.upstream.address, check, pages: self.pages })
            }
            None => self.shipped(edge, admin, fast),
        };
        let file = self.directory.path().join(format!("envoy-{}.yaml", edge.port()));
        std::fs::write(&file, text).unwrap();
        let envoy = root().join("target/envoy/1.40.0/envoy");
        assert!(envoy.is_file(), "Envoy is not here: run envoy/get");
        let out = File::options().create(true).append(true).open(&log).unwrap();
        let mut child = Command::new(envoy)
            .args([
                "--disable-hot-restart",
                "--concurrency",
                "1",
                "--file-flush-interval-msec",
                "20",
                "-l",
                "warning",
                "-c",
            ])
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(out.try_clone().unwrap())
            .stderr(out)
            .spawn()
            .unwrap();
        let begun = Instant::now();
        loop {
            let ready = crate::client::raw(admin, b"GET /ready HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
            if ready.is_some_and(|answer| answer.status == 200) {
                return child;
            }
            let ended = child.try_wait().unwrap();
            let text = || std::fs::read_to_string(&log).unwrap_or_default();
            assert!(ended.is_none() && begun.elapsed() < Duration::from_secs(30), "Envoy does not start:\n{}", text());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub fn envoy_log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("envoy.log")).unwrap_or_default()
    }

    /// wechat-authz's process id.
    pub fn authz_pid(&self) -> u32 {
        self.authz.as_ref().unwrap().id()
    }

    /// Sends wechat-authz a signal by name.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.authz_pid().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Has wechat-authz stand still, until the signal `CONT`.
    pub async fn stop_authz(&self) {
        self.signal("STOP");
        // The signal is on its way when it is sent; a thread in the middle of an answer ends it first.
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
        let id = self.envoy.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &id]).status().unwrap().success());
    }

    /// Waits for wechat-authz to end, and gives its exit code.
    pub async fn authz_ended(&mut self, within: Duration) -> Option<i32> {
        let begun = Instant::now();
        while begun.elapsed() < within {
            if let Some(status) = self.authz.as_mut().unwrap().try_wait().unwrap() {
                self.authz = None;
                return status.code();
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("wechat-authz did not end within {within:?}");
    }

    /// Waits for Envoy to end.
    pub async fn envoy_ended(&mut self, within: Duration) {
        let begun = Instant::now();
        while self.envoy.as_mut().unwrap().try_wait().unwrap().is_none() {
            assert!(begun.elapsed() < within, "Envoy did not end within {within:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.envoy = None;
    }

    /// Whether Envoy runs with `fast.yaml`.
    pub fn is_fast(&self) -> bool {
        self.plan.fast
    }

    /// How many checks wechat-authz has answered.
    pub async fn asked(&self) -> u64 {
        let text = self.metrics().await;
        let counts = text.lines().filter(|line| line.starts_with("wechat_authz_checks_total{"));
        counts.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
    }

    /// Kills wechat-authz as a crash does.
    pub fn kill_authz(&mut self) {
        end(self.authz.take());
    }

    /// Starts wechat-authz again at the same doors.
    pub async fn restart_authz(&mut self) {
        std::fs::write(self.config(), self.configured()).unwrap();
        self.start_authz().await;
    }

    /// An address of the application.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.origin)
    }

    /// The metrics' text.
    pub async fn metrics(&self) -> String {
        Browser::desktop().fetch(&format!("http://{}/metrics", self.ops)).await.body
    }

    /// A metric's value: the series whose line starts with `series`, 0 where there is none.
    pub async fn metric(&self, series: &str) -> f64 {
        let text = self.metrics().await;
        let line = text.lines().find(|line| line.starts_with(series) && !line.starts_with('#'));
        line.map_or(0.0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
    }

    /// Logs a browser in at `path` and checks that it arrived; the last answer is the application's.
    pub async fn log_in(&self, browser: &mut Browser, path: &str) -> Answer {
        let answers = browser.follow(&self.url(path)).await;
        let last = answers.last().unwrap().clone();
        assert_eq!(last.status, 200, "{last:?}");
        assert!(last.seen("x-wechat-subject").is_some_and(|subject| !subject.is_empty()), "{last:?}");
        self.remember(browser);
        last
    }

    /// The same step by step, in WeChat and silently; every answer on the way.
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

    /// Past its token's end a session is renewed by one redirect for a page, and a script is served meanwhile: where no
    /// cookie comes through on success.
    pub async fn is_renewed_by_one_redirect(&self, browser: &mut Browser) {
        let data = browser.fetch(&self.url("/api/orders")).await;
        assert_eq!((data.status, data.set_cookies().count()), (200, 1), "the application's own cookie only: {data:?}");
        let answers = browser.follow(&self.url("/a?b=c")).await;
        self.remember(browser);
        let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
        assert_eq!(statuses, [302, 303, 200], "{answers:?}");
        assert_eq!(answers[0].location(), self.url("/_wechat/renew?return_to=%2Fa%3Fb%3Dc"));
        assert_eq!(answers[2].json()["target"], "/a?b=c");
    }

    /// Hands this browser's phone to somebody of the cast.
    pub fn hand_to(&self, browser: &mut Browser, user: &str) {
        let host = self.simulator.address().to_string();
        let value = url::form_urlencoded::byte_serialize(user.as_bytes()).collect();
        browser.jar.retain(|cookie| cookie.name != "sim_user");
        browser.jar.push(Cookie { name: "sim_user".into(), value, path: "/".into(), host });
    }

    /// What somebody's phone does with a QR code: `scan`, `confirm`, `cancel` or `expire`.
    pub async fn phone(&self, user: &str, uuid: &str, verb: &str) -> Answer {
        let mut phone = Browser::wechat();
        self.hand_to(&mut phone, user);
        phone.ask("POST", &format!("{}/_sim/qr/{uuid}/{verb}", self.simulator.base_url()), &[], "").await
    }

    /// Starts a login at `path` and stops where WeChat sends the browser back: the callback's address, not yet opened.
    pub async fn to_callback(&self, browser: &mut Browser, path: &str) -> String {
        let callback = self.url("/_wechat/callback?");
        let last = browser.follow_until(&self.url(path), |next| next.starts_with(&callback)).await.pop().unwrap();
        assert!(last.location().starts_with(&callback), "{last:?}");
        last.location().to_owned()
    }

    /// Waits until WeChat was asked to exchange this many codes.
    pub async fn until_exchanged(&self, count: usize) {
        let begun = Instant::now();
        while self.exchanges().len() < count {
            assert!(begun.elapsed() < Duration::from_secs(10), "{} of {count} exchanges", self.exchanges().len());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until wechat-authz's log holds this text; lines are written a moment after the answer.
    pub async fn until_log_holds(&self, text: &str) {
        let begun = Instant::now();
        while !self.logged().contains(text) {
            assert!(begun.elapsed() < Duration::from_secs(10), "no {text:?} in\n{}", self.logged());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Starts wechat-authz anew, with `from` in its configuration replaced by `to`.
    pub async fn reconfigured(&mut self, from: &str, to: &str) {
        let text = self.configured();
        assert!(text.contains(from), "the configuration has no {from:?}");
        self.kill_authz();
        std::fs::write(self.config(), text.replace(from, to)).unwrap();
        self.start_authz().await;
    }

    /// Values that no log may hold: a browser's cookies.
    pub fn remember(&self, browser: &Browser) {
        let mut canaries = self.canaries.lock().unwrap();
        canaries.extend(browser.jar.iter().filter(|cookie| cookie.value.len() > 20).map(|cookie| cookie.value.clone()));
    }

    /// Codes WeChat was asked to exchange so far.
    pub fn exchanges(&self) -> Vec<wechat_simulator::Entry> {
        let journal = self.simulator.journal();
        journal.into_iter().filter(|entry| entry.path == "/sns/oauth2/access_token").collect()
    }

    /// What nothing may hold that leaves the processes besides their answers: logs, traces.
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

    /// Everything that was logged, by us and by Envoy, searched for what must not be there.
    fn search_logs(&self) {
        let logs = self.logged() + &self.envoy_log();
        for secret in self.forbidden() {
            let found = logs.lines().find(|line| line.contains(&secret));
            assert!(found.is_none(), "a log holds what it must not: {}", found.unwrap_or_default());
        }
        for line in self.logged().lines() {
            assert!(serde_json::from_str::<serde_json::Value>(line).is_ok(), "not one JSON object: {line}");
        }
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        let failing = std::thread::panicking();
        end(self.authz.take());
        for envoy in self.envoy.take().into_iter().chain(self.others.drain(..)) {
            end(Some(envoy));
        }
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

/// Ends a process that we started, by its id.
fn end(child: Option<Child>) {
    if let Some(mut child) = child {
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// An application that knows nothing of logins and says what it saw.
pub struct Upstream {
    pub address: SocketAddr,
    /// Request lines it saw.
    pub requests: Arc<Mutex<Vec<String>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Upstream {
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests: Arc<Mutex<Vec<String>>> = Arc::default();
        let seen = Arc::clone(&requests);
        let task = tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else { continue };
                let seen = Arc::clone(&seen);
                tokio::spawn(async move {
                    let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
                        let seen = Arc::clone(&seen);
                        async move { Ok::<_, Infallible>(echo(request, &seen).await) }
                    });
                    let mut builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                    builder.http1().max_headers(200);
                    let _ = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { address, requests, task }
    }

    /// How many requests it saw.
    pub fn count(&self) -> usize {
        self.requests.lock().unwrap().len()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn echo(request: http::Request<hyper::body::Incoming>, seen: &Mutex<Vec<String>>) -> http::Response<Full<Bytes>> {
    let (parts, body) = request.into_parts();
    seen.lock().unwrap().push(format!("{} {}", parts.method, parts.uri));
    if parts.headers.contains_key("upgrade") {
        let answer =
            http::Response::builder().status(101).header("upgrade", "websocket").header("connection", "upgrade");
        return answer.body(Full::default()).unwrap();
    }
    let body = body.collect().await.map(|body| body.to_bytes().len()).unwrap_or_default();
    let headers: Vec<(String, String)> = parts
        .headers
        .iter()
        .map(|(name, value)| (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect();
    let said = serde_json::json!({
        "method": parts.method.as_str(), "target": parts.uri.to_string(), "headers": headers, "body": body,
        "version": format!("{:?}", parts.version),
    });
    http::Response::builder()
        .header("content-type", "application/json")
        .header("set-cookie", "app=1; Path=/")
        .body(Full::from(said.to_string()))
        .unwrap()
}
