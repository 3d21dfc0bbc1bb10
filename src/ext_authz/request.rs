//! One check request, independent of how the gateway sent it.

use crate::client_kind::{self, ClientKind};
use crate::cookie;
use crate::path::{NormalPath, PathError};
use http::{HeaderMap, Method};
use std::net::IpAddr;

/// What the gateway asks about one request of a client.
#[derive(Clone, Debug)]
pub struct CheckRequest<'a> {
    /// The client's method.
    pub method: &'a Method,
    /// The client's `Host` or `:authority`, unchanged; empty if absent.
    pub host: &'a str,
    /// The path, decoded once, or why it is refused.
    pub path: Result<NormalPath<'a>, PathError>,
    /// Path and query, unchanged: where the browser returns after a login.
    pub target: &'a str,
    /// The headers of the check.
    pub headers: &'a HeaderMap,
    /// The other end of the connection: the gateway.
    pub peer: IpAddr,
    /// The proof of a session.
    pub credential: Credential<'a>,
    /// Whether `Authorization` contains a session token of any instance. The application must not see one.
    pub has_session_bearer: bool,
    /// The cookies for the application.
    pub forwarded_cookies: cookie::Forwarded,
}

impl CheckRequest<'_> {
    /// The form of answer that the client can use. Read from the headers on each call; an allow does not need it.
    pub fn client_kind(&self) -> ClientKind {
        client_kind::classify(self.method, self.headers)
    }
}

/// The proof of a session in a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credential<'a> {
    /// None.
    Absent,
    /// The value of the session cookie.
    Cookie(&'a str),
    /// `Authorization: Bearer`, from API clients and mini programs.
    Bearer(&'a str),
    /// Several that differ, or bytes that are not text.
    Conflict,
}
