//! Processes that end with the test that started them.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// A process, which is killed by its id when this value is dropped.
pub struct Process(Child);

impl Process {
    /// Starts a process with an empty standard input.
    pub fn start(command: &mut Command) -> Self {
        let child = command.stdin(Stdio::null()).spawn();
        Self(child.unwrap_or_else(|error| panic!("{} does not start: {error}", command.get_program().display())))
    }

    /// The same, without output.
    pub fn silent(command: &mut Command) -> Self {
        Self::start(command.stdout(Stdio::null()).stderr(Stdio::null()))
    }

    /// The same, with its output appended to a file.
    pub fn logging(command: &mut Command, log: &Path) -> Self {
        let out = File::options().create(true).append(true).open(log).unwrap();
        Self::start(command.stdout(out.try_clone().unwrap()).stderr(out))
    }

    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// Sends a signal by name.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([format!("-{name}"), self.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// The exit status, if it has exited.
    pub fn status(&mut self) -> Option<ExitStatus> {
        self.0.try_wait().unwrap()
    }

    /// Waits until it exits.
    pub async fn ended(&mut self, within: Duration) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.status() {
                return status;
            }
            assert!(start.elapsed() < within, "process {} did not exit within {within:?}", self.id());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Its memory in MiB: `VmRSS` (now) or `VmHWM` (peak) of `/proc/PID/status`. `None` after it has exited.
    pub fn memory(&self, name: &str) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? / 1_024)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until this process listens at a loopback port.
pub async fn until_listening(port: u16, process: &mut Process) {
    let start = Instant::now();
    while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
        let status = process.status();
        assert!(status.is_none() && start.elapsed() < Duration::from_secs(30), "nothing listens at {port}: {status:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
