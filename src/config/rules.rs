//! The rules that tie settings to each other. Each is a function over the whole configuration.

use super::file::{Access, App, Config, Rule};
use super::report::Report;
use crate::login::settings::SubjectRule;
use crate::origin::{Origin, is_loopback};
use crate::policy::{HostMatch, PathMatch, Policy, Warning};
use crate::server::Address;
use crate::wechat::Scope;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use url::Host;

const RULES: &[fn(&Config, &mut Report)] = &[
    listeners_have_different_addresses,
    admin_listener_is_local,
    redis_has_one_address,
    client_certificates_have_a_key,
    client_certificates_need_tls,
    proxy_credentials_have_a_proxy,
    app_names_are_unique,
    app_hosts_are_unique,
    apps_have_a_login_method,
    appids_differ,
    session_times_fit,
    no_page_needs_a_200_in_band,
    rules_name_hosts_of_apps,
    rules_have_one_path,
    rules_are_outside_the_prefix,
    subjects_require_a_session,
    any_host_is_public_with_a_path,
    open_rules_are_narrow,
    unionids_come_with_userinfo,
    wechat_returns_to_origins,
    policy_rules_apply,
];

/// Reports each contradiction.
pub(super) fn check(config: &Config, report: &mut Report) {
    for rule in RULES {
        rule(config, report);
    }
}

fn apps(config: &Config) -> impl Iterator<Item = (String, &App)> {
    config.apps.iter().enumerate().map(|(n, app)| (format!("apps[{n}]"), app))
}

fn rules(config: &Config) -> impl Iterator<Item = (String, &Rule)> {
    config.policy.iter().enumerate().map(|(n, rule)| (format!("policy[{n}]"), rule))
}

/// Calls `report` with each item whose key an earlier item has, and with that item.
fn repeated<T: Clone, K: Eq + Hash>(items: impl Iterator<Item = (T, K)>, mut report: impl FnMut(T, T)) {
    let mut seen: HashMap<K, T> = HashMap::new();
    for (item, key) in items {
        match seen.entry(key) {
            Entry::Occupied(first) => report(item, first.get().clone()),
            Entry::Vacant(place) => drop(place.insert(item)),
        }
    }
}

fn listeners_have_different_addresses(config: &Config, report: &mut Report) {
    let listen = &config.listen;
    let mut listeners = vec![
        ("listen.check", listen.check.to_string()),
        ("listen.pages", listen.pages.to_string()),
        ("listen.ops", listen.ops.to_string()),
    ];
    listeners.extend(config.admin.as_ref().map(|admin| ("admin.listen", admin.listen.to_string())));
    let fixed = listeners.into_iter().filter(|(_, address)| !address.ends_with(":0"));
    repeated(fixed, |path, other| {
        report.error(path, format!("found the same address as {other}"), "give each listener its own address");
    });
}

fn admin_listener_is_local(config: &Config, report: &mut Report) {
    if let Some(Address::Tcp(address)) = config.admin.as_ref().map(|admin| &admin.listen)
        && !address.ip().is_loopback()
    {
        let wanted = "listen on 127.0.0.1, [::1] or a socket: other machines must not reach this listener";
        report.error("admin.listen", format!("found {address}, which other machines can reach"), wanted);
    }
}

fn redis_has_one_address(config: &Config, report: &mut Report) {
    let Some(redis) = &config.redis else { return };
    let forms =
        [("url", redis.url.is_some()), ("sentinel", redis.sentinel.is_some()), ("cluster", redis.cluster.is_some())];
    let found: Vec<&str> = forms.into_iter().filter(|(_, is_set)| *is_set).map(|(name, _)| name).collect();
    if found.len() != 1 {
        let found = if found.is_empty() { "no address".to_owned() } else { found.join(" and ") };
        report.error("redis", format!("found {found}"), "write exactly one of url, sentinel and cluster");
    }
}

fn client_certificates_have_a_key(config: &Config, report: &mut Report) {
    let Some(redis) = &config.redis else { return };
    match (&redis.client_certificate_file, &redis.client_key_file) {
        (Some(_), None) => {
            let found = "found a certificate without its key";
            report.error("redis.client_certificate_file", found, "write client_key_file as well");
        }
        (None, Some(_)) => {
            let found = "found a key without its certificate";
            report.error("redis.client_key_file", found, "write client_certificate_file as well");
        }
        _ => {}
    }
}

