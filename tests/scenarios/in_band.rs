//! Pages that the check answers because no route leads to the pages listener: behind the configurations that Istio and
//! Envoy Gateway generate from the chart's objects with `pages_in_band`, each request goes through the check, and the
//! application never receives a request for a page.

use crate::derived::{ENVOY_GATEWAY_IN_BAND, ISTIO_IN_BAND, behind};
use harness::SESSION;
use harness::client::{Answer, Browser, HTML, compose, raw};
use harness::stack::{PATIENT, Plan, Stack, UNLIMITED};
use std::process::Command;
use std::time::{Duration, Instant};
use wechat_simulator::{Denial, Effect, Endpoint, Fault, Times};

const BOTH: [&str; 2] = [ISTIO_IN_BAND, ENVOY_GATEWAY_IN_BAND];

async fn stack(scenario: &'static str, plan: Plan) -> Stack {
    let (wechat, more) = (PATIENT.into(), format!("{UNLIMITED}{}", plan.more));
    Stack::planned(behind(scenario, Plan { wechat, more, ..plan })).await
}

/// Asserts that no request for a page reached the application.
fn assert_unseen(stack: &Stack, why: &str) {
    let seen = stack.upstream.requests.lock().unwrap();
    assert!(!seen.iter().any(|line| line.contains("_wechat")), "{why}: {seen:?}");
}

/// Asserts that the response is one of our pages, complete and with its security headers.
fn assert_page(answer: &Answer, status: u16, why: &str) {
    assert_eq!(
        (answer.status, answer.header("content-type")),
        (status, "text/html; charset=utf-8"),
        "{why}: {answer:?}"
    );
    for (name, value) in
        [("cache-control", "no-store"), ("x-content-type-options", "nosniff"), ("vary", "Accept-Language, Cookie")]
    {
        assert_eq!(answer.header(name), value, "{why}: {answer:?}");
    }
    let policy = answer.header("content-security-policy");
    assert!(policy.contains("default-src 'none'") && !answer.header("referrer-policy").is_empty(), "{why}: {answer:?}");
    assert!(!answer.header("content-language").is_empty() && answer.body.contains("</html>"), "{why}: {answer:?}");
}

