//! The session token: an ES256 JWT, and the closed list of what makes one valid (docs/en/threat-model.md, Tokens).
//!
//! A JWT library accepts more: jsonwebtoken accepts a missing `aud`, an `iss` in an array, `crit`, any `typ` and any `exp`.
//! So the library only verifies the signature. This module checks everything else, and does so first: a signature check is
//! the expensive part.

use super::claims::Claims;
use super::error::TokenError;
use super::jws;
use super::keys::{Key, KeySet};
use super::settings::Settings;
use crate::clock::Timestamp;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::time::Duration;

/// The length of the longest token that is read.
pub const MAX_BYTES: usize = 4_096;

/// The length of the longest token that is issued: token and cookie name stay under 1 KB.
pub const MAX_ISSUED_BYTES: usize = 1_000;

/// The longest lifetime of a token, whatever the configuration says.
pub const MAX_TOKEN_LIFETIME: Duration = Duration::from_secs(3_600);

/// The longest lifetime of a session, whatever the configuration says.
pub const MAX_LIFETIME: Duration = Duration::from_secs(90 * 86_400);

/// How far the clocks of two instances may differ.
pub const LEEWAY: Duration = Duration::from_secs(30);

/// A token that is valid except that its signature is not checked yet. Do not trust its claims.
pub struct Unverified<'t, 'k> {
    signed: &'t str,
    signature: &'t str,
    key: &'k Key,
    claims: Claims,
}

/// A valid token. Only [`Unverified::verify`] and [`issue`] make one.
#[derive(Clone, Debug)]
pub struct VerifiedToken {
    claims: Claims,
}

impl VerifiedToken {
    /// The claims.
    pub fn claims(&self) -> &Claims {
        &self.claims
    }

    #[cfg(test)]
    pub(super) fn for_tests(claims: Claims) -> Self {
        Self { claims }
    }
}

impl<'t, 'k> Unverified<'t, 'k> {
    /// Parses a token of the application of `settings` at `now`. Does not check the signature.
    ///
    /// # Errors
    /// The first rule of the closed list that the token breaks.
    pub fn read(token: &'t str, keys: &'k KeySet, settings: &Settings, now: Timestamp) -> Result<Self, TokenError> {
        let unverified = Self::read_at_any_age(token, keys)?;
        validate(&unverified.claims, settings, now)?;
        Ok(unverified)
    }

    /// Parses a token of any application and any age, which is enough to end its session. Does not check the signature.
    ///
    /// # Errors
    /// The first rule of the closed list that the token breaks. Times, issuer and audience are not checked.
    pub fn read_at_any_age(token: &'t str, keys: &'k KeySet) -> Result<Self, TokenError> {
        if token.len() > MAX_BYTES {
            return Err(TokenError::Malformed);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, payload) = signed.split_once('.').ok_or(TokenError::Malformed)?;
        // A fourth segment fails here, because `.` is not base64url; so do padding, white space and a non-canonical end.
        let payload = jws::decode(payload)?;
        if !jws::is_signature(signature) {
            return Err(TokenError::Malformed);
        }
        let key = match keys.find_by_header(header) {
            Some(key) => key,
            // The header may be ours in another spelling.
            None => keys.find(&jws::kid(header)?).ok_or(TokenError::UnknownKey)?,
        };
        Ok(Self { signed, signature, key, claims: parse_claims(&payload)? })
    }

    /// Verifies the signature, which takes about 50 µs.
    ///
    /// # Errors
    /// [`TokenError::Forged`].
    pub fn verify(self) -> Result<VerifiedToken, TokenError> {
        if self.key.verifies(self.signed.as_bytes(), self.signature) {
            Ok(VerifiedToken { claims: self.claims })
        } else {
            Err(TokenError::Forged)
        }
    }
}

fn parse_claims(payload: &[u8]) -> Result<Claims, TokenError> {
    // From a `str` serde_json does not check each string for UTF-8 again.
    let payload = std::str::from_utf8(payload).map_err(|_| TokenError::Malformed)?;
    serde_json::from_str(payload).map_err(|_| TokenError::Malformed)
}

/// The `exp` of a token whose signature is not checked. Do not trust it.
pub(super) fn unverified_expiry(token: &str) -> Option<Timestamp> {
    let payload = jws::decode(token.split('.').nth(1)?).ok()?;
    parse_claims(&payload).ok().map(|claims| Timestamp(claims.exp))
}

/// Checks the claims. A token past its `exp` passes: its session may be renewed.
fn validate(claims: &Claims, settings: &Settings, now: Timestamp) -> Result<(), TokenError> {
    if claims.iss != settings.issuer || claims.aud != settings.audience {
        return Err(TokenError::Foreign);
    }
    let latest = (now + LEEWAY).0;
    let ordered = claims.auth_time <= claims.iat && claims.iat < claims.exp && claims.exp <= claims.session_exp;
    let possible = claims.iat <= latest
        && claims.exp.saturating_sub(claims.iat) <= MAX_TOKEN_LIFETIME.as_secs()
        && claims.session_exp.saturating_sub(claims.auth_time) <= MAX_LIFETIME.as_secs();
    if !ordered || !possible {
        return Err(TokenError::ImpossibleTimes);
    }
    if claims.session_exp <= now.0 {
        return Err(TokenError::Expired);
    }
    Ok(())
}

/// Signs `claims` with `key`. If the token is too long, the nickname goes in plain text; if that does not suffice, the token
/// goes without the avatar, then without the nickname.
///
/// # Errors
/// The cryptographic library failed.
pub fn issue(claims: &Claims, key: &Key) -> Result<(String, VerifiedToken), jsonwebtoken::errors::Error> {
    let header = key.header();
    let fits = |payload: &[u8]| {
        let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(payload));
        (signed.len() + 1 + jws::SIGNATURE_LENGTH <= MAX_ISSUED_BYTES).then_some(signed)
    };
    let mut claims = claims.clone();
    let signed = loop {
        let payload = serde_json::to_vec(&claims)?;
        if let Some(signed) = fits(&payload) {
            break signed;
        }
        if !claims.nickname.is_empty()
            && let Some(signed) = fits(&claims.with_plain_nickname()?)
        {
            break signed;
        }
        if !claims.avatar.is_empty() {
            claims.avatar.clear();
        } else if !claims.nickname.is_empty() {
            claims.nickname.clear();
        } else {
            // Only ids are left, and the token needs them all.
            break format!("{header}.{}", URL_SAFE_NO_PAD.encode(payload));
        }
    };
    let signature = key.sign(signed.as_bytes())?;
    Ok((format!("{signed}.{signature}"), VerifiedToken { claims }))
}
