//! Decodes WeChat's answers leniently (docs/en/wechat.md, API answers): the body is JSON, whatever its content type.
//!
//! Accepts a byte order mark, invalid UTF-8, raw control characters, numbers as strings, nulls and unknown keys. Fields that
//! decide about a login are strict: an `errcode` that is not a number is not a success.

use super::error::Rid;
use serde_json::{Map, Value};
use std::borrow::Cow;

/// A decoded JSON object.
pub(crate) struct Answer(Map<String, Value>);

/// The reason why a body is not usable: `not JSON`, or the name of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unreadable(pub &'static str);

impl Answer {
    /// Parses a body. The caller limits its size.
    pub(crate) fn read(body: &[u8]) -> Result<Self, Unreadable> {
        let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
        let text = without_control_characters(String::from_utf8_lossy(body));
        match serde_json::from_str(&text) {
            Ok(Value::Object(object)) => Ok(Self(object)),
            Ok(_) | Err(_) => Err(Unreadable("not JSON")),
        }
    }

    /// WeChat's error code. 0 or none is success.
    pub(crate) fn errcode(&self) -> Result<i64, Unreadable> {
        match self.0.get("errcode") {
            None | Some(Value::Null) => Ok(0),
            Some(value) => integer(value).ok_or(Unreadable("errcode")),
        }
    }

    /// WeChat's request id, from `errmsg`. The rest of that text is ignored: it repeats the request.
    pub(crate) fn rid(&self) -> Option<Rid> {
        let (_, rest) = self.text("errmsg")?.split_once("rid: ")?;
        let ends = rest.as_bytes().get(26).is_none_or(|next| !super::ids::is_word(*next));
        Rid::parse(rest.get(..26)?).filter(|_| ends)
    }

    /// A text that is not empty.
    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.as_str().filter(|text| !text.is_empty())
    }

    /// An integer, or a text that holds one.
    pub(crate) fn integer(&self, key: &str) -> Option<i64> {
        integer(self.0.get(key)?)
    }

    /// Whether a flag is set. Anything but absent, null, 0, false and an empty text counts as set: this fails closed.
    pub(crate) fn is_flagged(&self, key: &str) -> bool {
        match self.0.get(key) {
            None | Some(Value::Null | Value::Bool(false)) => false,
            Some(Value::String(text)) if text.is_empty() => false,
            Some(value) => integer(value) != Some(0),
        }
    }

    /// A field that may be absent, null or empty, and must be valid otherwise.
    pub(crate) fn optional<T, E>(
        &self,
        key: &'static str,
        read: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<Option<T>, Unreadable> {
        match self.0.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) if text.is_empty() => Ok(None),
            Some(Value::String(text)) => read(text).map(Some).map_err(|_| Unreadable(key)),
            Some(_) => Err(Unreadable(key)),
        }
    }

    /// A field that must be present and valid.
    pub(crate) fn required<T, E>(
        &self,
        key: &'static str,
        read: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<T, Unreadable> {
        self.optional(key, read)?.ok_or(Unreadable(key))
    }
}

