//! The pages a person sees when the login cannot simply go on: what happened, why, and the one thing to do next.
//!
//! A page is whole in itself: no script, no image, nothing from elsewhere, and one fixed stylesheet that the
//! Content-Security-Policy names by its hash. Whatever is shown is escaped. No page redirects; a person presses.

mod language;
mod layout;
#[cfg(test)]
mod tests;
mod text;

pub use self::language::Language;
use self::layout::{Action, Layout, Mark, POLICY, SAME_ADDRESS};
use self::text::{Both, Words};
use askama::Template;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use std::borrow::Cow;
use std::time::Duration;

/// Every page there is. URLs are absolute paths or absolute http(s) addresses.
#[derive(Clone, Copy, Debug)]
pub enum Page<'a> {
    /// Before the consent scope: WeChat opens a snapshot page unless a person pressed something (protocol §1.8).
    AskFirst { app: &'a str, continue_url: &'a str },
    /// After a logout. No redirect: the next silent login would undo it (T16).
    LoggedOut { login_url: &'a str },
    /// A logout by a link from elsewhere: the button posts.
    LogoutConfirm { post_url: &'a str },
    /// A logout of which it is not certain that it ended the session. Its button posts again.
    NotLoggedOut { post_url: &'a str, retry_after: Duration, status: StatusCode },
    /// WeChat came back without a code.
    Denied { login_url: &'a str },
    /// WeChat showed a snapshot page (快照页): whoever that is has no account.
    Snapshot { login_url: &'a str },
    /// Who does not follow the Official Account may not log in.
    NotSubscribed { login_url: &'a str },
    /// A callback without its flow cookie, too late, fetched again, or reached by the back button.
    Expired { login_url: &'a str },
    /// A login that was over already, by somebody who is logged in.
    AlreadyLoggedIn { continue_url: &'a str },
    /// Several failures in a minute: redirecting stopped.
    TooManyAttempts { login_url: &'a str },
    /// A limit was reached. Its button loads the same address again.
    TooManyRequests { retry_after: Duration },
    /// WeChat is down, slow, or its breaker open.
    WechatUnreachable { login_url: &'a str, incident: &'a str },
    /// The operator's fault; the incident is in the log.
    Misconfigured { incident: &'a str },
    /// WeChat restricts this account (50002, 40226).
    UserRefused { incident: &'a str },
    /// The application knows people by unionid, and WeChat sent none.
    NoUnionid { incident: &'a str },
    /// Only an Official Account is configured, and this is no WeChat browser.
    NeedsWechat { url: &'a str },
    /// Only a website app is configured, and this is WeChat or WeCom.
    NeedsBrowser { url: &'a str },
    /// A form came without a session; what was typed is still on the page before.
    FormNotSent { login_url: &'a str },
    /// Logged in, but the application's rules let others in here.
    NotAllowed,
    /// A request that cannot be read as what it should be.
    BadRequest,
    /// Nothing lives at this address.
    NotFound { home_url: &'a str },
}

/// A page ready to be sent.
#[derive(Clone, Debug)]
pub struct Rendered {
    /// The page's status.
    pub status: StatusCode,
    /// Type, language, security headers and `Retry-After`.
    pub headers: HeaderMap,
    /// UTF-8 HTML.
    pub body: Bytes,
}

/// Writes `page` in `language`.
#[must_use]
pub fn render(page: &Page<'_>, language: Language) -> Rendered {
    let plan = page.plan();
    let fill = |said: Both| page.fill(said.within(language), language);
    let layout = Layout {
        language: language.tag(),
        mark: plan.mark,
        heading: fill(plan.words.heading),
        cause: fill(plan.words.cause),
        next: fill(plan.words.next),
        action: plan.action,
        label: plan.action.label().map(|label| label.within(language)).unwrap_or_default(),
        shown: plan.shown.map(|(term, value)| (term.within(language), value)),
    };
    // Writing to memory does not fail; were it to, an empty page still carries the right status.
    let body = Bytes::from(layout.render().unwrap_or_default());
    let mut headers = HeaderMap::with_capacity(12);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(header::CONTENT_LANGUAGE, HeaderValue::from_static(language.tag()));
    security_headers(&mut headers);
    if let Page::LogoutConfirm { .. } | Page::NotLoggedOut { .. } = page {
        // Under `no-referrer` a browser posts `Origin: null`, which the logout could not tell from a foreign one.
        headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    }
    if let Some(time) = page.retry_after() {
        let seconds = time.as_secs().saturating_add(u64::from(time.subsec_nanos() > 0));
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds.clamp(1, LONGEST_WAIT)));
    }
    Rendered { status: plan.status, headers, body }
}

/// Sets what every answer under the prefix carries, pages or not (threat model §5, "Answers").
pub fn security_headers(headers: &mut HeaderMap) {
    headers.insert(header::CONTENT_SECURITY_POLICY, POLICY.clone());
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (header::CACHE_CONTROL, "no-store"),
        (header::VARY, "Accept-Language, Cookie"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

/// `Retry-After` at most, in seconds.
const LONGEST_WAIT: u64 = 86_400;

/// What one page is made of, before the language.
struct Plan<'a> {
    status: StatusCode,
    mark: Mark,
    words: &'static Words,
    action: Action<'a>,
    /// Something to pass on: an address to copy or an incident to name.
    shown: Option<(Both, &'a str)>,
}

impl<'a> Plan<'a> {
    fn showing(self, term: Both, value: &'a str) -> Self {
        Self { shown: Some((term, value)), ..self }
    }
}

impl<'a> Page<'a> {
    /// The page's parts. Statuses: a login that ends without a session is never a success, so that a gateway, a monitor
    /// or a test can tell by the status alone; and only WeChat's failure and the operator's are 5xx, because what one
    /// person's account can cause must not make a gateway eject us for everybody.
    fn plan(&self) -> Plan<'a> {
        let plan = |status, mark, words, action| Plan { status, mark, words, action, shown: None };
        let quietly = |label, url| Action::FollowQuietly { label, url };
        let follow = |label, url| Action::Follow { label, url };
        let again = |url| follow(text::LOG_IN_AGAIN, url);
        match *self {
            Self::AskFirst { continue_url, .. } => {
                plan(StatusCode::OK, Mark::Person, &text::ASK_FIRST, follow(text::LOG_IN, continue_url))
            }
            Self::LoggedOut { login_url } => {
                plan(StatusCode::OK, Mark::Done, &text::LOGGED_OUT, quietly(text::LOG_IN_AGAIN, login_url))
            }
            Self::LogoutConfirm { post_url } => plan(
                StatusCode::OK,
                Mark::Question,
                &text::LOGOUT_CONFIRM,
                Action::Post { label: text::LOG_OUT, url: post_url },
            ),
            Self::NotLoggedOut { post_url, status, .. } => {
                plan(status, Mark::Notice, &text::NOT_LOGGED_OUT, Action::Post { label: text::LOG_OUT, url: post_url })
            }
            Self::Denied { login_url } => plan(StatusCode::FORBIDDEN, Mark::Notice, &text::DENIED, again(login_url)),
            Self::Snapshot { login_url } => plan(
                StatusCode::FORBIDDEN,
                Mark::Notice,
                &text::SNAPSHOT,
                // In a snapshot page our own button does nothing; it is for those who see this page elsewhere.
                quietly(text::NO_SUCH_BUTTON, login_url),
            ),
            Self::NotSubscribed { login_url } => {
                plan(StatusCode::FORBIDDEN, Mark::Person, &text::NOT_SUBSCRIBED, again(login_url))
            }
            Self::Expired { login_url } => plan(StatusCode::BAD_REQUEST, Mark::Clock, &text::EXPIRED, again(login_url)),
            Self::AlreadyLoggedIn { continue_url } => {
                plan(StatusCode::OK, Mark::Done, &text::ALREADY_LOGGED_IN, follow(text::CONTINUE, continue_url))
            }
            Self::TooManyAttempts { login_url } => {
                plan(StatusCode::TOO_MANY_REQUESTS, Mark::Notice, &text::TOO_MANY_ATTEMPTS, again(login_url))
            }
            Self::TooManyRequests { .. } => plan(
                StatusCode::TOO_MANY_REQUESTS,
                Mark::Clock,
                &text::TOO_MANY_REQUESTS,
                follow(text::TRY_AGAIN, SAME_ADDRESS),
            ),
            Self::WechatUnreachable { login_url, incident } => {
                plan(StatusCode::SERVICE_UNAVAILABLE, Mark::Clock, &text::WECHAT_UNREACHABLE, again(login_url))
                    .showing(text::REFERENCE, incident)
            }
            // Not 503: waiting does not help, and gateways retry a 503.
            Self::Misconfigured { incident } => {
                plan(StatusCode::INTERNAL_SERVER_ERROR, Mark::Notice, &text::MISCONFIGURED, Action::Nothing)
                    .showing(text::REFERENCE, incident)
            }
            Self::UserRefused { incident } => {
                plan(StatusCode::FORBIDDEN, Mark::Notice, &text::USER_REFUSED, Action::Nothing)
                    .showing(text::REFERENCE, incident)
            }
            Self::NoUnionid { incident } => {
                plan(StatusCode::FORBIDDEN, Mark::Notice, &text::NO_UNIONID, Action::Nothing)
                    .showing(text::REFERENCE, incident)
            }
            Self::NeedsWechat { url } => {
                plan(StatusCode::FORBIDDEN, Mark::Elsewhere, &text::NEEDS_WECHAT, Action::Nothing)
                    .showing(text::ADDRESS, url)
            }
            Self::NeedsBrowser { url } => {
                plan(StatusCode::FORBIDDEN, Mark::Elsewhere, &text::NEEDS_BROWSER, Action::Nothing)
                    .showing(text::ADDRESS, url)
            }
            Self::FormNotSent { login_url } => {
                plan(StatusCode::UNAUTHORIZED, Mark::Notice, &text::FORM_NOT_SENT, again(login_url))
            }
            Self::NotAllowed => plan(StatusCode::FORBIDDEN, Mark::Notice, &text::NOT_ALLOWED, Action::Nothing),
            Self::BadRequest => plan(StatusCode::BAD_REQUEST, Mark::Notice, &text::BAD_REQUEST, Action::Nothing),
            Self::NotFound { home_url } => {
                plan(StatusCode::NOT_FOUND, Mark::Question, &text::NOT_FOUND, follow(text::HOME, home_url))
            }
        }
    }

    /// `said` with this page's own words put in.
    fn fill(&self, said: &'static str, language: Language) -> Cow<'static, str> {
        match *self {
            Self::AskFirst { app, .. } => said.replace("{app}", app).into(),
            Self::TooManyRequests { retry_after } | Self::NotLoggedOut { retry_after, .. } => {
                said.replace("{wait}", &text::wait(retry_after, language)).into()
            }
            _ => said.into(),
        }
    }

    /// When trying again may help. Ours are jittered, so that those who were refused together do not return together.
    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::TooManyRequests { retry_after } | Self::NotLoggedOut { retry_after, .. } => Some(*retry_after),
            // Failures are counted over a minute.
            Self::TooManyAttempts { .. } => Some(Duration::from_secs(fastrand::u64(60..=75))),
            Self::WechatUnreachable { .. } => Some(Duration::from_secs(fastrand::u64(30..=60))),
            _ => None,
        }
    }
}
