//! The program: its first line, its silence about secrets, its end.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

fn program(flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wechat-simulator"));
    command.args(flags).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Ends with the test, however the test ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_binary_logs_hops_without_secrets_and_ends_on_sigterm() {
    let flags = ["--listen", "127.0.0.1:0", "--official-account", "wx0123456789abcdef:THESECRET@app.example.com"];
    let mut running = Running(program(&flags).spawn().unwrap());
    let mut lines = BufReader::new(running.0.stdout.take().unwrap()).lines().map(Result::unwrap);
    let ready = lines.next().unwrap();
    let address = ready.strip_prefix("listening on http://").unwrap();
    let target = super::support::authorize("snsapi_base") + "&connect_redirect=1";
    let mut stream = TcpStream::connect(address).unwrap();
    write!(
        stream,
        "GET {target} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: MicroMessenger\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let code = answer.split("code=").nth(1).unwrap().split('&').next().unwrap();
    let hop = lines.next().unwrap();
    assert!(hop.ends_with("小明: code issued silently (snsapi_base)"), "{hop}");
    assert!(!hop.contains(code) && !hop.contains("THESECRET"));
    assert!(Command::new("kill").args(["-TERM", &running.0.id().to_string()]).status().unwrap().success());
    assert!(running.0.wait().unwrap().success());
}

#[test]
fn what_it_cannot_do_it_says_in_one_line_without_the_secret() {
    for (flags, says) in [
        (["--official-account", "wxa:THESECRET@app.example.com:8080"], "a host name alone"),
        (["--website", "wxa-THESECRET-app.example.com"], "APPID:SECRET@DOMAIN"),
        (["--listen", "0.0.0.0:0"], "not a loopback address"),
        (["--app-file", "/nonexistent/apps.json"], "apps.json"),
    ] {
        let done = program(&flags).output().unwrap();
        let error = String::from_utf8(done.stderr).unwrap();
        assert!(!done.status.success() && error.contains(says), "{error}");
        assert!(error.trim_end().lines().count() == 1 && !error.contains("THESECRET"), "{error}");
    }
}

#[test]
fn a_file_of_apps_is_read_with_every_switch() {
    let file = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("apps.json");
    let apps = r#"{"apps":[{"appid":"wx1","secret":"s","kind":"website","domains":["app.example.com"],
        "denial":"state_only","order":"lenient","code_life_s":600}]}"#;
    std::fs::write(&file, apps).unwrap();
    let mut running =
        Running(program(&["--listen", "127.0.0.1:0", "--app-file", file.to_str().unwrap()]).spawn().unwrap());
    let mut first = String::new();
    BufReader::new(running.0.stdout.take().unwrap()).read_line(&mut first).unwrap();
    assert!(first.starts_with("listening on http://127.0.0.1:"), "{first}");
    std::fs::write(&file, apps.replace("denial", "denail")).unwrap();
    let refused = program(&["--listen", "127.0.0.1:0", "--app-file", file.to_str().unwrap()]).output().unwrap();
    assert!(String::from_utf8(refused.stderr).unwrap().contains("denail"));
}
