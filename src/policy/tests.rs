use super::*;
use crate::subject::Subject;
use Requirement::{Optional, Public, Required};
use proptest::prelude::*;

const NETWORK_CLIENT: [u8; 4] = [10, 1, 2, 3];

fn rule(host: Option<&str>, path: PathMatch, methods: Option<&[Method]>, requirement: Requirement) -> Rule {
    let host = host.map_or(HostMatch::Applications, |host| HostMatch::One(host.to_owned()));
    Rule { host, methods: methods.map(<[Method]>::to_vec), ..Rule::new(path, requirement) }
}

fn client() -> Option<std::net::IpAddr> {
    Some([203, 0, 113, 9].into())
}

fn asks(policy: &Policy, method: Method, host: &str, path: &str) -> Requirement {
    policy.requirement(host, &NormalPath::parse(path).unwrap(), &method, client()).unwrap().into_owned()
}

fn only(name: &str) -> Requirement {
    list_of(&[name])
}

fn list_of(names: &[&str]) -> Requirement {
    Requirement::Subjects(names.iter().map(|name| Subject::from_unionid(name).unwrap()).collect())
}

/// Rules, one per line: `pattern = requirement`.
fn rules(lines: &[&str]) -> Vec<Rule> {
    let rule = |line: &&str| {
        let (path, requirement) = line.split_once(" = ").unwrap();
        let path = match path.strip_prefix("under ") {
            Some(prefix) => PathMatch::prefix(prefix),
            None => PathMatch::pattern(path),
        };
        let requirement = match requirement {
            "public" => Public,
            "optional" => Optional,
            "required" => Required,
            list => list_of(&list.split(',').collect::<Vec<_>>()),
        };
        Rule::new(path.unwrap(), requirement)
    };
    lines.iter().map(rule).collect()
}

#[test]
fn without_a_rule_a_session_is_required() {
    assert_eq!(asks(&Policy::default(), Method::GET, "shop.example.com", "/"), Required);
}

#[test]
fn the_first_rule_that_matches_decides() {
    let policy = Policy::new(vec![
        rule(None, PathMatch::prefix("/static/private").unwrap(), None, Required),
        rule(Some("shop.example.com"), PathMatch::prefix("/static/").unwrap(), Some(&[Method::GET]), Public),
        rule(None, PathMatch::pattern("/users/*/avatar").unwrap(), None, Optional),
        rule(None, PathMatch::pattern("/open/**").unwrap(), Some(&[Method::OPTIONS]), Public),
    ]);
    for (method, host, path, requirement) in [
        (Method::GET, "shop.example.com", "/static/a.css", Public),
        (Method::HEAD, "shop.example.com", "/static", Public),
        (Method::POST, "shop.example.com", "/static/a.css", Required),
        (Method::GET, "blog.example.com", "/static/a.css", Required),
        (Method::GET, "shop.example.com", "/static/private/a", Required),
        (Method::GET, "shop.example.com", "/staticx", Required),
        (Method::GET, "shop.example.com", "/%73tatic/a.css", Public),
        (Method::GET, "blog.example.com", "/users/7/avatar", Optional),
        (Method::GET, "blog.example.com", "/users/7/avatar/x", Required),
        (Method::GET, "blog.example.com", "/users/avatar", Required),
        (Method::OPTIONS, "blog.example.com", "/open/a/b", Public),
        (Method::OPTIONS, "blog.example.com", "/open", Public),
        (Method::OPTIONS, "blog.example.com", "/opened", Required),
    ] {
        assert_eq!(asks(&policy, method.clone(), host, path), requirement, "{method} {host}{path}");
    }
}

#[test]
fn a_rule_for_all_paths_is_about_every_path() {
    let policy = Policy::new(vec![rule(None, PathMatch::prefix("/").unwrap(), Some(&[Method::GET]), Public)]);
    for (method, requirement) in [(Method::GET, Public), (Method::POST, Required)] {
        for path in ["/", "/a/b", "/%E4%B8%AD"] {
            assert_eq!(asks(&policy, method.clone(), "shop.example.com", path), requirement, "{method} {path}");
        }
    }
}

