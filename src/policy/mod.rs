//! The policy: host, path, method and client network → requirement.
//!
//! For one path, the first matching rule decides; if none matches, a live session is required. Servers may read a path in
//! several ways: in another letter case, without the last slash, without an extension, and as in [`Readings`]. The
//! strictest requirement of all of them applies.
//!
//! Rules match decoded paths, never the query.

mod audit;
mod network;
mod pattern;
mod tree;

pub use audit::Warning;
pub use network::{Network, NetworkError};
pub use pattern::{PathMatch, PathPattern, PathPrefix, PatternError, Segment};

use crate::decision::Requirement;
use crate::origin::Origin;
use crate::path::{NormalPath, PathError, Readings};
use foldhash::fast::FixedState;
use http::Method;
use ipnet::IpNet;
use std::borrow::Cow;
use std::collections::HashMap;
use std::net::IpAddr;
use tree::{NONE, Names, Node, Segments, Walk};

/// The requirement if no rule matches.
const DEFAULT: &Requirement = &Requirement::Required;

/// The rules in their order, and the trees that find those which a request may match.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    rules: Vec<Rule>,
    /// Rules for any host.
    any_host: Node,
    /// Rules for one host.
    hosts: HashMap<String, Node, FixedState>,
    names: Names,
    /// Rules with client networks.
    with_clients: Vec<usize>,
}

/// One rule. Parts that are absent match everything.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Which hosts.
    pub host: HostMatch,
    /// Which paths.
    pub path: PathMatch,
    /// Which methods; GET stands for HEAD too.
    pub methods: Option<Vec<Method>>,
    /// Which client addresses.
    pub clients: Option<Vec<IpNet>>,
    /// Whether a path may contain encoded slashes and be encoded more than once.
    pub allow_encoded_slashes: bool,
    /// The requirement.
    pub requirement: Requirement,
}

impl Rule {
    /// A rule for `path` at every application, for all methods and clients.
    pub fn new(path: PathMatch, requirement: Requirement) -> Self {
        let host = HostMatch::Applications;
        Self { host, path, methods: None, clients: None, allow_encoded_slashes: false, requirement }
    }

    fn applies_to(&self, method: &Method, contains_client: impl FnOnce(&[IpNet]) -> bool) -> bool {
        self.methods.as_ref().is_none_or(|methods| {
            methods.contains(method) || (method == Method::HEAD && methods.contains(&Method::GET))
        }) && self.clients.as_deref().is_none_or(contains_client)
    }
}

/// The hosts of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostMatch {
    /// The hosts of all applications.
    Applications,
    /// One host: an application's authority, as [`crate::origin::Origin::authority`] gives it.
    One(String),
    /// Any host, even of no application: for health checks by address.
    Any,
}

/// Why a text is not the host of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// `https://shop.example.com`.
    #[error("is more than a host")]
    MoreThanHost,
    /// `*.example.com`.
    #[error("has a wildcard; name each host, or leave `host` out for all")]
    Wildcard,
    /// `shop.example.com:443`.
    #[error("has the port of https, which browsers leave out")]
    DefaultPort,
    /// `Shop.example.com`, `a..b`.
    #[error(
        "is not a host as browsers send it: lower-case letters, digits, dots and hyphens, with its port if it has one"
    )]
    NotAHost,
}

impl std::str::FromStr for HostMatch {
    type Err = HostError;

    /// Reads `*`, or the authority of an origin.
    fn from_str(text: &str) -> Result<Self, HostError> {
        if text == "*" {
            return Ok(Self::Any);
        }
        if text.contains('/') {
            return Err(HostError::MoreThanHost);
        }
        if text.contains('*') {
            return Err(HostError::Wildcard);
        }
        match Origin::parse(&format!("https://{text}")) {
            Ok(origin) if origin.authority() == text => Ok(Self::One(text.to_owned())),
            _ if text.ends_with(":443") => Err(HostError::DefaultPort),
            _ => Err(HostError::NotAHost),
        }
    }
}

impl std::fmt::Display for HostMatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Applications => "",
            Self::One(host) => host,
            Self::Any => "*",
        })
    }
}

impl Policy {
    /// A policy of these rules.
    pub fn new(rules: Vec<Rule>) -> Self {
        let mut policy = Self::default();
        for (number, rule) in rules.iter().enumerate() {
            let start = match &rule.host {
                HostMatch::One(host) => policy.hosts.entry(host.clone()).or_default(),
                HostMatch::Applications | HostMatch::Any => &mut policy.any_host,
            };
            start.insert(&rule.path, number);
            policy.names.insert(&rule.path);
            policy.with_clients.extend(rule.clients.is_some().then_some(number));
        }
        Self { rules, ..policy }
    }

