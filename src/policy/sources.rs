use std::net::IpAddr;

use crate::policy::network::number;

/// The number of an autonomous system.
pub type Asn = u32;

/// Who comes: an address, and the network that its operator announces it from, where that is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Source {
    /// The address; none where the listener knows none.
    pub address: Option<IpAddr>,
    /// The autonomous system; none where there is no file, or it does not know.
    pub asn: Option<Asn>,
}

/// What is counted together when sources are limited: one IPv4 address, or the /64 that is one subscriber's in IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SourceKey(u64);

impl SourceKey {
    /// The key of an address.
    #[must_use]
    pub fn of(address: IpAddr) -> SourceKey {
        // Mapped IPv4 addresses all lie in ::/64, of which no host is; the first bit keeps them apart from it all the same.
        const V4: u64 = 1 << 63 | 0xffff << 32;
        match number(address) {
            (false, v4) => SourceKey(V4 | v4 as u64),
            (true, v6) => SourceKey((v6 >> 64) as u64),
        }
    }

    pub(super) fn get(self) -> u64 {
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
