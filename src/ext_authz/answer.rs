//! The parts of an answer that all contracts share: the identity headers, and the answer to a request that is not
//! allowed.

use crate::client_kind::ClientKind;
use crate::decision::{Decision, Identity, Reason};
use crate::html::{Language, Page};
use crate::response::{Response, envelope, jittered};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use http_body_util::Full;

const SUBJECT: HeaderName = HeaderName::from_static("x-wechat-subject");
const OPENID: HeaderName = HeaderName::from_static("x-wechat-openid");
const UNIONID: HeaderName = HeaderName::from_static("x-wechat-unionid");
const APPID: HeaderName = HeaderName::from_static("x-wechat-appid");
const FLOW: HeaderName = HeaderName::from_static("x-wechat-flow");
const SESSION: HeaderName = HeaderName::from_static("x-wechat-session");
const NICKNAME: HeaderName = HeaderName::from_static("x-wechat-nickname");
const AVATAR: HeaderName = HeaderName::from_static("x-wechat-avatar");

/// All identity headers. Every allow sets each of them, so that no value from the client reaches the application.
pub static IDENTITY: [HeaderName; 8] = [SUBJECT, OPENID, UNIONID, APPID, FLOW, SESSION, NICKNAME, AVATAR];

/// The initial headers of an allow: all identity headers with empty values, which means no user. The map is built once
/// and cloned, because a clone is much cheaper than eight insertions.
pub struct HeaderTemplate {
    headers: HeaderMap,
    /// Whether the identity headers come first, in the order of [`IDENTITY`]. `HeaderMap` keeps the insertion order. If
    /// this changes, the values are inserted by name.
    in_order: bool,
}

impl HeaderTemplate {
    /// Builds a template with all identity headers and, if present, one more header.
    pub fn with(more: Option<(HeaderName, &'static str)>) -> Self {
        let mut headers: HeaderMap = IDENTITY.iter().map(|name| (name.clone(), HeaderValue::from_static(""))).collect();
        headers.extend(more.map(|(name, value)| (name, HeaderValue::from_static(value))));
        let in_order = headers.clone().keys().take(IDENTITY.len()).eq(&IDENTITY);
        Self { headers, in_order }
    }

    /// Returns the headers with the values of `identity`.
    pub fn with_identity(&self, identity: &Identity) -> HeaderMap {
        let mut headers = self.headers.clone();
        let Identity::Known(known) = identity else { return headers };
        if self.in_order {
            for (place, value) in headers.values_mut().zip(known.values()) {
                *place = value;
            }
        } else {
            for (name, value) in IDENTITY.iter().zip(known.values()) {
                headers.insert(name, value);
            }
        }
        headers
    }
}

/// The answer to a client whose request is not allowed, in a form that the client can use. `None` for an allow, which
/// has no body, and for a page, which makes its own answer.
pub fn denial(decision: &Decision, wants: ClientKind, language: Language) -> Option<Response> {
    match decision {
        Decision::Allow { .. } | Decision::Page { .. } => None,
        Decision::Login { location, .. } | Decision::Renew { location, .. } if wants == ClientKind::Page => {
            Some(redirect(location))
        }
        Decision::Login { location, reason } | Decision::Renew { location, reason } => Some(match wants {
            ClientKind::Form => {
                page_with(&Page::FormNotSent { login_url: location }, StatusCode::UNAUTHORIZED, language)
            }
            _ => error_body(StatusCode::UNAUTHORIZED, wants, *reason, Some(location)),
        }),
        Decision::Deny { reason } => Some(match (wants, reason) {
            (ClientKind::Page | ClientKind::Form, Reason::SubjectNotAllowed) => {
                page_with(&Page::NotAllowed, StatusCode::FORBIDDEN, language)
            }
            (ClientKind::Page | ClientKind::Form, Reason::PagesNotRouted) => page_with(
                &Page::Misconfigured { incident: reason.as_str(), retry_url: "" },
                StatusCode::FORBIDDEN,
                language,
            ),
            (ClientKind::Page | ClientKind::Form, Reason::UnknownHost) => {
                page_with(&Page::UnknownHost, StatusCode::FORBIDDEN, language)
            }
            (ClientKind::Page | ClientKind::Form, _) => page_with(&Page::BadRequest, StatusCode::FORBIDDEN, language),
            _ => error_body(StatusCode::FORBIDDEN, wants, *reason, None),
        }),
        Decision::Limited { retry_after, reason } => {
            let mut answer = match wants {
                ClientKind::Page | ClientKind::Form => {
                    let limited = Page::TooManyRequests { retry_after: *retry_after };
                    page_with(&limited, StatusCode::TOO_MANY_REQUESTS, language)
                }
                _ => error_body(StatusCode::TOO_MANY_REQUESTS, wants, *reason, None),
            };
            answer.headers_mut().insert(header::RETRY_AFTER, jittered(*retry_after));
            Some(answer)
        }
    }
}

fn redirect(location: &str) -> Response {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = StatusCode::FOUND;
    // A location consists of a configured origin and percent-encoded text.
    let location = HeaderValue::from_str(location).unwrap_or_else(|_| HeaderValue::from_static("/"));
    answer.headers_mut().insert(header::LOCATION, location);
    answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

/// A page with `status` instead of its own status, for which the gateway may discard the page.
fn page_with(page: &Page, status: StatusCode, language: Language) -> Response {
    let mut answer = crate::response::page(page, language);
    *answer.status_mut() = status;
    answer
}

/// The answer for clients that cannot show a page: JSON, or for gRPC one line of text, which becomes the gRPC message.
fn error_body(status: StatusCode, wants: ClientKind, reason: Reason, login_url: Option<&str>) -> Response {
    let message = match status {
        StatusCode::UNAUTHORIZED => "log in first",
        StatusCode::TOO_MANY_REQUESTS => "too many requests, try again later",
        _ => "not allowed",
    };
    let (kind, body) = if wants == ClientKind::Grpc {
        ("text/plain; charset=utf-8", format!("{message} ({})", reason.as_str()))
    } else {
        let data = serde_json::json!({ "login_url": login_url, "reason": reason.as_str() });
        ("application/json", envelope(status, message, data).to_string())
    };
    let mut answer = Response::new(Full::from(body));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if status == StatusCode::UNAUTHORIZED {
        // RFC 9110 §11.6.1: a 401 names an authentication scheme. Without a realm, no browser asks for a password.
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::IdentityHeaders;
    use crate::identity::tests::ALICE;

    #[test]
    fn each_value_stands_under_its_name_whatever_order_a_map_has() {
        let alice = Identity::Known(IdentityHeaders::new(&ALICE));
        let begun = HeaderTemplate::with(Some((header::COOKIE, "")));
        assert!(begun.in_order, "a check would look each name up");
        let in_order = begun.with_identity(&alice);
        assert_eq!(in_order, HeaderTemplate { in_order: false, ..begun }.with_identity(&alice));
        let values = ["wx:wx01:oA", "oA", "", "wx01", "website", "s1", "%E5%B0%8F", "https://a.example/1"];
        for (name, value) in IDENTITY.iter().zip(values) {
            assert_eq!(in_order[name], value, "{name}");
        }
        assert_eq!(in_order[header::COOKIE], "");
    }
}
