//! `/connect/oauth2/authorize`: web authorization inside WeChat, with its checks in a fixed order.

use http::Method;

use crate::answer::Answer;
use crate::app::{App, AppKind, Order};
use crate::callback::{self, Login};
use crate::consent;
use crate::pages;
use crate::redirect_uri;
use crate::refusal::Refusal;
use crate::request::Request;
use crate::user::{Snapshot, User};
use crate::world::World;

const ORDER: [&str; 5] = ["appid", "redirect_uri", "response_type", "scope", "state"];
/// The documented maximum length of `state`.
pub const MAX_STATE: usize = 128;

pub fn answer(world: &mut World, request: &Request) -> Answer {
    visit(world, request).unwrap_or_else(Refusal::into_answer)
}

fn visit(world: &mut World, request: &Request) -> Result<Answer, Refusal> {
    if request.method != Method::GET {
        return Err(Refusal::worded("该链接无法访问", "the authorize link is opened with GET"));
    }
    if !request.is_wechat() && !world.options.any_browser {
        return Err(Refusal::worded(
            "请在微信客户端打开链接",
            "the User-Agent does not say MicroMessenger; --any-browser (any_browser) lets every browser in",
        ));
    }
    let named = world.app(request.param("appid"));
    if let Some(why) = misplaced(&request.raw_query) {
        match named.map_or(Order::Strict, |app| app.order) {
            Order::Strict => return Err(Refusal::worded("该链接无法访问", why)),
            Order::Desktop if request.is_desktop_wechat() => {
                return Ok(Answer::page(String::new(), "blank page: parameters out of order, in desktop WeChat"));
            }
            Order::Desktop | Order::Lenient => {}
        }
    }
    for (name, number) in [("appid", 10012), ("redirect_uri", 10011), ("scope", 10010), ("state", 10013)] {
        if request.param(name).is_empty() {
            return Err(Refusal::numbered(number, format!("{name} is missing or empty")));
        }
    }
    let app = named.ok_or_else(|| Refusal::worded("appid 参数错误", "the simulator knows no app with this AppID"))?;
    let login = checked(app, request)?;
    let first_hop = app.first_hop && !request.query.iter().any(|(name, _)| name == "connect_redirect");
    if first_hop {
        let again = format!("{}{}&connect_redirect=1", request.origin(), here(request));
        return Ok(Answer::redirect(&again, "first hop: same link again with connect_redirect=1"));
    }
    let user = world.person(request).ok_or_else(|| Refusal::worded("系统错误", "sim_user names nobody of the cast"))?;
    if app.test_account && !user.follows(&app.appid) {
        return Err(Refusal::numbered(10006, format!("{} does not follow this test account", user.name)));
    }
    Ok(proceed(world, &login, &app.clone(), &user.clone(), request))
}

/// Steps 5 to 9: errors of the link itself, for this app.
fn checked(app: &App, request: &Request) -> Result<Login, Refusal> {
    if app.kind == AppKind::Website {
        return Err(Refusal::numbered(10016, "this AppID belongs to a website app: use /connect/qrconnect"));
    }
    if app.banned {
        return Err(Refusal::numbered(10004, "the account is banned (banned)"));
    }
    let scope = request.param("scope");
    if !matches!(scope, "snsapi_base" | "snsapi_userinfo") {
        return Err(Refusal::worded("Scope 参数错误或没有 Scope 权限", "scope is snsapi_base or snsapi_userinfo"));
    }
    if !app.may_ask_for(scope) {
        return Err(Refusal::numbered(10005, format!("the account was not granted {scope}")));
    }
    let redirect_uri = request.param("redirect_uri");
    redirect_uri::check(app, redirect_uri).map_err(|why| Refusal::numbered(10003, why))?;
    let state = request.param("state");
    if state.len() > MAX_STATE {
        return Err(Refusal::worded("state参数过长", format!("state has {} bytes; 128 are allowed", state.len())));
    }
    if app.strict_state && !state.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err(Refusal::worded(
            "state参数错误",
            "state holds more than [a-zA-Z0-9] (strict_state: false lets it pass)",
        ));
    }
    if request.param("response_type") != "code" {
        return Err(Refusal::worded("response_type 参数错误", "response_type is code"));
    }
    Ok(Login { appid: app.appid.clone(), redirect_uri: redirect_uri.into(), state: state.into(), scope: scope.into() })
}

