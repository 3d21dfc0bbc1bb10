//! The decision as tables: every requirement against every way to present, or not present, a session.

use super::*;
use crate::client_kind::tests::request_of;
use crate::path::NormalPath;
use crate::policy::{PathMatch, Rule};
use crate::rate_limit::{self, Rate};
use crate::session::Issued;
use crate::testing::fixtures::{self, ALICE, NOW, app, app_policy, shop};
use foldhash::fast::FixedState;
use std::num::NonZeroU32;
use std::time::Duration;

struct Fixture {
    authorizer: Authorizer,
    alice: Issued,
}

fn fixture() -> Fixture {
    let number = |number| NonZeroU32::new(number).unwrap();
    let limits = rate_limit::Settings {
        logins_per_client: Rate { per_minute: number(10), burst: number(50) },
        logins_per_second: number(1_000),
        new_tokens_per_client: Rate { per_minute: number(1), burst: number(3) },
        checks_per_client: Some(Rate { per_minute: number(1), burst: number(5) }),
    };
    let rule = |path: &str, requirement| Rule::new(PathMatch::prefix(path).unwrap(), requirement);
    let policy = Policy::new(vec![
        rule("/static", Requirement::Public),
        rule("/maybe", Requirement::Optional),
        rule("/alice", Requirement::Subjects([ALICE.parse().unwrap()].into())),
        rule("/bob", Requirement::Subjects(["wx:wx0123456789abcdef:oBob".parse().unwrap()].into())),
        rule("/nobody", Requirement::Subjects(Arc::from([]))),
    ]);
    let sessions = fixtures::sessions(fixtures::key_ring(), NOW);
    let sites: HashMap<String, AppPolicy, FixedState> =
        [shop(), app("blog", "https://blog.example.com:8443")].iter().map(app_policy).collect();
    let alice = sessions.begin(fixtures::alice(), &sites["shop.example.com"].session, NOW).unwrap();
    let authorizer = Authorizer {
        apps: sites,
        policy,
        prefix: "/_wechat".into(),
        delivers_set_cookie: true,
        pages_in_band: false,
        client_address: ClientAddress::Peer,
        sessions: Arc::new(sessions),
        limits: Arc::new(Limits::new(&limits)),
    };
    Fixture { authorizer, alice }
}

fn check<'a>(host: &'a str, target: &'a str, credential: Credential<'a>) -> CheckRequest<'a> {
    check_by(ClientKind::Page, host, target, credential)
}

/// A check of a client of this kind.
fn check_by<'a>(kind: ClientKind, host: &'a str, target: &'a str, credential: Credential<'a>) -> CheckRequest<'a> {
    let (method, headers) = Box::leak(Box::new(request_of(kind)));
    CheckRequest {
        method,
        host,
        path: NormalPath::parse(target.split('?').next().unwrap()),
        target,
        headers,
        peer: [203, 0, 113, 9].into(),
        credential,
        has_session_bearer: false,
        forwarded_cookies: cookie::Forwarded::Untouched,
    }
}

const SHOP: &str = "shop.example.com";

fn word(decision: &Decision) -> &'static str {
    match decision {
        Decision::Allow { identity: Identity::Anonymous, .. } => "anonymous",
        Decision::Allow { identity: Identity::Known(_), .. } => "known",
        Decision::Login { .. } => "login",
        Decision::Renew { .. } => "renew",
        Decision::Page { .. } => "page",
        Decision::Deny { .. } => "deny",
        Decision::Limited { .. } => "limited",
    }
}

