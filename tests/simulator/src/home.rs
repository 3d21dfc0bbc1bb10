//! The console page and the actions of its buttons; avatars of the users.

use std::time::Duration;

use http::{StatusCode, header};

use crate::answer::{Answer, Content};
use crate::effect::Effect;
use crate::endpoint::Endpoint;
use crate::faults::Fault;
use crate::identity;
use crate::pages;
use crate::request::{Request, percent_encoded};
use crate::world::World;

/// A fault that a button injects.
pub struct Mood {
    pub name: &'static str,
    pub chinese: &'static str,
    pub english: &'static str,
    fault: fn() -> Option<Fault>,
}

/// The most common faults, for manual tests.
pub const MOODS: &[Mood] = &[
    Mood {
        name: "busy",
        chinese: "换取繁忙 ×2",
        english: "next 2 exchanges: -1",
        fault: || Some(Fault::at(Endpoint::AccessToken, Effect::Errcode(-1)).times(2)),
    },
    Mood {
        name: "reset",
        chinese: "换取后断线",
        english: "next exchange: spent, then reset",
        fault: || Some(Fault::at(Endpoint::AccessToken, Effect::ResetAfter)),
    },
    Mood {
        name: "slow",
        chinese: "换取慢 8 秒",
        english: "next exchange: 8 s",
        fault: || Some(Fault::at(Endpoint::AccessToken, Effect::DelayBefore(Duration::from_secs(8)))),
    },
    Mood {
        name: "profile",
        chinese: "资料接口 502",
        english: "next profile: 502",
        fault: || Some(Fault::at(Endpoint::UserInfo, Effect::Status(502))),
    },
    Mood { name: "clear", chinese: "清除故障", english: "clear faults", fault: || None },
];

pub fn page(world: &World, _request: &Request) -> Answer {
    Answer::page(pages::home(world), "console")
}

/// Handles a button of the console and returns to it.
pub fn press(world: &mut World, request: &Request) -> Answer {
    if let Some(name) = request.form("user").filter(|name| world.user(name).is_some()) {
        world.on_the_phone = name;
    }
    if let Some(seconds) = request.form("advance_s").and_then(|seconds| seconds.parse().ok()) {
        world.clock.advance(Duration::from_secs(seconds));
    }
    if let Some(name) = request.form("mood")
        && let Some(mood) = MOODS.iter().find(|mood| mood.name == name)
    {
        match (mood.fault)() {
            Some(fault) => world.faults.inject(fault),
            None => world.faults.clear(),
        }
    }
    // The console's choice replaces a choice for this browser only.
    let mut answer = back_to("/");
    answer.put(header::SET_COOKIE, "sim_user=; Path=/; Max-Age=0; SameSite=Lax");
    answer
}

/// Selects another user, in this browser only.
pub fn choose(world: &World, request: &Request) -> Answer {
    let back = request.param("back");
    // One slash and no backslash: only a path of the simulator.
    let is_ours = back.starts_with('/') && !back.starts_with("//") && !back.contains('\\');
    let mut answer = back_to(if is_ours { back } else { "/" });
    if let Some(user) = request.form("user").and_then(|name| world.user(&name).cloned()) {
        let name = percent_encoded(&user.name);
        answer.put(header::SET_COOKIE, &format!("sim_user={name}; Path=/; HttpOnly; SameSite=Lax"));
    }
    answer
}

fn back_to(path: &str) -> Answer {
    let mut answer = Answer::redirect(path, "console");
    answer.status = StatusCode::SEE_OTHER;
    answer
}

/// `/mmopen/vi_32/{id}/{size}`: the first character of a nickname on a coloured background.
pub fn avatar(world: &World, request: &Request) -> Answer {
    let id = request.path.split('/').nth(3).unwrap_or_default();
    let user = world.users.iter().find(|user| identity::avatar(&user.name) == id);
    let letter = user.and_then(|user| user.nickname.chars().find(|letter| letter.is_alphanumeric())).unwrap_or('·');
    let hue = id.bytes().fold(0_u32, |hue, byte| (hue * 31 + u32::from(byte)) % 360);
    let svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 132 132\" width=\"132\" height=\"132\">\
         <rect width=\"132\" height=\"132\" fill=\"hsl({hue} 45% 55%)\"/><text x=\"66\" y=\"88\" font-size=\"64\" \
         font-family=\"sans-serif\" text-anchor=\"middle\" fill=\"#fff\">{letter}</text></svg>"
    );
    Answer::new(StatusCode::OK, "image/svg+xml", Content::Text(svg), "avatar")
}
