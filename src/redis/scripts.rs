//! The Lua scripts. Each file says what its KEYS and ARGV are.

use redis::Script;
use std::sync::LazyLock;

macro_rules! scripts {
    ($($name:ident = $file:literal;)+) => {
        $(pub(crate) static $name: LazyLock<Script> =
            LazyLock::new(|| Script::new(include_str!(concat!("scripts/", $file))));)+
    };
}

scripts! {
    CHANGE_SESSIONS = "change_sessions.lua";
    GET_BOUNDED = "get_bounded.lua";
    GET_FENCED = "get_fenced.lua";
    LIST_SESSIONS = "list_sessions.lua";
    PROLONG_LEASE = "prolong_lease.lua";
    PULL_REVOCATIONS = "pull_revocations.lua";
    PUSH_REVOCATIONS = "push_revocations.lua";
    PUT_FENCED = "put_fenced.lua";
    RECORD_FAILURE = "record_failure.lua";
    RELEASE_LEASE = "release_lease.lua";
    SETTLE_CALLBACK = "settle_callback.lua";
    SPEND_QUOTA = "spend_quota.lua";
    TAKE_CALLBACK = "take_callback.lua";
    TAKE_LEASE = "take_lease.lua";
    TRIM_EVENTS = "trim_events.lua";
}
