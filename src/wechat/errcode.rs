//! WeChat's error codes and their classes: the table of docs/en/wechat.md, Error codes.
//!
//! WeChat's errors have HTTP status 200; the number in the body decides. The text in `errmsg` is not stable and is ignored.

use super::Endpoint;

/// What to do about a failure. Each errcode has one class for each endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// Retry immediately: nothing was spent.
    RetryNow,
    /// Retry later: WeChat is busy or unreachable, or a quota is used up.
    BackOff,
    /// This attempt has failed; a new login may succeed.
    RestartLogin,
    /// The operator must correct the configuration here or in WeChat's console.
    Configuration,
    /// WeChat refuses this user, or the request is malformed. No retry helps.
    Fatal,
    /// The account's access token is invalid: get a new one and repeat the call once.
    RenewToken,
}

/// One row of the table.
struct Row {
    label: &'static str,
    exchange: Class,
    refresh: Class,
    userinfo: Class,
}

macro_rules! table {
    ($($code:literal $meaning:literal => $exchange:ident $refresh:ident $userinfo:ident,)+) => {
        /// Every code with a row of its own.
        #[cfg(test)]
        pub(crate) const KNOWN: &[i64] = &[$($code,)+];

        #[cfg(test)]
        const MEANINGS: &[&str] = &[$($meaning,)+];

        const fn row(errcode: i64) -> Option<Row> {
            match errcode {
                $($code => Some(Row {
                    label: stringify!($code),
                    exchange: Class::$exchange,
                    refresh: Class::$refresh,
                    userinfo: Class::$userinfo,
                }),)+
                // Other codes of third-party platforms: the account is bound to one.
                61003..=61030 => Some(Row {
                    label: "component",
                    exchange: Class::Configuration,
                    refresh: Class::Configuration,
                    userinfo: Class::Configuration,
                }),
                _ => None,
            }
        }
    };
}

// Code, meaning, and the class at: exchange, refresh, userinfo.
table! {
    -1 "busy" => BackOff RetryNow RetryNow,
    40001 "wrong secret at the exchange, a dead token elsewhere" => Configuration RestartLogin RestartLogin,
    40002 "grant_type invalid" => Fatal Fatal Fatal,
    40003 "openid and token do not agree" => RestartLogin RestartLogin RestartLogin,
    40013 "AppID invalid" => Configuration Configuration Configuration,
    40014 "access_token invalid" => RestartLogin RestartLogin RestartLogin,
    40029 "code expired, unknown, or another AppID's" => RestartLogin RestartLogin RestartLogin,
    40030 "refresh_token invalid" => RestartLogin RestartLogin RestartLogin,
    40066 "no such path" => Fatal Fatal Fatal,
    40125 "AppSecret invalid" => Configuration Configuration Configuration,
    40163 "code used before" => RestartLogin RestartLogin RestartLogin,
    40164 "caller's address not on the allow-list" => Configuration Configuration Configuration,
    40226 "person blocked as high risk" => Fatal Fatal Fatal,
    40243 "AppSecret frozen" => Configuration Configuration Configuration,
    41001 "access_token missing" => Fatal Fatal Fatal,
    41002 "appid missing" => Fatal Fatal Fatal,
    41003 "refresh_token missing" => Fatal Fatal Fatal,
    41004 "AppSecret missing" => Configuration Configuration Configuration,
    41005 "media data missing" => Fatal Fatal Fatal,
    41006 "media_id missing" => Fatal Fatal Fatal,
    41007 "sub-menu data missing" => Fatal Fatal Fatal,
    41008 "code missing" => RestartLogin RestartLogin RestartLogin,
    41009 "openid missing" => Fatal Fatal Fatal,
    42001 "access_token expired" => RestartLogin RestartLogin RestartLogin,
    42002 "refresh_token expired" => RestartLogin RestartLogin RestartLogin,
    42003 "code expired" => RestartLogin RestartLogin RestartLogin,
    42004 "plugin's token expired" => Configuration Configuration Configuration,
    42005 "the interface's use has run out" => Configuration Configuration Configuration,
    42006 "third-party platform's token expired" => Configuration Configuration Configuration,
    42007 "person changed the password" => RestartLogin RestartLogin RestartLogin,
    43001 "GET required" => Fatal Fatal Fatal,
    43002 "POST required" => Fatal Fatal Fatal,
    43003 "https required" => Fatal Fatal Fatal,
    43004 "person must follow the account" => Fatal Fatal Fatal,
    45009 "quota of the day used up" => BackOff BackOff BackOff,
    45011 "quota of the minute used up" => BackOff BackOff BackOff,
    47001 "body malformed" => Fatal Fatal Fatal,
    48001 "application lacks the right" => Configuration Configuration Configuration,
    48004 "interface banned" => Configuration Configuration Configuration,
    50001 "person did not authorize it" => RestartLogin RestartLogin RestartLogin,
    50002 "person's account frozen or gone" => Fatal Fatal Fatal,
    50004 "application may not use the interface" => Configuration Configuration Configuration,
    50005 "person does not follow the account" => Fatal Fatal Fatal,
    61009 "code invalid (third-party platform)" => RestartLogin RestartLogin RestartLogin,
    61010 "code expired (third-party platform)" => RestartLogin RestartLogin RestartLogin,
    61023 "refresh_token invalid (third-party platform)" => RestartLogin RestartLogin RestartLogin,
    89501 "administrator refused the caller's address" => Configuration Configuration Configuration,
    89503 "caller's address waits for the administrator" => Configuration Configuration Configuration,
    89506 "administrator refused twice, for 24 hours" => Configuration Configuration Configuration,
    89507 "administrator refused once, for an hour" => Configuration Configuration Configuration,
}

