//! A login attempt, sealed in a cookie of the browser that started it, one per `state`.
//!
//! WeChat has no PKCE and no nonce and does not bind the redirect URI, so only the match of `state` and cookie protects
//! against login CSRF (docs/en/wechat.md, No PKCE). The cookie has the `__Host-` prefix: a sibling subdomain cannot set it.
//! [`open`] returns a [`MatchedAttempt`] only if both match.

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

/// The lifetime of an attempt.
pub const LIFETIME: Duration = Duration::from_secs(600);

/// The most attempts of one browser. Beyond, the oldest is removed.
pub const MAX: usize = 16;

/// The most bytes of all attempt cookies together. Common servers accept header lines of 8 KiB, and the application needs
/// room for its own cookies.
pub const MAX_BYTES: usize = 4_096;

/// The longest return address in a cookie.
const MAX_INLINE: usize = 2_048;

/// Shorter return addresses stay in the cookie: to remove them saves little.
const MIN_SET_ASIDE: usize = 64;

/// The longest sealed attempt.
const MAX_SEALED: usize = 3_600;

/// The most attempt cookies that are read from a request.
const MAX_READ: usize = 2 * MAX;

/// The content of the cookie. The names have one letter because the browser sends the cookie with every request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// 32 hex digits, also in the redirect to WeChat.
    #[serde(rename = "s")]
    state: String,
    /// The login method. A code of one AppID is never exchanged with another.
    #[serde(rename = "f")]
    method: LoginMethod,
    /// The return address: absolute, or relative to the application's origin. Absent if it is set aside.
    #[serde(rename = "r", default, skip_serializing_if = "Option::is_none")]
    return_to: Option<String>,
    /// The time of the start.
    #[serde(rename = "a")]
    at: u64,
    /// The number of restarts before this attempt.
    #[serde(rename = "n")]
    restarts: u8,
    /// The trace of the start.
    #[serde(rename = "t", default, skip_serializing_if = "Option::is_none")]
    trace: Option<String>,
}

/// An attempt of this application whose `state` and cookie match and that has not expired. Only [`open`] creates one, and
/// the exchange requires one.
#[derive(Clone, Debug)]
pub struct MatchedAttempt {
    attempt: Attempt,
    return_to: Option<String>,
}

impl MatchedAttempt {
    /// The `state`.
    pub fn state(&self) -> &str {
        &self.attempt.state
    }

    /// The login method.
    pub fn method(&self) -> LoginMethod {
        self.attempt.method
    }

    /// The absolute return address. `None` if it is set aside.
    pub fn return_to(&self) -> Option<&str> {
        self.return_to.as_deref()
    }

    /// The attempt with another return address.
    pub fn returning_to(self, return_to: String) -> Self {
        Self { return_to: Some(return_to), ..self }
    }

    /// The number of restarts before it.
    pub fn restarts(&self) -> u8 {
        self.attempt.restarts
    }

    /// The trace of the start, for [`traces::link`].
    pub fn trace(&self) -> Option<&str> {
        self.attempt.trace.as_deref()
    }

    /// The time since the start.
    pub fn age(&self, now: Timestamp) -> Duration {
        now.since(Timestamp(self.attempt.at))
    }
}

/// A new attempt.
#[derive(Debug)]
pub struct NewAttempt {
    /// The `state` for WeChat.
    pub state: String,
    /// The attempt's cookie, and changes to the cookies of older attempts.
    pub cookies: Vec<HeaderValue>,
    /// Return addresses that do not fit into cookies.
    pub set_aside: Vec<SetAside>,
}

/// A return address to store outside the cookie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetAside {
    /// The attempt's `state`.
    pub state: String,
    /// The absolute address.
    pub return_to: String,
}

