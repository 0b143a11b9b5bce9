//! The concurrency limits of the routes of a role, which all its cores share.
//!
//! They are shared because a server that works on eight calls at one time does so whichever cores they came to. A call
//! takes the lock of its route twice, for some tens of nanoseconds: when it begins and when it ends. If its end shows
//! how busy the server is, as each 2xx answer does, it first takes the lock of its label's latencies, for as long.
//! `observe` does the same and counts what `enforce` would do.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use rustc_hash::FxHashMap;

use crate::base::{Clock, ConcurrencyTerms, Time};
use crate::engine::Core;
use crate::latency::{AskingCall, CallQueue, Overload, Place, QueueDecision, QueueReading, Served, Ticket};
use crate::route::RouteName;

/// The most routes that have a limit. Calls of other routes have no limit and are counted.
const ROUTES_MAX: usize = 1_024;

/// The limits of all routes.
#[derive(Default)]
pub struct RouteLimits(Mutex<HashMap<RouteName, Arc<RouteLimit>>>);

/// The limit of one route.
#[derive(Default)]
pub struct RouteLimit(Mutex<Shared>);

#[derive(Default)]
struct Shared {
    queue: CallQueue,
    /// The tasks of the calls that wait.
    wakers: Vec<(Ticket, Waker)>,
}

/// The limits that one core has looked up, valid as long as the tables are unchanged.
#[derive(Default)]
pub struct CoreLimits {
    version: Cell<u64>,
    by_route: RefCell<FxHashMap<RouteName, Arc<RouteLimit>>>,
}

/// A call's place among those in flight. Dropping it frees the place, and nothing is learned from the call.
pub struct CallPlace {
    of: Arc<RouteLimit>,
    core: Core,
    place: Option<Place>,
}

/// A call in the queue for a place. Dropping it leaves the queue.
pub struct WaitingCall {
    of: Arc<RouteLimit>,
    core: Core,
    ticket: Ticket,
    until: Time,
    is_over: bool,
}

/// The result for a call that needs a place.
pub enum PlaceAsked {
    /// It gets a place.
    Admitted(CallPlace),
    /// It waits for a place.
    Waits(WaitingCall),
    /// It is refused a place.
    Refused(Overload),
}

impl RouteLimits {
    /// The limit of a route; none if too many routes have one.
    fn of(&self, route: &RouteName) -> Option<Arc<RouteLimit>> {
        let mut limits = self.lock();
        if let Some(known) = limits.get(route) {
            return Some(Arc::clone(known));
        }
        if limits.len() >= ROUTES_MAX {
            // Cores forget the limits of removed routes when the tables change.
            limits.retain(|_, limit| Arc::strong_count(limit) > 1 || !limit.lock().queue.is_idle());
        }
        if limits.len() >= ROUTES_MAX {
            return None;
        }
        Some(Arc::clone(limits.entry(route.clone()).or_default()))
    }

