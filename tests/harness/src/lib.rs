//! What the tests start and wait for: wechat-authz, Envoy, Redis, a WeChat, an application; and a client.
//!
//! Apart from the tests, so that each of their crates shares one compilation.

pub mod client;
pub mod redis;
pub mod stack;
