//! A key, a shop and Alice: what unit tests, scenarios, benchmarks and fuzz targets start from.

use crate::clock::Timestamp;
use crate::ext_authz::authorize::AppPolicy;
use crate::login::settings::{App, OfficialAccount, SubjectRule};
use crate::login_method::LoginMethod;
use crate::origin::Origin;
use crate::profile::Profile;
use crate::rate_limit::{self, Rate};
use crate::secret::Secret;
use crate::session::keys::{self, KeyRing, KeySet, KeySettings};
use crate::session::revocations::Revocations;
use crate::session::token::MAX_LIFETIME;
use crate::session::{self, Grant, Sessions};
use crate::telemetry::TokenMetrics;
use crate::wechat::{AppId, Credentials, Scope};
use std::num::NonZeroU32;
use std::path::Path;
use std::time::Duration;

/// The time at which most tests decide.
pub const NOW: Timestamp = Timestamp(1_800_000_000);

/// Alice's subject.
pub const ALICE: &str = "wx:wx0123456789abcdef:oAlice";

/// A directory with a new key, made long before [`NOW`].
pub fn key_directory() -> tempfile::TempDir {
    directory_with_key(&keys::generate().unwrap())
}

/// A directory with this key, made long before [`NOW`].
pub fn directory_with_key(pem: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("20260101T000000Z.pem"), pem).unwrap();
    directory
}

/// The keys of a directory; a new one signs at once.
pub fn load_keys(directory: &Path) -> KeySet {
    let settings = KeySettings { directory: directory.to_owned(), sign_after: Duration::ZERO };
    KeySet::load(&settings).unwrap_or_else(|errors| panic!("{errors:?}"))
}

/// A new key.
pub fn key_ring() -> KeyRing {
    KeyRing::new(load_keys(key_directory().path()))
}

/// No session yet, and no revocation at `now`.
pub fn sessions(keys: KeyRing, now: Timestamp) -> Sessions {
    Sessions::new(keys, Revocations::new(MAX_LIFETIME, None, now), TokenMetrics::default())
}

/// The sessions of an application.
pub fn session_settings(name: &str, origin: &Origin) -> session::Settings {
    session::Settings {
        issuer: origin.as_str().into(),
        audience: name.parse().unwrap(),
        token_lifetime: Duration::from_secs(900),
        lifetime: Duration::from_secs(7 * 86_400),
        idle: Duration::from_secs(86_400),
    }
}

/// Alice, logged in with the Official Account.
pub fn alice() -> Grant {
    Grant {
        subject: ALICE.parse().unwrap(),
        flow: LoginMethod::OfficialAccount,
        appid: "wx0123456789abcdef".into(),
        openid: "oAlice".into(),
        unionid: String::new(),
        profile: Profile::default(),
    }
}

/// `https://shop.example.com`.
pub fn shop() -> App {
    app("shop", "https://shop.example.com")
}

/// An application with an Official Account and a website application.
pub fn app(name: &str, origin: &str) -> App {
    let origin = Origin::parse(origin).unwrap();
    let application = |appid: &str| Credentials {
        appid: AppId::parse(appid).unwrap(),
        secret: Secret::parse("0123456789abcdef0123456789abcdef", 16).unwrap(),
    };
    App {
        name: name.parse().unwrap(),
        title: name.into(),
        session: session_settings(name, &origin),
        origin,
        subject: SubjectRule::Openid,
        official_account: Some(OfficialAccount {
            application: application("wx0123456789abcdef"),
            scope: Scope::Base,
            ask_first: false,
            jssdk: false,
            require_subscription: false,
            name: None,
            follow_qr: None,
        }),
        website: Some(application("wxfedcba9876543210")),
        return_to: Vec::new(),
        allow_encoded_slashes: false,
    }
}

/// An application as a check knows it, with its authority.
pub fn app_policy(app: &App) -> (String, AppPolicy) {
    let App { origin, session, allow_encoded_slashes, .. } = app.clone();
    (origin.authority().to_owned(), AppPolicy { origin, session, allow_encoded_slashes })
}

/// Limits that no test reaches.
pub fn unlimited() -> rate_limit::Settings {
    let rate = Rate { per_minute: NonZeroU32::MAX, burst: NonZeroU32::MAX };
    rate_limit::Settings {
        logins_per_client: rate,
        logins_per_second: NonZeroU32::MAX,
        new_tokens_per_client: rate,
        checks_per_client: Some(rate),
    }
}
