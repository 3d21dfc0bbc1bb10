//! Warnings about rules without the effect that they suggest, for `check-config` and the log at start.

use super::{HostMatch, PathMatch, Policy, Rule, Segment, stricter};
use crate::decision::Requirement;
use http::Method;
use std::borrow::Cow;

/// A warning about a valid rule. Rules are numbers in the policy's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Warning {
    /// An earlier rule matches every request that this one matches.
    Shadowed {
        /// The earlier rule.
        by: usize,
    },
    /// An earlier rule has another requirement for the same path in another letter case, or with or without a last slash.
    Respelled {
        /// The earlier rule.
        of: usize,
    },
    /// The same path without its last slash requires more, so this rule has no effect.
    LastSlash,
    /// CONNECT is always refused.
    OnlyConnect,
}

impl Policy {
    /// The warnings about the rules, by their numbers.
    pub fn warnings(&self) -> Vec<(usize, Warning)> {
        let mut warnings = Vec::new();
        for (number, rule) in self.rules.iter().enumerate() {
            let earlier = || self.rules.iter().take(number);
            if rule.methods.as_ref().is_some_and(|methods| methods.iter().all(|method| method == Method::CONNECT)) {
                warnings.push((number, Warning::OnlyConnect));
            } else if let Some(by) = earlier().position(|other| other.covers(rule)) {
                warnings.push((number, Warning::Shadowed { by }));
            } else if let Some(of) = earlier().position(|other| other.is_respelled_by(rule)) {
                warnings.push((number, Warning::Respelled { of }));
            } else if self.has_no_effect_due_to_last_slash(rule) {
                warnings.push((number, Warning::LastSlash));
            }
        }
        warnings
    }

    fn has_no_effect_due_to_last_slash(&self, rule: &Rule) -> bool {
        let PathMatch::Pattern(segments) = &rule.path else { return false };
        if segments.len() < 2 || !ends_with_slash(segments) {
            return false;
        }
        // No name contains a star, so the pattern's text stands for any path that it matches.
        let path = rule.path.to_string();
        let path = path.trim_end_matches('/').as_bytes();
        let method = rule.methods.as_ref().and_then(|methods| methods.first()).unwrap_or(&Method::GET);
        let at_host = match &rule.host {
            HostMatch::One(host) => self.hosts.get(host),
            HostMatch::Applications | HostMatch::Any => None,
        };
        let allows = |number: usize| {
            self.rules.get(number).is_some_and(|other| covers(other.methods.as_ref(), Some(&vec![method.clone()])))
        };
        let without = self.exact(at_host, path, &allows).map_or(&Requirement::Required, |rule| &rule.requirement);
        *stricter(Cow::Borrowed(&rule.requirement), without) != rule.requirement
    }
}

impl Rule {
    /// Whether it matches each request that `other` matches.
    fn covers(&self, other: &Self) -> bool {
        let host = self.host == other.host || !matches!(self.host, HostMatch::One(_));
        host && self.path.covers(&other.path)
            && covers(self.methods.as_ref(), other.methods.as_ref())
            && self.clients.as_ref().is_none_or(|networks| {
                let within = |narrow| networks.iter().any(|wide| wide.contains(narrow));
                other.clients.as_ref().is_some_and(|narrow| narrow.iter().all(within))
            })
    }

    fn is_respelled_by(&self, other: &Self) -> bool {
        let hosts = match (&self.host, &other.host) {
            (HostMatch::One(one), HostMatch::One(other)) => one == other,
            _ => true,
        };
        let methods = match (&self.methods, &other.methods) {
            (Some(some), Some(others)) => some.iter().any(|method| others.contains(method)),
            _ => true,
        };
        hosts
            && methods
            && self.path != other.path
            && self.requirement != other.requirement
            && plain(&self.path) == plain(&other.path)
    }
}

/// Whether `wide` allows each method that `narrow` allows.
fn covers(wide: Option<&Vec<Method>>, narrow: Option<&Vec<Method>>) -> bool {
    wide.is_none_or(|wide| {
        let allowed =
            |method: &Method| wide.contains(method) || (method == Method::HEAD && wide.contains(&Method::GET));
        narrow.is_some_and(|narrow| narrow.iter().all(allowed))
    })
}

/// The path in folded case, without a last slash.
fn plain(path: &PathMatch) -> Vec<Segment> {
    let mut segments = path.folded().segments();
    if segments.len() > 1 && ends_with_slash(&segments) {
        segments.pop();
    }
    segments
}

fn ends_with_slash(segments: &[Segment]) -> bool {
    matches!(segments.last(), Some(Segment::Literal(text)) if text.is_empty())
}
