//! Exchanges a code for the user's ids: `sns/oauth2/access_token` (docs/en/wechat.md, Exchange).

use crate::secret::Secret;
use crate::wechat::client::{ApiCall, Client};
use crate::wechat::credentials::Credentials;
use crate::wechat::decode::{Answer, Unreadable};
use crate::wechat::error::WechatError;
use crate::wechat::ids::{OpenId, UnionId, is_word};
use crate::wechat::{Endpoint, Settings};
use secrecy::{ExposeSecret, SecretString};
use std::fmt;
use std::time::Duration;

/// The longest code. WeCom documents 512 bytes; WeChat's have about 32.
const MAX_CODE: usize = 512;

/// How many scopes are read from an answer, and how long each may be.
const MAX_SCOPES: usize = 16;
const MAX_SCOPE: usize = 64;

/// The longest token. The documentation says 512 bytes; requests carry it in the URL.
const MAX_TOKEN: usize = 4_096;

/// The authorization code from the callback. Valid once, for five minutes, together with the AppSecret.
#[derive(Clone)]
pub struct Code(SecretString);

/// Not a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not 1 to 512 of the characters A-Z, a-z, 0-9, - and _")]
pub struct CodeError;

impl Code {
    /// Parses the `code` parameter of a callback.
    ///
    /// # Errors
    /// Empty, longer than 512, or outside `[A-Za-z0-9_-]`.
    pub fn parse(text: &str) -> Result<Self, CodeError> {
        let fits = (1..=MAX_CODE).contains(&text.len()) && text.bytes().all(is_word);
        if fits { Ok(Self(text.to_owned().into())) } else { Err(CodeError) }
    }

