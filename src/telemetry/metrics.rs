//! Metrics: every name there is, in OpenMetrics text. Labels come from closed sets: words of ours, the applications of
//! the configuration, WeChat's known error codes.

mod labels;
mod outbox;
mod process;
#[cfg(test)]
mod tests;

use super::LogLimiter;
use crate::app_name::AppName;
use crate::decision::{Decision, Reason};
use crate::login_method::LoginMethod;
use labels::{
    AppLabels, BreakerLabels, CauseLabels, CheckLabels, DropLabels, KeyLabels, LimitLabels, ListenerLabels,
    LoginFailureLabels, LoginLabels, OutcomeLabels, QuotaLabels, ReasonLabels, RedisCallLabels, RedisFailureLabels,
    RejectionLabels, TokenFailureLabels, TokenLabels, WechatCallLabels,
};
pub use outbox::OutboxMetrics;
use process::Process;
use prometheus_client::encoding::EncodeMetric;
use prometheus_client::encoding::text::{encode, encode_registry};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

/// The content type of [`Metrics::render`].
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Check latencies: from what memory answers to what the gateway gives up on. One bound beyond 0.5 s, or no quantile
/// could ever exceed it.
const CHECK_BUCKETS: [f64; 13] = [5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2.5e-3, 1e-2, 5e-2, 0.5, 1.0];

/// Calls to WeChat: 0.4 s is usual, 5 s the end of patience.
const CALL_BUCKETS: [f64; 10] = [0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0];

/// A person's login: a silent one takes a second, a scanned one a minute.
const LOGIN_BUCKETS: [f64; 9] = [0.25, 0.5, 1.0, 2.0, 5.0, 15.0, 60.0, 180.0, 600.0];

/// Calls to Redis: 0.1 ms is usual beside it, 0.3 s the end of patience.
const STORE_BUCKETS: [f64; 8] = [1e-4, 2.5e-4, 5e-4, 1e-3, 5e-3, 2e-2, 0.1, 0.3];

type Buckets = fn() -> Histogram;

/// One metric, as a table of them tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetricInfo {
    /// Its family's name, as `# HELP` and `docs/en/metrics.md` say it: `wechat_authz_checks`. A query adds `_total` to a counter's,
    /// `_bucket`, `_count` or `_sum` to a histogram's, `_info` to an info's.
    pub name: String,
    /// `counter`, `gauge`, `histogram`, `info`.
    pub kind: &'static str,
    /// What it says.
    pub help: &'static str,
}

impl MetricInfo {
    fn of(name: &str, metric: &impl EncodeMetric, help: &'static str) -> Self {
        let kind = match metric.metric_type() {
            MetricType::Counter => "counter",
            MetricType::Gauge => "gauge",
            MetricType::Histogram => "histogram",
            MetricType::Info => "info",
            MetricType::Unknown => "unknown",
        };
        Self { name: format!("{PREFIX}_{name}"), kind, help }
    }
}

const PREFIX: &str = "wechat_authz";

/// How look-ups of tokens went; counted where they happen.
#[derive(Clone, Default)]
pub struct Lookups {
    /// Found verified.
    pub hits: Counter,
    /// Found refused.
    pub rejected_hits: Counter,
    /// Signatures checked.
    pub verified: Counter,
    /// Refused before the signature.
    pub refused_cheaply: Counter,
}

/// What is counted of Redis, where it happens.
#[derive(Clone)]
pub struct RedisMetrics {
    up: Gauge,
    calls: Family<RedisCallLabels, Histogram, Buckets>,
    failed: Family<RedisFailureLabels, Counter>,
}

impl Default for RedisMetrics {
    fn default() -> Self {
        Self {
            up: Gauge::default(),
            calls: Family::new_with_constructor(|| Histogram::new(STORE_BUCKETS)),
            failed: Family::default(),
        }
    }
}

impl RedisMetrics {
    /// Whether there is a connection.
    pub fn up(&self, up: bool) {
        self.up.set(i64::from(up));
    }

    /// A call of this kind, how it failed if it did, and how long it took.
    pub fn call(&self, call: &'static str, failed: Option<&'static str>, elapsed: Duration) {
        self.calls.get_or_create(&RedisCallLabels { call }).observe(elapsed.as_secs_f64());
        if let Some(reason) = failed {
            self.failed.get_or_create(&RedisFailureLabels { call, reason }).inc();
        }
    }
}

