//! Return addresses: redirect targets and addresses that we sign (docs/en/threat-model.md, Return addresses).
//!
//! An input is the requested address.

use crate::world::{PREFIX, world};
use url::{Url, form_urlencoded};
use wechat_authz::testing::login::return_to::{accept, accept_as_it_is};
use wechat_authz::testing::routes::jssdk::own_page;

/// A login redirects only to its own application or to an allowed origin, in every reading of the address, and never
/// to one of our pages. A foreign address is never signed.
pub fn holds(data: &[u8]) {
    let Ok(wanted) = std::str::from_utf8(data) else { return };
    let app = world().shop();
    for to in [accept(Some(wanted), app, PREFIX), accept_as_it_is(Some(wanted), app, PREFIX)] {
        stays(&to, wanted);
    }
    let to = accept(Some(wanted), app, PREFIX);
    assert_eq!(
        accept(Some(to.strip_prefix("https://shop.example.com").unwrap_or(&to)), app, PREFIX),
        to,
        "a second call gives another result"
    );

    let asked: String = form_urlencoded::Serializer::new(String::new()).append_pair("url", wanted).finish();
    for query in [asked.as_str(), wanted] {
        if let Some(signed) = own_page(query, &app.origin) {
            let parsed = Url::parse(&signed).unwrap();
            assert_eq!(parsed.origin().ascii_serialization(), "https://shop.example.com", "{signed} is signed");
            assert!(signed.starts_with("https://shop.example.com/") && !signed.contains(['#', '\\', '\n']));
        }
    }
}

fn stays(to: &str, wanted: &str) {
    assert!(to.len() <= 8_192 + 40 && to.bytes().all(|byte| (0x21..=0x7e).contains(&byte)), "{wanted:?} → {to:?}");
    let parsed = Url::parse(to).unwrap();
    let origin = parsed.origin().ascii_serialization();
    assert!(["https://shop.example.com", "https://static.example.com"].contains(&origin.as_str()), "{wanted:?} → {to}");
    assert!(parsed.username().is_empty() && parsed.password().is_none());
    let path = to.strip_prefix(&origin).unwrap().split(['?', '#']).next().unwrap();
    let base = Url::parse("https://shop.example.com/x").unwrap();
    let mut reading = path.to_owned();
    // Undecoded, decoded once and decoded twice, each as a relative address: none leaves the application.
    for _ in 0..3 {
        let joined = base.join(&reading).unwrap();
        assert_eq!(joined.origin(), base.origin(), "{wanted:?} → {to}, read as {reading:?}");
        let own = joined.path().to_ascii_lowercase();
        let ours = own.strip_prefix(PREFIX).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        assert!(!ours || origin != "https://shop.example.com", "{wanted:?} → {to}, one of our pages");
        reading = percent_decoded(&reading);
    }
}

fn percent_decoded(text: &str) -> String {
    // In a path, a plus is not a space.
    let query = format!("x={}", text.replace('+', "%2b").replace('&', "%26"));
    form_urlencoded::parse(query.as_bytes()).next().map(|(_, value)| value.into_owned()).unwrap_or_default()
}
