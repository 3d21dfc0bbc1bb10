use super::*;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

/// Texts that their type accepts.
const GOOD: &[(&str, &[&str])] = &[
    ("name", &["shop", "a", "shop-2"]),
    ("title", &["小明的店", "Shop & Co", "a"]),
    ("image-url", &["https://static.example.com/follow.png?a=b", "https://mp.weixin.qq.com:443/a"]),
    ("appid", &["wx0123456789abcdef"]),
    (
        "origin",
        &[
            "https://shop.example.com",
            "https://Shop.example.com:8443/",
            "https://xn--fiq228c.example",
            "https://203.0.113.9",
            "https://[2001:db8::1]:8443",
            "http://127.0.0.1:8080",
            "http://[::1]:8080",
            "http://localhost",
            "http://a.localhost:8080",
        ],
    ),
    ("listener", &["127.0.0.1:9100", "[::1]:0", "0.0.0.0:65535", "unix:/run/x.sock"]),
    ("tcp-listener", &["127.0.0.1:9100", "[::]:9101"]),
    ("prefix", &["/_wechat", "/a/b-c"]),
    (
        "client-address",
        &["peer", "header:x-auth-client-ip", "header:X_Real_IP", "x-forwarded-for:1", "x-forwarded-for:16"],
    ),
    ("path", &["/etc/wechat-authz/keys", "键", "a b"]),
    ("secret-file", &["/etc/a", "./a", "secrets/a", "shop.secret"]),
    ("redis-url", &["redis://127.0.0.1:6379", "rediss://redis.example.com:6380/0", "redis://[::1]:6379/15"]),
    ("proxy-url", &["http://127.0.0.1:3128", "https://proxy.example.com/", "http://[::1]:3128"]),
    ("host-and-port", &["127.0.0.1:26379", "[::1]:7000", "redis-0.redis:7000"]),
    ("word", &["wechat-authz", "my_master.1"]),
    ("domain-proof", &["MP_verify_AbCdEfGh12345678.txt", "WW_verify_AbCdEfGh12345678.txt", "6ynZPDvfTF.txt=0a1b2c"]),
    ("host", &["shop.example.com", "127.0.0.1:8080", "[::1]:8080", "shop.example.com:80", "*"]),
    (
        "path-prefix",
        &["/", "/static", "/中文", "/v1/a:search", "/wiki/Foo_(bar)", "/a+b", "/c++", "/.well-known/", "/@me", "/a..b"],
    ),
    (
        "path-pattern",
        &["/", "/users/*/avatar", "/files/**", "/*.js", "/**/*.min.js", "/a/*/", "/**", "/MP_verify_a.txt", "/a/*"],
    ),
    ("network", &["10.0.0.0/8", "2001:db8::/32", "192.0.2.1", "::1", "::/0"]),
    ("method", &["GET"]),
    ("subject", &["wx:union:oAbCdEf_-1", "wx:wx0123456789abcdef:o123"]),
];

/// Texts that their type rejects, with the reason.
const BAD: &[(&str, &str, &str)] = &[
    ("name", "Shop", ""),
    ("name", "", ""),
    ("title", " ", "which is empty"),
    ("title", " a", "which starts or ends with a blank"),
    ("title", "a\nb", "which has control characters"),
    ("image-url", "http://static.example.com/a.png", "which does not start with https://"),
    ("image-url", "/a.png", "which is not a URL"),
    ("image-url", "https://me@static.example.com/a.png", "which has a user name or password"),
    ("appid", "wx0123", "which has 6 characters instead of 18"),
    ("appid", "gh_0123456789ab", "which does not start with wx"),
    (
        "origin",
        "https://*.example.com",
        "which must name one host, without a wildcard, an empty label or a dot at the end",
    ),
    (
        "origin",
        "https://shop.example.com:0",
        "which must name one host, without a wildcard, an empty label or a dot at the end",
    ),
    ("origin", "https://{tenant}.example.com", ""),
    ("origin", "https://shop .example.com", ""),
    ("origin", "http://shop.example.com", ""),
    ("listener", "localhost:9100", "which has a name instead of an IP address"),
    ("listener", "9100", "which has no port"),
    ("listener", "127.0.0.1:65536", "which has a port that is not a number from 0 to 65535"),
    ("listener", "unix:run/x.sock", "which has a socket path that is not absolute"),
    ("tcp-listener", "unix:/run/x.sock", "which is a Unix socket, where browsers and probes need a port"),
    ("prefix", "/_wechat/", "which ends with a slash"),
    ("prefix", "_wechat", "which does not start with a slash"),
    ("prefix", "/a//b", "which is empty"),
    ("prefix", "/", "which is empty"),
    ("client-address", "x-forwarded-for", "which is neither header:NAME, peer nor x-forwarded-for:N"),
    ("client-address", "x-forwarded-for:0", "which has a position that is not a number from 1 to 16"),
    ("client-address", "x-forwarded-for:17", "which has a position that is not a number from 1 to 16"),
    ("client-address", "header:x.real.ip", "which has no valid header name after header:"),
    ("client-address", "header:x-forwarded-for", "which names a header that clients can extend"),
    ("client-address", "header:X-Forwarded-For", "which names a header that clients can extend"),
    ("path", " ", "which is empty"),
    ("secret-file", "hunter2", "which is not the path of a file"),
    (
        "redis-url",
        "redis://:hunter2@a:6379",
        "which holds a user or a password, which belong in user and password_file",
    ),
    ("redis-url", "redis://a", "which has no port from 1 to 65535"),
    (
        "proxy-url",
        "http://me:hunter2@proxy.example.com:3128",
        "which holds a user or a password, which belong in proxy_credentials_file",
    ),
    ("proxy-url", "socks5://proxy.example.com", "which is not a URL that starts with http:// or https://"),
    ("host-and-port", "redis.example.com", "which has no port from 1 to 65535"),
    ("word", "a{b}", "which has other characters than letters, digits, dots, _ and -"),
    ("domain-proof", "6ynZPDvfTF.txt", ""),
    ("domain-proof", "a/b.txt=1", "which has a name that is not letters, digits, _ and -, and then .txt"),
    ("domain-proof", "a.txt=<b>", "which has a content that is not 1 to 256 letters, digits and ._-="),
    ("host", "https://shop.example.com", "which is more than a host"),
    ("host", "*.example.com", "which has a wildcard; name each host, or leave `host` out for all"),
    ("host", "shop.example.com:443", "which has the port of https, which browsers leave out"),
    ("host", "Shop.example.com", ""),
    ("path-prefix", "/a/:id", ""),
    ("path-prefix", "/a/.+", ""),
    ("path-prefix", "/a./b", ""),
    (
        "path-pattern",
        "/a/**/b",
        "which contains a `**` that is not last; only a last segment such as `*.js` may follow it",
    ),
    ("network", "10.0.0", "which is not a network or an address"),
    ("network", "10.0.0.0/33", "which is not a network or an address"),
    ("method", "get", "which has other characters than capital letters"),
    ("subject", "oAbCdEf", ""),
];

