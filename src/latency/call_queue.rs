//! The calls of one route: how many are in flight, and which of the waiting calls is next.
//!
//! A call gets a place if fewer calls are in flight than the limit allows, and its agent has not used up its share.
//! Otherwise it waits, but no longer than `queue_time`, and only if it is likely to get a place before its caller gives
//! up. When the queue is full, the newest call of the agent with the most waiting calls is refused.
//!
//! A free place goes to the agent with the fewest calls in flight; among equals, to the one that was served least
//! recently. Among the calls of one agent, it goes to the one whose waiting time ends first.

use std::time::Duration;

use rustc_hash::FxHashMap;

use super::concurrency_limit::{ConcurrencyLimit, Load};
use crate::base::{ConcurrencyTerms, GuardMode, Time};

/// The longest `Retry-After` of a refused call.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(30);
/// The shortest `Retry-After` of a refused call.
const RETRY_AFTER_MIN: Duration = Duration::from_secs(1);
/// Nanoseconds of a second.
const NANOS: f64 = 1e9;
/// The mean time of a call covers about this many of the last calls.
const TIMES: f64 = 32.0;

/// The calls in flight and waiting of one route.
pub struct CallQueue {
    terms: Option<ConcurrencyTerms>,
    limit: ConcurrencyLimit,
    in_flight: u32,
    /// The agents that have calls in flight or waiting; there are few.
    agents: FxHashMap<u64, AgentUse>,
    waiting: Vec<Waiting>,
    /// The number of the last ticket or place; both are numbered from one sequence.
    numbers: u64,
    /// The mean time for which a call holds its place, in nanoseconds.
    time_ns: f64,
    /// The tickets that were decided but not yet [taken](CallQueue::take_decided).
    decided: Vec<Ticket>,
    counts: QueueCounts,
}

/// What happened to the calls of one route since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueCounts {
    /// Calls that got a place, at once or after waiting.
    pub admitted: u64,
    /// Calls that waited for a place.
    pub waited: u64,
    /// Calls that were refused.
    pub refused: u64,
    /// Refused calls whose agent had used up its share while places were free.
    pub refused_for_share: u64,
    /// Calls that would have waited or been refused if the limit were enforced.
    pub would_refuse: u64,
}

/// The state of one route's queue at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueReading {
    /// What happens to calls beyond the limit, as of the last call.
    pub mode: GuardMode,
    /// How many calls may be in flight.
    pub limit: u32,
    /// How many calls are in flight.
    pub in_flight: u32,
    /// How many wait for a place.
    pub waiting: u32,
    /// How many agents have calls.
    pub agents: u32,
    /// The totals since the start.
    pub counts: QueueCounts,
}

/// A call that asks for a place.
#[derive(Clone, Copy, Debug)]
pub struct AskingCall {
    /// A number that identifies its agent.
    pub agent: u64,
    /// When its caller gives up, if known.
    pub ends: Option<Time>,
    /// How long the call will take, if known. The mean of the route's calls is used otherwise.
    pub needs: Option<Duration>,
}

/// Identifies a waiting call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket(u64);

/// A place among the calls in flight. It must be [released](CallQueue::release).
#[must_use]
#[derive(Debug)]
pub struct Place {
    agent: u64,
    began: Time,
    load: Load,
    /// How many calls were in flight with it, and the limit at that moment.
    in_flight: u32,
    limit: u32,
}

/// The answer to a call that asks for a place.
#[derive(Debug)]
pub enum QueueDecision {
    /// The call has a place.
    Admitted(Place),
    /// The call waits, at the latest until this time.
    Waits(Ticket, Time),
    /// The call is refused at once.
    Refused(Overload),
}

/// Why a call was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OverloadCause {
    /// The queue was full, and this was the newest call of the agent with the most waiting calls.
    QueueFull,
    /// It was not likely to get a place in time.
    TooLate,
    /// It waited for as long as allowed.
    WaitedTooLong,
}

/// A call was refused by the concurrency limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overload {
    /// Why it was refused.
    pub cause: OverloadCause,
    /// Whether places were free, but its agent had used up its share.
    pub is_of_agent: bool,
    /// The limit of calls in flight.
    pub limit: u32,
    /// How many calls were in flight.
    pub in_flight: u32,
    /// When a place is likely to be free.
    pub retry_after: Duration,
}

/// How a call with a place ended.
#[derive(Clone, Copy, Debug, Default)]
pub struct Served {
    /// How long it took, if it was answered.
    pub took: Option<Duration>,
    /// How much longer it took than on an idle server, as the natural logarithm of the ratio, if known.
    pub slowdown: Option<f64>,
}