/// What is counted of the central tokens, where it happens.
#[derive(Clone, Default)]
pub struct AccessTokenMetrics {
    got: Family<TokenLabels, Counter>,
    failed: Family<TokenFailureLabels, Counter>,
    calls_today: Family<QuotaLabels, Gauge>,
}

impl AccessTokenMetrics {
    /// A new value came: from `redis`, where another instance had put it, or from `wechat`.
    pub fn got(&self, token: &'static str, source: &'static str) {
        self.got.get_or_create(&TokenLabels { token, source }).inc();
    }

    /// A search ended without a value.
    pub fn failed(&self, token: &'static str, class: &'static str, errcode: &'static str) {
        self.failed.get_or_create(&TokenFailureLabels { token, class, errcode }).inc();
    }

    /// A call was made, the day's `today`th.
    pub fn spent(&self, appid: &str, token: &'static str, mode: &'static str, today: u64) {
        let labels = QuotaLabels { appid: appid.to_owned(), token, mode };
        self.calls_today.get_or_create(&labels).set(i64::try_from(today).unwrap_or(i64::MAX));
    }
}

/// What becomes of spans.
#[derive(Clone, Debug, Default)]
pub struct TraceMetrics {
    exported: Counter,
    dropped: Family<ReasonLabels, Counter>,
}

impl TraceMetrics {
    /// A collector has taken them.
    pub fn exported(&self, spans: u64) {
        self.exported.inc_by(spans);
    }

    /// They got to no collector: `full`, `failed`, `refused`.
    pub fn dropped(&self, reason: &'static str, spans: u64) {
        self.dropped.get_or_create(&ReasonLabels { reason }).inc_by(spans);
    }

    #[cfg(test)]
    pub(super) fn exported_so_far(&self) -> u64 {
        self.exported.get()
    }

    #[cfg(test)]
    pub(super) fn dropped_so_far(&self, reason: &'static str) -> u64 {
        self.dropped.get_or_create(&ReasonLabels { reason }).get()
    }
}

/// Every metric, its handle resolved once where the path is hot.
pub struct Metrics {
    registry: Registry,
    /// Names without our prefix.
    process: Registry,
    documented: Vec<MetricInfo>,
    checks: Family<CheckLabels, Counter>,
    /// By decision and reason, in the order of [`Reason::ALL`].
    hot_checks: Vec<[Counter; DECISIONS.len()]>,
    check_seconds: Histogram,
    /// How look-ups of tokens went.
    pub lookups: Lookups,
    /// Redis.
    pub store: RedisMetrics,
    /// What waits to be written to Redis.
    pub outbox: OutboxMetrics,
    profile_refreshes: Family<OutcomeLabels, Counter>,
    /// Central tokens.
    pub central: AccessTokenMetrics,
    logins_started: Family<LoginLabels, Counter>,
    logins_finished: Family<LoginLabels, Counter>,
    logins_failed: Family<LoginFailureLabels, Counter>,
    logins_unshared: Family<ReasonLabels, Counter>,
    pages_rejected: Family<RejectionLabels, Counter>,
    login_seconds: Family<LoginLabels, Histogram, Buckets>,
    wechat_seconds: Family<WechatCallLabels, Histogram, Buckets>,
    breakers: Family<BreakerLabels, Gauge>,
    limited: Family<LimitLabels, Counter>,
    profiles_degraded: Family<AppLabels, Counter>,
    sessions_issued: Family<AppLabels, Counter>,
    sessions_renewed: Family<AppLabels, Counter>,
    sessions_revoked: Family<CauseLabels, Counter>,
    /// Verified tokens in the cache.
    pub sessions_cached: Gauge,
    /// Revocations held.
    pub revocations: Gauge,
    /// How old the picture of what others have revoked is, in seconds.
    pub revocations_age: Gauge<f64, AtomicU64>,
    /// Addresses the limiters remember.
    pub limiter_clients: Gauge,
    /// Flows whose outcome is remembered.
    pub flow_outcomes: Gauge,
    keys_loaded: Gauge,
    key_ages: Family<KeyLabels, Gauge>,
    reloads: Family<OutcomeLabels, Counter>,
    /// When the configuration in force was loaded, as a Unix time.
    pub reloaded_at: Gauge,
    connections: Family<ListenerLabels, Gauge>,
    accept_failures: Family<ListenerLabels, Counter>,
    panics: Family<ListenerLabels, Counter>,
    /// Log lines dropped because nobody read them.
    pub log_lines_dropped: Gauge,
    /// Bounds the log lines of refused checks.
    pub deny_lines: LogLimiter,
    /// Bounds the log lines of limited logins.
    pub limit_lines: LogLimiter,
    /// Bounds the log lines of rejected requests to pages.
    pub reject_lines: LogLimiter,
    /// Spans.
    pub traces: TraceMetrics,
}

