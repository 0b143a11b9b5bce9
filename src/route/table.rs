use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::name::RouteName;
use super::public_url::PublicUrl;
use crate::base::{
    BreakerOverrides, BreakerTerms, ConcurrencyOverrides, ConcurrencyTerms, DeadlineOverrides, DeadlineTerms,
    GuardMode, HostError, HostPattern, Hostname, SharedMap, Traffic, TunnelId,
};
use crate::identity::RouteAuth;
use crate::policy::ToolPolicy;

/// The most routes in one table.
pub const ROUTES_MAX: usize = 10_000;

/// Where the edge sends the calls for a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The name of the route in metrics and logs.
    pub name: RouteName,
    /// The tunnel whose connector serves it.
    pub tunnel: TunnelId,
    /// How its calls are carried.
    pub traffic: Traffic,
    /// Settings that override those of the edge.
    pub own: RouteOverrides,
}

impl Route {
    /// Whether it has a policy or asks for tokens although the edge cannot read its calls.
    #[must_use]
    pub fn is_beyond_policy(&self) -> bool {
        self.traffic == Traffic::Passthrough && (self.own.policy.is_some() || self.own.auth.is_some())
    }
}

/// The settings of a route that override those of the edge.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteOverrides {
    /// The deadlines of its calls. The ceiling limits how long the upstream may take to begin a response.
    pub deadlines: DeadlineOverrides,
    /// The terms of its circuit breakers.
    pub breaker: BreakerOverrides,
    /// The terms of its concurrency limit.
    pub concurrency: ConcurrencyOverrides,
    /// How long its agents wait for a response if their requests do not say so.
    pub client_timeout: Option<Duration>,
    /// Overrides for single tools.
    pub tools: Arc<[ToolOverrides]>,
    /// The URL by which agents call it.
    pub public: Option<PublicUrl>,
    /// The authentication that it requires of callers; `None` leaves that to the MCP server.
    pub auth: Option<Arc<RouteAuth>>,
    /// Which caller may call which of its tools.
    pub policy: Option<Arc<ToolPolicy>>,
    /// Whether slow calls of its read-only tools get a second try.
    pub hedge: bool,
}

/// The settings of a tool that override those of its route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolOverrides {
    /// The name of the tool.
    pub tool: Box<str>,
    /// The deadlines of its calls.
    pub deadlines: DeadlineOverrides,
    /// The terms of its circuit breaker.
    pub breaker: BreakerOverrides,
    /// The price of a call, in millionths of a unit.
    pub price: u64,
    /// Whether its slow calls get a second try, if it is read-only.
    pub hedge: Option<bool>,
}

impl RouteOverrides {
    /// The price of a call of this tool, in millionths of a unit.
    #[must_use]
    pub fn price(&self, tool: &str) -> u64 {
        self.tools.iter().find(|own| *own.tool == *tool).map_or(0, |own| own.price)
    }

    /// The deadline terms of its calls, or of one tool's. `of_edge` are the defaults.
    #[must_use]
    pub fn terms(&self, of_edge: &DeadlineTerms, tool: Option<&str>) -> DeadlineTerms {
        let terms = of_edge.with(&self.deadlines);
        self.of_tool(tool).map_or(terms, |own| terms.with(&own.deadlines))
    }

    /// The breaker terms of its calls, or of one tool's. `of_edge` are the defaults.
    #[must_use]
    pub fn breaker_terms(&self, of_edge: &BreakerTerms, tool: Option<&str>) -> BreakerTerms {
        let terms = of_edge.with(&self.breaker);
        self.of_tool(tool).map_or(terms, |own| terms.with(&own.breaker))
    }

    /// The concurrency terms of its calls. `of_edge` are the defaults.
    #[must_use]
    pub fn concurrency_terms(&self, of_edge: &ConcurrencyTerms) -> ConcurrencyTerms {
        of_edge.with(&self.concurrency)
    }

    /// Whether slow calls of this tool get a second try, if it is read-only.
    #[must_use]
    pub fn hedges(&self, tool: &str) -> bool {
        self.of_tool(Some(tool)).and_then(|own| own.hedge).unwrap_or(self.hedge)
    }

