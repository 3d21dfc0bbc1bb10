//! The texts of the pages in Chinese and English: the heading, the cause, and the next step.
//!
//! The readers are customers of the application who do not know OAuth. The page fills in `{app}`, `{account}` and
//! `{wait}`.

use crate::html::language::Language;
use std::time::Duration;

/// A text in both languages.
#[derive(Clone, Copy, Debug)]
pub(super) struct Text {
    zh: &'static str,
    en: &'static str,
}

impl Text {
    const fn new(zh: &'static str, en: &'static str) -> Self {
        Self { zh, en }
    }

    /// The text in `language`.
    pub(super) const fn within(self, language: Language) -> &'static str {
        match language {
            Language::Chinese => self.zh,
            Language::English => self.en,
        }
    }
}

/// The three texts of a page.
#[derive(Debug)]
pub(super) struct Copy {
    /// What the page is about.
    pub heading: Text,
    /// Why the user sees the page.
    pub cause: Text,
    /// What the user can do next.
    pub next: Text,
}

pub(super) const LOG_IN: Text = Text::new("微信登录", "Log in with WeChat");
pub(super) const LOG_IN_AGAIN: Text = Text::new("重新登录", "Log in again");
pub(super) const LOG_OUT: Text = Text::new("退出登录", "Log out");
pub(super) const CONTINUE: Text = Text::new("继续", "Continue");
pub(super) const TRY_AGAIN: Text = Text::new("重试", "Try again");
pub(super) const NO_SUCH_BUTTON: Text = Text::new("没有这个按钮？重新登录", "No such button? Log in again");
pub(super) const HOME: Text = Text::new("返回首页", "Go to the home page");
pub(super) const REFERENCE: Text = Text::new("编号", "Reference");
pub(super) const ADDRESS: Text = Text::new("地址", "Address");
pub(super) const COPY: Text = Text::new("复制地址", "Copy the address");
pub(super) const COPIED: Text = Text::new("已复制", "Copied");
pub(super) const LOG_IN_BY_CODE: Text = Text::new("用另一部手机扫码登录", "Scan a code with another phone");
pub(super) const FOLLOW_CODE: Text = Text::new("公众号二维码", "The account’s QR code");

pub(super) const ASK_FIRST: Copy = Copy {
    heading: Text::new("登录“{app}”", "Log in to {app}"),
    cause: Text::new(
        "将通过微信确认你的身份，并向“{app}”提供你的微信昵称和头像。",
        "WeChat will confirm who you are. {app} will see your WeChat name and picture.",
    ),
    next: Text::new(
        "请点击下面的按钮，然后在微信页面上选择“允许”。",
        "Press the button below, then choose “Allow” on WeChat’s page.",
    ),
};

pub(super) const LOGGED_OUT: Copy = Copy {
    heading: Text::new("已退出登录", "You are logged out"),
    cause: Text::new(
        "你已退出本网站，微信账号的登录状态不受影响。",
        "Your login here has ended. WeChat itself is still logged in.",
    ),
    next: Text::new(
        "现在可以关闭此页面。再次登录时，微信可能不再询问，直接登录。",
        "You can close this page. When you log in again, WeChat may not ask you first.",
    ),
};

pub(super) const LOGOUT_CONFIRM: Copy = Copy {
    heading: Text::new("要退出登录吗？", "Log out?"),
    cause: Text::new(
        "你是从其他链接打开此页面的，请先确认。",
        "A link from somewhere else brought you here, so we ask first.",
    ),
    next: Text::new(
        "要退出，请点击下面的按钮；不想退出，关闭此页面即可。",
        "To log out, press the button below. To stay logged in, just close this page.",
    ),
};

pub(super) const NOT_LOGGED_OUT: Copy = Copy {
    heading: Text::new("还没有退出登录", "You are not logged out yet"),
    cause: Text::new(
        "服务器暂时无法处理，你可能仍处于登录状态。",
        "We could not end your login just now, so you may still be logged in.",
    ),
    next: Text::new("请等待 {wait}，再点击下面的按钮。", "Please wait {wait}, then press the button again."),
};

pub(super) const DENIED: Copy = Copy {
    heading: Text::new("登录没有完成", "Login was not completed"),
    cause: Text::new(
        "微信没有授权这次登录，可能是你选择了“拒绝”。",
        "WeChat did not approve this login. Perhaps you chose “Reject”.",
    ),
    next: Text::new(
        "如需继续，请重新登录，并在微信页面上选择“允许”。",
        "To go on, log in again and choose “Allow” on WeChat’s page.",
    ),
};

