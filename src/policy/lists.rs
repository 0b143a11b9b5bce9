//! Admission lists as operators write them, and the rules that they resolve to.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

use crate::policy::{Asn, Members, Network, NetworkError, Rules};

/// The longest name of a set of networks, in bytes.
const SET_NAME_LEN_MAX: usize = 64;

/// The name of a set of networks that is kept in a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SetName(Box<str>);

/// The networks of each set.
pub type Sets = HashMap<SetName, Vec<Network>>;

/// An entry of an admission list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Member {
    /// All addresses of a network.
    Network(Network),
    /// All addresses that an autonomous system announces.
    Asn(Asn),
    /// All networks of a set.
    Set(SetName),
}

/// Why a text is not a valid entry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MemberError {
    /// It is not a network, a system or a set.
    #[error(
        "{0:?} is not a network: write an address, or an address with a prefix length, such as 10.0.0.0/8 or fd00::/8, or \
         AS64500, or set:NAME"
    )]
    Malformed(Box<str>),
    /// A network with bits beyond its prefix.
    #[error(transparent)]
    Network(NetworkError),
    /// The number is too large.
    #[error("{0:?} is not an AS number; they go from AS1 to AS4294967295")]
    Asn(Box<str>),
    /// The name has characters that are not allowed.
    #[error("{0:?} is not a valid name of a set: 1 to 64 letters, digits, '.', '_' or '-'")]
    SetName(Box<str>),
}

/// The lists of one tunnel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TunnelLists {
    /// The networks from which its connectors may connect; empty for all.
    pub connectors_from: Vec<Network>,
    /// The sources from which agents may call it; empty for all.
    pub allow_from: Vec<Member>,
    /// The sources from which agents may not call it; takes precedence over `allow_from`.
    pub deny_from: Vec<Member>,
    /// Whether the lists for agents run in trial mode, in which nobody is refused.
    pub dry_run: bool,
}

/// An entry that the edge cannot resolve.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unmet {
    /// There is no set of this name.
    #[error("no [[network_set]] of the edge has the name {}", .0.as_str())]
    Set(SetName),
    /// There is no table of autonomous systems.
    #[error("AS{0} needs a file of AS numbers: set admission.asn_file at the edge")]
    Asn(Asn),
}

impl SetName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SetName {
    type Err = MemberError;

    fn from_str(text: &str) -> Result<SetName, MemberError> {
        let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        let fits = (1..=SET_NAME_LEN_MAX).contains(&text.len());
        if fits && plain { Ok(SetName(text.into())) } else { Err(MemberError::SetName(text.into())) }
    }
}

impl FromStr for Member {
    type Err = MemberError;

    fn from_str(text: &str) -> Result<Member, MemberError> {
        if let Some(name) = text.strip_prefix("set:") {
            return name.parse().map(Member::Set);
        }
        let number = text.strip_prefix("AS").or_else(|| text.strip_prefix("as"));
        if let Some(digits) = number.filter(|digits| digits.bytes().all(|b| b.is_ascii_digit())) {
            return digits.parse().map(Member::Asn).map_err(|_| MemberError::Asn(text.into()));
        }
        text.parse().map(Member::Network).map_err(|error| match error {
            NetworkError::Malformed(text) => MemberError::Malformed(text),
            beyond @ NetworkError::BitsBeyondPrefix { .. } => MemberError::Network(beyond),
        })
    }
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Member::Network(network) => network.fmt(f),
            Member::Asn(asn) => write!(f, "AS{asn}"),
            Member::Set(name) => write!(f, "set:{}", name.as_str()),
        }
    }
}

impl Members {
    /// Resolves a list to its members. An unknown set has no members: see [`TunnelLists::unmet`].
    #[must_use]
    pub fn of(list: &[Member], sets: &Sets) -> Members {
        let networks = list.iter().flat_map(|member| match member {
            Member::Network(network) => std::slice::from_ref(network),
            Member::Set(name) => sets.get(name).map(Vec::as_slice).unwrap_or_default(),
            Member::Asn(_) => &[],
        });
        let asns = list.iter().filter_map(|member| match member {
            Member::Asn(asn) => Some(*asn),
            _ => None,
        });
        Members::new(networks.copied(), asns)
    }
}

