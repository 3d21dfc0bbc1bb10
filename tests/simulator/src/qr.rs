//! Website QR login: the page with the code, the phone that scans it, the long poll of the page.
//!
//! waiting → scanned → confirmed, cancelled or expired. The code lives five minutes by the simulator's clock.

use std::time::Duration;

use fast_qr::convert::svg::SvgBuilder;
use fast_qr::qr::QRBuilder;
use http::{Method, StatusCode};

use crate::answer::{Answer, Content};
use crate::app::AppKind;
use crate::authorize::MAX_STATE;
use crate::callback::{self, Login};
use crate::clock::Moment;
use crate::pages;
use crate::redirect_uri;
use crate::refusal::Refusal;
use crate::request::Request;
use crate::world::{World, uuid_of};

/// The lifetime of a QR code for scanning and confirming.
const LIFE: Duration = Duration::from_secs(300);

#[derive(Debug)]
pub struct QrCode {
    pub login: Login,
    pub phase: Phase,
    pub born: Moment,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    Waiting,
    Scanned {
        user: String,
    },
    Confirmed {
        user: String,
        code: String,
        location: String,
    },
    /// `location`: the next address of the page, if the app gets an answer.
    Cancelled {
        user: String,
        location: Option<String>,
    },
    Expired,
}

impl Phase {
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        match self {
            Self::Scanned { user } | Self::Confirmed { user, .. } | Self::Cancelled { user, .. } => Some(user),
            Self::Waiting | Self::Expired => None,
        }
    }

    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Scanned { .. } => "scanned",
            Self::Confirmed { .. } => "confirmed",
            Self::Cancelled { .. } => "cancelled",
            Self::Expired => "expired",
        }
    }

    /// The number that the page's script expects.
    fn errcode(&self) -> i64 {
        match self {
            Self::Waiting => 408,
            Self::Scanned { .. } => 404,
            Self::Confirmed { .. } => 405,
            Self::Cancelled { .. } => 403,
            Self::Expired => 402,
        }
    }
}

/// `/connect/qrconnect`. The order of parameters is not checked, because the embedded script sends another one.
pub fn page(world: &mut World, request: &Request) -> Answer {
    match opened(world, request) {
        Ok(login) => {
            let uuid = world.dice.uuid();
            let born = world.clock.now();
            world.qr_codes.put(uuid.clone(), QrCode { login: login.clone(), phase: Phase::Waiting, born });
            let in_frame = request.param("self_redirect") == "true";
            Answer::page(pages::qrconnect(&uuid, &login, in_frame), "QR code shown")
        }
        Err(refusal) => refusal.into_answer(),
    }
}

fn opened(world: &World, request: &Request) -> Result<Login, Refusal> {
    if request.method != Method::GET {
        return Err(Refusal::worded("该链接无法访问", "the QR page is opened with GET"));
    }
    let app = world.app(request.param("appid"));
    let app = app.ok_or_else(|| Refusal::worded("appid 参数错误", "the simulator knows no app with this AppID"))?;
    let scope = request.param("scope");
    if app.kind != AppKind::Website {
        let why = "this AppID belongs to an official account: QR login has its own registration";
        return Err(Refusal::worded("Scope 参数错误或没有 Scope 权限", why));
    }
    if scope != "snsapi_login" || !app.may_ask_for(scope) {
        return Err(Refusal::worded(
            "Scope 参数错误或没有 Scope 权限",
            "scope is snsapi_login, and granted to the app",
        ));
    }
    if app.banned {
        return Err(Refusal::numbered(10004, "the app is banned (banned)"));
    }
    let redirect_uri = request.param("redirect_uri");
    redirect_uri::check(app, redirect_uri).map_err(|why| Refusal::worded("redirect_uri 参数错误", why))?;
    let state = request.param("state");
    if state.len() > MAX_STATE {
        return Err(Refusal::worded("state参数过长", format!("state has {} bytes; 128 are allowed", state.len())));
    }
    let embedded = request.param("login_type") == "jssdk";
    if !embedded && request.param("response_type") != "code" {
        return Err(Refusal::worded("response_type 参数错误", "response_type is code"));
    }
    Ok(Login { appid: app.appid.clone(), redirect_uri: redirect_uri.into(), state: state.into(), scope: scope.into() })
}

/// `/connect/qrcode/{uuid}`: an image of the address a phone opens.
pub fn image(world: &World, request: &Request) -> Answer {
    let uuid = uuid_of(request);
    if world.qr_codes.get(&uuid).is_none() {
        return Answer::new(StatusCode::NOT_FOUND, "text/plain", Content::Text(String::new()), "no such QR code");
    }
    // The phone uses the same host as the browser.
    match QRBuilder::new(format!("{}/connect/confirm?uuid={uuid}", request.origin())).build() {
        Ok(code) => {
            let svg = SvgBuilder::default().to_str(&code);
            Answer::new(StatusCode::OK, "image/svg+xml", Content::Text(svg), "QR image")
        }
        Err(_) => Answer::new(
            StatusCode::BAD_REQUEST,
            "text/plain",
            Content::Text(String::new()),
            "address too long for a QR code",
        ),
    }
}

