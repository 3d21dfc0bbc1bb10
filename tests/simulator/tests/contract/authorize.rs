//! `/connect/oauth2/authorize`: one thing is wrong at a time, and the page says which.

use std::time::Duration;

use wechat_simulator::{Denial, Endpoint, Fault, Mangling, Order, Snapshot};

use super::support::*;

const CALLBACK: &str = "https%3A%2F%2Fapp.example.com%2Fcb";

#[tokio::test]
async fn each_check_has_its_own_refusal_and_none_calls_back() {
    let simulator = simulator().await;
    let long = "a".repeat(129);
    let base = "snsapi_base";
    for (target, says) in [
        (link("", CALLBACK, "code", base, STATE), "10012"),
        (link(OA, "", "code", base, STATE), "10011"),
        (link(OA, CALLBACK, "code", "", STATE), "10010"),
        (link(OA, CALLBACK, "code", base, ""), "10013"),
        (link("wxunknown", CALLBACK, "code", base, STATE), "appid 参数错误"),
        (link(WEB, CALLBACK, "code", base, STATE), "10016"),
        (link(OA, CALLBACK, "code", "snsapi_login", STATE), "Scope 参数错误"),
        (link(OA, "https%3A%2F%2Fevil.example.com%2F", "code", base, STATE), "10003"),
        (link(OA, "https%3A%2F%2Fapp.example.com%3A8443%2F", "code", base, STATE), "10003"),
        (link(OA, "%2Fcb", "code", base, STATE), "10003"),
        (link(OA, CALLBACK, "code", base, &long), "state参数过长"),
        (link(OA, CALLBACK, "code", base, "a-b"), "state参数错误"),
        (link(OA, CALLBACK, "token", base, STATE), "response_type 参数错误"),
    ] {
        let page = get(&simulator, &target).await;
        assert_eq!(page.status, 200, "{target}");
        assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
        assert!(page.text().contains(says), "{target}: {}", page.text());
        assert!(simulator.journal().last().unwrap().decision.starts_with("refused: "));
    }
    assert!(simulator.issued_secrets().is_empty());
}

#[tokio::test]
async fn a_state_of_128_letters_passes() {
    let simulator = simulator().await;
    let state = "a".repeat(128);
    let callback = get(&simulator, &link(OA, CALLBACK, "code", "snsapi_base", &state)).await;
    assert_eq!(callback.parameter("state"), Some(state));
}

#[tokio::test]
async fn checks_come_in_order() {
    let simulator = simulator().await;
    // Wrong order, wrong app, no scope, foreign host, long state: repaired from the front, the next one speaks.
    let long = "a".repeat(129);
    let evil = "https%3A%2F%2Fevil.example.com%2F";
    let wrong_order =
        format!("/connect/oauth2/authorize?redirect_uri={evil}&appid={WEB}&response_type=x&scope=&state={long}");
    let outside = send(&simulator, "GET", &wrong_order, "User-Agent: Firefox", "").await.unwrap();
    assert!(outside.text().contains("请在微信客户端打开链接"));
    for (target, says) in [
        (wrong_order, "该链接无法访问"),
        (link("wxunknown", evil, "x", "", &long), "10010"),
        (link("wxunknown", evil, "x", "y", &long), "appid 参数错误"),
        (link(WEB, evil, "x", "y", &long), "10016"),
        (link(OA, evil, "x", "y", &long), "Scope"),
        (link(OA, evil, "x", "snsapi_base", &long), "10003"),
        (link(OA, CALLBACK, "x", "snsapi_base", &long), "state参数过长"),
        (link(OA, CALLBACK, "x", "snsapi_base", STATE), "response_type"),
    ] {
        assert!(get(&simulator, &target).await.text().contains(says), "{says}");
    }
}

#[tokio::test]
async fn a_wrong_order_is_refused_shown_blank_or_forgiven() {
    let simulator = simulator().await;
    let target = format!(
        "/connect/oauth2/authorize?appid={OA}&scope=snsapi_base&redirect_uri={CALLBACK}&response_type=code&state={STATE}"
    );
    assert!(get(&simulator, &target).await.text().contains("该链接无法访问"));
    simulator.change_app(OA, |app| app.order = Order::Desktop);
    let desktop = format!("{PHONE} WindowsWechat(0x63090a13)");
    let blank = send(&simulator, "GET", &target, &desktop, "").await.unwrap();
    assert_eq!((blank.status, blank.text().as_str()), (200, ""));
    assert!(get(&simulator, &target).await.parameter("code").is_some());
    simulator.change_app(OA, |app| app.order = Order::Lenient);
    assert!(send(&simulator, "GET", &target, &desktop, "").await.unwrap().parameter("code").is_some());
}

