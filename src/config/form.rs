//! The forms of texts in the configuration: an origin, an AppID, a path pattern.
//!
//! Each form belongs to one type, whose `FromStr` is the only judge of its texts. Here stands what else there is to say of
//! it: its name and pattern in the JSON schema, and the words that ask for it.

use super::diagnostic::shown;
use super::text::{FilePath, ImageUrl, MethodName, Prefix, SecretFile, Title, Word};
use crate::app_name::AppName;
use crate::client_address::ClientAddress;
use crate::origin::Origin;
use crate::policy::{HostMatch, Network, PathPattern, PathPrefix};
use crate::redis::settings::{Address as RedisAddress, Url as RedisUrl};
use crate::routes::DomainProof;
use crate::server::{Address, TcpAddress};
use crate::subject::Subject;
use crate::wechat::AppId;
use crate::wechat::settings::ProxyUrl;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;

/// One form.
#[derive(Debug)]
pub(crate) struct Form {
    /// Its name in the schema's `x-form`.
    pub name: &'static str,
    /// What the schema says of the text. It may be narrower than the type: it leaves out spellings that nobody writes.
    pub pattern: &'static str,
    /// What the pattern matches and the type refuses.
    pub except: Option<&'static str>,
    /// What to write; see [`Form::wanted`].
    description: &'static str,
    /// A value of this form.
    example: &'static str,
    /// Whether an error may quote the value.
    pub quotable: bool,
    parse: fn(&str) -> Result<(), String>,
}

/// A type with a form.
pub(crate) trait HasForm {
    /// The form.
    const FORM: Form;
}

impl Form {
    /// The form with that name.
    pub(crate) fn named(name: &str) -> Option<&'static Self> {
        FORMS.iter().copied().find(|form| form.name == name)
    }

    /// What to write, with an example: the setting's own default if it has one.
    pub(crate) fn wanted(&self, default: Option<&str>) -> String {
        format!("write {}", self.description.replace("{}", default.unwrap_or(self.example)))
    }

    /// Whether `text` is a value of the type.
    ///
    /// # Errors
    /// What is wrong with it, as a phrase that follows the value.
    pub(crate) fn validate(&self, text: &str) -> Result<(), String> {
        (self.parse)(text)
    }

    /// A text of this form as an error may show it.
    pub(crate) fn redact(&self, text: &str) -> String {
        if self.quotable || text.is_empty() {
            return shown(text);
        }
        format!("a text of {} characters (not shown)", text.chars().count())
    }

    /// What the schema says of the type.
    fn schema(&self) -> Schema {
        let mut schema = json_schema!({ "type": "string", "pattern": self.pattern, "x-form": self.name });
        if let Some(except) = self.except {
            schema.insert("not".to_owned(), serde_json::json!({ "pattern": except }));
        }
        schema
    }
}

/// Parts of patterns.
macro_rules! pattern {
    (octet) => {
        "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
    };
    (ipv4) => {
        concat!("(", pattern!(octet), r"\.){3}", pattern!(octet))
    };
    (ipv6) => {
        concat!(
            "(([0-9a-fA-F]{1,4}:){7}[0-9a-fA-F]{1,4}|([0-9a-fA-F]{1,4}:){1,7}:",
            "|([0-9a-fA-F]{1,4}:){1,6}(:[0-9a-fA-F]{1,4})|([0-9a-fA-F]{1,4}:){1,5}(:[0-9a-fA-F]{1,4}){1,2}",
            "|([0-9a-fA-F]{1,4}:){1,4}(:[0-9a-fA-F]{1,4}){1,3}|([0-9a-fA-F]{1,4}:){1,3}(:[0-9a-fA-F]{1,4}){1,4}",
            "|([0-9a-fA-F]{1,4}:){1,2}(:[0-9a-fA-F]{1,4}){1,5}|[0-9a-fA-F]{1,4}:(:[0-9a-fA-F]{1,4}){1,6}",
            "|:((:[0-9a-fA-F]{1,4}){1,7}|:))"
        )
    };
    // From 1.
    (port) => {
        "([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"
    };
    (label) => {
        "[a-zA-Z0-9_]([a-zA-Z0-9_-]{0,61}[a-zA-Z0-9_])?"
    };
    // The last label starts with a letter: one of digits makes a URL's host an IPv4 address.
    (url_host) => {
        concat!(
            "((",
            pattern!(label),
            r"\.)*[a-zA-Z]([a-zA-Z0-9_-]{0,61}[a-zA-Z0-9_])?",
            "|",
            pattern!(ipv4),
            r"|\[",
            pattern!(ipv6),
            r"\])"
        )
    };
    // A segment of a path in a rule. A `+` after a dot, and a `:` at the start, look like another router's patterns.
    (segment) => {
        concat!(
            r#"[+$ ]*\.*[^/:*?#;%{}<>\[\]^|\\"`.+$ \x00-\x1f\x7f]"#,
            r#"([+$ ]*\.*[^/*?#;%{}<>\[\]^|\\"`.+$ \x00-\x1f\x7f])*\+*"#
        )
    };
}

