//! wechat-authz: WeChat login for anything behind a gateway.
//!
//! The map, in the order in which a request meets the parts:
//!
//! | module | what it is for |
//! |---|---|
//! | [`server`] | the doors: listening, budgets of connections, time-outs, drain |
//! | [`gateway`] | a gateway's bytes → [`check::Check`], and [`check::Decision`] → bytes |
//! | [`decide`] | from the question and the time to the answer; no I/O |
//! | [`policy`] | host, path and method → what is required |
//! | [`limits`] | budgets per client address and for all |
//! | [`session`] | tokens, keys, the cache of verified tokens, revocations |
//! | [`pages`] | what the browser sees under the prefix |
//! | [`login`] | from "who are you?" to a session: flow, callback, outcome |
//! | [`wechat`] | the calls to WeChat and what its answers mean |
//! | [`admin`] | health, readiness, metrics; who is logged in, revocation |
//! | [`html`] | the pages a person sees, in Chinese and English |
//! | [`store`] | what all instances share: Redis, and how it may be away |
//! | [`telemetry`] | logs, metrics and traces |
//! | [`config`] | what the user wrote → what it means |
//! | [`command`] | serve, check-config, keygen, revoke, sessions, doctor, healthcheck, drain |
//!
//! An arrow between modules only goes down the levels that `tests/structure.rs` holds. What is absent on purpose: a
//! gateway never calls WeChat, [`decide`] never waits, and nothing but a verified token makes a session.

pub mod admin;
pub mod check;
pub mod clock;
pub mod command;
pub mod config;
pub mod cookie;
pub mod core_dump;
pub mod decide;
#[cfg(test)]
mod documents;
pub mod gateway;
pub mod html;
pub mod identity;
pub mod limits;
pub mod login;
pub mod origin;
pub mod pages;
pub mod path;
pub mod percent;
pub mod policy;
pub mod random;
pub mod roots;
pub mod seal;
pub mod secret;
pub mod server;
pub mod session;
pub mod store;
pub mod telemetry;
pub mod wechat;
