//! Session tokens by the hundred thousand, signed as wechat-authz signs them.

use anyhow::{Context as _, anyhow};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::{Args, ValueEnum};
use std::hash::{BuildHasher as _, RandomState};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use wechat_authz::testing::app_name::AppName;
use wechat_authz::testing::clock::{self, Timestamp};
use wechat_authz::testing::login_method::LoginMethod;
use wechat_authz::testing::profile::Profile;
use wechat_authz::testing::session::keys::{KeySet, KeySettings};
use wechat_authz::testing::session::{self, Claims, Grant, Settings, token};
use wechat_authz::testing::session_id::SessionId;
use wechat_authz::testing::subject::Subject;

#[derive(Args)]
pub struct Mint {
    #[command(flatten)]
    issuer: Issuer,
    /// How many
    #[arg(long)]
    count: u32,
    /// What becomes of them
    #[arg(long, value_enum, default_value = "live")]
    kind: Kind,
}

/// Whose tokens.
#[derive(Args)]
pub struct Issuer {
    /// The keys' directory
    #[arg(long)]
    keys: PathBuf,
    /// The application's origin
    #[arg(long)]
    issuer: String,
    /// The application's name
    #[arg(long)]
    audience: AppName,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// Of sessions that live, for another hour
    Live,
    /// Of sessions that live, past the token's end
    Ended,
    /// Whole but for the signature
    Forged,
}

impl Mint {
    pub fn run(self) -> anyhow::Result<()> {
        let keys = self.issuer.keys()?;
        let now = clock::now();
        let at = if self.kind == Kind::Ended { now - Duration::from_secs(2 * 3_600) } else { now };
        let mut out = std::io::BufWriter::new(std::io::stdout().lock());
        let mut forger = Forger::default();
        // Nobody reads what a forged token says, so one text does for all of them.
        let template = self.issuer.token(&keys, 0, at)?;
        for number in 0..self.count {
            match self.kind {
                Kind::Forged => writeln!(out, "{}", forger.forge(&template))?,
                Kind::Live | Kind::Ended => writeln!(out, "{}", self.issuer.token(&keys, number, at)?)?,
            }
        }
        Ok(out.flush()?)
    }
}

impl Issuer {
    pub fn keys(&self) -> anyhow::Result<KeySet> {
        load(&self.keys)
    }

    pub fn settings(&self) -> Settings {
        session::Settings {
            issuer: self.issuer.clone(),
            audience: self.audience.clone(),
            token_lifetime: Duration::from_secs(3_600),
            lifetime: Duration::from_secs(7 * 86_400),
            idle: Duration::from_secs(86_400),
        }
    }

    /// The token of person `number`, issued at `at`.
    pub fn token(&self, keys: &KeySet, number: u32, at: Timestamp) -> anyhow::Result<String> {
        let key = keys.signing(at).context("no key")?;
        let (appid, openid) = ("wx00000000000000a1", format!("oBench{number:022}"));
        let grant = Grant {
            subject: Subject::from_openid(appid, &openid)?,
            flow: LoginMethod::OfficialAccount,
            appid: appid.to_owned(),
            openid,
            unionid: format!("uBench{number:022}"),
            profile: Profile { nickname: String::new(), avatar: String::new() },
        };
        let claims = Claims::first(grant, SessionId::random(), &self.settings(), at);
        Ok(token::issue(&claims, key)?.0)
    }
}

fn load(directory: &Path) -> anyhow::Result<KeySet> {
    let settings = KeySettings { directory: directory.to_owned(), sign_after: Duration::ZERO };
    KeySet::load(&settings).map_err(|faults| anyhow!("{faults:?}"))
}

/// Gives a token one other signature after another: of the right length, and none verifies.
#[derive(Default)]
pub struct Forger {
    seed: RandomState,
    count: u64,
}

impl Forger {
    pub fn forge(&mut self, token: &str) -> String {
        let signed = token.rsplit_once('.').map_or(token, |(signed, _)| signed);
        let mut signature = [0; 64];
        for eight in signature.chunks_exact_mut(8) {
            self.count += 1;
            eight.copy_from_slice(&self.seed.hash_one(self.count).to_be_bytes());
        }
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}
