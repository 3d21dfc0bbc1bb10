//! Finds out what a live gateway sends to the check and to the application, and whether its rules match the
//! configuration.
//!
//! It uses probes, which only an operator with the signing keys can make. No probe reaches the application unless the
//! gateway passes requests that it must not pass.

use super::Finding;
use super::gateway::LiveGateway;
use crate::cli::policy::Rules;
use crate::clock;
use crate::cookie;
use crate::ext_authz::answer::IDENTITY;
use crate::ext_authz::probe::{self, Action, Report};
use crate::login::settings::App;
use crate::login_method::LoginMethod;
use crate::session::keys::{KeyRing, KeySet};
use crate::session::{Claims, token};
use crate::session_id::SessionId;
use crate::subject::Subject;
use http::{Method, StatusCode};
use std::time::Duration;
use url::Url;

const DATA: &str = "application/json";

/// The answer to a probe.
struct ProbeAnswer {
    status: StatusCode,
    report: Option<Report>,
}

impl ProbeAnswer {
    /// Whether `side` answer.
    fn is_by(&self, side: &str) -> bool {
        self.report.as_ref().is_some_and(|report| report.received_by == side)
    }

    /// Whether this is the answer of a gateway that fails closed.
    fn is_closed(&self) -> bool {
        self.status == StatusCode::FORBIDDEN || self.status.is_server_error()
    }
}

