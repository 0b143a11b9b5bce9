//! The hosts of the routes, compared with the hosts that the tunnel has at each edge.

use crate::base::{HostSet, TunnelId, shell_word};
use crate::connector::settings::EdgeAddress;
use crate::wire::mux::Hosts;

/// The most hosts that a log line or a command names.
const HOSTS_SHOWN_MAX: usize = 16;

/// The hosts of the tunnel at one edge.
#[derive(Debug, Default)]
pub(super) struct EdgeHosts {
    /// The hosts that the tunnel has there; none before the edge has sent them.
    of_tunnel: Option<Hosts>,
    /// The hosts of routes that get no calls, as last logged.
    logged: HostSet,
}

/// The hosts of routes that the tunnel does not have at an edge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingHosts {
    /// The hosts, which get no calls.
    pub hosts: HostSet,
    /// What the operator can do about them.
    pub remedy: String,
    /// How many hosts the edge left out of its list. If it left out any, no host counts as missing.
    pub left_out: u32,
}

impl EdgeHosts {
    /// Stores the hosts that the edge has sent.
    pub(super) fn set(&mut self, of_tunnel: Hosts) {
        self.of_tunnel = Some(of_tunnel);
    }

    /// The missing hosts and the remedy; none before the edge has sent its hosts.
    pub(super) fn view(&self, tunnel: &TunnelId, routes: &HostSet) -> Option<MissingHosts> {
        let left_out = self.of_tunnel.as_ref()?.left_out;
        let hosts = self.missing(routes);
        Some(MissingHosts { remedy: self.remedy(tunnel, &hosts), hosts, left_out })
    }

    /// The hosts of routes that the tunnel does not have. Empty if the edge left out hosts, because any of them may be
    /// there.
    fn missing(&self, routes: &HostSet) -> HostSet {
        match &self.of_tunnel {
            Some(Hosts { listed, left_out: 0 }) => routes.without(listed),
            _ => HostSet::default(),
        }
    }

    /// Logs the missing hosts, once per change.
    pub(super) fn log_missing(&mut self, edge: &EdgeAddress, tunnel: &TunnelId, routes: &HostSet) {
        let Some(missing) = self.change(routes) else { return };
        if missing.is_empty() {
            return tracing::info!(%edge, %tunnel, "the tunnel has the hosts of all routes now");
        }
        let (hosts, remedy) = (missing.listed(HOSTS_SHOWN_MAX), self.remedy(tunnel, &missing));
        tracing::warn!(%edge, %tunnel, hosts, "the tunnel does not have these hosts of routes, so they get no calls: {remedy}");
    }

    /// The missing hosts, if they changed since the last query.
    fn change(&mut self, routes: &HostSet) -> Option<HostSet> {
        let missing = self.missing(routes);
        let is_changed = missing != self.logged;
        is_changed.then(|| {
            self.logged = missing.clone();
            missing
        })
    }

    /// What the operator can do about missing hosts.
    fn remedy(&self, tunnel: &TunnelId, missing: &HostSet) -> String {
        let all = self.of_tunnel.iter().flat_map(|hosts| hosts.listed.iter()).chain(missing.iter());
        let all: Vec<String> = all.map(|host| format!(" --host {}", shell_word(host))).collect();
        let hosts = if all.len() > HOSTS_SHOWN_MAX { " --host …".to_owned() } else { all.concat() };
        format!(
            "correct the routes, or add the hosts at the edge with `adit tunnel update {tunnel}{hosts}`, which replaces the list"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::HostPattern;

    fn set(hosts: &[&str]) -> HostSet {
        hosts.iter().map(|host| host.parse::<HostPattern>().unwrap()).collect()
    }

    #[test]
    fn each_change_of_missing_hosts_is_logged_once() {
        let mut edge = EdgeHosts::default();
        let routes = set(&["a.test", "*.b.test"]);
        assert_eq!(edge.change(&routes), None, "the edge has sent nothing yet");
        edge.set(Hosts { listed: set(&["x.b.test"]), left_out: 0 });
        assert_eq!(edge.change(&routes), Some(set(&["a.test"])));
        assert_eq!(edge.change(&routes), None);
        assert_eq!(edge.change(&set(&["a.test", "c.test"])), Some(set(&["a.test", "c.test"])));
        edge.set(Hosts { listed: set(&["a.test", "c.test"]), left_out: 0 });
        assert_eq!(edge.change(&routes), Some(set(&["*.b.test"])));
        edge.set(Hosts { listed: set(&["a.test"]), left_out: 1 });
        assert_eq!(edge.change(&routes), Some(set(&[])), "the one that was left out may be that host");
    }

    #[test]
    fn the_remedy_names_the_whole_new_list_unless_it_is_long() {
        let tunnel: TunnelId = "tnl_a".parse().unwrap();
        let mut edge = EdgeHosts::default();
        edge.set(Hosts { listed: set(&["*.b.test"]), left_out: 0 });
        let remedy = edge.remedy(&tunnel, &set(&["a.test"]));
        assert!(remedy.contains("`adit tunnel update tnl_a --host '*.b.test' --host a.test`"), "{remedy}");
        let many: Vec<String> = (0..=HOSTS_SHOWN_MAX).map(|n| format!("h{n}.test")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let remedy = edge.remedy(&tunnel, &set(&many));
        assert!(remedy.contains("`adit tunnel update tnl_a --host …`"), "{remedy}");
    }
}
