//! Starts Envoy.

use crate::client;
use crate::process::Process;
use crate::root;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// Runs `envoy/render` with its arguments and returns the configuration.
pub fn render(arguments: &mut Command) -> String {
    let rendered = arguments.output().unwrap();
    assert!(rendered.status.success(), "{}", String::from_utf8_lossy(&rendered.stderr));
    String::from_utf8(rendered.stdout).unwrap()
}

/// The command `envoy/render`, without arguments.
pub fn renderer() -> Command {
    Command::new(root().join("envoy/render"))
}

/// Starts an Envoy with this configuration and waits until its admin listener reports it ready. It logs to `envoy.log` in
/// this directory.
pub async fn start(configuration: &str, admin: SocketAddr, directory: &Path) -> Process {
    let file = directory.join(format!("envoy-{}.yaml", admin.port()));
    let log = directory.join("envoy.log");
    std::fs::write(&file, configuration).unwrap();
    let program = root().join("target/envoy/1.40.0/envoy");
    assert!(program.is_file(), "Envoy is not installed: run envoy/get");
    let mut command = Command::new(program);
    command.args(["--disable-hot-restart", "--concurrency", "1", "--file-flush-interval-msec", "20"]);
    let mut envoy = Process::logging(command.args(["-l", "warning", "-c"]).arg(&file), &log);
    let start = Instant::now();
    loop {
        let ready = client::raw(admin, b"GET /ready HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
        if ready.is_some_and(|answer| answer.status == 200) {
            return envoy;
        }
        let waiting = envoy.status().is_none() && start.elapsed() < Duration::from_secs(30);
        assert!(waiting, "Envoy does not start:\n{}", std::fs::read_to_string(&log).unwrap_or_default());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
