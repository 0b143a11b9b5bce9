//! A core: one driver, its sockets, timers, buffers and tasks.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

pub use async_task::Task;

use crate::base::{Clock, CoreId, Time};
use crate::engine::Pool;
use crate::engine::driver::{Driver, DriverEvent, DriverKind, Wait};
use crate::engine::executor::Executor;
use crate::engine::local::{LocalQueue, ServerNumber};
use crate::engine::pool::Trimmed;
use crate::engine::sockets::Sockets;
use crate::engine::spin::SpinEstimate;
use crate::engine::sys::allocator;
use crate::engine::timers::{TimerId, Timers};

/// The most polls of tasks between two turns of the driver.
const POLLS_PER_TURN: usize = 512;
/// A core with more ready tasks than this is busy. One is the task that packs what others have sent over a link.
const READY_MAX_IF_QUIET: usize = 1;

/// A core, as tasks on it use it. Clones refer to the same core. It stays on its thread.
#[derive(Clone)]
pub struct Core(Rc<CoreShared>);

pub(super) struct CoreShared {
    id: CoreId,
    pool: Pool,
    pub(super) driver: RefCell<Box<dyn Driver>>,
    #[cfg(feature = "internals")]
    kind: DriverKind,
    pub(super) sockets: RefCell<Sockets>,
    pub(super) local_servers: RefCell<BTreeMap<ServerNumber, Rc<LocalQueue>>>,
    executor: Executor,
    timers: RefCell<Timers>,
    /// Tasks that are woken when nothing else is ready, before the driver's turn.
    turn_end: RefCell<Vec<Waker>>,
    turn_ending: RefCell<Vec<Waker>>,
    /// Tasks that are woken when what was sent in this turn is handed to the system.
    after_sends: RefCell<Vec<Waker>>,
    events: RefCell<Vec<DriverEvent>>,
    turn_time: Cell<Time>,
    spin: RefCell<SpinEstimate>,
    /// The main future has finished: the current turn must not wait.
    done: Cell<bool>,
}

impl Core {
    /// Creates a core on `driver`, with buffers from `pool`, that spins for up to `spin` before it parks.
    #[must_use]
    pub fn new(id: CoreId, driver: Box<dyn Driver>, pool: Pool, spin: Duration) -> Core {
        let wake = driver.wake();
        Core(Rc::new(CoreShared {
            id,
            pool,
            #[cfg(feature = "internals")]
            kind: driver.kind(),
            turn_time: Cell::new(driver.now()),
            driver: RefCell::new(driver),
            sockets: RefCell::default(),
            local_servers: RefCell::default(),
            executor: Executor::new(wake),
            timers: RefCell::default(),
            turn_end: RefCell::default(),
            turn_ending: RefCell::default(),
            after_sends: RefCell::default(),
            events: RefCell::default(),
            spin: RefCell::new(SpinEstimate::new(spin)),
            done: Cell::new(false),
        }))
    }

    /// The number of this core within its role.
    #[must_use]
    pub fn id(&self) -> CoreId {
        self.0.id
    }

    /// The buffer pool of this core.
    #[must_use]
    pub fn pool(&self) -> &Pool {
        &self.0.pool
    }

    /// The kind of driver that the core runs on.
    #[must_use]
    #[cfg(feature = "internals")]
    pub fn driver_kind(&self) -> DriverKind {
        self.0.kind
    }

    /// How long the core spins before it parks, while spinning pays.
    #[must_use]
    #[cfg(feature = "internals")]
    pub fn spin_budget(&self) -> Duration {
        self.0.spin.borrow().budget()
    }

    /// The time of the driver's last report. Free, unlike reading the clock.
    #[must_use]
    pub fn turn_time(&self) -> Time {
        self.0.turn_time.get()
    }

    /// Starts a task that runs until it finishes or the core ends.
    pub fn spawn(&self, future: impl Future<Output = ()> + 'static) {
        self.0.executor.spawn_detached(future);
    }

    /// The number of running tasks that [`Core::spawn`] started.
    #[must_use]
    pub fn open_tasks(&self) -> usize {
        self.0.executor.detached_open()
    }

