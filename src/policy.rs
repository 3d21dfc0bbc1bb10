//! The policy: host, path and method → what is required. The first rule that matches decides; without one, a live
//! session is required.
//!
//! Rules see the normalised path only, never the query. They are arranged once, by host and by the segments of their
//! paths, so that a request costs the same under one rule and under a thousand.

use crate::check::Requirement;
use crate::path::NormalPath;
use foldhash::fast::FixedState;
use http::Method;
use std::collections::HashMap;
use std::str::Split;

/// The rules, in their order, and where to find those that a request may match.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    rules: Vec<Rule>,
    /// Rules for any host.
    anywhere: Place,
    /// Rules for one host.
    hosts: HashMap<String, Place, FixedState>,
}

/// A place in the tree of paths, one segment below another: which rules are about it, each by its number in the order.
/// The names in it are the operator's alone, so its hashes need no secret.
#[derive(Clone, Debug, Default)]
struct Place {
    /// About this very path.
    here: Vec<usize>,
    /// About this path and all below.
    below: Vec<usize>,
    /// One segment further, by its name.
    named: HashMap<String, Place, FixedState>,
    /// One segment further, whatever its name.
    any: Option<Box<Place>>,
}

/// One rule. Parts that are absent match everything.
#[derive(Clone, Debug)]
pub struct Rule {
    /// The application's authority, as [`crate::origin::Origin::authority`] gives it.
    pub host: Option<String>,
    /// Which paths.
    pub path: PathMatch,
    /// Which methods; GET stands for HEAD too.
    pub methods: Option<Vec<Method>>,
    /// What is required then.
    pub requirement: Requirement,
}

/// How a rule matches a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathMatch {
    /// Any path.
    Any,
    /// This path and all below it, by whole segments.
    Prefix(String),
    /// Segment by segment.
    Pattern(Vec<Segment>),
}

/// One segment of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment {
    /// This text.
    Literal(String),
    /// `*`: any one segment that is not empty.
    One,
    /// `**`, last only: any number of segments.
    Rest,
}

/// Why a text is refused as a pattern or prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternFault {
    /// Not an absolute, normal path.
    #[error("must be a plain path that starts with `/`, without dot segments, `//`, `;` or percent-encoding")]
    NotNormal,
    /// A star that is not a whole segment.
    #[error("`*` stands for one whole segment and `**` for the rest of the path")]
    PartialStar,
    /// `**` in the middle.
    #[error("`**` can only be the last segment")]
    RestNotLast,
}

impl PathMatch {
    /// A prefix such as `/static`; `/` is [`PathMatch::Any`].
    ///
    /// # Errors
    /// [`PatternFault`].
    pub fn prefix(text: &str) -> Result<Self, PatternFault> {
        normal(text)?;
        let prefix = text.strip_suffix('/').unwrap_or(text);
        Ok(if prefix.is_empty() { Self::Any } else { Self::Prefix(prefix.to_owned()) })
    }

    /// A pattern such as `/users/*/avatar` or `/files/**`.
    ///
    /// # Errors
    /// [`PatternFault`].
    pub fn pattern(text: &str) -> Result<Self, PatternFault> {
        normal(text)?;
        let mut segments = Vec::new();
        for segment in text.split('/').skip(1) {
            if segments.last() == Some(&Segment::Rest) {
                return Err(PatternFault::RestNotLast);
            }
            segments.push(match segment {
                "*" => Segment::One,
                "**" => Segment::Rest,
                literal if literal.contains('*') => return Err(PatternFault::PartialStar),
                literal => Segment::Literal(literal.to_owned()),
            });
        }
        Ok(Self::Pattern(segments))
    }
}

/// What a rule writes must be what a request reads as.
fn normal(text: &str) -> Result<(), PatternFault> {
    let same = NormalPath::parse(text).is_ok_and(|path| path.as_str() == text);
    if same && !text.contains([';', '%']) { Ok(()) } else { Err(PatternFault::NotNormal) }
}

impl Policy {
    /// A policy of these rules.
    #[must_use]
    pub fn new(rules: Vec<Rule>) -> Self {
        let mut policy = Self::default();
        for (number, rule) in rules.iter().enumerate() {
            let start = match &rule.host {
                Some(host) => policy.hosts.entry(host.clone()).or_default(),
                None => &mut policy.anywhere,
            };
            start.take(&rule.path, number);
        }
        Self { rules, ..policy }
    }

