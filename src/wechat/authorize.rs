//! WeChat's authorize URLs.
//!
//! The parameters are in the documented order: WeChat's clients match the URL by a pattern, and desktop WeChat shows a
//! blank page for any other order (docs/en/wechat.md, Authorize address). `#wechat_redirect` is required even on a
//! redirect.

use super::credentials::{AppId, Scope};
use super::settings::{Settings, join_path};
use crate::login_method::LoginMethod;
use crate::percent::encode_component;

/// The absolute URL of the login page: the one inside WeChat, or the one with the QR code.
pub(crate) fn authorize_url(
    settings: &Settings,
    flow: LoginMethod,
    appid: &AppId,
    scope: Scope,
    redirect_uri: &str,
    state: &str,
) -> String {
    let page = match flow {
        LoginMethod::OfficialAccount => "/connect/oauth2/authorize",
        LoginMethod::Website => "/connect/qrconnect",
    };
    format!(
        "{}?appid={}&redirect_uri={}&response_type=code&scope={}&state={}#wechat_redirect",
        join_path(&settings.open, page),
        appid.as_str(),
        encode_component(redirect_uri),
        scope.as_str(),
        encode_component(state),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use url::Url;

    const STATE: &str = "9f2c7b3e51d84a60b7c1e2d3f4a5b6c7";

    fn appid(text: &str) -> AppId {
        AppId::parse(text).unwrap()
    }

    #[test]
    fn the_authorize_url_has_these_bytes() {
        for scope in [Scope::Base, Scope::Userinfo] {
            let url = authorize_url(
                &Settings::default(),
                LoginMethod::OfficialAccount,
                &appid("wx0123456789abcdef"),
                scope,
                "https://app.example.com/_wx/callback",
                STATE,
            );
            assert_eq!(
                url,
                format!(
                    "https://open.weixin.qq.com/connect/oauth2/authorize?appid=wx0123456789abcdef\
                     &redirect_uri=https%3A%2F%2Fapp.example.com%2F_wx%2Fcallback&response_type=code&scope={}\
                     &state=9f2c7b3e51d84a60b7c1e2d3f4a5b6c7#wechat_redirect",
                    scope.as_str()
                )
            );
        }
    }

    #[test]
    fn the_qrconnect_url_has_these_bytes() {
        let url = authorize_url(
            &Settings::default(),
            LoginMethod::Website,
            &appid("wxfedcba9876543210"),
            Scope::Login,
            "https://app.example.com/_wx/callback",
            STATE,
        );
        assert_eq!(
            url,
            "https://open.weixin.qq.com/connect/qrconnect?appid=wxfedcba9876543210\
             &redirect_uri=https%3A%2F%2Fapp.example.com%2F_wx%2Fcallback&response_type=code&scope=snsapi_login\
             &state=9f2c7b3e51d84a60b7c1e2d3f4a5b6c7#wechat_redirect"
        );
    }

    #[test]
    fn a_component_is_encoded_as_javascript_does() {
        let written = "a b&c=d/e?f#g%h+i:j@k,l;m'(n)*o!p~q-r_s.t\"<中>\r\n";
        let encoded = "a%20b%26c%3Dd%2Fe%3Ff%23g%25h%2Bi%3Aj%40k%2Cl%3Bm'(n)*o!p~q-r_s.t%22%3C%E4%B8%AD%3E%0D%0A";
        assert_eq!(encode_component(written).to_string(), encoded);
    }

    #[test]
    fn another_host_and_base_path_are_kept() {
        let open = Url::parse("http://127.0.0.1:9000/sim/").unwrap();
        let settings = Settings { open, ..Settings::default() };
        let url = authorize_url(
            &settings,
            LoginMethod::Website,
            &appid("wxfedcba9876543210"),
            Scope::Login,
            "http://a/b",
            "s",
        );
        assert!(url.starts_with("http://127.0.0.1:9000/sim/connect/qrconnect?appid="), "{url}");
    }

    #[test]
    fn no_input_adds_a_parameter_or_ends_the_query() {
        let url = authorize_url(
            &Settings::default(),
            LoginMethod::OfficialAccount,
            &appid("wx0123456789abcdef"),
            Scope::Base,
            "https://a/?x=1&scope=snsapi_userinfo#f",
            "s&scope=snsapi_userinfo#",
        );
        let read = Url::parse(&url).unwrap();
        let names: Vec<_> = read.query_pairs().map(|(name, _)| name.into_owned()).collect();
        assert_eq!(names, ["appid", "redirect_uri", "response_type", "scope", "state"]);
        assert_eq!(read.fragment(), Some("wechat_redirect"));
    }
}
