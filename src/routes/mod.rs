//! The pages under the prefix, one file per route, and the domain proofs at the root of each host.
//!
//! Requests are routed by method and exact path, and have no body. Responses are `no-store` unless they are public. A
//! request of another site changes no state.

mod callback;
mod domain_proof;
pub mod jssdk;
mod jwks;
mod login;
mod logout;
pub(crate) mod rejection;
mod renew;
mod session;

pub(crate) use domain_proof::DomainProof;

use crate::client_address::ClientAddress;
use crate::client_kind::{self, ClientKind};
use crate::clock::Timestamp;
use crate::cookie;
use crate::ext_authz::request::Credential;
use crate::ext_authz::{self, probe};
use crate::html::{Language, Page};
use crate::login::Login;
use crate::login::settings::App;
use crate::origin::authority;
use crate::rate_limit::Limits;
use crate::response::{self, Response};
use crate::session::{LiveSession, SessionError, Sessions};
use crate::telemetry::{Metrics, RequestIds, Traces, traces};
use http::request::Parts;
use http::{HeaderName, Method, StatusCode};
use rejection::Rejection;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tracing::Instrument as _;

/// The names of the pages.
const PAGES: [&str; 7] = ["login", "callback", "logout", "renew", "session", "jwks.json", "jssdk"];

/// The pages at which a GET changes state. A browser must navigate to them.
const STATE_CHANGING: [&str; 4] = ["login", "callback", "logout", "renew"];

/// The headers that mark a prefetch or prerender: the standard one, and those of older browsers.
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
    /// Starts and completes logins.
    pub login: Arc<Login>,
    /// Rate limits.
    pub limits: Arc<Limits>,
    /// The source of the client address.
    pub client_address: ClientAddress,
    /// Domain proofs by authority.
    pub domain_proofs: HashMap<String, Vec<DomainProof>>,
    /// Metrics.
    pub metrics: Arc<Metrics>,
    /// Traces.
    pub traces: Traces,
}

/// A request to a page of an application.
struct PageRequest<'a> {
    parts: &'a Parts,
    app: &'a Arc<App>,
    client: IpAddr,
    language: Language,
    now: Timestamp,
}

impl Pages {
    /// Answers a request. Each log line of the request carries its request id and trace id.
    pub(crate) async fn answer(&self, parts: &Parts, peer: IpAddr, now: Timestamp) -> Response {
        let page = self.page_name(parts.uri.path());
        let span = self.traces.request(&parts.headers, || format!("page {page}").into());
        let ids = RequestIds::of(&parts.headers);
        let (request_id, trace_id) = (ids.request_id, ids.trace_id(&span));
        // Level `error` keeps this span, and so the ids, at every log level.
        let log_span = tracing::error_span!("request", request_id, trace_id = &*trace_id);
        let routed = traces::for_request(trace_id.into_owned(), self.route(parts, peer, now));
        let response = span.scope(routed).instrument(log_span).await;
        span.set_response(&parts.method, response.status());
        span.set_attribute("wechat_authz.page", page);
        response
    }

    /// The name of the page at `path`, for metrics and logs.
    fn page_name(&self, path: &str) -> &'static str {
        let name = path.strip_prefix(self.login.prefix.as_str()).and_then(|rest| rest.strip_prefix('/'));
        PAGES.iter().find(|page| name == Some(page)).copied().unwrap_or("other")
    }

    /// Whether only scripts use the page at `path`: a browser that opens it has nothing to show.
    pub(crate) fn is_for_scripts(&self, path: &str) -> bool {
        matches!(self.page_name(path), "session" | "jwks.json" | "jssdk")
    }

    async fn route(&self, parts: &Parts, peer: IpAddr, now: Timestamp) -> Response {
        let language = Language::negotiate(&parts.headers);
        let host = authority(ext_authz::envoy::host(parts));
        let client = self.client_address.address(&parts.headers, peer);
        let Some(app) = self.login.app(&host) else {
            self.record_rejection_at(None, parts, client, Rejection::UnknownHost, now);
            return response::page(&Page::UnknownHost, language);
        };
        let request = PageRequest { parts, app, client, language, now };
        let path = parts.uri.path();
        let Some(name) = path.strip_prefix(self.login.prefix.as_str()).and_then(|rest| rest.strip_prefix('/')) else {
            return self.domain_proof(&request, &host, path);
        };
        let get = parts.method == Method::GET;
        let head = parts.method == Method::HEAD;
        let post = parts.method == Method::POST;
        if get && STATE_CHANGING.contains(&name) {
            if request.is_speculative() {
                // Nothing changes. The browser sends the request again when the user opens the page.
                return response::empty(StatusCode::SERVICE_UNAVAILABLE);
            }
            // A browser never sends a bearer token on its own.
            let bearer = matches!(ext_authz::envoy::credential(&parts.headers), Credential::Bearer(_));
            if !(request.is_navigation() || name == "renew" && bearer) {
                return response::json_error(StatusCode::FORBIDDEN, "open this address as a page");
            }
        }
        // HEAD changes no state.
        match name {
            "login" if get || head => self.login(&request).await,
            "callback" | "logout" | "renew" if head => response::empty(StatusCode::OK),
            "callback" if get => self.callback(&request).await,
            "logout" if get || post => self.logout(&request).await,
            "renew" if get || post => self.renew(&request),
            "session" if get || head => self.session_info(&request),
            "jwks.json" if get || head => self.jwks(),
            "jssdk" if get || head => self.jssdk(&request).await,
            probe::PAGE if get || head => self.probe(&request),
            "login" | "callback" | "session" | "jwks.json" | "jssdk" => response::method_not_allowed("GET, HEAD"),
            "logout" | "renew" => response::method_not_allowed("GET, HEAD, POST"),
            _ => request.page(&Page::NotFound { home_url: "/" }),
        }
    }

    /// Tells a probe of `doctor` which headers reached this listener. For all other clients the page does not exist.
    fn probe(&self, request: &PageRequest) -> Response {
        match probe::action(request.parts.uri.query(), &self.sessions().keys, request.now) {
            Some(_) => {
                let address = self.client_address.named_address(&request.parts.headers, request.client);
                let report = probe::report("application", request.parts, address.is_some());
                probe::answer(&report, StatusCode::OK)
            }
            None => request.page(&Page::NotFound { home_url: "/" }),
        }
    }

    fn sessions(&self) -> &Sessions {
        &self.login.sessions
    }

    /// The live session of the request's token, if there is one.
    ///
    /// # Errors
    /// The time to wait, if this client address has sent too many new tokens. Whether there is a session is then unknown.
    fn session(&self, request: &PageRequest) -> Result<Option<LiveSession>, Duration> {
        let Some(token) = request.token() else { return Ok(None) };
        let admit = || {
            self.limits.new_token(request.client).map_err(|exceeded| {
                self.record_limit(request, exceeded.limit);
                exceeded.retry_after
            })
        };
        match self.sessions().verify(token, &request.app.session, request.now, admit) {
            Ok(live) => Ok(Some(live)),
            Err(SessionError::Busy(retry_after)) => Err(retry_after),
            Err(_) => Ok(None),
        }
    }

    /// The absolute URL of the page `name`, with `return_to`.
    fn url(&self, request: &PageRequest, name: &str, return_to: Option<&str>) -> String {
        request.app.origin.page(&format!("{}/{name}", self.login.prefix), return_to)
    }
}

