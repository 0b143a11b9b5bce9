use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use super::host::HostPattern;

/// A set of host patterns, which is cheap to copy: copies share their memory.
#[derive(Clone, Default, Eq)]
pub struct HostSet {
    /// In normal form and in ascending order of their bytes, without repetitions.
    patterns: Arc<[Box<str>]>,
}

impl HostSet {
    /// The set of these patterns; `None` unless all are in normal form and in ascending order of their bytes.
    #[must_use]
    pub fn of_ordered(patterns: &[&str]) -> Option<HostSet> {
        let ascend = patterns.is_sorted_by(|one, next| one < next);
        let is_normal = |text: &str| text.parse().is_ok_and(|pattern: HostPattern| pattern.to_string() == text);
        let is_good = ascend && patterns.iter().all(|text| is_normal(text));
        is_good.then(|| HostSet { patterns: patterns.iter().copied().map(Box::from).collect() })
    }

    /// All patterns, in ascending order of their bytes.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &str> {
        self.patterns.iter().map(|pattern| &**pattern)
    }

    /// The number of patterns.
    #[must_use]
    pub fn len(&self) -> usize {
        self.patterns.len()
    }

    /// Whether there are no patterns.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Whether a route for these patterns serves all hosts that `pattern` matches. `pattern` is a host, or `*.` and a
    /// host, in normal form.
    #[must_use]
    pub fn covers(&self, pattern: &str) -> bool {
        self.patterns.binary_search_by(|own| (**own).cmp(pattern)).is_ok() || self.has_wildcard_of(pattern)
    }

    /// Whether a route for these patterns serves at least one host that `pattern` matches.
    #[must_use]
    pub fn meets(&self, pattern: &str) -> bool {
        let meets_below = |parent| self.iter().any(|own| !is_wildcard(own) && parent_of(own) == Some(parent));
        self.covers(pattern) || (is_wildcard(pattern) && parent_of(pattern).is_some_and(meets_below))
    }

    /// The patterns of this set that `other` does not [meet](HostSet::meets).
    #[must_use]
    pub fn without(&self, other: &HostSet) -> HostSet {
        self.only(|pattern| !other.meets(pattern))
    }

    /// The patterns for which `keep` returns true. If there are none, nothing is allocated.
    #[must_use]
    pub fn only(&self, keep: impl Fn(&str) -> bool) -> HostSet {
        let kept: Vec<Box<str>> = self.iter().filter(|pattern| keep(pattern)).map(Box::from).collect();
        if kept.is_empty() { HostSet::default() } else { HostSet { patterns: kept.into() } }
    }

    /// The first `max` patterns as text for a log line, with `…` for the others.
    #[must_use]
    pub fn listed(&self, max: usize) -> String {
        let mut shown: Vec<&str> = self.iter().take(max).collect();
        if self.len() > max {
            shown.push("…");
        }
        shown.join(", ")
    }

    fn has_wildcard_of(&self, host: &str) -> bool {
        let Some(parent) = parent_of(host).filter(|_| !is_wildcard(host)) else { return false };
        let compare = |own: &str| -> Ordering { own.bytes().cmp(b"*.".iter().copied().chain(parent.bytes())) };
        self.patterns.binary_search_by(|own| compare(own)).is_ok()
    }
}

impl PartialEq for HostSet {
    fn eq(&self, other: &HostSet) -> bool {
        Arc::ptr_eq(&self.patterns, &other.patterns) || self.patterns == other.patterns
    }
}

impl FromIterator<HostPattern> for HostSet {
    fn from_iter<I: IntoIterator<Item = HostPattern>>(patterns: I) -> HostSet {
        let mut patterns: Vec<Box<str>> = patterns.into_iter().map(|pattern| pattern.to_string().into()).collect();
        patterns.sort_unstable();
        patterns.dedup();
        HostSet { patterns: patterns.into() }
    }
}

impl fmt::Debug for HostSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

fn is_wildcard(pattern: &str) -> bool {
    pattern.starts_with("*.")
}

/// The part after the first label, or after the `*`.
fn parent_of(pattern: &str) -> Option<&str> {
    pattern.split_once('.').map(|(_, parent)| parent)
}

#[cfg(test)]
mod tests {
    use super::super::rng::Rng;
    use super::*;

    fn set(patterns: &[&str]) -> HostSet {
        patterns.iter().map(|pattern| pattern.parse::<HostPattern>().unwrap()).collect()
    }

    #[test]
    fn a_wildcard_covers_hosts_of_one_more_label_and_meets_them_either_way() {
        for (own, pattern, covers, meets) in [
            ("a.test", "a.test", true, true),
            ("a.test", "b.test", false, false),
            ("*.a.test", "x.a.test", true, true),
            ("*.a.test", "y.x.a.test", false, false),
            ("*.a.test", "a.test", false, false),
            ("*.a.test", "*.a.test", true, true),
            ("*.test", "*.a.test", false, false),
            ("x.a.test", "*.a.test", false, true),
            ("x.b.test", "*.a.test", false, false),
            ("[::1]", "[::1]", true, true),
        ] {
            let set = set(&["0.test", own, "z.test"]);
            assert_eq!((set.covers(pattern), set.meets(pattern)), (covers, meets), "{own} {pattern}");
        }
    }

    #[test]
    fn missing_hosts_are_named_in_order_and_a_long_list_is_cut() {
        let routes = set(&["c.test", "b.test", "*.d.test", "a.test", "b.test"]);
        assert_eq!(routes.len(), 4);
        let lacking = routes.without(&set(&["b.test", "x.d.test"]));
        assert_eq!(lacking, set(&["a.test", "c.test"]));
        assert_eq!(routes.listed(4), "*.d.test, a.test, b.test, c.test");
        assert_eq!(routes.listed(2), "*.d.test, a.test, …");
        assert!(!lacking.is_empty() && routes.without(&routes.clone()).is_empty());
    }

    #[test]
    fn only_patterns_in_normal_form_and_order_are_a_set() {
        let good = ["*.a.test", "10.0.0.1", "[::1]", "a.test"];
        assert_eq!(HostSet::of_ordered(&good), Some(set(&good)));
        assert_eq!(HostSet::of_ordered(&[]), Some(HostSet::default()));
        for bad in
            [&["b.test", "a.test"][..], &["a.test", "a.test"], &["A.test"], &["a.test."], &["a_b"], &["*"], &[""]]
        {
            assert_eq!(HostSet::of_ordered(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn lookups_agree_with_looking_at_each_pattern() {
        let mut rng = Rng::new(41);
        let mut found = 0;
        let mut draw = |wild: bool| {
            let labels: Vec<&str> = (0..=rng.below(3)).map(|_| ["a", "b", "c"][rng.below(3) as usize]).collect();
            format!("{}{}", if wild && rng.chance(0.4) { "*." } else { "" }, labels.join("."))
        };
        for _ in 0..2_000 {
            let patterns: Vec<HostPattern> = (0..5).map(|_| draw(true).parse().unwrap()).collect();
            let set: HostSet = patterns.iter().copied().collect();
            let host: HostPattern = draw(false).parse().unwrap();
            let covers = patterns.iter().any(|own| *own == host || own.overlaps(&host));
            assert_eq!(set.covers(&host.to_string()), covers, "{host} in {patterns:?}");
            found += usize::from(covers);
            let wild: HostPattern = draw(true).parse().unwrap();
            let meets = patterns.iter().any(|own| *own == wild || own.overlaps(&wild));
            assert_eq!(set.meets(&wild.to_string()), meets, "{wild} in {patterns:?}");
        }
        assert!(found > 100);
    }
}
