use std::collections::HashMap;
use std::fmt;

use super::host::{HostError, HostPattern, Hostname};
use super::name::RouteName;
use crate::base::{Traffic, TunnelId};

/// The most routes in one table.
pub const ROUTES_MAX: usize = 10_000;

/// Where the edge sends the calls for a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// How the route is called in metrics and logs.
    pub name: RouteName,
    /// The tunnel whose connector serves it.
    pub tunnel: TunnelId,
    /// How its calls are carried.
    pub traffic: Traffic,
}

/// One line of a table that is to be built.
#[derive(Clone, Debug)]
pub struct RouteEntry<T> {
    /// The host, or `*.` and a host: any with one label more.
    pub host: String,
    /// Where this was said, for the report of a fault: `adit.toml: routes[2].host`.
    pub place: String,
    /// What serves it.
    pub target: T,
}

/// What is wrong with one line, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {kind}")]
pub struct RouteFault {
    /// Where the line stands.
    pub place: String,
    /// What is wrong with it.
    pub kind: RouteFaultKind,
}

/// What is wrong with one line of a table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteFaultKind {
    /// Two lines serve the same host.
    #[error("'{host}' already has a route at {first}; remove one of them")]
    Duplicate {
        /// The host, in normal form.
        host: String,
        /// Where the first line stands.
        first: String,
    },
    /// The host is malformed.
    #[error("'{host}' is no host: {cause}")]
    Host {
        /// As it was written.
        host: String,
        /// Its fault.
        cause: HostError,
    },
    /// There are too many lines.
    #[error("a table has at most {ROUTES_MAX} routes; use a '*.' host for many of them")]
    TooMany,
}

/// Which target serves which host. Never changed; a new one takes its place.
///
/// An exact host goes before a wildcard; a wildcard stands for exactly one label.
pub struct RouteTable<T> {
    exact: HashMap<Box<str>, usize>,
    wildcard: HashMap<Box<str>, usize>,
    rows: Vec<Row<T>>,
}

impl<T> RouteTable<T> {
    /// Builds a table.
    ///
    /// # Errors
    ///
    /// Every fault of every line, in their order.
    pub fn new(entries: impl IntoIterator<Item = RouteEntry<T>>) -> Result<RouteTable<T>, Vec<RouteFault>> {
        let mut table = RouteTable { exact: HashMap::new(), wildcard: HashMap::new(), rows: Vec::new() };
        let mut faults = Vec::new();
        for entry in entries {
            if table.rows.len() == ROUTES_MAX {
                faults.push(RouteFault { place: entry.place, kind: RouteFaultKind::TooMany });
                break;
            }
            faults.extend(table.add(entry).err());
        }
        if faults.is_empty() { Ok(table) } else { Err(faults) }
    }

    /// What serves this host.
    #[must_use]
    pub fn lookup(&self, host: &Hostname) -> Option<&T> {
        let exact = self.exact.get(host.as_str());
        let row = exact.or_else(|| self.wildcard.get(host.parent()?))?;
        self.rows.get(*row).map(|row| &row.target)
    }

    /// Every route, in the order in which they were given.
    pub fn iter(&self) -> impl Iterator<Item = (&HostPattern, &T)> {
        self.rows.iter().map(|row| (&row.pattern, &row.target))
    }

    fn add(&mut self, entry: RouteEntry<T>) -> Result<(), RouteFault> {
        let RouteEntry { host, place, target } = entry;
        let pattern: HostPattern = match host.parse() {
            Ok(pattern) => pattern,
            Err(cause) => return Err(RouteFault { place, kind: RouteFaultKind::Host { host, cause } }),
        };
        let (map, key) = match &pattern {
            HostPattern::Exact(host) => (&mut self.exact, host),
            HostPattern::Wildcard(parent) => (&mut self.wildcard, parent),
        };
        if let Some(first) = map.get(key.as_str()) {
            let first = self.rows[*first].place.clone();
            return Err(RouteFault { place, kind: RouteFaultKind::Duplicate { host: pattern.to_string(), first } });
        }
        map.insert(key.as_str().into(), self.rows.len());
        self.rows.push(Row { pattern, place, target });
        Ok(())
    }
}

impl<T> Default for RouteTable<T> {
    fn default() -> RouteTable<T> {
        RouteTable { exact: HashMap::new(), wildcard: HashMap::new(), rows: Vec::new() }
    }
}

impl<T: fmt::Debug> fmt::Debug for RouteTable<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

struct Row<T> {
    pattern: HostPattern,
    place: String,
    target: T,
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
    fn all_faults_are_told_at_once_with_both_places_of_a_duplicate() {
        let faults = table(&["a.example", "b_c.example", "A.EXAMPLE.", "*.x.example", "*.X.example", "ok.example"]);
        let told: Vec<String> = faults.unwrap_err().iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "routes[1].host: 'b_c.example' is no host: a host is made of letters, digits, '-' and '.'",
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
