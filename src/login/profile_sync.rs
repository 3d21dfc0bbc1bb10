//! Old profiles are looked after in the background: nobody waits for it, and nobody is logged out by its failure.
//!
//! WeChat tells a profile for the tokens it gave at the login. They are kept in the memory of the instance that logged
//! the person in, and sealed in Redis only where the configuration says so. A profile that another instance has brought
//! up to date is taken from Redis instead. What is new reaches the application with the session's next token.

use super::Login;
use super::settings::App;
use crate::app_name::AppName;
use crate::clock::{self, Timestamp};
use crate::login_method::LoginMethod;
use crate::session::profiles::KnownProfile;
use crate::session::{Claims, RecentSession};
use crate::sessions::events::{Event, Kind};
use crate::sessions::registry::{ProfileRecord, TokensRecord};
use crate::subject::Subject;
use crate::wechat::{Class, Credentials, ExchangeResponse, OpenId, Scope, UnionId, UserInfo, WechatError};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Tokens kept at most; about 500 bytes each.
const MAX_PROFILES: u64 = 20_000;

/// The lifetime of a refresh token (docs/en/wechat.md, Refresh).
const TOKEN_TTL: Duration = Duration::from_secs(30 * 86_400);

/// Who was looked after in vain is left alone for so long.
const RETRY_INTERVAL: Duration = Duration::from_secs(15 * 60);

/// A round ends after so long, at the latest; whoever is left comes with the session's next use.
const ROUND_TIMEOUT: Duration = Duration::from_secs(60);

/// An access token is not used in its last minute.
const MARGIN: Duration = Duration::from_secs(60);

/// WeChat's tokens of those who logged in here.
pub(crate) struct Tokens {
    kept: moka::sync::Cache<(AppName, Subject), Arc<TokensRecord>>,
    tried: moka::sync::Cache<(AppName, Subject), ()>,
    /// One round at a time.
    rounds: tokio::sync::Mutex<()>,
}

impl Default for Tokens {
    fn default() -> Self {
        Self {
            kept: moka::sync::Cache::builder().max_capacity(MAX_PROFILES).time_to_live(TOKEN_TTL).build(),
            tried: moka::sync::Cache::builder().max_capacity(2 * MAX_PROFILES).time_to_live(RETRY_INTERVAL).build(),
            rounds: tokio::sync::Mutex::default(),
        }
    }
}

/// How a look after a profile ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Changed,
    Unchanged,
    /// Another instance had done it.
    Shared,
    /// There is no token to ask with.
    NoToken,
    Failed,
}

impl Outcome {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Changed => "changed",
            Self::Unchanged => "unchanged",
            Self::Shared => "shared",
            Self::NoToken => "no_token",
            Self::Failed => "failed",
        }
    }
}

impl Login {
    /// Keeps what a login brought: the profile, and the tokens to ask for it again.
    pub(super) async fn remember(
        &self,
        app: &App,
        flow: LoginMethod,
        subject: &Subject,
        exchanged: &ExchangeResponse,
        told: &UserInfo,
    ) {
        let now = clock::now();
        if self.take_profile(&app.name, subject, told, exchanged.unionid.as_ref(), now).await {
            self.publish_profile(&app.name, flow, subject, "login", now);
        }
        if let Some(application) = app.application(flow)
            && let Some(tokens) = tokens(application, exchanged, None, now)
        {
            self.keep_tokens(&app.name, subject, tokens);
        }
    }

    /// Forgets the tokens of a person who leaves.
    pub(super) fn forget_tokens(&self, app: &AppName, subject: &Subject) {
        self.memory.tokens.kept.invalidate(&(app.clone(), subject.clone()));
        self.registry.delete_tokens(app, subject);
    }

    /// Looks after the old profiles among those of sessions in use, one after the other.
    pub(crate) async fn refresh_profiles(&self, seen: &[RecentSession]) {
        let Ok(_alone) = self.memory.tokens.rounds.try_lock() else { return };
        let began = Instant::now();
        for seen in seen {
            if began.elapsed() > ROUND_TIMEOUT {
                break;
            }
            let Some(app) = self.apps.values().find(|app| app.name == *seen.application()) else { continue };
            if matches!(app.scope(seen.flow()), Scope::Base) {
                // WeChat tells no profile then.
                continue;
            }
            let claims = seen.claims();
            let key = (claims.aud.clone(), claims.sub.clone());
            if !self.is_old(&claims, clock::now()) || self.memory.tokens.tried.contains_key(&key) {
                continue;
            }
            let outcome = self.refresh_profile(app, &claims).await;
            if matches!(outcome, Outcome::NoToken | Outcome::Failed) {
                self.memory.tokens.tried.insert(key, ());
            }
            self.metrics.logins.profile_refreshed(outcome.as_str());
        }
    }

    fn is_old(&self, claims: &Claims, now: Timestamp) -> bool {
        let known = self.sessions.profiles.last_known(&claims.aud, &claims.sub);
        let told = known.map_or(Timestamp(claims.auth_time), |known| known.at);
        now.since(told) > self.profile_max_age
    }

