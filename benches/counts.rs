//! Instructions of each case, counted by callgrind. `benches/run` starts it and compares with `benches/counts.json`.

mod cases;

use cases::Case;
use gungraun::{Callgrind, LibraryBenchmarkConfig, library_benchmark, library_benchmark_group, main};

#[library_benchmark(setup = Case::prepare)]
#[bench::check_valid_session("check_valid_session")]
#[bench::check_valid_session_unsampled("check_valid_session_unsampled")]
#[bench::check_no_session_page("check_no_session_page")]
#[bench::check_no_session_data("check_no_session_data")]
#[bench::check_junk_token_again("check_junk_token_again")]
#[bench::read_check("read_check")]
#[bench::policy_of_1_rule("policy_of_1_rule")]
#[bench::policy_of_100_rules("policy_of_100_rules")]
#[bench::policy_of_1000_rules("policy_of_1000_rules")]
#[bench::verify_hit("verify_hit")]
#[bench::verify_hit_among_1000("verify_hit_among_1000")]
#[bench::verify_miss("verify_miss")]
#[bench::verify_forged("verify_forged")]
#[bench::verify_forged_again("verify_forged_again")]
#[bench::limiter("limiter")]
#[bench::render_allow_known("render_allow_known")]
#[bench::render_allow_anonymous("render_allow_anonymous")]
#[bench::render_login_page("render_login_page")]
#[bench::render_login_data("render_login_data")]
#[bench::render_renew_page("render_renew_page")]
#[bench::render_deny_page("render_deny_page")]
#[bench::render_deny_data("render_deny_data")]
#[bench::render_limited_page("render_limited_page")]
#[bench::render_limited_data("render_limited_data")]
fn count(mut case: Case) -> Case {
    case.ask_all();
    // The caller drops the value outside of the measurement.
    case
}

library_benchmark_group!(name = cases_of_the_check, benchmarks = count);

main!(
    config = LibraryBenchmarkConfig::default().tool(Callgrind::with_args(["--cache-sim=no"])),
    library_benchmark_groups = cases_of_the_check
);
