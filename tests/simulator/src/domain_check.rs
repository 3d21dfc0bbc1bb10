//! WeChat's check of a domain entered in its console: fetches the verification file and compares it.

use std::net::SocketAddr;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

/// Time-out of the whole fetch.
const MAX_FETCH: Duration = Duration::from_secs(5);
/// Maximum size of head and body together; the file contains 16 characters.
const MAX_ANSWER: u64 = 16 * 1024;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// As entered in the console: a host, with the path of the file if it has one.
    pub domain: String,
    /// `MP_verify_<16 characters>.txt`, or with `WW_`.
    pub file: String,
    /// The content of the file; by default the 16 characters of its name.
    #[serde(default)]
    pub content: Option<String>,
    /// The address to connect to instead of the domain's port 80: `127.0.0.1:8080`.
    #[serde(default)]
    pub connect: Option<String>,
}

/// Fetches and compares; returns `{"passed":true}`, or false with the reason.
pub async fn run(check: &Check, allow_remote: bool) -> Value {
    match passed(check, allow_remote).await {
        Ok(()) => json!({"passed": true}),
        Err(why) => json!({"passed": false, "why": why}),
    }
}

async fn passed(check: &Check, allow_remote: bool) -> Result<(), String> {
    let characters = verification(&check.file).ok_or("the file is called MP_verify_<16 letters and digits>.txt")?;
    let expected = check.content.as_deref().unwrap_or(characters);
    let (host, path) = check.domain.split_once('/').unwrap_or((&check.domain, ""));
    let is_host = !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-:".contains(&byte));
    if !is_host || !path.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("domain is a host name, with no scheme, and perhaps a path".into());
    }
    let path = path.trim_matches('/');
    let target = if path.is_empty() { format!("/{}", check.file) } else { format!("/{path}/{}", check.file) };
    let answer = timeout(MAX_FETCH, fetch(host, &target, check.connect.as_deref(), allow_remote)).await;
    let answer = answer.map_err(|_| "no answer within 5 s")??;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("the answer is not HTTP")?;
    let status = head.split_whitespace().nth(1).unwrap_or_default();
    if status != "200" {
        return Err(format!(
            "HTTP status {}; the file must be there without login",
            status.chars().take(8).collect::<String>()
        ));
    }
    let body =
        if head.to_ascii_lowercase().contains("transfer-encoding: chunked") { dechunked(body) } else { body.into() };
    if body.trim_end() != expected {
        return Err("the file's content differs".into());
    }
    Ok(())
}

/// The 16 characters in a verification file's name.
fn verification(file: &str) -> Option<&str> {
    let characters =
        file.strip_prefix("MP_verify_").or_else(|| file.strip_prefix("WW_verify_"))?.strip_suffix(".txt")?;
    (characters.len() == 16 && characters.bytes().all(|byte| byte.is_ascii_alphanumeric())).then_some(characters)
}

async fn fetch(host: &str, target: &str, connect: Option<&str>, allow_remote: bool) -> Result<String, String> {
    let place =
        connect.map_or_else(|| if host.contains(':') { host.into() } else { format!("{host}:80") }, str::to_owned);
    let addresses = lookup_host(&place).await.map_err(|error| format!("{host} does not resolve: {error}"))?;
    let addresses: Vec<SocketAddr> = addresses.filter(|address| allow_remote || address.ip().is_loopback()).collect();
    if addresses.is_empty() {
        return Err("the address is not loopback; say connect, or start with --allow-remote".into());
    }
    let failed = |error: std::io::Error| format!("cannot fetch: {error}");
    let mut stream = TcpStream::connect(addresses.as_slice()).await.map_err(failed)?;
    let request =
        format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: Mozilla/4.0\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.map_err(failed)?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut answer).await.map_err(failed)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// Joins the chunks of a short text body; stops at the first invalid chunk.
fn dechunked(body: &str) -> String {
    let mut text = String::new();
    let mut rest = body;
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size.split(';').next().unwrap_or_default().trim(), 16).unwrap_or(0);
        let Some(chunk) = after.get(..size).filter(|_| size > 0) else { break };
        text.push_str(chunk);
        rest = after.get(size..).and_then(|rest| rest.strip_prefix("\r\n")).unwrap_or_default();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_verification_files_are_asked_for() {
        assert_eq!(verification("MP_verify_abcDEF0123456789.txt"), Some("abcDEF0123456789"));
        for file in
            ["MP_verify_short.txt", "../etc/passwd", "MP_verify_abcDEF012345678/.txt", "x_verify_abcDEF0123456789.txt"]
        {
            assert_eq!(verification(file), None, "{file}");
        }
    }

    #[test]
    fn chunks_are_joined() {
        assert_eq!(dechunked("3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n"), "abcde");
        assert_eq!(dechunked("zz\r\nabc"), "");
    }
}
