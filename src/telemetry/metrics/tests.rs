//! What operators read.

use super::*;
use crate::decision::Identity;

fn shop() -> AppName {
    "shop".parse().unwrap()
}

#[test]
fn every_reason_has_its_series_from_the_start() {
    let text = Metrics::default().render();
    for reason in Reason::ALL {
        assert!(text.contains(&format!("reason=\"{}\"}} 0", reason.as_str())), "{text}");
    }
    assert!(text.ends_with("# EOF\n"));
}

#[test]
fn what_is_counted_can_be_read() {
    let metrics = Metrics::default();
    let allow = Decision::Allow { identity: Identity::Anonymous, renewed: None, reason: Reason::SessionValid };
    metrics.check(&allow, Duration::from_micros(7));
    metrics.check(&Decision::Deny { reason: Reason::NoSession }, Duration::from_micros(7));
    metrics.login_failed(&shop(), LoginMethod::Website, "restart_login", "40029");
    metrics.lookups.hits.inc();
    let text = metrics.render();
    for line in [
        "wechat_authz_checks_total{decision=\"allow\",reason=\"session_valid\"} 1",
        "wechat_authz_checks_total{decision=\"deny\",reason=\"no_session\"} 1",
        "wechat_authz_checks_total{decision=\"login\",reason=\"no_session\"} 0",
        "wechat_authz_check_duration_seconds_bucket{le=\"0.00001\"} 2",
        "wechat_authz_logins_failed_total{app=\"shop\",method=\"website\",class=\"restart_login\",errcode=\"40029\"} 1",
        "wechat_authz_token_cache_hits_total 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
}

#[test]
fn what_alerts_watch_has_its_series_before_the_first_event() {
    let metrics = Metrics::default();
    metrics.connections("check").inc();
    metrics.flow(&shop(), LoginMethod::Website);
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

/// Every family of the text: name, type, help, samples. Panics where a line is none of OpenMetrics.
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

/// One of everything, by the names that applications may have.
fn busy() -> Metrics {
    let metrics = Metrics::default();
    let moment = Duration::from_millis(3);
    metrics.login_started(&shop(), LoginMethod::Website);
    metrics.login_finished(&shop(), LoginMethod::OfficialAccount, moment);
    metrics.login_failed(&shop(), LoginMethod::Website, "unreachable", "timeout");
    metrics.wechat_call("userinfo", "ok", moment);
    metrics.breaker("wx01", "userinfo", 2);
    metrics.limited("logins_per_client");
    metrics.profile_degraded(&shop());
    metrics.session_issued(&shop());
    metrics.session_renewed(&shop());
    metrics.session_revoked("logout");
    metrics.keys([("k1", moment), ("k2", Duration::MAX)].into_iter());
    metrics.reload("rejected");
    metrics.connections("check").inc();
    metrics.login_unshared("not_configured");
    metrics.page_rejected(Some(&shop()), "state_unknown");
    metrics.outbox.dropped("records", "refused");
    metrics.outbox.appended("login");
    metrics.outbox.unreadable();
    metrics.outbox.lost("crm", 2);
    metrics.outbox.lags([("crm".to_owned(), 7)].into_iter());
    metrics.profile_refreshed("changed");
    metrics.central.got("access_token", "wechat");
    metrics.central.failed("jsapi_ticket", "configuration", "40164");
    metrics.central.spent("wx01", "access_token", "usual", 1);
    metrics.store.call("revoke", Some("timed_out"), moment);
    metrics.traces.exported(3);
    metrics
}

#[test]
fn the_text_is_open_metrics_and_the_documentation_names_each_metric_in_it() {
    let metrics = busy();
    let families = families(&metrics.render());
    assert_eq!(families.len(), metrics.documented().len());
    for documented in metrics.documented() {
        let prefixed = ["wechat_authz_", "process_"].iter().any(|prefix| documented.name.starts_with(prefix));
        assert!(prefixed && !documented.help.is_empty(), "{documented:?}");
        let found = families.iter().find(|(name, ..)| *name == documented.name);
        let (_, kind, help, samples) = found.unwrap_or_else(|| panic!("{documented:?} is not in the text"));
        assert_eq!((kind.as_str(), help.trim_end_matches('.')), (documented.kind, documented.help));
        let ending = match documented.kind {
            "counter" => "_total",
            "info" => "_info",
            _ => "",
        };
        let name = format!("{}{ending}", documented.name);
        assert!(samples.iter().all(|sample| sample.starts_with(&name)), "{documented:?}: {samples:?}");
        assert!(!samples.is_empty(), "{documented:?} has nothing to show, though one of everything happened");
    }
}

#[test]
fn the_documents_show_every_metric() {
    let metrics = Metrics::default();
    let rows = metrics.documented().iter().map(|one| (one.name.clone(), format!("{} | {}", one.kind, one.help)));
    crate::documents::assert_table("metrics.md", rows);
    crate::documents::assert_chinese_rows("metrics.md", metrics.documented().iter().map(|one| one.name.clone()));
}

#[test]
fn a_key_that_is_gone_is_shown_no_more() {
    let metrics = busy();
    metrics.keys([("k2", Duration::from_secs(7))].into_iter());
    let text = metrics.render();
    assert!(text.contains("wechat_authz_keys_loaded 1\n"), "{text}");
    assert!(text.contains("wechat_authz_key_age_seconds{kid=\"k2\"} 7\n") && !text.contains("k1"), "{text}");
}

#[test]
fn a_label_cannot_begin_a_line_of_its_own() {
    let metrics = Metrics::default();
    metrics.keys([("a\"} 1\nwechat_authz_forged{b=\"\\", Duration::ZERO)].into_iter());
    // One line per sample: each is read whole, and none is the forged one.
    for (_, _, _, samples) in families(&metrics.render()) {
        assert!(samples.iter().all(|sample| !sample.contains("forged")), "{samples:?}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn the_process_tells_its_memory_processor_time_and_files_under_everybodys_names() {
    let metrics = Metrics::default();
    let value = |name: &str| -> f64 {
        let text = metrics.render();
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
        line.unwrap_or_else(|| panic!("no {name}:\n{text}")).parse().unwrap()
    };
    // A megabyte at least, and less than a machine has: neither pages nor kilobytes.
    assert!((1e6..1e12).contains(&value("process_resident_memory_bytes")));
    let before = value("process_cpu_seconds_total");
    let mut work = 0_u64;
    while value("process_cpu_seconds_total") < before + 0.01 {
        work = std::hint::black_box(work + 1);
    }
    // Other tests open files meanwhile: far more of ours than theirs.
    let open = value("process_open_fds");
    let files: Vec<_> = (0..200).map(|_| std::fs::File::open("/dev/null").unwrap()).collect();
    assert!(value("process_open_fds") > open + 100.0);
    drop(files);
    assert!(value("process_max_fds") > open);
}

#[test]
fn a_quantile_of_the_checks_can_exceed_half_a_second() {
    let metrics = Metrics::default();
    metrics.check(&Decision::Deny { reason: Reason::AmbiguousPath }, Duration::from_millis(700));
    let text = metrics.render();
    for line in [
        "wechat_authz_check_duration_seconds_bucket{le=\"0.5\"} 0",
        "wechat_authz_check_duration_seconds_bucket{le=\"1.0\"} 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
}

#[test]
fn threads_that_count_at_once_lose_nothing() {
    let metrics = std::sync::Arc::new(Metrics::default());
    let usual = Decision::Deny { reason: Reason::AmbiguousPath };
    let unusual = Decision::Deny { reason: Reason::SessionValid };
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..1_000 {
                    metrics.check(&usual, Duration::from_micros(5));
                    metrics.check(&unusual, Duration::from_micros(5));
                    metrics.login_started(&shop(), LoginMethod::Website);
                }
                drop(metrics.render());
            });
        }
    });
    let text = metrics.render();
    for line in [
        "wechat_authz_checks_total{decision=\"deny\",reason=\"ambiguous_path\"} 4000",
        "wechat_authz_checks_total{decision=\"deny\",reason=\"session_valid\"} 4000",
        "wechat_authz_check_duration_seconds_count 8000",
        "wechat_authz_logins_started_total{app=\"shop\",method=\"website\"} 4000",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
}
