//! The generator: tasks on one core that make the calls of a load and report how they ended.
//!
//! It uses no threads or processes, so that it also runs on the simulated network.

mod line;
mod pace;
mod tally;
#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use adit::base::{Clock, Time};
use adit::engine::{Core, Signal, Task};

use crate::answer::CallError;
use crate::dial::Dialer;
use crate::interrupt::Interrupt;
use crate::load::{Load, Mode};
use crate::monitor::Monitor;
use crate::outcome::{Cause, Outcome, Partial};
use crate::plan::ArrivalPlan;
use crate::request::Request;
use crate::run::Phase;
use line::Line;
pub(crate) use line::SessionError;
use pace::wait_until;
use tally::Tally;

/// How often the generator checks for calls that take too long, and for the end of the run.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// How many connections are made at the same time before calls begin: fewer than the queue of a listener holds.
const DIALS_AT_ONCE: usize = 64;
/// How long a closed loop pauses after a call without a connection, so that it does not retry in a busy loop.
const PAUSE_AFTER_REFUSAL: Duration = Duration::from_millis(10);
/// How many due calls are handed out before answers are checked again.
const BURST_MAX: u32 = 32;

/// A load that is ready to run, because its target was resolved.
#[derive(Clone)]
pub(crate) struct Job {
    pub(crate) load: Load,
    pub(crate) dialer: Dialer,
}

/// A call that the plan asks for.
#[derive(Clone, Copy, Debug)]
struct Due {
    i: u64,
    at: Time,
}

/// Runs one load on one core.
pub(crate) struct Generator {
    core: Core,
    job: Job,
    request: Rc<Request>,
    monitor: Arc<Monitor>,
    interrupt: Interrupt,
    places: Vec<Place>,
    /// Due calls that wait for a connection.
    queue: RefCell<VecDeque<Due>>,
    /// Connections without a call, the longest idle first.
    idle: RefCell<VecDeque<usize>>,
    busy: Cell<usize>,
    /// Raised whenever a call has ended.
    ended: Signal,
    tally: RefCell<Tally>,
    /// The calls of a closed loop so far.
    made: Cell<u64>,
    over: Cell<bool>,
}

/// The state of a connection, for the rest of the generator.
#[derive(Default)]
struct Place {
    due: Cell<Option<Due>>,
    waker: RefCell<Option<Waker>>,
    /// When its current call began.
    since: Cell<Option<Time>>,
    /// Why its current call must end.
    expired: Cell<Option<Cause>>,
}

impl Generator {
    pub(crate) fn new(core: &Core, job: Job, monitor: Arc<Monitor>, interrupt: Interrupt) -> Rc<Generator> {
        let mut places = Vec::new();
        places.resize_with(job.load.connections, Place::default);
        Rc::new(Generator {
            core: core.clone(),
            tally: RefCell::new(Tally::new(&job.load, Arc::clone(&monitor))),
            request: Rc::new(Request::of_call(&job.load.target, &job.load.call, job.load.reuse, None)),
            job,
            monitor,
            interrupt,
            places,
            queue: RefCell::default(),
            idle: RefCell::default(),
            busy: Cell::new(0),
            ended: Signal::default(),
            made: Cell::new(0),
            over: Cell::new(false),
        })
    }

    /// Makes the connections and their sessions, until each has answered once.
    ///
    /// # Errors
    ///
    /// The first error. `None` if the run was interrupted.
    pub(crate) async fn connect(self: &Rc<Self>) -> Result<Option<Vec<Line>>, SessionError> {
        self.monitor.enter(Phase::Connect);
        let mut lines = pin!(self.open_all());
        let mut look = self.core.timer();
        poll_fn(|cx| {
            loop {
                if let Poll::Ready(opened) = lines.as_mut().poll(cx) {
                    return Poll::Ready(opened.map(Some));
                }
                if self.interrupt.is_raised() {
                    return Poll::Ready(Ok(None));
                }
                look.set(self.core.now() + LOOK_INTERVAL);
                if look.poll_elapsed(cx).is_pending() {
                    return Poll::Pending;
                }
            }
        })
        .await
    }

