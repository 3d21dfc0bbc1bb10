//! What the pages say, Chinese and English side by side: the heading, the cause, and what to do next.
//!
//! For people who came to buy something and never heard of OAuth. `{app}`, `{account}` and `{wait}` are filled in by the page.

use crate::html::language::Language;
use std::time::Duration;

/// One thing to say, in both languages.
#[derive(Clone, Copy, Debug)]
pub struct Both {
    zh: &'static str,
    en: &'static str,
}

impl Both {
    const fn new(zh: &'static str, en: &'static str) -> Self {
        Self { zh, en }
    }

    /// The words for readers of `language`.
    pub const fn within(self, language: Language) -> &'static str {
        match language {
            Language::Chinese => self.zh,
            Language::English => self.en,
        }
    }
}

/// A page's three sentences.
#[derive(Debug)]
pub struct Words {
    /// What this page is about.
    pub heading: Both,
    /// Why it is shown.
    pub cause: Both,
    /// What the reader can do.
    pub next: Both,
}

pub const LOG_IN: Both = Both::new("微信登录", "Log in with WeChat");
pub const LOG_IN_AGAIN: Both = Both::new("重新登录", "Log in again");
pub const LOG_OUT: Both = Both::new("退出登录", "Log out");
pub const CONTINUE: Both = Both::new("继续", "Continue");
pub const TRY_AGAIN: Both = Both::new("重试", "Try again");
pub const NO_SUCH_BUTTON: Both = Both::new("没有这个按钮？重新登录", "No such button? Log in again");
pub const HOME: Both = Both::new("返回首页", "Go to the home page");
pub const REFERENCE: Both = Both::new("编号", "Reference");
pub const ADDRESS: Both = Both::new("地址", "Address");
pub const COPY: Both = Both::new("复制地址", "Copy the address");
pub const COPIED: Both = Both::new("已复制", "Copied");
pub const LOG_IN_BY_CODE: Both = Both::new("用另一部手机扫码登录", "Scan a code with another phone");
pub const FOLLOW_CODE: Both = Both::new("公众号二维码", "The account’s QR code");

pub const ASK_FIRST: Words = Words {
    heading: Both::new("登录“{app}”", "Log in to {app}"),
    cause: Both::new(
        "需要通过微信确认你的身份。你的微信昵称和头像会提供给“{app}”。",
        "WeChat will confirm who you are. {app} will see your WeChat name and picture.",
    ),
    next: Both::new(
        "请点下面的按钮，然后在微信的页面上选择“允许”。",
        "Press the button below, then choose “Allow” on WeChat’s page.",
    ),
};

pub const LOGGED_OUT: Words = Words {
    heading: Both::new("已退出登录", "You are logged out"),
    cause: Both::new(
        "你在这里的登录已经结束，微信本身仍然登录着。",
        "Your login here has ended. WeChat itself is still logged in.",
    ),
    next: Both::new(
        "现在可以关闭这个页面。再次登录时，微信可能不会再询问你。",
        "You can close this page. When you log in again, WeChat may not ask you first.",
    ),
};

pub const LOGOUT_CONFIRM: Words = Words {
    heading: Both::new("要退出登录吗？", "Log out?"),
    cause: Both::new(
        "你是从别处的链接打开这个页面的，所以先问你一下。",
        "A link from somewhere else brought you here, so we ask first.",
    ),
    next: Both::new(
        "要退出，请点下面的按钮；不想退出，关闭这个页面就好。",
        "To log out, press the button below. To stay logged in, just close this page.",
    ),
};

pub const NOT_LOGGED_OUT: Words = Words {
    heading: Both::new("还没有退出登录", "You are not logged out yet"),
    cause: Both::new(
        "服务器现在处理不了这次退出，你可能仍处于登录状态。",
        "We could not end your login just now, so you may still be logged in.",
    ),
    next: Both::new("请等 {wait}，再点一次下面的按钮。", "Please wait {wait}, then press the button again."),
};

pub const DENIED: Words = Words {
    heading: Both::new("登录没有完成", "Login was not completed"),
    cause: Both::new(
        "微信没有授权这次登录，可能是你选择了“拒绝”。",
        "WeChat did not approve this login. Perhaps you chose “Reject”.",
    ),
    next: Both::new(
        "想继续的话，请重新登录，并在微信的页面上选择“允许”。",
        "To go on, log in again and choose “Allow” on WeChat’s page.",
    ),
};

