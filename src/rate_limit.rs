//! Limits: budgets per client address and one for all, by `governor` (GCRA).
//!
//! They stop abuse and never the logged-in: nothing here is asked about a request whose session is known. However many
//! addresses come, memory is bounded: past a cap of keys, unknown addresses share coarse buckets by their network,
//! never "no limit".

use governor::clock::{Clock, DefaultClock};
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::keyed::{DashMapStateStore, ShrinkableKeyedStateStore};
use governor::state::{InMemoryState, NotKeyed, StateStore};
use governor::{Quota, RateLimiter};
use parking_lot::{Mutex, MutexGuard};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

/// A sustained rate and a burst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// How many a minute in the long run.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub per_minute: NonZeroU32,
    /// How many at once after a pause.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub burst: NonZeroU32,
}

/// All limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Unfinished logins and forged callbacks per client address.
    pub logins_per_client: Rate,
    /// Login starts and forged callbacks of all clients together, per second.
    pub logins_per_second: NonZeroU32,
    /// Tokens not seen before, per client address: each costs a signature check.
    pub new_tokens_per_client: Rate,
    /// Checks without a live session, per client address; none where absent.
    pub checks_per_client: Option<Rate>,
}

/// Which budget was asked for; the metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LimitKind {
    /// Logins from one address.
    LoginsPerClient,
    /// Logins of all.
    Logins,
    /// Unseen tokens from one address.
    NewTokens,
    /// Tokens shown to end a session, from one address.
    Logouts,
    /// Checks from one address.
    Checks,
}

impl LimitKind {
    /// The word for it in metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::LoginsPerClient => "logins_per_client",
            Self::Logins => "logins",
            Self::NewTokens => "new_tokens_per_client",
            Self::Logouts => "logouts_per_client",
            Self::Checks => "checks_per_client",
        }
    }
}

/// Refused, and how long to wait before it could be otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitExceeded {
    /// Which budget.
    pub budget: LimitKind,
    /// At least one second.
    pub retry_after: Duration,
}

/// Signatures of unseen tokens checked a second, for each core, whoever shows them. Each takes 55 µs, twice as much where
/// cores are shared: a flood of forged tokens from ever new addresses gets a tenth of the processor, and those
/// who are known have the rest. After a restart so many sessions a second become known again.
const NEW_TOKENS_PER_CORE: NonZeroU32 = NonZeroU32::new(1_000).unwrap();

/// Tokens that a finished login returns to its address: its own, and more, so that a crowd of people who log in keeps its
/// place beside a client that starts logins and finishes none. The bucket never holds more than its burst.
const REFUND: u32 = 5;

/// The longest that a login start waits for a token. The people in front of it are at WeChat, and their tokens return.
const MAX_WAIT: Duration = Duration::from_secs(8);

/// Login starts that wait for a token at a time, at most: half of the pages' places for requests that wait.
const MAX_WAITING: usize = 64;

/// How often a waiting start tries again.
const RETRY: Duration = Duration::from_millis(100);

/// How long nobody waits at an address after a time in which starts waited and no login finished.
const IN_VAIN: Duration = Duration::from_secs(60);

/// Addresses at most at which starts wait or have waited in vain; others do not wait while there are as many.
const MAX_QUEUES: usize = 10_000;

/// QR codes drawn a second: each takes the processor about as long as five pages.
const CODES_PER_SECOND: NonZeroU32 = NonZeroU32::new(100).unwrap();

/// Addresses remembered per budget at most; about 70 bytes each.
const MAX_CLIENTS: usize = 200_000;

/// The budgets in force.
pub struct Limits<C: Clock + Clone = DefaultClock> {
    logins_per_client: Clients<C>,
    logins: Direct<C>,
    new_tokens_per_client: Clients<C>,
    new_tokens: Direct<C>,
    ending_tokens_per_client: Clients<C>,
    ending_tokens: Direct<C>,
    checks: Option<Clients<C>>,
    codes: Direct<C>,
    queue: Queue,
    clock: C,
}

impl Limits {
    /// Fresh budgets on the system's monotonic clock.
    pub fn new(settings: &Settings) -> Self {
        Self::with_clock(settings, DefaultClock::default())
    }