#[test]
fn a_rule_that_means_more_than_it_says_is_refused() {
    use PatternError::*;
    for (bad, error) in [
        ("", NotAbsolute),
        ("static", NotAbsolute),
        ("https://shop.example.com/static", NotAbsolute),
        ("^/admin", NotAbsolute),
        ("~ /admin", NotAbsolute),
        ("/a?b=c", Query),
        ("/a#b", Query),
        ("/admin/?", Query),
        ("/%61", Encoded),
        ("/a%2Fb", Encoded),
        ("/a/../b", NotNormal),
        ("/a/./b", NotNormal),
        ("//a", NotNormal),
        ("/a//b", NotNormal),
        ("/a;b", NotNormal),
        ("/a\n", NotNormal),
        ("/a./b", NotNormal),
        ("/a ", NotNormal),
        ("/api/{id}", NotLiteral),
        ("/api/{id:[0-9]+}", NotLiteral),
        ("/api/:id", NotLiteral),
        ("/:tenant/api", NotLiteral),
        ("/api/<id>", NotLiteral),
        ("/api/<int:id>", NotLiteral),
        ("/api/[id]", NotLiteral),
        ("/api/[0-9]+", NotLiteral),
        ("/api/(a|b)", NotLiteral),
        ("/api/.+", NotLiteral),
        ("/admin$", NotLiteral),
        ("/api/\\d+", NotLiteral),
    ] {
        assert_eq!(PathMatch::prefix(bad), Err(error), "{bad}");
        assert_eq!(PathMatch::pattern(bad), Err(error), "{bad}");
    }
    for bad in ["/admin/*", "/admin/**", "/*", "/a*", "/*/a"] {
        assert_eq!(PathMatch::prefix(bad), Err(StarInPrefix), "{bad}");
    }
    for bad in ["/a*/b", "/a*", "/*a", "/*.js/b", "/*.*", "/***", "/.*", "/api/(.*)"] {
        assert_eq!(PathMatch::pattern(bad), Err(PartialStar), "{bad}");
    }
    for bad in ["/**/b", "/**/", "/**/*", "/**/**"] {
        assert_eq!(PathMatch::pattern(bad), Err(RestNotLast), "{bad}");
    }
    assert_eq!(PathMatch::prefix("/"), Ok(PathMatch::Any));
    for good in ["/v1/a:search", "/wiki/Foo_(bar)", "/a+b", "/odata/$metadata", "/.well-known", "/@me", "/a b", "/中文"]
    {
        assert!(PathMatch::prefix(good).is_ok() && PathMatch::pattern(good).is_ok(), "{good}");
    }
}

/// Other spellings of a path: each has the requirement of the path that a server reads it as.
#[test]
fn another_spelling_meets_the_same_requirement() {
    let policy = Policy::new(rules(&[
        "/reports/*/secret = alice",
        "under /api/private = alice",
        "under /Admin = alice",
        "/exact/ = alice",
        "/export/*.csv = alice",
        "/files/**/*.key = alice",
        "/favicon.ico = public",
        "under / = public",
    ]));
    for path in [
        "/reports/7/secret",
        "/reports/7/secret/",
        "/reports/7/secret//",
        "/reports/7//secret",
        "/reports/7/SECRET",
        "/reports/7/\u{17f}ecret",
        "/REPORTS/7/Secret/",
        "/reports/7/secret.json",
        "/reports/7/secret.tar.gz",
        "/reports/7/secret.",
        "/reports/7/secret.json/",
        "/reports/7/SECRET.JSON",
        "/reports/7/secret;v=1",
        "/reports;v=1/7/secret",
        "/reports/7/secret%3Fx",
        "/reports/7/secret%23x",
        "/reports/7/secret%20",
        "/reports/7/secr%c1%a5t",
        "/reports/7%c0%afsecret",
        "/reports/7%2Fsecret",
        "/reports/7%5Csecret",
        "/reports/7/%2573ecret",
        "/reports/7/%252573ecret",
        "/reports/7/sec%25c1%25b2et",
        "//reports/7/secret",
        "//evil.example/reports/7/secret",
        "/index.php/reports/7/secret",
        "/index.php/reports/7/secret.json",
        "/index.php/exact.json/",
        "/INDEX.PHP/Exact.JSON",
        "/index.php/exact",
        "/exact.json",
        "/api/PRIVATE/x",
        "/api/private",
        "/api/private.xml",
        "/api/private./x",
        "/api//private/x",
        "/;x/api/private",
        "/admin",
        "/ADMIN/users",
        "/Admin",
        "/exact",
        "/exact/",
        "/export/a.csv",
        "/export/a.CSV",
        "/export/a.csv.gz",
        "/export/a.csv/",
        "/files/x.key",
        "/files/a/b/x.KEY",
        "/files/a/b/x.key.json",
    ] {
        assert_eq!(asks(&policy, Method::GET, "shop.example.com", path), only("alice"), "{path}");
    }
    for path in
        ["/favicon.ico", "/reports/7/secrets", "/api/privateer", "/a//b", "/a%3Fb", "/中文", "/%C0%B4", "/x.csv"]
    {
        assert_eq!(asks(&policy, Method::GET, "shop.example.com", path), Public, "{path}");
    }
}

