//! The children of a route, by the era of MCP that they were addressed in.
//!
//! A server decides by its first message whether it speaks with sessions or without, and some then refuse the other era for good.
//! Agents of both eras therefore get a child each, as soon as there are both. A server that refuses the newer era gets one.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use futures_lite::future;

use crate::engine::{Core, Signal};
use crate::stdio::running_child::RunningChild;
use crate::wire::mcp::Era;

/// How long an exchange waits for a child while none is started, because the last one has just failed.
const PAUSE_WAIT_MAX: Duration = Duration::from_millis(1_500);

/// The children of a route that run.
pub(super) struct Children {
    pub(super) core: Core,
    pub(super) route: String,
    /// The children that have been addressed: with sessions, and without.
    by_era: RefCell<[Option<Rc<RunningChild>>; 2]>,
    /// A child that has received nothing.
    spare: RefCell<Option<Rc<RunningChild>>>,
    /// Whether the server has refused the era without sessions.
    refuses_stateless: Cell<bool>,
    /// The number of exchanges that wait for a child.
    waiting: Cell<usize>,
    /// Whether no child is started at the moment, because the last one has just failed.
    pub(super) is_paused: Cell<bool>,
    /// Why the last child has ended, until the task that starts children has taken it.
    ended: RefCell<Option<String>>,
    /// Why the last child could not be started, or has ended.
    failure: RefCell<String>,
    /// Raised when an exchange waits for a child, and when one has ended.
    wanted: Signal,
    /// Raised when a child was started.
    started: Signal,
    /// Raised when a child could not be started, or has ended.
    failed: Signal,
}

impl Children {
    pub(super) fn new(core: &Core, route: &str) -> Children {
        Children {
            core: core.clone(),
            route: route.to_owned(),
            by_era: RefCell::default(),
            spare: RefCell::default(),
            refuses_stateless: Cell::new(false),
            waiting: Cell::new(0),
            is_paused: Cell::new(false),
            ended: RefCell::default(),
            failure: RefCell::default(),
            wanted: Signal::default(),
            started: Signal::default(),
            failed: Signal::default(),
        }
    }

    /// The child for a request of an era. Waits until one was started.
    ///
    /// # Errors
    ///
    /// Why none can be started.
    pub(super) async fn child_for(&self, era: Era) -> Result<Rc<RunningChild>, String> {
        loop {
            let place = match era {
                Era::Stateless if !self.refuses_stateless.get() => 1,
                _ => 0,
            };
            let (started, failed) = (self.started.count(), self.failed.count());
            {
                let mut by_era = self.by_era.borrow_mut();
                if by_era[place].is_none() {
                    by_era[place] = self.spare.borrow_mut().take();
                }
                if let Some(child) = &by_era[place] {
                    return Ok(Rc::clone(child));
                }
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
            let patience = if self.is_paused.get() { PAUSE_WAIT_MAX } else { Duration::MAX };
            if self.core.timeout(patience, future::or(later, never)).await != Ok(true) {
                return Err(self.failure.borrow().clone());
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

    /// Waits until another child is wanted. Returns why, if it is because one has ended.
    pub(super) async fn child_wanted(&self) -> Option<String> {
        loop {
            let seen = self.wanted.count();
            if let Some(why) = self.ended.borrow_mut().take() {
                return Some(why);
            }
            if self.waiting.get() > 0 && self.spare.borrow().is_none() {
                return None;
            }
            self.wanted.after(seen).await;
        }
    }

    /// Records that no child can be started now: who waits for one need not wait any more.
    pub(super) fn on_failed(&self, why: String) {
        *self.failure.borrow_mut() = why;
        self.failed.raise();
    }

    /// Records that a child has ended.
    pub(super) fn on_ended(&self, child: &Rc<RunningChild>, why: String) {
        let is_other = |other: &Rc<RunningChild>| !Rc::ptr_eq(other, child);
        for place in self.by_era.borrow_mut().iter_mut() {
            *place = place.take().filter(is_other);
        }
        let spare = self.spare.borrow_mut().take();
        *self.spare.borrow_mut() = spare.filter(is_other);
        // The next one may be another version of the program.
        self.refuses_stateless.set(false);
        *self.ended.borrow_mut() = Some(why);
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
            Some(_) => refusing.iter().for_each(|child| child.close()),
            None => *with_sessions = refusing,
        }
    }

    /// Ends all children, also the spare one.
    pub(super) fn close(&self) {
        let by_era = self.by_era.take().into_iter().chain([self.spare.take()]);
        by_era.flatten().for_each(|child| child.close());
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
