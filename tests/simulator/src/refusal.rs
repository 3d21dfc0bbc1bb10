//! A page that ends a login: WeChat's number and words, and below them the simulator's reason.
//!
//! The status is 200 and the page links nowhere: the app does not learn of it.

use crate::answer::Answer;
use crate::pages;

#[derive(Debug)]
pub struct Refusal {
    /// As in the official list, if it has one.
    pub number: Option<i64>,
    pub text: &'static str,
    /// For the developer.
    pub why: String,
}

impl Refusal {
    #[must_use]
    pub fn numbered(number: i64, why: impl Into<String>) -> Self {
        Self { number: Some(number), text: text(number), why: why.into() }
    }

    #[must_use]
    pub fn worded(text: &'static str, why: impl Into<String>) -> Self {
        Self { number: None, text, why: why.into() }
    }

    #[must_use]
    pub fn into_answer(self) -> Answer {
        let decision = match self.number {
            Some(number) => format!("refused: {number} {}", self.text),
            None => format!("refused: {}", self.text),
        };
        Answer::page(pages::refusal(&self), decision)
    }
}

fn text(number: i64) -> &'static str {
    match number {
        10003 => "redirect_uri域名与后台配置不一致",
        10004 => "此公众号被封禁",
        10005 => "此公众号并没有这些scope的权限",
        10006 => "必须关注此测试号",
        10009 => "操作太频繁了，请稍后重试",
        10010 => "scope不能为空",
        10011 => "redirect_uri不能为空",
        10012 => "appid不能为空",
        10013 => "state不能为空",
        10015 => "公众号未授权第三方平台",
        10016 => "不支持微信开放平台的Appid，请使用公众号Appid",
        _ => "系统错误",
    }
}