#[test]
fn the_stricter_of_two_readings_counts_whatever_the_order() {
    for (lines, path, requirement) in [
        (&["/a = public", "/A = alice"][..], "/A", only("alice")),
        (&["/a = public", "/A = alice"], "/a", only("alice")),
        (&["/a = alice,bob", "/A = bob,carol"], "/a", only("bob")),
        (&["/a/ = public", "/a = required"], "/a/", Required),
        (&["/a/ = public"], "/a/", Required),
        (&["/a/ = public", "/a = public"], "/a/", Public),
        (&["/a/ = public", "/a = public"], "/a", Public),
        (&["/open/admin = public", "/*/admin = alice", "under / = public"], "/OPEN/ADMIN", only("alice")),
        (&["/open/admin = public", "/*/admin = alice"], "/open/admin", Public),
        (&["/favicon.ico = public"], "/favicon.ico", Public),
        (&["/favicon.ico = public", "/favicon = alice"], "/favicon.ico", only("alice")),
        (&["/*.js = public", "/admin = alice"], "/admin.js", only("alice")),
        (&["/*.js = public"], "/app.js", Public),
        (&["/*.js = public"], "/app.min.js", Public),
        (&["/*.js = public"], "/app.js.map", Required),
        (&["/*.js = public"], "/.js", Required),
        (&["/*.js = public"], "/a/app.js", Required),
        (&["/**/*.js = public"], "/a/b/app.js", Public),
        (&["/Content/** = public"], "/Content/site.css", Public),
        (&["/Content/** = public"], "/content/site.css", Required),
        (&["under /index.php = public"], "/index.php/Main_Page", Public),
    ] {
        let policy = Policy::new(rules(lines));
        assert_eq!(asks(&policy, Method::GET, "shop.example.com", path), requirement, "{lines:?} {path}");
    }
}

#[test]
fn a_rule_about_networks_is_for_clients_in_them() {
    let office = Rule {
        clients: Some(vec!["10.0.0.0/8".parse::<Network>().unwrap().0, "2001:db8::/32".parse::<Network>().unwrap().0]),
        ..Rule::new(PathMatch::prefix("/intranet").unwrap(), Public)
    };
    let policy = Policy::new(vec![office]);
    let path = NormalPath::parse("/intranet/a").unwrap();
    let asks = |client: &str| {
        let client = Some(client.parse().unwrap());
        policy.requirement("shop.example.com", &path, &Method::GET, client).unwrap().into_owned()
    };
    for (client, requirement) in [
        ("10.1.2.3", Public),
        ("::ffff:10.1.2.3", Public),
        ("2001:db8::1", Public),
        ("11.1.2.3", Required),
        ("2001:db9::1", Required),
    ] {
        assert_eq!(asks(client), requirement, "{client}");
    }
    assert!("::ffff:10.1.2.3".parse::<Network>().unwrap().0.contains(&std::net::IpAddr::from(NETWORK_CLIENT)));
}

