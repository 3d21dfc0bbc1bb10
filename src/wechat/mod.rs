//! WeChat: the addresses for the browser, the calls to WeChat's API, and the meaning of its answers.
//!
//! ```text
//! authorize_url ─▶ the browser visits WeChat and returns with a Code
//! Client::exchange ─▶ ExchangeResponse (openid, token) ─▶ Client::userinfo ─▶ UserInfo
//!                                                     └▶ Client::refresh  ─▶ ExchangeResponse
//!
//! access_token (module) ─▶ Client::stable_token, ─▶ Client::jsapi_ticket, Client::subscription
//! ```
//!
//! Promises: a code is sent again only if WeChat cannot have spent it, or if spending it twice ends in a new login. Every
//! call ends within its time limit, reads at most 64 KiB, and is refused while its breaker is open. Every answer becomes a
//! typed value or a [`WechatError`]. No error, `Debug` text or span contains a URL, secret, code, token or openid. This
//! module knows no sessions, metrics or pages, and follows no redirect.

#[doc(hidden)]
pub mod answers;
pub(crate) mod authorize;
pub mod breaker;
mod breakers;
pub(crate) mod client;
pub(crate) mod credentials;
mod decode;
pub(crate) mod endpoints;
pub(crate) mod errcode;
pub(crate) mod error;
pub(crate) mod ids;
mod retry;
pub(crate) mod settings;
mod transport;

pub(crate) use authorize::authorize_url;
pub(crate) use client::BuildError;
pub use client::Client;
pub(crate) use client::http;
pub use credentials::{AppId, Credentials, Scope};
pub(crate) use endpoints::Endpoint;
pub(crate) use endpoints::exchange::Code;
pub use endpoints::exchange::ExchangeResponse;
pub use endpoints::userinfo::UserInfo;
pub(crate) use errcode::Class;
pub(crate) use error::Rid;
pub use error::WechatError;
pub use ids::OpenId;
pub(crate) use ids::UnionId;
pub use settings::Settings;

#[cfg(test)]
mod tests;