impl Served {
    /// The slowdown of a call that the server refused because it is overloaded: as if it had taken twice as long.
    pub const OVERLOADED: f64 = std::f64::consts::LN_2;
}

#[derive(Default)]
struct AgentUse {
    in_flight: u32,
    waiting: u32,
    /// The number of the last place that it got.
    served: u64,
}

struct Waiting {
    ticket: Ticket,
    agent: u64,
    /// Until when the call waits.
    until: Time,
    decision: Option<Result<Place, Overload>>,
}

/// By what it is decided which call that may have a place is next: the least is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Turn {
    /// How many calls of its agent are in flight.
    in_flight: u32,
    /// When its agent got a place last, as a number.
    served: u64,
    until: Time,
    number: u64,
}

impl Place {
    /// When the call began.
    #[must_use]
    pub fn began(&self) -> Time {
        self.began
    }

    /// How many calls were in flight when it got the place, itself included, and the limit.
    #[must_use]
    pub fn taken(&self) -> (u32, u32) {
        (self.in_flight, self.limit)
    }

    /// Whether so few calls were in flight that the duration of this call is that of an idle server.
    #[must_use]
    pub fn is_unhurried(&self) -> bool {
        self.load.is_low
    }
}

impl Default for CallQueue {
    fn default() -> CallQueue {
        CallQueue {
            terms: None,
            limit: ConcurrencyLimit::new(),
            in_flight: 0,
            agents: FxHashMap::default(),
            waiting: Vec::new(),
            numbers: 0,
            time_ns: 0.0,
            decided: Vec::new(),
            counts: QueueCounts::default(),
        }
    }
}

impl CallQueue {
    /// Gives a call of this agent a place if one is available at once. Where the limit is not enforced, one always is.
    pub fn admit(&mut self, agent: u64, terms: &ConcurrencyTerms, now: Time) -> Option<Place> {
        if self.terms.replace(*terms).is_some_and(|before| before != *terms) {
            self.admit_waiting(now);
        }
        let is_free = self.in_flight < self.limit.get(terms) && !self.is_over_share(agent, terms);
        if !is_free && terms.is_enforced() {
            return None;
        }
        self.counts.would_refuse += u64::from(!is_free);
        Some(self.enter(agent, terms, now))
    }

    /// Asks for a place. The call waits if there is none.
    pub fn ask(&mut self, call: &AskingCall, terms: &ConcurrencyTerms, now: Time) -> QueueDecision {
        if let Some(place) = self.admit(call.agent, terms, now) {
            return QueueDecision::Admitted(place);
        }
        let is_free = self.in_flight < self.limit.get(terms);
        let needs = call.needs.unwrap_or(Duration::from_nanos(self.time_ns as u64));
        let until = (now + terms.queue_time).min(call.ends.map_or(Time::NEVER, |ends| before(ends, needs)));
        if now + self.wait_of(call.agent, is_free, terms) > until {
            return QueueDecision::Refused(self.refuse(OverloadCause::TooLate, call.agent));
        }
        if !self.make_room(call.agent, terms) {
            return QueueDecision::Refused(self.refuse(OverloadCause::QueueFull, call.agent));
        }
        self.numbers += 1;
        let ticket = Ticket(self.numbers);
        self.waiting.push(Waiting { ticket, agent: call.agent, until, decision: None });
        self.agents.entry(call.agent).or_default().waiting += 1;
        self.counts.waited += 1;
        QueueDecision::Waits(ticket, until)
    }

    /// The waiting calls that were decided since the last call of this function.
    pub fn take_decided(&mut self) -> impl Iterator<Item = Ticket> {
        self.decided.drain(..)
    }

    /// The decision about a waiting call, which then leaves the queue; `None` if it must wait on.
    pub fn decision(&mut self, ticket: Ticket) -> Option<Result<Place, Overload>> {
        let at = self.waiting.iter().position(|one| one.ticket == ticket && one.decision.is_some())?;
        self.waiting.swap_remove(at).decision
    }

    /// Decides about a call that has waited for as long as allowed.
    pub fn time_out(&mut self, ticket: Ticket, now: Time) -> Result<Place, Overload> {
        if let Some(decision) = self.decision(ticket) {
            return decision;
        }
        match self.remove(ticket) {
            Some(agent) => {
                let overload = self.refuse(OverloadCause::WaitedTooLong, agent);
                self.leave(agent);
                self.admit_waiting(now);
                Err(overload)
            }
            None => Err(self.overload(OverloadCause::WaitedTooLong, 0)),
        }
    }