#[test]
fn an_unnamed_client_meets_the_strictest_of_what_may_match() {
    let from = |network: &str, requirement| Rule {
        clients: Some(vec![network.parse::<Network>().unwrap().0]),
        ..Rule::new(PathMatch::prefix("/a").unwrap(), requirement)
    };
    let plain = |requirement| Rule::new(PathMatch::prefix("/a").unwrap(), requirement);
    let alice = || only("alice");
    let path = NormalPath::parse("/a/b").unwrap();
    let source: crate::client_address::ClientAddress = "x-forwarded-for:1".parse().unwrap();
    // The gateway's own address is in the network of every rule.
    let gateway = std::net::IpAddr::from([10, 0, 0, 1]);
    for (rules, unnamed, named) in [
        (vec![from("10.0.0.0/8", Public)], Required, Public),
        (vec![from("10.0.0.0/8", Public), plain(Optional)], Optional, Public),
        (vec![from("10.0.0.0/8", Public), from("10.2.0.0/16", alice()), plain(Optional)], alice(), Public),
        (vec![from("10.2.0.0/16", alice()), plain(Public)], alice(), Public),
        (vec![plain(Public), from("10.0.0.0/8", alice())], Public, Public),
        (vec![from("10.0.0.0/8", Public), plain(Public)], Public, Public),
    ] {
        let policy = Policy::new(rules);
        for (lines, expected) in [
            (&[][..], &unnamed),
            (&["10.1.1.1:80"], &unnamed),
            (&["unknown"], &unnamed),
            (&["10.1.1.1, "], &unnamed),
            (&["198.51.100.7, 10.1.1.1"], &named),
        ] {
            let headers =
                lines.iter().map(|line| (http::HeaderName::from_static("x-forwarded-for"), line.parse().unwrap()));
            let headers: http::HeaderMap = headers.collect();
            let client = source.named_address(&headers, gateway);
            let asked = policy.requirement("shop.example.com", &path, &Method::GET, client).unwrap();
            assert_eq!(&*asked, expected, "{lines:?}");
        }
    }
    let health = Rule { host: HostMatch::Any, ..from("10.0.0.0/8", Public) };
    let policy = Policy::new(vec![health]);
    let readings = path.readings().unwrap();
    assert!(!policy.is_public_at_any_host(&readings, &Method::GET, None));
    assert!(policy.is_public_at_any_host(&readings, &Method::GET, Some(gateway)));
}

#[test]
fn an_unknown_host_opens_nothing_that_an_application_restricts() {
    let at_shop = |path: &str, requirement| Rule {
        host: HostMatch::One("shop.example.com".to_owned()),
        ..Rule::new(PathMatch::prefix(path).unwrap(), requirement)
    };
    let anywhere = |path: &str| Rule { host: HostMatch::Any, ..Rule::new(PathMatch::prefix(path).unwrap(), Public) };
    let policy = Policy::new(vec![
        at_shop("/health/admin", only("alice")),
        at_shop("/health/me", Optional),
        at_shop("/health/open", Public),
        anywhere("/health"),
        at_shop("/health/late", Required),
    ]);
    for (path, is_public) in [
        ("/health", true),
        ("/health/x", true),
        ("/health/open", true),
        ("/health/late", true),
        ("/health/me", false),
        ("/health/admin", false),
        ("/health/ADMIN", false),
        ("/health/admin/x/", false),
        ("/health//admin", false),
        ("/health/admin;a", false),
    ] {
        let path = NormalPath::parse(path).unwrap();
        let readings = path.readings().unwrap();
        assert_eq!(policy.is_public_at_any_host(&readings, &Method::GET, client()), is_public, "{path:?}");
    }
}

#[test]
fn a_rule_for_any_host_opens_its_path_and_no_reading_of_another() {
    let health = Rule { host: HostMatch::Any, ..Rule::new(PathMatch::pattern("/healthz").unwrap(), Public) };
    let policy = Policy::new([rules(&["/private = alice", "/open/** = public"]), vec![health]].concat());
    for (path, is_public) in [
        ("/healthz", true),
        ("/healthz/", false),
        ("/HEALTHZ", false),
        ("/healthz;x", false),
        ("/open/a", false),
        ("/private", false),
        ("/", false),
    ] {
        let path = NormalPath::parse(path).unwrap();
        let readings = path.readings().unwrap();
        assert_eq!(policy.is_public_at_any_host(&readings, &Method::GET, client()), is_public, "{path:?}");
    }
}

