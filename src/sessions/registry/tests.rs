//! The registry without Redis.

use super::*;

struct Plain;

impl Sealer for Plain {
    fn seal(&self, _: &str, plain: &[u8]) -> Option<String> {
        String::from_utf8(plain.to_vec()).ok()
    }

    fn open(&self, _: &str, sealed: &str, _: usize) -> Option<Vec<u8>> {
        Some(sealed.as_bytes().to_vec())
    }
}

fn registry() -> Registry {
    Registry::new(Redis::none(), Arc::new(Plain), Settings::default(), OutboxMetrics::default())
}

fn subject(id: &str) -> Subject {
    Subject::from_unionid(id).unwrap()
}

fn record(session: &str, subject: &Subject, created: u64) -> SessionRecord {
    SessionRecord {
        session: SessionId::named(session),
        subject: subject.clone(),
        app: "shop".parse().unwrap(),
        flow: LoginMethod::Website,
        created: Timestamp(created),
        ends: Timestamp(created + 1_000),
        seen: Timestamp(created),
        browser: Some("chrome".into()),
    }
}

#[tokio::test]
async fn without_redis_an_instance_lists_the_sessions_it_knows() {
    let (registry, one, two) = (registry(), subject("1"), subject("2"));
    registry.session_started(record("a", &one, 100));
    registry.session_started(record("b", &one, 200));
    registry.session_started(record("c", &two, 200));
    let seen = SessionRecord { seen: Timestamp(900), browser: None, ..record("a", &one, 100) };
    registry.sessions_used([seen, SessionRecord { browser: None, ..record("d", &one, 50) }]);
    let listed = registry.list(&one, Timestamp(300)).await;
    assert_eq!(listed.unavailable, Some(CallError::NotConfigured));
    let told: Vec<_> = listed.sessions.iter().map(|one| (one.session, one.seen.0, one.browser.as_deref())).collect();
    assert_eq!(
        told,
        [
            (SessionId::named("b"), 200, Some("chrome")),
            (SessionId::named("a"), 900, Some("chrome")),
            (SessionId::named("d"), 50, None),
        ]
    );
    assert!(registry.has_seen(SessionId::named("a")) && !registry.has_seen(SessionId::named("x")));

    registry.session_ended(&one, SessionId::named("b"));
    let later = registry.list(&one, Timestamp(1_060)).await;
    assert_eq!(later.sessions.len(), 1, "one was revoked, one has expired: {later:?}");
}

#[test]
fn records_of_another_version_and_unknown_fields_are_ignored() {
    let registry = registry();
    let open = |text: &str| registry.open::<SealedSession>("place", text).map(|text| text.app);
    let good = r#"{"v":1,"app":"shop","flow":"website","created":7,"mood":"good"}"#;
    assert_eq!(open(good), "shop".parse().ok());
    for text in [
        r#"{"v":2,"app":"shop","flow":"website","created":7}"#,
        r#"{"v":2}"#,
        r#"{"app":"shop","flow":"website","created":7}"#,
        r#"{"v":1,"app":"shop","flow":"telepathy","created":7}"#,
        r#"{"v":1,"app":7,"flow":"website","created":7}"#,
        "[]",
        "",
    ] {
        assert_eq!(open(text), None, "{text}");
    }
}
