//! The rendered text and its documentation.

use super::*;
use crate::decision::{Decision, Identity, Reason};
use std::time::Duration;

fn shop() -> AppName {
    "shop".parse().unwrap()
}

#[test]
fn every_reason_has_a_series_from_the_start() {
    let text = Metrics::default().render();
    for reason in Reason::ALL {
        assert!(text.contains(&format!("reason=\"{}\"}} 0", reason.as_str())), "{text}");
    }
    assert!(text.ends_with("# EOF\n"));
}

#[test]
fn recorded_values_are_rendered() {
    let metrics = Metrics::default();
    let allow = Decision::Allow { identity: Identity::Anonymous, renewed: None, reason: Reason::SessionValid };
    metrics.checks.record(&allow, Duration::from_micros(7));
    metrics.checks.record(&Decision::Deny { reason: Reason::UnknownHost }, Duration::from_micros(7));
    metrics.logins.failed(&shop(), LoginMethod::Website, "restart_login", "40029");
    metrics.tokens.cache_hits.inc();
    let text = metrics.render();
    for line in [
        "wechat_authz_checks_total{decision=\"allow\",reason=\"session_valid\"} 1",
        "wechat_authz_checks_total{decision=\"deny\",reason=\"unknown_host\"} 1",
        "wechat_authz_checks_total{decision=\"login\",reason=\"no_session\"} 0",
        "wechat_authz_check_duration_seconds_bucket{le=\"0.00001\"} 2",
        "wechat_authz_logins_failed_total{app=\"shop\",method=\"website\",class=\"restart_login\",errcode=\"40029\"} 1",
        "wechat_authz_token_cache_hits_total 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
}

#[test]
fn series_of_alerts_exist_before_the_first_event() {
    let metrics = Metrics::default();
    metrics.instance.connections("check").inc();
    metrics.create_login_method(&shop(), LoginMethod::Website);
    let text = metrics.render();
    for line in [
        "wechat_authz_logins_started_total{app=\"shop\",method=\"website\"} 0",
        "wechat_authz_logins_finished_total{app=\"shop\",method=\"website\"} 0",
        "wechat_authz_login_duration_seconds_count{app=\"shop\",method=\"website\"} 0",
        "wechat_authz_sessions_issued_total{app=\"shop\"} 0",
        "wechat_authz_sessions_renewed_total{app=\"shop\"} 0",
        "wechat_authz_profiles_unavailable_total{app=\"shop\"} 0",
        "wechat_authz_connections{listener=\"check\"} 1",
        "wechat_authz_panics_total{listener=\"check\"} 0",
        "wechat_authz_accept_failures_total{listener=\"check\"} 0",
        "wechat_authz_configuration_reloads_total{outcome=\"accepted\"} 0",
        "wechat_authz_configuration_reloads_total{outcome=\"rejected\"} 0",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
}

/// Every family of the text: name, type, help, samples. Panics at a line that is not OpenMetrics.
fn families(text: &str) -> Vec<(String, String, String, Vec<String>)> {
    let mut families: Vec<(String, String, String, Vec<String>)> = Vec::new();
    let body = text.strip_suffix("# EOF\n").unwrap();
    for line in body.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            families.push((name.into(), String::new(), help.into(), Vec::new()));
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            let family = families.last_mut().unwrap();
            assert_eq!((family.0.as_str(), family.1.as_str()), (name, ""), "{line}");
            kind.clone_into(&mut family.1);
        } else {
            let (series, value) = line.rsplit_once(' ').unwrap();
            assert!(value.parse::<f64>().is_ok(), "{line}");
            let (name, labels) = series.split_once('{').map_or((series, "}"), |(name, labels)| (name, labels));
            assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'), "{line}");
            assert!(labels.ends_with('}'), "{line}");
            let family = families.last_mut().unwrap();
            assert!(name.starts_with(family.0.as_str()), "{line}");
            family.3.push(name.to_owned());
        }
    }
    families
}

/// Metrics with a sample in every family.
fn busy() -> Metrics {
    let metrics = Metrics::default();
    let moment = Duration::from_millis(3);
    metrics.logins.started(&shop(), LoginMethod::Website);
    metrics.logins.finished(&shop(), LoginMethod::OfficialAccount, moment);
    metrics.logins.failed(&shop(), LoginMethod::Website, "unreachable", "timeout");
    metrics.wechat.call("userinfo", "ok", moment);
    metrics.wechat.breaker("wx01", "userinfo", 2);
    metrics.logins.limited("logins_per_client");
    metrics.logins.profile_unavailable(&shop());
    metrics.sessions.issued(&shop());
    metrics.sessions.renewed(&shop());
    metrics.sessions.revoked("logout");
    metrics.sessions.keys([("k1", moment), ("k2", Duration::MAX)].into_iter());
    metrics.instance.reloaded("rejected");
    metrics.instance.connections("check").inc();
    metrics.logins.without_redis("not_configured");
    metrics.logins.rejected(Some(&shop()), "state_unknown");
    metrics.outbox.dropped("records", "refused");
    metrics.outbox.appended("login");
    metrics.outbox.unreadable();
    metrics.outbox.lost("crm", 2);
    metrics.outbox.lags([("crm".to_owned(), 7)].into_iter());
    metrics.logins.profile_refreshed("changed");
    metrics.access_tokens.obtained("access_token", "wechat");
    metrics.access_tokens.failed("jsapi_ticket", "configuration", "40164");
    metrics.access_tokens.calls_today("wx01", "access_token", "usual", 1);
    metrics.redis.call("revoke", Some("timed_out"), moment);
    metrics.traces.exported(3);
    metrics
}

