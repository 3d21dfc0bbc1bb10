//! What all targets share: two applications, keys generated at start, and the tokens and cookies that inputs refer
//! to.

use http::HeaderMap;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use wechat_authz::testing::clock::Timestamp;
use wechat_authz::testing::decision::Requirement;
use wechat_authz::testing::ext_authz::authorize::Authorizer;
use wechat_authz::testing::fixtures;
pub use wechat_authz::testing::fixtures::{ALICE, NOW};
use wechat_authz::testing::login::settings::App;
use wechat_authz::testing::login_method::LoginMethod;
use wechat_authz::testing::origin::Origin;
use wechat_authz::testing::policy::{PathMatch, Policy, Rule};
use wechat_authz::testing::profile::Profile;
use wechat_authz::testing::rate_limit::{self, Limits};
use wechat_authz::testing::session::keys::{self, KeyRing};
use wechat_authz::testing::session::revocation::Target;
use wechat_authz::testing::session::{Grant, Sessions};
use wechat_authz::testing::telemetry::Metrics;

/// The nickname in the valid tokens.
pub const NICKNAME: &str = "小 明";

/// The prefix of the pages.
pub const PREFIX: &str = "/_wechat";

/// The token of a live session, and the application that accepts it.
pub struct Good {
    /// The token.
    pub token: String,
    /// The id of its session.
    pub sid: String,
    /// The authority of the only application that accepts it.
    pub authority: String,
}

/// The state that every target uses.
pub struct World {
    /// The applications: the shop and the blog.
    pub apps: [App; 2],
    /// The signing key in the format of a key file.
    pub pem: String,
    /// Keys, verified tokens and revocations.
    pub sessions: Arc<Sessions>,
    /// A policy that requires a session everywhere.
    pub strict: Authorizer,
    /// A policy with public and optional paths.
    pub mixed: Authorizer,
    /// The contract of the gateway.
    /// The metrics that count checks.
    pub metrics: Metrics,
    /// Tokens of live sessions.
    pub good: Vec<Good>,
    values: HashMap<&'static str, Vec<u8>>,
}

/// Returns the shared world; the first call creates it.
pub fn world() -> &'static World {
    static WORLD: LazyLock<World> = LazyLock::new(World::new);
    &WORLD
}