pub const NOT_SUBSCRIBED: Words = Words {
    heading: Both::new("请先关注公众号", "Follow the account first"),
    cause: Both::new(
        "这里只对关注了公众号的微信用户开放，你还没有关注。",
        "This is open to people who follow its WeChat Official Account, and you do not follow it yet.",
    ),
    next: Both::new(
        "请在微信里关注这个公众号，然后回到这里重新登录。",
        "Follow the account in WeChat, then come back here and log in again.",
    ),
};

pub const NOT_SUBSCRIBED_TO: Words = Words {
    heading: Both::new("请先关注公众号“{account}”", "Follow {account} first"),
    cause: Both::new(
        "这里只对关注了公众号“{account}”的微信用户开放，你还没有关注。",
        "This is open to people who follow the WeChat Official Account {account}, and you do not follow it yet.",
    ),
    next: Both::new(
        "请在微信里搜索公众号“{account}”并关注，然后回到这里重新登录。",
        "Search for {account} in WeChat and follow it, then come back here and log in again.",
    ),
};

pub const NOT_SUBSCRIBED_BY_CODE: Words = Words {
    next: Both::new(
        "请长按（或用微信扫）下面的二维码，关注公众号，然后回到这里重新登录。",
        "Press and hold the QR code below, or scan it with WeChat, and follow the account. Then come back here and log in \
         again.",
    ),
    ..NOT_SUBSCRIBED
};

pub const NOT_SUBSCRIBED_TO_BY_CODE: Words = Words { next: NOT_SUBSCRIBED_BY_CODE.next, ..NOT_SUBSCRIBED_TO };

pub const SNAPSHOT: Words = Words {
    heading: Both::new("请打开完整页面", "Please open the full page"),
    cause: Both::new(
        "微信现在显示的是快照页，在快照页里不能登录。",
        "WeChat is showing a preview of this page, and a preview cannot log you in.",
    ),
    next: Both::new(
        "请点屏幕底部的“使用完整服务”，并在微信询问时选择“允许”。",
        "Press “使用完整服务” (use full service) at the bottom of the screen, then choose “Allow” when WeChat asks.",
    ),
};

pub const EXPIRED: Words = Words {
    heading: Both::new("这次登录已失效", "This login has expired"),
    cause: Both::new(
        "可能是等待太久、链接已经用过，或者是在另一个浏览器里打开的。",
        "It was open for too long, was used before, or was started in another browser.",
    ),
    next: Both::new("请重新登录，通常只要几秒钟。", "Please log in again. It usually takes a few seconds."),
};

pub const INCOMPLETE: Words = Words {
    heading: Both::new("这次登录没有完成", "This login was not completed"),
    cause: Both::new("返回的链接不完整，或者被改动了。", "The link back from WeChat is incomplete or was changed."),
    next: Both::new("请重新登录，通常只要几秒钟。", "Please log in again. It usually takes a few seconds."),
};

pub const LOST: Words = Words {
    heading: Both::new("请先登录", "Please log in first"),
    cause: Both::new(
        "你要打开的链接太长，登录以后无法自动回到那里。",
        "The link you opened is too long, so the login cannot lead back to it.",
    ),
    next: Both::new("请先登录，然后重新打开那个链接。", "Log in, then open the link once more."),
};

pub const LOST_LOGGED_IN: Words = Words {
    heading: Both::new("登录成功", "You are logged in"),
    cause: Both::new("登录前的链接太长，没有保留下来。", "The link you came from was too long to be kept."),
    next: Both::new("请重新打开那个链接，或者返回首页。", "Open the link once more, or go to the home page."),
};

pub const ALREADY_LOGGED_IN: Words = Words {
    heading: Both::new("你已经登录了", "You are already logged in"),
    cause: Both::new("这次登录之前已经完成。", "This login was completed earlier."),
    next: Both::new(
        "不用再登录一次，点下面的按钮继续。",
        "There is no need to log in again. Press the button to go on.",
    ),
};

