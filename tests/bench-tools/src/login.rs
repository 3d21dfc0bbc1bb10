//! Whole logins of a person inside WeChat: from a page that asks for one to the same page with a session.

use crate::connection::{Connection, percentile};
use anyhow::{Context as _, bail};
use clap::Args;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use url::Url;

/// WeChat's own browser on a phone.
const WECHAT: &str = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) \
     Mobile/15E148 MicroMessenger/8.0.50(0x18003237) NetType/WIFI Language/zh_CN";

#[derive(Args)]
pub struct Login {
    /// Envoy
    #[arg(long)]
    to: SocketAddr,
    /// The application's origin, whose host leads to Envoy
    #[arg(long)]
    origin: Url,
    /// For how long
    #[arg(long)]
    seconds: u64,
    /// How many people log in at once
    #[arg(long, default_value_t = 8)]
    people: u32,
}

#[derive(Default)]
struct Seen {
    micros: Vec<u64>,
    errors: u64,
    fault: Option<String>,
}

impl Login {
    pub fn run(self) -> anyhow::Result<()> {
        let begun = Instant::now();
        let until = begun + Duration::from_secs(self.seconds);
        let mut seen = Seen::default();
        std::thread::scope(|scope| {
            let hands: Vec<_> = (0..self.people).map(|_| scope.spawn(|| self.one_after_another(until))).collect();
            for one in hands.into_iter().filter_map(|hand| hand.join().ok()) {
                seen.micros.extend(one.micros);
                seen.errors += one.errors;
                seen.fault = seen.fault.take().or(one.fault);
            }
        });
        seen.micros.sort_unstable();
        println!(
            "{}",
            serde_json::json!({
                "requests": seen.micros.len(), "errors": seen.errors, "fault": seen.fault,
                "seconds": begun.elapsed().as_secs_f64(),
                "p50_us": percentile(&seen.micros, 50), "p99_us": percentile(&seen.micros, 99),
            })
        );
        Ok(())
    }

    fn one_after_another(&self, until: Instant) -> Seen {
        let (mut seen, mut browser) = (Seen::default(), Browser::default());
        while Instant::now() < until {
            let begun = Instant::now();
            match browser.log_in(self) {
                Ok(()) => seen.micros.push(u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX)),
                Err(fault) => {
                    seen.errors += 1;
                    seen.fault.get_or_insert(format!("{fault:#}"));
                    browser = Browser::default();
                }
            }
        }
        seen
    }
}

/// One person's browser: connections that stay, cookies that do not outlive a login.
#[derive(Default)]
struct Browser {
    connections: HashMap<SocketAddr, Connection>,
    cookies: HashMap<String, String>,
}

impl Browser {
    fn log_in(&mut self, login: &Login) -> anyhow::Result<()> {
        self.cookies.clear();
        let mut url = login.origin.join("/orders?page=2")?;
        for _ in 0..10 {
            let ours = url.origin() == login.origin.origin();
            let place =
                if ours { login.to } else { url.socket_addrs(|| None)?.first().copied().context("no address")? };
            let head = self.get(place, &url, ours)?;
            match (head.status, head.all("location").next()) {
                (200, _) if ours && self.cookies.contains_key("__Host-wechat_session") => return Ok(()),
                (302 | 303, Some(location)) => url = url.join(location)?,
                (status, _) => bail!("{status} from {}", url.path()),
            }
        }
        bail!("sent round for ever")
    }

    fn get(&mut self, place: SocketAddr, url: &Url, ours: bool) -> anyhow::Result<crate::connection::Head> {
        let target = url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()));
        let mut request = format!(
            "GET {target} HTTP/1.1\r\nhost: {}\r\nuser-agent: {WECHAT}\r\naccept: text/html,*/*;q=0.8\r\n",
            url.authority()
        );
        if ours && !self.cookies.is_empty() {
            let cookies: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
            request.push_str(&format!("cookie: {}\r\n", cookies.join("; ")));
        }
        request.push_str("\r\n");
        let connection = match self.connections.entry(place) {
            std::collections::hash_map::Entry::Occupied(open) => open.into_mut(),
            std::collections::hash_map::Entry::Vacant(empty) => empty.insert(Connection::open(place)?),
        };
        connection.send(request.as_bytes())?;
        let head = connection.answer().with_context(|| url.path().to_owned())?;
        for line in head.all("set-cookie").filter(|_| ours) {
            let (name, value) = line.split(';').next().and_then(|pair| pair.split_once('=')).context("a cookie")?;
            if line.contains("Max-Age=0") {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
        if head.all("connection").any(|value| value == "close") {
            self.connections.remove(&place);
        }
        Ok(head)
    }
}
