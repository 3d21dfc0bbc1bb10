//! The simulated endpoints of WeChat and their paths.
//!
//! The paths of open.weixin.qq.com, lp.open.weixin.qq.com and api.weixin.qq.com do not collide, so one port serves
//! all of them. A new endpoint needs a variant here, a function in its own file, and a line in `server`.

use serde::{Deserialize, Serialize};

/// A place for a fault. `Callback` is not a request but the address to which the browser is sent back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Endpoint {
    Authorize,
    AuthorizeReply,
    QrConnect,
    QrCode,
    Confirm,
    LongPoll,
    AccessToken,
    RefreshToken,
    Auth,
    #[serde(alias = "userinfo")]
    UserInfo,
    StableToken,
    JsapiTicket,
    /// `cgi-bin/user/info`.
    Follower,
    Callback,
    /// Every request above.
    Any,
}

impl Endpoint {
    /// The endpoint at `path`, and the remaining information in the path (the uuid of a QR image).
    #[must_use]
    pub fn at(path: &str) -> Option<(Self, &str)> {
        let endpoint = match path {
            "/connect/oauth2/authorize" => Self::Authorize,
            "/connect/oauth2/authorize_reply" => Self::AuthorizeReply,
            "/connect/qrconnect" => Self::QrConnect,
            "/connect/confirm" => Self::Confirm,
            "/connect/l/qrconnect" => Self::LongPoll,
            "/sns/oauth2/access_token" => Self::AccessToken,
            "/sns/oauth2/refresh_token" => Self::RefreshToken,
            "/sns/auth" => Self::Auth,
            "/sns/userinfo" => Self::UserInfo,
            "/cgi-bin/stable_token" => Self::StableToken,
            "/cgi-bin/ticket/getticket" => Self::JsapiTicket,
            "/cgi-bin/user/info" => Self::Follower,
            _ => return path.strip_prefix("/connect/qrcode/").map(|uuid| (Self::QrCode, uuid)),
        };
        Some((endpoint, ""))
    }

    /// Whether servers call it and get JSON; otherwise browsers open it.
    #[must_use]
    pub fn is_api(self) -> bool {
        matches!(
            self,
            Self::AccessToken
                | Self::RefreshToken
                | Self::Auth
                | Self::UserInfo
                | Self::StableToken
                | Self::JsapiTicket
                | Self::Follower
        )
    }

    /// Whether api.weixin.qq.com answers 40066 for unknown paths like this.
    #[must_use]
    pub fn is_api_path(path: &str) -> bool {
        ["/sns/", "/cgi-bin/", "/wxa/"].iter().any(|prefix| path.starts_with(prefix))
    }

    #[must_use]
    pub fn includes(self, other: Self) -> bool {
        self == other || (self == Self::Any && other != Self::Callback)
    }
}