pub const TOO_MANY_ATTEMPTS: Words = Words {
    heading: Both::new("连续几次都没有登录成功", "Login failed several times"),
    cause: Both::new(
        "为了不让页面来回跳转，我们先停了下来。常见原因是浏览器没有保存 Cookie。",
        "We stopped so that the page does not jump back and forth. Often the browser does not keep cookies.",
    ),
    next: Both::new(
        "请允许使用 Cookie，退出无痕模式，等一分钟再重新登录。",
        "Please allow cookies, leave private browsing, wait a minute, and log in again.",
    ),
};

pub const TOO_MANY_ATTEMPTS_IN_WECHAT: Words = Words {
    heading: Both::new("连续几次都没有登录成功", "Login failed several times"),
    cause: Both::new(
        "为了不让页面来回跳转，我们先停了下来。常见原因是微信没有保存此页的 Cookie。",
        "We stopped so that the page does not jump back and forth. Often WeChat has not kept this page’s cookies.",
    ),
    next: Both::new(
        "请关闭这个页面，等一分钟，再从聊天或公众号里重新打开。仍然不行的话，请更新微信后再试。",
        "Close this page, wait a minute, and open it again from the chat or the account. If that does not help, update \
         WeChat and try again.",
    ),
};

pub const TOO_MANY_REQUESTS: Words = Words {
    heading: Both::new("请稍等一下", "Please wait a moment"),
    cause: Both::new(
        "短时间内，你所在的网络登录次数太多。",
        "There were too many logins from your network in a short time.",
    ),
    next: Both::new("请等 {wait}再重试。", "Please try again in {wait}."),
};

pub const WECHAT_UNREACHABLE: Words = Words {
    heading: Both::new("暂时连不上微信", "WeChat cannot be reached"),
    cause: Both::new(
        "微信的服务器没有正常回应，这不是你的问题。",
        "WeChat’s servers did not answer properly. It is nothing you did.",
    ),
    next: Both::new("请过一两分钟再重新登录。", "Please log in again in a minute or two."),
};

pub const MISCONFIGURED: Words = Words {
    heading: Both::new("登录暂时不能使用", "Login is not working"),
    cause: Both::new(
        "这个网站的微信登录设置有误，要由网站的管理员修正。",
        "This site’s WeChat login is set up wrongly, and only its operator can put it right.",
    ),
    next: Both::new("请把下面的编号告诉网站的客服。", "Please give the site’s support the reference below."),
};

pub const USER_REFUSED: Words = Words {
    heading: Both::new("微信拒绝了这次登录", "WeChat refused this login"),
    cause: Both::new("微信提示，你的账号目前受到限制。", "WeChat says that your account is restricted at present."),
    next: Both::new(
        "请在微信里查看账号状态。如果账号正常，请把下面的编号告诉网站的客服。",
        "Please check your account in WeChat. If all is well there, give the site’s support the reference below.",
    ),
};

pub const NO_UNIONID: Words = Words {
    heading: Both::new("无法确认你的账号", "Your account could not be confirmed"),
    cause: Both::new(
        "微信没有提供识别你账号所需的信息。",
        "WeChat did not send what this site needs to recognise your account.",
    ),
    next: Both::new(
        "重试通常没有用。请把下面的编号告诉网站的客服。",
        "Trying again will hardly help. Please give the site’s support the reference below.",
    ),
};

pub const NEEDS_WECHAT: Words = Words {
    heading: Both::new("请在微信里打开", "Please open this in WeChat"),
    cause: Both::new(
        "这个网站要在微信里登录，而你现在用的是别的浏览器。",
        "This site logs people in inside WeChat, and you are using another browser.",
    ),
    next: Both::new(
        "请复制地址，在微信里发给“文件传输助手”，再点开它。",
        "Copy the address, send it to “File\u{a0}Transfer” in WeChat, and open it there.",
    ),
};

pub const NEEDS_WECHAT_WITH_CODE: Words = Words {
    next: Both::new(
        "请复制地址，在微信里发给“文件传输助手”，再点开它；也可以用另一台设备的微信，扫下面的二维码。",
        "Copy the address, send it to “File\u{a0}Transfer” in WeChat, and open it there. Or scan the code with WeChat on \
         another device.",
    ),
    ..NEEDS_WECHAT
};

