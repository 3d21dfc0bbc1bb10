//! Whole configurations: their resolved values, and contradictory settings.

use crate::config::load;
use crate::config::settings::{Settings, resolve};

const GOOD: &str = "\
keys: { directory: keys }
admin: { listen: 127.0.0.1:9103, token_file: ./admin.token }
apps:
- name: shop
  origin: https://shop.example.com
  official_account: { appid: wx0123456789abcdef, secret_file: ./oa.secret }
  website: { appid: wxfedcba9876543210, secret_file: ./web.secret }
  session: { token_lifetime: 15m, lifetime: 7d, idle: 24h }
- name: blog
  origin: https://blog.example.com
  website: { appid: wxfedcba9876543210, secret_file: ./web.secret }
policy:
- { host: shop.example.com, path_prefix: /static, access: public }
- { path_pattern: /users/*, methods: [GET], access: required, subjects: [\"wx:union:o1\"] }
";

fn resolved(text: &str) -> Result<Settings, String> {
    let directory = tempfile::tempdir().unwrap();
    for (name, secret) in [
        ("oa.secret", "0a1b2c3d4e5f60718293a4b5c6d7e8f9"),
        ("web.secret", "9f8e7d6c5b4a39281706f5e4d3c2b1a0"),
        ("admin.token", "a-token-of-more-than-thirty-two-characters"),
        ("proxy.secret", "alice:proxy-password"),
        ("pair.pem", "-----BEGIN CERTIFICATE-----\n-----BEGIN PRIVATE KEY-----"),
    ] {
        std::fs::write(directory.path().join(name), secret).unwrap();
    }
    let file = directory.path().join("c.yaml");
    std::fs::write(&file, text).unwrap();
    load(&file, std::iter::empty()).and_then(resolve).map_err(|errors| errors.to_string())
}

#[test]
fn a_good_configuration_resolves() {
    let settings = resolved(GOOD).unwrap();
    assert_eq!(settings.apps.len(), 2);
    let shop = &settings.apps[0];
    assert_eq!((shop.session.issuer.as_str(), shop.session.audience.as_str()), ("https://shop.example.com", "shop"));
    assert!(shop.official_account.is_some() && shop.website.is_some());
    assert!(!shop.official_account.as_ref().unwrap().ask_first, "a silent login has no page before it");
    assert!(settings.admin_token.is_some() && settings.keys.directory.is_absolute());
}

#[test]
fn contradicting_settings_are_errors_with_their_keys() {
    for (from, to, key, says) in [
        ("name: blog", "name: shop", "apps[1].name", "the name of an earlier application"),
        ("https://blog.example.com", "https://SHOP.example.com:443", "apps[1].origin", "the host of an earlier"),
        ("appid: wx0123456789abcdef", "appid: wxfedcba9876543210", "apps[0].website.appid", "of the Official Account"),
        (
            "token_lifetime: 15m, lifetime: 7d",
            "token_lifetime: 1h, lifetime: 30m",
            "session.token_lifetime",
            "longer than",
        ),
        ("idle: 24h", "idle: 5m", "apps[0].session.idle", "shorter than a token's"),
        ("127.0.0.1:9103", "127.0.0.1:9100", "admin.listen", "the same address as listen.check"),
        ("127.0.0.1:9103", "0.0.0.0:9103", "admin.listen", "which other machines can reach"),
        (
            "host: shop.example.com",
            "host: shop.example.org",
            "policy[0].host",
            "which is not the host of an application",
        ),
        ("path_prefix: /static", "path_prefix: /_wechat/login", "policy[0].path_prefix", "below the pages' prefix"),
        ("path_prefix: /static", "path_prefix: /a, path_pattern: /b", "policy[0]", "both path_prefix and path_pattern"),
        (
            "{ host: shop.example.com, path_prefix: /static, access: public }",
            "{ access: public }",
            "policy[0].access",
            "opens everything",
        ),
        ("access: required, subjects", "access: optional, subjects", "policy[1].subjects", "without access: required"),
        ("./web.secret }\npolicy", "./none.secret }\npolicy", "apps[1].website.secret_file", "no such file"),
    ] {
        assert!(GOOD.contains(from), "{from}");
        let errors = resolved(&GOOD.replace(from, to)).err().unwrap_or_default();
        assert!(errors.contains(key) && errors.contains(says), "{to}: {errors:?}");
        assert!(!errors.contains("0a1b2c3d4e5f"), "{errors}");
    }
}

#[test]
fn an_application_without_a_login_method_is_an_error() {
    let text = GOOD.replace("  website: { appid: wxfedcba9876543210, secret_file: ./web.secret }\npolicy", "policy");
    let errors = resolved(&text).err().unwrap_or_default();
    assert!(errors.contains("apps[1]: found no way to log in"), "{errors}");
}

#[test]
fn a_page_that_needs_a_200_is_an_error_in_band() {
    let in_band = format!("gateway: {{ pages_in_band: true }}\n{GOOD}");
    assert!(resolved(&in_band).unwrap().pages_in_band && !resolved(GOOD).unwrap().pages_in_band);
    for (from, to, key) in [
        (
            "- name: blog\n",
            "- name: blog\n  domain_proofs: [ MP_verify_AbCdEfGh12345678.txt ]\n",
            "apps[1].domain_proofs: found MP_verify_AbCdEfGh12345678.txt, which is answered 200",
        ),
        ("oa.secret }", "oa.secret, jssdk: true }", "apps[0].official_account.jssdk: found true, which is answered"),
    ] {
        assert!(resolved(&GOOD.replace(from, to)).is_ok(), "{to}");
        let errors = resolved(&in_band.replace(from, to)).err().unwrap_or_default();
        assert!(errors.contains(key) && errors.lines().count() == 1, "{errors:?}");
    }
}

#[test]
fn a_silent_scope_with_unionids_is_a_warning() {
    let settings = resolved(&GOOD.replace("name: shop\n", "name: shop\n  subject: unionid\n")).unwrap();
    assert!(settings.warnings.iter().any(|warning| warning.contains("promises no unionid")), "{:?}", settings.warnings);
}

#[test]
fn credentials_and_certificates_need_their_counterparts() {
    let redis =
        "redis: { url: rediss://127.0.0.1:6379, client_certificate_file: ./pair.pem, client_key_file: ./pair.pem }\n";
    let wechat =
        "wechat: { proxy: http://127.0.0.1:3128, proxy_credentials_file: ./proxy.secret, ca_file: ./pair.pem }\n";
    let settings = resolved(&format!("{redis}{wechat}{GOOD}")).unwrap();
    assert!(settings.redis.unwrap().store.client.is_some());
    let proxy = settings.wechat.proxy.unwrap();
    assert_eq!(proxy.credentials.as_ref().unwrap().expose(), "alice:proxy-password");
    assert!(settings.wechat.roots.is_some() && !format!("{proxy:?}").contains("proxy-password"));
    for (from, to, says) in [
        ("rediss:", "redis:", "redis.client_certificate_file: found a client certificate without TLS"),
        (", client_key_file: ./pair.pem", "", "redis.client_certificate_file: found a certificate without its key"),
        ("client_certificate_file: ./pair.pem, ", "", "redis.client_key_file: found a key without its certificate"),
        ("key_file: ./pair.pem", "key_file: ./oa.secret", "redis.client_key_file: found a file without a private key"),
        ("certificate_file: ./pair.pem", "certificate_file: ./oa.secret", "found a file without a certificate"),
        ("proxy: http://127.0.0.1:3128, ", "", "wechat.proxy_credentials_file: found credentials without a proxy"),
        ("./proxy.secret", "./oa.secret", "wechat.proxy_credentials_file: found a file without a colon"),
        (
            "http://127.0.0.1:3128",
            "http://me:hunter2@127.0.0.1:3128",
            "wechat.proxy: found a text of 32 characters (not shown)",
        ),
        ("ca_file: ./pair.pem", "ca_file: ./none.pem", "wechat.ca_file: found no such file"),
    ] {
        let text = format!("{redis}{wechat}{GOOD}");
        assert!(text.contains(from), "{from}");
        let errors = resolved(&text.replace(from, to)).err().unwrap_or_default();
        assert!(errors.contains(says) && !errors.contains("hunter2"), "{to}: {errors:?}");
    }
}

#[test]
fn an_origin_to_which_wechat_does_not_return_is_a_warning() {
    for (origin, warned) in [
        ("https://blog.example.com", None),
        ("http://127.0.0.1:8080", None),
        ("http://shop.localhost:8080", None),
        ("https://shop.example.com:8443", Some("found a port to which WeChat does not return")),
        ("https://203.0.113.9", Some("found an IP address, to which WeChat does not return")),
        ("https://[2001:db8::1]:8443", Some("found an IP address, to which WeChat does not return")),
    ] {
        let settings = resolved(&GOOD.replace("https://blog.example.com\n", &format!("{origin}\n"))).unwrap();
        let found = settings.warnings.iter().find(|warning| warning.contains("WeChat does not return"));
        assert_eq!(found.is_some(), warned.is_some(), "{origin}: {found:?}");
        assert!(found.is_none_or(|found| found.contains("apps[1].origin") && found.contains(warned.unwrap())));
    }
}

#[test]
fn a_changed_secret_is_a_changed_configuration() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("c.yaml");
    let text = "keys: { directory: keys }\napps:\n- name: shop\n  origin: https://shop.example.com\n  \
                    website: { appid: wxfedcba9876543210, secret_file: ./web.secret }\n";
    std::fs::write(&file, text).unwrap();
    let fingerprint = |secret: &str| {
        std::fs::write(directory.path().join("web.secret"), secret).unwrap();
        load(&file, std::iter::empty()).and_then(resolve).unwrap().fingerprint
    };
    let first = fingerprint("9f8e7d6c5b4a39281706f5e4d3c2b1a0");
    assert_eq!(first, fingerprint("9f8e7d6c5b4a39281706f5e4d3c2b1a0"));
    assert_ne!(first, fingerprint("8f8e7d6c5b4a39281706f5e4d3c2b1a0"));
}
