//! The rules by which Envoy passes a request with a valid token without a check (`envoy/fast.yaml`).
//!
//! Each application has an ordered list of steps. The first step whose method and path match decides, as in the policy.
//! A step `ask` matches every plain path that any server could read as a path of its rules: in another letter case,
//! with a trailing slash, with an extension. A step `pass` matches only plain paths that match its rules in every
//! reading. So a request passes without a check only if the policy, for every reading, requires a session of any user
//! or none. All other requests are checked, which is slower but safe.

use crate::decision::Requirement;
use crate::policy::{HostMatch, PathMatch, Policy, Rule, Segment};
use http::Method;
use serde::Serialize;

/// The methods that can pass without a check. All others are checked, and so are these methods in lower case.
pub(crate) const METHODS: [Method; 7] =
    [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS];

/// Any path with only one reading: no `%`, `;` or `//`, and no segment that starts or ends with a dot.
const PLAIN: &str = "/|(?:/SEG)+/?";

/// One segment of a plain path.
const SEGMENT: &str = "[A-Za-z0-9_~!$&'()*+,=:@-](?:[A-Za-z0-9._~!$&'()*+,=:@-]*[A-Za-z0-9_~!$&'()*+,=:@-])?";

/// What Envoy does with a request that has a valid token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    /// Checks it.
    Ask,
    /// Passes it with the token's identity.
    Pass,
}

/// One step of an application's list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Step {
    /// What happens to a matching request.
    pub verdict: Verdict,
    /// The methods; all if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub methods: Option<Vec<String>>,
    /// A regular expression (RE2) that the whole path matches.
    pub path: String,
}

/// A step whose paths are not yet joined into one expression.
struct Draft {
    verdict: Verdict,
    methods: Option<Vec<String>>,
    paths: Vec<String>,
}

/// The steps for the application at `host`. Paths in `asked` are always checked.
///
/// If the policy restricts every path, no step is `pass`.
pub(crate) fn steps(policy: &Policy, host: &str, prefix: &str, asked: &[PathMatch]) -> Vec<Step> {
    let mut drafts: Vec<Draft> = Vec::new();
    let mut add = |verdict, methods: Option<Vec<String>>, path: String| match drafts.last_mut() {
        Some(last) if last.verdict == verdict && last.methods == methods => last.paths.push(path),
        _ => drafts.push(Draft { verdict, methods, paths: vec![path] }),
    };
    // PHP serves the path after the script. That path may be restricted or below the prefix.
    add(Verdict::Ask, None, ".*\\.php/.*".to_owned());
    for path in std::iter::once(&PathMatch::Prefix(prefix.to_owned())).chain(asked) {
        if let Some(path) = widest(path) {
            add(Verdict::Ask, None, path);
        }
    }
    let applies_to_host = |rule: &&Rule| match &rule.host {
        HostMatch::One(other) => other == host,
        HostMatch::Applications | HostMatch::Any => true,
    };
    // If two rules spell one name differently, a path must meet both rules in any order. Then only the last step can
    // pass.
    let can_pass_early = !policy.has_respelled_names();
    for rule in policy.rules().iter().filter(applies_to_host) {
        if passes(rule) {
            if !can_pass_early || rule.clients.is_some() {
                continue;
            }
            let methods = narrowest_methods(rule.methods.as_deref());
            if let Some(path) = narrowest(&rule.path).filter(|_| !methods.is_empty()) {
                add(Verdict::Pass, Some(methods), path);
            }
            continue;
        }
        let methods = rule.methods.as_deref().map(widest_methods);
        let everything = methods.is_none() && is_everything(&rule.path);
        if let Some(path) = widest(&rule.path).filter(|_| methods.as_ref().is_none_or(|methods| !methods.is_empty())) {
            add(Verdict::Ask, methods, path);
        }
        if everything {
            return join(drafts);
        }
    }
    // Drop the `pass` steps at the end: the last step passes their requests as well.
    while drafts.last().is_some_and(|last| last.verdict == Verdict::Pass) {
        drafts.pop();
    }
    let methods = METHODS.map(|method| method.as_str().to_owned()).to_vec();
    drafts.push(Draft { verdict: Verdict::Pass, methods: Some(methods), paths: vec![plain(PLAIN)] });
    join(drafts)
}

