//! `/cgi-bin/*`: the app's own token, its ticket, and who follows.

use std::time::Duration;

use super::support::*;
use serde_json::{Value, json};
use wechat_simulator::Simulator;

const TOKEN: &str = "/cgi-bin/stable_token";

fn asking(force_refresh: bool) -> Value {
    json!({ "grant_type": "client_credential", "appid": OA, "secret": OA_SECRET, "force_refresh": force_refresh })
}

async fn ask(simulator: &Simulator, force_refresh: bool) -> Value {
    post(simulator, TOKEN, &asking(force_refresh).to_string()).await.json()
}

async fn token(simulator: &Simulator) -> String {
    ask(simulator, false).await["access_token"].as_str().unwrap().to_owned()
}

async fn ticket(simulator: &Simulator, token: &str) -> Value {
    get(simulator, &format!("/cgi-bin/ticket/getticket?access_token={token}&type=jsapi")).await.json()
}

#[tokio::test]
async fn two_tokens_are_valid_in_the_last_five_minutes() {
    let simulator = simulator().await;
    let first = ask(&simulator, false).await;
    assert_eq!(first["expires_in"], 7200);
    simulator.advance(Duration::from_secs(6_800));
    let same = ask(&simulator, false).await;
    assert_eq!(same["access_token"], first["access_token"]);
    assert!((390..=400).contains(&same["expires_in"].as_u64().unwrap()), "{same}");
    simulator.advance(Duration::from_secs(150));
    let next = ask(&simulator, false).await;
    assert_ne!(next["access_token"], first["access_token"]);
    for token in [&first, &next] {
        assert_eq!(ticket(&simulator, token["access_token"].as_str().unwrap()).await["errcode"], 0);
    }
    simulator.advance(Duration::from_secs(260));
    assert_eq!(ticket(&simulator, first["access_token"].as_str().unwrap()).await["errcode"], 42001);
    for value in [first, next] {
        assert!(simulator.issued_secrets().iter().any(|secret| value["access_token"] == *secret));
    }
}

#[tokio::test]
async fn a_forced_token_ends_the_one_before_and_is_rare() {
    let simulator = simulator().await;
    let first = token(&simulator).await;
    let forced = ask(&simulator, true).await;
    assert_ne!(forced["access_token"], first);
    assert_eq!(ticket(&simulator, &first).await["errcode"], 40001);
    assert_eq!(ask(&simulator, true).await["errcode"], 45011);
    for _ in 1..20 {
        simulator.advance(Duration::from_secs(30));
        assert!(ask(&simulator, true).await["errcode"].is_null());
    }
    simulator.advance(Duration::from_secs(30));
    // Unless midnight has come meanwhile.
    let last = ask(&simulator, true).await;
    assert!(
        last["errcode"] == 45009 || simulator.journal().first().unwrap().time.0 % 86_400_000 > 85_000_000,
        "{last}"
    );
}

#[tokio::test]
async fn each_refusal_of_a_token_has_its_errcode() {
    let simulator = simulator().await;
    let with = |key: &str, value: Value| {
        let mut asking = asking(false);
        asking[key] = value;
        asking.to_string()
    };
    for (body, errcode) in [
        (String::new(), 41002),
        (format!("grant_type=client_credential&appid={OA}&secret={OA_SECRET}"), 41002),
        (with("appid", json!("")), 41002),
        (with("appid", json!("wxunknown")), 40013),
        (with("secret", json!("")), 41004),
        (with("secret", json!("wrong")), 40125),
        (with("grant_type", json!("authorization_code")), 40002),
    ] {
        assert_eq!(post(&simulator, TOKEN, &body).await.errcode(), errcode, "{body}");
    }
    assert_eq!(get(&simulator, TOKEN).await.errcode(), 43002);
    simulator.change_app(OA, |app| app.caller_allowed = false);
    let refused = ask(&simulator, false).await;
    assert_eq!(refused["errcode"], 40164);
    assert!(refused["errmsg"].as_str().unwrap().contains("not in whitelist"), "{refused}");
    simulator.change_app(OA, |app| (app.caller_allowed, app.central_calls_per_day) = (true, Some(2)));
    for errcode in [Value::Null, Value::Null, json!(45009)] {
        assert_eq!(ask(&simulator, false).await["errcode"], errcode);
    }
}

#[tokio::test]
async fn a_ticket_is_for_a_living_token_of_an_official_account() {
    let simulator = simulator().await;
    let token = token(&simulator).await;
    let first = ticket(&simulator, &token).await;
    assert_eq!((&first["errmsg"], &first["expires_in"]), (&json!("ok"), &json!(7200)));
    assert_eq!(ticket(&simulator, &token).await["ticket"], first["ticket"]);
    assert_eq!(ticket(&simulator, "").await["errcode"], 41001);
    assert_eq!(ticket(&simulator, "unknown").await["errcode"], 40001);
    let other = get(&simulator, &format!("/cgi-bin/ticket/getticket?access_token={token}&type=x")).await;
    assert_eq!(other.errcode(), 47001);
    simulator.kill_central_token(OA);
    assert_eq!(ticket(&simulator, &token).await["errcode"], 40001);
    assert_eq!(self::token(&simulator).await, token, "a killed token is still handed out");
    simulator.replace_central_token(OA);
    assert_ne!(self::token(&simulator).await, token);
}

#[tokio::test]
async fn the_token_tells_who_follows() {
    let simulator = simulator().await;
    let token = token(&simulator).await;
    let ask = async |openid: &str| {
        get(&simulator, &format!("/cgi-bin/user/info?access_token={token}&openid={openid}&lang=zh_CN")).await.json()
    };
    assert_eq!(ask(&simulator.openid(OA, "follower")).await["subscribe"], 1);
    assert_eq!(ask(&simulator.openid(OA, "小明")).await["subscribe"], 0);
    assert_eq!(ask(&simulator.openid(WEB, "小明")).await["errcode"], 40003);
    assert_eq!(ask("").await["errcode"], 41009);
}