/// Creates an attempt. `None` if it cannot be sealed.
pub fn begin(
    app: &App,
    method: LoginMethod,
    return_to: String,
    restarts: u8,
    headers: &HeaderMap,
    keys: &KeyRing,
    now: Timestamp,
) -> Option<NewAttempt> {
    let state = random::state();
    let mut set_aside = Vec::new();
    let inline = Some(relative(app, &return_to)).filter(|target| target.len() <= MAX_INLINE);
    let mut attempt = Attempt {
        state: state.clone(),
        method,
        return_to: inline.map(str::to_owned),
        at: now.0,
        restarts,
        trace: traces::current_id(),
    };
    let mut sealed = seal(app, &attempt, keys, now)?;
    // JSON escapes make some texts longer.
    if attempt.return_to.is_some() && sealed.len() > MAX_SEALED {
        attempt.return_to = None;
        sealed = seal(app, &attempt, keys, now)?;
    }
    if attempt.return_to.is_none() {
        set_aside.push(SetAside { state: state.clone(), return_to });
    }
    let name = name(&state);
    let mut others = Others::read(app, headers, keys, now);
    let mut room = MAX_BYTES.saturating_sub(cookie_bytes(&name, &sealed));
    others.set_aside(room, app, keys, now, &mut set_aside);
    if others.bytes > room
        && let Some(target) = attempt.return_to.take_if(|target| target.len() >= MIN_SET_ASIDE)
    {
        set_aside.push(SetAside { state: state.clone(), return_to: absolute(app, &target) });
        sealed = seal(app, &attempt, keys, now)?;
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
    let attempt = unseal(app, sealed, keys).ok_or(AttemptError::Foreign)?;
    // The cookie's name holds only the beginning of the state.
    if !secret::constant_time_eq(attempt.state.as_bytes(), state.as_bytes()) {
        return Err(AttemptError::Unknown);
    }
    if now.since(Timestamp(attempt.at)) > LIFETIME {
        return Err(AttemptError::Expired);
    }
    let return_to = attempt.return_to.as_deref().map(|target| absolute(app, target));
    Ok(MatchedAttempt { attempt, return_to })
}

/// Deletes the attempt's cookie.
pub fn forget(state: &str) -> HeaderValue {
    cookie::clear(&name(state), "/")
}

/// Whether a text has the form of a `state`.
pub fn is_state(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// The other attempts of this browser, and the changes to their cookies.
struct Others<'a> {
    /// Attempts that have not expired, the oldest first.
    alive: Vec<Other<'a>>,
    /// The bytes of their cookies.
    bytes: usize,
    cookies: Vec<HeaderValue>,
}

struct Other<'a> {
    attempt: Attempt,
    name: &'a str,
    bytes: usize,
    /// The new cookie.
    changed: Option<HeaderValue>,
}

impl<'a> Others<'a> {
    /// Reads the attempts. Deletes the cookies that have expired or do not open.
    fn read(app: &App, headers: &'a HeaderMap, keys: &KeyRing, now: Timestamp) -> Self {
        let mut others = Self { alive: Vec::new(), bytes: 0, cookies: Vec::new() };
        for (name, value) in cookie::pairs(headers).filter(|(name, _)| is_attempt_name(name)).take(MAX_READ) {
            match unseal(app, value, keys).filter(|attempt| now.since(Timestamp(attempt.at)) <= LIFETIME) {
                Some(attempt) => {
                    let bytes = cookie_bytes(name, value);
                    others.bytes += bytes;
                    others.alive.push(Other { attempt, name, bytes, changed: None });
                }
                None => others.cookies.push(cookie::clear(name, "/")),
            }
        }
        others.alive.sort_unstable_by_key(|other| other.attempt.at);
        others
    }

    /// Removes return addresses from the cookies, the oldest first, until the cookies fit into `room` bytes.
    fn set_aside(&mut self, room: usize, app: &App, keys: &KeyRing, now: Timestamp, set_aside: &mut Vec<SetAside>) {
        for other in &mut self.alive {
            if self.bytes <= room {
                return;
            }
            let Some(target) = other.attempt.return_to.take_if(|target| target.len() >= MIN_SET_ASIDE) else {
                continue;
            };
            let Some(sealed) = seal(app, &other.attempt, keys, now) else { continue };
            set_aside.push(SetAside { state: other.attempt.state.clone(), return_to: absolute(app, &target) });
            let smaller = cookie_bytes(other.name, &sealed);
            self.bytes = self.bytes.saturating_sub(other.bytes) + smaller;
            other.bytes = smaller;
            let rest = LIFETIME.saturating_sub(now.since(Timestamp(other.attempt.at)));
            other.changed = Some(cookie::set(other.name, &sealed, "/", rest));
        }
    }

    /// Removes the oldest attempts until the others fit into `room` bytes and leave room for one more.
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

/// The bytes of a cookie in the `Cookie` header: name, value, `=` and `; `.
fn cookie_bytes(name: &str, value: &str) -> usize {
    name.len() + value.len() + 3
}

/// `target` without the origin of the application. [`absolute`] is the inverse.
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

/// The context of the seal: purpose, application, origin.
fn context(app: &App) -> String {
    format!("flow v2 {} {}", app.origin.as_str(), app.name)
}

fn name(state: &str) -> String {
    format!("{FLOW_PREFIX}{}", state.get(..8).unwrap_or_default())
}

/// Whether a cookie name is that of an attempt. Such a name is safe in a response header.
fn is_attempt_name(name: &str) -> bool {
    name.strip_prefix(FLOW_PREFIX)
        .is_some_and(|rest| rest.len() == 8 && rest.bytes().all(|byte| byte.is_ascii_hexdigit()))
}