const DECISIONS: [&str; 6] = ["allow", "login", "renew", "deny", "limited", "page"];

fn decision_index(decision: &Decision) -> usize {
    match decision {
        Decision::Allow { .. } => 0,
        Decision::Login { .. } => 1,
        Decision::Renew { .. } => 2,
        Decision::Deny { .. } => 3,
        Decision::Limited { .. } => 4,
        Decision::Page { .. } => 5,
    }
}

/// The decision a reason usually comes with, so that its series is there before its first event.
fn usual_decision(reason: Reason) -> &'static str {
    match reason {
        Reason::PublicPath | Reason::AnonymousAllowed | Reason::SessionValid | Reason::SessionRenewed => "allow",
        Reason::SessionNeedsRenewal => "renew",
        Reason::PageInBand => "page",
        Reason::NoSession
        | Reason::ConflictingCredentials
        | Reason::TokenMalformed
        | Reason::TokenForeign
        | Reason::TokenUnknownKey
        | Reason::TokenForged
        | Reason::SessionExpired
        | Reason::SessionIdle
        | Reason::SessionRevoked => "login",
        Reason::SubjectNotAllowed
        | Reason::AmbiguousPath
        | Reason::UnknownHost
        | Reason::MethodNotUpperCase
        | Reason::ConnectDenied
        | Reason::PreflightDenied
        | Reason::PagesNotRouted => "deny",
        Reason::TooManyChecks | Reason::TooManyNewTokens => "limited",
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let metrics = Self {
            registry: Registry::with_prefix(PREFIX),
            process: Registry::default(),
            documented: Vec::new(),
            checks: Family::default(),
            hot_checks: Vec::new(),
            check_seconds: Histogram::new(CHECK_BUCKETS),
            lookups: Lookups::default(),
            store: RedisMetrics::default(),
            outbox: OutboxMetrics::default(),
            profile_refreshes: Family::default(),
            central: AccessTokenMetrics::default(),
            logins_started: Family::default(),
            logins_finished: Family::default(),
            logins_failed: Family::default(),
            logins_unshared: Family::default(),
            pages_rejected: Family::default(),
            login_seconds: Family::new_with_constructor(|| Histogram::new(LOGIN_BUCKETS)),
            wechat_seconds: Family::new_with_constructor(|| Histogram::new(CALL_BUCKETS)),
            breakers: Family::default(),
            limited: Family::default(),
            profiles_degraded: Family::default(),
            sessions_issued: Family::default(),
            sessions_renewed: Family::default(),
            sessions_revoked: Family::default(),
            sessions_cached: Gauge::default(),
            revocations: Gauge::default(),
            revocations_age: Gauge::default(),
            limiter_clients: Gauge::default(),
            flow_outcomes: Gauge::default(),
            keys_loaded: Gauge::default(),
            key_ages: Family::default(),
            reloads: Family::default(),
            reloaded_at: Gauge::default(),
            connections: Family::default(),
            accept_failures: Family::default(),
            panics: Family::default(),
            log_lines_dropped: Gauge::default(),
            deny_lines: LogLimiter::default(),
            limit_lines: LogLimiter::default(),
            reject_lines: LogLimiter::default(),
            traces: TraceMetrics::default(),
        };
        metrics.registered().resolved()
    }
}

