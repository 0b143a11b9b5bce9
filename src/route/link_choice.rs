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
}

/// Where a new stream goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkChoice {
    /// Use this link of this core.
    Here(LinkId),
    /// Hand the connection over to this core, which has a link of the tunnel.
    OtherCore(CoreId),
    /// No link can take the stream; the reason says why.
    Offline(Offline),
}

/// Why no link can take the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Offline {
    /// All links are being drained.
    #[error("the route's connector is shutting down and no other has taken its place")]
    Draining,
    /// Every link has the most streams that it may have.
    #[error("every link of the route's connector has as many calls in flight as it may; try again shortly")]
    Full,
    /// The tunnel has no link.
    #[error("the route's connector is not linked; start `adit connect` for this tunnel or wait for it to return")]
    NoLink,
}

/// Chooses where a new stream goes: the link of this core with the fewest open streams, and the oldest of equals. If
/// this core has no usable link, another core of `elsewhere`, the cores that have one.
///
/// Pass an empty `elsewhere` for a connection that must not be handed over, because it has carried data or was handed
/// over before.
#[must_use]
pub fn choose_link(links: impl IntoIterator<Item = LinkLoad>, here: CoreId, elsewhere: CoreSet) -> LinkChoice {
    let mut best: Option<LinkLoad> = None;
    let mut why = Offline::NoLink;
    for link in links {
        if link.draining {
            why = if why == Offline::Full { Offline::Full } else { Offline::Draining };
        } else if link.open_streams >= link.streams_max {
            why = Offline::Full;
        } else if best.is_none_or(|best| (link.open_streams, link.id) < (best.open_streams, best.id)) {
            best = Some(link);
        }
    }
    match (best, elsewhere.next_after(here)) {
        (Some(link), _) => LinkChoice::Here(link.id),
        (None, Some(core)) => LinkChoice::OtherCore(core),
        (None, None) => LinkChoice::Offline(why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Rng;

    fn link(id: u64, open_streams: u32) -> LinkLoad {
        LinkLoad { id: LinkId(id), open_streams, streams_max: 10, draining: false }
    }

    fn draining(id: u64) -> LinkLoad {
        LinkLoad { draining: true, ..link(id, 0) }
    }

    fn set(cores: &[u16]) -> CoreSet {
        let mut set = CoreSet::EMPTY;
        assert!(cores.iter().all(|core| set.insert(CoreId(*core))));
        set
    }

    #[test]
    fn the_least_loaded_link_here_goes_first() {
        let choose = |links: &[LinkLoad]| choose_link(links.iter().copied(), CoreId(0), set(&[0, 3]));
        assert_eq!(choose(&[link(1, 4), link(2, 1), link(3, 1), draining(4)]), LinkChoice::Here(LinkId(2)));
        assert_eq!(choose(&[link(1, 10), link(2, 9)]), LinkChoice::Here(LinkId(2)));
        assert_eq!(choose(&[link(1, 10), draining(2)]), LinkChoice::OtherCore(CoreId(3)));
        assert_eq!(choose(&[]), LinkChoice::OtherCore(CoreId(3)));
    }

    #[test]
    fn offline_says_why() {
        let choose = |links: &[LinkLoad]| choose_link(links.iter().copied(), CoreId(2), set(&[2]));
        assert_eq!(choose(&[]), LinkChoice::Offline(Offline::NoLink));
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
