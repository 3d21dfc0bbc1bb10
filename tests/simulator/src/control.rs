//! `/_sim/*`: all functions of the handle, over HTTP as JSON.
//!
//! Requests from web pages of other origins and for host names other than this machine's are rejected: a web page
//! must not control a simulator on loopback.

use std::time::Duration;

use http::{Method, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::answer::Answer;
use crate::app::App;
use crate::domain_check;
use crate::faults::Fault;
use crate::home;
use crate::qr::{self, Act, Phase};
use crate::request::Request;
use crate::server::Shared;
use crate::user::User;
use crate::world::World;

/// Maximum users or apps; more than any test needs.
const MAX: usize = 1_000;
/// Maximum step of the clock: ten years.
const MAX_STEP_S: f64 = 10.0 * 366.0 * 86_400.0;

type Outcome = Result<Value, (StatusCode, String)>;

pub async fn answer(shared: &Shared, request: &Request) -> Answer {
    let allow_remote = shared.world().options.allow_remote;
    if let Err(why) = from_here(request, allow_remote) {
        return Answer::json(StatusCode::FORBIDDEN, &json!({"error": why}));
    }
    let path = request.path.strip_prefix("/_sim/").unwrap_or_default();
    // The two forms of the pages answer with a redirect, all others with JSON.
    let answer = match (&request.method, path) {
        (&Method::POST, "console") => home::press(&mut shared.world(), request),
        (&Method::POST, "browser") => home::choose(&shared.world(), request),
        (&Method::POST, "domain-check") => match parsed(request) {
            Ok(check) => Answer::json(StatusCode::OK, &domain_check::run(&check, allow_remote).await),
            Err((status, why)) => Answer::json(status, &json!({"error": why})),
        },
        _ => match outcome(&mut shared.world(), request, path) {
            Ok(value) => Answer::json(StatusCode::OK, &value),
            Err((status, why)) => Answer::json(status, &json!({"error": why})),
        },
    };
    if request.method != Method::GET {
        shared.moved.send_replace(());
    }
    answer
}

fn outcome(world: &mut World, request: &Request, path: &str) -> Outcome {
    let method = &request.method;
    if let Some(rest) = path.strip_prefix("qr/") {
        return qr_code(world, request, rest);
    }
    match (method, path) {
        (&Method::GET, "users") => Ok(json!({"on_the_phone": world.on_the_phone, "users": world.users})),
        (&Method::POST, "users") => {
            merge(&mut world.users, request, "name", |user: &User| &user.name)?;
            Ok(json!({"ok": true}))
        }
        (&Method::POST, "users/use") => {
            let name = text(&parsed::<Value>(request)?, "name")?;
            if world.user(&name).is_none() {
                return Err((StatusCode::NOT_FOUND, "the cast has nobody of this name".into()));
            }
            world.on_the_phone = name;
            Ok(json!({"ok": true}))
        }
        (&Method::GET, "ids") => {
            let (appid, user) = (request.param("appid"), request.param("user"));
            Ok(json!({"openid": crate::identity::openid(appid, user), "unionid": world.unionid(appid, user)}))
        }
        (&Method::GET, "apps") => Ok(json!({"apps": world.apps.iter().map(without_secret).collect::<Vec<_>>()})),
        (&Method::POST, "apps") => {
            merge(&mut world.apps, request, "appid", |app: &App| &app.appid)?;
            Ok(json!({"ok": true}))
        }
        (&Method::GET, "faults") => Ok(json!({"faults": world.faults.iter().collect::<Vec<_>>()})),
        (&Method::POST, "faults") => {
            world.faults.inject(parsed::<Fault>(request)?);
            Ok(json!({"ok": true}))
        }
        (&Method::DELETE, "faults") => {
            world.faults.clear();
            Ok(json!({"ok": true}))
        }
        (&Method::GET, "clock") => Ok(clock(world)),
        (&Method::POST, "clock") => {
            let step = parsed::<Value>(request)?.get("advance_s").and_then(Value::as_f64);
            let step = step.filter(|step| (0.0..=MAX_STEP_S).contains(step));
            let step =
                step.ok_or((StatusCode::BAD_REQUEST, "advance_s: seconds forward, at most ten years".to_owned()))?;
            world.clock.advance(Duration::from_secs_f64(step));
            Ok(clock(world))
        }
        (&Method::GET, "journal") => Ok(json!({"entries": world.journal.entries().collect::<Vec<_>>()})),
        (&Method::DELETE, "journal") => {
            world.journal.clear();
            Ok(json!({"ok": true}))
        }
        (&Method::GET, "issued-secrets") => {
            Ok(json!({"secrets": world.grants.secrets().chain(world.central.secrets()).collect::<Vec<_>>()}))
        }
        (&Method::POST, "reset") => {
            *world = World::new(world.options.clone());
            Ok(json!({"ok": true}))
        }
        _ => Err((StatusCode::NOT_FOUND, "no such control call; see the table in README.md".into())),
    }
}

/// `qr/{uuid}` and `qr/{uuid}/scan|confirm|cancel|expire`
fn qr_code(world: &mut World, request: &Request, rest: &str) -> Outcome {
    let (uuid, verb) = rest.split_once('/').unwrap_or((rest, ""));
    let act = match (&request.method, verb) {
        (&Method::GET, "") => None,
        (&Method::POST, "scan") => Some(Act::Scan),
        (&Method::POST, "confirm") => Some(Act::Confirm),
        (&Method::POST, "cancel") => Some(Act::Cancel),
        (&Method::POST, "expire") => Some(Act::Expire),
        _ => return Err((StatusCode::NOT_FOUND, "scan, confirm, cancel and expire are what a QR code can do".into())),
    };
    let phase = match act {
        None => qr::phase(world, uuid).ok_or("no such QR code"),
        Some(act) => match world.person(request).map(|user| user.name.clone()) {
            Some(user) => qr::act(world, uuid, act, &user),
            None => Err("sim_user names nobody of the cast"),
        },
    };
    let phase = phase.map_err(|why| (StatusCode::CONFLICT, why.to_owned()))?;
    let location = match &phase {
        Phase::Confirmed { location, .. } => Some(location.clone()),
        Phase::Cancelled { location, .. } => location.clone(),
        Phase::Waiting | Phase::Scanned { .. } | Phase::Expired => None,
    };
    Ok(json!({"state": phase.name(), "user": phase.user(), "location": location}))
}

/// Adds the item in the body, or changes only the named fields of an existing item with the same key.
fn merge<T: Serialize + DeserializeOwned>(
    things: &mut Vec<T>,
    request: &Request,
    key: &str,
    key_of: fn(&T) -> &String,
) -> Result<(), (StatusCode, String)> {
    let bad = |error: serde_json::Error| (StatusCode::BAD_REQUEST, error.to_string());
    let given: serde_json::Map<String, Value> = parsed(request)?;
    let name = given.get(key).and_then(Value::as_str).ok_or((StatusCode::BAD_REQUEST, format!("{key} is missing")))?;
    let place = things.iter().position(|thing| key_of(thing) == name);
    let mut whole = match place.and_then(|place| things.get(place)) {
        Some(thing) => serde_json::to_value(thing).map_err(bad)?,
        None if things.len() >= MAX => return Err((StatusCode::BAD_REQUEST, format!("{MAX} is the most"))),
        None => json!({}),
    };
    if let Some(fields) = whole.as_object_mut() {
        fields.extend(given);
    }
    let thing = serde_json::from_value(whole).map_err(bad)?;
    match place.and_then(|place| things.get_mut(place)) {
        Some(old) => *old = thing,
        None => things.push(thing),
    }
    Ok(())
}

fn without_secret(app: &App) -> Value {
    let mut value = serde_json::to_value(app).unwrap_or_default();
    if let Some(fields) = value.as_object_mut() {
        fields.remove("secret");
    }
    value
}

fn clock(world: &World) -> Value {
    json!({"now_ms": world.clock.now(), "ahead_s": world.clock.offset().as_secs_f64()})
}

fn parsed<T: DeserializeOwned>(request: &Request) -> Result<T, (StatusCode, String)> {
    serde_json::from_slice(&request.body).map_err(|error| (StatusCode::BAD_REQUEST, error.to_string()))
}

fn text(value: &Value, key: &str) -> Result<String, (StatusCode, String)> {
    let text = value.get(key).and_then(Value::as_str).map(str::to_owned);
    text.ok_or((StatusCode::BAD_REQUEST, format!("{key} is missing")))
}

fn from_here(request: &Request, allow_remote: bool) -> Result<(), &'static str> {
    let host = request.header("host");
    let origin = request.header("origin");
    let same_site = matches!(request.header("sec-fetch-site"), "same-origin" | "none");
    if !origin.is_empty() && origin.split_once("://").map(|(_, origin)| origin) != Some(host) && !same_site {
        return Err("a page of another origin may not steer the simulator");
    }
    let name = host
        .rsplit_once(':')
        .filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()))
        .map_or(host, |(name, _)| name);
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    let is_here =
        name == "localhost" || name.ends_with(".localhost") || address.is_ok_and(|address| address.is_loopback());
    if !is_here && !allow_remote {
        return Err("control calls go to a loopback address or localhost; --allow-remote lifts this");
    }
    Ok(())
}
