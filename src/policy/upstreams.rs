use std::net::IpAddr;

use crate::policy::{Network, Networks};

/// The networks that a connector may dial by default: private networks (RFC 1918, RFC 4193) and loopback.
const PRIVATE: [&str; 6] = ["10.0.0.0/8", "127.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "::1", "fc00::/7"];

/// Networks that may be dialled only if `allowed_upstreams` names a network inside them, not because a wider network is allowed:
/// link-local and multicast addresses, metadata services of clouds that serve credentials, and IPv6 addresses that embed an IPv4
/// address and would bypass the lists.
const SPECIAL: [(&str, &str); 19] = [
    ("169.254.0.0/16", "a link-local address, where clouds keep a machine's credentials"),
    ("fe80::/10", "a link-local address"),
    ("fd00:ec2::/32", "where a cloud keeps a machine's credentials"),
    ("fd20:ce::254", "where a cloud keeps a machine's credentials"),
    ("fd00:42::42", "where a cloud keeps a machine's credentials"),
    ("100.100.100.200", "where a cloud keeps a machine's credentials"),
    ("168.63.129.16", "where a cloud keeps a machine's credentials"),
    ("192.0.0.192", "where a cloud keeps a machine's credentials"),
    ("0.0.0.0/8", "not the address of any host"),
    ("224.0.0.0/4", "not the address of one host"),
    ("240.0.0.0/4", "not the address of any host"),
    ("::", "not the address of any host"),
    ("ff00::/8", "not the address of one host"),
    ("fec0::/10", "a site-local address, which is no longer used"),
    ("64:ff9b::/96", "an IPv4 address within IPv6, which no list would see"),
    ("64:ff9b:1::/48", "an IPv4 address within IPv6, which no list would see"),
    ("2001::/32", "an IPv4 address within IPv6, which no list would see"),
    ("2002::/16", "an IPv4 address within IPv6, which no list would see"),
    ("::ffff:0:0:0/96", "an IPv4 address within IPv6, which no list would see"),
];

/// The addresses that a connector may dial. Every resolved address is checked each time it is dialled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowedUpstreams {
    allowed: Networks,
    /// The allowed networks that lie inside a special network.
    named: Networks,
}

/// Why an address may not be dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAllowed {
    /// No allowed network contains it.
    #[error("outside of `connect.allowed_upstreams`: add {0} there if that is intended")]
    Outside(Network),
    /// The address is in a special network, and no allowed network lies inside that network and contains the address.
    #[error("{what}, and not named in `connect.allowed_upstreams`: add {network} there if that is intended")]
    Special {
        /// The address as a network.
        network: Network,
        /// The kind of special address, for the error message.
        what: &'static str,
    },
}

impl AllowedUpstreams {
    /// Private networks and loopback.
    #[must_use]
    #[cfg(feature = "internals")]
    pub fn private() -> AllowedUpstreams {
        AllowedUpstreams::of(private_networks())
    }

    /// Allows these networks and no others.
    #[must_use]
    pub fn of(networks: impl IntoIterator<Item = Network>) -> AllowedUpstreams {
        let networks: Vec<Network> = networks.into_iter().collect();
        let is_special = |network: &&Network| special().any(|(special, _)| special.contains_all(network));
        let named = networks.iter().filter(is_special).copied().collect();
        AllowedUpstreams { allowed: networks.into_iter().collect(), named }
    }

    /// Checks whether a call may go to this address.
    ///
    /// # Errors
    ///
    /// If the address may not be dialled.
    pub fn judge(&self, address: IpAddr) -> Result<(), NotAllowed> {
        let network = Network::of_address(address);
        if self.named.contains(address) {
            return Ok(());
        }
        if let Some((_, what)) = special().find(|(special, _)| special.contains_all(&network)) {
            return Err(NotAllowed::Special { network, what });
        }
        if self.allowed.contains(address) { Ok(()) } else { Err(NotAllowed::Outside(network)) }
    }
}

/// The networks that `private` stands for in the configuration.
pub fn private_networks() -> impl Iterator<Item = Network> {
    PRIVATE.iter().map(|text| parsed(text))
}

fn special() -> impl Iterator<Item = (Network, &'static str)> {
    SPECIAL.iter().map(|(text, what)| (parsed(text), *what))
}

fn parsed(text: &str) -> Network {
    text.parse().expect("the tables of this file hold networks, as its test knows")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(texts: &[&str]) -> AllowedUpstreams {
        AllowedUpstreams::of(texts.iter().map(|text| text.parse().unwrap()))
    }

    fn judge(allowed: &AllowedUpstreams, address: &str) -> Result<(), NotAllowed> {
        allowed.judge(address.parse().unwrap())
    }

    #[test]
    fn every_line_of_the_tables_is_a_network() {
        assert_eq!((private_networks().count(), special().count()), (PRIVATE.len(), SPECIAL.len()));
    }

    #[test]
    fn private_networks_and_loopback_are_allowed_and_the_rest_is_not() {
        let private = AllowedUpstreams::private();
        for inside in
            ["10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "127.0.0.1", "127.9.9.9", "::1", "fd12::1"]
        {
            assert_eq!(judge(&private, inside), Ok(()), "{inside}");
        }
        for inside in ["::ffff:10.0.0.1", "::ffff:127.0.0.1"] {
            assert_eq!(judge(&private, inside), Ok(()), "{inside}");
        }
        let outside =
            ["8.8.8.8", "172.32.0.1", "100.64.0.1", "2606:4700::1", "::ffff:8.8.8.8", "192.0.2.1", "::127.0.0.1"];
        for outside in outside {
            assert!(matches!(judge(&private, outside), Err(NotAllowed::Outside(_))), "{outside}");
        }
    }

    #[test]
    fn metadata_and_link_local_addresses_are_refused_unless_they_are_named_themselves() {
        let everything = allowed(&["0.0.0.0/0", "::/0"]);
        let special = [
            "169.254.169.254",
            "::ffff:169.254.169.254",
            "fe80::1",
            "fd00:ec2::254",
            "100.100.100.200",
            "168.63.129.16",
            "0.0.0.0",
            "::",
            "255.255.255.255",
            "224.0.0.1",
            "ff02::1",
            "64:ff9b::a9fe:a9fe",
            "2002:a9fe:a9fe::1",
        ];
        for address in special {
            for allowed in [&everything, &AllowedUpstreams::private()] {
                assert!(matches!(judge(allowed, address), Err(NotAllowed::Special { .. })), "{address}");
            }
            let canonical = address.parse::<IpAddr>().unwrap().to_canonical().to_string();
            assert_eq!(judge(&allowed(&["10.0.0.0/8", &canonical]), address), Ok(()), "{address}");
        }
        assert_eq!(judge(&everything, "8.8.8.8"), Ok(()));
        assert_eq!(judge(&everything, "2606:4700::1"), Ok(()));
        assert_eq!(judge(&allowed(&["169.254.0.0/16"]), "169.254.169.254"), Ok(()));
        assert!(judge(&allowed(&["169.254.1.0/24"]), "169.254.169.254").is_err());
    }

    #[test]
    fn a_refused_upstream_is_reported_with_the_setting_that_allows_it() {
        let message = |address| judge(&AllowedUpstreams::private(), address).unwrap_err().to_string();
        assert!(message("8.8.8.8").contains("add 8.8.8.8/32 there"));
        assert!(message("::ffff:169.254.169.254").contains("add 169.254.169.254/32 there"));
    }
}
