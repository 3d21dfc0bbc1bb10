//! The outer form of a session token: a JWS in compact serialization (RFC 7515), signed with ES256.

use super::error::TokenError;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

/// The `typ` of a session token. No other token of ours has it.
pub const TYPE: &str = "wechat-session+jwt";

/// The length of the last segment: the base64url of 64 bytes.
pub(super) const SIGNATURE_LENGTH: usize = 86;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header<'a> {
    alg: &'a str,
    typ: &'a str,
    kid: &'a str,
}

/// The header of the tokens that the key `kid` signs, as the first segment of a token.
pub(super) fn header(kid: &str) -> String {
    // Serializing three strings does not fail.
    let header = serde_json::to_vec(&Header { alg: "ES256", typ: TYPE, kid }).unwrap_or_default();
    URL_SAFE_NO_PAD.encode(header)
}

/// The key id in a header.
///
/// # Errors
/// [`TokenError::Malformed`] or [`TokenError::Foreign`] if it is not the header of a session token.
pub(super) fn kid(header: &str) -> Result<String, TokenError> {
    let header = decode(header)?;
    let header: Header = serde_json::from_slice(&header).map_err(|_| TokenError::Malformed)?;
    if header.typ != TYPE {
        return Err(TokenError::Foreign);
    }
    // All keys have this algorithm.
    if header.alg != "ES256" {
        return Err(TokenError::Malformed);
    }
    Ok(header.kid.to_owned())
}

/// Whether a text has the header of a session token. Says nothing about the rest of it.
pub fn has_our_type(token: &str) -> bool {
    let header = token.split('.').next().filter(|header| header.len() <= 256).unwrap_or_default();
    let header = URL_SAFE_NO_PAD.decode(header).unwrap_or_default();
    serde_json::from_slice::<Header>(&header).is_ok_and(|header| header.typ == TYPE)
}

/// Whether a text is the base64url of an ES256 signature: r and s, 32 bytes each.
pub(super) fn is_signature(text: &str) -> bool {
    URL_SAFE_NO_PAD.decode_slice(text, &mut [0; 64]) == Ok(64)
}

/// The bytes of a segment, which is not empty.
pub(super) fn decode(segment: &str) -> Result<Vec<u8>, TokenError> {
    if segment.is_empty() {
        return Err(TokenError::Malformed);
    }
    URL_SAFE_NO_PAD.decode(segment).map_err(|_| TokenError::Malformed)
}
