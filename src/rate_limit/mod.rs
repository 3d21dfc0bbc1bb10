//! Rate limits per client address and for all clients, by `governor` (GCRA).
//!
//! A request with a cached session never uses a limit, so abuse of an address does not affect its users who are logged in.

mod per_client;
mod queue;
#[cfg(test)]
mod tests;

use governor::clock::{Clock, DefaultClock};
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use per_client::{PerClient, key};
use queue::{MAX_WAIT, MAX_WAITING, Queue};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;
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

/// The configured limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Unfinished logins and forged callbacks per client address.
    pub logins_per_client: Rate,
    /// Login starts and forged callbacks of all clients, per second.
    pub logins_per_second: NonZeroU32,
    /// Tokens that are not cached, per client address: each costs a signature check.
    pub new_tokens_per_client: Rate,
    /// Checks without a live session, per client address; no limit if absent.
    pub checks_per_client: Option<Rate>,
}

/// The kind of a limit; the metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LimitKind {
    /// Logins of one address.
    LoginsPerClient,
    /// Logins of all clients.
    Logins,
    /// New tokens of one address.
    NewTokens,
    /// New tokens in logouts of one address.
    Logouts,
    /// Checks of one address.
    Checks,
}

impl LimitKind {
    /// The name in metrics and logs.
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

/// A limit is exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitExceeded {
    /// Which limit.
    pub limit: LimitKind,
    /// When the client may try again; at least one second.
    pub retry_after: Duration,
}

/// New tokens per second and core, over all clients. A signature check takes 55 µs, twice as much on shared cores, so a
/// flood of forged tokens from many addresses uses at most a tenth of the processor. After a restart, this is also how
/// many sessions per second are cached again.
const NEW_TOKENS_PER_CORE: NonZeroU32 = NonZeroU32::new(1_000).unwrap();

/// Tokens that a finished login returns to its address. More than one, so that many users behind one address can log in
/// beside a client that starts logins and finishes none. A bucket never exceeds its burst.
const REFUND: u32 = 5;

/// How often a waiting login start tries again.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);

/// QR codes drawn per second: one costs as much CPU time as five pages.
const QR_CODES_PER_SECOND: NonZeroU32 = NonZeroU32::new(100).unwrap();

/// The limits in force.
pub struct Limits<C: Clock + Clone = DefaultClock> {
    logins_per_client: PerClient<C>,
    logins: Direct<C>,
    new_tokens_per_client: PerClient<C>,
    new_tokens: Direct<C>,
    logout_tokens_per_client: PerClient<C>,
    logout_tokens: Direct<C>,
    checks_per_client: Option<PerClient<C>>,
    qr_codes: Direct<C>,
    queue: Queue,
    clock: C,
}

impl Limits {
    /// Full buckets, on the system's monotonic clock.
    pub fn new(settings: &Settings) -> Self {
        Self::with_clock(settings, DefaultClock::default())
    }

    /// At most `slots` login starts wait for a token at a time: each holds a connection.
    pub fn with_waiting(self, slots: usize) -> Self {
        Self { queue: Queue::new(slots.min(MAX_WAITING)), ..self }
    }
}

impl<C: Clock + Clone> Limits<C> {
    /// Full buckets on `clock`.
    pub fn with_clock(settings: &Settings, clock: C) -> Self {
        let direct = |quota| RateLimiter::direct_with_clock(quota, clock.clone());
        let new_tokens = global_new_tokens(settings.new_tokens_per_client);
        Self {
            logins_per_client: PerClient::new(settings.logins_per_client, &clock),
            logins: direct(Quota::per_second(settings.logins_per_second)),
            new_tokens_per_client: PerClient::new(settings.new_tokens_per_client, &clock),
            new_tokens: direct(new_tokens),
            logout_tokens_per_client: PerClient::new(settings.new_tokens_per_client, &clock),
            // A burst for several addresses, so that one cannot block the logouts of others.
            logout_tokens: direct(new_tokens.allow_burst(new_tokens.burst_size().saturating_mul(TEN))),
            checks_per_client: settings.checks_per_client.map(|rate| PerClient::new(rate, &clock)),
            qr_codes: direct(Quota::per_second(QR_CODES_PER_SECOND)),
            queue: Queue::new(MAX_WAITING),
            clock,
        }
    }

    /// Counts a login start or a forged callback of `client`.
    pub fn login(&self, client: IpAddr) -> Result<(), LimitExceeded> {
        self.logins_per_client.take(client, &self.clock).map_err(exceeded(LimitKind::LoginsPerClient))?;
        self.take_global(&self.logins, LimitKind::Logins)
    }

