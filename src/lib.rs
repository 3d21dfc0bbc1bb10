//! wechat-authz: WeChat login for anything behind a gateway.
//!
//! The map, in the order in which a request meets the parts:
//!
//! | module | what it is for |
//! |---|---|
//! | [`server`] | listeners, connections, their limits and time-outs, drain |
//! | [`ext_authz`] | one check: HTTP request → [`CheckRequest`](ext_authz::request::CheckRequest) → [`Decision`](decision::Decision) → HTTP response; no I/O |
//! | [`client_kind`], [`client_address`] | what the client can read, and its IP address |
//! | [`policy`] | host, path and method → requirement |
//! | [`rate_limit`] | limits per client address and for all clients |
//! | [`session`] | tokens, keys, the cache of verified tokens, revocations |
//! | [`routes`] | the pages under the prefix, one file per route |
//! | [`login`] | one login: attempt, callback, outcome |
//! | [`wechat`] | calls to WeChat and the meaning of its answers |
//! | [`access_token`] | the account's access_token and JS-SDK ticket, shared by all instances |
//! | [`sessions`] | what instances share: who is logged in, events, revocations |
//! | [`redis`] | the connection to Redis, and what a call returns without one |
//! | [`html`] | the pages in Chinese and English |
//! | [`response`] | HTTP responses: JSON, pages, redirects |
//! | [`admin`] | health, readiness, metrics; sessions and revocation for operators |
//! | [`telemetry`] | logs, metrics and traces |
//! | [`config`] | the configuration file → settings |
//! | [`app`] | start, reload and drain of the process |
//! | [`cli`] | serve, check-config, keygen, revoke, sessions, policy, doctor, healthcheck, drain |
//!
//! A module uses modules of lower levels only; `tests/structure.rs` holds the levels. Absent on purpose: a gateway contract
//! never calls WeChat, a check never waits, and only a verified token makes a session.

#![warn(missing_docs, unreachable_pub)]

mod access_token;
mod admin;
mod app;
mod app_name;
mod cli;
mod client_address;
mod client_kind;
mod clock;
mod config;
mod cookie;
mod core_dump;
mod decision;
#[cfg(test)]
mod documents;
mod ext_authz;
mod html;
mod http_client;
mod identity;
mod login;
mod login_method;
mod origin;
mod path;
mod percent;
mod policy;
mod profile;
mod random;
mod rate_limit;
mod redis;
mod response;
mod routes;
mod seal;
mod secret;
mod server;
mod session;
mod session_id;
mod sessions;
mod subject;
mod telemetry;
#[doc(hidden)]
pub mod testing;
mod wechat;

pub use cli::{Arguments, run};
pub use core_dump::forbid as forbid_core_dumps;
