//! `/sns/*`: the table of refusals, single use, ages, and what a profile looks like.

use std::time::Duration;

use super::support::*;

#[tokio::test]
async fn a_code_becomes_tokens_in_wechats_words() {
    let simulator = simulator().await;
    let reply = get(&simulator, &exchange(&consented_code(&simulator).await)).await;
    assert_eq!((reply.status, reply.header("content-type")), (200, Some("text/plain")));
    let keys: Vec<_> = reply.text().split('"').skip(1).step_by(2).map(str::to_owned).collect();
    let order = ["access_token", "expires_in", "refresh_token", "openid", "scope", "unionid"];
    let places: Vec<_> = order.iter().map(|key| keys.iter().position(|found| found == key).unwrap()).collect();
    assert!(places.is_sorted(), "{}", reply.text());
    let tokens = reply.json();
    assert!(tokens.get("errcode").is_none() && tokens.get("is_snapshotuser").is_none());
    assert_eq!(tokens["openid"], simulator.openid(OA, "小明"));
    assert_eq!(tokens["unionid"].as_str(), simulator.unionid(OA, "小明").as_deref());
    assert_eq!((&tokens["scope"], &tokens["expires_in"]), (&"snsapi_userinfo".into(), &7200.into()));
    for name in ["access_token", "refresh_token"] {
        assert!(simulator.issued_secrets().iter().any(|secret| tokens[name] == *secret));
    }
}

#[tokio::test]
async fn each_refusal_has_its_errcode() {
    let simulator = simulator().await;
    let code = code(&simulator).await;
    let path = "/sns/oauth2/access_token";
    let grant = "grant_type=authorization_code";
    for (query, errcode) in [
        (format!("secret={OA_SECRET}&code={code}&{grant}"), 41002),
        (format!("appid=wxunknown&secret={OA_SECRET}&code={code}&{grant}"), 40013),
        (format!("appid={OA}&code={code}&{grant}"), 41004),
        (format!("appid={OA}&secret=wrong&code={code}&{grant}"), 40125),
        (format!("appid={OA}&secret={OA_SECRET}&code={code}"), 40002),
        (format!("appid={OA}&secret={OA_SECRET}&code={code}&grant_type=x"), 40002),
        (format!("appid={OA}&secret={OA_SECRET}&{grant}"), 41008),
        (format!("appid={OA}&secret={OA_SECRET}&code=never&{grant}"), 40029),
        (format!("appid={WEB}&secret={WEB_SECRET}&code={code}&{grant}"), 40029),
    ] {
        let reply = get(&simulator, &format!("{path}?{query}")).await;
        assert_eq!((reply.status, reply.header("content-type")), (200, Some("text/plain")));
        assert_eq!(reply.errcode(), errcode, "{query}");
    }
    assert_eq!(post(&simulator, &exchange(&code), "").await.errcode(), 41002);
    // None of the refusals spent the code.
    assert_eq!(get(&simulator, &exchange(&code)).await.errcode(), 0);
}

#[tokio::test]
async fn the_checks_come_in_order() {
    let simulator = simulator().await;
    simulator.use_user("punished");
    let used = code(&simulator).await;
    simulator.change_user("punished", |user| user.risk = wechat_simulator::Risk::Normal);
    get(&simulator, &exchange(&used)).await;
    simulator.change_user("punished", |user| user.risk = wechat_simulator::Risk::Punished);
    // Used before punished; expired before used; frozen before any word about the code.
    assert_eq!(get(&simulator, &exchange(&used)).await.errcode(), 40163);
    assert_eq!(get(&simulator, &exchange(&code(&simulator).await)).await.errcode(), 50002);
    simulator.advance(Duration::from_secs(300));
    assert_eq!(get(&simulator, &exchange(&used)).await.errcode(), 40029);
    simulator.change_app(OA, |app| app.secret_frozen = true);
    assert_eq!(get(&simulator, &exchange(&used)).await.errcode(), 40243);
}