pub const NEEDS_BROWSER: Words = Words {
    heading: Both::new("请用浏览器打开", "Please open this in a browser"),
    cause: Both::new(
        "这个网站要扫码登录，在微信里打开时扫不了码。",
        "This site logs people in by a QR code, which cannot be scanned from inside WeChat.",
    ),
    next: Both::new(
        "请复制地址，在电脑的浏览器里打开，再用微信扫码。",
        "Copy the address, open it in a browser on a computer, and scan the code there with WeChat.",
    ),
};

pub const NEEDS_BROWSER_WITH_CODE: Words = Words {
    next: Both::new(
        "请复制地址，在电脑的浏览器里打开，再用微信扫码。下面的二维码只是这个地址，不能用来登录。",
        "Copy the address, open it in a browser on a computer, and scan the code there with WeChat. The code below is only \
         this address and cannot log you in.",
    ),
    ..NEEDS_BROWSER
};

pub const NEEDS_COMPUTER: Words = Words {
    heading: Both::new("请在电脑上打开", "Please open this on a computer"),
    cause: Both::new(
        "这个网站要用微信扫码登录，手机扫不了自己屏幕上的二维码。",
        "This site logs people in by a QR code, and a phone cannot scan its own screen.",
    ),
    next: Both::new(
        "请复制地址，在电脑的浏览器里打开，再用微信扫码。身边有另一部手机的话，可以点“用另一部手机扫码登录”。",
        "Copy the address, open it in a browser on a computer, and scan the code there with WeChat. With another phone at \
         hand, press “Scan a code with another phone”.",
    ),
};

pub const NEEDS_COMPUTER_WITH_CODE: Words = Words {
    next: Both::new(
        "请复制地址，在电脑的浏览器里打开，再用微信扫码。身边有另一部手机的话，可以点“用另一部手机扫码登录”。\
         下面的二维码只是这个地址，不能用来登录。",
        "Copy the address, open it in a browser on a computer, and scan the code there with WeChat. With another phone at \
         hand, press “Scan a code with another phone”. The code below is only this address and cannot log you in.",
    ),
    ..NEEDS_COMPUTER
};

pub const FORM_NOT_SENT: Words = Words {
    heading: Both::new("内容还没有提交", "Your form was not sent"),
    cause: Both::new(
        "你的登录已经失效，刚才填写的内容没有发送出去。",
        "Your login has ended, so what you filled in was not sent.",
    ),
    next: Both::new(
        "请重新登录，再回到刚才的页面提交一次。填了很多的话，先返回把内容复制下来。",
        "Log in, go back to the form, and send it again. If you wrote a lot, go back and copy it first.",
    ),
};

pub const NOT_ALLOWED: Words = Words {
    heading: Both::new("你没有权限查看此页", "This page is not open to you"),
    cause: Both::new(
        "你已登录，但这个账号不在此页的许可名单中。",
        "You are logged in, but your account is not on this page’s list.",
    ),
    next: Both::new("如需访问，请联系网站管理员。", "If you need it, please ask the site’s administrator."),
};

pub const BAD_REQUEST: Words = Words {
    heading: Both::new("这个链接有问题", "Something is wrong with this link"),
    cause: Both::new("链接不完整，或者在转发时被改动了。", "The link is incomplete, or was changed on its way to you."),
    next: Both::new("请从网站首页重新进入。", "Please start again from the site’s home page."),
};

pub const UNKNOWN_HOST: Words = Words {
    heading: Both::new("这个网址没有对应的网站", "There is no site at this address"),
    cause: Both::new(
        "服务器收到了请求，但没有网站使用这个域名。",
        "The server received the request, but no site uses this host name.",
    ),
    next: Both::new(
        "请检查域名是否正确，或者联系网站的客服。",
        "Please check the host name in the address, or ask the site’s support.",
    ),
};

pub const NOT_FOUND: Words = Words {
    heading: Both::new("没有这个页面", "There is no such page"),
    cause: Both::new("地址可能写错了，或者页面已经不在了。", "The address may be mistyped, or the page may be gone."),
    next: Both::new("请从网站首页重新进入。", "Please start again from the site’s home page."),
};

/// A wait as people say it, rounded up: seconds up to a minute and a half, then minutes.
pub fn wait(time: Duration, language: Language) -> String {
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
