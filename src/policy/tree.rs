//! A tree of the rules by the segments of their paths, so that the cost of a request does not grow with their number.

use super::pattern::{PathMatch, Segment, ends_in};
use crate::path::fold::fold;
use foldhash::fast::FixedState;
use memchr::memchr;
use std::borrow::Cow;
use std::collections::HashMap;

/// Stands for no rule.
pub(super) const NONE: usize = usize::MAX;

/// Steps through the tree for the spellings of one path. A policy needs more only if it names dozens of spellings of one
/// path.
const MAX_STEPS: usize = 512;

/// A node of the tree. Rules are numbers in the policy's order. All names come from the operator, so the hashes need no
/// secret.
#[derive(Clone, Debug, Default)]
pub(super) struct Node {
    /// Rules for exactly this path.
    here: Vec<usize>,
    /// Rules for this path and all below.
    below: Vec<usize>,
    /// Children by their segment.
    named: HashMap<Box<[u8]>, Node, FixedState>,
    /// The child for any segment.
    any: Option<Box<Node>>,
    /// Rules for one more segment with a suffix.
    suffixes: Vec<(String, usize)>,
    /// Rules for any number of further segments, the last with a suffix.
    below_suffixes: Vec<(String, usize)>,
}

impl Node {
    /// Adds rule `number` with `path`.
    pub(super) fn insert(&mut self, path: &PathMatch, number: usize) {
        let mut node = self;
        let segments = path.segments();
        let mut segments = segments.iter();
        while let Some(segment) = segments.next() {
            node = match segment {
                Segment::Literal(name) => node.named.entry(name.as_bytes().into()).or_default(),
                Segment::One => node.any.get_or_insert_default(),
                Segment::Suffix(suffix) => return node.suffixes.push((suffix.clone(), number)),
                Segment::Rest => {
                    return match segments.next() {
                        Some(Segment::Suffix(suffix)) => node.below_suffixes.push((suffix.clone(), number)),
                        _ => node.below.push(number),
                    };
                }
            };
        }
        node.here.push(number);
    }

    /// The lowest number of a rule below this node that matches `path` and that `allows` accepts; `best` if none is lower.
    pub(super) fn first(&self, mut path: Segments<'_>, allows: &impl Fn(usize) -> bool, best: usize) -> usize {
        let mut best = lowest(&self.below, allows, best);
        if !self.below_suffixes.is_empty() {
            let last = path.last();
            best = by_suffix(self.below_suffixes.iter(), last, allows, best);
        }
        match path.next() {
            None => best = lowest(&self.here, allows, best),
            Some(segment) => {
                if let Some(node) = self.named.get(segment) {
                    best = node.first(path, allows, best);
                }
                if let Some(node) = self.any.as_ref().filter(|_| !segment.is_empty()) {
                    best = node.first(path, allows, best);
                }
                if !self.suffixes.is_empty() && path.rest.is_none() {
                    best = by_suffix(self.suffixes.iter(), segment, allows, best);
                }
            }
        }
        best
    }
}

fn lowest(numbers: &[usize], allows: &impl Fn(usize) -> bool, best: usize) -> usize {
    numbers.iter().copied().take_while(|number| *number < best).find(|number| allows(*number)).unwrap_or(best)
}

fn by_suffix<'t>(
    suffixes: impl Iterator<Item = &'t (String, usize)>,
    segment: &[u8],
    allows: &impl Fn(usize) -> bool,
    best: usize,
) -> usize {
    let matching = suffixes.filter(|(suffix, number)| ends_in(segment, suffix) && allows(*number));
    matching.map(|(_, number)| *number).min().unwrap_or(best).min(best)
}

/// The segments of a path.
#[derive(Clone, Copy)]
pub(super) struct Segments<'p> {
    rest: Option<&'p [u8]>,
}

impl<'p> Segments<'p> {
    /// The segments of `path`, which starts with a slash.
    pub(super) fn of(path: &'p [u8]) -> Self {
        Self { rest: path.get(1..) }
    }

    fn last(self) -> &'p [u8] {
        let rest = self.rest.unwrap_or_default();
        rest.rsplit(|byte| *byte == b'/').next().unwrap_or_default()
    }
}

impl<'p> Iterator for Segments<'p> {
    type Item = &'p [u8];

    fn next(&mut self) -> Option<&'p [u8]> {
        let rest = self.rest?;
        match memchr(b'/', rest).and_then(|at| rest.split_at_checked(at)) {
            Some((segment, slash)) => {
                self.rest = slash.get(1..);
                Some(segment)
            }
            None => self.rest.take(),
        }
    }
}

/// A name of a path's segment, decoded.
type Name = Box<[u8]>;

/// The spellings of names in rules, by their case-folded form.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    literals: HashMap<Name, Vec<Name>, FixedState>,
    /// Suffixes as written and case-folded.
    suffixes: Vec<(String, String)>,
    longest: usize,
    /// Whether a name differs from its case-folded form.
    pub(super) are_cased: bool,
    /// Whether a pattern ends with a slash.
    pub(super) end_with_slash: bool,
}

impl Names {
    /// Adds the names in `path`.
    pub(super) fn insert(&mut self, path: &PathMatch) {
        let segments = path.segments();
        self.end_with_slash |=
            segments.len() > 1 && matches!(segments.last(), Some(Segment::Literal(text)) if text.is_empty());
        for segment in segments {
            match segment {
                Segment::Literal(text) => {
                    let folded = fold(text.as_bytes());
                    self.are_cased |= *folded != *text.as_bytes();
                    self.longest = self.longest.max(folded.len());
                    let spellings = self.literals.entry(folded.as_ref().into()).or_default();
                    if !spellings.iter().any(|other| **other == *text.as_bytes()) {
                        spellings.push(text.as_bytes().into());
                    }
                }
                Segment::Suffix(suffix) => {
                    self.are_cased |= suffix.bytes().any(|byte| byte.is_ascii_uppercase());
                    if !self.suffixes.iter().any(|(other, _)| *other == suffix) {
                        let folded = suffix.to_ascii_lowercase();
                        self.suffixes.push((suffix, folded));
                    }
                }
                Segment::One | Segment::Rest => {}
            }
        }
    }

