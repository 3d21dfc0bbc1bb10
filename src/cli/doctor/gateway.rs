//! Finds out what the live gateway loses: statuses, headers, cookies, and the pages under the prefix.
//!
//! It sends requests like a browser without a session, and follows no redirect.

use super::parts::innermost;
use super::{Finding, TIMEOUT};
use crate::config::settings::Settings;
use crate::decision::{Reason, Requirement};
use crate::http_client;
use crate::login::settings::App;
use crate::path::NormalPath;
use crate::session::keys::KeySet;
use http::{HeaderMap, Method, StatusCode, header};
use serde_json::Value;
use std::collections::BTreeSet;
use url::Url;

/// The longest response body.
const MAX_BODY: usize = 256 * 1024;

const PAGE: &str = "text/html,application/xhtml+xml";
const WECHAT: &str =
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) AppleWebKit/605.1.15 MicroMessenger/8.0.50";
const DESKTOP: &str = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/140.0.0.0 Safari/537.36";

/// A state that no login attempt has.
const UNKNOWN_STATE: &str = "00000000000000000000000000000000";

/// A response.
pub(super) struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: header::HeaderName) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    fn json(&self) -> Option<Value> {
        serde_json::from_slice(&self.body).ok()
    }
}

/// The live gateway in front of one application.
pub(super) struct LiveGateway<'a> {
    http: reqwest::Client,
    pub settings: &'a Settings,
    pub app: &'a App,
}

/// Checks the gateway at `url`, an address of an application that requires a login.
pub(super) async fn inspect(settings: &Settings, url: &Url) -> Vec<Finding> {
    let origin = url.origin().ascii_serialization();
    let Some(app) = settings.apps.iter().find(|app| app.origin.as_str() == origin) else {
        let known: Vec<&str> = settings.apps.iter().map(|app| app.origin.as_str()).collect();
        let cure = format!("use an address below one of: {}; or correct apps[].origin", known.join(", "));
        return vec![Finding::fail("gateway", format!("no application lives at {origin}"), cure)];
    };
    let built = http_client::client(|| http_client::builder().timeout(TIMEOUT));
    let http = match built {
        Ok(http) => http,
        Err(error) => return vec![Finding::fail("gateway", error.to_string(), "report this as a bug")],
    };
    let live = LiveGateway { http, settings, app };
    let mut findings = Vec::new();
    match live.ask(Method::GET, url.as_str(), &[("accept", PAGE), ("user-agent", DESKTOP)]).await {
        Err(why) => {
            let cure = "check that the gateway runs there, and that DNS and the certificate are right";
            findings.push(Finding::fail("gateway", format!("{origin} does not answer: {why}"), cure));
            return findings;
        }
        Ok(answer) => findings.extend(live.page(url, &answer)),
    }
    findings.push(live.data(url).await);
    findings.push(live.keys().await);
    findings.push(live.login().await);
    findings.push(live.callback().await);
    findings.push(live.long_cookies().await);
    findings.extend(live.plain_http(url).await);
    findings.extend(live.probes(url).await);
    findings.extend(live.rules(url).await);
    findings
}

