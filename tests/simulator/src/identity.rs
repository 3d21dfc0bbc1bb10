//! A user's ids: openid per app, unionid per Open Platform account, both derived from names.
//!
//! The ids of the virtual user of a snapshot page use another salt, so they never equal real ones and a test can
//! prove that no other system received them.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// The openid of the user called `user` in the app `appid`.
#[must_use]
pub fn openid(appid: &str, user: &str) -> String {
    id("openid", appid, user)
}

/// The unionid of the user called `user` in all apps of one Open Platform account.
#[must_use]
pub fn unionid(open_platform: &str, user: &str) -> String {
    id("unionid", open_platform, user)
}

/// The openid of the virtual user in place of `user` on a snapshot page.
#[must_use]
pub fn snapshot_openid(appid: &str, user: &str) -> String {
    id("snapshot openid", appid, user)
}

/// The unionid of that virtual user.
#[must_use]
pub fn snapshot_unionid(open_platform: &str, user: &str) -> String {
    id("snapshot unionid", open_platform, user)
}

/// The path part of an avatar address of `user`.
#[must_use]
pub fn avatar(user: &str) -> String {
    id("avatar", "", user)
}

/// `o` and 27 characters of base64url, the form of every known id.
fn id(salt: &str, space: &str, name: &str) -> String {
    let mut id = String::from("o");
    let hash = digest(&SHA256, format!("{salt}\0{space}\0{name}").as_bytes());
    id.extend(URL_SAFE_NO_PAD.encode(hash.as_ref()).chars().take(27));
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_wechats_form() {
        let id = openid("wx0123456789abcdef", "小明");
        assert_eq!(id.len(), 28);
        assert!(id.starts_with('o') && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)));
    }

    #[test]
    fn ids_differ_by_app_by_person_and_by_kind() {
        let ids = [
            openid("wxa", "小明"),
            openid("wxb", "小明"),
            openid("wxa", "小红"),
            unionid("wxa", "小明"),
            snapshot_openid("wxa", "小明"),
            snapshot_unionid("wxa", "小明"),
        ];
        for (at, id) in ids.iter().enumerate() {
            assert!(!ids[..at].contains(id));
        }
    }
}
