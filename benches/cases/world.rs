//! A small deployment: one application, one key, and requests as `envoy/strict.yaml` sends them.

use http::request::Parts;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;
use wechat_authz::testing::decision::Requirement;
use wechat_authz::testing::ext_authz::authorize::Authorizer;
use wechat_authz::testing::ext_authz::{self, CheckOutcome};
use wechat_authz::testing::fixtures::{self, NOW};
use wechat_authz::testing::login_method::LoginMethod;
use wechat_authz::testing::policy::{HostMatch, PathMatch, Policy, Rule};
use wechat_authz::testing::profile::Profile;
use wechat_authz::testing::rate_limit::Limits;
use wechat_authz::testing::response::Response;
use wechat_authz::testing::session::keys::KeyRing;
use wechat_authz::testing::session::revocations::Revocations;
use wechat_authz::testing::session::{Grant, LiveSession, SessionError, Sessions, Settings};
use wechat_authz::testing::telemetry::{Metrics, TraceMetrics, Traces, traces};

pub const PEER: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

pub struct World {
    pub authorizer: Authorizer,
    pub metrics: Metrics,
    pub traces: Traces,
}

impl World {
    /// A world whose policy has this number of rules.
    pub fn new(rules: usize) -> Self {
        let directory = fixtures::key_directory();
        Self::with(rules, directory.path())
    }

    /// Two worlds with one key: neither has cached the tokens of the other.
    pub fn pair() -> (Self, Self) {
        let directory = fixtures::key_directory();
        (Self::with(0, directory.path()), Self::with(0, directory.path()))
    }

    fn with(rules: usize, keys: &std::path::Path) -> Self {
        let keys = KeyRing::new(fixtures::load_keys(keys));
        let metrics = Metrics::default();
        let week = Duration::from_secs(7 * 86_400);
        let sessions = Sessions::new(keys, Revocations::new(week, None, NOW), metrics.tokens.clone());
        let app = fixtures::shop();
        let authorizer = Authorizer {
            apps: HashMap::from_iter([fixtures::app_policy(&app)]),
            policy: policy(rules),
            prefix: "/_wechat".into(),
            delivers_set_cookie: true,
            pages_in_band: false,
            client_address: "header:x-auth-client-ip".parse().unwrap(),
            sessions: Arc::new(sessions),
            limits: Arc::new(Limits::new(&fixtures::unlimited())),
        };
        Self { authorizer, metrics, traces: Traces::off() }
    }

    /// A token of usual length for a new session.
    pub fn token(&self) -> String {
        let grant = Grant {
            subject: "wx:wx0123456789abcdef:oAbCdEfGhIjKlMnOpQrStUvWxYz0".parse().unwrap(),
            flow: LoginMethod::OfficialAccount,
            appid: "wx0123456789abcdef".into(),
            openid: "oAbCdEfGhIjKlMnOpQrStUvWxYz0".into(),
            unionid: "oUnionEfGhIjKlMnOpQrStUvWxYz".into(),
            profile: Profile {
                nickname: "小明".into(),
                avatar: format!("https://thirdwx.qlogo.cn/mmopen/vi_32/{}/132", "A".repeat(80)),
            },
        };
        self.authorizer.sessions.begin(grant, self.settings(), NOW).unwrap().token
    }

    pub fn verify(&self, token: &str) -> Result<LiveSession, SessionError> {
        self.authorizer.sessions.verify(token, self.settings(), NOW, || Ok(()))
    }

    pub fn check(&self, request: &Parts) -> Response {
        match ext_authz::check(request, PEER, &self.authorizer, &self.metrics, &self.traces, NOW) {
            CheckOutcome::Response(answer) => answer,
            CheckOutcome::Page => panic!("this world has no pages"),
        }
    }

    fn settings(&self) -> &Settings {
        &self.authorizer.apps.get("shop.example.com").unwrap().session
    }

    /// A page request from WeChat's browser, with cookies of the application beside ours.
    pub fn page(&self, token: Option<&str>) -> Parts {
        request(
            "/orders/42?tab=items&from=timeline",
            token,
            &[
                ("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
                ("sec-fetch-mode", "navigate"),
            ],
        )
    }

    /// The same request, sent by a script.
    pub fn data(&self, token: Option<&str>) -> Parts {
        request(
            "/api/orders/42?page=2",
            token,
            &[("accept", "application/json, text/plain, */*"), ("sec-fetch-mode", "cors")],
        )
    }
}

fn request(target: &str, token: Option<&str>, lines: &[(&str, &str)]) -> Parts {
    let applications = "theme=dark; _ga=GA1.1.1234567890.1790000000; cart=eyJpdGVtcyI6WzEsMiwzXX0";
    let cookies = match token {
        Some(token) => format!("theme=dark; __Host-wechat_session={token}; {applications}"),
        None => applications.to_owned(),
    };
    let mut request = http::Request::builder().method("GET").uri(target);
    let always = [
        ("host", "shop.example.com"),
        ("content-length", "0"),
        ("cookie", &cookies),
        (
            "user-agent",
            "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) \
             Mobile/15E148 MicroMessenger/8.0.60(0x18003c2f) NetType/WIFI Language/zh_CN",
        ),
        ("accept-language", "zh-CN,zh-Hans;q=0.9"),
        ("x-request-id", "d74144f0-1f3b-4b6a-9a55-0d8f2f0c7e11"),
        ("x-auth-client-ip", "203.0.113.9"),
        ("x-envoy-expected-rq-timeout-ms", "500"),
        ("x-forwarded-proto", "https"),
    ];
    for (name, value) in always.iter().chain(lines) {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

/// The token with another first letter in its signature: only the signature is wrong.
pub fn forged(token: &str) -> String {
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let other = if signature.starts_with('A') { "B" } else { "A" };
    format!("{signed}.{other}{}", signature.get(1..).unwrap())
}

/// Rules of every kind for separate paths; no two match the same path.
pub fn policy(rules: usize) -> Policy {
    let rule = |number: usize| {
        let path = match number % 3 {
            0 => PathMatch::prefix(&format!("/area{number}/42")),
            1 => PathMatch::pattern(&format!("/area{number}/*/items")),
            _ => PathMatch::pattern(&format!("/area{number}/**")),
        };
        let host =
            if number % 4 == 1 { HostMatch::One("shop.example.com".to_owned()) } else { HostMatch::Applications };
        let methods = (number % 5 == 2).then(|| vec![http::Method::GET, http::Method::POST]);
        Rule { host, methods, ..Rule::new(path.unwrap(), Requirement::Optional) }
    };
    Policy::new((0..rules).map(rule).collect())
}

/// Traces to a collector that does not run: no trace should be sent.
pub fn traces() -> Traces {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = Box::leak(Box::new(tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()));
    let endpoint = |name: &str| (name == "OTEL_EXPORTER_OTLP_ENDPOINT").then(|| "http://127.0.0.1:9".to_owned());
    let settings = traces::read(endpoint).settings.unwrap();
    Traces::new(&settings, "bench", None, runtime.handle().clone(), TraceMetrics::default()).unwrap()
}
