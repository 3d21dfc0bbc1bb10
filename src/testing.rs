//! What tests, fuzz targets and benchmarks use of this crate. No stable interface.

#![allow(missing_docs)] // each module repeats one of the crate

macro_rules! whole {
    ($($module:ident),*) => {
        $(pub mod $module {
            pub use crate::$module::*;
        })*
    };
}

whole!(
    app_name,
    client_address,
    client_kind,
    clock,
    cookie,
    decision,
    identity,
    login_method,
    origin,
    path,
    policy,
    profile,
    random,
    seal,
    secret,
    session_id,
    subject
);

pub mod access_token {
    pub use crate::access_token::{AccessTokenError, AccessTokens, Settings};
}

#[cfg(any(test, feature = "fixtures"))]
#[allow(clippy::unwrap_used)] // a fixture that cannot be made fails its test
pub mod fixtures;

pub mod config {
    pub use crate::config::{Diagnostics, Loaded, Place, load, read, settings};
}

pub mod ext_authz {
    pub use crate::ext_authz::{CheckOutcome, answer, authorize, check, envoy, request};
}

pub mod html {
    pub use crate::html::Language;
}

pub mod login {
    pub use crate::login::{attempt, callback, loop_guard, once, return_to, settings};
}

pub mod rate_limit {
    pub use crate::rate_limit::{Limits, Rate, Settings};
}

pub mod redis {
    pub use crate::redis::{CallError, Form, Guarded, Redis, Settings, Subscription, keys, settings};
}

pub mod response {
    pub use crate::response::Response;
}

pub mod routes {
    pub use crate::routes::jssdk;
}

pub mod session {
    pub use crate::session::{
        Claims, Grant, LiveSession, SessionError, Sessions, Settings, jws, keys, revocation, revocations, token,
    };
}

pub mod sessions {
    pub use crate::sessions::{Registry, registry, revocation_sync};
}

pub mod telemetry {
    pub use crate::telemetry::{
        AccessTokenMetrics, Metrics, OutboxMetrics, RedisMetrics, TokenMetrics, TraceMetrics, Traces, traces,
    };
}

pub mod wechat {
    pub use crate::wechat::{
        AppId, Client, Credentials, ExchangeResponse, OpenId, Scope, Settings, UserInfo, WechatError, answers, breaker,
    };
}