    /// The code, for the exchange.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// The answer of the exchange.
#[derive(Clone, Debug)]
pub struct ExchangeResponse {
    /// The user's id under this AppID.
    pub openid: OpenId,
    /// The user's id under the Open Platform account, if there is one (docs/en/wechat.md, Unionid).
    pub unionid: Option<UnionId>,
    /// The granted scopes, which may differ from the requested ones.
    pub granted: Vec<String>,
    /// Whether this is the virtual account of a snapshot page (快照页), which must not log in.
    pub snapshot: bool,
    /// The user's token, for the profile.
    pub access_token: Secret,
    /// Valid for 30 days, without the AppSecret.
    pub refresh_token: Option<Secret>,
    /// The lifetime of the access token; zero if unknown.
    pub expires_in: Duration,
}

impl Client {
    /// Exchanges `code`. The code may be spent even if this fails; [`WechatError::class`] says what to do.
    pub async fn exchange(&self, app: &Credentials, code: &Code) -> Result<ExchangeResponse, WechatError> {
        let Settings { exchange_timeout, .. } = self.settings();
        let query = [
            ("appid", app.appid.as_str()),
            ("secret", app.secret.expose()),
            ("code", code.expose()),
            ("grant_type", "authorization_code"),
        ];
        let (appid, endpoint) = (&app.appid, Endpoint::AccessToken);
        self.call(
            ApiCall { appid, endpoint, query: &query, json: None, timeout: *exchange_timeout },
            ExchangeResponse::read,
        )
        .await
    }
}

impl ExchangeResponse {
    /// Decodes the answer of an exchange or refresh.
    pub(crate) fn read(answer: &Answer) -> Result<Self, Unreadable> {
        let token = |text: &str| Secret::parse(text, 1).ok().filter(|_| text.len() <= MAX_TOKEN).ok_or(());
        let granted = answer.text("scope").unwrap_or_default().split(',').map(str::trim);
        let granted = granted.filter(|scope| (1..=MAX_SCOPE).contains(&scope.len()));
        let lifetime = answer.integer("expires_in").and_then(|seconds| u64::try_from(seconds).ok());
        Ok(Self {
            openid: answer.required("openid", OpenId::parse)?,
            // An invalid unionid is an error, not an absent one: the subject may be built from it.
            unionid: answer.optional("unionid", UnionId::parse)?,
            granted: granted.take(MAX_SCOPES).map(str::to_owned).collect(),
            snapshot: answer.is_flagged("is_snapshotuser"),
            access_token: answer.required("access_token", token)?,
            refresh_token: answer.optional("refresh_token", token).unwrap_or_default(),
            expires_in: Duration::from_secs(lifetime.unwrap_or_default()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Result<ExchangeResponse, Unreadable> {
        ExchangeResponse::read(&Answer::read(body.as_bytes()).unwrap())
    }

    #[test]
    fn a_code_is_bounded_and_not_printed() {
        let code = Code::parse("071AbcDefGhiJklMno2pQrStUv1AbcDe").unwrap();
        assert_eq!((code.expose(), format!("{code:?}")), ("071AbcDefGhiJklMno2pQrStUv1AbcDe", "***".into()));
        assert!(Code::parse(&"a".repeat(512)).is_ok());
        for text in ["", "a b", "a&b", "a%20", "a\n", "ä", &"a".repeat(513)] {
            assert_eq!(Code::parse(text).unwrap_err(), CodeError, "{text}");
        }
    }

    #[test]
    fn the_documented_answer_is_decoded() {
        let exchanged = read(
            r#"{"access_token":"37_Abc123-def_GHI","expires_in":7200,"refresh_token":"37_Xyz987-uvw_RST",
                "openid":"oAbCd0123456789-_EFGHijklmno","scope":"snsapi_base,snsapi_userinfo,",
                "unionid":"oUnIo0123456789-_PQRSTuvwxyz"}"#,
        )
        .unwrap();
        assert_eq!(exchanged.openid.as_str(), "oAbCd0123456789-_EFGHijklmno");
        assert_eq!(exchanged.unionid.unwrap().as_str(), "oUnIo0123456789-_PQRSTuvwxyz");
        assert_eq!(exchanged.granted, ["snsapi_base", "snsapi_userinfo"]);
        assert_eq!(exchanged.access_token.expose(), "37_Abc123-def_GHI");
        assert_eq!(exchanged.refresh_token.unwrap().expose(), "37_Xyz987-uvw_RST");
        assert_eq!(exchanged.expires_in, Duration::from_secs(7200));
        assert!(!exchanged.snapshot);
    }

    #[test]
    fn optional_fields_may_be_absent_or_invalid() {
        for more in [
            "",
            r#","errcode":0,"errmsg":"ok""#,
            r#","unionid":null,"scope":null,"refresh_token":null,"expires_in":null"#,
            r#","unionid":"","scope":",,","refresh_token":"","expires_in":"-1""#,
            r#","scope":7,"refresh_token":7,"expires_in":[],"is_snapshotuser":0"#,
        ] {
            let exchanged = read(&format!(r#"{{"openid":"o","access_token":"t"{more}}}"#)).unwrap();
            assert!(exchanged.unionid.is_none() && exchanged.granted.is_empty() && !exchanged.snapshot, "{more}");
            assert!(exchanged.refresh_token.is_none() && exchanged.expires_in.is_zero(), "{more}");
        }
        let as_text = read(r#"{"openid":"o","access_token":"t","expires_in":"7200"}"#).unwrap();
        assert_eq!(as_text.expires_in, Duration::from_secs(7200));
    }

    #[test]
    fn openid_and_token_are_required() {
        for (body, what) in [
            ("{}", "openid"),
            (r#"{"access_token":"t"}"#, "openid"),
            (r#"{"openid":null,"access_token":"t"}"#, "openid"),
            (r#"{"openid":"","access_token":"t"}"#, "openid"),
            (r#"{"openid":7,"access_token":"t"}"#, "openid"),
            (r#"{"openid":"o:x","access_token":"t"}"#, "openid"),
            (r#"{"openid":"o"}"#, "access_token"),
            (r#"{"openid":"o","access_token":" "}"#, "access_token"),
            (r#"{"openid":"o","access_token":"t","unionid":"a b"}"#, "unionid"),
            (r#"{"openid":"o","access_token":"t","unionid":7}"#, "unionid"),
        ] {
            assert_eq!(read(body).unwrap_err(), Unreadable(what), "{body}");
        }
    }

    #[test]
    fn a_token_is_bounded() {
        let body = |length: usize| format!(r#"{{"openid":"o","access_token":"{}"}}"#, "ab".repeat(length / 2));
        assert!(read(&body(4_096)).is_ok());
        assert_eq!(read(&body(4_098)).unwrap_err(), Unreadable("access_token"));
    }

    #[test]
    fn a_snapshot_user_is_recognized() {
        for value in ["1", "\"1\"", "true"] {
            let body = format!(r#"{{"openid":"o","access_token":"t","is_snapshotuser":{value}}}"#);
            assert!(read(&body).unwrap().snapshot);
        }
    }

    #[test]
    fn scopes_are_bounded() {
        let scope = format!("{},{}", "x".repeat(65), "s,".repeat(1_000));
        let exchanged = read(&format!(r#"{{"openid":"o","access_token":"t","scope":"{scope}"}}"#)).unwrap();
        assert_eq!(exchanged.granted, vec!["s"; MAX_SCOPES]);
    }

    #[test]
    fn debug_prints_no_id_or_secret() {
        let exchanged =
            read(r#"{"openid":"oCanary","unionid":"uCanary","access_token":"tCanary","refresh_token":"rCanary"}"#);
        let printed = format!("{:?}", exchanged.unwrap());
        assert!(!printed.contains("Canary"), "{printed}");
    }
}
