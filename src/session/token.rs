//! The session token: an ES256 JWT, and the closed list of what makes one ours (docs/en/threat-model.md, Tokens).
//!
//! What a JWT library calls valid is not yet ours: jsonwebtoken accepts a missing `aud`, an `iss` in an array, `crit`,
//! any `typ`, an absurd `exp`. So the library verifies the signature and nothing else; every other line of the list
//! stands here, cheap refusals before the signature.

use super::keys::{Key, KeySet};
use super::settings::Settings;
use crate::app_name::AppName;
use crate::clock::Timestamp;
use crate::login_method::LoginMethod;
use crate::percent::{decode_component, encode_component};
use crate::profile::Profile;
use crate::session_id::SessionId;
use crate::subject::Subject;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

/// The `typ` of a session token; no other token of ours carries it.
pub const TYPE: &str = "wechat-session+jwt";

/// No token of ours is longer; what is, is refused before it is read.
pub const MAX_BYTES: usize = 4_096;

/// A token we issue stays below this, so that token and cookie name together are under 1 KB.
pub const BUDGET_BYTES: usize = 1_000;

/// No token of ours lasts longer, whatever the configuration.
pub const MAX_TOKEN_LIFETIME: Duration = Duration::from_secs(3_600);

/// No session of ours lasts longer, whatever the configuration.
pub const MAX_LIFETIME: Duration = Duration::from_secs(90 * 86_400);

/// How far the clocks of two instances may differ.
pub const LEEWAY: Duration = Duration::from_secs(30);

/// What a session token says. Times are NumericDates.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Claims {
    /// Issuer: the application's origin.
    pub iss: String,
    /// Audience: the application's name.
    pub aud: AppName,
    /// Who logged in.
    pub sub: Subject,
    /// The session's opaque id; the same in every token of one session.
    pub sid: SessionId,
    /// When the person logged in.
    pub auth_time: u64,
    /// When this token was issued.
    pub iat: u64,
    /// When this token ends; another may follow.
    pub exp: u64,
    /// When the session ends for good.
    pub session_exp: u64,
    /// The login's flow.
    pub flow: LoginMethod,
    /// The login's AppID.
    pub appid: String,
    /// The person's id under that AppID.
    pub openid: String,
    /// The person's id across the Open Platform account.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub unionid: String,
    /// The nickname. Written as the application sees it, percent-encoded, so that Envoy can copy it into a header by
    /// itself; see [`PLAIN_NICKNAME`].
    #[serde(skip_serializing_if = "String::is_empty", serialize_with = "percent_encoded")]
    pub nickname: String,
    /// The avatar's URL.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub avatar: String,
}

/// The claim that stands for `nickname` where percent-encoding would make the token too long: the same, not encoded. By
/// it `envoy/fast.yaml` knows a token that wechat-authz has to be asked about.
const PLAIN_NICKNAME: &str = "name";

fn percent_encoded<S: Serializer>(nickname: &str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&encode_component(nickname))
}

/// Why a text is not a token of ours. Whose error it is does not matter: the request has no session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Length, segments, base64url, header members, claims' types.
    #[error("malformed")]
    Malformed,
    /// Another `typ`, `iss` or `aud`: a token for something else.
    #[error("foreign")]
    Foreign,
    /// No key of that name.
    #[error("unknown key")]
    UnknownKey,
    /// The signature does not verify.
    #[error("forged")]
    Forged,
    /// Its times make no sense: from the future, or longer than configured.
    #[error("impossible times")]
    ImpossibleTimes,
    /// The session is over.
    #[error("expired")]
    Expired,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header<'a> {
    alg: &'a str,
    typ: &'a str,
    kid: &'a str,
}

/// A token that passed every line but the signature; what it says is not to be believed yet.
pub struct Unverified<'t, 'k> {
    signed: &'t str,
    signature: &'t str,
    key: &'k Key,
    claims: Claims,
}

/// A token whose signature and every claim hold. Only [`Unverified::verify`] makes one, and [`issue`], whose own it is.
#[derive(Clone, Debug)]
pub struct VerifiedToken {
    claims: Claims,
}

