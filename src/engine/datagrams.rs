//! Datagram sockets, as the tasks of a core hold them.

use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll};

use crate::engine::DatagramBatch;
use crate::engine::core::Core;
use crate::engine::driver::{Close, Token};

impl Core {
    /// Opens a datagram socket at `address`. Several cores can have one at the same port; the system then gives all datagrams of
    /// a peer to one of them.
    ///
    /// # Errors
    ///
    /// The error of the system.
    pub fn bind(&self, address: SocketAddr) -> io::Result<Datagrams> {
        let shared = self.shared();
        let token = shared.sockets.borrow_mut().open_datagrams();
        let mut driver = shared.driver.borrow_mut();
        match driver.bind(token, address) {
            Ok(bound) => {
                driver.receive(token, true);
                drop(driver);
                Ok(Datagrams { core: self.clone(), token, local: bound.address, segments_max: bound.segments_max })
            }
            Err(error) => {
                shared.sockets.borrow_mut().never_opened(token);
                Err(error)
            }
        }
    }
}

/// A datagram socket on a core. Dropping it closes it, with what is queued.
pub struct Datagrams {
    core: Core,
    token: Token,
    local: SocketAddr,
    segments_max: usize,
}

impl Datagrams {
    /// The address that was bound.
    #[must_use]
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// How many datagrams one batch may have.
    #[must_use]
    pub fn segments_max(&self) -> usize {
        self.segments_max
    }

    /// The next datagrams. Only one task may wait for them.
    pub fn poll_recv(&self, cx: &Context<'_>) -> Poll<DatagramBatch> {
        let shared = self.core.shared();
        let mut sockets = shared.sockets.borrow_mut();
        sockets.datagrams(self.token).poll_recv(self.token, &mut **shared.driver.borrow_mut(), cx)
    }

    /// Queues datagrams to be sent.
    ///
    /// # Errors
    ///
    /// The batch, if the queue is full; see [`Datagrams::poll_ready`].
    pub fn send(&self, batch: DatagramBatch) -> Result<(), DatagramBatch> {
        let shared = self.core.shared();
        if !shared.sockets.borrow_mut().datagrams(self.token).queue(batch.bytes.len()) {
            return Err(batch);
        }
        shared.driver.borrow_mut().send_datagrams(self.token, batch);
        Ok(())
    }

    /// Ready when the queue has room. Only one task may wait for it.
    pub fn poll_ready(&self, cx: &Context<'_>) -> Poll<()> {
        self.core.shared().sockets.borrow_mut().datagrams(self.token).poll_ready(cx)
    }
}

impl Drop for Datagrams {
    fn drop(&mut self) {
        let shared = self.core.shared();
        shared.sockets.borrow_mut().drop_handle(self.token);
        shared.driver.borrow_mut().close(self.token, Close::Abort);
    }
}