    /// The rules, in their order.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Whether two rules spell one name in two letter cases, or a rule ends with a slash. Then a path has to meet the
    /// requirements of both spellings, whatever the rules' order.
    pub fn has_respelled_names(&self) -> bool {
        self.names.are_respelled()
    }

    /// Whether a rule depends on the client's network. If not, the methods below ignore `client`.
    pub fn depends_on_client(&self) -> bool {
        !self.with_clients.is_empty()
    }

    /// The strictest requirement for a request with `method` to `host` (canonical), over all readings of `path`. `client`
    /// is `None` if the configured source does not name its address.
    ///
    /// # Errors
    /// [`PathError`] if `path` has too many readings, or one of them is refused.
    pub fn requirement(
        &self,
        host: &str,
        path: &NormalPath,
        method: &Method,
        client: Option<IpAddr>,
    ) -> Result<Cow<'_, Requirement>, PathError> {
        self.strictest(host, path, &path.readings()?, method, client)
    }

    /// [`Self::requirement`] for known readings of `path`.
    ///
    /// # Errors
    /// [`PathError::TooManyReadings`].
    pub fn strictest(
        &self,
        host: &str,
        path: &NormalPath,
        readings: &Readings,
        method: &Method,
        client: Option<IpAddr>,
    ) -> Result<Cow<'_, Requirement>, PathError> {
        let at_host = self.hosts.get(host);
        let may_match = self.may_match(client);
        if readings.others().len() == 0 && may_match.is_empty() && !self.may_have_other_spellings(path) {
            let allows = self.allows(method, client, None);
            return Ok(Cow::Borrowed(
                self.exact(at_host, path.as_bytes(), &allows).map_or(DEFAULT, |rule| &rule.requirement),
            ));
        }
        let mut strictest: Option<Cow<Requirement>> = None;
        let roots: Vec<&Node> = [&self.any_host].into_iter().chain(at_host).collect();
        for matches in none_and_each(may_match) {
            self.for_each_reading(&roots, readings, &self.allows(method, client, matches), |rule| {
                let next = rule.map_or(DEFAULT, |rule| &rule.requirement);
                strictest = Some(strictest.take().map_or(Cow::Borrowed(next), |so_far| stricter(so_far, next)));
            })?;
        }
        Ok(strictest.unwrap_or(Cow::Borrowed(DEFAULT)))
    }

    /// Whether rules for any host make the request public in each reading of its path, and no application's rules require
    /// more: the gateway decides which application serves an unknown host.
    pub fn is_public_at_any_host(&self, readings: &Readings, method: &Method, client: Option<IpAddr>) -> bool {
        if !self.rules.iter().any(|rule| rule.host == HostMatch::Any) {
            return false;
        }
        let is_public = |rule: &Rule| rule.requirement == Requirement::Public;
        let is_open = |rule: &Rule| rule.host == HostMatch::Any && is_public(rule);
        let all_are = |roots: &[&Node], is_open: &dyn Fn(&Rule) -> bool| {
            none_and_each(self.may_match(client)).all(|matches| {
                let mut all = true;
                let allows = self.allows(method, client, matches);
                self.for_each_reading(roots, readings, &allows, |rule| all &= rule.is_some_and(is_open)).is_ok() && all
            })
        };
        all_are(&[&self.any_host], &is_open)
            && self.hosts.values().all(|at_host| all_are(&[&self.any_host, at_host], &is_public))
    }

    /// Whether the rule that decides the exact path allows encoded slashes.
    pub fn allows_encoded_slashes(
        &self,
        host: &str,
        path: &NormalPath,
        method: &Method,
        client: Option<IpAddr>,
    ) -> bool {
        let allows = self.allows(method, client, None);
        self.exact(self.hosts.get(host), path.as_bytes(), &allows).is_some_and(|rule| rule.allow_encoded_slashes)
    }

    /// The rules with networks that may or may not match: none if the client's address is known.
    fn may_match(&self, client: Option<IpAddr>) -> &[usize] {
        if client.is_some() { &[] } else { &self.with_clients }
    }

    /// Whether a rule applies to the request. If the client's address is unknown, the only rule with networks that applies
    /// is `matches`: the gateway's address says nothing about its clients.
    fn allows(&self, method: &Method, client: Option<IpAddr>, matches: Option<usize>) -> impl Fn(usize) -> bool {
        move |number| {
            let contains_client = |networks: &[IpNet]| match client {
                Some(address) => networks.iter().any(|network| network.contains(&address.to_canonical())),
                None => matches == Some(number),
            };
            self.rules.get(number).is_some_and(|rule| rule.applies_to(method, contains_client))
        }
    }

    /// The first rule for the exact path.
    fn exact(&self, at_host: Option<&Node>, path: &[u8], allows: &impl Fn(usize) -> bool) -> Option<&Rule> {
        let path = Segments::of(path);
        let mut first = self.any_host.first(path, allows, NONE);
        if let Some(start) = at_host {
            first = start.first(path, allows, first);
        }
        self.rules.get(first)
    }

    /// Whether a rule could match `path` in another letter case, without an extension or with a last slash.
    fn may_have_other_spellings(&self, path: &NormalPath) -> bool {
        !self.rules.is_empty()
            && (path.is_cased()
                || self.names.are_cased
                || self.names.end_with_slash
                || (path.is_dotted() && !self.rule_readings(path.as_bytes()).is_empty()))
    }

    /// Other readings of `path` that count only if a rule matches them and does not match `path`: a rule that opens
    /// `/favicon.ico` says nothing about `/favicon`.
    fn rule_readings<'p>(&self, path: &'p [u8]) -> Vec<Cow<'p, [u8]>> {
        let mut others: Vec<&[u8]> = script(path).map(|(script, info)| vec![script, info]).unwrap_or_default();
        let shorter = |path: &&'p [u8]| self.names.without_extension(path);
        let shorter: Vec<_> = std::iter::once(&path).chain(&others).flat_map(shorter).collect();
        others.extend(shorter);
        let mut others: Vec<Cow<[u8]>> = others.into_iter().map(Cow::Borrowed).collect();
        if self.names.end_with_slash {
            let open = others.iter().map(AsRef::as_ref).chain([path]).filter(|path| !path.ends_with(b"/"));
            let closed: Vec<_> = open.map(|path| Cow::Owned([path, b"/"].concat())).collect();
            others.extend(closed);
        }
        others
    }

    /// Passes the first rule for each spelling of each reading to `visit`; [`None`] if no rule matches.
    fn for_each_reading<'p>(
        &'p self,
        roots: &[&'p Node],
        readings: &Readings,
        allows: &impl Fn(usize) -> bool,
        mut visit: impl FnMut(Option<&'p Rule>),
    ) -> Result<(), PathError> {
        let walk = |path: &[u8]| {
            let mut walk = Walk::new(&self.names, allows, path);
            walk.from(roots, Vec::new(), 0, NONE).map_err(|_| PathError::TooManyReadings)?;
            Ok(walk.found)
        };
        for path in [readings.exact()].into_iter().chain(readings.others()) {
            walk(path)?.into_iter().for_each(|number| visit(self.rules.get(number)));
            for other in self.rule_readings(path) {
                let folded = crate::path::fold::fold(path);
                let rules = walk(&other)?.into_iter().filter_map(|number| self.rules.get(number));
                rules.filter(|rule| !rule.path.folded().matches(&folded)).for_each(|rule| visit(Some(rule)));
            }
        }
        Ok(())
    }
}