    /// Whether a name occurs in two letter cases, or a pattern ends with a slash.
    pub(super) fn are_respelled(&self) -> bool {
        let cases = |suffix: &str| self.suffixes.iter().filter(|(_, folded)| folded == suffix).count();
        self.end_with_slash
            || self.literals.values().any(|spellings| spellings.len() > 1)
            || self.suffixes.iter().any(|(_, folded)| cases(folded) > 1)
    }

    /// `path` without each extension of its last segment, if a name from a rule remains.
    pub(super) fn without_extension<'p>(&self, path: &'p [u8]) -> Vec<&'p [u8]> {
        let start = path.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
        let segment = path.get(start..).unwrap_or_default();
        let folded = fold(segment);
        let dots = |text: &[u8]| text.iter().enumerate().filter(|(_, byte)| **byte == b'.').map(|(at, _)| at).collect();
        // Only a dot folds to a dot, so both have the same number of dots.
        let (at, at_folded): (Vec<usize>, Vec<usize>) = (dots(segment), dots(&folded));
        let mut suffixes: Vec<&str> = self.suffixes.iter().map(|(_, folded)| folded.as_str()).collect();
        let mut shorter = Vec::new();
        for (at, at_folded) in at.into_iter().zip(at_folded).filter(|(at, _)| *at > 0) {
            let name = folded.get(..at_folded).unwrap_or_default();
            let is_literal = name.len() <= self.longest && self.literals.contains_key(name);
            // One name per suffix is enough: a rule sees only the suffix.
            let before = suffixes.len();
            suffixes.retain(|suffix| !ends_in(name, suffix));
            if is_literal || suffixes.len() < before {
                shorter.extend(path.get(..start + at));
            }
        }
        shorter
    }

    /// The spellings of `segment` in rules, itself first.
    fn spellings<'s>(&'s self, segment: &'s [u8], is_last: bool) -> Vec<Cow<'s, [u8]>> {
        let folded = fold(segment);
        let mut spellings = vec![Cow::Borrowed(segment)];
        let named = self.literals.get(&*folded).into_iter().flatten();
        spellings.extend(named.filter(|name| ***name != *segment).map(|name| Cow::Borrowed(&**name)));
        for (suffix, lower) in self.suffixes.iter().filter(|_| is_last) {
            if ends_in(&folded, lower) && !segment.ends_with(suffix.as_bytes()) {
                // No name contains a star, so only the suffix counts.
                spellings.push(Cow::Owned(format!("*{suffix}").into_bytes()));
            }
        }
        spellings
    }
}

/// A search through the tree over all spellings of a path.
pub(super) struct Walk<'t, A> {
    pub(super) names: &'t Names,
    pub(super) allows: &'t A,
    pub(super) path: Vec<&'t [u8]>,
    steps: usize,
    /// The first rule for each spelling, or [`NONE`].
    pub(super) found: Vec<usize>,
}

/// The search exceeds [`MAX_STEPS`].
pub(super) struct TooManySteps;

impl<'t, A: Fn(usize) -> bool> Walk<'t, A> {
    pub(super) fn new(names: &'t Names, allows: &'t A, path: &'t [u8]) -> Self {
        Self { names, allows, path: Segments::of(path).collect(), steps: 0, found: Vec::new() }
    }

    /// Continues from `nodes`, which the first `at` segments lead to.
    pub(super) fn from(
        &mut self,
        nodes: &[&'t Node],
        mut ends: Vec<&'t (String, usize)>,
        at: usize,
        mut best: usize,
    ) -> Result<(), TooManySteps> {
        self.steps += 1;
        if self.steps > MAX_STEPS {
            return Err(TooManySteps);
        }
        for node in nodes {
            best = lowest(&node.below, self.allows, best);
            ends.extend(&node.below_suffixes);
        }
        let Some(segment) = self.path.get(at).copied() else {
            for node in nodes {
                best = lowest(&node.here, self.allows, best);
            }
            self.found.push(best);
            return Ok(());
        };
        let is_last = at + 1 == self.path.len();
        for (number, spelling) in self.names.spellings(segment, is_last).into_iter().enumerate() {
            let mut next: Vec<&Node> = nodes.iter().filter_map(|node| node.named.get(&*spelling)).collect();
            let is_named = !next.is_empty();
            next.extend(nodes.iter().filter_map(|node| node.any.as_deref()).filter(|_| !segment.is_empty()));
            let mut best = best;
            let mut is_suffixed = false;
            if is_last {
                let suffixes = || nodes.iter().flat_map(|node| &node.suffixes).chain(ends.iter().copied());
                is_suffixed = suffixes().any(|(suffix, _)| ends_in(&spelling, suffix));
                best = by_suffix(suffixes(), &spelling, self.allows, best);
            }
            // A spelling that no rule here contains leads to the same nodes as the segment itself.
            if number > 0 && !is_named && !is_suffixed {
                continue;
            }
            if next.is_empty() && (is_last || ends.is_empty()) {
                self.found.push(best);
            } else {
                self.from(&next, ends.clone(), at + 1, best)?;
            }
        }
        Ok(())
    }
}