    /// The same where at most `places` login starts wait for a token at a time: each holds a connection.
    pub fn with_waiting(self, places: usize) -> Self {
        Self { queue: Queue::new(places.min(MAX_WAITING)), ..self }
    }
}

impl<C: Clock + Clone> Limits<C> {
    /// Fresh budgets on `clock`.
    pub fn with_clock(settings: &Settings, clock: C) -> Self {
        let direct = |quota| RateLimiter::direct_with_clock(quota, clock.clone());
        let new_tokens = everybodys_new_tokens(settings.new_tokens_per_client);
        Self {
            logins_per_client: Clients::new(settings.logins_per_client, &clock),
            logins: direct(Quota::per_second(settings.logins_per_second)),
            new_tokens_per_client: Clients::new(settings.new_tokens_per_client, &clock),
            new_tokens: direct(new_tokens),
            ending_tokens_per_client: Clients::new(settings.new_tokens_per_client, &clock),
            // Room for several addresses' bursts at once: one of them must not take what others need.
            ending_tokens: direct(new_tokens.allow_burst(new_tokens.burst_size().saturating_mul(TEN))),
            checks: settings.checks_per_client.map(|rate| Clients::new(rate, &clock)),
            codes: direct(Quota::per_second(CODES_PER_SECOND)),
            queue: Queue::new(MAX_WAITING),
            clock,
        }
    }

    /// A login start or a forged callback from `client`.
    ///
    /// # Errors
    /// [`Exceeded`]: this address's budget, or everybody's.
    pub fn login(&self, client: IpAddr) -> Result<(), LimitExceeded> {
        self.logins_per_client.take(client, &self.clock).map_err(exceeded(LimitKind::LoginsPerClient))?;
        self.check_global(&self.logins, LimitKind::Logins)
    }

    /// A login start from `client`, which waits a little for a token: people of one office or lecture hall start together,
    /// and the tokens of those in front return as they finish. Where no login finishes for as long as a start may wait, nobody
    /// waits: starts without an aim are refused at once.
    ///
    /// # Errors
    /// [`Exceeded`], as [`Self::login`].
    pub async fn start_login(&self, client: IpAddr) -> Result<(), LimitExceeded> {
        let Err(mut exceeded) = self.login(client) else { return Ok(()) };
        if exceeded.budget != LimitKind::LoginsPerClient {
            return Err(exceeded);
        }
        let key = key(canonical(client));
        let deadline = Instant::now() + MAX_WAIT;
        let Some(_place) = self.queue.enter(key, Instant::now()) else { return Err(exceeded) };
        while Instant::now() < deadline && !self.queue.is_in_vain(key, Instant::now()) {
            tokio::time::sleep(RETRY).await;
            match self.login(client) {
                Ok(()) => return Ok(()),
                Err(again) if again.budget != LimitKind::LoginsPerClient => return Err(again),
                Err(again) => exceeded = again,
            }
        }
        Err(exceeded)
    }

    /// A login from `client` has ended in a session: its token returns.
    pub fn login_finished(&self, client: IpAddr) {
        self.logins_per_client.refund(client, REFUND);
        self.queue.finished(key(canonical(client)));
    }

    /// A token not seen before, from `client`.
    ///
    /// # Errors
    /// [`Exceeded`]: this address's budget, or what the processor can spare for everybody's.
    pub fn new_token(&self, client: IpAddr) -> Result<(), LimitExceeded> {
        // This order: whoever is beyond their own budget takes nothing from everybody's.
        self.new_tokens_per_client.take(client, &self.clock).map_err(exceeded(LimitKind::NewTokens))?;
        self.check_global(&self.new_tokens, LimitKind::NewTokens)
    }

    /// A token not seen before, shown to end its session, from `client`. The budgets are separate from those of
    /// [`Self::new_token`], so that forged tokens at the check do not keep an address logged in; each address has its own,
    /// so that a flood of logouts does not stop those of others.
    ///
    /// # Errors
    /// [`Exceeded`]: this address's budget, or what the processor can spare for everybody's.
    pub fn ending_token(&self, client: IpAddr) -> Result<(), LimitExceeded> {
        self.ending_tokens_per_client.take(client, &self.clock).map_err(exceeded(LimitKind::Logouts))?;
        self.check_global(&self.ending_tokens, LimitKind::Logouts)
    }

