//! Load at a fixed rate. A request's time counts from when it was due, not from when a connection was free for it: a
//! server that stalls is charged for everything that should have happened meanwhile.

use crate::connection::{Connection, percentile};
use clap::Args;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

#[derive(Args)]
pub struct Rate {
    /// The server
    #[arg(long)]
    to: SocketAddr,
    /// A header of the request, as NAME: VALUE; may be repeated
    #[arg(long)]
    header: Vec<String>,
    /// Requests a second
    #[arg(long)]
    per_second: u32,
    /// For how long
    #[arg(long)]
    seconds: u32,
    /// Over how many connections, each with a thread of its own
    #[arg(long, default_value_t = 48)]
    connections: u32,
}

#[derive(Default)]
struct Seen {
    micros: Vec<u64>,
    errors: u64,
}

impl Rate {
    pub fn run(self) -> anyhow::Result<()> {
        let mut request = String::from("GET / HTTP/1.1\r\n");
        for line in &self.header {
            request.push_str(line);
            request.push_str("\r\n");
        }
        request.push_str("\r\n");
        // All connections are open before the first request is due.
        let start = Instant::now() + Duration::from_millis(300);
        let mut seen = Seen::default();
        std::thread::scope(|scope| {
            let hands: Vec<_> = (0..self.connections)
                .map(|hand| {
                    let (rate, request) = (&self, request.as_bytes());
                    scope.spawn(move || rate.send(hand, start, request))
                })
                .collect();
            for hand in hands {
                if let Ok(one) = hand.join() {
                    seen.micros.extend(one.micros);
                    seen.errors += one.errors;
                }
            }
        });
        seen.micros.sort_unstable();
        let wanted = u64::from(self.per_second) * u64::from(self.seconds);
        let missing = wanted.saturating_sub(seen.micros.len() as u64 + seen.errors);
        let took = start.elapsed().as_secs_f64();
        println!(
            "{}",
            serde_json::json!({
                "requests": seen.micros.len(), "errors": seen.errors + missing,
                "rps": seen.micros.len() as f64 / took,
                "p50_us": percentile(&seen.micros, 50), "p99_us": percentile(&seen.micros, 99),
                "max_us": seen.micros.last().copied().unwrap_or_default(),
            })
        );
        Ok(())
    }

    fn send(&self, hand: u32, start: Instant, request: &[u8]) -> Seen {
        let mut seen = Seen::default();
        let mut connection = Connection::open(self.to).ok();
        let apart = Duration::from_secs(1) / self.per_second;
        let mut number = hand;
        while number < self.per_second * self.seconds {
            let due = start + apart * number;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            number += self.connections;
            let answer = connection.as_mut().map(|open| open.send(request).and_then(|()| open.answer()));
            match answer {
                Some(Ok(head)) if head.status == 200 => {
                    seen.micros.push(u64::try_from(due.elapsed().as_micros()).unwrap_or(u64::MAX));
                }
                Some(Ok(_)) => seen.errors += 1,
                _ => {
                    seen.errors += 1;
                    connection = Connection::open(self.to).ok();
                }
            }
        }
        seen
    }
}
