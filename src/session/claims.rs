//! The claims of a session token and their JSON.

use super::settings::Settings;
use crate::app_name::AppName;
use crate::clock::Timestamp;
use crate::login_method::LoginMethod;
use crate::percent::{decode_component, encode_component};
use crate::profile::Profile;
use crate::session_id::SessionId;
use crate::subject::Subject;
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;

/// The claims of a session token. Times are NumericDates.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Claims {
    /// The issuer: the origin of the application.
    pub iss: String,
    /// The audience: the name of the application.
    pub aud: AppName,
    /// The subject.
    pub sub: Subject,
    /// The session id, which all tokens of one session share.
    pub sid: SessionId,
    /// When the user logged in.
    pub auth_time: u64,
    /// When this token was issued.
    pub iat: u64,
    /// When this token expires. Another one may follow.
    pub exp: u64,
    /// When the session ends.
    pub session_exp: u64,
    /// The login method.
    pub flow: LoginMethod,
    /// The AppID of the login.
    pub appid: String,
    /// The openid of the user under that AppID.
    pub openid: String,
    /// The unionid of the user; empty if unknown.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub unionid: String,
    /// The nickname. The JSON holds it percent-encoded, as the application receives it, so that Envoy can copy it into a
    /// header; see [`PLAIN_NICKNAME`].
    #[serde(skip_serializing_if = "String::is_empty", serialize_with = "percent_encoded")]
    pub nickname: String,
    /// The URL of the avatar.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub avatar: String,
}

/// The claim that replaces `nickname` if percent-encoding would make the token too long: the nickname in plain text. Envoy
/// checks each request with such a token (`envoy/fast.yaml`), because it cannot encode the nickname.
const PLAIN_NICKNAME: &str = "name";

fn percent_encoded<S: Serializer>(nickname: &str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&encode_component(nickname))
}

/// What a login proved: a session without its id and times.
#[derive(Clone, Debug)]
pub struct Grant {
    /// The subject.
    pub subject: Subject,
    /// The login method.
    pub flow: LoginMethod,
    /// The AppID of the login.
    pub appid: String,
    /// The openid of the user under that AppID.
    pub openid: String,
    /// The unionid of the user; empty if unknown.
    pub unionid: String,
    /// Nickname and avatar; empty if unknown.
    pub profile: Profile,
}

impl Claims {
    /// The claims of the first token of a new session.
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

    /// The claims of the next token of the session; none if the session has ended.
    pub fn next(&self, settings: &Settings, now: Timestamp) -> Option<Self> {
        let exp = (now + settings.token_lifetime).0.min(self.session_exp);
        // If the clock was set back, do not issue a token that is older than the login.
        (now.0 >= self.auth_time && exp > now.0).then(|| Self { iat: now.0, exp, ..self.clone() })
    }

    /// The JSON of these claims with the nickname in plain text.
    pub(super) fn with_plain_nickname(&self) -> Result<Vec<u8>, serde_json::Error> {
        let mut payload = serde_json::to_value(self)?;
        if let Some(members) = payload.as_object_mut() {
            members.remove("nickname");
            members.insert(PLAIN_NICKNAME.to_owned(), self.nickname.as_str().into());
        }
        serde_json::to_vec(&payload)
    }
}

/// Accepts an object in which no member occurs twice, known members have their type, and all values are scalars. Ignores
/// unknown members, so that an older instance accepts the tokens of a newer one.
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
                return Err(A::Error::custom("a duplicate claim, or too many claims"));
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
        let nickname = decode_component(&encoded)
            .ok_or_else(|| A::Error::custom("a nickname that is not percent-encoded UTF-8"))?;
        let nickname = if nickname.is_empty() { plain } else { nickname };
        let flow = match text("flow", true)?.as_str() {
            "official_account" => LoginMethod::OfficialAccount,
            "website" => LoginMethod::Website,
            _ => return Err(A::Error::custom("an unknown login method")),
        };
        let mut time = |name: &str| match take(name) {
            Some(Scalar::Number(number)) => Ok(number),
            _ => Err(A::Error::custom("a time is missing or not an integer")),
        };
        let (auth_time, iat, exp, session_exp) = (time("auth_time")?, time("iat")?, time("exp")?, time("session_exp")?);
        if let Some(not_before) = take("nbf") {
            // We do not issue this claim. If it occurs, it must not be later than `iat`.
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

/// A string, borrowed from the token if it holds no escapes.
#[derive(Deserialize)]
struct Text<'t>(#[serde(borrow)] Cow<'t, str>);

/// The value of a claim. Arrays and objects are errors.
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