    /// Counts a login start of `client`, and waits a little for a token: many users behind one address may start at the
    /// same time, and each finished login returns tokens. If no login of the address finishes in that time, further starts
    /// do not wait.
    pub async fn start_login(&self, client: IpAddr) -> Result<(), LimitExceeded> {
        let Err(mut exceeded) = self.login(client) else { return Ok(()) };
        if exceeded.limit != LimitKind::LoginsPerClient {
            return Err(exceeded);
        }
        let key = key(client);
        let deadline = Instant::now() + MAX_WAIT;
        let Some(_slot) = self.queue.enter(key, Instant::now()) else { return Err(exceeded) };
        while Instant::now() < deadline && !self.queue.waits_in_vain(key, Instant::now()) {
            tokio::time::sleep(RETRY_INTERVAL).await;
            match self.login(client) {
                Ok(()) => return Ok(()),
                Err(again) if again.limit != LimitKind::LoginsPerClient => return Err(again),
                Err(again) => exceeded = again,
            }
        }
        Err(exceeded)
    }

    /// A login of `client` has finished: returns its tokens.
    pub fn login_finished(&self, client: IpAddr) {
        self.logins_per_client.refund(client, REFUND);
        self.queue.login_finished(key(client));
    }

    /// Counts a token of `client` that is not cached.
    pub fn new_token(&self, client: IpAddr) -> Result<(), LimitExceeded> {
        // In this order, a client beyond its own limit takes no token from the global bucket.
        self.new_tokens_per_client.take(client, &self.clock).map_err(exceeded(LimitKind::NewTokens))?;
        self.take_global(&self.new_tokens, LimitKind::NewTokens)
    }

    /// Counts a token that is not cached in a logout of `client`. The limits are separate from those of
    /// [`Self::new_token`], so that a flood of forged tokens at the check does not prevent logouts.
    pub fn logout_token(&self, client: IpAddr) -> Result<(), LimitExceeded> {
        self.logout_tokens_per_client.take(client, &self.clock).map_err(exceeded(LimitKind::Logouts))?;
        self.take_global(&self.logout_tokens, LimitKind::Logouts)
    }

    /// Whether a page may draw a QR code now. Without one, the page shows the address as text.
    pub fn draw_code(&self) -> bool {
        self.qr_codes.check().is_ok()
    }

    /// Counts a check of `client` without a live session.
    pub fn unauthenticated_check(&self, client: IpAddr) -> Result<(), LimitExceeded> {
        let Some(checks) = &self.checks_per_client else { return Ok(()) };
        checks.take(client, &self.clock).map_err(exceeded(LimitKind::Checks))
    }

    /// Takes a token from a global limit.
    fn take_global(&self, limiter: &Direct<C>, limit: LimitKind) -> Result<(), LimitExceeded> {
        limiter.check().map_err(|not| exceeded(limit)(not.wait_time_from(self.clock.now())))
    }

    /// Removes addresses whose bucket is full. Visits every key, so not for an async thread.
    pub fn sweep(&self) {
        let all = [&self.logins_per_client, &self.new_tokens_per_client, &self.logout_tokens_per_client];
        for clients in all.into_iter().chain(self.checks_per_client.as_ref()) {
            clients.sweep();
        }
        self.queue.sweep(Instant::now());
    }

    /// The number of addresses in memory.
    pub fn clients(&self) -> usize {
        self.logins_per_client.addresses()
            + self.new_tokens_per_client.addresses()
            + self.logout_tokens_per_client.addresses()
            + self.checks_per_client.as_ref().map_or(0, PerClient::addresses)
    }
}

/// The limit of new tokens for all clients. The burst is a tenth of a second's worth, so that it does not occupy every
/// thread for long. Rate and burst are never below those of one address, which the operator may have raised.
fn global_new_tokens(per_client: Rate) -> Quota {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    let per_second = NEW_TOKENS_PER_CORE.get().saturating_mul(u32::try_from(cores).unwrap_or(u32::MAX));
    let at_least_one = |number: u32| NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN);
    Quota::per_second(at_least_one(per_second.max(per_client.per_minute.get() / 60)))
        .allow_burst(at_least_one(per_second / 10).max(per_client.burst))
}

const TEN: NonZeroU32 = NonZeroU32::new(10).unwrap();

fn exceeded(limit: LimitKind) -> impl Fn(Duration) -> LimitExceeded {
    // Rounded up, so that a client that waits this long succeeds.
    move |wait| LimitExceeded { limit, retry_after: Duration::from_secs(wait.as_secs() + 1) }
}

type Direct<C> = RateLimiter<NotKeyed, InMemoryState, C, NoOpMiddleware<<C as Clock>::Instant>>;
