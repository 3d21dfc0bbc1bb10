//! A limit per client address. Memory is bounded: above a number of addresses, further ones share the buckets of their
//! networks.

use super::Rate;
use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::StateStore;
use governor::state::keyed::{DashMapStateStore, ShrinkableKeyedStateStore};
use governor::{Quota, RateLimiter};
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

/// Addresses with a bucket of their own, per limit; about 70 bytes each.
pub(super) const MAX_ADDRESSES: usize = 200_000;

type Keyed<C> = RateLimiter<u64, Buckets, C, NoOpMiddleware<<C as Clock>::Instant>>;

/// One limit for each address, and coarse ones for networks.
pub(super) struct PerClient<C: Clock + Clone> {
    addresses: Keyed<C>,
    address_buckets: Buckets,
    networks: Keyed<C>,
    network_buckets: Buckets,
    /// How long the bucket of an address takes to gain a token.
    interval: Duration,
    max_addresses: usize,
}

/// The bucket of a network holds as much as this many addresses.
const NETWORK_FACTOR: u32 = 20;

impl<C: Clock + Clone> PerClient<C> {
    /// A limit of `rate` for each address.
    pub(super) fn new(rate: Rate, clock: &C) -> Self {
        let quota = |factor: u32| {
            let times = |number: NonZeroU32| number.saturating_mul(NonZeroU32::new(factor).unwrap_or(NonZeroU32::MIN));
            Quota::per_minute(times(rate.per_minute)).allow_burst(times(rate.burst))
        };
        let (address_buckets, network_buckets) = (Buckets::default(), Buckets::default());
        Self {
            addresses: RateLimiter::new(quota(1), address_buckets.clone(), clock.clone()),
            address_buckets,
            networks: RateLimiter::new(quota(NETWORK_FACTOR), network_buckets.clone(), clock.clone()),
            network_buckets,
            interval: Quota::per_minute(rate.per_minute).replenish_interval(),
            max_addresses: MAX_ADDRESSES,
        }
    }

    /// Returns tokens to each bucket from which [`Self::take`] may have taken one.
    pub(super) fn refund(&self, client: IpAddr, tokens: u32) {
        let client = canonical(client);
        let time = self.interval.saturating_mul(tokens);
        self.address_buckets.refund(key_of(client), time);
        self.network_buckets.refund(network(client), time / NETWORK_FACTOR);
    }

    /// Removes addresses and networks whose bucket is full.
    pub(super) fn sweep(&self) {
        self.addresses.retain_recent();
        self.addresses.shrink_to_fit();
        self.networks.retain_recent();
    }

    /// The number of addresses in memory.
    pub(super) fn addresses(&self) -> usize {
        self.addresses.len()
    }

    /// Takes a token for `client`, or returns how long to wait for one.
    pub(super) fn take(&self, client: IpAddr, clock: &C) -> Result<(), Duration> {
        let take =
            |limiter: &Keyed<C>, key| limiter.check_key(&key).map(drop).map_err(|not| not.wait_time_from(clock.now()));
        let client = canonical(client);
        // A /48 is cheap and has 65,536 networks of the size that counts as one client, so it has a bucket too.
        if let IpAddr::V6(address) = client {
            take(&self.networks, network(IpAddr::V6(address)))?;
        }
        if self.addresses.len() >= self.max_addresses {
            if client.is_ipv4() {
                take(&self.networks, network(client))?;
            }
            return Ok(());
        }
        take(&self.addresses, key_of(client))
    }
}

/// The key of a client: its IPv4 address, or its IPv6 /64.
pub(super) fn key(client: IpAddr) -> u64 {
    key_of(canonical(client))
}

/// Converts `::ffff:a.b.c.d` to the IPv4 address.
fn canonical(client: IpAddr) -> IpAddr {
    match client {
        IpAddr::V6(address) => address.to_ipv4_mapped().map_or(IpAddr::V6(address), IpAddr::V4),
        v4 => v4,
    }
}

/// The key of an IPv4 address or an IPv6 /64, the usual size of one household's network.
fn key_of(client: IpAddr) -> u64 {
    match client {
        // ff00::/8 is multicast, so no client's /64 has this key.
        IpAddr::V4(address) => 0xFFFF_0000_0000_0000 | u64::from(u32::from(address)),
        IpAddr::V6(address) => upper(address),
    }
}

/// The key of an IPv4 /12 (at most 4,096) or of an IPv6 /48 (hashed to 65,536).
fn network(client: IpAddr) -> u64 {
    match client {
        IpAddr::V4(address) => 0xFFFF_0000_0000_0000 | u64::from(u32::from(address) >> 20),
        // A multiplicative hash of the /48.
        IpAddr::V6(address) => (upper(address) >> 16).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 48,
    }
}

fn upper(address: Ipv6Addr) -> u64 {
    u64::try_from(u128::from(address) >> 64).unwrap_or_default()
}

/// The buckets of a limiter. The limiter has one handle; refunds use another.
#[derive(Clone, Default)]
struct Buckets(Arc<DashMapStateStore<u64>>);

impl Buckets {
    /// Moves the bucket of `key` back in time. A bucket in the past is full, so tokens do not accumulate beyond the burst.
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