/// None of `rules`, then each of them alone. Together they find every rule that may be the first match.
fn none_and_each(rules: &[usize]) -> impl Iterator<Item = Option<usize>> {
    std::iter::once(None).chain(rules.iter().copied().map(Some))
}

/// The requirement that meets both: the stricter one; of two lists, their intersection.
fn stricter<'r>(one: Cow<'r, Requirement>, other: &'r Requirement) -> Cow<'r, Requirement> {
    use Requirement::{Optional, Public, Required, Subjects};
    let rank = |requirement: &Requirement| match requirement {
        Public => 0,
        Optional => 1,
        Required => 2,
        Subjects(_) => 3,
    };
    match (&*one, other) {
        (Subjects(some), Subjects(others)) if some != others => {
            Cow::Owned(Subjects(some.iter().filter(|subject| others.contains(subject)).cloned().collect()))
        }
        (one_of, other) if rank(one_of) >= rank(other) => one,
        _ => Cow::Borrowed(other),
    }
}

/// The script and the rest of a path such as `/index.php/admin`: PHP runs the script, which serves the rest.
fn script(path: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = path.windows(5).position(|window| window.eq_ignore_ascii_case(b".php/"))? + 4;
    path.split_at_checked(end)
}

#[cfg(test)]
mod tests;
