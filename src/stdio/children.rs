//! Children that agents share, by the era of MCP that they were addressed in.
//!
//! A server decides by its first message whether it speaks with sessions or without, and some then refuse the other era for good.
//! Agents of both eras therefore get a child each, as soon as there are both. A server that refuses the newer era gets one.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use futures_lite::future;

use crate::base::{Clock, Time};
use crate::engine::{Core, Signal};
use crate::stdio::restart_policy::RestartPolicy;
use crate::stdio::running_child::RunningChild;
use crate::stdio::stats::StdioEvent;
use crate::wire::mcp::Era;

/// How long an exchange waits for a child while none is started, because the last one has just failed.
const PAUSE_WAIT_MAX: Duration = Duration::from_millis(1_500);
/// After a child has run for this long, its end is no failure to start.
const STEADY_AFTER: Duration = Duration::from_secs(30);

/// Why there is no child for an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoChild {
    /// None can be started, or the last one has failed and the next one is started later.
    Down,
    /// There are as many as allowed, and all are in use.
    Full,
}

/// Children that agents share.
pub(super) struct Children {
    pub(super) core: Core,
    /// Whose children they are, as the pool knows it.
    pub(super) key: Box<str>,
    /// The children that have been addressed: with sessions, and without.
    by_era: RefCell<[Option<Rc<RunningChild>>; 2]>,
    /// A child that has received nothing.
    spare: RefCell<Option<Rc<RunningChild>>>,
    /// Whether the server has refused the era without sessions.
    refuses_stateless: Cell<bool>,
    /// The number of exchanges that wait for a child.
    waiting: Cell<usize>,
    /// When a child that has failed is started again.
    pub(super) restarts: Rc<RefCell<RestartPolicy>>,
    /// How the last child has failed, until the task that starts children has taken it.
    failed_child: RefCell<Option<FailedChild>>,
    /// Why the last start was in vain.
    failure: Cell<NoChild>,
    /// Raised when an exchange waits for a child, and when one has ended.
    wanted: Signal,
    /// Raised when a child was started.
    started: Signal,
    /// Raised when a child could not be started, or has ended.
    failed: Signal,
}

/// How a child has failed.
pub(super) struct FailedChild {
    pub(super) why: String,
    /// Whether it was good before, so that the pause begins anew.
    pub(super) was_good: bool,
}

impl Children {
    pub(super) fn new(core: &Core, key: Box<str>, restarts: Rc<RefCell<RestartPolicy>>) -> Children {
        Children {
            core: core.clone(),
            key,
            by_era: RefCell::default(),
            spare: RefCell::default(),
            refuses_stateless: Cell::new(false),
            waiting: Cell::new(0),
            restarts,
            failed_child: RefCell::default(),
            failure: Cell::new(NoChild::Down),
            wanted: Signal::default(),
            started: Signal::default(),
            failed: Signal::default(),
        }
    }

    /// The child for a request of an era, if it runs.
    pub(super) fn running_for(&self, era: Era) -> Option<Rc<RunningChild>> {
        let place = match era {
            Era::Stateless if !self.refuses_stateless.get() => 1,
            _ => 0,
        };
        let mut by_era = self.by_era.borrow_mut();
        if by_era[place].is_none() {
            by_era[place] = self.spare.borrow_mut().take();
        }
        by_era[place].clone().inspect(|child| child.touch())
    }

    /// The child for a request of an era. Waits until one was started.
    ///
    /// # Errors
    ///
    /// Why none can be started.
    pub(super) async fn child_for(&self, era: Era) -> Result<Rc<RunningChild>, NoChild> {
        loop {
            let (started, failed) = (self.started.count(), self.failed.count());
            if let Some(child) = self.running_for(era) {
                return Ok(child);
            }
            let pause = self.restarts.borrow().pause(self.core.now());
            if pause > PAUSE_WAIT_MAX {
                return Err(NoChild::Down);
            }
            let _waits = Waiting::new(&self.waiting);
            self.wanted.raise();
            let later = async {
                self.started.after(started).await;
                true
            };
            let never = async {
                self.failed.after(failed).await;
                false
            };
            let patience = if pause.is_zero() { Duration::MAX } else { PAUSE_WAIT_MAX };
            match self.core.timeout(patience, future::or(later, never)).await {
                Ok(true) => {}
                Ok(false) => return Err(self.failure.get()),
                Err(_) => return Err(NoChild::Down),
            }
        }
    }

