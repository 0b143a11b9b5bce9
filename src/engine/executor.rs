//! Tasks of one core, run by that core's thread.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use async_task::{Runnable, Task};
use pin_project_lite::pin_project;

use crate::engine::driver::Wake;

/// The queue of ready tasks. Tasks may be woken from any thread; they run only on their core's thread.
pub(super) struct Ready {
    queue: Mutex<VecDeque<Runnable>>,
    parked: AtomicBool,
    wake: Arc<dyn Wake>,
}

impl Ready {
    fn push(&self, runnable: Runnable) {
        self.lock().push_back(runnable);
        // The core sets `parked` before its last look at the queue, and this side reads it after its push: at least one
        // of the two sees the other.
        if self.parked.swap(false, Ordering::SeqCst) {
            self.wake.wake();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Runnable>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The executor of one core.
pub(super) struct Executor {
    ready: Arc<Ready>,
    /// The batch that is being run; kept to reuse its memory.
    batch: RefCell<VecDeque<Runnable>>,
    /// How many tasks of the batch have not run yet.
    batch_left: Cell<usize>,
    /// Tasks without a handle, kept so that they can be ended with their core.
    detached: Rc<RefCell<Detached>>,
}

#[derive(Default)]
struct Detached {
    tasks: Vec<Option<Task<()>>>,
    free: Vec<usize>,
}

impl Executor {
    pub(super) fn new(wake: Arc<dyn Wake>) -> Executor {
        let ready = Ready { queue: Mutex::default(), parked: AtomicBool::new(false), wake };
        Executor {
            ready: Arc::new(ready),
            batch: RefCell::default(),
            batch_left: Cell::new(0),
            detached: Rc::default(),
        }
    }

    /// Starts a task that ends when its handle is dropped.
    pub(super) fn spawn<T: 'static>(&self, future: impl Future<Output = T> + 'static) -> Task<T> {
        let ready = Arc::clone(&self.ready);
        let (runnable, task) = async_task::spawn_local(future, move |runnable| ready.push(runnable));
        runnable.schedule();
        task
    }

    /// Starts a task that runs until it finishes or its core ends.
    pub(super) fn spawn_detached(&self, future: impl Future<Output = ()> + 'static) {
        let place = self.detached.borrow_mut().reserve();
        let task = self.spawn(Releasing { future, place, detached: Rc::clone(&self.detached) });
        self.detached.borrow_mut().tasks[place] = Some(task);
    }

    /// Runs ready tasks, with about `polls` polls at most; returns true if none is left.
    pub(super) fn run(&self, polls: usize) -> bool {
        let mut run = 0;
        while run < polls {
            let mut batch = self.batch.borrow_mut();
            std::mem::swap(&mut *batch, &mut *self.ready.lock());
            if batch.is_empty() {
                return true;
            }
            run += batch.len();
            while let Some(runnable) = batch.pop_front() {
                self.batch_left.set(batch.len());
                runnable.run();
            }
        }
        self.is_idle()
    }

    /// Whether no task is ready.
    pub(super) fn is_idle(&self) -> bool {
        self.ready.lock().is_empty()
    }

    /// How many tasks are ready, without the one that runs.
    pub(super) fn ready(&self) -> usize {
        self.batch_left.get() + self.ready.lock().len()
    }

    /// Notes that the core is about to wait. Returns false if it must not, because a task became ready.
    pub(super) fn park(&self) -> bool {
        self.ready.parked.store(true, Ordering::SeqCst);
        let idle = self.is_idle();
        if !idle {
            self.unpark();
        }
        idle
    }

    /// Notes that the core runs again.
    pub(super) fn unpark(&self) {
        self.ready.parked.store(false, Ordering::SeqCst);
    }

    /// The number of running tasks without a handle.
    pub(super) fn detached_open(&self) -> usize {
        let detached = self.detached.borrow();
        detached.tasks.len() - detached.free.len()
    }

    /// Ends every task without a handle, and drops what it holds.
    pub(super) fn clear(&self) {
        // Dropping a task may end or start others, so this repeats until none is left.
        loop {
            let tasks = std::mem::take(&mut *self.detached.borrow_mut());
            let none = tasks.tasks.iter().all(Option::is_none);
            drop(tasks);
            while !self.run(usize::MAX) {}
            if none {
                break;
            }
        }
    }
}

pin_project! {
    /// A task that frees its place when it ends. An async block around the future would hold the future twice: once as
    /// a captured value, and once as what it awaits.
    struct Releasing<F> {
        #[pin]
        future: F,
        place: usize,
        detached: Rc<RefCell<Detached>>,
    }
}

impl<F: Future<Output = ()>> Future for Releasing<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        ready!(this.future.poll(cx));
        if let Some(task) = this.detached.borrow_mut().release(*this.place) {
            task.detach();
        }
        Poll::Ready(())
    }
}

impl Detached {
    fn reserve(&mut self) -> usize {
        self.free.pop().unwrap_or_else(|| {
            self.tasks.push(None);
            self.tasks.len() - 1
        })
    }

    fn release(&mut self, place: usize) -> Option<Task<()>> {
        let task = self.tasks.get_mut(place)?.take();
        self.free.push(place);
        task
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_detached_task_holds_its_future_once() {
        let large = [0_u8; 4096];
        let future = async move {
            std::future::pending::<()>().await;
            std::hint::black_box(&large);
        };
        let alone = size_of_val(&future);
        let releasing = Releasing { future, place: 0, detached: Rc::default() };
        assert!(size_of_val(&releasing) <= alone + 32, "{} for {alone}", size_of_val(&releasing));
    }
}
