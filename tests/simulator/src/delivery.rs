//! Sending an answer: the faults of its content, its head and its transfer.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use serde_json::{Value, json};

use crate::answer::{Answer, Content, errcode};
use crate::body::{Cut, Pour, Step};
use crate::effect::{Effect, HUGE_BODY, MAX_DELAY, Stage};
use crate::endpoint::Endpoint;
use crate::gzip;
use crate::qr;
use crate::refusal::Refusal;
use crate::wire::ResetLever;
use crate::world::World;

/// Long enough to send the previous bytes before the connection ends.
const FLUSH: Duration = Duration::from_millis(30);
/// Pieces of a slow body.
const MAX_PIECES: u32 = 10_000;

/// The answer to a request that is not processed.
pub fn instead(world: &mut World, endpoint: Endpoint, effect: &Effect, lever: &ResetLever) -> Result<Answer, Cut> {
    match effect {
        Effect::Errcode(code) => Ok(failure(world, endpoint, *code)),
        Effect::Status(status) => {
            let status = StatusCode::from_u16(*status).unwrap_or(StatusCode::BAD_GATEWAY);
            let html = format!(
                "<html><head><title>{status}</title></head><body><center><h1>{status}</h1></center></body></html>"
            );
            Ok(Answer::new(status, "text/html", Content::Text(html), format!("HTTP {status}")))
        }
        Effect::ResetBefore => {
            lever.pull();
            Err(Cut)
        }
        _ => Err(Cut),
    }
}

/// An errcode in the form that the endpoint's clients expect.
fn failure(world: &mut World, endpoint: Endpoint, code: i64) -> Answer {
    match endpoint {
        endpoint if endpoint.is_api() => errcode(world, code),
        Endpoint::LongPoll => qr::told(code, "", None, "long poll: failed"),
        _ => Refusal::numbered(code, "a fault was injected").into_answer(),
    }
}

/// Turns the answer into HTTP, with all remaining effects.
pub fn deliver(
    world: &mut World,
    endpoint: Endpoint,
    mut answer: Answer,
    effects: &[Effect],
    lever: &ResetLever,
) -> Result<Response<Pour>, Cut> {
    for effect in effects {
        match effect {
            Effect::ErrcodeAfter(code) => {
                answer = Answer { decision: answer.decision, ..failure(world, endpoint, *code) };
            }
            Effect::Html => {
                answer.set_content_type("text/html");
                answer.content = Content::Text("<!DOCTYPE html><html><body>系统繁忙，请稍后再试</body></html>".into());
            }
            Effect::ContentType(value) => answer.set_content_type(value),
            _ => {}
        }
    }
    let mut bytes = match answer.content {
        Content::Fields(mut payload) => {
            effects.iter().for_each(|effect| spoil_fields(&mut payload, effect));
            payload.render()
        }
        Content::Text(text) => text.into_bytes(),
    };
    effects.iter().for_each(|effect| spoil_bytes(&mut bytes, effect));
    let mut response = Response::new(Pour::whole(Bytes::new()));
    *response.status_mut() = answer.status;
    for (name, value) in answer.headers {
        response.headers_mut().append(name, value);
    }
    response.headers_mut().insert(header::SERVER, HeaderValue::from_static("wechat-simulator"));
    travel(response, Bytes::from(bytes), effects, lever)
}

fn spoil_fields(payload: &mut crate::payload::Payload, effect: &Effect) {
    match effect {
        Effect::NumbersAsStrings => {
            for (_, value) in payload.fields.iter_mut().filter(|(_, value)| value.is_number()) {
                *value = Value::String(value.to_string());
            }
        }
        Effect::Null(names) => names.iter().for_each(|name| payload.set(name, Value::Null)),
        Effect::Missing(names) => payload.fields.retain(|(key, _)| !names.contains(key)),
        Effect::Replace(fields) => fields.iter().for_each(|(key, value)| payload.set(key, value.clone())),
        Effect::UnknownKeys => {
            let nested = json!({"level": {"openid": "not this one", "list": [1, null, {"errcode": 40001}]}});
            payload.fields.insert(0, ("x_unknown".into(), nested));
            payload.set("x_last", json!([true, {"unionid": "nor this"}]));
        }
        Effect::HugeBody => payload.set("padding", Value::String("x".repeat(HUGE_BODY))),
        Effect::InvalidUtf8 | Effect::RawControl | Effect::LoneSurrogate
            if !payload.fields.iter().any(|(key, _)| key == "nickname") =>
        {
            payload.set("nickname", Value::String(String::new()));
        }
        _ => {}
    }
}