/// The class of `errcode`, which is not 0, at `endpoint`. An unknown code may be temporary: back off.
pub(crate) fn classify(endpoint: Endpoint, errcode: i64) -> Class {
    let Some(row) = row(errcode) else { return Class::BackOff };
    match endpoint {
        Endpoint::AccessToken => row.exchange,
        Endpoint::RefreshToken => row.refresh,
        Endpoint::Userinfo => row.userinfo,
        // Like the exchange, but a retry spends nothing.
        Endpoint::StableToken if errcode == -1 => Class::RetryNow,
        Endpoint::StableToken | Endpoint::ForcedToken => row.exchange,
        // Three codes mean that the access token is invalid; the others are like userinfo.
        Endpoint::JsapiTicket | Endpoint::Subscription if matches!(errcode, 40001 | 40014 | 42001) => Class::RenewToken,
        Endpoint::JsapiTicket | Endpoint::Subscription => row.userinfo,
    }
}

/// The metrics' label: the number if it is known, so that the set of labels is closed.
pub(crate) fn label(errcode: i64) -> &'static str {
    row(errcode).map_or("other", |row| row.label)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    const EXCHANGE: Endpoint = Endpoint::AccessToken;
    const REFRESH: Endpoint = Endpoint::RefreshToken;
    const USERINFO: Endpoint = Endpoint::Userinfo;

    /// The table of docs/en/wechat.md, Error codes.
    #[test]
    fn every_listed_code_has_its_class() {
        use Class::*;
        let everywhere: [(&[i64], Class); 4] = [
            // LOGIN
            (
                &[40003, 40014, 40029, 40030, 40163, 41008, 42001, 42002, 42003, 42007, 50001, 61009, 61010, 61023],
                RestartLogin,
            ),
            // CONF, and TOKEN for a third-party platform that we are not
            (
                &[
                    40013, 40125, 40164, 40243, 41004, 42004, 42005, 42006, 48001, 48004, 50004, 61003, 61004, 61007,
                    61011, 61030, 89501, 89503, 89506, 89507,
                ],
                Configuration,
            ),
            // RB, to be tried long after this call
            (&[45009, 45011], BackOff),
            // USER, then BUG
            (
                &[
                    40226, 43004, 50002, 50005, 40002, 40066, 41001, 41002, 41003, 41005, 41006, 41007, 41009, 43001,
                    43002, 43003, 47001,
                ],
                Fatal,
            ),
        ];
        let mut seen = HashSet::from([-1, 40001]);
        for (codes, class) in everywhere {
            for code in codes {
                for endpoint in Endpoint::ALL {
                    let uses = matches!(endpoint, Endpoint::JsapiTicket | Endpoint::Subscription);
                    let class = if uses && matches!(code, 40014 | 42001) { RenewToken } else { class };
                    assert_eq!(classify(endpoint, *code), class, "{code} at {endpoint:?}");
                }
                seen.insert(*code);
            }
        }
        for (code, classes) in
            [(-1, [BackOff, RetryNow, RetryNow]), (40001, [Configuration, RestartLogin, RestartLogin])]
        {
            assert_eq!([EXCHANGE, REFRESH, USERINFO].map(|endpoint| classify(endpoint, code)), classes, "{code}");
        }
        let access_tokens =
            [Endpoint::StableToken, Endpoint::ForcedToken, Endpoint::JsapiTicket, Endpoint::Subscription];
        for (code, classes) in [
            (-1, [RetryNow, BackOff, RetryNow, RetryNow]),
            (40001, [Configuration, Configuration, RenewToken, RenewToken]),
        ] {
            assert_eq!(access_tokens.map(|endpoint| classify(endpoint, code)), classes, "{code}");
        }
        let untested: Vec<_> = KNOWN.iter().filter(|code| !seen.contains(code)).collect();
        assert!(untested.is_empty(), "{untested:?}");
    }

    #[test]
    fn the_documentation_explains_each_code() {
        let class = |code: i64| match classify(EXCHANGE, code) {
            Class::RestartLogin => "`restart_login`",
            Class::Configuration => "`configuration`",
            Class::Fatal => "`refused`",
            Class::RetryNow | Class::BackOff | Class::RenewToken => "`unreachable`",
        };
        let rows = KNOWN.iter().zip(MEANINGS);
        let rows = rows.map(|(code, meaning)| (code.to_string(), format!("{meaning} | {}", class(*code))));
        crate::documents::assert_table("reasons.md", rows);
    }

    #[test]
    fn no_errcode_retries_the_exchange_immediately() {
        for code in KNOWN.iter().copied().chain(61003..=61030) {
            assert_ne!(classify(EXCHANGE, code), Class::RetryNow, "{code}");
        }
    }

    #[test]
    fn a_label_is_the_number_itself() {
        for code in KNOWN {
            assert_eq!(label(*code), code.to_string());
        }
        assert_eq!(label(61005), "component");
        assert_eq!(label(12345), "other");
    }

    proptest! {
        #[test]
        fn a_code_nobody_listed_backs_off_under_one_label(code: i64) {
            prop_assume!(code != 0 && !KNOWN.contains(&code) && !(61003..=61030).contains(&code));
            for endpoint in Endpoint::ALL {
                prop_assert_eq!(classify(endpoint, code), Class::BackOff);
            }
            prop_assert_eq!(label(code), "other");
        }
    }
}