    /// Starts a task that ends when the returned handle is dropped.
    #[must_use = "dropping the handle ends the task"]
    pub fn spawn_held<T: 'static>(&self, future: impl Future<Output = T> + 'static) -> Task<T> {
        self.0.executor.spawn(future)
    }

    /// A timer that fires at `at`.
    #[must_use]
    pub fn sleep_until(&self, at: Time) -> Timer {
        let mut timer = self.timer();
        timer.set(at);
        timer
    }

    /// A timer that fires after `duration`, counted from now.
    #[must_use]
    pub fn sleep(&self, duration: Duration) -> Timer {
        self.sleep_until(self.now() + duration)
    }

    /// A timer that is not set.
    #[must_use]
    pub fn timer(&self) -> Timer {
        let id = self.0.timers.borrow_mut().create();
        Timer { core: self.clone(), id, at: Time::NEVER }
    }

    /// Runs `future` for at most `duration`, counted from the start of the turn, so that the clock need not be read.
    ///
    /// # Errors
    ///
    /// [`Elapsed`] if the future did not finish in time; it is then dropped.
    pub async fn timeout<T>(&self, duration: Duration, future: impl Future<Output = T>) -> Result<T, Elapsed> {
        self.timeout_at(self.turn_time() + duration, future).await
    }

    /// Runs `future` until `deadline` at the latest.
    ///
    /// # Errors
    ///
    /// [`Elapsed`] if the future did not finish in time; it is then dropped.
    pub async fn timeout_at<T>(&self, deadline: Time, future: impl Future<Output = T>) -> Result<T, Elapsed> {
        let mut timer = self.sleep_until(deadline);
        let mut future = pin!(future);
        poll_fn(|cx| {
            if let Poll::Ready(value) = future.as_mut().poll(cx) {
                return Poll::Ready(Ok(value));
            }
            timer.poll_elapsed(cx).map(|()| Err(Elapsed))
        })
        .await
    }

    /// Waits until every ready task has run, so that what they sent can be combined.
    pub async fn turn_end(&self) {
        let mut waited = false;
        poll_fn(|cx| {
            if std::mem::replace(&mut waited, true) {
                return Poll::Ready(());
            }
            self.0.turn_end.borrow_mut().push(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Lets what was sent so far go before what its sender does next. On a busy core it waits for nothing: there the rest of the work
    /// delays no answer for long, and waiting would cost more.
    pub fn after_sends(&self) -> impl Future<Output = ()> {
        let mut waited = false;
        // Smaller than an async block: it is a part of every call's task.
        poll_fn(move |cx| {
            if std::mem::replace(&mut waited, true) || self.0.executor.ready() > READY_MAX_IF_QUIET {
                return Poll::Ready(());
            }
            self.0.after_sends.borrow_mut().push(cx.waker().clone());
            Poll::Pending
        })
    }

    /// Runs the core on this thread until `future` finishes, then ends all its tasks.
    ///
    /// # Errors
    ///
    /// If the driver fails.
    pub fn run<T: 'static>(&self, future: impl Future<Output = T> + 'static) -> io::Result<T> {
        let core = self.clone();
        let task = self.spawn_held(async move {
            let output = future.await;
            core.0.done.set(true);
            output
        });
        while !task.is_finished() {
            self.turn()?;
        }
        let mut task = pin!(task);
        let output = match task.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(output) => output,
            Poll::Pending => unreachable!("the task is finished"),
        };
        self.0.done.set(false);
        self.end();
        Ok(output)
    }

    /// Runs one turn: ready tasks, then the driver, then the events that it reports.
    ///
    /// # Errors
    ///
    /// If the driver fails.
    pub fn turn(&self) -> io::Result<()> {
        let idle = self.run_ready();
        let mut events = self.0.events.take();
        self.wait(idle, &mut events)?;
        self.0.turn_time.set(self.now());
        self.dispatch(&mut events);
        self.0.events.replace(events);
        self.trim();
        self.fire_timers();
        self.0.pool.wake_waiting();
        Ok(())
    }

    /// Frees memory that earlier calls needed.
    fn trim(&self) {
        let trimmed = self.0.pool.trim(self.turn_time());
        if trimmed != Trimmed::Nothing {
            self.0.driver.borrow_mut().trim();
        }
        if trimmed == Trimmed::All {
            self.release_memory();
        }
    }

    /// Returns the memory that this core has freed to the system. It takes up to some milliseconds, so call it on an
    /// idle core.
    pub fn release_memory(&self) {
        allocator::collect();
    }

    /// Sets the turn's time to the present. A real core does this when its wait ends; a simulated core does not wait.
    #[cfg(feature = "sim")]
    pub fn read_clock(&self) {
        self.0.turn_time.set(self.now());
    }

    /// Whether no task is ready.
    #[must_use]
    #[cfg(feature = "sim")]
    pub fn is_idle(&self) -> bool {
        self.0.executor.is_idle()
    }

    /// Ends all tasks and drops what they hold.
    pub fn end(&self) {
        self.0.executor.clear();
    }

    pub(super) fn shared(&self) -> &CoreShared {
        &self.0
    }

    fn run_ready(&self) -> bool {
        loop {
            let idle = self.0.executor.run(POLLS_PER_TURN);
            if !idle {
                return false;
            }
            if self.0.turn_end.borrow().is_empty() {
                if self.0.pool.wake_waiting() {
                    continue;
                }
                return true;
            }
            // A woken task may wait for the next end of turn at once. The two lists are swapped, so that both keep
            // their memory.
            let mut ending = self.0.turn_ending.borrow_mut();
            std::mem::swap(&mut *ending, &mut *self.0.turn_end.borrow_mut());
            for waker in ending.drain(..) {
                waker.wake();
            }
        }
    }

    fn wake_after_sends(&self) -> bool {
        let mut wakers = self.0.after_sends.borrow_mut();
        let is_any = !wakers.is_empty();
        wakers.drain(..).for_each(Waker::wake);
        is_any
    }

    fn wait(&self, mut idle: bool, events: &mut Vec<DriverEvent>) -> io::Result<()> {
        // They are made ready before anything is sent, so that they run before the tasks that a reply wakes.
        let is_followed = self.wake_after_sends();
        if idle {
            let is_sent = self.0.driver.borrow_mut().flush(events);
            self.dispatch(events);
            // A driver that sends nothing here does so in its turn, which then does not wait.
            if is_followed && is_sent {
                self.run_ready();
                self.0.driver.borrow_mut().flush(events);
                self.dispatch(events);
            }
            // Bytes that were sent have freed buffers for tasks that wait for one.
            idle = !self.0.pool.wake_waiting() && self.0.executor.is_idle();
        }
        let mut driver = self.0.driver.borrow_mut();
        if !idle || self.0.done.get() {
            return driver.turn(Wait::Poll, events);
        }
        let until = self.0.timers.borrow().next().min(self.0.pool.trim_at());
        let started = driver.now();
        let mut spin = self.0.spin.borrow_mut();
        if spin.worth_it() {
            let spin_until = (started + spin.budget()).min(until);
            loop {
                driver.turn(Wait::Poll, events)?;
                if !events.is_empty() || !self.0.executor.is_idle() {
                    spin.waited(driver.now() - started);
                    return Ok(());
                }
                if driver.now() >= spin_until {
                    break;
                }
                std::hint::spin_loop();
            }
        }
        if until <= driver.now() || !self.0.executor.park() {
            return driver.turn(Wait::Poll, events);
        }
        let result = driver.turn(Wait::Until(until), events);
        self.0.executor.unpark();
        spin.waited(driver.now() - started);
        result
    }

    fn dispatch(&self, events: &mut Vec<DriverEvent>) {
        let mut sockets = self.0.sockets.borrow_mut();
        let mut driver = self.0.driver.borrow_mut();
        for event in events.drain(..) {
            sockets.handle(event, self.turn_time(), &mut **driver);
        }
    }

    fn fire_timers(&self) {
        let now = self.turn_time();
        loop {
            let due = self.0.timers.borrow_mut().pop_due(now);
            match due {
                Some(waker) => waker.wake(),
                None => break,
            }
        }
    }
}

impl Clock for Core {
    fn now(&self) -> Time {
        self.0.driver.borrow().now()
    }
}

/// A timer that can be awaited and moved. If it is not set, it never fires.
pub struct Timer {
    core: Core,
    id: TimerId,
    at: Time,
}

impl Timer {
    /// Moves the deadline to `at`; [`Time::NEVER`] unsets the timer.
    pub fn set(&mut self, at: Time) {
        self.at = at;
        self.core.0.timers.borrow_mut().cancel(self.id);
    }

    /// The deadline; [`Time::NEVER`] if it is not set.
    #[must_use]
    pub fn at(&self) -> Time {
        self.at
    }

    /// Ready once the deadline has passed.
    pub fn poll_elapsed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.at == Time::NEVER {
            return Poll::Pending;
        }
        // Timers fire by the time of the turn, which is free to read.
        if self.at <= self.core.turn_time() {
            return Poll::Ready(());
        }
        self.core.0.timers.borrow_mut().set(self.id, self.at, cx.waker());
        Poll::Pending
    }
}

impl Future for Timer {
    type Output = ();

    fn poll(mut self: std::pin::Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_elapsed(cx)
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.core.0.timers.borrow_mut().remove(self.id);
    }
}

/// The error of [`Core::timeout`]: the time limit has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("timed out")]
pub struct Elapsed;
