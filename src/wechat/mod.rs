//! WeChat: the two addresses a browser is sent to, the three calls to its server, and what its answers mean.
//!
//! ```text
//! authorize_url ─▶ the browser goes to WeChat and comes back with a Code
//! Client::exchange ─▶ Exchanged (openid, token) ─▶ Client::userinfo ─▶ Profiled
//!                                               └▶ Client::refresh  ─▶ Exchanged
//! ```
//!
//! Promises: a code is sent again only where WeChat cannot have spent it, or where spending it twice ends in a fresh
//! login; every call ends within its time, reads 64 KiB at most, and asks nobody while its breaker is open; whatever
//! WeChat sends becomes a typed answer or a typed [`Fault`]. Neither faults nor `Debug` say a URL, secret, code, token or
//! openid. Refuses to know sessions, metrics and pages, and to follow redirects or proxies.

pub mod application;
pub mod authorize;
pub mod breaker;
mod breakers;
pub mod client;
mod decode;
pub mod errcode;
pub mod exchange;
pub mod fault;
pub mod person;
mod refresh;
mod retry;
pub mod settings;
mod transport;
pub mod userinfo;

pub use application::{AppId, AppIdFault, Application, Scope};
pub use authorize::authorize_url;
pub use client::{BuildFault, Client};
pub use errcode::{Class, classify, label};
pub use exchange::{Code, CodeFault, Exchanged};
pub use fault::Fault;
pub use person::{OpenId, UnionId};
pub use settings::{AddressFault, Settings};
pub use userinfo::Profiled;

/// The calls there are; each has a breaker of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// `sns/oauth2/access_token`: a code for who it is. Not repeatable once sent.
    AccessToken,
    /// `sns/oauth2/refresh_token`: a fresh token for an old one.
    RefreshToken,
    /// `sns/userinfo`: nickname and avatar.
    Userinfo,
}

impl Endpoint {
    /// Every endpoint there is.
    pub const ALL: [Self; 3] = [Self::AccessToken, Self::RefreshToken, Self::Userinfo];

    /// The word for it in logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AccessToken => "access_token",
            Self::RefreshToken => "refresh_token",
            Self::Userinfo => "userinfo",
        }
    }

    /// Its path below the API's address.
    #[must_use]
    pub(crate) const fn path(self) -> &'static str {
        match self {
            Self::AccessToken => "/sns/oauth2/access_token",
            Self::RefreshToken => "/sns/oauth2/refresh_token",
            Self::Userinfo => "/sns/userinfo",
        }
    }

    /// Whether asking twice does the same as asking once.
    #[must_use]
    pub(crate) const fn is_repeatable(self) -> bool {
        match self {
            Self::AccessToken => false,
            Self::RefreshToken | Self::Userinfo => true,
        }
    }
}

#[cfg(test)]
mod tests;
