//! An HTTP client that sends exactly the given bytes, and a browser that keeps cookies.

use http_body_util::BodyExt as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;

/// The User-Agent of WeChat's browser on a phone.
pub const WECHAT: &str = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) \
     Mobile/15E148 MicroMessenger/8.0.50(0x18003237) NetType/WIFI Language/zh_CN";
/// The User-Agent of a desktop browser.
pub const DESKTOP: &str =
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Safari/537.36";
/// The `Accept` header with which browsers request a page.
pub const HTML: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";

/// A complete response.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Answer {
    /// The first header of this name, or an empty string.
    pub fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(other, _)| other.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str()).unwrap_or_default()
    }

    pub fn location(&self) -> &str {
        self.header("location")
    }

    /// The redirect target after a login, without the empty fragment that makes a browser drop `#wechat_redirect`.
    pub fn destination(&self) -> &str {
        let location = self.location();
        location.strip_suffix('#').unwrap_or(location)
    }

    pub fn set_cookies(&self) -> impl Iterator<Item = &str> {
        self.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("set-cookie")).map(|(_, value)| value.as_str())
    }

    /// The target of the page's only button.
    pub fn button(&self) -> String {
        let href = self.body.split("<a class=\"button").nth(1).and_then(|rest| rest.split("href=\"").nth(1));
        let href = href.and_then(|rest| rest.split('"').next()).unwrap_or_else(|| panic!("no button: {self:?}"));
        href.replace("&#38;", "&").replace("&amp;", "&")
    }

    /// The uuid of the QR code or consent on a page of WeChat.
    pub fn uuid(&self) -> String {
        let uuid = self.body.split("data-uuid=\"").nth(1).unwrap_or_else(|| panic!("no QR code or consent: {self:?}"));
        uuid.split('"').next().unwrap().to_owned()
    }

    /// The incident id or address that the page shows for passing on.
    pub fn shown(&self) -> String {
        let shown = self.body.split("<dd").nth(1).and_then(|rest| rest.split_once('>')).map(|(_, rest)| rest);
        let shown = shown.and_then(|rest| rest.split("</dd>").next());
        shown.unwrap_or_else(|| panic!("no incident id or address: {self:?}")).to_owned()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The values of a request header that the echoing application received.
    pub fn seen(&self, name: &str) -> Option<String> {
        let json = self.json();
        let values: Vec<String> = json["headers"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|pair| pair[0].as_str().unwrap().eq_ignore_ascii_case(name))
            .map(|pair| pair[1].as_str().unwrap().to_owned())
            .collect();
        (!values.is_empty()).then(|| values.join(" | "))
    }
}

/// Sends raw bytes and reads one response, or everything until the server closes.
pub async fn raw(address: SocketAddr, bytes: &[u8]) -> Option<Answer> {
    raw_from(IpAddr::V4(Ipv4Addr::LOCALHOST), address, bytes).await
}

/// The same from this loopback address.
pub async fn raw_from(from: IpAddr, address: SocketAddr, bytes: &[u8]) -> Option<Answer> {
    let exchange = async {
        let socket = TcpSocket::new_v4().ok()?;
        // Without `bind`, the system can use one port for many servers.
        if from != IpAddr::V4(Ipv4Addr::LOCALHOST) {
            socket.bind(SocketAddr::new(from, 0)).ok()?;
        }
        let mut stream = socket.connect(address).await.ok()?;
        stream.write_all(bytes).await.ok()?;
        let mut read = Vec::new();
        let mut chunk = [0; 16 * 1024];
        loop {
            if let Some(answer) = parse(&read, bytes.starts_with(b"HEAD ")) {
                return Some(answer);
            }
            match stream.read(&mut chunk).await {
                Ok(0) | Err(_) => return parse_closed(&read),
                Ok(count) => read.extend_from_slice(&chunk[..count]),
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(40), exchange).await.expect("an answer within 40 s")
}

/// One request over HTTP/2 and its response; `None` if the stream or the connection is reset. `host` may be an origin.
pub async fn try_h2(
    address: SocketAddr,
    host: &str,
    method: &str,
    target: &str,
    lines: &[(&str, &str)],
) -> Option<Answer> {
    let exchange = async {
        let stream = tokio::net::TcpStream::connect(address).await.ok()?;
        let io = hyper_util::rt::TokioIo::new(stream);
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(hyper_util::rt::TokioExecutor::new(), io).await.ok()?;
        tokio::spawn(connection);
        let origin = if host.contains("://") { host.to_owned() } else { format!("http://{host}") };
        let uri = if method == "CONNECT" { host.to_owned() } else { origin + target };
        let mut request = http::Request::builder().method(method).uri(uri);
        for (name, value) in lines {
            request = request.header(*name, *value);
        }
        let request = request.body(http_body_util::Full::<hyper::body::Bytes>::default()).unwrap();
        let (parts, body) = sender.send_request(request).await.ok()?.into_parts();
        let body = body.collect().await.ok()?.to_bytes();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let headers = parts.headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value.as_bytes())));
        Some(Answer { status: parts.status.as_u16(), headers: headers.collect(), body: text(&body) })
    };
    tokio::time::timeout(Duration::from_secs(40), exchange).await.expect("an answer within 40 s")
}