/// Replaces each control character below U+0020 by a space, which is harmless between JSON tokens and in a nickname.
fn without_control_characters(text: Cow<'_, str>) -> Cow<'_, str> {
    if text.bytes().any(|byte| byte < 0x20) { text.replace(|c: char| c < ' ', " ").into() } else { text }
}

fn integer(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn answer(body: &str) -> Answer {
        Answer::read(body.as_bytes()).unwrap()
    }

    #[test]
    fn lenient_inputs_are_accepted() {
        for (body, nickname) in [
            (&b"{\"nickname\":\"\xe5\xb0\x8f\xe6\x98\x8e\"}"[..], "小明"),
            (b"\xef\xbb\xbf{\"nickname\":\"bom\"}", "bom"),
            (b"\r\n\t{\"nickname\":\"space around\"}\r\n", "space around"),
            (b"{\"nickname\":\"a\x01b\nc\"}", "a b c"),
            (b"{\"nickname\":\"a\xff\xfeb\"}", "a\u{fffd}\u{fffd}b"),
            (b"{\"nickname\":\"\\ud83d\\ude00\"}", "😀"),
            (b"{\"nickname\":\"\xee\x80\x80\"}", "\u{e000}"),
            (b"{\"extra\":{\"deep\":[{}]},\"nickname\":\"x\",\"more\":null}", "x"),
        ] {
            assert_eq!(Answer::read(body).unwrap().text("nickname"), Some(nickname));
        }
    }

    #[test]
    fn only_an_object_is_an_answer() {
        let deep = "[".repeat(60_000);
        for body in [
            "",
            " ",
            "null",
            "1",
            "\"ok\"",
            "[]",
            "{",
            "{\"openid\":\"o",
            "{} trailing",
            "{}{}",
            "<html>502</html>",
            "{\"nickname\":\"\\ud83d\"}",
            "{'openid':'o'}",
            deep.as_str(),
        ] {
            assert_eq!(Answer::read(body.as_bytes()).err(), Some(Unreadable("not JSON")), "{body:.40}");
        }
    }

    #[test]
    fn an_errcode_is_a_number_or_a_text_of_one() {
        for (body, errcode) in [
            ("{}", Ok(0)),
            (r#"{"errcode":0,"errmsg":"ok"}"#, Ok(0)),
            (r#"{"errcode":null}"#, Ok(0)),
            (r#"{"errcode":"0"}"#, Ok(0)),
            (r#"{"errcode":-1}"#, Ok(-1)),
            (r#"{"errcode":"40029"}"#, Ok(40029)),
            (r#"{"errcode":" 40029 "}"#, Ok(40029)),
            (r#"{"errcode":""}"#, Err(Unreadable("errcode"))),
            (r#"{"errcode":"ok"}"#, Err(Unreadable("errcode"))),
            (r#"{"errcode":false}"#, Err(Unreadable("errcode"))),
            (r#"{"errcode":0.5}"#, Err(Unreadable("errcode"))),
            (r#"{"errcode":99999999999999999999}"#, Err(Unreadable("errcode"))),
            (r#"{"errcode":[0]}"#, Err(Unreadable("errcode"))),
        ] {
            assert_eq!(answer(body).errcode(), errcode, "{body}");
        }
    }

    #[test]
    fn only_a_well_formed_rid_is_kept() {
        let rid = "6741a0c2-11aa22bb-33cc44dd";
        for (errmsg, found) in [
            ("invalid code, rid: 6741a0c2-11aa22bb-33cc44dd", Some(rid)),
            ("not in whitelist rid: 6741a0c2-11aa22bb-33cc44dd.", Some(rid)),
            ("invalid code", None),
            ("invalid code, rid: ", None),
            ("invalid code, rid: 6741a0c2-11aa22bb-33cc44d", None),
            ("invalid code, rid: 6741a0c2-11aa22bb-33cc44dd0", None),
            ("invalid code, rid: 6741a0c2-11aa22bb-33cc44dd-5", None),
            ("rid: 0123456789abcdef0123456789abcdef", None),
            ("rid: 6741a0c2-11aa22bb-33cc44\\n{}", None),
            ("rid: 6741A0C2-11AA22BB-33CC44DD", None),
            ("rid: 小小小小小小小小小小", None),
            ("invalid code, hints: [ req_id: AbCd0123456789 ]", None),
        ] {
            assert_eq!(
                answer(&format!(r#"{{"errmsg":"{errmsg}"}}"#)).rid().map(|rid| rid.to_string()).as_deref(),
                found,
                "{errmsg}"
            );
        }
        assert_eq!(answer(r#"{"errmsg":7}"#).rid(), None);
    }

    #[test]
    fn an_unclear_flag_counts_as_set() {
        for (value, up) in [
            ("null", false),
            ("0", false),
            ("\"0\"", false),
            ("\"\"", false),
            ("false", false),
            ("1", true),
            ("\"1\"", true),
            ("true", true),
            ("2", true),
            ("0.5", true),
            ("\"yes\"", true),
            ("[]", true),
        ] {
            let body = format!(r#"{{"is_snapshotuser":{value}}}"#);
            assert_eq!(answer(&body).is_flagged("is_snapshotuser"), up, "{value}");
        }
        assert!(!answer("{}").is_flagged("is_snapshotuser"));
    }

    #[test]
    fn a_field_is_absent_valid_or_invalid() {
        let read = |text: &str| if text == "o" { Ok(()) } else { Err(()) };
        for (body, found) in [
            ("{}", Ok(None)),
            (r#"{"unionid":null}"#, Ok(None)),
            (r#"{"unionid":""}"#, Ok(None)),
            (r#"{"unionid":"o"}"#, Ok(Some(()))),
            (r#"{"unionid":"x"}"#, Err(Unreadable("unionid"))),
            (r#"{"unionid":7}"#, Err(Unreadable("unionid"))),
            (r#"{"unionid":["o"]}"#, Err(Unreadable("unionid"))),
        ] {
            assert_eq!(answer(body).optional("unionid", read), found, "{body}");
        }
        assert_eq!(answer("{}").required("unionid", read), Err(Unreadable("unionid")));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(answer) = Answer::read(&body) {
                let _ = (answer.errcode(), answer.rid(), answer.is_flagged("is_snapshotuser"));
            }
        }

        #[test]
        fn no_errmsg_makes_a_rid_of_other_characters(errmsg in "(rid: )?[0-9a-f小-]{0,30}.{0,5}") {
            let body = serde_json::json!({ "errmsg": errmsg }).to_string();
            if let Some(rid) = answer(&body).rid().map(|rid| rid.to_string()) {
                prop_assert_eq!(rid.len(), 26);
                prop_assert!(rid.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-'));
            }
        }
    }
}
