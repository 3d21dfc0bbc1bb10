//! Refreshes old profiles in the background. A failure ends no session.
//!
//! A call for a profile needs the tokens of the login. The instance that completed the login has them in memory. Redis
//! stores them, sealed, only if this is configured. If another instance has refreshed a profile, it is read from Redis.
//! The application receives the new profile with the next token of the session.

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

/// The maximum number of users whose tokens are in memory. Each takes about 500 bytes.
const MAX_PROFILES: u64 = 20_000;

/// The lifetime of a refresh token (docs/en/wechat.md, Refresh).
const TOKEN_TTL: Duration = Duration::from_secs(30 * 86_400);

/// The time before a failed refresh is retried.
const RETRY_INTERVAL: Duration = Duration::from_secs(15 * 60);

/// The maximum duration of a round. The remaining profiles are refreshed when their sessions are used again.
const ROUND_TIMEOUT: Duration = Duration::from_secs(60);

/// An access token is not used in the last minute before it expires.
const MARGIN: Duration = Duration::from_secs(60);

/// WeChat's tokens of the users who logged in at this instance.
pub(crate) struct Tokens {
    kept: moka::sync::Cache<(AppName, Subject), Arc<TokensRecord>>,
    tried: moka::sync::Cache<(AppName, Subject), ()>,
    /// Locked during a round.
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

/// The result of a refresh, for the metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Changed,
    Unchanged,
    /// Another instance has refreshed the profile.
    Shared,
    /// No token is available for the call.
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
    /// Stores the profile and the tokens of a login.
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

    /// Deletes the tokens of a user who logs out.
    pub(super) fn forget_tokens(&self, app: &AppName, subject: &Subject) {
        self.memory.tokens.kept.invalidate(&(app.clone(), subject.clone()));
        self.registry.delete_tokens(app, subject);
    }

    /// Refreshes the old profiles of recently used sessions, one after the other.
    pub(crate) async fn refresh_profiles(&self, seen: &[RecentSession]) {
        let Ok(_alone) = self.memory.tokens.rounds.try_lock() else { return };
        let began = Instant::now();
        for seen in seen {
            if began.elapsed() > ROUND_TIMEOUT {
                break;
            }
            let Some(app) = self.apps.values().find(|app| app.name == *seen.application()) else { continue };
            if matches!(app.scope(seen.flow()), Scope::Base) {
                // This scope does not permit calls for profiles.
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
                tracing::info!(app = app.name.as_str(), %error, "profile refresh failed, the old profile stays in use");
                if error.class() == Class::RestartLogin {
                    // The tokens are invalid. The next login brings new ones.
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
        // A user with a unionid may have logged in with another AppID since. Then these tokens are of another openid.
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
                // The token is already invalid: refresh it.
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

    /// Stores a profile from WeChat. Returns whether it differs from the last known one.
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

/// The tokens of an exchange or a refresh. A response to a refresh may omit values, which come from `before`.
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
