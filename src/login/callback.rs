//! The callback's query: what WeChat sends back (docs/en/wechat.md, Callback).

use crate::wechat::Code;
use url::form_urlencoded;

/// A query longer than this is not WeChat's.
const MAX_BYTES: usize = 8_192;

/// What came back.
#[derive(Debug)]
pub struct Callback {
    /// The one-time code; absent where the person said no.
    pub code: Option<Code>,
    /// Ours, echoed.
    pub state: String,
}

/// Why a query is no callback.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallbackError {
    /// Too long.
    #[error("the query is too long")]
    TooLong,
    /// `code` or `state` twice with different values.
    #[error("a parameter came twice with different values")]
    Doubled,
    /// No `state`, or none that could be ours.
    #[error("there is no state of ours")]
    NoState,
    /// A code that no WeChat ever made.
    #[error("the code is not one of WeChat's")]
    NotACode,
}

impl Callback {
    /// Reads the query. Unknown parameters are WeChat's own additions and are passed over.
    pub fn read(query: &str) -> Result<Self, CallbackError> {
        if query.len() > MAX_BYTES {
            return Err(CallbackError::TooLong);
        }
        let mut code: Option<String> = None;
        let mut state: Option<String> = None;
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let slot = match name.as_ref() {
                "code" => &mut code,
                "state" => &mut state,
                _ => continue,
            };
            match slot {
                Some(first) if *first != value => return Err(CallbackError::Doubled),
                _ => *slot = Some(value.into_owned()),
            }
        }
        let state = state.filter(|state| super::attempt::is_state(state)).ok_or(CallbackError::NoState)?;
        let code = match code.filter(|code| !code.is_empty()) {
            Some(code) => Some(Code::parse(&code).map_err(|_| CallbackError::NotACode)?),
            None => None,
        };
        Ok(Self { code, state })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATE: &str = "9f2c7b3e51d84a60b7c1e2d3f4a5b6c7";

    #[test]
    fn a_callback_is_a_code_and_a_state_among_whatever_else() {
        for query in [
            format!("code=071Abc&state={STATE}"),
            format!("state={STATE}&code=071Abc"),
            format!("nsukey=a%2Fb&code=071Abc&from=timeline&state={STATE}&isappinstalled=0"),
            format!("code=071Abc&code=071Abc&state={STATE}&state={STATE}"),
            format!("c%6fde=071Abc&state={STATE}"),
        ] {
            let callback = Callback::read(&query).unwrap();
            assert!(callback.code.is_some() && callback.state == STATE, "{query}");
        }
        for query in [format!("state={STATE}"), format!("code=&state={STATE}")] {
            assert!(Callback::read(&query).unwrap().code.is_none(), "a denial: {query}");
        }
    }

    #[test]
    fn what_is_no_callback_says_why() {
        for (query, error) in [
            (String::new(), CallbackError::NoState),
            ("code=071Abc".to_owned(), CallbackError::NoState),
            ("code=071Abc&state=".to_owned(), CallbackError::NoState),
            (format!("code=071Abc&state={}", STATE.to_uppercase()), CallbackError::NoState),
            (format!("code=071Abc&state={STATE}0"), CallbackError::NoState),
            (format!("code=071Abc&state={STATE}%20"), CallbackError::NoState),
            (format!("code=071Abc&STATE={STATE}"), CallbackError::NoState),
            (format!("code=a&code=b&state={STATE}"), CallbackError::Doubled),
            (format!("code=a&state={STATE}&state=9f2c7b3e51d84a60b7c1e2d3f4a5b6c8"), CallbackError::Doubled),
            (format!("code=a%20b&state={STATE}"), CallbackError::NotACode),
            (format!("code={}&state={STATE}", "a".repeat(513)), CallbackError::NotACode),
            (format!("state={STATE}&x={}", "a".repeat(9_000)), CallbackError::TooLong),
        ] {
            assert_eq!(Callback::read(&query).unwrap_err(), error, "{query}");
        }
    }
}
