//! Operation: configuration reload, keys, revocation, listeners, drain.

use harness::client::{self, Answer, Browser};
use harness::process::Process;
use harness::stack::{Plan, Stack};
use harness::{ADMIN_TOKEN, SESSION, program};
use std::process::Command;
use std::time::{Duration, Instant};
use wechat_simulator::{Effect, Endpoint, Fault};

/// Repeats the request until `done` accepts the response.
async fn until(browser: &Browser, url: &str, done: impl Fn(&Answer) -> bool) -> Answer {
    let begun = Instant::now();
    loop {
        let answer = browser.clone().fetch(url).await;
        if done(&answer) {
            return answer;
        }
        assert!(begun.elapsed() < Duration::from_secs(15), "still {answer:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn revoke(stack: &Stack, body: &str, lines: &[(&str, &str)]) -> u16 {
    let url = format!("http://{}/sessions/revoke", stack.admin);
    Browser::desktop().ask("POST", &url, lines, body).await.status
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_configuration_loads_and_a_bad_one_does_not() {
    let mut stack = Stack::start().await;
    let mut browser = Browser::wechat();
    stack.log_in(&mut browser, "/").await;
    let stranger = Browser::desktop();
    assert_eq!(stranger.clone().fetch(&stack.url("/open/a")).await.status, 401);

    let first = std::fs::read_to_string(stack.config()).unwrap();
    let good = first.clone() + "policy:\n- { path_prefix: /open, access: public }\n";
    std::fs::write(stack.config(), &good).unwrap();
    until(&stranger, &stack.url("/open/a"), |answer| answer.status == 200).await;
    assert_eq!(browser.fetch(&stack.url("/")).await.status, 200, "the session must stay valid");

    // The file is rejected as a whole, logged once with key and line, and counted; no part of it takes effect.
    let rejected = "wechat_authz_configuration_reloads_total{outcome=\"rejected\"}";
    for (bad, says) in [
        (good.replace("access: public", "access: publik"), "policy[0].access"),
        (good.replace("prefix: /open, access: public }", ""), "config.yaml:"),
        (good.replace("reload_interval: 1s", "reload_interval: 1s\nlisten: {}"), "written twice"),
    ] {
        let (offset, before) = (stack.logged().len(), stack.metric(rejected).await);
        std::fs::write(stack.config(), &bad).unwrap();
        stack.signal("HUP");
        let line = stack.until_logged("change rejected; the previous configuration stays in use", offset).await;
        assert!(
            line["errors"].as_str().unwrap().contains(says) || line["errors"].to_string().contains("listen"),
            "{line}"
        );
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        let again = stack.logged()[offset..].matches("change rejected").count();
        assert_eq!(again, 1, "must be logged once, not on every read");
        assert!(stack.metric(rejected).await > before);
        assert_eq!(
            stranger.clone().fetch(&stack.url("/open/a")).await.status,
            200,
            "the old configuration must stay active"
        );
        assert_eq!(stranger.clone().fetch(&stack.url("/")).await.status, 401);
    }
    let offset = stack.logged().len();
    let moved = first.replace("ops: \"127.0.0.1:0\"", "ops: \"127.0.0.1:1\"");
    assert_ne!(moved, first);
    std::fs::write(stack.config(), moved).unwrap();
    stack.signal("HUP");
    let line = stack.until_logged("change rejected; the previous configuration stays in use", offset).await;
    assert!(line["errors"].as_str().unwrap().contains("fixed while running"), "{line}");
    // The valid configuration again: it takes effect at once.
    std::fs::write(stack.config(), &first).unwrap();
    stack.signal("HUP");
    until(&stranger, &stack.url("/open/a"), |answer| answer.status == 401).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_rotated_while_people_are_logged_in() {
    let stack = Stack::start().await;
    let now_signs = std::fs::read_to_string(stack.config())
        .unwrap()
        .replace("directory: keys }", "directory: keys, sign_after: 0s }");
    std::fs::write(stack.config(), now_signs).unwrap();
    stack.signal("HUP");
    let mut first = Browser::wechat();
    stack.log_in(&mut first, "/").await;
    let keys = stack.directory.path().join("keys");
    let old = std::fs::read_dir(&keys).unwrap().next().unwrap().unwrap().path();
    tokio::time::sleep(Duration::from_millis(1_100)).await; // a key's name is its creation time in seconds
    assert!(Command::new(program()).arg("keygen").arg(&keys).output().unwrap().status.success());
    let jwks = stack.url("/_wechat/jwks.json");
    let both = until(&first, &jwks, |answer| answer.json()["keys"].as_array().unwrap().len() == 2).await;
    assert!(!both.body.contains("\"d\""), "only public keys may be published");
    assert_eq!(first.fetch(&stack.url("/")).await.status, 200, "sessions of the old key must stay valid");
    let mut second = Browser::wechat();
    stack.log_in(&mut second, "/").await;
    std::fs::remove_file(old).unwrap();
    until(&first, &stack.url("/"), |answer| answer.status == 401).await;
    assert_eq!(second.fetch(&stack.url("/")).await.status, 200, "the new key must have signed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_counts_at_the_next_check_and_after_a_crash() {
    let bearer = format!("Bearer {ADMIN_TOKEN}");
    let known = [("authorization", bearer.as_str())];
    for kept in [true, false] {
        let mut stack = Stack::planned(Plan { state: kept, ..Plan::default() }).await;
        let mut browsers = Vec::new();
        for user in ["小明", "小红", "follower"] {
            stack.simulator.use_user(user);
            let mut browser = Browser::wechat();
            let seen = stack.log_in(&mut browser, "/").await;
            browsers.push((browser, seen.seen("x-wechat-session").unwrap(), seen.seen("x-wechat-subject").unwrap()));
        }
        for (lines, body, status) in [
            (&[][..], "{\"app\":\"shop\"}", 401),
            (&[("authorization", "Bearer wrong")], "{\"app\":\"shop\"}", 401),
            (&known, "{}", 400),
            (&known, &format!("{{\"session\":\"{}\"}}", browsers[0].1), 200),
            (&known, &format!("{{\"subject\":\"{}\"}}", browsers[1].2), 200),
        ] {
            assert_eq!(revoke(&stack, body, lines).await, status, "{body}");
        }
        let statuses = async |stack: &Stack| {
            let mut statuses = Vec::new();
            for (browser, ..) in &browsers {
                statuses.push(browser.clone().fetch(&stack.url("/")).await.status);
            }
            statuses
        };
        assert_eq!(statuses(&stack).await, [401, 401, 200]);
        stack.kill_authz();
        stack.restart_authz().await;
        until(&browsers[2].0, &stack.url("/"), |answer| answer.status == 200).await;
        assert_eq!(statuses(&stack).await, if kept { [401, 401, 200] } else { [200, 200, 200] });
        assert_eq!(
            stack.logged().contains("a restart forgets revocations and logouts"),
            !kept,
            "must warn without a state directory"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ops_door_shows_health_and_metrics_that_prometheus_reads() {
    let stack = Stack::start().await;
    let mut browser = Browser::wechat();
    stack.log_in(&mut browser, "/").await;
    let ops = |path: &str| format!("http://{}{path}", stack.ops);
    for (path, status) in
        [("/healthz", 200), ("/readyz", 200), ("/metrics", 200), ("/", 404), ("/sessions/revoke", 404)]
    {
        assert_eq!(browser.clone().fetch(&ops(path)).await.status, status, "{path}");
    }
    let text = stack.metrics().await;
    for line in [
        "wechat_authz_logins_started_total{app=\"shop\",method=\"official_account\"} 1",
        "wechat_authz_logins_finished_total{app=\"shop\",method=\"official_account\"} 1",
        "wechat_authz_checks_total{decision=\"login\",reason=\"no_session\"} 1",
        "wechat_authz_checks_total{decision=\"allow\",reason=\"session_valid\"} 1",
        "wechat_authz_sessions_issued_total{app=\"shop\"} 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
    // promtool checks the older text format, which has no EOF marker and no info type.
    let older = text.lines().filter(|line| *line != "# EOF" && !line.contains("wechat_authz_build"));
    let plain: String = older.map(|line| format!("{line}\n")).collect();
    let file = stack.directory.path().join("metrics.txt");
    std::fs::write(&file, plain).unwrap();
    let checked = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(std::fs::File::open(file).unwrap())
        .output()
        .expect("Debian's package prometheus");
    let said = String::from_utf8_lossy(&checked.stderr).into_owned();
    assert!(!said.contains("error while linting") && !said.contains("parsing"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_loses_no_request_and_finishes_the_login_under_way() {
    let mut stack =
        Stack::planned(Plan { more: "drain: { delay: 1s, deadline: 10s }\n".into(), ..Plan::default() }).await;
    let mut browser = Browser::wechat();
    stack.log_in(&mut browser, "/").await;
    // A callback whose code exchange takes two seconds.
    let mut newcomer = Browser::wechat();
    let login = newcomer.get(&stack.url("/_wechat/login")).await;
    let hop = newcomer.get(login.location().split('#').next().unwrap()).await;
    let back = newcomer.get(hop.location()).await.location().to_owned();
    stack.simulator.inject(Fault::at(Endpoint::AccessToken, Effect::DelayAfter(Duration::from_secs(2))));
    let entering = tokio::spawn(async move { newcomer.get(&back).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    // Keep-alive requests through Envoy while the shutdown begins. After the listeners have closed, Envoy responds with
    // 503.
    let url = stack.url("/api");
    let ready = format!("http://{}/readyz", stack.ops);
    stack.signal("TERM");
    let begun = Instant::now();
    let mut served = 0;
    while begun.elapsed() < Duration::from_millis(800) {
        let answer = browser.clone().fetch(&url).await;
        assert_eq!(answer.status, 200, "{:?} after the signal: {answer:?}", begun.elapsed());
        served += 1;
    }
    assert!(served > 10, "{served}");
    let answer = Browser::desktop().fetch(&ready).await;
    assert_eq!(answer.status, 503, "not ready while it drains");
    let entered = entering.await.unwrap();
    assert_eq!((entered.status, entered.destination()), (303, stack.url("/").as_str()), "{entered:?}");
    assert_eq!(stack.authz_ended(Duration::from_secs(12)).await, Some(0));
}

#[test]
fn what_cannot_work_says_so_and_how_it_ends() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let keys = at("keys");
    assert!(Command::new(program()).arg("keygen").arg(&keys).output().unwrap().status.success());
    std::fs::write(at("oa.secret"), harness::OA_SECRET).unwrap();
    std::fs::write(at("placeholder.secret"), "change-me").unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let good = format!(
        "keys: {{ directory: keys }}\nlisten: {{ check: \"{}\", pages: \"127.0.0.1:0\", ops: \"127.0.0.1:0\" }}\napps:\n- name: shop\n  \
         origin: https://shop.example.com\n  official_account: {{ appid: wx0123456789abcdef, secret_file: ./oa.secret }}\n",
        taken.local_addr().unwrap()
    );
    for (from, to, code, says) in [
        ("directory: keys", "directory: none", 78, "keys.directory"),
        ("./oa.secret", "./none.secret", 78, "secret_file"),
        ("./oa.secret", "./placeholder.secret", 78, "a placeholder"),
        ("name: shop", "nmae: shop", 78, "did you mean `name`?"),
        ("keys: {", "state_directory: /nonexistent\nkeys: {", 78, "/nonexistent"),
        ("apps:", "apps:", 1, "cannot listen on 127.0.0.1:"),
    ] {
        let file = at("config.yaml");
        std::fs::write(&file, good.replacen(from, to, 1)).unwrap();
        let ended = Command::new(program()).args(["serve", "--config"]).arg(&file).output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert_eq!(ended.status.code(), Some(code), "{to}: {said}");
        assert!(said.contains(says) && !said.contains(harness::OA_SECRET), "{to}: {said}");
    }
    let help = Command::new(program()).arg("--help").output().unwrap();
    let help = String::from_utf8_lossy(&help.stdout).into_owned();
    for word in ["First steps", "Exit codes", "Signals", "keygen", "check-config"] {
        assert!(help.contains(word), "{word}\n{help}");
    }
    let schema = Command::new(program()).args(["check-config", "--print-schema"]).output().unwrap();
    assert!(serde_json::from_slice::<serde_json::Value>(&schema.stdout).unwrap()["properties"]["apps"].is_object());
    assert_eq!(Command::new(program()).arg("serve").output().unwrap().status.code(), Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_stays_bounded_whoever_comes() {
    let stack = Stack::start().await;
    let mut browser = Browser::wechat();
    stack.log_in(&mut browser, "/").await;
    let resident = || stack.authz().memory("VmRSS").unwrap();
    let before = resident();
    let check: std::net::SocketAddr = stack.check.parse().unwrap();
    let host = stack.edge;
    let mut waves = Vec::new();
    for wave in 0..8_u32 {
        waves.push(tokio::spawn(async move {
            for number in 0..1_500_u32 {
                let client = std::net::Ipv4Addr::from(0x0B00_0000 + wave * 100_000 + number);
                let head = format!(
                    "GET /api HTTP/1.1\r\nhost: {host}\r\nx-auth-client-ip: {client}\r\ncookie: {SESSION}=junk{wave}-{number}\r\n\
                     connection: close\r\n\r\n"
                );
                assert_eq!(client::raw(check, head.as_bytes()).await.unwrap().status, 401);
            }
        }));
    }
    for wave in waves {
        wave.await.unwrap();
    }
    let after = resident();
    assert!(after < before + 48, "{before} MiB, then {after} MiB");
    assert_eq!(browser.fetch(&stack.url("/")).await.status, 200);
}

/// The soft and the hard limit of a process's core file size.
fn core_limits(id: u32) -> Vec<String> {
    let limits = std::fs::read_to_string(format!("/proc/{id}/limits")).unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max core file size")).unwrap().to_owned();
    line.split_whitespace().take(2).map(str::to_owned).collect()
}

/// A command without root's capability to attach to any process: it may attach only to processes of the same user.
fn without_right_to_attach(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set=-sys_ptrace", "--inh-caps=-sys_ptrace"]).arg(program);
    command.stdout(std::process::Stdio::null());
    command
}

/// Starts a process like a service manager that allows core files of unlimited size.
fn start(program: impl AsRef<std::ffi::OsStr>, arguments: &[&str], directory: &std::path::Path) -> Process {
    let mut command = without_right_to_attach("sh");
    command.args(["-c", "ulimit -c unlimited && exec \"$@\"", "sh"]).arg(program).args(arguments);
    Process::silent(command.current_dir(directory))
}

/// Lets a debugger write a core file of a process of the same user.
fn debugger_writes_a_core(id: u32, directory: &std::path::Path) -> bool {
    let mut gcore = without_right_to_attach("gcore");
    let ended = gcore.arg("-o").arg(directory.join("core")).arg(id.to_string()).output().expect("Debian's package gdb");
    let written = directory.join(format!("core.{id}")).exists();
    assert_eq!(ended.status.success(), written, "{}", String::from_utf8_lossy(&ended.stderr));
    written
}

#[tokio::test(flavor = "multi_thread")]
async fn no_core_file_holds_the_secrets_of_a_running_server() {
    use std::os::unix::process::ExitStatusExt as _;
    let stack = Stack::start().await;
    let directory = tempfile::tempdir().unwrap();
    // The stack's own server continues; this process uses other ports and the same files.
    let config = directory.path().join("config.yaml");
    let text =
        stack.configuration(&["127.0.0.1:0"; 4]).replace("./", &format!("{}/", stack.directory.path().display()));
    let keys = format!("directory: {}/keys", stack.directory.path().display());
    std::fs::write(&config, text.replace("directory: keys", &keys)).unwrap();
    let mut server = start(program(), &["serve", "--config", config.to_str().unwrap()], directory.path());
    // The control: a debugger can write a core file of another program with the same rights and limits.
    let other = start("/bin/sleep", &["60"], directory.path());
    tokio::time::sleep(Duration::from_secs(1)).await;
    for (process, limit, writes) in [(&server, "0", false), (&other, "unlimited", true)] {
        assert_eq!(core_limits(process.id()), [limit, limit]);
        assert_eq!(debugger_writes_a_core(process.id(), directory.path()), writes);
    }
    // The process can still read the sources of its metrics.
    let metrics = stack.metrics().await;
    for metric in ["process_open_fds ", "process_resident_memory_bytes "] {
        let line = metrics.lines().find_map(|line| line.strip_prefix(metric)).unwrap_or_else(|| panic!("{metrics}"));
        assert!(line.parse::<f64>().unwrap() > 5.0, "{metric}{line}");
    }
    server.signal("ABRT");
    let status = server.ended(Duration::from_secs(10)).await;
    assert_eq!((status.signal(), status.core_dumped()), (Some(6), false));
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_that_read_secrets_leave_no_core_file_either() {
    let stack = Stack::start().await;
    let config = stack.config().to_str().unwrap().to_owned();
    let text = std::fs::read_to_string(stack.config()).unwrap();
    // The server accepts connections and never responds, so that the commands wait.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let text = text.replace(&stack.simulator.base_url(), &format!("http://{address}"));
    let asked = text.replace("admin: { listen: \"127.0.0.1:0\"", &format!("admin: {{ listen: \"{address}\""));
    assert_ne!(asked, text);
    std::fs::write(stack.config(), asked).unwrap();
    let subject = ["--subject", "wx:union:oAlice"];
    for arguments in [
        &["sessions", "list", "--config", &config, subject[0], subject[1]][..],
        &["revoke", "--config", &config, subject[0], subject[1]],
        &["doctor", "--config", &config],
        &["healthcheck", "--ops", &address],
        &["drain", "--envoy", &address],
    ] {
        let mut command = start(program(), arguments, stack.directory.path());
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(command.status().is_none(), "{arguments:?} exited before the test could examine it");
        assert_eq!(core_limits(command.id()), ["0", "0"], "{arguments:?}");
        assert!(!debugger_writes_a_core(command.id(), stack.directory.path()), "{arguments:?}");
    }
}