type Head = (u16, Vec<(String, String)>, usize);

/// Status, headers and the offset of the body.
fn head(read: &[u8]) -> Option<Head> {
    let end = read.windows(4).position(|window| window == b"\r\n\r\n")?;
    let text = String::from_utf8_lossy(&read[..end]).into_owned();
    let mut lines = text.split("\r\n");
    let status: u16 = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers =
        lines.filter_map(|line| line.split_once(':')).map(|(name, value)| (name.to_owned(), value.trim().to_owned()));
    Some((status, headers.collect(), end + 4))
}

/// The first complete response in `read`, without interim responses.
fn parse(read: &[u8], no_body: bool) -> Option<Answer> {
    let (status, headers, start) = head(read)?;
    if (100..200).contains(&status) && status != 101 {
        return parse(&read[start..], no_body);
    }
    let find =
        |name: &str| headers.iter().find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value.clone());
    let rest = &read[start..];
    let body = if no_body || status == 304 || status == 204 || status == 101 {
        Vec::new()
    } else if let Some(length) = find("content-length").and_then(|text| text.parse::<usize>().ok()) {
        rest.get(..length)?.to_vec()
    } else if find("transfer-encoding").is_some() {
        unchunk(rest)?
    } else {
        return None;
    };
    Some(Answer { status, headers, body: String::from_utf8_lossy(&body).into_owned() })
}

fn parse_closed(read: &[u8]) -> Option<Answer> {
    let (status, headers, start) = head(read)?;
    Some(Answer { status, headers, body: String::from_utf8_lossy(&read[start..]).into_owned() })
}

fn unchunk(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|window| window == b"\r\n")?;
        let length =
            usize::from_str_radix(std::str::from_utf8(&rest[..end]).ok()?.split(';').next()?.trim(), 16).ok()?;
        rest = &rest[end + 2..];
        if length == 0 {
            return Some(body);
        }
        body.extend_from_slice(rest.get(..length)?);
        rest = rest.get(length + 2..)?;
    }
}

/// A cookie in a jar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cookie {
    pub name: String,
    pub value: String,
    pub path: String,
    pub host: String,
}

/// A browser without scripts: a User-Agent and a cookie jar.
#[derive(Clone, Debug)]
pub struct Browser {
    pub user_agent: String,
    pub jar: Vec<Cookie>,
    /// Sent with every request.
    pub headers: Vec<(String, String)>,
    /// Its IP address, a loopback address.
    pub from: IpAddr,
}

impl Browser {
    pub fn wechat() -> Self {
        Self::new(WECHAT)
    }

    pub fn desktop() -> Self {
        Self::new(DESKTOP)
    }

    pub fn new(user_agent: &str) -> Self {
        let from = IpAddr::V4(Ipv4Addr::LOCALHOST);
        Self { user_agent: user_agent.to_owned(), jar: Vec::new(), headers: Vec::new(), from }
    }

    /// The value of a cookie in the jar.
    pub fn cookie(&self, name: &str) -> Option<String> {
        self.jar.iter().find(|cookie| cookie.name == name).map(|cookie| cookie.value.clone())
    }

    /// Names of the cookies in the jar that start with `prefix`.
    pub fn names(&self, prefix: &str) -> Vec<String> {
        self.jar.iter().filter(|cookie| cookie.name.starts_with(prefix)).map(|cookie| cookie.name.clone()).collect()
    }

    /// Opens a page.
    pub async fn get(&mut self, url: &str) -> Answer {
        self.try_get(url).await.unwrap_or_else(|| panic!("no answer: GET {url}"))
    }

    /// Sends a request as a script does.
    pub async fn fetch(&mut self, url: &str) -> Answer {
        self.ask("GET", url, &[("accept", "application/json")], "").await
    }

    /// Opens a page; `None` without a response.
    pub async fn try_get(&mut self, url: &str) -> Option<Answer> {
        self.try_ask("GET", url, &[("accept", HTML)], "").await
    }

