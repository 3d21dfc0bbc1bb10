//! The ways to log in.

/// The way in which a user logged in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LoginMethod {
    /// Web authorization inside WeChat (公众号网页授权).
    OfficialAccount,
    /// Website QR login (网站应用).
    Website,
}

impl LoginMethod {
    /// The name in headers, logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OfficialAccount => "official_account",
            Self::Website => "website",
        }
    }
}
