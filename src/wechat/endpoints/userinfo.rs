//! Nickname and avatar: `sns/userinfo` (docs/en/wechat.md, Profile). Not needed for the identity; a login continues
//! without it.
//!
//! Both are written by the person, or by whoever wants to be taken for another. They leave here without control
//! characters, bounded, and with an address that is https; where they go into a page or header, that place escapes.

use crate::wechat::credentials::Credentials;
use crate::wechat::client::{ApiCall, Client};
use crate::wechat::decode::{Answer, Unreadable};
use crate::wechat::error::WechatError;
use super::exchange::ExchangeResponse;
use crate::wechat::ids::{OpenId, UnionId};
use crate::wechat::{Endpoint, Settings};
use crate::profile::Profile;
use url::Url;

/// Characters of a nickname that are kept; WeChat allows about half.
const MAX_NICKNAME: usize = 64;

/// An avatar's address beyond this is left out: cut, it would lead elsewhere.
const MAX_AVATAR: usize = 512;

/// What WeChat says of a person.
#[derive(Clone, Debug)]
pub struct UserInfo {
    /// Nickname and avatar, cleaned; empty where there is none.
    pub profile: Profile,
    /// The unionid, equal to the exchange's where that had one.
    pub unionid: Option<UnionId>,
}

impl Client {
    /// Asks for the profile of whoever `exchanged` is about.
    ///
    /// # Errors
    /// [`WechatError`]; [`WechatError::Mismatch`] where the answer is about somebody else.
    pub async fn userinfo(&self, app: &Credentials, exchanged: &ExchangeResponse) -> Result<UserInfo, WechatError> {
        let Settings { userinfo_timeout, .. } = self.settings();
        let query = [
            ("access_token", exchanged.access_token.expose()),
            ("openid", exchanged.openid.as_str()),
            ("lang", "zh_CN"),
        ];
        let (appid, endpoint) = (&app.appid, Endpoint::Userinfo);
        let call = ApiCall { appid, endpoint, query: &query, json: None, time: *userinfo_timeout };
        let (openid, profiled) = self.ask(call, read).await?;
        let other = |unionid: &UnionId| exchanged.unionid.as_ref().is_some_and(|known| known != unionid);
        if openid != exchanged.openid || profiled.unionid.as_ref().is_some_and(other) {
            return Err(WechatError::Mismatch { endpoint });
        }
        Ok(profiled)
    }
}

/// Whom the answer is about, and what it says of them.
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

/// A nickname without what no name needs: control characters, line ends, and marks that turn the writing direction and
/// so the text around it.
fn nickname(text: &str) -> String {
    let turns = |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let ends = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
    let kept: String = text.chars().filter(|c| !turns(*c) && !ends(*c)).collect();
    kept.trim().chars().take(MAX_NICKNAME).collect()
}

/// The address of an avatar as https; none for anything that is not a plain web address.
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
    fn a_nickname_is_text_and_nothing_else() {
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
    fn an_avatar_is_an_https_address_or_none() {
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