impl TunnelLists {
    /// Whether all agents are admitted.
    #[must_use]
    pub fn admits_all_agents(&self) -> bool {
        self.allow_from.is_empty() && self.deny_from.is_empty()
    }

    /// Resolves the lists to rules. If an entry cannot be resolved, the rules admit nobody.
    #[must_use]
    pub fn rules(&self, sets: &Sets, knows_asns: bool) -> Rules {
        if self.unmet(sets, knows_asns).is_some() {
            return Rules::closed(self.dry_run);
        }
        Rules::new(Members::of(&self.allow_from, sets), Members::of(&self.deny_from, sets), self.dry_run)
    }

    /// The first entry that cannot be resolved.
    #[must_use]
    pub fn unmet(&self, sets: &Sets, knows_asns: bool) -> Option<Unmet> {
        self.allow_from.iter().chain(&self.deny_from).find_map(|member| match member {
            Member::Set(name) if !sets.contains_key(name) => Some(Unmet::Set(name.clone())),
            Member::Asn(asn) if !knows_asns => Some(Unmet::Asn(*asn)),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{AdmissionVerdict, Source, Why};

    fn lists(allow: &[&str], deny: &[&str]) -> TunnelLists {
        let members = |list: &[&str]| list.iter().map(|text| text.parse().unwrap()).collect();
        TunnelLists { allow_from: members(allow), deny_from: members(deny), ..TunnelLists::default() }
    }

    #[test]
    fn lists_hold_networks_autonomous_systems_and_sets() {
        for text in ["192.0.2.0/24", "AS64500", "AS4294967295", "set:vendor-1.v4"] {
            assert_eq!(text.parse::<Member>().unwrap().to_string(), text);
        }
        assert_eq!("as64500".parse(), Ok(Member::Asn(64_500)));
        for wrong in ["", "AS", "AS-1", "ASx", "AS4294967296", "set:", "set:a b", "vendor", "192.0.2.0/33"] {
            assert!(wrong.parse::<Member>().is_err(), "{wrong}");
        }
        let message = "10.1.2.3/8".parse::<Member>().unwrap_err().to_string();
        assert!(message.contains("write 10.0.0.0/8 for the network"), "{message}");
    }

    #[test]
    fn a_list_with_an_unknown_name_admits_no_one() {
        let sets = Sets::from([("vendor".parse().unwrap(), vec!["192.0.2.0/24".parse().unwrap()])]);
        let judge = |lists: &TunnelLists, sets: &Sets, knows_asns| {
            lists.rules(sets, knows_asns).judge(&Source { address: Some([192, 0, 2, 1].into()), asn: None })
        };
        let vendor = lists(&["set:vendor"], &[]);
        assert_eq!(judge(&vendor, &sets, false), AdmissionVerdict::Admitted);
        assert_eq!(judge(&vendor, &Sets::new(), false), AdmissionVerdict::Denied(Why::NotListed));
        assert_eq!(vendor.unmet(&Sets::new(), false), Some(Unmet::Set("vendor".parse().unwrap())));
        // A deny list alone also needs the table.
        let system = lists(&[], &["AS64500"]);
        assert_eq!(judge(&system, &sets, true), AdmissionVerdict::Admitted);
        assert_eq!(judge(&system, &sets, false), AdmissionVerdict::Denied(Why::NotListed));
        assert_eq!(system.unmet(&sets, false), Some(Unmet::Asn(64_500)));
        let tried = TunnelLists { dry_run: true, ..system };
        assert_eq!(judge(&tried, &sets, false), AdmissionVerdict::WouldBeDenied(Why::NotListed));
    }
}
