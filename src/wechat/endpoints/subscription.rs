//! Whether a person follows the Official Account: `cgi-bin/user/info`, its `subscribe` (docs/en/wechat.md, Access
//! token of the account).

use crate::wechat::credentials::Credentials;
use crate::wechat::client::{ApiCall, Client};
use crate::wechat::decode::{Answer, Unreadable};
use crate::wechat::error::WechatError;
use crate::wechat::ids::OpenId;
use crate::wechat::{Endpoint, Settings};
use crate::secret::Secret;

impl Client {
    pub(crate) async fn subscription(
        &self,
        app: &Credentials,
        token: &Secret,
        openid: &OpenId,
    ) -> Result<bool, WechatError> {
        let Settings { userinfo_timeout, .. } = self.settings();
        let query = [("access_token", token.expose()), ("openid", openid.as_str()), ("lang", "zh_CN")];
        let (appid, endpoint) = (&app.appid, Endpoint::Subscription);
        let call = ApiCall { appid, endpoint, query: &query, json: None, time: *userinfo_timeout };
        let (about, follows) = self.ask(call, read).await?;
        if about == *openid { Ok(follows) } else { Err(WechatError::Mismatch { endpoint }) }
    }
}

/// Whom the answer is about, and whether they follow. An answer that does not say is none: a flag that is missing must
/// not count as either.
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
    fn only_a_plain_answer_says_who_follows() {
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