fn client_certificates_need_tls(config: &Config, report: &mut Report) {
    let Some(redis) = &config.redis else { return };
    let tls = redis.tls || redis.url.as_ref().is_some_and(|url| url.tls);
    if redis.client_certificate_file.is_some() && !tls {
        let found = "found a client certificate without TLS";
        report.error("redis.client_certificate_file", found, "write tls: true, or a rediss:// URL");
    }
}

fn proxy_credentials_have_a_proxy(config: &Config, report: &mut Report) {
    if config.wechat.proxy_credentials_file.is_some() && config.wechat.proxy.is_none() {
        let path = "wechat.proxy_credentials_file";
        report.error(path, "found credentials without a proxy", "write wechat.proxy as well");
    }
}

fn app_names_are_unique(config: &Config, report: &mut Report) {
    repeated(apps(config).map(|(at, app)| (at, &app.name)), |at, _| {
        let wanted = "give each application its own name";
        report.error(&format!("{at}.name"), "found the name of an earlier application", wanted);
    });
}

fn app_hosts_are_unique(config: &Config, report: &mut Report) {
    repeated(apps(config).map(|(at, app)| (at, app.origin.authority())), |at, _| {
        let wanted = "give each application its own host; for several paths of one host, write policy rules";
        report.error(&format!("{at}.origin"), "found the host of an earlier application", wanted);
    });
}

fn apps_have_a_login_method(config: &Config, report: &mut Report) {
    for (at, app) in apps(config) {
        if app.official_account.is_none() && app.website.is_none() {
            report.error(&at, "found no way to log in", "add official_account, website, or both");
        }
    }
}

fn appids_differ(config: &Config, report: &mut Report) {
    for (at, app) in apps(config) {
        if let (Some(account), Some(website)) = (&app.official_account, &app.website)
            && account.appid == website.appid
        {
            let wanted = "an Official Account and a website application have different AppIDs: take this one from open.weixin.qq.com";
            report.error(&format!("{at}.website.appid"), "found the AppID of the Official Account", wanted);
        }
    }
}

fn session_times_fit(config: &Config, report: &mut Report) {
    for (at, app) in apps(config) {
        let session = &app.session;
        if session.token_lifetime > session.lifetime {
            let found = format!("found {}, longer than the session's {}", session.token_lifetime, session.lifetime);
            report.error(&format!("{at}.session.token_lifetime"), found, "make it shorter than session.lifetime");
        }
        if session.idle < session.token_lifetime {
            let found = format!("found {}, shorter than a token's {}", session.idle, session.token_lifetime);
            let wanted = "make it longer than session.token_lifetime, or nobody stays logged in";
            report.error(&format!("{at}.session.idle"), found, wanted);
        }
    }
}

/// A 200 at the check listener means that the request may pass, so that no page can be a 200 there.
fn no_page_needs_a_200_in_band(config: &Config, report: &mut Report) {
    const FOUND: &str = "which is answered 200, and no page is with gateway.pages_in_band";
    for (at, app) in apps(config).filter(|_| config.gateway.pages_in_band) {
        if let Some(proof) = app.domain_proofs.first() {
            let wanted = "remove it, let the application serve the file, and write a rule with access: public for it";
            report.error(&format!("{at}.domain_proofs"), format!("found {proof}, {FOUND}"), wanted);
        }
        if app.official_account.as_ref().is_some_and(|account| account.jssdk) {
            let wanted = "write jssdk: false, or have the gateway route the prefix to listen.pages";
            report.error(&format!("{at}.official_account.jssdk"), format!("found true, {FOUND}"), wanted);
        }
    }
}

fn rules_name_hosts_of_apps(config: &Config, report: &mut Report) {
    let hosts: Vec<&str> = config.apps.iter().map(|app| app.origin.authority()).collect();
    for (at, rule) in rules(config) {
        if let Some(HostMatch::One(host)) = &rule.host
            && !hosts.contains(&host.as_str())
        {
            let found = format!("found `{host}`, which is not the host of an application");
            report.error(
                &format!("{at}.host"),
                found,
                format!("write the host of an application: {}", hosts.join(", ")),
            );
        }
    }
}

fn rules_have_one_path(config: &Config, report: &mut Report) {
    for (at, rule) in rules(config) {
        if rule.path_prefix.is_some() && rule.path_pattern.is_some() {
            report.error(&at, "found both path_prefix and path_pattern", "write one of them");
        }
    }
}