impl Metrics {
    fn registered(mut self) -> Self {
        let registry = &mut self.registry;
        let build = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        self.documented.push(MetricInfo::of("build", &build, "The running version"));
        registry.register("build", "The running version", build);
        macro_rules! register {
            ($($name:literal, $metric:expr, $help:literal;)+) => {
                $(
                    self.documented.push(MetricInfo::of($name, &$metric, $help));
                    registry.register($name, $help, $metric.clone());
                )+
            };
        }
        register! {
            "checks", self.checks, "Checks answered, by decision and reason";
            "check_duration_seconds", self.check_seconds, "Time from the headers of a check to its answer";
            "token_cache_hits", self.lookups.hits, "Tokens found in the cache as verified";
            "token_cache_rejected_hits", self.lookups.rejected_hits, "Tokens found in the cache as rejected";
            "token_signature_verifications", self.lookups.verified, "Signature verifications: one for each token that is not in the cache";
            "tokens_rejected_unverified", self.lookups.refused_cheaply, "Tokens rejected without a verification of their signature";
            "redis_up", self.store.up, "Whether Redis is connected: 1 or 0";
            "redis_call_duration_seconds", self.store.calls, "Duration of calls to Redis, by call";
            "redis_calls_failed", self.store.failed, "Failed calls to Redis, by call and reason";
            "outbox_waiting", self.outbox.waiting, "Items that wait to be written to Redis: events and session records";
            "outbox_dropped", self.outbox.dropped, "Items that were not written to Redis, by reason: full, refused or ended";
            "events_appended", self.outbox.events, "Events appended to the stream, by event";
            "events_trimmed", self.outbox.trimmed, "Events removed from the stream to keep it within redis.events.max";
            "events_lost", self.outbox.lost, "Events removed from the stream before a consumer group had read them, by group";
            "events_lag", self.outbox.lag, "Events that a consumer group has not read yet, by group; an upper bound if Redis does not know the number";
            "redis_records_unreadable", self.outbox.unreadable, "Records in Redis that this version or its keys cannot read";
            "profile_refreshes", self.profile_refreshes, "Refreshes of old profiles in the background, by outcome";
            "access_tokens_obtained", self.central.got, "Access tokens of the accounts and JS-SDK tickets obtained, by token and source";
            "access_tokens_failed", self.central.failed, "Failed attempts to obtain an access token or JS-SDK ticket, by token, class and errcode";
            "access_token_calls_today", self.central.calls_today, "Calls to WeChat today for an access token or JS-SDK ticket, as of the last call";
            "logins_started", self.logins_started, "Redirects to WeChat, by login method";
            "logins_finished", self.logins_finished, "Logins that ended in a session, by login method";
            "logins_failed", self.logins_failed, "Callbacks that ended without a session, by login method, class and errcode";
            "logins_without_redis", self.logins_unshared, "Callbacks handled without Redis, on the sealed cookie alone, by reason";
            "page_requests_rejected", self.pages_rejected, "Requests that a page rejected, by reason: forged or expired callbacks, login loops, requests of other sites";
            "login_duration_seconds", self.login_seconds, "Time from the start of a login to its session, by login method";
            "wechat_call_duration_seconds", self.wechat_seconds, "Duration of calls to WeChat, by endpoint and outcome";
            "wechat_breaker_state", self.breakers, "State of the circuit breakers: 0 closed, 1 half-open, 2 open";
            "requests_limited", self.limited, "Requests to pages that a limit refused, by limit";
            "profiles_unavailable", self.profiles_degraded, "Logins for which WeChat did not return a profile";
            "sessions_issued", self.sessions_issued, "Sessions started";
            "sessions_renewed", self.sessions_renewed, "Tokens renewed on the renewal page";
            "sessions_revoked", self.sessions_revoked, "Revocations, by cause: a logout, or an operator who revokes a session, a subject or an app";
            "token_cache_entries", self.sessions_cached, "Verified tokens in the cache, approximately";
            "revocations_active", self.revocations, "Revocations of sessions that have not expired";
            "revocations_staleness_seconds", self.revocations_age, "Time since this instance last read all revocations from Redis; 0 without Redis";
            "limiter_clients", self.limiter_clients, "Client addresses that the limits track";
            "login_outcomes", self.flow_outcomes, "Login outcomes kept for repeated callbacks";
            "keys_loaded", self.keys_loaded, "Loaded signing keys, including those that only verify";
            "key_age_seconds", self.key_ages, "Age of each loaded signing key";
            "configuration_reloads", self.reloads, "Reloads of the configuration or the keys, by outcome";
            "configuration_loaded_timestamp_seconds", self.reloaded_at, "Unix time at which the current configuration was loaded";
            "connections", self.connections, "Open connections, by listener";
            "accept_failures", self.accept_failures, "Connections that could not be accepted, by listener";
            "panics", self.panics, "Requests whose handler panicked, by listener";
            "log_lines_dropped", self.log_lines_dropped, "Log lines dropped because standard output was blocked";
            "spans_exported", self.traces.exported, "Spans that the collector accepted";
            "spans_dropped", self.traces.dropped, "Spans that were not exported, by reason: full, failed or refused";
        }
        self.process.register_collector(Box::new(Process));
        self.documented.extend(Process::documented());
        self
    }

