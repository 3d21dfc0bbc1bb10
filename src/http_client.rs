//! What our HTTP clients have in common, and their trusted roots: the system's certificate store, and in an image that has
//! none (an empty one) those compiled in.

use reqwest::{Certificate, Client, ClientBuilder, Error, redirect, retry};

/// What the requests have in common that an instance makes by itself: they go where they are sent and nowhere else, and
/// are repeated by nobody but their caller.
pub(crate) fn builder() -> ClientBuilder {
    Client::builder()
        .user_agent(concat!("wechat-authz/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        .no_proxy()
        .referer(false)
        .retry(retry::never())
}

/// A client of this configuration that trusts the roots in `pem`, or the usual ones where there are none.
///
/// # Errors
/// TLS cannot be set up, or `pem` cannot be read. The error holds no address.
pub(crate) fn client_trusting(pem: Option<&[u8]>, configured: impl Fn() -> ClientBuilder) -> Result<Client, Error> {
    let Some(pem) = pem else { return client(configured) };
    let roots = Certificate::from_pem_bundle(pem)?;
    configured().tls_certs_only(roots).build().map_err(Error::without_url)
}

/// A client of this configuration that trusts them.
///
/// # Errors
/// TLS cannot be set up. The error holds no address.
pub(crate) fn client(configured: impl Fn() -> ClientBuilder) -> Result<Client, Error> {
    let built = configured().build();
    built.or_else(|_| configured().tls_certs_only(bundled()?).build()).map_err(Error::without_url)
}

fn bundled() -> Result<Vec<Certificate>, Error> {
    webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().map(|root| Certificate::from_der(root)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_the_system_has_no_roots_the_bundled_ones_serve() {
        // Another test of this process may have been first.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let roots = bundled().unwrap();
        assert!(roots.len() > 100);
        Client::builder().tls_certs_only(roots).build().unwrap();
    }
}