#[test]
fn each_requirement_against_each_credential() {
    use Reason::*;
    for (target, shown, answer, reason) in [
        ("/", "alice", "known", SessionValid),
        ("/", "nothing", "login", NoSession),
        ("/", "junk", "login", TokenMalformed),
        ("/", "two", "login", ConflictingCredentials),
        ("/static/a.css", "alice", "anonymous", PublicPath),
        ("/static/a.css", "nothing", "anonymous", PublicPath),
        ("/static/a.css", "two", "anonymous", PublicPath),
        ("/maybe", "alice", "known", SessionValid),
        ("/maybe", "nothing", "anonymous", AnonymousAllowed),
        ("/maybe", "junk", "anonymous", AnonymousAllowed),
        ("/maybe", "two", "anonymous", AnonymousAllowed),
        ("/alice", "alice", "known", SessionValid),
        ("/alice", "nothing", "login", NoSession),
        ("/bob", "alice", "deny", SubjectNotAllowed),
        ("/bob", "nothing", "login", NoSession),
        ("/nobody", "alice", "deny", SubjectNotAllowed),
    ] {
        let fixture = fixture();
        let credential = match shown {
            "alice" => Credential::Cookie(&fixture.alice.token),
            "junk" => Credential::Cookie("junk"),
            "two" => Credential::Conflict,
            _ => Credential::Absent,
        };
        let decision = fixture.authorizer.decide(&check(SHOP, target, credential), NOW);
        assert_eq!((word(&decision), decision.reason()), (answer, reason), "{target} with {shown}");
    }
}

#[test]
fn what_is_refused_whoever_asks() {
    let fixture = fixture();
    let alice = Credential::Cookie(&fixture.alice.token);
    for (host, target, reason) in [
        ("other.example.com", "/", Reason::UnknownHost),
        ("", "/static/a.css", Reason::UnknownHost),
        ("shop.example.com:8443", "/", Reason::UnknownHost),
        ("shop.example.com:443", "/", Reason::UnknownHost),
        ("SHOP.example.com:80", "/static/a.css", Reason::UnknownHost),
        ("blog.example.com", "/", Reason::UnknownHost),
        ("shop.example.com.", "/", Reason::UnknownHost),
        (SHOP, "/static/../alice", Reason::AmbiguousPath),
        (SHOP, "/static/..%2falice", Reason::AmbiguousPath),
        (SHOP, "/static/%252e%252e/alice", Reason::AmbiguousPath),
        (SHOP, "/static/a%2fb", Reason::AmbiguousPath),
        (SHOP, "/static/a%5Cb", Reason::AmbiguousPath),
        (SHOP, "/%2573tatic/a", Reason::AmbiguousPath),
        (SHOP, "/static/%25c0%25af", Reason::AmbiguousPath),
        (SHOP, "/static/a%00", Reason::AmbiguousPath),
        (SHOP, "*", Reason::AmbiguousPath),
        (SHOP, "/bob;v=1", Reason::SubjectNotAllowed),
        (SHOP, "/BOB/", Reason::SubjectNotAllowed),
        (SHOP, "//x/bob", Reason::SubjectNotAllowed),
        (SHOP, "/static/..;/bob", Reason::AmbiguousPath),
        (SHOP, "/_wechat", Reason::PagesNotRouted),
        (SHOP, "/_wechat/callback", Reason::PagesNotRouted),
        (SHOP, "/_wechat;x/callback", Reason::AmbiguousPath),
        (SHOP, "/_WeChat/callback", Reason::AmbiguousPath),
        (SHOP, "//_wechat/callback", Reason::AmbiguousPath),
        (SHOP, "/_wechat%3Fx", Reason::AmbiguousPath),
        (SHOP, "/_wechat/a%2fb", Reason::AmbiguousPath),
    ] {
        let decision = fixture.authorizer.decide(&check(host, target, alice), NOW);
        assert_eq!((word(&decision), decision.reason()), ("deny", reason), "{host}{target}");
    }
    for target in
        ["/_wechatx", "/static/a;v=1", "/static;v=1/a.css", "/%61lice", "/ALICE/", "/a?next=/static/../x", "/a%23"]
    {
        let decision = fixture.authorizer.decide(&check("SHOP.example.com", target, alice), NOW);
        assert!(matches!(decision, Decision::Allow { .. }), "{target}: {decision:?}");
    }
}

