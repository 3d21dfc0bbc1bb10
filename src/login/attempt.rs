//! A login under way: sealed into a cookie of the browser that started it, one per `state`.
//!
//! WeChat has no PKCE, no nonce and does not bind the redirect address, so the bond between `state` and this cookie is
//! the only defence against a callback that somebody else started (docs/en/wechat.md, No PKCE). The cookie is `__Host-`:
//! no sibling sub-domain can plant one, so it is the bond to the browser as well. [`MatchedFlow`] exists only where both
//! agree.

use crate::clock::Timestamp;
use crate::cookie::{self, FLOW_PREFIX};
use crate::login::settings::App;
use crate::login_method::LoginMethod;
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
pub const MAX: usize = 16;

/// The cookies of all of them together, as a browser sends them: common servers take lines of 8 KiB, and the application's
/// own cookies need room too.
pub const MAX_BYTES: usize = 4_096;

/// The longest return address that lies in the cookie itself.
const MAX_INLINE: usize = 2_048;

/// A shorter one takes hardly more room than its absence.
const MIN_SET_ASIDE: usize = 64;

/// The sealed text at most: the longest return address and what goes with it.
const MAX_SEALED: usize = 3_600;

/// Cookies looked at, however many a client sends.
const MAX_READ: usize = 2 * MAX;

/// What the cookie holds. Names of one letter: it goes along with every request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// 32 hex digits, also in the address at WeChat.
    #[serde(rename = "s")]
    state: String,
    /// Which way of logging in, so that a code of one AppID is never spent as another's.
    #[serde(rename = "f")]
    flow: LoginMethod,
    /// Where to go in the end: an absolute address, or what follows the application's origin. Absent where it is set aside.
    #[serde(rename = "r", default, skip_serializing_if = "Option::is_none")]
    return_to: Option<String>,
    /// When it was started.
    #[serde(rename = "a")]
    at: u64,
    /// How many restarts led to this one.
    #[serde(rename = "n")]
    restarts: u8,
    /// The trace in which it was started, if there was one.
    #[serde(rename = "t", default, skip_serializing_if = "Option::is_none")]
    trace: Option<String>,
}

/// A flow whose `state` and cookie agree, of this application, not too old. Only [`open`] makes one, and the exchange
/// asks for one: no code is spent before.
#[derive(Clone, Debug)]
pub struct MatchedAttempt {
    under_way: Attempt,
    return_to: Option<String>,
}

impl MatchedAttempt {
    /// Its `state`.
    pub fn state(&self) -> &str {
        &self.under_way.state
    }

    /// Which way of logging in.
    pub fn flow(&self) -> LoginMethod {
        self.under_way.flow
    }

    /// Where to go in the end, an absolute address; none where it is set aside.
    pub fn return_to(&self) -> Option<&str> {
        self.return_to.as_deref()
    }

    /// The same flow, which goes to `return_to` in the end.
    pub fn returning_to(self, return_to: String) -> Self {
        Self { return_to: Some(return_to), ..self }
    }

    /// How many restarts led to it.
    pub fn restarts(&self) -> u8 {
        self.under_way.restarts
    }

    /// The trace in which it was started, as [`traces::link`] takes it.
    pub fn trace(&self) -> Option<&str> {
        self.under_way.trace.as_deref()
    }

    /// How long the person has been at it.
    pub fn age(&self, now: Timestamp) -> Duration {
        now.since(Timestamp(self.under_way.at))
    }
}

/// A flow just started.
#[derive(Debug)]
pub struct NewAttempt {
    /// For WeChat.
    pub state: String,
    /// The flow's cookie, and changes to those there were too many or too large of.
    pub cookies: Vec<HeaderValue>,
    /// Return addresses that the cookies have no room for.
    pub set_aside: Vec<SetAside>,
}

/// A return address to keep for the flow of `state` until it ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetAside {
    /// The flow's.
    pub state: String,
    /// Absolute.
    pub return_to: String,
}

/// Starts a flow at `now`. None where nothing could be sealed.
pub fn begin(
    app: &App,
    flow: LoginMethod,
    return_to: String,
    restarts: u8,
    headers: &HeaderMap,
    keys: &KeyRing,
    now: Timestamp,
) -> Option<NewAttempt> {
    let state = random::state();
    let mut set_aside = Vec::new();
    let inline = Some(relative(app, &return_to)).filter(|target| target.len() <= MAX_INLINE);
    let mut under_way = Attempt {
        state: state.clone(),
        flow,
        return_to: inline.map(str::to_owned),
        at: now.0,
        restarts,
        trace: traces::current_id(),
    };
    let mut sealed = seal(app, &under_way, keys, now)?;
    // Some texts grow when they are written as JSON.
    if under_way.return_to.is_some() && sealed.len() > MAX_SEALED {
        under_way.return_to = None;
        sealed = seal(app, &under_way, keys, now)?;
    }
    if under_way.return_to.is_none() {
        set_aside.push(SetAside { state: state.clone(), return_to });
    }
    let name = name(&state);
    let mut others = Others::read(app, headers, keys, now);
    let mut room = MAX_BYTES.saturating_sub(cookie_bytes(&name, &sealed));
    others.set_aside(room, app, keys, now, &mut set_aside);
    if others.bytes > room
        && let Some(target) = under_way.return_to.take_if(|target| target.len() >= MIN_SET_ASIDE)
    {
        set_aside.push(SetAside { state: state.clone(), return_to: absolute(app, &target) });
        sealed = seal(app, &under_way, keys, now)?;
        room = MAX_BYTES.saturating_sub(cookie_bytes(&name, &sealed));
    }
    others.forget(room);
    let mut cookies = others.cookies;
    cookies.push(cookie::set(&name, &sealed, "/", LIFETIME));
    Some(NewAttempt { state, cookies, set_aside })
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
pub fn open(
    app: &App,
    state: &str,
    headers: &HeaderMap,
    keys: &KeyRing,
    now: Timestamp,
) -> Result<MatchedAttempt, AttemptError> {
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
    if !secret::constant_time_eq(under_way.state.as_bytes(), state.as_bytes()) {
        return Err(AttemptError::Unknown);
    }
    if now.since(Timestamp(under_way.at)) > LIFETIME {
        return Err(AttemptError::Expired);
    }
    let return_to = under_way.return_to.as_deref().map(|target| absolute(app, target));
    Ok(MatchedAttempt { under_way, return_to })
}

/// Ends the flow's cookie.
pub fn forget(state: &str) -> HeaderValue {
    cookie::clear(&name(state), "/")
}

/// Whether a text could be a `state` of ours.
pub fn is_state(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// The flows that this browser has under way already, and what changes of their cookies.
struct Others<'a> {
    /// The oldest first.
    alive: Vec<Other<'a>>,
    /// Their cookies together.
    bytes: usize,
    cookies: Vec<HeaderValue>,
}

struct Other<'a> {
    flow: Attempt,
    name: &'a str,
    bytes: usize,
    /// Its new cookie.
    changed: Option<HeaderValue>,
}

