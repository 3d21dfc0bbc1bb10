//! Traces: a real Envoy and the real program export to one collector, which stores every byte.

use crate::otlp::{Collector, Mood, Span};
use harness::client::Browser;
use harness::redis::Redis;
use harness::stack::{self, Plan, Stack};
use std::time::{Duration, Instant};

/// The trace id of a trace from outside.
const OUTSIDE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const OUTER_SPAN: &str = "00f067aa0ba902b7";

/// Lets Envoy export each span at once instead of after five spans or five seconds.
const AT_ONCE: (&str, &str) = (
    "overload_manager:\n",
    "layered_runtime:\n  layers:\n  - name: at_once\n    static_layer:\n      tracing.opentelemetry.min_flush_spans: 1\n\
     \x20     tracing.opentelemetry.flush_interval_ms: 50\noverload_manager:\n",
);

/// These lines make Envoy start its own traces and ignore incoming ones.
const OWN_TRACES: &str = "              - remove: traceparent\n              - remove: tracestate\n";

/// Envoy and wechat-authz export to `collector`.
fn plan(collector: &Collector) -> Plan {
    Plan {
        render: vec!["--otlp".into(), collector.address.to_string()],
        envoy: vec![(AT_ONCE.0.to_owned(), AT_ONCE.1.to_owned())],
        environment: vec![
            ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint()),
            ("OTEL_BSP_SCHEDULE_DELAY", "50".into()),
        ],
        more: stack::UNLIMITED.to_owned(),
        ..Plan::default()
    }
}

