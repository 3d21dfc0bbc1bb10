//! What the browser sees under the prefix, and the domain proofs at the site's root.
//!
//! Routes on method and exact path. Takes no request body. Every answer says `no-store` unless it is meant for
//! machines; every state change refuses to come from another site.

mod answer;
mod enter;
pub mod jssdk;
mod leave;
pub(crate) mod rejection;
mod who;

use crate::client_address::ClientAddress;
use crate::client_kind;
use crate::client_kind::ClientKind;
use crate::clock::Timestamp;
use crate::cookie;
use crate::ext_authz::request::Credential;
use crate::ext_authz::{self, probe};
use crate::html::{Language, Page};
use crate::login::Login;
use crate::login::settings::App;
use crate::origin::authority;
use crate::rate_limit::Limits;
use crate::session::{LiveSession, SessionError, Sessions};
use crate::telemetry::{Metrics, RequestIds, Traces, traces};
use answer::Answer;
use http::request::Parts;
use http::{HeaderName, Method};
use rejection::Rejection;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tracing::Instrument as _;

/// The pages there are, by name.
const PAGES: [&str; 7] = ["login", "callback", "logout", "renew", "session", "jwks.json", "jssdk"];

/// The pages at which a GET changes something: a browser has to open them, for its user.
const CHANGE_STATE: [&str; 4] = ["login", "callback", "logout", "renew"];

/// How browsers mark what they fetch before the user opens it: the standard's header, and those of older browsers.
const SPECULATIVE: [HeaderName; 4] = [
    HeaderName::from_static("sec-purpose"),
    HeaderName::from_static("purpose"),
    HeaderName::from_static("x-purpose"),
    HeaderName::from_static("x-moz"),
];

const SEC_FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The pages of all applications of this instance.
pub(crate) struct Pages {
    /// The login they lead through.
    pub login: Arc<Login>,
    /// Budgets.
    pub limits: Arc<Limits>,
    /// Where the client's address comes from.
    pub client_address: ClientAddress,
    /// Proof files by authority.
    pub domain_proofs: HashMap<String, Vec<DomainProof>>,
    /// Where it is counted.
    pub metrics: Arc<Metrics>,
    /// Where it is traced.
    pub traces: Traces,
}

/// A file by which WeChat sees that a domain is the operator's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DomainProof {
    name: String,
    content: String,
}

/// Why a text is no domain proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DomainProofError {
    /// A name that does not hold its content, alone.
    #[error(
        "is neither MP_verify_….txt nor WW_verify_….txt with 16 letters or digits; write other files as NAME.txt=CONTENT"
    )]
    NoContent,
    /// Not a file's name.
    #[error("has a name that is not letters, digits, _ and -, and then .txt")]
    Name,
    /// Not what WeChat's files hold.
    #[error("has a content that is not 1 to 256 letters, digits and ._-=")]
    Content,
}

impl DomainProof {
    /// A proof by its name, if that holds its content, such as `MP_verify_AbCdEfGh12345678.txt` (an Official Account) and
    /// `WW_verify_….txt` (WeCom); else `NAME.txt=CONTENT` (mini programs and others).
    pub fn parse(text: &str) -> Result<Self, DomainProofError> {
        let is_word = |text: &str, more: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c));
        let (name, content) = match text.split_once('=') {
            Some(parts) => parts,
            None => {
                let word = text.strip_suffix(".txt").unwrap_or_default();
                let word = word.strip_prefix("MP_verify_").or_else(|| word.strip_prefix("WW_verify_"));
                let word = word.filter(|word| word.len() == 16 && is_word(word, ""));
                (text, word.ok_or(DomainProofError::NoContent)?)
            }
        };
        let stem = name.strip_suffix(".txt").unwrap_or_default();
        if !(1..=64).contains(&stem.len()) || !is_word(stem, "_-") {
            return Err(DomainProofError::Name);
        }
        if !(1..=256).contains(&content.len()) || !is_word(content, "._-=") {
            return Err(DomainProofError::Content);
        }
        Ok(Self { name: name.to_owned(), content: content.to_owned() })
    }

    /// The file's name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl std::str::FromStr for DomainProof {
    type Err = DomainProofError;

    fn from_str(text: &str) -> Result<Self, DomainProofError> {
        Self::parse(text)
    }
}

impl std::fmt::Display for DomainProof {
    /// The shortest text that reads as this proof.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match Self::parse(&self.name) {
            Ok(proof) if proof == *self => f.write_str(&self.name),
            _ => write!(f, "{}={}", self.name, self.content),
        }
    }
}

/// One request to the pages, with what every page needs of it.
struct PageRequest<'a> {
    request: &'a Parts,
    app: &'a Arc<App>,
    client: IpAddr,
    language: Language,
    now: Timestamp,
}