    /// The state of all limits that have had calls, by route name.
    #[must_use]
    pub fn readings(&self) -> Vec<(String, QueueReading)> {
        let limits = self.lock();
        let reading = |(route, limit): (&RouteName, &Arc<RouteLimit>)| {
            Some((route.as_str().to_owned(), limit.lock().queue.reading()?))
        };
        let mut readings: Vec<(String, QueueReading)> = limits.iter().filter_map(reading).collect();
        readings.sort_by(|(one, _), (other, _)| one.cmp(other));
        readings
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RouteName, Arc<RouteLimit>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CoreLimits {
    /// The limit of a route of the tables with this version; none if too many routes have one.
    pub fn of(&self, all: &RouteLimits, route: &RouteName, version: u64) -> Option<Arc<RouteLimit>> {
        let mut by_route = self.by_route.borrow_mut();
        if self.version.replace(version) != version {
            by_route.clear();
        }
        if let Some(known) = by_route.get(route) {
            return Some(Arc::clone(known));
        }
        let limit = all.of(route)?;
        by_route.insert(route.clone(), Arc::clone(&limit));
        Some(limit)
    }
}

impl RouteLimit {
    /// Gives a call of this agent a place, if one is free.
    pub fn admit(self: &Arc<Self>, core: &Core, agent: u64, terms: &ConcurrencyTerms) -> Option<CallPlace> {
        let place = self.with(|queue| queue.admit(agent, terms, core.turn_time()))?;
        Some(CallPlace { of: Arc::clone(self), core: core.clone(), place: Some(place) })
    }

    /// Requests a place for a call, which may have to wait.
    pub fn ask(self: &Arc<Self>, core: &Core, call: &AskingCall, terms: &ConcurrencyTerms) -> PlaceAsked {
        match self.with(|queue| queue.ask(call, terms, core.turn_time())) {
            QueueDecision::Admitted(place) => {
                PlaceAsked::Admitted(CallPlace { of: Arc::clone(self), core: core.clone(), place: Some(place) })
            }
            QueueDecision::Waits(ticket, until) => PlaceAsked::Waits(WaitingCall {
                of: Arc::clone(self),
                core: core.clone(),
                ticket,
                until,
                is_over: false,
            }),
            QueueDecision::Refused(overload) => PlaceAsked::Refused(overload),
        }
    }

    /// Runs `run` on the queue, and wakes calls that need not wait any more.
    fn with<T>(&self, run: impl FnOnce(&mut CallQueue) -> T) -> T {
        let mut shared = self.lock();
        let result = run(&mut shared.queue);
        let Shared { queue, wakers } = &mut *shared;
        for ticket in queue.take_decided() {
            if let Some(at) = wakers.iter().position(|(of, _)| *of == ticket) {
                wakers.swap_remove(at).1.wake();
            }
        }
        result
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CallPlace {
    /// When the call got its place.
    #[must_use]
    pub fn began(&self) -> Time {
        self.place.as_ref().map_or(Time::ZERO, Place::began)
    }

    /// The calls in flight when the call got its place, including it, and the limit.
    #[must_use]
    pub fn taken(&self) -> Option<(u32, u32)> {
        self.place.as_ref().map(Place::taken)
    }

    /// Whether the duration of the call is that of a server that is not busy.
    #[must_use]
    pub fn is_unhurried(&self) -> bool {
        self.place.as_ref().is_some_and(Place::is_unhurried)
    }

    /// Ends the call and reports its result.
    pub fn end(mut self, served: Served, now: Time) {
        if let Some(place) = self.place.take() {
            self.of.with(|queue| queue.release(place, served, now));
        }
    }
}

impl Drop for CallPlace {
    fn drop(&mut self) {
        if let Some(place) = self.place.take() {
            let now = self.core.now();
            self.of.with(|queue| queue.release(place, Served::default(), now));
        }
    }
}

impl WaitingCall {
    /// Waits for the place.
    ///
    /// # Errors
    ///
    /// If the call is refused a place.
    pub async fn place(mut self) -> Result<CallPlace, Overload> {
        let core = self.core.clone();
        let decided = core.timeout_at(self.until, poll_fn(|cx| self.poll(cx))).await;
        self.is_over = true;
        let decided = match decided {
            Ok(decided) => decided,
            Err(_) => {
                let now = core.now();
                self.of.lock().wakers.retain(|(ticket, _)| *ticket != self.ticket);
                self.of.with(|queue| queue.time_out(self.ticket, now))
            }
        };
        decided.map(|place| CallPlace { of: Arc::clone(&self.of), core, place: Some(place) })
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<Result<Place, Overload>> {
        let mut shared = self.of.lock();
        let decision = shared.queue.decision(self.ticket);
        if let Some(decision) = decision {
            return Poll::Ready(decision);
        }
        match shared.wakers.iter_mut().find(|(ticket, _)| *ticket == self.ticket) {
            Some((_, waker)) => waker.clone_from(cx.waker()),
            None => shared.wakers.push((self.ticket, cx.waker().clone())),
        }
        Poll::Pending
    }
}

impl Drop for WaitingCall {
    fn drop(&mut self) {
        if !self.is_over {
            let now = self.core.now();
            self.of.lock().wakers.retain(|(ticket, _)| *ticket != self.ticket);
            self.of.with(|queue| queue.abandon(self.ticket, now));
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::pin::Pin;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;
    use std::time::Duration;

    use super::*;
    use crate::base::CoreId;
    use crate::base::GuardMode;
    use crate::engine::Pool;
    use crate::engine::sim::{Faults, SimNet};

    /// A core that no driver runs, and the network that keeps its clock.
    pub(in crate::serve) fn idle_core() -> (Core, SimNet) {
        let (net, pool) = (SimNet::new(1, Faults::none()), Pool::new(0));
        let driver = net.driver(IpAddr::V4(Ipv4Addr::LOCALHOST), pool.clone());
        (Core::new(CoreId(0), Box::new(driver), pool, Duration::ZERO), net)
    }

    /// Counts how often a task is woken.
    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    type Waits = Pin<Box<dyn Future<Output = Result<CallPlace, Overload>>>>;

    fn terms(max: u32) -> ConcurrencyTerms {
        ConcurrencyTerms { mode: GuardMode::Enforce, min: max, max, ..ConcurrencyTerms::default() }
    }

    fn waits(limit: &Arc<RouteLimit>, core: &Core) -> WaitingCall {
        match limit.ask(core, &AskingCall { agent: 1, ends: None, needs: None }, &terms(1)) {
            PlaceAsked::Waits(waiting) => waiting,
            PlaceAsked::Admitted(_) | PlaceAsked::Refused(_) => panic!("it waits"),
        }
    }

    /// For example, an agent resets the HTTP/2 stream of its call.
    #[test]
    fn a_call_that_is_dropped_while_it_waits_leaves_its_turn_to_the_next() {
        let (core, _net) = &idle_core();
        let limit = Arc::<RouteLimit>::default();
        let held = limit.admit(core, 1, &terms(1)).expect("there is a place");
        let woken = [(); 3].map(|()| Arc::<Woken>::default());
        let mut calls: Vec<Waits> = (0..3).map(|_| Box::pin(waits(&limit, core).place()) as Waits).collect();
        let poll = |call: &mut Waits, woken: &Arc<Woken>| {
            call.as_mut().poll(&mut Context::from_waker(&Waker::from(Arc::clone(woken))))
        };
        for (call, woken) in calls.iter_mut().zip(&woken) {
            assert!(poll(call, woken).is_pending());
        }
        let times = || woken.each_ref().map(|woken| woken.0.load(Ordering::Relaxed));
        // Drop a call that waits, and then one that was given the place and does not know it yet.
        drop(calls.remove(0));
        assert_eq!(times(), [0, 0, 0]);
        drop(held);
        assert_eq!(times(), [0, 1, 0]);
        drop(calls.remove(0));
        assert_eq!(times(), [0, 1, 1]);
        let Poll::Ready(Ok(place)) = poll(&mut calls[0], &woken[2]) else { panic!("it has a place") };
        assert!(limit.admit(core, 2, &terms(1)).is_none(), "which is the only one");
        drop(place);
        let shared = limit.lock();
        assert!(shared.queue.is_idle() && shared.wakers.is_empty());
    }

    #[test]
    fn so_many_routes_have_a_limit_and_those_that_are_gone_make_room() {
        let (core, _net) = &idle_core();
        let (all, of_core) = (RouteLimits::default(), CoreLimits::default());
        let name = |nth: usize| format!("route-{nth}").parse::<RouteName>().unwrap();
        for nth in 0..ROUTES_MAX {
            assert!(of_core.of(&all, &name(nth), 1).is_some());
        }
        assert!(of_core.of(&all, &name(ROUTES_MAX), 1).is_none(), "a core uses all of them");
        let busy = of_core.of(&all, &name(7), 1).expect("it is known");
        let held = busy.admit(core, 1, &terms(1)).expect("there is a place");
        drop(busy);
        // The tables have changed.
        assert!(of_core.of(&all, &name(ROUTES_MAX), 2).is_some());
        assert_eq!(all.lock().len(), 2, "the new one, and the one that has a call");
        assert_eq!(all.readings().len(), 1, "the new one has had none");
        drop(held);
    }
}
