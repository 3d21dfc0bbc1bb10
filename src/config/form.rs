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
            schema.insert("not".to_owned(), serde_json::json!({ "type": "string", "pattern": except }));
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
mod tests;