#[test]
fn a_method_with_a_lower_case_letter_is_refused() {
    let fixture = fixture();
    for (method, reason) in [
        ("delete", Reason::MethodNotUpperCase),
        ("Get", Reason::MethodNotUpperCase),
        ("PROPFINd", Reason::MethodNotUpperCase),
        ("PROPFIND", Reason::PublicPath),
        ("M-SEARCH", Reason::PublicPath),
    ] {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        for host in [SHOP, "10.0.0.7"] {
            let asked = CheckRequest { method: &method, ..check(host, "/static/a.css", Credential::Absent) };
            let reason =
                if host == SHOP || reason == Reason::MethodNotUpperCase { reason } else { Reason::UnknownHost };
            assert_eq!(fixture.authorizer.decide(&asked, NOW).reason(), reason, "{method} {host}");
        }
    }
}

/// `%2F`, `%5C` and double encoding: denied unless the rule or the application allows it, and then decided by every
/// reading of a server.
#[test]
fn encoded_slashes_are_allowed_by_rule_or_application() {
    let mut fixture = fixture();
    let rule = |path: &str, allow_encoded_slashes, requirement| Rule {
        allow_encoded_slashes,
        ..Rule::new(PathMatch::prefix(path).unwrap(), requirement)
    };
    fixture.authorizer.policy = Policy::new(vec![
        rule("/queues/private", false, Requirement::Subjects([ALICE.parse().unwrap()].into())),
        rule("/queues", true, Requirement::Public),
        rule("/static", false, Requirement::Public),
    ]);
    let reason = |fixture: &Fixture, target: &str| {
        fixture.authorizer.decide(&check(SHOP, target, Credential::Absent), NOW).reason()
    };
    for (target, by_rule, by_application) in [
        ("/queues/%2F/vhost", Reason::PublicPath, Reason::PublicPath),
        ("/queues/a%252Fb", Reason::PublicPath, Reason::PublicPath),
        ("/queues%2Fprivate", Reason::AmbiguousPath, Reason::NoSession),
        ("/queues/x%2f..%2fprivate", Reason::AmbiguousPath, Reason::AmbiguousPath),
        ("/queues/%2Fprivate", Reason::NoSession, Reason::NoSession),
        ("/queues/%5cprivate", Reason::NoSession, Reason::NoSession),
        ("/queues/%2570rivate", Reason::NoSession, Reason::NoSession),
        ("/static/@scope%2fname", Reason::AmbiguousPath, Reason::PublicPath),
        ("/_wechat%2Flogin", Reason::AmbiguousPath, Reason::AmbiguousPath),
        ("/_wechat/a%2Fb", Reason::AmbiguousPath, Reason::AmbiguousPath),
    ] {
        assert_eq!(reason(&fixture, target), by_rule, "{target} by rule");
        fixture.authorizer.apps.get_mut(SHOP).unwrap().allow_encoded_slashes = true;
        fixture.authorizer.limits = self::fixture().authorizer.limits;
        assert_eq!(reason(&fixture, target), by_application, "{target} by application");
        fixture.authorizer.apps.get_mut(SHOP).unwrap().allow_encoded_slashes = false;
    }
}

/// Paths from GitHub, npm, Amazon S3, GitLab, Wikipedia and others, in UTF-8 and other encodings.
#[test]
fn ordinary_paths_pass_and_others_do_not() {
    let mut fixture = fixture();
    let all = Rule::new(PathMatch::pattern("/**").unwrap(), Requirement::Public);
    fixture.authorizer.policy = Policy::new(vec![all]);
    for line in include_str!("../../../tests/paths/ordinary.txt").lines().filter(|line| !line.starts_with('#')) {
        let (mark, path) = line.split_once(' ').unwrap();
        for allow_encoded_slashes in [false, true] {
            fixture.authorizer.apps.get_mut(SHOP).unwrap().allow_encoded_slashes = allow_encoded_slashes;
            let decision = fixture.authorizer.decide(&check(SHOP, path, Credential::Absent), NOW);
            let passes = mark == "+" || mark == "s" && allow_encoded_slashes;
            let reason = if passes { Reason::PublicPath } else { Reason::AmbiguousPath };
            assert_eq!(decision.reason(), reason, "{path}");
        }
    }
}