impl VerifiedToken {
    /// What it says.
    pub fn claims(&self) -> &Claims {
        &self.claims
    }

    #[cfg(test)]
    pub(super) fn for_tests(claims: Claims) -> Self {
        Self { claims }
    }
}

impl<'t, 'k> Unverified<'t, 'k> {
    /// Reads a token for the application that `settings` describe, at `now`. No signature is checked.
    ///
    /// # Errors
    /// The first line of the closed list that does not hold.
    pub fn read(token: &'t str, keys: &'k KeySet, settings: &Settings, now: Timestamp) -> Result<Self, TokenError> {
        let read = Self::read_at_any_age(token, keys)?;
        check(&read.claims, settings, now)?;
        Ok(read)
    }

    /// Reads a token of any application and any age: enough to end its session. No signature is checked.
    ///
    /// # Errors
    /// The first line of the closed list that does not hold, times, issuer and audience left out.
    pub fn read_at_any_age(token: &'t str, keys: &'k KeySet) -> Result<Self, TokenError> {
        if token.len() > MAX_BYTES {
            return Err(TokenError::Malformed);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, payload) = signed.split_once('.').ok_or(TokenError::Malformed)?;
        // A fourth segment fails here: `.` is not base64url. So does padding, white space and a non-canonical end.
        let payload = decode(payload)?;
        if !is_signature(signature) {
            return Err(TokenError::Malformed);
        }
        let key = keys.find_by_header(header).map_or_else(|| named(header, keys), Ok)?;
        let claims = claims(&payload)?;
        Ok(Self { signed, signature, key, claims })
    }

    /// Verifies the signature: the expensive step, about 50 µs.
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

/// The claims of a token's payload, as they stand there.
fn claims(payload: &[u8]) -> Result<Claims, TokenError> {
    // As text once, or each string in it would be looked at by itself.
    let payload = std::str::from_utf8(payload).map_err(|_| TokenError::Malformed)?;
    serde_json::from_str(payload).map_err(|_| TokenError::Malformed)
}

/// When a token says that it ends, whoever signed it. Nothing may be granted for it.
pub(super) fn claimed_end(token: &str) -> Option<Timestamp> {
    let payload = decode(token.split('.').nth(1)?).ok()?;
    claims(&payload).ok().map(|claims| Timestamp(claims.exp))
}

/// The header of the tokens that the key called `kid` signs: their first segment.
pub(super) fn header(kid: &str) -> String {
    // Three strings make JSON.
    let header = serde_json::to_vec(&Header { alg: "ES256", typ: TYPE, kid }).unwrap_or_default();
    URL_SAFE_NO_PAD.encode(header)
}

/// Whether a text is the base64url of an ES256 signature: r and s, 32 bytes each.
fn is_signature(text: &str) -> bool {
    URL_SAFE_NO_PAD.decode_slice(text, &mut [0; 64]) == Ok(64)
}

/// The key that a header names which says so in other words than ours.
fn named<'k>(header: &str, keys: &'k KeySet) -> Result<&'k Key, TokenError> {
    let header = decode(header)?;
    let header: Header = serde_json::from_slice(&header).map_err(|_| TokenError::Malformed)?;
    if header.typ != TYPE {
        return Err(TokenError::Foreign);
    }
    // Every key of ours has this one algorithm.
    if header.alg != "ES256" {
        return Err(TokenError::Malformed);
    }
    keys.find(header.kid).ok_or(TokenError::UnknownKey)
}

fn decode(segment: &str) -> Result<Vec<u8>, TokenError> {
    if segment.is_empty() {
        return Err(TokenError::Malformed);
    }
    URL_SAFE_NO_PAD.decode(segment).map_err(|_| TokenError::Malformed)
}