fn for_ever(effect: Effect) -> Fault {
    Fault::at(Endpoint::AccessToken, effect).times(Times::FOREVER)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_login_and_its_end_need_no_route() {
    for scenario in BOTH {
        let stack = stack(scenario, Plan::default()).await;
        let mut browser = Browser::wechat();
        let answers = stack.log_in_by_each_hop(&mut browser, "/orders?a=b").await;
        let callback = &answers[4];
        assert_eq!((callback.header("cache-control"), callback.header("referrer-policy")), ("no-store", "no-referrer"));
        assert!(
            callback.set_cookies().count() >= 2,
            "{scenario}: session cookie and removal of the attempt's cookie: {callback:?}"
        );
        // A page that requests a renewal gets a redirect with the new token.
        let back = browser.get(&stack.url("/_wechat/renew?return_to=%2Fa")).await;
        assert_eq!((back.status, back.destination()), (303, &*stack.url("/a")), "{scenario}");
        stack.remember(&browser);
        // A link from another site to the logout opens a confirmation page, whose button posts an empty form.
        let mut stolen = browser.clone();
        let asked = browser.ask("GET", &stack.url("/_wechat/logout"), &[("accept", HTML)], "").await;
        assert_page(&asked, 403, scenario);
        assert!(
            asked.body.contains("<form method=\"post\"") && browser.cookie(SESSION).is_some(),
            "{scenario}: {asked:?}"
        );
        assert_eq!(asked.header("referrer-policy"), "same-origin", "{scenario}: the button must post with the cookie");
        let own = stack.origin.clone();
        let form = [("accept", HTML), ("origin", &*own), ("content-type", "application/x-www-form-urlencoded")];
        let out = browser.ask("POST", &stack.url("/_wechat/logout"), &form, "").await;
        assert_page(&out, 403, scenario);
        assert_eq!(
            out.header("cross-origin-opener-policy"),
            "same-origin",
            "{scenario}: must not be a step of a login"
        );
        assert!(browser.cookie(SESSION).is_none() && out.location().is_empty(), "{scenario}: {out:?}");
        assert!(out.button().contains("/_wechat/login?go=1"), "{scenario}: {out:?}");
        assert_eq!(stolen.fetch(&stack.url("/api")).await.status, 401, "{scenario}: the session must have ended");
        assert_unseen(&stack, scenario);
        assert!(stack.metric("wechat_authz_checks_total{decision=\"page\",reason=\"page_in_band\"}").await >= 5.0);
        assert_eq!(stack.metric("wechat_authz_sessions_issued_total{app=\"shop\"}").await, 1.0, "{scenario}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_a_request_for_a_page_comes_from_is_told_to_the_check() {
    for scenario in BOTH {
        let stack = stack(scenario, Plan::default()).await;
        let (own, page) = (stack.origin.clone(), stack.url("/page"));
        for (method, line, ends) in [
            ("POST", ("sec-fetch-site", "same-origin"), true),
            ("POST", ("sec-fetch-site", "cross-site"), false),
            ("POST", ("origin", "https://evil.example"), false),
            ("POST", ("origin", &*own), true),
            ("GET", ("sec-fetch-site", "same-origin"), true),
            ("GET", ("sec-fetch-site", "same-site"), false),
            ("GET", ("referer", &*page), true),
            ("GET", ("referer", "https://evil.example/"), false),
        ] {
            let mut browser = Browser::wechat();
            stack.log_in(&mut browser, "/").await;
            let answer = browser.ask(method, &stack.url("/_wechat/logout"), &[line, ("accept", HTML)], "").await;
            assert_page(&answer, 403, scenario);
            assert_eq!(browser.cookie(SESSION).is_none(), ends, "{scenario}: {method} {line:?}");
        }
        // A desktop browser gets the page that asks for WeChat, in its language and form.
        let english = [("accept-language", "en"), ("accept", HTML)];
        let told = Browser::desktop().ask("GET", &stack.url("/_wechat/callback"), &english, "").await;
        assert_page(&told, 400, scenario);
        assert_eq!(told.header("content-language"), "en", "{scenario}");
        assert_unseen(&stack, scenario);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn consent_and_its_refusal_are_pages_as_ever() {
    for scenario in BOTH {
        let plan = Plan { scope: "snsapi_userinfo", ..Plan::default() };
        let stack = stack(scenario, plan).await;
        for appid in [harness::OA, harness::WEB] {
            stack.simulator.change_app(appid, |app| {
                app.instant_consent = true;
                app.denial = Denial::StateOnly;
            });
        }
        let mut browser = Browser::wechat();
        let asked = browser.follow(&stack.url("/a")).await.pop().unwrap();
        assert_page(&asked, 403, scenario);
        let home = browser.follow(&asked.button()).await.pop().unwrap();
        stack.remember(&browser);
        assert_eq!((home.status, &home.json()["target"]), (200, &"/a".into()), "{scenario}: {home:?}");
        assert!(home.seen("x-wechat-nickname").is_some_and(|name| !name.is_empty()), "{scenario}: {home:?}");
        // A user who declines gets a page and no further redirect.
        let mut denier = Browser::wechat();
        stack.hand_to(&mut denier, "denier");
        let asked = denier.follow(&stack.url("/a")).await.pop().unwrap();
        let denied = denier.follow(&asked.button()).await.pop().unwrap();
        assert_page(&denied, 403, scenario);
        assert!(denied.body.contains("登录没有完成") && denier.cookie(SESSION).is_none(), "{scenario}: {denied:?}");
        assert!(denier.names("__Host-wechat_flow").is_empty(), "{scenario}: the attempt must have ended");
        assert_unseen(&stack, scenario);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_absent_or_slow_wechat_leads_to_our_page_not_envoys() {
    for scenario in BOTH {
        let stack = stack(scenario, Plan::default()).await;
        stack.simulator.inject(for_ever(Effect::Errcode(45011)));
        let mut browser = Browser::wechat();
        let page = browser.follow(&stack.url("/")).await.pop().unwrap();
        // The pages listener would respond with 503, whose body Envoy discards.
        assert_page(&page, 429, scenario);
        assert!(browser.cookie(SESSION).is_none(), "{scenario}");
        let wait: u64 = page.header("retry-after").parse().unwrap();
        assert!((30..=60).contains(&wait), "{scenario}: {wait}");
        stack.until_log_holds(&format!("\"reference\":\"{}\"", page.shown())).await;
        stack.simulator.clear_faults();
        let home = browser.follow(&page.button()).await.pop().unwrap();
        stack.remember(&browser);
        assert_eq!(home.seen("x-wechat-openid"), Some(stack.simulator.openid(harness::OA, "小明")), "{scenario}");
        // Longer than the usual time-out of a check, and shorter than our own time-out for WeChat.
        stack.simulator.inject(Fault::at(Endpoint::AccessToken, Effect::DelayBefore(Duration::from_secs(4))));
        let mut patient = Browser::wechat();
        let begun = Instant::now();
        stack.log_in(&mut patient, "/").await;
        assert!(begun.elapsed() > Duration::from_secs(4), "{scenario}");
        // Longer than our own time-out.
        stack.simulator.inject(Fault::at(Endpoint::AccessToken, Effect::DelayBefore(Duration::from_secs(60))));
        let mut third = Browser::wechat();
        let back = stack.to_callback(&mut third, "/").await;
        let begun = Instant::now();
        let answer = third.get(&back).await;
        assert_eq!(answer.status, 303, "{scenario}: must restart the login: {answer:?}");
        assert!((4.5..8.0).contains(&begun.elapsed().as_secs_f64()), "{scenario}: {:?}", begun.elapsed());
        assert_unseen(&stack, scenario);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_of_the_operators_is_a_page_too() {
    for scenario in BOTH {
        let mut stack = stack(scenario, Plan::default()).await;
        std::fs::write(stack.directory.path().join("oa.secret"), "0123456789abcdef0123456789abcdef").unwrap();
        stack.reconfigured("log: { level: trace }", "log: { level: debug }").await;
        let page = Browser::wechat().follow(&stack.url("/")).await.pop().unwrap();
        // The pages listener would respond with 500.
        assert_page(&page, 403, scenario);
        assert_eq!(page.header("retry-after"), "", "{scenario}: must not suggest to wait");
        stack.until_log_holds(&format!("\"reference\":\"{}\"", page.shown())).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn repeated_and_abandoned_callbacks_make_one_session() {
    for scenario in BOTH {
        let stack = stack(scenario, Plan::default()).await;
        let mut browser = Browser::wechat();
        let back = stack.to_callback(&mut browser, "/a").await;
        stack.simulator.inject(Fault::at(Endpoint::AccessToken, Effect::DelayAfter(Duration::from_secs(1))));
        let (mut first, mut again, mut late) = (browser.clone(), browser.clone(), browser.clone());
        let (first, again) = tokio::join!(first.get(&back), again.get(&back));
        let late = late.get(&back).await;
        let given = |answer: &Answer| {
            let given = answer.set_cookies().find(|line| line.starts_with(SESSION)).map(str::to_owned);
            given.unwrap_or_else(|| panic!("{scenario}: no session: {answer:?}"))
        };
        for answer in [&first, &again, &late] {
            assert_eq!((answer.status, answer.destination()), (303, &*stack.url("/a")), "{scenario}: {answer:?}");
            assert_eq!(given(answer), given(&first), "{scenario}");
        }
        assert_eq!(stack.exchanges().len(), 1, "{scenario}");
        // The browser disconnects during the callback: Envoy cancels the check, the code exchange continues.
        let mut browser = Browser::wechat();
        let back = stack.to_callback(&mut browser, "/b").await;
        stack.simulator.inject(Fault::at(Endpoint::AccessToken, Effect::DelayAfter(Duration::from_millis(500))));
        let mut gone = browser.clone();
        let address = back.clone();
        let waiting = tokio::spawn(async move { gone.get(&address).await });
        stack.until_exchanged(2).await;
        waiting.abort();
        let answer = browser.get(&back).await;
        stack.remember(&browser);
        assert_eq!((answer.status, answer.destination()), (303, &*stack.url("/b")), "{scenario}: {answer:?}");
        assert_eq!(stack.exchanges().len(), 2, "{scenario}");
        assert_unseen(&stack, scenario);
    }
}

/// All pages, and paths that are not pages.
const PAGES: [&str; 14] = [
    "/_wechat/login",
    "/_wechat/login?go=1&return_to=/a",
    "/_wechat/callback",
    "/_wechat/callback?code=021abc&state=00000000000000000000000000000000",
    "/_wechat/renew",
    "/_wechat/renew?return_to=/a",
    "/_wechat/session",
    "/_wechat/jwks.json",
    "/_wechat/jssdk?url=http://127.0.0.1/",
    "/_wechat/nothing",
    "/_wechat/",
    "/_wechat",
    "/_wechat/%6cogin",
    "/_wechat/logout",
];

#[tokio::test(flavor = "multi_thread")]
async fn no_page_in_band_is_a_2xx_or_a_5xx() {
    for scenario in BOTH {
        let stack = stack(scenario, Plan::default()).await;
        let mut browser = Browser::wechat();
        stack.log_in(&mut browser, "/").await;
        let before = stack.upstream.count();
        let cookie = format!("{SESSION}={}", browser.cookie(SESSION).unwrap());
        let bearer = format!("Bearer {}", browser.cookie(SESSION).unwrap());
        let host = stack.edge.to_string();
        let (door, mut count) = (stack.check.parse().unwrap(), 0);
        for page in PAGES {
            for method in ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"] {
                for who in [None, Some(("cookie", &*cookie)), Some(("authorization", &*bearer))] {
                    for wants in [HTML, "application/json"] {
                        let mut lines = vec![("accept", wants), ("sec-fetch-site", "same-origin")];
                        lines.extend(who);
                        if !matches!(method, "GET" | "HEAD") {
                            lines.push(("content-length", "0"));
                        }
                        for address in [door, stack.edge] {
                            let answer = raw(address, &compose(method, page, &host, &lines)).await.unwrap();
                            let said = format!("{scenario} {method} {page} {lines:?}: {answer:?}");
                            assert!((300..500).contains(&answer.status), "{said}");
                            assert!(!answer.headers.iter().any(|(name, _)| name.starts_with("x-wechat-")), "{said}");
                            if method == "GET"
                                && ["/session", "/jwks.json", "/jssdk"].iter().any(|one| page.contains(one))
                            {
                                assert_eq!(
                                    (answer.status, answer.header("content-type")),
                                    (403, "application/json"),
                                    "{said}"
                                );
                                let told = answer.json();
                                assert_eq!(
                                    (&told["code"], &told["data"]["reason"]),
                                    (&403.into(), &"page_in_band".into()),
                                    "{said}"
                                );
                                assert!(told["message"].as_str().unwrap().contains("pages listener"), "{said}");
                            }
                            count += 1;
                        }
                    }
                }
            }
        }
        assert_eq!(count, PAGES.len() * 7 * 3 * 2 * 2);
        assert_eq!(stack.upstream.count(), before, "{scenario}: no request may reach the application");
        // The response to a wrong method names the allowed methods.
        let answer = raw(stack.edge, &compose("DELETE", "/_wechat/callback", &host, &[])).await.unwrap();
        assert_eq!((answer.status, answer.header("allow")), (405, "GET, HEAD"), "{scenario}");
        // The pages listener serves all pages as well.
        assert_eq!(raw(stack.pages, &compose("GET", "/_wechat/jwks.json", &host, &[])).await.unwrap().status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_that_wait_for_wechat_slow_no_check() {
    const WAITING: usize = 20;
    for scenario in BOTH {
        let stack = stack(scenario, Plan::default()).await;
        let mut user = Browser::wechat();
        stack.log_in(&mut user, "/").await;
        let mut callbacks = Vec::new();
        for _ in 0..WAITING {
            let mut browser = Browser::wechat();
            let back = stack.to_callback(&mut browser, "/").await;
            callbacks.push((browser, back));
        }
        stack.simulator.inject(for_ever(Effect::DelayBefore(Duration::from_secs(4))));
        let waiting: Vec<_> = callbacks
            .into_iter()
            .map(|(mut browser, back)| tokio::spawn(async move { (browser.get(&back).await, browser) }))
            .collect();
        stack.until_exchanged(1 + WAITING).await;
        let mut slowest = Duration::ZERO;
        for _ in 0..100 {
            let begun = Instant::now();
            assert_eq!(user.fetch(&stack.url("/api")).await.status, 200, "{scenario}");
            slowest = slowest.max(begun.elapsed());
        }
        assert!(
            !waiting.iter().any(tokio::task::JoinHandle::is_finished),
            "{scenario}: all checks must complete first"
        );
        assert!(slowest < Duration::from_secs(1), "{scenario}: {slowest:?}");
        for one in waiting {
            let (answer, browser) = one.await.unwrap();
            stack.remember(&browser);
            assert_eq!(answer.status, 303, "{scenario}: {answer:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_pages_is_bounded_and_the_checks_go_on() {
    // The check listener may use sixty per cent of the files, and pages a quarter of its connections.
    const FILES: u32 = 200;
    const PLACES: usize = 30;
    let stack = stack(ISTIO_IN_BAND, Plan { files: Some(FILES), ..Plan::default() }).await;
    let mut user = Browser::wechat();
    stack.log_in(&mut user, "/").await;
    let mut callbacks = Vec::new();
    for _ in 0..PLACES + 10 {
        let mut browser = Browser::wechat();
        let back = stack.to_callback(&mut browser, "/").await;
        callbacks.push((browser, back));
    }
    let beyond = callbacks.split_off(PLACES);
    stack.simulator.inject(for_ever(Effect::DelayBefore(Duration::from_secs(4))));
    let waiting: Vec<_> = callbacks
        .into_iter()
        .map(|(mut browser, back)| tokio::spawn(async move { (browser.get(&back).await, browser) }))
        .collect();
    stack.until_exchanged(1 + PLACES).await;
    for (mut browser, back) in beyond.clone() {
        let refused = browser.get(&back).await;
        assert_page(&refused, 429, "beyond the places");
        assert!((2..=4).contains(&refused.header("retry-after").parse::<u64>().unwrap()), "{refused:?}");
        assert!(!browser.names("__Host-wechat_flow").is_empty(), "the attempt must stay usable: {refused:?}");
        assert_eq!(user.fetch(&stack.url("/api")).await.status, 200, "checks must continue");
    }
    assert!(!waiting.iter().any(tokio::task::JoinHandle::is_finished), "the pages must still wait");
    let refused = stack.metric("wechat_authz_requests_limited_total{limit=\"pages_in_band\"}").await;
    assert_eq!(refused, beyond.len() as f64);
    for one in waiting {
        let (answer, browser) = one.await.unwrap();
        stack.remember(&browser);
        assert_eq!(answer.status, 303, "accepted callbacks must complete: {answer:?}");
    }
    stack.simulator.clear_faults();
    // The same URL again, as the page's button requests it.
    for (mut browser, back) in beyond {
        assert_eq!(browser.get(&back).await.status, 303, "further callbacks must be accepted");
        stack.remember(&browser);
    }
    // A flood of pages that respond without waiting.
    let flood: Vec<_> = (0..8)
        .map(|_| {
            let url = stack.url("/_wechat/login");
            tokio::spawn(async move {
                let mut ended = 0;
                for _ in 0..100 {
                    ended += usize::from(matches!(Browser::wechat().get(&url).await.status, 302 | 429));
                }
                ended
            })
        })
        .collect();
    let mut asked = 0;
    while !flood.iter().all(tokio::task::JoinHandle::is_finished) {
        let begun = Instant::now();
        assert_eq!(user.fetch(&stack.url("/api")).await.status, 200, "checks must continue");
        assert!(begun.elapsed() < Duration::from_secs(1), "after {asked}: {:?}", begun.elapsed());
        asked += 1;
    }
    for one in flood {
        assert_eq!(one.await.unwrap(), 100);
    }
    assert!(asked > 10, "{asked} checks beside the flood");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_knows_pages_in_band_and_says_where_they_are_not() {
    for scenario in BOTH {
        let stack = stack(scenario, Plan::default()).await;
        let examined = |configuration: &str| {
            let file = stack.directory.path().join("doctor.yaml");
            std::fs::write(&file, configuration).unwrap();
            let mut doctor = Command::new(harness::program());
            doctor.args(["doctor", "--json", "--url", &stack.url("/orders"), "--config"]).arg(&file);
            let output = doctor.output().unwrap();
            let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
            let findings = told["findings"].as_array().unwrap().clone();
            let bad = findings.into_iter().filter(|one| one["verdict"] != "ok" && one["about"] != "configuration");
            (output.status.code(), bad.map(|one| one["about"].as_str().unwrap().to_owned()).collect::<Vec<_>>())
        };
        let good = stack.configured();
        // No ingress is in front of this sidecar, so that no X-Forwarded-For contains the client address.
        let expected = if scenario == ISTIO_IN_BAND { vec!["gateway: check".to_owned()] } else { Vec::new() };
        let code = Some(i32::from(!expected.is_empty()));
        assert_eq!(examined(&good), (code, expected), "{scenario}");
        let routed = good.replace("\"pages_in_band\":true", "\"pages_in_band\":false");
        assert_ne!(routed, good);
        let (code, unwell) = examined(&routed);
        assert!(code == Some(1) && unwell.contains(&"gateway: prefix".to_owned()), "{scenario}: {unwell:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_in_band_are_switched_without_a_restart() {
    let stack = stack(ISTIO_IN_BAND, Plan::default()).await;
    let status = async || Browser::wechat().get(&stack.url("/_wechat/login")).await.status;
    assert_eq!(status().await, 302);
    let in_band = std::fs::read_to_string(stack.config()).unwrap();
    let routed = in_band.replace("\"pages_in_band\":true", "\"pages_in_band\":false");
    std::fs::write(stack.config(), &routed).unwrap();
    let until = async |wanted| {
        let begun = Instant::now();
        while status().await != wanted {
            assert!(begun.elapsed() < Duration::from_secs(20), "the changed setting must take effect");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    until(403).await;
    let refused = Browser::wechat().fetch(&stack.url("/_wechat/login")).await;
    assert_eq!(refused.json()["data"]["reason"], "pages_not_routed");
    std::fs::write(stack.config(), &in_band).unwrap();
    until(302).await;
}
