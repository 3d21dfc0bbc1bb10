//! Envoy's HTTP ext_authz (docs/en/ext-authz.md). A check has the client's request line, host and the allowed headers.
//!
//! Method, path and query come from the request line, the host from `:authority` or `Host`; other headers with these
//! values are ignored, because clients can write them. An allow is exactly 200. A denial is 302, 401, 403 or 429, because
//! Envoy discards a 5xx and sends any other 2xx to the browser.

use super::answer;
use super::request::{CheckRequest, Credential};
use crate::cookie::{self, Forwarded, Found};
use crate::decision::{Decision, Identity};
use crate::html::Language;
use crate::path::NormalPath;
use crate::response::Response;
use crate::session::jws;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use std::net::IpAddr;
use std::sync::LazyLock;

/// Envoy's header for removing headers from the request.
const REMOVE: HeaderName = HeaderName::from_static("x-envoy-auth-headers-to-remove");

/// Reads a check.
pub fn read(request: &Parts, peer: IpAddr) -> CheckRequest<'_> {
    let headers = &request.headers;
    let (credential, forwarded_cookies) = credential_and_cookies(headers);
    CheckRequest {
        method: &request.method,
        host: host(request),
        path: NormalPath::parse(request.uri.path()),
        target: request.uri.path_and_query().map_or("/", |target| target.as_str()),
        headers,
        peer,
        credential,
        has_session_bearer: headers.contains_key(header::AUTHORIZATION)
            && matches!(bearer(headers), Credential::Bearer(token) if jws::has_our_type(token)),
        forwarded_cookies,
    }
}

/// Writes the response to a check.
pub fn write(decision: &Decision, check: CheckRequest) -> Response {
    match decision {
        Decision::Allow { identity, renewed, .. } => allow(identity, renewed.as_ref(), check),
        // Fail closed.
        _ => answer::denial(decision, check.client_kind(), Language::negotiate(check.headers)).unwrap_or_else(denied),
    }
}

/// A denial without a body. Envoy sends it to the client.
pub fn denied() -> Response {
    let mut answer = Response::default();
    *answer.status_mut() = StatusCode::FORBIDDEN;
    answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

fn allow(identity: &Identity, renewed: Option<&HeaderValue>, check: CheckRequest) -> Response {
    /// The headers of the three usual responses, by what happens to the cookies.
    static TEMPLATES: LazyLock<[answer::HeaderTemplate; 3]> = LazyLock::new(|| {
        // Envoy removes a header that is both set and removed, so this lists only headers that are not set.
        [None, Some((header::COOKIE, "")), Some((REMOVE, "cookie"))].map(answer::HeaderTemplate::with)
    });
    let [untouched, rest, nothing] = &*TEMPLATES;
    let only_our_cookies = check.forwarded_cookies == Forwarded::Nothing;
    let mut headers = match check.forwarded_cookies {
        Forwarded::Untouched => untouched.with_identity(identity),
        Forwarded::Rest(cookies) => {
            let mut headers = rest.with_identity(identity);
            headers.insert(header::COOKIE, cookies);
            headers
        }
        Forwarded::Nothing => nothing.with_identity(identity),
    };
    if check.has_session_bearer {
        let removed = if only_our_cookies { "cookie, authorization" } else { "authorization" };
        headers.insert(REMOVE, HeaderValue::from_static(removed));
    }
    if let Some(renewed) = renewed {
        headers.insert(header::SET_COOKIE, renewed.clone());
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    let mut answer = Response::default();
    *answer.headers_mut() = headers;
    answer
}

/// The client's host: `:authority`, or the one `Host` line.
pub fn host(request: &Parts) -> &str {
    if let Some(authority) = request.uri.authority() {
        return authority.as_str();
    }
    let mut lines = request.headers.get_all(header::HOST).iter();
    match (lines.next(), lines.next()) {
        (Some(host), None) => host.to_str().unwrap_or_default(),
        _ => "",
    }
}

/// The session cookie, or else the bearer token. The cookie comes first, because applications may have their own bearer
/// tokens.
pub fn credential(headers: &HeaderMap) -> Credential<'_> {
    credential_and_cookies(headers).0
}

/// The credential, and the cookies for the application.
fn credential_and_cookies(headers: &HeaderMap) -> (Credential<'_>, Forwarded) {
    let (found, forwarded) = cookie::session_and_rest(headers);
    let credential = match found {
        Found::Conflict => Credential::Conflict,
        Found::One(token) => Credential::Cookie(token),
        Found::None => bearer(headers),
    };
    (credential, forwarded)
}

fn bearer(headers: &HeaderMap) -> Credential<'_> {
    let mut lines = headers.get_all(header::AUTHORIZATION).iter();
    match (lines.next(), lines.next()) {
        (Some(line), None) => match line.to_str().ok().and_then(|line| line.split_once(' ')) {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Credential::Bearer(token.trim()),
            // Other schemes belong to the application.
            _ => Credential::Absent,
        },
        (None, _) => Credential::Absent,
        _ => Credential::Conflict,
    }
}

