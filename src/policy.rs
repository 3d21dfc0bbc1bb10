//! The policy: host, path and method → what is required. The first rule that matches decides; without one, a live
//! session is required.
//!
//! Rules see the normalised path only, never the query.

use crate::check::Requirement;
use crate::path::NormalPath;
use http::Method;

/// The rules, in their order.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    rules: Vec<Rule>,
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

    fn matches(&self, path: &NormalPath) -> bool {
        match self {
            Self::Any => true,
            Self::Prefix(prefix) => path.is_under(prefix),
            Self::Pattern(pattern) => {
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
        Self { rules }
    }

    /// What is required of a request to `host` (canonical) for `path` by `method`.
    #[must_use]
    pub fn requirement(&self, host: &str, path: &NormalPath, method: &Method) -> &Requirement {
        const DEFAULT: &Requirement = &Requirement::Required;
        self.rules.iter().find(|rule| rule.matches(host, path, method)).map_or(DEFAULT, |rule| &rule.requirement)
    }
}

impl Rule {
    fn matches(&self, host: &str, path: &NormalPath, method: &Method) -> bool {
        self.host.as_deref().is_none_or(|wanted| wanted == host)
            && self.methods.as_ref().is_none_or(|methods| {
                methods.contains(method) || (method == Method::HEAD && methods.contains(&Method::GET))
            })
            && self.path.matches(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Requirement::{Optional, Public, Required};

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
}
