//! Whether a user follows the Official Account: `subscribe` of `cgi-bin/user/info` (docs/en/wechat.md, Access token of
//! the account).

use crate::secret::Secret;
use crate::wechat::client::{ApiCall, Client};
use crate::wechat::credentials::Credentials;
use crate::wechat::decode::{Answer, Unreadable};
use crate::wechat::error::WechatError;
use crate::wechat::ids::OpenId;
use crate::wechat::{Endpoint, Settings};

impl Client {
    /// Whether the user follows the account.
    pub(crate) async fn subscription(
        &self,
        app: &Credentials,
        token: &Secret,
        openid: &OpenId,
    ) -> Result<bool, WechatError> {
        let Settings { userinfo_timeout, .. } = self.settings();
        let query = [("access_token", token.expose()), ("openid", openid.as_str()), ("lang", "zh_CN")];
        let (appid, endpoint) = (&app.appid, Endpoint::Subscription);
        let call = ApiCall { appid, endpoint, query: &query, json: None, timeout: *userinfo_timeout };
        let (about, follows) = self.call(call, read).await?;
        if about == *openid { Ok(follows) } else { Err(WechatError::Mismatch { endpoint }) }
    }
}

/// The user's openid, and whether the user follows the account. Without the flag, the answer is invalid.
pub(crate) fn read(answer: &Answer) -> Result<(OpenId, bool), Unreadable> {
    let follows = match answer.integer("subscribe") {
        Some(0) => false,
        Some(1) => true,
        _ => return Err(Unreadable("subscribe")),
    };
    Ok((answer.required("openid", OpenId::parse)?, follows))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_without_a_valid_flag_is_invalid() {
        let read = |body: &str| read(&Answer::read(body.as_bytes()).unwrap()).map(|(_, follows)| follows);
        for (body, follows) in [
            (r#"{"subscribe":1,"openid":"oAbCd","subscribe_time":1}"#, Ok(true)),
            (r#"{"subscribe":0,"openid":"oAbCd"}"#, Ok(false)),
            (r#"{"openid":"oAbCd"}"#, Err(Unreadable("subscribe"))),
            (r#"{"subscribe":2,"openid":"oAbCd"}"#, Err(Unreadable("subscribe"))),
            (r#"{"subscribe":1}"#, Err(Unreadable("openid"))),
        ] {
            assert_eq!(read(body), follows, "{body}");
        }
    }
}
