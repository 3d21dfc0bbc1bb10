//! Website QR login: page, phone, long poll.

use std::time::Duration;

use wechat_simulator::{Denial, Endpoint, Fault, Mangling};

use super::support::*;

async fn uuid(simulator: &wechat_simulator::Simulator) -> String {
    let page = get(simulator, &qrconnect()).await;
    let uuid = attribute(&page.text(), "data-uuid");
    assert_eq!(uuid.len(), 16);
    uuid
}

fn poll(uuid: &str) -> String {
    format!("/connect/l/qrconnect?uuid={uuid}&_=1")
}

#[tokio::test]
async fn a_person_scans_confirms_and_is_logged_in() {
    let simulator = simulator().await;
    let uuid = uuid(&simulator).await;
    let image = get(&simulator, &format!("/connect/qrcode/{uuid}")).await;
    assert_eq!(image.header("content-type"), Some("image/svg+xml"));
    assert_eq!(get(&simulator, &poll(&uuid)).await.text(), "window.wx_errcode=408;window.wx_code='';");
    get(&simulator, &format!("/connect/confirm?uuid={uuid}")).await;
    assert_eq!(get(&simulator, &poll(&uuid)).await.text(), "window.wx_errcode=404;window.wx_code='';");
    assert!(get(&simulator, &format!("{}&last=404", poll(&uuid))).await.text().starts_with("window.wx_errcode=408;"));
    post(&simulator, "/connect/confirm", &format!("uuid={uuid}&action=confirm")).await;
    let told = get(&simulator, &poll(&uuid)).await.text();
    let code = told.strip_prefix("window.wx_errcode=405;window.wx_code='").unwrap().split('\'').next().unwrap();
    let exchange = exchange(code).replace(OA, WEB).replace(OA_SECRET, WEB_SECRET);
    let tokens = get(&simulator, &exchange).await.json();
    assert_eq!(tokens["scope"], "snsapi_login");
    assert_eq!(tokens["openid"], simulator.openid(WEB, "小明"));
    assert_ne!(tokens["openid"], simulator.openid(OA, "小明"));
    assert_eq!(tokens["unionid"].as_str(), simulator.unionid(OA, "小明").as_deref());
}

#[tokio::test]
async fn a_test_confirms_with_one_call_and_gets_the_callback() {
    let simulator = simulator().await;
    let uuid = uuid(&simulator).await;
    let done = post(&simulator, &format!("/_sim/qr/{uuid}/confirm?sim_user=emoji"), "").await.json();
    assert_eq!((&done["state"], &done["user"]), (&"confirmed".into(), &"emoji".into()));
    let location = done["location"].as_str().unwrap();
    assert!(location.starts_with("https://app.example.com/cb?code=0"));
    assert_eq!(parameter(location, "state").as_deref(), Some(STATE));
    assert_eq!(post(&simulator, &format!("/_sim/qr/{uuid}/confirm"), "").await.status, 409);
}

#[tokio::test]
async fn a_held_poll_hears_of_the_scan_at_once() {
    let simulator = holding_polls_for(Duration::from_secs(15)).await;
    let uuid = uuid(&simulator).await;
    let target = poll(&uuid);
    let (told, _) = tokio::join!(get(&simulator, &target), async {
        tokio::time::sleep(Duration::from_millis(10)).await;
        post(&simulator, &format!("/_sim/qr/{uuid}/scan"), "").await
    });
    assert!(told.text().starts_with("window.wx_errcode=404;"), "{}", told.text());
}

#[tokio::test]
async fn a_cancelled_code_reaches_the_page_and_the_app_if_asked() {
    let simulator = simulator().await;
    let first = uuid(&simulator).await;
    let done = post(&simulator, &format!("/_sim/qr/{first}/cancel"), "").await.json();
    assert_eq!((&done["state"], &done["location"]), (&"cancelled".into(), &serde_json::Value::Null));
    assert_eq!(get(&simulator, &poll(&first)).await.text(), "window.wx_errcode=403;window.wx_code='';");
    simulator.change_app(WEB, |app| app.denial = Denial::StateOnly);
    let second = uuid(&simulator).await;
    let done = post(&simulator, &format!("/_sim/qr/{second}/cancel"), "").await.json();
    assert_eq!(done["location"], format!("https://app.example.com/cb?state={STATE}"));
}

#[tokio::test]
async fn a_qr_code_expires_by_the_clock_or_on_request() {
    let simulator = simulator().await;
    let (one, other) = (uuid(&simulator).await, uuid(&simulator).await);
    post(&simulator, &format!("/_sim/qr/{one}/expire"), "").await;
    assert!(get(&simulator, &poll(&one)).await.text().starts_with("window.wx_errcode=402;"));
    simulator.advance(Duration::from_secs(300));
    assert_eq!(post(&simulator, &format!("/_sim/qr/{other}/confirm"), "").await.status, 409);
    assert!(get(&simulator, &poll(&other)).await.text().starts_with("window.wx_errcode=402;"));
    assert!(get(&simulator, &poll("unknown")).await.text().starts_with("window.wx_errcode=500;"));
}

#[tokio::test]
async fn the_page_refuses_what_wechat_refuses() {
    let simulator = simulator().await;
    let good = qrconnect();
    for (target, says) in [
        (good.replace(WEB, OA), "Scope 参数错误或没有 Scope 权限"),
        (good.replace(WEB, "wxunknown"), "appid 参数错误"),
        (good.replace("snsapi_login", "snsapi_userinfo"), "Scope 参数错误或没有 Scope 权限"),
        (good.replace("app.example.com", "evil.example.com"), "redirect_uri 参数错误"),
        (good.replace(STATE, &"a".repeat(129)), "state参数过长"),
        (good.replace("response_type=code", "response_type=x"), "response_type 参数错误"),
    ] {
        let page = get(&simulator, &target).await;
        assert!(page.status == 200 && page.text().contains(says), "{target}");
    }
    // The embedded script's link: another order, no response_type, self_redirect.
    let embedded = format!(
        "/connect/qrconnect?appid={WEB}&scope=snsapi_login&redirect_uri=https%3A%2F%2Fapp.example.com%2Fcb&state={STATE}&login_type=jssdk&self_redirect=true"
    );
    assert_eq!(attribute(&get(&simulator, &embedded).await.text(), "data-self-redirect"), "true");
}

#[tokio::test]
async fn a_mangled_callback_reaches_the_page_too() {
    let simulator = simulator().await;
    let uuid = uuid(&simulator).await;
    simulator.inject(Fault::at(Endpoint::Callback, wechat_simulator::Effect::Mangle(Mangling::NoState)).for_app(WEB));
    let done = post(&simulator, &format!("/_sim/qr/{uuid}/confirm"), "").await.json();
    let location = done["location"].as_str().unwrap();
    assert!(!location.contains("state="));
    assert!(get(&simulator, &poll(&uuid)).await.text().contains(&format!("window.sim_location=\"{location}\"")));
}