    /// Resolves the hot handles, and lets what an alert would watch have its series from the start: `rate` of a series
    /// that begins with its first event does not see that event.
    fn resolved(mut self) -> Self {
        for outcome in ["accepted", "rejected"] {
            drop(self.reloads.get_or_create(&OutcomeLabels { outcome }));
        }
        for item in ["events", "records"] {
            self.outbox.waiting(item, 0);
            drop(self.outbox.dropped.get_or_create(&DropLabels { item, reason: "full" }));
        }
        for reason in ["full", "failed", "refused"] {
            self.traces.dropped(reason, 0);
        }
        for reason in Reason::ALL {
            let usual = CheckLabels { decision: usual_decision(*reason), reason: reason.as_str() };
            drop(self.checks.get_or_create(&usual));
        }
        let handles = |reason: &Reason| {
            DECISIONS.map(|decision| {
                let labels = CheckLabels { decision, reason: reason.as_str() };
                // Pairs that do not occur stay out of the registry until they do.
                if decision == usual_decision(*reason) {
                    self.checks.get_or_create_owned(&labels)
                } else {
                    Counter::default()
                }
            })
        };
        self.hot_checks = Reason::ALL.iter().map(handles).collect();
        self
    }

    /// One check answered.
    pub fn check(&self, decision: &Decision, elapsed: Duration) {
        let (reason, index) = (decision.reason(), decision_index(decision));
        let word = decision.as_str();
        let hot = self.hot_checks.get(reason as usize).and_then(|counters| counters.get(index));
        match hot {
            Some(counter) if word == usual_decision(reason) => counter.inc(),
            _ => self.checks.get_or_create(&CheckLabels { decision: word, reason: reason.as_str() }).inc(),
        };
        self.check_seconds.observe(elapsed.as_secs_f64());
    }

    /// An application has this flow: its series begin now. `rate` of a series that begins with its first event does not
    /// see that event, and a sidecar of a small application has few others.
    pub fn flow(&self, app: &AppName, method: LoginMethod) {
        let labels = LoginLabels::of(app, method);
        drop(self.logins_started.get_or_create(&labels));
        drop(self.logins_finished.get_or_create(&labels));
        drop(self.login_seconds.get_or_create(&labels));
        let labels = AppLabels::of(app);
        for counted in [&self.sessions_issued, &self.sessions_renewed, &self.profiles_degraded] {
            drop(counted.get_or_create(&labels));
        }
    }

    /// A browser was sent to WeChat.
    pub fn login_started(&self, app: &AppName, method: LoginMethod) {
        self.logins_started.get_or_create(&LoginLabels::of(app, method)).inc();
    }

    /// A login ended in a session.
    pub fn login_finished(&self, app: &AppName, method: LoginMethod, elapsed: Duration) {
        self.logins_finished.get_or_create(&LoginLabels::of(app, method)).inc();
        self.login_seconds.get_or_create(&LoginLabels::of(app, method)).observe(elapsed.as_secs_f64());
    }

    /// A login came back and failed.
    pub fn login_failed(&self, app: &AppName, method: LoginMethod, class: &'static str, errcode: &'static str) {
        let labels = LoginFailureLabels { app: app.clone(), method: method.as_str(), class, errcode };
        self.logins_failed.get_or_create(&labels).inc();
    }

    /// A login that was handled without Redis.
    pub fn login_unshared(&self, reason: &'static str) {
        self.logins_unshared.get_or_create(&ReasonLabels { reason }).inc();
    }

