use std::net::IpAddr;
use std::sync::Arc;

use crate::base::{SharedMap, TunnelId};
use crate::policy::{Asn, AsnTable, Network, Networks, Rate, Sets, Source};

/// Rules by network and autonomous system. A source in `deny` is refused; if `allow` has members, so is every source outside of
/// it.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// The members of `allow_from`; `None` admits every source that is not in `deny`.
    allow: Option<Members>,
    deny: Members,
    /// Whether a refusal is only counted and logged, and the connection admitted.
    dry_run: bool,
}

/// The sources that a list names.
#[derive(Clone, Debug, Default)]
pub struct Members {
    networks: Networks,
    /// Sorted; shared by copies.
    asns: Arc<[Asn]>,
}

/// The decision about a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdmissionVerdict {
    /// The connection is admitted.
    Admitted,
    /// The connection is refused, for this reason.
    Denied(Why),
    /// The connection is admitted because the rules run in trial mode (`dry_run`); otherwise it would be refused.
    WouldBeDenied(Why),
}

/// Why a source is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Its network is in `deny_from`.
    Listed,
    /// `allow_from` is set, and the network is not in it.
    NotListed,
}

impl Why {
    /// The reason as a clause for the log and for audit events.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Why::Listed => "its network is in deny_from",
            Why::NotListed => "its network is not in allow_from",
        }
    }
}

impl Members {
    /// The members in these networks and autonomous systems.
    #[must_use]
    pub fn new(networks: impl IntoIterator<Item = Network>, asns: impl IntoIterator<Item = Asn>) -> Members {
        let mut asns: Vec<Asn> = asns.into_iter().collect();
        asns.sort_unstable();
        asns.dedup();
        Members { networks: networks.into_iter().collect(), asns: asns.into() }
    }

    /// Whether the list is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.networks.is_empty() && self.asns.is_empty()
    }

    fn contains(&self, source: &Source) -> bool {
        source.address.is_some_and(|address| self.networks.contains(address))
            || source.asn.is_some_and(|asn| self.asns.binary_search(&asn).is_ok())
    }
}

impl Rules {
    /// Creates rules from the two lists.
    #[must_use]
    pub fn new(allow: Members, deny: Members, dry_run: bool) -> Rules {
        Rules { allow: Some(allow).filter(|allow| !allow.is_empty()), deny, dry_run }
    }

    /// Rules that refuse every source.
    #[must_use]
    pub fn closed(dry_run: bool) -> Rules {
        Rules { allow: Some(Members::default()), deny: Members::default(), dry_run }
    }

    /// Decides about a source.
    #[must_use]
    pub fn judge(&self, source: &Source) -> AdmissionVerdict {
        let why = if self.deny.contains(source) {
            Why::Listed
        } else if self.allow.as_ref().is_some_and(|allow| !allow.contains(source)) {
            Why::NotListed
        } else {
            return AdmissionVerdict::Admitted;
        };
        if self.dry_run { AdmissionVerdict::WouldBeDenied(why) } else { AdmissionVerdict::Denied(why) }
    }
}

/// The admission settings of an edge, replaced as a whole when the configuration is reloaded.
#[derive(Clone, Debug, Default)]
pub struct Admission {
    /// The rules for agents, for all tunnels.
    pub agents: Rules,
    /// The additional rules for agents that call one tunnel.
    pub tunnels: SharedMap<TunnelId, Rules>,
    /// The rules for connectors that dial in.
    pub connectors: Rules,
    /// The proxies on the agents' port whose PROXY header is trusted. The headers of other peers are not.
    pub agents_proxies: Networks,
    /// The proxies on the connectors' port whose PROXY header is trusted.
    pub connectors_proxies: Networks,
    /// How often one source may connect; `None` for no limit.
    pub handshakes: Option<Rate>,
    /// How often connectors of one source may fail to authenticate.
    pub failed_registrations: Option<Rate>,
    /// How many agent connections one source may have open; `None` for no limit.
    pub connections_per_source: Option<u32>,
    /// How many calls one source may have in flight; `None` for no limit.
    pub calls_per_source: Option<u32>,
    /// How many unauthenticated connections one source may have open on the connectors' port.
    pub strangers_per_source: Option<u32>,
    /// How many links one tunnel may have; `None` for no limit.
    pub links_per_tunnel: Option<u32>,
    /// The table of autonomous systems, if there is one.
    pub asns: Option<Arc<AsnTable>>,
    /// The named sets that lists may refer to.
    pub sets: Arc<Sets>,
}

impl Admission {
    /// The source of a connection: its address and autonomous system.
    #[must_use]
    pub fn source(&self, address: Option<IpAddr>) -> Source {
        let address = address.map(|address| address.to_canonical());
        // The system is looked up even if no list needs it: searching thousands of tunnels' lists would take longer.
        Source { address, asn: address.and_then(|address| self.asns.as_ref()?.lookup(address)) }
    }