/// The claims' part of the closed list. `exp` is not judged here: past it, renewal decides.
fn check(claims: &Claims, settings: &Settings, now: Timestamp) -> Result<(), TokenError> {
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

/// Who a session is for, before it has an id and times.
#[derive(Clone, Debug)]
pub struct Grant {
    /// Who logged in.
    pub subject: Subject,
    /// The login's flow.
    pub flow: LoginMethod,
    /// The login's AppID.
    pub appid: String,
    /// The person's id under that AppID.
    pub openid: String,
    /// The person's id across the Open Platform account; empty where unknown.
    pub unionid: String,
    /// Nickname and avatar; empty where unknown.
    pub profile: Profile,
}

impl Claims {
    /// The claims of a new session's first token.
    pub fn first(grant: Grant, sid: SessionId, settings: &Settings, now: Timestamp) -> Self {
        let session_exp = (now + settings.lifetime).0;
        Self {
            iss: settings.issuer.clone(),
            aud: settings.audience.clone(),
            sub: grant.subject,
            sid,
            auth_time: now.0,
            iat: now.0,
            exp: (now + settings.token_lifetime).0.min(session_exp),
            session_exp,
            flow: grant.flow,
            appid: grant.appid,
            openid: grant.openid,
            unionid: grant.unionid,
            nickname: grant.profile.nickname,
            avatar: grant.profile.avatar,
        }
    }

    /// The claims of the same session's next token; none when no second of it is left.
    pub fn next(&self, settings: &Settings, now: Timestamp) -> Option<Self> {
        let exp = (now + settings.token_lifetime).0.min(self.session_exp);
        // A clock set back must not issue a token from before its login.
        (now.0 >= self.auth_time && exp > now.0).then(|| Self { iat: now.0, exp, ..self.clone() })
    }
}

/// Whether a text is a session token by its header, valid or not.
pub fn is_ours(token: &str) -> bool {
    let header = token.split('.').next().filter(|header| header.len() <= 256).unwrap_or_default();
    let header = URL_SAFE_NO_PAD.decode(header).unwrap_or_default();
    serde_json::from_slice::<Header>(&header).is_ok_and(|header| header.typ == TYPE)
}

/// Signs `claims` with `key`. What does not fit the budget is left out: first the nickname's encoding, then the avatar,
/// then the nickname.
///
/// # Errors
/// The cryptographic library refused.
pub fn issue(claims: &Claims, key: &Key) -> Result<(String, VerifiedToken), jsonwebtoken::errors::Error> {
    const SIGNATURE: usize = 87; // a dot and 64 bytes in base64url
    let header = key.header();
    let fits = |payload: &[u8]| {
        let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(payload));
        (signed.len() + SIGNATURE <= BUDGET_BYTES).then_some(signed)
    };
    let mut claims = claims.clone();
    let signed = loop {
        let payload = serde_json::to_vec(&claims)?;
        if let Some(signed) = fits(&payload) {
            break signed;
        }
        if !claims.nickname.is_empty()
            && let Some(signed) = fits(&with_plain_nickname(&claims)?)
        {
            break signed;
        }
        if !claims.avatar.is_empty() {
            claims.avatar.clear();
        } else if !claims.nickname.is_empty() {
            claims.nickname.clear();
        } else {
            // Only ids are left, and nothing of those can be spared.
            break format!("{header}.{}", URL_SAFE_NO_PAD.encode(payload));
        }
    };
    let signature = key.sign(signed.as_bytes())?;
    Ok((format!("{signed}.{signature}"), VerifiedToken { claims }))
}

fn with_plain_nickname(claims: &Claims) -> Result<Vec<u8>, serde_json::Error> {
    let mut payload = serde_json::to_value(claims)?;
    if let Some(members) = payload.as_object_mut() {
        members.remove("nickname");
        members.insert(PLAIN_NICKNAME.to_owned(), claims.nickname.as_str().into());
    }
    serde_json::to_vec(&payload)
}

/// Reads claims strictly: an object without doubled members, whose known members have their types and whose values
/// are scalars. Unknown members are passed over, so that an older instance reads a newer one's tokens.
impl<'de> Deserialize<'de> for Claims {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ClaimsVisitor)
    }
}

struct ClaimsVisitor;