    async fn open_all(self: &Rc<Self>) -> Result<Vec<Line>, SessionError> {
        let mut lines = Vec::with_capacity(self.places.len());
        while lines.len() < self.places.len() {
            let dials: Vec<Task<Result<Line, SessionError>>> = (lines.len()..self.places.len())
                .take(DIALS_AT_ONCE)
                .map(|place| self.core.spawn_held(Rc::clone(self).open(place)))
                .collect();
            for dial in dials {
                lines.push(dial.await?);
            }
        }
        Ok(lines)
    }

    async fn open(self: Rc<Self>, place: usize) -> Result<Line, SessionError> {
        Line::open(&self.core, &self.job, Rc::clone(&self.request), place).await
    }

    /// Warms up, measures and drains; returns the outcome.
    pub(crate) async fn run(self: Rc<Self>, lines: Vec<Line>) -> Outcome {
        let phases = self.job.load.phases;
        let start = self.core.now();
        let from = start + phases.warm_up;
        self.tally.borrow_mut().measure_between(from, from + phases.measure);
        self.monitor.enter(Phase::WarmUp);
        let callers: Vec<Task<()>> = lines
            .into_iter()
            .enumerate()
            .map(|(place, line)| self.core.spawn_held(Rc::clone(&self).call_on(place, line)))
            .collect();
        let watching = self.core.spawn_held(Rc::clone(&self).watch());
        let arriving = match self.job.load.mode {
            Mode::Open { rate, arrivals } => {
                let plan = ArrivalPlan::new(start, rate, arrivals);
                Some(self.core.spawn_held(Rc::clone(&self).arrive(plan)))
            }
            Mode::Closed => None,
        };
        let whole = self.sleep_or_stop(from).await && {
            self.monitor.enter(Phase::Measure);
            self.sleep_or_stop(from + phases.measure).await
        };
        self.over.set(true);
        drop(arriving);
        self.monitor.enter(Phase::Drain);
        if !whole {
            self.tally.borrow_mut().stop_at(self.core.now());
        }
        self.drain(phases.drain).await;
        drop((watching, callers));
        self.tally.borrow_mut().take()
    }

    /// Sleeps until `until`; returns false if the run ended first.
    async fn sleep_or_stop(&self, until: Time) -> bool {
        let mut timer = self.core.sleep_until(until);
        let mut stopped = pin!(async {
            while self.tally.borrow().partial().is_none() {
                self.ended.after(self.ended.count()).await;
            }
        });
        poll_fn(|cx| match timer.poll_elapsed(cx) {
            Poll::Ready(()) => Poll::Ready(true),
            Poll::Pending => stopped.as_mut().poll(cx).map(|()| false),
        })
        .await
    }

    /// Hands out calls as planned.
    async fn arrive(self: Rc<Self>, plan: ArrivalPlan) {
        let mut burst = 0;
        for (i, at) in plan.iter() {
            burst = if self.core.turn_time() < at { 0 } else { burst + 1 };
            wait_until(&self.core, at, self.job.load.generator.spin, burst >= BURST_MAX).await;
            if burst >= BURST_MAX {
                burst = 0;
            }
            if self.tally.borrow().is_after(at) {
                break;
            }
            self.hand_out(Due { i, at });
        }
    }

    /// Gives a due call to a connection, or queues it.
    fn hand_out(&self, due: Due) {
        if let Some(place) = self.idle.borrow_mut().pop_front() {
            self.places[place].give(due);
            return;
        }
        let mut queue = self.queue.borrow_mut();
        if queue.len() < self.job.load.limits.outstanding_max {
            queue.push_back(due);
        } else {
            self.tally.borrow_mut().overflowed(due.at, self.core.now());
        }
    }

