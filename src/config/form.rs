//! The forms a text in the configuration may have: an origin, an AppID, a path pattern.
//!
//! Each form is one line of a table: its pattern for the JSON schema, the words that ask for it, and what judges it.
//! The judges are those of the modules that use the value, where there is one, so that no second reading exists.

use super::diagnostic::shown;
use crate::origin::Origin;
use crate::policy::PathMatch;
use crate::redis;
use crate::wechat;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use std::borrow::Cow;
use std::net::SocketAddr;

/// One form.
#[derive(Debug)]
pub(crate) struct Form {
    /// Its name in the schema's `x-form`.
    pub name: &'static str,
    /// The pattern an editor can check. The judge may be stricter.
    #[cfg(test)]
    pub pattern: &'static str,
    /// What to write; see [`Form::wanted`].
    description: &'static str,
    /// A value of this form.
    example: &'static str,
    /// Whether a error may quote the value.
    pub quotable: bool,
    validate: fn(&str) -> Result<(), String>,
}

impl Form {
    /// The form of that name.
    pub(crate) fn named(name: &str) -> Option<&'static Self> {
        FORMS.iter().copied().find(|form| form.name == name)
    }

    /// What to write, with an example; the setting's own default is the best.
    pub(crate) fn wanted(&self, default: Option<&str>) -> String {
        format!("write {}", self.description.replace("{}", default.unwrap_or(self.example)))
    }

    /// Whether `text` has this form.
    ///
    /// # Errors
    /// What is wrong with it, as a phrase that follows the value.
    pub(crate) fn validate(&self, text: &str) -> Result<(), String> {
        (self.validate)(text)
    }

    /// A value of this form, as a error may show it.
    pub(crate) fn redact(&self, text: &str) -> String {
        if self.quotable || text.is_empty() {
            return shown(text);
        }
        format!("a text of {} characters (not shown)", text.chars().count())
    }
}