impl<'de> Visitor<'de> for ClaimsVisitor {
    type Value = Claims;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of claims")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Claims, A::Error> {
        let mut members: Vec<(Text, Scalar)> = Vec::with_capacity(16);
        while let Some((name, value)) = map.next_entry::<Text, Scalar>()? {
            if members.iter().any(|(other, _)| other.0 == name.0) || members.len() >= 32 {
                return Err(A::Error::custom("doubled or too many claims"));
            }
            members.push((name, value));
        }
        let mut take = |name: &str| {
            let at = members.iter().position(|(other, _)| other.0 == name)?;
            Some(members.swap_remove(at).1)
        };
        let mut text = |name: &str, required: bool| match take(name) {
            Some(Scalar::Text(text)) => Ok(text.0),
            None if !required => Ok(Cow::default()),
            _ => Err(A::Error::custom("a claim is missing or not a string")),
        };
        let aud = text("aud", true)?.parse().map_err(A::Error::custom)?;
        let sub = text("sub", true)?.parse().map_err(A::Error::custom)?;
        let sid = text("sid", true)?.parse().map_err(A::Error::custom)?;
        let mut text = |name, required| text(name, required).map(Cow::into_owned);
        let iss = text("iss", true)?;
        let (appid, openid, unionid) = (text("appid", true)?, text("openid", true)?, text("unionid", false)?);
        let (encoded, plain, avatar) = (text("nickname", false)?, text(PLAIN_NICKNAME, false)?, text("avatar", false)?);
        let nickname = decode_component(&encoded).ok_or_else(|| A::Error::custom("a nickname that is no text"))?;
        let nickname = if nickname.is_empty() { plain } else { nickname };
        let flow = match text("flow", true)?.as_str() {
            "official_account" => LoginMethod::OfficialAccount,
            "website" => LoginMethod::Website,
            _ => return Err(A::Error::custom("unknown flow")),
        };
        let mut time = |name: &str| match take(name) {
            Some(Scalar::Number(number)) => Ok(number),
            _ => Err(A::Error::custom("a time is missing or not an integer")),
        };
        let (auth_time, iat, exp, session_exp) = (time("auth_time")?, time("iat")?, time("exp")?, time("session_exp")?);
        if let Some(not_before) = take("nbf") {
            // We never issue one; where there is one it must not say more than `iat`.
            if !matches!(not_before, Scalar::Number(number) if number <= iat) {
                return Err(A::Error::custom("nbf"));
            }
        }
        Ok(Claims {
            iss,
            aud,
            sub,
            sid,
            auth_time,
            iat,
            exp,
            session_exp,
            flow,
            appid,
            openid,
            unionid,
            nickname,
            avatar,
        })
    }
}

/// A text, where it can be as it stands in the token.
#[derive(Deserialize)]
struct Text<'t>(#[serde(borrow)] Cow<'t, str>);

/// A claim's value; arrays and objects are none of ours.
enum Scalar<'de> {
    Text(Text<'de>),
    Number(u64),
    Other,
}

impl<'de> Deserialize<'de> for Scalar<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ScalarVisitor;
        impl<'de> Visitor<'de> for ScalarVisitor {
            type Value = Scalar<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a scalar")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Scalar<'de>, E> {
                Ok(Scalar::Text(Text(text.into())))
            }
            fn visit_str<E>(self, text: &str) -> Result<Scalar<'de>, E> {
                Ok(Scalar::Text(Text(text.to_owned().into())))
            }
            fn visit_u64<E>(self, number: u64) -> Result<Scalar<'de>, E> {
                Ok(Scalar::Number(number))
            }
            fn visit_i64<E>(self, _: i64) -> Result<Scalar<'de>, E> {
                Ok(Scalar::Other)
            }
            fn visit_f64<E>(self, _: f64) -> Result<Scalar<'de>, E> {
                Ok(Scalar::Other)
            }
            fn visit_bool<E>(self, _: bool) -> Result<Scalar<'de>, E> {
                Ok(Scalar::Other)
            }
            fn visit_unit<E>(self) -> Result<Scalar<'de>, E> {
                Ok(Scalar::Other)
            }
        }
        deserializer.deserialize_any(ScalarVisitor)
    }
}
