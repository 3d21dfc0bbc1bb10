//! For random policies and spellings of a path: no client reaches a resource through a modelled server without what
//! the resource's own path requires.

use http::{HeaderMap, Method};
use proptest::prelude::*;
use std::net::Ipv4Addr;
use wechat_authz::testing::cookie::Forwarded;
use wechat_authz::testing::decision::{Decision, Requirement};
use wechat_authz::testing::ext_authz::authorize::Authorizer;
use wechat_authz::testing::ext_authz::request::{CheckRequest, Credential};
use wechat_authz::testing::path::NormalPath;
use wechat_authz::testing::policy::{PathMatch, Policy, Rule};
use wechat_authz_fuzz::servers::{Name, Served, serve};
use wechat_authz_fuzz::world::{ALICE, NOW, world};

/// One spelling for each name, as an operator would write it.
const NAMES: [&str; 6] = ["a", "b", "Cd", "e.f", "admin", "users"];

const HOST: &str = "shop.example.com";

/// A rule, and its meaning without our code.
#[derive(Clone, Debug)]
struct Plain {
    segments: Vec<String>,
    requires: u8,
}

/// The requirements of a rule, by number: public, optional, a session, Alice, Bob.
const REQUIREMENTS: u8 = 5;

impl Plain {
    fn rule(&self) -> Rule {
        let list = |subject: &str| Requirement::Subjects([subject.parse().unwrap()].into());
        let requirement = match self.requires {
            0 => Requirement::Public,
            1 => Requirement::Optional,
            2 => Requirement::Required,
            3 => list(ALICE),
            _ => list("wx:wx0123456789abcdef:oBob"),
        };
        Rule::new(PathMatch::pattern(&format!("/{}", self.segments.join("/"))).unwrap(), requirement)
    }

    fn matches(&self, path: &[Vec<u8>]) -> bool {
        let mut rest = path;
        for (at, segment) in self.segments.iter().enumerate() {
            if segment == "**" {
                let suffix = self.segments.get(at + 1).map(|text| &text.as_bytes()[1..]);
                return suffix.is_none_or(|suffix| {
                    rest.last().is_some_and(|last| last.len() > suffix.len() && last.ends_with(suffix))
                });
            }
            let Some((first, others)) = rest.split_first() else { return false };
            let fits = match segment.strip_prefix('*') {
                Some(suffix) => first.len() > suffix.len() && first.ends_with(suffix.as_bytes()),
                None => first == segment.as_bytes(),
            };
            if !fits {
                return false;
            }
            rest = others;
        }
        rest.is_empty()
    }
}

fn first<'r>(rules: &'r [Plain], path: &[Vec<u8>]) -> Option<&'r Plain> {
    rules.iter().find(|rule| rule.matches(path))
}

fn decide(decider: &Authorizer, raw: &str, credential: Credential) -> Decision {
    let headers = HeaderMap::new();
    let check = CheckRequest {
        method: &Method::GET,
        host: HOST,
        path: NormalPath::parse(raw),
        target: raw,
        headers: &headers,
        peer: Ipv4Addr::LOCALHOST.into(),
        credential,
        has_session_bearer: false,
        forwarded_cookies: Forwarded::Untouched,
    };
    decider.decide(&check, NOW)
}

fn route() -> impl Strategy<Value = Vec<Name>> {
    let name = prop_oneof![
        4 => prop::sample::select(NAMES.to_vec()).prop_map(|name| Name::Literal(name.to_owned())),
        1 => Just(Name::Any),
    ];
    prop::collection::vec(name, 1..4)
}

fn rule() -> impl Strategy<Value = Plain> {
    let segment = prop_oneof![4 => prop::sample::select(NAMES.to_vec()), 1 => Just("*")];
    let end = prop::sample::select(vec![&[][..], &[], &["**"], &["**"], &["*.js"], &["**", "*.f"]]);
    (prop::collection::vec(segment, 0..4), end, 0..REQUIREMENTS)
        .prop_filter("a path", |(segments, end, _)| segments.len() + end.len() > 0)
        .prop_map(|(segments, end, requires)| {
            let segments = segments.into_iter().chain(end.iter().copied()).map(str::to_owned).collect();
            Plain { segments, requires }
        })
}

