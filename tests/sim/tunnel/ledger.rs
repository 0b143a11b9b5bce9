//! What happened, as seen from both ends, and what must never.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use adit::base::Time;

/// How a call ended for its agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The whole answer came, and was the right one.
    Whole,
    /// An error answer came, and was a proper one.
    Refused(u16),
    /// The connection visibly broke before the answer was whole.
    Broken,
    /// No connection came about.
    Unreached,
    /// The agent went away.
    Left,
    /// Nothing came for longer than any agent waits.
    Silent,
}

/// What the upstream saw of a call.
#[derive(Clone, Debug, Default)]
pub(crate) struct Arrival {
    /// How often its head came.
    pub(crate) heads: u32,
    /// Whether it may come twice: a GET or DELETE that met the end of an idle connection is sent once more, and so is a call of the
    /// tool that only reads, where the owner of the upstream lets it run twice.
    pub(crate) may_come_twice: bool,
    /// Its whole body came.
    pub(crate) whole: bool,
    /// When its client was seen to be gone before the answer was out.
    pub(crate) gone_at: Option<Time>,
    /// When the last byte of the answer was out.
    pub(crate) answered_at: Option<Time>,
}

/// The book that agents and the upstream of one run keep. Cheap to clone; the clones are one book.
#[derive(Clone, Default)]
pub(crate) struct Ledger(Rc<RefCell<Book>>);

#[derive(Default)]
struct Book {
    outcomes: BTreeMap<u64, Outcome>,
    left_at: BTreeMap<u64, Time>,
    arrivals: BTreeMap<u64, Arrival>,
    faults: Vec<String>,
}

impl Ledger {
    /// A call ended for its agent.
    pub(crate) fn outcome(&self, id: u64, outcome: Outcome) {
        let before = self.0.borrow_mut().outcomes.insert(id, outcome);
        if let Some(before) = before {
            self.fault(format!("call {id} had an outcome already: {before:?}"));
        }
    }

    /// The agent of a call went away now.
    pub(crate) fn left(&self, id: u64, now: Time) {
        self.0.borrow_mut().left_at.insert(id, now);
    }

    /// The upstream saw something of a call.
    pub(crate) fn arrival(&self, id: u64, see: impl FnOnce(&mut Arrival)) {
        see(self.0.borrow_mut().arrivals.entry(id).or_default());
    }

    /// Something happened that must not.
    pub(crate) fn fault(&self, fault: String) {
        self.0.borrow_mut().faults.push(fault);
    }

    /// How many calls ended.
    pub(crate) fn ended(&self) -> usize {
        self.0.borrow().outcomes.len()
    }

    /// How a call ended.
    pub(crate) fn outcome_of(&self, id: u64) -> Option<Outcome> {
        self.0.borrow().outcomes.get(&id).cloned()
    }

    /// What the upstream saw of a call.
    pub(crate) fn arrival_of(&self, id: u64) -> Option<Arrival> {
        self.0.borrow().arrivals.get(&id).cloned()
    }

    /// When the agent of a call went away.
    pub(crate) fn left_at(&self, id: u64) -> Option<Time> {
        self.0.borrow().left_at.get(&id).copied()
    }

    /// The calls that did not end whole, and how they did.
    pub(crate) fn not_whole(&self) -> Vec<(u64, Outcome)> {
        let book = self.0.borrow();
        let others = book.outcomes.iter().filter(|(_, outcome)| **outcome != Outcome::Whole);
        others.map(|(id, outcome)| (*id, outcome.clone())).collect()
    }

    /// How many calls ended so.
    pub(crate) fn count(&self, fits: impl Fn(&Outcome) -> bool) -> usize {
        self.0.borrow().outcomes.values().filter(|outcome| fits(outcome)).count()
    }

    /// Everything that must not have happened, and did.
    pub(crate) fn faults(&self) -> Vec<String> {
        let book = self.0.borrow();
        let too_often = |arrival: &Arrival| arrival.heads > if arrival.may_come_twice { 2 } else { 1 };
        let twice = book.arrivals.iter().filter(|(_, arrival)| too_often(arrival));
        let twice = twice.map(|(id, arrival)| format!("call {id} reached the upstream {} times", arrival.heads));
        let whole = book.outcomes.iter().filter(|(_, outcome)| **outcome == Outcome::Whole);
        let unasked = whole
            .filter(|(id, _)| book.arrivals.get(*id).is_none_or(|arrival| arrival.heads == 0))
            .map(|(id, _)| format!("call {id} was answered and never reached the upstream"));
        book.faults.iter().cloned().chain(twice).chain(unasked).collect()
    }
}
