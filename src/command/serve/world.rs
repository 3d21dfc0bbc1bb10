//! What a configuration makes: the check and the pages, replaced whole when it changes.

use super::{Parts, ServeFault};
use crate::check::Flow;
use crate::config::settings::Settings;
use crate::decide::{Decider, Site};
use crate::gateway::Envoy;
use crate::limits::{self, Limits};
use crate::login::Login;
use crate::login::settings::App;
use crate::login::shared::Shared;
use crate::pages::Pages;
use crate::pages::rejection::Rejection;
use crate::wechat::{self, Central, central};
use std::sync::Arc;
use std::time::Duration;

/// What a configuration makes; replaced whole when it changes.
pub(super) struct World {
    pub envoy: Envoy,
    pub decider: Decider,
    pub pages: Pages,
    /// The longest that WeChat may keep a page waiting.
    pub longest_login: Duration,
    pub limits: Arc<Limits>,
    pub client: Arc<wechat::Client>,
    central: Arc<Central>,
    limit_settings: limits::Settings,
    wechat_settings: wechat::Settings,
}

impl World {
    /// What `settings` make. Budgets and breakers go on where their own settings are as `before`.
    pub fn new(settings: &Settings, parts: &Parts, before: Option<&Self>) -> Result<Self, ServeFault> {
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
            None => Central::new(
                Arc::clone(&client),
                parts.store.clone(),
                Arc::clone(&parts.sealer),
                metrics.central.clone(),
                parts.tasks.clone(),
                central::Settings::default(),
            ),
        };
        let site = |app: &Arc<App>| {
            let site = Site {
                origin: app.origin.clone(),
                session: app.session.clone(),
                allow_encoded_slashes: app.allow_encoded_slashes,
            };
            (app.origin.authority().to_owned(), site)
        };
        let decider = Decider {
            sites: settings.apps.iter().map(site).collect(),
            policy: settings.policy.clone(),
            prefix: settings.prefix.clone(),
            delivers_set_cookie: settings.delivers_set_cookie,
            pages_in_band: settings.pages_in_band,
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
            shared: Shared::new(parts.store.clone(), Arc::clone(&parts.sealer), longest_login),
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
                app.official_account.as_ref().map(|_| Flow::OfficialAccount),
                app.website.as_ref().map(|_| Flow::Website),
            ];
            flows.into_iter().flatten().for_each(|flow| parts.metrics.flow(&app.name, flow));
            Rejection::ALL.iter().for_each(|reason| parts.metrics.rejection(&app.name, reason.as_str()));
        }
        let envoy = Envoy { client_address: settings.client_address.clone() };
        Ok(Self {
            envoy,
            decider,
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