fn form(name: &str) -> &'static Form {
    Form::named(name).unwrap_or_else(|| panic!("no form {name}"))
}

/// Whether an editor that knows the schema accepts the text.
fn matches(form: &Form, text: &str) -> bool {
    let is_match = |pattern| regex::Regex::new(pattern).unwrap().is_match(text);
    is_match(form.pattern) && !form.except.is_some_and(is_match)
}

#[test]
fn schema_and_type_accept_good_values() {
    let names: Vec<&str> = GOOD.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, FORMS.iter().map(|form| form.name).collect::<Vec<_>>());
    for (name, texts) in GOOD {
        for text in *texts {
            assert_eq!(form(name).validate(text), Ok(()), "{name} {text}");
            assert!(matches(form(name), text), "the pattern of {name} refuses {text}");
        }
    }
}

#[test]
fn schema_and_type_refuse_wrong_values() {
    for (name, text, reason) in BAD {
        let error = form(name).validate(text).expect_err(text);
        assert!(reason.is_empty() || error == *reason, "{name} {text}: {error}");
        assert!(!matches(form(name), text), "the pattern of {name} accepts {text}");
    }
    let reason = form("network").validate("10.0.0.1/8");
    assert_eq!(reason, Err("which has bits beyond its prefix: write 10.0.0.0/8".to_owned()));
}

#[test]
fn every_example_has_its_own_form() {
    for form in FORMS.iter().filter(|form| form.description.contains("{}")) {
        assert_eq!(form.validate(form.example), Ok(()), "{}", form.name);
        assert!(form.wanted(None).contains(form.example));
    }
}

#[test]
fn secrets_and_users_are_never_quoted() {
    for (name, text) in [("secret-file", "hunter2"), ("subject", "o123"), ("redis-url", "redis://:hunter2@a:6379")] {
        assert!(!form(name).redact(text).contains(text));
    }
}

/// Rules that no pattern can express: Punycode, the length of a whole host name, the bits of a network, and the
/// canonical spelling of an IPv6 address.
fn is_beyond_a_pattern(form: &Form, text: &str) -> bool {
    text.to_ascii_lowercase().contains("xn--")
        || text.len() > 253 && ["origin", "image-url", "proxy-url", "host"].contains(&form.name)
        || form.name == "network" && text.contains('/')
        || form.name == "host" && text.starts_with('[')
}

/// The type accepts every text that the schema accepts.
#[test]
fn types_accept_what_patterns_generate() {
    let mut runner = TestRunner::default();
    for form in FORMS {
        let texts = proptest::string::string_regex(form.pattern.trim_start_matches('^').trim_end_matches('$')).unwrap();
        let texts: Vec<String> = (0..500).map(|_| texts.new_tree(&mut runner).unwrap().current()).collect();
        let texts: Vec<_> =
            texts.iter().filter(|text| matches(form, text) && !is_beyond_a_pattern(form, text)).collect();
        assert!(texts.len() > 50, "{}: {} texts", form.name, texts.len());
        for text in texts {
            assert_eq!(form.validate(text), Ok(()), "{} {text:?}", form.name);
        }
    }
}

proptest! {
    #[test]
    fn no_text_panics(text in "(.|[wx:/*.\\[\\]0-9a-f-]){0,60}") {
        for form in FORMS {
            let _ = form.validate(&text);
            let _ = form.redact(&text);
        }
    }
}