#[tokio::test]
async fn a_code_works_once() {
    let simulator = simulator().await;
    let code = code(&simulator).await;
    assert_eq!(get(&simulator, &exchange(&code)).await.errcode(), 0);
    let again = get(&simulator, &exchange(&code)).await.json();
    assert_eq!(again["errcode"], 40163);
    let message = again["errmsg"].as_str().unwrap();
    let rid: Vec<_> = message.strip_prefix("code been used, rid: ").unwrap().split('-').map(str::len).collect();
    assert_eq!(rid, [8, 8, 8]);
}

#[tokio::test]
async fn of_two_exchanges_at_once_one_wins() {
    let simulator = simulator().await;
    let target = exchange(&code(&simulator).await);
    let (one, other) = tokio::join!(get(&simulator, &target), get(&simulator, &target));
    let mut errcodes = [one.errcode(), other.errcode()];
    errcodes.sort_unstable();
    assert_eq!(errcodes, [0, 40163]);
}

#[tokio::test]
async fn a_code_lives_five_minutes_by_the_simulators_clock() {
    let simulator = simulator().await;
    let (young, old) = (code(&simulator).await, code(&simulator).await);
    simulator.advance(Duration::from_secs(290));
    assert_eq!(get(&simulator, &exchange(&young)).await.errcode(), 0);
    simulator.advance(Duration::from_secs(10));
    assert_eq!(get(&simulator, &exchange(&old)).await.errcode(), 40029);
    simulator.change_app(OA, |app| app.errcode_for_expired_code = 42003);
    assert_eq!(get(&simulator, &exchange(&old)).await.errcode(), 42003);
}

#[tokio::test]
async fn people_wechat_does_not_like_and_apps_in_a_hurry_are_refused() {
    let simulator = simulator().await;
    for (name, errcode) in [("punished", 50002), ("blocked", 40226)] {
        simulator.use_user(name);
        assert_eq!(get(&simulator, &exchange(&code(&simulator).await)).await.errcode(), errcode);
    }
    simulator.use_user("小明");
    simulator.change_app(OA, |app| app.exchanges_per_minute = Some(0));
    assert_eq!(get(&simulator, &exchange(&code(&simulator).await)).await.errcode(), 45011);
}

#[tokio::test]
async fn a_base_login_shows_no_unionid_until_the_person_has_agreed() {
    let simulator = simulator().await;
    let silent = get(&simulator, &exchange(&code(&simulator).await)).await.json();
    assert!(silent.get("unionid").is_none());
    tokens(&simulator).await;
    let later = get(&simulator, &exchange(&code(&simulator).await)).await.json();
    assert_eq!(later["unionid"].as_str(), simulator.unionid(OA, "小明").as_deref());
}

#[tokio::test]
async fn a_unionid_may_appear_later() {
    let simulator = simulator().await;
    simulator.use_user("no-unionid");
    assert!(tokens(&simulator).await.get("unionid").is_none());
    simulator.change_user("no-unionid", |user| user.has_unionid = true);
    assert_eq!(tokens(&simulator).await["unionid"].as_str(), simulator.unionid(OA, "no-unionid").as_deref());
}

fn refresh(token: &str) -> String {
    format!("/sns/oauth2/refresh_token?appid={OA}&grant_type=refresh_token&refresh_token={token}")
}

#[tokio::test]
async fn a_refresh_needs_no_secret_and_keeps_a_living_token() {
    let simulator = simulator().await;
    let first = tokens(&simulator).await;
    let refresh = refresh(first["refresh_token"].as_str().unwrap());
    simulator.advance(Duration::from_secs(7_000));
    let extended = get(&simulator, &refresh).await.json();
    assert_eq!(extended["access_token"], first["access_token"]);
    simulator.advance(Duration::from_secs(7_199));
    let again = get(&simulator, &refresh).await.json();
    assert_eq!(again["access_token"], first["access_token"]);
    simulator.advance(Duration::from_secs(7_201));
    let renewed = get(&simulator, &refresh).await.json();
    assert_ne!(renewed["access_token"], first["access_token"]);
    assert_eq!(renewed["refresh_token"], first["refresh_token"]);
    simulator.advance(Duration::from_secs(30 * 86_400));
    assert_eq!(get(&simulator, &refresh).await.errcode(), 42002);
}