fn spoil_bytes(bytes: &mut Vec<u8>, effect: &Effect) {
    match effect {
        Effect::EmptyBody => bytes.clear(),
        Effect::TruncatedJson => bytes.truncate(bytes.len() / 2),
        Effect::TrailingGarbage => bytes.extend(b"\n<!-- 0.012 --> }]garbage"),
        Effect::ByteOrderMark => drop(bytes.splice(0..0, *b"\xef\xbb\xbf")),
        Effect::InvalidUtf8 => into_nickname(bytes, b"\xff\xfe\xc3\x28\xf0\x9f\x98"),
        Effect::RawControl => {
            let controls: Vec<u8> = (1..0x20).collect();
            into_nickname(bytes, &controls);
        }
        Effect::LoneSurrogate => into_nickname(bytes, b"\\ud83d"),
        _ => {}
    }
}

/// Puts raw bytes at the beginning of the nickname's value.
fn into_nickname(bytes: &mut Vec<u8>, raw: &[u8]) {
    const START: &[u8] = b"\"nickname\":\"";
    if let Some(at) = bytes.windows(START.len()).position(|window| window == START) {
        let at = at + START.len();
        bytes.splice(at..at, raw.iter().copied());
    }
}

fn travel(
    mut response: Response<Pour>,
    bytes: Bytes,
    effects: &[Effect],
    lever: &ResetLever,
) -> Result<Response<Pour>, Cut> {
    let length = bytes.len();
    let half = length / 2;
    let (promised, steps) = match effects.iter().find(|effect| effect.stage() == Stage::Delivery) {
        Some(Effect::ResetAfter) => {
            lever.pull();
            return Err(Cut);
        }
        Some(Effect::CloseMidBody) => {
            (Some(length), vec![Step::Send(bytes.slice(..half)), Step::Wait(FLUSH), Step::Break])
        }
        Some(Effect::LengthTooLong) => (Some(length + 100), vec![Step::Send(bytes), Step::Wait(FLUSH), Step::Break]),
        Some(Effect::LengthTooShort) => (Some(half), vec![Step::Send(bytes.slice(..half))]),
        Some(Effect::Chunked) => {
            (None, vec![Step::Send(bytes.slice(..half)), Step::Wait(FLUSH), Step::Send(bytes.slice(half..))])
        }
        Some(Effect::Drip { pieces, over }) => (Some(length), drip(&bytes, *pieces, *over)),
        Some(Effect::Gzip) => {
            response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            *response.body_mut() = Pour::whole(gzip::stored(&bytes).into());
            return Ok(response);
        }
        _ => {
            *response.body_mut() = Pour::whole(bytes);
            return Ok(response);
        }
    };
    if let Some(promised) = promised {
        response.headers_mut().insert(header::CONTENT_LENGTH, promised.into());
    }
    *response.body_mut() = Pour::stepwise(steps);
    Ok(response)
}

fn drip(bytes: &Bytes, pieces: u32, over: Duration) -> Vec<Step> {
    let pieces = pieces.clamp(1, MAX_PIECES);
    let size = bytes.len().div_ceil(pieces as usize).max(1);
    let pause = over.min(MAX_DELAY) / pieces;
    let mut steps = Vec::new();
    for start in (0..bytes.len()).step_by(size) {
        steps.push(Step::Wait(pause));
        steps.push(Step::Send(bytes.slice(start..bytes.len().min(start + size))));
    }
    steps
}
