//! JSON in WeChat's form: its order of keys, `\/` for a slash, surrogate escapes beyond the BMP, all else raw.

use serde_json::Value;

/// An API answer before serialisation, so that a fault can change its fields.
#[derive(Clone, Debug, Default)]
pub struct Payload {
    pub fields: Vec<(String, Value)>,
}

impl Payload {
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.fields.push((key.into(), value.into()));
        self
    }

    /// Adds the field only if it has a value.
    #[must_use]
    pub fn with_some(self, key: &str, value: Option<impl Into<Value>>) -> Self {
        match value {
            Some(value) => self.with(key, value),
            None => self,
        }
    }

    /// Replaces the value of `key`, or appends it.
    pub fn set(&mut self, key: &str, value: Value) {
        match self.fields.iter_mut().find(|(name, _)| name == key) {
            Some(field) => field.1 = value,
            None => self.fields.push((key.into(), value)),
        }
    }

    #[must_use]
    pub fn render(&self) -> Vec<u8> {
        let mut text = String::from("{");
        for (at, (key, value)) in self.fields.iter().enumerate() {
            if at > 0 {
                text.push(',');
            }
            string(&mut text, key);
            text.push(':');
            write(&mut text, value);
        }
        text.push('}');
        text.into_bytes()
    }
}

fn write(text: &mut String, value: &Value) {
    match value {
        Value::String(content) => string(text, content),
        other => text.push_str(&other.to_string()),
    }
}

fn string(text: &mut String, content: &str) {
    text.push('"');
    for character in content.chars() {
        match character {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '/' => text.push_str("\\/"),
            '\n' => text.push_str("\\n"),
            control if control < ' ' => text.push_str(&format!("\\u{:04x}", u32::from(control))),
            astral if u32::from(astral) > 0xffff => {
                for unit in astral.encode_utf16(&mut [0; 2]) {
                    text.push_str(&format!("\\u{unit:04x}"));
                }
            }
            plain => text.push(plain),
        }
    }
    text.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_written_in_wechats_hand() {
        let payload = Payload::default()
            .with("nickname", "小明😀\"\\\n\u{1}")
            .with("sex", 0)
            .with("headimgurl", "https://a/132")
            .with("privilege", Vec::<String>::new());
        let bytes = payload.render();
        assert_eq!(
            String::from_utf8(bytes.clone()).unwrap(),
            r#"{"nickname":"小明\ud83d\ude00\"\\\n\u0001","sex":0,"headimgurl":"https:\/\/a\/132","privilege":[]}"#
        );
        let read: Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(read["nickname"], "小明😀\"\\\n\u{1}");
    }
}