#[test]
fn rules_that_do_not_do_what_they_seem_to_are_named() {
    for (lines, warnings) in [
        (&["under /a = public", "/a/*/b = alice"][..], &[(1, Warning::Shadowed { by: 0 })][..]),
        (&["/a/*/b = alice", "under /a = public"], &[]),
        (&["/*.js = public", "/app.js = alice"], &[(1, Warning::Shadowed { by: 0 })]),
        (&["/**/*.js = public", "/a/*.min.js = alice"], &[(1, Warning::Shadowed { by: 0 })]),
        (&["/a = public", "/A = alice"], &[(1, Warning::Respelled { of: 0 })]),
        (&["/a = public", "/A = public"], &[]),
        (&["/a = alice", "/a/ = public"], &[(1, Warning::Respelled { of: 0 })]),
        (&["/a/ = public"], &[(0, Warning::LastSlash)]),
        (&["/a/ = public", "/a = public"], &[]),
        (&["/ = public"], &[]),
        (&["/a/ = alice"], &[]),
    ] {
        assert_eq!(Policy::new(rules(lines)).warnings(), warnings, "{lines:?}");
    }
    let tunnel = rule(None, PathMatch::Any, Some(&[Method::CONNECT]), Public);
    assert_eq!(Policy::new(vec![tunnel]).warnings(), [(0, Warning::OnlyConnect)]);
    let get = rule(None, PathMatch::Any, Some(&[Method::GET]), Public);
    let head = rule(Some("shop.example.com"), PathMatch::Any, Some(&[Method::HEAD]), Public);
    assert_eq!(Policy::new(vec![get, head]).warnings(), [(1, Warning::Shadowed { by: 0 })]);
}

#[test]
fn a_policy_of_many_spellings_is_still_bounded() {
    let spellings = ["a", "A"];
    let lines: Vec<String> = (0..256_usize)
        .map(|number| {
            let names: String = (0..8).map(|bit| format!("/{}", spellings[number >> bit & 1])).collect();
            format!("{names}/* = public")
        })
        .collect();
    let policy = Policy::new(rules(&lines.iter().map(String::as_str).collect::<Vec<_>>()));
    let path = NormalPath::parse("/a/a/a/a/a/a/a/a/x").unwrap();
    let asked = policy.requirement("shop.example.com", &path, &Method::GET, client());
    assert_eq!(asked.unwrap_err(), PathError::TooManyReadings);
}

fn is_from_client(networks: &[IpNet]) -> bool {
    networks.iter().any(|network| network.contains(&client().unwrap()))
}

/// The first matching rule, found without the tree.
fn plainly<'p>(policy: &'p Policy, host: &str, path: &[u8], method: &Method) -> Option<&'p Rule> {
    let matches = |rule: &&Rule| {
        let is_at_host = match &rule.host {
            HostMatch::One(wanted) => wanted == host,
            HostMatch::Applications | HostMatch::Any => true,
        };
        is_at_host && rule.applies_to(method, is_from_client) && rule.path.matches(path)
    };
    policy.rules.iter().find(matches)
}

/// Paths of few words, so that rules and requests often match; `pattern` adds wildcards.
fn some_path(pattern: bool) -> impl Strategy<Value = String> {
    let word = if pattern { "a|b|ab|\\*" } else { "a|b|ab|c" };
    let end = if pattern { "|/|/\\*\\*" } else { "|/" };
    (prop::collection::vec(word, 0..4), end).prop_map(|(words, end)| {
        let path: String = words.iter().map(|word| format!("/{word}")).collect();
        if path.is_empty() && end.is_empty() { "/".into() } else { path + &end }
    })
}

