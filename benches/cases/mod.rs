//! The cases by name: small worlds with fixed inputs, each with one operation to repeat.
//!
//! Instruction counts (`counts.rs`) and wall-clock times (`times.rs`) run the same cases.

#![allow(dead_code, clippy::unwrap_used)] // each bench uses a part; a panic fails the bench

mod world;

use http::Method;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;
use wechat_authz::testing::client_kind::ClientKind;
use wechat_authz::testing::decision::{Decision, Identity, Reason};
use wechat_authz::testing::ext_authz::envoy;
use wechat_authz::testing::fixtures;
use wechat_authz::testing::path::NormalPath;
use wechat_authz::testing::rate_limit::Limits;
use world::{PEER, World};

/// One prepared case.
pub struct Case {
    ask: Box<dyn FnMut()>,
}

/// Repetitions per measurement, so that periodic cleanup (about every 64th use) counts for its share. `benches/run`
/// divides by it.
pub const ROUNDS: usize = 256;

impl Case {
    /// Prepares the case called `name` and does all one-time work.
    pub fn prepare(name: &str) -> Self {
        let mut case = make(name);
        case.ask_all();
        case
    }

    /// Runs one measurement.
    pub fn ask_all(&mut self) {
        for _ in 0..ROUNDS {
            self.ask();
        }
    }

    /// Runs the operation once.
    pub fn ask(&mut self) {
        (self.ask)();
    }

    fn new(ask: impl FnMut() + 'static) -> Self {
        Self { ask: Box::new(ask) }
    }
}

fn make(name: &str) -> Case {
    match name {
        "check_valid_session" => check(|world| world.page(Some(&world.token()))),
        "check_valid_session_unsampled" => check(|world| {
            world.traces = world::traces();
            let mut request = world.page(Some(&world.token()));
            let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
            request.headers.insert("traceparent", parent.parse().unwrap());
            request
        }),
        "check_no_session_page" => check(|world| world.page(None)),
        "check_no_session_data" => check(|world| world.data(None)),
        "check_junk_token_again" => check(|world| world.data(Some(&world::forged(&world.token())))),
        "read_check" => {
            let world = World::new(0);
            let request = world.page(Some(&world.token()));
            Case::new(move || {
                black_box(envoy::read(black_box(&request), PEER));
            })
        }
        "policy_of_1_rule" => policy(1),
        "policy_of_100_rules" => policy(100),
        "policy_of_1000_rules" => policy(1_000),
        "verify_hit" => verify_hit(1),
        "verify_hit_among_1000" => verify_hit(1_000),
        "verify_miss" => {
            let (issuer, world) = World::pair();
            let mut tokens = (0..2 * ROUNDS).map(move |_| issuer.token()).collect::<Vec<_>>().into_iter();
            Case::new(move || {
                world.verify(&tokens.next().unwrap()).unwrap();
            })
        }
        "verify_forged" => {
            let (issuer, world) = World::pair();
            let mut tokens =
                (0..2 * ROUNDS).map(move |_| world::forged(&issuer.token())).collect::<Vec<_>>().into_iter();
            Case::new(move || {
                world.verify(&tokens.next().unwrap()).err().unwrap();
            })
        }
        "verify_forged_again" => {
            let world = World::new(0);
            let token = world::forged(&world.token());
            Case::new(move || {
                world.verify(black_box(&token)).err().unwrap();
            })
        }
        "limiter" => {
            let limits = Limits::new(&fixtures::unlimited());
            let mut client = 0_u32;
            Case::new(move || {
                client = (client + 1) % 64;
                let address = IpAddr::V4(Ipv4Addr::from(0xCB00_7100 + client));
                black_box(limits.unauthenticated_check(black_box(address))).unwrap();
            })
        }
        "render_allow_known" => {
            let world = World::new(0);
            let live = world.verify(&world.token()).unwrap();
            let identity = Identity::Known(live.identity());
            render(Decision::Allow { identity, renewed: None, reason: Reason::SessionValid }, ClientKind::Page)
        }
        "render_allow_anonymous" => {
            let nobody = Identity::Anonymous;
            render(Decision::Allow { identity: nobody, renewed: None, reason: Reason::PublicPath }, ClientKind::Page)
        }
        "render_login_page" => render(login(), ClientKind::Page),
        "render_login_data" => render(login(), ClientKind::Data),
        "render_renew_page" => {
            let location = "https://shop.example.com/_wechat/renew?return_to=%2Forders%2F42".to_owned();
            render(Decision::Renew { location, reason: Reason::SessionNeedsRenewal }, ClientKind::Page)
        }
        "render_deny_page" => render(Decision::Deny { reason: Reason::SubjectNotAllowed }, ClientKind::Page),
        "render_deny_data" => render(Decision::Deny { reason: Reason::SubjectNotAllowed }, ClientKind::Data),
        "render_limited_page" => render(limited(), ClientKind::Page),
        "render_limited_data" => render(limited(), ClientKind::Data),
        unknown => panic!("no case is called {unknown}"),
    }
}

/// The whole hot path, from the parsed head to the answer.
fn check(request: impl FnOnce(&mut World) -> http::request::Parts) -> Case {
    let mut world = World::new(20);
    let request = request(&mut world);
    Case::new(move || {
        black_box(world.check(black_box(&request)));
    })
}

/// The whole check with this number of live sessions, used in an order that a processor cannot predict.
pub fn check_among(sessions: usize) -> Case {
    let world = World::new(20);
    let requests: Vec<_> = (0..sessions).map(|_| world.page(Some(&world.token()))).collect();
    let mut turn = 0;
    Case::new(move || {
        turn = (turn + 61_803) % requests.len();
        let request = requests.get(turn).unwrap();
        black_box(world.check(request));
    })
}

/// A case with `sessions` live sessions, used in turn.
fn verify_hit(sessions: usize) -> Case {
    let world = World::new(0);
    let tokens: Vec<String> = (0..sessions).map(|_| world.token()).collect();
    // The first use reads the revocations, once after each change.
    assert!(tokens.iter().all(|token| world.verify(token).is_ok()));
    let mut turn = 0;
    Case::new(move || {
        turn = (turn + 1) % tokens.len();
        let live = world.verify(black_box(tokens.get(turn).unwrap()));
        black_box(live.unwrap());
    })
}

fn policy(rules: usize) -> Case {
    let policy = world::policy(rules);
    // The path of the last rule.
    let path = NormalPath::parse(format!("/area{}/42/items", rules - 1).leak()).unwrap();
    Case::new(move || {
        let client = Some(PEER);
        let _ = black_box(policy.requirement(black_box("shop.example.com"), black_box(&path), &Method::GET, client));
    })
}

fn render(decision: Decision, kind: ClientKind) -> Case {
    let world = World::new(0);
    let token = world.token();
    let request = match kind {
        ClientKind::Page => world.page(Some(&token)),
        _ => world.data(Some(&token)),
    };
    let check = envoy::read(Box::leak(Box::new(request)), PEER);
    Case::new(move || {
        black_box(envoy::write(black_box(&decision), black_box(check.clone())));
    })
}

fn login() -> Decision {
    let location = "https://shop.example.com/_wechat/login?return_to=%2Forders%2F42%3Ftab%3Ditems".to_owned();
    Decision::Login { location, reason: Reason::NoSession }
}

fn limited() -> Decision {
    Decision::Limited { retry_after: Duration::from_secs(5), reason: Reason::TooManyChecks }
}
