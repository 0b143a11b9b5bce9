//! Which hosts of a tunnel its connectors serve, as they have reported.

use crate::base::HostSet;
use crate::wire::mux::Hosts;

/// Whether a connector has a route for a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Serves {
    /// It has reported that it has none.
    No,
    /// It has not reported its hosts, or not all of them.
    Unknown,
    /// It has reported that it has one.
    Yes,
}

/// Which connectors may take a call, by the hosts that they serve.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wanted<'a> {
    /// Any, provided that each connector with a link on this core serves all hosts of the tunnel in this version of the
    /// tables.
    AllServe(u64),
    /// Any connector, whatever hosts it serves.
    Any,
    /// Those that serve this host, with at least this certainty.
    Of(&'a str, Serves),
}

/// A host of a tunnel, and the connectors that have a route for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostService {
    /// The host, or `*.` and a host.
    pub host: String,
    /// The connectors that have reported a route for it.
    pub connectors: Vec<u64>,
    /// Whether all connectors have reported that they have no route for it.
    pub unserved: bool,
}

/// Whether each connector with a link on a core serves all hosts of the tunnel, as of the last lookup.
#[derive(Debug, Default)]
pub(super) struct AllServe {
    seen: Option<Seen>,
}

#[derive(Debug)]
struct Seen {
    /// The version of the tables at the lookup.
    version: u64,
    hosts: HostSet,
    all_serve: bool,
}

impl Serves {
    /// Whether a connector that reported these hosts serves a host, or all hosts of a wildcard.
    pub(super) fn of(reported: Option<&Hosts>, host: &str) -> Serves {
        match reported {
            Some(hosts) if hosts.listed.covers(host) => Serves::Yes,
            Some(Hosts { left_out: 0, .. }) => Serves::No,
            _ => Serves::Unknown,
        }
    }
}

impl Wanted<'_> {
    /// Whether a connector that reported these hosts may take the call.
    pub(super) fn takes(self, reported: Option<&Hosts>) -> bool {
        match self {
            Wanted::AllServe(_) | Wanted::Any => true,
            Wanted::Of(host, least) => Serves::of(reported, host) >= least,
        }
    }
}

impl AllServe {
    /// Whether all are known to serve all hosts in this version of the tables.
    pub(super) fn is_known(&self, version: u64) -> bool {
        self.seen.as_ref().is_some_and(|seen| seen.version == version && seen.all_serve)
    }

    /// Like [`AllServe::is_known`], with a lookup if the tables changed. `reported` are the hosts that each connector
    /// reported.
    pub(super) fn look<'a>(
        &mut self,
        version: u64,
        hosts: &HostSet,
        mut reported: impl Iterator<Item = Option<&'a Hosts>>,
    ) -> bool {
        let all_serve = match &self.seen {
            Some(seen) if seen.hosts == *hosts => seen.all_serve,
            _ => reported.all(|reported| hosts.iter().all(|host| Serves::of(reported, host) == Serves::Yes)),
        };
        self.seen = Some(Seen { version, hosts: hosts.clone(), all_serve });
        all_serve
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::HostPattern;

    fn set(hosts: &[&str]) -> HostSet {
        hosts.iter().map(|host| host.parse::<HostPattern>().unwrap()).collect()
    }

    fn hosts_of(hosts: &[&str], left_out: u32) -> Hosts {
        Hosts { listed: set(hosts), left_out }
    }

    #[test]
    fn unreported_hosts_are_unknown() {
        let (whole, cut) = (hosts_of(&["a.test", "*.b.test"], 0), hosts_of(&["a.test"], 1));
        for (hosts, host, serves) in [
            (Some(&whole), "a.test", Serves::Yes),
            (Some(&whole), "x.b.test", Serves::Yes),
            (Some(&whole), "c.test", Serves::No),
            (Some(&cut), "a.test", Serves::Yes),
            (Some(&cut), "c.test", Serves::Unknown),
            (None, "a.test", Serves::Unknown),
        ] {
            assert_eq!(Serves::of(hosts, host), serves, "{hosts:?} {host}");
            assert_eq!(Wanted::Of(host, Serves::Unknown).takes(hosts), serves != Serves::No);
            assert!(Wanted::Any.takes(hosts));
        }
    }

    #[test]
    fn it_is_looked_up_again_when_the_hosts_change() {
        let (both, one) = (hosts_of(&["a.test", "b.test"], 0), hosts_of(&["a.test"], 0));
        let mut all = AllServe::default();
        assert!(!all.is_known(0));
        assert!(all.look(0, &set(&["a.test"]), [Some(&both), Some(&one)].into_iter()));
        assert!(all.is_known(0) && !all.is_known(1));
        assert!(!all.look(1, &set(&["a.test", "b.test"]), [Some(&both), Some(&one)].into_iter()));
        assert!(!all.is_known(1));
        assert!(all.look(2, &set(&["a.test"]), [Some(&both)].into_iter()) && all.is_known(2));
        assert!(!AllServe::default().look(0, &set(&["a.test"]), [Some(&both), None].into_iter()));
        // A connector that serves some hosts of a wildcard does not serve all of them.
        assert!(!AllServe::default().look(0, &set(&["*.c.test"]), [Some(&hosts_of(&["x.c.test"], 0))].into_iter()));
    }
}