fn some_rule() -> impl Strategy<Value = Rule> {
    let host = prop::sample::select(vec![
        HostMatch::Applications,
        HostMatch::Any,
        HostMatch::One("x".to_owned()),
        HostMatch::One("y".to_owned()),
    ]);
    let path = prop_oneof![
        some_path(false).prop_map(|path| PathMatch::prefix(&path).unwrap()),
        some_path(true).prop_map(|path| PathMatch::pattern(&path).unwrap()),
        prop::sample::select(vec!["/*.a", "/a/*.a", "/**/*.a", "/a/**/*.a.b"])
            .prop_map(|path| PathMatch::pattern(path).unwrap()),
    ];
    let methods = prop::option::of(prop::collection::vec(prop::sample::select(vec![Method::GET, Method::POST]), 1..3));
    let clients = prop::option::of(prop::sample::select(vec!["203.0.113.0/24", "10.0.0.0/8", "0.0.0.0/0"]))
        .prop_map(|text| text.map(|text| vec![text.parse::<Network>().unwrap().0]));
    (host, path, methods, clients).prop_map(|(host, path, methods, clients)| Rule {
        host,
        methods,
        clients,
        ..Rule::new(path, Required)
    })
}

fn some_request() -> impl Strategy<Value = (String, String, Method)> {
    let methods = prop::sample::select(vec![Method::GET, Method::HEAD, Method::POST, Method::PUT]);
    ("x|y|z", prop_oneof![some_path(false), "(/a|/b){0,2}/(a|b|c.a|c.a.b|.a)"], methods)
}

proptest! {
    #[test]
    fn arranged_rules_answer_as_the_first_that_matches(
        rules in prop::collection::vec(some_rule(), 0..40), requests in prop::collection::vec(some_request(), 1..20),
    ) {
        let policy = Policy::new(rules);
        let number = |rule: Option<&Rule>| policy.rules.iter().position(|other| rule.is_some_and(|rule| std::ptr::eq(rule, other)));
        for (host, path, method) in requests {
            let allows = policy.allows(&method, client(), None);
            let arranged = policy.exact(policy.hosts.get(&host), path.as_bytes(), &allows);
            prop_assert_eq!(number(arranged), number(plainly(&policy, &host, path.as_bytes(), &method)), "{}", path);
        }
    }

    /// The result of the walk over all spellings, for a path with only one spelling.
    #[test]
    fn the_walk_of_spellings_finds_what_the_tree_finds(
        rules in prop::collection::vec(some_rule(), 0..20), requests in prop::collection::vec(some_request(), 1..20),
    ) {
        let policy = Policy::new(rules);
        for (host, path, method) in requests {
            let allows = policy.allows(&method, client(), None);
            let at_host = policy.hosts.get(&host);
            let roots: Vec<&Node> = [&policy.any_host].into_iter().chain(at_host).collect();
            let mut walk = Walk::new(&policy.names, &allows, path.as_bytes());
            prop_assert!(walk.from(&roots, Vec::new(), 0, NONE).is_ok());
            let exact = policy.exact(at_host, path.as_bytes(), &allows);
            let found: Vec<_> = walk.found.iter().map(|number| policy.rules.get(*number)).collect();
            prop_assert_eq!(found.len(), 1);
            prop_assert!(std::ptr::eq(found[0].map_or(std::ptr::null(), std::ptr::from_ref), exact.map_or(std::ptr::null(), std::ptr::from_ref)));
        }
    }

    #[test]
    fn a_rule_named_as_shadowed_never_decides(
        rules in prop::collection::vec(some_rule(), 1..20), requests in prop::collection::vec(some_request(), 1..40),
    ) {
        let policy = Policy::new(rules);
        let shadowed: Vec<usize> = policy.warnings().into_iter()
            .filter(|(_, warning)| matches!(warning, Warning::Shadowed { .. }))
            .map(|(number, _)| number).collect();
        for (host, path, method) in requests {
            let decides = plainly(&policy, &host, path.as_bytes(), &method);
            for number in &shadowed {
                prop_assert!(!decides.is_some_and(|rule| std::ptr::eq(rule, &policy.rules[*number])), "{}", path);
            }
        }
    }
}