impl LiveGateway<'_> {
    pub(super) async fn ask(&self, method: Method, url: &str, headers: &[(&str, &str)]) -> Result<Answer, String> {
        let mut request = self.http.request(method, url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut answer = request.send().await.map_err(|error| innermost(&error.without_url()))?;
        let (status, headers, mut body) = (answer.status(), answer.headers().clone(), Vec::new());
        while let Some(chunk) = answer.chunk().await.map_err(|error| innermost(&error.without_url()))? {
            body.extend_from_slice(&chunk);
            if body.len() > MAX_BODY {
                return Err("a very long answer".to_owned());
            }
        }
        Ok(Answer { status, headers, body })
    }

    pub(super) fn is_our_page(&self, page: &str) -> String {
        self.app.origin.absolute(&format!("{}/{page}", self.settings.prefix))
    }

    /// A page request without a session: 302 to the login, uncached.
    fn page(&self, url: &Url, answer: &Answer) -> Vec<Finding> {
        let (about, status) = ("gateway: pages", answer.status);
        let required = NormalPath::parse(url.path()).is_ok_and(|path| {
            let client = Some(std::net::Ipv4Addr::LOCALHOST.into());
            let requirement =
                self.settings.policy.requirement(self.app.origin.authority(), &path, &Method::GET, client);
            requirement.is_ok_and(|requirement| *requirement != Requirement::Public)
        });
        if !required {
            let cure = "use an address that requires a login";
            return vec![Finding::warn(about, format!("{} is public by the policy", url.path()), cure)];
        }
        let mut findings = Vec::new();
        let target = url.join(answer.header(header::LOCATION)).ok().filter(|_| status.is_redirection());
        let login = target.as_ref().is_some_and(|to| to.path() == format!("{}/login", self.settings.prefix));
        let home = target.as_ref().is_some_and(|to| to.origin() == url.origin());
        // Without the query, which may hold secrets.
        let place = target.as_ref().map(|to| format!("{}{}", to.origin().ascii_serialization(), to.path()));
        if login && home && status == StatusCode::FOUND {
            findings.push(Finding::ok(about, "an unknown browser is redirected to the login"));
        } else if login
            && !home
            && let Some(place) = &place
        {
            let cure = "set apps[].origin to the origin that browsers use, and do not rewrite Location";
            findings.push(Finding::fail(about, format!("an unknown browser is redirected to {place}"), cure));
        } else if !login && let Some(place) = &place {
            let cure = "this redirect is not from wechat-authz: put ext_authz before this host and path, and before other redirects";
            findings.push(Finding::fail(
                about,
                format!("an unknown browser is redirected to {place}, which is not our login"),
                cure,
            ));
        } else if status.is_success() {
            let cure = "the application answers without a session: put ext_authz before this host and path, or set access: optional in the policy";
            findings.push(Finding::fail(about, format!("an unknown browser gets {status}"), cure));
        } else if status.is_server_error() {
            let cure = "the gateway does not reach the check listener in time: compare its address with listen.check";
            findings.push(Finding::fail(about, format!("an unknown browser gets {status}"), cure));
        } else {
            let cure = "the gateway must pass on the status and Location of a denial unchanged";
            findings.push(Finding::fail(about, format!("an unknown browser gets {status} instead of 302"), cure));
        }
        if status == StatusCode::FOUND && !answer.header(header::CACHE_CONTROL).contains("no-store") {
            let cure = "pass on cache-control of a denial: Envoy's allowed_client_headers";
            findings.push(Finding::fail(
                about,
                "Cache-Control is lost on a denial: a cache may store a redirect",
                cure,
            ));
        }
        findings
    }

    /// A data request without a session: 401 with our JSON.
    async fn data(&self, url: &Url) -> Finding {
        let about = "gateway: data";
        let answer = match self.ask(Method::GET, url.as_str(), &[("accept", "application/json")]).await {
            Ok(answer) => answer,
            Err(why) => return Finding::fail(about, format!("no answer: {why}"), "see the gateway's log"),
        };
        let body = answer.json();
        let login_url = body.as_ref().and_then(|body| body.pointer("/data/login_url")).and_then(Value::as_str);
        if answer.status != StatusCode::UNAUTHORIZED {
            let cure = "scripts need the 401: the gateway must pass on the status of a denial";
            return Finding::fail(about, format!("a script gets {} instead of 401", answer.status), cure);
        }
        if login_url.is_none() {
            let cure = "pass on the body of a denial: Envoy's max_denied_response_body_bytes, and no local_reply_config for 401";
            return Finding::fail(about, "the 401 has lost its JSON", cure);
        }
        if !answer.header(header::CONTENT_TYPE).starts_with("application/json") {
            let cure = "pass on content-type of a denial: Envoy's allowed_client_headers";
            return Finding::fail(about, "the 401 has lost its Content-Type", cure);
        }
        Finding::ok(about, "a script gets 401 with the URL of the login")
    }

    /// Whether this is the check listener's answer to a request for the keys, with pages in-band.
    fn is_in_band(answer: &Answer) -> bool {
        let reason = answer.json().as_ref().and_then(|body| body.pointer("/data/reason")).cloned();
        answer.status == StatusCode::FORBIDDEN && reason == Some(Reason::PageInBand.as_str().into())
    }

    /// Whether the request reached the page of the keys, or the check listener with pages in-band.
    fn reached_keys(&self, answer: &Answer) -> bool {
        if self.settings.pages_in_band { Self::is_in_band(answer) } else { answer.status == StatusCode::OK }
    }

    /// Whether the check listener answers the pages in-band.
    async fn in_band(&self) -> Finding {
        let about = "gateway: prefix";
        let cure = "let the gateway check the prefix as well, or route it and set gateway.pages_in_band: false";
        match self.ask(Method::GET, &self.is_our_page("jwks.json"), &[]).await {
            Err(why) => Finding::fail(about, format!("no answer: {why}"), cure),
            Ok(answer) if Self::is_in_band(&answer) => {
                Finding::ok(about, "leads to the check listener, which answers the pages")
            }
            Ok(answer) => {
                let found =
                    format!("{}/jwks.json gets {}, not from the check listener", self.settings.prefix, answer.status);
                Finding::fail(about, found, cure)
            }
        }
    }

    /// Whether the prefix leads to the pages listener: only it has the keys.
    async fn keys(&self) -> Finding {
        if self.settings.pages_in_band {
            return self.in_band().await;
        }
        let about = "gateway: prefix";
        let route =
            format!("route {}/ to listen.pages, whole segments, with the check off there", self.settings.prefix);
        let answer = match self.ask(Method::GET, &self.is_our_page("jwks.json"), &[]).await {
            Ok(answer) => answer,
            Err(why) => return Finding::fail(about, format!("no answer: {why}"), route),
        };
        let kids = |jwks: &Value| -> BTreeSet<String> {
            let keys = jwks.get("keys").and_then(Value::as_array).into_iter().flatten();
            keys.filter_map(|key| key.get("kid")?.as_str().map(str::to_owned)).collect()
        };
        match answer.json().filter(|body| answer.status == StatusCode::OK && body.get("keys").is_some()) {
            None => Finding::fail(about, format!("{}/jwks.json gets {}", self.settings.prefix, answer.status), route),
            Some(body) => {
                let own = KeySet::load(&self.settings.keys).map(|keys| kids(&keys.jwks())).unwrap_or_default();
                if own == kids(&body) {
                    Finding::ok(about, "leads to an instance with these keys")
                } else {
                    let cure =
                        "all instances need the same files in keys.directory, or they reject each other's sessions";
                    Finding::fail(about, "leads to an instance with other keys", cure)
                }
            }
        }
    }

    /// Whether the login redirects to WeChat, with the attempt's cookie and our callback.
    async fn login(&self) -> Finding {
        let about = "gateway: login";
        let agent = if self.app.official_account.is_some() { WECHAT } else { DESKTOP };
        let headers = [("accept", PAGE), ("user-agent", agent)];
        let answer = match self.ask(Method::GET, &self.is_our_page("login?go=1"), &headers).await {
            Ok(answer) => answer,
            Err(why) => return Finding::fail(about, format!("no answer: {why}"), "see the gateway's log"),
        };
        let location = Url::parse(answer.header(header::LOCATION)).ok();
        let Some(location) = location.filter(|_| answer.status == StatusCode::FOUND) else {
            let cure = "the gateway must pass on the statuses and Location of the pages unchanged";
            return Finding::fail(about, format!("gets {} instead of a redirect to WeChat", answer.status), cure);
        };
        let callback =
            location.query_pairs().find(|(name, _)| name == "redirect_uri").map(|(_, value)| value.into_owned());
        if location.origin() != self.settings.wechat.open.origin()
            || callback.as_deref() != Some(&self.is_our_page("callback"))
        {
            let cure = "Location is rewritten on the way from the pages listener: switch that off for the prefix";
            return Finding::fail(about, "the redirect does not lead to WeChat and back to our callback", cure);
        }
        let cookies: Vec<&str> =
            answer.headers.get_all(header::SET_COOKIE).iter().filter_map(|cookie| cookie.to_str().ok()).collect();
        let Some(cookie) = cookies.iter().find(|cookie| cookie.contains("wechat_flow")) else {
            let cure = "pass on Set-Cookie of the pages: without the attempt's cookie no callback is accepted";
            return Finding::fail(about, "the attempt's cookie is lost", cure);
        };
        let attributes = cookie.to_ascii_lowercase();
        if let Some(lost) = ["secure", "httponly", "samesite=lax"].iter().find(|word| !attributes.contains(**word)) {
            let cure = "Set-Cookie is rewritten: switch that off";
            return Finding::fail(about, format!("the attempt's cookie has lost {lost}"), cure);
        }
        Finding::ok(about, format!("leads to {}, with its cookie", location.host_str().unwrap_or_default()))
    }

    /// Whether a callback with an unknown state reaches our error page.
    async fn callback(&self) -> Finding {
        let about = "gateway: callback";
        let url = self.is_our_page(&format!("callback?code=doctor&state={UNKNOWN_STATE}"));
        match self.ask(Method::GET, &url, &[("accept", PAGE), ("user-agent", WECHAT)]).await {
            Err(why) => Finding::fail(about, format!("no answer: {why}"), "see the gateway's log"),
            Ok(answer) if answer.status != StatusCode::BAD_REQUEST => {
                let cure = "route the whole prefix to listen.pages and pass on its statuses";
                Finding::fail(about, format!("an unknown callback gets {} instead of 400", answer.status), cure)
            }
            Ok(answer) if answer.header(header::CONTENT_SECURITY_POLICY).is_empty() => {
                let cure = "pass on content-security-policy of the pages";
                Finding::fail(about, "Content-Security-Policy is lost on our pages", cure)
            }
            Ok(_) => Finding::ok(about, "reaches the pages listener"),
        }
    }

    /// Whether cookies of 7 KiB pass: a session and five login attempts need up to 8 KiB.
    async fn long_cookies(&self) -> Finding {
        let about = "gateway: cookies";
        let cookie = format!("other={}", "a".repeat(7_000));
        match self.ask(Method::GET, &self.is_our_page("jwks.json"), &[("cookie", &cookie)]).await {
            Ok(answer) if self.reached_keys(&answer) => Finding::ok(about, "7 KiB of cookies pass"),
            Ok(answer) => {
                let cure = "raise the gateway's limit for request headers to 16 KiB";
                Finding::warn(about, format!("7 KiB of cookies get {}", answer.status), cure)
            }
            Err(why) => Finding::warn(about, format!("7 KiB of cookies get no answer: {why}"), "see the gateway's log"),
        }
    }

    /// Whether plain http redirects to https, or nothing listens there.
    async fn plain_http(&self, url: &Url) -> Option<Finding> {
        let about = "gateway: http";
        let host = url.host_str().filter(|_| url.scheme() == "https" && url.port().is_none())?;
        let answer = self.ask(Method::GET, &format!("http://{host}/"), &[("accept", PAGE)]).await.ok()?;
        let location = answer.header(header::LOCATION);
        Some(if answer.status.is_redirection() && location.starts_with("https://") {
            Finding::ok(about, "plain http redirects to https")
        } else {
            let cure = "redirect port 80 to https: our cookies need https";
            Finding::warn(about, format!("plain http gets {}", answer.status), cure)
        })
    }
}
