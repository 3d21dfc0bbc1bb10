//! What things are called in Redis: the key schema.
//!
//! | key | type | what | lives |
//! |---|---|---|---|
//! | `P:1:{flow:HASH}` | string | one login's progress and outcome, sealed | as long as the flow's cookie |
//! | `P:1:{flow:HASH}:return_to` | string | where the login goes in the end, sealed; only if its cookie has no room | 10 minutes |
//! | `P:1:{flow:HASH}:turn` | string | who works on it: a random id | as long as an exchange can take |
//! | `P:1:{revoked}:list` | sorted set | revocations, by the time they were written | as long as a session they concern |
//! | `P:1:{revoked}:mark` | string | random; another one tells that Redis was emptied | an hour after the last pull |
//! | `P:1:{SUBJECT}:sessions` | hash | session id → end, last seen, and the sealed rest | as long as the last session |
//! | `P:1:{SUBJECT}:profile:APP` | string | nickname, avatar, unionid and their age, sealed | 30 days |
//! | `P:1:{SUBJECT}:wechat:APP` | string | WeChat's own tokens, sealed; only if configured | 30 days |
//! | `P:1:{token:APPID:KIND}:*` | string | central tokens, sealed; lock, fence, quota | as long as the token |
//! | `P:1:{events}` | stream | what happened | a week after the last event, and a number |
//! | `P:1:changes` | channel | revocations as they happen | |
//!
//! `P` is the configured prefix, 1 the schema's version: another version reads and writes other keys, so that old and new
//! instances stand side by side. Names hold our own ids, hex digests and the operator's words, never a client's text. What
//! is in braces decides the slot in a Redis Cluster: keys used together share it.

use aws_lc_rs::digest;

/// The schema's version; part of each key and each message.
pub const VERSION: u32 = 1;

/// A key's or channel's whole name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key(String);

impl Key {
    /// As Redis knows it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl redis::ToRedisArgs for Key {
    fn write_redis_args<W: ?Sized + redis::RedisWrite>(&self, out: &mut W) {
        out.write_arg(self.0.as_bytes());
    }
}

/// Makes names.
#[derive(Clone, Debug)]
pub struct Keys {
    start: String,
}

impl Keys {
    /// Names that begin with `prefix`.
    pub fn new(prefix: &str) -> Self {
        Self { start: format!("{prefix}:{VERSION}") }
    }

    /// `state`'s progress.
    pub fn flow(&self, state: &str) -> Key {
        self.tagged(&format!("flow:{}", digest_of(state)), "")
    }

    /// Where `state` goes in the end.
    pub fn return_to(&self, state: &str) -> Key {
        self.tagged(&format!("flow:{}", digest_of(state)), ":return_to")
    }

    /// Who works on `state`.
    pub fn turn(&self, state: &str) -> Key {
        self.tagged(&format!("flow:{}", digest_of(state)), ":turn")
    }

    /// The list of revocations.
    pub fn revoked(&self) -> Key {
        self.tagged("revoked", ":list")
    }

    /// The mark that is lost when Redis is emptied.
    pub fn mark(&self) -> Key {
        self.tagged("revoked", ":mark")
    }

    /// A key of `subject`, given by its digest: all of them share a slot.
    pub fn of_subject(&self, subject_digest: &str, what: &str) -> Key {
        self.tagged(subject_digest, &format!(":{what}"))
    }

    /// A key of the central token `kind` of `appid`.
    pub fn token(&self, appid: &str, kind: &str, what: &str) -> Key {
        self.tagged(&format!("token:{appid}:{kind}"), &format!(":{what}"))
    }

    /// The stream of events.
    pub fn events(&self) -> Key {
        self.tagged("events", "")
    }

    /// The channel on which instances tell each other of changes.
    pub fn channel(&self) -> Key {
        Key(format!("{}:changes", self.start))
    }

    fn tagged(&self, tag: &str, rest: &str) -> Key {
        Key(format!("{}:{{{tag}}}{rest}", self.start))
    }
}

/// The name by which a subject or a state is known in Redis: 128 bits of its SHA-256 in hex. A dump tells no openid.
pub fn digest_of(text: &str) -> String {
    let digest = digest::digest(&digest::SHA256, text.as_bytes());
    crate::random::hex(digest.as_ref().get(..16).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_holds_no_client_text_and_one_slot_holds_a_subject() {
        let names = Keys::new("wechat-authz");
        let subject = digest_of("wx:wx0123456789abcdef:oAlice{}");
        assert_eq!(subject.len(), 32);
        let sessions = names.of_subject(&subject, "sessions");
        assert_eq!(sessions.as_str(), format!("wechat-authz:1:{{{subject}}}:sessions"));
        assert_eq!(names.flow("x}y{").as_str().matches(['{', '}']).count(), 2);
        assert_eq!(names.revoked().as_str(), "wechat-authz:1:{revoked}:list");
    }
}