    async fn refresh_profile(&self, app: &App, claims: &Claims) -> Outcome {
        let (subject, now) = (&claims.sub, clock::now());
        if let Ok(Some(stored)) = self.registry.stored_profile(&app.name, subject).await
            && now.since(stored.at) <= self.profile_max_age
        {
            let known = KnownProfile { profile: stored.profile, at: stored.at };
            self.sessions.profiles.remember(&app.name, subject, known);
            return Outcome::Shared;
        }
        let Some(application) = app.application(claims.flow) else { return Outcome::NoToken };
        let Some(tokens) = self.tokens_of(&app.name, claims).await else { return Outcome::NoToken };
        match self.refresh(app, application, &tokens, subject, now).await {
            Ok(told) => {
                let known = UnionId::parse(&tokens.unionid).ok();
                if self.take_profile(&app.name, subject, &told, known.as_ref(), now).await {
                    self.publish_profile(&app.name, claims.flow, subject, "refresh", now);
                    Outcome::Changed
                } else {
                    Outcome::Unchanged
                }
            }
            Err(error) => {
                tracing::info!(app = app.name.as_str(), %error, "an old profile could not be brought up to date; it stays in use");
                if error.class() == Class::RestartLogin {
                    // No token lives any more: WeChat need not be asked again before the next login.
                    self.forget_tokens(&app.name, subject);
                }
                Outcome::Failed
            }
        }
    }

    async fn tokens_of(&self, app: &AppName, claims: &Claims) -> Option<Arc<TokensRecord>> {
        let tokens = match self.memory.tokens.kept.get(&(app.clone(), claims.sub.clone())) {
            Some(tokens) => tokens,
            None => Arc::new(self.registry.stored_tokens(app, &claims.sub).await.ok()??),
        };
        // A subject by unionid may have logged in by another account since: these tokens are still theirs.
        (tokens.appid == claims.appid && tokens.openid == claims.openid).then_some(tokens)
    }

    async fn refresh(
        &self,
        app: &App,
        application: &Credentials,
        tokens: &TokensRecord,
        subject: &Subject,
        now: Timestamp,
    ) -> Result<UserInfo, WechatError> {
        if let Ok(openid) = OpenId::parse(&tokens.openid)
            && now + MARGIN < tokens.access_until
        {
            let exchanged = ExchangeResponse {
                openid,
                unionid: UnionId::parse(&tokens.unionid).ok(),
                granted: Vec::new(),
                snapshot: false,
                access_token: tokens.access.clone(),
                refresh_token: None,
                expires_in: Duration::ZERO,
            };
            match self.client.userinfo(application, &exchanged).await {
                // Dead before its time; there may be another.
                Err(error) if error.class() == Class::RestartLogin => {}
                told => return told,
            }
        }
        let fresh = self.client.refresh(application, &tokens.refresh).await?;
        let told = self.client.userinfo(application, &fresh).await?;
        if let Some(next) = self::tokens(application, &fresh, Some(tokens), now) {
            self.keep_tokens(&app.name, subject, next);
        }
        Ok(told)
    }

    /// Takes what WeChat told at `at`; whether that is other than what was known.
    async fn take_profile(
        &self,
        app: &AppName,
        subject: &Subject,
        told: &UserInfo,
        known: Option<&UnionId>,
        at: Timestamp,
    ) -> bool {
        let before = match self.sessions.profiles.last_known(app, subject) {
            Some(known) => Some(known.profile.clone()),
            None => self.registry.stored_profile(app, subject).await.ok().flatten().map(|stored| stored.profile),
        };
        let unionid = told.unionid.as_ref().or(known).map(|unionid| unionid.as_str().to_owned()).unwrap_or_default();
        self.sessions.profiles.remember(app, subject, KnownProfile { profile: told.profile.clone(), at });
        self.registry.store_profile(app, subject, &ProfileRecord { profile: told.profile.clone(), unionid, at });
        before.is_some_and(|before| before != told.profile)
    }

    fn publish_profile(
        &self,
        app: &AppName,
        flow: LoginMethod,
        subject: &Subject,
        reason: &'static str,
        now: Timestamp,
    ) {
        self.registry.emit(Event {
            app: Some(app.clone()),
            flow: Some(flow),
            subject: Some(subject.clone()),
            reason,
            ..Event::new(Kind::Profile, now)
        });
    }

    fn keep_tokens(&self, app: &AppName, subject: &Subject, tokens: TokensRecord) {
        self.registry.store_tokens(app, subject, &tokens);
        self.memory.tokens.kept.insert((app.clone(), subject.clone()), Arc::new(tokens));
    }
}

/// What to keep of an exchange or a refresh; a refresh may not repeat what is known from `before`.
fn tokens(
    application: &Credentials,
    exchanged: &ExchangeResponse,
    before: Option<&TokensRecord>,
    now: Timestamp,
) -> Option<TokensRecord> {
    let unionid = exchanged.unionid.as_ref().map(|unionid| unionid.as_str().to_owned());
    Some(TokensRecord {
        appid: application.appid.as_str().to_owned(),
        openid: exchanged.openid.as_str().to_owned(),
        unionid: unionid.or_else(|| before.map(|before| before.unionid.clone())).unwrap_or_default(),
        access: exchanged.access_token.clone(),
        access_until: now + exchanged.expires_in,
        refresh: exchanged.refresh_token.clone().or_else(|| before.map(|before| before.refresh.clone()))?,
    })
}
