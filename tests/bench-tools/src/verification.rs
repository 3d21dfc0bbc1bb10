//! What one signature check costs here, by the same code that wechat-authz runs: the unit of two bars.

use crate::mint::Issuer;
use anyhow::{Context as _, anyhow};
use clap::Args;
use wechat_authz::testing::clock;
use wechat_authz::testing::session::token::Unverified;

#[derive(Args)]
pub struct Verification {
    #[command(flatten)]
    issuer: Issuer,
    /// How many to measure
    #[arg(long, default_value_t = 8_000)]
    count: u32,
}

impl Verification {
    pub fn run(self) -> anyhow::Result<()> {
        let (keys, settings, now) = (self.issuer.keys()?, self.issuer.settings(), clock::now());
        let tokens: Vec<String> =
            (0..64).map(|person| self.issuer.token(&keys, person, now)).collect::<Result<_, _>>()?;
        let mut unverified = Vec::new();
        for token in tokens.iter().cycle().take(self.count as usize) {
            unverified.push(Unverified::read(token, &keys, &settings, now).map_err(|fault| anyhow!("{fault}"))?);
        }
        let before = processor_time()?;
        for token in unverified {
            token.verify().map_err(|fault| anyhow!("{fault}"))?;
        }
        let spent = processor_time()? - before;
        println!("{}", serde_json::json!({ "verification_us": spent as f64 / 1e3 / f64::from(self.count) }));
        Ok(())
    }
}

/// Nanoseconds that this thread, the only one, has run.
fn processor_time() -> anyhow::Result<u64> {
    let text = std::fs::read_to_string("/proc/self/schedstat")?;
    Ok(text.split_whitespace().next().context("no schedstat")?.parse()?)
}