    /// The rules, in their order.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// What is required of a request to `host` (canonical) for `path` by `method`.
    #[must_use]
    pub fn requirement(&self, host: &str, path: &NormalPath, method: &Method) -> &Requirement {
        const DEFAULT: &Requirement = &Requirement::Required;
        let allows = |number: usize| self.rules.get(number).is_some_and(|rule| rule.is_about(method));
        let mut segments = path.as_str().split('/');
        // Before the first slash stands nothing.
        segments.next();
        let mut first = self.anywhere.first(segments.clone(), &allows, usize::MAX);
        if let Some(start) = self.hosts.get(host) {
            first = start.first(segments, &allows, first);
        }
        self.rules.get(first).map_or(DEFAULT, |rule| &rule.requirement)
    }
}

impl Rule {
    fn is_about(&self, method: &Method) -> bool {
        self.methods.as_ref().is_none_or(|methods| {
            methods.contains(method) || (method == Method::HEAD && methods.contains(&Method::GET))
        })
    }
}

impl Place {
    /// Takes rule `number` in, whose path is `path`.
    fn take(&mut self, path: &PathMatch, number: usize) {
        match path {
            PathMatch::Any => self.below.push(number),
            PathMatch::Prefix(prefix) => {
                let end = prefix.trim_matches('/').split('/').fold(self, |place, name| place.named(name));
                end.below.push(number);
            }
            PathMatch::Pattern(segments) => {
                let mut place = self;
                for segment in segments {
                    place = match segment {
                        Segment::Literal(name) => place.named(name),
                        Segment::One => place.any.get_or_insert_default(),
                        Segment::Rest => return place.below.push(number),
                    };
                }
                place.here.push(number);
            }
        }
    }

    fn named(&mut self, name: &str) -> &mut Self {
        self.named.entry(name.to_owned()).or_default()
    }

