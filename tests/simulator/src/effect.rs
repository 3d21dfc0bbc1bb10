//! The possible faults of an answer, and the stage of each.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Maximum delay; a longer one is shortened to it.
pub const MAX_DELAY: Duration = Duration::from_secs(60);
/// A body that no client should read to its end.
pub const HUGE_BODY: usize = 10 * 1024 * 1024;

/// The kind of fault.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Wait before anything is processed.
    #[serde(rename = "delay_before_s", with = "crate::seconds")]
    DelayBefore(Duration),
    /// Process, then wait before the answer: a client that gives up has spent its code.
    #[serde(rename = "delay_after_s", with = "crate::seconds")]
    DelayAfter(Duration),
    /// Answer with this errcode and process nothing; on a page for users, show its number instead.
    Errcode(i64),
    /// Process (the code is spent), then answer with this errcode.
    ErrcodeAfter(i64),
    /// An HTTP status with a short HTML body; nothing is processed.
    Status(u16),
    /// 200 and no body; processed.
    EmptyBody,
    /// 200 and a web page where JSON should be; processed.
    Html,
    /// The body ends early, with a matching length.
    TruncatedJson,
    TrailingGarbage,
    ByteOrderMark,
    /// `"expires_in":"7200"`.
    NumbersAsStrings,
    /// These fields are `null`.
    Null(Vec<String>),
    /// These fields are missing: `openid`, for instance.
    Missing(Vec<String>),
    /// These fields with these values, replaced or added.
    Replace(serde_json::Map<String, serde_json::Value>),
    /// Nested objects under undocumented keys.
    UnknownKeys,
    /// The correct fields and 10 MiB of padding.
    HugeBody,
    /// Bytes in the nickname that are not UTF-8.
    InvalidUtf8,
    /// U+0001 to U+001F unescaped in the nickname.
    RawControl,
    /// Half of a surrogate pair in the nickname.
    LoneSurrogate,
    /// Close without a byte of answer; nothing is processed.
    Close,
    /// TCP reset; nothing is processed.
    ResetBefore,
    /// Process (the code is spent), then TCP reset.
    ResetAfter,
    /// Half of the body, then the end.
    CloseMidBody,
    /// This `Content-Type`.
    ContentType(String),
    /// A `Content-Length` larger than the body.
    LengthTooLong,
    /// A `Content-Length` that ends the body early.
    LengthTooShort,
    /// No length: `Transfer-Encoding: chunked`.
    Chunked,
    /// `Content-Encoding: gzip`, whether or not the client accepts it.
    Gzip,
    /// The body in this number of pieces, spread over this time.
    Drip {
        pieces: u32,
        #[serde(rename = "over_s", with = "crate::seconds")]
        over: Duration,
    },
    /// A changed callback: see [`Mangling`]. Applies at [`Endpoint::Callback`](crate::Endpoint::Callback).
    Mangle(Mangling),
}

/// A change of a callback's parameters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mangling {
    NoCode,
    NoState,
    /// Another state of the same length.
    StateChanged,
    /// The state with this suffix, as one browser did.
    StateAppended(String),
    /// The same code twice.
    CodeTwice,
    /// Two different codes: the right one, then one that was never issued.
    TwoCodes,
    /// The same state twice.
    StateTwice,
    /// `nsukey`, `from` and `isappinstalled` added, as WeChat does.
    Extras,
    /// A code that was issued to another app.
    ForeignCode,
}

/// Stages in the order of an answer; at most one fault acts at each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Before,
    Instead,
    Content,
    Head,
    Delivery,
    After,
    Callback,
}

impl Effect {
    #[must_use]
    pub fn stage(&self) -> Stage {
        match self {
            Self::DelayBefore(_) => Stage::Before,
            Self::Errcode(_) | Self::Status(_) | Self::Close | Self::ResetBefore => Stage::Instead,
            Self::ErrcodeAfter(_)
            | Self::EmptyBody
            | Self::Html
            | Self::TruncatedJson
            | Self::TrailingGarbage
            | Self::ByteOrderMark
            | Self::NumbersAsStrings
            | Self::Null(_)
            | Self::Missing(_)
            | Self::Replace(_)
            | Self::UnknownKeys
            | Self::HugeBody
            | Self::InvalidUtf8
            | Self::RawControl
            | Self::LoneSurrogate => Stage::Content,
            Self::ContentType(_) => Stage::Head,
            Self::ResetAfter
            | Self::CloseMidBody
            | Self::LengthTooLong
            | Self::LengthTooShort
            | Self::Chunked
            | Self::Gzip
            | Self::Drip { .. } => Stage::Delivery,
            Self::DelayAfter(_) => Stage::After,
            Self::Mangle(_) => Stage::Callback,
        }
    }
}
