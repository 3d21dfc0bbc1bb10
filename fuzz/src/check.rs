//! The check: a gateway's request through parsing, decision and answer (docs/en/threat-model.md, Access without a
//! session).
//!
//! An input is the head of a request: `METHOD TARGET`, then one `name: value` per line; names in braces stand for
//! tokens ([`crate::template`]).

use crate::template::expand;
use crate::world::{ALICE, NICKNAME, NOW, PREFIX, World, world};
use crate::{contains, cookies, servers};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use std::net::{IpAddr, Ipv4Addr};
use wechat_authz::testing::cookie;
use wechat_authz::testing::ext_authz::answer::IDENTITY;
use wechat_authz::testing::ext_authz::authorize::Authorizer;
use wechat_authz::testing::ext_authz::{self, CheckOutcome, envoy};
use wechat_authz::testing::response::Response;
use wechat_authz::testing::telemetry::Traces;

const PEER: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const REMOVE: &str = "x-envoy-auth-headers-to-remove";

/// A request passes only with an unchanged token that is valid at this host, or if all readings of the path are open.
/// Only the token sets the identity of an allowed request. A denied request gets one of four statuses and a redirect
/// to our pages at most.
pub fn holds(data: &[u8]) {
    let world = world();
    let Some(request) = request(&expand(data, |name| world.value(name))) else { return };
    let answer = |decider: &Authorizer| ext_authz::check(&request, PEER, decider, &world.metrics, &Traces::off(), NOW);
    for (decider, mixed) in [(&world.strict, false), (&world.mixed, true)] {
        let answer = match answer(decider) {
            CheckOutcome::Response(answer) => answer,
            CheckOutcome::Page => {
                assert!(mixed, "a page at a listener without pages");
                is_a_page(world, &request);
                continue;
            }
        };
        match answer.status().as_u16() {
            200 => passes(world, &request, &answer, mixed),
            302 | 401 | 403 | 429 => denied(world, &answer),
            other => panic!("{other} is not a status of a check"),
        }
        for framing in ["content-length", "transfer-encoding", "connection", "upgrade", "te", "trailer", "host"] {
            assert!(!answer.headers().contains_key(framing), "an answer with {framing}");
        }
    }
}

/// Parses the head of a request.
#[must_use]
pub fn request(text: &[u8]) -> Option<Parts> {
    let mut lines = text.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let (method, target) = split(lines.next()?, b' ')?;
    let mut request = http::Request::builder().method(method).uri(target);
    for line in lines.filter(|line| !line.is_empty()) {
        let (name, value) = split(line, b':')?;
        let value = HeaderValue::from_bytes(value.trim_ascii()).ok()?;
        request = request.header(HeaderName::from_bytes(name).ok()?, value);
    }
    Some(request.body(()).ok()?.into_parts().0)
}

fn split(line: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let at = line.iter().position(|byte| *byte == at)?;
    Some((&line[..at], &line[at + 1..]))
}

/// A page request has one of our hosts, a path below our prefix after one decoding, and is not a tunnel.
fn is_a_page(world: &World, request: &Parts) {
    let path = servers::decoded(request.uri.path().as_bytes());
    let rest = path.strip_prefix(PREFIX.as_bytes()).expect("a page below the prefix");
    assert!(rest.is_empty() || rest[0] == b'/', "a page beside the prefix: {:?}", request.uri.path());
    assert!(!rest.split(|byte| *byte == b'/').any(|segment| matches!(segment, b"." | b"..")), "dot segments in a page");
    let host = envoy::host(request).to_ascii_lowercase();
    assert!(world.apps.iter().any(|app| host == app.origin.authority()), "a page at another host: {host}");
    assert!(request.method != http::Method::CONNECT, "a CONNECT request must not get a page");
    assert!(!request.method.as_str().bytes().any(|byte| byte.is_ascii_lowercase()), "a method in lower case");
}

