use std::time::Duration;

use crate::base::{CoreId, LinkId};

/// The most cores that a [`CoreSet`] can hold, and so the most that a role can have.
pub const CORES_MAX: usize = 256;

const WORD_BITS: usize = u64::BITS as usize;

/// A set of cores, as bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CoreSet {
    words: [u64; CORES_MAX / WORD_BITS],
}

impl CoreSet {
    /// The set that holds no core.
    pub const EMPTY: CoreSet = CoreSet { words: [0; CORES_MAX / WORD_BITS] };

    /// Adds a core; returns false if its number is not below [`CORES_MAX`].
    pub fn insert(&mut self, core: CoreId) -> bool {
        let at = usize::from(core.0);
        let word = self.words.get_mut(at / WORD_BITS);
        word.map(|word| *word |= 1 << (at % WORD_BITS)).is_some()
    }

    /// Removes a core, if the set has it.
    #[cfg(test)]
    pub fn remove(&mut self, core: CoreId) {
        let at = usize::from(core.0);
        if let Some(word) = self.words.get_mut(at / WORD_BITS) {
            *word &= !(1 << (at % WORD_BITS));
        }
    }

    /// Whether the set has this core.
    #[must_use]
    pub fn contains(&self, core: CoreId) -> bool {
        let at = usize::from(core.0);
        self.words.get(at / WORD_BITS).is_some_and(|word| word >> (at % WORD_BITS) & 1 == 1)
    }

    /// Whether the set has no core.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    /// The first core after `core` in a cyclic order; never `core` itself.
    #[must_use]
    pub fn next_after(&self, core: CoreId) -> Option<CoreId> {
        let start = usize::from(core.0) % CORES_MAX;
        let round = (1..CORES_MAX).map(|step| CoreId(((start + step) % CORES_MAX) as u16));
        if self.is_empty() { None } else { round.into_iter().find(|other| self.contains(*other)) }
    }
}

/// A link that was silent for this long takes only [`UNPROVEN_MAX`] calls until something arrives, if there is another
/// link.
const SILENT_AFTER: Duration = Duration::from_secs(1);
/// The calls that a silent link takes. There are few, so that a frozen connector fails few calls.
const UNPROVEN_MAX: u32 = 2;
/// A link that has owed an answer for this long is used only if there is no better one.
const SUSPECT_AFTER: Duration = Duration::from_millis(200);
/// A link that has owed an answer for this long takes no calls if there is another one.
pub const STALLED_AFTER: Duration = Duration::from_secs(1);

/// The load of a link of the tunnel on this core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkLoad {
    /// The id of the link.
    pub id: LinkId,
    /// The number of streams that are open on it.
    pub open_streams: u32,
    /// The number of streams that the connector allows on it.
    pub streams_max: u32,
    /// Whether either side has asked to drain it, so that it takes no new streams.
    pub draining: bool,
    /// The time since anything came from the connector.
    pub silent: Duration,
    /// How long the connector has owed an answer and sent nothing; zero if it owes none.
    pub owing: Duration,
    /// The calls that were begun on it since anything arrived.
    pub unproven: u32,
}

/// Where a new stream goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkChoice {
    /// Use this link of this core.
    Link(LinkId),
    /// Use this link of this core if no other core has one: every link here has owed an answer for too long.
    Stalled(LinkId),
    /// Use this link of this core if there is no other: every link here was silent and has unproven calls already.
    /// Otherwise wait until something arrives on one of them. That takes at most until a link becomes
    /// [`LinkChoice::Stalled`].
    Silent(LinkId),
    /// No link can take the stream; the reason says why.
    Offline(Offline),
}

/// How likely a link is to answer, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Trust {
    Answers,
    Suspect,
    Silent,
    Stalled,
}

impl LinkLoad {
    fn trust(&self) -> Trust {
        if self.owing >= STALLED_AFTER {
            Trust::Stalled
        } else if self.silent >= SILENT_AFTER && self.unproven >= UNPROVEN_MAX {
            Trust::Silent
        } else if self.owing >= SUSPECT_AFTER {
            Trust::Suspect
        } else {
            Trust::Answers
        }
    }
}

/// Why no link can take the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Offline {
    /// All links are being drained.
    #[error("the route's connector is shutting down and no other has taken its place")]
    Draining,
    /// Every link is at its limit of streams.
    #[error("every link of the route's connector has as many calls in flight as it may; try again shortly")]
    Full,
    /// The tunnel has no link.
    #[error("the route's connector is not linked; start `adit connect` for this tunnel or wait for it to return")]
    NoConnector,
}

