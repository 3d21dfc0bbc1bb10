//! The list of accepted tokens, line by line, and the lifetime of a session.

use super::keys::{KeyRing, KeySet, KeySettings};
use super::*;
use crate::identity::IdentityFields;
use crate::profile::Profile;
use crate::subject::Subject;
use crate::testing::fixtures::{self, NOW};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proptest::prelude::*;

const HOUR: Duration = Duration::from_secs(3_600);

pub(super) fn settings() -> Settings {
    fixtures::shop().session
}

/// Alice's claims, logged in at `now`.
pub(super) fn claims(now: Timestamp) -> Claims {
    Claims::first(grant(), SessionId::named("sid"), &settings(), now)
}

fn grant() -> Grant {
    let profile =
        Profile { nickname: "小明 \"😀\"".into(), avatar: "https://thirdwx.qlogo.cn/mmopen/1/132".into() };
    Grant { unionid: "oUnionAlice".into(), profile, ..fixtures::alice() }
}

struct Fixture {
    sessions: Sessions,
    directory: tempfile::TempDir,
}

fn fixture() -> Fixture {
    let directory = fixtures::key_directory();
    let keys = KeyRing::new(load(directory.path()));
    Fixture { sessions: fixtures::sessions(keys, NOW), directory }
}

fn add_key(directory: &std::path::Path, name: &str) {
    std::fs::write(directory.join(format!("{name}.pem")), keys::generate().unwrap()).unwrap();
}

fn load(directory: &std::path::Path) -> KeySet {
    let settings = KeySettings { directory: directory.to_owned(), sign_after: Duration::from_secs(600) };
    KeySet::load(&settings).map_err(|errors| format!("{errors:?}")).unwrap()
}

impl Fixture {
    fn token(&self) -> String {
        self.sessions.begin(grant(), &settings(), NOW).unwrap().token
    }

    fn verify(&self, token: &str, now: Timestamp) -> Result<LiveSession, SessionError> {
        self.sessions.verify(token, &settings(), now, || Ok(()))
    }

    fn error(&self, token: &str, now: Timestamp) -> SessionError {
        match self.verify(token, now) {
            Err(refusal) => refusal,
            Ok(_) => panic!("accepted: {token}"),
        }
    }

    /// A token with this header and payload, correctly signed.
    fn signed(&self, header: &str, payload: &str) -> String {
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
        let keys = self.sessions.keys.current();
        let signature = keys.signing(NOW).unwrap().sign(signed.as_bytes()).unwrap();
        format!("{signed}.{signature}")
    }

    fn kid(&self) -> String {
        self.sessions.keys.current().signing(NOW).unwrap().kid().to_owned()
    }