    /// Adds a child that was started.
    pub(super) fn add(&self, child: &Rc<RunningChild>) {
        *self.spare.borrow_mut() = Some(Rc::clone(child));
        self.started.raise();
    }

    /// Whether no child runs.
    pub(super) fn is_empty(&self) -> bool {
        self.spare.borrow().is_none() && self.by_era.borrow().iter().all(Option::is_none)
    }

    /// Whether no child runs, none is about to be started, and there is nothing to remember.
    pub(super) fn is_unused(&self) -> bool {
        self.is_empty() && self.waiting.get() == 0 && self.restarts.borrow().pause(self.core.now()).is_zero()
    }

    /// The children that run.
    pub(super) fn running(&self) -> Vec<Rc<RunningChild>> {
        let spare = self.spare.borrow().clone();
        self.by_era.borrow().iter().flatten().cloned().chain(spare).collect()
    }

    /// When they were last used; none if they are in use.
    pub(super) fn unused_since(&self) -> Option<Time> {
        let times: Option<Vec<Time>> = self.running().iter().map(|child| child.unused_since()).collect();
        times.filter(|_| self.waiting.get() == 0).map(|times| times.into_iter().max().unwrap_or(Time::ZERO))
    }

    /// Waits until an exchange waits for a child that is not there, or one has failed; returns how.
    pub(super) async fn child_wanted(&self) -> Option<FailedChild> {
        loop {
            let seen = self.wanted.count();
            if let Some(failed) = self.failed_child.borrow_mut().take() {
                return Some(failed);
            }
            if self.waiting.get() > 0 && self.spare.borrow().is_none() {
                return None;
            }
            self.wanted.after(seen).await;
        }
    }

    /// Records that no child can be started now: who waits for one need not wait any more.
    pub(super) fn on_failed(&self, why: NoChild) {
        self.failure.set(why);
        self.failed.raise();
    }

    /// Records that a child has ended, and why, if that is a failure.
    pub(super) fn on_ended(&self, child: &Rc<RunningChild>, failed: Option<String>) {
        let is_other = |other: &Rc<RunningChild>| !Rc::ptr_eq(other, child);
        for place in self.by_era.borrow_mut().iter_mut() {
            *place = place.take().filter(is_other);
        }
        let spare = self.spare.borrow_mut().take();
        *self.spare.borrow_mut() = spare.filter(is_other);
        // The next one may be another version of the program.
        self.refuses_stateless.set(false);
        if let Some(why) = failed {
            let was_good = self.core.now() - child.began >= STEADY_AFTER;
            *self.failed_child.borrow_mut() = Some(FailedChild { why, was_good });
        }
        self.wanted.raise();
    }

    /// Records that a server refuses the era without sessions. Its child serves sessions, unless another one does.
    pub(super) fn on_refused(&self, child: &Rc<RunningChild>) {
        let mut by_era = self.by_era.borrow_mut();
        let [with_sessions, without] = &mut *by_era;
        if !without.as_ref().is_some_and(|other| Rc::ptr_eq(other, child)) {
            return;
        }
        self.refuses_stateless.set(true);
        let refusing = without.take();
        match with_sessions {
            Some(_) => refusing.iter().for_each(|child| child.close(StdioEvent::Closed)),
            None => *with_sessions = refusing,
        }
    }

    /// Ends all children, also the spare one.
    pub(super) fn close(&self, reason: StdioEvent) {
        self.running().iter().for_each(|child| child.close(reason));
        self.on_failed(NoChild::Down);
    }
}

/// An exchange that waits for a child.
struct Waiting<'a>(&'a Cell<usize>);

impl Waiting<'_> {
    fn new(count: &Cell<usize>) -> Waiting<'_> {
        count.set(count.get() + 1);
        Waiting(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}