fn join(drafts: Vec<Draft>) -> Vec<Step> {
    let step = |Draft { verdict, methods, paths }| {
        let fold = if verdict == Verdict::Ask { "(?i)" } else { "" };
        Step { verdict, methods, path: format!("{fold}(?:{})", paths.join("|")) }
    };
    drafts.into_iter().map(step).collect()
}

/// Whether Envoy may pass requests that match this rule. Not for `public`: a check sends no identity, but Envoy would.
fn passes(rule: &Rule) -> bool {
    match rule.requirement {
        Requirement::Required | Requirement::Optional => true,
        Requirement::Public | Requirement::Subjects(_) => false,
    }
}

fn is_everything(path: &PathMatch) -> bool {
    match path {
        PathMatch::Any => true,
        PathMatch::Prefix(_) => false,
        PathMatch::Pattern(segments) => segments.as_slice() == [Segment::Rest],
    }
}

/// All methods that could match. GET and HEAD count as the same method.
fn widest_methods(methods: &[Method]) -> Vec<String> {
    let get = methods.contains(&Method::GET) || methods.contains(&Method::HEAD);
    let about = |method: &&Method| methods.contains(method) || (get && **method == Method::HEAD);
    let about = |method: &&Method| about(method) || (get && **method == Method::GET);
    METHODS.iter().filter(about).map(|method| method.as_str().to_owned()).collect()
}

fn narrowest_methods(methods: Option<&[Method]>) -> Vec<String> {
    let about = |method: &&Method| {
        methods.is_none_or(|methods| {
            let method = if **method == Method::HEAD { &Method::GET } else { *method };
            methods.contains(method)
        })
    };
    METHODS.iter().filter(about).map(|method| method.as_str().to_owned()).collect()
}

/// A case-insensitive expression for every plain path that a server could read as one of these paths; `None` if no path
/// matches.
fn widest(path: &PathMatch) -> Option<String> {
    const BELOW: &str = "(?:[./].*)?";
    match path {
        PathMatch::Any => Some(".*".to_owned()),
        PathMatch::Prefix(prefix) => Some(folded(prefix)? + BELOW),
        PathMatch::Pattern(segments) => {
            let mut regex = String::new();
            for segment in segments {
                match segment {
                    // Some servers drop the trailing slash.
                    Segment::Literal(text) if text.is_empty() => {}
                    Segment::Literal(text) => regex = regex + "/" + &folded(text)?,
                    Segment::One => regex += "/[^/]+",
                    Segment::Rest if segments.last() == Some(&Segment::Rest) => return Some(regex + BELOW),
                    Segment::Rest => regex += "(?:/.*)?",
                    Segment::Suffix(suffix) => regex = regex + "/[^/]+" + &folded(suffix)?,
                }
            }
            Some(regex + "(?:\\.[^/]*)?/?")
        }
    }
}

/// An expression for the plain paths that match this rule in every reading; `None` if no path does.
fn narrowest(path: &PathMatch) -> Option<String> {
    match path {
        PathMatch::Any => Some(plain(PLAIN)),
        PathMatch::Prefix(prefix) => {
            let segments: Vec<_> = prefix.split('/').skip(1).map(|name| Segment::Literal(name.to_owned())).collect();
            Some(below(&segments)?)
        }
        PathMatch::Pattern(segments) => match segments.as_slice() {
            [] => None,
            [Segment::Rest] => Some(plain(PLAIN)),
            [before @ .., Segment::Rest] => below(before),
            // A server that drops the extension reads another last segment.
            [.., Segment::Literal(last)] if last.is_empty() || last.contains('.') => None,
            [.., Segment::Suffix(_)] => None,
            segments => exactly(segments),
        },
    }
}

/// An expression for the path of these segments and all paths below it.
fn below(segments: &[Segment]) -> Option<String> {
    // A server that drops the extension reads another prefix. Then only the paths below match.
    let extension = matches!(segments.last(), Some(Segment::Literal(last)) if last.contains('.'));
    Some(exactly(segments)? + &plain(if extension { "(?:/SEG)+/?" } else { "(?:/SEG)*/?" }))
}

fn exactly(segments: &[Segment]) -> Option<String> {
    let mut regex = String::new();
    for segment in segments {
        regex.push('/');
        match segment {
            Segment::Literal(text) => {
                let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._~!$&'()*+,=:@-".contains(&byte);
                if text.is_empty() || !text.bytes().all(is_plain) || text.starts_with('.') || text.ends_with('.') {
                    return None;
                }
                text.chars().for_each(|char| escape(char, &mut regex));
            }
            Segment::One => regex += SEGMENT,
            Segment::Rest | Segment::Suffix(_) => return None,
        }
    }
    Some(regex)
}

