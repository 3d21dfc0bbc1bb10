//! The content of Redis and of its messages: a client with write access can write anything (docs/en/threat-model.md,
//! Redis).
//!
//! An input is a kind (`revocation`, `login` or `session`) on the first line and the stored text below it. The record
//! of a login and the sealed part of a session are tested as if the attacker could seal.

use crate::template::expand;
use crate::world::{ALICE, NOW, world};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use wechat_authz::testing::login::once::Once;
use wechat_authz::testing::redis::Redis;
use wechat_authz::testing::seal::Sealer;
use wechat_authz::testing::session::Claims;
use wechat_authz::testing::session::revocation;
use wechat_authz::testing::session::revocations::Revocations;
use wechat_authz::testing::session::token::{MAX_LIFETIME, Unverified};
use wechat_authz::testing::sessions::revocation_sync;
use wechat_authz::testing::sessions::{Registry, registry};
use wechat_authz::testing::telemetry::OutboxMetrics;

/// A parsed revocation renders to a text that parses to the same value, ends within ninety days, and cancels no other
/// revocation; the record of a login tries at most three codes; a sealed value opens only unchanged and in its own
/// place.
pub fn holds(data: &[u8]) {
    let world = world();
    let text = expand(data, |name| world.value(name));
    let Ok(text) = std::str::from_utf8(&text) else { return };
    let (kind, text) = text.split_once('\n').unwrap_or((text, ""));
    match kind {
        "revocation" => revocation(text),
        "login" => login(text),
        "session" => session(text),
        _ => {}
    }
}

fn revocation(text: &str) {
    if let Some(read) = revocation::read(text) {
        assert_eq!(revocation::read(&revocation::render(&read)), Some(read), "{text}");
    }
    let Some(read) = revocation_sync::read(text, NOW) else { return };
    assert!(read.at <= NOW.0 + 60 && read.until > NOW.0 && read.until <= (NOW + MAX_LIFETIME).0 + 60, "{read:?}");
    let revocations = Revocations::new(MAX_LIFETIME, None, NOW);
    static KNOWN: LazyLock<[Claims; 2]> = LazyLock::new(|| {
        let world = world();
        let keys = world.sessions.keys.current();
        ["alice", "revoked"].map(|name| {
            let token = Unverified::read(world.text(name), &keys, &world.shop().session, NOW).unwrap();
            token.verify().unwrap().claims().clone()
        })
    });
    let [alice, revoked] = &*KNOWN;
    let _ = revocations.revoke(revocation::Target::Session(revoked.sid), NOW);
    revocations.merge([read.clone(), read]);
    assert!(revocations.is_revoked(revoked, &AtomicU64::new(0)), "{text} cancelled a revocation");
    let covered = revocations.is_revoked(alice, &AtomicU64::new(0));
    let named = [&*alice.sid.to_string(), "shop", "everyone", "subject"].iter().any(|word| text.contains(word));
    // JSON escapes can spell a name in another way.
    assert!(!covered || named || text.contains('\\'), "revoked, although this does not name it: {text}");
}

fn login(text: &str) {
    fn once(sealer: Arc<dyn Sealer>) -> Once {
        Once::new(Arc::default(), Redis::none(), sealer, Duration::from_secs(1), Arc::default())
    }
    static OPEN: LazyLock<Once> = LazyLock::new(|| once(Arc::new(Unsealed)));
    if let Some(progress) = OPEN.open("flow", text) {
        assert!(progress.failures() <= 3);
        assert_eq!(matches!(progress.result("a code"), Some(Ok(_))), progress.outcome().is_some());
    }
    // With the real seal: a text that an instance sealed for another purpose, or a changed one, does not open.
    static SEALED: LazyLock<Once> = LazyLock::new(|| once(world().sessions.clone()));
    assert!(SEALED.open("flow", text).is_none(), "opened a record that no instance sealed: {text}");
}

fn session(text: &str) {
    const SESSION: &str = "AAAAAAAAAAAAAAAAAAAAAA";
    static OPEN: LazyLock<Registry> = LazyLock::new(|| {
        Registry::new(Redis::none(), Arc::new(Unsealed), registry::Settings::default(), OutboxMetrics::default())
    });
    if let Some(record) = OPEN.parse_session(&ALICE.parse().unwrap(), SESSION, text) {
        assert_eq!((record.subject.as_str(), record.session.to_string().as_str()), (ALICE, SESSION));
        assert!(text.starts_with(|c: char| c.is_ascii_digit() || c == '+'));
    }
}

/// A stand-in for an attacker with the sealing key: opens everything.
struct Unsealed;

impl Sealer for Unsealed {
    fn seal(&self, _: &str, plain: &[u8]) -> Option<String> {
        String::from_utf8(plain.to_vec()).ok()
    }

    fn open(&self, _: &str, sealed: &str, most: usize) -> Option<Vec<u8>> {
        (sealed.len() <= most).then(|| sealed.as_bytes().to_vec())
    }
}