    /// Whether a page may draw a QR code now. Without one it still shows the address.
    pub fn draw_code(&self) -> bool {
        self.codes.check().is_ok()
    }

    /// A check without a live session, from `client`.
    pub fn check(&self, client: IpAddr) -> Result<(), LimitExceeded> {
        let Some(checks) = &self.checks else { return Ok(()) };
        checks.take(client, &self.clock).map_err(exceeded(LimitKind::Checks))
    }

    /// One more out of a budget that everybody shares.
    fn check_global(&self, limiter: &Direct<C>, budget: LimitKind) -> Result<(), LimitExceeded> {
        limiter.check().map_err(|not| exceeded(budget)(not.wait_time_from(self.clock.now())))
    }

    /// Forgets addresses whose budget is full again. Walks every key: not for an async thread.
    pub fn sweep(&self) {
        let all = [&self.logins_per_client, &self.new_tokens_per_client, &self.ending_tokens_per_client];
        for clients in all.into_iter().chain(self.checks.as_ref()) {
            clients.per_client.retain_recent();
            clients.per_client.shrink_to_fit();
            clients.per_network.retain_recent();
        }
        self.queue.sweep(Instant::now());
    }

    /// Addresses remembered.
    pub fn clients(&self) -> usize {
        self.logins_per_client.per_client.len()
            + self.new_tokens_per_client.per_client.len()
            + self.ending_tokens_per_client.per_client.len()
            + self.checks.as_ref().map_or(0, |one| one.per_client.len())
    }
}

/// What everybody together may show: a tenth of a second's worth at once, so that a rush does not hold every thread for
/// long. Never less than one address alone may, whose limit somebody has raised on purpose.
fn everybodys_new_tokens(one: Rate) -> Quota {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    let a_second = NEW_TOKENS_PER_CORE.get().saturating_mul(u32::try_from(cores).unwrap_or(u32::MAX));
    let at_least_one = |number: u32| NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN);
    Quota::per_second(at_least_one(a_second.max(one.per_minute.get() / 60)))
        .allow_burst(at_least_one(a_second / 10).max(one.burst))
}

const TEN: NonZeroU32 = NonZeroU32::new(10).unwrap();

fn exceeded(budget: LimitKind) -> impl Fn(Duration) -> LimitExceeded {
    // Rounded up, so that who waits as told is let in.
    move |wait| LimitExceeded { budget, retry_after: Duration::from_secs(wait.as_secs() + 1) }
}

type Keyed<C> = RateLimiter<u64, Buckets, C, NoOpMiddleware<<C as Clock>::Instant>>;
type Direct<C> = RateLimiter<NotKeyed, InMemoryState, C, NoOpMiddleware<<C as Clock>::Instant>>;

/// The buckets of a limiter, which keeps one handle; a refund goes through the other.
#[derive(Clone, Default)]
struct Buckets(Arc<DashMapStateStore<u64>>);

impl Buckets {
    /// Moves the bucket of `key` back in time. One in the past is a full one: nothing is hoarded.
    fn refund(&self, key: u64, time: Duration) {
        // A bucket that does not exist is full.
        let earlier = |at: Option<Nanos>| at.map(|at| ((), at.saturating_sub(time.into()))).ok_or(());
        let _ = self.measure_and_replace(&key, earlier);
    }
}

impl StateStore for Buckets {
    type Key = u64;

    fn measure_and_replace<T, F, E>(&self, key: &u64, f: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        self.0.measure_and_replace(key, f)
    }
}

impl ShrinkableKeyedStateStore<u64> for Buckets {
    fn retain_recent(&self, drop_below: Nanos) {
        ShrinkableKeyedStateStore::retain_recent(&*self.0, drop_below);
    }

    fn shrink_to_fit(&self) {
        ShrinkableKeyedStateStore::shrink_to_fit(&*self.0);
    }

    fn len(&self) -> usize {
        ShrinkableKeyedStateStore::len(&*self.0)
    }

    fn is_empty(&self) -> bool {
        ShrinkableKeyedStateStore::is_empty(&*self.0)
    }
}