    /// Whether slow calls of any tool may get a second try.
    #[must_use]
    pub fn may_hedge(&self) -> bool {
        self.hedge || self.tools.iter().any(|own| own.hedge == Some(true))
    }

    fn of_tool(&self, tool: Option<&str>) -> Option<&ToolOverrides> {
        tool.and_then(|tool| self.tools.iter().find(|own| *own.tool == *tool))
    }

    /// Whether a rule needs the MCP method and tool before a call is passed on. If so, the body is read until they are
    /// known, and the call is refused if the body does not state them unambiguously.
    #[must_use]
    pub fn needs_label(&self, of_edge: &DeadlineTerms, breaker: &BreakerTerms) -> bool {
        self.policy.is_some()
            || of_edge.with(&self.deadlines).is_enforced()
            || breaker.with(&self.breaker).is_enforced()
            || self.may_hedge()
            || self.tools.iter().any(ToolOverrides::needs_label)
    }
}

impl ToolOverrides {
    /// Whether the method and tool of its calls must be known before they are passed on.
    #[must_use]
    pub fn needs_label(&self) -> bool {
        self.deadlines.ceiling.is_some() || [self.deadlines.mode, self.breaker.mode].contains(&Some(GuardMode::Enforce))
    }
}

/// One entry of a table to build.
#[derive(Clone, Debug)]
pub struct RouteEntry<T> {
    /// The host, or `*.` and a host for all hosts with exactly one more label.
    pub host: String,
    /// Where the entry comes from, for error messages: `adit.toml: routes[2].host`.
    pub place: String,
    /// The target for requests to this host.
    pub target: T,
}

/// A fault of one entry, and where the entry comes from.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {kind}")]
pub struct RouteFault {
    /// Where the entry comes from.
    pub place: String,
    /// What is wrong with the entry.
    pub kind: RouteFaultKind,
}

/// The kinds of faults of an entry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteFaultKind {
    /// Two entries serve the same host.
    #[error("'{host}' already has a route at {first}; remove one of them")]
    Duplicate {
        /// The host, in normal form.
        host: String,
        /// Where the first entry comes from.
        first: String,
    },
    /// The host is not valid.
    #[error("'{host}' is not a valid host name: {cause}")]
    Host {
        /// The host as it was written.
        host: String,
        /// The rule for host names that it breaks.
        cause: HostError,
    },
    /// There are more than [`ROUTES_MAX`] entries.
    #[error("a table has at most {ROUTES_MAX} routes; use a '*.' host for many of them")]
    TooMany,
}

/// A table that maps hosts to targets.
///
/// An exact host wins over a wildcard; a wildcard matches exactly one label. A clone shares unchanged parts with the
/// original, so a new version of a large table costs only what it changes.
pub struct RouteTable<T> {
    exact: SharedMap<Box<str>, Arc<Row<T>>>,
    wildcard: SharedMap<Box<str>, Arc<Row<T>>>,
    /// The position of the next row.
    next: u64,
}

impl<T> RouteTable<T> {
    /// Builds a table of these routes.
    ///
    /// # Errors
    ///
    /// All faults of all entries, in the order of the entries.
    pub fn new(entries: impl IntoIterator<Item = RouteEntry<T>>) -> Result<RouteTable<T>, Vec<RouteFault>> {
        let mut table = RouteTable::default();
        let mut faults = Vec::new();
        for entry in entries {
            if table.len() == ROUTES_MAX {
                faults.push(RouteFault { place: entry.place, kind: RouteFaultKind::TooMany });
                break;
            }
            faults.extend(table.add(entry).err());
        }
        if faults.is_empty() { Ok(table) } else { Err(faults) }
    }

    /// The target that serves this host.
    #[must_use]
    pub fn lookup(&self, host: &Hostname) -> Option<&T> {
        let exact = self.exact.get(host.as_str());
        let row = exact.or_else(|| self.wildcard.get(host.parent()?))?;
        Some(&row.target)
    }

    /// The target of exactly this pattern.
    #[must_use]
    pub fn get(&self, pattern: &HostPattern) -> Option<&T> {
        let row = match pattern {
            HostPattern::Exact(host) => self.exact.get(host.as_str()),
            HostPattern::Wildcard(parent) => self.wildcard.get(parent.as_str()),
        };
        row.map(|row| &row.target)
    }