macro_rules! optional {
    () => {
        None
    };
    ($value:literal) => {
        Some($value)
    };
}

/// `NAME TYPE: PATTERN, DESCRIPTION, EXAMPLE`, with `secret` after the type if no error may quote a value.
macro_rules! forms {
    ($($name:literal $type:ident $($secret:ident)?: $pattern:expr $(, except $except:literal)?, $write:literal, $example:literal;)+) => {
        /// Every form.
        pub(crate) const FORMS: &[&Form] = &[$(&<$type as HasForm>::FORM,)+];
        $(
            impl HasForm for $type {
                const FORM: Form = Form {
                    name: $name,
                    pattern: $pattern,
                    except: optional!($($except)?),
                    description: $write,
                    example: $example,
                    quotable: stringify!($($secret)?).is_empty(),
                    parse: |text| text.parse::<$type>().map(drop).map_err(|error| format!("which {error}")),
                };
            }

            impl JsonSchema for $type {
                fn inline_schema() -> bool {
                    true
                }

                fn schema_name() -> Cow<'static, str> {
                    $name.into()
                }

                fn json_schema(_: &mut SchemaGenerator) -> Schema {
                    <$type as HasForm>::FORM.schema()
                }
            }
        )+
    };
}

forms! {
    "name" AppName: "^[a-z0-9-]{1,32}$",
        "a name of 1 to 32 lower-case letters, digits and hyphens, such as {}", "shop";
    "title" Title: r"^[^\s\x00-\x1f\x7f-\x9f]([^\x00-\x1f\x7f-\x9f]{0,38}[^\s\x00-\x1f\x7f-\x9f])?$",
        "a name of 1 to 40 characters, such as {}", "小明的店";
    "image-url" ImageUrl: concat!("^https://", pattern!(url_host), "(:", pattern!(port), ")?(/[!-~]*)?$"),
        "the https address of an image, such as {}", "https://static.example.com/follow.png";
    "appid" AppId: "^wx[0-9a-f]{16}$",
        "the AppID from WeChat's console: wx and 16 hex digits, such as {}", "wx0123456789abcdef";
    "origin" Origin: concat!("^(https://", pattern!(url_host), r"|http://(127(\.", pattern!(octet), r"){3}|\[::1\]|(", pattern!(label), r"\.)*localhost))(:", pattern!(port), ")?/?$"),
        "an origin such as {}", "https://shop.example.com";
    "listener" Address: concat!("^(unix:/[ -~]{0,98}[!-.0-~]|(", pattern!(ipv4), r"|\[", pattern!(ipv6), r"\]):(0|", pattern!(port), "))$"),
        "an address and port such as {}, or a socket such as unix:/run/wechat-authz/check.sock", "127.0.0.1:9100";
    "tcp-listener" TcpAddress: concat!("^(", pattern!(ipv4), r"|\[", pattern!(ipv6), r"\]):(0|", pattern!(port), ")$"),
        "an address and port such as {}", "127.0.0.1:9101";
    "prefix" Prefix: "^(/[A-Za-z0-9_-]{1,64}){1,8}$",
        "a path such as {}: segments of letters, digits, _ and -, without a final slash", "/_wechat";
    "client-address" ClientAddress: "^(peer|header:[A-Za-z0-9_-]{1,64}|x-forwarded-for:([1-9]|1[0-6]))$", except "^header:[xX]-[fF][oO][rR][wW][aA][rR][dD][eE][dD]-[fF][oO][rR]$",
        "header: and a name, such as {}; or peer; or x-forwarded-for: and which from the right, such as x-forwarded-for:1", "header:x-auth-client-ip";
    "path" FilePath: r"\S",
        "a path such as {}", "/etc/wechat-authz/keys";
    "secret-file" SecretFile secret: r"^.*[./].*[^./]$",
        "the path of a file that holds the secret, such as {}, never the secret itself", "/etc/wechat-authz/shop.secret";
    "redis-url" RedisUrl secret: concat!(r"^rediss?://([A-Za-z0-9._-]+|\[", pattern!(ipv6), r"\]):", pattern!(port), "(/[0-9]{0,3})?$"),
        "the server's URL without a password, such as {}; rediss:// for TLS", "redis://redis.example.com:6379/0";
    "proxy-url" ProxyUrl secret: concat!("^https?://", pattern!(url_host), "(:", pattern!(port), ")?/?$"),
        "the proxy's URL without a password, such as {}", "http://proxy.example.com:3128";
    "host-and-port" RedisAddress secret: concat!(r"^([A-Za-z0-9._-]+|\[", pattern!(ipv6), r"\]):", pattern!(port), "$"),
        "a host and port such as {}", "redis-0.example.com:26379";
    "word" Word: "^[A-Za-z0-9._-]{1,64}$",
        "a word of letters, digits, dots, _ and -, such as {}", "wechat-authz";
    "domain-proof" DomainProof: r"^((MP|WW)_verify_[A-Za-z0-9]{16}\.txt|[A-Za-z0-9_-]{1,64}\.txt=[A-Za-z0-9._=-]{1,256})$",
        "the file's name as WeChat gave it, such as {}; or NAME.txt=CONTENT", "MP_verify_AbCdEfGh12345678.txt";
    "host" HostMatch: concat!(r"^(\*|(([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z]([a-z0-9_-]{0,61}[a-z0-9_])?|", pattern!(ipv4), r"|\[", pattern!(ipv6), r"\])(:", pattern!(port), ")?)$"), except ":443$",
        "a host as in an application's origin, such as {}, or `*` for any", "shop.example.com";
    "path-prefix" PathPrefix: concat!("^(/|(/", pattern!(segment), ")+/?)$"),
        "a path such as {}", "/static";
    "path-pattern" PathPattern: concat!(r"^(/|(/(\*|", pattern!(segment), r"))*(/(\*|", pattern!(segment), r")/?|/\*\*|(/\*\*)?/\*(\.[A-Za-z0-9_-]+)+))$"),
        "a pattern such as {}, /files/** or /*.js", "/users/*/avatar";
    "network" Network: concat!("^(", pattern!(ipv4), "(/([0-9]|[12][0-9]|3[0-2]))?|", pattern!(ipv6), "(/([0-9]|[1-9][0-9]|1[01][0-9]|12[0-8]))?)$"),
        "a network or an address, such as {}", "10.0.0.0/8";
    "method" MethodName: "^[A-Z]{1,20}$",
        "a method in capitals, such as {}", "GET";
    "subject" Subject secret: "^wx:(union|wx[0-9a-f]{16}):[A-Za-z0-9_-]{1,64}$",
        "wx:union:<unionid> or wx:<appid>:<openid>", "";
}

