//! Rewrites the answers of pages in-band, so that Envoy passes them on. Gateways without a route to the pages use them.
//!
//! The status is never 200, because Envoy would then forward the request to the application. It is no other 2xx, which
//! no page has, and no 5xx, because Envoy drops its headers and body (docs/en/ext-authz.md, Answers). Redirects and
//! client errors stay unchanged.

use crate::decision::Reason;
use crate::html::{Language, Page};
use crate::response;
use crate::response::Response;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use std::time::Duration;

/// The `Retry-After` if too many pages are running or a page has timed out.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// Marks an answer to a script whose request has taken effect. The answer is passed on with its cookies, like a page.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Done;

/// Returns `answer` in a form that Envoy passes on.
///
/// A page with status 200 becomes a 403, which browsers display as well. Other statuses do not fit: a 401 names an
/// authentication scheme, and scripts take it for a lost session; caches store a 404 or 410. An error that may be
/// temporary becomes a 429: clients retry after a 429, and gRPC maps it to `UNAVAILABLE`, like a 503.
pub(crate) fn rewrite(mut answer: Response) -> Response {
    let again = answer.headers().contains_key(header::RETRY_AFTER);
    let status = match answer.status().as_u16() {
        300..=499 => return answer,
        200..=299 if is_page(&answer) || answer.extensions().get::<Done>().is_some() => StatusCode::FORBIDDEN,
        500..=599 if again => StatusCode::TOO_MANY_REQUESTS,
        500..=599 => StatusCode::FORBIDDEN,
        _ => return unavailable_in_band(),
    };
    *answer.status_mut() = status;
    answer
}

/// The answer to a script that requests a page whose result needs status 200.
pub(crate) fn unavailable_in_band() -> Response {
    let message = "this page is available at the pages listener only, and this gateway has no route to it";
    response::json(StatusCode::FORBIDDEN, message, serde_json::json!({ "reason": Reason::PageInBand.as_str() }))
}

/// The answer to a browser if too many pages are running or the page has timed out. The button reloads the page.
pub(crate) fn busy(headers: &HeaderMap) -> Response {
    let page = Page::TooManyRequests { retry_after: RETRY_AFTER };
    response::retry_after(response::page(&page, Language::negotiate(headers)), RETRY_AFTER)
}

fn is_page(answer: &Response) -> bool {
    let kind = answer.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    kind.is_some_and(|kind| kind.starts_with(b"text/html"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::{BodyExt as _, Full};

    fn answered(status: u16, lines: &[(&'static str, &'static str)]) -> Response {
        let mut answer = http::Response::builder().status(status);
        for (name, value) in lines {
            answer = answer.header(*name, *value);
        }
        answer.body(Full::from("the body")).unwrap()
    }

    fn body(answer: Response) -> String {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let bytes = runtime.block_on(answer.into_body().collect()).unwrap().to_bytes();
        String::from_utf8(bytes.into()).unwrap()
    }

    const HTML: (&str, &str) = ("content-type", "text/html; charset=utf-8");
    const JSON: (&str, &str) = ("content-type", "application/json");

    #[test]
    fn no_page_in_band_passes_a_request_or_is_replaced_by_envoy() {
        for status in 100..=999 {
            for lines in [&[][..], &[HTML], &[JSON], &[("content-type", "text/plain")], &[HTML, ("retry-after", "9")]] {
                let passed = rewrite(answered(status, lines)).status().as_u16();
                assert!((300..500).contains(&passed), "{status} {lines:?} became {passed}");
            }
        }
    }

    #[test]
    fn a_page_stays_and_an_answer_for_scripts_names_its_address() {
        let cookies = [HTML, ("set-cookie", "a=1"), ("set-cookie", "b=2"), ("retry-after", "30")];
        let redirect = [("location", "https://open.weixin.qq.com/"), ("set-cookie", "a=1")];
        for (status, lines, passed) in [
            (302, &redirect[..], 302),
            (303, &redirect, 303),
            (400, &cookies, 400),
            (401, &[JSON], 401),
            (404, &[HTML], 404),
            (405, &[("allow", "GET")], 405),
            (429, &cookies, 429),
            (200, &[HTML], 403),
            (200, &cookies, 403),
            (503, &cookies, 429),
            (500, &[HTML], 403),
            (500, &[], 403),
        ] {
            let before = answered(status, lines);
            let headers = before.headers().clone();
            let after = rewrite(before);
            assert_eq!((after.status().as_u16(), after.headers()), (passed, &headers), "{status} {lines:?}");
            assert_eq!(body(after), "the body", "{status} {lines:?}");
        }
        for lines in [&[JSON, ("set-cookie", "a=1")][..], &[("content-type", "text/plain")], &[]] {
            for status in [200, 204] {
                let told = rewrite(answered(status, lines));
                assert_eq!((told.status(), told.headers().contains_key("set-cookie")), (StatusCode::FORBIDDEN, false));
                let json: serde_json::Value = serde_json::from_str(&body(told)).unwrap();
                assert_eq!((&json["code"], &json["data"]["reason"]), (&403.into(), &"page_in_band".into()));
            }
        }
    }

    #[test]
    fn who_finds_no_place_is_told_when_to_come_back() {
        let answer = busy(&HeaderMap::new());
        let seconds: u64 = answer.headers()["retry-after"].to_str().unwrap().parse().unwrap();
        assert_eq!(
            (answer.status(), answer.headers()["cache-control"].as_bytes()),
            (StatusCode::TOO_MANY_REQUESTS, &b"no-store"[..])
        );
        assert!((2..=4).contains(&seconds), "{seconds}");
    }
}
