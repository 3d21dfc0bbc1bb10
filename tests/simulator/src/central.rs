//! `/cgi-bin/*`: the app's own access token, the JS-SDK ticket, and the followers of the account (docs/en/wechat.md,
//! Access token of the account).
//!
//! Where the documents are unclear, the simulator is strict: a forced token invalidates the previous one immediately.

use std::collections::HashMap;
use std::time::Duration;

use http::Method;
use serde_json::Value;

use crate::answer::{Answer, errcode};
use crate::app::AppKind;
use crate::clock::Moment;
use crate::grants::ACCESS_LIFE;
use crate::payload::Payload;
use crate::request::Request;
use crate::shelf::Shelf;
use crate::world::World;

/// A value is replaced this long before it expires; both are valid meanwhile.
const OVERLAP: Duration = Duration::from_secs(300);
const MAX_FORCED: u32 = 20;
const BETWEEN_FORCED: Duration = Duration::from_secs(30);
const DAY_MS: u64 = 86_400_000;
const ROOM: usize = 10_000;

#[derive(Debug)]
struct Token {
    appid: String,
    expires: Moment,
    /// Invalidated before its expiry.
    dead: bool,
}

/// The current token and ticket of one app.
#[derive(Debug, Default)]
struct Current {
    token: Option<String>,
    ticket: Option<(String, Moment)>,
    day: u64,
    calls: u32,
    forced: u32,
    last_forced: Option<Moment>,
}

/// The tokens and tickets of all apps.
#[derive(Debug)]
pub struct Central {
    tokens: Shelf<Token>,
    /// All tickets so far, for searching logs.
    tickets: Shelf<()>,
    current: HashMap<String, Current>,
}

impl Default for Central {
    fn default() -> Self {
        Self { tokens: Shelf::with_room_for(ROOM), tickets: Shelf::with_room_for(ROOM), current: HashMap::new() }
    }
}

impl Central {
    /// Every stored token and ticket.
    pub fn secrets(&self) -> impl Iterator<Item = &str> {
        self.tokens.keys().chain(self.tickets.keys())
    }

    /// The app of a token.
    pub fn appid_of(&self, token: &str) -> Option<&str> {
        self.tokens.get(token).map(|token| token.appid.as_str())
    }

    /// Invalidates the current token; the API continues to return it until a forced refresh.
    pub fn kill(&mut self, appid: &str) {
        let current = self.current.get(appid).and_then(|current| current.token.clone());
        if let Some(token) = current.and_then(|value| self.tokens.get_mut(&value)) {
            token.dead = true;
        }
    }

    /// Invalidates the current token and replaces it, as if another system had forced a refresh.
    pub fn replace(&mut self, appid: &str) {
        self.kill(appid);
        if let Some(current) = self.current.get_mut(appid) {
            current.token = None;
        }
    }
}

/// `POST /cgi-bin/stable_token`
pub fn stable_token(world: &mut World, request: &Request) -> Answer {
    match stable(world, request) {
        Ok(answer) => answer,
        Err(code) => errcode(world, code),
    }
}

