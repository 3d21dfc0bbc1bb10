//! Several applications in one instance: each has its own host, AppIDs and sessions. Cookies and tokens of one
//! application are invalid at another.

use harness::client::Browser;
use harness::stack::{Plan, Stack};
use harness::{OA, OA_SECRET, SESSION};
use wechat_simulator::App;

const BLOG: &str = "wx00000000000000c3";

/// Starts a shop at 127.0.0.1 and a blog at blog.localhost behind the same Envoy.
async fn shop_and_blog() -> Stack {
    let blog = format!(
        "- name: blog\n  origin: http://blog.localhost:EDGE_PORT\n  subject: unionid\n  official_account: {{ appid: {BLOG}, \
         secret_file: ./oa.secret, scope: snsapi_userinfo, ask_first: false }}\n  session: {{ token_lifetime: 5m, lifetime: 1h, idle: 30m }}\n"
    );
    let policy = "policy:\n- { host: \"blog.localhost:EDGE_PORT\", path_prefix: /posts, access: public }\n";
    let simulator = |options: &mut wechat_simulator::Options| {
        let mut blog = App::official_account(BLOG, OA_SECRET, "blog.localhost").with_any_port().in_open_platform("one");
        blog.instant_consent = true;
        options.apps.push(blog);
    };
    Stack::planned(Plan { app: blog, more: policy.into(), simulator, ..Plan::default() }).await
}

fn blog(stack: &Stack, path: &str) -> String {
    format!("http://blog.localhost:{}{path}", stack.edge.port())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_host_has_its_own_application_account_and_session() {
    let stack = shop_and_blog().await;
    let mut browser = Browser::wechat();
    let shop = stack.log_in(&mut browser, "/").await;
    assert_eq!(shop.seen("x-wechat-appid").as_deref(), Some(OA));
    assert_eq!(shop.seen("x-wechat-subject"), Some(format!("wx:{OA}:{}", stack.simulator.openid(OA, "小明"))));
    assert_eq!(browser.get(&blog(&stack, "/")).await.status, 302, "the blog must reject the shop's session");
    let home = browser.follow(&blog(&stack, "/")).await.pop().unwrap();
    stack.remember(&browser);
    let unionid = stack.simulator.unionid(BLOG, "小明").unwrap();
    assert_eq!(home.seen("x-wechat-appid").as_deref(), Some(BLOG));
    assert_eq!(home.seen("x-wechat-subject"), Some(format!("wx:union:{unionid}")));
    let who = browser.fetch(&blog(&stack, "/_wechat/session")).await.json()["data"].clone();
    assert_eq!(who["session_expires_at"].as_u64().unwrap() - who["logged_in_at"].as_u64().unwrap(), 3_600);
    let opened = browser.fetch(&stack.url("/api")).await;
    assert_eq!(opened.seen("x-wechat-appid").as_deref(), Some(OA), "both sessions must stay valid");
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_of_one_application_are_rejected_by_another() {
    let stack = shop_and_blog().await;
    let mut browser = Browser::wechat();
    stack.log_in(&mut browser, "/").await;
    let token = browser.cookie(SESSION).unwrap();
    let cookie = format!("{SESSION}={token}");
    let bearer = format!("Bearer {token}");
    for line in [("cookie", cookie.as_str()), ("authorization", bearer.as_str())] {
        let answer = Browser::desktop().ask("GET", &blog(&stack, "/api"), &[("accept", "*/*"), line], "").await;
        assert_eq!(answer.status, 401, "{answer:?}");
        assert_eq!(answer.json()["data"]["reason"], "token_foreign");
        let public = Browser::desktop().ask("GET", &blog(&stack, "/posts/1"), &[line], "").await;
        assert_eq!(public.seen("x-wechat-subject").as_deref(), Some(""), "a public path must carry no identity");
    }
    // An attempt that starts at the shop; the test copies its cookie to the blog.
    let mut browser = Browser::wechat();
    let login = browser.get(&stack.url("/_wechat/login?go=1")).await;
    let state = login.location().split("state=").nth(1).unwrap().split('#').next().unwrap().to_owned();
    let flow = browser.jar.iter().find(|cookie| cookie.name.starts_with("__Host-wechat_flow")).unwrap();
    let (cookie, before) = (format!("{}={}", flow.name, flow.value), stack.exchanges().len());
    let callback = blog(&stack, &format!("/_wechat/callback?code=0123456789abcdef&state={state}"));
    let answer = Browser::wechat().ask("GET", &callback, &[("cookie", &cookie)], "").await;
    assert_eq!((answer.status, stack.exchanges().len()), (400, before), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_for_one_host_says_nothing_about_another() {
    let stack = shop_and_blog().await;
    let mut stranger = Browser::desktop();
    assert_eq!(stranger.fetch(&blog(&stack, "/posts/1")).await.status, 200);
    assert_eq!(stranger.fetch(&stack.url("/posts/1")).await.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_where_no_application_lives_is_refused_on_both_doors() {
    let stack = shop_and_blog().await;
    let mut stranger = Browser::desktop();
    let port = stack.edge.port();
    for host in ["evil.localhost", "localhost"] {
        let refused = stranger.fetch(&format!("http://{host}:{port}/")).await;
        assert_eq!((refused.status, refused.json()["data"]["reason"].as_str()), (403, Some("unknown_host")), "{host}");
        assert_eq!(stranger.get(&format!("http://{host}:{port}/_wechat/login")).await.status, 400, "{host}");
    }
    assert_eq!(stack.upstream.count(), 0);
}
