//! Which flow suits this browser (docs/en/wechat.md, Browsers). The User-Agent routes and never grants: a browser that
//! lies about it ends at WeChat's "please open in WeChat".

use super::settings::App;
use crate::login_method::LoginMethod;
use http::HeaderMap;
use std::borrow::Cow;

/// What a User-Agent says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Browser {
    /// WeCom (企业微信); says `MicroMessenger` too, so it is looked for first.
    WeCom,
    /// A web-view inside a mini program.
    MiniProgram,
    /// WeChat's own browser, on a phone or a desktop.
    WeChat,
    /// Everything else.
    Ordinary,
}

/// What to do with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    /// Log in by this flow.
    Flow(LoginMethod),
    /// It must be opened in WeChat.
    NeedsWechat {
        /// Whether the person may choose the login by QR code instead.
        or_code: bool,
    },
    /// It must be opened in an ordinary browser.
    NeedsBrowser,
    /// It must be opened where a phone can scan the screen.
    NeedsComputer,
}

/// Whether the screen is a phone's own. A tablet's can be scanned by a phone.
fn is_phone(user_agent: &str) -> bool {
    let user_agent = user_agent.to_ascii_lowercase();
    let says = |word| user_agent.contains(word);
    says("iphone") || says("ipod") || (says("mobile") && (says("android") || says("harmony") || says("phone")))
}

impl Browser {
    /// Reads a User-Agent, whatever its case.
    pub(crate) fn of(user_agent: &str) -> Self {
        let user_agent = user_agent.to_ascii_lowercase();
        let says = |word| user_agent.contains(word);
        match (says("wxwork/"), says("micromessenger"), says("miniprogram")) {
            (true, _, _) => Self::WeCom,
            (_, true, true) => Self::MiniProgram,
            (_, true, false) => Self::WeChat,
            (_, false, _) => Self::Ordinary,
        }
    }
}

/// A browser as the list of sessions names it: enough to know one's own phone again, and no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    /// WeCom (企业微信).
    WeCom,
    /// WeChat on an iPhone or iPad.
    WechatIos,
    /// WeChat on Android and HarmonyOS.
    WechatAndroid,
    /// WeChat on Windows, macOS and Linux.
    WechatDesktop,
    /// Edge.
    Edge,
    /// Firefox.
    Firefox,
    /// Chrome, and what calls itself that.
    Chrome,
    /// Safari.
    Safari,
    /// Anything else.
    Other,
}

impl Family {
    /// Reads a User-Agent, whatever its case. Who claims to be several is the one that the others imitate least.
    pub(crate) fn of(user_agent: &str) -> Self {
        let user_agent = user_agent.to_ascii_lowercase();
        let says = |word| user_agent.contains(word);
        if says("wxwork/") {
            Self::WeCom
        } else if says("micromessenger") {
            if says("windowswechat") || says("macwechat") || says("linux x86_64") || says("windows nt") {
                Self::WechatDesktop
            } else if says("iphone") || says("ipad") {
                Self::WechatIos
            } else {
                Self::WechatAndroid
            }
        } else if says("edg/") || says("edga/") || says("edgios/") {
            Self::Edge
        } else if says("firefox/") || says("fxios/") {
            Self::Firefox
        } else if says("chrome/") || says("crios/") {
            Self::Chrome
        } else if says("safari/") {
            Self::Safari
        } else {
            Self::Other
        }
    }

    /// The word for it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::WeCom => "wecom",
            Self::WechatIos => "wechat_ios",
            Self::WechatAndroid => "wechat_android",
            Self::WechatDesktop => "wechat_desktop",
            Self::Edge => "edge",
            Self::Firefox => "firefox",
            Self::Chrome => "chrome",
            Self::Safari => "safari",
            Self::Other => "other",
        }
    }
}

/// What a browser says it is; empty where it says nothing. Some WeChat builds write a phone's name in raw UTF-8 or GBK.
pub(crate) fn user_agent(headers: &HeaderMap) -> Cow<'_, str> {
    let value = headers.get(http::header::USER_AGENT).map(http::HeaderValue::as_bytes);
    String::from_utf8_lossy(value.unwrap_or_default())
}

