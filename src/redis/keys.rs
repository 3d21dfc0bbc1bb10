//! The names of the keys in Redis.
//!
//! docs/en/redis-keys.md lists them. 1 is the version of the schema: instances of different versions use different keys. Names
//! contain our own ids, hex digests and configured names, never text of a client. The part in braces decides the slot in a
//! Redis Cluster, which keys that are used together share.

use aws_lc_rs::digest;

/// The version of the schema, part of all names.
pub const VERSION: u32 = 1;

/// The full name of a key or channel.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key(String);

impl Key {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl redis::ToRedisArgs for Key {
    fn write_redis_args<W: ?Sized + redis::RedisWrite>(&self, out: &mut W) {
        out.write_arg(self.0.as_bytes());
    }
}

/// Makes the names of the keys.
#[derive(Clone, Debug)]
pub struct Keys {
    start: String,
}

impl Keys {
    /// Names that start with `prefix`.
    pub fn new(prefix: &str) -> Self {
        Self { start: format!("{prefix}:{VERSION}") }
    }

    /// The progress of the login of `state`.
    pub fn flow(&self, state: &str) -> Key {
        self.tagged(&format!("flow:{}", digest_of(state)), "")
    }

    /// The return address of the login of `state`.
    pub fn return_to(&self, state: &str) -> Key {
        self.tagged(&format!("flow:{}", digest_of(state)), ":return_to")
    }

    /// The lock of the login of `state`.
    pub fn turn(&self, state: &str) -> Key {
        self.tagged(&format!("flow:{}", digest_of(state)), ":turn")
    }

    /// The list of revocations.
    pub fn revoked(&self) -> Key {
        self.tagged("revoked", ":list")
    }

    /// The mark beside the list of revocations.
    pub fn mark(&self) -> Key {
        self.tagged("revoked", ":mark")
    }

    /// A key of a subject, given by its digest. The keys of a subject share a slot.
    pub fn of_subject(&self, subject_digest: &str, what: &str) -> Key {
        self.tagged(subject_digest, &format!(":{what}"))
    }

    /// A key of the access token `kind` of `appid`.
    pub fn token(&self, appid: &str, kind: &str, what: &str) -> Key {
        self.tagged(&format!("token:{appid}:{kind}"), &format!(":{what}"))
    }

    /// The stream of events.
    pub fn events(&self) -> Key {
        self.tagged("events", "")
    }

    /// The channel on which instances publish revocations.
    pub fn channel(&self) -> Key {
        Key(format!("{}:changes", self.start))
    }

    fn tagged(&self, tag: &str, rest: &str) -> Key {
        Key(format!("{}:{{{tag}}}{rest}", self.start))
    }
}

/// The digest of a subject or state in names: 128 bits of its SHA-256 in hex. So a dump contains no openid.
pub fn digest_of(text: &str) -> String {
    let digest = digest::digest(&digest::SHA256, text.as_bytes());
    crate::random::hex(digest.as_ref().get(..16).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_contains_no_client_text_and_the_keys_of_a_subject_share_a_slot() {
        let names = Keys::new("wechat-authz");
        let subject = digest_of("wx:wx0123456789abcdef:oAlice{}");
        assert_eq!(subject.len(), 32);
        let sessions = names.of_subject(&subject, "sessions");
        assert_eq!(sessions.as_str(), format!("wechat-authz:1:{{{subject}}}:sessions"));
        assert_eq!(names.flow("x}y{").as_str().matches(['{', '}']).count(), 2);
        assert_eq!(names.revoked().as_str(), "wechat-authz:1:{revoked}:list");
    }
}