#[test]
fn a_rule_for_any_host_lets_health_checks_in_and_names_nobody() {
    let mut fixture = fixture();
    let healthz = Rule {
        host: crate::policy::HostMatch::Any,
        ..Rule::new(PathMatch::pattern("/healthz").unwrap(), Requirement::Public)
    };
    fixture.authorizer.policy = Policy::new(vec![healthz]);
    let alice = Credential::Cookie(&fixture.alice.token);
    for (host, target, answer, reason) in [
        ("10.0.0.7:8080", "/healthz", "anonymous", Reason::PublicPath),
        ("", "/healthz?x", "anonymous", Reason::PublicPath),
        ("other.example.com", "/healthz", "anonymous", Reason::PublicPath),
        (SHOP, "/healthz", "anonymous", Reason::PublicPath),
        ("10.0.0.7", "/", "deny", Reason::UnknownHost),
        ("10.0.0.7", "/healthz%2f", "deny", Reason::UnknownHost),
        ("10.0.0.7", "/healthz/../", "deny", Reason::UnknownHost),
        ("10.0.0.7", "/_wechat/login", "deny", Reason::UnknownHost),
    ] {
        let decision = fixture.authorizer.decide(&check(host, target, alice), NOW);
        assert_eq!((word(&decision), decision.reason()), (answer, reason), "{host}{target}");
    }
}

#[test]
fn only_a_page_is_answered_in_band_and_only_if_switched_on() {
    let mut fixture = fixture();
    fixture.authorizer.pages_in_band = true;
    let alice = Credential::Cookie(&fixture.alice.token);
    for credential in [Credential::Absent, Credential::Conflict, alice] {
        for target in
            ["/_wechat", "/_wechat/", "/_wechat/callback?code=c&state=s", "/_wechat/logout", "/%5fwechat/login"]
        {
            for method in [Method::GET, Method::HEAD, Method::POST, Method::OPTIONS, Method::DELETE] {
                let page = CheckRequest { method: &method, ..check(SHOP, target, credential) };
                let decision = fixture.authorizer.decide(&page, NOW);
                assert_eq!((word(&decision), decision.reason()), ("page", Reason::PageInBand), "{method} {target}");
            }
        }
        for (host, target, reason) in [
            ("other.example.com", "/_wechat/login", Reason::UnknownHost),
            (SHOP, "/_wechat/../alice", Reason::AmbiguousPath),
            (SHOP, "/static/../_wechat/login", Reason::AmbiguousPath),
            (SHOP, "/_wechat/..%2falice", Reason::AmbiguousPath),
            (SHOP, "//_wechat/login", Reason::AmbiguousPath),
            (SHOP, "/_wechat;x/login", Reason::AmbiguousPath),
        ] {
            let decision = fixture.authorizer.decide(&check(host, target, credential), NOW);
            assert_eq!((word(&decision), decision.reason()), ("deny", reason), "{host}{target}");
        }
        let tunnel = CheckRequest { method: &Method::CONNECT, ..check(SHOP, "/_wechat/login", credential) };
        assert_eq!(fixture.authorizer.decide(&tunnel, NOW).reason(), Reason::ConnectDenied);
    }
    // Requests for other paths are decided as usual.
    for (target, decided) in
        [("/_wechatx", "login"), ("/MP_verify_AbCdEfGh12345678.txt", "login"), ("/static", "anonymous")]
    {
        let decision = fixture.authorizer.decide(&check(SHOP, target, Credential::Absent), NOW);
        assert_eq!(word(&decision), decided, "{target}");
    }
}

