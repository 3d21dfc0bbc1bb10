//! Converts errors of the HTTP client: was the request sent, and is the certificate trusted?
//!
//! The original error is dropped: it quotes the URL, which contains the secret, code or token.

use super::Endpoint;
use super::error::WechatError;
use std::error::Error;
use std::io;

/// Converts the error of a request to `endpoint`.
pub(crate) fn classify(endpoint: Endpoint, error: reqwest::Error) -> WechatError {
    let error = error.without_url();
    if error.is_connect() || error.is_builder() {
        unsent(endpoint, &error, error.is_timeout(), error.is_dns())
    } else if error.is_timeout() {
        WechatError::TimedOut { endpoint }
    } else {
        WechatError::Broken { endpoint }
    }
}

fn unsent(endpoint: Endpoint, error: &(dyn Error + 'static), timed_out: bool, dns_failed: bool) -> WechatError {
    let causes = causes(error);
    let tls = causes.iter().find_map(|cause| cause.downcast_ref::<rustls::Error>());
    if let Some(rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented) = tls {
        return WechatError::Certificate { endpoint };
    }
    let kind = causes.iter().rev().find_map(|cause| cause.downcast_ref::<io::Error>()).map(io::Error::kind);
    let why = match kind {
        _ if timed_out => "timed out",
        // The resolver's error has no public type, only this text.
        _ if dns_failed || causes.iter().any(|cause| cause.to_string() == "dns error") => "name not resolved",
        _ if tls.is_some() => "TLS failed",
        Some(io::ErrorKind::ConnectionRefused) => "refused",
        Some(io::ErrorKind::TimedOut) => "timed out",
        Some(io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe) => "cut off",
        _ => "not connected",
    };
    WechatError::Unsent { endpoint, why }
}

/// An error and its causes. `io::Error::source` skips the wrapped error, so `get_ref` is asked first.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> Vec<&'a (dyn Error + 'static)> {
    /// Longer than any real chain.
    const MAX_CAUSES: usize = 32;
    let mut causes = Vec::new();
    let mut next = Some(error);
    while let Some(cause) = next {
        if causes.len() == MAX_CAUSES {
            break;
        }
        causes.push(cause);
        next = match cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(wrapped) => Some(wrapped),
            None => cause.source(),
        };
    }
    causes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connection_errors_are_distinguished() {
        let endpoint = Endpoint::AccessToken;
        let distrust = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        let because = |why| WechatError::Unsent { endpoint, why };
        for (cause, expected) in [
            (io::Error::other(io::Error::other(distrust)), WechatError::Certificate { endpoint }),
            (io::Error::other(rustls::Error::DecryptError), because("TLS failed")),
            (io::Error::from(io::ErrorKind::UnexpectedEof), because("cut off")),
            (io::Error::other(io::Error::from(io::ErrorKind::ConnectionReset)), because("cut off")),
            (io::Error::from(io::ErrorKind::ConnectionRefused), because("refused")),
            (io::Error::from(io::ErrorKind::TimedOut), because("timed out")),
            (io::Error::from(io::ErrorKind::HostUnreachable), because("not connected")),
            (io::Error::other("dns error"), because("name not resolved")),
        ] {
            assert_eq!(unsent(endpoint, &cause, false, false), expected);
        }
    }
}
