//! `/sns/*`: exchange of codes for tokens and of tokens for profiles. Always HTTP 200; the body contains the result.
//!
//! The exchange marks the code as spent before it answers, so the code is gone even if the answer is lost.

use http::Method;

use crate::answer::{Answer, errcode};
use crate::clock::Moment;
use crate::grants::{ACCESS_LIFE, AccessToken, Grant, REFRESH_LIFE, RefreshToken};
use crate::identity;
use crate::payload::Payload;
use crate::request::Request;
use crate::user::Risk;
use crate::world::World;

/// `GET /sns/oauth2/access_token`
pub fn access_token(world: &mut World, request: &Request) -> Answer {
    match exchange(world, request) {
        Ok(answer) => answer,
        Err(code) => errcode(world, code),
    }
}

fn exchange(world: &mut World, request: &Request) -> Result<Answer, i64> {
    if request.method != Method::GET || request.param("appid").is_empty() {
        return Err(41002);
    }
    let app = world.app(request.param("appid")).ok_or(40013)?.clone();
    if request.param("secret").is_empty() {
        return Err(41004);
    }
    if request.param("secret") != app.secret {
        return Err(app.errcode_for_wrong_secret);
    }
    if app.secret_frozen {
        return Err(40243);
    }
    if request.param("grant_type") != "authorization_code" {
        return Err(40002);
    }
    let value = request.param("code");
    if value.is_empty() {
        return Err(41008);
    }
    let now = world.clock.now();
    let code = world.grants.codes.get(value).filter(|code| code.grant.appid == app.appid).ok_or(40029)?;
    if now.since(code.born) >= app.code_life {
        return Err(app.errcode_for_expired_code);
    }
    if code.spent {
        return Err(40163);
    }
    let grant = code.grant.clone();
    match world.user(&grant.user).map(|user| user.risk) {
        Some(Risk::Normal) => {}
        Some(Risk::Blocked) => return Err(40226),
        // A deleted user has deregistered.
        Some(Risk::Punished) | None => return Err(50002),
    }
    if app.exchanges_per_minute.is_some_and(|most| world.grants.count_exchange(&app.appid, now) > most) {
        return Err(45011);
    }
    if let Some(code) = world.grants.codes.get_mut(value) {
        code.spent = true;
    }
    Ok(tokens(world, &grant, now))
}

fn tokens(world: &mut World, grant: &Grant, now: Moment) -> Answer {
    let access_token = new_access_token(world, grant, now);
    let refresh_token = world.dice.token();
    let refresh = RefreshToken { grant: grant.clone(), born: now, access_token: access_token.clone() };
    world.grants.refresh_tokens.put(refresh_token.clone(), refresh);
    let payload = token_fields(grant, access_token, refresh_token)
        .with_some("is_snapshotuser", grant.snapshot.then_some(1))
        .with_some("unionid", visible_unionid(world, grant, now));
    let whose = if grant.snapshot { "the virtual visitor of " } else { "" };
    Answer::api(payload, format!("exchanged: {whose}{} ({})", grant.user, grant.scope))
}

/// `GET /sns/oauth2/refresh_token`: needs no secret, so anyone with the token may use it.
pub fn refresh_token(world: &mut World, request: &Request) -> Answer {
    match refresh(world, request) {
        Ok(answer) => answer,
        Err(code) => errcode(world, code),
    }
}

fn refresh(world: &mut World, request: &Request) -> Result<Answer, i64> {
    if request.method != Method::GET || request.param("appid").is_empty() {
        return Err(41002);
    }
    let appid = world.app(request.param("appid")).ok_or(40013)?.appid.clone();
    if request.param("grant_type") != "refresh_token" {
        return Err(40002);
    }
    let value = request.param("refresh_token");
    if value.is_empty() {
        return Err(41003);
    }
    let now = world.clock.now();
    let token = world.grants.refresh_tokens.get(value).filter(|token| token.grant.appid == appid).ok_or(40030)?;
    if now.since(token.born) >= REFRESH_LIFE {
        return Err(42002);
    }
    let (grant, current) = (token.grant.clone(), token.access_token.clone());
    if password_changed(world, &grant) {
        return Err(42007);
    }
    // A valid token keeps its value and gets a longer life; an expired one is replaced.
    let access_token = match world.grants.access_tokens.get_mut(&current).filter(|access| now < access.expires) {
        Some(access) => {
            access.expires = now.plus(ACCESS_LIFE);
            current
        }
        None => new_access_token(world, &grant, now),
    };
    if let Some(token) = world.grants.refresh_tokens.get_mut(value) {
        token.access_token.clone_from(&access_token);
    }
    let decision = format!("refreshed: {}", grant.user);
    Ok(Answer::api(token_fields(&grant, access_token, value.into()), decision))
}

