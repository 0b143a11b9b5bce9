//! Patterns for names: exact, or with `*` for any characters.

use rustc_hash::FxHashSet;

/// The longest pattern, in bytes.
pub(super) const PATTERN_LEN_MAX: usize = 512;

/// A set of patterns. Exact names are found by hash, whatever their number.
#[derive(Clone, Debug, Default)]
pub(super) struct Patterns {
    /// Only the owner of the policy adds names, so nobody else can make them collide.
    exact: FxHashSet<Box<str>>,
    globs: Vec<Box<str>>,
}

impl Patterns {
    pub(super) fn add(&mut self, pattern: &str) {
        if pattern.contains('*') {
            self.globs.push(pattern.into());
        } else {
            self.exact.insert(pattern.into());
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.globs.is_empty()
    }

    /// Whether any pattern matches this name.
    pub(super) fn matches(&self, name: &str) -> bool {
        self.exact.contains(name) || self.globs.iter().any(|glob| matches(glob, name))
    }

    /// Whether this name is listed exactly, without `*`.
    pub(super) fn names(&self, name: &str) -> bool {
        self.exact.contains(name)
    }

    /// Whether a single pattern matches every name that `pattern` matches.
    pub(super) fn cover(&self, pattern: &str) -> bool {
        // Only a `*` matches the `*` of `pattern`, so it can stand for itself.
        self.matches(pattern)
    }

    /// Whether any pattern matches a name that `pattern` matches.
    pub(super) fn overlap(&self, pattern: &str) -> bool {
        let exact = if pattern.contains('*') {
            self.exact.iter().any(|own| matches(pattern, own))
        } else {
            self.exact.contains(pattern)
        };
        exact || self.globs.iter().any(|own| overlap(own, pattern))
    }

    /// Whether every pattern of `other` is covered by a single pattern. Unions of patterns are not considered.
    pub(super) fn cover_all(&self, other: &Patterns) -> bool {
        other.all().all(|pattern| self.cover(pattern))
    }

    /// The patterns, exact ones first.
    pub(super) fn all(&self) -> impl Iterator<Item = &str> {
        self.exact.iter().chain(&self.globs).map(|pattern| &**pattern)
    }
}

/// Whether a pattern matches a whole name.
fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let (mut at, mut seen) = (0, 0);
    // The position after the last `*`, and how much of the name it takes.
    let mut star: Option<(usize, usize)> = None;
    while seen < name.len() {
        match pattern.get(at) {
            Some(b'*') => {
                at += 1;
                star = Some((at, seen));
            }
            Some(byte) if *byte == name[seen] => {
                at += 1;
                seen += 1;
            }
            _ => {
                let Some((behind, taken)) = &mut star else { return false };
                *taken += 1;
                (at, seen) = (*behind, *taken);
            }
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

/// Whether there is a name that both patterns match.
fn overlap(one: &str, other: &str) -> bool {
    if !other.contains('*') {
        return matches(one, other);
    }
    let (one, other) = (one.as_bytes(), other.as_bytes());
    // Which prefixes of `other` share a name with the prefix of `one` read so far.
    let mut reached = vec![false; other.len() + 1];
    reached[0] = true;
    for at in 0..other.len() {
        reached[at + 1] = reached[at] && other[at] == b'*';
    }
    let mut next = vec![false; other.len() + 1];
    for byte in one {
        next[0] = reached[0] && *byte == b'*';
        for at in 0..other.len() {
            next[at + 1] = match (*byte, other[at]) {
                (b'*', b'*') => next[at] || reached[at + 1] || reached[at],
                (b'*', _) => next[at] || reached[at + 1],
                (_, b'*') => reached[at + 1] || next[at],
                (byte, other) => byte == other && reached[at],
            };
        }
        std::mem::swap(&mut reached, &mut next);
    }
    reached[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Rng;

    /// A reference implementation, straight from the definition.
    fn slowly(pattern: &[u8], name: &[u8]) -> bool {
        match pattern.split_first() {
            None => name.is_empty(),
            Some((b'*', rest)) => (0..=name.len()).any(|taken| slowly(rest, &name[taken..])),
            Some((byte, rest)) => name.split_first().is_some_and(|(first, name)| first == byte && slowly(rest, name)),
        }
    }

    fn text(rng: &mut Rng, letters: &[u8]) -> String {
        (0..rng.below(7)).map(|_| char::from(letters[rng.below(letters.len() as u64) as usize])).collect()
    }

    #[test]
    fn a_pattern_matches_like_the_reference_definition() {
        let mut rng = Rng::new(5);
        let mut matched = 0;
        for _ in 0..50_000 {
            let (pattern, name) = (text(&mut rng, b"ab*"), text(&mut rng, b"ab"));
            let want = slowly(pattern.as_bytes(), name.as_bytes());
            matched += usize::from(want);
            assert_eq!(matches(&pattern, &name), want, "{pattern} {name}");
            let mut patterns = Patterns::default();
            patterns.add(&pattern);
            assert_eq!(patterns.matches(&name), want, "{pattern} {name}");
        }
        assert!(matched > 5_000);
    }

    #[test]
    fn covering_and_overlapping_patterns_agree_with_matching() {
        let mut rng = Rng::new(6);
        let names: Vec<String> = (0..400).map(|_| text(&mut rng, b"ab")).collect();
        let (mut covered, mut apart) = (0, 0);
        for _ in 0..2_000 {
            let (one, other) = (text(&mut rng, b"ab*"), text(&mut rng, b"ab*"));
            let mut patterns = Patterns::default();
            patterns.add(&one);
            let common = names.iter().any(|name| matches(&one, name) && matches(&other, name));
            assert!(!common || patterns.overlap(&other), "{one} {other}");
            if !patterns.overlap(&other) {
                apart += 1;
            }
            if patterns.cover(&other) {
                covered += 1;
                assert!(names.iter().all(|name| !matches(&other, name) || matches(&one, name)), "{one} {other}");
            }
        }
        assert!(covered > 100 && apart > 100, "{covered} {apart}");
        assert!(overlap("a*b", "*ab") && overlap("file:///*", "file:///docs/*") && !overlap("a*", "b*"));
    }

    #[test]
    fn a_long_name_and_a_pattern_of_stars_take_no_long_time() {
        let pattern = "*a".repeat(PATTERN_LEN_MAX / 2);
        assert!(!matches(&pattern, &format!("{}b", "a".repeat(2_048))));
    }
}
