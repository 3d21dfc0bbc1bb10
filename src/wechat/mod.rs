//! WeChat: the two addresses a browser is sent to, the calls to its server, and what its answers mean.
//!
//! ```text
//! authorize_url ─▶ the browser goes to WeChat and comes back with a Code
//! Client::exchange ─▶ Exchanged (openid, token) ─▶ Client::userinfo ─▶ Profiled
//!                                               └▶ Client::refresh  ─▶ Exchanged
//!
//! Central ─▶ the application's own token, one for all instances ─▶ JS-SDK ticket, "does this person follow us?"
//! ```
//!
//! Promises: a code is sent again only where WeChat cannot have spent it, or where spending it twice ends in a fresh
//! login; every call ends within its time, reads 64 KiB at most, and asks nobody while its breaker is open; whatever
//! WeChat sends becomes a typed answer or a typed [`WechatError`]. Neither errors nor `Debug` say a URL, secret, code, token or
//! openid, nor do spans. Refuses to know sessions, metrics and pages, and to follow redirects or proxies.

#[doc(hidden)]
pub mod answers;
pub(crate) mod application;
pub(crate) mod authorize;
pub mod breaker;
mod breakers;
pub(crate) mod client;
mod decode;
pub(crate) mod errcode;
pub(crate) mod error;
pub(crate) mod exchange;
pub(crate) mod jsapi_ticket;
pub(crate) mod person;
mod refresh;
mod retry;
pub(crate) mod settings;
pub(crate) mod stable_token;
mod subscription;
mod transport;
pub(crate) mod userinfo;

pub use application::{AppId, Credentials, Scope};
pub(crate) use authorize::authorize_url;
pub(crate) use client::BuildError;
pub use client::Client;
pub(crate) use client::http;
pub(crate) use errcode::Class;
pub(crate) use error::Rid;
pub use error::WechatError;
pub(crate) use exchange::Code;
pub use exchange::ExchangeResponse;
pub use person::OpenId;
pub(crate) use person::UnionId;
pub use settings::Settings;
pub use userinfo::UserInfo;

/// The calls there are; each has a breaker of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// `sns/oauth2/access_token`: a code for who it is. Not repeatable once sent.
    AccessToken,
    /// `sns/oauth2/refresh_token`: a fresh token for an old one.
    RefreshToken,
    /// `sns/userinfo`: nickname and avatar.
    Userinfo,
    /// `cgi-bin/stable_token`: the application's own token, the same one until close to its end.
    StableToken,
    /// The same with `force_refresh`: another token, a few times a day.
    ForcedToken,
    /// `cgi-bin/ticket/getticket`: what JS-SDK pages are signed with.
    JsapiTicket,
    /// `cgi-bin/user/info`: whether a person follows the account.
    Subscription,
}

impl Endpoint {
    /// Every endpoint there is.
    pub const ALL: [Self; 7] = [
        Self::AccessToken,
        Self::RefreshToken,
        Self::Userinfo,
        Self::StableToken,
        Self::ForcedToken,
        Self::JsapiTicket,
        Self::Subscription,
    ];

    /// The word for it in logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AccessToken => "access_token",
            Self::RefreshToken => "refresh_token",
            Self::Userinfo => "userinfo",
            Self::StableToken => "stable_token",
            Self::ForcedToken => "forced_token",
            Self::JsapiTicket => "jsapi_ticket",
            Self::Subscription => "subscription",
        }
    }

    /// Its path below the API's address.
    pub(crate) const fn path(self) -> &'static str {
        match self {
            Self::AccessToken => "/sns/oauth2/access_token",
            Self::RefreshToken => "/sns/oauth2/refresh_token",
            Self::Userinfo => "/sns/userinfo",
            Self::StableToken | Self::ForcedToken => "/cgi-bin/stable_token",
            Self::JsapiTicket => "/cgi-bin/ticket/getticket",
            Self::Subscription => "/cgi-bin/user/info",
        }
    }

    /// Whether asking twice does the same as asking once. A forced token that got lost is a token of the day's twenty.
    pub(crate) const fn is_repeatable(self) -> bool {
        match self {
            Self::AccessToken | Self::ForcedToken => false,
            Self::RefreshToken | Self::Userinfo | Self::StableToken | Self::JsapiTicket | Self::Subscription => true,
        }
    }
}

#[cfg(test)]
mod tests;
