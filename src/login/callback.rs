//! Parses the query of a callback (docs/en/wechat.md, Callback).

use crate::wechat::Code;
use url::form_urlencoded;

/// WeChat sends no longer query.
const MAX_BYTES: usize = 8_192;

/// The parameters of a callback.
#[derive(Debug)]
pub struct Callback {
    /// The one-time code. Absent if the user refused.
    pub code: Option<Code>,
    /// Our `state`, which WeChat returns.
    pub state: String,
}

/// Why a query is not a callback.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallbackError {
    /// The query is too long.
    #[error("the query is too long")]
    TooLong,
    /// `code` or `state` has two different values.
    #[error("a parameter has two different values")]
    Duplicate,
    /// `state` is missing or malformed.
    #[error("state is missing or malformed")]
    MalformedState,
    /// `code` is malformed.
    #[error("code is malformed")]
    MalformedCode,
}

impl Callback {
    /// Parses the query. WeChat adds other parameters, which are ignored.
    pub fn parse(query: &str) -> Result<Self, CallbackError> {
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
                Some(first) if *first != value => return Err(CallbackError::Duplicate),
                _ => *slot = Some(value.into_owned()),
            }
        }
        let state = state.filter(|state| super::attempt::is_state(state)).ok_or(CallbackError::MalformedState)?;
        let code = match code.filter(|code| !code.is_empty()) {
            Some(code) => Some(Code::parse(&code).map_err(|_| CallbackError::MalformedCode)?),
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
    fn a_callback_has_a_code_and_a_state_and_other_parameters() {
        for query in [
            format!("code=071Abc&state={STATE}"),
            format!("state={STATE}&code=071Abc"),
            format!("nsukey=a%2Fb&code=071Abc&from=timeline&state={STATE}&isappinstalled=0"),
            format!("code=071Abc&code=071Abc&state={STATE}&state={STATE}"),
            format!("c%6fde=071Abc&state={STATE}"),
        ] {
            let callback = Callback::parse(&query).unwrap();
            assert!(callback.code.is_some() && callback.state == STATE, "{query}");
        }
        for query in [format!("state={STATE}"), format!("code=&state={STATE}")] {
            assert!(Callback::parse(&query).unwrap().code.is_none(), "a denial: {query}");
        }
    }

    #[test]
    fn a_malformed_query_is_rejected() {
        for (query, error) in [
            (String::new(), CallbackError::MalformedState),
            ("code=071Abc".to_owned(), CallbackError::MalformedState),
            ("code=071Abc&state=".to_owned(), CallbackError::MalformedState),
            (format!("code=071Abc&state={}", STATE.to_uppercase()), CallbackError::MalformedState),
            (format!("code=071Abc&state={STATE}0"), CallbackError::MalformedState),
            (format!("code=071Abc&state={STATE}%20"), CallbackError::MalformedState),
            (format!("code=071Abc&STATE={STATE}"), CallbackError::MalformedState),
            (format!("code=a&code=b&state={STATE}"), CallbackError::Duplicate),
            (format!("code=a&state={STATE}&state=9f2c7b3e51d84a60b7c1e2d3f4a5b6c8"), CallbackError::Duplicate),
            (format!("code=a%20b&state={STATE}"), CallbackError::MalformedCode),
            (format!("code={}&state={STATE}", "a".repeat(513)), CallbackError::MalformedCode),
            (format!("state={STATE}&x={}", "a".repeat(9_000)), CallbackError::TooLong),
        ] {
            assert_eq!(Callback::parse(&query).unwrap_err(), error, "{query}");
        }
    }
}