fn stable(world: &mut World, request: &Request) -> Result<Answer, i64> {
    if request.method != Method::POST {
        return Err(43002);
    }
    // A form body counts as an empty body.
    let body: Value = serde_json::from_slice(&request.body).map_err(|_| 41002)?;
    let field = |name: &str| body[name].as_str().unwrap_or_default();
    if field("appid").is_empty() {
        return Err(41002);
    }
    let app = world.app(field("appid")).ok_or(40013)?.clone();
    if field("secret").is_empty() {
        return Err(41004);
    }
    if field("secret") != app.secret {
        return Err(app.errcode_for_wrong_secret);
    }
    if app.secret_frozen {
        return Err(40243);
    }
    if field("grant_type") != "client_credential" {
        return Err(40002);
    }
    if !app.caller_allowed {
        return Err(40164);
    }
    let forced = body["force_refresh"].as_bool().unwrap_or_default();
    let now = world.clock.now();
    let current = world.central.current.entry(app.appid.clone()).or_default();
    if current.day != now.0 / DAY_MS {
        (current.day, current.calls, current.forced) = (now.0 / DAY_MS, 0, 0);
    }
    current.calls += 1;
    if app.central_calls_per_day.is_some_and(|most| current.calls > most) {
        return Err(45009);
    }
    if forced {
        if current.last_forced.is_some_and(|last| now.since(last) < BETWEEN_FORCED) {
            return Err(45011);
        }
        if current.forced >= MAX_FORCED {
            return Err(45009);
        }
        (current.forced, current.last_forced) = (current.forced + 1, Some(now));
    }
    let old = current.token.clone();
    let lives = old.as_ref().and_then(|value| world.central.tokens.get(value)).map(|token| token.expires);
    let (value, expires, what) = match (old, lives) {
        (Some(old), Some(expires)) if !forced && now.plus(OVERLAP) < expires => (old, expires, "the same"),
        (old, _) => {
            if let Some(old) = old.filter(|_| forced).and_then(|old| world.central.tokens.get_mut(&old)) {
                old.dead = true;
            }
            let (value, expires) = (world.dice.token(), now.plus(ACCESS_LIFE));
            let token = Token { appid: app.appid.clone(), expires, dead: false };
            world.central.tokens.put(value.clone(), token);
            world.central.current.entry(app.appid.clone()).or_default().token = Some(value.clone());
            (value, expires, if forced { "forced" } else { "new" })
        }
    };
    let payload = Payload::default().with("access_token", value).with("expires_in", expires.since(now).as_secs());
    Ok(Answer::api(payload, format!("central token: {what}")))
}

/// `GET /cgi-bin/ticket/getticket`
pub fn ticket(world: &mut World, request: &Request) -> Answer {
    match jsapi(world, request) {
        Ok(answer) => answer,
        Err(code) => errcode(world, code),
    }
}

fn jsapi(world: &mut World, request: &Request) -> Result<Answer, i64> {
    let appid = held(world, request)?;
    if world.app(&appid).is_none_or(|app| app.kind != AppKind::OfficialAccount) {
        return Err(48001);
    }
    if request.param("type") != "jsapi" {
        return Err(47001);
    }
    let now = world.clock.now();
    let old = world.central.current.get(&appid).and_then(|current| current.ticket.clone());
    let (value, expires, what) = match old.filter(|(_, expires)| now.plus(OVERLAP) < *expires) {
        Some((value, expires)) => (value, expires, "the same"),
        None => {
            let (value, expires) = (world.dice.token(), now.plus(ACCESS_LIFE));
            world.central.tickets.put(value.clone(), ());
            world.central.current.entry(appid).or_default().ticket = Some((value.clone(), expires));
            (value, expires, "new")
        }
    };
    let payload = Payload::default()
        .with("errcode", 0)
        .with("errmsg", "ok")
        .with("ticket", value)
        .with("expires_in", expires.since(now).as_secs());
    Ok(Answer::api(payload, format!("ticket: {what}")))
}

/// `GET /cgi-bin/user/info`
pub fn user_info(world: &mut World, request: &Request) -> Answer {
    match follower(world, request) {
        Ok(answer) => answer,
        Err(code) => errcode(world, code),
    }
}

fn follower(world: &World, request: &Request) -> Result<Answer, i64> {
    let appid = held(world, request)?;
    let openid = request.param("openid");
    if openid.is_empty() {
        return Err(41009);
    }
    let user = world.users.iter().find(|user| crate::identity::openid(&appid, &user.name) == openid).ok_or(40003)?;
    let follows = user.follows(&appid);
    let payload = Payload::default()
        .with("subscribe", i32::from(follows))
        .with("openid", openid)
        .with_some("language", follows.then_some("zh_CN"))
        .with_some("unionid", world.unionid(&appid, &user.name));
    Ok(Answer::api(payload, format!("{}: {}", user.name, if follows { "follows" } else { "does not follow" })))
}

/// The app whose token the request carries.
fn held(world: &World, request: &Request) -> Result<String, i64> {
    if request.method != Method::GET {
        return Err(43001);
    }
    if request.param("access_token").is_empty() {
        return Err(41001);
    }
    let token = world.central.tokens.get(request.param("access_token")).filter(|token| !token.dead).ok_or(40001)?;
    if world.clock.now() >= token.expires {
        return Err(42001);
    }
    Ok(token.appid.clone())
}