    /// Adds a route. Returns false and changes nothing if the pattern is already there, or the table has [`ROUTES_MAX`]
    /// routes.
    pub fn insert(&mut self, pattern: HostPattern, place: &str, target: T) -> bool {
        let free = self.get(&pattern).is_none() && self.len() < ROUTES_MAX;
        if free {
            self.put(Row { pattern, place: place.into(), target, order: self.next });
        }
        free
    }

    /// Removes a pattern, if it is there.
    pub fn remove(&mut self, pattern: &HostPattern) {
        match pattern {
            HostPattern::Exact(host) => self.exact.remove(host.as_str()),
            HostPattern::Wildcard(parent) => self.wildcard.remove(parent.as_str()),
        };
    }

    /// All routes, in the order in which they were added.
    pub fn iter(&self) -> impl Iterator<Item = (&HostPattern, &T)> {
        let mut rows: Vec<&Row<T>> = self.exact.values().chain(self.wildcard.values()).map(|row| &**row).collect();
        rows.sort_unstable_by_key(|row| row.order);
        rows.into_iter().map(|row| (&row.pattern, &row.target))
    }

    /// All targets, in no particular order.
    pub fn targets(&self) -> impl Iterator<Item = &T> {
        self.exact.values().chain(self.wildcard.values()).map(|row| &row.target)
    }

    /// The number of routes.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "nobody asks, and a build without `internals` would say so")]
    pub fn len(&self) -> usize {
        self.exact.len() + self.wildcard.len()
    }

    fn add(&mut self, entry: RouteEntry<T>) -> Result<(), RouteFault> {
        let RouteEntry { host, place, target } = entry;
        let pattern: HostPattern = match host.parse() {
            Ok(pattern) => pattern,
            Err(cause) => return Err(RouteFault { place, kind: RouteFaultKind::Host { host, cause } }),
        };
        let (map, key) = match &pattern {
            HostPattern::Exact(host) => (&self.exact, host),
            HostPattern::Wildcard(parent) => (&self.wildcard, parent),
        };
        if let Some(first) = map.get(key.as_str()) {
            let first = first.place.to_string();
            return Err(RouteFault { place, kind: RouteFaultKind::Duplicate { host: pattern.to_string(), first } });
        }
        self.put(Row { pattern, place: place.into(), target, order: self.next });
        Ok(())
    }

    fn put(&mut self, row: Row<T>) {
        self.next += 1;
        let (map, key) = match &row.pattern {
            HostPattern::Exact(host) => (&mut self.exact, host),
            HostPattern::Wildcard(parent) => (&mut self.wildcard, parent),
        };
        map.insert(key.as_str().into(), Arc::new(row));
    }
}

impl<T> Default for RouteTable<T> {
    fn default() -> RouteTable<T> {
        RouteTable { exact: SharedMap::default(), wildcard: SharedMap::default(), next: 0 }
    }
}

impl<T> Clone for RouteTable<T> {
    fn clone(&self) -> RouteTable<T> {
        RouteTable { exact: self.exact.clone(), wildcard: self.wildcard.clone(), next: self.next }
    }
}

impl<T: fmt::Debug> fmt::Debug for RouteTable<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

struct Row<T> {
    pattern: HostPattern,
    place: Box<str>,
    target: T,
    /// Its position in the order of the table.
    order: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Rng;

    fn table(hosts: &[&str]) -> Result<RouteTable<usize>, Vec<RouteFault>> {
        RouteTable::new(hosts.iter().enumerate().map(|(at, host)| RouteEntry {
            host: (*host).to_owned(),
            place: format!("routes[{at}].host"),
            target: at,
        }))
    }

    fn lookup(table: &RouteTable<usize>, host: &str) -> Option<usize> {
        table.lookup(&Hostname::of_authority(host.as_bytes()).unwrap()).copied()
    }

