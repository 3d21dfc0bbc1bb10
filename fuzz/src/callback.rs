//! The callback's query: the parameters that a browser brings back from WeChat (docs/en/wechat.md, Callback).
//!
//! An input is the query.

use url::form_urlencoded;
use wechat_authz::testing::login::callback::Callback;

/// A callback has a `state` of 32 hex digits and at most one code of WeChat's alphabet; repeated parameters must be
/// equal.
pub fn holds(data: &[u8]) {
    let Ok(query) = std::str::from_utf8(data) else { return };
    let said = |wanted: &str| -> Vec<String> {
        let pairs = form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name == wanted);
        let mut values: Vec<String> = pairs.map(|(_, value)| value.into_owned()).collect();
        values.dedup();
        values
    };
    let (states, codes) = (said("state"), said("code"));
    let hex = |text: &str| text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let word = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    let good = query.len() <= 8_192
        && states.len() == 1
        && hex(&states[0])
        && codes.len() <= 1
        && codes.iter().all(|code| code.len() <= 512 && word(code));
    match Callback::parse(query) {
        Ok(callback) => {
            assert!(good, "{query:?}");
            assert_eq!(callback.state, states[0]);
            let code = callback.code.as_ref().map(|code| code.expose().to_owned());
            assert_eq!(code, codes.into_iter().next().filter(|code| !code.is_empty()));
            assert!(!format!("{callback:?}").contains(code.as_deref().filter(|code| code.len() > 40).unwrap_or("\0")));
        }
        Err(fault) => assert!(!good, "{query:?} is a valid callback, but: {fault}"),
    }
}
