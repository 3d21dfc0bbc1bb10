//! The endpoints of WeChat's API: one file and one method of [`Client`](super::Client) for each.

pub(crate) mod exchange;
pub(crate) mod jsapi_ticket;
mod refresh;
pub(crate) mod stable_token;
pub(super) mod subscription;
pub(crate) mod userinfo;

/// An endpoint of WeChat's API. Each has its own breaker for each AppID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// `sns/oauth2/access_token`: exchanges a code for the user's ids. Not repeatable.
    AccessToken,
    /// `sns/oauth2/refresh_token`: refreshes the user's token.
    RefreshToken,
    /// `sns/userinfo`: nickname and avatar.
    Userinfo,
    /// `cgi-bin/stable_token`: the account's access token; the same one until shortly before it expires.
    StableToken,
    /// `cgi-bin/stable_token` with `force_refresh`: a new token, allowed a few times a day.
    ForcedToken,
    /// `cgi-bin/ticket/getticket`: the JS-SDK ticket.
    JsapiTicket,
    /// `cgi-bin/user/info`: whether the user follows the account.
    Subscription,
}

impl Endpoint {
    /// Every endpoint.
    pub const ALL: [Self; 7] = [
        Self::AccessToken,
        Self::RefreshToken,
        Self::Userinfo,
        Self::StableToken,
        Self::ForcedToken,
        Self::JsapiTicket,
        Self::Subscription,
    ];

    /// The name in logs and metrics.
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

    /// The path below the base URL of the API.
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

    /// Whether a second request has no further effect. A second forced token counts against the daily limit of 20.
    pub(crate) const fn is_repeatable(self) -> bool {
        match self {
            Self::AccessToken | Self::ForcedToken => false,
            Self::RefreshToken | Self::Userinfo | Self::StableToken | Self::JsapiTicket | Self::Subscription => true,
        }
    }
}
