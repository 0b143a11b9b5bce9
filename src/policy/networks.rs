use std::net::IpAddr;
use std::sync::Arc;

use crate::policy::network::{Network, number};

/// A set of networks. An address is found by binary search, without allocating.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks {
    v4: Ranges,
    v6: Ranges,
}

/// Sorted ranges of numbers that neither overlap nor touch; shared by copies.
type Ranges = Arc<[(u128, u128)]>;

impl Networks {
    /// Whether one of the networks has the address. An IPv4-mapped IPv6 address counts as IPv4.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let (is_v6, number) = number(address);
        let ranges = if is_v6 { &self.v6 } else { &self.v4 };
        let next = ranges.partition_point(|(first, _)| *first <= number);
        next.checked_sub(1).is_some_and(|at| number <= ranges[at].1)
    }

    /// Whether the set is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    /// The number of ranges, after adjacent ones were joined.
    #[must_use]
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }
}

impl FromIterator<Network> for Networks {
    fn from_iter<I: IntoIterator<Item = Network>>(networks: I) -> Networks {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for network in networks {
            let (first, last) = network.bounds();
            let ((is_v6, first), (_, last)) = (number(first), number(last));
            if is_v6 { &mut v6 } else { &mut v4 }.push((first, last));
        }
        Networks { v4: joined(v4), v6: joined(v6) }
    }
}

fn joined(mut ranges: Vec<(u128, u128)>) -> Ranges {
    ranges.sort_unstable();
    let mut joined: Vec<(u128, u128)> = Vec::new();
    for (first, last) in ranges {
        match joined.last_mut() {
            Some((_, before)) if first <= before.saturating_add(1) => *before = last.max(*before),
            _ => joined.push((first, last)),
        }
    }
    joined.into()
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;
    use crate::base::Rng;

    fn networks(texts: &[&str]) -> Networks {
        texts.iter().map(|text| text.parse::<Network>().unwrap()).collect()
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_first_and_the_last_address_are_inside_and_their_neighbours_are_not() {
        let set = networks(&["10.0.0.0/8", "192.0.2.4/31", "fd00::/8", "::/128"]);
        for inside in ["10.0.0.0", "10.255.255.255", "192.0.2.4", "192.0.2.5", "fd00::", "::", "::ffff:10.1.2.3"] {
            assert!(set.contains(address(inside)), "{inside}");
        }
        for outside in ["9.255.255.255", "11.0.0.0", "192.0.2.3", "192.0.2.6", "fe00::", "::1", "::10.1.2.3"] {
            assert!(!set.contains(address(outside)), "{outside}");
        }
        assert!(!Networks::default().contains(address("10.0.0.1")) && Networks::default().is_empty());
        let all = networks(&["0.0.0.0/0", "::/0"]);
        assert!(
            ["0.0.0.0", "255.255.255.255", "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"]
                .iter()
                .all(|text| all.contains(address(text)))
        );
    }

    #[test]
    fn networks_that_touch_or_overlap_are_one_range() {
        let set = networks(&["10.0.1.0/24", "10.0.0.0/24", "10.0.0.128/25", "10.0.3.0/24", "fd00::/9", "fd80::/9"]);
        assert_eq!(set.len(), 3);
    }

    #[test]
    fn finding_agrees_with_looking_at_one_after_the_other() {
        let mut rng = Rng::new(4);
        let mut found = 0;
        for _ in 0..200 {
            let list: Vec<ipnet::IpNet> = (0..rng.below(30))
                .map(|_| {
                    if rng.chance(0.5) {
                        let bits = 0x0a00_0000 | rng.below(1 << 12) as u32;
                        let len = rng.between(20, 32) as u8;
                        ipnet::IpNet::new(Ipv4Addr::from_bits(bits).into(), len).unwrap().trunc()
                    } else {
                        let bits = (0xfd_u128 << 120) | u128::from(rng.below(1 << 12));
                        let len = rng.between(116, 128) as u8;
                        ipnet::IpNet::new(Ipv6Addr::from_bits(bits).into(), len).unwrap().trunc()
                    }
                })
                .collect();
            let set: Networks = list.iter().map(|net| net.to_string().parse::<Network>().unwrap()).collect();
            for _ in 0..200 {
                let low = rng.below(1 << 12);
                let address: IpAddr = if rng.chance(0.5) {
                    Ipv4Addr::from_bits(0x0a00_0000 | low as u32).into()
                } else {
                    Ipv6Addr::from_bits((0xfd_u128 << 120) | u128::from(low)).into()
                };
                let want = list.iter().any(|net| net.contains(&address));
                found += usize::from(want);
                assert_eq!(set.contains(address), want, "{address} in {list:?}");
            }
        }
        assert!(found > 1_000);
    }
}
