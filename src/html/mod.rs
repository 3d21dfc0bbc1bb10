//! The HTML pages. Each tells the user what happened, why, and what to do next.
//!
//! A page contains one fixed stylesheet and one fixed script, which the Content-Security-Policy allows by their hashes. It
//! loads nothing else, except the QR code of the account to follow. All values are escaped. No page redirects.

mod code;
mod language;
mod layout;
#[cfg(test)]
mod tests;
mod text;

pub(crate) use self::code::Code;
pub use self::language::Language;
use self::layout::{Action, Icon, Layout, POLICY, SAME_ADDRESS, policy};
use self::text::{Copy, Text};
use askama::Template;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use std::borrow::Cow;
use std::time::Duration;

/// The pages. URLs are absolute paths or absolute http(s) URLs.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Page<'a> {
    /// Shown before a login with the consent scope: WeChat opens a snapshot page unless the user pressed a button
    /// (docs/en/wechat.md, Snapshot pages).
    AskFirst { app: &'a str, continue_url: &'a str },
    /// After a logout. The page does not redirect: the next silent login would undo the logout (docs/en/wechat.md,
    /// Logout).
    LoggedOut { login_url: &'a str },
    /// A link on another site requests a logout. The button sends POST.
    LogoutConfirm { post_url: &'a str },
    /// The logout may have failed. The button sends POST again.
    NotLoggedOut { post_url: &'a str, retry_after: Duration, status: StatusCode },
    /// The callback has no code: the user refused.
    Denied { login_url: &'a str },
    /// WeChat showed a snapshot page (快照页), whose virtual account cannot log in.
    Snapshot { login_url: &'a str },
    /// The user does not follow the Official Account. Contains the account's name and the URL of its QR code, if they
    /// are configured.
    NotSubscribed { login_url: &'a str, account: Option<&'a str>, code: Option<&'a str> },
    /// A callback without its attempt cookie: too late, repeated, or reached by the back button.
    Expired { login_url: &'a str },
    /// A callback with a missing or malformed parameter.
    Incomplete { login_url: &'a str },
    /// A callback of another login, while the user is logged in.
    AlreadyLoggedIn { continue_url: &'a str },
    /// The return address is too long.
    Lost { login_url: &'a str },
    /// The return address is too long, and the user is logged in.
    LostLoggedIn { home_url: &'a str },
    /// Several logins failed within a minute. This page stops the redirect loop.
    TooManyAttempts { login_url: &'a str, in_wechat: bool },
    /// A rate limit is exceeded. The button reloads the page.
    TooManyRequests { retry_after: Duration },
    /// WeChat is down or slow, or its circuit breaker is open.
    WechatUnreachable { login_url: &'a str, incident: &'a str },
    /// The configuration is wrong. The log contains the incident.
    Misconfigured { incident: &'a str, retry_url: &'a str },
    /// WeChat restricts this account (50002, 40226).
    UserRefused { incident: &'a str, retry_url: &'a str },
    /// The subject is the unionid, and WeChat sent none.
    NoUnionid { incident: &'a str, retry_url: &'a str },
    /// The page must be opened in WeChat. `code_url` starts the login by QR code, if it is available.
    NeedsWechat { url: &'a str, code: Option<&'a Code>, code_url: Option<&'a str> },
    /// Only a website application is configured, and the browser is WeChat.
    NeedsBrowser { url: &'a str, code: Option<&'a Code> },
    /// Only a website application is configured, and the browser is on a phone, which cannot scan its own screen.
    NeedsComputer { url: &'a str, code: Option<&'a Code>, code_url: &'a str },
    /// A form was sent without a session. The previous page still has its values.
    FormNotSent { login_url: &'a str },
    /// The policy does not allow this user here.
    NotAllowed,
    /// A malformed request.
    BadRequest,
    /// No application has this host.
    UnknownHost,
    /// No page has this address.
    NotFound { home_url: &'a str },
}

/// A rendered page.
#[derive(Clone, Debug)]
pub(crate) struct Rendered {
    /// The page's status.
    pub status: StatusCode,
    /// Type, language, security headers and `Retry-After`.
    pub headers: HeaderMap,
    /// UTF-8 HTML.
    pub body: Bytes,
}

/// Renders `page` in `language`.
pub(crate) fn render(page: &Page<'_>, language: Language) -> Rendered {
    let plan = page.spec();
    let fill = |said: Text| page.fill(said.within(language), language);
    let within = |said: Option<Text>| said.map(|said| said.within(language)).unwrap_or_default();
    let layout = Layout {
        language: language.tag(),
        mark: plan.mark,
        heading: fill(plan.words.heading),
        cause: fill(plan.words.cause),
        next: fill(plan.words.next),
        action: plan.action,
        label: within(plan.action.label()),
        done: within(plan.action.done()),
        other: plan.other.map(|(label, url)| (label.within(language), url)),
        term: within(plan.term),
        shown: plan.shown,
        code: plan.code,
        image: plan.image,
    };
    // Rendering to memory does not fail. If it did, an empty page would still have the right status.
    let body = Bytes::from(layout.render().unwrap_or_default());
    let mut headers = HeaderMap::with_capacity(12);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(header::CONTENT_LANGUAGE, HeaderValue::from_static(language.tag()));
    security_headers(&mut headers);
    if let Page::LogoutConfirm { .. } | Page::NotLoggedOut { .. } | Page::LoggedOut { .. } = page {
        // These pages are not part of a login. A login may run in its own window, and this policy on any of its pages
        // would cut its link to the window that opened it.
        headers.insert("cross-origin-opener-policy", HeaderValue::from_static("same-origin"));
    }
    if let Some(origin) = plan.image.and_then(|image| url::Url::parse(image).ok()).map(|image| image.origin()) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy(&format!("; img-src {}", origin.ascii_serialization())));
    }
    if let Page::LogoutConfirm { .. } | Page::NotLoggedOut { .. } = page {
        // With `no-referrer`, browsers post `Origin: null`, and the logout could not distinguish it from a foreign
        // origin.
        headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    }
    if let Some(time) = page.retry_after() {
        let seconds = time.as_secs().saturating_add(u64::from(time.subsec_nanos() > 0));
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds.clamp(1, MAX_WAIT)));
    }
    Rendered { status: plan.status, headers, body }
}

/// Sets the headers of every response under the prefix (docs/en/threat-model.md, Responses).
pub(crate) fn security_headers(headers: &mut HeaderMap) {
    headers.insert(header::CONTENT_SECURITY_POLICY, POLICY.clone());
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
        (header::VARY, "Accept-Language, Cookie"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

/// The maximum `Retry-After`, in seconds.
const MAX_WAIT: u64 = 86_400;

/// The parts of a page, before translation.
struct PageSpec<'a> {
    status: StatusCode,
    mark: Icon,
    words: &'static Copy,
    action: Action<'a>,
    /// A second button.
    other: Option<(Text, &'a str)>,
    /// A value that the user passes on, such as an address or an incident, and its name.
    shown: Option<&'a str>,
    term: Option<Text>,
    code: Option<&'a Code>,
    image: Option<&'a str>,
}

impl<'a> PageSpec<'a> {
    fn showing(self, term: Text, value: &'a str) -> Self {
        Self { shown: Some(value), term: Some(term), ..self }
    }

    fn or(self, label: Text, url: &'a str) -> Self {
        Self { other: Some((label, url)), ..self }
    }
}

impl<'a> Page<'a> {
    /// The parts of the page. A login that ends without a session never has a success status, so that gateways,
    /// monitors and tests can rely on the status. Only failures of WeChat and of the operator are 5xx: a problem of one
    /// user's account must not make a gateway eject this instance for all users.
    fn spec(&self) -> PageSpec<'a> {
        let plan = |status, mark, words, action| PageSpec {
            status,
            mark,
            words,
            action,
            other: None,
            shown: None,
            term: None,
            code: None,
            image: None,
        };
        // A page for another device. It shows the address to copy or to scan.
        let elsewhere = |words, words_with_code, url, code: Option<&'a Code>| PageSpec {
            code,
            ..plan(
                StatusCode::FORBIDDEN,
                Icon::Elsewhere,
                if code.is_some() { words_with_code } else { words },
                Action::Copy { label: text::COPY, done: text::COPIED },
            )
            .showing(text::ADDRESS, url)
        };
        let quietly = |label, url| Action::FollowQuietly { label, url };
        let follow = |label, url| Action::Follow { label, url };
        let again = |url| follow(text::LOG_IN_AGAIN, url);
        match *self {
            Self::AskFirst { continue_url, .. } => {
                plan(StatusCode::OK, Icon::Person, &text::ASK_FIRST, follow(text::LOG_IN, continue_url))
            }
            Self::LoggedOut { login_url } => {
                plan(StatusCode::OK, Icon::Done, &text::LOGGED_OUT, quietly(text::LOG_IN_AGAIN, login_url))
            }
            Self::LogoutConfirm { post_url } => plan(
                StatusCode::OK,
                Icon::Question,
                &text::LOGOUT_CONFIRM,
                Action::Post { label: text::LOG_OUT, url: post_url },
            ),
            Self::NotLoggedOut { post_url, status, .. } => {
                plan(status, Icon::Notice, &text::NOT_LOGGED_OUT, Action::Post { label: text::LOG_OUT, url: post_url })
            }
            Self::Denied { login_url } => plan(StatusCode::FORBIDDEN, Icon::Notice, &text::DENIED, again(login_url)),
            Self::Snapshot { login_url } => plan(
                StatusCode::FORBIDDEN,
                Icon::Notice,
                &text::SNAPSHOT,
                // On a snapshot page this button does nothing. It is for users who see this page elsewhere.
                quietly(text::NO_SUCH_BUTTON, login_url),
            ),
            Self::NotSubscribed { login_url, account, code } => {
                let words = match (account, code) {
                    (Some(_), Some(_)) => &text::NOT_SUBSCRIBED_TO_BY_CODE,
                    (Some(_), None) => &text::NOT_SUBSCRIBED_TO,
                    (None, Some(_)) => &text::NOT_SUBSCRIBED_BY_CODE,
                    (None, None) => &text::NOT_SUBSCRIBED,
                };
                let page = plan(StatusCode::FORBIDDEN, Icon::Person, words, again(login_url));
                PageSpec { image: code, term: Some(text::FOLLOW_CODE), ..page }
            }
            Self::Expired { login_url } => plan(StatusCode::BAD_REQUEST, Icon::Clock, &text::EXPIRED, again(login_url)),
            Self::Incomplete { login_url } => {
                plan(StatusCode::BAD_REQUEST, Icon::Notice, &text::INCOMPLETE, again(login_url))
            }
            Self::Lost { login_url } => {
                plan(StatusCode::URI_TOO_LONG, Icon::Notice, &text::LOST, follow(text::LOG_IN, login_url))
            }
            Self::LostLoggedIn { home_url } => {
                plan(StatusCode::OK, Icon::Done, &text::LOST_LOGGED_IN, quietly(text::HOME, home_url))
            }
            Self::AlreadyLoggedIn { continue_url } => {
                plan(StatusCode::OK, Icon::Done, &text::ALREADY_LOGGED_IN, follow(text::CONTINUE, continue_url))
            }
            Self::TooManyAttempts { login_url, in_wechat } => {
                let words = if in_wechat { &text::TOO_MANY_ATTEMPTS_IN_WECHAT } else { &text::TOO_MANY_ATTEMPTS };
                plan(StatusCode::TOO_MANY_REQUESTS, Icon::Notice, words, again(login_url))
            }
            Self::TooManyRequests { .. } => plan(
                StatusCode::TOO_MANY_REQUESTS,
                Icon::Clock,
                &text::TOO_MANY_REQUESTS,
                follow(text::TRY_AGAIN, SAME_ADDRESS),
            ),
            Self::WechatUnreachable { login_url, incident } => {
                plan(StatusCode::SERVICE_UNAVAILABLE, Icon::Clock, &text::WECHAT_UNREACHABLE, again(login_url))
                    .showing(text::REFERENCE, incident)
            }
            // Not 503: waiting does not help, and gateways retry a 503.
            Self::Misconfigured { incident, retry_url } => plan(
                StatusCode::INTERNAL_SERVER_ERROR,
                Icon::Notice,
                &text::MISCONFIGURED,
                quietly(text::TRY_AGAIN, retry_url),
            )
            .showing(text::REFERENCE, incident),
            Self::UserRefused { incident, retry_url } => {
                plan(StatusCode::FORBIDDEN, Icon::Notice, &text::USER_REFUSED, quietly(text::TRY_AGAIN, retry_url))
                    .showing(text::REFERENCE, incident)
            }
            Self::NoUnionid { incident, retry_url } => {
                plan(StatusCode::FORBIDDEN, Icon::Notice, &text::NO_UNIONID, quietly(text::TRY_AGAIN, retry_url))
                    .showing(text::REFERENCE, incident)
            }
            Self::NeedsWechat { url, code, code_url } => {
                let page = elsewhere(&text::NEEDS_WECHAT, &text::NEEDS_WECHAT_WITH_CODE, url, code);
                match code_url {
                    Some(code_url) => page.or(text::LOG_IN_BY_CODE, code_url),
                    None => page,
                }
            }
            Self::NeedsBrowser { url, code } => {
                elsewhere(&text::NEEDS_BROWSER, &text::NEEDS_BROWSER_WITH_CODE, url, code)
            }
            Self::NeedsComputer { url, code, code_url } => {
                elsewhere(&text::NEEDS_COMPUTER, &text::NEEDS_COMPUTER_WITH_CODE, url, code)
                    .or(text::LOG_IN_BY_CODE, code_url)
            }
            Self::FormNotSent { login_url } => {
                plan(StatusCode::UNAUTHORIZED, Icon::Notice, &text::FORM_NOT_SENT, again(login_url))
            }
            Self::NotAllowed => plan(StatusCode::FORBIDDEN, Icon::Notice, &text::NOT_ALLOWED, quietly(text::HOME, "/")),
            Self::BadRequest => {
                plan(StatusCode::BAD_REQUEST, Icon::Notice, &text::BAD_REQUEST, quietly(text::HOME, "/"))
            }
            // No link to the front page, because it has the same unknown host.
            Self::UnknownHost => plan(StatusCode::BAD_REQUEST, Icon::Question, &text::UNKNOWN_HOST, Action::Nothing),
            Self::NotFound { home_url } => {
                plan(StatusCode::NOT_FOUND, Icon::Question, &text::NOT_FOUND, follow(text::HOME, home_url))
            }
        }
    }

    /// Replaces the placeholders in `said` with the values of this page.
    fn fill(&self, said: &'static str, language: Language) -> Cow<'static, str> {
        match *self {
            Self::AskFirst { app, .. } => said.replace("{app}", app).into(),
            Self::NotSubscribed { account: Some(account), .. } => said.replace("{account}", account).into(),
            Self::TooManyRequests { retry_after } | Self::NotLoggedOut { retry_after, .. } => {
                said.replace("{wait}", &text::wait(retry_after, language)).into()
            }
            _ => said.into(),
        }
    }

    /// When a retry may succeed. The values set here are jittered, so that clients do not all return at the same time.
    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::TooManyRequests { retry_after } | Self::NotLoggedOut { retry_after, .. } => Some(*retry_after),
            // Failures of one minute are counted.
            Self::TooManyAttempts { .. } => Some(Duration::from_secs(fastrand::u64(60..=75))),
            Self::WechatUnreachable { .. } => Some(Duration::from_secs(fastrand::u64(30..=60))),
            _ => None,
        }
    }
}
