//! The order and timing of connection attempts to a host's addresses (RFC 8305, "Happy Eyeballs"). It does no I/O, and
//! the time is passed in.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use crate::base::Time;

/// How long an attempt runs alone before the next one starts as well (RFC 8305, section 5).
const STAGGER: Duration = Duration::from_millis(250);

/// The attempts to connect to one host. The first success wins, and the caller then cancels the others.
pub(super) struct Race {
    waiting: VecDeque<SocketAddr>,
    running: usize,
    next_at: Time,
}

impl Race {
    /// A race between these addresses. The two address families alternate, each in the given order.
    pub(super) fn new(addresses: &[SocketAddr]) -> Race {
        let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
        let (ahead, behind): (Vec<_>, Vec<_>) =
            addresses.iter().copied().partition(|address| address.is_ipv6() == first_is_v6);
        let (mut ahead, mut behind) = (ahead.into_iter(), behind.into_iter());
        let mut waiting = VecDeque::with_capacity(addresses.len());
        while waiting.len() < addresses.len() {
            waiting.extend(ahead.next());
            waiting.extend(behind.next());
        }
        Race { waiting, running: 0, next_at: Time::ZERO }
    }

    /// The address of the attempt that is to start now, if there is one.
    pub(super) fn start(&mut self, now: Time) -> Option<SocketAddr> {
        if now < self.next_at {
            return None;
        }
        let address = self.waiting.pop_front()?;
        self.running += 1;
        self.next_at = now + STAGGER;
        Some(address)
    }

    /// When the next attempt starts if none ends before; `None` if all have started.
    pub(super) fn next_at(&self) -> Option<Time> {
        (!self.waiting.is_empty()).then_some(self.next_at)
    }

    /// An attempt has failed, so the next one starts at once.
    pub(super) fn on_failed(&mut self, now: Time) {
        self.running -= 1;
        self.next_at = now;
    }

    /// Whether every attempt has failed.
    pub(super) fn is_lost(&self) -> bool {
        self.running == 0 && self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| format!("{text}:1").parse().unwrap()).collect()
    }

    fn at(ms: u64) -> Time {
        Time::from_nanos(ms * 1_000_000)
    }

    /// The order of the attempts if no address answers, with the start of each in milliseconds.
    fn order(texts: &[&str]) -> Vec<(u64, String)> {
        let (mut race, mut now, mut all) = (Race::new(&addresses(texts)), Time::ZERO, Vec::new());
        loop {
            while let Some(address) = race.start(now) {
                all.push((now.as_nanos() / 1_000_000, address.ip().to_string()));
            }
            match race.next_at() {
                Some(next) => now = next,
                None => return all,
            }
        }
    }

    #[test]
    fn the_families_take_turns_a_quarter_of_a_second_apart() {
        let tried = order(&["[2001:db8::1]", "[2001:db8::2]", "192.0.2.1", "[2001:db8::3]", "192.0.2.2"]);
        let wanted =
            [(0, "2001:db8::1"), (250, "192.0.2.1"), (500, "2001:db8::2"), (750, "192.0.2.2"), (1_000, "2001:db8::3")];
        assert_eq!(tried, wanted.map(|(ms, address)| (ms, address.to_owned())));
        assert_eq!(order(&["192.0.2.1", "[2001:db8::1]"])[0].1, "192.0.2.1");
        assert_eq!(order(&[]), []);
    }

    #[test]
    fn a_failed_attempt_gives_way_at_once_and_the_stagger_begins_anew() {
        let mut race = Race::new(&addresses(&["192.0.2.1", "192.0.2.2", "192.0.2.3"]));
        assert!(race.start(at(0)).is_some());
        assert!(race.start(at(0)).is_none());
        race.on_failed(at(10));
        assert_eq!(race.start(at(10)).unwrap().ip().to_string(), "192.0.2.2");
        assert_eq!(race.next_at(), Some(at(260)));
        assert!(race.start(at(259)).is_none());
        assert!(race.start(at(260)).is_some());
        assert_eq!(race.next_at(), None);
        race.on_failed(at(300));
        assert!(!race.is_lost());
        race.on_failed(at(300));
        assert!(race.is_lost());
    }

    #[test]
    fn a_race_without_addresses_is_lost() {
        assert!(Race::new(&[]).is_lost());
    }
}
