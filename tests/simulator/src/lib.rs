//! A strict WeChat simulator: web authorization and website QR login of WeChat, on loopback, for tests and for
//! developers.
//!
//! It is stricter than WeChat, can inject faults, and records every request. It cannot be mistaken for production:
//! every page names the simulator, and it listens on loopback by default.
//!
//! From the outside to the inside:
//!
//! - `server`, `wire`, `body`, `delivery`: connections, and all their faults
//! - `endpoint`, `request`, `answer`, `payload`: requests and answers
//! - `authorize`, `consent`, `qr`, `sns`, `central`: WeChat's endpoints, functions from world and request to answer
//! - `callback`, `redirect_uri`, `refusal`: the callback to the app, or the page without one
//! - `world`: the whole state, behind one lock: `app`, `user`, `cast`, `grants`, `faults` and their
//!   `effect`, `journal`, `clock`, `dice`
//! - `control`, `home`, `domain_check`, `pages`: the simulator's own
//!
//! Decisions do no I/O; only the server, `domain_check` and the binary do.

mod answer;
mod app;
mod authorize;
mod body;
mod callback;
mod cast;
mod central;
mod clock;
mod consent;
mod control;
mod delivery;
mod dice;
mod domain_check;
mod effect;
mod endpoint;
mod faults;
mod grants;
mod gzip;
mod home;
mod identity;
mod journal;
mod options;
mod pages;
mod payload;
mod qr;
mod redirect_uri;
mod refusal;
mod request;
mod seconds;
mod server;
mod shelf;
mod simulator;
mod sns;
mod user;
mod wire;
mod world;

pub use app::{App, AppKind, Denial, Order};
pub use cast::DEFAULT as DEFAULT_USER;
pub use clock::Moment;
pub use effect::{Effect, Mangling};
pub use endpoint::Endpoint;
pub use faults::{Fault, Lasting, Times};
pub use identity::{openid, snapshot_openid, snapshot_unionid, unionid};
pub use journal::Entry;
pub use options::{Avatars, Options};
pub use simulator::Simulator;
pub use user::{Avatar, Consent, Risk, Snapshot, User};
