//! A parsed request.

use std::borrow::Cow;

use bytes::Bytes;
use http::{HeaderMap, Method};
use url::form_urlencoded;

#[derive(Clone, Debug)]
pub struct Request {
    pub method: Method,
    pub path: String,
    /// Undecoded: the authorize page checks the order of its parameters.
    pub raw_query: String,
    /// Decoded once.
    pub query: Vec<(String, String)>,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Request {
    #[must_use]
    pub fn new(method: Method, path: &str, raw_query: &str, headers: HeaderMap, body: Bytes) -> Self {
        let query = form_urlencoded::parse(raw_query.as_bytes()).into_owned().collect();
        Self { method, path: path.into(), raw_query: raw_query.into(), query, headers, body }
    }

    /// The first parameter of this name; empty if absent, because WeChat treats both alike.
    #[must_use]
    pub fn param(&self, name: &str) -> &str {
        self.query.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value.as_str())
    }

    /// A field of an HTML form in the body.
    #[must_use]
    pub fn form(&self, name: &str) -> Option<String> {
        form_urlencoded::parse(&self.body).find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    }

    /// A header's text; empty if it is absent or not UTF-8.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| std::str::from_utf8(value.as_bytes()).ok()).unwrap_or_default()
    }

    /// Scheme and host from the browser's request, for links back to the simulator; empty if absent.
    #[must_use]
    pub fn origin(&self) -> String {
        let scheme = if self.header("x-forwarded-proto") == "https" { "https" } else { "http" };
        match self.header("host") {
            "" => String::new(),
            host => format!("{scheme}://{host}"),
        }
    }

    /// The user that the browser selects: `sim_user` in the query, else the header, else the cookie, percent-encoded.
    #[must_use]
    pub fn sim_user(&self) -> Option<String> {
        let from_query = Some(self.param("sim_user")).filter(|name| !name.is_empty());
        if let Some(name) = from_query {
            return Some(name.into());
        }
        let from_header = Some(self.header("x-sim-user")).filter(|name| !name.is_empty());
        from_header.or_else(|| self.cookie("sim_user")).map(percent_decoded)
    }

    fn cookie(&self, name: &str) -> Option<&str> {
        let pairs = self
            .headers
            .get_all("cookie")
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(';'));
        pairs.filter_map(|pair| pair.trim().split_once('=')).find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    #[must_use]
    pub fn is_wechat(&self) -> bool {
        self.header("user-agent").to_ascii_lowercase().contains("micromessenger")
    }

    #[must_use]
    pub fn is_desktop_wechat(&self) -> bool {
        let agent = self.header("user-agent").to_ascii_lowercase();
        ["windowswechat", "macwechat", "unifiedpc"].iter().any(|mark| agent.contains(mark))
    }
}

/// `%E5%B0%8F` is 小; a plus stays a plus.
fn percent_decoded(text: &str) -> String {
    let plus_kept: Cow<'_, str> = text.replace('+', "%2B").into();
    form_urlencoded::parse(plus_kept.as_bytes()).next().map(|(key, _)| key.into_owned()).unwrap_or_default()
}

/// `小` is `%E5%B0%8F`.
#[must_use]
pub fn percent_encoded(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(query: &str, headers: &[(&'static str, &'static str)]) -> Request {
        let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        Request::new(Method::GET, "/", query, headers, Bytes::new())
    }

    #[test]
    fn the_person_is_named_by_query_then_header_then_cookie() {
        let cookie = ("cookie", "a=b; sim_user=%E5%B0%8F%E7%BA%A2");
        assert_eq!(request("sim_user=x", &[("x-sim-user", "y"), cookie]).sim_user().as_deref(), Some("x"));
        assert_eq!(request("", &[("x-sim-user", "y"), cookie]).sim_user().as_deref(), Some("y"));
        assert_eq!(request("", &[cookie]).sim_user().as_deref(), Some("小红"));
        assert_eq!(request("", &[]).sim_user(), None);
    }

    #[test]
    fn a_parameter_is_decoded_once() {
        let asked = request("redirect_uri=https%3A%2F%2Fa%2F%3Fx%3D%2541&state=a+b", &[]);
        assert_eq!(asked.param("redirect_uri"), "https://a/?x=%41");
        assert_eq!(asked.param("state"), "a b");
        assert_eq!(asked.param("code"), "");
    }
}
