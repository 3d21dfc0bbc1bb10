//! The limits, on a clock that the tests set.

use super::per_client::MAX_ADDRESSES;
use super::*;
use governor::clock::FakeRelativeClock;
use std::net::Ipv6Addr;
use std::sync::Arc;

fn settings() -> Settings {
    let number = |number| NonZeroU32::new(number).unwrap();
    Settings {
        logins_per_client: Rate { per_minute: number(10), burst: number(50) },
        logins_per_second: number(1_000),
        new_tokens_per_client: Rate { per_minute: number(600), burst: number(200) },
        checks_per_client: None,
    }
}

fn limits() -> (Limits<FakeRelativeClock>, FakeRelativeClock) {
    let clock = FakeRelativeClock::default();
    (Limits::with_clock(&settings(), clock.clone()), clock)
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn an_address_has_a_burst_and_a_rate() {
    let (limits, clock) = limits();
    let office = ip("203.0.113.9");
    for _ in 0..50 {
        limits.login(office).unwrap();
    }
    let refused = limits.login(office).unwrap_err();
    assert_eq!((refused.limit, refused.retry_after), (LimitKind::LoginsPerClient, Duration::from_secs(7)));
    assert!(limits.login(ip("203.0.113.10")).is_ok(), "another address is not affected");
    clock.advance(refused.retry_after);
    assert!(limits.login(office).is_ok(), "after the wait, a login starts");
    assert!(limits.login(office).is_err());
}

#[test]
fn finished_logins_never_exhaust_their_address() {
    for client in ["203.0.113.9", "2001:db8::1"] {
        let (limits, clock) = limits();
        // Forty logins are in progress, and one finishes each tenth of a second.
        (0..40).for_each(|_| limits.login(ip(client)).unwrap());
        for number in 0..300 {
            clock.advance(Duration::from_millis(100));
            assert_eq!(limits.login(ip(client)), Ok(()), "{client}: person {number}");
            limits.login_finished(ip(client));
        }
        // Returned tokens do not accumulate.
        let aimless = (0..300).filter(|_| limits.login(ip(client)).is_ok()).count();
        assert_eq!(aimless, 50, "{client}");
    }
}

#[test]
fn finished_logins_continue_beside_unfinished_ones() {
    let (limits, clock) = limits();
    let hall = ip("203.0.113.9");
    // One start in five finishes.
    for number in 0..1_000 {
        clock.advance(Duration::from_millis(200));
        if number % 5 == 0 {
            assert_eq!(limits.login(hall), Ok(()), "start {number}");
            limits.login_finished(hall);
        } else {
            let _ = limits.login(hall);
        }
    }
}

#[test]
fn unfinished_logins_are_limited() {
    let (limits, clock) = limits();
    let admitted = (0..300).filter(|_| {
        clock.advance(Duration::from_millis(200));
        limits.login(ip("203.0.113.9")).is_ok()
    });
    assert!((55..=60).contains(&admitted.count()), "fifty at once and ten a minute");
}

#[tokio::test]
async fn a_start_waits_for_a_returned_token() {
    let limits = Arc::new(limits().0);
    let (hall, elsewhere) = (ip("203.0.113.9"), ip("198.51.100.7"));
    (0..50).for_each(|_| limits.login(hall).unwrap());
    let waiting = tokio::spawn({
        let limits = Arc::clone(&limits);
        async move { limits.start_login(hall).await }
    });
    tokio::time::sleep(RETRY_INTERVAL * 2).await;
    assert!(!waiting.is_finished());
    limits.login_finished(hall);
    assert_eq!(waiting.await.unwrap(), Ok(()), "a token returned");
    assert_eq!(limits.start_login(elsewhere).await, Ok(()));
    assert_eq!(limits.queue.slots.available_permits(), MAX_WAITING, "every slot is free again");
}

#[test]
fn spellings_of_one_address_share_a_limit() {
    for (first, second) in [
        ("203.0.113.9", "::ffff:203.0.113.9"),
        ("2001:db8::1", "2001:db8::ffff:1"),
        ("2001:db8:0:1::", "2001:db8:0:1:ffff::"),
    ] {
        let (limits, _) = limits();
        (0..50).for_each(|_| limits.login(ip(first)).unwrap());
        assert!(limits.login(ip(second)).is_err(), "{first} {second}");
    }
    let (limits, _) = limits();
    (0..50).for_each(|_| limits.login(ip("2001:db8:0:1::1")).unwrap());
    assert!(limits.login(ip("2001:db8:0:2::1")).is_ok(), "another /64 is another household");
}

#[test]
fn a_48_has_a_limit_of_its_own() {
    let (limits, _) = limits();
    let let_in = (0..5_000_u32)
        .filter(|number| {
            limits
                .login(IpAddr::V6(Ipv6Addr::from((0x2001_0db8_0000_u128 << 80) | (u128::from(*number) << 64))))
                .is_ok()
        })
        .count();
    assert_eq!(let_in, 1_000, "the limits of twenty addresses");
}

#[test]
fn all_clients_share_a_global_limit() {
    let (limits, _) = limits();
    let let_in =
        (0..2_000_u32).filter(|number| limits.login(IpAddr::V4((0x0A00_0000 + number).into())).is_ok()).count();
    assert_eq!(let_in, 1_000);
}

#[test]
fn new_tokens_of_many_addresses_have_a_global_limit() {
    let (limits, clock) = limits();
    let (one, others) = (ip("203.0.113.9"), |number: u32| IpAddr::V4((0x0A00_0000 + number).into()));
    let let_in = (0..100_000_u32).filter(|_| limits.new_token(one).is_ok()).count();
    assert_eq!(let_in, 200, "its own limit");
    // One second with a hundred thousand addresses.
    let all = global_new_tokens(settings().new_tokens_per_client);
    let let_in = (0..100_000_u32).filter(|number| {
        clock.advance(Duration::from_micros(10));
        limits.new_token(others(*number)).is_ok()
    });
    let (let_in, share) = (let_in.count(), all.burst_size().get() as usize * 10);
    assert!((share * 9 / 10..=share * 11 / 10).contains(&let_in), "{let_in}, a share is {share}");
}

#[test]
fn a_flood_of_logouts_affects_its_own_address_only() {
    let (limits, clock) = limits();
    let (noisy, neighbour) = (ip("1.2.3.4"), ip("1.2.3.5"));
    while limits.new_token(noisy).is_ok() {}
    assert_eq!(limits.logout_token(noisy), Ok(()), "the limit of the check is separate");
    let admitted = (0..100_000_u32).filter(|_| limits.logout_token(noisy).is_ok()).count();
    assert_eq!(admitted, 199, "its own share");
    assert_eq!(limits.logout_token(neighbour), Ok(()));
    // Many addresses together also have a limit.
    let all = (0..1_000_000_u32).any(|number| limits.logout_token(IpAddr::V4((0x0A00_0000 + number).into())).is_err());
    assert!(all);
    clock.advance(Duration::from_secs(1));
    assert_eq!(limits.logout_token(neighbour), Ok(()));
}

#[test]
fn a_raised_limit_of_one_address_raises_the_global_one() {
    let number = |number| NonZeroU32::new(number).unwrap();
    let raised = global_new_tokens(Rate { per_minute: number(60_000_000), burst: number(5_000_000) });
    assert_eq!(raised, Quota::per_second(number(1_000_000)).allow_burst(number(5_000_000)));
}

#[test]
fn a_million_addresses_are_bounded_and_still_limited() {
    let (limits, clock) = limits();
    for number in 0..1_000_000_u32 {
        let _ = limits.new_token(IpAddr::V4((0x0100_0000 + number).into()));
    }
    assert!(limits.clients() <= MAX_ADDRESSES, "{}", limits.clients());
    let refused = (0..1_000_000_u32).any(|_| limits.new_token(ip("1.2.3.4")).is_err());
    assert!(refused, "past the cap there is still a limit");
    let refused = (0..1_000_000_u32).any(|_| limits.new_token(ip("2001:db8::1")).is_err());
    assert!(refused, "a /48 has a limit too");
    clock.advance(Duration::from_secs(120));
    limits.sweep();
    assert_eq!(limits.clients(), 0);
}
