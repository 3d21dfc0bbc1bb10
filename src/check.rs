//! The words that every part shares: the question a gateway asks and the answers there are. No behaviour of their own.

use crate::cookie;
use crate::identity::IdentityHeaders;
use crate::path::{NormalPath, PathError};
use crate::subject::Subject;
use http::{HeaderMap, HeaderValue, Method};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// What a gateway asks about one request, whatever the gateway.
#[derive(Clone, Debug)]
pub struct Check<'a> {
    /// The client's own method.
    pub method: &'a Method,
    /// The client's `Host` or `:authority`, as it came; empty where there was none.
    pub host: &'a str,
    /// The path, decoded once, or why it is refused.
    pub path: Result<NormalPath<'a>, PathError>,
    /// Path and query byte for byte, to bring the person back to.
    pub target: &'a str,
    /// Who is asking.
    pub client: ClientIp<'a>,
    /// What a session may be shown by.
    pub credential: Credential<'a>,
    /// Whether `Authorization` holds a session token, whoever's: the application must not see it.
    pub bearer_is_ours: bool,
    /// How to tell which kind of answer this client can use.
    pub wanted: FormatSource<'a>,
    /// Cookies as the application may see them.
    pub forwarded_cookies: cookie::Forwarded,
}

impl Check<'_> {
    /// The kind of answer this client can use.
    pub fn response_format(&self) -> ResponseFormat {
        match self.wanted {
            FormatSource::Known(wants) => wants,
            FormatSource::Read(read, headers) => read(self.method, headers),
        }
    }
}

/// How to tell which kind of answer a client can use. Most checks end in an allow, which asks nobody: a gateway leaves it
/// to be read.
#[derive(Clone, Copy, Debug)]
pub enum FormatSource<'a> {
    /// It is known.
    Known(ResponseFormat),
    /// This reads it from the method and these headers.
    Read(fn(&Method, &HeaderMap) -> ResponseFormat, &'a HeaderMap),
}

/// Who is asking. Budgets, the log of denials and rules with client networks go by it; for other allows it is not read.
#[derive(Clone, Copy, Debug)]
pub enum ClientIp<'a> {
    /// This address.
    Known(IpAddr),
    /// The one that this source says.
    Read(&'a dyn ClientAddressSource, &'a HeaderMap, IpAddr),
}

impl ClientIp<'_> {
    /// The address.
    pub fn address(&self) -> IpAddr {
        match self {
            Self::Known(address) => *address,
            Self::Read(source, headers, peer) => source.read(headers, *peer),
        }
    }

    /// The address, unless its source names none: the connection's other end is a gateway then, and no client.
    pub fn named_address(&self) -> Option<IpAddr> {
        match self {
            Self::Known(address) => Some(*address),
            Self::Read(source, headers, peer) => source.is_named(headers).then(|| source.read(headers, *peer)),
        }
    }
}

/// Where a client's address comes from.
pub trait ClientAddressSource: std::fmt::Debug {
    /// The client's address, from a request's headers and the connection's other end.
    fn read(&self, headers: &HeaderMap, peer: IpAddr) -> IpAddr;

    /// Whether the source names an address in these headers; the connection always does.
    fn is_named(&self, headers: &HeaderMap) -> bool;
}

/// What the request brought to prove a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credential<'a> {
    /// Nothing.
    Absent,
    /// The session cookie's value.
    Cookie(&'a str),
    /// `Authorization: Bearer`, from API clients and mini-programs.
    Bearer(&'a str),
    /// Two that differ, or bytes that are not text.
    Conflict,
}

/// The kind of answer a client can use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ResponseFormat {
    /// A browser navigating by GET or HEAD: it follows a redirect.
    Page,
    /// A browser sending a form: a redirect would lose what was typed.
    Form,
    /// A script, an API client, an image: it reads a status and JSON.
    Data,
    /// A gRPC call: Envoy turns the status into a trailer and the body into its message.
    Grpc,
    /// A WebSocket handshake: the status is all it gets.
    WebSocket,
    /// A CORS preflight: it carries no cookie, whoever is logged in.
    Preflight,
}

/// What the policy asks of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Requirement {
    /// Nobody needs to be known; nothing is looked at.
    Public,
    /// Whoever is known is named; others pass nameless.
    Optional,
    /// A live session.
    Required,
    /// A live session of one of these subjects.
    Subjects(Arc<[Subject]>),
}

/// The answer. It has no default: every way to one is written out.
#[derive(Clone, Debug)]
pub enum Decision {
    /// The request may pass, with these headers.
    Allow {
        /// Who it is, if anybody.
        identity: Identity,
        /// A `Set-Cookie` with the session's next token.
        renewed: Option<HeaderValue>,
        /// Why.
        reason: Reason,
    },
    /// Whoever it is must log in first, at `location` (absolute).
    Login {
        /// The login page, with the way back.
        location: String,
        /// Why.
        reason: Reason,
    },
    /// A person's session needs its next token, to be had at `location` (absolute).
    Renew {
        /// The renewal page, with the way back.
        location: String,
        /// Why.
        reason: Reason,
    },
    /// A page of ours, which this door answers in-band: who holds the pages says what.
    Page {
        /// Why.
        reason: Reason,
    },
    /// No, and logging in would not help.
    Refuse {
        /// Why.
        reason: Reason,
    },
    /// Too much from one client; again after this time.
    Limited {
        /// How long to wait.
        retry_after: Duration,
        /// Why.
        reason: Reason,
    },
}

