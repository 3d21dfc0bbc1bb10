//! Logging in, every way there is (protocol §10.7).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)] // a test says what it means by failing

mod client;
mod stack;

use crate::client::Browser;
use crate::stack::{OA, Plan, Stack, WEB};

#[tokio::test(flavor = "multi_thread")]
async fn a_person_in_wechat_is_logged_in_silently() {
    let stack = Stack::start().await;
    let mut browser = Browser::wechat();
    let home = stack.log_in(&mut browser, "/orders?page=2").await;
    let openid = stack.simulator.openid(OA, "小明");
    assert_eq!(home.json()["target"], "/orders?page=2");
    assert_eq!(home.seen("x-wechat-subject"), Some(format!("wx:{OA}:{openid}")));
    assert_eq!(home.seen("x-wechat-openid"), Some(openid));
    assert_eq!(home.seen("x-wechat-appid").as_deref(), Some(OA));
    assert_eq!(home.seen("x-wechat-flow").as_deref(), Some("official_account"));
    assert_eq!(home.seen("x-wechat-nickname").as_deref(), Some(""));
    assert_eq!(home.seen("cookie"), None, "the application sees no cookie of ours");
    assert_eq!(stack.exchanges().len(), 1);
    assert!(browser.cookie("__Host-wechat_session").unwrap().len() < 1_000);
    assert!(browser.names("__Host-wechat_flow").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_on_a_desktop_is_logged_in_by_scanning() {
    let stack = Stack::planned(Plan::default()).await;
    let mut browser = Browser::desktop();
    let page = browser.follow(&stack.url("/")).await.pop().unwrap();
    let uuid = page.body.split("data-uuid=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let sim = stack.simulator.base_url();
    for step in ["scan", "confirm"] {
        let answer = Browser::desktop().ask("POST", &format!("{sim}/_sim/qr/{uuid}/{step}"), &[], "").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        if step == "confirm" {
            let home = browser.follow(answer.json()["location"].as_str().unwrap()).await.pop().unwrap();
            assert_eq!(home.seen("x-wechat-flow").as_deref(), Some("website"));
            assert_eq!(home.seen("x-wechat-openid"), Some(stack.simulator.openid(WEB, "小明")));
            assert_eq!(home.seen("x-wechat-nickname").as_deref(), Some("%E5%B0%8F%E6%98%8E"));
        }
    }
}
