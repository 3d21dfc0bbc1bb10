//! `/connect/oauth2/authorize_reply`: the user's answer on the consent page.

use crate::answer::Answer;
use crate::callback::{self, Login};
use crate::pages;
use crate::refusal::Refusal;
use crate::request::Request;
use crate::user::Consent;
use crate::world::{World, uuid_of};

/// An open consent page.
#[derive(Debug)]
pub struct Asked {
    pub login: Login,
    pub user: String,
    answered: bool,
}

/// Opens a consent page with a hidden uuid.
pub fn ask(world: &mut World, login: &Login, user: &str) -> String {
    let uuid = world.dice.uuid();
    world.asked.put(uuid.clone(), Asked { login: login.clone(), user: user.into(), answered: false });
    uuid
}

/// `allow=1` agrees, `allow=0` refuses; without `allow` the user's usual choice applies.
pub fn answer(world: &mut World, request: &Request) -> Answer {
    let uuid = uuid_of(request).into_owned();
    let allow = match request.param("allow") {
        "" => request.form("allow").unwrap_or_default(),
        allow => allow.into(),
    };
    match allow.as_str() {
        "1" => reply(world, &uuid, Consent::Allow),
        "0" => reply(world, &uuid, Consent::Deny),
        _ => by_habit(world, &uuid),
    }
}

/// Applies the user's usual choice.
pub fn by_habit(world: &mut World, uuid: &str) -> Answer {
    let habit = world.asked.get(uuid).and_then(|asked| world.user(&asked.user)).map(|user| user.consent);
    reply(world, uuid, habit.unwrap_or_default())
}

fn reply(world: &mut World, uuid: &str, consent: Consent) -> Answer {
    let Some(asked) = world.asked.get_mut(uuid) else {
        return Refusal::worded("该链接无法访问", "no consent page with this uuid is open").into_answer();
    };
    if asked.answered {
        return Refusal::worded("该链接无法访问", "this consent page was answered before").into_answer();
    }
    let (login, user) = (asked.login.clone(), asked.user.clone());
    match consent {
        Consent::Allow => {
            asked.answered = true;
            let now = world.clock.now();
            world.grants.consent(&login.appid, &user, now);
            let granted = callback::grant(world, &login, &user, false);
            Answer::redirect(&granted.location, format!("{user} agrees: code issued"))
        }
        Consent::Deny => {
            asked.answered = true;
            match callback::deny(world, &login) {
                Some(location) => Answer::redirect(&location, format!("{user} refuses: callback with state only")),
                None => Answer::page(pages::refused_by_person(), format!("{user} refuses: the app hears nothing")),
            }
        }
        Consent::Ignore => Answer::page(pages::ignored(), format!("{user} does not answer")),
    }
}
