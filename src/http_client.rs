//! The common settings of our HTTP clients. They trust the system's certificate store, or in an image without one the roots
//! compiled in.

use reqwest::{Certificate, Client, ClientBuilder, Error, redirect, retry};

/// A builder without redirects, proxies from the environment, and automatic retries.
pub(crate) fn builder() -> ClientBuilder {
    Client::builder()
        .user_agent(concat!("wechat-authz/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        .no_proxy()
        .referer(false)
        .retry(retry::never())
}

/// A client that trusts the roots in `pem`; without `pem` like [`client`].
///
/// # Errors
/// TLS cannot be set up, or `pem` is invalid. The error contains no URL.
pub(crate) fn client_trusting(pem: Option<&[u8]>, builder: impl Fn() -> ClientBuilder) -> Result<Client, Error> {
    let Some(pem) = pem else { return client(builder) };
    let roots = Certificate::from_pem_bundle(pem)?;
    builder().tls_certs_only(roots).build().map_err(Error::without_url)
}

/// A client that trusts the system's roots, or the bundled ones if the system has none.
///
/// # Errors
/// TLS cannot be set up. The error contains no URL.
pub(crate) fn client(builder: impl Fn() -> ClientBuilder) -> Result<Client, Error> {
    let client = builder().build();
    client.or_else(|_| builder().tls_certs_only(bundled_roots()?).build()).map_err(Error::without_url)
}

fn bundled_roots() -> Result<Vec<Certificate>, Error> {
    webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().map(|root| Certificate::from_der(root)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bundled_roots_can_be_used() {
        // Another test of this process may have installed it.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let roots = bundled_roots().unwrap();
        assert!(roots.len() > 100);
        Client::builder().tls_certs_only(roots).build().unwrap();
    }
}
