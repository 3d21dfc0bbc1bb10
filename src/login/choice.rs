//! Chooses the login method by the User-Agent (docs/en/wechat.md, Browsers). The User-Agent grants nothing: a browser with a
//! false one is stopped by WeChat's "please open in WeChat".

use super::settings::App;
use crate::login_method::LoginMethod;
use http::HeaderMap;
use std::borrow::Cow;

/// The kind of browser, by its User-Agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Browser {
    /// WeCom (企业微信). Its User-Agent contains `MicroMessenger` too.
    WeCom,
    /// A web-view in a mini program.
    MiniProgram,
    /// WeChat's own browser, on a phone or a desktop.
    WeChat,
    /// Any other browser.
    Ordinary,
}

/// The login method, or what the user must do first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    /// Use this login method.
    Method(LoginMethod),
    /// The user must open the page in WeChat.
    NeedsWechat {
        /// Whether the user may choose the login by QR code instead.
        or_code: bool,
    },
    /// The user must open the page in an ordinary browser.
    NeedsBrowser,
    /// The user must open the page on a screen that a phone can scan.
    NeedsComputer,
}

/// Whether the browser runs on a phone. A phone can scan the screen of a tablet.
fn is_phone(user_agent: &str) -> bool {
    let user_agent = user_agent.to_ascii_lowercase();
    let contains = |word| user_agent.contains(word);
    contains("iphone")
        || contains("ipod")
        || (contains("mobile") && (contains("android") || contains("harmony") || contains("phone")))
}

impl Browser {
    /// Parses a User-Agent. Case is ignored.
    pub(crate) fn of(user_agent: &str) -> Self {
        let user_agent = user_agent.to_ascii_lowercase();
        let contains = |word| user_agent.contains(word);
        match (contains("wxwork/"), contains("micromessenger"), contains("miniprogram")) {
            (true, _, _) => Self::WeCom,
            (_, true, true) => Self::MiniProgram,
            (_, true, false) => Self::WeChat,
            (_, false, _) => Self::Ordinary,
        }
    }
}

/// The browser in the list of sessions: enough for a user to recognize a device.
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
    /// Chrome and browsers based on it.
    Chrome,
    /// Safari.
    Safari,
    /// Any other browser.
    Other,
}

impl Family {
    /// Parses a User-Agent. Case is ignored. Browsers copy each other's names: the name that fewest others copy wins.
    pub(crate) fn of(user_agent: &str) -> Self {
        let user_agent = user_agent.to_ascii_lowercase();
        let contains = |word| user_agent.contains(word);
        if contains("wxwork/") {
            Self::WeCom
        } else if contains("micromessenger") {
            if contains("windowswechat") || contains("macwechat") || contains("linux x86_64") || contains("windows nt")
            {
                Self::WechatDesktop
            } else if contains("iphone") || contains("ipad") {
                Self::WechatIos
            } else {
                Self::WechatAndroid
            }
        } else if contains("edg/") || contains("edga/") || contains("edgios/") {
            Self::Edge
        } else if contains("firefox/") || contains("fxios/") {
            Self::Firefox
        } else if contains("chrome/") || contains("crios/") {
            Self::Chrome
        } else if contains("safari/") {
            Self::Safari
        } else {
            Self::Other
        }
    }

    /// The name in snake_case.
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

/// The User-Agent, or an empty string. Some WeChat builds write a phone's name in raw UTF-8 or GBK.
pub(crate) fn user_agent(headers: &HeaderMap) -> Cow<'_, str> {
    let value = headers.get(http::header::USER_AGENT).map(http::HeaderValue::as_bytes);
    String::from_utf8_lossy(value.unwrap_or_default())
}

/// Chooses a login method of `app` for this browser. `by_code`: the user chose the QR code.
pub(crate) fn choose(app: &App, user_agent: &str, by_code: bool) -> Choice {
    let has_account = app.official_account.is_some();
    let has_website = app.website.is_some();
    match Browser::of(user_agent) {
        Browser::WeChat | Browser::MiniProgram if has_account => Choice::Method(LoginMethod::OfficialAccount),
        // In WeChat, the browser is on the phone that would have to scan the code.
        Browser::WeChat | Browser::MiniProgram => Choice::NeedsBrowser,
        // WeCom does not support Official Accounts. On a desktop it can show the QR code.
        Browser::WeCom | Browser::Ordinary if has_website && (by_code || !is_phone(user_agent)) => {
            Choice::Method(LoginMethod::Website)
        }
        Browser::WeCom | Browser::Ordinary if has_account => Choice::NeedsWechat { or_code: has_website },
        Browser::WeCom | Browser::Ordinary => Choice::NeedsComputer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::fixtures::shop;

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
        let code = Choice::Method(LoginMethod::Website);
        let both = shop();
        let website = App { official_account: None, ..shop() };
        let account = App { website: None, ..shop() };
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