pub(super) const NOT_SUBSCRIBED: Copy = Copy {
    heading: Text::new("请先关注公众号", "Follow the account first"),
    cause: Text::new(
        "本网站仅向已关注公众号的用户开放，你还没有关注。",
        "This is open to people who follow its WeChat Official Account, and you do not follow it yet.",
    ),
    next: Text::new(
        "请先在微信里关注该公众号，再回到这里重新登录。",
        "Follow the account in WeChat, then come back here and log in again.",
    ),
};

pub(super) const NOT_SUBSCRIBED_TO: Copy = Copy {
    heading: Text::new("请先关注公众号“{account}”", "Follow {account} first"),
    cause: Text::new(
        "本网站仅向已关注公众号“{account}”的用户开放，你还没有关注。",
        "This is open to people who follow the WeChat Official Account {account}, and you do not follow it yet.",
    ),
    next: Text::new(
        "请在微信里搜索并关注公众号“{account}”，再回到这里重新登录。",
        "Search for {account} in WeChat and follow it, then come back here and log in again.",
    ),
};

pub(super) const NOT_SUBSCRIBED_BY_CODE: Copy = Copy {
    next: Text::new(
        "请长按识别（或用微信扫描）下面的二维码，关注公众号，再回到这里重新登录。",
        "Press and hold the QR code below, or scan it with WeChat, and follow the account. Then come back here and log in \
         again.",
    ),
    ..NOT_SUBSCRIBED
};

pub(super) const NOT_SUBSCRIBED_TO_BY_CODE: Copy = Copy { next: NOT_SUBSCRIBED_BY_CODE.next, ..NOT_SUBSCRIBED_TO };

pub(super) const SNAPSHOT: Copy = Copy {
    heading: Text::new("请打开完整页面", "Please open the full page"),
    cause: Text::new(
        "微信当前显示的是快照页，快照页里无法登录。",
        "WeChat is showing a preview of this page, and a preview cannot log you in.",
    ),
    next: Text::new(
        "请点击屏幕底部的“使用完整服务”，并在微信询问时选择“允许”。",
        "Press “使用完整服务” (use full service) at the bottom of the screen, then choose “Allow” when WeChat asks.",
    ),
};

pub(super) const EXPIRED: Copy = Copy {
    heading: Text::new("这次登录已失效", "This login has expired"),
    cause: Text::new(
        "可能是等待时间过长、链接已经用过，或在另一个浏览器里打开了链接。",
        "It was open for too long, was used before, or was started in another browser.",
    ),
    next: Text::new("请重新登录，通常只要几秒钟。", "Please log in again. It usually takes a few seconds."),
};

pub(super) const INCOMPLETE: Copy = Copy {
    heading: Text::new("这次登录没有完成", "This login was not completed"),
    cause: Text::new("从微信返回的链接不完整，或被改动过。", "The link back from WeChat is incomplete or was changed."),
    next: Text::new("请重新登录，通常只要几秒钟。", "Please log in again. It usually takes a few seconds."),
};

pub(super) const LOST: Copy = Copy {
    heading: Text::new("请先登录", "Please log in first"),
    cause: Text::new(
        "你打开的链接太长，登录后无法自动返回。",
        "The link you opened is too long, so the login cannot lead back to it.",
    ),
    next: Text::new("请先登录，再重新打开该链接。", "Log in, then open the link once more."),
};

pub(super) const LOST_LOGGED_IN: Copy = Copy {
    heading: Text::new("登录成功", "You are logged in"),
    cause: Text::new("登录前打开的链接太长，没有保留下来。", "The link you came from was too long to be kept."),
    next: Text::new("请重新打开该链接，或返回首页。", "Open the link once more, or go to the home page."),
};

pub(super) const ALREADY_LOGGED_IN: Copy = Copy {
    heading: Text::new("你已经登录了", "You are already logged in"),
    cause: Text::new("这次登录已经完成过了。", "This login was completed earlier."),
    next: Text::new(
        "无需再次登录，请点击下面的按钮继续。",
        "There is no need to log in again. Press the button to go on.",
    ),
};

pub(super) const TOO_MANY_ATTEMPTS: Copy = Copy {
    heading: Text::new("多次登录没有成功", "Login failed several times"),
    cause: Text::new(
        "为避免页面反复跳转，已停止自动登录。常见原因是浏览器没有保存 Cookie。",
        "We stopped so that the page does not jump back and forth. Often the browser does not keep cookies.",
    ),
    next: Text::new(
        "请允许使用 Cookie，退出无痕模式，一分钟后重新登录。",
        "Please allow cookies, leave private browsing, wait a minute, and log in again.",
    ),
};

