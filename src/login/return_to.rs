//! Validates return addresses (docs/en/threat-model.md, Return addresses): a path of the application, or a URL of one of the
//! configured origins.
//!
//! The input is untrusted. An invalid address becomes `/`; `Location` always starts with a configured origin.

use super::settings::App;
use crate::origin::{MAX_RETURN_BYTES, Origin};
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use std::borrow::Cow;

/// The characters that are percent-encoded. All others stay unchanged.
const ENCODED: &AsciiSet = &CONTROLS.add(b' ');

/// The absolute return address after a login, without the parameters that WeChat appends to shared pages.
pub fn accept(wanted: Option<&str>, app: &App, prefix: &str) -> String {
    wanted.and_then(|wanted| accepted(wanted, app, prefix, without_sharing)).unwrap_or_else(|| app.origin.absolute("/"))
}

/// The absolute return address without a login. Its query stays unchanged.
pub fn accept_as_it_is(wanted: Option<&str>, app: &App, prefix: &str) -> String {
    wanted
        .and_then(|wanted| accepted(wanted, app, prefix, |query| Some(query)))
        .unwrap_or_else(|| app.origin.absolute("/"))
}

/// Whether `wanted` is too long for a return address.
pub fn is_too_long(wanted: &str) -> bool {
    wanted.len() > MAX_RETURN_BYTES || encoded(wanted).len() > MAX_RETURN_BYTES
}

/// `wanted` with percent-encoding. A handwritten link may contain `/商品` unencoded.
fn encoded(wanted: &str) -> Cow<'_, str> {
    utf8_percent_encode(wanted, ENCODED).into()
}

/// `query` filters the query.
fn accepted(wanted: &str, app: &App, prefix: &str, query: fn(&str) -> Option<&str>) -> Option<String> {
    if is_too_long(wanted) || wanted.bytes().any(|byte| byte < 0x20 || byte == 0x7f || byte == b'\\') {
        return None;
    }
    let wanted = encoded(wanted);
    let (address, fragment) = match wanted.find('#') {
        Some(at) => wanted.split_at(at),
        None => (&*wanted, ""),
    };
    if address.starts_with('/') {
        let target = target(address, query)?;
        return is_outside_prefix(address, prefix).then(|| app.origin.absolute(&target) + fragment);
    }
    let (origin, rest) = app.return_to.iter().find_map(|origin| Some((origin, strip_origin(address, origin)?)))?;
    Some(origin.absolute(&target(if rest.is_empty() { "/" } else { rest }, query)?) + fragment)
}

/// A query without the parameters that WeChat appends to a shared page: known names with known values, at the end. The same
/// names elsewhere belong to the page.
fn without_sharing(query: &str) -> Option<&str> {
    let (before, last) = query.rsplit_once('&').map_or((None, query), |(before, last)| (Some(before), last));
    let appended = match last.split_once('=') {
        Some(("from", place)) => matches!(place, "singlemessage" | "groupmessage" | "timeline"),
        Some(("isappinstalled", installed)) => matches!(installed, "0" | "1"),
        Some(("nsukey" | "wxsigntext", _)) => true,
        _ => false,
    };
    if appended { before.and_then(without_sharing) } else { Some(query) }
}

/// The part of `wanted` after `origin`, if a URL parser finds the same origin.
fn strip_origin<'a>(wanted: &'a str, origin: &Origin) -> Option<&'a str> {
    let rest = wanted.strip_prefix(origin.as_str())?;
    let parsed = url::Url::parse(wanted).ok()?;
    let ends = rest.is_empty() || rest.starts_with('/');
    (ends && parsed.origin().ascii_serialization() == origin.as_str()).then_some(rest)
}

/// Path and query, if every reading of the path is local.
fn target(wanted: &str, query: fn(&str) -> Option<&str>) -> Option<String> {
    let (path, asked) = wanted.split_once('?').map_or((wanted, None), |(path, asked)| (path, Some(asked)));
    readings(path).iter().all(|reading| is_local(reading)).then_some(())?;
    // The parameters of the page stay unchanged.
    Some(asked.and_then(query).map_or_else(|| path.to_owned(), |query| format!("{path}?{query}")))
}

/// The path as it is, decoded once, and decoded twice: browsers, gateways and frameworks differ.
fn readings(path: &str) -> [Vec<u8>; 3] {
    let once: Vec<u8> = percent_decode_str(path).collect();
    let twice: Vec<u8> = percent_encoding::percent_decode(&once).collect();
    [path.as_bytes().to_vec(), once, twice]
}

