//! Where a login may return to (threat model §4): a path of the application itself, or an origin on its list.
//!
//! What is given comes from a link anybody can write. Whatever is doubtful becomes `/`; `Location` always starts with a
//! configured origin.

use super::settings::App;
use crate::origin::{MOST_RETURN_BYTES, Origin};
use percent_encoding::percent_decode_str;
use url::form_urlencoded;

/// What WeChat adds to addresses that are shared, and what a callback carries (protocol §8.3): none of it is the page's.
const NOT_THE_PAGES: [&str; 6] = ["code", "state", "nsukey", "wxsigntext", "isappinstalled", "from"];

/// The absolute address that `wanted` leads back to from WeChat, without what WeChat adds to addresses.
#[must_use]
pub fn accept(wanted: Option<&str>, app: &App, prefix: &str) -> String {
    wanted.and_then(|wanted| accepted(wanted, app, prefix, &NOT_THE_PAGES)).unwrap_or_else(|| app.origin.absolute("/"))
}

/// The absolute address that `wanted` leads back to, its query as it is: the person was not at WeChat.
#[must_use]
pub fn accept_as_it_is(wanted: Option<&str>, app: &App, prefix: &str) -> String {
    wanted.and_then(|wanted| accepted(wanted, app, prefix, &[])).unwrap_or_else(|| app.origin.absolute("/"))
}

fn accepted(wanted: &str, app: &App, prefix: &str, dropped: &[&str]) -> Option<String> {
    let plain = |byte: u8| (0x21..=0x7e).contains(&byte) && byte != b'\\' && byte != b'#';
    if wanted.len() > MOST_RETURN_BYTES || !wanted.bytes().all(plain) {
        return None;
    }
    if wanted.starts_with('/') {
        let target = target(wanted, dropped)?;
        return not_ours(wanted, prefix).then(|| app.origin.absolute(&target));
    }
    let (origin, rest) = app.return_to.iter().find_map(|origin| Some((origin, below(wanted, origin)?)))?;
    Some(origin.absolute(&target(if rest.is_empty() { "/" } else { rest }, dropped)?))
}

/// What follows `origin` in `wanted`, where a parser agrees that this is its origin.
fn below<'a>(wanted: &'a str, origin: &Origin) -> Option<&'a str> {
    let rest = wanted.strip_prefix(origin.as_str())?;
    let parsed = url::Url::parse(wanted).ok()?;
    let ends = rest.is_empty() || rest.starts_with('/');
    (ends && parsed.origin().ascii_serialization() == origin.as_str()).then_some(rest)
}

/// Path and query to go to, if the path is one in every reading.
fn target(wanted: &str, dropped: &[&str]) -> Option<String> {
    let (path, query) = wanted.split_once('?').map_or((wanted, None), |(path, query)| (path, Some(query)));
    readings(path).iter().all(|reading| is_local(reading)).then_some(())?;
    let Some(query) = query else { return Some(path.to_owned()) };
    // Pairs of the page's own stay as they were written.
    let kept: Vec<&str> = query
        .split('&')
        .filter(|pair| {
            let name = form_urlencoded::parse(pair.as_bytes()).next().map(|(name, _)| name.into_owned());
            !name.is_some_and(|name| dropped.contains(&name.as_str()))
        })
        .collect();
    Some(if kept.is_empty() { path.to_owned() } else { format!("{path}?{}", kept.join("&")) })
}

/// The path as it is, decoded once, and decoded twice: browsers, gateways and frameworks differ in how often.
fn readings(path: &str) -> [Vec<u8>; 3] {
    let once: Vec<u8> = percent_decode_str(path).collect();
    let twice: Vec<u8> = percent_encoding::percent_decode(&once).collect();
    [path.as_bytes().to_vec(), once, twice]
}

/// Whether a browser that gets this as a relative address stays at the origin.
fn is_local(path: &[u8]) -> bool {
    if path.iter().any(|byte| *byte < 0x20 || *byte == 0x7f) {
        return false;
    }
    let mut after = path.iter().skip(1).skip_while(|byte| **byte <= 0x20);
    if path.first() != Some(&b'/') || matches!(after.next(), Some(b'/' | b'\\')) {
        return false;
    }
    !without_dots(path).starts_with(b"//")
}

/// The path with its dot segments removed, `\` read as `/` and `%2e` as `.`.
fn without_dots(path: &[u8]) -> Vec<u8> {
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

/// Whether this is none of our own pages in any reading: a login that ends at the logout, or at another callback.
fn not_ours(wanted: &str, prefix: &str) -> bool {
    let path = wanted.split('?').next().unwrap_or_default();
    readings(path).iter().all(|reading| {
        let plain = String::from_utf8_lossy(&without_dots(reading)).to_ascii_lowercase();
        let rest = plain.strip_prefix(&prefix.to_ascii_lowercase());
        // A decoded `?` or `#` ends the path for a server that decodes before it parses.
        !rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', ';', '?', '#']))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::login::tests::app;
    use proptest::prelude::*;

    fn accept(wanted: &str) -> String {
        let mut app = app();
        app.return_to = vec![Origin::parse("https://static.example.com").unwrap()];
        super::accept(Some(wanted), &app, "/_wechat")
    }

    #[test]
    fn a_page_of_the_application_is_where_the_login_ends() {
        for (wanted, to) in [
            ("/", "https://shop.example.com/"),
            ("/a/b?c=d&e=%2F", "https://shop.example.com/a/b?c=d&e=%2F"),
            ("/a?next=//evil.example", "https://shop.example.com/a?next=//evil.example"),
            ("/%E4%B8%AD", "https://shop.example.com/%E4%B8%AD"),
            (
                "/a?code=1&x=2&state=3&from=singlemessage&isappinstalled=0&nsukey=a&wxsigntext=b",
                "https://shop.example.com/a?x=2",
            ),
            ("/a?c%6fde=1", "https://shop.example.com/a"),
            ("/a?code=1", "https://shop.example.com/a"),
            ("/a?coder=1", "https://shop.example.com/a?coder=1"),
            ("/_wechatx", "https://shop.example.com/_wechatx"),
            ("https://static.example.com", "https://static.example.com/"),
            ("https://static.example.com/a?b=c", "https://static.example.com/a?b=c"),
        ] {
            assert_eq!(accept(wanted), to, "{wanted}");
        }
        assert_eq!(super::accept(None, &app(), "/_wechat"), "https://shop.example.com/");
    }

    #[test]
    fn a_renewal_changes_nothing_of_the_pages_own_query() {
        let to = accept_as_it_is(Some("/report?from=2026-01-01&state=open&code=7"), &app(), "/_wechat");
        assert_eq!(to, "https://shop.example.com/report?from=2026-01-01&state=open&code=7");
        assert_eq!(accept_as_it_is(Some("//evil.example"), &app(), "/_wechat"), "https://shop.example.com/");
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
            "/\u{200b}/h",
            "\u{feff}//h",
            "javascript:alert(1)",
            "java\tscript:alert(1)",
            "JAVASCRIPT:alert(1)",
            "data:text/html,x",
            " data:text/html,x",
            "vbscript:x",
            "/%c0%af/h#",
            "/a#b",
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
        assert_eq!(accept(&format!("/{}", "a".repeat(3_000))), "https://shop.example.com/");
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