/// One other spelling of a path, at one place in it.
fn respelled(path: &str, way: u8, at: usize) -> String {
    let places: Vec<usize> = path.char_indices().map(|(at, _)| at).collect();
    let at = places[at % places.len()];
    let (before, from) = path.split_at(at);
    let letter = from.chars().next().unwrap();
    let after = &from[letter.len_utf8()..];
    let slash = path[at..].find('/').map_or(path.len(), |found| at + found);
    let (head, tail) = path.split_at(slash);
    let code = u32::from(letter);
    let behind = tail.strip_prefix('/');
    match way {
        0 => format!("{before}{}{after}", letter.to_ascii_uppercase()),
        1 => format!("{before}{}{after}", letter.to_ascii_lowercase()),
        2 if letter != '/' => format!("{before}%{code:02x}{after}"),
        3 if letter != '/' => format!("{before}%25{code:02X}{after}"),
        4 if letter != '/' => format!("{before}%{:x}%{:x}{after}", 0xc0 | code >> 6, 0x80 | code & 0x3f),
        5 if letter != '/' => format!("{before}%25{:x}%25{:x}{after}", 0xc0 | code >> 6, 0x80 | code & 0x3f),
        6 => format!("{head}/{tail}"),
        7 => format!("{head};v=1{tail}"),
        8 => format!("{path}/"),
        9 => format!("{path}.json"),
        10 => format!("{path}.x.gz"),
        11 => format!("{path}%3Fz"),
        12 => format!("{path}%23z"),
        13 => format!("{head}%20{tail}"),
        14 => format!("{head}.{tail}"),
        15 => format!("//h{path}"),
        16 => format!("/index.php{path}"),
        17 => format!("{head}/.{tail}"),
        18 => format!("{head}/x/..{tail}"),
        19 => behind.map_or_else(|| path.to_owned(), |behind| format!("{head}%2F{behind}")),
        20 => behind.map_or_else(|| path.to_owned(), |behind| format!("{head}%5c{behind}")),
        21 => behind.map_or_else(|| path.to_owned(), |behind| format!("{head}%252f{behind}")),
        22 => behind.map_or_else(|| path.to_owned(), |behind| format!("{head}%c0%af{behind}")),
        23 => behind.map_or_else(|| path.to_owned(), |behind| format!("{head}%e0%80%af{behind}")),
        24 => format!("/%2e{path}"),
        25 => format!("{head}%2f..%2fx{tail}"),
        _ => path.to_owned(),
    }
}

const WAYS: u8 = 27;

/// The wrong allows: the server, the resource and the client.
fn broken(decider: &Authorizer, rules: &[Plain], routes: &[Vec<Name>], raw: &str) -> Option<String> {
    let alice = Credential::Cookie(&world().good[0].token);
    let allows = |credential| matches!(decide(decider, raw, credential), Decision::Allow { .. });
    let (nobody, alice) = (allows(Credential::Absent), allows(alice));
    for Served { server, path, cut_from } in routes.iter().flat_map(|route| serve(raw.as_bytes(), route)) {
        let rule = first(rules, &path);
        // The path without an extension matters if a rule matches it.
        if cut_from.is_some_and(|from| rule.is_none_or(|rule| rule.matches(&from))) {
            continue;
        }
        let requires = rule.map_or(2, |rule| rule.requires);
        if (nobody && requires > 1) || (alice && requires == 4) {
            let path = String::from_utf8_lossy(&path.join(&b'/')).into_owned();
            return Some(format!("{server} serves /{path}, which requires {requires}, for {raw}"));
        }
    }
    None
}

fn decider(rules: &[Plain], allow_encoded_slashes: bool) -> Authorizer {
    let mut decider = world().decider(Policy::new(rules.iter().map(Plain::rule).collect()));
    decider.apps.values_mut().for_each(|site| site.allow_encoded_slashes = allow_encoded_slashes);
    decider
}

#[test]
fn each_server_serves_some_other_spelling() {
    let route = ["a", "Cd"].map(|name| Name::Literal(name.to_owned()));
    for (raw, server) in [
        ("/A/cd/", "express"),
        ("//h/a/Cd", "node"),
        ("/a//%43d", "nginx"),
        ("/%61%2FCd", "flask"),
        ("/a/Cd.json", "rails"),
        ("/a;v=1/Cd.x.y/", "spring"),
        ("/x/..;/a/Cd", "tomcat"),
        ("/A./cd%20", "iis"),
        ("/a%255CCD", "iis"),
        ("/index.php/a/Cd%3Fx", "php"),
        ("/a%c0%afCd", "lenient"),
        ("/a%25c0%25afCd", "lenient"),
    ] {
        let served = serve(raw.as_bytes(), &route);
        assert!(served.iter().any(|served| served.server == server), "{raw} {server}: {served:?}");
    }
}

/// The oracle finds the wrong allows of a policy that reads each path in one way only.
#[test]
fn the_models_tell_a_policy_that_reads_exactly() {
    let rules = [
        Plain { segments: vec!["a".into(), "*".into(), "b".into()], requires: 3 },
        Plain { segments: vec!["**".into()], requires: 0 },
    ];
    let open = decider(&rules[1..], false);
    let route = vec![Name::Literal("a".into()), Name::Any, Name::Literal("b".into())];
    for raw in ["/a/7/b", "/a/7/b/", "/A/7/B", "/a/7/b.json", "/a;x/7/b", "/a/7//b", "/index.php/a/7/b"] {
        assert!(broken(&open, &rules, std::slice::from_ref(&route), raw).is_some(), "{raw}");
        assert_eq!(broken(&decider(&rules, false), &rules, std::slice::from_ref(&route), raw), None);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    #[test]
    fn no_spelling_reaches_what_requires_more(
        rules in prop::collection::vec(rule(), 0..8),
        routes in prop::collection::vec(route(), 1..6),
        variables in prop::sample::select(vec!["7", "a", "B", "x.js"]),
        ways in prop::collection::vec(prop::collection::vec((0..WAYS, any::<usize>()), 0..5), 1..12),
        allow_encoded_slashes: bool,
    ) {
        let decider = decider(&rules, allow_encoded_slashes);
        for (number, ways) in ways.iter().enumerate() {
            let names = routes[number % routes.len()].iter().map(|name| match name {
                Name::Literal(text) => text.as_str(),
                Name::Any => variables,
            });
            let path: String = names.map(|name| format!("/{name}")).collect();
            let raw = ways.iter().fold(path, |path, (way, at)| respelled(&path, *way, *at));
            prop_assert_eq!(broken(&decider, &rules, &routes, &raw), None);
        }
    }
}
