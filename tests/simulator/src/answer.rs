//! An answer before it is sent, and its sentence for the journal.

use http::{HeaderName, HeaderValue, StatusCode, header};

use crate::payload::Payload;
use crate::world::World;

#[derive(Clone, Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub content: Content,
    /// A sentence for the journal and the terminal; never with a code, token or secret.
    pub decision: String,
}

#[derive(Clone, Debug)]
pub enum Content {
    Fields(Payload),
    Text(String),
}

impl Answer {
    #[must_use]
    pub fn new(status: StatusCode, content_type: &'static str, content: Content, decision: impl Into<String>) -> Self {
        let headers = vec![
            (header::CONTENT_TYPE, HeaderValue::from_static(content_type)),
            (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        ];
        Self { status, headers, content, decision: decision.into() }
    }

    /// A page for a user, always 200, as WeChat's error pages are.
    #[must_use]
    pub fn page(html: String, decision: impl Into<String>) -> Self {
        let mut page = Self::new(StatusCode::OK, "text/html; charset=utf-8", Content::Text(html), decision);
        // No frame-ancestors: the site that embeds the QR page shows it in a frame.
        page.put(
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'unsafe-inline'; script-src 'self' 'unsafe-inline'; img-src 'self'; connect-src 'self'",
        );
        page
    }

    /// JSON of `sns/*`: `text/plain`, without a charset, although it is UTF-8.
    #[must_use]
    pub fn api(payload: Payload, decision: impl Into<String>) -> Self {
        Self::new(StatusCode::OK, "text/plain", Content::Fields(payload), decision)
    }

    /// JSON of the simulator's own.
    #[must_use]
    pub fn json(status: StatusCode, value: &serde_json::Value) -> Self {
        Self::new(status, "application/json", Content::Text(format!("{value}\n")), "control")
    }

    #[must_use]
    pub fn redirect(location: &str, decision: impl Into<String>) -> Self {
        let mut redirect =
            Self::new(StatusCode::FOUND, "text/html; charset=utf-8", Content::Text(String::new()), decision);
        redirect.put(header::LOCATION, &ascii(location));
        redirect
    }

    /// Adds a header; drops one that HTTP cannot carry.
    pub fn put(&mut self, name: HeaderName, value: &str) {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.push((name, value));
        }
    }

    pub fn set_content_type(&mut self, value: &str) {
        self.headers.retain(|(name, _)| name != header::CONTENT_TYPE);
        self.put(header::CONTENT_TYPE, value);
    }
}

/// An errcode in the form of an API answer: the text followed by a request id, HTTP 200.
#[must_use]
pub fn errcode(world: &mut World, code: i64) -> Answer {
    let rid = format!("{:08x}-{}-{}", world.clock.now().unix_seconds(), world.dice.hex8(), world.dice.hex8());
    let payload = Payload::default().with("errcode", code).with("errmsg", format!("{}, rid: {rid}", errmsg(code)));
    Answer::api(payload, format!("refused: {code} {}", errmsg(code)))
}

/// WeChat's text for a code.
fn errmsg(code: i64) -> &'static str {
    match code {
        -1 => "system error",
        40001 => "invalid credential, access_token is invalid or not latest",
        40002 => "invalid grant_type",
        40003 => "invalid openid",
        40013 => "invalid appid",
        40014 => "invalid access_token",
        40029 => "invalid code",
        40030 => "invalid refresh_token",
        40066 => "invalid url",
        40125 => "invalid appsecret",
        40163 => "code been used",
        40164 => "invalid ip 203.0.113.7 ipv6 ::ffff:203.0.113.7, not in whitelist",
        40226 => "code blocked",
        40243 => "AppSecret frozen",
        41001 => "access_token missing",
        41002 => "appid missing",
        41003 => "refresh_token missing",
        41004 => "appsecret missing",
        41008 => "missing code",
        41009 => "missing openid",
        42001 => "access_token expired",
        42002 => "refresh_token expired",
        42003 => "oauth_code expired",
        42007 => "user changed password, authorize again",
        43001 => "require GET method",
        43002 => "require POST method",
        45009 => "reach max api daily quota limit",
        45011 => "api minute-quota reach limit  mustslower  retry next minute",
        48001 => "api unauthorized",
        48004 => "api forbidden",
        50001 => "user unauthorized",
        50002 => "user limited",
        _ => "error",
    }
}

/// Percent-encodes what a `Location` must not contain; everything else stays as the app wrote it.
fn ascii(location: &str) -> String {
    let mut text = String::with_capacity(location.len());
    for byte in location.bytes() {
        if byte.is_ascii_graphic() {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}
