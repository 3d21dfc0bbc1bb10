//! The entry point for libFuzzer: one program for all targets; the environment variable `FUZZ_TARGET` selects one.
#![no_main]

use std::sync::LazyLock;

static HOLDS: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
    wechat_authz_fuzz::target(&name).unwrap_or_else(|| panic!("FUZZ_TARGET names no target: `{name}`"))
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| HOLDS(data));
