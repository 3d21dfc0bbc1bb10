//! `jssdk`: signs a configuration of WeChat's JS-SDK for a page of the application.
//!
//! With a signature for a URL, the page at that URL may call WeChat's functions in the name of the Official Account. So
//! only URLs of the application itself are signed. No session is required: public pages use the JS-SDK too.

use super::rejection::Rejection;
use super::{PageRequest, Pages};
use crate::origin::Origin;
use crate::response::{self, Response};
use crate::wechat::endpoints::jsapi_ticket::sign;
use http::StatusCode;
use serde_json::json;
use url::{Url, form_urlencoded};

/// The longest URL that is signed.
const MAX_URL_BYTES: usize = 8_192;

impl Pages {
    /// `GET jssdk?url=…`.
    pub(super) async fn jssdk(&self, request: &PageRequest<'_>) -> Response {
        let Some(account) = request.app.official_account.as_ref().filter(|account| account.jssdk) else {
            return response::json_error(StatusCode::NOT_FOUND, "official_account.jssdk is off for this application");
        };
        if request.is_cross_site() {
            self.record_rejection(request, Rejection::CrossSite);
            return response::json_error(StatusCode::FORBIDDEN, "only pages of this application may ask");
        }
        let Some(url) = own_page(request.query(), &request.app.origin) else {
            self.record_rejection(request, Rejection::UrlForeign);
            let message = "url must be the page's own address, as location.href gives it";
            return response::json_error(StatusCode::BAD_REQUEST, message);
        };
        let ticket = match self.login.access_tokens.cached_ticket(&account.application) {
            Some(ticket) => ticket,
            // Only requests that may lead to a call to WeChat use the limit: pages that ask often must not exhaust the
            // limit of logins.
            None => {
                if let Err(exceeded) = self.limits.login(request.client) {
                    self.record_limit(request, exceeded.limit);
                    return response::rate_limited(exceeded.retry_after);
                }
                self.login.access_tokens.ticket(&account.application).await
            }
        };
        match ticket {
            Ok(ticket) => {
                let signed = sign(&ticket, &url, request.now);
                let configuration = json!({
                    "appId": account.application.appid.as_str(),
                    "timestamp": signed.timestamp,
                    "nonceStr": signed.nonce,
                    "signature": signed.signature,
                    "url": url,
                });
                response::json(StatusCode::OK, "signed", configuration)
            }
            // `access_token` has logged the error.
            Err(error) => {
                let message = "WeChat gives no ticket now, try again later";
                let response = response::json_error(StatusCode::SERVICE_UNAVAILABLE, message);
                response::retry_after(response, error.retry_after())
            }
        }
    }
}

/// The single `url` parameter of `query`, without its fragment, if it is a URL of `origin` exactly as a browser serializes
/// it. WeChat compares it byte by byte; a URL that parsers read differently is never serialized like that.
pub fn own_page(query: &str, origin: &Origin) -> Option<String> {
    let mut urls = form_urlencoded::parse(query.as_bytes()).take(100).filter(|(name, _)| name == "url");
    let (Some((_, url)), None) = (urls.next(), urls.next()) else { return None };
    let url = url.split('#').next()?;
    let is_plain = |byte: u8| byte.is_ascii_graphic() && byte != b'\\';
    if url.len() > MAX_URL_BYTES || !url.bytes().all(is_plain) {
        return None;
    }
    let rest = url.strip_prefix(origin.as_str())?;
    let parsed = Url::parse(url).ok()?;
    let same_origin = parsed.origin().ascii_serialization() == origin.as_str();
    let no_user = parsed.username().is_empty() && parsed.password().is_none();
    (rest.starts_with('/') && same_origin && no_user).then(|| url.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn own(url: &str) -> Option<String> {
        let origin = Origin::parse("https://shop.example.com").unwrap();
        let query: String = form_urlencoded::Serializer::new(String::new()).append_pair("url", url).finish();
        own_page(&query, &origin)
    }

    #[test]
    fn an_address_of_this_application_is_signed_as_it_is_written() {
        for (url, signed) in [
            ("https://shop.example.com/", "https://shop.example.com/"),
            ("https://shop.example.com/a/b?x=1&y=%E5%B0%8F#part", "https://shop.example.com/a/b?x=1&y=%E5%B0%8F"),
            ("https://shop.example.com/?a=https://evil.example/", "https://shop.example.com/?a=https://evil.example/"),
            ("https://shop.example.com/a@b", "https://shop.example.com/a@b"),
            ("https://shop.example.com/#@evil.example", "https://shop.example.com/"),
        ] {
            assert_eq!(own(url).as_deref(), Some(signed), "{url}");
        }
    }

    #[test]
    fn no_spelling_of_another_address_is_signed() {
        let long = format!("https://shop.example.com/{}", "a".repeat(8_192));
        for url in [
            "",
            "/",
            "//shop.example.com/",
            "https://shop.example.com",
            "https://shop.example.com?x",
            "https://evil.example/",
            "http://shop.example.com/",
            "https://shop.example.com:8443/",
            "https://shop.example.com:443/",
            "https://shop.example.com./",
            "https://SHOP.example.com/",
            "HTTPS://shop.example.com/",
            "https:shop.example.com/",
            "https:///shop.example.com/",
            "https://shop.example.com.evil.example/",
            "https://shop.example.com@evil.example/",
            "https://shop.example.com:x@evil.example/",
            "https://me@shop.example.com/",
            "https://evil.example/https://shop.example.com/",
            "https://evil.example#https://shop.example.com/",
            "https://evil.example\\@shop.example.com/",
            "https://shop.example.com\\@evil.example/",
            "https://shop.example.com/\\evil",
            " https://shop.example.com/",
            "https://shop.example.com/ ",
            "\thttps://shop.example.com/",
            "https://sh\nop.example.com/",
            "https://shop.example.com/a\u{0}b",
            "https://shop.example.com/小",
            "\u{feff}https://shop.example.com/",
            "https://shop．example.com/",
            "https://shop%2eexample.com/",
            "https://2130706433/",
            "javascript:alert(1)",
            "data:text/html,x",
            "blob:https://shop.example.com/",
            "view-source:https://shop.example.com/",
            &long,
        ] {
            assert_eq!(own(url), None, "{url:?}");
        }
    }

    #[test]
    fn there_is_one_url_or_none() {
        let origin = Origin::parse("https://shop.example.com").unwrap();
        for query in ["", "x=1", "url", "url=", "url=https://shop.example.com/&url=https://shop.example.com/"] {
            assert_eq!(own_page(query, &origin), None, "{query}");
        }
        assert!(own_page("x=1&url=https://shop.example.com/", &origin).is_some());
    }

    proptest! {
        #[test]
        fn what_is_signed_belongs_to_this_application(url in "(https?:)?[/\\\\@.:#?a-c\t ]{0,3}(shop.example.com|evil.example)?[/\\\\@.:#?a-c%\t ]{0,8}") {
            if let Some(signed) = own(&url) {
                let parsed = Url::parse(&signed).unwrap();
                prop_assert_eq!(parsed.host_str(), Some("shop.example.com"));
                prop_assert!(signed.starts_with("https://shop.example.com/"));
            }
        }
    }
}