/// The flow for this browser among those that `app` has. `by_code`: a person chose the QR code.
pub(crate) fn choose(app: &App, user_agent: &str, by_code: bool) -> Choice {
    let inside = app.official_account.is_some();
    let outside = app.website.is_some();
    match Browser::of(user_agent) {
        Browser::WeChat | Browser::MiniProgram if inside => Choice::Flow(LoginMethod::OfficialAccount),
        // A phone cannot scan the code on its own screen.
        Browser::WeChat | Browser::MiniProgram => Choice::NeedsBrowser,
        // WeCom has no Official Account of ours; on a desktop its window can show a code to scan.
        Browser::WeCom | Browser::Ordinary if outside && (by_code || !is_phone(user_agent)) => {
            Choice::Flow(LoginMethod::Website)
        }
        Browser::WeCom | Browser::Ordinary if inside => Choice::NeedsWechat { or_code: outside },
        Browser::WeCom | Browser::Ordinary => Choice::NeedsComputer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::login::tests::app;

    #[test]
    fn the_samples_of_the_protocol_are_known() {
        for (user_agent, browser) in [
            (
                "Mozilla/5.0 (iPhone; CPU iPhone OS 12_1_4 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/16D57 MicroMessenger/7.0.5(0x17000523) NetType/4G Language/zh_CN",
                Browser::WeChat,
            ),
            (
                "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/132.0.0.0 Safari/537.36 NetType/WIFI MicroMessenger/7.0.20.1781(0x6700143B) WindowsWechat(0x63090a13) UnifiedPCWindowsWechat(0xf2541022) XWEB/16467 Flue",
                Browser::WeChat,
            ),
            (
                "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) MicroMessenger/6.8.0(0x16080000) MacWechat/3.3(0x13030013) NetType/WIFI WindowsWechat",
                Browser::WeChat,
            ),
            (
                "Mozilla/5.0 (Linux; Android 10) Mobile Safari/537.36 wxwork/4.1.22 MicroMessenger/7.0.1 NetType/WIFI Language/zh ColorScheme/Light",
                Browser::WeCom,
            ),
            ("Mozilla/5.0 (iPhone) MicroMessenger/8.0.40 miniProgram/wx0123456789abcdef", Browser::MiniProgram),
            ("mozilla/5.0 MICROMESSENGER/8", Browser::WeChat),
            ("Mozilla/5.0 (X11; Linux x64) Chrome/156.0 Safari/537.36", Browser::Ordinary),
            ("", Browser::Ordinary),
        ] {
            assert_eq!(Browser::of(user_agent), browser, "{user_agent}");
        }
    }

    #[test]
    fn a_phone_is_not_sent_to_a_code_on_its_own_screen() {
        const SAFARI: &str = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) \
             Version/18.0 Mobile/15E148 Safari/604.1";
        let code = Choice::Flow(LoginMethod::Website);
        let both = app();
        let website = App { official_account: None, ..app() };
        let account = App { website: None, ..app() };
        for phone in [
            SAFARI,
            "Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 Chrome/130.0 Mobile Safari/537.36",
            "Mozilla/5.0 (Phone; OpenHarmony 5.0) AppleWebKit/537.36 Chrome/114.0 ArkWeb/4.1 Mobile HuaweiBrowser/5.1",
            "Mozilla/5.0 (Linux; Android 10) Mobile Safari/537.36 wxwork/4.1.22 MicroMessenger/7.0.1",
        ] {
            assert_eq!(choose(&both, phone, false), Choice::NeedsWechat { or_code: true }, "{phone}");
            assert_eq!(choose(&website, phone, false), Choice::NeedsComputer, "{phone}");
            assert_eq!(choose(&account, phone, true), Choice::NeedsWechat { or_code: false }, "{phone}");
            assert_eq!([&both, &website].map(|app| choose(app, phone, true)), [code, code], "{phone}");
        }
        for screen in [
            "Mozilla/5.0 (X11; Linux x86_64) Chrome/156.0.0.0 Safari/537.36",
            "Mozilla/5.0 (iPad; CPU OS 12_2 like Mac OS X) Version/12.1 Mobile/15E148 Safari/604.1",
            "Mozilla/5.0 (Linux; Android 14; Tablet) AppleWebKit/537.36 Chrome/130.0 Safari/537.36",
            "",
        ] {
            assert_eq!([&both, &website].map(|app| choose(app, screen, false)), [code, code], "{screen}");
        }
    }

    #[test]
    fn a_user_agent_with_raw_bytes_is_read() {
        for raw in [
            &b"Mozilla/5.0 (Linux; \xe5\xb0\x8f\xe7\xb1\xb3) MicroMessenger/8.0.47"[..],
            b"Mozilla/5.0 (\xd0\xa1\xc3\xd7) MicroMessenger/8",
        ] {
            let headers =
                HeaderMap::from_iter([(http::header::USER_AGENT, http::HeaderValue::from_bytes(raw).unwrap())]);
            assert_eq!(Browser::of(&user_agent(&headers)), Browser::WeChat);
        }
    }

    #[test]
    fn a_browser_has_one_family_whatever_else_it_claims_to_be() {
        for (user_agent, family) in [
            (
                "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) Mobile/15E148 MicroMessenger/8.0.50",
                "wechat_ios",
            ),
            (
                "Mozilla/5.0 (Linux; Android 14) Chrome/116.0 MMWEBID/1 MicroMessenger/8.0.47 XWEB/1160",
                "wechat_android",
            ),
            (
                "Mozilla/5.0 (Windows NT 10.0; Win64; x64) Chrome/132.0 Safari/537.36 MicroMessenger/7.0.20 WindowsWechat",
                "wechat_desktop",
            ),
            ("Mozilla/5.0 (Macintosh) MicroMessenger/6.8.0 MacWechat/3.3", "wechat_desktop"),
            ("Mozilla/5.0 (Linux; Android 10) wxwork/4.1.22 MicroMessenger/7.0.1", "wecom"),
            ("Mozilla/5.0 (Windows NT 10.0) Chrome/156.0 Safari/537.36 Edg/156.0", "edge"),
            ("Mozilla/5.0 (X11; Linux x86_64) Chrome/156.0.0.0 Safari/537.36", "chrome"),
            ("Mozilla/5.0 (iPhone) AppleWebKit/605.1.15 CriOS/156 Mobile/15E148 Safari/604.1", "chrome"),
            ("Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", "firefox"),
            ("Mozilla/5.0 (Macintosh) AppleWebKit/605.1.15 Version/18.0 Safari/605.1.15", "safari"),
            ("curl/8.0\r\n", "other"),
            ("", "other"),
        ] {
            assert_eq!(Family::of(user_agent).as_str(), family, "{user_agent}");
        }
    }
}