impl<'a> PageRequest<'a> {
    /// `page` in the language of the request.
    fn page(&self, page: &Page) -> Response {
        response::page(page, self.language)
    }

    /// The session token in the request's cookie or `Authorization` header.
    fn token(&self) -> Option<&'a str> {
        match ext_authz::envoy::credential(&self.parts.headers) {
            Credential::Cookie(token) | Credential::Bearer(token) => Some(token),
            Credential::Absent | Credential::Conflict => None,
        }
    }

    /// All session tokens in the request. Some programs send more than one.
    fn tokens(&self) -> Vec<&'a str> {
        let headers = &self.parts.headers;
        match ext_authz::envoy::credential(headers) {
            Credential::Cookie(token) | Credential::Bearer(token) => vec![token],
            Credential::Absent => Vec::new(),
            Credential::Conflict => {
                let cookies = cookie::values(headers, cookie::SESSION);
                if cookies.is_empty() { ext_authz::envoy::bearers(headers) } else { cookies }
            }
        }
    }

    fn query(&self) -> &str {
        self.parts.uri.query().unwrap_or_default()
    }

    /// The first value of a query parameter.
    fn parameter(&self, name: &str) -> Option<String> {
        let mut pairs = url::form_urlencoded::parse(self.query().as_bytes()).take(100);
        pairs.find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    }

    fn header(&self, name: HeaderName) -> &str {
        self.parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// Whether every line of this header equals `expected`. True if the header is absent.
    fn is_absent_or(&self, name: HeaderName, expected: &str) -> bool {
        self.parts.headers.get_all(name).iter().all(|value| value == expected)
    }

    /// Whether this is a prefetch or prerender.
    fn is_speculative(&self) -> bool {
        SPECULATIVE.iter().any(|name| self.parts.headers.contains_key(name))
    }

    /// Whether this is a navigation, not a subresource or a `fetch`. Old browsers do not send `Sec-Fetch-Mode`.
    fn is_navigation(&self) -> bool {
        self.is_absent_or(cookie::SEC_FETCH_MODE, "navigate")
    }

    /// Whether this is a navigation of a top-level window. An old browser distinguishes it from an image by `Accept` only.
    fn is_document(&self) -> bool {
        let headers = &self.parts.headers;
        self.is_navigation()
            && self.is_absent_or(SEC_FETCH_DEST, "document")
            && (headers.contains_key(cookie::SEC_FETCH_MODE)
                || !headers.contains_key(http::header::ACCEPT)
                || client_kind::classify(&self.parts.method, headers) == ClientKind::Page)
    }

    /// Whether another site, including a sibling subdomain, caused this request.
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

    /// Whether a page of this application caused this request. For a link in a chat, a QR code or a typed address browsers
    /// send `none`.
    fn is_same_origin(&self) -> bool {
        match self.header(SEC_FETCH_SITE) {
            "same-origin" => true,
            // Old browsers send `Referer` only.
            "" => {
                let referrer = url::Url::parse(self.header(http::header::REFERER)).ok();
                referrer.is_some_and(|url| url.origin().ascii_serialization() == self.app.origin.as_str())
            }
            _ => false,
        }
    }
}

/// The response if a handler panicked.
pub(crate) fn internal_error() -> Response {
    response::empty(StatusCode::INTERNAL_SERVER_ERROR)
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
