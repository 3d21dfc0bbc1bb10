//! Wall-clock times of the same cases: `cargo bench --bench times [WORD]`. For reports only, not for a pass or fail:
//! on a shared machine only figures of one run are comparable, with caution.

mod cases;

use cases::Case;
use criterion::{Criterion, criterion_group, criterion_main};
use std::time::Duration;

/// Cases that can repeat without end. An unseen token is unseen only once, so its cases are absent.
const CASES: &[&str] = &[
    "check_valid_session",
    "check_no_session_page",
    "check_no_session_data",
    "check_junk_token_again",
    "read_check",
    "policy_of_1_rule",
    "policy_of_100_rules",
    "policy_of_1000_rules",
    "verify_hit",
    "verify_forged_again",
    "limiter",
    "render_allow_known",
    "render_login_page",
    "render_deny_data",
];

fn times(criterion: &mut Criterion) {
    for name in CASES {
        let mut case = Case::prepare(name);
        criterion.bench_function(name, |bench| bench.iter(|| case.ask()));
    }
}

/// A cost that instruction counts do not show: cache misses with many sessions.
fn sessions(criterion: &mut Criterion) {
    for sessions in [1, 10_000, 100_000] {
        let mut case = cases::check_among(sessions);
        criterion.bench_function(&format!("check_among_{sessions}_sessions"), |bench| bench.iter(|| case.ask()));
    }
}

criterion_group! {
    name = all;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .without_plots();
    targets = times, sessions
}
criterion_main!(all);