/// All bearer tokens of a request.
pub fn bearers(headers: &HeaderMap) -> Vec<&str> {
    let lines = headers.get_all(header::AUTHORIZATION).iter().filter_map(|line| line.to_str().ok()?.split_once(' '));
    let bearers = lines.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    bearers.map(|(_, token)| token.trim()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client_address::ClientAddress;
    use crate::client_kind::ClientKind;
    use crate::client_kind::tests::request_of;
    use crate::decision::Reason;
    use crate::identity::tests::ALICE;
    use crate::identity::{IdentityFields, IdentityHeaders};

    fn request(method: &str, uri: &str, lines: &[(&'static str, &'static str)]) -> Parts {
        let mut request = http::Request::builder().method(method).uri(uri);
        for (name, value) in lines {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    /// `{"alg":"ES256","typ":"wechat-session+jwt","kid":"k"}` and no more.
    const OUR_BEARER: &str = "Bearer eyJhbGciOiJFUzI1NiIsInR5cCI6IndlY2hhdC1zZXNzaW9uK2p3dCIsImtpZCI6ImsifQ.e30.c2ln";

    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    /// Whole answers as text: status, headers in order of name, body.
    fn text(answer: Response) -> String {
        use http_body_util::BodyExt as _;
        let (parts, body) = answer.into_parts();
        let mut lines: Vec<String> = parts
            .headers
            .iter()
            .map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value.as_bytes())))
            .collect();
        lines.sort();
        let body = at_once(body.collect());
        format!(
            "{}\n{}\n\n{}",
            parts.status.as_u16(),
            lines.join("\n"),
            String::from_utf8_lossy(&body.unwrap().to_bytes())
        )
    }

    fn at_once<F: Future>(future: F) -> F::Output {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    fn answer(decision: &Decision, kind: ClientKind) -> String {
        let mut parts = request("GET", "/a", &[("host", "shop.example.com")]);
        let (method, headers) = request_of(kind);
        parts.method = method;
        parts.headers.extend(headers);
        text(write(decision, read(&parts, PEER)))
    }

    #[test]
    fn each_value_comes_from_one_place() {
        let spoofed: &[(&str, &str)] = &[
            ("host", "shop.example.com"),
            ("x-auth-client-ip", "203.0.113.9"),
            ("x-forwarded-uri", "/public"),
            ("x-forwarded-method", "OPTIONS"),
            ("x-forwarded-host", "evil.example"),
            ("x-forwarded-for", "1.1.1.1"),
            ("x-real-ip", "1.1.1.1"),
            ("x-original-url", "/public"),
            ("x-original-uri", "/public"),
            ("x-original-method", "OPTIONS"),
            ("x-http-method-override", "OPTIONS"),
            ("x-envoy-original-path", "/public"),
            ("x-envoy-external-address", "1.1.1.1"),
            ("x-rewrite-url", "/public"),
            ("forwarded", "for=1.1.1.1;host=evil.example"),
            ("x-wechat-subject", "admin"),
        ];
        let parts = request("POST", "/admin?x=1", spoofed);
        let check = read(&parts, PEER);
        let source: ClientAddress = "header:x-auth-client-ip".parse().unwrap();
        assert_eq!((check.method.as_str(), check.host, check.target), ("POST", "shop.example.com", "/admin?x=1"));
        assert_eq!(
            (check.path.as_ref().unwrap().as_bytes(), source.address(check.headers, check.peer).to_string().as_str()),
            (&b"/admin"[..], "203.0.113.9")
        );
        assert_eq!(check.credential, Credential::Absent);
    }

    #[test]
    fn the_host_is_the_authority_or_the_one_host_line() {
        for (uri, lines, host_is) in [
            ("http://a.example/x", &[("host", "b.example")][..], "a.example"),
            ("/x", &[("host", "b.example:8443")], "b.example:8443"),
            ("/x", &[("host", "b.example"), ("host", "c.example")], ""),
            ("/x", &[], ""),
        ] {
            assert_eq!(host(&request("GET", uri, lines)), host_is, "{uri} {lines:?}");
        }
    }

    #[test]
    fn the_cookie_takes_precedence_over_the_bearer_token() {
        for (lines, shown) in [
            (&[("cookie", "__Host-wechat_session=a")][..], Credential::Cookie("a")),
            (&[("cookie", "__Host-wechat_session=a"), ("authorization", "Bearer b")], Credential::Cookie("a")),
            (&[("authorization", "Bearer b")], Credential::Bearer("b")),
            (&[("authorization", "bearer  b ")], Credential::Bearer("b")),
            (&[("authorization", "Basic b")], Credential::Absent),
            (&[("authorization", "Bearer a"), ("authorization", "Bearer b")], Credential::Conflict),
            (&[("cookie", "__Host-wechat_session=a"), ("cookie", "__Host-wechat_session=b")], Credential::Conflict),
            (&[], Credential::Absent),
        ] {
            assert_eq!(credential(&request("GET", "/", lines).headers), shown, "{lines:?}");
        }
    }

    #[test]
    fn an_allow_is_200_with_every_identity_header() {
        let nobody = Decision::Allow { identity: Identity::Anonymous, renewed: None, reason: Reason::PublicPath };
        assert_eq!(
            answer(&nobody, ClientKind::Page),
            "200\nx-wechat-appid: \nx-wechat-avatar: \nx-wechat-flow: \nx-wechat-nickname: \nx-wechat-openid: \n\
             x-wechat-session: \nx-wechat-subject: \nx-wechat-unionid: \n\n"
        );
        let known = Decision::Allow {
            identity: Identity::Known(IdentityHeaders::new(&ALICE)),
            renewed: Some(HeaderValue::from_static("__Host-wechat_session=next")),
            reason: Reason::SessionRenewed,
        };
        assert_eq!(
            answer(&known, ClientKind::Data),
            "200\ncache-control: no-store\nset-cookie: __Host-wechat_session=next\nx-wechat-appid: wx01\n\
             x-wechat-avatar: https://a.example/1\nx-wechat-flow: website\nx-wechat-nickname: %E5%B0%8F\n\
             x-wechat-openid: oA\nx-wechat-session: s1\nx-wechat-subject: wx:wx01:oA\nx-wechat-unionid: \n\n"
        );
    }

    #[test]
    fn the_fallback_is_a_denial() {
        assert_eq!(text(denied()), "403\ncache-control: no-store\n\n");
    }

    #[test]
    fn the_application_does_not_see_the_session() {
        for (lines, known, header_is) in [
            (&[("cookie", "a=1; __Host-wechat_session=s")][..], true, Some(("cookie", "a=1"))),
            (&[("cookie", "__Host-wechat_session=s")], true, Some(("x-envoy-auth-headers-to-remove", "cookie"))),
            (&[("cookie", "__Host-wechat_session=s")], false, Some(("x-envoy-auth-headers-to-remove", "cookie"))),
            (&[("authorization", OUR_BEARER)], true, Some(("x-envoy-auth-headers-to-remove", "authorization"))),
            (&[("authorization", OUR_BEARER)], false, Some(("x-envoy-auth-headers-to-remove", "authorization"))),
            (
                &[("authorization", OUR_BEARER), ("cookie", "__Host-wechat_session=s")],
                true,
                Some(("x-envoy-auth-headers-to-remove", "cookie, authorization")),
            ),
            (&[("authorization", "Bearer the-applications-own")], false, None),
            (&[("cookie", "a=1")], true, None),
        ] {
            let parts = request("GET", "/", lines);
            let check = read(&parts, PEER);
            let identity = if known {
                Identity::Known(IdentityHeaders::new(&IdentityFields { subject: "s", ..IdentityFields::default() }))
            } else {
                Identity::Anonymous
            };
            let decision = Decision::Allow { identity, renewed: None, reason: Reason::SessionValid };
            let answer = write(&decision, check);
            let mut changed = answer.headers().iter().filter(|(name, _)| !name.as_str().starts_with("x-wechat-"));
            let changed = changed.next().map(|(name, value)| (name.as_str(), value.to_str().unwrap()));
            assert_eq!(changed, header_is, "{lines:?}");
        }
    }

    #[test]
    fn a_data_request_gets_the_login_address_as_json() {
        let login =
            Decision::Login { location: "https://shop.example.com/_wechat/login".into(), reason: Reason::NoSession };
        assert_eq!(
            answer(&login, ClientKind::Data),
            "401\ncache-control: no-store\ncontent-type: application/json\nwww-authenticate: Bearer\n\
             x-content-type-options: nosniff\n\n{\"code\":401,\"data\":{\"login_url\":\"https://shop.example.com/_wechat/login\",\
             \"reason\":\"no_session\"},\"message\":\"log in first\"}"
        );
        assert_eq!(
            answer(&login, ClientKind::Page),
            "302\ncache-control: no-store\nlocation: https://shop.example.com/_wechat/login\n\n"
        );
    }

    #[test]
    fn every_denial_is_302_401_403_or_429_for_every_client() {
        let location = || "https://shop.example.com/_wechat/login".to_owned();
        let wait = Duration::from_secs(5);
        for wants in [
            ClientKind::Page,
            ClientKind::Form,
            ClientKind::Data,
            ClientKind::Grpc,
            ClientKind::WebSocket,
            ClientKind::Preflight,
        ] {
            for reason in Reason::ALL {
                for (decision, page, other) in [
                    (Decision::Login { location: location(), reason: *reason }, 302, 401),
                    (Decision::Renew { location: location(), reason: *reason }, 302, 401),
                    (Decision::Deny { reason: *reason }, 403, 403),
                    (Decision::Limited { retry_after: wait, reason: *reason }, 429, 429),
                ] {
                    let answer = answer(&decision, wants);
                    let status = if wants == ClientKind::Page { page } else { other };
                    assert!(answer.starts_with(&status.to_string()), "{wants:?} {decision:?}: {answer}");
                    assert!(answer.contains("cache-control: no-store"), "{answer}");
                    assert!(!answer.contains("x-wechat-"), "{answer}");
                    assert_eq!(answer.contains("retry-after: "), status == 429, "{answer}");
                }
            }
        }
    }

    use std::time::Duration;
}