/// `GET /sns/auth`
pub fn auth(world: &mut World, request: &Request) -> Answer {
    let code = held_token(world, request).map_or_else(|code| code, |_| 0);
    if code != 0 {
        return errcode(world, code);
    }
    Answer::api(Payload::default().with("errcode", 0).with("errmsg", "ok"), "token and openid belong together")
}

/// `GET /sns/userinfo`
pub fn userinfo(world: &mut World, request: &Request) -> Answer {
    match profile(world, request) {
        Ok(answer) => answer,
        Err(code) => errcode(world, code),
    }
}

fn profile(world: &World, request: &Request) -> Result<Answer, i64> {
    let grant = held_token(world, request)?;
    if grant.scope == "snsapi_base" {
        return Err(48001);
    }
    let user = world.user(&grant.user).ok_or(50002)?;
    if user.risk == Risk::Punished {
        return Err(50002);
    }
    let (nickname, picture) = match grant.snapshot {
        true => ("微信用户".to_owned(), String::new()),
        false => (user.nickname.clone(), world.headimgurl(user)),
    };
    // Empty at WeChat since 2021-10-20: sex and the places.
    let payload = Payload::default()
        .with("openid", openid(&grant))
        .with("nickname", nickname)
        .with("sex", 0)
        .with("language", "")
        .with("city", "")
        .with("province", "")
        .with("country", "")
        .with("headimgurl", picture)
        .with("privilege", Vec::<String>::new())
        .with_some("unionid", visible_unionid(world, &grant, world.clock.now()));
    Ok(Answer::api(payload, format!("profile of {}", grant.user)))
}

/// The grant of the access token in the request, if it is valid and belongs to the openid beside it.
fn held_token(world: &World, request: &Request) -> Result<Grant, i64> {
    if request.method != Method::GET || request.param("access_token").is_empty() {
        return Err(41001);
    }
    if request.param("openid").is_empty() {
        return Err(41009);
    }
    let token = world.grants.access_tokens.get(request.param("access_token")).ok_or(40001)?;
    if password_changed(world, &token.grant) {
        return Err(40001);
    }
    if world.clock.now() >= token.expires {
        return Err(42001);
    }
    if request.param("openid") != openid(&token.grant) {
        return Err(40003);
    }
    Ok(token.grant.clone())
}

fn new_access_token(world: &mut World, grant: &Grant, now: Moment) -> String {
    let value = world.dice.token();
    world.grants.access_tokens.put(value.clone(), AccessToken { grant: grant.clone(), expires: now.plus(ACCESS_LIFE) });
    value
}

fn token_fields(grant: &Grant, access_token: String, refresh_token: String) -> Payload {
    Payload::default()
        .with("access_token", access_token)
        .with("expires_in", ACCESS_LIFE.as_secs())
        .with("refresh_token", refresh_token)
        .with("openid", openid(grant))
        .with("scope", grant.scope.clone())
}

fn password_changed(world: &World, grant: &Grant) -> bool {
    world.user(&grant.user).is_some_and(|user| user.password_changes != grant.password_changes)
}

fn openid(grant: &Grant) -> String {
    if grant.snapshot {
        identity::snapshot_openid(&grant.appid, &grant.user)
    } else {
        identity::openid(&grant.appid, &grant.user)
    }
}

/// The unionid, if the scope includes it: with `snsapi_base` only for an app that the user agreed to before.
fn visible_unionid(world: &World, grant: &Grant, now: Moment) -> Option<String> {
    if grant.scope == "snsapi_base" && !world.grants.consented(&grant.appid, &grant.user, now) {
        return None;
    }
    let real = world.unionid(&grant.appid, &grant.user)?;
    if !grant.snapshot {
        return Some(real);
    }
    let open_platform = world.app(&grant.appid)?.open_platform.as_deref()?;
    Some(identity::snapshot_unionid(open_platform, &grant.user))
}