/// Serializes types as the text that they parse.
macro_rules! serialize_as_text {
    ($($type:ty)+) => {$(
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    )+};
}

macro_rules! deserialize_from_text {
    ($($type:ty)+) => {$(
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Cow::<str>::deserialize(deserializer)?.parse().map_err(D::Error::custom)
            }
        }
    )+};
}

serialize_as_text! {
    Title ImageUrl AppId Origin Address TcpAddress Prefix ClientAddress FilePath RedisUrl ProxyUrl RedisAddress Word
    DomainProof HostMatch PathPrefix PathPattern Network MethodName
}

deserialize_from_text! {
    Title ImageUrl AppId Origin Address TcpAddress Prefix ClientAddress FilePath SecretFile RedisUrl ProxyUrl RedisAddress
    Word DomainProof HostMatch PathPrefix PathPattern Network MethodName
}

#[cfg(test)]
mod tests {
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
        (
            "domain-proof",
            &["MP_verify_AbCdEfGh12345678.txt", "WW_verify_AbCdEfGh12345678.txt", "6ynZPDvfTF.txt=0a1b2c"],
        ),
        ("host", &["shop.example.com", "127.0.0.1:8080", "[::1]:8080", "shop.example.com:80", "*"]),
        (
            "path-prefix",
            &[
                "/",
                "/static",
                "/中文",
                "/v1/a:search",
                "/wiki/Foo_(bar)",
                "/a+b",
                "/c++",
                "/.well-known/",
                "/@me",
                "/a..b",
            ],
        ),
        (
            "path-pattern",
            &["/", "/users/*/avatar", "/files/**", "/*.js", "/**/*.min.js", "/a/*/", "/**", "/MP_verify_a.txt", "/a/*"],
        ),
        ("network", &["10.0.0.0/8", "2001:db8::/32", "192.0.2.1", "::1", "::/0"]),
        ("method", &["GET"]),
        ("subject", &["wx:union:oAbCdEf_-1", "wx:wx0123456789abcdef:o123"]),
    ];

    /// Texts that their type refuses, and why.
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
        for (name, text) in [("secret-file", "hunter2"), ("subject", "o123"), ("redis-url", "redis://:hunter2@a:6379")]
        {
            assert!(!form(name).redact(text).contains(text));
        }
    }

    /// What no pattern can express: Punycode, the length of a whole host name, the bits of a network, and the one
    /// spelling of an IPv6 address.
    fn is_beyond_a_pattern(form: &Form, text: &str) -> bool {
        text.to_ascii_lowercase().contains("xn--")
            || text.len() > 253 && ["origin", "image-url", "proxy-url", "host"].contains(&form.name)
            || form.name == "network" && text.contains('/')
            || form.name == "host" && text.starts_with('[')
    }

    /// Whatever the schema accepts, the type accepts.
    #[test]
    fn types_accept_what_patterns_generate() {
        let mut runner = TestRunner::default();
        for form in FORMS {
            let texts =
                proptest::string::string_regex(form.pattern.trim_start_matches('^').trim_end_matches('$')).unwrap();
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
}
