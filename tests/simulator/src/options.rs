//! What a simulator is started with.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::app::App;

/// Where the avatar addresses in profiles point.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Avatars {
    /// Where WeChat's do; nothing answers there.
    #[default]
    LikeWechat,
    /// To the simulator, by the address it listens on.
    Here,
    /// To another address that leads to the simulator, without a slash at the end.
    At(String),
}

#[derive(Clone, Debug)]
pub struct Options {
    /// Port 0 lets the system choose.
    pub listen: SocketAddr,
    pub apps: Vec<App>,
    /// The same seed gives the same codes and moods.
    pub seed: u64,
    /// How long the QR page's long poll is held; WeChat holds about 25 s.
    pub qr_hold: Duration,
    /// Listen beyond loopback. The simulator gives a login to whoever asks for one.
    pub allow_remote: bool,
    /// Serve the authorize page to browsers that are not WeChat's too.
    pub any_browser: bool,
    pub avatars: Avatars,
    /// Tell each hop on stdout in a sentence; never with a code, token or secret.
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