    /// The lowest number of a rule that `segments` lead to from here and that `allows` says yes to; `best` where none
    /// is lower.
    fn first(&self, mut segments: Split<'_, char>, allows: &impl Fn(usize) -> bool, best: usize) -> usize {
        let lowest = |numbers: &[usize], best: usize| {
            numbers.iter().copied().take_while(|number| *number < best).find(|number| allows(*number)).unwrap_or(best)
        };
        let mut best = lowest(&self.below, best);
        match segments.next() {
            None => best = lowest(&self.here, best),
            Some(segment) => {
                if let Some(place) = self.named.get(segment) {
                    best = place.first(segments.clone(), allows, best);
                }
                if let Some(place) = self.any.as_ref().filter(|_| !segment.is_empty()) {
                    best = place.first(segments, allows, best);
                }
            }
        }
        best
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Requirement::{Optional, Public, Required};
    use proptest::prelude::*;

    fn rule(host: Option<&str>, path: PathMatch, methods: Option<&[Method]>, requirement: Requirement) -> Rule {
        Rule { host: host.map(str::to_owned), path, methods: methods.map(<[Method]>::to_vec), requirement }
    }

    fn asks(policy: &Policy, method: Method, host: &str, path: &str) -> Requirement {
        policy.requirement(host, &NormalPath::parse(path).unwrap(), &method).clone()
    }

    #[test]
    fn without_a_rule_a_session_is_required() {
        assert_eq!(asks(&Policy::default(), Method::GET, "shop.example.com", "/"), Required);
    }

    #[test]
    fn the_first_rule_that_matches_decides() {
        let policy = Policy::new(vec![
            rule(None, PathMatch::prefix("/static/private").unwrap(), None, Required),
            rule(Some("shop.example.com"), PathMatch::prefix("/static/").unwrap(), Some(&[Method::GET]), Public),
            rule(None, PathMatch::pattern("/users/*/avatar").unwrap(), None, Optional),
            rule(None, PathMatch::pattern("/open/**").unwrap(), Some(&[Method::OPTIONS]), Public),
        ]);
        for (method, host, path, requirement) in [
            (Method::GET, "shop.example.com", "/static/a.css", Public),
            (Method::HEAD, "shop.example.com", "/static", Public),
            (Method::POST, "shop.example.com", "/static/a.css", Required),
            (Method::GET, "blog.example.com", "/static/a.css", Required),
            (Method::GET, "shop.example.com", "/static/private/a", Required),
            (Method::GET, "shop.example.com", "/staticx", Required),
            (Method::GET, "shop.example.com", "/%73tatic/a.css", Public),
            (Method::GET, "blog.example.com", "/users/7/avatar", Optional),
            (Method::GET, "blog.example.com", "/users/7/avatar/x", Required),
            (Method::GET, "blog.example.com", "/users/avatar", Required),
            (Method::OPTIONS, "blog.example.com", "/open/a/b", Public),
            (Method::OPTIONS, "blog.example.com", "/open", Public),
            (Method::OPTIONS, "blog.example.com", "/opened", Required),
        ] {
            assert_eq!(asks(&policy, method.clone(), host, path), requirement, "{method} {host}{path}");
        }
    }

    #[test]
    fn a_rule_for_all_paths_is_about_every_path() {
        let policy = Policy::new(vec![rule(None, PathMatch::prefix("/").unwrap(), Some(&[Method::GET]), Public)]);
        for (method, requirement) in [(Method::GET, Public), (Method::POST, Required)] {
            for path in ["/", "/a/b", "/%E4%B8%AD"] {
                assert_eq!(asks(&policy, method.clone(), "shop.example.com", path), requirement, "{method} {path}");
            }
        }
    }

    #[test]
    fn a_rule_that_no_request_could_match_is_refused() {
        for bad in ["", "static", "/a/../b", "//a", "/a;b", "/%61", "/a?b=c#d\n"] {
            assert_eq!(PathMatch::prefix(bad), Err(PatternFault::NotNormal), "{bad}");
        }
        assert_eq!(PathMatch::pattern("/a*/b"), Err(PatternFault::PartialStar));
        assert_eq!(PathMatch::pattern("/**/b"), Err(PatternFault::RestNotLast));
        assert_eq!(PathMatch::prefix("/"), Ok(PathMatch::Any));
    }

    /// A rule's plain meaning, by which the arranged ones are judged.
    fn plainly_matches(path_match: &PathMatch, path: &NormalPath) -> bool {
        match path_match {
            PathMatch::Any => true,
            PathMatch::Prefix(prefix) => path.is_under(prefix),
            PathMatch::Pattern(pattern) => {
                let mut segments = path.as_str().split('/').skip(1);
                for expected in pattern {
                    let matches = match (expected, segments.next()) {
                        (Segment::Rest, _) => return true,
                        (Segment::Literal(literal), Some(segment)) => literal == segment,
                        (Segment::One, Some(segment)) => !segment.is_empty(),
                        (_, None) => false,
                    };
                    if !matches {
                        return false;
                    }
                }
                segments.next().is_none()
            }
        }
    }

    fn plainly<'p>(policy: &'p Policy, host: &str, path: &NormalPath, method: &Method) -> &'p Requirement {
        let matches = |rule: &&Rule| {
            rule.host.as_deref().is_none_or(|wanted| wanted == host)
                && rule.is_about(method)
                && plainly_matches(&rule.path, path)
        };
        policy.rules.iter().find(matches).map_or(&Required, |rule| &rule.requirement)
    }

    /// Paths of few words, so that rules and requests often meet; `pattern` puts stars among them.
    fn some_path(pattern: bool) -> impl Strategy<Value = String> {
        let word = if pattern { "a|b|ab|\\*" } else { "a|b|ab|c" };
        let end = if pattern { "|/|/\\*\\*" } else { "|/" };
        (prop::collection::vec(word, 0..4), end).prop_map(|(words, end)| {
            let path: String = words.iter().map(|word| format!("/{word}")).collect();
            if path.is_empty() && end.is_empty() { "/".into() } else { path + &end }
        })
    }

    fn some_rule() -> impl Strategy<Value = Rule> {
        let host = prop::option::of("x|y");
        let path = prop_oneof![
            some_path(false).prop_map(|path| PathMatch::prefix(&path).unwrap()),
            some_path(true).prop_map(|path| PathMatch::pattern(&path).unwrap()),
        ];
        let methods =
            prop::option::of(prop::collection::vec(prop::sample::select(vec![Method::GET, Method::POST]), 1..3));
        (host, path, methods).prop_map(|(host, path, methods)| Rule { host, path, methods, requirement: Required })
    }

    proptest! {
        #[test]
        fn arranged_rules_answer_as_the_first_that_matches_in_their_order(
            mut rules in prop::collection::vec(some_rule(), 0..40),
            requests in prop::collection::vec(
                ("x|y|z", some_path(false), prop::sample::select(vec![Method::GET, Method::HEAD, Method::POST, Method::PUT])),
                1..20,
            ),
        ) {
            for (number, rule) in rules.iter_mut().enumerate() {
                rule.requirement = Requirement::Subjects([number.to_string()].into());
            }
            let policy = Policy::new(rules);
            for (host, path, method) in requests {
                let path = NormalPath::parse(&path).unwrap();
                prop_assert_eq!(policy.requirement(&host, &path, &method), plainly(&policy, &host, &path, &method));
            }
        }
    }
}