    #[test]
    fn an_exact_host_goes_before_a_wildcard() {
        let table = table(&["*.example.com", "a.example.com", "example.com", "127.0.0.1", "[::1]"]).unwrap();
        assert_eq!(lookup(&table, "A.example.com.:443"), Some(1));
        assert_eq!(lookup(&table, "b.example.com"), Some(0));
        assert_eq!(lookup(&table, "example.com"), Some(2));
        assert_eq!(lookup(&table, "x.b.example.com"), None);
        assert_eq!(lookup(&table, "other.example"), None);
        assert_eq!(lookup(&table, "127.0.0.1:8080"), Some(3));
        assert_eq!(lookup(&table, "[0::1]:8080"), Some(4));
        assert_eq!(table.iter().count(), 5);
    }

    #[test]
    fn a_changed_copy_leaves_the_original_as_it_was() {
        let old = table(&["a.example", "*.b.example"]).unwrap();
        let mut new = old.clone();
        new.remove(&"a.example".parse().unwrap());
        assert!(new.insert("c.example".parse().unwrap(), "there", 2));
        assert!(!new.insert("*.b.example".parse().unwrap(), "there", 3), "it has a route");
        let hosts = |table: &RouteTable<usize>| table.iter().map(|(host, _)| host.to_string()).collect::<Vec<_>>();
        assert_eq!(
            (hosts(&old), hosts(&new)),
            (vec!["a.example".into(), "*.b.example".into()], vec!["*.b.example".into(), "c.example".into()])
        );
        assert_eq!(
            (lookup(&old, "a.example"), lookup(&new, "a.example"), lookup(&new, "c.example")),
            (Some(0), None, Some(2))
        );
        assert_eq!((old.len(), new.get(&"*.b.example".parse().unwrap())), (2, Some(&1)));
    }

    #[test]
    fn all_faults_are_reported_at_once_and_a_duplicate_with_both_places() {
        let faults = table(&["a.example", "b_c.example", "A.EXAMPLE.", "*.x.example", "*.X.example", "ok.example"]);
        let messages: Vec<String> = faults.unwrap_err().iter().map(ToString::to_string).collect();
        assert_eq!(
            messages,
            [
                "routes[1].host: 'b_c.example' is not a valid host name: a host is made of letters, digits, '-' and '.'",
                "routes[2].host: 'a.example' already has a route at routes[0].host; remove one of them",
                "routes[4].host: '*.x.example' already has a route at routes[3].host; remove one of them",
            ]
        );
    }

    #[test]
    fn a_table_has_its_bound() {
        let entries =
            |n: usize| (0..n).map(|i| RouteEntry { host: format!("h{i}.example"), place: i.to_string(), target: i });
        assert_eq!(RouteTable::new(entries(ROUTES_MAX)).unwrap().iter().count(), ROUTES_MAX);
        let faults = RouteTable::new(entries(ROUTES_MAX + 5)).unwrap_err();
        assert_eq!(faults, [RouteFault { place: ROUTES_MAX.to_string(), kind: RouteFaultKind::TooMany }]);
    }

    #[test]
    fn a_lookup_agrees_with_reading_the_lines_one_by_one() {
        let mut rng = Rng::new(31);
        let mut found = 0;
        for _ in 0..500 {
            let mut host = |depth: u64| -> String {
                let labels: Vec<&str> =
                    (0..=rng.below(depth)).map(|_| ["a", "b", "c"][rng.below(3) as usize]).collect();
                labels.join(".")
            };
            let mut lines: Vec<String> =
                (0..12).map(|i| if i % 2 == 0 { host(3) } else { format!("*.{}", host(3)) }).collect();
            lines.sort();
            lines.dedup();
            let refs: Vec<&str> = lines.iter().map(String::as_str).collect();
            let table = table(&refs).unwrap();
            for _ in 0..40 {
                let host = host(4);
                let exact = refs.iter().position(|line| *line == host);
                let wildcard = || {
                    refs.iter().position(|line| {
                        line.strip_prefix("*.")
                            .is_some_and(|parent| host.split_once('.').is_some_and(|(_, rest)| rest == parent))
                    })
                };
                let want = exact.or_else(wildcard);
                found += usize::from(want.is_some());
                assert_eq!(lookup(&table, &host), want, "{host} in {refs:?}");
            }
        }
        assert!(found > 1_000);
    }
}