/// Whether a browser resolves this relative URL to the same origin.
fn is_local(path: &[u8]) -> bool {
    if path.iter().any(|byte| *byte < 0x20 || *byte == 0x7f) {
        return false;
    }
    let mut after = path.iter().skip(1).skip_while(|byte| **byte <= 0x20);
    if path.first() != Some(&b'/') || matches!(after.next(), Some(b'/' | b'\\')) {
        return false;
    }
    !remove_dot_segments(path).starts_with(b"//")
}

/// The path with its dot segments removed, `\` read as `/` and `%2e` as `.`.
fn remove_dot_segments(path: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(path).replace('\\', "/").replace("%2e", ".").replace("%2E", ".");
    let mut kept: Vec<&str> = Vec::new();
    for segment in text.split('/').skip(1) {
        match segment {
            "." => {}
            ".." => drop(kept.pop()),
            other => kept.push(other),
        }
    }
    format!("/{}", kept.join("/")).into_bytes()
}

/// Whether no reading is one of our pages. A login must not return to the logout or to a callback.
fn is_outside_prefix(wanted: &str, prefix: &str) -> bool {
    let path = wanted.split('?').next().unwrap_or_default();
    readings(path).iter().all(|reading| {
        let plain = String::from_utf8_lossy(&remove_dot_segments(reading)).to_ascii_lowercase();
        let rest = plain.strip_prefix(&prefix.to_ascii_lowercase());
        // For a server that decodes before it parses, a decoded `?` or `#` ends the path.
        !rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', ';', '?', '#']))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::fixtures::shop;
    use proptest::prelude::*;

    fn accept(wanted: &str) -> String {
        let mut app = shop();
        app.return_to = vec![Origin::parse("https://static.example.com").unwrap()];
        super::accept(Some(wanted), &app, "/_wechat")
    }

    #[test]
    fn a_page_of_the_application_is_where_the_login_ends() {
        for (wanted, to) in [
            ("/", "/"),
            ("/a/b?c=d&e=%2F", "/a/b?c=d&e=%2F"),
            ("/a?next=//evil.example", "/a?next=//evil.example"),
            ("/%E4%B8%AD", "/%E4%B8%AD"),
            ("/a?", "/a?"),
            ("/a?&&b", "/a?&&b"),
            ("/_wechatx", "/_wechatx"),
            // Written by hand and encoded once.
            ("/商品", "/%E5%95%86%E5%93%81"),
            ("/商品?q=红 色&p=%25", "/%E5%95%86%E5%93%81?q=%E7%BA%A2%20%E8%89%B2&p=%25"),
            ("/a b", "/a%20b"),
            // A route of the application's scripts.
            ("/a#/orders/42", "/a#/orders/42"),
            ("/a?b=c#d?e=f&from=timeline", "/a?b=c#d?e=f&from=timeline"),
            ("/a#//evil.example", "/a#//evil.example"),
            ("/#章", "/#%E7%AB%A0"),
            ("/a#", "/a#"),
        ] {
            assert_eq!(accept(wanted), format!("https://shop.example.com{to}"), "{wanted}");
        }
        for (wanted, to) in [
            ("https://static.example.com", "https://static.example.com/"),
            ("https://static.example.com/a?b=c", "https://static.example.com/a?b=c"),
            ("https://static.example.com#a", "https://static.example.com/#a"),
        ] {
            assert_eq!(accept(wanted), to, "{wanted}");
        }
        assert_eq!(super::accept(None, &shop(), "/_wechat"), "https://shop.example.com/");
    }

    #[test]
    fn only_what_wechat_appends_to_an_address_is_taken_off() {
        for (wanted, left) in [
            ("/a?x=2&from=timeline&isappinstalled=0", "/a?x=2"),
            ("/a?x=2&from=singlemessage", "/a?x=2"),
            ("/a?from=groupmessage&isappinstalled=1&nsukey=a%2Bb&wxsigntext=c", "/a"),
            ("/a?x=2&from=timeline&isappinstalled=0#b", "/a?x=2#b"),
            ("/a?&from=timeline", "/a?"),
        ] {
            assert_eq!(accept(wanted), format!("https://shop.example.com{left}"), "{wanted}");
        }
        for own in [
            "/list?state=open&from=2026-01-01&code=600519&x=1",
            "/list?x=1&code=600519",
            "/list?state=open",
            "/list?from=2026-01-01",
            "/list?from=timeline&x=1",
            "/list?isappinstalled=0&x=1",
            "/list?isappinstalled=2",
            "/list?from=Timeline",
            "/list?from=",
            "/list?from",
            "/list?fr%6fm=timeline",
            "/list?xfrom=timeline",
            "/from=timeline",
            "/list?code=1&code=2&c%6fde=3",
        ] {
            assert_eq!(accept(own), format!("https://shop.example.com{own}"));
        }
    }

    #[test]
    fn a_renewal_changes_nothing_of_the_pages_own_query() {
        for own in ["/report?from=2026-01-01&state=open&code=7", "/report?from=timeline&isappinstalled=0"] {
            assert_eq!(accept_as_it_is(Some(own), &shop(), "/_wechat"), format!("https://shop.example.com{own}"));
        }
        assert_eq!(accept_as_it_is(Some("//evil.example"), &shop(), "/_wechat"), "https://shop.example.com/");
    }

    #[test]
    fn an_address_has_a_longest_length() {
        let long = format!("/{}", "a".repeat(MAX_RETURN_BYTES - 1));
        assert!(!is_too_long(&long) && accept(&long).len() == "https://shop.example.com".len() + MAX_RETURN_BYTES);
        for too_long in [format!("{long}a"), format!("/{}", "商".repeat(MAX_RETURN_BYTES / 9 + 1))] {
            assert!(is_too_long(&too_long));
            assert_eq!(accept(&too_long), "https://shop.example.com/");
        }
    }

    #[test]
    fn every_known_family_of_ways_out_leads_home() {
        for wanted in [
            "",
            "a",
            "h",
            "//h",
            "///h",
            "////h",
            "/\\h",
            "\\\\h",
            "\\/h",
            "/%2fh",
            "/%2Fh",
            "/%5ch",
            "/%5Ch",
            "/%09/h",
            "/%09//h",
            "/\t/h",
            "/%0d%0aLocation:h",
            "/%0ah",
            "/%00",
            "/.//h",
            "/..//h",
            "/%2e%2e//h",
            "/%2e//h",
            "/a/..//h",
            "/a/%2e%2e//h",
            "/%252f%252fh",
            "/%252fh",
            "/%255ch",
            "/%252e%252e//h",
            "/a/..%2f%2fh",
            "/..%5c%5ch",
            "/ /h",
            "/%20/h",
            "http:h",
            "https:h",
            "https:/h",
            "https:///h",
            "//us@h",
            "https://us.h",
            "https://h#us",
            "https://shop.example.com@h/",
            "https://2130706433/",
            "https://[::ffff:7f00:1]/",
            "//２１６.５８.２１４.２２７",
            "//h。com",
            "\u{feff}//h",
            "javascript:alert(1)",
            "java\tscript:alert(1)",
            "JAVASCRIPT:alert(1)",
            "data:text/html,x",
            " data:text/html,x",
            "vbscript:x",
            "/%c0%af/h#",
            "https://static.example.com.evil.example/",
            "https://static.example.comevil/",
            "https://static.example.com:444/",
            "https://static.example.com@evil.example/",
            "https://static.example.com\\@evil.example/",
            "https://static.example.com//h",
            "https://evil.example/https://static.example.com/",
            "http://static.example.com/",
            "https://STATIC.example.com/",
            "https://static.example.com?x",
            "https://sub.static.example.com/",
            "https://static.example.com./",
        ] {
            let to = accept(wanted);
            assert!(
                to == "https://shop.example.com/" || to.starts_with("https://shop.example.com/%c0%af"),
                "{wanted:?} → {to}"
            );
        }
    }

    #[test]
    fn no_page_of_ours_is_a_place_to_return_to() {
        for wanted in [
            "/_wechat",
            "/_wechat/logout",
            "/_wechat/callback?code=a&state=b",
            "/%5fwechat/logout",
            "/_WECHAT/logout",
            "/a/../_wechat/logout",
            "/%255fwechat/logout",
            "/./_wechat/logout",
            "/_wechat;x/logout",
            "/_wechat?x",
            "/_WECHAT%23",
            "/_wechat%3fx",
            "/_wechat%2523",
        ] {
            assert_eq!(accept(wanted), "https://shop.example.com/", "{wanted}");
        }
    }

    proptest! {
        #[test]
        fn whatever_comes_the_browser_stays(wanted in "[/\\\\.%0-9a-fA-F:@?#h\\t ]{0,24}") {
            let to = accept(&wanted);
            let parsed = url::Url::parse(&to).unwrap();
            prop_assert_eq!(parsed.host_str(), Some("shop.example.com"), "{}", wanted);
            // The same path as a relative address, in every reading, stays too.
            let path = to.strip_prefix("https://shop.example.com").unwrap().split('?').next().unwrap();
            for reading in readings(path) {
                let relative = String::from_utf8_lossy(&reading).into_owned();
                let base = url::Url::parse("https://shop.example.com/x").unwrap();
                let joined = base.join(&relative).unwrap();
                prop_assert_eq!(joined.host_str(), Some("shop.example.com"), "{} as {}", wanted, relative);
            }
        }

        #[test]
        fn no_text_makes_it_panic(wanted in "\\PC{0,80}") {
            let _ = accept(&wanted);
        }
    }
}