fn plain(regex: &str) -> String {
    regex.replace("SEG", SEGMENT)
}

/// Escapes a text for a case-insensitive comparison with plain paths; `None` if no plain path contains it.
fn folded(text: &str) -> Option<String> {
    let mut regex = String::new();
    for char in text.chars() {
        if char.is_ascii() {
            escape(char, &mut regex);
        } else if char
            .to_uppercase()
            .flat_map(char::to_lowercase)
            .chain(char.to_lowercase())
            .any(|char| char.is_ascii())
        {
            // Such as `ſ` and `K`, which fold to `s` and `k`.
            regex += "[^/]*";
        } else {
            return None;
        }
    }
    Some(regex)
}

fn escape(char: char, regex: &mut String) {
    if "\\.+*?()|[]{}^$".contains(char) {
        regex.push('\\');
    }
    regex.push(char);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::NormalPath;
    use Requirement::{Optional, Public, Required};
    use proptest::prelude::*;
    use regex::Regex;

    const HOST: &str = "shop.example.com";

    fn only_members() -> Requirement {
        Requirement::Subjects(["wx:union:o1".parse().unwrap()].into())
    }

    fn rule(path: PathMatch, methods: Option<&[Method]>, requirement: Requirement) -> Rule {
        Rule { methods: methods.map(<[Method]>::to_vec), ..Rule::new(path, requirement) }
    }

    fn prefix(text: &str) -> PathMatch {
        PathMatch::prefix(text).unwrap()
    }

    fn pattern(text: &str) -> PathMatch {
        PathMatch::pattern(text).unwrap()
    }

    /// The steps, applied as Envoy applies them.
    struct Envoy(Vec<(Step, Regex)>);

    impl Envoy {
        fn new(policy: &Policy, asked: &[PathMatch]) -> Self {
            let compile = |step: Step| {
                let regex = Regex::new(&format!("^(?:{})$", step.path)).unwrap();
                (step, regex)
            };
            Self(steps(policy, HOST, "/_wechat", asked).into_iter().map(compile).collect())
        }

        fn passes(&self, method: &str, path: &str) -> bool {
            let about = |step: &Step| step.methods.as_ref().is_none_or(|methods| methods.iter().any(|m| m == method));
            let decides = self.0.iter().find(|(step, regex)| about(step) && regex.is_match(path));
            decides.is_some_and(|(step, _)| step.verdict == Verdict::Pass)
        }
    }

    #[test]
    fn without_rules_every_plain_path_passes_and_no_other() {
        let envoy = Envoy::new(&Policy::default(), &[]);
        for path in ["/", "/a", "/a/", "/a/b.html", "/~u/a,b=c@d+e:f!$&'()*/x.y", "/_wechatever", "/a..b"] {
            assert!(envoy.passes("GET", path), "{path}");
            assert!(!envoy.passes("get", path) && !envoy.passes("PROPFIND", path) && !envoy.passes("CONNECT", path));
        }
        for path in [
            "",
            "*",
            "a",
            "//",
            "//a",
            "/a//b",
            "/a//",
            "/a%20b",
            "/%61",
            "/a;b",
            "/.a",
            "/a/.",
            "/a/..",
            "/a./b",
            "/a.",
            "/a\\b",
            "/a#b",
            "/a?b",
            "/a b",
            "/é",
            "/a\u{0}",
            "/_wechat",
            "/_wechat/",
            "/_wechat/login",
            "/_WeChat/login",
            "/_wechat.x",
            "/_wechat./login",
        ] {
            assert!(!envoy.passes("GET", path), "{path}");
        }
    }

    #[test]
    fn every_spelling_of_a_restricted_path_is_asked_about() {
        let policy = Policy::new(vec![
            rule(prefix("/admin"), None, only_members()),
            rule(pattern("/reports/*/secret"), None, only_members()),
            rule(pattern("/users/*/"), None, only_members()),
            rule(pattern("/team/**"), Some(&[Method::POST, Method::DELETE]), only_members()),
            rule(prefix("/read"), Some(&[Method::GET]), only_members()),
            rule(prefix("/\u{17f}ecret"), None, only_members()),
            rule(prefix("/商品"), None, only_members()),
            rule(prefix("/static"), None, Public),
            rule(prefix("/wiki"), None, Optional),
            rule(pattern("/assets/**/*.js"), None, Public),
            Rule {
                clients: Some(vec!["10.0.0.0/8".parse::<crate::policy::Network>().unwrap().0]),
                ..rule(prefix("/office"), None, Required)
            },
            rule(prefix("/office"), None, only_members()),
        ]);
        let envoy = Envoy::new(&policy, &[prefix("/pay")]);
        for (method, path, passes) in [
            ("GET", "/", true),
            ("GET", "/administrator", true),
            ("GET", "/admin", false),
            ("GET", "/Admin/", false),
            ("GET", "/ADMIN/x/y", false),
            ("GET", "/admin.json", false),
            ("GET", "/a/admin", true),
            ("GET", "/reports/7/secret", false),
            ("GET", "/reports/7/secret/", false),
            ("GET", "/Reports/7/SECRET", false),
            ("GET", "/reports/7/secret.json", false),
            ("GET", "/reports/7/secret.tar.gz/", false),
            ("GET", "/reports/7/secrets", true),
            ("GET", "/reports/7/secret/more", true),
            ("GET", "/reports/secret", true),
            ("GET", "/users/7", false),
            ("GET", "/users/7.json", false),
            ("GET", "/users/7/a", true),
            ("GET", "/team", true),
            ("POST", "/team", false),
            ("DELETE", "/Team/a/b", false),
            ("HEAD", "/read/a", false),
            ("POST", "/read/a", true),
            ("GET", "/secret", false),
            ("GET", "/SECRET.json", false),
            ("GET", "/static/a.css", false),
            ("GET", "/wiki/a", true),
            ("GET", "/assets/a/b.JS", false),
            ("GET", "/assets/b.js.map", false),
            ("GET", "/assets/b.css", true),
            ("GET", "/index.php/admin", false),
            ("GET", "/index.PHP/a", false),
            ("GET", "/index.php", true),
            ("GET", "/office/a", false),
            ("GET", "/pay", false),
            ("POST", "/PAY/7", false),
        ] {
            assert_eq!(envoy.passes(method, path), passes, "{method} {path}");
        }
    }

    #[test]
    fn a_rule_before_one_that_restricts_still_counts() {
        let policy = Policy::new(vec![
            rule(prefix("/shop"), None, Required),
            rule(pattern("/v1.2/**"), Some(&[Method::GET]), Required),
            rule(PathMatch::Any, None, only_members()),
        ]);
        let envoy = Envoy::new(&policy, &[]);
        for (method, path, passes) in [
            ("GET", "/shop", true),
            ("GET", "/shop/", true),
            ("GET", "/shop/a.b/c", true),
            ("GET", "/Shop/a", false),
            ("GET", "/shop.json", false),
            ("GET", "/shops", false),
            ("GET", "/", false),
            // Without the extension, the path is `/v1`.
            ("GET", "/v1.2", false),
            ("GET", "/v1.2/", false),
            ("HEAD", "/v1.2/a", true),
            ("POST", "/v1.2/a", false),
        ] {
            assert_eq!(envoy.passes(method, path), passes, "{method} {path}");
        }
    }

    #[test]
    fn nothing_passes_where_every_path_is_restricted() {
        let policy = Policy::new(vec![rule(pattern("/**"), None, only_members()), rule(prefix("/a"), None, Required)]);
        assert!(steps(&policy, HOST, "/_wechat", &[]).iter().all(|step| step.verdict == Verdict::Ask));
        let of_another =
            Rule { host: HostMatch::One("blog.example.com".into()), ..rule(PathMatch::Any, None, only_members()) };
        assert!(Envoy::new(&Policy::new(vec![of_another]), &[]).passes("GET", "/a"));
    }

    /// A path as read by a server that ignores the letter case, the trailing slash, the extension, or several of these.
    fn readings(path: &str) -> Vec<String> {
        let mut all = vec![path.to_owned()];
        let shorter = path.strip_suffix('/').unwrap_or(path).to_owned();
        let (above, last) = shorter.rsplit_once('/').unwrap_or(("", &shorter));
        for (at, _) in last.match_indices('.') {
            all.push(format!("{above}/{}", &last[..at]));
        }
        all.push(shorter);
        all.retain(|path| path.starts_with('/'));
        all
    }

    fn fold(text: &str) -> String {
        text.chars().flat_map(char::to_uppercase).flat_map(char::to_lowercase).collect()
    }

    /// The same rules for servers that ignore the letter case and the trailing slash.
    fn loose(rule: &Rule) -> Rule {
        let segment = |segment: &Segment| match segment {
            Segment::Literal(text) => Segment::Literal(fold(text)),
            other => other.clone(),
        };
        let path = match &rule.path {
            PathMatch::Any => PathMatch::Any,
            PathMatch::Prefix(text) => PathMatch::Prefix(fold(text)),
            PathMatch::Pattern(segments) => {
                let mut segments: Vec<Segment> = segments.iter().map(segment).collect();
                if segments.len() > 1 && segments.last() == Some(&Segment::Literal(String::new())) {
                    segments.pop();
                }
                PathMatch::Pattern(segments)
            }
        };
        Rule { path, ..rule.clone() }
    }

    fn some_path(star: bool) -> impl Strategy<Value = String> {
        let word = if star {
            "a|B|b\\.c|\u{17f}|\u{212a}x|ß|\\*"
        } else {
            "a|A|b|B|b\\.c|B\\.C|b\\.c\\.d|a\\.x|a\\.php|s|S|kx|ss|c"
        };
        let end = if star { "|/|/\\*\\*" } else { "|/" };
        (prop::collection::vec(word, 0..4), end).prop_map(|(words, end)| {
            let path: String = words.iter().map(|word| format!("/{word}")).collect();
            if path.is_empty() && end.is_empty() { "/".into() } else { path + &end }
        })
    }

    fn some_rule() -> impl Strategy<Value = Rule> {
        let path = prop_oneof![
            some_path(true)
                .prop_filter_map("stars", |path| PathMatch::prefix(&path).ok().filter(|_| !path.contains('*'))),
            some_path(true).prop_map(|path| PathMatch::pattern(&path).unwrap()),
            prop::sample::select(vec!["/*.c", "/a/*.x", "/**/*.C", "/a.php/**", "/a.php"]).prop_map(pattern),
        ];
        let methods = vec![Method::GET, Method::HEAD, Method::POST];
        let methods = prop::option::of(prop::collection::vec(prop::sample::select(methods), 1..3));
        let requirement = prop::sample::select(vec![Public, Optional, Required, Required, only_members()]);
        let one = |host: &str| HostMatch::One(host.to_owned());
        let host = prop::sample::select(vec![HostMatch::Applications, one(HOST), one("blog.example.com")]);
        let clients = prop::sample::select(vec![None, None, None, Some("0.0.0.0/0"), Some("10.0.0.0/8")]);
        (host, path, methods, clients, requirement).prop_map(|(host, path, methods, clients, requirement)| Rule {
            host,
            methods,
            clients: clients.map(|network| vec![network.parse::<crate::policy::Network>().unwrap().0]),
            ..Rule::new(path, requirement)
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]
        #[test]
        fn what_passes_unasked_is_allowed_to_any_user_in_every_reading(
            rules in prop::collection::vec(some_rule(), 0..8),
            requests in prop::collection::vec((some_path(false), prop::sample::select(vec!["GET", "HEAD", "POST", "PUT"])), 1..30),
        ) {
            let loose = Policy::new(rules.iter().map(loose).collect());
            let policy = Policy::new(rules);
            let envoy = Envoy::new(&policy, &[]);
            for (path, method) in requests {
                if !envoy.passes(method, &path) {
                    continue;
                }
                let method = method.parse().unwrap();
                for reading in readings(&path) {
                    let folded = fold(&reading);
                    for (policy, path) in [(&policy, &reading), (&loose, &folded)] {
                        let normal = NormalPath::parse(path).unwrap();
                        let client = Some([203, 0, 113, 9].into());
                        let requirement = policy.requirement(HOST, &normal, &method, client).unwrap();
                        prop_assert!(matches!(*requirement, Required | Optional), "{} {} is {:?}", method, path, requirement);
                    }
                }
            }
        }

        #[test]
        fn no_path_that_has_several_readings_passes(path in "[/a-z.%;#?\\\\é ]{0,12}") {
            let passes = Envoy::new(&Policy::default(), &[]).passes("GET", &path);
            let plain = path.starts_with('/') && path.is_ascii() && !path.contains("//")
                && !path.contains(['%', ';', '#', '?', '\\', ' '])
                && !path.contains(".php/")
                && path.split('/').all(|segment| !segment.starts_with('.') && !segment.ends_with('.'));
            prop_assert_eq!(passes, plain, "{}", path);
        }
    }
}