impl Decision {
    /// Why it was decided so.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Allow { reason, .. }
            | Self::Login { reason, .. }
            | Self::Renew { reason, .. }
            | Self::Page { reason }
            | Self::Refuse { reason }
            | Self::Limited { reason, .. } => *reason,
        }
    }

    /// The word for it in metrics and traces.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Allow { .. } => "allow",
            Self::Login { .. } => "login",
            Self::Renew { .. } => "renew",
            Self::Page { .. } => "page",
            Self::Refuse { .. } => "refuse",
            Self::Limited { .. } => "limited",
        }
    }
}

/// Who a request is from.
#[derive(Clone, Debug)]
pub enum Identity {
    /// Nobody we know: every identity header is set empty.
    Anonymous,
    /// A live session's user.
    Known(IdentityHeaders),
}

/// Which way of logging in a session came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LoginMethod {
    /// Web authorization inside WeChat (公众号网页授权).
    OfficialAccount,
    /// Website QR login (网站应用).
    Website,
}

impl LoginMethod {
    /// The word for it in headers, logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OfficialAccount => "official_account",
            Self::Website => "website",
        }
    }
}

/// What WeChat says about a person, cleaned: no control characters, bounded, https.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    /// As the person wrote it; may be empty.
    pub nickname: String,
    /// https URL of the avatar; may be empty.
    pub avatar: String,
}

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident = $word:literal,)+) => {
        /// Why a check was decided as it was: the metric label, the audit field and the JSON body's `reason`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Reason { $($(#[doc = $doc])+ $name,)+ }

        impl Reason {
            /// Every reason there is.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            #[cfg(test)]
            const MEANINGS: &'static [&'static str] = &[$(concat!($($doc),+),)+];

            /// The word for it, in snake_case.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $word,)+ }
            }
        }
    };
}

reasons! {
    /// The policy requires nothing for this path.
    PublicPath = "public_path",
    /// No valid session, and the policy allows anonymous users.
    AnonymousAllowed = "anonymous_allowed",
    /// A live session.
    SessionValid = "session_valid",
    /// A live session, whose next token goes out with the answer.
    SessionRenewed = "session_renewed",
    /// A live session whose token should be renewed before more is read.
    SessionNeedsRenewal = "session_needs_renewal",
    /// No session was shown.
    NoSession = "no_session",
    /// Two different session values, or undecodable ones.
    ConflictingCredentials = "conflicting_credentials",
    /// Not a token of ours: length, shape, header, claims.
    TokenMalformed = "token_malformed",
    /// A token of another application, issuer or purpose.
    TokenForeign = "token_foreign",
    /// Signed with a key that is not among ours.
    TokenUnknownKey = "token_unknown_key",
    /// The signature does not verify.
    TokenForged = "token_forged",
    /// Past the session's end, or past the token's where renewal is not safe.
    SessionExpired = "session_expired",
    /// Not used for longer than the idle limit.
    SessionIdle = "session_idle",
    /// Revoked by its user or an operator.
    SessionRevoked = "session_revoked",
    /// Logged in, but not on the rule's list.
    SubjectNotAllowed = "subject_not_allowed",
    /// The path contains what no valid client sends, or encoded slashes without `allow_encoded_slashes`.
    AmbiguousPath = "ambiguous_path",
    /// No application lives at this host.
    UnknownHost = "unknown_host",
    /// The method contains a lower-case letter: applications differ in whether it is another method.
    MethodNotUpperCase = "method_not_upper_case",
    /// CONNECT asks for a tunnel, which no session buys.
    ConnectRefused = "connect_refused",
    /// A preflight on a protected path: let the gateway's CORS filter answer it.
    PreflightRefused = "preflight_refused",
    /// The pages' own prefix reached the check: its route must have the check disabled.
    PagesNotRouted = "pages_not_routed",
    /// A page of ours, which the check listener answers itself (`gateway.pages_in_band`).
    PageInBand = "page_in_band",
    /// More checks than the limit from this address.
    TooManyChecks = "too_many_checks",
    /// More unseen tokens than the limit, from this address or from all together.
    TooManyNewTokens = "too_many_new_tokens",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documents_explain_each_reason() {
        let meanings = Reason::MEANINGS.iter().map(|meaning| meaning.trim().to_owned());
        let words = Reason::ALL.iter().map(|reason| reason.as_str().to_owned());
        crate::documents::assert_table("reasons.md", words.zip(meanings));
    }
}
