//! The predefined users, each with one property that a login must handle.

use crate::user::{Avatar, Consent, Risk, Snapshot, User};

/// The default user.
pub const DEFAULT: &str = "小明";

/// All users, in the order of the picker.
#[must_use]
pub fn everybody() -> Vec<User> {
    vec![
        plain(DEFAULT, "小明", "普通用户 · an ordinary person"),
        plain("小红", "小红", "另一位普通用户 · another ordinary person"),
        User {
            follows: vec!["*".into()],
            ..plain("follower", "老粉丝", "已关注，静默授权 · follows every account: consent is silent")
        },
        plain("emoji", "小明😀👨‍👩‍👧", "昵称含表情 · emoji in the nickname"),
        plain(
            "odd",
            "引\"号\\斜<b>线\n换行\u{1}控制",
            "昵称含引号、反斜线、换行、控制字符 · quote, backslash, tag, newline, U+0001",
        ),
        plain("private-use", "私有\u{e312}区", "昵称含私有区字符 · a private-use code point, as old clients send"),
        User { avatar: Avatar::Missing, ..plain("faceless", "", "无昵称无头像 · empty nickname, no avatar") },
        User { consent: Consent::Deny, ..plain("denier", "不同意", "总是拒绝 · always says no") },
        User { consent: Consent::Ignore, ..plain("ignorer", "不理你", "从不回应 · never answers") },
        User {
            snapshot: Snapshot::Always,
            ..plain("snapshot", "快照访客", "快照页访客 · visits as a virtual account")
        },
        User {
            risk: Risk::Punished, ..plain("punished", "被处罚", "账号被处罚 50002 · frozen or deregistered")
        },
        User { risk: Risk::Blocked, ..plain("blocked", "高风险", "高风险 40226 · blocked as high risk") },
        User { has_unionid: false, ..plain("no-unionid", "无联合", "没有 unionid · apps get an openid only") },
    ]
}

fn plain(name: &str, nickname: &str, about: &str) -> User {
    User { about: about.into(), ..User::plain(name, nickname) }
}
