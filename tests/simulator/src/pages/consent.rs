//! 授权页: the app requests nickname and picture.

use super::frame::{escape, face, page, somebody_else};
use crate::callback::Login;
use crate::user::{Consent, User};
use crate::world::World;

/// The consent form; its hidden uuid is the one that `authorize_reply` expects. `back` is this page's own path and
/// query.
pub fn consent(world: &World, uuid: &str, login: &Login, user: &User, back: &str) -> String {
    let habit = match user.consent {
        Consent::Allow => "allow",
        Consent::Deny => "deny",
        Consent::Ignore => "ignore",
    };
    let host = url::Url::parse(&login.redirect_uri).ok().and_then(|url| url.host_str().map(str::to_owned));
    let body = format!(
        "<form class=\"card centre\" method=\"get\" action=\"/connect/oauth2/authorize_reply\" data-uuid=\"{uuid}\" data-habit=\"{habit}\">\
         <h1>授权登录<br><span class=\"en\">Log in</span></h1>{}\
         <p><b>{}</b> 申请获取你的昵称、头像<br><span class=\"en\">{} asks for your nickname and picture</span></p>\
         <input type=\"hidden\" name=\"uuid\" value=\"{uuid}\"><input type=\"hidden\" name=\"snsapi_userinfo\" value=\"on\">\
         <p class=\"row centre\"><button name=\"allow\" value=\"0\">拒绝 Refuse</button>\
         <button class=\"yes\" name=\"allow\" value=\"1\">允许 Allow</button></p></form>{}",
        face(user),
        escape(host.as_deref().unwrap_or_default()),
        escape(&login.appid),
        somebody_else(world, user, back),
    );
    page("授权登录 Log in", "", &body)
}
