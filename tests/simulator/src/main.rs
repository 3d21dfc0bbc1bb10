//! The simulator as a program: parses flags, prints one line when it is ready and one sentence per request.

use std::fs::File;
use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Parser;
use serde::Deserialize;
use tokio::signal::unix::{SignalKind, signal};
use wechat_simulator::{App, Avatars, Options, Simulator};

/// Maximum size of the apps file.
const MAX_FILE: u64 = 1024 * 1024;

const EXAMPLES: &str = "\
Examples:
  wechat-simulator
      Two demo apps with callbacks to 127.0.0.1 and localhost on any port; open the printed address in a browser.
      Official account wxdddddddddddddd01, secret d0d0d0d0d0d0d0d0d0d0d0d0d0d0de01
      Website          wxdddddddddddddd02, secret d0d0d0d0d0d0d0d0d0d0d0d0d0d0de02

  wechat-simulator --any-port \\
      --official-account wx0123456789abcdef:0123456789abcdef0123456789abcdef@app.localhost \\
      --website wxfedcba9876543210:fedcba9876543210fedcba9876543210@app.localhost
      Your own AppIDs, with invented secrets, and callbacks to http://app.localhost:8080/.

  wechat-simulator --app-file apps.json
      {\"apps\":[{\"appid\":\"wx…\",\"secret\":\"…\",\"kind\":\"official_account\",\"domains\":[\"app.example.com\"]}]}

Then put http://127.0.0.1:8790 where your program has https://open.weixin.qq.com and https://api.weixin.qq.com.
Faults, people and the clock are steered on the console page and under /_sim/; see README.md.";

/// A simulator of WeChat login for tests and development: web authorization (公众号网页授权) and website QR login (网站应用扫码登录).
///
/// It logs in any client as any user. Never use real AppSecrets with it, and never point production at it.
#[derive(Debug, Parser)]
#[command(name = "wechat-simulator", version, after_help = EXAMPLES)]
struct Flags {
    /// Where to listen; port 0 lets the system choose
    #[arg(long, value_name = "ADDRESS:PORT", default_value_t = SocketAddr::from((Ipv4Addr::LOCALHOST, 8790)))]
    listen: SocketAddr,

    /// An official account (公众号): its AppID, AppSecret and the host of its callbacks. May be repeated
    #[arg(long, value_name = "APPID:SECRET@DOMAIN")]
    official_account: Vec<String>,

    /// A website app (网站应用): its AppID, AppSecret and the host of its callbacks. May be repeated
    #[arg(long, value_name = "APPID:SECRET@DOMAIN")]
    website: Vec<String>,

    /// Apps as JSON, with every option of an app; see README.md
    #[arg(long, value_name = "FILE")]
    app_file: Option<PathBuf>,

    /// Let callbacks go to any port and to IP addresses (WeChat: 80 and 443 only, and host names)
    #[arg(long)]
    any_port: bool,

    /// Serve the authorize page to browsers whose User-Agent does not say MicroMessenger
    #[arg(long)]
    any_browser: bool,

    /// The Open Platform account of apps given by flags, so that users have a unionid; empty for none
    #[arg(long, value_name = "NAME", default_value = "open-platform")]
    open_platform: String,

    /// The same seed gives the same codes and tokens in the same order
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    seed: u64,

    /// Duration of the QR page's long poll
    #[arg(long, value_name = "SECONDS", default_value_t = 25, value_parser = clap::value_parser!(u64).range(..=60))]
    qr_hold: u64,

    /// Base URL of avatar addresses in profiles [default: the simulator]
    #[arg(long, value_name = "URL")]
    avatars: Option<String>,

    /// Listen on an address that is not loopback, for a closed container network
    #[arg(long)]
    allow_remote: bool,

    /// Do not print each request on stdout
    #[arg(long)]
    quiet: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AppFile {
    apps: Vec<App>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Flags::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("wechat-simulator: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(flags: Flags) -> anyhow::Result<()> {
    let listen = flags.listen;
    let options = options(flags)?;
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let simulator = Simulator::start(options).await.with_context(|| format!("cannot listen on {listen}"))?;
    println!("listening on {}", simulator.base_url());
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}

fn options(flags: Flags) -> anyhow::Result<Options> {
    let mut apps = match &flags.app_file {
        Some(path) => read(path).with_context(|| format!("--app-file {}", path.display()))?,
        None => Vec::new(),
    };
    let bound = |app: App| match flags.open_platform.as_str() {
        "" => app,
        name => app.in_open_platform(name),
    };
    for given in &flags.official_account {
        apps.push(bound(app(given, App::official_account).context("--official-account")?));
    }
    for given in &flags.website {
        apps.push(bound(app(given, App::website).context("--website")?));
    }
    if apps.is_empty() {
        apps = demo().map(bound).into();
        for app in &apps {
            println!("demo app {} ({:?}); its secret is in --help", app.appid, app.kind);
        }
    }
    if flags.any_port {
        apps.iter_mut().for_each(|app| app.any_port = true);
    }
    Ok(Options {
        listen: flags.listen,
        apps,
        seed: flags.seed,
        qr_hold: Duration::from_secs(flags.qr_hold),
        allow_remote: flags.allow_remote,
        any_browser: flags.any_browser,
        avatars: flags.avatars.map_or(Avatars::Here, Avatars::At),
        narrate: !flags.quiet,
    })
}

/// The default without registered apps: callbacks to this machine only.
fn demo() -> [App; 2] {
    let here = |mut app: App| {
        app.domains = vec!["127.0.0.1".into(), "localhost".into()];
        app.with_any_port()
    };
    [
        here(App::official_account("wxdddddddddddddd01", "d0d0d0d0d0d0d0d0d0d0d0d0d0d0de01", "")),
        here(App::website("wxdddddddddddddd02", "d0d0d0d0d0d0d0d0d0d0d0d0d0d0de02", "")),
    ]
}

/// `APPID:SECRET@DOMAIN`
fn app(given: &str, make: fn(&str, &str, &str) -> App) -> anyhow::Result<App> {
    // The value holds a secret, so no message repeats it.
    let parts = given.split_once(':').and_then(|(appid, rest)| Some((appid, rest.rsplit_once('@')?)));
    let Some((appid, (secret, domain))) = parts else { bail!("the form is APPID:SECRET@DOMAIN") };
    if appid.is_empty() || secret.is_empty() {
        bail!("AppID and AppSecret must not be empty");
    }
    if domain.is_empty() || domain.contains([':', '/']) {
        bail!("the domain of {appid} is a host name alone, without scheme, port or path, as in WeChat's console");
    }
    Ok(make(appid, secret, domain))
}

fn read(path: &Path) -> anyhow::Result<Vec<App>> {
    let mut text = String::new();
    File::open(path)?.take(MAX_FILE).read_to_string(&mut text)?;
    let file: AppFile = serde_json::from_str(&text)?;
    Ok(file.apps)
}