impl LiveGateway<'_> {
    /// What the check receives, what the application receives, and what happens when the check fails.
    pub(super) async fn probes(&self, url: &Url) -> Vec<Finding> {
        let Ok(keys) = KeySet::load(&self.settings.keys).map(KeyRing::new) else { return Vec::new() };
        let page = format!("{}/{}", self.settings.prefix, probe::PAGE);
        let mut findings = vec![self.check(url.path(), &keys).await];
        let checked = self.probe(Action::Report, &page, &keys).await.is_ok_and(|answer| answer.is_by("check"));
        let checked = checked && !self.settings.pages_in_band;
        if checked {
            findings.push(self.application(&page, &keys).await);
        } else if !self.settings.pages_in_band {
            let cure = format!("route {page} to listen.pages with the check on, as envoy/strict.yaml does");
            let found = format!("{page} is not checked, so doctor cannot see what the application receives");
            findings.push(Finding::warn("gateway: identity", found, cure));
        }
        findings.push(self.failure(if checked { &page } else { url.path() }, &keys).await);
        findings
    }

    async fn probe(&self, action: Action, path: &str, keys: &KeyRing) -> Result<ProbeAnswer, String> {
        let query = probe::query(action, keys, clock::now()).ok_or("no key can sign now")?;
        let cookies = format!("wechat_probe=1; {}=probe", cookie::SESSION);
        let headers = [
            ("accept", DATA),
            ("cookie", cookies.as_str()),
            ("authorization", "Bearer probe"),
            ("x-wechat-subject", "forged"),
        ];
        let answer = self.ask(Method::GET, &self.app.origin.absolute(&format!("{path}?{query}")), &headers).await?;
        Ok(ProbeAnswer { status: answer.status, report: serde_json::from_slice(&answer.body).ok() })
    }

    async fn check(&self, path: &str, keys: &KeyRing) -> Finding {
        let about = "gateway: check";
        let answer = match self.probe(Action::Report, path, keys).await {
            Ok(answer) => answer,
            Err(error) => return Finding::fail(about, format!("no answer: {error}"), "see the gateway's log"),
        };
        let Some(report) = answer.report.as_ref().filter(|_| answer.is_by("check")) else {
            let cure = "let the gateway call the check for this path and pass on the body of a denial; the instance needs \
                        the same keys.directory and the same version";
            let found = format!("a probe gets {} without a report of the check", answer.status);
            return Finding::warn(about, found, cure);
        };
        let source = &self.settings.client_address;
        if !report.cookies.iter().any(|name| name == cookie::SESSION) {
            let cure = "send cookie to the check: Envoy's allowed_headers";
            Finding::fail(about, "the check receives no Cookie: every login starts over", cure)
        } else if !report.client_address {
            let cure = format!(
                "send {source} to the check: headers_to_add in Envoy's authorization_request; or correct gateway.client_address"
            );
            Finding::fail(about, "the check receives no client address: all clients share one limit", cure)
        } else if !report.authorization {
            let cure = "send authorization to the check, or API clients cannot show a token";
            Finding::warn(about, "the check receives no Authorization", cure)
        } else {
            Finding::ok(about, "receives cookies, Authorization and the client's address")
        }
    }

    async fn application(&self, page: &str, keys: &KeyRing) -> Finding {
        let about = "gateway: identity";
        let answer = match self.probe(Action::Allow, page, keys).await {
            Ok(answer) => answer,
            Err(error) => return Finding::fail(about, format!("no answer: {error}"), "see the gateway's log"),
        };
        let Some(report) = answer.report.as_ref().filter(|_| answer.is_by("application")) else {
            let cure = format!("route {page} to listen.pages, and pass requests that the check allows");
            return Finding::fail(about, format!("a request that the check allows gets {}", answer.status), cure);
        };
        let expected = probe::identity();
        let lost: Vec<&str> = IDENTITY
            .iter()
            .zip(expected.values())
            .filter(|(name, value)| {
                let mut found = report.identity.iter().filter(|(other, _)| other == name.as_str());
                let first = found.next().map(|(_, value)| value.as_bytes());
                first != Some(value.as_bytes()) || found.next().is_some()
            })
            .map(|(name, _)| name.as_str())
            .collect();
        let cure = "pass on the x-wechat-* headers of an allowed check: Envoy's allowed_upstream_headers and \
                    decoder_header_mutation_rules";
        if report.identity.iter().any(|(_, value)| value == "forged") {
            let cure = "remove x-wechat-* from client requests, before everything else, and pass on those of the check";
            Finding::fail(about, "the application receives a client's own x-wechat-subject", cure)
        } else if !lost.is_empty() {
            Finding::fail(about, format!("the application does not receive {}", lost.join(", ")), cure)
        } else if report.cookies.iter().any(|name| name == cookie::SESSION) {
            let cure = "pass on the cookie header of an allowed check too: it holds the cookies without ours";
            Finding::fail(about, "the application receives the session's cookie", cure)
        } else if !report.cookies.iter().any(|name| name == "wechat_probe") {
            Finding::fail(
                about,
                "the application receives no cookies of its own",
                "find what removes them between the gateway and the application",
            )
        } else {
            Finding::ok(about, "the application receives every identity header, and no cookie of ours")
        }
    }

    /// Whether requests pass while the check fails. The check fails for this probe only.
    async fn failure(&self, path: &str, keys: &KeyRing) -> Finding {
        let about = "gateway: failure";
        match self.probe(Action::Fail, path, keys).await {
            Err(error) => Finding::warn(about, format!("no answer: {error}"), "see the gateway's log"),
            Ok(answer) if answer.is_closed() && answer.report.is_none() => {
                Finding::ok(about, format!("a request gets {} while the check fails", answer.status))
            }
            Ok(answer) => {
                let cure = "deny requests while the check fails: Envoy's failure_mode_allow: false";
                let found = format!("a request passes while the check fails (status {})", answer.status);
                Finding::fail(about, found, cure)
            }
        }
    }

    /// Whether a gateway that verifies tokens itself uses the rules of this configuration.
    pub(super) async fn rules(&self, url: &Url) -> Option<Finding> {
        let about = "gateway: rules";
        let cure = "generate it again: envoy/render --fast --config FILE, and have Envoy load it";
        let answer = self.ask(Method::GET, &self.is_our_page("jwks.json"), &[]).await.ok()?;
        let live = answer.headers.get("x-wechat-authz-policy").and_then(|digest| digest.to_str().ok());
        let Some(live) = live else { return self.rejected_token(url).await };
        Some(match Rules::new(self.settings, &[]) {
            Ok(rules) if rules.digest == live => Finding::ok(about, "fast.yaml is of this configuration"),
            Ok(_) => Finding::fail(about, "fast.yaml is of another configuration: its rules differ", cure),
            Err(error) => Finding::fail(about, format!("fast.yaml is of another configuration: {error}"), cure),
        })
    }

    /// Whether the gateway passes a token that the check rejects: one with a valid signature that outlives its session.
    async fn rejected_token(&self, url: &Url) -> Option<Finding> {
        let about = "gateway: rules";
        let token = token_without_user(self.app, &self.settings.keys)?;
        let cookie = format!("{}={token}", cookie::SESSION);
        let plain = self.app.origin.absolute(url.path());
        Some(match self.ask(Method::GET, &plain, &[("accept", DATA), ("cookie", &cookie)]).await {
            Err(error) => Finding::warn(about, format!("no answer: {error}"), "see the gateway's log"),
            Ok(answer) if answer.status == StatusCode::UNAUTHORIZED => {
                Finding::ok(about, "the gateway asks the check about every token")
            }
            Ok(answer) if answer.status.is_server_error() => {
                Finding::warn(about, format!("a token gets {}", answer.status), "see the gateway's log")
            }
            Ok(_) => {
                let cure = "generate fast.yaml from this configuration: envoy/render --fast --config FILE";
                Finding::fail(about, "the gateway passes tokens without a check, by rules of its own", cure)
            }
        })
    }
}

/// A token with a valid signature that no check accepts. It expires after a minute.
fn token_without_user(app: &App, keys: &crate::session::keys::KeySettings) -> Option<String> {
    let keys = KeySet::load(keys).ok()?;
    let now = clock::now();
    let end = (now + Duration::from_secs(60)).0;
    let claims = Claims {
        iss: app.session.issuer.clone(),
        aud: app.session.audience.clone(),
        sub: Subject::from_unionid("nobody").ok()?,
        sid: SessionId::random(),
        auth_time: now.0,
        iat: now.0,
        exp: end,
        // The check rejects a token that outlives its session; a gateway looks at `exp` alone.
        session_exp: now.0,
        flow: LoginMethod::Website,
        appid: String::new(),
        openid: String::new(),
        unionid: String::new(),
        nickname: String::new(),
        avatar: String::new(),
    };
    Some(token::issue(&claims, keys.signing(now)?).ok()?.0)
}
