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
    AppLabels, BreakerLabels, CallLabels, CentralFailureLabels, CentralLabels, CheckLabels, DropLabels, FailureLabels,
    FlowLabels, KeyLabels, QuotaLabels, RejectionLabels, StoreCallLabels, StoreFailureLabels, Word,
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
    pub refused_hits: Counter,
    /// Signatures checked.
    pub verified: Counter,
    /// Refused before the signature.
    pub refused_cheaply: Counter,
}

/// What is counted of Redis, where it happens.
#[derive(Clone)]
pub struct RedisMetrics {
    up: Gauge,
    calls: Family<StoreCallLabels, Histogram, Buckets>,
    failed: Family<StoreFailureLabels, Counter>,
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
        self.calls.get_or_create(&StoreCallLabels { call }).observe(elapsed.as_secs_f64());
        if let Some(why) = failed {
            self.failed.get_or_create(&StoreFailureLabels { call, why }).inc();
        }
    }
}

/// What is counted of the central tokens, where it happens.
#[derive(Clone, Default)]
pub struct AccessTokenMetrics {
    got: Family<CentralLabels, Counter>,
    failed: Family<CentralFailureLabels, Counter>,
    calls_today: Family<QuotaLabels, Gauge>,
}

impl AccessTokenMetrics {
    /// A new value came: from `redis`, where another instance had put it, or from `wechat`.
    pub fn got(&self, kind: &'static str, from: &'static str) {
        self.got.get_or_create(&CentralLabels { kind, from }).inc();
    }

    /// A search ended without a value.
    pub fn failed(&self, kind: &'static str, class: &'static str, why: &'static str) {
        self.failed.get_or_create(&CentralFailureLabels { kind, class, why }).inc();
    }

    /// A call was made, the day's `today`th.
    pub fn spent(&self, appid: &str, kind: &'static str, call: &'static str, today: u64) {
        let labels = QuotaLabels { appid: appid.to_owned(), kind, call };
        self.calls_today.get_or_create(&labels).set(i64::try_from(today).unwrap_or(i64::MAX));
    }
}

/// What becomes of spans.
#[derive(Clone, Debug, Default)]
pub struct TraceMetrics {
    exported: Counter,
    dropped: Family<Word, Counter>,
}

impl TraceMetrics {
    /// A collector has taken them.
    pub fn exported(&self, spans: u64) {
        self.exported.inc_by(spans);
    }

    /// They got to no collector: `full`, `failed`, `refused`.
    pub fn dropped(&self, why: &'static str, spans: u64) {
        self.dropped.get_or_create(&Word { kind: why }).inc_by(spans);
    }

    #[cfg(test)]
    pub(super) fn exported_so_far(&self) -> u64 {
        self.exported.get()
    }