    fn header(&self) -> String {
        format!(r#"{{"alg":"ES256","typ":"{}","kid":"{}"}}"#, jws::TYPE, self.kid())
    }

    /// A correctly signed token whose claim `name` is `value`, or missing.
    fn with_claim(&self, name: &str, value: Option<serde_json::Value>) -> String {
        let mut payload = serde_json::to_value(claims(NOW)).unwrap();
        let members = payload.as_object_mut().unwrap();
        match value {
            Some(value) => members.insert(name.to_owned(), value),
            None => members.remove(name),
        };
        self.signed(&self.header(), &payload.to_string())
    }
}

#[test]
fn a_token_of_ours_is_a_live_session_and_names_its_user() {
    let fixture = fixture();
    let live = fixture.verify(&fixture.token(), NOW).unwrap();
    let claims = live.claims();
    assert_eq!((live.subject(), claims.sub.as_str()), ("wx:wx0123456789abcdef:oAlice", "wx:wx0123456789abcdef:oAlice"));
    let said = IdentityFields {
        subject: "wx:wx0123456789abcdef:oAlice",
        openid: "oAlice",
        unionid: "oUnionAlice",
        appid: "wx0123456789abcdef",
        flow: "official_account",
        session: &claims.sid.to_string(),
        nickname: "%E5%B0%8F%E6%98%8E%20%22%F0%9F%98%80%22",
        avatar: "https://thirdwx.qlogo.cn/mmopen/1/132",
    };
    assert_eq!(live.identity().fields(), said);
    assert_eq!(live.state(), TokenState::Fresh);
}

#[test]
fn a_full_token_and_its_cookie_stay_under_a_kilobyte() {
    let fixture = fixture();
    let mut grant = grant();
    grant.openid = "o".repeat(64);
    grant.unionid = "u".repeat(64);
    grant.subject = Subject::from_unionid(&grant.unionid).unwrap();
    grant.profile.nickname = "名".repeat(64);
    grant.profile.avatar = format!("https://thirdwx.qlogo.cn/{}", "a".repeat(300));
    let issued = fixture.sessions.begin(grant, &settings(), NOW).unwrap();
    assert!(issued.token.len() + crate::cookie::SESSION.len() < 1_024, "{}", issued.token.len());
    let live = fixture.verify(&issued.token, NOW).unwrap();
    assert_eq!(live.identity().fields().avatar, "", "what does not fit is left out, the avatar first");
}

#[test]
fn a_nickname_is_stored_encoded_unless_that_costs_the_avatar() {
    let fixture = fixture();
    for (nickname, avatar, member, kept) in [
        ("小明 100%25", 90, "nickname", 90),
        ("", 90, "nickname", 90),
        // Encoded, it does not fit beside the avatar; as plain text it does.
        (&*"名".repeat(16), 130, "name", 130),
        (&*"%E5".repeat(30), 130, "name", 130),
        // In neither form does it fit beside the avatar; without the avatar both fit.
        (&*"名".repeat(16), 320, "nickname", 0),
    ] {
        let mut grant = grant();
        let url = format!("https://thirdwx.qlogo.cn/{}", "a".repeat(avatar));
        grant.profile = Profile { nickname: nickname.to_owned(), avatar: url };
        let issued = fixture.sessions.begin(grant, &settings(), NOW).unwrap();
        let payload: serde_json::Value =
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(issued.token.split('.').nth(1).unwrap()).unwrap()).unwrap();
        let encoded = crate::percent::encode_component(nickname).to_string();
        let written = if member == "name" { nickname } else { &encoded };
        assert_eq!(payload.get(member).map_or("", |written| written.as_str().unwrap()), written, "{payload}");
        assert!(["nickname", "name"].iter().all(|other| *other == member || payload.get(other).is_none()), "{payload}");
        // Another instance, which reads it for the first time, gives the same result.
        let elsewhere = fixtures::sessions(KeyRing::new(load(fixture.directory.path())), NOW);
        let live = elsewhere.verify(&issued.token, &settings(), NOW, || Ok(())).unwrap();
        assert_eq!((live.claims().nickname.as_str(), live.identity().fields().nickname), (nickname, &*encoded));
        assert_eq!(live.identity().fields().avatar.len(), if kept == 0 { 0 } else { kept + 25 }, "{payload}");
    }
}

#[test]
fn line_1_length_segments_and_encoding() {
    let fixture = fixture();
    let token = fixture.token();
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let malformed = SessionError::Token(TokenError::Malformed);
    for bad in [
        String::new(),
        ".".into(),
        "..".into(),
        "a.b.c".into(),
        signed.to_owned(),
        format!("{token}."),
        format!(".{token}"),
        format!("{token}.{signature}"),
        format!(" {token}"),
        format!("{token}\n"),
        format!("{token}="),
        format!("{signed}.{}", signature.replace('-', "+").replace('_', "/") + "=="),
        format!("{signed}.{}", &signature[..80]),
        format!("{signed}.{signature}AA"),
        format!("{}{}", token, "A".repeat(token::MAX_BYTES)),
        "中文".repeat(20),
    ] {
        assert_eq!(fixture.error(&bad, NOW), malformed, "{bad}");
    }
    // The last character of 64 bytes in base64url has two bits that must be zero; other values spell the same bytes.
    let (head, last) = signature.split_at(85);
    for other in
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".chars().filter(|c| !last.contains(*c))
    {
        let refused = fixture.error(&format!("{signed}.{head}{other}"), NOW);
        assert!(matches!(refused, SessionError::Token(TokenError::Malformed | TokenError::Forged)), "{other}");
    }
}