#[tokio::test]
async fn a_refresh_is_refused_for_wrong_missing_and_voided_tokens() {
    let simulator = simulator().await;
    let tokens = tokens(&simulator).await;
    let good = refresh(tokens["refresh_token"].as_str().unwrap());
    assert_eq!(get(&simulator, &refresh("never")).await.errcode(), 40030);
    assert_eq!(get(&simulator, &refresh("")).await.errcode(), 41003);
    assert_eq!(get(&simulator, &good.replace(OA, WEB)).await.errcode(), 40030);
    assert_eq!(post(&simulator, &good, "").await.errcode(), 41002);
    simulator.change_user("小明", wechat_simulator::User::change_password);
    assert_eq!(get(&simulator, &good).await.errcode(), 42007);
}

#[tokio::test]
async fn a_token_and_its_openid_are_checked_together() {
    let simulator = simulator().await;
    let tokens = tokens(&simulator).await;
    let (token, openid) = (tokens["access_token"].as_str().unwrap(), tokens["openid"].as_str().unwrap());
    for path in ["/sns/auth", "/sns/userinfo"] {
        for (query, errcode) in [
            (format!("access_token={token}&openid={openid}"), 0),
            (format!("access_token={token}&openid=oother"), 40003),
            (format!("access_token=never&openid={openid}"), 40001),
            (format!("openid={openid}"), 41001),
            (format!("access_token={token}"), 41009),
        ] {
            assert_eq!(get(&simulator, &format!("{path}?{query}")).await.errcode(), errcode, "{path}?{query}");
        }
    }
    let auth = get(&simulator, &format!("/sns/auth?access_token={token}&openid={openid}")).await;
    assert_eq!(auth.text(), r#"{"errcode":0,"errmsg":"ok"}"#);
    simulator.advance(Duration::from_secs(7_200));
    assert_eq!(get(&simulator, &format!("/sns/auth?access_token={token}&openid={openid}")).await.errcode(), 42001);
}

#[tokio::test]
async fn a_profile_is_what_wechat_still_tells() {
    let simulator = simulator().await;
    let tokens = tokens(&simulator).await;
    let (token, openid) = (tokens["access_token"].as_str().unwrap(), tokens["openid"].as_str().unwrap());
    let target = format!("/sns/userinfo?access_token={token}&openid={openid}&lang=zh_CN");
    let text = get(&simulator, &target).await.text();
    let unionid = simulator.unionid(OA, "小明").unwrap();
    let (before, after) = text.split_once(r#""headimgurl":"https:\/\/thirdwx.qlogo.cn\/mmopen\/vi_32\/"#).unwrap();
    assert_eq!(
        before,
        format!(
            r#"{{"openid":"{openid}","nickname":"小明","sex":0,"language":"","city":"","province":"","country":"","#
        )
    );
    assert!(after.ends_with(&format!(r#"\/132","privilege":[],"unionid":"{unionid}"}}"#)));
    simulator.change_user("小明", |user| user.avatar = wechat_simulator::Avatar::Missing);
    assert_eq!(get(&simulator, &target).await.json()["headimgurl"], "");
    simulator.change_user("小明", |user| user.nickname = "引\"😀\u{1}\u{e312}".into());
    assert_eq!(get(&simulator, &target).await.json()["nickname"], "引\"😀\u{1}\u{e312}");
}

#[tokio::test]
async fn a_base_token_shows_no_profile() {
    let simulator = simulator().await;
    let tokens = get(&simulator, &exchange(&code(&simulator).await)).await.json();
    let (token, openid) = (tokens["access_token"].as_str().unwrap(), tokens["openid"].as_str().unwrap());
    assert_eq!(get(&simulator, &format!("/sns/userinfo?access_token={token}&openid={openid}")).await.errcode(), 48001);
}

#[tokio::test]
async fn what_the_api_does_not_have_is_40066_and_noted() {
    let simulator = simulator().await;
    assert_eq!(get(&simulator, "/sns/nothing").await.errcode(), 40066);
    assert_eq!(simulator.journal().last().unwrap().path, "/sns/nothing");
}