#[tokio::test]
async fn switches_of_the_app_and_the_person_speak_on_the_page() {
    let simulator = simulator().await;
    let target = authorize("snsapi_base");
    simulator.change_app(OA, |app| app.test_account = true);
    assert!(get(&simulator, &target).await.text().contains("10006"));
    simulator.use_user("follower");
    assert!(get(&simulator, &target).await.parameter("code").is_some());
    simulator.change_app(OA, |app| app.scopes = vec!["snsapi_userinfo".into()]);
    assert!(get(&simulator, &target).await.text().contains("10005"));
    simulator.change_app(OA, |app| app.banned = true);
    assert!(get(&simulator, &target).await.text().contains("10004"));
}

#[tokio::test]
async fn the_first_hop_adds_connect_redirect_once() {
    let simulator = simulator().await;
    simulator.change_app(OA, |app| app.first_hop = true);
    let target = authorize("snsapi_base");
    let hop = get(&simulator, &target).await;
    assert_eq!(hop.location(), format!("{}{target}&connect_redirect=1", simulator.base_url()));
    let callback = get(&simulator, &format!("{target}&connect_redirect=1&uin=1&key=2")).await;
    assert!(callback.location().starts_with("https://app.example.com/cb?code=0"));
    assert_eq!(callback.parameter("state").as_deref(), Some(STATE));
}

#[tokio::test]
async fn base_is_silent_and_userinfo_asks_for_consent() {
    let simulator = simulator().await;
    assert!(get(&simulator, &authorize("snsapi_base")).await.parameter("code").is_some());
    let target = authorize("snsapi_userinfo");
    let page = get(&simulator, &target).await;
    assert!(page.text().contains("允许 Allow") && page.text().contains("模拟器"));
    consented_code(&simulator).await;
    assert!(get(&simulator, &target).await.parameter("code").is_some());
    assert_eq!(get(&simulator, &format!("{target}&forcePopup=true")).await.status, 200);
    simulator.advance(Duration::from_secs(30 * 86_400));
    assert_eq!(get(&simulator, &target).await.status, 200);
    simulator.use_user("follower");
    assert!(get(&simulator, &target).await.parameter("code").is_some());
}

#[tokio::test]
async fn a_consent_page_is_answered_once() {
    let simulator = simulator().await;
    let uuid = attribute(&get(&simulator, &authorize("snsapi_userinfo")).await.text(), "data-uuid");
    let reply = format!("/connect/oauth2/authorize_reply?uuid={uuid}&allow=1");
    assert!(get(&simulator, &reply).await.parameter("code").is_some());
    assert_eq!(get(&simulator, &reply).await.status, 200);
    assert!(
        get(&simulator, "/connect/oauth2/authorize_reply?uuid=unknown&allow=1").await.text().contains("该链接无法访问")
    );
}

#[tokio::test]
async fn a_denial_is_silence_or_a_state_without_code() {
    let simulator = simulator().await;
    simulator.use_user("denier");
    let habit = |html: String| format!("/connect/oauth2/authorize_reply?uuid={}", attribute(&html, "data-uuid"));
    let page = get(&simulator, &authorize("snsapi_userinfo")).await.text();
    assert_eq!(get(&simulator, &habit(page)).await.status, 200);
    simulator.change_app(OA, |app| app.denial = Denial::StateOnly);
    let page = get(&simulator, &authorize("snsapi_userinfo")).await.text();
    let location = get(&simulator, &habit(page)).await.location().to_owned();
    assert_eq!(location, format!("https://app.example.com/cb?state={STATE}"));
    simulator.use_user("ignorer");
    let page = get(&simulator, &authorize("snsapi_userinfo")).await.text();
    assert_eq!(attribute(&page, "data-habit"), "ignore");
    assert_eq!(get(&simulator, &habit(page)).await.status, 200);
    assert!(simulator.issued_secrets().is_empty());
}

