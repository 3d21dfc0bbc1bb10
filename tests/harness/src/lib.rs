//! Starts wechat-authz, Envoy, Redis, the WeChat simulator and an application for tests, and waits for them.
//!
//! A crate of its own, so that it is compiled once for all test crates.

pub mod client;
pub mod envoy;
pub mod instance;
pub mod process;
pub mod redis;
pub mod stack;
pub mod upstream;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;
use wechat_simulator::{App, Options};

pub const OA: &str = "wx00000000000000a1";
pub const OA_SECRET: &str = "0a1b2c3d4e5f60718293a4b5c6d7e8f9";
pub const WEB: &str = "wx00000000000000b2";
pub const WEB_SECRET: &str = "9f8e7d6c5b4a39281706f5e4d3c2b1a0";
pub const ADMIN_TOKEN: &str = "a-token-of-forty-characters-for-the-tests";

/// The cookie of a session.
pub const SESSION: &str = "__Host-wechat_session";

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

/// The root of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// The program under test; `WECHAT_AUTHZ` selects another build.
pub fn program() -> PathBuf {
    // Cargo puts it into the directory above that of the tests.
    let built = || std::env::current_exe().unwrap().parent().unwrap().with_file_name("wechat-authz");
    std::env::var_os("WECHAT_AUTHZ").map_or_else(built, PathBuf::from)
}

/// The library that sets the wall clock of a process.
pub fn faketime() -> PathBuf {
    let places = ["x86_64-linux-gnu", "aarch64-linux-gnu"];
    let library = |place: &str| PathBuf::from(format!("/usr/lib/{place}/faketime/libfaketimeMT.so.1"));
    places.iter().map(|place| library(place)).find(|path| path.is_file()).expect("Debian's package faketime")
}

/// A port for a server that starts later. Returns each port once per process, and none of the range for outgoing
/// connections, because a connection could take it before the server starts.
pub fn free_port() -> u16 {
    static NEXT: LazyLock<AtomicU16> = LazyLock::new(|| AtomicU16::new(fastrand::u16(..)));
    let mut ports = std::iter::repeat_with(|| 10_000 + NEXT.fetch_add(1, Ordering::Relaxed) % 22_000);
    ports.find(|port| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok()).unwrap()
}

/// The options of the usual simulator: an Official Account and a website application of one Open Platform account.
pub fn wechat() -> Options {
    Options {
        apps: vec![
            App::official_account(OA, OA_SECRET, "127.0.0.1").with_any_port().in_open_platform("one"),
            App::website(WEB, WEB_SECRET, "127.0.0.1").with_any_port().in_open_platform("one"),
        ],
        qr_hold: Duration::from_secs(2),
        ..Options::default()
    }
}

/// A directory with a signing key, the AppSecrets and the admin token.
pub fn directory_with_secrets() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let made = Command::new(program()).arg("keygen").arg(directory.path().join("keys")).output().unwrap();
    assert!(made.status.success());
    for (file, text) in [("oa.secret", OA_SECRET), ("web.secret", WEB_SECRET), ("admin.token", ADMIN_TOKEN)] {
        std::fs::write(directory.path().join(file), text).unwrap();
    }
    directory
}
