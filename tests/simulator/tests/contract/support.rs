//! A client that sees what came over the wire, and nothing else.

use std::io;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use wechat_simulator::{App, Options, Simulator};

pub const OA: &str = "wx0123456789abcdef";
pub const OA_SECRET: &str = "0123456789abcdef0123456789abcdef";
pub const WEB: &str = "wxfedcba9876543210";
pub const WEB_SECRET: &str = "fedcba9876543210fedcba9876543210";
pub const STATE: &str = "9f2c7b3e51d84a60";
pub const PHONE: &str = "User-Agent: Mozilla/5.0 (iPhone) MicroMessenger/8.0.50 Language/zh_CN";

pub async fn simulator() -> Simulator {
    holding_polls_for(Duration::from_millis(50)).await
}

pub async fn holding_polls_for(qr_hold: Duration) -> Simulator {
    let apps = vec![
        App { first_hop: false, ..App::official_account(OA, OA_SECRET, "app.example.com").in_open_platform("op") },
        App::website(WEB, WEB_SECRET, "app.example.com").in_open_platform("op"),
    ];
    let options = Options { apps, seed: 1, qr_hold, ..Options::default() };
    Simulator::start(options).await.unwrap()
}

/// A well-formed authorize link of the official account.
pub fn authorize(scope: &str) -> String {
    link(OA, "https%3A%2F%2Fapp.example.com%2Fcb", "code", scope, STATE)
}

pub fn link(appid: &str, redirect_uri: &str, response_type: &str, scope: &str, state: &str) -> String {
    format!(
        "/connect/oauth2/authorize?appid={appid}&redirect_uri={redirect_uri}&response_type={response_type}&scope={scope}&state={state}"
    )
}

pub fn qrconnect() -> String {
    format!(
        "/connect/qrconnect?appid={WEB}&redirect_uri=https%3A%2F%2Fapp.example.com%2Fcb&response_type=code&scope=snsapi_login&state={STATE}"
    )
}

pub fn exchange(code: &str) -> String {
    format!("/sns/oauth2/access_token?appid={OA}&secret={OA_SECRET}&code={code}&grant_type=authorization_code")
}

/// An answer as it came; `body` without the chunks' framing.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    pub fn errcode(&self) -> i64 {
        self.json()["errcode"].as_i64().unwrap_or(0)
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// Where a redirect leads; panics on anything else.
    pub fn location(&self) -> &str {
        assert_eq!(self.status, 302, "{}", self.text());
        self.header("location").unwrap()
    }

    /// A parameter of the address that a redirect leads to.
    pub fn parameter(&self, name: &str) -> Option<String> {
        parameter(self.location(), name)
    }
}

pub fn parameter(location: &str, name: &str) -> Option<String> {
    let url = url::Url::parse(location).unwrap();
    url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

pub async fn get(simulator: &Simulator, target: &str) -> Reply {
    send(simulator, "GET", target, PHONE, "").await.unwrap()
}

pub async fn post(simulator: &Simulator, target: &str, body: &str) -> Reply {
    send(simulator, "POST", target, PHONE, body).await.unwrap()
}

/// One request on one connection, read until the other side ends it. `header` is a whole line, or several.
pub async fn send(simulator: &Simulator, method: &str, target: &str, header: &str, body: &str) -> io::Result<Reply> {
    let mut stream = TcpStream::connect(simulator.address()).await?;
    let (host, length) = (simulator.address(), body.len());
    let request = format!(
        "{method} {target} HTTP/1.1\r\nHost: {host}\r\n{header}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut bytes = Vec::new();
    timeout(Duration::from_secs(20), stream.read_to_end(&mut bytes)).await??;
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or(io::ErrorKind::InvalidData)?;
    Ok(Reply { status, head, body: bytes[end + 4..].to_vec() })
}

/// A code of the official account for whoever is on the phone.
pub async fn code(simulator: &Simulator) -> String {
    get(simulator, &authorize("snsapi_base")).await.parameter("code").unwrap()
}

/// A code after a consent.
pub async fn consented_code(simulator: &Simulator) -> String {
    let page = get(simulator, &authorize("snsapi_userinfo")).await;
    if page.status == 302 {
        return page.parameter("code").unwrap();
    }
    let uuid = attribute(&page.text(), "data-uuid");
    let reply = get(simulator, &format!("/connect/oauth2/authorize_reply?uuid={uuid}&allow=1")).await;
    reply.parameter("code").unwrap()
}

/// Tokens after a consent, as JSON.
pub async fn tokens(simulator: &Simulator) -> Value {
    let code = consented_code(simulator).await;
    get(simulator, &exchange(&code)).await.json()
}

pub fn attribute(html: &str, name: &str) -> String {
    let start = html.find(&format!("{name}=\"")).unwrap_or_else(|| panic!("no {name} in {html}")) + name.len() + 2;
    html[start..].split('"').next().unwrap().to_owned()
}
