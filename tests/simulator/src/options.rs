//! The options of a simulator.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::app::App;

/// The host of the avatar addresses in profiles.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Avatars {
    /// WeChat's own addresses; no server answers there.
    #[default]
    LikeWechat,
    /// The simulator, at the address it listens on.
    Here,
    /// Another address that leads to the simulator, without a slash at the end.
    At(String),
}

#[derive(Clone, Debug)]
pub struct Options {
    /// Port 0 lets the system choose.
    pub listen: SocketAddr,
    pub apps: Vec<App>,
    /// The same seed gives the same codes and random faults.
    pub seed: u64,
    /// Duration of the QR page's long poll; WeChat uses about 25 s.
    pub qr_hold: Duration,
    /// Listen beyond loopback. The simulator gives a login to any client.
    pub allow_remote: bool,
    /// Also serve the authorize page to browsers other than WeChat's.
    pub any_browser: bool,
    pub avatars: Avatars,
    /// Print each request on stdout in a sentence, without codes, tokens or secrets.
    pub narrate: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            apps: Vec::new(),
            seed: 0,
            qr_hold: Duration::from_secs(25),
            allow_remote: false,
            any_browser: false,
            avatars: Avatars::LikeWechat,
            narrate: false,
        }
    }
}