fn rules_are_outside_the_prefix(config: &Config, report: &mut Report) {
    let pages = PathMatch::Prefix(config.prefix.to_string()).folded();
    for (at, rule) in rules(config) {
        let path = rule.path();
        if pages.covers(&path.folded()) {
            let key = if rule.path_prefix.is_some() { "path_prefix" } else { "path_pattern" };
            let wanted = "remove this rule: the policy does not apply to the pages";
            report.error(&format!("{at}.{key}"), format!("found `{path}`, which is below the pages' prefix"), wanted);
        }
    }
}

fn subjects_require_a_session(config: &Config, report: &mut Report) {
    for (at, rule) in rules(config) {
        if rule.subjects.is_some() && rule.access != Access::Required {
            let wanted = "write access: required, or remove subjects, which has no effect with other access";
            report.error(&format!("{at}.subjects"), "found subjects without access: required", wanted);
        }
    }
}

fn any_host_is_public_with_a_path(config: &Config, report: &mut Report) {
    for (at, rule) in rules(config) {
        if rule.host == Some(HostMatch::Any) && (rule.access != Access::Public || rule.path() == PathMatch::Any) {
            let wanted = "write access: public and a path, or name the host of an application";
            report.error(&format!("{at}.host"), "found `*` without access: public and a path", wanted);
        }
    }
}

fn open_rules_are_narrow(config: &Config, report: &mut Report) {
    for (at, rule) in rules(config) {
        let is_narrow =
            rule.host.is_some() || rule.path() != PathMatch::Any || rule.methods.is_some() || rule.clients.is_some();
        if rule.access != Access::Required && !is_narrow {
            let wanted = "write a path, host or methods; to open everything, write path_pattern: /**";
            report.error(&format!("{at}.access"), "found a rule that opens everything", wanted);
        }
    }
}

fn unionids_come_with_userinfo(config: &Config, report: &mut Report) {
    for (at, app) in apps(config) {
        let is_silent = app.official_account.as_ref().is_some_and(|account| account.scope == Scope::Base);
        if app.subject == SubjectRule::Unionid && is_silent {
            let found = "found snsapi_base with subject: unionid; WeChat promises no unionid then, and a login without one fails";
            report.warn(&format!("{at}.official_account.scope"), found, "write scope: snsapi_userinfo");
        }
    }
}

/// WeChat returns to domain names on the ports 80 and 443. A simulator on this machine returns to others, too.
fn wechat_returns_to_origins(config: &Config, report: &mut Report) {
    let problem = |origin: &Origin| {
        let url = origin.to_url();
        match (url.host()?, url.port_or_known_default()) {
            (host, _) if is_loopback(&host) => None,
            (Host::Ipv4(_) | Host::Ipv6(_), _) => Some("found an IP address, to which WeChat does not return"),
            (Host::Domain(_), Some(80 | 443)) => None,
            _ => Some("found a port to which WeChat does not return"),
        }
    };
    for (at, app) in apps(config) {
        if let Some(found) = problem(&app.origin) {
            report.warn(&format!("{at}.origin"), found, "use a domain name and https without a port");
        }
    }
}

fn policy_rules_apply(config: &Config, report: &mut Report) {
    let policy = Policy::new(config.policy.iter().map(Rule::resolve).collect());
    for (number, warning) in policy.warnings() {
        let (found, wanted) = match warning {
            Warning::Shadowed { by } => (
                format!("found a rule that never applies, because policy[{by}] matches first"),
                format!("move it before policy[{by}], or remove it"),
            ),
            Warning::Respelled { of } => (
                format!("found the path of policy[{of}] in another spelling, with another requirement"),
                "write one rule: many servers treat both alike, so a request must meet the stricter requirement".to_owned(),
            ),
            Warning::LastSlash => (
                "found a last slash; the same path without it requires more".to_owned(),
                "write the path without the slash, or path_prefix: many servers treat both alike, so a request must meet \
                 the stricter requirement"
                    .to_owned(),
            ),
            Warning::OnlyConnect => {
                ("found no method but CONNECT".to_owned(), "remove it: CONNECT is always refused".to_owned())
            }
        };
        report.warn(&format!("policy[{number}]"), found, wanted);
    }
}
