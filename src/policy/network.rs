use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use ipnet::IpNet;

/// The prefix under which IPv6 carries an IPv4 address (RFC 4291 section 2.5.5.2), less the address.
const MAPPED_PREFIX_LEN: u8 = 96;

/// A network as an operator writes it: `10.0.0.0/8`, `fd00::/8`, or a single address.
///
/// An IPv4-mapped IPv6 network (`::ffff:10.0.0.0/104`) is treated as the IPv4 network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Network(IpNet);

/// Why a text is not a valid network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// It is neither an address nor an address with a prefix length.
    #[error(
        "{0:?} is not a network: write an address, or an address with a prefix length, such as 10.0.0.0/8 or fd00::/8"
    )]
    Malformed(Box<str>),
    /// Bits beyond the prefix are set, so the meaning is ambiguous.
    #[error("{written} has bits beyond its prefix: write {network} for the network, or {address} for the one address")]
    BitsBeyondPrefix {
        /// The text as it was written.
        written: Box<str>,
        /// The network that contains the address.
        network: IpNet,
        /// The address as it was written, without the prefix length.
        address: IpAddr,
    },
}

impl Network {
    /// The network of a single address.
    #[must_use]
    pub fn of_address(address: IpAddr) -> Network {
        Network(IpNet::from(address.to_canonical()))
    }

    /// Whether `other` lies completely within this network.
    #[must_use]
    pub fn contains_all(&self, other: &Network) -> bool {
        self.0.contains(&other.0)
    }

    /// The first and the last address.
    #[must_use]
    pub fn bounds(&self) -> (IpAddr, IpAddr) {
        (self.0.network(), self.0.broadcast())
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Network, NetworkError> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Network::of_address(address));
        }
        let net: IpNet = text.parse().map_err(|_| NetworkError::Malformed(text.into()))?;
        if net.addr() != net.network() {
            return Err(NetworkError::BitsBeyondPrefix {
                written: text.into(),
                network: net.trunc(),
                address: net.addr(),
            });
        }
        Ok(Network(unmapped(net)))
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

fn unmapped(net: IpNet) -> IpNet {
    let IpNet::V6(v6) = net else { return net };
    let inside = v6.addr().to_ipv4_mapped().zip(v6.prefix_len().checked_sub(MAPPED_PREFIX_LEN));
    let v4 = inside.and_then(|(address, len)| ipnet::Ipv4Net::new(address, len).ok());
    v4.map_or(net, IpNet::V4)
}

/// The address as a number, and whether it is IPv6.
pub(super) fn number(address: IpAddr) -> (bool, u128) {
    match address.to_canonical() {
        IpAddr::V4(address) => (false, u128::from(address.to_bits())),
        IpAddr::V6(address) => (true, Ipv6Addr::to_bits(address)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Network {
        text.parse().unwrap()
    }

    #[test]
    fn addresses_and_networks_are_understood_and_printed_so_that_they_mean_the_same() {
        let cases = [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("192.0.2.7", "192.0.2.7/32"),
            ("FD00::/8", "fd00::/8"),
            ("::1", "::1/128"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("::/0", "::/0"),
            ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
            ("::ffff:192.0.2.1", "192.0.2.1/32"),
        ];
        for (text, want) in cases {
            assert_eq!(network(text).to_string(), want);
            assert_eq!(network(want), network(text));
        }
    }

    #[test]
    fn invalid_networks_are_refused_with_a_suggestion() {
        for text in ["", "10", "10.0.0/8", "10.0.0.0/33", "::/129", "a/8", "10.0.0.0/", "10.0.0.0/+8", "fe80::1%eth0"] {
            assert!(matches!(text.parse::<Network>(), Err(NetworkError::Malformed(_))), "{text}");
        }
        let message = "10.1.2.3/8".parse::<Network>().unwrap_err().to_string();
        assert!(message.contains("write 10.0.0.0/8 for the network, or 10.1.2.3 for the one address"), "{message}");
    }

    #[test]
    fn a_network_lies_in_another_or_not() {
        assert!(network("10.0.0.0/8").contains_all(&network("10.9.0.0/16")));
        assert!(!network("10.9.0.0/16").contains_all(&network("10.0.0.0/8")));
        assert!(!network("::/0").contains_all(&network("10.0.0.0/8")));
    }
}
