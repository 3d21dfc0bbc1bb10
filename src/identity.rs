//! Who a request is from, as the application behind the gateway is told: what the identity headers say.
//!
//! All of a session's texts lie in one piece of memory, and become header values where an answer is written: a hundred
//! thousand sessions are held, and a value made for each header would cost more than what it says.

use bytes::Bytes;
use http::HeaderValue;
use std::fmt;

/// How many texts there are beside the flow.
const FIELD_COUNT: usize = 7;

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
    pub flow: &'static str,
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
    flow: &'static str,
}

impl IdentityHeaders {
    /// Puts `said` together. It comes from a token, which has 4,096 bytes at most; a text that ended beyond the 65,535th
    /// would be left out.
    #[must_use]
    pub fn new(said: &IdentityFields<'_>) -> Self {
        let IdentityFields { subject, openid, unionid, appid, flow, session, nickname, avatar } = *said;
        let texts = [subject, openid, unionid, appid, session, nickname, avatar];
        let mut text = String::with_capacity(texts.iter().map(|text| text.len()).sum());
        let mut end = 0;
        let ends = texts.map(|one| {
            if let Ok(next) = u16::try_from(text.len() + one.len()) {
                text.push_str(one);
                end = next;
            }
            end
        });
        Self { ascii: text.is_ascii(), text: text.into(), ends, flow }
    }

    /// What is said, as text.
    #[must_use]
    pub fn fields(&self) -> IdentityFields<'_> {
        let [subject, openid, unionid, appid, session, nickname, avatar] =
            self.ranges().map(|(start, end)| self.text.get(start..end).unwrap_or_default()).map(text);
        IdentityFields { subject, openid, unionid, appid, flow: self.flow, session, nickname, avatar }
    }

    /// The subject alone.
    #[must_use]
    pub fn subject(&self) -> &str {
        let [end, ..] = self.ends;
        text(self.text.get(..end.into()).unwrap_or_default())
    }

    /// The headers' values in the order of [`Said`]. Our own claims are visible ASCII; what is not becomes empty rather
    /// than a broken header.
    #[must_use]
    pub fn values(&self) -> [HeaderValue; FIELD_COUNT + 1] {
        let value = |(start, end)| match self.text.get(start..end) {
            Some(text) if !text.is_empty() && (self.ascii || text.is_ascii()) => {
                HeaderValue::from_maybe_shared(self.text.slice(start..end)).unwrap_or(EMPTY)
            }
            _ => EMPTY,
        };
        let [subject, openid, unionid, appid, session, nickname, avatar] = self.ranges().map(value);
        [subject, openid, unionid, appid, HeaderValue::from_static(self.flow), session, nickname, avatar]
    }

    /// From where to where each text goes.
    fn ranges(&self) -> [(usize, usize); FIELD_COUNT] {
        let mut start = 0;
        self.ends.map(|end| (std::mem::replace(&mut start, end.into()), end.into()))
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
        assert_eq!(
            alice.values(),
            ["wx:wx01:oA", "oA", "", "wx01", "website", "s1", "%E5%B0%8F", "https://a.example/1"]
        );
    }

    #[test]
    fn what_no_header_can_carry_is_an_empty_header_and_moves_no_other() {
        for bad in ["小明", "a\r\nx-wechat-subject: admin", "\0", "\u{7f}"] {
            let said = IdentityFields { openid: bad, ..ALICE };
            let identity = IdentityHeaders::new(&said);
            assert_eq!(identity.fields(), said);
            let [subject, openid, unionid, appid, ..] = identity.values();
            assert_eq!([subject, openid, unionid, appid], ["wx:wx01:oA", "", "", "wx01"]);
        }
    }

    #[test]
    fn what_is_longer_than_any_token_is_left_out_whole() {
        let long = "a".repeat(70_000);
        let said = IdentityFields { unionid: &long, ..ALICE };
        assert_eq!(IdentityHeaders::new(&said).fields(), IdentityFields { unionid: "", ..ALICE });
    }
}