#[test]
fn line_2_the_header_has_exactly_three_members() {
    let fixture = fixture();
    let (kid, typ) = (fixture.kid(), jws::TYPE);
    let payload = serde_json::to_string(&claims(NOW)).unwrap();
    for (header, error) in [
        ("[]".to_owned(), TokenError::Malformed),
        ("null".to_owned(), TokenError::Malformed),
        (format!(r#"{{"alg":"ES256","kid":"{kid}"}}"#), TokenError::Malformed),
        (format!(r#"{{"alg":"ES256","typ":"{typ}"}}"#), TokenError::Malformed),
        (format!(r#"{{"typ":"{typ}","kid":"{kid}"}}"#), TokenError::Malformed),
        (format!(r#"{{"alg":"none","typ":"{typ}","kid":"{kid}"}}"#), TokenError::Malformed),
        (format!(r#"{{"alg":"HS256","typ":"{typ}","kid":"{kid}"}}"#), TokenError::Malformed),
        (format!(r#"{{"alg":"es256","typ":"{typ}","kid":"{kid}"}}"#), TokenError::Malformed),
        (format!(r#"{{"alg":"ES256","typ":"JWT","kid":"{kid}"}}"#), TokenError::Foreign),
        (format!(r#"{{"alg":"ES256","typ":"{typ}","kid":"{kid}","crit":["exp"]}}"#), TokenError::Malformed),
        (format!(r#"{{"alg":"ES256","typ":"{typ}","kid":"{kid}","jwk":{{}}}}"#), TokenError::Malformed),
        (format!(r#"{{"alg":"ES256","typ":"{typ}","kid":"{kid}","jku":"https://e.example"}}"#), TokenError::Malformed),
        (format!(r#"{{"alg":"ES256","typ":"{typ}","kid":"{kid}","x5u":"https://e.example"}}"#), TokenError::Malformed),
        (format!(r#"{{"alg":"ES256","typ":"{typ}","kid":"{kid}","zip":"DEF"}}"#), TokenError::Malformed),
        (format!(r#"{{"alg":"ES256","typ":"{typ}","kid":"{kid}","b64":false}}"#), TokenError::Malformed),
        (format!(r#"{{"alg":"ES256","alg":"ES256","typ":"{typ}","kid":"{kid}"}}"#), TokenError::Malformed),
        (format!(r#"{{"alg":"ES256","typ":"{typ}","kid":["{kid}"]}}"#), TokenError::Malformed),
    ] {
        assert_eq!(fixture.error(&fixture.signed(&header, &payload), NOW), SessionError::Token(error), "{header}");
    }
}

#[test]
fn line_3_the_key_is_looked_up_by_its_exact_name() {
    let fixture = fixture();
    let payload = serde_json::to_string(&claims(NOW)).unwrap();
    let kid = fixture.kid();
    for kid in ["", "../../etc/passwd", "https://e.example/key", &kid.to_lowercase(), &format!("{kid} "), &kid[1..]] {
        let header = format!(r#"{{"alg":"ES256","typ":"{}","kid":"{kid}"}}"#, jws::TYPE);
        assert_eq!(
            fixture.error(&fixture.signed(&header, &payload), NOW),
            SessionError::Token(TokenError::UnknownKey),
            "{kid}"
        );
    }
    assert_eq!(fixture.sessions.tokens.verifications.get(), 0, "no signature was checked");
}

#[test]
fn line_4_the_signature_verifies() {
    let (fixture, stranger) = (self::fixture(), self::fixture());
    let foreign = stranger.signed(&fixture.header(), &serde_json::to_string(&claims(NOW)).unwrap());
    assert_eq!(fixture.error(&foreign, NOW), SessionError::Token(TokenError::Forged));
    let token = fixture.token();
    let (signed, _) = token.rsplit_once('.').unwrap();
    let zero = URL_SAFE_NO_PAD.encode([0_u8; 64]);
    assert_eq!(
        fixture.error(&format!("{signed}.{zero}"), NOW),
        SessionError::Token(TokenError::Forged),
        "CVE-2022-21449"
    );
}

#[test]
fn line_5_the_payload_is_a_flat_object_without_doubles() {
    let fixture = fixture();
    let good = serde_json::to_string(&claims(NOW)).unwrap();
    let open = good.strip_suffix('}').unwrap();
    for bad in [
        "[]".to_owned(),
        "\"text\"".to_owned(),
        String::from("null"),
        format!(r#"{open},"sub":"wx:wx0123456789abcdef:oMallory"}}"#),
        format!(r#"{open},"extra":1,"extra":2}}"#),
        format!(r#"{open},"nested":{{"a":1}}}}"#),
        format!(r#"{open},"list":[1]}}"#),
        format!("{good}x"),
    ] {
        assert_eq!(
            fixture.error(&fixture.signed(&fixture.header(), &bad), NOW),
            SessionError::Token(TokenError::Malformed),
            "{bad}"
        );
    }
    let newer = format!(r#"{open},"later":"claim","other":true}}"#);
    assert!(fixture.verify(&fixture.signed(&fixture.header(), &newer), NOW).is_ok(), "unknown claims are ignored");
}

#[test]
fn line_6_issuer_and_audience_are_ours_exactly() {
    use serde_json::json;
    let fixture = fixture();
    for (claim, value, error) in [
        ("iss", None, TokenError::Malformed),
        ("iss", Some(json!(["https://shop.example.com"])), TokenError::Malformed),
        ("iss", Some(json!("https://shop.example.com/")), TokenError::Foreign),
        ("iss", Some(json!("https://other.example.com")), TokenError::Foreign),
        ("aud", None, TokenError::Malformed),
        ("aud", Some(json!(["shop"])), TokenError::Malformed),
        ("aud", Some(json!(7)), TokenError::Malformed),
        ("aud", Some(json!("Shop")), TokenError::Malformed),
        ("aud", Some(json!("shop-2")), TokenError::Foreign),
        ("sub", None, TokenError::Malformed),
        ("sub", Some(json!("")), TokenError::Malformed),
        ("sub", Some(json!("oAlice")), TokenError::Malformed),
        ("sid", Some(json!("s1")), TokenError::Malformed),
        ("sid", None, TokenError::Malformed),
        ("sid", Some(json!(null)), TokenError::Malformed),
        ("flow", Some(json!("telepathy")), TokenError::Malformed),
    ] {
        assert_eq!(
            fixture.error(&fixture.with_claim(claim, value.clone()), NOW),
            SessionError::Token(error),
            "{claim} {value:?}"
        );
    }
}

#[test]
fn line_7_times_are_integers_and_possible() {
    use serde_json::json;
    let fixture = fixture();
    let now = NOW.0;
    for (claim, value, refusal) in [
        ("exp", None, SessionError::Token(TokenError::Malformed)),
        ("exp", Some(json!("soon")), SessionError::Token(TokenError::Malformed)),
        ("exp", Some(json!(1.8e9)), SessionError::Token(TokenError::Malformed)),
        ("exp", Some(json!(-1)), SessionError::Token(TokenError::Malformed)),
        ("exp", Some(json!(u64::MAX)), SessionError::Token(TokenError::ImpossibleTimes)),
        ("exp", Some(json!(now + 3_601)), SessionError::Token(TokenError::ImpossibleTimes)),
        ("exp", Some(json!(now)), SessionError::Token(TokenError::ImpossibleTimes)),
        ("iat", None, SessionError::Token(TokenError::Malformed)),
        ("iat", Some(json!(now + 31)), SessionError::Token(TokenError::ImpossibleTimes)),
        ("auth_time", Some(json!(now + 1)), SessionError::Token(TokenError::ImpossibleTimes)),
        ("session_exp", Some(json!(u64::MAX)), SessionError::Token(TokenError::ImpossibleTimes)),
        ("session_exp", Some(json!(now + 10)), SessionError::Token(TokenError::ImpossibleTimes)),
        ("nbf", Some(json!(now + 1)), SessionError::Token(TokenError::Malformed)),
        ("nbf", Some(json!("x")), SessionError::Token(TokenError::Malformed)),
    ] {
        assert_eq!(fixture.error(&fixture.with_claim(claim, value.clone()), NOW), refusal, "{claim} {value:?}");
    }
}

#[test]
fn line_8_revocation_and_idleness_are_judged_on_every_hit() {
    let fixture = fixture();
    let token = fixture.token();
    let live = fixture.verify(&token, NOW).unwrap();
    fixture.sessions.revocations.end(&live.claims(), NOW);
    assert_eq!(fixture.error(&token, NOW), SessionError::Revoked);
    let token = fixture.token();
    assert!(fixture.verify(&token, NOW).is_ok());
    assert_eq!(fixture.error(&token, NOW + HOUR * 24 + Duration::from_secs(1)), SessionError::Idle);
    assert_eq!(fixture.error(&token, NOW + HOUR * 24 * 7), SessionError::Expired);
}

#[test]
fn line_9_a_verdict_holds_for_one_application_and_one_key_set() {
    let fixture = fixture();
    let token = fixture.token();
    assert!(fixture.verify(&token, NOW).is_ok());
    for other in [
        Settings { audience: "blog".parse().unwrap(), issuer: "https://blog.example.com".into(), ..settings() },
        Settings { audience: "blog".parse().unwrap(), ..settings() },
        Settings { issuer: "https://blog.example.com".into(), ..settings() },
    ] {
        let refused = fixture.sessions.verify(&token, &other, NOW, || unreachable!("no signature is checked")).err();
        assert_eq!(refused, Some(SessionError::Token(TokenError::Foreign)));
    }
    let key = std::fs::read_dir(fixture.directory.path()).unwrap().next().unwrap().unwrap().path();
    std::fs::remove_file(key).unwrap();
    add_key(fixture.directory.path(), "20260201T000000Z");
    assert!(fixture.sessions.keys.replace(load(fixture.directory.path())));
    assert_eq!(
        fixture.error(&token, NOW),
        SessionError::Token(TokenError::UnknownKey),
        "a removed key's tokens are invalid immediately"
    );
}

#[test]
fn the_twin_of_a_signature_is_revoked_with_it() {
    let fixture = fixture();
    let token = fixture.token();
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let bytes = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let twin = format!("{signed}.{}", URL_SAFE_NO_PAD.encode([&bytes[..32], &negated(&bytes[32..])[..]].concat()));
    assert_ne!(twin, token);
    let live = fixture.verify(&twin, NOW).expect("n - s verifies as s does");
    fixture.sessions.revocations.end(&live.claims(), NOW);
    assert_eq!(fixture.error(&token, NOW), SessionError::Revoked);
    assert_eq!(fixture.error(&twin, NOW), SessionError::Revoked);
}

/// n − s for P-256.
fn negated(s: &[u8]) -> Vec<u8> {
    const ORDER: [u8; 32] = [
        0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6,
        0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
    ];
    let mut borrow = 0_i16;
    let mut out = vec![0; 32];
    for at in (0..32).rev() {
        let mut difference = i16::from(ORDER[at]) - i16::from(s[at]) - borrow;
        borrow = i16::from(difference < 0);
        difference += 256 * borrow;
        out[at] = u8::try_from(difference).unwrap();
    }
    out
}

#[test]
fn junk_costs_a_signature_only_within_its_budget_and_only_once() {
    let (fixture, stranger) = (self::fixture(), self::fixture());
    let junk = stranger.signed(&fixture.header(), &serde_json::to_string(&claims(NOW)).unwrap());
    let none_left = || Err(Duration::from_secs(3));
    let refused = fixture.sessions.verify(&junk, &settings(), NOW, none_left).err();
    assert_eq!(refused, Some(SessionError::Busy(Duration::from_secs(3))));
    assert_eq!(fixture.sessions.tokens.verifications.get(), 0);
    for _ in 0..5 {
        assert_eq!(fixture.error(&junk, NOW), SessionError::Token(TokenError::Forged));
    }
    assert_eq!(fixture.sessions.tokens.verifications.get(), 1);
    let token = fixture.token();
    assert!(fixture.verify(&token, NOW).is_ok());
    let known = fixture.sessions.verify(&token, &settings(), NOW, none_left);
    assert!(known.is_ok(), "a cached token needs no budget");
}

#[test]
fn a_session_is_renewed_past_its_tokens_end_and_keeps_its_id() {
    let fixture = fixture();
    let token = fixture.token();
    let late = NOW + Duration::from_secs(901);
    for (now, age) in
        [(NOW, TokenState::Fresh), (NOW + Duration::from_secs(601), TokenState::Expiring), (late, TokenState::Expired)]
    {
        assert_eq!(fixture.verify(&token, now).unwrap().state(), age);
    }
    let live = fixture.verify(&token, late).unwrap();
    let renewed = fixture.sessions.renew(&live, &settings(), late).unwrap();
    let next = fixture.verify(&renewed.token, late).unwrap();
    assert_eq!(next.state(), TokenState::Fresh);
    assert_eq!((&next.claims().sid, next.claims().auth_time), (&live.claims().sid, NOW.0));
    assert_eq!(next.claims().session_exp, live.claims().session_exp, "renewal does not lengthen the session");
    let again = fixture.sessions.renew(&live, &settings(), late).unwrap();
    assert_eq!(again.token, renewed.token, "the requests of one page share one next token");
}

#[test]
fn a_clock_step_neither_revives_nor_panics() {
    let fixture = fixture();
    let token = fixture.token();
    for now in [Timestamp(0), Timestamp(u64::MAX), NOW + HOUR * 24 * 8, NOW - HOUR] {
        assert!(fixture.verify(&token, now).is_err(), "{now:?}");
    }
    assert!(fixture.verify(&token, NOW).is_ok());
}

#[test]
fn a_new_key_verifies_at_once_and_signs_when_others_have_it() {
    let fixture = fixture();
    let first = fixture.kid();
    add_key(fixture.directory.path(), &keys::file_name(NOW).replace(".pem", ""));
    assert!(fixture.sessions.keys.replace(load(fixture.directory.path())));
    assert!(!fixture.sessions.keys.replace(load(fixture.directory.path())), "nothing changed");
    let keys = fixture.sessions.keys.current();
    assert_eq!(keys.keys().len(), 2);
    assert_eq!(keys.jwks()["keys"].as_array().unwrap().len(), 2);
    assert_eq!(keys.signing(NOW + Duration::from_secs(599)).unwrap().kid(), first);
    assert_ne!(keys.signing(NOW + Duration::from_secs(600)).unwrap().kid(), first);
}

#[test]
fn the_published_keys_hold_no_private_part() {
    let fixture = fixture();
    let text = fixture.sessions.keys.current().jwks().to_string();
    assert!(
        text.contains(r#""alg":"ES256""#) && text.contains(r#""use":"sig""#) && text.contains(&fixture.kid()),
        "{text}"
    );
    assert!(!text.contains(r#""d":"#), "{text}");
}

#[test]
fn a_directory_without_real_keys_is_refused_with_every_error() {
    use keys::KeyError;
    let error = |fill: &dyn Fn(&std::path::Path)| {
        let directory = tempfile::tempdir().unwrap();
        fill(directory.path());
        let settings = KeySettings { directory: directory.path().to_owned(), sign_after: Duration::ZERO };
        KeySet::load(&settings).err().unwrap()
    };
    let write =
        |directory: &std::path::Path, name: &str, text: &str| std::fs::write(directory.join(name), text).unwrap();
    assert!(matches!(error(&|_| ())[..], [KeyError::Empty(_)]));
    let gone = error(&|directory| std::fs::remove_dir(directory).unwrap());
    assert!(gone[0].to_string().contains("`wechat-authz keygen "), "{gone:?}");
    let denied = KeyError::File("a.pem".into(), std::io::ErrorKind::PermissionDenied.into()).to_string();
    assert!(denied.ends_with("; give it to the user that runs `serve`: chown -R USER a.pem"), "{denied}");
    assert!(matches!(error(&|d| write(d, "a.pem", ""))[..], [KeyError::NotP256(_)]));
    let p384 =
        "-----BEGIN PRIVATE KEY-----\nMIG2AgEAMBAGByqGSM49AgEGBSuBBAAiBIGeMIGbAgEBBDA=\n-----END PRIVATE KEY-----\n";
    assert!(matches!(error(&|d| write(d, "a.pem", p384))[..], [KeyError::NotP256(_)]));
    let two = error(&|d| {
        write(d, "a.pem", "x");
        write(d, "b.pem", "y");
    });
    assert_eq!(two.len(), 2, "every error, not only the first");
    let same = error(&|d| {
        let key = keys::generate().unwrap();
        write(d, "a.pem", &key);
        write(d, "b.pem", &key);
    });
    assert!(matches!(same[..], [KeyError::Duplicate(_, _)]));
    let example = "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgevZzL1gdAFr88hb2\nOF/2NxApJCzGCEDdfSp6VQO30hyhRANCAAQRWz+jn65BtOMvdyHKcvjBeBSDZH2r\n1RTwjmYSi9R/zpBnuQ4EiMnCqfMPWiZqB4QdbAd0E7oH50VpuZ1P087G\n-----END PRIVATE KEY-----\n";
    assert!(matches!(error(&|d| write(d, "a.pem", example))[..], [KeyError::WellKnown(_)]));
}

#[test]
fn what_is_sealed_opens_after_a_rotation() {
    let fixture = fixture();
    let sealed = fixture.sessions.keys.seal("flow", b"plain", NOW).unwrap();
    add_key(fixture.directory.path(), "20260301T000000Z");
    assert!(fixture.sessions.keys.replace(load(fixture.directory.path())));
    assert_eq!(fixture.sessions.keys.open("flow", &sealed, 1_000).as_deref(), Some(&b"plain"[..]));
    assert_eq!(fixture.sessions.keys.open("flow", &sealed, 10), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_changed_byte_of_a_token_is_accepted(at in 0usize..600, to in any::<u8>()) {
        let fixture = fixture();
        let token = fixture.token();
        let mut bytes = token.clone().into_bytes();
        let at = at % bytes.len();
        bytes[at] = to;
        if let Ok(changed) = String::from_utf8(bytes) && changed != token {
            prop_assert!(fixture.verify(&changed, NOW).is_err(), "{}", changed);
        }
    }

    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,200}") {
        prop_assert!(fixture().verify(&text, NOW).is_err());
    }
}

#[test]
fn a_shorter_lifetime_applies_at_once_and_ends_no_session_early() {
    let fixture = fixture();
    let token = fixture.token();
    let shorter = Settings { token_lifetime: Duration::from_secs(60), lifetime: HOUR, idle: HOUR, ..settings() };
    let at = |now| fixture.sessions.verify(&token, &shorter, now, || Ok(())).map(|live| live.state());
    assert_eq!(at(NOW), Ok(TokenState::Fresh));
    assert_eq!(at(NOW + Duration::from_secs(60)), Ok(TokenState::Expired));
    assert_eq!(at(NOW + HOUR), Err(SessionError::Expired));
}

#[test]
fn an_issued_token_is_known_from_its_first_check_on() {
    let fixture = fixture();
    let token = fixture.token();
    let none_left = || Err(Duration::from_secs(3));
    assert!(
        fixture.sessions.verify(&token, &settings(), NOW, none_left).is_ok(),
        "invalid tokens from a neighbour cannot lock it out"
    );
}

#[test]
fn an_ended_session_is_remembered_no_longer_than_it_could_live() {
    let fixture = fixture();
    let live = fixture.verify(&fixture.token(), NOW).unwrap();
    fixture.sessions.revocations.end(&live.claims(), NOW);
    let over = Timestamp(live.claims().session_exp);
    // The clock of the revocations started at NOW, so only a restart at the session's end removes it.
    let journal = tempfile::tempdir().unwrap();
    let opened = super::journal::Journal::open(journal.path(), NOW).unwrap();
    let kept = Revocations::new(HOUR * 24 * 90, Some(opened), NOW);
    kept.end(&live.claims(), NOW);
    kept.revoke(revocations::Target::App("blog".parse().unwrap()), NOW);
    drop(kept);
    let (_, brought) = super::journal::Journal::open(journal.path(), over).unwrap();
    assert_eq!(brought.len(), 1, "only what lives longer: {brought:?}");
}