pub(super) const TOO_MANY_ATTEMPTS_IN_WECHAT: Copy = Copy {
    heading: Text::new("多次登录没有成功", "Login failed several times"),
    cause: Text::new(
        "为避免页面反复跳转，已停止自动登录。常见原因是微信没有保存此页面的 Cookie。",
        "We stopped so that the page does not jump back and forth. Often WeChat has not kept this page’s cookies.",
    ),
    next: Text::new(
        "请关闭此页面，一分钟后从聊天或公众号里重新打开。如果仍然不行，请更新微信后再试。",
        "Close this page, wait a minute, and open it again from the chat or the account. If that does not help, update \
         WeChat and try again.",
    ),
};

pub(super) const TOO_MANY_REQUESTS: Copy = Copy {
    heading: Text::new("请稍后再试", "Please wait a moment"),
    cause: Text::new(
        "你所在的网络短时间内登录次数过多。",
        "There were too many logins from your network in a short time.",
    ),
    next: Text::new("请在 {wait}后重试。", "Please try again in {wait}."),
};

pub(super) const WECHAT_UNREACHABLE: Copy = Copy {
    heading: Text::new("暂时连不上微信", "WeChat cannot be reached"),
    cause: Text::new(
        "微信服务器没有正常响应，与你的操作无关。",
        "WeChat’s servers did not answer properly. It is nothing you did.",
    ),
    next: Text::new("请在一两分钟后重新登录。", "Please log in again in a minute or two."),
};

pub(super) const MISCONFIGURED: Copy = Copy {
    heading: Text::new("登录暂时无法使用", "Login is not working"),
    cause: Text::new(
        "本网站的微信登录配置有误，需要网站管理员处理。",
        "This site’s WeChat login is set up wrongly, and only its operator can put it right.",
    ),
    next: Text::new("请将下面的编号提供给网站客服。", "Please give the site’s support the reference below."),
};

pub(super) const USER_REFUSED: Copy = Copy {
    heading: Text::new("微信拒绝了这次登录", "WeChat refused this login"),
    cause: Text::new("微信提示你的账号目前受限。", "WeChat says that your account is restricted at present."),
    next: Text::new(
        "请在微信里查看账号状态。如果账号正常，请将下面的编号提供给网站客服。",
        "Please check your account in WeChat. If all is well there, give the site’s support the reference below.",
    ),
};

pub(super) const NO_UNIONID: Copy = Copy {
    heading: Text::new("无法确认你的账号", "Your account could not be confirmed"),
    cause: Text::new(
        "微信没有提供识别你账号所需的信息。",
        "WeChat did not send what this site needs to recognise your account.",
    ),
    next: Text::new(
        "重试通常无效。请将下面的编号提供给网站客服。",
        "Trying again will hardly help. Please give the site’s support the reference below.",
    ),
};

pub(super) const NEEDS_WECHAT: Copy = Copy {
    heading: Text::new("请在微信里打开", "Please open this in WeChat"),
    cause: Text::new(
        "本网站需要在微信里登录，而你现在使用的是其他浏览器。",
        "This site logs people in inside WeChat, and you are using another browser.",
    ),
    next: Text::new(
        "请复制地址，在微信里发给“文件传输助手”，再点击打开。",
        "Copy the address, send it to “File\u{a0}Transfer” in WeChat, and open it there.",
    ),
};

pub(super) const NEEDS_WECHAT_WITH_CODE: Copy = Copy {
    next: Text::new(
        "请复制地址，在微信里发给“文件传输助手”，再点击打开；也可以用另一台设备的微信，扫描下面的二维码。",
        "Copy the address, send it to “File\u{a0}Transfer” in WeChat, and open it there. Or scan the code with WeChat on \
         another device.",
    ),
    ..NEEDS_WECHAT
};

pub(super) const NEEDS_BROWSER: Copy = Copy {
    heading: Text::new("请用浏览器打开", "Please open this in a browser"),
    cause: Text::new(
        "本网站使用微信扫码登录，在微信里打开时无法扫码。",
        "This site logs people in by a QR code, which cannot be scanned from inside WeChat.",
    ),
    next: Text::new(
        "请复制地址，在电脑浏览器里打开，再用微信扫码。",
        "Copy the address, open it in a browser on a computer, and scan the code there with WeChat.",
    ),
};

pub(super) const NEEDS_BROWSER_WITH_CODE: Copy = Copy {
    next: Text::new(
        "请复制地址，在电脑浏览器里打开，再用微信扫码。下面的二维码只包含这个地址，不能用来登录。",
        "Copy the address, open it in a browser on a computer, and scan the code there with WeChat. The code below is only \
         this address and cannot log you in.",
    ),
    ..NEEDS_BROWSER
};