    /// The caller of a waiting call has given up.
    pub fn abandon(&mut self, ticket: Ticket, now: Time) {
        match self.decision(ticket) {
            Some(Ok(place)) => self.release(place, Served::default(), now),
            Some(Err(_)) => {}
            None => {
                if let Some(agent) = self.remove(ticket) {
                    self.leave(agent);
                    self.admit_waiting(now);
                }
            }
        }
    }

    /// A call with a place has ended.
    pub fn release(&mut self, place: Place, served: Served, now: Time) {
        let Place { agent, began, load, .. } = place;
        self.in_flight = self.in_flight.saturating_sub(1);
        if let Some(of_agent) = self.agents.get_mut(&agent) {
            of_agent.in_flight = of_agent.in_flight.saturating_sub(1);
        }
        self.forget_idle(agent);
        if let Some(took) = served.took {
            let took = took.as_secs_f64() * NANOS;
            self.time_ns = if self.time_ns == 0.0 { took } else { self.time_ns + (took - self.time_ns) / TIMES };
        }
        if let (Some(terms), Some(slowdown)) = (self.terms, served.slowdown)
            && load.is_high
        {
            self.limit.record(began, slowdown, &terms, now);
        }
        self.admit_waiting(now);
    }

    /// Whether no call is in flight or waits.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.in_flight == 0 && self.waiting.is_empty()
    }

    /// The state of the queue; `None` before the first call.
    #[must_use]
    pub fn reading(&self) -> Option<QueueReading> {
        let terms = self.terms?;
        Some(QueueReading {
            mode: terms.mode,
            limit: self.limit.get(&terms),
            in_flight: self.in_flight,
            waiting: self.undecided(),
            agents: self.agents.len() as u32,
            counts: self.counts,
        })
    }

    /// Gives free places to calls that wait.
    fn admit_waiting(&mut self, now: Time) {
        let Some(terms) = self.terms else { return };
        if self.waiting.is_empty() {
            return;
        }
        while !terms.is_enforced() || self.in_flight < self.limit.get(&terms) {
            let Some((at, agent)) = self.next(&terms, now) else { return };
            let place = self.enter(agent, &terms, now);
            if let Some(of_agent) = self.agents.get_mut(&agent) {
                of_agent.waiting = of_agent.waiting.saturating_sub(1);
            }
            self.decide(at, Ok(place));
        }
    }

    /// The call that gets the next place, if one may have it: where it waits, and its agent.
    fn next(&self, terms: &ConcurrencyTerms, now: Time) -> Option<(usize, u64)> {
        let look_up = |agent: u64| {
            let of_agent = self.agents.get(&agent);
            let (in_flight, served) = of_agent.map_or((0, 0), |of| (of.in_flight, of.served));
            let may = !(terms.is_enforced() && self.is_over_share(agent, terms));
            (may, in_flight, served)
        };
        // Many calls of one agent wait, one behind the other.
        let mut last: Option<(u64, (bool, u32, u64))> = None;
        let mut next: Option<(Turn, usize, u64)> = None;
        for (at, one) in self.waiting.iter().enumerate() {
            if one.decision.is_some() || one.until < now {
                continue;
            }
            // Most calls are not ahead of the first one of their agent.
            if let Some((first, _, agent)) = &next
                && *agent == one.agent
                && (first.until, first.number) < (one.until, one.ticket.0)
            {
                continue;
            }
            let (may, in_flight, served) = match last {
                Some((agent, known)) if agent == one.agent => known,
                _ => look_up(one.agent),
            };
            last = Some((one.agent, (may, in_flight, served)));
            let turn = Turn { in_flight, served, until: one.until, number: one.ticket.0 };
            if may && next.is_none_or(|(first, ..)| turn < first) {
                next = Some((turn, at, one.agent));
            }
        }
        next.map(|(_, at, agent)| (at, agent))
    }

    fn decide(&mut self, at: usize, decision: Result<Place, Overload>) {
        let one = &mut self.waiting[at];
        one.decision = Some(decision);
        self.decided.push(one.ticket);
    }

    fn enter(&mut self, agent: u64, terms: &ConcurrencyTerms, now: Time) -> Place {
        self.in_flight += 1;
        self.numbers += 1;
        self.counts.admitted += 1;
        let of_agent = self.agents.entry(agent).or_default();
        of_agent.in_flight += 1;
        of_agent.served = self.numbers;
        let (in_flight, limit) = (self.in_flight, self.limit.get(terms));
        Place { agent, began: now, load: self.limit.load(in_flight, terms), in_flight, limit }
    }

    /// Whether an agent has used up its share of the places. The share applies only while other agents have calls.
    fn is_over_share(&self, agent: u64, terms: &ConcurrencyTerms) -> bool {
        // An agent without calls is within its share, and so is one that is alone.
        if terms.agent_share_percent >= 100 || self.agents.len() <= 1 {
            return false;
        }
        let of_agent = self.agents.get(&agent);
        of_agent.is_some_and(|of| of.in_flight >= share_of(self.limit.get(terms), terms))
    }

    /// How long a call of this agent is likely to wait: until one place is free for each call ahead of it, and one for
    /// itself. With `is_free`, places are free and the agent has used up its share.
    fn wait_of(&self, agent: u64, is_free: bool, terms: &ConcurrencyTerms) -> Duration {
        let own = self.agents.get(&agent).map_or(0, |of| of.waiting) + 1;
        let limit = self.limit.get(terms);
        let (before, places) = if is_free {
            (own, share_of(limit, terms))
        } else {
            let others = self.agents.iter().filter(|(other, _)| **other != agent);
            (others.map(|(_, of)| of.waiting.min(own)).sum::<u32>() + own, limit)
        };
        Duration::from_nanos((self.time_ns * f64::from(before) / f64::from(places.max(1))) as u64)
    }

    /// Makes room for one more waiting call of an agent. If the queue is full, the newest call of the agent with the
    /// most waiting calls is refused. Returns false if that is the new call itself.
    fn make_room(&mut self, agent: u64, terms: &ConcurrencyTerms) -> bool {
        if self.undecided() < terms.queue_max {
            return true;
        }
        if terms.queue_max == 0 {
            return false;
        }
        let own = self.agents.get(&agent).map_or(0, |of| of.waiting);
        let most = self.agents.iter().map(|(other, of)| (of.waiting, *other)).max();
        let Some((_, largest)) = most.filter(|(waiting, _)| *waiting > own + 1) else { return false };
        let newest = self.waiting.iter().enumerate().filter(|(_, one)| one.agent == largest && one.decision.is_none());
        let Some(at) = newest.max_by_key(|(_, one)| one.ticket.0).map(|(at, _)| at) else { return false };
        let overload = self.refuse(OverloadCause::QueueFull, largest);
        if let Some(of_agent) = self.agents.get_mut(&largest) {
            of_agent.waiting = of_agent.waiting.saturating_sub(1);
        }
        self.decide(at, Err(overload));
        true
    }

    /// How many calls wait without a decision.
    fn undecided(&self) -> u32 {
        self.agents.values().map(|of| of.waiting).sum()
    }

    /// Removes a waiting call without a decision from the queue. Returns its agent.
    fn remove(&mut self, ticket: Ticket) -> Option<u64> {
        let at = self.waiting.iter().position(|one| one.ticket == ticket)?;
        Some(self.waiting.swap_remove(at).agent)
    }

    /// A call of an agent no longer waits.
    fn leave(&mut self, agent: u64) {
        if let Some(of_agent) = self.agents.get_mut(&agent) {
            of_agent.waiting = of_agent.waiting.saturating_sub(1);
        }
        self.forget_idle(agent);
    }

    fn forget_idle(&mut self, agent: u64) {
        if self.agents.get(&agent).is_some_and(|of| of.in_flight == 0 && of.waiting == 0) {
            self.agents.remove(&agent);
        }
    }

    fn refuse(&mut self, cause: OverloadCause, agent: u64) -> Overload {
        let overload = self.overload(cause, agent);
        self.counts.refused += 1;
        self.counts.refused_for_share += u64::from(overload.is_of_agent);
        overload
    }

    fn overload(&self, cause: OverloadCause, agent: u64) -> Overload {
        let limit = self.terms.map_or(u32::MAX, |terms| self.limit.get(&terms));
        let is_of_agent = self.in_flight < limit && self.terms.is_some_and(|terms| self.is_over_share(agent, &terms));
        // The time until all calls that are in flight or waiting have ended.
        let calls = f64::from(self.in_flight) + f64::from(self.undecided());
        let retry_after = Duration::from_nanos((self.time_ns * calls / f64::from(limit)) as u64);
        Overload {
            cause,
            is_of_agent,
            limit,
            in_flight: self.in_flight,
            retry_after: retry_after.clamp(RETRY_AFTER_MIN, RETRY_AFTER_MAX),
        }
    }
}

/// How many of `limit` places one agent may hold while others have calls.
fn share_of(limit: u32, terms: &ConcurrencyTerms) -> u32 {
    let share = u64::from(limit) * u64::from(terms.agent_share_percent) / 100;
    u32::try_from(share).unwrap_or(u32::MAX).max(1)
}

/// The time `duration` before `time`.
fn before(time: Time, duration: Duration) -> Time {
    Time::ZERO + (time - (Time::ZERO + duration))
}

#[cfg(test)]
mod tests;