fn passes(world: &World, request: &Parts, answer: &Response, mixed: bool) {
    let value = |name: &HeaderName| {
        let values: Vec<_> = answer.headers().get_all(name).iter().collect();
        assert_eq!(values.len(), 1, "an allow has {name} exactly once");
        values[0].to_str().unwrap()
    };
    let [subject, openid, unionid, appid, flow, session, nickname, avatar] = IDENTITY.each_ref().map(value);
    if subject.is_empty() {
        assert!(mixed, "allowed without a session where one is required");
        assert_eq!([openid, unionid, appid, flow, session, nickname, avatar], [""; 7], "headers without subject");
        assert!(is_open(request.uri.path()), "allowed without a session at {:?}", request.uri.path());
    } else {
        let good = world.good.iter().find(|good| good.sid == session).expect("a live session");
        assert_eq!(
            (subject, openid, unionid, appid, flow),
            (ALICE, "oAlice", "", "wx0123456789abcdef", "official_account")
        );
        assert_eq!((nickname, avatar), ("%E5%B0%8F%20%E6%98%8E", "https://wx.qlogo.cn/mmopen/0"), "{NICKNAME}");
        let shown = [header::COOKIE, header::AUTHORIZATION];
        let shown = shown.iter().flat_map(|name| request.headers.get_all(name));
        assert!(shown.into_iter().any(|value| contains(value.as_bytes(), &good.token)), "a session not presented");
        let host = envoy::host(request).to_ascii_lowercase();
        assert!(host == good.authority, "a session of another host: {host}");
    }
    assert!(!answer.headers().contains_key(header::LOCATION));
    if let Some(renewed) = answer.headers().get(header::SET_COOKIE) {
        assert!(!mixed && !subject.is_empty(), "a session without a subject, or in a lost cookie");
        assert!(renewed.to_str().unwrap().starts_with("__Host-wechat_session="));
        assert_eq!(answer.headers()[header::CACHE_CONTROL], "no-store");
    }
    hides_the_session(world, &behind(request, answer.headers()));
}

/// The cookies and credentials that the application receives after the gateway has applied the answer.
fn behind(request: &Parts, answer: &HeaderMap) -> HeaderMap {
    let removed = answer.get(REMOVE).map_or("", |names| names.to_str().unwrap());
    let mut seen = HeaderMap::new();
    for name in [header::COOKIE, header::AUTHORIZATION] {
        if removed.split(", ").any(|removed| removed == name) {
            assert!(!answer.contains_key(&name), "{name} both set and removed");
        } else if let Some(value) = answer.get(&name) {
            seen.append(&name, value.clone());
        } else {
            request.headers.get_all(&name).iter().for_each(|value| {
                seen.append(&name, value.clone());
            });
        }
    }
    seen
}

fn hides_the_session(world: &World, seen: &HeaderMap) {
    for separators in [cookie::Separators::Semicolon, cookie::Separators::SemicolonAndComma] {
        assert_eq!(cookie::find_among(seen, cookie::SESSION, separators), cookie::Found::None);
    }
    assert!(!cookies::pieces(seen).iter().any(|piece| cookies::is_ours(piece)), "our cookie passed on: {seen:?}");
    for value in seen.get_all(header::AUTHORIZATION) {
        let value = value.as_bytes().trim_ascii();
        let ours = |good: &crate::world::Good| {
            let bearer = value.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"bearer "));
            bearer && value[7..].trim_ascii() == good.token.as_bytes()
        };
        // We ignore two such lines; an application that accepts either of them is outside our control.
        let alone = seen.get_all(header::AUTHORIZATION).iter().count() == 1;
        assert!(!alone || !world.good.iter().any(ours), "a session token passed on");
    }
}

fn denied(world: &World, answer: &Response) {
    let headers = answer.headers();
    assert!(!headers.keys().any(|name| name.as_str().starts_with("x-wechat-")), "a denial with identity headers");
    assert!(!headers.contains_key(header::SET_COOKIE) && !headers.contains_key(REMOVE));
    assert_eq!(headers[header::CACHE_CONTROL], "no-store");
    assert_eq!(headers.contains_key(header::LOCATION), answer.status() == 302);
    if let Some(location) = headers.get(header::LOCATION) {
        let location = url::Url::parse(location.to_str().unwrap()).unwrap();
        let origin = location.origin().ascii_serialization();
        assert!(world.apps.iter().any(|app| app.origin.as_str() == origin), "redirected to {origin}");
        let page = location.path().strip_prefix(PREFIX).unwrap();
        assert!(matches!(page, "/login" | "/renew"), "redirected to {page}");
        let names: Vec<_> = location.query_pairs().map(|(name, _)| name.into_owned()).collect();
        assert!(names.is_empty() || names == ["return_to"], "the request added parameters to the redirect: {location}");
    }
}

/// Whether every modelled server would serve an open path.
fn is_open(path: &str) -> bool {
    servers::views(path.as_bytes()).into_iter().all(|view| {
        let names: Vec<Vec<u8>> = view.segments.iter().map(|name| name.to_ascii_lowercase()).collect();
        let names: Vec<&[u8]> = names.iter().map(Vec::as_slice).collect();
        match names.as_slice() {
            [b"static", b"private", ..] => false,
            // The path without an extension matters if a rule matches it.
            [b"static", last] if view.cuts => !last.starts_with(b"private."),
            [b"static" | b"maybe", ..] | [b"users", _, b"avatar"] => true,
            _ => view.cuts,
        }
    })
}
