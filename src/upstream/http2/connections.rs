use std::cell::{Cell, RefCell};
use std::rc::Rc;

use crate::base::Budget;
use crate::engine::Signal;
use crate::upstream::UpstreamError;
use crate::upstream::http1_demand::Http1Demand;
use crate::upstream::http2::connection::Http2Connection;
use crate::upstream::http2::exchange::Http2Exchange;

/// The HTTP/2 connections of one pool.
pub(in crate::upstream) struct Http2Connections {
    open: RefCell<Vec<Rc<Http2Connection>>>,
    /// Whether the server is known to speak HTTP/2.
    is_spoken: Cell<bool>,
    /// The connection attempt in progress, if the server is known to speak HTTP/2.
    attempt: RefCell<Option<Rc<Attempt>>>,
    windows: Budget,
}

/// A connection attempt. All calls that find no room wait for it, because the new connection will have room for many.
#[derive(Default)]
pub(in crate::upstream) struct Attempt {
    is_over: Cell<bool>,
    error: RefCell<Option<UpstreamError>>,
}

/// Ends its attempt when it is dropped.
pub(in crate::upstream) struct Attempting<'a> {
    attempt: Rc<Attempt>,
    connections: &'a Http2Connections,
    freed: &'a Signal,
}

impl Http2Connections {
    /// A set without connections. `is_spoken` says that the server is known to speak HTTP/2.
    pub(in crate::upstream) fn new(is_spoken: bool, windows: &Budget) -> Http2Connections {
        Http2Connections {
            open: RefCell::default(),
            is_spoken: Cell::new(is_spoken),
            attempt: RefCell::default(),
            windows: windows.clone(),
        }
    }

    pub(in crate::upstream) fn windows(&self) -> &Budget {
        &self.windows
    }

    /// Opens a stream on a connection that has room; `None` while HTTP/1.1 is demanded.
    pub(in crate::upstream) fn open(&self, http1_demand: &Http1Demand) -> Option<Http2Exchange> {
        if self.open.borrow().is_empty() {
            return None;
        }
        if http1_demand.is_on() {
            self.open.borrow_mut().drain(..).for_each(|connection| connection.retire());
            return None;
        }
        self.forget_retired();
        let open = self.open.borrow();
        // The first connections are filled first, so that the others can time out. A connection whose host may be gone
        // is used last.
        let [sound, doubtful] =
            [false, true].map(|doubtful| move |connection: &&Rc<Http2Connection>| connection.is_doubtful() == doubtful);
        let opened = open.iter().filter(sound).find_map(|connection| connection.open());
        opened.or_else(|| open.iter().filter(doubtful).find_map(|connection| connection.open()))
    }

    /// Adds a new connection, and opens its first stream.
    pub(in crate::upstream) fn add(&self, connection: Rc<Http2Connection>) -> Result<Http2Exchange, UpstreamError> {
        let opened = connection.open().ok_or_else(|| connection.unusable("it allows no requests"));
        if opened.is_ok() {
            self.open.borrow_mut().push(connection);
        } else {
            connection.retire();
        }
        opened
    }

    /// Drops the connections that take no more calls. Those that have calls are kept alive by the calls.
    pub(in crate::upstream) fn forget_retired(&self) {
        self.open.borrow_mut().retain(|connection| !connection.is_retired());
    }

    /// Closes the connections that have no calls.
    pub(in crate::upstream) fn close_idle(&self) {
        self.open
            .borrow_mut()
            .iter()
            .filter(|connection| connection.is_idle())
            .for_each(|connection| connection.retire());
    }

    /// Notes whether the server speaks HTTP/2.
    pub(in crate::upstream) fn set_spoken(&self, is_spoken: bool) {
        self.is_spoken.set(is_spoken);
    }

    /// The connection attempt that other calls may wait for.
    pub(in crate::upstream) fn attempt(&self) -> Option<Rc<Attempt>> {
        self.attempt.borrow().clone()
    }

    /// Begins a connection attempt. `freed` is raised when it has ended.
    pub(in crate::upstream) fn begin<'a>(&'a self, freed: &'a Signal) -> Attempting<'a> {
        let attempt = Rc::<Attempt>::default();
        if self.is_spoken.get() {
            self.attempt.replace(Some(Rc::clone(&attempt)));
        }
        Attempting { attempt, connections: self, freed }
    }
}

impl Attempt {
    /// Waits until the attempt has ended.
    ///
    /// # Errors
    ///
    /// Why it failed.
    pub(in crate::upstream) async fn over(&self, freed: &Signal) -> Result<(), UpstreamError> {
        loop {
            let seen = freed.count();
            if self.is_over.get() {
                return self.error.borrow().clone().map_or(Ok(()), Err);
            }
            freed.after(seen).await;
        }
    }
}

impl Attempting<'_> {
    /// Marks the attempt as failed, for all calls that wait for it.
    pub(in crate::upstream) fn fail(&self, error: UpstreamError) -> UpstreamError {
        self.attempt.error.replace(Some(error.clone()));
        error
    }
}

impl Drop for Attempting<'_> {
    fn drop(&mut self) {
        self.attempt.is_over.set(true);
        self.connections.attempt.borrow_mut().take_if(|attempt| Rc::ptr_eq(attempt, &self.attempt));
        self.freed.raise();
    }
}