/// The link is valid: answers with a code, a snapshot page, or the consent page.
fn proceed(world: &mut World, login: &Login, app: &App, user: &User, request: &Request) -> Answer {
    let asks_for_profile = login.scope == "snsapi_userinfo";
    let snapshot = match user.snapshot {
        Snapshot::Never => false,
        Snapshot::Once | Snapshot::Always => asks_for_profile,
        Snapshot::AlwaysEvenSilent => true,
    };
    if snapshot || (asks_for_profile && request.param("forceSnapShot") == "true") {
        if user.snapshot == Snapshot::Once
            && let Some(user) = world.users.iter_mut().find(|other| other.name == user.name)
        {
            user.snapshot = Snapshot::Never;
        }
        let granted = callback::grant(world, login, &user.name, true);
        return Answer::redirect(
            &granted.location,
            format!("{}: snapshot page, code for a virtual visitor", user.name),
        );
    }
    let now = world.clock.now();
    let remembered = app.remember_consent
        && world.grants.consented(&app.appid, &user.name, now)
        && request.param("forcePopup") != "true";
    if !asks_for_profile || user.follows(&app.appid) || remembered {
        let granted = callback::grant(world, login, &user.name, false);
        return Answer::redirect(&granted.location, format!("{}: code issued silently ({})", user.name, login.scope));
    }
    let uuid = consent::ask(world, login, &user.name);
    if app.instant_consent {
        return consent::by_habit(world, &uuid);
    }
    Answer::page(pages::consent(world, &uuid, login, user, &here(request)), format!("{}: consent page", user.name))
}

/// The error in the order of the parameters; `None` if each of the five occurs once, in order, before all others.
fn misplaced(raw_query: &str) -> Option<String> {
    let names: Vec<&str> = raw_query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split('=').next().unwrap_or(pair))
        .collect();
    let places: Vec<Option<usize>> = names.iter().map(|name| ORDER.iter().position(|known| known == name)).collect();
    let known: Vec<usize> = places.iter().flatten().copied().collect();
    let in_order = known.is_sorted_by(|one, next| one < next);
    let known_first = places.iter().take(known.len()).all(Option::is_some);
    if in_order && known_first {
        return None;
    }
    let short: Vec<String> = names.iter().take(12).map(|name| name.chars().take(24).collect()).collect();
    Some(format!(
        "the parameters came as {}; WeChat wants {} and others after them. A redirect_uri that is not percent-encoded \
         also ends up here",
        short.join(", "),
        ORDER.join(", ")
    ))
}

/// The address of this page, to return to it as another user.
fn here(request: &Request) -> String {
    format!("{}?{}", request.path, request.raw_query)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_five_come_first_and_in_order() {
        for (query, in_order) in [
            ("appid=1&redirect_uri=2&response_type=3&scope=4&state=5", true),
            ("appid=1&redirect_uri=2&response_type=3&scope=4&state=5&forcePopup=true&uin=1", true),
            ("appid=1&redirect_uri=2&response_type=3&scope=4", true), // 10013 says more
            ("redirect_uri=2&appid=1&response_type=3&scope=4&state=5", false),
            ("appid=1&redirect_uri=2&scope=4&response_type=3&state=5", false),
            ("appid=1&redirect_uri=2&response_type=3&scope=4&connect_redirect=1&state=5", false),
            ("appid=1&redirect_uri=2&x=y&response_type=3&scope=4&state=5", false),
            ("appid=1&redirect_uri=2&response_type=3&scope=4&state=5&state=6", false),
        ] {
            assert_eq!(misplaced(query).is_none(), in_order, "{query}");
        }
    }
}
