//! Every committed input passes, including past findings; this test does not need libFuzzer.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use wechat_authz::testing::config::{self, settings};
use wechat_authz::testing::ext_authz::{self, CheckOutcome};
use wechat_authz::testing::login::attempt;
use wechat_authz::testing::telemetry::Traces;
use wechat_authz_fuzz::template::expand;
use wechat_authz_fuzz::world::{NOW, world};
use wechat_authz_fuzz::{TARGETS, check, token};

/// A larger corpus is too large to review.
const MAX_FILES: usize = 60;

#[test]
fn everything_in_the_corpus_holds() {
    for (name, holds) in TARGETS {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
        let mut files: Vec<_> = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        assert!((5..=MAX_FILES).contains(&files.len()), "{name} has {} files", files.len());
        for file in files {
            let bytes = fs::read(&file).unwrap();
            let held = std::panic::catch_unwind(|| holds(&bytes));
            assert!(held.is_ok(), "{} fails", file.display());
        }
    }
}

#[test]
fn every_corpus_has_a_target() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for entry in fs::read_dir(corpus).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(wechat_authz_fuzz::target(&name).is_some(), "{name} is not a target");
    }
}

fn committed(name: &str) -> Vec<u8> {
    let bytes = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name)).unwrap();
    expand(&bytes, |name| world().value(name))
}

/// Stands for the status of an in-band page, which the pages answer, not the check.
const A_PAGE: u16 = 0;

/// A corpus without an allowed request would test nothing about allowing.
#[test]
fn searches_start_from_both_sides_of_each_promise() {
    let world = world();
    for (name, strict, mixed) in [
        ("page-with-session", 200, 200),
        ("only-our-cookie", 200, 200),
        ("session-near-its-end", 200, 200),
        ("bearer", 200, 200),
        ("joined-by-comma", 200, 200),
        ("blog-session-at-the-blog", 200, 200),
        ("host-in-capitals", 200, 200),
        ("host-with-port", 403, 403),
        ("method-in-lower-case", 403, 403),
        ("public", 401, 200),
        ("optional", 401, 200),
        ("private-below-public", 401, 401),
        ("page-without-session", 302, 302),
        ("planted-by-a-sibling", 401, 401),
        ("flipped-signature", 401, 401),
        ("revoked", 401, 401),
        ("blog-session-at-the-shop", 401, 401),
        ("two-sessions", 401, 401),
        ("encoded-dots", 403, 403),
        ("parameters", 403, 403),
        ("connect", 403, 403),
        ("our-pages", 403, A_PAGE),
    ] {
        let request = check::request(&committed(&format!("check/{name}"))).unwrap();
        for (decider, status) in [(&world.strict, strict), (&world.mixed, mixed)] {
            let peer = Ipv4Addr::LOCALHOST.into();
            let answer = ext_authz::check(&request, peer, decider, &world.metrics, &Traces::off(), NOW);
            let answered = match answer {
                CheckOutcome::Response(answer) => answer.status().as_u16(),
                CheckOutcome::Page => A_PAGE,
            };
            assert_eq!(answered, status, "{name}");
        }
    }
    for (name, good) in [("signed-good", true), ("signed-all-claims", true), ("signed-doubled-claim", false)] {
        let text = committed(&format!("token/{name}"));
        let mut lines = text.splitn(3, |byte| *byte == b'\n').skip(1);
        assert_eq!(token::accepts(&token::signed(lines.next().unwrap(), lines.next().unwrap())), good, "{name}");
    }
    let own = String::from_utf8(committed("flow/own")).unwrap();
    let (state, cookie) = own.split_once('\n').unwrap();
    let headers = http::HeaderMap::from_iter([(http::header::COOKIE, cookie.parse().unwrap())]);
    assert!(attempt::open(world.shop(), state, &headers, &world.sessions.keys, NOW).is_ok());
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz.yaml");
    let read = config::read(&committed("config/whole.yaml"), file.into(), std::iter::empty()).unwrap();
    assert!(settings::resolve(read).is_ok());
}