#[test]
fn the_text_is_open_metrics_with_the_documented_metrics() {
    let metrics = busy();
    let families = families(&metrics.render());
    let rows = metrics.rows();
    assert_eq!(families.len(), rows.len());
    for (name, kind, help) in rows {
        assert!(
            ["wechat_authz_", "process_"].iter().any(|prefix| name.starts_with(prefix)) && !help.is_empty(),
            "{name}"
        );
        let found = families.iter().find(|family| family.0 == name);
        let (_, shown_kind, shown_help, samples) = found.unwrap_or_else(|| panic!("{name} is not in the text"));
        assert_eq!((shown_kind, shown_help.trim_end_matches('.')), (&kind, help));
        let ending = match kind.as_str() {
            "counter" => "_total",
            "info" => "_info",
            _ => "",
        };
        assert!(samples.iter().all(|sample| sample.starts_with(&format!("{name}{ending}"))), "{name}: {samples:?}");
        assert!(!samples.is_empty(), "{name} has no sample");
    }
}

#[test]
fn documents_list_every_metric() {
    let metrics = Metrics::default();
    let rows = metrics.rows();
    let cells = rows.iter().map(|(name, kind, help)| (name.clone(), format!("{kind} | {help}")));
    crate::documents::assert_table("metrics.md", cells);
    crate::documents::assert_chinese_rows("metrics.md", rows.into_iter().map(|(name, ..)| name));
}

#[test]
fn the_series_of_a_removed_key_is_removed() {
    let metrics = busy();
    metrics.sessions.keys([("k2", Duration::from_secs(7))].into_iter());
    let text = metrics.render();
    assert!(text.contains("wechat_authz_keys_loaded 1\n"), "{text}");
    assert!(text.contains("wechat_authz_key_age_seconds{kid=\"k2\"} 7\n") && !text.contains("k1"), "{text}");
}

#[test]
fn a_label_value_cannot_start_a_line() {
    let metrics = Metrics::default();
    metrics.sessions.keys([("a\"} 1\nwechat_authz_forged{b=\"\\", Duration::ZERO)].into_iter());
    // Every line is a complete sample, and none is the forged one.
    for (_, _, _, samples) in families(&metrics.render()) {
        assert!(samples.iter().all(|sample| !sample.contains("forged")), "{samples:?}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn process_metrics_have_plausible_values() {
    let metrics = Metrics::default();
    let value = |name: &str| -> f64 {
        let text = metrics.render();
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
        line.unwrap_or_else(|| panic!("no {name}:\n{text}")).parse().unwrap()
    };
    // Between a megabyte and a terabyte, so neither pages nor kilobytes.
    assert!((1e6..1e12).contains(&value("process_resident_memory_bytes")));
    let before = value("process_cpu_seconds_total");
    let mut work = 0_u64;
    while value("process_cpu_seconds_total") < before + 0.01 {
        work = std::hint::black_box(work + 1);
    }
    // Many files, because other tests open some at the same time.
    let open = value("process_open_fds");
    let files: Vec<_> = (0..200).map(|_| std::fs::File::open("/dev/null").unwrap()).collect();
    assert!(value("process_open_fds") > open + 100.0);
    drop(files);
    assert!(value("process_max_fds") > open);
}

#[test]
fn a_quantile_of_checks_can_exceed_half_a_second() {
    let metrics = Metrics::default();
    metrics.checks.record(&Decision::Deny { reason: Reason::AmbiguousPath }, Duration::from_millis(700));
    let text = metrics.render();
    for line in [
        "wechat_authz_check_duration_seconds_bucket{le=\"0.5\"} 0",
        "wechat_authz_check_duration_seconds_bucket{le=\"1.0\"} 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
}

#[test]
fn concurrent_threads_lose_no_event() {
    let metrics = std::sync::Arc::new(Metrics::default());
    let decision = Decision::Deny { reason: Reason::AmbiguousPath };
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..1_000 {
                    metrics.checks.record(&decision, Duration::from_micros(5));
                    metrics.logins.started(&shop(), LoginMethod::Website);
                }
                drop(metrics.render());
            });
        }
    });
    let text = metrics.render();
    for line in [
        "wechat_authz_checks_total{decision=\"deny\",reason=\"ambiguous_path\"} 4000",
        "wechat_authz_check_duration_seconds_count 4000",
        "wechat_authz_logins_started_total{app=\"shop\",method=\"website\"} 4000",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
}
