//! The allowed callback addresses: http addresses whose host is exactly one of the app's domains.

use url::{Host, Url};

use crate::app::App;

/// Checks `redirect_uri`; the error is the reason for 10003, in words for the developer.
pub fn check(app: &App, redirect_uri: &str) -> Result<(), String> {
    // The parser accepts these, but a browser would then go to another address than the checked one.
    if redirect_uri.chars().any(|character| character.is_control() || character.is_whitespace() || character == '\\') {
        return Err("redirect_uri holds a space, a control character or a backslash".into());
    }
    let Ok(url) = Url::parse(redirect_uri) else {
        return Err("redirect_uri is not an absolute URL; it must be percent-encoded once, as a whole".into());
    };
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("redirect_uri has the scheme {}; http and https are allowed", url.scheme()));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("redirect_uri holds a user name".into());
    }
    let host = url.host_str().unwrap_or_default();
    if !app.domains.iter().any(|domain| domain == host) {
        let known = app.domains.join(", ");
        return Err(format!("the host of redirect_uri is {host}; configured: {known}. Subdomains do not count"));
    }
    if app.any_port {
        return Ok(());
    }
    if let Some(port) = url.port() {
        return Err(format!("redirect_uri has port {port}; WeChat knows 80 and 443 only (any_port lifts this)"));
    }
    if !matches!(url.host(), Some(Host::Domain(_))) && !app.test_account {
        return Err(
            "the host of redirect_uri is an IP address, allowed for test accounts only (any_port lifts this)".into()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_compared_exactly_and_ports_are_the_default_ones() {
        let app = App::official_account("wxa", "s", "app.example.com");
        for (uri, passes) in [
            ("https://app.example.com/cb", true),
            ("http://app.example.com:80/cb?x=1", true),
            ("https://app.example.com:443/cb", true),
            ("https://APP.example.com/cb", true),
            ("https://app.example.com:8443/cb", false),
            ("https://www.app.example.com/cb", false),
            ("https://example.com/cb", false),
            ("https://app.example.com.evil.org/cb", false),
            ("https://app.example.com@evil.org/cb", false),
            ("https://me@app.example.com/cb", false),
            ("https://evil.org\\@app.example.com/cb", false),
            ("https://app.example.com/cb\r\n", false),
            ("//app.example.com/cb", false),
            ("/cb", false),
            ("ftp://app.example.com/cb", false),
            ("javascript://app.example.com/%0aalert(1)", false),
        ] {
            assert_eq!(check(&app, uri).is_ok(), passes, "{uri}");
        }
    }

    #[test]
    fn any_port_lets_local_work_pass_and_nothing_else() {
        let app = App::official_account("wxa", "s", "127.0.0.1").with_any_port();
        assert!(check(&app, "http://127.0.0.1:8080/cb").is_ok());
        assert!(check(&app, "http://127.0.0.2:8080/cb").is_err());
        assert!(check(&App { any_port: false, ..app }, "http://127.0.0.1/cb").is_err());
    }
}