    #[cfg(test)]
    pub(super) fn dropped_so_far(&self, why: &'static str) -> u64 {
        self.dropped.get_or_create(&Word { kind: why }).get()
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
    profile_refreshes: Family<Word, Counter>,
    /// Central tokens.
    pub central: AccessTokenMetrics,
    logins_started: Family<FlowLabels, Counter>,
    logins_finished: Family<FlowLabels, Counter>,
    logins_failed: Family<FailureLabels, Counter>,
    logins_unshared: Family<Word, Counter>,
    pages_rejected: Family<RejectionLabels, Counter>,
    login_seconds: Family<FlowLabels, Histogram, Buckets>,
    wechat_seconds: Family<CallLabels, Histogram, Buckets>,
    breakers: Family<BreakerLabels, Gauge>,
    limited: Family<Word, Counter>,
    profiles_degraded: Family<AppLabels, Counter>,
    sessions_issued: Family<AppLabels, Counter>,
    sessions_renewed: Family<AppLabels, Counter>,
    sessions_revoked: Family<Word, Counter>,
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
    reloads: Family<Word, Counter>,
    /// When the configuration in force was loaded, as a Unix time.
    pub reloaded_at: Gauge,
    connections: Family<Word, Gauge>,
    accept_failures: Family<Word, Counter>,
    panics: Family<Word, Counter>,
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

const DECISIONS: [&str; 6] = ["allow", "login", "renew", "refuse", "limited", "page"];

fn decision_index(decision: &Decision) -> usize {
    match decision {
        Decision::Allow { .. } => 0,
        Decision::Login { .. } => 1,
        Decision::Renew { .. } => 2,
        Decision::Refuse { .. } => 3,
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
        | Reason::ConnectRefused
        | Reason::PreflightRefused
        | Reason::PagesNotRouted => "refuse",
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
            "check_duration_seconds", self.check_seconds, "Time from a check's head to its answer";
            "token_cache_hits", self.lookups.hits, "Tokens found verified in the cache";
            "token_cache_refused_hits", self.lookups.refused_hits, "Tokens found refused in the cache";
            "token_signatures_checked", self.lookups.verified, "Tokens not seen before whose signature was checked";
            "token_refused_cheaply", self.lookups.refused_cheaply, "Tokens refused before their signature was checked";
            "redis_up", self.store.up, "Whether there is a connection to Redis: 1, 0";
            "redis_call_duration_seconds", self.store.calls, "Calls to Redis, by what they were for";
            "redis_calls_failed", self.store.failed, "Calls that Redis did not serve, by what they were for and why";
            "outbox_waiting", self.outbox.waiting, "Events and records that wait to be written to Redis";
            "outbox_dropped", self.outbox.dropped, "Events and records that were given up: full, refused or ended";
            "events_appended", self.outbox.events, "Events in the stream, by type";
            "events_trimmed", self.outbox.trimmed, "Events removed from the stream to keep it within redis.events.max";
            "events_lost", self.outbox.lost, "Events removed from the stream before a consumer group had read them, by group";
            "events_lag", self.outbox.lag, "Events that a consumer group has not read yet, by group; an upper bound if Redis does not know";
            "registry_unreadable", self.outbox.unreadable, "Records of Redis that were passed over: another version's or another key's";
            "profile_refreshes", self.profile_refreshes, "Old profiles looked after in the background, by outcome";
            "central_tokens", self.central.got, "Central tokens and tickets that came, by kind and from where";
            "central_tokens_failed", self.central.failed, "Searches for a central token or ticket that ended without one, by class and why";
            "central_token_calls_today", self.central.calls_today, "Calls to WeChat for a central token or ticket today, as of the last one";
            "logins_started", self.logins_started, "Browsers sent to WeChat";
            "logins_finished", self.logins_finished, "Logins that ended in a session";
            "logins_failed", self.logins_failed, "Logins that came back and failed, by class and WeChat's errcode";
            "logins_unshared", self.logins_unshared, "Logins that no other instance was told of: on their sealed cookie alone";
            "pages_rejected", self.pages_rejected, "Requests that a page rejected, by reason: forged or expired callbacks, loops, requests of other sites";
            "login_duration_seconds", self.login_seconds, "Time from the start of a login to its session";
            "wechat_call_duration_seconds", self.wechat_seconds, "Calls to WeChat, by endpoint and outcome";
            "wechat_breaker_state", self.breakers, "Circuit breakers: 0 closed, 1 half-open, 2 open";
            "limited", self.limited, "Requests refused by a limit, by budget";
            "profiles_degraded", self.profiles_degraded, "Logins for which WeChat gave no profile when asked";
            "sessions_issued", self.sessions_issued, "Sessions begun";
            "sessions_renewed", self.sessions_renewed, "Tokens renewed on the renewal page";
            "sessions_revoked", self.sessions_revoked, "Revocations, by what asked for them";
            "sessions_cached", self.sessions_cached, "Verified tokens in the cache, about";
            "revocations_held", self.revocations, "Revocations that still matter";
            "revocations_age_seconds", self.revocations_age, "Age of what this instance knows of others' revocations; 0 without Redis";
            "limiter_clients", self.limiter_clients, "Client addresses the limits remember";
            "flow_outcomes_held", self.flow_outcomes, "Logins whose outcome is remembered for a repeated callback";
            "keys_loaded", self.keys_loaded, "Loaded signing keys: those that sign, and those that only verify";
            "key_age_seconds", self.key_ages, "Age of each loaded signing key";
            "configuration_reloads", self.reloads, "Changed configurations or keys, by outcome";
            "configuration_loaded_timestamp_seconds", self.reloaded_at, "When the configuration in force was loaded";
            "connections", self.connections, "Open connections, by door";
            "accept_failures", self.accept_failures, "Connections that could not be accepted, by door";
            "panics", self.panics, "Requests that made a handler panic, by door";
            "log_lines_dropped", self.log_lines_dropped, "Log lines dropped because nobody read them";
            "spans_exported", self.traces.exported, "Spans that a collector has taken";
            "spans_dropped", self.traces.dropped, "Spans that no collector got: no room, no answer, or refused";
        }
        self.process.register_collector(Box::new(Process));
        self.documented.extend(Process::documented());
        self
    }

    /// Resolves the hot handles, and lets what an alert would watch have its series from the start: `rate` of a series
    /// that begins with its first event does not see that event.
    fn resolved(mut self) -> Self {
        for outcome in ["accepted", "refused"] {
            drop(self.reloads.get_or_create(&Word { kind: outcome }));
        }
        for kind in ["events", "records"] {
            self.outbox.waiting(kind, 0);
            drop(self.outbox.dropped.get_or_create(&DropLabels { kind, why: "full" }));
        }
        for why in ["full", "failed", "refused"] {
            self.traces.dropped(why, 0);
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
    pub fn flow(&self, app: &AppName, flow: LoginMethod) {
        let labels = FlowLabels::of(app, flow);
        drop(self.logins_started.get_or_create(&labels));
        drop(self.logins_finished.get_or_create(&labels));
        drop(self.login_seconds.get_or_create(&labels));
        let labels = AppLabels::of(app);
        for counted in [&self.sessions_issued, &self.sessions_renewed, &self.profiles_degraded] {
            drop(counted.get_or_create(&labels));
        }
    }

    /// A browser was sent to WeChat.
    pub fn login_started(&self, app: &AppName, flow: LoginMethod) {
        self.logins_started.get_or_create(&FlowLabels::of(app, flow)).inc();
    }

    /// A login ended in a session.
    pub fn login_finished(&self, app: &AppName, flow: LoginMethod, elapsed: Duration) {
        self.logins_finished.get_or_create(&FlowLabels::of(app, flow)).inc();
        self.login_seconds.get_or_create(&FlowLabels::of(app, flow)).observe(elapsed.as_secs_f64());
    }

    /// A login came back and failed.
    pub fn login_failed(&self, app: &AppName, flow: LoginMethod, class: &'static str, errcode: &'static str) {
        let labels = FailureLabels { app: app.clone(), flow: flow.as_str(), class, errcode };
        self.logins_failed.get_or_create(&labels).inc();
    }

    /// A login that no other instance knows of, and why.
    pub fn login_unshared(&self, why: &'static str) {
        self.logins_unshared.get_or_create(&Word { kind: why }).inc();
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
        self.wechat_seconds.get_or_create(&CallLabels { endpoint, outcome }).observe(elapsed.as_secs_f64());
    }

    /// A breaker's state: 0 closed, 1 half-open, 2 open.
    pub fn breaker(&self, appid: &str, endpoint: &'static str, state: i64) {
        self.breakers.get_or_create(&BreakerLabels { appid: appid.to_owned(), endpoint }).set(state);
    }

    /// A limit refused a request.
    pub fn limited(&self, budget: &'static str) {
        self.limited.get_or_create(&Word { kind: budget }).inc();
    }

    /// WeChat gave no profile when asked.
    pub fn profile_degraded(&self, app: &AppName) {
        self.profiles_degraded.get_or_create(&AppLabels::of(app)).inc();
    }

    /// An old profile was looked after: `changed`, `unchanged`, `shared`, `no_token`, `failed`.
    pub fn profile_refreshed(&self, outcome: &'static str) {
        self.profile_refreshes.get_or_create(&Word { kind: outcome }).inc();
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
    pub fn session_revoked(&self, by: &'static str) {
        self.sessions_revoked.get_or_create(&Word { kind: by }).inc();
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

    /// The configuration or the keys changed and were `accepted` or `refused`.
    pub fn reload(&self, outcome: &'static str) {
        self.reloads.get_or_create(&Word { kind: outcome }).inc();
    }

    /// The gauge of open connections of a door. Whatever else is told of a door has its series from now on.
    pub fn connections(&self, door: &'static str) -> Gauge {
        drop(self.accept_failures.get_or_create(&Word { kind: door }));
        drop(self.panics.get_or_create(&Word { kind: door }));
        self.connections.get_or_create_owned(&Word { kind: door })
    }

    /// A connection could not be accepted.
    pub fn accept_failure(&self, door: &'static str) {
        self.accept_failures.get_or_create(&Word { kind: door }).inc();
    }

    /// A handler panicked.
    pub fn panic(&self, door: &'static str) {
        self.panics.get_or_create(&Word { kind: door }).inc();
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
