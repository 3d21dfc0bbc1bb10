//! The session token: only listed forms are accepted (docs/en/threat-model.md, Tokens).
//!
//! An input is a token with names in braces, such as `{head}.{body}.{signature^3=41}`; or a first line `signed`, a
//! header on the second line and a payload below it, which the target signs with our key.

use crate::template::expand;
use crate::world::{NOW, world};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;
use std::fmt;
use std::sync::LazyLock;
use wechat_authz::testing::session::jws;
use wechat_authz::testing::session::token::{self, Unverified};

static KEY: LazyLock<EncodingKey> = LazyLock::new(|| EncodingKey::from_ec_pem(world().pem.as_bytes()).unwrap());

/// Only a token that we issued, unchanged, is accepted; our own signature does not make a header or claims valid that
/// are not on the list.
pub fn holds(data: &[u8]) {
    let world = world();
    match data.strip_prefix(b"signed\n") {
        Some(parts) => {
            let parts = expand(parts, |name| world.value(name));
            let at = parts.iter().position(|byte| *byte == b'\n').unwrap_or(parts.len());
            let (header, payload) = (&parts[..at], parts.get(at + 1..).unwrap_or_default());
            if accepts(&signed(header, payload)) {
                assert_on_the_list(header, payload);
            }
        }
        None => {
            let text = expand(data, |name| world.value(name));
            let Ok(text) = std::str::from_utf8(&text) else { return };
            let issued = world.good.iter().any(|good| good.authority == "shop.example.com" && good.token == text)
                // We issued this token and it is unchanged. It may still be revoked or idle, which the token does not
                // show.
                || text == world.text("revoked")
                || text == world.text("idle");
            assert_eq!(accepts(text), issued, "{text:?}");
        }
    }
}

/// Signs a header and a payload with our key.
#[must_use]
pub fn signed(header: &[u8], payload: &[u8]) -> String {
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
    let signature = jsonwebtoken::crypto::sign(signed.as_bytes(), &KEY, Algorithm::ES256).unwrap();
    format!("{signed}.{signature}")
}

/// Whether a text verifies as a token of the shop; panics if token and session differ.
#[must_use]
pub fn accepts(text: &str) -> bool {
    let world = world();
    let settings = &world.shop().session;
    let keys = world.sessions.keys.current();
    let verified = Unverified::read(text, &keys, settings, NOW).and_then(Unverified::verify);
    let live = world.sessions.verify(text, settings, NOW, || Ok(()));
    assert!(verified.is_ok() || live.is_err(), "a session without a verified token");
    if verified.is_ok() {
        assert!(jws::has_our_type(text) && text.len() <= token::MAX_BYTES);
    }
    if let Ok(live) = live {
        assert_ne!(text, world.text("revoked"));
        let claims = live.claims();
        assert!(NOW.0 < claims.session_exp && NOW.0 <= claims.iat.saturating_add(86_400), "ended or idle: {claims:?}");
    }
    verified.is_ok()
}

fn assert_on_the_list(header: &[u8], payload: &[u8]) {
    let header: Members = serde_json::from_slice(header).unwrap();
    let mut names: Vec<&str> = header.0.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["alg", "kid", "typ"]);
    assert_eq!(header.text("alg"), "ES256");
    assert_eq!(header.text("typ"), "wechat-session+jwt");
    assert_eq!(header.text("kid"), world().text("kid"));
    let claims: Members = serde_json::from_slice(payload).unwrap();
    assert_eq!((claims.text("iss"), claims.text("aud")), ("https://shop.example.com", "shop"));
    assert!(!claims.text("sub").is_empty() && !claims.text("sid").is_empty());
    let [auth_time, iat, exp, session_exp] = ["auth_time", "iat", "exp", "session_exp"].map(|name| claims.time(name));
    assert!(auth_time <= iat && iat < exp && exp <= session_exp);
    assert!(iat <= NOW.0 + 60 && session_exp > NOW.0);
    assert!(exp - iat <= 3_600 && session_exp - auth_time <= 90 * 86_400);
    assert!(claims.0.iter().all(|(name, _)| name != "nbf") || claims.time("nbf") <= iat);
}

/// The members of an object as written, duplicates included.
struct Members(Vec<(String, Value)>);

impl Members {
    fn one(&self, name: &str) -> &Value {
        let mut found = self.0.iter().filter(|(known, _)| known == name);
        let (Some((_, value)), None) = (found.next(), found.next()) else { panic!("{name} is missing or duplicated") };
        value
    }

    fn text(&self, name: &str) -> &str {
        self.one(name).as_str().unwrap_or_else(|| panic!("{name} is not a string"))
    }

    fn time(&self, name: &str) -> u64 {
        self.one(name).as_u64().unwrap_or_else(|| panic!("{name} is not a time"))
    }
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Each;
        impl<'de> Visitor<'de> for Each {
            type Value = Members;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Each)
    }
}