    /// Starts the series of one reason to reject a request, before its first event.
    pub fn rejection(&self, app: &AppName, reason: &'static str) {
        drop(self.pages_rejected.get_or_create(&RejectionLabels { app: Some(app.clone()), reason }));
    }

    /// A page rejected a request. `app` is none for a host of no application.
    pub fn page_rejected(&self, app: Option<&AppName>, reason: &'static str) {
        self.pages_rejected.get_or_create(&RejectionLabels { app: app.cloned(), reason }).inc();
    }

    /// One call to WeChat ended.
    pub fn wechat_call(&self, endpoint: &'static str, outcome: &'static str, elapsed: Duration) {
        self.wechat_seconds.get_or_create(&WechatCallLabels { endpoint, outcome }).observe(elapsed.as_secs_f64());
    }

    /// A breaker's state: 0 closed, 1 half-open, 2 open.
    pub fn breaker(&self, appid: &str, endpoint: &'static str, state: i64) {
        self.breakers.get_or_create(&BreakerLabels { appid: appid.to_owned(), endpoint }).set(state);
    }

    /// A limit refused a request.
    pub fn limited(&self, limit: &'static str) {
        self.limited.get_or_create(&LimitLabels { limit }).inc();
    }

    /// WeChat gave no profile when asked.
    pub fn profile_degraded(&self, app: &AppName) {
        self.profiles_degraded.get_or_create(&AppLabels::of(app)).inc();
    }

    /// An old profile was looked after: `changed`, `unchanged`, `shared`, `no_token`, `failed`.
    pub fn profile_refreshed(&self, outcome: &'static str) {
        self.profile_refreshes.get_or_create(&OutcomeLabels { outcome }).inc();
    }

    /// A session began.
    pub fn session_issued(&self, app: &AppName) {
        self.sessions_issued.get_or_create(&AppLabels::of(app)).inc();
    }

    /// A token was renewed on the renewal page.
    pub fn session_renewed(&self, app: &AppName) {
        self.sessions_renewed.get_or_create(&AppLabels::of(app)).inc();
    }

    /// Something was revoked: `logout`, `session`, `subject`, `app`.
    pub fn session_revoked(&self, cause: &'static str) {
        self.sessions_revoked.get_or_create(&CauseLabels { cause }).inc();
    }

    /// The loaded keys and how old each is.
    pub fn keys<'a>(&self, ages: impl Iterator<Item = (&'a str, Duration)>) {
        self.key_ages.clear();
        self.keys_loaded.set(0);
        for (kid, age) in ages {
            self.keys_loaded.inc();
            let seconds = i64::try_from(age.as_secs()).unwrap_or(i64::MAX);
            self.key_ages.get_or_create(&KeyLabels { kid: kid.to_owned() }).set(seconds);
        }
    }

    /// The configuration or the keys changed and were `accepted` or `rejected`.
    pub fn reload(&self, outcome: &'static str) {
        self.reloads.get_or_create(&OutcomeLabels { outcome }).inc();
    }

    /// The gauge of open connections of a listener. Whatever else is told of a listener has its series from now on.
    pub fn connections(&self, listener: &'static str) -> Gauge {
        drop(self.accept_failures.get_or_create(&ListenerLabels { listener }));
        drop(self.panics.get_or_create(&ListenerLabels { listener }));
        self.connections.get_or_create_owned(&ListenerLabels { listener })
    }

    /// A connection could not be accepted.
    pub fn accept_failure(&self, listener: &'static str) {
        self.accept_failures.get_or_create(&ListenerLabels { listener }).inc();
    }

    /// A handler panicked.
    pub fn panic(&self, listener: &'static str) {
        self.panics.get_or_create(&ListenerLabels { listener }).inc();
    }

    /// Every metric there is.
    pub fn documented(&self) -> &[MetricInfo] {
        &self.documented
    }

    /// All of it, as OpenMetrics text.
    pub fn render(&self) -> String {
        let mut text = String::with_capacity(16 * 1024);
        // Writing to memory does not fail.
        let _ = encode_registry(&mut text, &self.process).and_then(|()| encode(&mut text, &self.registry));
        text
    }
}