impl Pages {
    /// Answers one request at `now`. Every line that is logged meanwhile carries the request's ids.
    pub(crate) async fn answer(&self, request: &Parts, peer: IpAddr, now: Timestamp) -> Answer {
        let page = self.page(request.uri.path());
        let span = self.traces.request(&request.headers, || format!("page {page}").into());
        let ids = RequestIds::of(&request.headers);
        let (request_id, trace_id) = (ids.request_id, ids.trace_id(&span));
        // At the level of errors, so that no level leaves the ids out.
        let logged = tracing::error_span!("request", request_id, trace_id = &*trace_id);
        let routed = traces::for_request(trace_id.into_owned(), self.route(request, peer, now));
        let answer = span.scope(routed).instrument(logged).await;
        span.set_response(&request.method, answer.status());
        span.set_attribute("wechat_authz.page", page);
        answer
    }

    /// The word for the page at `path`.
    fn page(&self, path: &str) -> &'static str {
        let name = path.strip_prefix(self.login.prefix.as_str()).and_then(|rest| rest.strip_prefix('/'));
        PAGES.iter().find(|page| name == Some(page)).copied().unwrap_or("other")
    }

    /// Whether the page at `path` answers scripts alone: there is nothing on it to look at and nowhere to go from it.
    pub(crate) fn is_for_scripts(&self, path: &str) -> bool {
        matches!(self.page(path), "session" | "jwks.json" | "jssdk")
    }

    async fn route(&self, request: &Parts, peer: IpAddr, now: Timestamp) -> Answer {
        let language = Language::negotiate(&request.headers);
        let host = authority(ext_authz::envoy::host(request));
        let client = self.client_address.address(&request.headers, peer);
        let Some(app) = self.login.app(&host) else {
            self.record_rejection_at(None, request, client, Rejection::UnknownHost, now);
            return answer::page(&Page::UnknownHost, language);
        };
        let visit = PageRequest { request, app, client, language, now };
        let path = request.uri.path();
        let Some(name) = path.strip_prefix(self.login.prefix.as_str()).and_then(|rest| rest.strip_prefix('/')) else {
            return self.proof(&visit, &host, path);
        };
        let get = request.method == Method::GET;
        let look = get || request.method == Method::HEAD;
        let post = request.method == Method::POST;
        let head = request.method == Method::HEAD;
        if get && CHANGE_STATE.contains(&name) {
            if visit.is_speculative() {
                return answer::not_in_advance();
            }
            // Only a program sends a bearer token, and only on purpose.
            let bearer = matches!(ext_authz::envoy::credential(&request.headers), Credential::Bearer(_));
            if !(visit.is_navigation() || name == "renew" && bearer) {
                return answer::forbidden("open this address as a page");
            }
        }
        // A HEAD changes nothing: it spends no code, ends no session and renews none.
        match name {
            "login" if look => self.login(&visit).await,
            "callback" | "logout" | "renew" if head => answer::empty(),
            "callback" if get => self.callback(&visit).await,
            "logout" if get || post => self.logout(&visit).await,
            "renew" if get || post => self.renew(&visit),
            "session" if look => self.session_info(&visit),
            "jwks.json" if look => self.keys(),
            "jssdk" if look => self.jssdk(&visit).await,
            probe::PAGE if look => self.probe(&visit),
            "login" | "session" | "jwks.json" | "jssdk" => answer::method_not_allowed("GET, HEAD"),
            "callback" => answer::method_not_allowed("GET, HEAD"),
            "logout" | "renew" => answer::method_not_allowed("GET, HEAD, POST"),
            _ => answer::page(&Page::NotFound { home_url: "/" }, language),
        }
    }

    /// The domain proof at `path`, never a file from a disk.
    fn proof(&self, visit: &PageRequest, host: &str, path: &str) -> Answer {
        let proofs = self.domain_proofs.get(host).map(Vec::as_slice).unwrap_or_default();
        let wanted = path.strip_prefix('/').and_then(|name| proofs.iter().find(|proof| proof.name == name));
        match wanted {
            Some(proof) if matches!(visit.request.method, Method::GET | Method::HEAD) => answer::text(&proof.content),
            Some(_) => answer::method_not_allowed("GET, HEAD"),
            None => answer::page(&Page::NotFound { home_url: "/" }, visit.language),
        }
    }

    /// What reached this page, for a probe of `doctor`; for everybody else there is no such page.
    fn probe(&self, visit: &PageRequest) -> Answer {
        match probe::wish(visit.request.uri.query(), &self.sessions().keys, visit.now) {
            Some(_) => {
                let address = self.client_address.named_address(&visit.request.headers, visit.client);
                let report = probe::report("application", visit.request, address.is_some());
                probe::answer(&report, http::StatusCode::OK)
            }
            None => answer::page(&Page::NotFound { home_url: "/" }, visit.language),
        }
    }

    /// The public keys. Short-lived in caches: a new key is published long before it signs.
    fn keys(&self) -> Answer {
        let jwks = self.sessions().keys.current().jwks();
        answer::public_json(&jwks, "public, max-age=300")
    }

    fn sessions(&self) -> &Sessions {
        &self.login.sessions
    }

    /// The token of the request's cookie or bearer.
    fn token<'a>(visit: &PageRequest<'a>) -> Option<&'a str> {
        match ext_authz::envoy::credential(&visit.request.headers) {
            Credential::Cookie(token) | Credential::Bearer(token) => Some(token),
            Credential::Absent | Credential::Conflict => None,
        }
    }

    /// Every session token that the request shows: more than one where a program sends several.
    fn tokens<'a>(visit: &PageRequest<'a>) -> Vec<&'a str> {
        let headers = &visit.request.headers;
        match ext_authz::envoy::credential(headers) {
            Credential::Cookie(token) | Credential::Bearer(token) => vec![token],
            Credential::Absent => Vec::new(),
            Credential::Conflict => {
                let cookies = cookie::values(headers, cookie::SESSION);
                if cookies.is_empty() { ext_authz::envoy::bearers(headers) } else { cookies }
            }
        }
    }

    /// The live session of the request's cookie or bearer token, if it has one.
    ///
    /// # Errors
    /// How long to wait, where this address has shown too many unseen tokens: whether there is a session is not known.
    fn session(&self, visit: &PageRequest) -> Result<Option<LiveSession>, Duration> {
        let Some(token) = Self::token(visit) else { return Ok(None) };
        let admit = || {
            self.limits.new_token(visit.client).map_err(|exceeded| {
                self.record_limit(visit, exceeded.budget);
                exceeded.retry_after
            })
        };
        match self.sessions().verify(token, &visit.app.session, visit.now, admit) {
            Ok(live) => Ok(Some(live)),
            Err(SessionError::Busy(retry_after)) => Err(retry_after),
            Err(_) => Ok(None),
        }
    }

    /// The address of one of our pages at this application, and the way back from it.
    fn url(&self, visit: &PageRequest, name: &str, return_to: Option<&str>) -> String {
        visit.app.origin.page(&format!("{}/{name}", self.login.prefix), return_to)
    }
}