/// `/connect/confirm`: opening it on the phone scans the code; its form confirms or cancels.
pub fn confirm(world: &mut World, request: &Request) -> Answer {
    let uuid = uuid_of(request).into_owned();
    let Some(user) = world.person(request).cloned() else {
        return Refusal::worded("系统错误", "sim_user names nobody of the cast").into_answer();
    };
    let done = match request.form("action").as_deref() {
        Some("confirm") => act(world, &uuid, Act::Confirm, &user.name),
        Some("cancel") => act(world, &uuid, Act::Cancel, &user.name),
        _ => act(world, &uuid, Act::Scan, &user.name),
    };
    match done {
        Err(why) => Refusal::worded("该链接无法访问", why).into_answer(),
        Ok(phase) => {
            let decision = format!("phone of {}: {}", user.name, phase.name());
            Answer::page(pages::confirm(world, &uuid, &phase, &user), decision)
        }
    }
}

/// A phone's action on a QR code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    Scan,
    Confirm,
    Cancel,
    /// No phone: the five minutes pass at once.
    Expire,
}

/// Performs the action; returns the state of the QR code, or the reason for failure.
pub fn act(world: &mut World, uuid: &str, act: Act, user: &str) -> Result<Phase, &'static str> {
    age(world, uuid);
    let qr = world.qr_codes.get(uuid).ok_or("no such QR code")?;
    let login = qr.login.clone();
    let user = user.to_owned();
    let next = match (&qr.phase, act) {
        (Phase::Waiting | Phase::Scanned { .. }, Act::Scan) => Phase::Scanned { user },
        // A confirmation without a scan also scans, so that a test needs one call only.
        (Phase::Waiting, Act::Confirm) => confirmed(world, &login, user),
        (Phase::Scanned { user: scanned }, Act::Confirm) => {
            let scanned = scanned.clone();
            confirmed(world, &login, scanned)
        }
        (Phase::Waiting | Phase::Scanned { .. }, Act::Cancel) => {
            Phase::Cancelled { user, location: callback::deny(world, &login) }
        }
        (Phase::Waiting | Phase::Scanned { .. }, Act::Expire) => Phase::Expired,
        (Phase::Expired, _) => return Err("the QR code expired"),
        (Phase::Confirmed { .. } | Phase::Cancelled { .. }, _) => return Err("the QR code was answered before"),
    };
    let qr = world.qr_codes.get_mut(uuid).ok_or("no such QR code")?;
    qr.phase = next.clone();
    Ok(next)
}

fn confirmed(world: &mut World, login: &Login, user: String) -> Phase {
    let granted = callback::grant(world, login, &user, false);
    Phase::Confirmed { user, code: granted.code, location: granted.location }
}

/// The current phase of a QR code.
pub fn phase(world: &mut World, uuid: &str) -> Option<Phase> {
    age(world, uuid);
    world.qr_codes.get(uuid).map(|qr| qr.phase.clone())
}

fn age(world: &mut World, uuid: &str) {
    let now = world.clock.now();
    if let Some(qr) = world.qr_codes.get_mut(uuid)
        && matches!(qr.phase, Phase::Waiting | Phase::Scanned { .. })
        && now.since(qr.born) >= LIFE
    {
        qr.phase = Phase::Expired;
    }
}

/// `/connect/l/qrconnect`: the news for the page, or `None` if nothing changed since `last`.
pub fn news(world: &mut World, request: &Request) -> Option<Answer> {
    let Some(phase) = phase(world, &uuid_of(request)) else {
        return Some(told(500, "", None, "long poll: no such QR code"));
    };
    match &phase {
        Phase::Waiting => None,
        Phase::Scanned { .. } if request.param("last") == "404" => None,
        Phase::Confirmed { code, location, .. } => Some(told(405, code, Some(location), "long poll: confirmed")),
        Phase::Cancelled { location, .. } => Some(told(403, "", location.as_deref(), "long poll: cancelled")),
        Phase::Scanned { .. } | Phase::Expired => {
            Some(told(phase.errcode(), "", None, &format!("long poll: {}", phase.name())))
        }
    }
}

/// The answer to a poll that timed out.
#[must_use]
pub fn no_news() -> Answer {
    told(408, "", None, "long poll: nothing yet")
}

/// The script for the page. `window.sim_location` is the simulator's own: the final address, changed if a fault
/// applies.
#[must_use]
pub fn told(errcode: i64, code: &str, location: Option<&str>, decision: &str) -> Answer {
    let mut script = format!("window.wx_errcode={errcode};window.wx_code='{code}';");
    if let Some(location) = location {
        // A JSON string is a JavaScript string; it is a separate script file, so no tag can end it early.
        script.push_str(&format!("window.sim_location={};", serde_json::Value::from(location)));
    }
    Answer::new(StatusCode::OK, "text/javascript; charset=utf-8", Content::Text(script), decision)
}