#[test]
fn connect_is_refused_even_where_all_is_public() {
    let fixture = fixture();
    let connect =
        CheckRequest { method: &Method::CONNECT, ..check(SHOP, "/static", Credential::Cookie(&fixture.alice.token)) };
    assert_eq!(fixture.authorizer.decide(&connect, NOW).reason(), Reason::ConnectDenied);
}

#[test]
fn a_session_of_one_application_is_nothing_in_another() {
    let fixture = fixture();
    let elsewhere = check("blog.example.com:8443", "/", Credential::Cookie(&fixture.alice.token));
    assert_eq!(fixture.authorizer.decide(&elsewhere, NOW).reason(), Reason::TokenForeign);
}

#[test]
fn the_login_address_is_ours_and_knows_the_way_back() {
    let fixture = fixture();
    for (wants, target, location) in [
        (
            ClientKind::Page,
            "/a?b=c&d=中",
            "https://shop.example.com/_wechat/login?return_to=%2Fa%3Fb%3Dc%26d%3D%E4%B8%AD",
        ),
        (ClientKind::Page, "/", "https://shop.example.com/_wechat/login?return_to=%2F"),
        (ClientKind::Form, "/order", "https://shop.example.com/_wechat/login?return_to=%2Forder"),
        (ClientKind::Data, "/api/me", "https://shop.example.com/_wechat/login"),
        (ClientKind::WebSocket, "/ws", "https://shop.example.com/_wechat/login"),
    ] {
        let asked = check_by(wants, "SHOP.EXAMPLE.COM", target, Credential::Absent);
        match fixture.authorizer.decide(&asked, NOW) {
            Decision::Login { location: to, .. } => assert_eq!(to, location),
            other => panic!("{other:?}"),
        }
    }
    let long = format!("/{}", "a".repeat(crate::origin::MAX_RETURN_BYTES));
    let fixture = self::fixture();
    let asked = check(SHOP, &long, Credential::Absent);
    assert!(matches!(fixture.authorizer.decide(&asked, NOW), Decision::Login { location, .. } if location.len() < 100));
}

#[test]
fn a_preflight_is_refused_where_a_session_is_required() {
    let fixture = fixture();
    for (target, reason) in
        [("/api", Reason::PreflightDenied), ("/static/a", Reason::PublicPath), ("/maybe", Reason::AnonymousAllowed)]
    {
        let preflight = check_by(ClientKind::Preflight, SHOP, target, Credential::Absent);
        assert_eq!(fixture.authorizer.decide(&preflight, NOW).reason(), reason, "{target}");
    }
}

