//! Fetches nickname and avatar: `sns/userinfo` (docs/en/wechat.md, Profile). A login continues without them.
//!
//! Both are user input. They are cleaned here: no control characters, bounded, and an https URL. The pages and headers that
//! contain them escape them.

use super::exchange::ExchangeResponse;
use crate::profile::Profile;
use crate::wechat::client::{ApiCall, Client};
use crate::wechat::credentials::Credentials;
use crate::wechat::decode::{Answer, Unreadable};
use crate::wechat::error::WechatError;
use crate::wechat::ids::{OpenId, UnionId};
use crate::wechat::{Endpoint, Settings};
use url::Url;

/// The longest nickname, in characters. WeChat allows about half.
const MAX_NICKNAME: usize = 64;

/// The longest URL of an avatar. A longer one is dropped, because a truncated URL is wrong.
const MAX_AVATAR: usize = 512;

/// The answer of `sns/userinfo`.
#[derive(Clone, Debug)]
pub struct UserInfo {
    /// Nickname and avatar, cleaned; empty if absent.
    pub profile: Profile,
    /// The unionid. If the exchange had one, this is the same.
    pub unionid: Option<UnionId>,
}

impl Client {
    /// Fetches the profile of the user of `exchanged`.
    ///
    /// # Errors
    /// [`WechatError`]; [`WechatError::Mismatch`] if the answer is about another user.
    pub async fn userinfo(&self, app: &Credentials, exchanged: &ExchangeResponse) -> Result<UserInfo, WechatError> {
        let Settings { userinfo_timeout, .. } = self.settings();
        let query = [
            ("access_token", exchanged.access_token.expose()),
            ("openid", exchanged.openid.as_str()),
            ("lang", "zh_CN"),
        ];
        let (appid, endpoint) = (&app.appid, Endpoint::Userinfo);
        let call = ApiCall { appid, endpoint, query: &query, json: None, timeout: *userinfo_timeout };
        let (openid, userinfo) = self.call(call, read).await?;
        let differs = |unionid: &UnionId| exchanged.unionid.as_ref().is_some_and(|known| known != unionid);
        if openid != exchanged.openid || userinfo.unionid.as_ref().is_some_and(differs) {
            return Err(WechatError::Mismatch { endpoint });
        }
        Ok(userinfo)
    }
}

/// The user's openid and profile.
pub(crate) fn read(answer: &Answer) -> Result<(OpenId, UserInfo), Unreadable> {
    let openid = answer.required("openid", OpenId::parse)?;
    Ok((openid, UserInfo { unionid: answer.optional("unionid", UnionId::parse)?, profile: profile(answer) }))
}

fn profile(answer: &Answer) -> Profile {
    Profile {
        nickname: nickname(answer.text("nickname").unwrap_or_default()),
        avatar: avatar(answer.text("headimgurl").unwrap_or_default()).unwrap_or_default(),
    }
}

/// Removes control characters, line ends, and marks that change the writing direction.
fn nickname(text: &str) -> String {
    let is_direction_mark =
        |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let is_control = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
    let kept: String = text.chars().filter(|c| !is_direction_mark(*c) && !is_control(*c)).collect();
    kept.trim().chars().take(MAX_NICKNAME).collect()
}

/// The avatar's URL as https; `None` if it is not a plain web address.
fn avatar(text: &str) -> Option<String> {
    let mut url = Url::parse(text).ok()?;
    if url.scheme() == "http" {
        url.set_scheme("https").ok()?;
    }
    let plain = url.scheme() == "https" && url.has_host() && url.username().is_empty() && url.password().is_none();
    (plain && url.as_str().len() <= MAX_AVATAR).then(|| url.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nickname_is_cleaned() {
        for (written, kept) in [
            ("小明😀", "小明😀"),
            ("👨\u{200d}👩\u{200d}👧", "👨\u{200d}👩\u{200d}👧"),
            ("", ""),
            ("  a  b  ", "a  b"),
            ("a\r\nSet-Cookie: x\u{0}\u{7f}\u{85}", "aSet-Cookie: x"),
            ("\u{202e}gnp.exe\u{2066}\u{200f}", "gnp.exe"),
            ("a\u{2028}b\u{2029}", "ab"),
            ("<b>\"'&\\", "<b>\"'&\\"),
            ("\u{e000}", "\u{e000}"),
        ] {
            assert_eq!(nickname(written), kept, "{written:?}");
        }
        assert_eq!(nickname(&"明".repeat(65)), "明".repeat(64));
    }

    #[test]
    fn an_avatar_is_an_https_url_or_dropped() {
        for (written, kept) in [
            ("https://thirdwx.qlogo.cn/mmopen/vi_32/AbCdEf/132", "https://thirdwx.qlogo.cn/mmopen/vi_32/AbCdEf/132"),
            ("http://wx.qlogo.cn/mmopen/0", "https://wx.qlogo.cn/mmopen/0"),
            ("http://wx.qlogo.cn:80/0", "https://wx.qlogo.cn/0"),
            ("https://wx.qlogo.cn/a\"><script>", "https://wx.qlogo.cn/a%22%3E%3Cscript%3E"),
            ("https://wx.qlogo.cn/a\nb", "https://wx.qlogo.cn/ab"),
            ("", ""),
            ("/132", ""),
            ("//wx.qlogo.cn/0", ""),
            ("javascript:alert(1)", ""),
            ("data:image/png;base64,AAAA", ""),
            ("ftp://wx.qlogo.cn/0", ""),
            ("https://me:pw@wx.qlogo.cn/0", ""),
            ("https://", ""),
        ] {
            assert_eq!(avatar(written).unwrap_or_default(), kept, "{written}");
        }
        assert_eq!(avatar(&format!("https://wx.qlogo.cn/{}", "a".repeat(512))), None);
    }
}