/// Only wechat-authz exports; Envoy does not trace and forwards incoming trace headers.
fn ours_alone(collector: &Collector, more: &[(&'static str, &str)]) -> Plan {
    let mut plan = Plan { render: Vec::new(), envoy: Vec::new(), ..plan(collector) };
    plan.environment.extend(more.iter().map(|(name, value)| (*name, (*value).to_owned())));
    plan
}

fn traceparent(flags: &str) -> (String, String) {
    ("traceparent".into(), format!("00-{OUTSIDE}-{OUTER_SPAN}-{flags}"))
}

/// The only span with this name.
fn one<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    let found: Vec<&Span> = spans.iter().filter(|span| span.name == name).collect();
    assert_eq!(found.len(), 1, "{name} in {spans:#?}");
    found[0]
}

/// Searches the received data for values that no log may contain.
fn search(collector: &Collector, stack: &Stack) {
    for secret in stack.forbidden() {
        assert!(!collector.holds(&secret), "a trace holds what it must not: {secret}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_login_is_one_trace_from_envoy_to_wechat_and_redis() {
    let (collector, redis) = (Collector::start().await, Redis::start().await);
    let mut plan = plan(&collector);
    // As behind a load balancer with tracing: Envoy continues its trace.
    plan.envoy.push((OWN_TRACES.into(), String::new()));
    plan.scope = "snsapi_userinfo";
    plan.more.push_str(&redis.configuration());
    plan.environment.extend([
        ("OTEL_SERVICE_NAME", "login".into()),
        ("OTEL_RESOURCE_ATTRIBUTES", "k8s.pod.name=pod-1,deployment.environment.name=test".into()),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-collector-key=a%20key".into()),
    ]);
    let stack = Stack::planned(plan).await;
    stack.until_log_holds("connected to redis").await;
    let mut browser = Browser::wechat();
    browser.headers = vec![traceparent("01"), ("tracestate".into(), "vendor=1".into())];
    stack.hand_to(&mut browser, "follower");
    let asked = browser.get(&stack.url("/orders?secret=canary-of-a-query")).await;
    assert_eq!(asked.status, 302);
    // The request of the previous page's button.
    let home = browser.follow(&format!("{}&go=1", asked.location())).await.pop().unwrap();
    assert_eq!(home.seen("x-wechat-openid"), Some(stack.simulator.openid(harness::OA, "follower")));
    stack.remember(&browser);

    let whole = |spans: &[Span]| {
        let checks = spans.iter().filter(|span| span.name == "check").count();
        let last = |name: &str| spans.iter().any(|span| span.name == name);
        checks == 2 && last("redis release_login") && last("page callback") && last("redeem code")
    };
    collector.until(whole).await;
    // Envoy exports the spans of the last request slightly later than wechat-authz.
    let envoys = |spans: &[Span]| {
        let parent = |span: &Span| spans.iter().any(|other| other.id == span.parent) || span.parent == OUTER_SPAN;
        whole(spans) && spans.iter().all(parent)
    };
    let spans = collector.until(envoys).await;
    assert!(spans.iter().all(|span| span.trace == OUTSIDE), "one trace: {spans:#?}");
    let by_id = |id: &str| spans.iter().find(|span| span.id == id).unwrap();
    let above = |name: &str| by_id(&one(&spans, name).parent);

    // The parent of each span.
    for (name, parent) in [
        ("start login", "page login"),
        ("match attempt", "page callback"),
        ("redeem code", "page callback"),
        ("redis acquire_login", "redeem code"),
        ("exchange code", "redeem code"),
        ("wechat access_token", "exchange code"),
        ("fetch profile", "redeem code"),
        ("wechat userinfo", "fetch profile"),
        ("issue session", "redeem code"),
        ("redis release_login", "redeem code"),
    ] {
        assert_eq!(above(name).name, parent, "{name}");
        assert_eq!(one(&spans, name).service, "login", "{name}");
    }
    for page in ["page login", "page callback"] {
        assert_eq!(above(page).service, "envoy", "{page}");
    }
    let checks: Vec<&Span> = spans.iter().filter(|span| span.name == "check").collect();
    for check in &checks {
        assert_eq!(by_id(&check.parent).service, "envoy");
    }
    let mut reasons: Vec<&str> = checks.iter().map(|check| check.said["wechat_authz.reason"].as_str()).collect();
    reasons.sort_unstable();
    assert_eq!(reasons, ["no_session", "session_valid"]);

    // The attributes.
    let exchange = &one(&spans, "wechat access_token").said;
    assert_eq!(exchange["server.address"], "127.0.0.1");
    assert_eq!(exchange["http.request.method"], "GET");
    assert!(!exchange.contains_key("error.type"));
    assert_eq!(one(&spans, "page callback").said["http.response.status_code"], "303");
    assert_eq!(one(&spans, "redeem code").said["wechat_authz.method"], "official_account");
    assert_eq!(one(&spans, "redis acquire_login").said["db.system.name"], "redis");
    let resource = &one(&spans, "page login").resource;
    assert_eq!(resource["k8s.pod.name"], "pod-1");
    assert_eq!(resource["service.version"], env!("CARGO_PKG_VERSION"));
    let ours = collector.deliveries().into_iter().find(|delivery| delivery.headers.contains_key("x-collector-key"));
    let ours = ours.expect("the headers of the variable");
    assert_eq!((ours.headers["x-collector-key"].to_str().unwrap(), ours.path.as_str()), ("a key", "/v1/traces"));
    // Envoy's spans and its log contain the URL without the query.
    let tags: Vec<&str> = spans.iter().filter_map(|span| span.said.get("http.url").map(String::as_str)).collect();
    assert!(tags.iter().any(|url| url.ends_with("/_wechat/callback")) && tags.iter().all(|url| !url.contains('?')));
    assert!(!collector.holds("canary-of-a-query"));
    search(&collector, &stack);
    assert!(stack.metric("wechat_authz_spans_exported_total").await >= 12.0);
    assert_eq!(stack.metric("wechat_authz_spans_dropped_total{reason=\"failed\"}").await, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_neither_name_our_traces_nor_sample_them() {
    // If Envoy verifies sessions itself, it sends only one check.
    for (fast, checks) in [(false, 2), (true, 1)] {
        let collector = Collector::start().await;
        let mut plan = Plan { fast, ..plan(&collector) };
        if fast {
            // fast.yaml already has runtime layers.
            let layer = AT_ONCE.1.trim_start_matches("layered_runtime:\n  layers:\n").trim_end_matches(AT_ONCE.0);
            plan.envoy =
                vec![("layered_runtime:\n  layers:\n".into(), format!("layered_runtime:\n  layers:\n{layer}"))];
        }
        let stack = Stack::planned(plan).await;
        let mut browser = Browser::wechat();
        browser.headers = vec![traceparent("00"), ("tracestate".into(), "canary=of-a-state".into())];
        stack.log_in(&mut browser, "/").await;
        let named = |spans: &[Span], name: &str| spans.iter().filter(|span| span.name == name).count();
        // The application's span is the last one of a login.
        let all = |spans: &[Span]| named(spans, "check") == checks && named(spans, "router app egress") == 1;
        let spans = collector.until(|spans| all(spans) && named(spans, "page callback") == 1).await;
        assert!(spans.iter().all(|span| span.trace != OUTSIDE));
        // Two traces: a browser does not carry the trace to WeChat and back. The second trace links to the first.
        let (begun, ended) = (one(&spans, "start login"), one(&spans, "page callback"));
        assert_ne!(begun.trace, ended.trace);
        assert_eq!(ended.links, [(begun.trace.clone(), begun.id.clone())]);
        assert!(!collector.holds("of-a-state") && !stack.logged().contains(OUTSIDE));
        search(&collector, &stack);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unsampled_request_has_a_trace_id_and_no_span() {
    let collector = Collector::start().await;
    let mut plan = plan(&collector);
    plan.render.extend(["--traces".into(), "0".into()]);
    let mut stack = Stack::planned(plan).await;
    let mut browser = Browser::wechat();
    // A request header that makes Envoy trace the request.
    browser.headers = vec![traceparent("01"), ("x-client-trace-id".into(), "1".into())];
    stack.log_in(&mut browser, "/").await;
    stack.until_log_holds("logged in").await;
    stack.signal("TERM");
    // Any pending span would be exported by now.
    assert_eq!(stack.authz_ended(Duration::from_secs(30)).await, Some(0));
    assert!(collector.deliveries().is_empty(), "{:?}", collector.spans());
    let logged = lines(&stack, "logged in");
    assert_eq!(logged[0]["span"]["trace_id"].as_str().map(str::len), Some(32), "{logged:?}");
}

/// The log lines with this message.
fn lines(stack: &Stack, message: &str) -> Vec<serde_json::Value> {
    let text = stack.logged();
    let lines = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    lines.filter(|line| line["message"] == message).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_log_line_of_a_request_has_its_trace_id() {
    let collector = Collector::start().await;
    // Without a trace of the gateway, wechat-authz starts one and logs its id.
    let stack = Stack::planned(ours_alone(&collector, &[])).await;
    let mut browser = Browser::wechat();
    stack.log_in(&mut browser, "/").await;
    stack.simulator.inject(wechat_simulator::Fault::at(
        wechat_simulator::Endpoint::AccessToken,
        wechat_simulator::Effect::Errcode(40125),
    ));
    let mut other = Browser::wechat();
    other.headers = vec![traceparent("01")];
    other.follow(&stack.url("/")).await;
    stack.until_log_holds("login failed").await;
    let failed = |spans: &[Span]| spans.iter().any(|span| span.name == "page callback" && span.trace == OUTSIDE);
    let spans = collector.until(failed).await;
    let traces = |name: &str| -> Vec<&str> {
        spans.iter().filter(|span| span.name == name).map(|span| span.trace.as_str()).collect()
    };
    let callbacks = traces("page callback");
    let logged_in = lines(&stack, "logged in");
    let id = logged_in[0]["span"]["trace_id"].as_str().unwrap();
    assert!(id != OUTSIDE && callbacks.contains(&id), "{id} {callbacks:?}");
    for message in ["code exchange failed", "login failed, operator action required"] {
        assert_eq!(lines(&stack, message)[0]["span"]["trace_id"], OUTSIDE, "{message}");
    }
    for line in lines(&stack, "check requires a login") {
        assert!(traces("check").contains(&line["trace_id"].as_str().unwrap()), "{line}");
    }
    let exchange = spans.iter().find(|span| span.name == "wechat access_token" && span.trace == OUTSIDE).unwrap();
    assert_eq!(exchange.said["error.type"], "40125");
    assert_eq!(exchange.said["status"], "40125");
    search(&collector, &stack);
}

/// The duration of one hundred allowed checks.
async fn hundred_checks(stack: &Stack, browser: &mut Browser) -> Duration {
    let begun = Instant::now();
    for _ in 0..100 {
        assert_eq!(browser.get(&stack.url("/")).await.status, 200);
    }
    begun.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_collector_is_counted_and_affects_no_request() {
    let collector = Collector::start().await;
    let few = [
        ("OTEL_BSP_MAX_QUEUE_SIZE", "20"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "10"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "1500"),
    ];
    let stack = Stack::planned(ours_alone(&collector, &few)).await;
    let mut browser = Browser::wechat();
    stack.log_in(&mut browser, "/").await;
    const AWAY: &str = "the collector does not accept traces; dropping them until it does";
    const BACK: &str = "the collector accepts traces again";
    let dropped =
        async |kind: &str| stack.metric(&format!("wechat_authz_spans_dropped_total{{reason=\"{kind}\"}}")).await;
    for (times, mood) in [Mood::Refuse(503), Mood::Refuse(400), Mood::Hang, Mood::Babble].into_iter().enumerate() {
        let before = dropped("failed").await;
        collector.is(mood);
        let took = hundred_checks(&stack, &mut browser).await;
        // With a time-out for each check the requests would take two and a half minutes.
        assert!(took < Duration::from_secs(60), "{mood:?} {took:?}");
        let begun = Instant::now();
        // More spans than the queue holds while an export hangs.
        let full = async || !matches!(mood, Mood::Hang) || dropped("full").await > 0.0;
        while dropped("failed").await == before || !full().await {
            assert_eq!(browser.get(&stack.url("/")).await.status, 200);
            assert!(begun.elapsed() < Duration::from_secs(40), "{mood:?}");
        }
        collector.is(Mood::Take);
        while lines(&stack, BACK).len() <= times {
            assert_eq!(browser.get(&stack.url("/")).await.status, 200);
            assert!(begun.elapsed() < Duration::from_secs(60), "{mood:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(lines(&stack, AWAY).len(), times + 1, "{mood:?}: must be logged once for all batches");
    }
    let whys: Vec<String> =
        lines(&stack, AWAY).iter().map(|line| line["reason"].as_str().unwrap().to_owned()).collect();
    assert_eq!(whys, ["status 503", "status 400", "timed out", "answer too large"]);
    collector.is(Mood::TakeMost);
    let begun = Instant::now();
    while dropped("refused").await == 0.0 {
        assert_eq!(browser.get(&stack.url("/")).await.status, 200);
        assert!(begun.elapsed() < Duration::from_secs(20));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    search(&collector, &stack);
    drop(collector);
    let begun = Instant::now();
    while lines(&stack, AWAY).len() < 5 {
        assert_eq!(browser.get(&stack.url("/")).await.status, 200);
        assert!(begun.elapsed() < Duration::from_secs(20));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(lines(&stack, AWAY)[4]["reason"], "not connected");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shutdown_sends_the_last_spans_for_two_seconds_at_most() {
    let late = [("OTEL_BSP_SCHEDULE_DELAY", "600000"), ("OTEL_EXPORTER_OTLP_TIMEOUT", "60000")];
    let mut took = Vec::new();
    for mood in [Mood::Take, Mood::Hang] {
        let collector = Collector::start().await;
        collector.is(mood);
        let mut stack = Stack::planned(ours_alone(&collector, &late)).await;
        stack.log_in(&mut Browser::wechat(), "/").await;
        assert!(collector.deliveries().is_empty(), "must not export before the delay");
        let begun = Instant::now();
        stack.signal("TERM");
        assert_eq!(stack.authz_ended(Duration::from_secs(40)).await, Some(0));
        took.push(begun.elapsed());
        one(&collector.spans(), "redeem code");
        search(&collector, &stack);
        let told = lines(&stack, "shutting down before the collector accepted all traces");
        assert_eq!(told.len(), usize::from(matches!(mood, Mood::Hang)));
    }
    let longer = took[1].saturating_sub(took[0]);
    assert!((Duration::from_millis(1_500)..Duration::from_secs(8)).contains(&longer), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_variable_costs_one_line_and_stops_nothing() {
    let collector = Collector::start().await;
    let wrong = [
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "canary-of-an-endpoint:4318"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=canary-of-a-header"),
    ];
    let stack = Stack::planned(ours_alone(&collector, &wrong)).await;
    stack.log_in(&mut Browser::wechat(), "/").await;
    let told = lines(&stack, "a variable of OpenTelemetry is not used as it is");
    assert_eq!(told.len(), 1);
    assert_eq!(told[0]["error"], "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: no http or https address; nothing is traced");
    assert!(!stack.logged().contains("canary-of-a"));
    assert!(collector.deliveries().is_empty());
}
