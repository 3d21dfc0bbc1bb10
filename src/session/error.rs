//! Why a token is not accepted or cannot be issued.

use std::time::Duration;

/// Why a text is not a valid token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// A wrong length, number of segments, base64url, header member or claim type.
    #[error("malformed")]
    Malformed,
    /// Another `typ`, `iss` or `aud`: a token for something else.
    #[error("foreign")]
    Foreign,
    /// No key has this id.
    #[error("unknown key")]
    UnknownKey,
    /// The signature is not valid.
    #[error("forged")]
    Forged,
    /// Times in the future, in the wrong order, or further apart than the longest lifetimes.
    #[error("impossible times")]
    ImpossibleTimes,
    /// The session has ended.
    #[error("expired")]
    Expired,
}

/// Why a token does not prove a live session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionError {
    /// The token is not valid.
    Token(TokenError),
    /// The session has ended, or its token has and cannot be renewed safely.
    Expired,
    /// Nobody used the session for longer than the idle limit.
    Idle,
    /// The session is revoked.
    Revoked,
    /// The client address has sent too many unknown tokens. It may try again after this time.
    Busy(Duration),
}

/// A token cannot be signed: there is no key, or the cryptographic library failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no token could be signed")]
pub struct IssueError;