impl<'a> Others<'a> {
    /// Reads them. Ends those that are dead or cannot be opened.
    fn read(app: &App, headers: &'a HeaderMap, keys: &KeyRing, now: Timestamp) -> Self {
        let mut others = Self { alive: Vec::new(), bytes: 0, cookies: Vec::new() };
        for (name, value) in cookie::pairs(headers).filter(|(name, _)| is_flow_name(name)).take(MAX_READ) {
            match unseal(app, value, keys).filter(|flow| now.since(Timestamp(flow.at)) <= LIFETIME) {
                Some(flow) => {
                    let bytes = cookie_bytes(name, value);
                    others.bytes += bytes;
                    others.alive.push(Other { flow, name, bytes, changed: None });
                }
                None => others.cookies.push(cookie::clear(name, "/")),
            }
        }
        others.alive.sort_unstable_by_key(|other| other.flow.at);
        others
    }

    /// Sets return addresses aside, the oldest first, until the cookies fit into `room`.
    fn set_aside(&mut self, room: usize, app: &App, keys: &KeyRing, now: Timestamp, set_aside: &mut Vec<SetAside>) {
        for other in &mut self.alive {
            if self.bytes <= room {
                return;
            }
            let Some(target) = other.flow.return_to.take_if(|target| target.len() >= MIN_SET_ASIDE) else { continue };
            let Some(sealed) = seal(app, &other.flow, keys, now) else { continue };
            set_aside.push(SetAside { state: other.flow.state.clone(), return_to: absolute(app, &target) });
            let smaller = cookie_bytes(other.name, &sealed);
            self.bytes = self.bytes.saturating_sub(other.bytes) + smaller;
            other.bytes = smaller;
            let rest = LIFETIME.saturating_sub(now.since(Timestamp(other.flow.at)));
            other.changed = Some(cookie::set(other.name, &sealed, "/", rest));
        }
    }

    /// Forgets the oldest flows until the others fit into `room` and one more is not too many.
    fn forget(&mut self, room: usize) {
        let mut count = self.alive.len() + 1;
        for other in &mut self.alive {
            if count > MAX || self.bytes > room {
                (count, self.bytes) = (count - 1, self.bytes.saturating_sub(other.bytes));
                self.cookies.push(cookie::clear(other.name, "/"));
            } else {
                self.cookies.extend(other.changed.take());
            }
        }
    }
}

/// What a cookie adds to the `Cookie` line: its name, its value, `=` and `; `.
fn cookie_bytes(name: &str, value: &str) -> usize {
    name.len() + value.len() + 3
}

/// `target` as the cookie holds it, which is never a text that [`absolute`] reads as something else.
fn relative<'a>(app: &App, target: &'a str) -> &'a str {
    target.strip_prefix(app.origin.as_str()).filter(|rest| rest.starts_with('/')).unwrap_or(target)
}

fn absolute(app: &App, target: &str) -> String {
    if target.starts_with('/') { app.origin.absolute(target) } else { target.to_owned() }
}

fn seal(app: &App, under_way: &Attempt, keys: &KeyRing, now: Timestamp) -> Option<String> {
    keys.seal(&context(app), &serde_json::to_vec(under_way).ok()?, now)
}

fn unseal(app: &App, sealed: &str, keys: &KeyRing) -> Option<Attempt> {
    serde_json::from_slice(&keys.open(&context(app), sealed, MAX_SEALED)?).ok()
}

/// What a flow is sealed for: this purpose, this application at this origin.
fn context(app: &App) -> String {
    format!("flow v2 {} {}", app.origin.as_str(), app.name)
}

fn name(state: &str) -> String {
    format!("{FLOW_PREFIX}{}", state.get(..8).unwrap_or_default())
}

/// A name that can be repeated in an answer.
fn is_flow_name(name: &str) -> bool {
    name.strip_prefix(FLOW_PREFIX)
        .is_some_and(|rest| rest.len() == 8 && rest.bytes().all(|byte| byte.is_ascii_hexdigit()))
}