pub(super) const NEEDS_COMPUTER: Copy = Copy {
    heading: Text::new("请在电脑上打开", "Please open this on a computer"),
    cause: Text::new(
        "本网站使用微信扫码登录，手机无法扫描自己屏幕上的二维码。",
        "This site logs people in by a QR code, and a phone cannot scan its own screen.",
    ),
    next: Text::new(
        "请复制地址，在电脑浏览器里打开，再用微信扫码。如果身边有另一部手机，可以点击“用另一部手机扫码登录”。",
        "Copy the address, open it in a browser on a computer, and scan the code there with WeChat. With another phone at \
         hand, press “Scan a code with another phone”.",
    ),
};

pub(super) const NEEDS_COMPUTER_WITH_CODE: Copy = Copy {
    next: Text::new(
        "请复制地址，在电脑浏览器里打开，再用微信扫码。如果身边有另一部手机，可以点击“用另一部手机扫码登录”。\
         下面的二维码只包含这个地址，不能用来登录。",
        "Copy the address, open it in a browser on a computer, and scan the code there with WeChat. With another phone at \
         hand, press “Scan a code with another phone”. The code below is only this address and cannot log you in.",
    ),
    ..NEEDS_COMPUTER
};

pub(super) const FORM_NOT_SENT: Copy = Copy {
    heading: Text::new("内容没有提交", "Your form was not sent"),
    cause: Text::new(
        "你的登录已失效，刚才填写的内容没有提交。",
        "Your login has ended, so what you filled in was not sent.",
    ),
    next: Text::new(
        "请重新登录，再回到刚才的页面重新提交。如果填写的内容较多，请先返回复制下来。",
        "Log in, go back to the form, and send it again. If you wrote a lot, go back and copy it first.",
    ),
};

pub(super) const NOT_ALLOWED: Copy = Copy {
    heading: Text::new("你没有权限查看此页面", "This page is not open to you"),
    cause: Text::new(
        "你已登录，但当前账号不在此页面的允许名单里。",
        "You are logged in, but your account is not on this page’s list.",
    ),
    next: Text::new("如需访问，请联系网站管理员。", "If you need it, please ask the site’s administrator."),
};

pub(super) const BAD_REQUEST: Copy = Copy {
    heading: Text::new("这个链接有问题", "Something is wrong with this link"),
    cause: Text::new("链接不完整，或在转发时被改动过。", "The link is incomplete, or was changed on its way to you."),
    next: Text::new("请从网站首页重新进入。", "Please start again from the site’s home page."),
};

pub(super) const UNKNOWN_HOST: Copy = Copy {
    heading: Text::new("这个网址没有对应的网站", "There is no site at this address"),
    cause: Text::new(
        "服务器收到了请求，但没有网站使用这个域名。",
        "The server received the request, but no site uses this host name.",
    ),
    next: Text::new(
        "请检查域名是否正确，或联系网站客服。",
        "Please check the host name in the address, or ask the site’s support.",
    ),
};

pub(super) const NOT_FOUND: Copy = Copy {
    heading: Text::new("页面不存在", "There is no such page"),
    cause: Text::new("地址可能有误，或页面已被删除。", "The address may be mistyped, or the page may be gone."),
    next: Text::new("请从网站首页重新进入。", "Please start again from the site’s home page."),
};

/// A duration in words, rounded up: in seconds up to 90 seconds, otherwise in minutes.
pub(super) fn wait(time: Duration, language: Language) -> String {
    let seconds = time.as_millis().div_ceil(1000).max(1);
    let (count, zh, one, many) = match seconds {
        ..=90 => (seconds, "秒", "second", "seconds"),
        _ => (seconds.div_ceil(60), "分钟", "minute", "minutes"),
    };
    match language {
        Language::Chinese => format!("{count} {zh}"),
        Language::English => format!("{count} {}", if count == 1 { one } else { many }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_rounded_up_and_never_nothing() {
        for (time, zh, en) in [
            (Duration::ZERO, "1 秒", "1 second"),
            (Duration::from_millis(1001), "2 秒", "2 seconds"),
            (Duration::from_secs(90), "90 秒", "90 seconds"),
            (Duration::from_secs(91), "2 分钟", "2 minutes"),
            (Duration::from_secs(3600), "60 分钟", "60 minutes"),
        ] {
            assert_eq!((wait(time, Language::Chinese).as_str(), wait(time, Language::English).as_str()), (zh, en));
        }
        assert!(!wait(Duration::MAX, Language::English).is_empty());
    }
}