/// Login starts that wait for a token.
struct Queue {
    places: Semaphore,
    /// Since when starts of an address have waited without a login of that address finishing.
    since: Mutex<HashMap<u64, Instant>>,
}

impl Queue {
    fn new(places: usize) -> Self {
        Self { places: Semaphore::new(places), since: Mutex::default() }
    }

    /// A place, if there is one and a wait at this address may help.
    fn enter(&self, key: u64, now: Instant) -> Option<SemaphorePermit<'_>> {
        let place = self.places.try_acquire().ok()?;
        let mut since = self.since();
        let is_over = |since: &Instant| now.saturating_duration_since(*since) >= MAX_WAIT + IN_VAIN;
        if since.get(&key).is_some_and(is_over) {
            since.remove(&key);
        }
        if since.len() >= MAX_QUEUES && !since.contains_key(&key) {
            return None;
        }
        let since = *since.entry(key).or_insert(now);
        (now.saturating_duration_since(since) < MAX_WAIT).then_some(place)
    }

    fn is_in_vain(&self, key: u64, now: Instant) -> bool {
        self.since().get(&key).is_some_and(|since| now.saturating_duration_since(*since) >= MAX_WAIT)
    }

    fn finished(&self, key: u64) {
        self.since().remove(&key);
    }

    fn sweep(&self, now: Instant) {
        self.since().retain(|_, since| now.saturating_duration_since(*since) < MAX_WAIT + IN_VAIN);
    }

    fn since(&self) -> MutexGuard<'_, HashMap<u64, Instant>> {
        self.since.lock()
    }
}

/// One budget for each address, and coarse ones behind it.
struct Clients<C: Clock + Clone> {
    per_client: Keyed<C>,
    fine_buckets: Buckets,
    per_network: Keyed<C>,
    coarse_buckets: Buckets,
    /// How long the bucket of one address takes to gain a token.
    interval: Duration,
    max_clients: usize,
}

/// A network's shared bucket holds as much as this many addresses.
const COARSE_FACTOR: u32 = 20;

impl<C: Clock + Clone> Clients<C> {
    fn new(rate: Rate, clock: &C) -> Self {
        let quota = |factor: u32| {
            let times = |number: NonZeroU32| number.saturating_mul(NonZeroU32::new(factor).unwrap_or(NonZeroU32::MIN));
            Quota::per_minute(times(rate.per_minute)).allow_burst(times(rate.burst))
        };
        let (fine_buckets, coarse_buckets) = (Buckets::default(), Buckets::default());
        Self {
            per_client: RateLimiter::new(quota(1), fine_buckets.clone(), clock.clone()),
            fine_buckets,
            per_network: RateLimiter::new(quota(COARSE_FACTOR), coarse_buckets.clone(), clock.clone()),
            coarse_buckets,
            interval: Quota::per_minute(rate.per_minute).replenish_interval(),
            max_clients: MAX_CLIENTS,
        }
    }

    /// Returns tokens to every bucket that [`Self::take`] may have taken one from.
    fn refund(&self, client: IpAddr, tokens: u32) {
        let client = canonical(client);
        let time = self.interval.saturating_mul(tokens);
        self.fine_buckets.refund(key(client), time);
        self.coarse_buckets.refund(network(client), time / COARSE_FACTOR);
    }

    fn take(&self, client: IpAddr, clock: &C) -> Result<(), Duration> {
        let take =
            |limiter: &Keyed<C>, key| limiter.check_key(&key).map(drop).map_err(|not| not.wait_time_from(clock.now()));
        let client = canonical(client);
        // A /48 is cheap to have and holds 65,536 addresses of ours: it has a bucket too.
        if let IpAddr::V6(address) = client {
            take(&self.per_network, network(IpAddr::V6(address)))?;
        }
        if self.per_client.len() >= self.max_clients {
            if client.is_ipv4() {
                take(&self.per_network, network(client))?;
            }
            return Ok(());
        }
        take(&self.per_client, key(client))
    }
}

/// `::ffff:a.b.c.d` is the IPv4 address it says.
fn canonical(client: IpAddr) -> IpAddr {
    match client {
        IpAddr::V6(address) => address.to_ipv4_mapped().map_or(IpAddr::V6(address), IpAddr::V4),
        v4 => v4,
    }
}