#[tokio::test]
async fn instant_consent_needs_no_page() {
    let simulator = simulator().await;
    simulator.change_app(OA, |app| app.instant_consent = true);
    assert!(get(&simulator, &authorize("snsapi_userinfo")).await.parameter("code").is_some());
}

#[tokio::test]
async fn a_snapshot_user_is_marked_only_at_the_exchange() {
    let simulator = simulator().await;
    simulator.use_user("snapshot");
    let tokens = tokens(&simulator).await;
    assert_eq!(tokens["is_snapshotuser"], 1);
    assert_ne!(tokens["openid"], simulator.openid(OA, "snapshot"));
    assert_ne!(tokens["unionid"].as_str(), simulator.unionid(OA, "snapshot").as_deref());
    let (token, openid) = (tokens["access_token"].as_str().unwrap(), tokens["openid"].as_str().unwrap());
    let profile = get(&simulator, &format!("/sns/userinfo?access_token={token}&openid={openid}")).await.json();
    assert!(profile.get("is_snapshotuser").is_none());
    assert_eq!((&profile["openid"], &profile["unionid"]), (&tokens["openid"], &tokens["unionid"]));
    let silent = get(&simulator, &exchange(&code(&simulator).await)).await.json();
    assert!(silent.get("is_snapshotuser").is_none());
}

#[tokio::test]
async fn a_snapshot_once_is_followed_by_the_real_consent() {
    let simulator = simulator().await;
    simulator.change_user("小红", |user| user.snapshot = Snapshot::Once);
    simulator.use_user("小红");
    assert_eq!(tokens(&simulator).await["is_snapshotuser"], 1);
    assert_eq!(get(&simulator, &authorize("snsapi_userinfo")).await.status, 200);
    assert_eq!(tokens(&simulator).await["openid"], simulator.openid(OA, "小红"));
}

#[tokio::test]
async fn callbacks_are_mangled_on_request() {
    use wechat_simulator::Effect::Mangle;
    let simulator = simulator().await;
    let query = async |mangling: Mangling| {
        simulator.inject(Fault::at(Endpoint::Callback, Mangle(mangling)));
        let reply = get(&simulator, &authorize("snsapi_base")).await;
        reply.location().split_once('?').unwrap().1.to_owned()
    };
    let names =
        |query: &str| query.split('&').map(|pair| pair.split('=').next().unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(names(&query(Mangling::NoCode).await), ["state"]);
    assert_eq!(names(&query(Mangling::NoState).await), ["code"]);
    assert_eq!(names(&query(Mangling::CodeTwice).await), ["code", "code", "state"]);
    assert_eq!(names(&query(Mangling::TwoCodes).await), ["code", "code", "state"]);
    assert_eq!(names(&query(Mangling::StateTwice).await), ["code", "state", "state"]);
    assert_eq!(names(&query(Mangling::Extras).await), ["code", "state", "nsukey", "from", "isappinstalled"]);
    assert!(query(Mangling::StateAppended("#x".into())).await.ends_with(&format!("state={STATE}%23x")));
    let changed = query(Mangling::StateChanged).await;
    assert!(!changed.contains(STATE) && changed.ends_with(&STATE[1..]));
    let foreign = query(Mangling::ForeignCode).await;
    let code = foreign.split(['=', '&']).nth(1).unwrap();
    assert_eq!(get(&simulator, &exchange(code)).await.errcode(), 40029);
}

#[tokio::test]
async fn the_browser_may_say_who_is_on_the_phone() {
    let simulator = simulator().await;
    let target = authorize("snsapi_base");
    let openid_of = async |reply: Reply| {
        let code = reply.parameter("code").unwrap();
        get(&simulator, &exchange(&code)).await.json()["openid"].as_str().unwrap().to_owned()
    };
    let by_query = get(&simulator, &format!("{target}&sim_user=%E5%B0%8F%E7%BA%A2")).await;
    assert_eq!(openid_of(by_query).await, simulator.openid(OA, "小红"));
    let header = format!("{PHONE}\r\nX-Sim-User: emoji");
    let by_header = send(&simulator, "GET", &target, &header, "").await.unwrap();
    assert_eq!(openid_of(by_header).await, simulator.openid(OA, "emoji"));
    assert!(get(&simulator, &format!("{target}&sim_user=nobody")).await.text().contains("names nobody"));
}
