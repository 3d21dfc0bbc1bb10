//! What a configuration makes: the check and the pages, replaced whole when it changes.

use super::{Runtime, ServeError};
use crate::access_token::{self, AccessTokens};
use crate::config::settings::Settings;
use crate::ext_authz::authorize::{AppPolicy, Authorizer};
use crate::login::Login;
use crate::login::callback_lock::CallbackLock;
use crate::login::settings::App;
use crate::login_method::LoginMethod;
use crate::rate_limit::{self, Limits};
use crate::routes::Pages;
use crate::routes::rejection::Rejection;
use crate::wechat;
use std::sync::Arc;
use std::time::Duration;

/// What a configuration makes; replaced whole when it changes.
pub(super) struct AppState {
    pub authorizer: Authorizer,
    pub pages: Pages,
    /// The longest that WeChat may keep a page waiting.
    pub longest_login: Duration,
    pub limits: Arc<Limits>,
    pub client: Arc<wechat::Client>,
    central: Arc<AccessTokens>,
    limit_settings: rate_limit::Settings,
    wechat_settings: wechat::Settings,
}

impl AppState {
    /// What `settings` make. Budgets and breakers go on where their own settings are as `before`.
    pub(super) fn new(settings: &Settings, parts: &Runtime, before: Option<&Self>) -> Result<Self, ServeError> {
        let metrics = Arc::clone(&parts.metrics);
        let limits = match before.filter(|before| before.limit_settings == settings.limits) {
            Some(before) => Arc::clone(&before.limits),
            None => {
                // Half of the connections that the system's open files leave to the pages; fewer where pages are answered
                // in band, whose places are fewer.
                let places = if settings.pages_in_band { 32 } else { super::open_files() / 10 };
                Arc::new(Limits::new(&settings.limits).with_waiting(places))
            }
        };
        let client = match before.filter(|before| before.wechat_settings == settings.wechat) {
            Some(before) => Arc::clone(&before.client),
            None => {
                let calls = Arc::clone(&metrics);
                let observer = move |endpoint, outcome, elapsed| calls.wechat_call(endpoint, outcome, elapsed);
                Arc::new(wechat::Client::new(&settings.wechat, observer)?)
            }
        };
        // What it remembers goes with its client; the next one finds the same in Redis, or at WeChat.
        let central = match before.filter(|before| Arc::ptr_eq(&before.client, &client)) {
            Some(before) => Arc::clone(&before.central),
            None => AccessTokens::new(
                Arc::clone(&client),
                parts.store.clone(),
                Arc::clone(&parts.sealer),
                metrics.central.clone(),
                parts.tasks.clone(),
                access_token::Settings::default(),
            ),
        };
        let site = |app: &Arc<App>| {
            let site = AppPolicy {
                origin: app.origin.clone(),
                session: app.session.clone(),
                allow_encoded_slashes: app.allow_encoded_slashes,
            };
            (app.origin.authority().to_owned(), site)
        };
        let authorizer = Authorizer {
            apps: settings.apps.iter().map(site).collect(),
            policy: settings.policy.clone(),
            prefix: settings.prefix.clone(),
            delivers_set_cookie: settings.delivers_set_cookie,
            pages_in_band: settings.pages_in_band,
            client_address: settings.client_address.clone(),
            sessions: Arc::clone(&parts.sessions),
            limits: Arc::clone(&limits),
        };
        let asks_subscription = settings.apps.iter().any(|app| app.requires_subscription());
        let longest_login = settings.wechat.longest_login(asks_subscription);
        let login = Login {
            apps: settings.apps.iter().map(|app| (app.origin.authority().to_owned(), Arc::clone(app))).collect(),
            prefix: settings.prefix.clone(),
            wechat: settings.wechat.clone(),
            client: Arc::clone(&client),
            central: Arc::clone(&central),
            sessions: Arc::clone(&parts.sessions),
            sharing: Arc::clone(&parts.sharing),
            shared: CallbackLock::new(parts.store.clone(), Arc::clone(&parts.sealer), longest_login),
            registry: Arc::clone(&parts.registry),
            profile_max_age: settings.profile_max_age,
            memory: Arc::clone(&parts.memory),
            tasks: parts.tasks.clone(),
            limits: Arc::clone(&limits),
            metrics: Arc::clone(&metrics),
        };
        let pages = Pages {
            login: Arc::new(login),
            limits: Arc::clone(&limits),
            client_address: settings.client_address.clone(),
            domain_proofs: settings.domain_proofs.clone(),
            metrics,
            traces: parts.traces.clone(),
        };
        for app in &settings.apps {
            let flows = [
                app.official_account.as_ref().map(|_| LoginMethod::OfficialAccount),
                app.website.as_ref().map(|_| LoginMethod::Website),
            ];
            flows.into_iter().flatten().for_each(|flow| parts.metrics.flow(&app.name, flow));
            Rejection::ALL.iter().for_each(|reason| parts.metrics.rejection(&app.name, reason.as_str()));
        }
        Ok(Self {
            authorizer,
            pages,
            longest_login,
            limits,
            client,
            central,
            limit_settings: settings.limits,
            wechat_settings: settings.wechat.clone(),
        })
    }
}
