//! Networks, as the configuration writes them.

use std::fmt;
use std::path::Path;

use serde_json::Value;

use crate::config::fault::quoted;
use crate::config::leaf::{Leaf, Raw};
use crate::policy::{AllowedUpstreams, Asn, Network, NetworkError, private_networks};

/// The word that stands for all private networks.
const PRIVATE: &str = "private";

/// Where a connector may send calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamNetwork {
    /// Every private network, and loopback.
    Private,
    /// This one.
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

impl Leaf for UpstreamNetwork {
    const KIND: &'static str = "network";

    fn take(raw: &Raw, _dir: &Path) -> Result<UpstreamNetwork, String> {
        match raw.text("a network")? {
            PRIVATE => Ok(UpstreamNetwork::Private),
            text => network(text, ", or \"private\"").map(UpstreamNetwork::One),
        }
    }

    fn show(&self) -> Value {
        Value::from(self.to_string())
    }
}

/// The longest name of a set of networks, in bytes.
const SET_NAME_LEN_MAX: usize = 64;

/// The name of a set of networks that is kept in a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SetName(Box<str>);

impl SetName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn new(text: &str) -> Result<SetName, String> {
        let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        if (1..=SET_NAME_LEN_MAX).contains(&text.len()) && plain {
            return Ok(SetName(text.into()));
        }
        Err(format!("{} is no name of a set: 1 to 64 letters, digits, '.', '_' or '-'", quoted(text)))
    }
}

impl Leaf for SetName {
    const KIND: &'static str = "name";

    fn take(raw: &Raw, _dir: &Path) -> Result<SetName, String> {
        SetName::new(raw.text("a name")?)
    }

    fn show(&self) -> Value {
        Value::from(self.as_str())
    }
}

/// Those who may come, or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Member {
    /// All addresses of a network.
    Network(Network),
    /// All addresses that an autonomous system announces.
    Asn(Asn),
    /// All networks of a set.
    Set(SetName),
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

impl Leaf for Member {
    const KIND: &'static str = "network, AS number or set";

    fn take(raw: &Raw, _dir: &Path) -> Result<Member, String> {
        let text = raw.text("a network")?;
        if let Some(name) = text.strip_prefix("set:") {
            return SetName::new(name).map(Member::Set);
        }
        let number = text.strip_prefix("AS").or_else(|| text.strip_prefix("as"));
        if let Some(asn) = number.filter(|digits| digits.bytes().all(|b| b.is_ascii_digit())) {
            let asn = asn.parse().map_err(|_| format!("{} is no AS number: AS1 to AS4294967295", quoted(text)))?;
            return Ok(Member::Asn(asn));
        }
        network(text, ", or AS64500, or set:NAME").map(Member::Network)
    }

    fn show(&self) -> Value {
        Value::from(self.to_string())
    }
}

impl Leaf for Network {
    const KIND: &'static str = "network";

    fn take(raw: &Raw, _dir: &Path) -> Result<Network, String> {
        network(raw.text("a network")?, "")
    }

    fn show(&self) -> Value {
        Value::from(self.to_string())
    }
}

/// Reads a network; `besides` is what else may stand there.
fn network(text: &str, besides: &str) -> Result<Network, String> {
    text.parse().map_err(|error| match error {
        NetworkError::Malformed(_) => format!(
            "{} is no network: write an address, or one with the length of its prefix, such as 10.0.0.0/8 or \
             fd00::/8{besides}",
            quoted(text)
        ),
        beyond @ NetworkError::BitsBeyondPrefix { .. } => beyond.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(texts: &[&str]) -> Result<Vec<UpstreamNetwork>, String> {
        let list = texts.iter().map(|text| Raw::Text((*text).to_owned())).collect();
        <Vec<UpstreamNetwork> as Leaf>::take(&Raw::List(list), Path::new(""))
    }

    #[test]
    fn private_may_stand_beside_networks_and_a_list_without_it_leaves_it_out() {
        let judge = |texts: &[&str], address: &str| {
            UpstreamNetwork::allowed(&take(texts).unwrap()).judge(address.parse().unwrap()).is_ok()
        };
        assert!(judge(&["private", "192.0.2.0/24"], "10.0.0.1") && judge(&["private", "192.0.2.0/24"], "192.0.2.1"));
        assert!(!judge(&["192.0.2.0/24"], "10.0.0.1") && !judge(&[], "127.0.0.1"));
        assert_eq!(take(&["private", "10.0.0.0/8"]).unwrap().show(), serde_json::json!(["private", "10.0.0.0/8"]));
        assert!(take(&["privat"]).unwrap_err().contains("or \"private\""));
        assert!(take(&["10.0.0.1/8"]).unwrap_err().contains("write 10.0.0.0/8"));
    }

    #[test]
    fn those_who_may_come_are_networks_systems_and_sets() {
        let take = |text: &str| Member::take(&Raw::Text(text.to_owned()), Path::new(""));
        for text in ["192.0.2.0/24", "AS64500", "AS4294967295", "set:vendor-1.v4"] {
            assert_eq!(take(text).unwrap().to_string(), text);
        }
        assert_eq!(take("as64500"), Ok(Member::Asn(64_500)));
        for wrong in ["", "AS", "AS-1", "ASx", "AS4294967296", "set:", "set:a b", "vendor", "192.0.2.0/33"] {
            assert!(take(wrong).is_err(), "{wrong}");
        }
    }
}