impl World {
    /// The value of each name that an input may use.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&[u8]> {
        self.values.get(name).map(Vec::as_slice)
    }

    /// The value of an existing name, as text.
    #[must_use]
    pub fn text(&self, name: &str) -> &str {
        std::str::from_utf8(&self.values[name]).unwrap()
    }

    /// The shop.
    #[must_use]
    pub fn shop(&self) -> &App {
        &self.apps[0]
    }

    /// Decides a check by these rules.
    #[must_use]
    pub fn decider(&self, policy: Policy) -> Authorizer {
        decider(&self.apps, policy, &self.sessions, true)
    }

    fn new() -> Self {
        let apps = [app("shop", "https://shop.example.com"), app("blog", "https://blog.example.com:8443")];
        let pem = keys::generate().unwrap();
        let sessions = Arc::new(sessions(&pem));
        let stranger = self::sessions(&keys::generate().unwrap());
        let [shop, blog] = &apps;
        let begin = |by: &Sessions, app: &App, at: Timestamp| by.begin(grant(), &app.session, at).unwrap();
        let ago = |seconds| NOW - Duration::from_secs(seconds);
        let (alice, ending, other) =
            (begin(&sessions, shop, NOW), begin(&sessions, shop, ago(800)), begin(&sessions, blog, NOW));
        let revoked = begin(&sessions, shop, ago(100));
        let _ = sessions.revocations.revoke(Target::Session(revoked.sid), NOW);
        let mut values: HashMap<&str, Vec<u8>> = HashMap::new();
        let mut name = |name, value: &str| drop(values.insert(name, value.as_bytes().to_vec()));
        name("alice", &alice.token);
        name("ending", &ending.token);
        name("blog", &other.token);
        name("revoked", &revoked.token);
        name("over", &begin(&sessions, shop, ago(8 * 86_400)).token);
        name("idle", &begin(&sessions, shop, ago(2 * 86_400)).token);
        name("stranger", &begin(&stranger, shop, NOW).token);
        let mut segments = alice.token.split('.');
        for segment in ["head", "body", "signature"] {
            name(segment, segments.next().unwrap());
        }
        name("kid", sessions.keys.current().keys()[0].kid());
        for (app, state, sealed, flow) in [
            (shop, "state", "sealed", LoginMethod::Website),
            (blog, "blog_state", "blog_sealed", LoginMethod::OfficialAccount),
        ] {
            let to = format!("{}/a?b=c", app.origin.as_str());
            let begun =
                wechat_authz::testing::login::attempt::begin(app, flow, to, 1, &HeaderMap::new(), &sessions.keys, NOW);
            let begun = begun.unwrap();
            let cookie = begun.cookies.last().unwrap().to_str().unwrap();
            let (cookie, _) = cookie.split_once(';').unwrap();
            let (_, value) = cookie.split_once('=').unwrap();
            name(state, &begun.state);
            name(sealed, value);
        }
        let good = [(&alice, shop), (&ending, shop), (&other, blog)].map(|(issued, app)| Good {
            token: issued.token.clone(),
            sid: issued.sid.to_string(),
            authority: app.origin.authority().to_owned(),
        });
        Self {
            strict: decider(&apps, Policy::default(), &sessions, true),
            mixed: decider(&apps, mixed(), &sessions, false),
            metrics: Metrics::default(),
            good: good.into(),
            apps,
            pem: pem.to_string(),
            sessions,
            values,
        }
    }
}

/// `/static` is public; `/maybe` and `/users/*/avatar` are optional.
fn mixed() -> Policy {
    let rule = Rule::new;
    Policy::new(vec![
        rule(PathMatch::prefix("/static/private").unwrap(), Requirement::Required),
        rule(PathMatch::prefix("/static").unwrap(), Requirement::Public),
        rule(PathMatch::prefix("/maybe").unwrap(), Requirement::Optional),
        rule(PathMatch::pattern("/users/*/avatar").unwrap(), Requirement::Optional),
        rule(PathMatch::prefix("/nobody").unwrap(), Requirement::Subjects([].into())),
    ])
}

fn decider(apps: &[App], policy: Policy, sessions: &Arc<Sessions>, delivers_set_cookie: bool) -> Authorizer {
    let limits = rate_limit::Settings { checks_per_client: None, ..fixtures::unlimited() };
    Authorizer {
        apps: apps.iter().map(fixtures::app_policy).collect(),
        policy,
        prefix: PREFIX.into(),
        delivers_set_cookie,
        // Gateways that drop cookies on success often have no route to the pages either.
        pages_in_band: !delivers_set_cookie,
        client_address: "header:x-auth-client-ip".parse().unwrap(),
        sessions: Arc::clone(sessions),
        limits: Arc::new(Limits::new(&limits)),
    }
}

fn sessions(pem: &str) -> Sessions {
    let directory = fixtures::directory_with_key(pem);
    fixtures::sessions(KeyRing::new(fixtures::load_keys(directory.path())), NOW)
}

/// The subject of the valid tokens.
#[must_use]
pub fn grant() -> Grant {
    let profile = Profile { nickname: NICKNAME.into(), avatar: "https://wx.qlogo.cn/mmopen/0".into() };
    Grant { profile, ..fixtures::alice() }
}

fn app(name: &str, origin: &str) -> App {
    let mut app = fixtures::app(name, origin);
    app.return_to = vec![Origin::parse("https://static.example.com").unwrap()];
    app.official_account.as_mut().unwrap().jssdk = true;
    app
}
