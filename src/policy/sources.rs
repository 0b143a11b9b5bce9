use std::net::IpAddr;

use crate::policy::network::number;

/// The number of an autonomous system.
pub type Asn = u32;

/// The source of a connection: its address, and the autonomous system that announces the address, if known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Source {
    /// The address; `None` if the peer has none, as on a Unix socket.
    pub address: Option<IpAddr>,
    /// The autonomous system; `None` without a table, or if the table has no entry.
    pub asn: Option<Asn>,
}

/// The unit of per-source limits: an IPv4 address, or an IPv6 /64, the network of one subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SourceKey(u64);

impl SourceKey {
    /// The key of an address.
    #[must_use]
    pub fn of(address: IpAddr) -> SourceKey {
        // Mapped IPv4 addresses all lie in ::/64, which contains no host; the first bit separates them from it nevertheless.
        const V4: u64 = 1 << 63 | 0xffff << 32;
        match number(address) {
            (false, v4) => SourceKey(V4 | v4 as u64),
            (true, v6) => SourceKey((v6 >> 64) as u64),
        }
    }

    /// The key as a number, unique to the source.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv4_address_is_one_source_and_so_is_an_ipv6_64() {
        let key = |text: &str| SourceKey::of(text.parse().unwrap());
        assert_ne!(key("192.0.2.1"), key("192.0.2.2"));
        assert_eq!(key("192.0.2.1"), key("::ffff:192.0.2.1"));
        assert_eq!(key("2001:db8::1"), key("2001:db8::ffff:ffff:ffff:ffff"));
        assert_ne!(key("2001:db8::1"), key("2001:db8:0:1::1"));
        assert_ne!(key("::1"), key("0.0.0.1"));
    }
}