    /// Decides whether an agent's call may enter a tunnel.
    #[must_use]
    pub fn judge_call(&self, source: &Source, tunnel: &TunnelId) -> AdmissionVerdict {
        let of_tunnel = || self.tunnels.get(tunnel).map_or(AdmissionVerdict::Admitted, |rules| rules.judge(source));
        match self.agents.judge(source) {
            AdmissionVerdict::Admitted => of_tunnel(),
            AdmissionVerdict::WouldBeDenied(why) => match of_tunnel() {
                AdmissionVerdict::Admitted => AdmissionVerdict::WouldBeDenied(why),
                other => other,
            },
            denied => denied,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(networks: &[&str], asns: &[Asn]) -> Members {
        Members::new(networks.iter().map(|text| text.parse().unwrap()), asns.iter().copied())
    }

    fn from(address: &str, asn: Option<Asn>) -> Source {
        Source { address: Some(address.parse().unwrap()), asn }
    }

    #[test]
    fn deny_is_stronger_than_allow_and_no_allow_list_allows_all() {
        let open = Rules::default();
        assert_eq!(open.judge(&from("192.0.2.1", None)), AdmissionVerdict::Admitted);
        assert_eq!(open.judge(&Source::default()), AdmissionVerdict::Admitted);
        let rules = Rules::new(members(&["192.0.2.0/24"], &[64_500]), members(&["192.0.2.66"], &[64_666]), false);
        let cases = [
            ("192.0.2.1", None, AdmissionVerdict::Admitted),
            ("::ffff:192.0.2.1", None, AdmissionVerdict::Admitted),
            ("192.0.2.66", None, AdmissionVerdict::Denied(Why::Listed)),
            ("192.0.2.1", Some(64_666), AdmissionVerdict::Denied(Why::Listed)),
            ("198.51.100.1", None, AdmissionVerdict::Denied(Why::NotListed)),
            ("198.51.100.1", Some(64_500), AdmissionVerdict::Admitted),
            ("198.51.100.1", Some(64_501), AdmissionVerdict::Denied(Why::NotListed)),
        ];
        for (address, asn, want) in cases {
            assert_eq!(rules.judge(&from(address, asn)), want, "{address} {asn:?}");
        }
        assert_eq!(
            rules.judge(&Source::default()),
            AdmissionVerdict::Denied(Why::NotListed),
            "an unknown address is in no list"
        );
    }

    #[test]
    fn rules_in_observe_mode_deny_no_one() {
        let rules = Rules::new(members(&["192.0.2.0/24"], &[]), Members::default(), true);
        assert_eq!(rules.judge(&from("198.51.100.1", None)), AdmissionVerdict::WouldBeDenied(Why::NotListed));
        assert_eq!(rules.judge(&from("192.0.2.1", None)), AdmissionVerdict::Admitted);
    }

    #[test]
    fn a_call_must_please_the_edge_and_the_tunnel() {
        let only = |network: &str, dry_run| Rules::new(members(&[network], &[]), Members::default(), dry_run);
        let [strict, tried] = ["tnl_strict", "tnl_tried"].map(|id| id.parse::<TunnelId>().unwrap());
        let other: TunnelId = "tnl_other".parse().unwrap();
        let tunnels = SharedMap::from([
            (strict.clone(), only("192.0.2.0/28", false)),
            (tried.clone(), only("192.0.2.0/28", true)),
        ]);
        let admission = Admission { agents: only("192.0.2.0/24", false), tunnels, ..Admission::default() };
        let judge = |address, tunnel| admission.judge_call(&from(address, None), tunnel);
        assert_eq!(judge("192.0.2.1", &strict), AdmissionVerdict::Admitted);
        assert_eq!(judge("192.0.2.77", &strict), AdmissionVerdict::Denied(Why::NotListed));
        assert_eq!(judge("192.0.2.77", &tried), AdmissionVerdict::WouldBeDenied(Why::NotListed));
        assert_eq!(judge("192.0.2.77", &other), AdmissionVerdict::Admitted);
        assert_eq!(judge("198.51.100.1", &other), AdmissionVerdict::Denied(Why::NotListed));
        let tried_everywhere = Admission { agents: only("192.0.2.0/24", true), ..admission.clone() };
        let judge = |address, tunnel| tried_everywhere.judge_call(&from(address, None), tunnel);
        assert_eq!(
            judge("198.51.100.1", &strict),
            AdmissionVerdict::Denied(Why::NotListed),
            "the tunnel's own rules are in force"
        );
        assert_eq!(judge("198.51.100.1", &other), AdmissionVerdict::WouldBeDenied(Why::NotListed));
    }
}