    /// Sends one request with its cookies and keeps the cookies of the response. Follows no redirect.
    pub async fn ask(&mut self, method: &str, url: &str, lines: &[(&str, &str)], body: &str) -> Answer {
        let answer = self.try_ask(method, url, lines, body).await;
        answer.unwrap_or_else(|| panic!("no answer: {method} {url}"))
    }

    /// The same; `None` without a response.
    async fn try_ask(&mut self, method: &str, url: &str, lines: &[(&str, &str)], body: &str) -> Option<Answer> {
        let parsed = url::Url::parse(url).unwrap_or_else(|error| panic!("{url}: {error}"));
        let host = parsed.host_str().unwrap().to_owned();
        let port = parsed.port_or_known_default().unwrap();
        // The URL as it is written, because a parser normalizes the path.
        let target = url.splitn(4, '/').nth(3).map(|rest| format!("/{rest}")).unwrap_or_else(|| "/".to_owned());
        let target = target.split('#').next().unwrap();
        let mut head =
            format!("{method} {target} HTTP/1.1\r\nhost: {host}:{port}\r\nuser-agent: {}\r\n", self.user_agent);
        let cookies: Vec<String> = self
            .jar
            .iter()
            .filter(|cookie| cookie.host == format!("{host}:{port}") && parsed.path().starts_with(&cookie.path))
            .map(|cookie| format!("{}={}", cookie.name, cookie.value))
            .collect();
        if !cookies.is_empty() {
            head.push_str(&format!("cookie: {}\r\n", cookies.join("; ")));
        }
        for (name, value) in
            self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).chain(lines.iter().copied())
        {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !body.is_empty() || method == "POST" {
            head.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        head.push_str(&format!("connection: close\r\n\r\n{body}"));
        let address: SocketAddr = format!("127.0.0.1:{port}").parse().unwrap();
        let answer = raw_from(self.from, address, head.as_bytes()).await?;
        self.keep(&answer, &format!("{host}:{port}"));
        Some(answer)
    }

    /// Keeps the cookies of a response by the rules of a browser that knows cookie prefixes.
    fn keep(&mut self, answer: &Answer, host: &str) {
        for line in answer.set_cookies() {
            let mut parts = line.split(';').map(str::trim);
            let (name, value) = parts.next().unwrap().split_once('=').unwrap();
            let attributes: Vec<String> = parts.map(str::to_ascii_lowercase).collect();
            let attribute =
                |wanted: &str| attributes.iter().find_map(|one| one.strip_prefix(wanted).map(str::to_owned));
            let secure = attributes.iter().any(|one| one == "secure");
            let path = attribute("path=").unwrap_or_else(|| "/".into());
            if name.starts_with("__Host-") {
                assert!(secure && path == "/" && attribute("domain=").is_none(), "a browser refuses {line}");
            }
            if name.starts_with("__Secure-") {
                assert!(secure, "a browser refuses {line}");
            }
            assert!(line.len() < 4_096, "a browser drops a cookie of {} bytes", line.len());
            self.jar.retain(|cookie| !(cookie.name == name && cookie.host == host));
            if attribute("max-age=").as_deref() != Some("0") {
                let (name, value, host) = (name.to_owned(), value.to_owned(), host.to_owned());
                self.jar.push(Cookie { name, value, path, host });
            }
        }
    }

    /// Opens a page and follows at most twenty redirects; returns all responses in order.
    pub async fn follow(&mut self, url: &str) -> Vec<Answer> {
        self.follow_until(url, |_| false).await
    }

    /// The same, but stops before a URL for which `stop` returns true.
    pub async fn follow_until(&mut self, url: &str, stop: impl Fn(&str) -> bool) -> Vec<Answer> {
        let mut answers = Vec::new();
        let mut url = url.to_owned();
        for _ in 0..20 {
            let answer = self.get(&url).await;
            let next = (300..400)
                .contains(&answer.status)
                .then(|| url::Url::parse(&url).unwrap().join(answer.location()).unwrap().to_string())
                .filter(|next| !stop(next));
            answers.push(answer);
            match next {
                Some(next) => url = next,
                None => return answers,
            }
        }
        panic!("the redirects do not end: {:?}", answers.iter().map(Answer::location).collect::<Vec<_>>());
    }
}

/// The bytes of a request with `host` and exactly these header lines, and `connection: close` unless a line sets it.
pub fn compose(method: &str, target: &str, host: &str, lines: &[(&str, &str)]) -> Vec<u8> {
    let mut head = format!("{method} {target} HTTP/1.1\r\nhost: {host}\r\n");
    for (name, value) in lines {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if !lines.iter().any(|(name, _)| name.eq_ignore_ascii_case("connection")) {
        head.push_str("connection: close\r\n");
    }
    head.push_str("\r\n");
    head.into_bytes()
}