impl PageRequest<'_> {
    fn query(&self) -> &str {
        self.request.uri.query().unwrap_or_default()
    }

    /// The first value of a query parameter.
    fn parameter(&self, name: &str) -> Option<String> {
        let mut pairs = url::form_urlencoded::parse(self.query().as_bytes()).take(100);
        pairs.find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    }

    fn header(&self, name: HeaderName) -> &str {
        self.request.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// Whether each line of this header is `expected`; also where there is none.
    fn says_nothing_but(&self, name: HeaderName, expected: &str) -> bool {
        self.request.headers.get_all(name).iter().all(|value| value == expected)
    }

    /// Whether the browser fetches this before its user opens it.
    fn is_speculative(&self) -> bool {
        SPECULATIVE.iter().any(|name| self.request.headers.contains_key(name))
    }

    /// Whether the browser opens this address in a window or frame, rather than for an image, a script or a `fetch`. An
    /// old browser does not say.
    fn is_navigation(&self) -> bool {
        self.says_nothing_but(cookie::SEC_FETCH_MODE, "navigate")
    }

    /// Whether the user opens this in a window of its own. An old browser tells an image from it by `Accept` alone.
    fn is_document(&self) -> bool {
        let accept = self.request.headers.get(http::header::ACCEPT);
        let headers = &self.request.headers;
        let says_mode = headers.contains_key(cookie::SEC_FETCH_MODE);
        self.is_navigation()
            && self.says_nothing_but(SEC_FETCH_DEST, "document")
            && (says_mode
                || accept.is_none()
                || client_kind::classify(&self.request.method, headers) == ClientKind::Page)
    }

    /// Whether a page of another site, even of a sibling sub-domain, had the browser send this.
    fn is_cross_site(&self) -> bool {
        match self.header(SEC_FETCH_SITE) {
            "same-origin" | "none" => false,
            "" => {
                let origin = self.header(http::header::ORIGIN);
                !(origin.is_empty() || origin == self.app.origin.as_str())
            }
            _ => true,
        }
    }

    /// Whether the person came from a page of this very application. A link in a chat or a QR code did not, though the
    /// browser then says `none`, as it does for a typed address.
    fn is_same_origin(&self) -> bool {
        match self.header(SEC_FETCH_SITE) {
            "same-origin" => true,
            // A browser too old to say: the page before says it, or nothing does.
            "" => {
                let referrer = url::Url::parse(self.header(http::header::REFERER)).ok();
                referrer.is_some_and(|url| url.origin().ascii_serialization() == self.app.origin.as_str())
            }
            _ => false,
        }
    }
}

/// The answer of a handler that panicked.
pub(crate) fn internal_error() -> Answer {
    let mut answer = Answer::default();
    *answer.status_mut() = http::StatusCode::INTERNAL_SERVER_ERROR;
    crate::html::security_headers(answer.headers_mut());
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chart_names_every_page_for_istio() {
        let chart = concat!(env!("CARGO_MANIFEST_DIR"), "/helm/wechat-authz/templates/gateway/_routes.tpl");
        let text = std::fs::read_to_string(chart).unwrap();
        let (_, list) = text.split_once("{{- define \"wechat-authz.pages\" -}}\n").unwrap();
        let named: Vec<String> = serde_json::from_str(list.lines().next().unwrap()).unwrap();
        assert_eq!(named, PAGES);
    }
}
