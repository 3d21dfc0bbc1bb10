//! A login under way: sealed into a cookie of the browser that started it, one per `state`.
//!
//! WeChat has no PKCE, no nonce and does not bind the redirect address, so the bond between `state` and this cookie is
//! the only defence against a callback that somebody else started (protocol S4). The cookie is `__Host-`: no sibling
//! sub-domain can plant one, so it is the bond to the browser as well. [`MatchedFlow`] exists only where both agree.

use crate::check::Flow;
use crate::clock::Timestamp;
use crate::cookie::{self, FLOW_PREFIX};
use crate::login::settings::App;
use crate::random;
use crate::secret;
use crate::session::keys::KeyRing;
use crate::telemetry::traces;
use http::{HeaderMap, HeaderValue};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How long a person may take at WeChat.
pub const LIFETIME: Duration = Duration::from_secs(600);

/// Logins one browser may have under way; beyond, the oldest is forgotten.
pub const MOST: usize = 5;

/// The sealed text at most: a return address of 2,048 bytes and what goes with it.
const MOST_SEALED: usize = 3_600;

/// What the cookie holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnderWay {
    /// 32 hex digits, also in the address at WeChat.
    state: String,
    /// Which way of logging in, so that a code of one AppID is never spent as another's.
    flow: Flow,
    /// Absolute address to go to in the end.
    return_to: String,
    /// When it was started.
    at: u64,
    /// How many restarts led to this one.
    restarts: u8,
    /// The trace in which it was started, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    trace: Option<String>,
}

/// A flow whose `state` and cookie agree, of this application, not too old. Only [`open`] makes one, and the exchange
/// asks for one: no code is spent before.
#[derive(Clone, Debug)]
pub struct MatchedFlow {
    under_way: UnderWay,
}

impl MatchedFlow {
    /// Its `state`.
    #[must_use]
    pub fn state(&self) -> &str {
        &self.under_way.state
    }

    /// Which way of logging in.
    #[must_use]
    pub fn flow(&self) -> Flow {
        self.under_way.flow
    }

    /// Where to go in the end.
    #[must_use]
    pub fn return_to(&self) -> &str {
        &self.under_way.return_to
    }

    /// How many restarts led to it.
    #[must_use]
    pub fn restarts(&self) -> u8 {
        self.under_way.restarts
    }

    /// The trace in which it was started, as [`traces::link`] takes it.
    #[must_use]
    pub fn trace(&self) -> Option<&str> {
        self.under_way.trace.as_deref()
    }

    /// How long the person has been at it.
    #[must_use]
    pub fn age(&self, now: Timestamp) -> Duration {
        now.since(Timestamp(self.under_way.at))
    }
}

/// A flow just started.
#[derive(Debug)]
pub struct Begun {
    /// For WeChat.
    pub state: String,
    /// The flow's cookie, and the end of those there were too many of.
    pub cookies: Vec<HeaderValue>,
}

/// Starts a flow at `now`. None where nothing could be sealed.
#[must_use]
pub fn begin(
    app: &App,
    flow: Flow,
    return_to: String,
    restarts: u8,
    headers: &HeaderMap,
    keys: &KeyRing,
    now: Timestamp,
) -> Option<Begun> {
    let state = random::state();
    let trace = traces::here();
    let mut under_way = UnderWay { state: state.clone(), flow, return_to, at: now.0, restarts, trace };
    let seal = |under_way: &UnderWay| keys.seal(&context(app), &serde_json::to_vec(under_way).ok()?, now);
    let mut sealed = seal(&under_way)?;
    if sealed.len() > MOST_SEALED {
        // Text that grows when it is written as JSON: better home than nowhere.
        under_way.return_to = app.origin.absolute("/");
        sealed = seal(&under_way)?;
    }
    let mut cookies = superfluous(app, headers, keys, now);
    cookies.push(cookie::set(&name(&state), &sealed, "/", LIFETIME));
    Some(Begun { state, cookies })
}

/// Why a `state` matches no attempt of this browser.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AttemptError {
    /// The browser has no cookie for it. A browser drops the cookie after [`LIFETIME`].
    #[error("this browser has no attempt with this state")]
    Unknown,
    /// The browser sent two cookies for it.
    #[error("two cookies claim this attempt")]
    Conflict,
    /// The cookie does not open: forged, sealed by a key that is gone, or of another application.
    #[error("the attempt's cookie does not open")]
    Foreign,
    /// It was started too long ago.
    #[error("the attempt has expired")]
    Expired,
}

/// The attempt of `app` in this browser that `state` belongs to.
///
/// # Errors
/// [`AttemptError`].
pub fn open(
    app: &App,
    state: &str,
    headers: &HeaderMap,
    keys: &KeyRing,
    now: Timestamp,
) -> Result<MatchedFlow, AttemptError> {
    if !is_state(state) {
        return Err(AttemptError::Unknown);
    }
    let sealed = match cookie::find(headers, &name(state)) {
        cookie::Found::One(sealed) => sealed,
        cookie::Found::None => return Err(AttemptError::Unknown),
        cookie::Found::Conflict => return Err(AttemptError::Conflict),
    };
    let under_way = unseal(app, sealed, keys).ok_or(AttemptError::Foreign)?;
    // The cookie's name holds only the beginning of the state.
    if !secret::same(under_way.state.as_bytes(), state.as_bytes()) {
        return Err(AttemptError::Unknown);
    }
    if now.since(Timestamp(under_way.at)) > LIFETIME {
        return Err(AttemptError::Expired);
    }
    Ok(MatchedFlow { under_way })
}

/// Ends the flow's cookie.
#[must_use]
pub fn forget(state: &str) -> HeaderValue {
    cookie::clear(&name(state), "/")
}

/// Whether a text could be a `state` of ours.
#[must_use]
pub fn is_state(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Endings for flows that are dead, undecodable, or the oldest of too many.
fn superfluous(app: &App, headers: &HeaderMap, keys: &KeyRing, now: Timestamp) -> Vec<HeaderValue> {
    let mut alive: Vec<(u64, &str)> = Vec::new();
    let mut ends: Vec<&str> = Vec::new();
    // However many cookies a client sends, few are looked at and fewer answered.
    for (name, value) in cookie::pairs(headers).filter(|(name, _)| is_flow_name(name)).take(20) {
        match unseal(app, value, keys).filter(|flow| now.since(Timestamp(flow.at)) <= LIFETIME) {
            Some(flow) => alive.push((flow.at, name)),
            None => ends.push(name),
        }
    }
    alive.sort_unstable();
    let surplus = (alive.len() + 1).saturating_sub(MOST);
    ends.extend(alive.into_iter().take(surplus).map(|(_, name)| name));
    ends.into_iter().map(|name| cookie::clear(name, "/")).collect()
}

fn unseal(app: &App, sealed: &str, keys: &KeyRing) -> Option<UnderWay> {
    serde_json::from_slice(&keys.open(&context(app), sealed, MOST_SEALED)?).ok()
}

/// What a flow is sealed for: this purpose, this application at this origin.
fn context(app: &App) -> String {
    format!("flow v1 {} {}", app.origin.as_str(), app.name)
}

fn name(state: &str) -> String {
    format!("{FLOW_PREFIX}{}", state.get(..8).unwrap_or_default())
}

/// A name that can be repeated in an answer.
fn is_flow_name(name: &str) -> bool {
    name.strip_prefix(FLOW_PREFIX)
        .is_some_and(|rest| rest.len() == 8 && rest.bytes().all(|byte| byte.is_ascii_hexdigit()))
}
