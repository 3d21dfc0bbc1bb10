//! State that is built from one configuration.

use super::error::ServeError;
use super::process::ProcessState;
use super::run::open_files;
use crate::access_token::{self, AccessTokens};
use crate::config::settings::Settings;
use crate::ext_authz::authorize::{AppPolicy, Authorizer};
use crate::login::Login;
use crate::login::once::Once;
use crate::login::return_address_store::ReturnAddresses;
use crate::login::settings::App;
use crate::login_method::LoginMethod;
use crate::rate_limit::{self, Limits};
use crate::routes::Pages;
use crate::routes::rejection::Rejection;
use crate::wechat;
use std::sync::Arc;
use std::time::Duration;

/// State that is built from one configuration. A reload replaces it as a whole.
pub(super) struct AppState {
    pub authorizer: Authorizer,
    pub pages: Pages,
    /// How long a login may wait for WeChat.
    pub longest_login: Duration,
    pub limits: Arc<Limits>,
    pub client: Arc<wechat::Client>,
    access_tokens: Arc<AccessTokens>,
    limit_settings: rate_limit::Settings,
    wechat_settings: wechat::Settings,
}

impl AppState {
    /// Builds the state. Rate limits, breakers and tokens are taken over from `previous` if their settings are the same.
    pub(super) fn new(
        settings: &Settings,
        process: &ProcessState,
        previous: Option<&Self>,
    ) -> Result<Self, ServeError> {
        let metrics = Arc::clone(&process.metrics);
        let limits = match previous.filter(|previous| previous.limit_settings == settings.limits) {
            Some(previous) => Arc::clone(&previous.limits),
            None => {
                // Half of the connections of the pages listener. In-band, fewer pages run at a time.
                let waiting = if settings.pages_in_band { 32 } else { open_files() / 10 };
                Arc::new(Limits::new(&settings.limits).with_waiting(waiting))
            }
        };
        let client = match previous.filter(|previous| previous.wechat_settings == settings.wechat) {
            Some(previous) => Arc::clone(&previous.client),
            None => {
                let calls = Arc::clone(&metrics);
                let observer = move |endpoint, outcome, elapsed| calls.wechat.call(endpoint, outcome, elapsed);
                Arc::new(wechat::Client::new(&settings.wechat, observer)?)
            }
        };
        // A new client starts with an empty cache and takes the tokens from Redis or WeChat.
        let access_tokens = match previous.filter(|previous| Arc::ptr_eq(&previous.client, &client)) {
            Some(previous) => Arc::clone(&previous.access_tokens),
            None => AccessTokens::new(
                Arc::clone(&client),
                process.store.clone(),
                Arc::clone(&process.sealer),
                metrics.access_tokens.clone(),
                process.tasks.clone(),
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
            sessions: Arc::clone(&process.sessions),
            limits: Arc::clone(&limits),
        };
        let asks_subscription = settings.apps.iter().any(|app| app.requires_subscription());
        let longest_login = settings.wechat.longest_login(asks_subscription);
        let login = Login {
            apps: settings.apps.iter().map(|app| (app.origin.authority().to_owned(), Arc::clone(app))).collect(),
            prefix: settings.prefix.clone(),
            wechat: settings.wechat.clone(),
            client: Arc::clone(&client),
            access_tokens: Arc::clone(&access_tokens),
            sessions: Arc::clone(&process.sessions),
            sharing: Arc::clone(&process.sharing),
            once: Once::new(
                Arc::clone(&process.memory.callbacks),
                process.store.clone(),
                Arc::clone(&process.sealer),
                longest_login,
                Arc::clone(&metrics),
            ),
            return_addresses: ReturnAddresses::new(
                Arc::clone(&process.memory.addresses),
                process.store.clone(),
                Arc::clone(&process.sealer),
            ),
            registry: Arc::clone(&process.registry),
            profile_max_age: settings.profile_max_age,
            memory: Arc::clone(&process.memory),
            tasks: process.tasks.clone(),
            limits: Arc::clone(&limits),
            metrics: Arc::clone(&metrics),
        };
        let pages = Pages {
            login: Arc::new(login),
            limits: Arc::clone(&limits),
            client_address: settings.client_address.clone(),
            domain_proofs: settings.domain_proofs.clone(),
            metrics,
            traces: process.traces.clone(),
        };
        for app in &settings.apps {
            let flows = [
                app.official_account.as_ref().map(|_| LoginMethod::OfficialAccount),
                app.website.as_ref().map(|_| LoginMethod::Website),
            ];
            flows.into_iter().flatten().for_each(|flow| process.metrics.create_login_method(&app.name, flow));
            Rejection::ALL
                .iter()
                .for_each(|reason| process.metrics.logins.create_rejection(&app.name, reason.as_str()));
        }
        Ok(Self {
            authorizer,
            pages,
            longest_login,
            limits,
            client,
            access_tokens,
            limit_settings: settings.limits,
            wechat_settings: settings.wechat.clone(),
        })
    }
}