/// One key per IPv4 address, one per IPv6 /64: a household has at least that much.
fn key(client: IpAddr) -> u64 {
    match client {
        // ff00::/8 is multicast, so no client's /64 looks like this.
        IpAddr::V4(address) => 0xFFFF_0000_0000_0000 | u64::from(u32::from(address)),
        IpAddr::V6(address) => upper(address),
    }
}

/// The coarse bucket: an IPv6 /48 or an IPv4 /12; at most 65,536 and 4,096 of the latter, hashed together for IPv6.
fn network(client: IpAddr) -> u64 {
    match client {
        IpAddr::V4(address) => 0xFFFF_0000_0000_0000 | u64::from(u32::from(address) >> 20),
        // 65,536 buckets whatever comes: a multiplicative hash of the /48.
        IpAddr::V6(address) => (upper(address) >> 16).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 48,
    }
}

fn upper(address: Ipv6Addr) -> u64 {
    u64::try_from(u128::from(address) >> 64).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use governor::clock::FakeRelativeClock;

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
    fn an_address_has_fifty_at_once_and_ten_a_minute() {
        let (limits, clock) = limits();
        let office = ip("203.0.113.9");
        for _ in 0..50 {
            limits.login(office).unwrap();
        }
        let refused = limits.login(office).unwrap_err();
        assert_eq!((refused.budget, refused.retry_after), (LimitKind::LoginsPerClient, Duration::from_secs(7)));
        assert!(limits.login(ip("203.0.113.10")).is_ok(), "a neighbour is another");
        clock.advance(refused.retry_after);
        assert!(limits.login(office).is_ok(), "who waits as told is let in");
        assert!(limits.login(office).is_err());
    }

    #[test]
    fn people_who_log_in_never_exhaust_their_address() {
        for client in ["203.0.113.9", "2001:db8::1"] {
            let (limits, clock) = limits();
            // Forty people at WeChat at any time, and one a tenth of a second who is done.
            (0..40).for_each(|_| limits.login(ip(client)).unwrap());
            for number in 0..300 {
                clock.advance(Duration::from_millis(100));
                assert_eq!(limits.login(ip(client)), Ok(()), "{client}: person {number}");
                limits.login_finished(ip(client));
            }
            // What they earned is no hoard.
            let aimless = (0..300).filter(|_| limits.login(ip(client)).is_ok()).count();
            assert_eq!(aimless, 50, "{client}");
        }
    }

    #[test]
    fn a_crowd_keeps_its_place_beside_aimless_starts() {
        let (limits, clock) = limits();
        let hall = ip("203.0.113.9");
        // Of five starts one belongs to a person.
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
    fn three_hundred_aimless_starts_a_minute_are_stopped() {
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
        tokio::time::sleep(RETRY * 2).await;
        assert!(!waiting.is_finished());
        limits.login_finished(hall);
        assert_eq!(waiting.await.unwrap(), Ok(()), "a token returned");
        assert_eq!(limits.start_login(elsewhere).await, Ok(()));
        assert_eq!(limits.queue.places.available_permits(), MAX_WAITING, "every place is free again");
    }

    #[test]
    fn starts_wait_only_where_logins_finish() {
        let queue = Queue::new(2);
        let now = Instant::now();
        let may_wait = |at: Instant| queue.enter(1, at).is_some();
        assert!(may_wait(now) && may_wait(now + MAX_WAIT - RETRY));
        // One start after the other waits no longer than one alone.
        assert!(queue.is_in_vain(1, now + MAX_WAIT) && !may_wait(now + MAX_WAIT));
        assert!(!may_wait(now + IN_VAIN) && may_wait(now + MAX_WAIT + IN_VAIN), "and again after a minute");
        queue.finished(1);
        assert!(may_wait(now + MAX_WAIT + IN_VAIN + MAX_WAIT), "a login has finished");
    }

    #[test]
    fn waiting_starts_and_their_addresses_are_bounded() {
        let queue = Queue::new(1);
        let now = Instant::now();
        let place = queue.enter(1, now).unwrap();
        assert!(queue.enter(2, now).is_none(), "one place");
        drop(place);
        (0..2 * MAX_QUEUES as u64).for_each(|key| drop(queue.enter(key, now)));
        assert_eq!(queue.since().len(), MAX_QUEUES);
        assert!(queue.enter(u64::MAX, now).is_none(), "a full table makes nobody wait");
        queue.sweep(now + MAX_WAIT + IN_VAIN);
        assert_eq!(queue.since().len(), 0);
    }

    #[test]
    fn spellings_of_one_address_share_a_budget() {
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
    fn a_48_has_a_budget_of_its_own() {
        let (limits, _) = limits();
        let let_in = (0..5_000_u32)
            .filter(|number| {
                limits
                    .login(IpAddr::V6(Ipv6Addr::from((0x2001_0db8_0000_u128 << 80) | (u128::from(*number) << 64))))
                    .is_ok()
            })
            .count();
        assert_eq!(let_in, 1_000, "twenty addresses' worth");
    }

    #[test]
    fn everybody_together_has_a_budget() {
        let (limits, _) = limits();
        let let_in =
            (0..2_000_u32).filter(|number| limits.login(IpAddr::V4((0x0A00_0000 + number).into())).is_ok()).count();
        assert_eq!(let_in, 1_000);
    }

    #[test]
    fn signatures_of_unseen_tokens_have_a_share_of_the_processor_however_many_addresses_show_them() {
        let (limits, clock) = limits();
        let (one, others) = (ip("203.0.113.9"), |number: u32| IpAddr::V4((0x0A00_0000 + number).into()));
        let let_in = (0..100_000_u32).filter(|_| limits.new_token(one).is_ok()).count();
        assert_eq!(let_in, 200, "its own budget");
        // A second of a hundred thousand addresses.
        let all = everybodys_new_tokens(settings().new_tokens_per_client);
        let let_in = (0..100_000_u32).filter(|number| {
            clock.advance(Duration::from_micros(10));
            limits.new_token(others(*number)).is_ok()
        });
        let (let_in, share) = (let_in.count(), all.burst_size().get() as usize * 10);
        assert!((share * 9 / 10..=share * 11 / 10).contains(&let_in), "{let_in}, a share is {share}");
    }

    #[test]
    fn a_flood_of_logouts_stops_those_of_its_own_address_alone() {
        let (limits, clock) = limits();
        let (noisy, neighbour) = (ip("1.2.3.4"), ip("1.2.3.5"));
        while limits.new_token(noisy).is_ok() {}
        assert_eq!(limits.ending_token(noisy), Ok(()), "the check's budget is another");
        let admitted = (0..100_000_u32).filter(|_| limits.ending_token(noisy).is_ok()).count();
        assert_eq!(admitted, 199, "its own share");
        assert_eq!(limits.ending_token(neighbour), Ok(()));
        // Many addresses together have a limit, too.
        let all =
            (0..1_000_000_u32).any(|number| limits.ending_token(IpAddr::V4((0x0A00_0000 + number).into())).is_err());
        assert!(all);
        clock.advance(Duration::from_secs(1));
        assert_eq!(limits.ending_token(neighbour), Ok(()));
    }

    #[test]
    fn who_raises_the_limit_of_one_address_raises_everybodys() {
        let number = |number| NonZeroU32::new(number).unwrap();
        let raised = everybodys_new_tokens(Rate { per_minute: number(60_000_000), burst: number(5_000_000) });
        assert_eq!(raised, Quota::per_second(number(1_000_000)).allow_burst(number(5_000_000)));
    }

    #[test]
    fn a_million_addresses_are_bounded_and_still_limited() {
        let (limits, clock) = limits();
        for number in 0..1_000_000_u32 {
            let _ = limits.new_token(IpAddr::V4((0x0100_0000 + number).into()));
        }
        assert!(limits.clients() <= MAX_CLIENTS, "{}", limits.clients());
        let refused = (0..1_000_000_u32).any(|_| limits.new_token(ip("1.2.3.4")).is_err());
        assert!(refused, "past the cap there is still a limit");
        let refused = (0..1_000_000_u32).any(|_| limits.new_token(ip("2001:db8::1")).is_err());
        assert!(refused, "and for a /48 too");
        clock.advance(Duration::from_secs(120));
        limits.sweep();
        assert_eq!(limits.clients(), 0);
    }
}
