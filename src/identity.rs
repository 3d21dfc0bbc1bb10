//! Who a request is from, as the application behind the gateway is told: what the identity headers say.
//!
//! All of a session's texts lie in one piece of memory, and become header values where an answer is written: a hundred
//! thousand sessions are held, and a value made for each header would cost more than what it says.

use bytes::Bytes;
use http::HeaderValue;
use std::fmt;
use std::ops::Range;

/// How many texts there are.
const FIELD_COUNT: usize = 8;

/// What is said of one session's user; empty where there is nothing to say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IdentityFields<'a> {
    /// `wx:union:<unionid>` or `wx:<appid>:<openid>`.
    pub subject: &'a str,
    /// The user's id inside one AppID.
    pub openid: &'a str,
    /// The user's id across one Open Platform account.
    pub unionid: &'a str,
    /// The AppID of the login.
    pub appid: &'a str,
    /// Which flow: `official_account`, `website`.
    pub flow: &'a str,
    /// The session's opaque id.
    pub session: &'a str,
    /// Nickname, percent-encoded UTF-8.
    pub nickname: &'a str,
    /// Avatar URL.
    pub avatar: &'a str,
}

/// The same, put together once per session.
#[derive(Clone, PartialEq, Eq)]
pub struct IdentityHeaders {
    /// Text after text.
    text: Bytes,
    /// Where each ends.
    ends: [u16; FIELD_COUNT],
    /// Whether all of it is ASCII: what is not makes no header.
    ascii: bool,
}

impl IdentityHeaders {
    /// Puts `said` together. It comes from a token, which has 4,096 bytes at most; a text that ended beyond the 65,535th
    /// would be left out.
    pub fn new(said: &IdentityFields<'_>) -> Self {
        let IdentityFields { subject, openid, unionid, appid, flow, session, nickname, avatar } = *said;
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

    /// What is said, as text.
    pub fn fields(&self) -> IdentityFields<'_> {
        let mut ranges = self.ranges();
        let [subject, openid, unionid, appid, flow, session, nickname, avatar] =
            std::array::from_fn(|_| text(ranges.next().and_then(|range| self.text.get(range)).unwrap_or_default()));
        IdentityFields { subject, openid, unionid, appid, flow, session, nickname, avatar }
    }

    /// The subject alone.
    pub fn subject(&self) -> &str {
        let [end, ..] = self.ends;
        text(self.text.get(..end.into()).unwrap_or_default())
    }

    /// The headers' values in the order of [`IdentityFields`]. Our own claims are visible ASCII; what is not becomes
    /// empty rather than a broken header.
    pub fn values(&self) -> impl Iterator<Item = HeaderValue> {
        self.ranges().map(|range| match self.text.get(range.clone()) {
            Some(text) if !text.is_empty() && (self.ascii || text.is_ascii()) => {
                HeaderValue::from_maybe_shared(self.text.slice(range)).unwrap_or(EMPTY)
            }
            _ => EMPTY,
        })
    }

    /// From where to where each text goes.
    fn ranges(&self) -> impl Iterator<Item = Range<usize>> {
        let mut start = 0;
        self.ends.iter().map(move |end| std::mem::replace(&mut start, usize::from(*end))..usize::from(*end))
    }
}

const EMPTY: HeaderValue = HeaderValue::from_static("");

/// Parts of a text, cut where its parts end.
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

    /// Somebody of whom all but the unionid is known; the gateways' tests tell of her, too.
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
    fn what_is_said_of_a_user_is_kept_word_for_word_and_becomes_the_headers() {
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
    fn what_no_header_can_carry_is_an_empty_header_and_moves_no_other() {
        for bad in ["小明", "a\r\nx-wechat-subject: admin", "\0", "\u{7f}"] {
            let said = IdentityFields { openid: bad, ..ALICE };
            let identity = IdentityHeaders::new(&said);
            assert_eq!(identity.fields(), said);
            assert!(identity.values().take(4).eq(["wx:wx01:oA", "", "", "wx01"]));
        }
    }

    #[test]
    fn what_is_longer_than_any_token_is_left_out_whole() {
        let long = "a".repeat(70_000);
        let said = IdentityFields { unionid: &long, ..ALICE };
        assert_eq!(IdentityHeaders::new(&said).fields(), IdentityFields { unionid: "", ..ALICE });
    }
}