    /// Makes calls on one connection until the run ends.
    async fn call_on(self: Rc<Self>, place: usize, mut line: Line) {
        let mut free_at = self.core.now();
        while let Some(due) = self.next(place, free_at).await {
            let here = &self.places[place];
            self.busy.set(self.busy.get() + 1);
            here.since.set(Some(self.core.turn_time()));
            let mut times = line::Times { due: due.at, free: free_at, sent: Time::NEVER, connect: None };
            let result = here.bounded(line.call(&self.core, &self.job, due.i, &mut times)).await;
            here.since.set(None);
            self.busy.set(self.busy.get() - 1);
            free_at = self.core.now();
            let refused = matches!(result, Err(CallError::Connect(_)));
            self.tally.borrow_mut().record(&times, &result, free_at, &line);
            if result.is_err() {
                line.give_up();
            }
            self.ended.raise();
            if refused && self.job.load.mode == Mode::Closed {
                self.core.sleep(PAUSE_AFTER_REFUSAL).await;
                free_at = self.core.now();
            }
        }
    }

    /// The next call for a connection that is free since `free_at`; `None` when the run ends.
    async fn next(&self, place: usize, free_at: Time) -> Option<Due> {
        if self.job.load.mode == Mode::Closed {
            if self.over.get() || self.tally.borrow().is_after(free_at) {
                return None;
            }
            let i = self.made.get();
            self.made.set(i + 1);
            return Some(Due { i, at: free_at });
        }
        if let Some(due) = self.queue.borrow_mut().pop_front() {
            return Some(due);
        }
        self.idle.borrow_mut().push_back(place);
        Some(poll_fn(|cx| self.places[place].poll_due(cx)).await)
    }

    /// Ends calls that take too long, and the run at its end.
    async fn watch(self: Rc<Self>) {
        let call_timeout = self.job.load.limits.call_timeout;
        loop {
            self.core.sleep(LOOK_INTERVAL).await;
            let now = self.core.now();
            for place in &self.places {
                if place.since.get().is_some_and(|since| now - since > call_timeout) {
                    place.expire(Cause::TimedOut);
                }
            }
            let interrupted = self.interrupt.is_raised().then_some(Partial::Interrupted);
            let mut tally = self.tally.borrow_mut();
            if let Some(partial) = interrupted.or_else(|| tally.lost()) {
                tally.end_early(partial);
                drop(tally);
                self.ended.raise();
            }
        }
    }

    /// Waits for calls in flight, at most for `drain`.
    async fn drain(&self, drain: Duration) {
        let idle = async {
            while self.busy.get() > 0 || !self.queue.borrow().is_empty() {
                self.ended.after(self.ended.count()).await;
            }
        };
        if self.core.timeout(drain, idle).await.is_ok() {
            return;
        }
        for due in self.queue.borrow_mut().drain(..) {
            self.tally.borrow_mut().never_sent(due.at, self.core.now());
        }
        self.places.iter().for_each(|place| place.expire(Cause::Unfinished));
        while self.busy.get() > 0 {
            self.ended.after(self.ended.count()).await;
        }
    }
}

impl Place {
    fn give(&self, due: Due) {
        self.due.set(Some(due));
        self.wake();
    }

    fn poll_due(&self, cx: &Context<'_>) -> Poll<Due> {
        match self.due.take() {
            Some(due) => Poll::Ready(due),
            None => {
                self.keep(cx);
                Poll::Pending
            }
        }
    }

    /// Ends the current call, if there is one.
    fn expire(&self, cause: Cause) {
        if self.since.get().is_some() {
            self.expired.set(Some(cause));
            self.wake();
        }
    }

    /// Runs a call until it has finished or expires.
    async fn bounded<T>(&self, call: impl Future<Output = Result<T, CallError>>) -> Result<T, CallError> {
        let mut call = pin!(call);
        self.expired.set(None);
        poll_fn(|cx| match self.expired.take() {
            Some(Cause::Unfinished) => Poll::Ready(Err(CallError::Unfinished)),
            Some(_) => Poll::Ready(Err(CallError::TimedOut)),
            None => {
                self.keep(cx);
                call.as_mut().poll(cx)
            }
        })
        .await
    }

    fn keep(&self, cx: &Context<'_>) {
        let mut kept = self.waker.borrow_mut();
        match &mut *kept {
            Some(waker) => waker.clone_from(cx.waker()),
            None => *kept = Some(cx.waker().clone()),
        }
    }

    fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }
}
