//! Many different requests, each once: fills caches before a measurement, and memory for one.

use crate::connection::Connection;
use crate::mint::Forger;
use clap::Args;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Instant;

/// How many requests go out together on one connection.
const TOGETHER: usize = 16;

#[derive(Args)]
pub struct Flood {
    /// The check door
    #[arg(long)]
    to: SocketAddr,
    /// The host to ask for
    #[arg(long)]
    host: String,
    /// How many connections
    #[arg(long, default_value_t = 8)]
    connections: usize,
    /// The file of tokens, each used once
    #[arg(long, conflicts_with = "forge")]
    tokens: Option<PathBuf>,
    /// No more than so many of them
    #[arg(long, default_value_t = usize::MAX)]
    most: usize,
    /// A token to forge others from: each request another, each from an address of its own
    #[arg(long, requires = "requests")]
    forge: Option<String>,
    /// How many forged ones
    #[arg(long)]
    requests: Option<usize>,
    /// The status that each must get
    #[arg(long)]
    expect: u16,
}

impl Flood {
    pub fn run(self) -> anyhow::Result<()> {
        let text = self.tokens.as_ref().map(std::fs::read_to_string).transpose()?.unwrap_or_default();
        let tokens: Vec<&str> = text.lines().take(self.most).collect();
        let total = self.requests.unwrap_or(tokens.len());
        let begun = Instant::now();
        let unexpected: usize = std::thread::scope(|scope| {
            let hands: Vec<_> = (0..self.connections)
                .map(|hand| {
                    let share = hand * total / self.connections..(hand + 1) * total / self.connections;
                    let (flood, tokens) = (&self, &tokens);
                    scope.spawn(move || flood.send(share, tokens))
                })
                .collect();
            hands.into_iter().map(|hand| hand.join().unwrap_or_else(|_| Ok(total))).sum::<anyhow::Result<usize>>()
        })?;
        let seconds = begun.elapsed().as_secs_f64();
        println!("{}", serde_json::json!({ "requests": total, "unexpected": unexpected, "seconds": seconds }));
        Ok(())
    }

    /// Sends these requests; gives how many answers were not the expected one.
    fn send(&self, share: std::ops::Range<usize>, tokens: &[&str]) -> anyhow::Result<usize> {
        let mut connection = Connection::open(self.to)?;
        let mut forger = Forger::default();
        let mut unexpected = 0;
        let mut numbers = share.peekable();
        while numbers.peek().is_some() {
            let mut bytes = String::new();
            let mut count = 0;
            for number in numbers.by_ref().take(TOGETHER) {
                let forged = self.forge.as_deref().map(|token| forger.forge(token));
                let token = forged.as_deref().or_else(|| tokens.get(number).copied()).unwrap_or_default();
                // 20.0.0.0 and on: addresses that are nobody's neighbour here.
                let client = match self.forge {
                    Some(_) => Ipv4Addr::from(0x1400_0000_u32.wrapping_add(u32::try_from(number)?)),
                    None => Ipv4Addr::LOCALHOST,
                };
                write!(
                    bytes,
                    "GET / HTTP/1.1\r\nhost: {}\r\nx-auth-client-ip: {client}\r\ncookie: __Host-wechat_session={token}\r\n\r\n",
                    self.host
                )?;
                count += 1;
            }
            connection.send(bytes.as_bytes())?;
            for _ in 0..count {
                unexpected += usize::from(connection.answer()?.status != self.expect);
            }
        }
        Ok(unexpected)
    }
}
