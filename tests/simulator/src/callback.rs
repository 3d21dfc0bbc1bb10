//! The callback address: `redirect_uri` with `code` and `state`, possibly changed by a fault.

use crate::app::Denial;
use crate::effect::{Effect, Mangling};
use crate::endpoint::Endpoint;
use crate::grants::{Code, Grant};
use crate::request::percent_encoded;
use crate::world::World;

/// The parameters with which an app started a login.
#[derive(Clone, Debug)]
pub struct Login {
    pub appid: String,
    /// Decoded once, otherwise unchanged.
    pub redirect_uri: String,
    pub state: String,
    pub scope: String,
}

/// A code for the user, and the address that carries it.
#[derive(Clone, Debug)]
pub struct Granted {
    pub code: String,
    pub location: String,
}

/// Issues a code to the app. `snapshot`: for the virtual user instead of the real one.
pub fn grant(world: &mut World, login: &Login, user: &str, snapshot: bool) -> Granted {
    let code = issue(world, login, user, snapshot);
    let mut parameters = vec![("code", code.clone())];
    if !login.state.is_empty() {
        parameters.push(("state", login.state.clone()));
    }
    for effect in world.strike_at(Endpoint::Callback, Some(&login.appid), Some(user)) {
        if let Effect::Mangle(mangling) = effect {
            mangle(world, &mut parameters, &mangling, login, user);
        }
    }
    let location = append(&login.redirect_uri, &parameters);
    Granted { code, location }
}

/// What the app receives after a refusal: an address with the state only, or nothing.
#[must_use]
pub fn deny(world: &World, login: &Login) -> Option<String> {
    match world.app(&login.appid)?.denial {
        Denial::Nothing => None,
        Denial::StateOnly => Some(append(&login.redirect_uri, &[("state", login.state.clone())])),
    }
}

fn issue(world: &mut World, login: &Login, user: &str, snapshot: bool) -> String {
    let code = world.dice.code();
    let password_changes = world.user(user).map_or(0, |user| user.password_changes);
    let grant =
        Grant { appid: login.appid.clone(), user: user.into(), scope: login.scope.clone(), snapshot, password_changes };
    let born = world.clock.now();
    world.grants.codes.put(code.clone(), Code { grant, born, spent: false });
    code
}

fn mangle(
    world: &mut World,
    parameters: &mut Vec<(&'static str, String)>,
    mangling: &Mangling,
    login: &Login,
    user: &str,
) {
    let again = |parameters: &mut Vec<(&'static str, String)>, name: &str| {
        if let Some(at) = parameters.iter().position(|(key, _)| *key == name) {
            parameters.insert(at + 1, parameters[at].clone());
        }
    };
    let edit = |parameters: &mut Vec<(&'static str, String)>, name: &str, change: &dyn Fn(&mut String)| {
        parameters.iter_mut().filter(|(key, _)| *key == name).for_each(|(_, value)| change(value));
    };
    match mangling {
        Mangling::NoCode => parameters.retain(|(key, _)| *key != "code"),
        Mangling::NoState => parameters.retain(|(key, _)| *key != "state"),
        Mangling::StateChanged => edit(parameters, "state", &|state| {
            let first = if state.starts_with('0') { "1" } else { "0" };
            let rest: String = state.chars().skip(1).collect();
            *state = format!("{first}{rest}");
        }),
        Mangling::StateAppended(more) => edit(parameters, "state", &|state| state.push_str(more)),
        Mangling::CodeTwice => again(parameters, "code"),
        Mangling::StateTwice => again(parameters, "state"),
        Mangling::TwoCodes => {
            let never_issued = world.dice.code();
            parameters.insert(1, ("code", never_issued));
        }
        Mangling::Extras => {
            let nsukey = world.dice.token();
            parameters.extend([("nsukey", nsukey), ("from", "singlemessage".into()), ("isappinstalled", "0".into())]);
        }
        Mangling::ForeignCode => {
            let foreign = Login { appid: "wxffffffffffffffff".into(), ..login.clone() };
            let code = issue(world, &foreign, user, false);
            edit(parameters, "code", &|value| value.clone_from(&code));
        }
    }
}

/// Adds parameters after an existing query and before a fragment.
fn append(redirect_uri: &str, parameters: &[(&'static str, String)]) -> String {
    let (address, fragment) = match redirect_uri.split_once('#') {
        Some((address, fragment)) => (address, Some(fragment)),
        None => (redirect_uri, None),
    };
    let mut location = String::from(address);
    for (name, value) in parameters {
        if !location.ends_with(['?', '&']) {
            location.push(if location.contains('?') { '&' } else { '?' });
        }
        location.push_str(&format!("{name}={}", percent_encoded(value)));
    }
    if let Some(fragment) = fragment {
        location.push_str(&format!("#{fragment}"));
    }
    location
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_and_state_follow_what_is_there() {
        let parameters = [("code", "C".to_owned()), ("state", "S".to_owned())];
        for (uri, location) in [
            ("https://a/cb", "https://a/cb?code=C&state=S"),
            ("https://a/cb?x=1", "https://a/cb?x=1&code=C&state=S"),
            ("https://a/cb?", "https://a/cb?code=C&state=S"),
            ("https://a/cb?code=old", "https://a/cb?code=old&code=C&state=S"),
            ("https://a/cb#/route", "https://a/cb?code=C&state=S#/route"),
        ] {
            assert_eq!(append(uri, &parameters), location);
        }
    }
}
