//! Lists of networks in the configuration.

use std::fmt;
use std::path::Path;

use serde_json::Value;

use crate::config::error::quoted;
use crate::config::setting_type::{Raw, SettingType, list_setting};
use crate::policy::{AllowedUpstreams, Member, MemberError, Network, NetworkError, SetName, private_networks};

/// The word for all private networks.
const PRIVATE: &str = "private";

/// Where a connector may send calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamNetwork {
    /// Every private network, and loopback.
    Private,
    /// A single network, by its address and prefix.
    One(Network),
}

impl UpstreamNetwork {
    /// All networks of a list.
    #[must_use]
    pub fn allowed(list: &[UpstreamNetwork]) -> AllowedUpstreams {
        let private = list.contains(&UpstreamNetwork::Private).then(private_networks);
        let named = list.iter().filter_map(|network| match network {
            UpstreamNetwork::Private => None,
            UpstreamNetwork::One(network) => Some(*network),
        });
        AllowedUpstreams::of(private.into_iter().flatten().chain(named))
    }
}

impl fmt::Display for UpstreamNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UpstreamNetwork::Private => f.write_str(PRIVATE),
            UpstreamNetwork::One(network) => network.fmt(f),
        }
    }
}

impl SettingType for UpstreamNetwork {
    const KIND: &'static str = "network";

    fn parse(raw: &Raw, _dir: &Path) -> Result<UpstreamNetwork, String> {
        match raw.text("a network")? {
            PRIVATE => Ok(UpstreamNetwork::Private),
            text => network(text, ", or \"private\"").map(UpstreamNetwork::One),
        }
    }

    fn to_json(&self) -> Value {
        Value::from(self.to_string())
    }
}

impl SettingType for SetName {
    const KIND: &'static str = "name";

    fn parse(raw: &Raw, _dir: &Path) -> Result<SetName, String> {
        raw.text("a name")?.parse().map_err(|error: MemberError| error.to_string())
    }

    fn to_json(&self) -> Value {
        Value::from(self.as_str())
    }
}

impl SettingType for Member {
    const KIND: &'static str = "network, AS number or set";

    fn parse(raw: &Raw, _dir: &Path) -> Result<Member, String> {
        raw.text("a network")?.parse().map_err(|error: MemberError| error.to_string())
    }

    fn to_json(&self) -> Value {
        Value::from(self.to_string())
    }
}

impl SettingType for Network {
    const KIND: &'static str = "network";

    fn parse(raw: &Raw, _dir: &Path) -> Result<Network, String> {
        network(raw.text("a network")?, "")
    }

    fn to_json(&self) -> Value {
        Value::from(self.to_string())
    }
}

/// Parses a network. `besides` says what else is allowed, for the error message.
fn network(text: &str, besides: &str) -> Result<Network, String> {
    text.parse().map_err(|error| match error {
        NetworkError::Malformed(_) => format!(
            "{} is not a network: write an address, or an address with a prefix length, such as 10.0.0.0/8 or \
             fd00::/8{besides}",
            quoted(text)
        ),
        beyond @ NetworkError::BitsBeyondPrefix { .. } => beyond.to_string(),
    })
}

list_setting!(
    Member = "list of networks, AS numbers and sets",
    Network = "list of networks",
    UpstreamNetwork = "list of networks"
);

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(texts: &[&str]) -> Result<Vec<UpstreamNetwork>, String> {
        let list = texts.iter().map(|text| Raw::Text((*text).to_owned())).collect();
        <Vec<UpstreamNetwork> as SettingType>::parse(&Raw::List(list), Path::new(""))
    }

    #[test]
    fn private_may_stand_beside_networks_and_a_list_without_it_leaves_it_out() {
        let judge = |texts: &[&str], address: &str| {
            UpstreamNetwork::allowed(&parse(texts).unwrap()).judge(address.parse().unwrap()).is_ok()
        };
        assert!(judge(&["private", "192.0.2.0/24"], "10.0.0.1") && judge(&["private", "192.0.2.0/24"], "192.0.2.1"));
        assert!(!judge(&["192.0.2.0/24"], "10.0.0.1") && !judge(&[], "127.0.0.1"));
        assert_eq!(parse(&["private", "10.0.0.0/8"]).unwrap().to_json(), serde_json::json!(["private", "10.0.0.0/8"]));
        assert!(parse(&["privat"]).unwrap_err().contains("or \"private\""));
        assert!(parse(&["10.0.0.1/8"]).unwrap_err().contains("write 10.0.0.0/8"));
    }
}