#[test]
fn a_session_is_renewed_in_the_way_the_gateway_allows() {
    let late = NOW + Duration::from_secs(901);
    let nearly = NOW + Duration::from_secs(700);
    let mut fixture = fixture();
    let token = fixture.alice.token.clone();
    let cookie = Credential::Cookie(&token);
    for (now, renewed) in [(NOW, false), (nearly, true), (late, true)] {
        for wants in [ClientKind::Page, ClientKind::Data] {
            let decision = fixture.authorizer.decide(&check_by(wants, SHOP, "/", cookie), now);
            assert!(
                matches!(&decision, Decision::Allow { renewed: cookie, .. } if cookie.is_some() == renewed),
                "{decision:?}"
            );
        }
    }
    let bearer = fixture.authorizer.decide(&check(SHOP, "/", Credential::Bearer(&token)), late);
    assert!(matches!(bearer, Decision::Allow { renewed: None, .. }), "a bearer gets no cookie: {bearer:?}");

    fixture.authorizer.delivers_set_cookie = false;
    let ask = |wants, now| fixture.authorizer.decide(&check_by(wants, SHOP, "/a?b", cookie), now);
    assert_eq!(ask(ClientKind::Page, nearly).reason(), Reason::SessionValid, "no renewal before it is due");
    assert_eq!(ask(ClientKind::Data, late).reason(), Reason::SessionValid, "a data request is not redirected");
    match ask(ClientKind::Page, late) {
        Decision::Renew { location, .. } => {
            assert_eq!(location, "https://shop.example.com/_wechat/renew?return_to=%2Fa%3Fb");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(ask(ClientKind::Page, late).reason(), Reason::SessionValid, "one redirect, not a loop");
    assert_eq!(ask(ClientKind::Page, late + Duration::from_secs(60)).reason(), Reason::SessionNeedsRenewal);
}

#[test]
fn an_ended_session_asks_for_a_login_with_its_reason() {
    let fixture = fixture();
    let cookie = Credential::Cookie(&fixture.alice.token);
    let at = |now| fixture.authorizer.decide(&check(SHOP, "/", cookie), now).reason();
    assert_eq!(at(NOW + Duration::from_secs(86_401)), Reason::SessionIdle);
    assert_eq!(at(NOW + Duration::from_secs(7 * 86_400)), Reason::SessionExpired);
    let alice = fixture.authorizer.sessions.verify(
        &fixture.alice.token,
        &fixture.authorizer.apps[SHOP].session,
        NOW,
        || Ok(()),
    );
    let alice = alice.unwrap_or_else(|refusal| panic!("{refusal:?}"));
    fixture.authorizer.sessions.revocations.end(&alice.claims(), NOW);
    assert_eq!(at(NOW), Reason::SessionRevoked);
}

#[test]
fn each_wrong_token_is_denied_with_its_reason() {
    use Reason::*;
    let (fixture, stranger) = (fixture(), self::fixture());
    let alice = fixture.alice.token.as_str();
    let (signed, signature) = alice.rsplit_once('.').unwrap();
    let turned = if signature.starts_with('A') { "B" } else { "A" };
    let forged = format!("{signed}.{turned}{}", &signature[1..]);
    let past = NOW + Duration::from_secs(7 * 86_400);
    // Another instance, or this one after a restart, has no cached token.
    fixture.authorizer.sessions.settings_changed();
    for (token, now, reason) in [
        (stranger.alice.token.as_str(), NOW, TokenUnknownKey),
        (forged.as_str(), NOW, TokenForged),
        (forged.as_str(), NOW, TokenForged),
        (alice, past, SessionExpired),
        (alice, Timestamp(NOW.0 - 60), TokenMalformed),
    ] {
        let decision = fixture.authorizer.decide(&check(SHOP, "/", Credential::Cookie(token)), now);
        assert_eq!((word(&decision), decision.reason()), ("login", reason));
    }
    // Each unseen token needs a signature check, and an address has three of them.
    let answers = (10..14).map(|at| {
        let at = signed.len() + at;
        let turned = if forged[at..].starts_with('A') { "B" } else { "A" };
        let other = format!("{}{turned}{}", &forged[..at], &forged[at + 1..]);
        let elsewhere = CheckRequest { peer: [203, 0, 113, 10].into(), ..check(SHOP, "/", Credential::Bearer(&other)) };
        fixture.authorizer.decide(&elsewhere, NOW).reason()
    });
    assert_eq!(answers.collect::<Vec<_>>(), [TokenForged, TokenForged, TokenForged, TooManyNewTokens]);
}

#[test]
fn limits_stop_strangers_and_never_the_logged_in() {
    let fixture = fixture();
    let stranger = || fixture.authorizer.decide(&check(SHOP, "/", Credential::Absent), NOW);
    let alice = || fixture.authorizer.decide(&check(SHOP, "/", Credential::Cookie(&fixture.alice.token)), NOW);
    assert_eq!(word(&alice()), "known");
    (0..5).for_each(|_| assert_eq!(word(&stranger()), "login"));
    assert!(matches!(stranger(), Decision::Limited { reason: Reason::TooManyChecks, .. }));
    assert_eq!(word(&alice()), "known", "behind the same address");
}
