//! The result of a check: what the policy requires, what is decided, and why. No behaviour of its own.

use crate::identity::IdentityHeaders;
use crate::subject::Subject;
use http::HeaderValue;
use std::sync::Arc;
use std::time::Duration;

/// What the policy requires of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Requirement {
    /// No session. A session in the request is ignored.
    Public,
    /// No session. A live session sets the identity headers.
    Optional,
    /// A live session.
    Required,
    /// A live session of one of these subjects.
    Subjects(Arc<[Subject]>),
}

/// The result of a check. It has no default, so each decision is explicit.
#[derive(Clone, Debug)]
pub enum Decision {
    /// The request may pass, with these headers.
    Allow {
        /// The user, if there is a live session.
        identity: Identity,
        /// The `Set-Cookie` header with the session's next token.
        renewed: Option<HeaderValue>,
        /// The reason.
        reason: Reason,
    },
    /// The client must log in first, at `location` (absolute).
    Login {
        /// The login page, with the address to return to.
        location: String,
        /// The reason.
        reason: Reason,
    },
    /// The browser must fetch the session's next token first, at `location` (absolute).
    Renew {
        /// The renewal page, with the address to return to.
        location: String,
        /// The reason.
        reason: Reason,
    },
    /// One of the pages, answered in-band by the caller.
    Page {
        /// The reason.
        reason: Reason,
    },
    /// The request is refused, and a login would not change that.
    Deny {
        /// The reason.
        reason: Reason,
    },
    /// The client exceeds a limit.
    Limited {
        /// When the client may try again.
        retry_after: Duration,
        /// The reason.
        reason: Reason,
    },
}

impl Decision {
    /// The reason for the decision.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Allow { reason, .. }
            | Self::Login { reason, .. }
            | Self::Renew { reason, .. }
            | Self::Page { reason }
            | Self::Deny { reason }
            | Self::Limited { reason, .. } => *reason,
        }
    }

    /// The name in metrics and traces.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Allow { .. } => "allow",
            Self::Login { .. } => "login",
            Self::Renew { .. } => "renew",
            Self::Page { .. } => "page",
            Self::Deny { .. } => "deny",
            Self::Limited { .. } => "limited",
        }
    }
}

/// The user whom a request belongs to.
#[derive(Clone, Debug)]
pub enum Identity {
    /// Unknown: every identity header is set to an empty value.
    Anonymous,
    /// A live session's user.
    Known(IdentityHeaders),
}

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident = $word:literal,)+) => {
        /// Why a check was decided as it was: the metric label, the audit field and `reason` in JSON bodies.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Reason { $($(#[doc = $doc])+ $name,)+ }

        impl Reason {
            /// Every reason.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            #[cfg(test)]
            const MEANINGS: &'static [&'static str] = &[$(concat!($($doc),+),)+];

            /// The name in snake_case.
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
    ConnectDenied = "connect_denied",
    /// A preflight on a protected path: let the gateway's CORS filter answer it.
    PreflightDenied = "preflight_denied",
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
