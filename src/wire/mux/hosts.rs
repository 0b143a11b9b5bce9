use std::time::Duration;

use crate::base::{HOST_LEN_MAX, HostSet, Time};
use crate::wire::field::{Fields, put_text};

use super::fault::Fault;

/// The longest text of a host pattern: `*.` and a host.
const PATTERN_LEN_MAX: usize = 2 + HOST_LEN_MAX;

pub(super) const HOSTS_LEN_MIN: usize = 4;
/// The longest payload of HOSTS, in bytes. With its header it fits one TLS record.
pub const HOSTS_LEN_MAX: usize = 16_376;

/// How many HOSTS a peer may send in a burst.
pub(super) const HOSTS_BURST: u32 = 64;
/// How many HOSTS a peer may send per second after that.
pub(super) const HOSTS_PER_S: u32 = 20;
/// The shortest time between two HOSTS of this side, well within the peer's limit.
const HOSTS_INTERVAL: Duration = Duration::from_millis(200);

/// The hosts of one side of a link: those for which a connector has routes, or those of the edge's tunnel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hosts {
    /// The hosts, as far as they fit into the frame.
    pub listed: HostSet,
    /// How many hosts were left out.
    pub left_out: u32,
}

/// The hosts of this side, and whether the peer has them.
#[derive(Debug)]
pub(super) struct HostsToSend {
    hosts: Option<HostSet>,
    /// Whether they have still to be sent.
    waits: bool,
    /// Whether they can be sent now.
    pub(super) due: bool,
    /// The earliest time at which they can be sent again.
    free_at: Time,
}

impl HostsToSend {
    pub(super) fn new() -> HostsToSend {
        HostsToSend { hosts: None, waits: false, due: false, free_at: Time::ZERO }
    }

    /// Changes the hosts, which then wait to be sent unless they are the same as before.
    pub(super) fn set(&mut self, hosts: &HostSet) {
        if self.hosts.as_ref() != Some(hosts) {
            self.hosts = Some(hosts.clone());
            self.waits = true;
        }
    }

    /// When waiting hosts can be sent; [`Time::NEVER`] if none wait.
    pub(super) fn due_at(&self) -> Time {
        if self.waits && !self.due { self.free_at } else { Time::NEVER }
    }

    /// Makes waiting hosts due if it is time. Call it when frames can be sent.
    pub(super) fn release(&mut self, now: Time) {
        self.due |= self.due_at() <= now;
    }

    /// Writes the payload of the frame that is due.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        Hosts::encode(self.hosts.as_ref().unwrap_or(&HostSet::default()), out);
    }

    pub(super) fn on_sent(&mut self, now: Time) {
        self.waits = false;
        self.due = false;
        self.free_at = now + HOSTS_INTERVAL;
    }
}

impl Hosts {
    /// Writes as many hosts as fit.
    fn encode(hosts: &HostSet, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0; HOSTS_LEN_MIN]);
        let mut listed = 0;
        for pattern in hosts.iter() {
            if out.len() - start + 1 + pattern.len() > HOSTS_LEN_MAX {
                break;
            }
            put_text(out, pattern);
            listed += 1;
        }
        let left_out = u32::try_from(hosts.len() - listed).unwrap_or(u32::MAX);
        out[start..start + HOSTS_LEN_MIN].copy_from_slice(&left_out.to_be_bytes());
    }

    pub(super) fn decode(payload: &[u8]) -> Result<Hosts, Fault> {
        let mut fields = Fields::new(payload);
        let left_out = fields.u32()?;
        let mut texts = Vec::new();
        while !fields.is_at_end() {
            texts.push(fields.text(1, PATTERN_LEN_MAX)?);
        }
        Ok(Hosts { listed: HostSet::of_ordered(&texts).ok_or(Fault::BadHost)?, left_out })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::HostPattern;

    fn set(hosts: impl IntoIterator<Item = String>) -> HostSet {
        hosts.into_iter().map(|host| host.parse::<HostPattern>().unwrap()).collect()
    }

    fn encoded(hosts: &HostSet) -> Vec<u8> {
        let mut out = Vec::new();
        Hosts::encode(hosts, &mut out);
        out
    }

    #[test]
    fn hosts_round_trip() {
        let longest = format!("*.{}", ["x".repeat(63).as_str(); 4].join(".").split_at(253).0);
        for listed in [set([]), set(["a.test".to_owned(), "*.b.test".to_owned(), "[::1]".to_owned(), longest])] {
            assert_eq!(Hosts::decode(&encoded(&listed)), Ok(Hosts { listed, left_out: 0 }));
        }
    }

    #[test]
    fn hosts_that_do_not_fit_are_counted() {
        let many = set((0..3_000).map(|n| format!("host-{n:04}.test")));
        let bytes = encoded(&many);
        assert!(bytes.len() <= HOSTS_LEN_MAX && bytes.len() > HOSTS_LEN_MAX - 20);
        let hosts = Hosts::decode(&bytes).unwrap();
        assert_eq!(hosts.listed.len() + hosts.left_out as usize, 3_000);
        assert!(hosts.left_out > 0 && hosts.listed.iter().eq(many.iter().take(hosts.listed.len())));
    }

    #[test]
    fn each_bad_list_has_its_fault() {
        let whole = encoded(&set(["a.test".to_owned(), "b.test".to_owned()]));
        for len in (0..whole.len()).filter(|len| ![4, 11].contains(len)) {
            assert_eq!(Hosts::decode(&whole[..len]), Err(Fault::Truncated), "{len}");
        }
        let change = |at: usize, to: u8| {
            let mut bytes = whole.clone();
            bytes[at] = to;
            Hosts::decode(&bytes).unwrap_err()
        };
        assert_eq!(change(4, 0), Fault::FieldRange);
        assert_eq!(change(5, b'\n'), Fault::BadText);
        assert_eq!(change(5, b'_'), Fault::BadHost);
        assert_eq!(change(5, b'A'), Fault::BadHost, "the host is not in normal form");
        assert_eq!(change(5, b'b'), Fault::BadHost, "a host occurs twice");
        assert_eq!(change(5, b'c'), Fault::BadHost, "the hosts are not in order");
    }
}
