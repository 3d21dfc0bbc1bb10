//! The identity headers that the application receives.
//!
//! The values of a session share one allocation and become header values when an answer is written: the cache holds up to
//! 100,000 sessions, and eight header values for each would take more memory than their text.

use bytes::Bytes;
use http::HeaderValue;
use std::fmt;
use std::ops::Range;

/// The number of headers.
const FIELD_COUNT: usize = 8;

/// The values of the identity headers; empty if unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IdentityFields<'a> {
    /// The subject.
    pub subject: &'a str,
    /// The openid.
    pub openid: &'a str,
    /// The unionid.
    pub unionid: &'a str,
    /// The AppID of the login.
    pub appid: &'a str,
    /// The login method: `official_account` or `website`.
    pub flow: &'a str,
    /// The session id.
    pub session: &'a str,
    /// The nickname as percent-encoded UTF-8.
    pub nickname: &'a str,
    /// The URL of the avatar.
    pub avatar: &'a str,
}

/// The identity headers of a session.
#[derive(Clone, PartialEq, Eq)]
pub struct IdentityHeaders {
    /// The values, one after the other.
    text: Bytes,
    /// The end of each value.
    ends: [u16; FIELD_COUNT],
    /// Whether all values are ASCII. Others become empty headers.
    ascii: bool,
}

impl IdentityHeaders {
    /// The headers with these values. A value that would end beyond 65,535 bytes is left out; a token has at most 4,096.
    pub fn new(fields: &IdentityFields<'_>) -> Self {
        let IdentityFields { subject, openid, unionid, appid, flow, session, nickname, avatar } = *fields;
        let texts = [subject, openid, unionid, appid, flow, session, nickname, avatar];
        let mut text = String::with_capacity(texts.iter().map(|text| text.len()).sum());
        let mut end = 0;
        let ends = texts.map(|one| {
            if let Ok(next) = u16::try_from(text.len() + one.len()) {
                text.push_str(one);
                end = next;
            }
            end
        });
        Self { ascii: text.is_ascii(), text: text.into(), ends }
    }

    /// The values as text.
    pub fn fields(&self) -> IdentityFields<'_> {
        let mut ranges = self.ranges();
        let [subject, openid, unionid, appid, flow, session, nickname, avatar] =
            std::array::from_fn(|_| text(ranges.next().and_then(|range| self.text.get(range)).unwrap_or_default()));
        IdentityFields { subject, openid, unionid, appid, flow, session, nickname, avatar }
    }

    /// The subject.
    pub fn subject(&self) -> &str {
        let [end, ..] = self.ends;
        text(self.text.get(..end.into()).unwrap_or_default())
    }

    /// The header values in the order of [`IdentityFields`]. A value that is not visible ASCII becomes empty.
    pub fn values(&self) -> impl Iterator<Item = HeaderValue> {
        self.ranges().map(|range| match self.text.get(range.clone()) {
            Some(text) if !text.is_empty() && (self.ascii || text.is_ascii()) => {
                HeaderValue::from_maybe_shared(self.text.slice(range)).unwrap_or(EMPTY)
            }
            _ => EMPTY,
        })
    }

    /// The range of each value.
    fn ranges(&self) -> impl Iterator<Item = Range<usize>> {
        let mut start = 0;
        self.ends.iter().map(move |end| std::mem::replace(&mut start, usize::from(*end))..usize::from(*end))
    }
}

const EMPTY: HeaderValue = HeaderValue::from_static("");

/// The bytes as text. They were cut at the ends of texts.
fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}

impl fmt::Debug for IdentityHeaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fields().fmt(f)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A user without a unionid.
    pub(crate) const ALICE: IdentityFields = IdentityFields {
        subject: "wx:wx01:oA",
        openid: "oA",
        unionid: "",
        appid: "wx01",
        flow: "website",
        session: "s1",
        nickname: "%E5%B0%8F",
        avatar: "https://a.example/1",
    };

    #[test]
    fn values_are_kept_and_become_headers() {
        let alice = IdentityHeaders::new(&ALICE);
        assert_eq!((alice.fields(), alice.subject()), (ALICE, "wx:wx01:oA"));
        assert!(alice.values().eq([
            "wx:wx01:oA",
            "oA",
            "",
            "wx01",
            "website",
            "s1",
            "%E5%B0%8F",
            "https://a.example/1"
        ]));
    }

    #[test]
    fn a_value_that_no_header_can_carry_becomes_empty() {
        for bad in ["小明", "a\r\nx-wechat-subject: admin", "\0", "\u{7f}"] {
            let fields = IdentityFields { openid: bad, ..ALICE };
            let identity = IdentityHeaders::new(&fields);
            assert_eq!(identity.fields(), fields);
            assert!(identity.values().take(4).eq(["wx:wx01:oA", "", "", "wx01"]));
        }
    }

    #[test]
    fn a_value_that_is_too_long_is_left_out() {
        let long = "a".repeat(70_000);
        let fields = IdentityFields { unionid: &long, ..ALICE };
        assert_eq!(IdentityHeaders::new(&fields).fields(), IdentityFields { unionid: "", ..ALICE });
    }
}