/// Chooses the link for a new stream: among the links of this core that are most likely to answer, the one with the
/// fewest open streams. Among equals it is the first after `last`, the link that took the last call.
#[must_use]
pub fn choose_link(links: impl IntoIterator<Item = LinkLoad>, last: LinkId) -> LinkChoice {
    let mut best = None;
    let mut why = Offline::NoConnector;
    for link in links {
        if link.draining {
            why = if why == Offline::Full { Offline::Full } else { Offline::Draining };
        } else if link.open_streams >= link.streams_max {
            why = Offline::Full;
        } else {
            let rank = (link.trust(), link.open_streams, link.id <= last, link.id);
            if best.is_none_or(|best| rank < best) {
                best = Some(rank);
            }
        }
    }
    match best {
        None => LinkChoice::Offline(why),
        Some((Trust::Stalled, _, _, id)) => LinkChoice::Stalled(id),
        Some((Trust::Silent, _, _, id)) => LinkChoice::Silent(id),
        Some((_, _, _, id)) => LinkChoice::Link(id),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Rng;

    const MS: Duration = Duration::from_millis(1);

    fn link(id: u64, open_streams: u32) -> LinkLoad {
        let (id, none) = (LinkId(id), Duration::ZERO);
        LinkLoad { id, open_streams, streams_max: 10, draining: false, silent: none, owing: none, unproven: 0 }
    }

    fn draining(id: u64) -> LinkLoad {
        LinkLoad { draining: true, ..link(id, 0) }
    }

    fn owing(id: u64, owing_ms: u32) -> LinkLoad {
        LinkLoad { owing: MS * owing_ms, ..link(id, 0) }
    }

    fn silent(id: u64, unproven: u32) -> LinkLoad {
        LinkLoad { silent: SILENT_AFTER, unproven, ..link(id, 0) }
    }

    fn set(cores: &[u16]) -> CoreSet {
        let mut set = CoreSet::EMPTY;
        assert!(cores.iter().all(|core| set.insert(CoreId(*core))));
        set
    }

    fn choose(links: &[LinkLoad]) -> LinkChoice {
        choose_link(links.iter().copied(), LinkId(0))
    }

    #[test]
    fn the_least_loaded_link_goes_first_and_equals_take_turns() {
        assert_eq!(choose(&[link(1, 4), link(2, 1), link(3, 2), draining(4)]), LinkChoice::Link(LinkId(2)));
        assert_eq!(choose(&[link(1, 10), link(2, 9)]), LinkChoice::Link(LinkId(2)));
        let after = |last| choose_link([link(1, 1), link(2, 1), link(3, 0), link(4, 0)], LinkId(last));
        assert_eq!([0, 2, 3, 4, 9].map(after), [3, 3, 4, 3, 3].map(|id| LinkChoice::Link(LinkId(id))));
    }

    #[test]
    fn a_link_that_owes_an_answer_takes_no_call_that_another_can() {
        assert_eq!(choose(&[owing(1, 199), link(2, 1)]), LinkChoice::Link(LinkId(1)));
        assert_eq!(choose(&[owing(1, 200), link(2, 9)]), LinkChoice::Link(LinkId(2)));
        assert_eq!(choose(&[owing(1, 999), owing(2, 1_000)]), LinkChoice::Link(LinkId(1)));
        assert_eq!(choose(&[owing(1, 1_000), link(2, 10)]), LinkChoice::Stalled(LinkId(1)));
        assert_eq!(choose(&[owing(2, 1_000), owing(1, 2_000)]), LinkChoice::Stalled(LinkId(1)));
    }

    #[test]
    fn silent_links_take_a_few_calls_until_one_is_heard() {
        assert_eq!(choose(&[silent(1, 1), silent(2, 2)]), LinkChoice::Link(LinkId(1)));
        assert_eq!(choose(&[silent(1, 2), silent(2, 2)]), LinkChoice::Silent(LinkId(1)));
        assert_eq!(choose(&[silent(1, 2), owing(2, 1_000)]), LinkChoice::Silent(LinkId(1)));
        assert_eq!(choose(&[silent(1, 2), owing(2, 500)]), LinkChoice::Link(LinkId(2)));
        let lately = LinkLoad { silent: SILENT_AFTER - MS, unproven: 9, ..link(3, 9) };
        assert_eq!(choose(&[silent(1, 2), lately]), LinkChoice::Link(LinkId(3)), "it was heard lately");
    }

    #[test]
    fn offline_says_why() {
        assert_eq!(choose(&[]), LinkChoice::Offline(Offline::NoConnector));
        assert_eq!(choose(&[draining(1)]), LinkChoice::Offline(Offline::Draining));
        assert_eq!(choose(&[link(1, 10), draining(2)]), LinkChoice::Offline(Offline::Full));
        assert_eq!(choose(&[draining(2), link(1, 11)]), LinkChoice::Offline(Offline::Full));
    }

    #[test]
    fn cores_are_asked_in_a_round_and_never_oneself() {
        let cores = set(&[1, 64, 255]);
        assert_eq!(cores.next_after(CoreId(0)), Some(CoreId(1)));
        assert_eq!(cores.next_after(CoreId(1)), Some(CoreId(64)));
        assert_eq!(cores.next_after(CoreId(64)), Some(CoreId(255)));
        assert_eq!(cores.next_after(CoreId(255)), Some(CoreId(1)));
        assert_eq!(set(&[7]).next_after(CoreId(7)), None);
        assert_eq!(CoreSet::EMPTY.next_after(CoreId(0)), None);
    }

    #[test]
    fn a_core_set_is_a_set() {
        let mut rng = Rng::new(8);
        let (mut set, mut model) = (CoreSet::EMPTY, std::collections::BTreeSet::new());
        for _ in 0..5_000 {
            let core = CoreId(rng.below(CORES_MAX as u64) as u16);
            if rng.chance(0.5) {
                assert!(set.insert(core));
                model.insert(core);
            } else {
                set.remove(core);
                model.remove(&core);
            }
            assert!(model.iter().all(|core| set.contains(*core)));
            assert_eq!(set.is_empty(), model.is_empty());
            let after = model.range(CoreId(core.0 + 1)..).chain(model.range(..core)).next();
            assert_eq!(set.next_after(core), after.copied());
        }
        assert!(!set.insert(CoreId(256)));
        assert!(!set.contains(CoreId(256)));
        set.remove(CoreId(256));
    }
}