macro_rules! forms {
    ($($(#[doc = $doc:literal])+ $name:ident = $word:literal, $quotable:literal, $pattern:literal, $asks:literal, $example:literal, $judge:expr;)+) => {
        const FORMS: &[&Form] = &[$(&$name::FORM,)+];
        $(
            $(#[doc = $doc])+
            #[derive(Debug)]
            pub(crate) struct $name;

            impl $name {
                const FORM: Form =
                    Form {
                    name: $word,
                    #[cfg(test)]
                    pattern: $pattern,
                    description: $asks,
                    example: $example,
                    quotable: $quotable,
                    validate: $judge,
                };
            }

            impl JsonSchema for $name {
                fn schema_name() -> Cow<'static, str> {
                    stringify!($name).into()
                }

                fn json_schema(_: &mut SchemaGenerator) -> Schema {
                    json_schema!({ "type": "string", "pattern": $pattern, "x-form": $word })
                }
            }
        )+
    };
}

forms! {
    /// An application's name, the audience of its tokens.
    AppName = "name", true, "^[a-z0-9-]{1,32}$",
        "a name of 1 to 32 lower-case letters, digits and hyphens, such as {}", "shop",
        |text| text.parse::<crate::app_name::AppName>().map(drop).map_err(|error| format!("which {error}"));

    /// A name as people read it.
    Title = "title", true, r"^[^\x00-\x1f\x7f]{1,40}$",
        "a name of 1 to 40 characters, such as {}", "小明的店", title;

    /// The address of an image.
    ImageUrl = "image-url", true, r"^https://[^\s@\x22<>]+$",
        "the https address of an image, such as {}", "https://static.example.com/follow.png", image_url;

    /// WeChat's id of an Official Account or website application.
    AppId = "appid", true, "^wx[0-9a-f]{16}$",
        "the AppID from WeChat's console: wx and 16 hex digits, such as {}", "wx0123456789abcdef", app_id;

    /// Scheme, host and port.
    OriginForm = "origin", true, r"^https?://[^/?#@*{}\s]+/?$",
        "an origin such as {}", "https://shop.example.com",
        |text| Origin::parse(text).map(drop).map_err(|error| format!("which {error}"));

    /// An address to listen at.
    Listener = "listener", true, "^(unix:/.+|.+:[0-9]{1,5})$",
        "an address and port such as {}, or a socket such as unix:/run/wechat-authz/check.sock", "127.0.0.1:9100",
        listener;

    /// An address and port to listen at, without sockets.
    TcpListener = "tcp-listener", true, "^.+:[0-9]{1,5}$",
        "an address and port such as {}", "127.0.0.1:9101",
        |text| if text.starts_with("unix:") { Err("a Unix socket where browsers or probes need a port".into()) } else { tcp(text) };

    /// Where the pages live.
    Prefix = "prefix", true, "^(/[A-Za-z0-9_-]{1,64}){1,8}$",
        "a path such as {}: segments of letters, digits, _ and -, without a final slash", "/_wechat", prefix;

    /// The one source of the client's address.
    ClientAddress = "client-address", true, "^(peer|header:[A-Za-z0-9-]{1,64}|x-forwarded-for:[1-9][0-9]?)$",
        "header: and a name, such as {}; or peer; or x-forwarded-for: and which from the right, such as x-forwarded-for:1",
        "header:x-auth-client-ip",
        client_address;

    /// A file or directory.
    FilePath = "path", true, "^.+$",
        "a path such as {}", "/etc/wechat-authz/keys",
        |text| if text.trim().is_empty() { Err("which is empty".into()) } else { Ok(()) };

    /// A file that holds a secret. Never quoted: people paste the secret itself.
    SecretFile = "secret-file", false, r"^.*[./].*[^./]$",
        "the path of a file that holds the secret, such as {}, never the secret itself", "/etc/wechat-authz/shop.secret",
        |text| if is_secret_path(text) { Ok(()) } else { Err("which is not the path of a file".into()) };

    /// One Redis server. Never quoted: people paste the password with it.
    RedisUrl = "redis-url", false, "^rediss?://[^@/?#]+(/[0-9]{1,3})?$",
        "the server's URL without a password, such as {}; rediss:// for TLS", "redis://redis.example.com:6379/0",
        |text| redis::settings::read_url(text).map(drop).map_err(|error| format!("which {error}"));

    /// An outgoing proxy. Never quoted: people paste the password with it.
    ProxyUrl = "proxy-url", false, "^https?://[^@/?#]+/?$",
        "the proxy's URL without a password, such as {}", "http://proxy.example.com:3128",
        |text| wechat::settings::read_proxy(text).map(drop).map_err(|error| format!("which {error}"));

    /// A server's host and port.
    HostAndPort = "host-and-port", false, "^[^@/?#]+:[0-9]{1,5}$",
        "a host and port such as {}", "redis-0.example.com:26379",
        |text| text.parse::<redis::settings::Address>().map(drop).map_err(|error| format!("which {error}"));

    /// A word of the operator's, part of keys.
    Word = "word", true, "^[A-Za-z0-9._-]{1,64}$",
        "a word of letters, digits, dots, _ and -, such as {}", "wechat-authz",
        |text| characters(text, 1..=64, |c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'), "letters, digits, dots, _ and -");

    /// A domain proof's file name.
    DomainProof = "domain-proof", true,
        r"^((MP|WW)_verify_[A-Za-z0-9]{16}\.txt|[A-Za-z0-9_-]{1,64}\.txt=[A-Za-z0-9._=-]{1,256})$",
        "the file's name as WeChat gave it, such as {}; or NAME.txt=CONTENT", "MP_verify_AbCdEfGh12345678.txt",
        |text| crate::routes::DomainProof::parse(text).map(drop).map_err(|error| format!("which {error}"));

    /// An application's host.
    Host = "host", true, r"^(\*|[a-z0-9_-]+(\.[a-z0-9_-]+)*(:[0-9]{1,5})?|\[[0-9a-f:.]+\](:[0-9]{1,5})?)$",
        "a host as in an application's origin, such as {}, or `*` for any", "shop.example.com",
        host;

    /// A path and all below it.
    PathPrefix = "path-prefix", true, r#"^/$|^(/[^/:*?#;%{}<>\[\]^|\\"`][^/*?#;%{}<>\[\]^|\\"`]*)+/?$"#,
        "a path such as {}", "/static",
        |text| PathMatch::prefix(text).map(drop).map_err(|error| format!("which {error}"));

    /// A path, segment by segment.
    PathPattern = "path-pattern", true,
        r#"^/$|^(/(\*|[^/:*?#;%{}<>\[\]^|\\"`][^/*?#;%{}<>\[\]^|\\"`]*))*(/|/\*\*|(/\*\*)?/\*(\.[A-Za-z0-9_-]+)+)?$"#,
        "a pattern such as {}, /files/** or /*.js", "/users/*/avatar",
        |text| PathMatch::pattern(text).map(drop).map_err(|error| format!("which {error}"));

    /// The addresses of clients.
    Network = "network", true, "^[0-9a-fA-F:.]+(/[0-9]{1,3})?$",
        "a network or an address, such as {}", "10.0.0.0/8",
        |text| crate::policy::network(text).map(drop).map_err(|error| format!("which {error}"));

    /// An HTTP method.
    Method = "method", true, "^[A-Z]{1,20}$",
        "a method in capitals, such as {}", "GET",
        |text| characters(text, 1..=20, |c| c.is_ascii_uppercase(), "capital letters");

    /// A subject, never quoted: it is a person.
    Subject = "subject", false, "^wx:(union|wx[0-9a-f]{16}):[A-Za-z0-9_-]{1,64}$",
        "wx:union:<unionid> or wx:<appid>:<openid>", "",
        |text| text.parse::<crate::subject::Subject>().map(drop).map_err(|error| format!("which {error}"));
}

/// Whether `text` names a file rather than being a pasted secret: it holds a slash, or a dot before an extension.
/// A relative path starts where the configuration lies.
pub(super) fn is_secret_path(text: &str) -> bool {
    text.contains(['/', '.']) && !text.ends_with(['/', '.'])
}

fn characters(
    text: &str,
    length: std::ops::RangeInclusive<usize>,
    allowed: fn(char) -> bool,
    which: &str,
) -> Result<(), String> {
    if text.is_empty() {
        Err("which is empty".to_owned())
    } else if !text.chars().all(allowed) {
        Err(format!("which holds more than {which}"))
    } else if !length.contains(&text.len()) {
        Err(format!("which is longer than {} characters", length.end()))
    } else {
        Ok(())
    }
}

fn title(text: &str) -> Result<(), String> {
    if text.trim().is_empty() {
        return Err("which is empty".to_owned());
    }
    if text.chars().any(char::is_control) {
        return Err("which holds control characters".to_owned());
    }
    if text.chars().count() > 40 { Err("which is longer than 40 characters".to_owned()) } else { Ok(()) }
}

fn image_url(text: &str) -> Result<(), String> {
    let url = url::Url::parse(text).map_err(|_| "which is not a URL")?;
    if url.scheme() != "https" || url.host().is_none() {
        return Err("which does not start with https://".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("which holds a user name or password".to_owned());
    }
    let plain = text.len() <= 2_048 && text.bytes().all(|byte| (0x21..=0x7e).contains(&byte));
    if plain { Ok(()) } else { Err("which is too long or holds characters that must be percent-encoded".to_owned()) }
}

fn app_id(text: &str) -> Result<(), String> {
    let Some(digits) = text.strip_prefix("wx") else {
        return Err("which does not start with wx".to_owned());
    };
    if digits.len() != 16 {
        return Err(format!("which has {} characters instead of 18", text.chars().count()));
    }
    characters(digits, 16..=16, |c| matches!(c, '0'..='9' | 'a'..='f'), "lower-case hex digits after wx")
}

fn listener(text: &str) -> Result<(), String> {
    match text.strip_prefix("unix:") {
        Some(path) if path.len() > 1 && path.starts_with('/') && !path.ends_with('/') => Ok(()),
        Some(_) => Err("whose socket is not an absolute path".to_owned()),
        None => tcp(text),
    }
}

fn tcp(text: &str) -> Result<(), String> {
    if text.parse::<SocketAddr>().is_ok() {
        return Ok(());
    }
    Err(match text.rsplit_once(':') {
        None => "which has no port",
        Some((_, port)) if port.parse::<u16>().is_err() => "whose port is not a number from 0 to 65535",
        Some(("", _)) => "which has no address: 0.0.0.0 is every one, 127.0.0.1 this machine",
        Some((host, _)) if host.contains(':') => "whose IPv6 address is not in brackets, such as [::1]:9100",
        Some(_) => "which holds a name where an IP address is needed",
    }
    .to_owned())
}

fn prefix(text: &str) -> Result<(), String> {
    if !text.starts_with('/') {
        return Err("which does not start with a slash".to_owned());
    }
    if text.ends_with('/') {
        return Err("which ends with a slash".to_owned());
    }
    if text.split('/').count() > 9 {
        return Err("which has more than 8 segments".to_owned());
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    text.split('/').skip(1).try_for_each(|part| characters(part, 1..=64, allowed, "letters, digits, _ and -"))
}

fn client_address(text: &str) -> Result<(), String> {
    if text == "peer" {
        return Ok(());
    }
    if let Some(name) = text.strip_prefix("header:") {
        return characters(name, 1..=64, |c| c.is_ascii_alphanumeric() || c == '-', "letters, digits and hyphens");
    }
    if let Some(place) = text.strip_prefix("x-forwarded-for:") {
        let digits = place.bytes().all(|byte| byte.is_ascii_digit()) && !place.starts_with('0');
        let from_the_right = digits && place.parse().is_ok_and(|place: u8| (1..=99).contains(&place));
        let error = "whose place from the right is not a number from 1 to 99";
        return if from_the_right { Ok(()) } else { Err(error.to_owned()) };
    }
    Err("which is none of the sources there are".to_owned())
}

fn host(text: &str) -> Result<(), String> {
    if text == "*" {
        return Ok(());
    }
    if text.contains('/') {
        return Err("which is more than a host".to_owned());
    }
    if text.contains('*') {
        return Err("which holds a wildcard; name each host, or leave `host` out for all".to_owned());
    }
    if Origin::parse(&format!("https://{text}")).is_ok_and(|origin| origin.authority() == text) {
        return Ok(());
    }
    Err(match text.rsplit_once(':') {
        Some((_, "443")) => "whose port is that of https, which browsers leave out".to_owned(),
        _ => {
            "which is not a host as browsers send it: lower-case letters, digits, dots and hyphens, and perhaps a port"
                .to_owned()
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn good_values_have_their_form() {
        for (form, texts) in [
            ("name", vec!["shop", "a", "shop-2"]),
            ("title", vec!["小明的店", "Shop & Co", "a"]),
            ("image-url", vec!["https://static.example.com/follow.png?a=b", "https://mp.weixin.qq.com:443/a"]),
            ("appid", vec!["wx0123456789abcdef"]),
            ("origin", vec!["https://shop.example.com", "http://127.0.0.1:8080", "http://a.localhost:8080"]),
            ("listener", vec!["127.0.0.1:9100", "[::1]:0", "unix:/run/x.sock"]),
            ("tcp-listener", vec!["127.0.0.1:9100"]),
            ("prefix", vec!["/_wechat", "/a/b-c"]),
            ("client-address", vec!["peer", "header:x-auth-client-ip", "x-forwarded-for:1", "x-forwarded-for:99"]),
            ("secret-file", vec!["/etc/a", "./a", "secrets/a"]),
            ("redis-url", vec!["redis://127.0.0.1:6379", "rediss://redis.example.com:6380/0"]),
            ("proxy-url", vec!["http://127.0.0.1:3128", "https://proxy.example.com/"]),
            ("host-and-port", vec!["127.0.0.1:26379", "[::1]:7000", "redis-0.redis:7000"]),
            ("word", vec!["wechat-authz", "my_master.1"]),
            (
                "domain-proof",
                vec!["MP_verify_AbCdEfGh12345678.txt", "WW_verify_AbCdEfGh12345678.txt", "6ynZPDvfTF.txt=0a1b2c"],
            ),
            ("host", vec!["shop.example.com", "127.0.0.1:8080", "[::1]:8080", "shop.example.com:80", "*"]),
            (
                "path-prefix",
                vec!["/", "/static", "/中文", "/v1/a:search", "/wiki/Foo_(bar)", "/a+b", "/.well-known/", "/@me"],
            ),
            (
                "path-pattern",
                vec!["/", "/users/*/avatar", "/files/**", "/*.js", "/**/*.min.js", "/a/*/", "/**", "/MP_verify_a.txt"],
            ),
            ("network", vec!["10.0.0.0/8", "2001:db8::/32", "192.0.2.1", "::1"]),
            ("method", vec!["GET"]),
            ("subject", vec!["wx:union:oAbCdEf_-1", "wx:wx0123456789abcdef:o123"]),
        ] {
            for text in texts {
                assert_eq!(Form::named(form).unwrap().validate(text), Ok(()), "{form} {text}");
            }
        }
    }

    #[test]
    fn a_wrong_value_is_told_why() {
        for (form, text, reason) in [
            ("name", "Shop", "which holds more than lower-case letters, digits and hyphens"),
            ("name", "", "which is empty"),
            ("title", " ", "which is empty"),
            ("title", "a\nb", "which holds control characters"),
            ("image-url", "http://static.example.com/a.png", "which does not start with https://"),
            ("image-url", "/a.png", "which is not a URL"),
            ("image-url", "https://me@static.example.com/a.png", "which holds a user name or password"),
            ("appid", "wx0123", "which has 6 characters instead of 18"),
            ("appid", "gh_0123456789ab", "which does not start with wx"),
            ("listener", "localhost:9100", "which holds a name where an IP address is needed"),
            ("listener", ":9100", "which has no address: 0.0.0.0 is every one, 127.0.0.1 this machine"),
            ("listener", "9100", "which has no port"),
            ("listener", "::1:9100:x", "whose port is not a number from 0 to 65535"),
            ("listener", "fe80::zz:1", "whose IPv6 address is not in brackets, such as [::1]:9100"),
            ("listener", "unix:run/x.sock", "whose socket is not an absolute path"),
            ("tcp-listener", "unix:/run/x.sock", "a Unix socket where browsers or probes need a port"),
            ("prefix", "/_wechat/", "which ends with a slash"),
            ("prefix", "_wechat", "which does not start with a slash"),
            ("prefix", "/a//b", "which is empty"),
            ("client-address", "x-forwarded-for", "which is none of the sources there are"),
            ("client-address", "x-forwarded-for:0", "whose place from the right is not a number from 1 to 99"),
            ("secret-file", "hunter2", "which is not the path of a file"),
            (
                "redis-url",
                "redis://:hunter2@a:6379",
                "which holds a user or a password, which belong into user and password_file",
            ),
            (
                "proxy-url",
                "http://me:hunter2@proxy.example.com:3128",
                "which holds a user or a password, which belong into proxy_credentials_file",
            ),
            ("proxy-url", "socks5://proxy.example.com", "which is not a URL that starts with http:// or https://"),
            ("host-and-port", "redis.example.com", "which has no port from 1 to 65535"),
            ("word", "a{b}", "which holds more than letters, digits, dots, _ and -"),
            ("host", "https://shop.example.com", "which is more than a host"),
            ("host", "*.example.com", "which holds a wildcard; name each host, or leave `host` out for all"),
            ("host", "shop.example.com:443", "whose port is that of https, which browsers leave out"),
            (
                "domain-proof",
                "6ynZPDvfTF.txt",
                "which is neither MP_verify_….txt nor WW_verify_….txt with 16 letters or digits; write other files as NAME.txt=CONTENT",
            ),
            ("domain-proof", "a/b.txt=1", "which has a name that is not letters, digits, _ and -, and then .txt"),
            ("domain-proof", "a.txt=<b>", "which has a content that is not 1 to 256 letters, digits and ._-="),
            ("network", "10.0.0.1/8", "which has bits beyond its prefix: write 10.0.0.0/8"),
            ("network", "10.0.0", "which is not a network or an address"),
            ("method", "get", "which holds more than capital letters"),
            ("subject", "oAbCdEf", "which does not start with wx:"),
        ] {
            assert_eq!(Form::named(form).unwrap().validate(text), Err(reason.to_owned()), "{form} {text}");
        }
    }

    #[test]
    fn every_example_has_its_own_form() {
        for form in FORMS.iter().filter(|form| form.description.contains("{}")) {
            assert_eq!(form.validate(form.example), Ok(()), "{}", form.name);
            assert!(form.wanted(None).contains(form.example));
        }
    }

    #[test]
    fn the_pattern_of_an_origin_refuses_hosts_that_match_nothing() {
        let pattern = regex::Regex::new(Form::named("origin").unwrap().pattern).unwrap();
        for (text, right) in [
            ("https://shop.example.com", true),
            ("https://shop.example.com:8443/", true),
            ("http://[::1]:8080", true),
            ("https://*.example.com", false),
            ("https://shop.*", false),
            ("https://{tenant}.example.com", false),
            ("https://shop .example.com", false),
        ] {
            assert_eq!(
                (pattern.is_match(text), Form::named("origin").unwrap().validate(text).is_ok()),
                (right, right),
                "{text}"
            );
        }
    }

    #[test]
    fn secrets_and_people_are_never_quoted() {
        for (form, text) in [("secret-file", "hunter2"), ("subject", "o123"), ("redis-url", "redis://:hunter2@a:6379")]
        {
            assert!(!Form::named(form).unwrap().redact(text).contains(text));
        }
    }

    proptest! {
        /// Forms whose pattern says everything: an editor and the program agree on each value the pattern makes.
        #[test]
        fn what_the_pattern_makes_the_judge_accepts(
            name in "[a-z0-9-]{1,32}", appid in "wx[0-9a-f]{16}", prefix in "(/[A-Za-z0-9_-]{1,64}){1,8}",
            source in "(peer|header:[A-Za-z0-9-]{1,64}|x-forwarded-for:[1-9][0-9]?)",
            proof in r"((MP|WW)_verify_[A-Za-z0-9]{16}\.txt|[A-Za-z0-9_-]{1,64}\.txt=[A-Za-z0-9._=-]{1,256})", method in "[A-Z]{1,20}",
            subject in "wx:(union|wx[0-9a-f]{16}):[A-Za-z0-9_-]{1,64}",
        ) {
            for (form, text) in [
                ("name", name), ("appid", appid), ("prefix", prefix), ("client-address", source),
                ("domain-proof", proof), ("method", method), ("subject", subject),
            ] {
                prop_assert_eq!(Form::named(form).unwrap().validate(&text), Ok(()), "{} {}", form, text);
            }
        }

        #[test]
        fn no_text_panics(text in "(.|[wx:/*.\\[\\]0-9a-f-]){0,60}") {
            for form in FORMS {
                let _ = form.validate(&text);
                let _ = form.redact(&text);
            }
        }
    }
}
